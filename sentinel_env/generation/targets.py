"""Targets: what a failure pattern asks of a task, so that its mistake can be made there.

Every label has a row: which operations can carry it, what the request must offer to be mistaken for, and what the database may be
augmented with where that is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.failures import FailurePattern
from sentinel_env.failures.opportunities import FEATURES, ID_NAME, Exposure
from sentinel_env.operations import Operation, Request
from sentinel_env.tasks import Task

UNPUNISHED = {
    label: f"{what} changes neither the database nor what the user is told, so the reward cannot punish it"
    for label, what in {
        "unauthenticated_read": "reading before the caller is identified",
        "unauthenticated_write": "writing before the caller is identified, where the write is the right one,",
        "repeated_call": "calling twice",
        "repeated_error": "failing twice in the same way",
        "text_and_call": "text beside a call",
    }.items()
}
"""Labels whose mistake no foil can show: tasks only give the opportunity for it."""

NOT_STRESSED = {
    "missing_action": "tasks of the Proposer are graded by where they lead, so that no call as such can be missing",
    "unconfirmed": "that an analysis could not be confirmed is no mistake of the agent's",
}
"""Labels for which no task is made, and why."""

_SEVERAL = frozenset(("last_write", "several_writes"))


@dataclass(frozen=True)
class Target:
    """A failure pattern as the Proposer reads it."""

    domain: Domain
    pattern: FailurePattern

    @property
    def label(self) -> str:
        """The pattern's label."""
        return self.pattern.label

    @property
    def is_general(self) -> bool:
        """Whether it is no failure at all."""
        return self.label == "general"

    @property
    def goes_last(self) -> bool:
        """Whether the request with the opportunity comes after the others: what is forgotten comes last."""
        return self.label == "missing_write" or self.feature == "last_write"

    @property
    def shares_record(self) -> bool:
        """Whether two writes must be about one record."""
        return self.label == "order_dependency" or self.feature == "shared_record"

    @property
    def needs_refusal(self) -> bool:
        """Whether a wish must be refused beside the one with the opportunity."""
        return bool(self.pattern.knobs.refusal) or self.feature == "refusal_beside"

    @property
    def needs_question(self) -> bool:
        """Whether something must be answered beside it: where nothing may be written, doing nothing would pass otherwise."""
        return bool(self.pattern.knobs.question) or (self.feature == "nothing_to_write" and self.label != "missing_transfer")

    @property
    def slips(self) -> bool:
        """Whether the user has to correct itself."""
        return bool(self.pattern.knobs.slip) or (self.label == "write_without_confirmation" and self.pattern.knobs.slip is not False)

    @property
    def feature(self) -> str | None:
        """The context that the mistake goes with."""
        return self.pattern.feature

    def least_requests(self, first: Request) -> int:
        """How many requests the task needs at least, with this one first."""
        if self.label == "missing_write" or self.feature in _SEVERAL:
            return 2
        if first.wish.call is None and not first.communicate:
            return 2  # where everything is refused, doing nothing would pass; where only a person can help, handing over at once
        return 1

    def fits(self, kind: Operation) -> bool:
        """Whether an operation can carry the opportunity."""
        knobs = self.pattern.knobs
        if (knobs.operation is not None and kind.name != knobs.operation) or (knobs.conditional and not kind.conditional):
            return False
        if self.is_general:
            return True
        if self.label in NOT_STRESSED:
            return False
        if self.label == "missing_transfer":
            return self.domain.is_transfer(kind.tool)
        if self.label == "extra_write":
            return kind.refusal and self._is_about(kind.tool)
        if self.label == "other_users_record":
            return kind.refusal
        if self.label == "missing_communicate":
            return not kind.refusal and self._is_about(kind.tool)
        return not (kind.refusal or kind.question or self.domain.is_transfer(kind.tool)) and self._is_about(kind.tool)

    def _is_about(self, tool: str) -> bool:
        """Whether the pattern is about a write tool; one that is about reads or about handing over goes with any."""
        tools = self.domain.tools_by_name
        writes = [name for name in self.pattern.tools if tools[name].writes]
        return not writes or tool in writes

    def lacks(self, db: Database, request: Request, subject: str) -> str | None:
        """What this request lacks for the opportunity, in words; None where nothing."""
        knobs = self.pattern.knobs
        lack = _LACKS.get(self.label)
        if lack is not None and (found := lack(self, db, request, subject)):
            return found
        if len(request.decoys) < knobs.other_records:
            return f"{knobs.other_records} other records on which the write would work (it has {len(request.decoys)})"
        most = max([len(values) for values in request.alternatives.values()], default=0)
        if most < knobs.siblings:
            return f"{knobs.siblings} neighbouring values (it has {most})"
        if knobs.amount and not request.communicate:
            return "an amount to be told"
        if knobs.terse is not None and request.features.get("terse", False) != knobs.terse:
            return "details that are left out" if knobs.terse else "all details at once"
        if self.slips and slip_of(request) is None:
            return "a record named by its id that another one could be named instead of"
        feature = self.feature
        if feature == "to_be_found" and not any(origin.startswith("read:") for origin in request.wish.provenance.values()):
            return "a record that has to be found"
        call = request.wish.call
        if feature and self.domain.contexts is not None and call is not None and feature in self.contexts_named:
            return None if feature in self.domain.contexts(db, call) else f"the context {feature}"
        return None

    def is_given(self, task: Task) -> bool:
        """Whether the task gives the opportunity in the pattern's context."""
        if self.feature is None:
            return True
        exposure = Exposure(self.domain, task)
        if not self.pattern.is_cause:
            return self.feature in exposure.common
        chances = (chance for chance in exposure.chances if chance.is_of(self.label, self.pattern.tools, self.pattern.arguments))
        return any(self.feature in chance.features for chance in chances)

    @property
    def contexts_named(self) -> frozenset[str]:
        """Context names that are the domain's own."""
        return frozenset([self.feature] if self.feature and self.feature not in FEATURES else [])

    @property
    def need(self) -> str:
        """What the database may be augmented with, in the words of `Operation.augment`."""
        feature, knobs = self.feature, self.pattern.knobs
        if feature in self.contexts_named:
            return str(feature)
        if feature in ("other_records", "sibling_values"):
            return "other_records" if feature == "other_records" else "siblings"
        if self.label in ("wrong_argument", "ungrounded_selection") or (knobs.siblings and not knobs.other_records):
            return "siblings"
        return "other_records" if self.slips or knobs.other_records or self.label in ("wrong_target_record", "blind_write") else "request"


