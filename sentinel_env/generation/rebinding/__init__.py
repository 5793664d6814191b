"""New tasks for a domain that declares no operations: existing ones, carried over to other records.

    "Renew Dune for me", card M7, renew_loan(L1)   ->   "Renew Emma for me", card M8, renew_loan(L2)

What a task is about is found out from its plan, its facts and the database (`shape`), as are whose records they are (`subjects`), how they
hang together (`relations`), how the texts tell them from others (`speech`, `telling`) and what the amounts are sums of (`amounts`). Then
other records are looked for of which all of that holds too (`search`). Where a text is not understood, it may only be said of records that
are as the old ones are: the situation is copied to another customer (`copying`). A candidate that does not fit is dropped, and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from sentinel_env.database import Changes
from sentinel_env.domain import Domain
from sentinel_env.failures import FailurePattern
from sentinel_env.failures.findings import CAUSES
from sentinel_env.messages import ToolCall
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Task

from .carrying import criteria_of
from .relations import Assignment
from .shape import Unfit
from .source import Source, sources_of
from .temptations import Temptations, grades_telling

__all__ = ["rebind_tasks"]

_PATIENCE = 120
"""Candidates of one task that may be dropped in a row before it is given up."""


def rebind_tasks(
    domain: Domain, pattern: FailurePattern, *, n: int, random: Random, split: str, misses: Counter[str] | None = None
) -> list[TaskProposal]:
    """Up to n drafts, each an existing task of the split about other records, in an order drawn by `random`.

    Drafts about records as the database has them come first, then those about copies of the old task's records.

    Args:
        domain: The world.
        pattern: What to stress; a draft in which its mistake cannot be made is dropped.
        n: How many.
        random: Which of many.
        split: Whose tasks are carried over. No draft is about a subject of a task of another split.
        misses: Counts why candidates were dropped, one line each.
    """
    why: Counter[str] = Counter() if misses is None else misses
    sources = sources_of(domain, split)
    why.update(sources.misses)
    concerned = [source for source in sources.sources if _concerns(source, pattern, why)]
    concerned = random.sample(concerned, len(concerned))
    drafts: list[TaskProposal] = []
    seen = {_made(domain, source.task) for source in concerned}
    rebound: set[str] = set()
    """The tasks that could be carried over to records as they are."""
    for way in (_rebound, _copied):
        turns = [
            way(source, pattern, sources.pool, Random(random.getrandbits(64)), why) for source in concerned if source.task.id not in rebound
        ]
        while turns and len(drafts) < n:
            for turn in list(turns):
                proposal = next(turn, None)
                if proposal is None:
                    turns.remove(turn)
                elif (made := _made(domain, proposal.draft)) in seen:
                    why["the same as another task"] += 1
                else:
                    seen.add(made)
                    drafts.append(proposal)
                    rebound.add(proposal.draft.id.rpartition("-")[0])
                if len(drafts) >= n:
                    break
    return drafts


def _concerns(source: Source, pattern: FailurePattern, why: Counter[str]) -> bool:
    """Whether a task leaves room for the pattern's mistake."""
    calls, shape = source.shape.actions, source.shape
    writes = [call for call in calls if shape.writes(call)]
    if pattern.tools and not any(call.name in pattern.tools for call in calls):
        return False
    tells = source.task.criteria.communicate and grades_telling(source.task)
    if pattern.label == "missing_communicate" and not tells:
        return False
    if pattern.knobs.writes is not None and len(writes) != pattern.knobs.writes:
        return False
    if source.task.criteria.nothing_passes is not None or not (writes or tells):
        why["task not carried over: an agent that does nothing passes it"] += 1
        return False
    return True


def _rebound(source: Source, pattern: FailurePattern, pool: Sequence[str], random: Random, why: Counter[str]) -> Iterator[TaskProposal]:
    if source.not_free is not None:
        why[f"only for copies: {source.not_free}"] += 1
        return
    left = _PATIENCE
    changed = bool(source.task.changes)
    for subject in random.sample(pool, len(pool)):
        if changed and subject == source.shape.subject:
            continue
        for candidate in source.rebindings(subject, random):
            if left <= 0:
                return
            try:
                if isinstance(candidate, Unfit):
                    raise candidate
                yield _draft(source, pattern, candidate, source.shared_changes, "other records")
                left = _PATIENCE
            except Unfit as reason:
                why[str(reason)] += 1
                left -= 1


