"""GRPO by TRL: its trainer, our rollouts, our reward. Nothing of the algorithm is made here.

A run that was stopped, by whatever, goes on when it is started again: from the last state that it wrote, and with the same result as if
it had never been stopped (on a CPU, bit by bit).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from sentinel_env import Domain, Task, TaskError, User

from .callbacks import Progress, Watch, watch_training
from .chat import Chat
from .config import TrainConfig
from .dataset import to_dataset
from .grpo_settings import grpo_config, lora_config
from .models import load_model, set_threads
from .served import check_vllm, require_vllm
from .states import Trained, TrainingFolder
from .trl_runs import logged_to, memory_explained, save
from .updates import Slot, Update, Updates


def train(
    config: TrainConfig,
    domain: Domain,
    tasks: Sequence[Task],
    user: User,
    *,
    out: str | Path,
    progress: Progress | None = None,
    on_update: Callable[[Update], None] | None = None,
    most_rollouts: int | None = None,
    constants: Mapping[str, float] | None = None,
) -> Trained:
    """Train a model on tasks and save it, or go on with that.

    Args:
        config: The run.
        domain: The world.
        tasks: What to train on, in any number; they are drawn in a seeded order, again and again.
        user: Who plays the customer.
        out: The folder of the checkpoint.
        progress: Called after every update with TRL's measurements, such as "step", "reward", "reward_std" and "step_time".
        on_update: Called before every update with the rollouts that it is made from.
        most_rollouts: The training ends before an update that might take more in all; no limit for None.
        constants: Further figures to log with every update, by name.

    Returns:
        How it ended. What each update was made from is in the folder; see `TrainingFolder.updates`.

    Raises:
        ConfigError: The settings do not fit each other, the model cannot be used, or the folder holds something else.
        ModelError: Infrastructure failed most of an update's rollouts.
        TrainingError: No memory is left, or the loss is no number.
    """
    set_threads(config.threads)  # before anything imports torch
    folder = TrainingFolder(out)
    grpo_config(config, folder.states)  # what does not fit is refused before anything is written
    with _main_process_first() as main:
        if main:
            folder.open(config, domain, tasks)
            if folder.finished() is None:
                folder.go_back(folder.last_state())
    if (ended := folder.finished()) is not None:
        return ended
    state, earlier = folder.last_state(), folder.updates()
    watch, planned = Watch(config, earlier, most_rollouts), config.steps
    if watch.stopped:  # a kill came between the last update and the end
        config = config.model_copy(update={"steps": len(earlier)})
    trainer = make_trainer(config, domain, tasks, user, out=folder.path, constants=constants)
    watch_training(trainer, watch, folder, progress=progress, on_update=on_update)
    advice = (
        f"rows_per_pass is {trainer.args.per_device_train_batch_size}: lower it and start again with the same command, which goes on from "
        "the last saved state, or lower sampling.max_episode_tokens or train adapters (lora) in a new folder"
    )
    with memory_explained(lambda: f"in update {trainer.state.global_step + 1}", advice):
        trainer.train(resume_from_checkpoint=str(state) if state else None)
    save(trainer, config, folder.path)
    done = trainer.state.global_step
    ended = Trained(updates=done, rollouts=watch.rollouts, stopped=watch.stopped if done < planned else None)
    if trainer.accelerator.is_main_process:
        folder.finish(ended)
    return ended


def make_trainer(
    config: TrainConfig,
    domain: Domain,
    tasks: Sequence[Task],
    user: User,
    *,
    out: str | Path,
    constants: Mapping[str, float] | None = None,
) -> Any:
    """TRL's `GRPOTrainer`, ready to `train()`; its `updates` tell what each update is made from. Raises as `train` does."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    set_threads(config.threads)
    from transformers import PrinterCallback, set_seed
    from trl import GRPOTrainer

    args = grpo_config(config, Path(out) / "states")  # first: it gives each of several processes its device
    adapters = lora_config(config)
    if args.use_vllm:
        check_vllm(config.trl, args.world_size)
        require_vllm()
    set_seed(config.seed)  # adapters begin with random numbers
    model, tokenizer = load_model(config.model, device=config.device, precision=config.weights)
    updates = Updates(
        config,
        domain,
        user,
        Chat(tokenizer, domain),
        spare=list({task.id: task for task in tasks}.values()),
        constants=dict(constants or {}),
    )
    with logged_to(Path(out) / "logs"):
        trainer = GRPOTrainer(
            model=model,
            args=args,
            reward_funcs=updates.rewards(),
            train_dataset=to_dataset(domain, rows(tasks, config)),
            processing_class=tokenizer,
            rollout_func=updates.play,
            environment_factory=Slot,
            peft_config=adapters,
        )
    trainer.updates = updates
    trainer.remove_callback(PrinterCallback)
    return trainer


def rows(tasks: Sequence[Task], config: TrainConfig) -> list[Task]:
    """The tasks of all updates in their order: every task once in a seeded order, then again in another one, until it is enough.

    Raises:
        TaskError: There are no tasks.
    """
    if not tasks:
        raise TaskError("there are no tasks to train on; give at least one")
    random, found = Random(config.seed), list[Task]()
    while len(found) < config.steps * config.prompts_per_step:
        found.extend(random.sample(tasks, len(tasks)))
    return found[: config.steps * config.prompts_per_step]


@contextmanager
def _main_process_first() -> Iterator[bool]:
    """Of several processes the main one goes in first; yields whether this is it."""
    from accelerate import PartialState

    state = PartialState()
    with state.main_process_first():
        yield state.is_main_process
