"""Database and Table: a frozen base that all episodes share, and copy-on-write forks that cost nothing.

    db = RetailDB.load("db.json")       # once per process
    fork = db.fork()                    # O(1): shares the base, owns an empty overlay
    fork.orders.update("#W1", status="cancelled")
    fork.changes()                      # {"orders": {"#W1": {"status": "cancelled"}}}, in O(what changed)

A table is the base's records with an overlay above them: a new record, or None where a record was removed. Grading, diffs and
digests look at overlays only, so they never cost O(database).
"""

from __future__ import annotations

import hashlib
import json
import sys
import types
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from .errors import DatabaseError
from .records import Record

R = TypeVar("R", bound=Record)
Json = Any
Changes = dict[str, dict[str, Json]]
"""Table -> key -> what is new: the changed fields of a record that existed, all fields of one that did not, None for a removed one."""

_MODULUS = 1 << 256
_ABSENT: Any = object()


def first_error(error: ValidationError) -> str:
    """Pydantic's first complaint as `field.path: what is wrong`."""
    detail = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in detail["loc"])
    found = detail.get("input")
    shown = f" (found {found!r:.80})" if not isinstance(found, Mapping | Record) else ""
    return f"{path}: {detail['msg']}{shown}" if path else f"{detail['msg']}{shown}"


class _Base(Generic[R]):
    """What every fork of a table shares: the records, and what was once computed from them."""

    __slots__ = ("_digest", "_found", "indexes", "record_type", "records")

    def __init__(self, record_type: type[R], records: dict[str, R], indexes: Mapping[str, Callable[[R], Any]]) -> None:
        self.record_type = record_type
        self.records = records
        self.indexes = indexes
        self._found: dict[str, dict[Hashable, list[str]]] = {}
        self._digest: int | None = None

    def keys_at(self, index: str, value: Hashable) -> list[str]:
        found = self._found.get(index)
        if found is None:
            found = self._found[index] = {}
            of = self.indexes[index]
            for key, record in self.records.items():
                for each in _values(of(record)):
                    found.setdefault(each, []).append(key)
        return found.get(value, [])

    def digest(self, table: str) -> int:
        if self._digest is None:
            self._digest = sum(_hash(table, key, record) for key, record in self.records.items()) % _MODULUS
        return self._digest


def _values(value: Any) -> list[Hashable]:
    return value if isinstance(value, list) else [value]


def _hash(table: str, key: str, record: Record) -> int:
    place = json.dumps([table, key]).encode()
    return int.from_bytes(hashlib.sha256(place + record.fingerprint).digest())


class Table(Mapping[str, R]):
    """Records by key. Reading is a dictionary look-up; writing puts one new record into this fork's overlay.

    Declared as an annotation of a `Database`: `loans: Table[Loan]`, with indexes: `loans: Table[Loan] = indexed("member_id")`.
    Iteration follows the base's order, then the order of additions.
    """

    __slots__ = ("_base", "_name", "_origin", "_overlay", "_owned", "_reading")

    def __init__(self, name: str, base: _Base[R], overlay: dict[str, R | None], reading: list[str]) -> None:
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
            if changed:
                position = {key: at for at, key in enumerate(self)}
                found = sorted([*found, *changed], key=position.__getitem__)
        return tuple(found)

    def where(self, **fields: Any) -> dict[str, R]:
        """The records whose fields equal the given values, by key. A declared index on one of the fields is used.

        Raises:
            DatabaseError: A field does not exist.
        """
        for name in fields:
            if name not in self._base.record_type.model_fields:
                raise DatabaseError(f"{self._name} has no field {name!r}; {_fields(self._base.record_type)}")
        indexed_field = next((name for name in fields if name in self._base.indexes and isinstance(fields[name], Hashable)), None)
        keys = self if indexed_field is None else self.find(indexed_field, fields[indexed_field])
        pairs = ((key, self[key]) for key in keys)
        return {key: record for key, record in pairs if all(getattr(record, name) == value for name, value in fields.items())}

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

    def _moved(self) -> Iterator[tuple[str, R | None, R | None]]:
        """(key, before, after) of what differs from the fork's origin, in key order."""
        if self._overlay is self._origin:
            return
        origin, records = self._origin, self._base.records
        for key in sorted(self._overlay):
            after = self._overlay[key]
            before = origin[key] if key in origin else records.get(key)
            if before is not after and before != after:
                yield key, before, after

    def changes(self) -> dict[str, Json]:
        """What this fork changed, by key: changed fields, a whole new record, or None for a removed one."""
        return {key: _changed_fields(before, after) for key, before, after in self._moved()}

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


