"""Rollouts: a model, a user and many episodes at once, with the ids, masks and log-probabilities that training needs.

Training and evaluation run through here, so both have the same user turns, tool turns, endings and limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sentinel_env import Episode, Message, ModelError, Trajectory, User, record
from sentinel_env.runner import usage_by_side

from .asking import ask
from .chat import Chat
from .clock import Clock
from .config import SamplingConfig
from .generate import Turns
from .served import ServedTurns

MOST_LOST = 0.5
"""Where infrastructure fails more than this share of an update's rollouts, or of a run's, it is an outage, and all stops."""


@dataclass
class Rollout:
    """One episode with its tokens."""

    episode: Episode
    prompt_ids: list[int] = field(default_factory=list)
    """Policy, tools and everything that was said before the model's first turn."""
    completion_ids: list[int] = field(default_factory=list)
    """Everything from the model's first token on: its own turns, tool results, the user's words."""
    mask: list[int] = field(default_factory=list)
    """For each completion id: 1 where the model wrote it, 0 where the world did."""
    logprobs: list[float] = field(default_factory=list)
    """For each completion id: its log-probability when sampled; 0 where the world wrote it."""
    error: str | None = None
    """Why infrastructure ended it; such a rollout has no reward and nothing of it is trained on."""

    def write(self, ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Append what the model wrote (with log-probabilities) or what the world answered (without)."""
        self.completion_ids.extend(ids)
        self.mask.extend([int(logprobs is not None)] * len(ids))
        self.logprobs.extend([0.0] * len(ids) if logprobs is None else logprobs)

    @property
    def length(self) -> int:
        """Prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)

    def trajectory(self, **settings: Any) -> Trajectory:
        """The episode as it is recorded; `settings` are those of `record`."""
        return record(self.episode, error=self.error, usage=usage_by_side(self.episode), **settings)


def roll_out(
    episodes: Sequence[Episode],
    user: User,
    chat: Chat,
    model: Any,
    config: SamplingConfig,
    *,
    generator: Any,
    turns: Turns | ServedTurns | None = None,
    clock: Clock | None = None,
) -> list[Rollout]:
    """Run fresh episodes to their end, all at once; the model takes one turn in every live episode at a time.

    An episode whose user's model could not answer ends there, with an `error`.

    Args:
        episodes: The attempts.
        user: Who plays the customer.
        chat: The model's tokenizer and chat template.
        model: A transformers language model; not used where `turns` takes them.
        config: Temperature and limits.
        generator: The torch generator to draw from.
        turns: What takes the model's turns, where it is not the model itself in this process, such as vLLM.
        clock: Is told where the time goes.

    Raises:
        DomainError: A tool crashed.
    """
    clock = clock or Clock()
    rollouts = [Rollout(episode) for episode in episodes]
    turns = turns or Turns(model, config, end_id=chat.end_id, pad_id=chat.pad_id, generator=generator)
    with clock("user"):
        _hear(rollouts, user)
    appended: dict[int, list[int]] = {}
    with clock("tokens"):
        for at, rollout in enumerate(rollouts):
            rollout.prompt_ids = chat.opening(rollout.episode.messages)
            if _goes_on(rollout, [], config):
                appended[at] = rollout.prompt_ids
    while appended:
        with clock("generation"):
            taken = turns.take(appended)
        with clock("tokens"):
            written = {at: chat.parse(turn.ids) for at, turn in taken.items()}
        answers: dict[int, list[Message]] = {}
        with clock("environment"):
            for at, turn in taken.items():
                rollouts[at].write(turn.ids, turn.logprobs)
                answers[at] = rollouts[at].episode.act(written[at])
        waiting = [at for at in answers if episodes[at].awaiting == "user"]
        with clock("user"):
            for at, reply in zip(waiting, _hear([rollouts[at] for at in waiting], user), strict=True):
                answers[at].extend(reply)
        appended = {}
        with clock("tokens"):
            for at, messages in answers.items():
                if episodes[at].awaiting != "agent":
                    continue
                cut = rollouts[at].completion_ids[-1] != chat.end_id
                ids = [chat.end_id] * cut + chat.following(messages)
                if _goes_on(rollouts[at], ids, config):
                    rollouts[at].write(ids)
                    appended[at] = ids
    return rollouts


def _hear(rollouts: Sequence[Rollout], user: User) -> list[list[Message]]:
    """What the user says in each; nothing where its model could not answer."""
    answers = ask([rollout.episode for rollout in rollouts], user)
    for rollout, answer in zip(rollouts, answers, strict=True):
        if isinstance(answer, ModelError):
            rollout.error = f"{type(answer).__name__}: {answer}"
    return [[answer] if isinstance(answer, Message) else [] for answer in answers]


def _goes_on(rollout: Rollout, ids: Sequence[int], config: SamplingConfig) -> bool:
    """Whether there is room for these ids and one more turn; otherwise the episode is truncated."""
    if rollout.episode.awaiting != "agent":
        return False
    if rollout.length + len(ids) + config.max_turn_tokens <= config.max_episode_tokens:
        return True
    rollout.episode.truncate()
    return False
