"""tau2-bench's data: a folder with `db.json`, `tasks.json`, `policy.md` and perhaps `split_tasks.json` becomes a `Domain`.

    domain = load_folder("data/tau2/domains/retail", name="retail", database=RetailDB, tools=TOOLS)
    domain.warnings         # one line for each reference action that a tool refuses; nothing is swallowed

Nothing here knows retail: any domain with tau2-bench's task format, one database and no user tools loads the same way.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError, TaskError
from sentinel_env.messages import ToolCall
from sentinel_env.records import Record, first_error
from sentinel_env.tasks import Criteria, Scenario, Task, Tau2Criteria
from sentinel_env.tools import Tool

FILES = ("db.json", "tasks.json", "policy.md")
"""What a folder must hold; `split_tasks.json` is optional."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Action(_Part):
    requestor: Literal["assistant"] = "assistant"
    name: str
    arguments: dict[str, Any]
    compare_args: tuple[str, ...] | None = None


class _Criteria(_Part):
    actions: tuple[_Action, ...] | None = None
    env_assertions: tuple[Any, ...] | None = None
    communicate_info: tuple[str, ...] | None = None
    nl_assertions: tuple[str, ...] | None = None
    reward_basis: tuple[str, ...] = ("DB", "COMMUNICATE")


class _Instructions(_Part):
    reason_for_call: str
    known_info: str | None = None
    unknown_info: str | None = None
    task_instructions: str | None = None


class _User(_Part):
    persona: str | None = None
    instructions: _Instructions

    @model_validator(mode="before")
    @classmethod
    def _plain_text(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("instructions"), str):
            return {**value, "instructions": {"reason_for_call": value["instructions"]}}
        return value


class _Data(_Part):
    agent_data: dict[str, dict[str, Any]] | None = None
    user_data: dict[str, Any] | None = None


class _Start(_Part):
    initialization_data: _Data | None = None
    initialization_actions: tuple[Any, ...] | None = None
    message_history: tuple[Any, ...] | None = None


class _Task(_Part):
    id: str
    user_scenario: _User
    initial_state: _Start | None = None
    evaluation_criteria: _Criteria | None = None


def load_folder(folder: str | Path, *, name: str, database: type[Database], tools: tuple[Tool, ...], **fields: Any) -> Domain:
    """A domain from a folder in tau2-bench's format.

    Args:
        folder: Where `db.json`, `tasks.json` and `policy.md` are.
        name: The domain's name, which its tasks carry.
        database: The class to read `db.json` into.
        tools: The domain's tools.
        **fields: Other fields of the `Domain`. Its dialect is `tau2` unless they say otherwise.

    Raises:
        ConfigError: The folder or one of its files is missing.
        DatabaseError: `db.json` does not fit the database.
        TaskError: `tasks.json` or `split_tasks.json` is malformed, or a task needs what is not supported.
    """
    folder = Path(folder)
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        found = f"lacks {', '.join(missing)}" if folder.is_dir() else "is no folder"
        raise ConfigError(
            f"tau2-bench data: {folder} {found}; expected a folder with {', '.join(FILES)}, such as tau2-bench's data/tau2/domains/retail"
        )
    stamp = (folder / "db.json").stat()
    db = _load_database(database, folder / "db.json", (stamp.st_mtime_ns, stamp.st_size))  # type: ignore[arg-type]  # mypy: a class is hashable
    policy = (folder / "policy.md").read_text(encoding="utf-8")
    domain = Domain(name=name, policy=policy, tools=tools, database=lambda: db, **{"dialect": "tau2", **fields})
    tasks, warnings = read_tasks(folder, domain=name, db=db)
    tasks, refused = check_references(domain, tasks)
    return dataclasses.replace(domain, tasks=lambda: tasks, warnings=(*warnings, *refused))


@lru_cache(maxsize=4)
def _load_database(database: type[Database], path: Path, stamp: tuple[int, int]) -> Database:
    """The domains made from one folder share one frozen database; the stamp tells when the file is another."""
    return database.load(path)


