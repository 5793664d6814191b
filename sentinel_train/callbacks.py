"""What is watched while TRL trains: the account of rollouts, updates without variance, and numbers that are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from sentinel_env import TrainingError

from .config import TrainConfig
from .states import TrainingFolder
from .updates import Update

Progress = Callable[[dict[str, float]], None]


class Watch:
    """The account of one training run, over all times that it was started."""

    def __init__(self, config: TrainConfig, earlier: Sequence[Update], most_rollouts: int | None) -> None:
        """Take over what was done before.

        Args:
            config: The run.
            earlier: The updates so far.
            most_rollouts: The run ends before an update that might take more in all.
        """
        self.rollouts = 0
        self._config, self._most = config, most_rollouts
        self._flat = 0
        for update in earlier:
            self.count(update)

    def count(self, update: Update) -> None:
        """Take note of an update."""
        self.rollouts += update.rollouts
        self._flat = self._flat + 1 if update.flat else 0

    @property
    def stopped(self) -> str | None:
        """Why there must not be another update; None where there may be."""
        per_update = self._config.group_size * self._config.prompts_per_step * (1 + self._config.resample)
        if self._flat >= self._config.flat_updates:
            return (
                f"{self._flat} updates in a row had no group in which one rollout differed from another, so there is nothing to learn "
                "from; use tasks that the model passes now and then, or a shaping reward"
            )
        if self._most is not None and self.rollouts + per_update > self._most:
            return f"{self.rollouts} of {self._most} rollouts are used, and an update may take {per_update}"
        return None


def watch_training(
    trainer: Any, watch: Watch, folder: TrainingFolder, *, progress: Progress | None, on_update: Callable[[Update], None] | None
) -> None:
    """Let a trainer keep its account in its folder, report, and stop where it must."""
    main = trainer.accelerator.is_main_process

    def count(update: Update) -> None:
        watch.count(update)
        if main:
            folder.add(update)
        if main and on_update is not None:
            on_update(update)

    trainer.updates.on_update = count
    trainer.add_callback(_callback(watch, progress))


def _callback(watch: Watch, progress: Progress | None) -> Any:
    from transformers import TrainerCallback

    class Watches(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= watch.stopped is not None

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if not logs or "reward" not in logs:
                return
            _check_numbers(logs, state.global_step)
            if progress is not None and state.is_world_process_zero:
                progress({"step": float(state.global_step), **logs})

    return Watches()


def _check_numbers(logs: dict[str, float], step: int) -> None:
    """Stop before broken weights are saved.

    Raises:
        TrainingError: The loss or the gradient's norm is no number.
    """
    for name in ("loss", "grad_norm"):
        if not isfinite(logs.get(name, 0.0)):
            raise TrainingError(
                f"{name} is {logs[name]} in update {step}; what was saved before it is kept: lower learning_rate, or train in fp32, in a "
                "new folder"
            )
