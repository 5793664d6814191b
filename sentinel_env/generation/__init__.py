"""The Proposer without a model: from a failure pattern to draft tasks, composed from a domain's operations.

A draft is built the other way round from how it is solved: pick somebody who can ask, execute a request that invites the pattern's
mistake (`plans`, by what `targets` says that the mistake needs), execute further ones on the state that it leaves, and only then word the
scenario (`drafts`, `voices`). The mistake itself, applied to the plan, is the first foil (`mistakes`); `mutations` adds others. A domain
that declares no operations gets new tasks by `rebinding`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError
from sentinel_env.failures import FailurePattern, check_pattern
from sentinel_env.proposals import TaskProposal

from .drafts import draft
from .plans import Miss, compose
from .rebinding import rebind_tasks
from .targets import NOT_STRESSED, Target

__all__ = ["disjoint_pool", "propose_tasks"]

TRIES_PER_PROPOSAL = 60
_HOPELESS = 25
"""After so many tries without any draft an operation is not tried any more."""
_NATURAL = 3
"""After so many tries in a row that came to nothing, the database may be augmented."""


def propose_tasks(
    domain: Domain,
    pattern: FailurePattern,
    *,
    n: int,
    seed: int = 0,
    split: str = "train",
    pool: Callable[[str], bool] | None = None,
    misses: Counter[str] | None = None,
) -> list[TaskProposal]:
    """Draft tasks that stress a failure pattern; verify each before use.

    Args:
        domain: The world.
        pattern: What to stress; `general_pattern(domain)` for tasks of every kind.
        n: How many drafts. Fewer come back when the domain holds no further opportunity.
        seed: Same seed, same drafts.
        split: The split that the tasks are for.
        pool: Which subjects may be used; by default those that share no record with a task of another split.
        misses: Counts why tries came to nothing, one line each.

    Raises:
        ConfigError: The pattern is about another domain, or names a tool, argument or operation that it does not have.
    """
    check_pattern(domain, pattern)
    if n < 1:
        raise ConfigError(f"propose at least one task, found n={n}")
    why: Counter[str] = Counter() if misses is None else misses
    random = Random(f"{seed}/{pattern.id}/{split}")
    operations = domain.operations
    if operations is None:
        return rebind_tasks(domain, pattern, n=n, random=random, split=split, misses=why)
    allowed = pool or disjoint_pool(domain, split)
    subjects = [subject for subject in operations.subjects(domain.base) if allowed(subject)]
    if not subjects:
        why[f"nobody is left who shares no record with a task of another split than {split}"] += 1
        return []
    target = Target(domain, pattern)
    kinds = [kind for kind in operations.kinds if target.fits(kind)]
    if not kinds:
        why[NOT_STRESSED.get(target.label, "no operation of the domain can carry the mistake")] += 1
        return []
    drafts: list[TaskProposal] = []
    tried: Counter[str] = Counter()
    missed = 0
    for _ in range(n * TRIES_PER_PROPOSAL):
        if len(drafts) >= n:
            break
        subject, kind = subjects[random.randrange(len(subjects))], kinds[random.randrange(len(kinds))]
        try:
            plan = compose(operations, target, kind, subject, random, augment=missed >= _NATURAL and not target.is_general)
            proposal = draft(operations, target, plan, random, split=split, seed=seed)
            if not target.is_given(proposal.draft):
                raise Miss(f"{kind.name}: no place for the mistake in the context {pattern.feature}")
        except Miss as miss:
            why[str(miss)] += 1
            missed += 1
            tried[kind.name] += 1
            if tried[kind.name] == _HOPELESS and len(kinds) > 1 and not target.is_general:
                kinds.remove(kind)
            continue
        drafts.append(proposal)
        missed = 0
        tried[kind.name] = -n * TRIES_PER_PROPOSAL  # what works once is not given up
    return drafts


def disjoint_pool(domain: Domain, split: str) -> Callable[[str], bool]:
    """Whether a subject shares no record with any task of the other splits."""
    operations = domain.operations
    assert operations is not None
    used = {
        value
        for task in domain.tasks_by_id.values()
        if task.split != split
        for call in task.criteria.actions
        for value in call.arguments.values()
        if isinstance(value, str)
    }
    return lambda subject: used.isdisjoint(operations.entities(domain.base, subject))
