"""From a run to its failure patterns: errors counted against opportunities, and which of them recur.

    report = mine(domain, trajectories)             # streamed: none is kept
    [pattern.id for pattern in report.patterns if pattern.selected]

Causes are mined from failures that are the agent's fault. Failures that nothing decides (`undetermined`) are mined on request, or where no
failure of the run could be decided for the agent; those of users, tasks and infrastructure are counted apart. Conduct is the agent's own,
so it is mined from all trajectories; its rate says how often the agent behaves so, and its contrast whether failing goes with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from sentinel_env.domain import Domain
from sentinel_env.metrics import rate
from sentinel_env.trajectory import Trajectory

from .findings import Side
from .kinds import Counts, Kind
from .opportunities import FEATURES
from .patterns import FailurePattern, Interval
from .recurrence import Place, corrected_p_values
from .selection import ALPHA, MIN_SHARE, MIN_TASKS, Cell, exceeds, gaps, separates
from .tally import ANY, Slip, Tally

_EXPLAINS = 0.8
"""The share of a kind's errors that a context must hold to stand for it."""


class FailureReport(BaseModel):
    """What a run's trajectories show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str
    trajectories: int
    passed: int
    failed: int
    excluded: int
    """Trajectories that infrastructure ended; they count neither as passed nor as failed."""
    faults: dict[Side, int] = {}
    """Failed trajectories by whose fault it was."""
    mined: tuple[Side, ...] = ()
    """Whose failures the causes were mined from."""
    unconfirmed: int = 0
    """Failed trajectories whose edit script does not lead to the reference's state when it is executed."""
    patterns: tuple[FailurePattern, ...] = ()
    """Causes by share, then conduct by rate."""
    problems: tuple[str, ...] = ()
    """Trajectories that could not be analysed, and why."""


def find_failures(domain: Domain, trajectories: Iterable[Trajectory], *, min_support: int = 1) -> list[FailurePattern]:
    """The failure patterns of a run: causes by share, then conduct by rate. What cannot be analysed is left out; `mine` says what.

    Args:
        domain: The world of the run.
        trajectories: Passed and failed ones; streamed, none is kept.
        min_support: In how many distinct tasks a pattern must show.

    Raises:
        DomainError: A tool crashed.
    """
    return [pattern for pattern in mine(domain, trajectories).patterns if pattern.tasks >= min_support]


def mine(
    domain: Domain,
    trajectories: Iterable[Trajectory],
    *,
    undetermined: bool = False,
    known: Iterable[FailurePattern] = (),
    seed: int = 0,
) -> FailureReport:
    """Attribute and count a run.

    Args:
        domain: The world of the run.
        trajectories: Passed and failed ones; streamed, none is kept.
        undetermined: Whether failures that nothing decides are mined along with the agent's.
        known: Patterns of earlier runs, counted here too, also if they did not happen.
        seed: For the evidence that is kept and for resampling.

    Raises:
        DomainError: A tool crashed.
    """
    return report(Tally(domain, seed=seed).add_all(trajectories), undetermined=undetermined, known=known)


def report(tally: Tally, *, undetermined: bool = False, known: Iterable[FailurePattern] = ()) -> FailureReport:
    """The patterns of what was counted so far.

    Args:
        tally: The counts.
        undetermined: As for `mine`.
        known: Patterns of earlier runs, counted here too where there was an opportunity, also if they did not happen.
    """
    sides = mined_sides(tally, undetermined=undetermined)
    counts = Counts(tally, sides)
    patterns = _patterns(tally, counts, {place_of(pattern) for pattern in known}) if counts.tasks else []
    return FailureReport(
        domain=tally.domain.name,
        trajectories=tally.trajectories,
        passed=tally.passed,
        failed=tally.failed,
        excluded=tally.excluded,
        faults=dict(tally.faults.most_common()),
        mined=sides,
        unconfirmed=tally.unconfirmed,
        patterns=tuple(patterns),
        problems=tuple(tally.problems),
    )


