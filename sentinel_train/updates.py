"""An update's rollouts: played, graded, and handed to TRL with what came of them.

TRL hands every rollout an environment, which here exposes no tool methods: then its own tool loop is off, and `rollout_func` plays the
dialogue with real user turns, tool turns and endings, exactly as evaluation does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict

from sentinel_env import Domain, Episode, ModelError, Task, Trajectory, User, evaluate

from .chat import Chat
from .clock import Clock
from .config import TrainConfig
from .dataset import COLUMN, read_row
from .metrics import alarms, measure
from .rollout import MOST_LOST, Rollout, roll_out
from .seeds import seed_of
from .served import ServedTurns
from .shaping import shape, shaped


class Group(BaseModel):
    """Rollouts of one task in one update."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    """Its id."""
    rewards: tuple[float | None, ...]
    """Of the outcome; None for a rollout that infrastructure failed."""
    replaced: bool = False
    """Whether another task's group was trained on in its place."""


class Update(BaseModel):
    """What one update was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    """Counted from 1."""
    groups: tuple[Group, ...]
    flat: bool
    """Whether nothing could be learned from it: in no group did one rollout differ from another."""
    alarms: tuple[str, ...] = ()

    @property
    def rollouts(self) -> int:
        """How many were played, replaced ones too."""
        return sum(len(group.rewards) for group in self.groups)

    @property
    def reward(self) -> float:
        """The mean outcome of those that were trained on."""
        outcomes = [reward for group in self.groups if not group.replaced for reward in group.rewards if reward is not None]
        return sum(outcomes) / len(outcomes)


@dataclass(frozen=True)
class Graded:
    """What came of one rollout, as all processes know it."""

    trajectory: Trajectory
    reward: float | None
    shaping: dict[str, float]

    @property
    def signal(self) -> tuple[object, ...]:
        """What it is compared with others by."""
        return self.reward, *self.shaping.values()


@dataclass(frozen=True)
class Played(Graded):
    """One rollout, with its tokens, and what came of it."""

    rollout: Rollout

    @property
    def graded(self) -> Graded:
        """Without what only this process needs."""
        return Graded(self.trajectory, self.reward, self.shaping)


class Slot:
    """The environment that TRL keeps for each rollout of an update: it takes the task of a row, and holds what was played."""

    task: Task
    played: Played

    def reset(self, **row: Any) -> None:
        """Take the next task; its rollout begins when all have theirs."""
        self.task = read_row(row[COLUMN])


class Updates:
    """Plays updates; `play` is TRL's `rollout_func`, `rewards()` its reward functions."""

    def __init__(
        self, config: TrainConfig, domain: Domain, user: User, chat: Chat, spare: Sequence[Task], constants: dict[str, float]
    ) -> None:
        """Begin before the first update.

        Args:
            config: The run.
            domain: The world.
            user: Who plays the customer.
            chat: The model's tokenizer and chat template.
            spare: Tasks for groups that are replaced.
            constants: Further figures to log with every update.
        """
        self.config, self.domain, self.user, self.chat, self.spare = config, domain, user, chat, spare
        self.on_update: Callable[[Update], None] = lambda _: None
        self._constants = constants
        self._figures: dict[str, float] = {}

    def play(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """Play the tasks of TRL's environments, put what came of them there, and return the tokens.

        Raises:
            ModelError: Infrastructure failed so many rollouts that it is an outage.
        """
        from accelerate.utils import gather_object

        step, process, size = trainer.state.global_step + 1, trainer.accelerator.process_index, self.config.group_size
        clock = Clock()
        played = self._roll_out([slot.task for slot in trainer.environments], trainer, clock, (step, process, 0))
        replaced: list[Played] = []
        for again in range(1, self.config.resample + 1):
            alike = [at for at in range(0, len(played), size) if _is_flat(played[at : at + size])]
            if not any(gather_object([bool(alike)])):  # a process whose groups all differ goes on with the others, playing nothing
                break
            drawn = Random(f"{self.config.seed}/{step}/{process}/{again}").sample(self.spare, min(len(alike), len(self.spare)))
            tasks = [task for task in drawn for _ in range(size)]
            others = self._roll_out(tasks, trainer, clock, (step, process, again))
            for at, start in zip(alike, range(0, len(others), size), strict=False):
                replaced.extend(played[at : at + size])
                played[at : at + size] = others[start : start + size]
        for slot, each in zip(trainer.environments, played, strict=True):
            slot.played = each
        kept = gather_object([each.graded for each in played])
        left = gather_object([each.graded for each in replaced])
        everything = [*kept, *left]
        self._measure(everything, clock)
        groups = (*_groups(kept, size, replaced=False), *_groups(left, size, replaced=True))
        flat = all(_is_flat(kept[at : at + size]) for at in range(0, len(kept), size))
        update = Update(step=step, groups=groups, flat=flat, alarms=tuple(alarms(self._figures)))
        self.on_update(update)
        _check_outage(update.step, everything)
        return as_columns([each.rollout for each in played], self.chat.end_id)

    def rewards(self) -> list[Callable[..., list[float | None]]]:
        """TRL's reward functions: the outcome, and the shaping where it is configured."""

        def outcome(environments: Sequence[Slot], log_metric: Callable[[str, float], None], **_: Any) -> list[float | None]:
            for name, value in self._figures.items():
                log_metric(name, value)
            return [slot.played.reward for slot in environments]

        def shaping(environments: Sequence[Slot], **_: Any) -> list[float | None]:
            settings = self.config.shaping
            assert settings is not None
            return [None if slot.played.reward is None else shaped(slot.played.shaping, settings) for slot in environments]

        return [outcome, shaping] if self.config.shaping else [outcome]

    def _roll_out(self, tasks: Sequence[Task], trainer: Any, clock: Clock, draw: tuple[int, int, int]) -> list[Played]:
        """Play every task once; the same draw gives the same rollouts, whatever was played before."""
        import torch
        from trl.models.utils import unwrap_model_for_generation

        sampling = self.config.sampling
        episodes = [
            Episode(
                self.domain, task, max_steps=sampling.max_steps, max_errors=sampling.max_errors, seed=seed_of(self.config.seed, *draw, at)
            )
            for at, task in enumerate(tasks)
        ]
        generator = torch.Generator(device=trainer.accelerator.device).manual_seed(seed_of(self.config.seed, *draw))
        common: dict[str, Any] = {"generator": generator, "clock": clock}
        if trainer.args.use_vllm:
            served = ServedTurns(trainer.vllm_generation)
            rollouts = roll_out(episodes, self.user, self.chat, None, sampling, turns=served, **common)
        else:
            with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as unwrapped:
                training = unwrapped.training
                unwrapped.eval()
                rollouts = roll_out(episodes, self.user, self.chat, unwrapped, sampling, **common)
                unwrapped.train(training)
        with clock("environment"):
            return [self._grade(rollout) for rollout in rollouts]

    def _grade(self, rollout: Rollout) -> Played:
        trajectory = rollout.trajectory()
        reward = evaluate(self.domain, trajectory).reward
        if reward is None or self.config.shaping is None:
            return Played(trajectory, reward, {}, rollout)
        terms = shape(self.domain, trajectory, self.config.shaping, max_steps=self.config.sampling.max_steps)
        return Played(trajectory, reward, terms, rollout)

    def _measure(self, played: Sequence[Graded], clock: Clock) -> None:
        rewards = [each.reward for each in played]
        figures = measure(self.domain, [each.trajectory for each in played], rewards, group_size=self.config.group_size)
        for name in dict.fromkeys(name for each in played for name in each.shaping):
            values = [each.shaping[name] for each in played if name in each.shaping]
            figures[f"shaping/{name}"] = sum(values) / len(values)
        self._figures = {**figures, **{f"time/{part}": spent for part, spent in clock.seconds().items()}, **self._constants}


def as_columns(rollouts: Sequence[Rollout], end_id: int) -> dict[str, Any]:
    """What TRL's `rollout_func` returns.

    A rollout without a model turn becomes one masked token, and of one that infrastructure ended nothing is trained on.
    """
    for rollout in rollouts:
        if not rollout.completion_ids:
            rollout.write([end_id])
    return {
        "prompt_ids": [rollout.prompt_ids for rollout in rollouts],
        "completion_ids": [rollout.completion_ids for rollout in rollouts],
        "logprobs": [rollout.logprobs for rollout in rollouts],
        "env_mask": [[0] * len(rollout.mask) if rollout.error else rollout.mask for rollout in rollouts],
    }


def _is_flat(group: Sequence[Graded]) -> bool:
    return len({each.signal for each in group if each.reward is not None}) < 2


def _groups(played: Sequence[Graded], size: int, *, replaced: bool) -> list[Group]:
    return [
        Group(task=played[at].trajectory.task.id, rewards=tuple(each.reward for each in played[at : at + size]), replaced=replaced)
        for at in range(0, len(played), size)
    ]


def _check_outage(step: int, played: Sequence[Graded]) -> None:
    """Stop where infrastructure fails most rollouts: what is left says little, and the next update would fare no better.

    Raises:
        ModelError: It does.
    """
    lost = [each.trajectory.error for each in played if each.reward is None]
    if len(lost) > MOST_LOST * len(played):
        raise ModelError(f"infrastructure failed {len(lost)} of the {len(played)} rollouts of update {step}: {lost[0]}")
