"""Table: records by key, a base that all forks share with an overlay above it.

The overlay holds a new record, or None where a record was removed. It is copied before a fork's first write, so forking is O(1);
grading, diffs and digests look at overlays only, so they never cost O(database).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from .errors import DatabaseError
from .records import Record, first_error, plain

R = TypeVar("R", bound=Record)
Json = Any

_MODULUS = 1 << 256
_ABSENT: Any = object()


class Base(Generic[R]):
    """What every fork of a table shares: the records, and what was once computed from them."""

    __slots__ = ("_digest", "_found", "indexes", "record_type", "records")

    def __init__(self, record_type: type[R], records: dict[str, R], indexes: Mapping[str, Callable[[R], Any]]) -> None:
        self.record_type = record_type
        self.records = records
        self.indexes = indexes
        self._found: dict[str, dict[Hashable, list[str]]] = {}
        self._digest: int | None = None

    def keys_at(self, index: str, value: Hashable) -> list[str]:
        """The base's keys under a value of an index, which is built at its first use."""
        found = self._found.get(index)
        if found is None:
            found = self._found[index] = {}
            of = self.indexes[index]
            for key, record in self.records.items():
                for each in set(_values(of(record))):
                    found.setdefault(each, []).append(key)
        return found.get(value, [])

    def digest(self, table: str) -> int:
        """The sum of the base records' hashes, computed at its first use."""
        if self._digest is None:
            self._digest = sum(_hash(table, key, record) for key, record in self.records.items()) % _MODULUS
        return self._digest


def _values(value: Any) -> list[Hashable]:
    return value if isinstance(value, list) else [value]


def _hash(table: str, key: str, record: Record) -> int:
    place = json.dumps([table, key]).encode()
    return int.from_bytes(hashlib.sha256(place + record.json_hash).digest())


class Table(Mapping[str, R]):
    """Records by key. Reading is a dictionary look-up; writing puts one new record into this fork's overlay.

    Declared as an annotation of a `Database`: `loans: Table[Loan]`, with indexes: `loans: Table[Loan] = indexed("member_id")`.
    Iteration follows the base's order, then the order of additions.
    """

    __slots__ = ("_base", "_name", "_origin", "_overlay", "_owned", "_reading")

    def __init__(self, name: str, base: Base[R], overlay: dict[str, R | None], reading: list[str]) -> None:
        self._name = name
        self._base = base
        self._overlay = self._origin = overlay  # the origin is what the fork began with; the overlay is copied before the first write
        self._owned = False
        self._reading = reading

    # reading

    def get(self, key: str, default: Any = None) -> Any:
        """The record at a key, or the default."""
        found = self._overlay.get(key, _ABSENT)
        if found is _ABSENT:
            return self._base.records.get(key, default)
        return default if found is None else found

    def __getitem__(self, key: str) -> R:
        found = self.get(key, _ABSENT)
        if found is _ABSENT:
            raise KeyError(key)
        return found  # type: ignore[no-any-return]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key, _ABSENT) is not _ABSENT

    def __iter__(self) -> Iterator[str]:
        overlay, records = self._overlay, self._base.records
        if not overlay:
            yield from records
            return
        for key in records:
            if overlay.get(key, _ABSENT) is not None:
                yield key
        for key, record in overlay.items():
            if record is not None and key not in records:
                yield key

    def __len__(self) -> int:
        records = self._base.records
        return len(records) + sum((record is not None) - (key in records) for key, record in self._overlay.items())

    def find(self, index: str, value: Hashable) -> tuple[str, ...]:
        """The keys filed under a value of a declared index, in table order.

        Raises:
            DatabaseError: No such index is declared.
        """
        if index not in self._base.indexes:
            known = ", ".join(sorted(self._base.indexes)) or "none"
            raise DatabaseError(f"{self._name} has no index {index!r}; declared: {known}")
        overlay = self._overlay
        found = [key for key in self._base.keys_at(index, value) if key not in overlay]
        if overlay:
            of = self._base.indexes[index]
            changed = {key for key, record in overlay.items() if record is not None and value in _values(of(record))}
            found.extend(changed)
            if changed and len(found) > 1:
                position = {key: at for at, key in enumerate(self)}
                found.sort(key=position.__getitem__)
        return tuple(found)

    def where(self, **fields: Any) -> dict[str, R]:
        """The records whose fields equal the given values, by key. A declared index on one of the fields is used.

        Raises:
            DatabaseError: A field does not exist.
        """
        for name in fields:
            if name not in self._base.record_type.model_fields:
                raise DatabaseError(f"{self._name} has no field {name!r}; {_fields(self._base.record_type)}")
        indexed_field = next((name for name, value in fields.items() if self._is_filed(name, value)), None)
        keys = self if indexed_field is None else self.find(indexed_field, fields[indexed_field])
        pairs = ((key, self[key]) for key in keys)
        return {key: record for key, record in pairs if all(getattr(record, name) == value for name, value in fields.items())}

    def _is_filed(self, field: str, value: Any) -> bool:
        """Whether an index files records under this field's own value; a computed index of the same name does not."""
        return isinstance(self._base.indexes.get(field), attrgetter) and isinstance(value, Hashable) and not isinstance(value, list)

    # writing

    def update(self, key: str, **changes: Any) -> R:
        """Replace some fields of one record and return the new record.

        Raises:
            DatabaseError: No such record or field, or a value that does not fit; nothing has changed then.
        """
        record = self.get(key)
        if record is None:
            raise DatabaseError(f"{self._name} has no record {key!r}; use add() for a new one")
        try:
            new: R = record.replace(**changes)
        except ValidationError as error:
            raise DatabaseError(f"{self._name}[{key!r}].{first_error(error)}; {_fields(type(record))}") from None
        self._write(key, new)
        return new

    def add(self, key: str, record: R) -> R:
        """Put a new record under a new key and return it.

        Raises:
            DatabaseError: The key is taken or not a string, or the record is of another type.
        """
        if not isinstance(key, str):
            raise DatabaseError(f"{self._name}: a key is a string, found {key!r:.80}")
        if key in self:
            raise DatabaseError(f"{self._name} already has {key!r}; use update() to change it")
        if not isinstance(record, self._base.record_type):
            raise DatabaseError(f"{self._name} holds {self._base.record_type.__name__}, found {type(record).__name__}")
        self._write(key, record)
        return record

    def remove(self, key: str) -> None:
        """Take one record out.

        Raises:
            DatabaseError: No such record.
        """
        if key not in self:
            raise DatabaseError(f"{self._name} has no record {key!r} to remove")
        self._write(key, None)

    def _write(self, key: str, record: R | None) -> None:
        if self._reading:
            raise DatabaseError(
                f"{self._reading[-1]} is declared as a read but changes {self._name}[{key!r}]; declare it with @tool(writes=True)"
            )
        if not self._owned:
            self._overlay = self._overlay.copy()
            self._owned = True
        self._overlay[key] = record

    # comparing

    def _replaced(self) -> list[tuple[str, R | None, R | None]]:
        """(key, before, after) wherever another record stands than at the fork's origin, in key order; its fields may be equal."""
        overlay, origin, records = self._overlay, self._origin, self._base.records
        rows = []
        for key in sorted(overlay):
            before, after = origin[key] if key in origin else records.get(key), overlay[key]
            if before is not after:
                rows.append((key, before, after))
        return rows

    def changes(self) -> dict[str, Json]:
        """What this fork changed, by key: changed fields, a whole new record, or None for a removed one."""
        found: dict[str, Json] = {}
        for key, before, after in self._replaced():
            if before is None or after is None:
                found[key] = None if after is None else plain(after)
            elif fields := _differing(before, after):
                found[key] = plain(after, fields)
        return found

    def _digest(self) -> int:
        total = self._base.digest(self._name)
        records = self._base.records
        for key, record in self._overlay.items():
            base = records.get(key)
            if record is not base:
                total += (_hash(self._name, key, record) if record is not None else 0) - (
                    _hash(self._name, key, base) if base is not None else 0
                )
        return total % _MODULUS

    def _fork(self, reading: list[str]) -> Table[R]:
        self._owned = False
        return Table(self._name, self._base, self._overlay, reading)

    def __repr__(self) -> str:
        return f"<Table {self._name}: {len(self)} {self._base.record_type.__name__}>"


