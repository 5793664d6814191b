"""Rows: a task as a trainer's data set holds it.

problem_of("test-000", "retail")                              # an id
problem_of({"task_id": "test-000", "domain": "retail"})       # a row that names it
problem_of({"prompt": [...], "task": '{"id": ...}'})          # a row that holds it, as `to_dataset` makes it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sentinel_env.domain import Domain, load_domain
from sentinel_env.errors import ConfigError, TaskError
from sentinel_env.finding import find_task
from sentinel_env.records import first_error
from sentinel_env.tasks import Task

Row = Task | str | Mapping[str, Any]
"""A task: itself, its id, or a row that holds it."""


@cache
def _domain(name: str) -> Domain:
    return load_domain(name)


def problem_of(task: Row, domain: str | Path | Domain | None = None) -> tuple[Domain, Task]:
    """The world and the task that a row means.

    Raises:
        TaskError: It means none.
        ConfigError: It is an id, and nothing says of which domain.
        UnknownDomainError: There is no such domain.
    """
    found: Any = _parsed(task)
    if isinstance(found, Mapping) and ("task" in found or "task_id" in found):
        domain = domain if domain is not None else found.get("domain")
        found = _parsed(found["task"] if found.get("task") is not None else found.get("task_id"))
    if isinstance(found, Mapping):
        try:
            found = Task.model_validate(dict(found))
        except ValidationError as error:
            raise TaskError(f"the row is no task: {first_error(error)}") from None
    if not isinstance(found, Task | str):
        raise TaskError(f"a task is a Task, the id of one, or a row that holds it, found {found!r:.200}")
    if domain is None:
        if isinstance(found, str):
            raise ConfigError(f"task {found!r:.200} is named by its id; say of which domain: domain='retail'")
        domain = found.domain
    world = domain if isinstance(domain, Domain) else _domain(str(domain))
    return world, find_task(world.tasks_by_id.values(), found, world) if isinstance(found, str) else found


def _parsed(value: Any) -> Any:
    """JSON text as what it says, everything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"the row is no JSON: {error}") from None