def slip_of(request: Request, avoiding: Collection[str] = ()) -> str | None:
    """The wish's words with another record of the caller's, none of some, in the place of the right one; None where there is none."""
    call, text = request.wish.call, request.wish.text
    for decoy in request.decoys:
        if call is None or decoy.name != call.name:
            continue
        for name, value in call.arguments.items():
            other = decoy.arguments.get(name)
            if isinstance(value, str) and isinstance(other, str) and other not in (value, *avoiding) and value in text:
                return text.replace(value, other)
    return None


def _of_arguments(target: Target, db: Database, request: Request, subject: str) -> str | None:
    wanted = target.pattern.arguments
    given = [name for name in wanted or request.alternatives if request.alternatives.get(name)]
    if len(wanted) > 1 and len(given) < len(wanted) and request.wish.call is not None:
        lists = [request.wish.call.arguments.get(name) for name in wanted]
        if all(isinstance(each, list) and len(each) > 1 for each in lists):  # an entry can be left out of all
            return None
    if not given or (wanted and len(given) < len(wanted)):
        return f"another plausible value for {' and '.join(wanted) or 'any argument'}"
    return None


def _has(what: str, has: Callable[[Request], object]) -> Callable[[Target, Database, Request, str], str | None]:
    return lambda target, db, request, subject: None if has(request) else what


def _of_others(target: Target, db: Database, request: Request, subject: str) -> str | None:
    access = target.domain.access
    if access is None:
        return "a domain that says whose records are whose"
    owners = (access.owner(db, call) for call in (*request.decoys, *request.detours))
    return None if any(owner is not None and owner != subject for owner in owners) else "a record of somebody else's"


_ID_TO_MAKE_UP = "an identifier that could be made up"

_LACKS: dict[str, Callable[[Target, Database, Request, str], str | None]] = {
    "wrong_argument": _of_arguments,
    "wrong_target_record": _has("another record on which the write would work", lambda request: request.decoys),
    "blind_write": _has("another record on which the write would work", lambda request: request.decoys),
    "wrong_tool": _has("another tool that would work on the record", lambda request: request.detours),
    "extra_write": _has("a write that must not be made", lambda request: (*request.detours, *request.decoys)),
    "other_users_record": _of_others,
    "missing_communicate": _has("something to be told", lambda request: request.communicate),
    "missing_transfer": _has("a reason to hand over", lambda request: request.transfer),
    "ungrounded_selection": _has(
        "another plausible identifier",
        lambda request: [name for name, values in request.alternatives.items() if ID_NAME.search(name) and values],
    ),
    "hallucinated_id": _has(
        _ID_TO_MAKE_UP, lambda request: request.wish.call and [name for name in request.wish.call.arguments if ID_NAME.search(name)]
    ),
}