def mined_sides(tally: Tally, *, undetermined: bool = False) -> tuple[Side, ...]:
    """Whose failures causes are mined from."""
    if undetermined or not tally.faults["agent"]:
        return ("agent", "undetermined") if tally.faults["agent"] else ("undetermined",)
    return ("agent",)


def place_of(pattern: FailurePattern) -> Place:
    """The kind and the context of a pattern."""
    return Kind(pattern.label, pattern.tools[0] if pattern.tools else None, pattern.arguments), pattern.feature


def _patterns(tally: Tally, counts: Counts, known: Collection[Place]) -> list[FailurePattern]:
    named = {kind: feature for kind, feature in sorted(known, key=str)}  # a pattern keeps its context, or rounds could not be compared
    found: list[Place] = [(kind, named[kind] if kind in named else _context(counts, kind)) for kind in counts.kinds]
    corrected = corrected_p_values(counts, found)
    found += sorted((place for place in known if place not in found and place[0].label != "general"), key=str)
    shown = [counts.shown(*place) for place in found]
    contrasts = gaps(counts.failed, counts.passed, shown)
    patterns = []
    for place, (failures, _), contrast in zip(found, shown, contrasts, strict=True):
        cell = counts.cell(*place)
        if not cell.chances.any():
            continue
        p_value = corrected.get(place)
        share = rate(failures, counts.failed) if counts.failed.any() else None
        recurs = p_value is not None and p_value < ALPHA and cell.tasks >= MIN_TASKS
        if place[0].is_cause:
            recurs = recurs and counts.family_share(place[0]) >= MIN_SHARE and (contrast[1] is None or contrast[1][0] > 0)
        interval = (share.low, share.high) if share else None
        patterns.append(_pattern(tally, counts, place, cell, failures.sum(), interval, contrast, p_value, selected=recurs))
    return sorted(patterns, key=lambda pattern: (not pattern.is_cause, -(pattern.share if pattern.is_cause else pattern.rate), pattern.id))


def _context(counts: Counts, kind: Kind) -> str | None:
    """The context that a kind goes with, where its errors are really more frequent inside: nearly all of them, and hardly any outside."""
    names = counts.features(kind)
    best: tuple[float, int, str] | None = None
    order = list(FEATURES)
    for name in names:
        inside, outside = counts.cell(kind, name), counts.cell(kind, name, inside=False)
        errors, others = inside.errors.sum(), outside.errors.sum()
        if inside.tasks < MIN_TASKS or errors < _EXPLAINS * (errors + others) or not outside.chances.any():
            continue
        p_value = separates(inside, outside)
        if p_value * len(names) < ALPHA and exceeds(inside, outside, ratio=1.0) < ALPHA:
            # one that leaves nothing outside is the better name; among equals the general ones, in their order
            rank = (
                -float(errors / inside.chances.sum() - others / outside.chances.sum()),
                order.index(name) if name in order else -1,
                name,
            )
            best = min(best, rank) if best else rank
    return best[2] if best else None


def _pattern(
    tally: Tally,
    counts: Counts,
    place: Place,
    cell: Cell,
    failures: float,
    share_interval: Interval | None,
    contrast: tuple[float, Interval | None],
    p_value: float | None,
    *,
    selected: bool,
) -> FailurePattern:
    kind, feature = place
    estimate = rate(cell.errors, cell.chances)

    def shows(slip: Slip) -> bool:
        return kind.has(slip) and (feature is None or feature in slip.features)

    return FailurePattern(
        id=_id(kind, feature),
        domain=tally.domain.name,
        label=kind.label,  # type: ignore[arg-type]
        tools=(kind.tool,) if kind.tool else (),
        arguments=kind.arguments,
        feature=feature,
        summary=summarise(kind, feature),
        evidence=tally.evidence(shows, kind.label, kind.tool, counts.outcomes if kind.is_cause else ANY),
        kinds=_how(tally, kind, feature),
        errors=int(cell.errors.sum()),
        opportunities=int(cell.chances.sum()),
        rate=round(estimate.value, 4),
        rate_interval=_rounded(estimate.low, estimate.high),
        tasks=cell.tasks,
        failures=int(failures),
        share=round(float(failures) / float(counts.failed.sum()), 4) if counts.failed.any() else 0.0,
        share_interval=_rounded(*share_interval) if share_interval else None,
        contrast=round(contrast[0], 4),
        contrast_interval=_rounded(*contrast[1]) if contrast[1] else None,
        fault="agent" if not kind.is_cause or "agent" in counts.sides else "undetermined",
        elsewhere=_elsewhere(tally, counts, place),
        p_value=p_value,
        selected=selected,
    )


