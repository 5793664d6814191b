"""tau2-bench's format (`sentinel export tau2 TASKS.jsonl FOLDER`): the inverse of `importers/tau2.py`.

    exported = export_tau2(load_domain("retail"), load_tasks("tasks.jsonl"), "out/retail")
    exported.left_out       # task id -> why tau2-bench could not grade it as it is graded here

The folder is what tau2-bench keeps in `data/tau2/domains/retail`: put it there, or into a data folder of its own that `TAU2_DATA_DIR`
names. tau2-bench has its own tools, and runs no domain but its own: only a database in the shape of one of them is exported. Because its
tools differ from ours in places, each task is tried under them first; see `rehearsal.py` for what is left out and what is warned of.

What a task's checks become: `database` DB, `communicate` COMMUNICATE, `actions` ACTION with all arguments compared, and `transfer`, of
a reference that hands over, ACTION on the hand-over and the names of its writes, its look-ups taken out of the reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sentinel_env.domain import Domain, load_domain
from sentinel_env.errors import ConfigError, DatabaseError, TaskError
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Criteria, Task, Tau2Criteria

from .rehearsal import Rehearsal
from .user_prose import instructions

FILES = ("db.json", "tasks.json", "split_tasks.json", "policy.md")
SHAPES = {"retail": frozenset(("products", "users", "orders"))}
"""The domains of tau2-bench that can be written for, with their tables."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Exported:
    """What was written, and what was not."""

    folder: Path
    tasks: tuple[str, ...]
    """The ids of the tasks in the folder."""
    left_out: dict[str, str]
    """Task id -> why it is not in the folder."""
    warnings: dict[str, tuple[str, ...]]
    """Task id -> what is graded otherwise there; also in the task's `description.notes`."""


def export_tau2(domain: Domain, tasks: Iterable[Task], folder: str | Path, *, force: bool = False) -> Exported:
    """Write a folder that tau2-bench loads.

    Args:
        domain: The world that the tasks are for, with the database to write.
        tasks: The tasks. One that tau2-bench's tools cannot carry out, or grade otherwise in what matters, is left out with a reason.
        folder: Where to write; made where it is missing.
        force: Whether files that are there already are overwritten.

    Raises:
        ConfigError: tau2-bench has no domain of this shape, a file is there already, or the folder cannot be written.
        TaskError: There are no tasks, one is of another domain, an id occurs twice, or every task had to be left out.
    """
    folder, given = Path(folder), tuple(tasks)
    name = _name_there(domain)
    if not given:
        raise TaskError("no tasks to export")
    world = domain.with_tasks(given)
    _ = world.tasks_by_id  # refuses foreign tasks and ids that occur twice
    if not force:
        _refuse_to_overwrite(folder)
    database = _to_json(domain.base.dump())
    there = _load_there(name, database)
    rows, left_out, warnings = [], {}, {}
    for task in given:
        row = to_row(domain, task, name)
        rehearsal = Rehearsal(domain, there, task, row)
        if (reason := rehearsal.refusal()) is not None:
            left_out[task.id] = reason
            continue
        if found := tuple(rehearsal.warnings()):
            warnings[task.id] = found
        row["description"] = _description(task, rehearsal.punished, found)
        rows.append(row)
    if not rows:
        first = next(iter(left_out.items()))
        raise TaskError(f"none of {len(given)} tasks can be exported, such as {first[0]!r}: {first[1]}")
    written = [task for task in given if task.id not in left_out]
    texts = (database, _to_json(rows), _to_json(_splits(written)), domain.policy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(FILES, texts, strict=True):
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}") from None
    return Exported(folder, tuple(task.id for task in written), left_out, warnings)


def _name_there(domain: Domain) -> str:
    tables = frozenset(domain.base.tables)
    for name, shape in SHAPES.items():
        if tables == shape:
            return name
    shapes = "; ".join(f"{name}: {', '.join(sorted(shape))}" for name, shape in SHAPES.items())
    raise ConfigError(
        f"domain {domain.name!r} cannot be exported: tau2-bench runs its own domains only, and none has the tables "
        f"{', '.join(sorted(tables))}; expected those of {shapes}"
    )


def _refuse_to_overwrite(folder: Path) -> None:
    """Known before anything takes time."""
    try:
        kept = [file for file in FILES if (folder / file).exists()]
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror or error}") from None
    if kept:
        raise ConfigError(f"{folder} holds {', '.join(kept)} already; name another folder, or overwrite with --force")


