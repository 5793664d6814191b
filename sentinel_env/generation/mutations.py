"""Mutants: wrong plans made from a reference alone, by any domain's tools and records.

Writes are dropped, made on other records, with other values or in another order; what nobody asked for is added; it is handed over or
kept quiet. Every mutant is executed: one that leads where the reference leads is *equivalent* and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from random import Random
from typing import Any

from sentinel_env.certificates import Foil
from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall
from sentinel_env.neighbours import neighbours
from sentinel_env.operations import Request
from sentinel_env.records import Record
from sentinel_env.tasks import Task
from sentinel_env.tools import Tool
from sentinel_env.verification.case import accepts, is_write, run_reference

_KEYS_TRIED = 40
"""How many other keys of a table are tried in the place of one."""
_PER_ARGUMENT = 2
"""How many other values are taken for each argument."""
_STEPS, _NEAR = 3, 60
"""How far, and how many records round a call are looked at for neighbouring values."""


def mutants(
    domain: Domain,
    task: Task,
    random: Random,
    *,
    want: int,
    beside: Iterable[Foil] = (),
    requests: Sequence[Request] = (),
    unasked: Iterable[ToolCall] = (),
) -> list[Foil]:
    """Foils that lead elsewhere than the reference, each to a state of its own plan.

    Args:
        domain: The world.
        task: The task; its reference must execute.
        random: Which of many equal choices.
        want: How many; fewer come back where the plan and the database hold no more.
        beside: Foils that are there already: no mutant makes the same plan.
        requests: What the plan was composed of: the mistakes that a domain names itself are taken first.
        unasked: Writes that work after the reference and that nobody asked for; taken as they are needed.
    """
    if want <= 0:
        return []
    actions = task.criteria.actions
    world = _World(domain, task)
    found: list[Foil] = []
    if task.criteria.communicate and not any(foil.silent for foil in beside):
        found.append(Foil(label="missing_communicate", silent=True, mutant=True))
    seen = [_made(domain, foil, actions) for foil in beside if not foil.silent]
    for foil in chain(
        _named(actions, requests),
        _dropped(domain, actions),
        _handed_over(domain, actions),
        _moved(domain, actions),
        _added(actions, unasked),
        world.changed(random),
        _added(actions, world.unasked(random)),
    ):
        if len(found) >= want:
            break
        made = _made(domain, foil, actions)
        if made not in seen and world.leads_elsewhere(foil):
            seen.append(made)
            found.append(foil)
    return found


def _made(domain: Domain, foil: Foil, actions: Sequence[ToolCall]) -> list[str]:
    """What a foil writes, and where it hands over; in which order only where that is the mistake."""
    made = [f"{call.name} {call.arguments}" for call in foil.plan(actions) if is_write(domain, call) or domain.is_transfer(call.name)]
    return made if foil.label == "order_dependency" else sorted(made)


class _World:
    """A task's start, and where its reference leads."""

    def __init__(self, domain: Domain, task: Task) -> None:
        self._domain = domain
        self._actions = task.criteria.actions
        self._graded_by_transfer = "transfer" in task.criteria.basis
        self._reference = run_reference(domain, task)

    def leads_elsewhere(self, foil: Foil) -> bool:
        """Whether a foil's plan, its refused calls left out, ends otherwise than the reference."""
        plan, domain = foil.plan(self._actions), self._domain
        if self._graded_by_transfer and self._hands_over(plan) != self._hands_over(self._actions):
            return True
        return not self._reference.leads_here(domain, foil.at, [call for call in plan[foil.at :] if is_write(domain, call)])

    def _hands_over(self, plan: Sequence[ToolCall]) -> bool:
        return any(self._domain.is_transfer(call.name) for call in plan)

    def changed(self, random: Random) -> Iterator[Foil]:
        """Each write with one argument changed, so that a tool still accepts it."""
        for at, call in enumerate(self._actions):
            if not is_write(self._domain, call):
                continue
            db = self._reference.before[at]
            for name in call.arguments:
                tool, accepted = self._domain.tools_by_name[call.name], 0
                for label, value in _other_values(tool, db, name, call.arguments[name], call, random):
                    wrong = call.model_copy(update={"arguments": {**call.arguments, name: value}})
                    if accepts(self._domain, db.fork(), wrong):
                        yield Foil(label=label, at=at, drop=1, calls=(wrong,), mutant=True)
                        if label == "wrong_target_record":
                            yield Foil(label="extra_write", at=at + 1, calls=(wrong,), mutant=True)
                        accepted += 1
                        if accepted == _PER_ARGUMENT:
                            break
            for wrong in self._with_other_tools(call):
                if accepts(self._domain, db.fork(), wrong):
                    yield Foil(label="wrong_tool", at=at, drop=1, calls=(wrong,), mutant=True)

    def _with_other_tools(self, call: ToolCall) -> Iterator[ToolCall]:
        """Other writes that can be called with the same arguments, or with some of them."""
        for tool in self._domain.tools:
            names = tool.schema["function"]["parameters"].get("required", ())
            if tool.writes and tool.name != call.name and names and set(names) <= call.arguments.keys():
                yield ToolCall(name=tool.name, arguments={name: call.arguments[name] for name in names})

    def unasked(self, random: Random) -> Iterator[ToolCall]:
        """Writes on the state that the reference leaves, their arguments filled from records near by, with one slip of the pen."""
        db = self._reference.before[-1]
        near = {id(record): record for call in self._actions for record in neighbours(db, call, steps=_STEPS, most=_NEAR)}
        values = _by_name(near.values())
        for tool in self._domain.tools:
            names = tool.schema["function"]["parameters"].get("required", ())
            if not tool.writes or not names or not all(values.get(name) for name in names):
                continue
            arguments = {name: random.choice(values[name]) for name in names}
            text = next((name for name in reversed(names) if isinstance(arguments[name], str) and arguments[name]), None)
            for changed in ({}, {text: _misspelt(arguments[text])} if text else {}):
                wrong = ToolCall(name=tool.name, arguments={**arguments, **changed})
                if accepts(self._domain, db.fork(), wrong):
                    yield wrong