def _rounded(low: float, high: float) -> Interval:
    return round(low, 4), round(high, 4)


def _id(kind: Kind, feature: str | None) -> str:
    return f"{kind.id}@{feature}" if feature else kind.id


def _how(tally: Tally, kind: Kind, feature: str | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for (arguments, features, name), count in tally.kinds.get((kind.label, kind.tool), {}).items():
        of_kind = arguments == kind.arguments or not set(arguments).isdisjoint(kind.arguments)
        if of_kind and (feature is None or feature in features):
            found[name] = found.get(name, 0) + count
    return dict(sorted(found.items(), key=lambda row: (-row[1], row[0])))


def _elsewhere(tally: Tally, counts: Counts, place: Place) -> dict[Side, int]:
    """Failures that show the same and are not mined, by whose fault they are."""
    kind, feature = place
    found: dict[Side, int] = {}
    for shape, count in tally.shapes.items() if kind.is_cause else ():
        if shape.outcome is None or shape.outcome in counts.outcomes:
            continue
        if any(kind.has(slip) and (feature is None or feature in slip.features) for slip in shape.slips):
            found[shape.outcome] = found.get(shape.outcome, 0) + count
    return found


_SUMMARIES: Mapping[str, str] = {
    "wrong_argument": "calls {tool} on the right record with a wrong {arguments}",
    "wrong_target_record": "calls {tool} on the wrong record",
    "wrong_tool": "changes the right record with another tool than {tool}",
    "missing_write": "never gets {tool} done",
    "extra_write": "calls {tool} where nothing or something else was wanted",
    "order_dependency": "does {tool} and the rest in an order that does not work",
    "missing_action": "never makes the call of {tool} that is asked for",
    "missing_transfer": "does not hand over to a person what only a person can do",
    "missing_communicate": "does not tell the user what was asked for",
    "unneeded_transfer": "hands over to a person what it could have done",
    "unfinished": "does not come to an end within the limits",
    "tool_error": "has calls of {tool} refused on the way",
    "schema_error": "calls {tool} with arguments that it does not take",
    "unknown_tool": "calls tools that do not exist",
    "repeated_call": "calls {tool} again with nothing changed in between",
    "repeated_error": "repeats a call of {tool} that was refused",
    "hallucinated_id": "calls {tool} with an id that nobody said or showed",
    "unauthenticated_read": "reads a record with {tool} before it knows who asks",
    "unauthenticated_write": "writes with {tool} before it knows who asks",
    "write_without_confirmation": "calls {tool} without the user's yes",
    "blind_write": "calls {tool} on a record that it never read",
    "ungrounded_selection": "calls {tool} with a choice that it never looked up",
    "other_users_record": "uses {tool} on somebody else's record",
    "text_and_call": "writes to the user in the same turn as a call, which the user does not see",
}


def summarise(kind: Kind, feature: str | None) -> str:
    """A pattern in words."""
    arguments = " and ".join(re.sub("_", " ", name) for name in kind.arguments)
    text = _SUMMARIES[kind.label].format(tool=kind.tool or "a tool", arguments=arguments)
    return f"{text}, {FEATURES.get(feature, 'where there is ' + feature.replace('_', ' '))}" if feature else text
