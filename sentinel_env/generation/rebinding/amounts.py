"""What has to be told, worked out again for other records: a field of theirs, what a calculation returns, a sum of prices, a count.

Which sum it is, one task alone may leave open: the price of what is returned is also that of the whole order where nothing else is in it.
So the readings of all tasks are counted, and the one that explains most of a tool's amounts is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from sentinel_env.database import Database
from sentinel_env.messages import ToolCall

from .relations import Assignment, Relations
from .shape import Ref, Shape, Unfit
from .values import said_in
from .world import Part, Path

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_EXPRESSION = re.compile(r"[\d\s.()]*\d\s*[-+*/][\d\s.()+*/-]*")
_CLOSE = 0.005
_MOST_WRITES = 4


@dataclass(frozen=True)
class Reading:
    """One way to come to what is told."""

    kind: str
    """`field`, `answer`, `count`, `constant`, or a sum: for each write its tool and what of it is summed."""
    ref: Ref | None = None
    steps: tuple[str | int, ...] = ()
    """For a field of an entry that has no role: the list and the place in it; for a count: the list, and a state."""
    sums: tuple[tuple[int, str], ...] = ()
    """(action, what of it): `part`, `whole`, `rest`, `difference`."""
    answer: int = -1

    def label(self, shape: Shape) -> str:
        """What readings of different tasks have in common."""
        if self.sums:
            return "+".join(sorted(f"{shape.actions[at].name}:{what}" for at, what in self.sums))
        if self.ref is None or self.ref.path is None:
            return self.kind
        writes = sorted(call.name for call in shape.actions if shape.writes(call))
        names = (step for step in (*shape.roles[self.ref.role].part.kind, *self.steps, *self.ref.path) if isinstance(step, str))
        return f"{'.'.join(names)} of {'+'.join(writes)}"


class Amounts:
    """The readings of everything that a task wants told."""

    def __init__(self, relations: Relations, fixed: str) -> None:
        """Work them out.

        Args:
            relations: Of the task.
            fixed: What the policy and the tools say, which holds for all records.
        """
        self._shape: Shape = relations.shape
        self._relations = relations
        self._source = Assignment([role.part for role in relations.roles])
        self._answers = _answers(self._shape, self._shape.domain.start(self._shape.task), self._shape.actions)
        self.readings = {text: list(self._read(text, fixed)) for text in self._shape.task.criteria.communicate}
        self._terms = dict(self._find_terms())
        """(action, argument) -> the numbers of an expression, and the text between them."""

    def labels(self) -> Iterator[str]:
        """The labels of all readings, for the count."""
        for readings in self.readings.values():
            yield from dict.fromkeys(reading.label(self._shape) for reading in readings)

    def choose(self, votes: Mapping[str, int]) -> None:
        """Keep of each thing to tell the readings that explain most."""
        for text, readings in self.readings.items():
            most = max((votes.get(reading.label(self._shape), 0) for reading in readings), default=0)
            self.readings[text] = [each for each in readings if votes.get(each.label(self._shape), 0) == most]

    def calculate(self, at: int, call: ToolCall, assignment: Assignment) -> ToolCall:
        """A call with the numbers of other records in its expression.

        Raises:
            Unfit: A number cannot be worked out.
        """
        for (action, name), terms in self._terms.items():
            if action == at:
                said = [term if isinstance(term, str) else self._term(term, assignment) for term in terms]
                call = call.model_copy(update={"arguments": {**call.arguments, name: "".join(said)}})
        return call

    def _term(self, term: tuple[str, list[Reading]], assignment: Assignment) -> str:
        text, readings = term
        values = dict.fromkeys(self._field(f"{text}.00", reading, assignment) for reading in readings)
        if len(values) != 1 or None in values:
            raise Unfit("a number in a calculation cannot be worked out")
        return str(float(str(next(iter(values))).replace(",", "")))

    def _find_terms(self) -> Iterator[tuple[tuple[int, str], list[str | tuple[str, list[Reading]]]]]:
        for at, call in enumerate(self._shape.actions):
            for name, value in call.arguments.items():
                if isinstance(value, str) and _EXPRESSION.fullmatch(value) and not self._shape.writes(call):
                    pieces = re.split(r"(\d+(?:\.\d+)?)", value)
                    yield (
                        (at, name),
                        [piece if place % 2 == 0 else (piece, list(self._numbers(float(piece)))) for place, piece in enumerate(pieces)],
                    )

    def _numbers(self, amount: float) -> Iterator[Reading]:
        return (each for each in self._fields("", amount))

    def copied(self, assignment: Assignment) -> dict[str, str]:
        """What has to be told about copies: the same, but for what is the new subject's own."""
        found = {}
        for text, readings in self.readings.items():
            values = dict.fromkeys(
                self._field(text, each, assignment) for each in readings if each.ref is not None and each.ref.path is not None
            )
            found[text] = next(iter(values)) or text if len(values) == 1 else text
        return found

    def tell(self, assignment: Assignment, db: Database, actions: Sequence[ToolCall | None]) -> dict[str, str]:
        """What has to be told about other records, by what is told about the old ones.

        Args:
            assignment: Who takes the roles.
            db: Where it starts; it is written to.
            actions: The new reference, by the old one's places; None for what is left out.

        Raises:
            Unfit: It cannot be worked out, or in more than one way.
        """
        if not self.readings:
            return {}
        answers = _answers(self._shape, db, actions)
        found: dict[str, str] = {}
        for text, readings in self.readings.items():
            values = dict.fromkeys(self._say(text, reading, assignment, answers) for reading in readings)
            if len(values) != 1:
                raise Unfit("what has to be told cannot be worked out" if not values else "what has to be told can be read in several ways")
            (value,) = values
            if value is None:
                raise Unfit("what has to be told cannot be worked out")
            found[text] = value
        return found

    # readings of the task as it is

    def _read(self, text: str, fixed: str) -> Iterator[Reading]:
        if said_in(text.lower(), fixed) and not _NUMBER.fullmatch(text):
            yield Reading("constant")
            return
        amount = _number(text)
        shape = self._shape
        yield from self._fields(text, amount)
        if amount is None:
            return
        yield from (Reading("answer", answer=at) for at, each in enumerate(self._answers) if each is not None and _same(each, amount))
        writes = [at for at, call in enumerate(shape.actions) if shape.writes(call)]
        sums = {at: self._sums(self._source, at) for at in writes}
        for at in writes:
            yield from (Reading("sum", sums=((at, what),)) for what, value in sums[at].items() if _same(value, amount))
        if 1 < len(writes) <= _MOST_WRITES:
            for whats in product(*(sums[at] for at in writes)):
                if _same(sum(_signed(what, sums[at][what]) for at, what in zip(writes, whats, strict=True)), amount):
                    yield Reading("sum", sums=tuple(zip(writes, whats, strict=True)))
        if amount == int(amount) and "." not in text:
            yield from self._counts(int(amount))

    def _fields(self, text: str, amount: float | None) -> Iterator[Reading]:
        """Fields of the roles, and of entries of the records among them."""
        for at, role in enumerate(self._relations.roles):
            for steps, part in _with_entries(role.part):
                for path, value in part.leaves.items():
                    if _is(value, text, amount):
                        yield Reading("field", Ref(at, path), steps)
                for path, values in part.lists.items():
                    yield from (Reading("field", Ref(at, path), (*steps, place)) for place, value in enumerate(values) if value == text)

    def _counts(self, amount: int) -> Iterator[Reading]:
        for at, role in enumerate(self._relations.roles):
            for name, parts in role.part.parts.items():
                for state in dict.fromkeys(path for part in parts for path, value in part.states.items() if value is True):
                    if sum(part.states.get(state) is True for part in parts) == amount:
                        yield Reading("count", Ref(at), (name, *state))

    def _sums(self, assignment: Assignment, action: int) -> dict[str, float]:
        """The sums of prices that one write is about: of what it names, of the whole record, of the rest, and the difference to pay."""
        group = self._shape.groups[f"action {action}"]
        entries = [assignment.part(at) for at in group.roles if self._relations.roles[at].part.key is None]
        names = _numbers(entries[0]) if entries else []
        found: dict[str, float] = {}
        if len(names) == 1:
            found["part"] = sum(_at(each, names[0]) for each in entries)
            beside = entries[0].owner.parts[entries[0].kind[-1]] if entries[0].owner is not None else entries
            found["whole"] = sum(_at(each, names[0]) for each in beside)
            found["rest"] = found["whole"] - found["part"]
            pairs = [(entry, new) for entry, _, new in self._relations.variants if entry in group.roles and new in group.roles]
            if pairs:
                found["difference"] = sum(
                    _at(assignment.part(new), names[0]) - _at(assignment.part(entry), names[0]) for entry, new in dict.fromkeys(pairs)
                )
        for at in group.roles if not entries else ():
            for name, parts in assignment.part(at).parts.items():
                numbers = _numbers(parts[0]) if parts else []
                if len(numbers) == 1 and self._relations.roles[at].is_record:
                    found[f"whole {name}"] = sum(_at(each, numbers[0]) for each in parts)
        return found

    # the same of other records

    def _say(self, text: str, reading: Reading, assignment: Assignment, answers: Sequence[float | None]) -> str | None:
        match reading.kind:
            case "constant":
                return text
            case "answer":
                value = answers[reading.answer]
                return None if value is None else _written(value, text)
            case "count" if reading.ref is not None:
                name, *state = reading.steps
                parts = assignment.part(reading.ref.role).parts.get(str(name), [])
                return str(sum(part.states.get(tuple(map(str, state))) is True for part in parts))
            case "field" if reading.ref is not None:
                return self._field(text, reading, assignment)
            case "sum":
                sums = [(what, self._sums(assignment, at).get(what)) for at, what in reading.sums]
                if any(value is None for _, value in sums):
                    return None
                if len(sums) == 1:
                    return _written(abs(sums[0][1] or 0), text)
                return _written(abs(sum(_signed(what, value or 0) for what, value in sums)), text)
        return None

    def _field(self, text: str, reading: Reading, assignment: Assignment) -> str | None:
        assert reading.ref is not None
        assert reading.ref.path is not None
        part = assignment.part(reading.ref.role)
        steps = list(reading.steps)
        while len(steps) >= 2:
            name, place = steps.pop(0), steps.pop(0)
            parts = part.parts.get(str(name), [])
            if not isinstance(place, int) or place >= len(parts):
                return None
            part = parts[place]
        if steps:
            values = part.lists.get(reading.ref.path, ())
            return str(values[int(steps[0])]) if int(steps[0]) < len(values) else None
        path = assignment.path(reading.ref) if not reading.steps else reading.ref.path
        value = part.leaves.get(path or ())
        if isinstance(value, float):
            return _written(value, text)
        return None if value is None else _as_written(str(value), text)


