"""Why one run failed, for a person: the changes that would have made it pass, the step that decided it, and what came out differently."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.messages import Message, ToolCall
from sentinel_env.trajectory import Trajectory

from .attribution import attribute
from .edits import different_arguments
from .findings import Attribution, Finding

_BEFORE, _AFTER = 3, 2
"""How many messages are quoted around the critical step."""
_ABSENT = "nothing"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quote(_Data):
    """A message of the dialogue."""

    step: int
    speaker: str
    """"user", "agent" or the tool's name."""
    text: str


class Difference(_Data):
    """A place of the database that came out otherwise than the reference leaves it."""

    place: str
    """Such as "orders #W12 items[0].item_id"."""
    start: Any = None
    expected: Any = None
    found: Any = None


class Explanation(_Data):
    """Why one run failed."""

    attribution: Attribution
    changes: tuple[str, ...] = ()
    """The smallest change that would have passed, one line for each part of it."""
    confirmed: bool | None = None
    """Whether executing the writes with these changes leads to the reference's state; None where the state is right already."""
    quotes: tuple[Quote, ...] = ()
    """The dialogue around the critical step."""
    differences: tuple[Difference, ...] = ()
    conduct: tuple[str, ...] = ()
    """What else was wrong on the way."""


def explain(domain: Domain, trajectory: Trajectory) -> Explanation:
    """Explain one run.

    Raises:
        TaskError: It is of another domain, its task does not fit the database, or a tool refuses its reference.
        DomainError: A tool crashed.
    """
    attribution = attribute(domain, trajectory)
    step = attribution.critical_step
    return Explanation(
        attribution=attribution,
        changes=tuple(_in_words(finding) for finding in attribution.findings if finding.is_cause),
        confirmed=attribution.confirmed,
        quotes=tuple(_quotes(trajectory, step)) if step is not None else (),
        differences=tuple(_differences(domain, trajectory)) if attribution.passed is False else (),
        conduct=tuple(
            f"message {finding.evidence.step}: {finding.label}{f' ({finding.tool})' if finding.tool else ''}: {finding.evidence.detail}"
            for finding in attribution.findings
            if not finding.is_cause
        ),
    )


# what would have passed


def _in_words(finding: Finding) -> str:
    made, wanted, step = finding.executed, finding.wanted, finding.evidence.step
    match finding.label:
        case "missing_communicate":
            return f"say to the user: {finding.evidence.detail.removeprefix('never said to the user: ')}"
        case "unneeded_transfer":
            return f"do not hand over to a person (message {step})"
        case "missing_transfer":
            return "hand over to a person"
        case "unfinished":
            return f"come to an end ({finding.evidence.detail})"
        case "missing_action":
            return f"make the call: {finding.evidence.detail.removeprefix('never called: ')}"
        case "order_dependency" if wanted is not None:
            return f"call {_call(wanted)} before message {step}; {finding.evidence.detail}"
    if made is not None and wanted is not None:
        if made.name != wanted.name:
            return f"at message {step} call {_call(wanted)} instead of {_call(made)}"
        names = different_arguments(made, wanted)
        pairs = ", ".join(f"{name} {_short(wanted.arguments.get(name))} instead of {_short(made.arguments.get(name))}" for name in names)
        return f"at message {step} call {wanted.name} with {pairs}"
    if wanted is not None:
        return f"call {_call(wanted)}"
    if made is not None:
        return f"do not call {_call(made)} (message {step})"
    return f"{finding.label.replace('_', ' ')}: {finding.evidence.detail}"


def _call(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{name}={_short(value)}' for name, value in call.arguments.items())})"


def _short(value: Any, most: int = 70) -> str:
    text = value if value is _ABSENT else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else f"{text[: most - 1]}…"


# where it was decided


def _quotes(trajectory: Trajectory, step: int) -> Iterator[Quote]:
    messages = trajectory.messages
    for at in range(max(0, step - _BEFORE), min(len(messages), step + _AFTER + 1)):
        yield Quote(step=at, speaker=_speaker(messages[at]), text=_text(messages[at]))


def _speaker(message: Message) -> str:
    return {"assistant": "agent", "tool": message.name or "tool"}.get(message.role, message.role)


def _text(message: Message) -> str:
    calls = "; ".join(f"calls {_call(call)}" for call in message.tool_calls)
    return " ".join(part for part in (message.content, calls) if part)


# what came out otherwise


def _differences(domain: Domain, trajectory: Trajectory) -> Iterator[Difference]:
    """Leaf by leaf, in the order of tables and keys."""
    expected_changes = domain.reference_changes(trajectory.task)
    start, expected, found = (domain.start(trajectory.task) for _ in range(3))
    expected.apply(expected_changes)
    found.apply(trajectory.changes)
    for table in start.tables:
        keys = {*expected_changes.get(table, {}), *trajectory.changes.get(table, {})}
        for key in sorted(keys):
            yield from _leaves(f"{table} {key}", *(_record(db, table, key) for db in (start, expected, found)))


def _record(db: Database, table: str, key: str) -> Any:
    record = db.tables[table].get(key)
    return _ABSENT if record is None else record.model_dump(mode="json")


def _leaves(place: str, start: Any, expected: Any, found: Any) -> Iterator[Difference]:
    if expected == found:
        return
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name in dict.fromkeys((*expected, *found)):
            inner = start.get(name, _ABSENT) if isinstance(start, Mapping) else _ABSENT
            joint = "." if " " in place and not place.endswith(" ") and place.count(" ") > 1 else " "
            yield from _leaves(f"{place}{joint}{name}", inner, expected.get(name, _ABSENT), found.get(name, _ABSENT))
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for at, (one, other) in enumerate(zip(expected, found, strict=True)):
            inner = start[at] if isinstance(start, list) and at < len(start) else _ABSENT
            yield from _leaves(f"{place}[{at}]", inner, one, other)
    else:
        yield Difference(place=place, start=start, expected=expected, found=found)


def difference_in_words(difference: Difference) -> str:
    """ "orders #W12 status: cancelled expected, found pending"."""
    return f"{difference.place}: expected {_short(difference.expected)}, found {_short(difference.found)}"