def _fields(record_type: type[Record]) -> str:
    return f"{record_type.__name__} has {', '.join(record_type.model_fields)}"


def _differing(before: Record, after: Record) -> set[str]:
    """The fields whose values differ; most are the very same object, and what a record keeps besides its fields does not count."""
    old, new = before.__dict__, after.__dict__
    names = type(after).__pydantic_fields__
    return {name for name in names if name not in old or (old[name] is not new[name] and old[name] != new[name])}


class Indexes:
    """What `indexed()` declares: functions of a record by name."""

    def __init__(self, fields: tuple[str, ...], computed: Mapping[str, Callable[[Any], Any]]) -> None:
        self.by_name: dict[str, Callable[[Any], Any]] = {name: attrgetter(name) for name in fields} | dict(computed)


def indexed(*fields: str, **computed: Callable[[Any], Any]) -> Any:
    """Declare a table's indexes: fields by name, and computed values as name=function(record).

    A function that returns a list files the record under each element.

    >>> from sentinel_env import Database
    >>> class Person(Record):
    ...     email: str
    ...     phones: list[str] = []
    >>> class People(Database):
    ...     people: Table[Person] = indexed(email=lambda person: person.email.lower(), phone=lambda person: list(person.phones))
    >>> People(people={"p1": Person(email="Ann@X.org", phones=["1", "2"])}).people.find("phone", "2")
    ('p1',)
    """
    return Indexes(fields, computed)


def validated(table: str, key: Any, record_type: type[R], row: Any) -> R:
    """One row as a record; a row that is none is refused with its table, key and field."""
    if not isinstance(key, str):
        raise DatabaseError(f"table {table}: a key is a string, found {key!r:.80}")
    if isinstance(row, record_type):
        return row
    try:
        return record_type.model_validate(row)
    except ValidationError as error:
        raise DatabaseError(f"{table}[{key!r}].{first_error(error)}; {_fields(record_type)}") from None
