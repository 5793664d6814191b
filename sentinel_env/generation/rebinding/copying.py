"""Another customer in the same situation: what one subject owns is copied to another, as changes of the database.

Where a text is not understood, it can only stay true of records that are as they were. So the other subject keeps its key, its name and
its address, and the records that belong to it get the content of the old subject's, with the new keys in the place of the old ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sentinel_env.database import Changes, Database
from sentinel_env.records import Record, plain

from .relations import Assignment
from .shape import Shape, Unfit
from .world import Part, Path, take_apart

_CATEGORIES = 0.1
"""A field has few values when they are fewer than this share of the records."""


class Copier:
    """Copies what the subject of a task owns to others."""

    def __init__(self, shape: Shape, kept: Changes, *, pinned: bool, spoken: frozenset[Path]) -> None:
        """Prepare.

        Args:
            shape: Of the task.
            kept: Changes of what is not the subject's, which stay.
            pinned: Whether its texts hold names that nothing explains, such as "Texas": others must be alike in all fields of few values.
            spoken: Fields of the subject of which the texts speak; they change with it.
        """
        self._shape = shape
        self._domain = shape.domain
        self._old = shape.subjects.face(shape.subject)
        self._start = shape.domain.start(shape.task)
        self._pinned = self._categories(spoken) if pinned else []
        self._kept = kept

    def _categories(self, spoken: frozenset[Path]) -> list[Path]:
        parts = self._shape.world.by_kind.get(self._old.kind, [])
        few = _CATEGORIES * len(parts)
        return [path for path in self._old.leaves if path not in spoken and len({part.leaves.get(path) for part in parts}) <= few]

    def fits(self, subject: str) -> bool:
        """Whether another subject has as many records of each sort, and parts in the same states."""
        subjects = self._shape.subjects
        face = subjects.face(subject)
        if subject == self._shape.subject or any(face.leaves.get(path) != self._old.leaves.get(path) for path in self._pinned):
            return False
        count = Counter(root.kind for root in subjects.belongings[subject])
        return count == Counter(root.kind for root in self._shape.belongings) and _parts_by_state(face) == _parts_by_state(self._old)

    def copy(self, subject: str) -> tuple[Assignment, Changes]:
        """Who takes the roles when another subject is put in this one's place, and what changes for that in the database.

        Raises:
            Unfit: The copies do not fit the database.
        """
        subjects, face = self._shape.subjects, self._shape.subjects.face(subject)
        pairs = list(_paired(self._shape.belongings, subjects.belongings[subject]))
        keys = {str(old.key): str(new.key) for old, new in [*pairs, *_paired_parts(self._old, face), (self._old, face)]}
        db = self._domain.base.fork()
        db.apply(self._kept)
        swap = _Swap(keys, self._row(db, self._old), self._row(db, face))
        rows: dict[str, dict[str, Any]] = {}
        for old, new in pairs:
            record = self._start.tables[old.name[0]][old.name[1]]
            row = swap.of(plain(record))
            if new is face:  # its own key, name and address stay; its parts are copied
                row = {name: row[name] for name in old.parts if name in row}
            rows.setdefault(new.name[0], {})[new.name[1]] = row
        try:
            db.apply(rows)
        except Exception as error:
            raise Unfit("the copied records do not fit") from error
        parts: dict[int, Part] = {}
        for old, new in pairs:
            copied = take_apart(*new.name, db.tables[new.name[0]][new.name[1]])
            _match(old, copied, keys, parts)
        roles = [parts.get(id(role.part), face if role.part is self._old else role.part) for role in self._shape.roles]
        return Assignment(list(roles)), db.changes()

    def _row(self, db: Database, face: Part) -> dict[str, Any]:
        record: Record | None = db.tables[face.kind[0]].get(face.key) if len(face.kind) == 1 and face.key is not None else None
        return {} if record is None else plain(record)


class _Swap:
    """Puts new keys, and the new subject's fields, in the place of the old ones in JSON."""

    def __init__(self, keys: Mapping[str, str], old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._keys = keys
        self._blocks = [(name, value, new[name]) for name, value in old.items() if name in new and isinstance(value, dict | str) and value]

    def of(self, value: Any, name: str = "") -> Any:
        """A value with everything exchanged."""
        for field, was, now in self._blocks:
            if field == name and value == was:
                return now
        if isinstance(value, dict):
            return {self._keys.get(key, key): self.of(each, key) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(each, name) for each in value]
        return self._keys.get(value, value) if isinstance(value, str) else value


def _parts_by_state(face: Part) -> Counter[tuple[object, ...]]:
    return Counter((part.kind, tuple(part.states.items())) for part in face.below() if part is not face and part.key is not None)


def _paired(old: list[Part], new: list[Part]) -> list[tuple[Part, Part]]:
    """Records of one table with those of the same, in their order."""
    left = list(new)
    found = []
    for each in old:
        other = next(part for part in left if part.kind == each.kind)
        left.remove(other)
        found.append((each, other))
    return found


def _paired_parts(old: Part, new: Part) -> list[tuple[Part, Part]]:
    """Parts with a key, each with one in the same state."""
    left = [part for part in new.below() if part is not new and part.key is not None]
    found = []
    for each in old.below():
        if each is not old and each.key is not None:
            other = next(part for part in left if part.kind == each.kind and part.states == each.states)
            left.remove(other)
            found.append((each, other))
    return found


def _match(old: Part, new: Part, keys: Mapping[str, str], found: dict[int, Part]) -> None:
    found[id(old)] = new
    for name, parts in old.parts.items():
        others = new.parts.get(name, [])
        by_key = {part.key: part for part in others}
        for at, part in enumerate(parts):
            other = by_key.get(keys.get(part.key, part.key)) if part.key is not None else others[at]
            if other is not None:
                _match(part, other, keys, found)