def _named(actions: Sequence[ToolCall], requests: Sequence[Request]) -> Iterator[Foil]:
    """The mistakes that the domain names for each request, the first of every kind before the second of any."""
    for turn in range(2):
        for request in requests:
            call = request.wish.call
            if call is None:
                for detour in (*request.detours, *request.decoys)[turn : turn + 1]:
                    yield Foil(label="extra_write", at=len(actions), calls=(detour,), mutant=True)
                continue
            at = next(at for at, each in enumerate(actions) if each == call)
            for name, values in request.alternatives.items():
                for value in list(values)[turn : turn + 1]:
                    wrong = call.model_copy(update={"arguments": {**call.arguments, name: value}})
                    yield Foil(label="wrong_argument", at=at, drop=1, calls=(wrong,), mutant=True)
            for label, calls in (("wrong_target_record", request.decoys), ("wrong_tool", request.detours)):
                for wrong in calls[turn : turn + 1]:
                    yield Foil(label=label, at=at, drop=1, calls=(wrong,), mutant=True)
            for extra in (*request.decoys[turn : turn + 1], *request.detours[turn : turn + 1]):
                yield Foil(label="extra_write", at=at + 1, calls=(extra,), mutant=True)


def _dropped(domain: Domain, actions: Sequence[ToolCall]) -> Iterator[Foil]:
    for at, call in enumerate(actions):
        if is_write(domain, call):
            yield Foil(label="missing_write", at=at, drop=1, mutant=True)


def _added(actions: Sequence[ToolCall], calls: Iterable[ToolCall]) -> Iterator[Foil]:
    """What nobody asked for, at the end."""
    return (Foil(label="extra_write", at=len(actions), calls=(call,), mutant=True) for call in calls)


