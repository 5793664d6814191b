"""`Visit`: what one MCP session can do, whatever the transport: look around, begin a task, talk to the user, and be graded.

A visit begins as a fork of the database. With `begin` it becomes an episode, and with `finish` its verdict is all that is left of it.
Nothing here imports the SDK.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sentinel_env.errors import EpisodeError, TaskError, ToolError
from sentinel_env.messages import Message
from sentinel_env.thoughts import without_thought
from sentinel_env.tools import tool

from .seat import Seat
from .source import Source

MAX_WAITING = 64
"""How many calls of one session may wait for those before them."""
CLOSED = "The session is over: it was graded. Open another one."
BROKEN = "The session was ended by an internal error of the server. It has no verdict; open another one."
TOO_EARLY = "No conversation has begun. Call begin first."

_log = logging.getLogger(__name__)


@tool
def begin(session: Any, task: str | None = None, row: int | None = None, seed: int = 0) -> None:
    """Begin a task: the user's first words come back, and the database is as the task finds it. What was changed before is dropped.

    Args:
        task: The task's id.
        row: Or its row, from 0.
        seed: For the simulated user.
    """


@tool
def begin_the_task(session: Any, seed: int = 0) -> None:
    """Begin the conversation: the user's first words come back. The other tools work from then on.

    Args:
        seed: For the simulated user.
    """


@tool
def message_user(session: Any, message: str) -> None:
    """Write to the user and read the answer. The user reads nothing else.

    Args:
        message: What the user is to read.
    """


@tool
def finish(session: Any) -> None:
    """End the conversation and read the verdict; after that the session is over."""


OURS = ("begin", "message_user", "finish")
"""What a domain's tools cannot be called here."""


@dataclass(frozen=True)
class Answer:
    """What one call is answered."""

    texts: tuple[str, ...]
    is_error: bool = False
    data: Mapping[str, Any] | None = None

    def to_wire(self) -> dict[str, Any]:
        """As a `CallToolResult`."""
        found: dict[str, Any] = {"content": [{"type": "text", "text": text} for text in self.texts], "isError": self.is_error}
        return found if self.data is None else found | {"structuredContent": dict(self.data)}


class InternalError(Exception):
    """Something of ours crashed; the log has it, the client is told no more."""