def _answers(shape: Shape, db: Database, actions: Sequence[ToolCall | None]) -> list[float | None]:
    """The number that each action returns, where it returns no more than one."""
    found: list[float | None] = []
    for call in actions:
        answer = shape.domain.execute(db, call) if call is not None else None
        found.append(_number(answer.content) if answer is not None and not answer.is_error and len(answer.content) < 40 else None)
    return found


def _with_entries(part: Part) -> Iterator[tuple[tuple[str | int, ...], Part]]:
    yield (), part
    if part.owner is None:
        for name, parts in part.parts.items():
            if all(each.key is None for each in parts):
                yield from (((name, at), each) for at, each in enumerate(parts))


def _number(text: str) -> float | None:
    plain = text.strip().lstrip("$€£")
    return float(plain.replace(",", "")) if _NUMBER.fullmatch(plain) and len(plain) < 20 else None


def _same(value: float, amount: float) -> bool:
    return abs(abs(value) - abs(amount)) < _CLOSE


def _is(value: object, text: str, amount: float | None) -> bool:
    if isinstance(value, str):
        return value.lower() == text.lower()
    return amount is not None and isinstance(value, float) and _same(value, amount)


def _numbers(part: Part) -> list[Path]:
    return [path for path, value in part.leaves.items() if isinstance(value, float)]


def _at(part: Part, path: Path) -> float:
    return float(part.leaves.get(path) or 0)


def _signed(what: str, value: float) -> float:
    return -value if what == "difference" else value


def _written(value: float, like: str) -> str:
    """An amount, written as another one is: with the cents, or without those that are zero; with a comma or not."""
    decimals = like.rpartition(".")[2] if "." in like else ""
    text = f"{abs(value):,.2f}" if "," in like else f"{abs(value):.2f}"
    if len(decimals) == 2:
        return text
    return text.rstrip("0").rstrip(".") if decimals or value == int(value) else text


def _as_written(value: str, like: str) -> str:
    return value.lower() if like.islower() else value
