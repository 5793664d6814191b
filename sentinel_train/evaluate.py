"""`run_model`: a checkpoint plays tasks, in batches; the episodes come back finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sentinel_env import Domain, Episode, ModelError, Task, Trajectory, User, evaluate
from sentinel_env.run_folder import RunFolder
from sentinel_env.run_limits import Limits, StoppedError, Watch
from sentinel_env.runner import configuration, made_with
from sentinel_env.scores import score

from .chat import Chat
from .config import SamplingConfig, TrainConfig
from .engine import open_engine
from .models import load_model, set_threads
from .rollout import MOST_LOST, Rollout, roll_out
from .served import ServedTurns


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
    vllm: TrainConfig | None = None,
    skip: Callable[[Task, int], bool] = lambda task, trial: False,
    goes_on: Callable[[], bool] = lambda: True,
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
        vllm: A run whose settings of vLLM are used, which then takes the turns; the model in this process does for None.
        skip: Whether an attempt is not needed. A batch is played whole or not at all, so that what was skipped changes nothing else.
        goes_on: Asked before every batch; none is begun after it has said no.

    Yields:
        (trial, rollout), trial by trial in the order of the tasks; one that infrastructure ended has an `error`.
    """
    set_threads(threads)  # before torch is imported
    import torch

    sampling = sampling or SamplingConfig()
    jobs = [(trial, task) for trial in range(trials) for task in tasks]
    batches = {start: jobs[start : start + sampling.batch_size] for start in range(0, len(jobs), sampling.batch_size)}
    left = {start: batch for start, batch in batches.items() if not all(skip(task, trial) for trial, task in batch)}
    if not left:
        return
    own = vllm is None or vllm.trl.get("vllm_mode") == "server"  # an engine in this process has the GPU to itself
    loaded, tokenizer = load_model(model, device=device if own else "cpu", precision=precision)
    chat = Chat(tokenizer, domain)
    generator = torch.Generator(device=loaded.device)
    engine = open_engine(vllm, loaded, tokenizer) if vllm else None
    for start, batch in left.items():
        if not goes_on():
            return
        episodes = [
            Episode(domain, task, max_steps=sampling.max_steps, max_errors=sampling.max_errors, seed=seed + trial) for trial, task in batch
        ]
        generator.manual_seed(seed * 1_000_003 + start)
        turns = ServedTurns(engine) if engine else None
        rollouts = roll_out(episodes, user, chat, loaded, sampling, generator=generator, turns=turns)
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
    vllm: TrainConfig | None = None,
    agent: str | None = None,
    temperature: float | None = None,
    limits: Limits | None = None,
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
        vllm: As for `run_model`.
        agent: How the results name the model; as `model` does for None.
        temperature: In place of the sampling's.
        limits: What ends the run early. A batch that has begun is played to its end, so time may be passed by as long as one takes.
        on_result: Called after every episode with how many are finished and how many of them passed.

    Returns:
        The trajectories by task and trial.

    Raises:
        ModelError: Infrastructure failed most attempts. The others are kept, and the same call tries again.
        StoppedError: A limit was reached; it holds what is finished.
    """
    sampling = sampling or SamplingConfig()
    if temperature is not None:
        sampling = SamplingConfig.model_validate(sampling.model_dump() | {"temperature": temperature})
    stopping = _Stopping(limits or Limits())
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
            vllm=vllm,
            skip=lambda task, trial: f"{task.id}/{trial}" in kept.finished,
            goes_on=stopping.goes_on,
        ):
            trajectory = rollout.trajectory(trial=trial, agent=agent or model, user=user.name)
            kept.add(trajectory)
            results[trajectory.id] = trajectory
            passed += evaluate(domain, trajectory).passed
            if on_result is not None:
                on_result(len(results), passed)
            stopping.saw(trajectory.error)
        wanted = [f"{task.id}/{trial}" for task in tasks for trial in range(trials)]
        ordered = [results[name] for name in wanted if name in results]
        if len(ordered) < len(wanted):
            raise StoppedError(str(stopping.why), ordered, len(wanted))
        _check_outage(ordered)
        kept.complete(ordered, score(domain, ordered).model_dump())
    return ordered


class _Stopping:
    """The limits of a run that is played in batches, looked at between them."""

    def __init__(self, limits: Limits) -> None:
        self._watch, self._most, self._began = Watch(limits), limits.max_minutes, time.monotonic()
        self.why: str | None = None
        """None until one is reached."""

    def goes_on(self) -> bool:
        """Whether another batch may begin."""
        if self.why is None and self._most is not None and time.monotonic() - self._began >= 60 * self._most:
            self.why = f"{self._most:g} minutes are over"
        return self.why is None

    def saw(self, error: str | None) -> None:
        """Count an attempt; `error` is how infrastructure ended it."""
        try:
            self._watch.saw(error)
        except StoppedError as stopped:
            self.why = self.why or stopped.why


def _check_outage(found: Sequence[Trajectory]) -> None:
    """Refuse to call a run complete of which little is left.

    Raises:
        ModelError: Infrastructure failed most of it.
    """
    lost = [each.error for each in found if each.error is not None]
    if len(lost) > MOST_LOST * len(found):
        raise ModelError(f"infrastructure failed {len(lost)} of {len(found)} attempts, the last one so: {lost[-1]}; start again to go on")