def _changed_fields(before: Record | None, after: Record | None) -> Json:
    if after is None:
        return None
    new = after.model_dump(mode="json")
    if before is None:
        return new
    old = before.model_dump(mode="json")
    return {name: value for name, value in new.items() if name not in old or old[name] != value}


class _Indexes:
    def __init__(self, fields: tuple[str, ...], computed: Mapping[str, Callable[[Any], Any]]) -> None:
        self.by_name: dict[str, Callable[[Any], Any]] = {name: _field(name) for name in fields} | dict(computed)


def _field(name: str) -> Callable[[Any], Any]:
    return lambda record: getattr(record, name)


def indexed(*fields: str, **computed: Callable[[Any], Any]) -> Any:
    """Declare a table's indexes: fields by name, and computed values as name=function(record).

    A function that returns a list files the record under each element.

    >>> class Person(Record):
    ...     email: str
    ...     phones: list[str] = []
    >>> class People(Database):
    ...     people: Table[Person] = indexed(email=lambda person: person.email.lower(), phone=lambda person: list(person.phones))
    >>> People(people={"p1": Person(email="Ann@X.org", phones=["1", "2"])}).people.find("phone", "2")
    ('p1',)
    """
    return _Indexes(fields, computed)


class Database:
    """A set of tables. Subclass it with annotations `name: Table[SomeRecord]`, then make it from records, JSON or another one.

    >>> class Loan(Record):
    ...     title: str
    >>> class LibraryDB(Database):
    ...     loans: Table[Loan]
    >>> db = LibraryDB(loans={"L1": Loan(title="Dune")})
    >>> fork = db.fork()
    >>> _ = fork.loans.update("L1", title="Emma")
    >>> db.loans["L1"].title, fork.changes()
    ('Dune', {'loans': {'L1': {'title': 'Emma'}}})
    """

    _declared: ClassVar[dict[str, tuple[type[Record], dict[str, Callable[[Any], Any]]]]] = {}
    _tables: dict[str, Table[Any]]
    _reading: list[str]

    def __init__(self, **tables: Mapping[str, Any]) -> None:
        """Build a base database.

        Args:
            **tables: For each table a mapping of key to record, or to the record's fields. Tables left out are empty.

        Raises:
            DatabaseError: An unknown table, or a record that does not validate (named with table, key and field).
        """
        declared = self._declared
        unknown = sorted(set(tables) - set(declared))
        if unknown:
            raise DatabaseError(f"{type(self).__name__} has no table {unknown[0]!r}; its tables: {', '.join(declared)}")
        self._reading = []
        self._tables = {}
        for name, (record_type, indexes) in declared.items():
            rows = tables.get(name, {})
            if not isinstance(rows, Mapping):
                raise DatabaseError(f"table {name}: expected an object of key to record, found {type(rows).__name__}")
            records = {key: _validated(name, key, record_type, row) for key, row in rows.items()}
            self._attach(name, Table(name, _Base(record_type, records, indexes), {}, self._reading))

    def _attach(self, name: str, table: Table[Any]) -> None:
        self._tables[name] = table
        self.__dict__[name] = table

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        try:  # as pydantic does, names of the function that the class stands in are seen too
            hints = get_type_hints(cls, localns=sys._getframe(1).f_locals)
        except NameError as error:
            raise DatabaseError(f"{cls.__name__}: {error}; define the records above the database") from None
        cls._declared = {}
        for name, hint in hints.items():
            if get_origin(hint) is Table:
                (record_type,) = get_args(hint)
                indexes = getattr(cls, name, None)
                cls._declared[name] = (record_type, indexes.by_name if isinstance(indexes, _Indexes) else {})
        if not cls._declared:
            raise DatabaseError(f"{cls.__name__} declares no table; annotate one, such as `loans: Table[Loan]`")

    @property
    def tables(self) -> Mapping[str, Table[Any]]:
        """The tables by name."""
        return types.MappingProxyType(self._tables)

    def fork(self) -> Self:
        """A copy-on-write copy in O(1): neither side ever sees the other's later changes."""
        fork = object.__new__(type(self))
        fork._reading = []
        fork._tables = {}
        for name, table in self._tables.items():
            fork._attach(name, table._fork(fork._reading))
        return fork

    # atomic and read-only sections, for the engine

    def _savepoint(self) -> list[dict[str, Any]]:
        for table in self._tables.values():
            table._owned = False
        return [table._overlay for table in self._tables.values()]

    def _rollback(self, savepoint: list[dict[str, Any]]) -> None:
        for table, overlay in zip(self._tables.values(), savepoint, strict=True):
            table._overlay = overlay
            table._owned = False

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Either everything inside happens, or, when it raises, nothing."""
        savepoint = self._savepoint()
        try:
            yield
        except BaseException:
            self._rollback(savepoint)
            raise

    # comparing

    def changes(self) -> Changes:
        """What this database changed since it was forked (or made), by table and key; untouched tables are left out. O(changes)."""
        found = {name: table.changes() for name, table in self._tables.items()}
        return {name: changed for name, changed in found.items() if changed}

    def diff(self) -> list[dict[str, Json]]:
        """The changes since the fork as JSON-patch-like rows with `op`, `path`, `old`, `new`, sorted by table and key."""
        rows: list[dict[str, Json]] = []
        for name, table in self._tables.items():
            for key, before, after in table._moved():
                old = _ABSENT if before is None else before.model_dump(mode="json")
                new = _ABSENT if after is None else after.model_dump(mode="json")
                _diff(f"/{name}/{_pointer(key)}", old, new, rows)
        return rows

    def digest(self) -> str:
        """Hex digest of the content, 64 characters: equal content, equal digest, whatever the order, process or path to it.

        Each table's digest is the sum of its records' SHA-256 modulo 2**256 (an additive multiset hash), which is what makes it O(changes).
        """
        sums = {name: f"{table._digest():064x}" for name, table in self._tables.items()}
        return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()

    # JSON

    def apply(self, changes: Mapping[str, Mapping[str, Json]]) -> None:
        """Apply changes in the form that `changes()` returns: fields of an existing record, a whole new record, or None to remove.

        Raises:
            DatabaseError: An unknown table, a removal of what is not there, or values that do not fit; nothing has changed then.
        """
        with self.atomic():
            for name, rows in changes.items():
                table = self._tables.get(name)
                if table is None:
                    raise DatabaseError(f"{type(self).__name__} has no table {name!r}; its tables: {', '.join(self._tables)}")
                for key, fields in rows.items():
                    if fields is None:
                        table.remove(key)
                    elif key in table:
                        table.update(key, **fields)
                    else:
                        table.add(key, _validated(name, key, table._base.record_type, fields))

    def dump(self) -> dict[str, dict[str, Json]]:
        """The whole content as plain JSON values, by table and key."""
        return {name: {key: record.model_dump(mode="json") for key, record in table.items()} for name, table in self._tables.items()}

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any]) -> Self:
        """Read and validate a database from a JSON file, or from its parsed content.

        Raises:
            DatabaseError: No such file, not JSON, an unknown table, or a record that does not validate.
        """
        if not isinstance(source, Mapping):
            path = Path(source)
            try:
                source = json.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                raise DatabaseError(f"cannot read {path}: {error.strerror or error}") from None
            except ValueError as error:
                raise DatabaseError(f"{path} is not JSON: {error}") from None
            if not isinstance(source, Mapping):
                raise DatabaseError(f"{path}: expected an object of tables, found {type(source).__name__}")
        return cls(**source)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(f'{len(table)} {name}' for name, table in self._tables.items())}>"


def _validated(table: str, key: Any, record_type: type[R], row: Any) -> R:
    if not isinstance(key, str):
        raise DatabaseError(f"table {table}: a key is a string, found {key!r:.80}")
    if isinstance(row, record_type):
        return row
    try:
        return record_type.model_validate(row)
    except ValidationError as error:
        raise DatabaseError(f"{table}[{key!r}].{first_error(error)}; {_fields(record_type)}") from None


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _diff(path: str, old: Json, new: Json, rows: list[dict[str, Json]]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _diff(f"{path}/{_pointer(key)}", old.get(key, _ABSENT), new.get(key, _ABSENT), rows)
    elif isinstance(old, list) and isinstance(new, list):
        for at in range(max(len(old), len(new))):
            _diff(f"{path}/{at}", old[at] if at < len(old) else _ABSENT, new[at] if at < len(new) else _ABSENT, rows)
    elif old is _ABSENT:
        rows.append({"op": "add", "path": path, "new": new})
    elif new is _ABSENT:
        rows.append({"op": "remove", "path": path, "old": old})
    elif old != new or type(old) is not type(new):
        rows.append({"op": "replace", "path": path, "old": old, "new": new})
