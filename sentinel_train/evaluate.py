"""`run_model`: a checkpoint plays tasks, in batches; the episodes come back finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sentinel_env import Domain, Episode, Task, Trajectory, User, evaluate
from sentinel_env.run_folder import RunFolder
from sentinel_env.runner import configuration, made_with
from sentinel_env.scores import score

from .chat import Chat
from .config import SamplingConfig
from .models import load_model, set_threads
from .rollout import Rollout, roll_out


def run_model(
    domain: Domain,
    tasks: Sequence[Task],
    model: str,
    user: User,
    *,
    trials: int = 1,
    seed: int = 0,
    sampling: SamplingConfig | None = None,
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    skip: Callable[[Task, int], bool] = lambda task, trial: False,
) -> Iterator[tuple[int, Rollout]]:
    """Let a model play every task `trials` times.

    Args:
        domain: The world.
        tasks: The problems.
        model: A checkpoint's folder, a Hugging Face name, or "tiny"; "hf:" may stand before it.
        user: Who plays the customer.
        trials: Attempts at each task.
        seed: Of the model's draws and of the users; attempt i of a task has a seed of its own.
        sampling: Temperature and limits; the training defaults where it is None, so that a score measures what is trained.
        device: "auto" or "cpu".
        precision: "fp32" or "bf16", of the weights.
        threads: CPU threads of torch.
        skip: Whether an attempt is not needed. A batch is played whole or not at all, so that what was skipped changes nothing else.

    Yields:
        (trial, rollout), trial by trial in the order of the tasks; one that infrastructure ended has an `error`.
    """
    import torch

    set_threads(threads)
    sampling = sampling or SamplingConfig()
    jobs = [(trial, task) for trial in range(trials) for task in tasks]
    batches = {start: jobs[start : start + sampling.batch_size] for start in range(0, len(jobs), sampling.batch_size)}
    left = {start: batch for start, batch in batches.items() if not all(skip(task, trial) for trial, task in batch)}
    if not left:
        return
    loaded, tokenizer = load_model(model, device=device, precision=precision)
    chat = Chat(tokenizer, domain)
    generator = torch.Generator(device=loaded.device)
    for start, batch in left.items():
        episodes = [
            Episode(domain, task, max_steps=sampling.max_steps, max_errors=sampling.max_errors, seed=seed + trial) for trial, task in batch
        ]
        generator.manual_seed(seed * 1_000_003 + start)
        rollouts = roll_out(episodes, user, chat, loaded, sampling, generator=generator)
        yield from ((trial, rollout) for (trial, task), rollout in zip(batch, rollouts, strict=True) if not skip(task, trial))


def run_into(
    folder: str | Path,
    domain: Domain,
    tasks: Sequence[Task],
    model: str,
    user: User,
    *,
    trials: int = 1,
    seed: int = 0,
    sampling: SamplingConfig | None = None,
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    agent: str | None = None,
    on_result: Callable[[int, int], None] | None = None,
) -> list[Trajectory]:
    """Let a model play into a run's folder; what is found finished there is not played again.

    Args:
        folder: The run's folder.
        domain: As for `run_model`.
        tasks: As for `run_model`.
        model: As for `run_model`.
        user: As for `run_model`.
        trials: As for `run_model`.
        seed: As for `run_model`.
        sampling: As for `run_model`.
        device: As for `run_model`.
        precision: As for `run_model`.
        threads: As for `run_model`.
        agent: How the results name the model; as `model` does for None.
        on_result: Called after every episode with how many are finished and how many of them passed.

    Returns:
        The trajectories by task and trial.
    """
    sampling = sampling or SamplingConfig()
    settings = {"agent": agent or model, "user": user.name, "trials": trials, "seed": seed, "sampling": sampling.model_dump()}
    if precision != "fp32":
        settings["precision"] = precision
    with RunFolder(folder, configuration(domain, tasks, **settings), made_with=made_with()) as kept:
        results = dict(kept.finished)
        passed = sum(evaluate(domain, trajectory).passed for trajectory in results.values())
        for trial, rollout in run_model(
            domain,
            tasks,
            model,
            user,
            trials=trials,
            seed=seed,
            sampling=sampling,
            device=device,
            precision=precision,
            threads=threads,
            skip=lambda task, trial: f"{task.id}/{trial}" in kept.finished,
        ):
            trajectory = rollout.trajectory(trial=trial, agent=agent or model, user=user.name)
            kept.add(trajectory)
            results[trajectory.id] = trajectory
            passed += evaluate(domain, trajectory).passed
            if on_result is not None:
                on_result(len(results), passed)
        ordered = [results[f"{task.id}/{trial}"] for task in tasks for trial in range(trials)]
        kept.complete(ordered, score(domain, ordered).model_dump())
    return ordered
