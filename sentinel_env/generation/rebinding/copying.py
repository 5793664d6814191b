"""Another customer in the same situation: what one subject owns is copied to another, as changes of the database.

Where a text is not understood, it can only stay true of records that are as they were. So the other subject keeps its key, its name and
its address, and the records that belong to it get the content of the old subject's, with the new keys in the place of the old ones; where
it has fewer, the others are added under keys of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from sentinel_env.database import Changes, Database
from sentinel_env.errors import SentinelError
from sentinel_env.records import Record, plain

from .relations import Assignment
from .shape import Shape, Unfit
from .world import Part, Path, World, take_apart

_CATEGORIES = 0.1
"""A field has few values when they are fewer than this share of the records."""


class Copier:
    """Copies what the subject of a task owns to others."""

    def __init__(self, shape: Shape, kept: Changes, *, pinned: bool, changing: frozenset[Path]) -> None:
        """Prepare.

        Args:
            shape: Of the task.
            kept: Changes of what is not the subject's, which stay.
            pinned: Whether its texts hold names that nothing explains, such as "Texas": others must be alike in all fields of few values.
            changing: Fields of the subject that the task itself gives; they change with it.
        """
        self._shape = shape
        self._domain = shape.domain
        self._old = shape.subjects.face(shape.subject)
        self._start = shape.domain.start(shape.task)
        self._pinned = self._categories(changing) if pinned else []
        self._kept = kept

    def _categories(self, changing: frozenset[Path]) -> list[Path]:
        parts = self._shape.world.by_kind.get(self._old.kind, [])
        few = _CATEGORIES * len(parts)
        return [path for path in self._old.leaves if path not in changing and len({part.leaves.get(path) for part in parts}) <= few]

    def fits(self, subject: str) -> bool:
        """Whether another subject has no more records of each sort, and parts in each state: what it lacks can be added."""
        subjects = self._shape.subjects
        face = subjects.face(subject)
        if subject == self._shape.subject or any(face.leaves.get(path) != self._old.leaves.get(path) for path in self._pinned):
            return False
        count = Counter(root.kind for root in subjects.belongings[subject])
        return count <= Counter(root.kind for root in self._shape.belongings) and _parts_by_state(face) <= _parts_by_state(self._old)

    def copy(self, subject: str, random: Random) -> tuple[Assignment, Changes]:
        """Who takes the roles when another subject is put in this one's place, and what changes for that in the database.

        Raises:
            Unfit: The copies do not fit the database.
        """
        subjects, face = self._shape.subjects, self._shape.subjects.face(subject)
        mint = _Mint(self._shape.world, random)
        names = dict(_named(self._shape.belongings, subjects.belongings[subject], mint))
        keys = {
            old.key: new for old, new in [*names.items(), *_named_parts(self._old, face, mint), (self._old, subject)] if old.key is not None
        }
        db = self._domain.base.fork()
        db.apply(self._kept)
        own = {name: value for name, value in self._row(db, self._old).items() if name not in self._old.parts}
        swap = _Swap(keys, own, self._row(db, face))
        try:
            for old, key in names.items():
                table = old.name[0]
                row = swap.of(plain(self._start.tables[table][old.name[1]]))
                if old is self._old:  # its own name and address stay; its parts are copied, and it lists the copies
                    fields = {*old.parts, *(path[0] for path in old.lists if len(path) == 1)}
                    row = {name: row[name] for name in row if name in fields}
                db.apply({table: {key: row}})
        except SentinelError as error:
            raise Unfit("the copied records do not fit") from error
        parts: dict[int, Part] = {id(self._old): face}
        for old, key in names.items():
            _match(old, take_apart(old.name[0], key, db.tables[old.name[0]][key]), keys, parts)
        return Assignment([parts.get(id(role.part), role.part) for role in self._shape.roles]), db.changes()

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


class _Mint:
    """Makes keys like others."""

    def __init__(self, world: World, random: Random) -> None:
        self._taken, self._random = world.keyed, random
        self._made: set[str] = set()

    def like(self, key: str) -> str:
        """A key that there is not yet, with other digits.

        Raises:
            Unfit: It has too few digits for that.
        """
        for _ in range(20):
            found = "".join(str(self._random.randrange(10)) if letter.isdecimal() else letter for letter in key)
            if found not in self._taken and found not in self._made:
                self._made.add(found)
                return found
        raise Unfit("no key can be made up for a copied record")


def _named(old: Iterable[Part], new: Iterable[Part], mint: _Mint) -> Iterator[tuple[Part, str]]:
    """Records with the keys of their copies: those that the other subject's records have, in their order, then new ones."""
    left = list(new)
    for each in old:
        other = next((part for part in left if part.kind == each.kind), None)
        if other is not None:
            left.remove(other)
        yield each, str(other.key) if other is not None else mint.like(str(each.key))


def _named_parts(old: Part, new: Part, mint: _Mint) -> Iterator[tuple[Part, str]]:
    """Parts with the keys of their copies: those of parts in the same state, then new ones."""
    left = [part for part in new.below() if part is not new and part.key is not None]
    for each in old.below():
        if each is not old and each.key is not None:
            other = next((part for part in left if part.kind == each.kind and part.states == each.states), None)
            if other is not None:
                left.remove(other)
            yield each, str(other.key) if other is not None else mint.like(each.key)


def _match(old: Part, new: Part, keys: Mapping[str, str], found: dict[int, Part]) -> None:
    found[id(old)] = new
    for name, parts in old.parts.items():
        others = new.parts.get(name, [])
        by_key = {part.key: part for part in others}
        for at, part in enumerate(parts):
            other = others[at] if part.key is None else by_key.get(keys.get(part.key, part.key))
            if other is not None:
                _match(part, other, keys, found)
