"""A task under tau2-bench's tools, before it is written: what they refuse or grade otherwise than here.

A task is left out where its outcome there would mislead: its reference does not work, a way that is as right as the reference does not
pass, or doing nothing or the very mistake that it was made for passes. Everything else is a warning: the state that the reference leads
to there is made by tau2-bench's own replay, so that it is the right one there even where it differs from ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sentinel_env.database import Changes, Database
from sentinel_env.domain import Domain
from sentinel_env.errors import TaskError
from sentinel_env.evaluation import evaluate
from sentinel_env.importers.tau2 import parse_tasks
from sentinel_env.messages import Message, ToolCall
from sentinel_env.tasks import Task
from sentinel_env.trajectory import Trajectory

_WEAK = re.compile(r"[\d.]{1,3}")
"""A number so short that it is likely to be part of another one."""


class _Run(NamedTuple):
    changes: Changes
    refused: dict[int, str]
    """Place of a refused call -> the tool's words."""
    passed: bool


class Rehearsal:
    """One task, here and under tau2-bench's tools.

    Args:
        domain: Our world.
        there: The same database with tau2-bench's tools.
        task: The task.
        row: What it becomes in `tasks.json`.
    """

    def __init__(self, domain: Domain, there: Domain, task: Task, row: Mapping[str, Any]) -> None:
        self._domain, self._there, self._task, self._row = domain, there, task, row
        self._actions = task.criteria.actions
        self.punished: list[str] = []
        """The labels of the certificate's wrong plans that fail there too; known once the task is not refused."""
        self._passing: list[str] = []

    def refusal(self) -> str | None:
        """Why the task must be left out, or None."""
        return next(self._refusals(), None)

    def _refusals(self) -> Iterator[str]:
        task = self._task
        try:
            self._domain.reference_changes(task)
            yield from self._lost_changes()
            self._twin = self._read_back()
            self._start_here, self._start_there = self._domain.start(task), self._there.start(self._twin)
        except TaskError as error:
            yield str(error).removeprefix(f"task {task.id!r}, ")
            return
        for table, rows in task.changes.items():
            for key in rows:
                if _dump(self._start_here, table, key) != _dump(self._start_there, table, key):
                    yield f"changes: {table}[{key!r}] comes out otherwise, because tau2-bench merges field by field and takes nothing away"
                    return
        self._reference = self._run(self._actions)
        for at, text in self._reference.refused.items():
            if self._is_write(self._actions[at]):
                yield f"reference action {at} ({self._actions[at].name}): tau2-bench's tool refuses it: {text}"
        if not self._reference.passed:
            yield "its own reference does not pass under tau2-bench's rules"
        if task.criteria.nothing_passes is None and self._run((), silent=True).passed:
            yield "an agent that does nothing passes under tau2-bench's rules"
        for name, plan in self._as_right():
            if not self._run(plan).passed:
                yield f"{name} with its items in another order is as right, but does not pass under tau2-bench's tools"
        certificate = task.certificate
        for at, foil in enumerate(certificate.foils if certificate is not None else ()):
            if not self._run(foil.plan(self._actions), silent=foil.silent).passed:
                self.punished.append(foil.label)
                continue
            self._passing.append(foil.label)
            if certificate is not None and at == 0 and foil.label == certificate.label and not foil.mutant:
                yield f"the mistake that it was made for ({foil.label}) passes under tau2-bench's tools"

    def warnings(self) -> Iterator[str]:
        """What is graded otherwise there; only of a task that is not refused."""
        criteria, reference = self._task.criteria, self._reference
        if criteria.nothing_passes is not None:
            yield f"An agent that does nothing passes: {criteria.nothing_passes}."
        for at, text in reference.refused.items():
            yield f"tau2-bench's tool refuses reference action {at} ({self._actions[at].name}), which changes nothing: {text}."
        if places := list(_differences(self._domain.reference_changes(self._task), reference.changes)):
            yield f"tau2-bench's tools lead to another state than ours: {', '.join(places)}."
        if self._passing:
            yield f"Under tau2-bench's tools a wrong plan passes too: {', '.join(dict.fromkeys(self._passing))}."
        hands_over = any(self._domain.is_transfer(call.name) for call in self._actions)
        if "transfer" in criteria.basis and not hands_over:
            yield "tau2-bench does not punish a hand-over that is not needed."
        if "actions" in criteria.basis and any(self._actions.count(call) > 1 for call in self._actions):
            yield "tau2-bench does not count how often a call is made."
        for info in self._row["evaluation_criteria"]["communicate_info"]:
            if "tau2" not in criteria.basis and _WEAK.fullmatch(info):
                yield f"{info!r} is also found as a part of longer numbers."

    # the task as tau2-bench reads it

    def _lost_changes(self) -> Iterator[str]:
        for table, rows in self._task.changes.items():
            for key, fields in rows.items():
                if fields is None:
                    yield f"changes: {table}[{key!r}] is removed, which tau2-bench's initial state cannot do"

    def _read_back(self) -> Task:
        row = {**self._row, "description": None}
        (twin,) = parse_tasks([row], origin="tasks.json", domain=self._there.name, db=self._there.base)
        return twin

    def _run(self, plan: Sequence[ToolCall], *, silent: bool = False) -> _Run:
        return _carry_out(self._there, self._twin, self._start_there, plan, None if silent else self._task.criteria.communicate)

    # other plans

    def _is_write(self, call: ToolCall) -> bool:
        tool = self._domain.tools_by_name.get(call.name)
        return tool is not None and tool.writes

    def _as_right(self) -> Iterator[tuple[str, Sequence[ToolCall]]]:
        """(tool, plan) for other plans that pass here: the lists of a write in another order, each item last once."""
        for at, call in enumerate(self._actions):
            if not self._is_write(call):
                continue
            lists = {name: value for name, value in call.arguments.items() if isinstance(value, list)}
            lengths = {len(value) for value in lists.values()}
            for turn in range(1, min(lengths)) if len(lengths) == 1 else ():
                turned = {name: value[turn:] + value[:turn] for name, value in lists.items()}
                plan = list(self._actions)
                plan[at] = call.model_copy(update={"arguments": {**call.arguments, **turned}})
                if _carry_out(self._domain, self._task, self._start_here, plan, self._task.criteria.communicate).passed:
                    yield call.name, plan


