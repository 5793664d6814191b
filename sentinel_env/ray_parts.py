"""What verbs work out, in parts over a Ray cluster, with the same results in the same order as in one process.

for drafts, misses in propose_in_parts(cluster, domain, patterns, n=10): ...     # a pattern is a part
for verdict in verify_in_parts(cluster, domain, proposals, Examination()): ...   # as `verify_all`
for recheck in recheck_in_parts(cluster, domain, tasks, Examination()): ...      # as `verify_certificates`
report(tally_in_parts(cluster, domain, trajectories))                            # as `Tally.add_all`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from .domain import Domain
from .failures import FailurePattern
from .failures.merging import Part, add_part
from .failures.tally import Tally
from .generation import propose_tasks
from .proposals import TaskProposal, Verdict
from .ray_cluster import Ray, World, in_order, processors
from .tasks import Task
from .trajectory import Trajectory
from .verification import GATES, Examination, KnownTasks, Recheck, verify_certificates, verify_proposal

T = TypeVar("T")

_PROPOSALS, _TASKS, _TRAJECTORIES = 16, 64, 200
"""In a part: some tenths of a second of work."""


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk


Drafted = tuple[list[TaskProposal], Counter[str]]
"""The drafts of a pattern, and why tries came to nothing."""


def propose_in_parts(
    cluster: Ray, domain: Domain, patterns: Sequence[FailurePattern], *, n: int, seed: int = 0, split: str = "train"
) -> Iterator[Drafted]:
    """What `propose_tasks` drafts for each pattern."""
    shared = World.of(domain), {"n": n, "seed": seed, "split": split}
    with cluster.connected():
        yield from in_order(_propose, shared, patterns)


def _propose(shared: tuple[World, dict[str, Any]], pattern: FailurePattern) -> Drafted:
    world, settings = shared
    misses: Counter[str] = Counter()
    return propose_tasks(world.open(), pattern, **settings, misses=misses), misses


def verify_in_parts(cluster: Ray, domain: Domain, proposals: Iterable[TaskProposal], examination: Examination) -> Iterator[Verdict]:
    """What `verify_all` says of each proposal: the domain's tasks are known to it, and those accepted before it.

    A worker knows only the former. A draft that is the same as one accepted before it is examined here again, which is quick, because the
    gate that refuses it comes before the dear ones.
    """
    shared = World.of(domain), examination
    seen = KnownTasks(domain, domain.tasks_by_id.values())
    with cluster.connected():
        for verdicts in in_order(_verify, shared, _chunks(proposals, _PROPOSALS)):
            for verdict in verdicts:
                final = verdict
                if _was_compared(verdict) and seen.same_as(verdict.proposal.draft) is not None:
                    final = verify_proposal(domain, verdict.proposal, known=seen, examination=examination)
                if final.task is not None:
                    seen.add(final.task)
                yield final


def _verify(shared: tuple[World, Examination], proposals: Sequence[TaskProposal]) -> list[Verdict]:
    world, examination = shared
    domain = world.open()
    known = KnownTasks(domain, domain.tasks_by_id.values())
    return [verify_proposal(domain, proposal, known=known, examination=examination) for proposal in proposals]


def _was_compared(verdict: Verdict) -> bool:
    """Whether its examination came as far as the known tasks."""
    return len(verdict.gates) > GATES.index("new")


def recheck_in_parts(cluster: Ray, domain: Domain, tasks: Iterable[Task], examination: Examination) -> Iterator[Recheck]:
    """What `verify_certificates` says of each task, all of the others being known to it."""
    given = {task.id: task for task in tasks}
    shared = World.of(domain), examination, tuple(given.values())
    with cluster.connected():
        size = max(_TASKS, -(-len(given) // (2 * processors())))  # each part begins by filing all the tasks
        for rechecks in in_order(_recheck, shared, _chunks(given, size)):
            yield from rechecks


def _recheck(shared: tuple[World, Examination, tuple[Task, ...]], ids: Sequence[str]) -> list[Recheck]:
    world, examination, tasks = shared
    own = set(ids)
    known = [task if task.id in own else task.model_copy(update={"certificate": None}) for task in tasks]  # which is passed over
    return [found for found in verify_certificates(world.open(), known, examination=examination) if found.task.id in own]


def tally_in_parts(cluster: Ray, domain: Domain, trajectories: Iterable[Trajectory], *, seed: int = 0) -> Tally:
    """The counts of a run."""
    whole = Tally(domain, seed=seed)
    shared = World.of(domain), seed
    with cluster.connected():
        for part in in_order(_tally, shared, _chunks(trajectories, _TRAJECTORIES)):
            add_part(whole, part)
    return whole


def _tally(shared: tuple[World, int], trajectories: Sequence[Trajectory]) -> Part:
    world, seed = shared
    return Part.of(Tally(world.open(), seed=seed).add_all(trajectories))
