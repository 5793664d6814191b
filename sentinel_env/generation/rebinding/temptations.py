"""Wrong calls that a carried-over write tempts to, found by its roles: on a sibling record, on a stranger's, paid otherwise.

Nothing is executed here: which of them a tool accepts, `foils` finds out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

from sentinel_env.messages import ToolCall

from .relations import Assignment, Relations, options
from .shape import Group
from .world import Part

_TRIED = 12


class Temptations:
    """The wrong calls that the writes of one draft tempt to."""

    def __init__(self, relations: Relations, actions: Sequence[ToolCall], places: Sequence[int | None], assignment: Assignment) -> None:
        """Look at a draft.

        Args:
            relations: Of the task that was carried over.
            actions: The draft's reference.
            places: For each of them the place of the old one in the shape's actions; None for a read that was added.
            assignment: Who takes the roles.
        """
        self._shape, self._variants = relations.shape, relations.variants
        self._actions, self._places, self._assignment = actions, places, assignment
        self.domain = relations.shape.domain

    def _group(self, at: int) -> Group:
        return self._shape.groups[f"action {self._places[at]}"]

    def _part(self, at: int, value: str) -> Part | None:
        """The part that an argument names by its key."""
        group = self._group(at)
        for refs in group.refs.values():
            for ref in refs:
                part = self._assignment.parts[ref.role]
                if ref.path is None and part is not None and part.key == value:
                    return part
        return None

    def other_arguments(self, at: int, names: Sequence[str]) -> Iterator[ToolCall]:
        """The call with a sibling in the place of what an argument names: another variant, another payment method, another choice."""
        call = self._actions[at]
        schema = self.domain.tools_by_name[call.name].schema["function"]["parameters"]["properties"]
        for name in names or call.arguments:
            value = call.arguments.get(name)
            for other in islice(self._other_values(at, value, schema.get(name, {})), _TRIED):
                yield call.model_copy(update={"arguments": {**call.arguments, name: other}})

    def _other_values(self, at: int, value: Any, schema: Any) -> Iterator[Any]:
        yield from (choice for choice in schema.get("enum", ()) if choice != value and isinstance(value, str))
        if isinstance(value, str):
            yield from self._neighbours(at, value)
        elif isinstance(value, list):
            for place, each in enumerate(value):
                for other in self._neighbours(at, each) if isinstance(each, str) else ():
                    if other not in value:
                        yield [*value[:place], other, *value[place + 1 :]]
            if len(value) > 1:
                yield value[:-1]

    def _neighbours(self, at: int, key: str) -> Iterator[str]:
        """What stands beside a key: what other entries of the record refer to, other parts of what it is a part of."""
        for role in self._group(at).roles:
            entry = self._assignment.parts[role]
            if entry is not None and entry.owner is not None and entry.key is None:
                for reference in self._shape.world.references:
                    if reference.kind == entry.kind and not reference.many and entry.leaves.get(reference.path) == key:
                        yield from (str(each.leaves.get(reference.path)) for each in _siblings(entry))
        part = self._part(at, key)
        if part is not None and part.owner is not None:
            yield from (str(each.key) for each in _siblings(part))

    def on_siblings(self, at: int) -> Iterator[ToolCall]:
        """The same write on another record of the subject, with what that holds in the place of what the right one holds."""
        call, subjects = self._actions[at], self._shape.subjects
        for record in self._records(at):
            belongings = subjects.belongings[subjects.of(record) or ""]
            for other in [each for each in belongings if each.kind == record.kind and each.key != record.key][:_TRIED]:
                arguments = self._moved(call.arguments, at, record, other)
                if arguments is not None:
                    yield call.model_copy(update={"arguments": arguments})
                    for own, sibling in self._own_parts(at):
                        yield call.model_copy(update={"arguments": _exchanged(arguments, {own: sibling})})

    def on_strangers(self, at: int) -> Iterator[ToolCall]:
        """The same write on a record in the same state of somebody else, paid from that account."""
        call, subjects = self._actions[at], self._shape.subjects
        for record in self._records(at):
            strangers = [subject for subject in subjects.belongings if subject != subjects.of(record)]
            for subject in Random(f"{call.name}/{record.key}").sample(strangers, min(len(strangers), _TRIED)):
                theirs = subjects.belongings[subject]
                other = next((each for each in theirs if each.kind == record.kind and each.states == record.states), None)
                arguments = self._moved(call.arguments, at, record, other) if other is not None else None
                if arguments is not None:
                    paid = {own: part.key or "" for own, part in self._alike(at, subjects.face(subject))}
                    yield call.model_copy(update={"arguments": _exchanged(arguments, paid)})

    def _alike(self, at: int, face: Part) -> Iterator[tuple[str, Part]]:
        """(key of a part of the subject's own record that a write names, a part in the same state of another's)."""
        for role in self._group(at).roles:
            part = self._assignment.parts[role]
            if part is not None and part.owner is not None and part.key is not None and self._shape.subjects.of(part.root) is not None:
                there = next((each for each in face.below() if each.kind == part.kind and each.states == part.states), None)
                if there is not None:
                    yield part.key, there

    def _records(self, at: int) -> Iterator[Part]:
        """The private records that a write names."""
        for refs in self._group(at).refs.values():
            for ref in refs:
                record = self._assignment.parts[ref.role]
                if ref.path is None and record is not None and record.owner is None and self._shape.subjects.of(record) is not None:
                    yield record

    def _own_parts(self, at: int) -> Iterator[tuple[str, str]]:
        """(key, another) of parts of the subject's own record that a write names, such as a payment method."""
        for role in self._group(at).roles:
            part = self._assignment.parts[role]
            if part is not None and part.owner is not None and part.key is not None and self._shape.subjects.of(part.root) is not None:
                yield from ((part.key, str(each.key)) for each in _siblings(part))

    def _moved(self, arguments: Any, at: int, record: Part, other: Part) -> Any:
        """Arguments about another record; None where that has too few entries."""
        world, roles = self._shape.world, self._group(at).roles
        keys: dict[str, str] = {str(record.key): str(other.key)}
        for role in roles:
            entry = self._assignment.parts[role]
            if entry is None or entry.owner is not record or entry.key is not None:
                continue
            for reference in world.references:
                was = str(entry.leaves.get(reference.path))
                if reference.kind == entry.kind and not reference.many and was not in keys:
                    there = (str(each.leaves.get(reference.path)) for each in other.parts.get(entry.kind[-1], ()))
                    free = next((key for key in there if key not in keys.values()), None)
                    if free is None:
                        return None
                    keys[was] = free
        for _, old, new in (each for each in self._variants if each[0] in roles and each[2] in roles):
            replaced, wanted = self._assignment.part(old), self._assignment.part(new)
            now = [each for each in world.keyed.get(keys.get(str(replaced.key), ""), ()) if each.kind == replaced.kind]
            if now:
                keys[str(wanted.key)] = str(next(iter(_siblings(now[0])), now[0]).key)
        return _exchanged(arguments, keys)

    def with_other_tools(self, at: int) -> Iterator[ToolCall]:
        """Other writes that take what this one, or an earlier call, is given."""
        call = self._actions[at]
        known: dict[str, Any] = {}
        for each in (*self._actions[:at], call):
            known.update(each.arguments)
        for tool in self.domain.tools:
            if not tool.writes or tool.name == call.name:
                continue
            parameters = tool.schema["function"]["parameters"]
            arguments = {}
            for name in parameters["required"]:
                choices = parameters["properties"].get(name, {}).get("enum")
                if name in known:
                    arguments[name] = known[name]
                elif choices:
                    arguments[name] = choices[0]
            shares = any(arguments.get(name) == value for name, value in call.arguments.items())
            if shares and len(arguments) == len(parameters["required"]):
                yield ToolCall(name=tool.name, arguments=arguments)


def _siblings(part: Part) -> list[Part]:
    """The parts beside one, in the same state and with the most options in common first."""
    assert part.owner is not None
    own = options(part)
    others = [each for each in part.owner.parts[part.kind[-1]] if each is not part]

    def far(other: Part) -> tuple[bool, int]:
        return other.states != part.states, sum(value != own.get(name) for name, value in options(other).items())

    return sorted(others, key=far)


def _exchanged(value: Any, keys: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _exchanged(each, keys) for name, each in value.items()}
    if isinstance(value, list):
        return [_exchanged(each, keys) for each in value]
    return keys.get(value, value) if isinstance(value, str) else value
