"""Failure reports, explanations and comparisons as lines for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel_env.failures import FailurePattern, FailureReport
    from sentinel_env.failures.comparison import Comparison, Flip, PatternMove
    from sentinel_env.failures.explain import Explanation
    from sentinel_env.metrics import Estimate
    from sentinel_env.trajectory import Trajectory
    from sentinel_env.variance import VarianceSplit

WIDTH = 100
_REST = 12
"""How many of the patterns that do not recur are listed, of each sort."""
_MANY = 3
"""From so many tools on, patterns that differ in the tool alone are shown as one habit."""


def _cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def indented(text: str, by: int, *, lines: int = 3) -> list[str]:
    """A text in lines below each other, at most so many."""
    wrapped = textwrap.wrap(" ".join(text.split()), WIDTH - by) or [""]
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], _cut(f"{wrapped[lines - 1]} …", WIDTH - by)]
    return [" " * by + line for line in wrapped]


def _range(interval: tuple[float, float] | None) -> str:
    return f" [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]" if interval else ""


# patterns


def report_lines(name: str, report: FailureReport) -> Iterator[str]:
    """What a run's failures are, those that recur first."""
    graded = report.passed + report.failed
    yield _cut(f"{name} ({report.domain}): {report.failed} of {graded} failed")
    if report.excluded:
        yield f"{report.excluded} more were ended by infrastructure and are left out"
    if not graded:
        return
    if report.failed:
        faults = ", ".join(f"{side} {count}" for side, count in report.faults.items())
        yield f"whose fault: {faults}; causes are mined from: {' and '.join(report.mined)}"
    if report.unconfirmed:
        yield f"{report.unconfirmed} edit scripts are not confirmed by execution"
    causes = [pattern for pattern in report.patterns if pattern.is_cause and pattern.errors]
    conduct = [pattern for pattern in report.patterns if not pattern.is_cause and pattern.errors]
    yield from _section("What recurs among the causes", [pattern for pattern in causes if pattern.selected])
    yield from _section("What recurs in conduct, whether or not the run passes", [pattern for pattern in conduct if pattern.selected])
    yield from _seldom([pattern for pattern in causes if not pattern.selected])
    yield from _rest([pattern for pattern in conduct if not pattern.selected])
    resolved = [pattern.id for pattern in report.patterns if not pattern.errors]
    if resolved:
        yield ""
        yield from indented(f"seen in earlier rounds, and not here: {', '.join(resolved)}", 0)
    if not report.patterns:
        yield "nothing went wrong" if not report.failed else "no failure here can be mined"


def _section(title: str, patterns: list[FailurePattern]) -> Iterator[str]:
    if not patterns:
        return
    yield ""
    yield title
    groups: dict[tuple[str, tuple[str, ...], str | None], list[FailurePattern]] = {}
    for pattern in patterns:
        groups.setdefault((pattern.label, pattern.arguments, pattern.feature), []).append(pattern)
    for group in groups.values():
        if len(group) >= _MANY:
            yield ""
            yield from _blocks(group)
            continue
        for pattern in group:
            yield ""
            yield from _block(pattern)


def _block(pattern: FailurePattern) -> Iterator[str]:
    yield _cut(f"  {pattern.id}")
    yield from indented(pattern.summary, 4)
    yield from indented(_figures(pattern), 4)
    yield from _example(pattern)


def _blocks(group: list[FailurePattern]) -> Iterator[str]:
    """One habit that goes through several tools."""
    first = group[0]
    name = "/".join([first.label, "*", *(["+".join(first.arguments)] if first.arguments else [])])
    yield _cut(f"  {name}{f'@{first.feature}' if first.feature else ''}, with {len(group)} tools")
    yield from indented(first.summary.replace(first.tools[0] if first.tools else "", "a tool", 1), 4)
    for pattern in group:
        share = f"{100 * pattern.share:3.0f} % of failures" if pattern.is_cause else ""
        chances = f"{pattern.errors} of {pattern.opportunities}"
        rate = f"= {100 * pattern.rate:.0f} %{_range(pattern.rate_interval)}"
        name = pattern.tools[0] if pattern.tools else pattern.id
        yield _cut(f"    {name:34} {chances:>11} {rate:20} {'  '.join([share, *_state(pattern)])}".rstrip())
    yield from _example(first)