def read_tasks(folder: str | Path, *, domain: str, db: Database) -> tuple[tuple[Task, ...], list[str]]:
    """The tasks of `tasks.json`, with their splits, and what is odd about the files.

    A task's split is the smallest one that names it (tau2-bench's `base` names all), or `train` where none does.

    Raises:
        TaskError: A file is malformed, or a task needs what is not supported.
    """
    path = Path(folder) / "tasks.json"
    splits, named = _read_splits(Path(folder) / "split_tasks.json")
    tasks = parse_tasks(_read_json(path), origin=str(path), domain=domain, db=db, splits=splits)
    absent = sorted(named - {task.id for task in tasks})
    warnings = [f"split_tasks.json names {len(absent)} tasks that tasks.json lacks, such as {absent[0]!r}"] if absent else []
    return tasks, warnings


def parse_tasks(rows: Any, *, origin: str, domain: str, db: Database, splits: Mapping[str, str] | None = None) -> tuple[Task, ...]:
    """tau2-bench's tasks, as its `tasks.json` and its results hold them, as ours.

    Args:
        rows: The parsed JSON.
        origin: Where it comes from, for error texts.
        domain: The domain's name.
        db: The database that the tasks start from.
        splits: Task id -> split.

    Raises:
        TaskError: The rows are malformed, or a task needs what is not supported: user tools, assertions on the environment, a start
            in the middle of a conversation.
    """
    if not isinstance(rows, list):
        raise TaskError(f"{origin}: expected a list of tasks, found {type(rows).__name__}")
    tasks: dict[str, Task] = {}
    for at, row in enumerate(rows):
        given = row.get("id") if isinstance(row, Mapping) else None
        place = f"{origin}: task {given!r}" if given is not None else f"{origin}: task at index {at}"
        try:
            raw = _Task.model_validate(row)
        except ValidationError as error:
            raise TaskError(f"{place}: {first_error(error)}") from None
        if raw.id in tasks:
            raise TaskError(f"{place} occurs twice")
        tasks[raw.id] = Task(
            id=raw.id,
            domain=domain,
            scenario=_scenario(raw.user_scenario),
            criteria=_criteria(place, raw.evaluation_criteria),
            changes=_changes(place, raw.initial_state, db),
            split=(splits or {}).get(raw.id, "train"),
            source="tau2",
        )
    return tuple(tasks.values())


def check_references(domain: Domain, tasks: Iterable[Task]) -> tuple[tuple[Task, ...], list[str]]:
    """Run every reference once: mark the tasks that an agent passes by doing nothing, and report each action that a tool refuses.

    Under the tau2 dialect a refused action stays in the reference and is skipped, as tau2-bench does. Otherwise a refused read is taken
    out of the reference, and a task with a refused write is left out, since its target would be wrong.
    """
    kept: list[Task] = []
    warnings: list[str] = []
    for task in tasks:
        db = domain.start(task)
        refused: set[int] = set()
        for at, call in enumerate(task.criteria.actions):
            answer = domain.execute(db, call)
            if answer.is_error:
                refused.add(at)
                shown = f"{call.name}({json.dumps(call.arguments)})"
                warnings.append(f"task {task.id!r}, reference action {at}, {shown}: {answer.content.removeprefix('Error: ')}")
        if domain.dialect != "tau2" and refused:
            if any(domain.tools_by_name[task.criteria.actions[at].name].writes for at in refused):
                warnings.append(f"task {task.id!r} is left out: a write of its reference is refused")
                continue
            task = _without(task, refused)
        kept.append(task if db.changes() else _passes_by_nothing(task))
    return tuple(kept), warnings