def _dump(db: Database, table: str, key: str) -> Any:
    record = db.tables[table].get(key)
    return None if record is None else record.model_dump(mode="json")


def _carry_out(domain: Domain, task: Task, start: Database, plan: Sequence[ToolCall], said: Sequence[str] | None) -> _Run:
    """Carry out a plan, tell what has to be told, and grade that; without a word beyond the greeting for None."""
    db = start.fork()
    messages = [Message(role="assistant", content=domain.greeting or "")]
    refused: dict[int, str] = {}
    for at, call in enumerate(plan):
        answer = domain.execute(db, call)
        if answer.is_error:
            refused[at] = answer.content.removeprefix("Error: ")
        messages += [Message(role="assistant", tool_calls=(call,)), answer]
    if said is not None:
        messages.append(Message(role="assistant", content=". ".join(["Done", *said])))
    trajectory = Trajectory(id="rehearsal", task=task, messages=tuple(messages), changes=db.changes(), terminated=True)
    return _Run(db.changes(), refused, evaluate(domain, trajectory).passed)


def _differences(ours: Changes, theirs: Changes) -> Iterator[str]:
    """Where they differ, beyond the last bits of an amount, which tau2-bench does not round."""
    for table in sorted({*ours, *theirs}):
        for key in sorted({*ours.get(table, {}), *theirs.get(table, {})}):
            one, other = (_rounded(changes.get(table, {}).get(key)) for changes in (ours, theirs))
            if one == other:
                continue
            if isinstance(one, Mapping) and isinstance(other, Mapping):
                fields = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
                yield f"{table}[{key!r}].{'/'.join(fields)}"
            else:
                yield f"{table}[{key!r}]"


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value
