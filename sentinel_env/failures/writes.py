"""Writes: the accepted calls of an episode, or of a reference, each with what it changed record by record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sentinel_env.database import Changes, Database
from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall

Place = tuple[str, str]
"""Table and key of a record."""


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """One accepted write: the call, the message it stands in and what it changed."""

    call: ToolCall
    step: int
    changed: Changes
    """What is new against the state before it: changed fields, a whole new record, None for a removed one."""
    target: tuple[tuple[str, str], ...]
    """The arguments that are record keys, with their values: which record the call is about."""
    after: Database
    """The state that it left."""

    @property
    def places(self) -> frozenset[Place]:
        """The records that it changed."""
        return frozenset((table, key) for table, rows in self.changed.items() for key in rows)


def executed_writes(domain: Domain, db: Database, made: Iterable[tuple[int, ToolCall]]) -> list[Write]:
    """Run calls from a state and keep the writes that changed something; reads and refused calls change nothing.

    Raises:
        DomainError: A tool crashed.
    """
    writes = []
    for step, call in made:
        tool = domain.tools_by_name.get(call.name)
        if tool is None or not tool.writes:
            continue
        after = db.fork()  # a fork for each write, so that its changes are the write's own
        if domain.execute(after, call).is_error:
            continue
        changed = after.changes()
        if changed:  # an accepted call that changes nothing has no part in the outcome
            writes.append(Write(call, step, changed, target_of(db, call), after))
            db = after
    return writes


def target_of(db: Database, call: ToolCall) -> tuple[tuple[str, str], ...]:
    """The arguments of a call that are keys of records, sorted by name."""
    keys = ((name, value) for name, value in call.arguments.items() if isinstance(value, str))
    return tuple(sorted((name, value) for name, value in keys if any(value in table for table in db.tables.values())))


def places_of(writes: Iterable[Write]) -> frozenset[Place]:
    """The records that any of the writes changed."""
    return frozenset(place for write in writes for place in write.places)


def same_state(one: Database, other: Database, places: Iterable[Place]) -> bool:
    """Whether the records at these places are equal in both."""
    return all(one.tables[table].get(key) == other.tables[table].get(key) for table, key in places)


def run_calls(domain: Domain, start: Database, sequence: Sequence[ToolCall]) -> tuple[Database, list[int]]:
    """The state that calls lead to, and the positions of those that were refused."""
    db = start.fork()
    refused = [at for at, call in enumerate(sequence) if domain.execute(db, call).is_error]
    return db, refused
