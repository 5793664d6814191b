"""Database: a set of tables with a frozen base, and copy-on-write forks that cost nothing.

db = RetailDB.load("db.json")       # once per process
fork = db.fork()                    # O(1): shares the base, owns an empty overlay
fork.orders.update("#W1", status="cancelled")
fork.changes()                      # {"orders": {"#W1": {"status": "cancelled"}}}, in O(what changed)
"""

from __future__ import annotations

import hashlib
import json
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from .errors import DatabaseError
from .records import Record
from .tables import _ABSENT, Base, Indexes, Json, Table, validated

Changes = dict[str, dict[str, Json]]
"""Table -> key -> what is new: the changed fields of a record that existed, all fields of one that did not, None for a removed one."""


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
            records = {key: validated(name, key, record_type, row) for key, row in rows.items()}
            self._attach(name, Table(name, Base(record_type, records, indexes), {}, self._reading))

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
                cls._declared[name] = (record_type, indexes.by_name if isinstance(indexes, Indexes) else {})
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
        savepoint = []
        for table in self._tables.values():
            table._owned = False
            savepoint.append(table._overlay)
        return savepoint

    def _rollback(self, savepoint: list[dict[str, Any]]) -> None:
        for table, overlay in zip(self._tables.values(), savepoint, strict=True):
            table._overlay = overlay
            table._owned = False

    def atomic(self) -> AbstractContextManager[None]:
        """Either everything inside happens, or, when it raises, nothing."""
        return _Atomic(self)

    # comparing

    def changes(self) -> Changes:
        """What this database changed since it was forked (or made), by table and key; untouched tables are left out. O(changes)."""
        found = {}
        for name, table in self._tables.items():
            if table._overlay is not table._origin and (changed := table.changes()):
                found[name] = changed
        return found

    def diff(self) -> list[dict[str, Json]]:
        """The changes since the fork as JSON-patch-like rows with `op`, `path`, `old`, `new`, sorted by table and key."""
        rows: list[dict[str, Json]] = []
        for name, table in self._tables.items():
            for key, before, after in table._replaced():
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
                        table.add(key, validated(name, key, table._base.record_type, fields))

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


class _Atomic(AbstractContextManager[None]):
    """A section at whose failure the database goes back; a class, because entering a generator takes twice as long."""

    __slots__ = ("_db", "_savepoint")

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._savepoint = self._db._savepoint()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        if kind is not None:
            self._db._rollback(self._savepoint)


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
