"""The rows of a SkyRL data set: which episodes there are, in columns that JSON lines and Parquet hold alike. Needs no SkyRL."""

from __future__ import annotations

import json
import numbers
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sentinel_env.errors import ConfigError, TaskError
from sentinel_env.tasks import Task, load_tasks

from .source import Source

ENV_CLASS = "sentinel"
"""`env_class` of the rows: the id under which the environment is registered."""
HELLO = "user: Hello."
"""Stands in a row for the customer's first words, which come when the episode begins: some chat templates want a user's message."""


def skyrl_rows(
    domain: str | Path = "retail",
    *,
    split: str | None = None,
    tasks: str | Path | Iterable[Task] | None = None,
    user: str | Mapping[str, Any] = "scripted",
    data: str | Path | None = None,
    max_steps: int = 30,
    max_errors: int = 10,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    env_class: str = ENV_CLASS,
) -> list[dict[str, Any]]:
    """A row for each task, which JSON lines and Parquet hold alike: texts and numbers, structures as JSON.

    Args:
        domain: As in `Source.open`; a name, `module:attribute` or path that the training processes can load.
        split: Of the tasks; all of them for None.
        tasks: Tasks beyond the domain's own, such as `sentinel verify` writes; they stand whole in their rows.
        user: As in `Source.open`, in plain settings.
        data: As in `Source.open`.
        max_steps: As in `Source.open`; `generator.max_turns` of SkyRL has to be as high.
        max_errors: As in `Source.open`.
        options: As in `Source.open`.
        seed: Of every episode.
        env_class: As in `register`.

    Raises:
        ConfigError: A setting that a row cannot hold; and what `Source.open` raises.
    """
    settings = {"domain": domain, "user": user, "data": data, "max_steps": max_steps, "max_errors": max_errors, "options": options}
    columns = {name: _column(name, value) for name, value in settings.items() if value is not None}
    source = Source.open(split=None if tasks is not None else split, **plain(columns))
    given = () if tasks is None else load_tasks(tasks) if isinstance(tasks, str | Path) else tuple(tasks)
    chosen = source.domain.with_tasks(given).split(split) if given else source.tasks
    if tasks is not None and not given:
        raise TaskError(f"there are no tasks in {tasks!r:.100}")
    prompt = [{"role": "system", "content": source.system_prompt}, {"role": "user", "content": HELLO}]
    return [
        {
            "prompt": prompt,
            "env_class": env_class,
            "data_source": source.domain.name,
            **columns,
            "task_id": task.id,
            **({"task": task.model_dump_json(exclude_defaults=True)} if given else {}),
            "seed": seed,
        }
        for task in chosen
    ]


def save_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, which SkyRL reads where the name ends in .jsonl."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _column(name: str, value: Any) -> str | int:
    if isinstance(value, str | int):
        return value
    if isinstance(value, Path):
        return str(value)
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} stands in a row, so it is a text, a number or JSON; found {value!r:.200}") from None


def plain(settings: Any) -> dict[str, Any]:
    """Settings from a mapping or an object, without those that are None, structures read.

    Raises:
        ConfigError: A structure that is no JSON.
    """
    found = {} if settings is None else dict(settings) if isinstance(settings, Mapping) else dict(vars(settings))
    for name, value in list(found.items()):
        if value is None:
            del found[name]
        elif isinstance(value, numbers.Integral) and not isinstance(value, bool):  # such as numpy's
            found[name] = int(value)
        elif name in ("user", "options") and isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                found[name] = json.loads(value)
            except ValueError as error:
                raise ConfigError(f"{name} is no JSON ({error}): {value:.200}") from None
    return found
