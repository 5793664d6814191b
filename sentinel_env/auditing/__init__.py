"""An auditor of tasks that somebody wrote, in any domain, without a model.

    for issue in audit(domain):                 # its own tasks; or audit(domain, load_tasks("tasks.jsonl"))
        print(issue.line)

Nothing is taken on trust and nothing is read from a label: references are carried out, lazy agents hold real episodes that the real
`evaluate` grades, and a program that has only the user's words and the read tools looks for every argument. What is certain is "broken",
what a person should look at is "suspect", what is good to know is a "note". `KINDS` says what each finding means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.errors import TaskError
from sentinel_env.tasks import Task

from .ambiguity import ambiguities
from .conduct import conduct, round_trip
from .criteria import criteria_issues
from .explore import Explorer, World
from .facts import misleading, wishes
from .issues import KINDS, SEVERITIES, Issue, Severity, save_issues, shorten
from .reach import identification, identified, unreachable
from .references import effects, refusals
from .rewards import rewards
from .sets import TaskSet
from .text import Said
from .walk import Walk, walk

__all__ = ["KINDS", "SEVERITIES", "Issue", "Severity", "audit", "save_issues"]


def audit(
    domain: Domain,
    tasks: Iterable[Task] | None = None,
    *,
    on_task: Callable[[int], None] = lambda finished: None,
) -> tuple[Issue, ...]:
    """Look for what is wrong with tasks.

    Args:
        domain: The world.
        tasks: What to examine; the domain's own tasks for None.
        on_task: Called after each task with how many are finished.

    Returns:
        The findings, task by task in order, those about several tasks last.

    Raises:
        DomainError: The domain itself is broken, for instance its database.
    """
    examined = tuple(domain.tasks() if tasks is None else tasks)
    world = World(domain, (call for task in examined for call in task.criteria.actions))
    together = TaskSet()
    found: list[Issue] = []
    seen: set[str] = set()
    for finished, task in enumerate(examined, 1):
        if task.id in seen:
            found.append(Issue(task=task.id, kind="same_id", severity="broken", reason="the id occurs twice; give each task its own"))
        seen.add(task.id)
        found.extend(_examine(world, task, together))
        on_task(finished)
    found.extend(together.issues())
    return tuple(found)


def _examine(world: World, task: Task, together: TaskSet) -> Iterator[Issue]:
    domain = world.domain
    if task.domain != domain.name:
        reason = f"the task is for domain {task.domain!r}, examined in {domain.name!r}"
        yield Issue(task=task.id, kind="ungradable", severity="broken", reason=reason)
        return
    if not (task.scenario.goal.strip() or task.scenario.wishes):
        yield Issue(task=task.id, kind="no_goal", severity="broken", reason="the scenario has no goal; say what the user wants")
    try:
        walked = walk(domain, task)
    except TaskError as error:
        yield Issue(task=task.id, kind="bad_start", severity="broken", reason=shorten(str(error), 400))
        return
    said = Said(task.scenario)
    refused = list(refusals(walked, said))
    yield from refused
    yield from effects(walked)
    yield from conduct(walked)
    if domain.dialect == "tau2" or not refused:  # otherwise the reference has no target to grade by
        yield from _grade(walked, said, together)
    explorer = Explorer(world, said, untouched=not task.changes)
    yield from _know(walked, explorer)
    together.add(walked, said, identified(domain, explorer))


def _grade(walked: Walk, said: Said, together: TaskSet) -> Iterator[Issue]:
    """Who is rewarded, by the real evaluation."""
    try:
        yield from rewards(walked)
        yield from criteria_issues(walked, said)
        failure = round_trip(walked)
    except TaskError as error:
        yield Issue(task=walked.task.id, kind="ungradable", severity="broken", reason=shorten(str(error), 400))
        return
    if walked.task.scenario.wishes:
        if failure is not None:
            reason = f"the scripted agent with the scripted user does not pass: {failure}"
            yield Issue(task=walked.task.id, kind="round_trip", severity="broken", reason=reason)
    else:
        together.played_in_prose.append(failure is None)


def _know(walked: Walk, explorer: Explorer) -> Iterator[Issue]:
    """What an agent cannot find out, or cannot tell apart, write by write."""
    judged: list[Any] = []
    yield from wishes(walked)
    yield from misleading(walked, judged)
    yield from identification(walked, explorer)
    seen: list[tuple[Any, ...]] = []
    for step in walked.writes:
        yield from unreachable(walked, step, explorer)
        for issue in ambiguities(walked, step, explorer, judged):
            same = (issue.evidence["argument"], issue.evidence["wanted"], issue.evidence["others"])
            if same not in seen:  # one reason for several cancellations is one question
                seen.append(same)
                yield issue
        explorer.write(step.call, step.answer)
