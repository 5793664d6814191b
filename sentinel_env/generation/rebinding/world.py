"""A database taken apart, so that tasks can be read against it: records, the parts of them that have an identity, and what refers to what.

Nothing is declared for it. A *part* is a record, or an entry of a list or mapping of records inside one: a line of an order, a variant of
a product. A field *refers* when its values are keys of other parts. A *state* is a field of a few named values, as its type says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, lru_cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from sentinel_env.database import Database
from sentinel_env.knowledge import Same
from sentinel_env.records import Record

Kind = tuple[str, ...]
"""What parts of one sort are called: the table, then the fields down to them: ("orders", "items")."""
Path = tuple[str, ...]
"""The fields down to a value within a part: ("address", "zip")."""
Scalar = str | int | float | bool | None

_REFERS = 0.95
"""The share of a field's values that must be keys for the field to refer."""


@dataclass(eq=False, slots=True)
class Part:
    """A record, or a part of one; two are the same part when they are the same object."""

    kind: Kind
    key: str | None
    """Its key in the table or mapping; None for an entry of a list."""
    owner: Part | None = None
    """What it is a part of; None for a record."""
    leaves: dict[Path, Scalar] = field(default_factory=dict)
    lists: dict[Path, tuple[Scalar, ...]] = field(default_factory=dict)
    """Lists of plain values."""
    parts: dict[str, list[Part]] = field(default_factory=dict)
    """Its own parts, by field."""
    states: dict[Path, Scalar] = field(default_factory=dict)
    """Those of the leaves that are states."""
    open: tuple[str, ...] = ()
    """Fields that are mappings of plain values, whose keys differ from part to part, such as the options of a variant."""
    referred: dict[int, frozenset[Scalar]] = field(default_factory=dict)
    """What it, or its parts, refer to, by the identity of the reference; filled as it is asked for."""

    @property
    def root(self) -> Part:
        """The record that it is a part of."""
        part = self
        while part.owner is not None:
            part = part.owner
        return part

    @property
    def name(self) -> tuple[str, str]:
        """The table and key of its record."""
        root = self.root
        return root.kind[0], root.key or ""

    def below(self) -> Iterator[Part]:
        """Itself and every part of it, in order."""
        yield self
        for parts in self.parts.values():
            for part in parts:
                yield from part.below()


@cache
def _state_fields(record_type: type[Record]) -> frozenset[str]:
    return frozenset(name for name, field in record_type.model_fields.items() if _is_state(field.annotation))


def _is_state(annotation: Any) -> bool:
    if get_origin(annotation) is Literal or annotation is bool or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return True
    options = [each for each in get_args(annotation) if each is not NoneType]
    return len(options) == 1 < len(get_args(annotation)) and _is_state(options[0])


def take_apart(table: str, key: str, record: Record) -> Part:
    """A record as parts."""
    part = Part((table,), key)
    _fill(part, (), record)
    return part


def _fill(part: Part, prefix: Path, record: Record) -> None:
    states = _state_fields(type(record))
    for name in type(record).model_fields:
        _put(part, (*prefix, name), getattr(record, name), is_state=name in states)


def _put(part: Part, path: Path, value: Any, *, is_state: bool = False) -> None:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Record):
        _fill(part, path, value)
    elif isinstance(value, Mapping):
        if value and all(isinstance(each, Record) for each in value.values()):
            _collect(part, path, value.items())
        elif all(isinstance(each, str | int | float | bool | NoneType) for each in value.values()):
            if len(path) == 1:
                part.open = (*part.open, path[0])
            for key, each in value.items():
                part.leaves[(*path, key)] = each
    elif isinstance(value, list | tuple):
        if value and all(isinstance(each, Record) for each in value):
            _collect(part, path, ((None, each) for each in value))
        elif all(isinstance(each, str | int | float | bool) for each in value):
            part.lists[path] = tuple(value)
    elif isinstance(value, str | int | float | bool | NoneType):
        part.leaves[path] = value
        if is_state:
            part.states[path] = value


def _collect(part: Part, path: Path, records: Iterable[tuple[str | None, Record]]) -> None:
    found = part.parts[".".join(path)] = []
    for key, record in records:
        below = Part((*part.kind, ".".join(path)), key, part)
        _fill(below, (), record)
        found.append(below)


