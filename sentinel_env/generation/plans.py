"""Plans: requests that one subject can make one after the other, composed by executing them, one of which invites the pattern's mistake.

Where a subject has nothing to ask, or nothing to mistake it for, the domain may augment the database; what it writes becomes the task's
`changes`. Every try that comes to nothing says why: that is how a knob that cannot be satisfied is found out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from sentinel_env.database import Changes, Database
from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall
from sentinel_env.operations import Operation, Operations, Request

from .targets import Target

_MORE = (0.3, 0.1, 0.03)
"""The chance that a task has at least two, three, four writes where nothing asks for a number."""
_PAIR_TRIES = 4


class Miss(Exception):
    """A try that came to nothing; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What is composed before it is worded."""

    subject: str
    start: Database
    """The database as the task finds it."""
    changes: Changes
    """What makes it from the domain's."""
    requests: tuple[Request, ...]
    """In the order in which the user raises them."""
    target: int
    """Which request carries the opportunity."""
    kind: Operation
    """Of the target."""
    order: tuple[int, ...]
    """The requests in the order in which the reference carries them out."""
    together: bool | None = None
    """Whether all must be raised at once; None where either will do."""

    def actions(self, identification: Sequence[ToolCall]) -> tuple[list[ToolCall], list[int]]:
        """(reference actions, for each request where its own end), each look-up once."""
        actions = list(identification)
        ends = [0] * len(self.requests)
        for at in self.order:
            request = self.requests[at]
            own = (*request.reads, *[call for call in (request.wish.call, request.transfer) if call is not None])
            actions.extend(call for call in own if call not in actions)  # what was looked up once is known
            ends[at] = len(actions)
        return actions, ends


def compose(operations: Operations, target: Target, kind: Operation, subject: str, random: Random, *, augment: bool) -> Plan:
    """A plan of one subject.

    Args:
        operations: What can be asked.
        target: What the plan is to give the opportunity for.
        kind: The operation that is to carry the opportunity.
        subject: Who asks.
        random: Which of many.
        augment: Whether the domain may add to the database what the subject lacks.

    Raises:
        Miss: This try found none.
    """
    domain = target.domain
    if target.shares_record:
        return _on_one_record(operations, target, kind, subject, random, augment=augment)
    start, db, first = _first(target, kind, subject, random, augment=augment)
    chosen = _with_others(operations, target, db, first, subject, random)
    requests = tuple(sorted(reversed(chosen) if target.goes_last else chosen, key=lambda request: request.transfer is not None))
    place = next(at for at, request in enumerate(requests) if request is first)
    return Plan(subject, start, start.changes() if start is not domain.base else {}, requests, place, kind, tuple(range(len(requests))))


def _first(target: Target, kind: Operation, subject: str, random: Random, *, augment: bool) -> tuple[Database, Database, Request]:
    """(database as the task finds it, the same after the request's write, the request with the opportunity)."""
    domain = target.domain
    db = domain.base.fork()
    request = _next(domain, db, kind, subject, random, ())
    lack = _lack(target, domain.base, request, subject, kind)
    if request is not None and lack is None:
        return domain.base, db, request
    if kind.augment is None or not augment:
        raise Miss(lack or "")
    start = domain.base.fork()
    helped = kind.augment(start, subject, random, target.need)
    if not helped and not (request is None and target.need != "request" and kind.augment(start, subject, random, "request")):
        raise Miss(f"{lack}; and the domain cannot add it")
    db = start.fork()
    request = _next(domain, db, kind, subject, random, ())
    lack = _lack(target, start, request, subject, kind)
    if request is None or lack is not None:
        raise Miss(f"{lack}, even with what was added")
    return start, db, request


def _lack(target: Target, db: Database, request: Request | None, subject: str, kind: Operation) -> str | None:
    if request is None:
        return f"{kind.name}: the caller has nothing to ask"
    lack = target.lacks(db, request, subject)
    return None if lack is None else f"{kind.name}: lacks {lack}"


def _next(domain: Domain, db: Database, kind: Operation, subject: str, random: Random, before: Sequence[Request]) -> Request | None:
    """A request of this kind that can be made now and touches nothing that an earlier one touched; executed on `db`."""
    request = kind.request(db, subject, random)
    if request is None or any(not request.touches.isdisjoint(other.touches) for other in before):
        return None
    if request.wish.call is not None and domain.execute(db, request.wish.call).is_error:
        return None
    return request


def _with_others(operations: Operations, target: Target, db: Database, first: Request, subject: str, random: Random) -> list[Request]:
    """The first request and what is asked beside it, as many as the pattern wants."""
    knobs, chosen = target.pattern.knobs, [first]
    least = target.least_requests(first)
    drawn = random.random()
    wanted = min(knobs.most_writes, max(least, 1 + sum(drawn < chance for chance in _MORE)))
    if knobs.writes is not None:
        wanted = knobs.writes + (first.wish.call is None)
    kinds = random.sample(operations.kinds, len(operations.kinds))

    def add(count: int, what: str, kinds: Iterable[Operation], *, at_least: int) -> None:
        added = 0
        for kind in kinds:
            if added >= count:
                break
            request = _next(target.domain, db, kind, subject, random, chosen)
            if request is not None:
                chosen.append(request)
                added += 1
        if added < at_least:
            raise Miss(f"the caller has too little to ask beside it: {added} of {at_least} {what}")

    if target.needs_refusal:
        add(1, "wishes to refuse", (kind for kind in kinds if kind.refusal), at_least=1)
    if target.needs_question:
        add(1, "questions", (kind for kind in kinds if kind.question), at_least=1)
    if target.feature == "nothing_to_write":
        return chosen
    writes = (kind for kind in kinds if not (kind.refusal or kind.question or target.domain.is_transfer(kind.tool)))
    at_least = (wanted if knobs.writes is not None else least) - 1
    add(wanted - 1, "writes", writes, at_least=at_least)
    return chosen


def _on_one_record(operations: Operations, target: Target, kind: Operation, subject: str, random: Random, *, augment: bool) -> Plan:
    """Two writes on one record, raised at once, and where that is the mistake in the order that locks one of them out."""
    domain = target.domain
    if kind.alone:
        raise Miss(f"{kind.name}: nothing else is asked of its record")
    start, db, first = _first(target, kind, subject, random, augment=augment)
    if first.wish.call is None:
        raise Miss(f"{kind.name}: nothing is written")
    found = f"{kind.name}: nothing else that the caller can ask of the same record"
    others = [each for each in operations.kinds if not (each.refusal or each.question or each.alone or each.tool == kind.tool)]
    for other in random.sample(others, len(others)):
        for _ in range(_PAIR_TRIES):
            after = db.fork()
            then = other.request(after, subject, random)
            if then is None or then.wish.call is None:
                break
            if then.touches.isdisjoint(first.touches):
                continue
            if domain.execute(after, then.wish.call).is_error:
                continue
            if target.label == "order_dependency" and not _is_locked_out(domain, start, first.wish.call, then.wish.call):
                found = f"{kind.name}: the order in which the caller's wishes are carried out does not matter"
                continue
            changes = start.changes() if start is not domain.base else {}
            return Plan(subject, start, changes, (then, first), 1, kind, (1, 0), together=True)
    raise Miss(found)


def _is_locked_out(domain: Domain, start: Database, first: ToolCall, then: ToolCall) -> bool:
    """Whether `then` can be carried out at the start, and `first` not any more after it."""
    db = start.fork()
    return not domain.execute(db, then).is_error and domain.execute(db, first).is_error
