"""A draft: a task with other records in its roles, and the mistakes that it must punish."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sentinel_env.database import Changes
from sentinel_env.domain import Domain
from sentinel_env.failures import FailurePattern
from sentinel_env.failures.opportunities import Exposure
from sentinel_env.generation.targets import UNPUNISHED
from sentinel_env.messages import ToolCall
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Criteria, Task

from .foils import Foils
from .relations import Assignment
from .shape import Unfit
from .source import Source
from .temptations import Temptations

Way = Literal["other records", "copied records"]
NO_MISTAKE = "the pattern's mistake cannot be made on the other records"


def draft(source: Source, pattern: FailurePattern, assignment: Assignment, changes: Changes, *, way: Way, seen: set[str]) -> TaskProposal:
    """The proposal for other records.

    Args:
        source: The task that is carried over.
        pattern: What to stress.
        assignment: Who takes the roles.
        changes: Of the database before the start.
        way: Whether the records are as the database has them, or copies of the old ones.
        seen: Signatures of the tasks that there are; the draft's is added.

    Raises:
        Unfit: It cannot be said or done of them, there is such a task, or the pattern's mistake cannot be made.
    """
    task, shape, is_copy = source.task, source.shape, way == "copied records"
    calls = source.actions(assignment, copied=is_copy)
    start = shape.domain.start(task.model_copy(update={"changes": changes}))
    told = source.amounts.copied(assignment) if is_copy else source.amounts.tell(assignment, start, calls)
    plan = _plan(source, assignment, calls)
    places, actions = [at for at, _ in plan], [call for _, call in plan]
    scenario, assertions = source.script.carry(assignment, told)
    made = task.model_copy(
        update={
            "scenario": scenario,
            "criteria": _criteria(task, actions, [None if at is None else shape.places[at] for at in places], told, assertions),
            "changes": changes,
            "source": f"proposer:{pattern.id} rebound from {task.id}",
            "certificate": None,
        }
    )
    mark = signature(shape.domain, made)
    if mark in seen:
        raise Unfit("the same as another task")
    made = made.model_copy(update={"id": f"{task.id}-{hashlib.sha256(mark.encode()).hexdigest()[:12]}"})
    foils = Foils(made, Temptations(source.relations, actions, places, assignment))
    own = foils.own(pattern)
    if own is None and pattern.label != "general" and pattern.label not in UNPUNISHED:
        raise Unfit(NO_MISTAKE)
    if pattern.feature is not None and not leaves_room(Exposure(shape.domain, made), pattern):
        raise Unfit(f"no place for the mistake in the context {pattern.feature}")
    seen.add(mark)
    subject = next(at for at, role in enumerate(shape.roles) if role.standing == "subject")
    return TaskProposal(
        pattern_id=pattern.id,
        draft=made,
        foils=tuple(foils.others(own) if own is None else [own, *foils.others(own)]),
        rationale=f"task {task.id} about {assignment.part(subject).key} instead of {shape.subject}, {way}",
        label=pattern.label,
        tools=pattern.tools,
        arguments=pattern.arguments,
        feature=pattern.feature,
        unpunished=UNPUNISHED.get(pattern.label, "") if own is None else "",
        features={"rebound": way},
    )


def _plan(source: Source, assignment: Assignment, calls: list[ToolCall | None]) -> list[tuple[int | None, ToolCall]]:
    """The new reference, each action with the place of the old one: reads that were lacking come before the first write."""
    first = next((at for at, call in enumerate(calls) if call is not None and source.shape.writes(call)), len(calls))
    rows = [(at, call) for at, call in enumerate(calls) if call is not None]
    looked_up = [(None, call) for call in source.lookups.of(assignment)]
    return [*(row for row in rows if row[0] < first), *looked_up, *(row for row in rows if row[0] >= first)]


def _criteria(
    task: Task, actions: Sequence[ToolCall], kept: Sequence[int | None], told: Mapping[str, str], assertions: tuple[str, ...]
) -> Criteria:
    """The criteria of a task with another reference.

    Args:
        task: The task as it was.
        actions: The new reference.
        kept: For each of them the place of the old one in the task's own reference; None for one that is new.
        told: What has to be told, by what had to be.
        assertions: tau2-bench's, in the new words.
    """
    criteria = task.criteria
    changed: dict[str, Any] = {
        "actions": tuple(actions),
        "communicate": tuple(told.get(text, text) for text in criteria.communicate),
    }
    if criteria.tau2 is not None:
        compared = {
            new: names
            for new, old in enumerate(kept)
            if old is not None and (names := criteria.tau2.compare_arguments.get(old)) is not None
        }
        changed["tau2"] = criteria.tau2.model_copy(update={"compare_arguments": compared, "nl_assertions": assertions})
    return criteria.model_copy(update=changed)


def leaves_room(exposure: Exposure, pattern: FailurePattern) -> bool:
    """Whether a reference leaves room for a pattern's mistake, in its context."""
    chances = (chance for chance in exposure.chances if chance.is_of(pattern.label, pattern.tools, pattern.arguments))
    return any(pattern.feature is None or pattern.feature in chance.features for chance in chances)


def signature(domain: Domain, task: Task) -> str:
    """What tells tasks apart: where they start, what they write and what they tell."""
    calls = [call for call in task.criteria.actions if call.name in domain.tools_by_name]
    writes = [json.dumps([call.name, call.arguments], sort_keys=True) for call in calls if domain.tools_by_name[call.name].writes]
    handed_over = any(domain.is_transfer(call.name) for call in calls)
    return json.dumps([sorted(writes), handed_over, sorted(task.criteria.communicate), task.changes], sort_keys=True)
