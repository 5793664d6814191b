"""The Proposer without a model: from a failure pattern to draft tasks, composed from a domain's operations.

A draft is built the other way round from how it is solved: pick somebody who can ask, execute a request that invites the pattern's
mistake, execute further ones on the state that it leaves, and only then word the scenario. The mistake itself, applied to the plan,
is the first foil. A domain that declares no operations gets new tasks by rebinding (see `rebinding.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from sentinel_env.certificates import Foil
from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError
from sentinel_env.failures import FailurePattern, check_pattern
from sentinel_env.messages import ToolCall
from sentinel_env.operations import Operation, Operations, Request
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Criteria, Scenario, Task

from .rebinding import rebind_tasks

MAX_WRITES = 2
TRIES_PER_PROPOSAL = 60


def propose_tasks(
    domain: Domain,
    pattern: FailurePattern,
    *,
    n: int,
    seed: int = 0,
    split: str = "train",
    pool: Callable[[str], bool] | None = None,
) -> list[TaskProposal]:
    """Draft tasks that stress a failure pattern; verify each before use.

    Args:
        domain: The world.
        pattern: What to stress; `general_pattern(domain)` for tasks of every kind.
        n: How many drafts. Fewer come back when the domain holds no further opportunity.
        seed: Same seed, same drafts.
        split: The split that the tasks are for.
        pool: Which subjects may be used; by default those that share no record with a task of another split.

    Raises:
        ConfigError: The pattern is about another domain, or names a tool or argument that it does not have.
    """
    check_pattern(domain, pattern)
    if n < 1:
        raise ConfigError(f"propose at least one task, found n={n}")
    random = Random(f"{seed}/{pattern.id}/{split}")
    if domain.operations is None:
        return rebind_tasks(domain, pattern, n=n, random=random, split=split)
    operations = domain.operations
    allowed = pool or disjoint_pool(domain, split)
    subjects = [subject for subject in operations.subjects(domain.base) if allowed(subject)]
    if not subjects:
        return []
    return list(_drafts(domain, operations, pattern, subjects, n, random, split))


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


@dataclass(frozen=True)
class _Plan:
    """What is composed before it is worded."""

    requests: tuple[Request, ...]
    target: int
    """Which request carries the pattern's opportunity."""
    tools: tuple[str, ...]


def _drafts(
    domain: Domain, operations: Operations, pattern: FailurePattern, subjects: Sequence[str], n: int, random: Random, split: str
) -> Iterator[TaskProposal]:
    made = 0
    for _ in range(n * TRIES_PER_PROPOSAL):
        if made >= n:
            return
        subject = subjects[random.randrange(len(subjects))]
        plan = _compose(domain, operations, pattern, subject, random)
        if plan is not None:
            made += 1
            yield _draft(domain, operations, pattern, subject, plan, random, split)


def _compose(domain: Domain, operations: Operations, pattern: FailurePattern, subject: str, random: Random) -> _Plan | None:
    """Requests that this subject can make one after the other, one of which invites the pattern's mistake; None without any."""
    db = domain.base.fork()
    kinds = [kind for kind in operations.kinds if _fits(kind, pattern)]
    if not kinds:
        return None
    kind = kinds[random.randrange(len(kinds))]
    first = _request(domain, db, kind, subject, random, ())
    if first is None or not _invites(first, kind, pattern):
        return None
    chosen, tools = [first], [kind.tool]
    needed = 2 if pattern.label == "missing_write" or first.wish.call is None else 1
    wanted = max(needed, 1 + (random.random() < 0.3))
    for other in random.sample(operations.kinds, len(operations.kinds)):
        if len(chosen) >= min(wanted, MAX_WRITES):
            break
        if other.refusal:
            continue
        more = _request(domain, db, other, subject, random, chosen)
        if more is not None:
            chosen.append(more)
            tools.append(other.tool)
    if len(chosen) < needed:
        return None
    target = 0
    if pattern.label == "missing_write":  # what is forgotten comes last
        chosen.reverse()
        tools.reverse()
        target = len(chosen) - 1
    return _Plan(tuple(chosen), target, tuple(tools))


def _fits(kind: Operation, pattern: FailurePattern) -> bool:
    if pattern.label == "extra_write":
        return kind.refusal and (not pattern.tools or kind.tool in pattern.tools)
    return not kind.refusal and (not pattern.tools or kind.tool in pattern.tools) if pattern.label != "general" else True


