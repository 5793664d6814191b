"""Is what the reference does allowed, and does it work in dialogue?"""

from __future__ import annotations

from collections.abc import Iterator

from sentinel_env.agents import ScriptedAgent
from sentinel_env.episode import Episode, drive
from sentinel_env.evaluation import evaluate
from sentinel_env.trajectory import record
from sentinel_env.users import RememberingUser

from .issues import Issue, Severity, shorten
from .walk import Step, Walk

MAX_STEPS = 60


def conduct(walk: Walk) -> Iterator[Issue]:
    """Writes that the policy forbids, and records of more than one customer."""
    forbids, access = walk.domain.forbids, walk.domain.access
    for step in walk.writes if forbids is not None else ():
        assert forbids is not None
        if (why := forbids(step.before, step.call)) is not None:
            reason = f"{step.name}: the policy forbids it: {shorten(why)}; a right agent refuses, so correct the reference"
            yield Issue(task=walk.task.id, kind="against_policy", severity="broken", reason=reason, evidence={"action": step.at})
    if access is None:
        return
    owners: dict[str, list[Step]] = {}
    for step in walk.steps:
        owner = None if step.answer.is_error else access.owner(step.before, step.call)
        if owner is not None:
            owners.setdefault(owner, []).append(step)
    if len(owners) > 1:
        shown = "; ".join(f"{owner} in action {', '.join(str(step.at) for step in steps)}" for owner, steps in owners.items())
        reason = f"the reference uses the records of {len(owners)} customers: {shown}; an agent serves one"
        writing = sum(any(step.writes for step in steps) for steps in owners.values()) > 1
        severity: Severity = "broken" if writing else "suspect"
        yield Issue(task=walk.task.id, kind="several_customers", severity=severity, reason=reason, evidence={"customers": list(owners)})


def round_trip(walk: Walk) -> str | None:
    """Why the reference, carried out in dialogue with the scripted user, is not rewarded; None where it is."""
    task = walk.task
    no_limit = MAX_STEPS + 4 * len(task.criteria.actions)
    episode = Episode(walk.domain, task, max_steps=no_limit, max_errors=no_limit)
    drive(episode, ScriptedAgent(tasks=(task,)), RememberingUser(episode.user_view()))
    failed = [check for check in evaluate(walk.domain, record(episode)).checks if not check.passed]
    return shorten(f"{failed[0].name}: {failed[0].detail}") if failed else None
