"""Tasks as rows of a training set: one JSON string column, since columns of objects would be filled up with null keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sentinel_env import Domain, Task, TaskError

COLUMN = "task"


def to_dataset(domain: Domain, tasks: Iterable[Task]) -> Any:
    """A `datasets.Dataset` for GRPO: the task as JSON, and the prompt column that TRL asks for.

    The prompt is the policy, the domain's greeting and an empty turn of the user, to which TRL adds what an environment's `reset` returns.

    Raises:
        TaskError: There are no tasks, or one is of another domain.
    """
    from datasets import Dataset

    greeting = [{"role": "assistant", "content": domain.greeting}] if domain.greeting else []
    prompt = [{"role": "system", "content": domain.policy}, *greeting, {"role": "user", "content": ""}]
    rows = []
    for task in tasks:
        if task.domain != domain.name:
            raise TaskError(f"task {task.id!r} is for domain {task.domain!r}, trained on {domain.name!r}")
        rows.append({"prompt": prompt, COLUMN: task.model_dump_json(exclude_defaults=True)})
    if not rows:
        raise TaskError("there are no tasks to train on; give at least one")
    return Dataset.from_list(rows)


def read_row(text: str) -> Task:
    """The task of a row."""
    return Task.model_validate_json(text)
