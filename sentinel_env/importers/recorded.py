"""What both readers of recorded results share: files that may be cut off, and runs that are executed again to learn what they changed.

A result file says what an agent called and what it saw, but not what that did to the database. So every recorded call is executed on
the domain, and whatever comes out differently from the record is reported: a number computed over a wrong state helps nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from sentinel_env.database import Changes
from sentinel_env.domain import Domain
from sentinel_env.errors import TrajectoryError
from sentinel_env.evaluation import evaluate
from sentinel_env.messages import Message
from sentinel_env.records import first_error
from sentinel_env.tasks import Task
from sentinel_env.trajectory import Trajectory


@dataclass(frozen=True)
class Difference:
    """One thing that executing the record gives otherwise."""

    trajectory: str
    what: str
    """ "database verdict", "reward", or the message and the tool whose output it is."""
    recorded: str
    found: str

    def __str__(self) -> str:
        return f"{self.trajectory}, {self.what}: recorded {self.recorded[:160]!r}, executed {self.found[:160]!r}"


@dataclass(frozen=True)
class Imported:
    """What a file of recorded results gave."""

    domain: Domain
    trajectories: tuple[Trajectory, ...]
    problems: tuple[TrajectoryError, ...] = ()
    """What could not be read, by file, index and field; the rest is in `trajectories`."""
    notes: tuple[str, ...] = ()
    """What is odd about the file and how it was taken."""
    differences: tuple[Difference, ...] = ()
    """Outputs and verdicts that executing the recorded calls gives otherwise."""
    outputs: int = 0
    """Tool outputs that were compared."""
    verdicts: int = 0
    """Recorded verdicts on the database that were compared."""
    rewards: int = 0
    """Recorded rewards that were compared: of runs that no judge model had a say in."""


class Executed(NamedTuple):
    """A recorded run, executed again."""

    messages: tuple[Message, ...]
    changes: Changes
    differences: tuple[Difference, ...]
    outputs: int


def execute_record(
    domain: Domain, task: Task, messages: Iterable[Message], trajectory: str, errors: Sequence[bool | None] = ()
) -> Executed:
    """Execute a record's calls in order, and say where an output differs. The recorded text is kept in either case.

    Args:
        domain: The world.
        task: Where the database starts.
        messages: The record. An answer belongs to the call with its id, or else to the first one that waits for an answer.
        trajectory: The id, for the report.
        errors: Whether each tool message was recorded as a refusal, in order; where it was not recorded, the executed call decides.

    Raises:
        TrajectoryError: An answer without a call before it.
        TaskError: The task's changes do not fit the database.
        DomainError: A tool crashed.
    """
    db = domain.start(task)
    kept: list[Message] = []
    differences: list[Difference] = []
    waiting: list[Message] = []
    recorded_errors = iter(errors)
    outputs = 0
    for at, message in enumerate(messages):
        if message.role == "assistant":
            waiting = [domain.execute(db, call) for call in message.tool_calls]
        elif message.role == "tool":
            if not waiting:
                raise TrajectoryError(f"messages.{at}: a tool's output without a call before it")
            answer = next((each for each in waiting if each.tool_call_id and each.tool_call_id == message.tool_call_id), waiting[0])
            waiting.remove(answer)
            outputs += 1
            refused = next(recorded_errors, None)
            if not _same(message.content, answer.content) or (refused is not None and refused != answer.is_error):
                what = f"messages.{at} ({answer.name})"
                differences.append(Difference(trajectory, what, message.content, answer.content))
            message = message.model_copy(update={"name": answer.name, "is_error": answer.is_error if refused is None else refused})
        kept.append(message)
    return Executed(tuple(kept), db.changes(), tuple(differences), outputs)


def compare_verdicts(
    domain: Domain, trajectory: Trajectory, *, database: bool | None = None, reward: float | None = None
) -> list[Difference]:
    """Where a recorded verdict on the database, or a recorded reward, is not the one given here."""
    evaluation = evaluate(domain, trajectory)
    found: list[Difference] = []
    if database is not None:
        matches = all(check.passed for check in (*evaluation.checks, *evaluation.notes) if check.name == "database")
        if matches != database:
            found.append(Difference(trajectory.id, "database verdict", str(database), str(matches)))
    if reward is not None and reward != evaluation.reward:
        found.append(Difference(trajectory.id, "reward", str(reward), str(evaluation.reward)))
    return found


def _same(recorded: str, found: str) -> bool:
    """Equal as text, or as JSON up to the order of fields and 10 against 10.0."""
    if recorded == found:
        return True
    try:
        return bool(json.loads(recorded) == json.loads(found))
    except ValueError:
        return False


def read_json(path: str | Path) -> tuple[Any, TrajectoryError | None]:
    """A JSON file's content; of a file that is cut off, what stands before the cut, and where that is.

    Raises:
        TrajectoryError: The file cannot be read, or holds nothing that can be kept.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(f"cannot read results from {path}: {error}") from None
    try:
        return json.loads(text), None
    except (ValueError, RecursionError) as error:
        value = _before_the_cut(text)
        problem = TrajectoryError(f"{path} is not JSON ({error}); it seems to be cut off or edited")
        if not value:
            raise problem from None
        return value, problem


_DECODER = json.JSONDecoder()


def _before_the_cut(text: str) -> Any:
    """The whole elements of the outermost list, or of the lists in the outermost object, in front of the first that is broken."""
    at = _skip(text, 0)
    if text[at : at + 1] == "[":
        return _elements(text, at)
    if text[at : at + 1] != "{":
        return None
    found: dict[str, Any] = {}
    at += 1
    try:
        while True:
            key, at = _DECODER.raw_decode(text, _skip(text, at))
            at = _skip(text, at)
            try:
                found[str(key)], at = _DECODER.raw_decode(text, at)
            except (ValueError, RecursionError):
                if text[at : at + 1] == "[":
                    found[str(key)] = _elements(text, at)
                return found
    except (ValueError, RecursionError):
        return found


def _elements(text: str, at: int) -> list[Any]:
    found: list[Any] = []
    at += 1
    try:
        while True:
            value, at = _DECODER.raw_decode(text, _skip(text, at))
            found.append(value)
    except (ValueError, RecursionError):
        return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,:":
        at += 1
    return at


def first_problem(error: ValidationError) -> str:
    """Pydantic's first complaint, cut to a line."""
    return first_error(error).replace("\n", " ")[:300]
