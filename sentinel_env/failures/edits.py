"""Layer 1, the outcome edit script: the fewest changes to the executed writes that lead to the reference's state.

Executed writes are matched to reference writes, equal ones first and the rest by an optimal assignment; what is left over is dropped or
added. The script is then *tested by execution*: the writes with all edits must reach the reference's state, and an edit without which
they reach it too is no cause and is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall

from .assignment import assign
from .findings import Sublabel
from .writes import Write, places_of, run_calls, same_state

_ALONE = 3.2
"""What an unmatched write costs; two of them cost more than any pair that makes sense."""


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """Replace `made` by `wanted`; drop `made` where nothing is wanted; add `wanted` where nothing was made."""

    made: Write | None
    wanted: Write | None


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """The edits, and what executing them showed."""

    edits: tuple[Edit, ...]
    kept: tuple[tuple[Write, Write], ...]
    """Executed writes that are as the reference's: (executed, reference)."""
    problem: Sublabel | None = None
    """Why it is unconfirmed."""
    order: tuple[Edit, Write] | None = None
    """An added write that is refused after the executed ones, and the executed write that locks it out."""
    reordered: Write | None = None
    """The first executed write that stands in the wrong place, where only the order is wrong."""


def edit_script(domain: Domain, start: Database, made: Sequence[Write], wanted: Sequence[Write]) -> Script:
    """Match, test and shorten.

    Args:
        domain: The world.
        start: The database as the task finds it.
        made: The writes of the trajectory, executed from `start`.
        wanted: The writes of the reference, executed from `start`.
    """
    kept, edits = match(made, wanted)
    bench = _Bench(domain, start, made, wanted, kept, edits)
    working = bench.first_that_works(edits)
    if working is None:
        return Script(tuple(edits), tuple(kept), problem="edits_refused" if bench.only_refused else "edits_lead_elsewhere")
    for edit in list(edits):
        fewer = [other for other in edits if other is not edit]
        if (again := bench.first_that_works(fewer)) is not None:
            edits, working = fewer, again
    if working == 0:
        return Script(tuple(edits), tuple(kept))
    locked = bench.locked_out(edits)
    return Script(tuple(edits), tuple(kept), order=locked, reordered=None if locked else bench.first_out_of_place())


def match(made: Sequence[Write], wanted: Sequence[Write]) -> tuple[list[tuple[Write, Write]], list[Edit]]:
    """Equal writes as pairs, and edits for the others, by their place in the run, additions last."""
    left, open_ = list(made), list(wanted)
    kept: list[tuple[Write, Write]] = []
    for same in (_same_call, _same_effect):
        for write in list(left):
            reference = next((reference for reference in open_ if same(write, reference)), None)
            if reference is not None:
                kept.append((write, reference))
                left.remove(write)
                open_.remove(reference)
    pairs = assign([[_cost(write, reference) for reference in open_] for write in left], alone_left=_ALONE, alone_right=_ALONE)
    partner = {at: open_[other] for at, other in pairs}
    taken = {other for _, other in pairs}
    edits = [Edit(write, partner.get(at)) for at, write in enumerate(left)]
    edits += [Edit(None, reference) for at, reference in enumerate(open_) if at not in taken]
    return kept, edits


def _same_call(one: Write, other: Write) -> bool:
    return one.call.name == other.call.name and (
        one.call.arguments == other.call.arguments or _canonical(one.call.arguments) == _canonical(other.call.arguments)
    )


def _same_effect(one: Write, other: Write) -> bool:
    return one.changed == other.changed


def _canonical(arguments: dict[str, Any]) -> tuple[Any, ...]:
    """Arguments with lists of one length read as columns of one table whose rows have no order: (old, new) pairs."""
    lists = {name: value for name, value in arguments.items() if isinstance(value, list | tuple)}
    if not lists or len({len(value) for value in lists.values()}) != 1:
        return (arguments,)
    rest = {name: value for name, value in arguments.items() if name not in lists}
    return rest, sorted(lists), sorted(map(repr, zip(*(lists[name] for name in sorted(lists)), strict=True)))