def _copied(source: Source, pattern: FailurePattern, pool: Sequence[str], random: Random, why: Counter[str]) -> Iterator[TaskProposal]:
    left, copier = _PATIENCE, source.copier()
    for subject in random.sample(pool, len(pool)):
        if left <= 0:
            return
        if not copier.fits(subject):
            continue
        try:
            assignment, changes = copier.copy(subject, random)
            yield _draft(source, pattern, assignment, changes, "copied records")
            left = _PATIENCE
        except Unfit as reason:
            why[f"copy: {reason}"] += 1
            left -= 1


def _draft(source: Source, pattern: FailurePattern, assignment: Assignment, changes: Changes, way: str) -> TaskProposal:
    """The proposal for other records.

    Raises:
        Unfit: It cannot be said or done of them, or the pattern's mistake cannot be made.
    """
    task, script, shape = source.task, source.script, source.shape
    is_copy = way == "copied records"
    calls = source.actions(assignment, copied=is_copy)
    start = shape.domain.start(task.model_copy(update={"changes": changes}))
    told = source.amounts.copied(assignment) if is_copy else source.amounts.tell(assignment, start, calls)
    first = next((at for at, call in enumerate(calls) if call is not None and shape.writes(call)), len(calls))
    looked_up = [(None, call) for call in source.lookups.of(assignment)]
    made = [(at, call) for at, call in enumerate(calls) if call is not None]
    plan: list[tuple[int | None, ToolCall]] = [
        *(row for row in made if row[0] < first),
        *looked_up,
        *(row for row in made if row[0] >= first),
    ]
    places, actions = [at for at, _ in plan], [call for _, call in plan]
    scenario, assertions = script.carry(assignment, told)
    draft = task.model_copy(
        update={
            "scenario": scenario,
            "criteria": criteria_of(task, actions, [None if at is None else shape.places[at] for at in places], told, assertions),
            "changes": changes,
            "source": f"proposer:{pattern.id} rebound from {task.id}",
            "certificate": None,
        }
    )
    digest = hashlib.sha256(_made(shape.domain, draft).encode()).hexdigest()[:12]
    draft = draft.model_copy(update={"id": f"{task.id}-{digest}"})
    temptations = Temptations(source.relations, draft, assignment, places)
    if temptations.refused is not None:
        raise Unfit(temptations.refused)
    foils = temptations.foils(pattern)
    is_own = bool(foils) and foils[0].label == pattern.label
    if not foils or (pattern.label in CAUSES and not is_own):
        raise Unfit("the pattern's mistake cannot be made" if foils else "no mistake can be made")
    subject = next(at for at, role in enumerate(shape.roles) if role.standing == "subject")
    return TaskProposal(
        pattern_id=pattern.id,
        draft=draft,
        foils=tuple(foils),
        rationale=f"task {task.id} about {assignment.part(subject).key} instead of {shape.subject}, {way}",
        label=pattern.label,
        tools=pattern.tools,
        arguments=pattern.arguments,
        feature=pattern.feature,
        unpunished="" if is_own or pattern.label == "general" else "the state of the database does not show this conduct",
        features={"rebound": way},
    )


def _made(domain: Domain, draft: Task) -> str:
    """What tells drafts apart: where they start, what they write and what they tell."""
    calls = [[call.name, call.arguments] for call in draft.criteria.actions if call.name in domain.tools_by_name]
    made = [json.dumps(call, sort_keys=True) for call in calls if domain.tools_by_name[str(call[0])].writes]
    handed_over = any(domain.is_transfer(str(call[0])) for call in calls)
    return json.dumps([sorted(made), handed_over, sorted(draft.criteria.communicate), draft.changes], sort_keys=True)