def _moved(domain: Domain, actions: Sequence[ToolCall]) -> Iterator[Foil]:
    """Neighbouring writes in the other order."""
    places = [at for at, call in enumerate(actions) if is_write(domain, call)]
    for one, other in pairwise(places):
        swapped = list(actions)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        foil = Foil.between("order_dependency", actions, swapped)
        yield foil.model_copy(update={"mutant": True})


def _handed_over(domain: Domain, actions: Sequence[ToolCall]) -> Iterator[Foil]:
    """A person is asked to do the rest; or not, where one should be."""
    for at, call in enumerate(actions):
        if domain.is_transfer(call.name):
            yield Foil(label="missing_transfer", at=at, drop=1, mutant=True)
            return
    first = next((at for at, call in enumerate(actions) if is_write(domain, call)), None)
    if first is not None and (handover := domain.handover) is not None:
        yield Foil(label="unneeded_transfer", at=first, drop=len(actions) - first, calls=(handover,), mutant=True)


# other values for an argument


def _other_values(tool: Tool, db: Database, name: str, value: Any, call: ToolCall, random: Random) -> Iterator[tuple[str, Any]]:
    """(label, wrong value), the most tempting first: other choices, other records, neighbours in a record, a slip of the pen."""
    schema = tool.schema["function"]["parameters"]["properties"].get(name, {})
    for choice in schema.get("enum", ()):
        if choice != value:
            yield "wrong_argument", choice
    if isinstance(value, str):
        table = next((table for table in db.tables.values() if value in table), None)
        if table is not None:
            keys = list(table)
            for key in random.sample(keys, min(len(keys), _KEYS_TRIED)):
                if key != value:
                    yield "wrong_target_record", key
            return
        yield from (("wrong_argument", other) for other in _siblings(db, call, value))
        if "enum" not in schema:
            yield "wrong_argument", _misspelt(value)
    elif isinstance(value, list) and value:
        if len(value) > 1:
            yield "wrong_argument", value[:-1]
        for at, each in enumerate(value):
            if isinstance(each, str):
                for other in _siblings(db, call, each):
                    if other not in value:
                        yield "wrong_argument", [*value[:at], other, *value[at + 1 :]]
                        yield "wrong_argument", [*value, other]
    elif isinstance(value, bool):
        yield "wrong_argument", not value
    elif isinstance(value, int | float):
        yield "wrong_argument", value + 1


def _misspelt(text: str) -> str:
    """The text with another first digit, or without its last letter."""
    for at, letter in enumerate(text):
        if letter.isdecimal():
            return text[:at] + str((int(letter) + 1) % 10) + text[at + 1 :]
    return text[:-1]


def _siblings(db: Database, call: ToolCall, value: str) -> Iterator[str]:
    """Values that records near a call keep beside this one: other keys of the same mapping, the same field of other entries."""
    found: dict[str, None] = {}
    for record in neighbours(db, call, steps=_STEPS, most=_NEAR):
        for held in record.__dict__.values():
            if isinstance(held, Mapping) and value in held:
                found.update(dict.fromkeys(held))
            elif isinstance(held, list | tuple):
                if value in held:
                    found.update(dict.fromkeys(each for each in held if isinstance(each, str)))
                entries = [entry for entry in held if isinstance(entry, Record)]
                for name in {name: None for entry in entries for name, each in entry.__dict__.items() if each == value}:
                    found.update(dict.fromkeys(each for entry in entries if isinstance(each := getattr(entry, name, None), str)))
    yield from (each for each in found if each != value)


def _by_name(records: Iterable[Record]) -> dict[str, list[str]]:
    """The texts that records hold, by the name of their field."""
    found: dict[str, dict[str, None]] = {}
    stack = list(records)
    while stack:
        record = stack.pop()
        for name, value in record.__dict__.items():
            if isinstance(value, str):
                found.setdefault(name, {})[value] = None
            elif isinstance(value, Record):
                stack.append(value)
    return {name: list(values) for name, values in found.items()}
