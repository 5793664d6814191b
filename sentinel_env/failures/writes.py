"""Writes: the accepted calls of an episode, or of a reference, each with what it changed record by record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sentinel_env.database import Changes, Database
from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall


@dataclass(frozen=True)
class Write:
    """One accepted write: the call, the message it stands in and what it changed."""

    call: ToolCall
    step: int
    changed: Mapping[str, Any]
    target: tuple[tuple[str, str], ...]
    """The arguments that are record keys, with their values: which record the call is about."""


def executed_writes(domain: Domain, db: Database, made: Iterable[tuple[int, ToolCall]]) -> list[Write]:
    """Run calls on a database and keep the writes that changed something."""
    writes = []
    for step, call in made:
        tool = domain.tools_by_name.get(call.name)
        if tool is None or not tool.writes:
            continue
        before = db.fork()  # after the call it still holds what was there before
        if domain.execute(db, call).is_error:
            continue
        changed = _delta(before, db)
        if changed:  # an accepted call that changes nothing has no part in the outcome
            writes.append(Write(call, step, changed, _target(db, call)))
    return writes


def _delta(before: Database, after: Database) -> Changes:
    """What one call changed, by table and key."""
    found: Changes = {}
    for name, table in after.tables.items():
        old = before.tables[name]
        for key in table._overlay:
            was, now = old.get(key), table.get(key)
            if was is not now and was != now:
                found.setdefault(name, {})[key] = None if now is None else now.model_dump(mode="json")
    return found


def _target(db: Database, call: ToolCall) -> tuple[tuple[str, str], ...]:
    keys = ((name, value) for name, value in call.arguments.items() if isinstance(value, str))
    return tuple(sorted((name, value) for name, value in keys if any(value in table for table in db.tables.values())))