def _without(task: Task, refused: set[int]) -> Task:
    places = [at for at in range(len(task.criteria.actions)) if at not in refused]
    tau2 = task.criteria.tau2 or Tau2Criteria()
    compared = {new: tau2.compare_arguments[old] for new, old in enumerate(places) if old in tau2.compare_arguments}
    changed = {
        "actions": tuple(task.criteria.actions[at] for at in places),
        "tau2": tau2.model_copy(update={"compare_arguments": compared}),
    }
    return task.model_copy(update={"criteria": task.criteria.model_copy(update=changed)})


def _passes_by_nothing(task: Task) -> Task:
    tau2 = task.criteria.tau2 or Tau2Criteria()
    asked = {"COMMUNICATE": task.criteria.communicate, "ACTION": task.criteria.actions}
    if any(asked.get(name) for name in tau2.reward_basis):
        return task
    judge = "; a judge model has the last word in tau2-bench" if tau2.nl_assertions and "NL_ASSERTION" in tau2.reward_basis else ""
    reason = f"tau2-bench's reference leaves the database as it was{judge}"
    return task.model_copy(update={"criteria": task.criteria.model_copy(update={"nothing_passes": reason})})


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise TaskError(f"{path} is not JSON: {error}") from None


def _read_splits(path: Path) -> tuple[dict[str, str], set[str]]:
    """(task id -> the smallest split that names it, all ids that are named)."""
    if not path.is_file():
        return {}, set()
    splits = _read_json(path)
    if not isinstance(splits, dict) or not all(isinstance(ids, list) and all(isinstance(id, str) for id in ids) for ids in splits.values()):
        raise TaskError(f'{path}: expected an object of split name to a list of task ids, such as {{"train": ["0", "1"]}}')
    by_size = sorted(splits.items(), key=lambda split: -len(split[1]))
    found = {task_id: name for name, ids in by_size for task_id in ids}
    return found, set(found)


def _scenario(user: _User) -> Scenario:
    told = user.instructions
    return Scenario(
        goal=told.reason_for_call,
        known={"about yourself": told.known_info} if told.known_info else {},
        unknown=told.unknown_info,
        instructions=told.task_instructions,
        persona=user.persona,
    )


def _criteria(place: str, raw: _Criteria | None) -> Criteria:
    """tau2-bench's criteria. Without any, or without actions to reach a state by, it gives the database's share of the reward for free."""
    if raw is None:
        return Criteria(basis=("tau2",), tau2=Tau2Criteria(reward_basis=()))
    if raw.env_assertions:
        raise TaskError(f"{place}: evaluation_criteria.env_assertions are not supported; expected none")
    free = {"ENV_ASSERTION"} if raw.actions is not None else {"ENV_ASSERTION", "DB"}
    actions = raw.actions or ()
    tau2 = Tau2Criteria(
        reward_basis=tuple(name for name in raw.reward_basis if name not in free),
        nl_assertions=raw.nl_assertions or (),
        compare_arguments={at: action.compare_args for at, action in enumerate(actions) if action.compare_args is not None},
    )
    calls = tuple(ToolCall(name=action.name, arguments=action.arguments) for action in actions)
    return Criteria(actions=calls, communicate=raw.communicate_info or (), basis=("tau2",), tau2=tau2)


def _changes(place: str, start: _Start | None, db: Database) -> dict[str, dict[str, Any]]:
    """`initialization_data` is merged into the database field by field; ours replaces whole fields of a record."""
    if start is None:
        return {}
    data = start.initialization_data or _Data()
    for name, value in (("initialization_actions", start.initialization_actions), ("message_history", start.message_history)):
        if value:
            raise TaskError(f"{place}: initial_state.{name} is not supported; expected none")
    if data.user_data:
        raise TaskError(f"{place}: initial_state.initialization_data.user_data is not supported; expected none")
    changes: dict[str, dict[str, Any]] = {}
    for table, rows in (data.agent_data or {}).items():
        known: Mapping[str, Record] = db.tables.get(table, {})
        changes[table] = {key: _merge(known[key].model_dump(mode="json"), row) if key in known else row for key, row in rows.items()}
    return changes


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}
    return new