@dataclass(frozen=True)
class Reference:
    """A field whose values are keys of other parts."""

    kind: Kind
    """Of the parts that have the field."""
    path: Path
    target: Kind
    many: bool
    """Whether the field is a list."""

    def values(self, part: Part) -> tuple[Scalar, ...]:
        """What the field of one part refers to."""
        if self.many:
            return part.lists.get(self.path, ())
        value = part.leaves.get(self.path)
        return () if value is None else (value,)


class World:
    """All records of a database as parts, with an index of their keys and of what refers to what."""

    def __init__(self, base: Database) -> None:
        self.tables: dict[str, dict[str, Part]] = {
            name: {key: take_apart(name, key, record) for key, record in table.items()} for name, table in base.tables.items()
        }
        self.keyed: dict[str, list[Part]] = defaultdict(list)
        """Key -> the parts that have it, records first."""
        self.by_kind: dict[Kind, list[Part]] = defaultdict(list)
        for table in self.tables.values():
            for root in table.values():
                for part in root.below():
                    self.by_kind[part.kind].append(part)
        for part in sorted((part for parts in self.by_kind.values() for part in parts if part.key is not None), key=_depth):
            self.keyed[part.key or ""].append(part)
        self.references = tuple(self._find_references())
        self._back: dict[Reference, dict[Scalar, list[Part]]] = {}

    def over(self, db: Database, changed: Mapping[str, Mapping[str, Any]]) -> World:
        """The same with the records that a fork has changed; references and counts stay those of the base."""
        other = object.__new__(World)
        other.__dict__.update(self.__dict__)
        other.tables = {name: dict(table) if name in changed else table for name, table in self.tables.items()}
        other.keyed = self.keyed.copy()
        other._back = {}
        for name, rows in changed.items():
            for key in rows:
                old = other.tables[name].pop(key, None)
                for part in old.below() if old is not None else ():
                    if part.key is not None:
                        other.keyed[part.key] = [each for each in other.keyed[part.key] if each is not part]
                if key in db.tables[name]:
                    new = other.tables[name][key] = take_apart(name, key, db.tables[name][key])
                    for part in new.below():
                        if part.key is not None:
                            other.keyed[part.key] = [*other.keyed.get(part.key, ()), part]
        return other

    def _find_references(self) -> Iterator[Reference]:
        for kind, parts in self.by_kind.items():
            values: dict[tuple[Path, bool], dict[str, None]] = {}
            echoes: set[Path] = set()
            for part in parts:
                own = {part.key, part.root.key} - {None}
                for path, value in part.leaves.items():
                    if isinstance(value, str) and value:
                        if value in own:
                            echoes.add(path)
                        values.setdefault((path, False), {})[value] = None
                for path, items in part.lists.items():
                    values.setdefault((path, True), {}).update({each: None for each in items if isinstance(each, str)})
            for (path, many), found in values.items():
                if path in echoes or not found:
                    continue
                targets: dict[Kind, int] = defaultdict(int)
                for value in found:
                    for target in {part.kind: None for part in self.keyed.get(value, ())}:
                        targets[target] += 1
                for target, count in targets.items():
                    if count >= _REFERS * len(found):
                        yield Reference(kind, path, target, many)

    def referring(self, reference: Reference, value: Scalar) -> list[Part]:
        """The parts whose field refers to a key, in table order."""
        index = self._back.get(reference)
        if index is None:
            index = self._back[reference] = defaultdict(list)
            for root in self.tables[reference.kind[0]].values():
                for part in root.below():
                    if part.kind == reference.kind:
                        for each in reference.values(part):
                            index[each].append(part)
        return index.get(value, [])

    def has(self, kind: Kind, path: Path, value: Hashable) -> int:
        """How many parts of the base have this value there."""
        return sum(part.leaves.get(path) == value for part in self.by_kind[kind])


def _depth(part: Part) -> int:
    return len(part.kind)


@lru_cache(maxsize=4)
def world_of(base: Same[Database]) -> World:
    """The world of a database that nobody changes; taken apart once."""
    return World(base.value)
