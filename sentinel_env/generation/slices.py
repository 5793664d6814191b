"""Slices: the part of a database that one task is about, small enough to be read by a model.

A slice begins with one subject, such as a customer, and goes from record to record along the keys that stand in them. Subjects are drawn
from those whose records no task of another split uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.records import plain

MOST_RECORDS, MOST_CHARACTERS = 40, 24_000
"""Of a slice; records that are further away are left out first."""
_BESIDE = 2
"""Further records of the table of a subject without operations, for the tasks to go wrong on."""

Slice = dict[str, dict[str, Any]]
"""Table -> key -> record as plain JSON."""
Place = tuple[str, str]
"""A table and a key in it."""


@dataclass(frozen=True)
class Subject:
    """Whom a task is about: where its slice begins."""

    name: str
    places: tuple[Place, ...]


def slice_around(db: Database, places: Iterable[Place]) -> Slice:
    """The records at some places and what they name by its key, nearest first, and what names the first of them."""
    found: Slice = {}
    start = list(dict.fromkeys(places))
    queue = deque(start + (list(_naming(db, start[0])) if start else []))
    seen, count, size = set(queue), 0, 0
    while queue and count < MOST_RECORDS:
        table, key = queue.popleft()
        record = db.tables[table][key]
        length = len(record.json_text)
        if size + length > MOST_CHARACTERS:
            continue
        found.setdefault(table, {})[key] = plain(record)
        count, size = count + 1, size + length
        for _, text in leaves(found[table][key]):
            for place in named_by(db, text):
                if place not in seen:
                    seen.add(place)
                    queue.append(place)
    return found


def _naming(db: Database, place: Place) -> Iterator[Place]:
    """The records with a field that is the key of a place, such as the orders of a user."""
    for name, table in db.tables.items():
        for key, record in table.items():
            if (name, key) != place and any(value == place[1] for value in record.__dict__.values() if isinstance(value, str)):
                yield name, key


def named_by(db: Database, text: str) -> list[Place]:
    """The records whose key a text is."""
    return [(name, text) for name, table in db.tables.items() if text in table]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(field, text) of every text in a JSON value."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item, name)


def subjects(domain: Domain, split: str) -> list[Subject]:
    """Whom tasks of a split may be about: nobody with a record that a task of another split uses, in the database's order."""
    used = {
        text
        for task in domain.tasks_by_id.values()
        if task.split != split
        for call in task.criteria.actions
        for _, text in leaves(call.arguments)
    }
    db = domain.base
    if domain.operations is None:
        names = [name for name in db.tables if any(key in db.tables[name] for key in _keys_used(domain))] or list(db.tables)
        return [Subject(key, ((name, key),)) for name in names for key in db.tables[name] if key not in used]
    found = []
    for subject in domain.operations.subjects(db):
        entities = domain.operations.entities(db, subject)
        if used.isdisjoint(entities):
            found.append(Subject(subject, tuple(place for key in (subject, *sorted(entities - {subject})) for place in named_by(db, key))))
    return found


def _keys_used(domain: Domain) -> set[str]:
    return {text for task in domain.tasks_by_id.values() for call in task.criteria.actions for _, text in leaves(call.arguments)}


def draw(domain: Domain, pool: Sequence[Subject], random: Random) -> tuple[Subject, Slice]:
    """One subject of a pool with its slice; where the domain names no subjects, with further records of the same table."""
    subject = pool[random.randrange(len(pool))]
    places = list(subject.places)
    if domain.operations is None:
        others = [place for other in pool for place in other.places if place[0] == places[0][0] and place not in places]
        places += random.sample(others, min(_BESIDE, len(others)))
    return subject, slice_around(domain.base, places)
