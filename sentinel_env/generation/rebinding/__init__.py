"""New tasks for a domain that declares no operations: existing ones, carried over to other records.

    "Renew Dune for me", card M7, renew_loan(L1)   ->   "Renew Emma for me", card M8, renew_loan(L2)

What a task is about is found out from its plan, its facts and the database (`shape`), as are whose records they are (`subjects`), how they
hang together (`relations`), how the texts tell them from others (`speech`, `telling`) and what the amounts are sums of (`amounts`). Then
other records are looked for of which all of that holds too (`search`). Where a text is not understood, it may only be said of records that
are as the old ones are: the situation is copied to another customer (`copying`). A candidate that does not fit is dropped, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from sentinel_env.domain import Domain
from sentinel_env.failures import FailurePattern
from sentinel_env.failures.findings import CAUSES
from sentinel_env.failures.opportunities import ConductChances
from sentinel_env.generation.targets import NOT_STRESSED
from sentinel_env.proposals import TaskProposal

from .drafting import NO_MISTAKE, draft, leaves_room, signature
from .foils import grades_telling
from .shape import Unfit
from .source import Source, sources_of

__all__ = ["rebind_tasks"]

_PATIENCE = 120
"""Candidates of one task that may be dropped in a row before it is given up."""
_NO_MISTAKE_COSTS = 8
"""As many as this one counts that does not allow the mistake: it is found out last, and the next one will not either."""


def rebind_tasks(
    domain: Domain, pattern: FailurePattern, *, n: int, random: Random, split: str, misses: Counter[str] | None = None
) -> list[TaskProposal]:
    """Up to n drafts, each an existing task of the split about other records, in an order drawn by `random`.

    The tasks take turns. A draft is about records as the database has them, or, where none fits, about copies of the old task's.

    Args:
        domain: The world.
        pattern: What to stress; a draft in which its mistake cannot be made is dropped.
        n: How many.
        random: Which of many.
        split: Whose tasks are carried over. No draft is about a subject of a task of another split.
        misses: Counts why tasks were not carried over and candidates dropped, one line each.
    """
    why: Counter[str] = Counter() if misses is None else misses
    if pattern.label in NOT_STRESSED:
        why[NOT_STRESSED[pattern.label]] += 1
        return []
    sources = sources_of(domain, split)
    why.update(sources.misses)
    concerned = []
    for source in random.sample(sources.sources, len(sources.sources)):
        if (reason := _lacks(source, pattern)) is None:
            concerned.append(source)
        else:
            why[f"task not carried over: {reason}"] += 1
    drafts: list[TaskProposal] = []
    seen = {signature(domain, source.task) for source in concerned}
    turns = [_drafts(source, pattern, sources.pool, Random(random.getrandbits(64)), seen, why) for source in concerned]
    while turns and len(drafts) < n:
        for turn in list(turns[: n - len(drafts)]):
            proposal = next(turn, None)
            if proposal is None:
                turns.remove(turn)
            else:
                drafts.append(proposal)
    return drafts


def _lacks(source: Source, pattern: FailurePattern) -> str | None:
    """Why a task gives no room for the pattern's mistake, or None."""
    calls, shape = source.shape.actions, source.shape
    writes = [call for call in calls if shape.writes(call)]
    tells = bool(source.task.criteria.communicate) and grades_telling(source.task)
    if source.task.criteria.nothing_passes is not None or not (writes or tells):
        return "an agent that does nothing passes it"
    if pattern.tools and not any(call.name in pattern.tools for call in calls):
        return f"it calls none of {', '.join(pattern.tools)}"
    if pattern.knobs.writes is not None and len(writes) != pattern.knobs.writes:
        return f"it has another number of writes than {pattern.knobs.writes}"
    if pattern.label in CAUSES:
        missing = pattern.label == "missing_communicate" and not tells
        has_room = not missing and leaves_room(source.exposure, pattern)
    else:
        called = dict.fromkeys(call.name for call in calls if not pattern.tools or call.name in pattern.tools)
        label = "tool_error" if pattern.label == "repeated_error" else pattern.label
        has_room = pattern.label == "general" or ConductChances(shape.domain).of_run(called)[label] > 0
    return None if has_room else "it leaves no room for the pattern's mistake"


def _drafts(
    source: Source, pattern: FailurePattern, pool: Sequence[str], random: Random, seen: set[str], why: Counter[str]
) -> Iterator[TaskProposal]:
    """Drafts about other records, or where there is none that fits, about copies."""
    found = False
    for proposal in _rebound(source, pattern, pool, random, seen, why):
        found = True
        yield proposal
    if not found:
        yield from _copied(source, pattern, pool, random, seen, why)


def _rebound(
    source: Source, pattern: FailurePattern, pool: Sequence[str], random: Random, seen: set[str], why: Counter[str]
) -> Iterator[TaskProposal]:
    """Drafts about records as the database has them."""
    if source.not_free is not None:
        why[f"only for copies: {source.not_free}"] += 1
        return
    left = _PATIENCE
    for subject in random.sample(pool, len(pool)):
        if source.task.changes and subject == source.shape.subject:
            continue
        for candidate in source.rebindings(subject, random):
            if left <= 0:
                return
            try:
                if isinstance(candidate, Unfit):
                    raise candidate
                yield draft(source, pattern, candidate, source.shared_changes, way="other records", seen=seen)
                left = _PATIENCE
            except Unfit as reason:
                why[str(reason)] += 1
                left -= _NO_MISTAKE_COSTS if str(reason) == NO_MISTAKE else 1


def _copied(
    source: Source, pattern: FailurePattern, pool: Sequence[str], random: Random, seen: set[str], why: Counter[str]
) -> Iterator[TaskProposal]:
    """Drafts about copies of the old task's records."""
    left, copier = _PATIENCE, source.copier()
    for subject in random.sample(pool, len(pool)):
        if left <= 0:
            return
        if not copier.fits(subject):
            continue
        try:
            assignment, changes = copier.copy(subject, random)
            yield draft(source, pattern, assignment, changes, way="copied records", seen=seen)
            left = _PATIENCE
        except Unfit as reason:
            why[f"copy: {reason}"] += 1
            left -= _NO_MISTAKE_COSTS if str(reason) == NO_MISTAKE else 1