def _load_there(name: str, database: str) -> Domain:
    """The domain with tau2-bench's tools on this database.

    Raises:
        ConfigError: The records do not fit.
    """
    with TemporaryDirectory() as folder:
        for file, text in (("db.json", database), ("tasks.json", "[]"), ("policy.md", "")):
            Path(folder, file).write_text(text, encoding="utf-8")
        try:
            there = load_domain(name, data=folder)
            _ = there.base
        except DatabaseError as error:
            raise ConfigError(f"the database does not fit tau2-bench's {name}: {error}") from None
    return there


def to_row(domain: Domain, task: Task, name: str) -> Json:
    """A task as an element of `tasks.json`, its description still empty.

    Args:
        domain: The task's world.
        task: The task.
        name: The domain's name in tau2-bench.
    """
    return {
        "id": task.id,
        "description": None,
        "user_scenario": {"persona": task.scenario.persona, "instructions": {"domain": name, **instructions(domain, task)}},
        "initial_state": {"initialization_data": {"agent_data": task.changes, "user_data": None}} if task.changes else None,
        "evaluation_criteria": _criteria(domain, task),
    }


def _criteria(domain: Domain, task: Task) -> Json:
    criteria = task.criteria
    tau2 = criteria.tau2 or Tau2Criteria(reward_basis=())
    basis, compared, actions = list(tau2.reward_basis), dict(tau2.compare_arguments), criteria.actions
    is_transfer = "transfer" in criteria.basis and any(domain.is_transfer(call.name) for call in actions)
    if is_transfer and "actions" not in criteria.basis:
        actions = tuple(call for call in actions if domain.is_transfer(call.name) or _writes(domain, call))
        compared = {at: () for at in range(len(actions))}
    if "actions" in criteria.basis:
        compared = {at: () if domain.is_transfer(call.name) else tuple(call.arguments) for at, call in enumerate(actions)}
    names = {"database": "DB", "communicate": "COMMUNICATE", "actions": "ACTION", **({"transfer": "ACTION"} if is_transfer else {})}
    basis += [names[each] for each in criteria.basis if each in names and names[each] not in basis]
    return {
        "actions": [_action(task, at, call, compared.get(at)) for at, call in enumerate(actions)],
        "communicate_info": communicate_info(criteria),
        "nl_assertions": list(tau2.nl_assertions) or None,
        "reward_basis": list(dict.fromkeys(basis)),
    }


def _writes(domain: Domain, call: ToolCall) -> bool:
    tool = domain.tools_by_name.get(call.name)
    return tool is not None and tool.writes


def _action(task: Task, at: int, call: ToolCall, compared: Sequence[str] | None) -> Json:
    action = {"action_id": f"{task.id}_{at}", "name": call.name, "arguments": call.arguments}
    return action if compared is None else {**action, "compare_args": list(compared)}


_NUMBER = re.compile(r"[$€£]?\d[\d,]*(?:\.\d+)?")


def communicate_info(criteria: Criteria) -> list[str]:
    """What must be said, so that tau2-bench finds it: as part of a text whose commas were removed.

    Commas and currency signs go, and zeros at the end of a fraction: an agent may say "$1,200.50" or "1200.5". A task that came from
    tau2-bench keeps its own.

    >>> communicate_info(Criteria(communicate=("$1,200.50", "12.00", "size L, black")))
    ['1200.5', '12', 'size L black']
    """
    if "tau2" in criteria.basis:
        return list(criteria.communicate)
    return [text for said in criteria.communicate if (text := _NUMBER.sub(_plain, said).replace(",", "").strip())]


def _plain(match: re.Match[str]) -> str:
    whole, point, fraction = match.group().lstrip("$€£").replace(",", "").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}{point}{fraction}" if fraction else whole


def _splits(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """tau2-bench runs `base` where no split is asked for."""
    splits = {"base": [task.id for task in tasks]}
    for task in tasks:
        if task.split != "base":
            splits.setdefault(task.split, []).append(task.id)
    return splits


def _description(task: Task, punished: Sequence[str], warnings: Sequence[str]) -> Json:
    certificate = task.certificate
    notes = list(warnings)
    purpose = None
    if certificate is not None:
        about = [certificate.label, *certificate.tools, *certificate.arguments, *([certificate.feature] if certificate.feature else [])]
        passed = sum(gate.passed and gate.checked for gate in certificate.gates)
        purpose = f"Made for failure pattern {certificate.pattern!r} ({', '.join(about)}). {passed} gates passed."
        if punished:
            purpose += f" Wrong plans that fail it: {len(punished)} ({', '.join(dict.fromkeys(punished))})."
        if certificate.unpunished:
            notes.append(f"It gives the opportunity for the pattern's mistake, which does not fail it: {certificate.unpunished}.")
    return {"purpose": purpose, "relevant_policies": None, "notes": " ".join(notes) or None}


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
