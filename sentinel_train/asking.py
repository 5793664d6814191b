"""Asking the users of many episodes at once.

Asynchronous users are gathered on the event loop of `sentinel_env.waiting`: so their connections outlast a turn, and a caller with an
event loop of its own, such as a notebook, can train too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from sentinel_env import Episode, Message, ModelError, User
from sentinel_env.waiting import wait_for


def ask(episodes: Sequence[Episode], user: User) -> list[Message | ModelError]:
    """Let the user speak in each of the episodes, in all at once where it is asynchronous.

    Returns:
        What was said in each, and heard there; or why the user's model could not answer, in which case nothing was.
    """
    given = [_reply(episode, user) for episode in episodes]
    waiting = [answer for answer in given if not isinstance(answer, Message | ModelError)]
    awaited = iter(wait_for(_gather(waiting)) if waiting else ())
    answers = [answer if isinstance(answer, Message | ModelError) else next(awaited) for answer in given]
    for episode, answer in zip(episodes, answers, strict=True):
        if isinstance(answer, Message):
            episode.hear(answer)
    return answers


def hear(episodes: Sequence[Episode], user: User) -> list[Message]:
    """`ask` for callers that cannot go on without an answer.

    Raises:
        ModelError: The user's model could not answer in one of them.
    """
    answers = ask(episodes, user)
    for answer in answers:
        if isinstance(answer, ModelError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Message)]


def close(user: User) -> None:
    """Let go of what the user holds, such as connections, where it has a `close`."""
    ended = getattr(user, "close", lambda: None)()
    if isinstance(ended, Awaitable):
        wait_for(_wait(ended))


async def _wait(ended: Awaitable[object]) -> None:
    await ended


def _reply(episode: Episode, user: User) -> Message | ModelError | Awaitable[Message]:
    try:
        return user.reply(episode.user_view())
    except ModelError as failure:
        return failure


async def _gather(answers: Sequence[Awaitable[Message]]) -> list[Message | ModelError]:
    async def one(answer: Awaitable[Message]) -> Message | ModelError:
        try:
            return await answer
        except ModelError as failure:
            return failure

    return await asyncio.gather(*map(one, answers))