class Visit:
    """One session: a fork of the database to look around in, then an episode once a task begins, then its verdict.

    Calls are carried out one after the other, and each to its end: one that its client cancels or runs away from is carried out all the
    same, since half a turn is none.
    """

    def __init__(self, source: Source, task: str | None = None, record: Callable[[Seat], None] | None = None) -> None:
        """Open it.

        Args:
            source: Which episodes there are.
            task: The id of the only one that is played; None where the client chooses.
            record: Told of each seat whose episode is over, or was left.
        """
        self._source, self._task, self._record = source, task, record
        self._db = source.domain.base.fork()
        self._seat: Seat | None = None
        self._verdict: Mapping[str, Any] | None = None
        self._broken = False
        self._lock = asyncio.Lock()
        self._turns: set[asyncio.Task[Answer]] = set()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        """Carry out a call, after those before it.

        Raises:
            InternalError: A tool or the user crashed.
        """
        if len(self._turns) >= MAX_WAITING:
            return _refused(f"{MAX_WAITING} calls of this session wait already; wait for their answers")
        turn = asyncio.create_task(self._in_turn(name, arguments))
        self._turns.add(turn)
        turn.add_done_callback(self._turned)
        return await asyncio.shield(turn)

    def _turned(self, turn: asyncio.Task[Answer]) -> None:
        self._turns.discard(turn)
        if not turn.cancelled():
            turn.exception()  # which is in the log; whoever asked may be gone

    async def close(self) -> None:
        """End it: the client is gone. An episode that goes on is cut."""
        turns = list(self._turns)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        if self._seat is not None and not self._broken:
            self._seat.cut()
            self._leave(self._seat)
        self._seat, self._broken = None, True

    async def _in_turn(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        async with self._lock:
            if self._broken:
                return _refused(BROKEN)
            if self._verdict is not None:
                return _as_answer(self._verdict) if name == "finish" else _refused(CLOSED)
            try:
                return await self._carry_out(name, arguments)
            except Exception:
                _log.exception("domain %s: %s crashed", self._source.domain.name, name[:100])
                self._broken = True
                raise InternalError from None

    async def _carry_out(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        seat = self._seat
        if name == "begin":
            return await self._begin(arguments)
        if seat is None:
            if name in OURS or self._task is not None:
                return _refused(TOO_EARLY)
            return self._look_around(name, arguments)
        if name == "finish":
            return self._finish(seat, arguments)
        if seat.done:
            return _refused(_over(seat))
        return await _take_turn(seat, _spoken(arguments) if name == "message_user" else _called(name, arguments))

    async def _begin(self, arguments: Mapping[str, Any]) -> Answer:
        if self._seat is not None:
            return _refused("A task has begun already. Finish it, and open another session for another one.")
        try:
            given = (begin if self._task is None else begin_the_task).validate(arguments)
            chosen = (self._task, None) if self._task is not None else (given["task"], given["row"])
            task = self._source.task(task_id=chosen[0], index=chosen[1])
        except (ToolError, TaskError) as mistake:
            return _refused(str(mistake).replace("begin_the_task", "begin"))
        seat = self._seat = self._source.seat_at(task, seed=given["seed"])
        opening = await seat.open()
        return _told(seat, opening)

    def _look_around(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        message = _called(name, arguments)
        if message.problem:
            return _refused(f"Error: {message.problem}")
        answer = self._source.domain.execute(self._db, message.tool_calls[0])
        return Answer((answer.content,), answer.is_error)

    def _finish(self, seat: Seat, arguments: Mapping[str, Any]) -> Answer:
        try:
            finish.validate(arguments)
        except ToolError as mistake:
            return _refused(f"Error: {mistake}")
        if not seat.done:
            seat.episode.stop()
        self._verdict = verdict(seat)
        self._leave(seat)
        self._seat = None
        return _as_answer(self._verdict)

    def _leave(self, seat: Seat) -> None:
        if self._record is not None:
            self._record(seat)


def verdict(seat: Seat) -> dict[str, Any]:
    """What a client learns of the grade: which kinds of check failed, and never what they compared.

    Raises:
        EpisodeError: The episode goes on.
    """
    evaluation = seat.evaluation
    return {
        "passed": None if evaluation.error is not None else evaluation.passed,
        "reward": evaluation.reward,
        "ending": seat.episode.ending,
        "failed": sorted({check.name for check in evaluation.checks if not check.passed}),
        "error": seat.error_kind if evaluation.error is not None else None,
    }


def _as_answer(found: Mapping[str, Any]) -> Answer:
    if found["passed"] is None:
        words = f"No reward: the user's model could not answer ({found['error']})."
    elif found["passed"]:
        words = "Passed."
    else:
        words = f"Not passed. What failed: {', '.join(found['failed'])}."
    return Answer((f"{words}\n{json.dumps(found)}",), data=found)


async def _take_turn(seat: Seat, message: Message) -> Answer:
    if seat.episode.awaiting != "agent":  # the user's crash or a cancelled close left it so
        raise EpisodeError("the episode waits for its user")
    return _told(seat, await seat.act(message))


def _told(seat: Seat, news: list[Message]) -> Answer:
    texts = tuple(message.content for message in news)
    is_error = seat.error is not None or any(message.is_error for message in news)
    if seat.error is not None:
        _log.warning("task %s: the user could not answer: %s", seat.episode.task.id, seat.error)
    return Answer((*texts, _over(seat)) if seat.done else texts, is_error)


def _over(seat: Seat) -> str:
    if seat.error is not None:
        return f"The user cannot answer: infrastructure failed ({seat.error_kind}). This episode has no reward. Call finish."
    return f"The conversation is over ({seat.episode.ending}). Call finish for the verdict."


def _called(name: str, arguments: Mapping[str, Any]) -> Message:
    return Message.from_openai({"role": "assistant", "tool_calls": [{"name": name, "arguments": dict(arguments)}]})


def _spoken(arguments: Mapping[str, Any]) -> Message:
    try:
        return without_thought(Message.from_openai({"role": "assistant", "content": message_user.validate(arguments)["message"]}))
    except ToolError as mistake:
        return Message(role="assistant", problem=str(mistake))


def _refused(text: str) -> Answer:
    return Answer((text,), is_error=True)