def _example(pattern: FailurePattern) -> Iterator[str]:
    if pattern.evidence:
        first = pattern.evidence[0]
        yield from indented(f"e.g. {first.trajectory}, message {first.step}: {first.detail}", 4, lines=2)


def _figures(pattern: FailurePattern) -> str:
    rate = f"{pattern.errors} of {pattern.opportunities} chances = {100 * pattern.rate:.0f} %{_range(pattern.rate_interval)}"
    share = f"{100 * pattern.share:.0f} %{_range(pattern.share_interval)} of failures"
    contrast = f"contrast {100 * pattern.contrast:+.0f}{_range(pattern.contrast_interval)}"
    parts = [share, rate, contrast] if pattern.is_cause else [rate, contrast]
    if pattern.is_cause:
        elsewhere = "".join(f", {side} {count}" for side, count in pattern.elsewhere.items())
        parts.append(f"fault: {pattern.fault} {pattern.failures}{elsewhere}")
    return "; ".join([*parts, *_state(pattern)])


def _state(pattern: FailurePattern) -> list[str]:
    """Where it stands; a first sight says nothing."""
    return [pattern.state] if pattern.state != "emerging" else []


def _seldom(causes: list[FailurePattern]) -> Iterator[str]:
    if not causes:
        return
    yield ""
    yield "Causes seen as well, too seldom to tell them from errors of every kind alike"
    for pattern in causes[:_REST]:
        yield _cut(f"  {pattern.id}")
        yield from indented(_figures(pattern), 4)
        yield from _example(pattern)
    if len(causes) > _REST:
        yield f"  and {len(causes) - _REST} more; --json and --out have all of them"


def _rest(patterns: list[FailurePattern]) -> Iterator[str]:
    if not patterns:
        return
    yield ""
    yield "Conduct seen as well: errors of chances"
    width = min(72, max(len(pattern.id) for pattern in patterns[:_REST]))
    for pattern in patterns[:_REST]:
        yield f"  {_cut(pattern.id, width):{width}}  {pattern.errors:3} of {pattern.opportunities}"
    if len(patterns) > _REST:
        yield f"  and {len(patterns) - _REST} more; --json and --out have all of them"


# one run


def explanation_lines(trajectory: Trajectory, explanation: Explanation) -> Iterator[str]:
    """Why one run failed."""
    from sentinel_env.failures.explain import difference_in_words

    attribution = explanation.attribution
    if attribution.passed is None:
        yield from indented(f"{trajectory.id} was ended by infrastructure: {trajectory.error}", 0)
        return
    yield f"{trajectory.id} {'passed' if attribution.passed else 'failed'}, ended by {trajectory.ending or 'nothing'}"
    if attribution.fault is not None:
        yield from indented(f"fault: {attribution.fault.side}: {attribution.fault.reason}", 0)
    if explanation.changes:
        yield ""
        yield "It would have passed with this changed:"
        for number, change in enumerate(explanation.changes, 1):
            first, *more = indented(change, 5)
            yield f"{number:3}. {first.lstrip()}"
            yield from more
        if explanation.confirmed is not None:
            confirmed = "executing the writes so leads to the reference's state"
            yield f"     ({confirmed})" if explanation.confirmed else f"     (not confirmed: {_caveat(explanation)})"
    if explanation.quotes:
        yield ""
        at = attribution.critical_step
        final = "; nothing could have saved it after that" if attribution.point_of_no_return == at else ""
        yield f"It was decided at message {at}{final}:"
        for quote in explanation.quotes:
            mark = ">" if quote.step == at else " "
            first, *more = indented(f"{quote.step} {quote.speaker}: {quote.text}", 4)
            yield f"  {mark} {first.lstrip()}"
            yield from more
    if explanation.differences:
        yield ""
        yield "What is otherwise in the database:"
        for difference in explanation.differences[:_REST]:
            yield from indented(difference_in_words(difference), 4, lines=2)
        if len(explanation.differences) > _REST:
            yield f"    and {len(explanation.differences) - _REST} more places; --json has all of them"
    conduct = [each for each in explanation.conduct if ": unconfirmed" not in each]
    if conduct:
        yield ""
        yield "What else was wrong on the way:"
        for each in conduct:
            yield from indented(each, 4, lines=2)


