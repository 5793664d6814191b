"""Rollouts: a model, a user and many episodes at once, with the ids, masks and log-probabilities that training needs.

Training and evaluation run through here, so both have the same user turns, tool turns, endings and limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentinel_env import Episode, Message, User

from .chat import Chat
from .config import SamplingConfig
from .generate import Turns
from .served import ServedTurns


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

    def write(self, ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """Append what the model wrote (with log-probabilities) or what the world answered (without)."""
        self.completion_ids.extend(ids)
        self.mask.extend([int(logprobs is not None)] * len(ids))
        self.logprobs.extend([0.0] * len(ids) if logprobs is None else logprobs)

    @property
    def length(self) -> int:
        """Prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)


def roll_out(
    episodes: Sequence[Episode],
    user: User,
    chat: Chat,
    model: Any,
    config: SamplingConfig,
    *,
    generator: Any,
    turns: Turns | ServedTurns | None = None,
) -> list[Rollout]:
    """Run fresh episodes to their end, all at once; the model takes one turn in every live episode at a time.

    Args:
        episodes: The attempts.
        user: Who plays the customer.
        chat: The model's tokenizer and chat template.
        model: A transformers language model; not used where `turns` takes them.
        config: Temperature and limits.
        generator: The torch generator to draw from.
        turns: What takes the model's turns, where it is not the model itself in this process, such as vLLM.

    Raises:
        DomainError: A tool crashed.
        ModelError: The user's model could not answer.
    """
    rollouts = [Rollout(episode) for episode in episodes]
    turns = turns or Turns(model, config, end_id=chat.end_id, pad_id=chat.pad_id, generator=generator)
    hear(episodes, user)
    appended: dict[int, list[int]] = {}
    for at, rollout in enumerate(rollouts):
        rollout.prompt_ids = chat.opening(rollout.episode.messages)
        if _goes_on(rollout, [], config):
            appended[at] = rollout.prompt_ids
    while appended:
        answers: dict[int, list[Message]] = {}
        for at, turn in turns.take(appended).items():
            rollouts[at].write(turn.ids, turn.logprobs)
            answers[at] = rollouts[at].episode.act(chat.parse(turn.ids))
        waiting = [at for at in answers if episodes[at].awaiting == "user"]
        for at, reply in zip(waiting, hear([episodes[at] for at in waiting], user), strict=True):
            answers[at].append(reply)
        appended = {}
        for at, messages in answers.items():
            if episodes[at].awaiting != "agent":
                continue
            cut = rollouts[at].completion_ids[-1] != chat.end_id
            ids = [chat.end_id] * cut + chat.following(messages)
            if _goes_on(rollouts[at], ids, config):
                rollouts[at].write(ids)
                appended[at] = ids
    return rollouts


def _goes_on(rollout: Rollout, ids: Sequence[int], config: SamplingConfig) -> bool:
    """Whether there is room for these ids and one more turn; otherwise the episode is truncated."""
    if rollout.episode.awaiting != "agent":
        return False
    if rollout.length + len(ids) + config.max_turn_tokens <= config.max_episode_tokens:
        return True
    rollout.episode.truncate()
    return False


def hear(episodes: Sequence[Episode], user: User) -> list[Message]:
    """Let the user speak in each of the episodes; an asynchronous user is asked for all of them at once."""
    answers = [user.reply(episode.user_view()) for episode in episodes]
    if any(not isinstance(answer, Message) for answer in answers):
        answers = list(asyncio.run(_gather(answers)))
    replies = [answer for answer in answers if isinstance(answer, Message)]
    for episode, reply in zip(episodes, replies, strict=True):
        episode.hear(reply)
    return replies


async def _gather(answers: Sequence[Message | Awaitable[Message]]) -> list[Message]:
    async def one(answer: Message | Awaitable[Message]) -> Message:
        return answer if isinstance(answer, Message) else await answer

    return await asyncio.gather(*(one(answer) for answer in answers))
