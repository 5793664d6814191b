"""Tasks as rows of a training set: one JSON string column, since columns of objects would be filled up with null keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sentinel_env import Domain, Task, TaskError

COLUMN = "task"


def to_dataset(domain: Domain, tasks: Iterable[Task]) -> Any:
    """A `datasets.Dataset` for GRPO: the task as JSON, and the prompt column that TRL asks for.

    Raises:
        TaskError: There are no tasks, or one is of another domain.
    """
    from datasets import Dataset

    rows = []
    for task in tasks:
        if task.domain != domain.name:
            raise TaskError(f"task {task.id!r} is for domain {task.domain!r}, trained on {domain.name!r}")
        rows.append({"prompt": [{"role": "user", "content": task.id}], COLUMN: task.model_dump_json(exclude_defaults=True)})
    if not rows:
        raise TaskError("there are no tasks to train on; give at least one")
    return Dataset.from_list(rows)


def read_row(text: str) -> Task:
    """The task of a row."""
    return Task.model_validate_json(text)