def _invites(request: Request, kind: Operation, pattern: FailurePattern) -> bool:
    """Whether the pattern's mistake can be made on this request."""
    match pattern.label:
        case "wrong_argument":
            return any(request.alternatives.get(name) for name in pattern.arguments or request.alternatives)
        case "wrong_target_record":
            return bool(request.decoys)
        case "wrong_tool":
            return bool(request.detours)
        case "extra_write":
            return bool(request.detours)
        case "missing_communicate":
            return bool(request.communicate)
    return True


def _request(domain: Domain, db: Database, kind: Operation, subject: str, random: Random, before: Sequence[Request]) -> Request | None:
    """A request of this kind that can be made now and touches nothing that an earlier one touched; executed on `db`."""
    request = kind.request(db, subject, random)
    if request is None or any(not request.touches.isdisjoint(other.touches) for other in before):
        return None
    if request.wish.call is not None and domain.execute(db, request.wish.call).is_error:
        return None
    return request


def _draft(
    domain: Domain, operations: Operations, pattern: FailurePattern, subject: str, plan: _Plan, random: Random, split: str
) -> TaskProposal:
    facts, identification, unknown = operations.introduce(domain.base, subject, random)
    actions: list[ToolCall] = list(identification)
    target_ends = 0  # where the actions of the target request end
    for at, request in enumerate(plan.requests):
        for call in (*request.reads, *([request.wish.call] if request.wish.call else [])):
            if call not in actions:  # what was looked up once is known
                actions.append(call)
        if at == plan.target:
            target_ends = len(actions)
    wishes = tuple(request.wish for request in plan.requests)
    task = Task(
        id="draft",
        domain=domain.name,
        scenario=Scenario(
            goal=" ".join(wish.text for wish in wishes),
            known={fact.slot: fact.text for fact in facts},
            unknown=unknown or None,
            facts=facts,
            wishes=wishes,
            reveal="together" if len(wishes) > 1 and random.random() < 0.3 else "one by one",
        ),
        criteria=Criteria(actions=tuple(actions), communicate=tuple(text for request in plan.requests for text in request.communicate)),
        split=split,
        source=f"proposer:{pattern.id}",
    )
    digest = hashlib.sha256(task.model_dump_json().encode()).hexdigest()[:12]
    task = task.model_copy(update={"id": f"{pattern.label}-{digest}"})
    foils = tuple(_foils(task, plan, pattern, target_ends))
    return TaskProposal(pattern_id=pattern.id, draft=task, foils=foils, rationale=_rationale(pattern, plan))


def _foils(task: Task, plan: _Plan, pattern: FailurePattern, target_ends: int) -> Iterator[Foil]:
    """The pattern's own mistake first, then one more of each kind that the target invites."""
    request = plan.requests[plan.target]
    call = request.wish.call
    actions = task.criteria.actions

    def instead(replacement: ToolCall | None) -> tuple[ToolCall, ...]:
        return tuple(new for one in actions if (new := replacement if one == call else one) is not None)

    found: list[Foil] = []
    if call is not None:
        for name in pattern.arguments if pattern.label == "wrong_argument" and pattern.arguments else request.alternatives:
            for value in list(request.alternatives.get(name, ()))[:1]:
                wrong = call.model_copy(update={"arguments": {**call.arguments, name: value}})
                found.append(Foil.between("wrong_argument", actions, instead(wrong)))
        found.extend(Foil.between("wrong_target_record", actions, instead(decoy)) for decoy in request.decoys[:1])
        found.extend(Foil.between("wrong_tool", actions, instead(detour)) for detour in request.detours[:1])
        found.append(Foil.between("missing_write", actions, instead(None)))
    else:
        found.extend(Foil(label="extra_write", at=target_ends, calls=(detour,)) for detour in request.detours[:1])
    if task.criteria.communicate:
        found.append(Foil(label="missing_communicate", silent=True))
    yield from sorted(found, key=lambda foil: foil.label != pattern.label)


def _rationale(pattern: FailurePattern, plan: _Plan) -> str:
    request = plan.requests[plan.target]
    features = ", ".join(f"{name} {value}" for name, value in request.features.items())
    return f"{pattern.summary or pattern.label}: {plan.tools[plan.target]}{f' with {features}' if features else ''}"