def _caveat(explanation: Explanation) -> str:
    kinds = [finding.sublabel or "" for finding in explanation.attribution.findings if finding.label == "unconfirmed"]
    return kinds[0].replace("_", " ") if kinds else "executing the writes so leads elsewhere"


# two runs


def comparison_lines(before: str, after: str, comparison: Comparison) -> Iterator[str]:
    """How two runs differ."""
    yield _cut(f"{before} -> {after}: {comparison.shared_tasks} shared tasks of {comparison.before_tasks} and {comparison.after_tasks}")
    yield ""
    yield f"  {'% [95 % interval]':18}{'before':>20}{'after':>20}{'difference':>24}"
    for row in comparison.passes:
        difference = "-" if row.difference is None else _signed(row.difference.value, (row.difference.low, row.difference.high))
        yield f"  {f'Pass^{row.k}':18}{_percent(row.before):>20}{_percent(row.after):>20}{difference:>24}"
    if comparison.gained or comparison.lost:
        same = comparison.shared_tasks - len(comparison.gained) - len(comparison.lost)
        yield ""
        yield "Tasks that flipped, by trials that pass"
        for name, flips in (("gained", comparison.gained), ("lost", comparison.lost)):
            yield from _flip_lines(name, flips)
        yield f"  same {same}"
    for title, causes in (("Causes, per opportunity", True), ("Conduct, per opportunity", False)):
        moves = [move for move in comparison.patterns if move.is_cause == causes]
        if moves:
            yield ""
            yield title
            for move in moves[:_REST]:
                yield from _move_lines(move)
            if len(moves) > _REST:
                yield f"  and {len(moves) - _REST} more that moved less; --json has all of them"


def _flip_lines(name: str, flips: Sequence[Flip]) -> Iterator[str]:
    shown = [f"{flip.task}:{flip.before[0]}/{flip.before[1]}>{flip.after[0]}/{flip.after[1]}" for flip in flips[:_REST]]
    more = [f"and {len(flips) - _REST} more; --json has all of them"] if len(flips) > _REST else []
    first, *rest = indented(", ".join([*shown, *more]) or "none", 18, lines=6)
    yield f"  {f'{name} {len(flips)}':16}{first.lstrip()}"
    yield from rest


def variance_lines(split: VarianceSplit) -> Iterator[str]:
    """Where the variance of outcomes comes from, or why that cannot be said."""
    if split.why_not is not None:
        yield from indented(f"The variance is not split by side: {split.why_not}.", 0)
        return
    crossed = f"{len(split.agents)} agents x {len(split.users)} users x {split.tasks} tasks, {split.trials} or more trials each"
    left_out = f"; {split.left_out} tasks are not in all of them" if split.left_out else ""
    yield "Share of the variance of outcomes, % [95 % interval over tasks, for these agents and users]"
    yield from indented(f"{crossed}{left_out}", 2)
    for name, share in split.shares.items():
        yield f"  {_PART_NAMES[name]:38}{_percent(share):>20}"


_PART_NAMES = {
    "task": "the task",
    "agent": "the agent's side",
    "user": "the user's side",
    "both": "who meets whom",
    "chance": "chance, from trial to trial",
}


def _move_lines(move: PatternMove) -> Iterator[str]:
    yield _cut(f"  {move.id}")
    difference = "-" if move.difference is None else _signed(move.difference, move.interval)
    yield f"    {move.moved:16}{_percent(move.before):>20}{_percent(move.after):>20}{difference:>24}"


def _percent(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{100 * estimate.value:.0f}{_range((estimate.low, estimate.high))}"


def _signed(value: float, interval: tuple[float, float] | None) -> str:
    return f"{100 * value:+.0f}{_range(interval)}"