def different_arguments(one: ToolCall, other: ToolCall) -> tuple[str, ...]:
    """Names of the arguments whose values differ, sorted."""
    names = {*one.arguments, *other.arguments}
    return tuple(sorted(name for name in names if one.arguments.get(name) != other.arguments.get(name)))


def _cost(one: Write, other: Write) -> float:
    """The less has to be changed the cheaper: values on the same record, then the record alone, then the tool, then record and values."""
    same_target = one.target == other.target
    if one.call.name == other.call.name:
        keys = {name for name, _ in (*one.target, *other.target)}
        names = {*one.call.arguments, *other.call.arguments} - keys
        share = len(set(different_arguments(one.call, other.call)) - keys) / len(names) if names else 0.0
        return 1.0 + share if same_target else 2.2 + 1.8 * share
    if {value for _, value in one.target} & {value for _, value in other.target}:
        return 2.8 if same_target else 3.3
    return inf


class _Bench:
    """Executes edited plans. The order of the run is tried first, the reference's order last."""

    def __init__(
        self,
        domain: Domain,
        start: Database,
        made: Sequence[Write],
        wanted: Sequence[Write],
        kept: Sequence[tuple[Write, Write]],
        edits: Sequence[Edit],
    ) -> None:
        self.domain, self.start, self.made, self.wanted, self.kept = domain, start, made, wanted, kept
        self.goal = wanted[-1].after if wanted else start
        self.places = places_of([*made, *wanted])
        self.edit_of = {id(edit.made): edit for edit in edits if edit.made is not None}
        self.for_reference = {id(reference): write for write, reference in kept}
        self.only_refused = True

    def plans(self, edits: Sequence[Edit]) -> Iterator[list[ToolCall]]:
        active = set(map(id, edits))
        added = [edit.wanted.call for edit in edits if edit.made is None and edit.wanted is not None]
        in_place = []
        for write in self.made:
            edit = self.edit_of.get(id(write))
            if edit is None or id(edit) not in active:
                in_place.append(write.call)
            elif edit.wanted is not None:
                in_place.append(edit.wanted.call)
        yield in_place + added
        if added and in_place:
            yield added + in_place
        yield self._in_reference_order(edits, active)

    def _in_reference_order(self, edits: Sequence[Edit], active: set[int]) -> list[ToolCall]:
        chosen = {id(edit.wanted) for edit in edits}
        stand_in = {id(edit.wanted): edit.made for edit in self.edit_of.values() if id(edit) not in active}
        plan = []
        for reference in self.wanted:
            executed = self.for_reference.get(id(reference)) or stand_in.get(id(reference))
            if executed is not None:
                plan.append(executed.call)
            elif id(reference) in chosen:
                plan.append(reference.call)
        surplus = [edit.made for edit in self.edit_of.values() if edit.wanted is None and id(edit) not in active]
        return plan + [write.call for write in surplus if write is not None]

    def first_that_works(self, edits: Sequence[Edit]) -> int | None:
        """Which plan reaches the reference's state without a refusal, None if none does."""
        for at, plan in enumerate(self.plans(edits)):
            final, refused = run_calls(self.domain, self.start, plan)
            if refused:
                continue
            self.only_refused = False
            changed = frozenset((table, key) for table, rows in final.changes().items() for key in rows)
            if same_state(final, self.goal, changed | self.places):
                return at
        return None

    def locked_out(self, edits: Sequence[Edit]) -> tuple[Edit, Write] | None:
        """An added write and the executed one, which the reference makes too, after which tools refuse it."""
        partnered = {id(write) for write, _ in self.kept} | {id(edit.made) for edit in edits if edit.made and edit.wanted}
        for edit in edits:
            if edit.made is not None or edit.wanted is None:
                continue
            before = self.start
            for write in self.made:
                accepted = not run_calls(self.domain, before, [edit.wanted.call])[1]
                if accepted and id(write) in partnered and run_calls(self.domain, write.after, [edit.wanted.call])[1]:
                    return edit, write
                before = write.after
        return None

    def first_out_of_place(self) -> Write | None:
        position = {id(write): self.wanted.index(reference) for write, reference in self.kept}
        highest = -1
        for write in self.made:
            at = position.get(id(write), highest)
            if at < highest:
                return write
            highest = at
        return self.made[0] if self.made else None
