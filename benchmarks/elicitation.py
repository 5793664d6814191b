"""Elicitation: how much likelier a mistake is on tasks that were made for it than on general ones.

e_k = P(the run fails and shows mistake k), over tasks; lift = e_k on targeted tasks / e_k on general ones. Labels are the attribution's.
An interval of a share is clustered by task (`metrics.rate`). The interval of a lift is put together from those of its two shares, which
come from different tasks and so are independent, by the method of variance estimates recovery for ratios (MOVER-R: Donner and Zou 2012,
Newcombe 2016). Unlike a bootstrap of the ratio, whose resamples of a share without any error are all zero, it has a lower end where
nothing was seen on general tasks: it takes the upper end of 0 of n for their share. The upper end is open then.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sentinel_env import Domain, Task, Trajectory
from sentinel_env.evaluation import calls
from sentinel_env.failures import CAUSES, FailurePattern, attribute
from sentinel_env.failures.opportunities import Chance, ConductChances, Exposure
from sentinel_env.failures.tally import relevant
from sentinel_env.metrics import Estimate, rate


@dataclass(frozen=True)
class Play:
    """One attempt, as far as mistakes are counted."""

    task: str
    passed: bool
    primary: str | None
    """The label of the cause that lost it."""
    slips: tuple[tuple[str, str | None, tuple[str, ...]], ...]
    """Label, tool and arguments of each mistake."""
    chances: tuple[Chance, ...]
    """What the reference leaves room for."""
    called: frozenset[str]
    """The tools that were called."""


def watch(domain: Domain, trajectories: Iterable[Trajectory]) -> list[Play]:
    """Attribute attempts."""
    exposures: dict[str, tuple[Chance, ...]] = {}
    found = []
    for trajectory in trajectories:
        task = trajectory.task
        if task.id not in exposures:
            exposures[task.id] = Exposure(domain, task).chances
        attribution = attribute(domain, trajectory)
        slips = tuple((finding.label, finding.tool, finding.arguments) for finding in relevant(attribution))
        primary = attribution.primary.label if attribution.primary else None
        called = frozenset(call.name for _, call, _ in calls(trajectory) if call.name in domain.tools_by_name)
        found.append(Play(task.id, attribution.passed is True, primary, slips, exposures[task.id], called))
    return found


def _is_about(pattern: FailurePattern, label: str, tool: str | None, arguments: Iterable[str]) -> bool:
    if label != pattern.label or (pattern.tools and tool not in (None, *pattern.tools)):
        return False
    return not pattern.arguments or not set(pattern.arguments).isdisjoint(arguments)


def errors(play: Play, pattern: FailurePattern) -> int:
    """How often the mistake was made: wrong arguments one by one, conduct once a tool, everything else as often as it shows."""
    own = [slip for slip in play.slips if _is_about(pattern, *slip)]
    if pattern.label == "wrong_argument":
        return sum(len(set(arguments) & set(pattern.arguments)) if pattern.arguments else len(arguments) for _, _, arguments in own)
    return len(own) if pattern.is_cause else len(set(own))


@lru_cache(maxsize=4)
def _conduct(domain: Domain) -> ConductChances:
    return ConductChances(domain)


def opportunities(domain: Domain, play: Play, pattern: FailurePattern) -> int:
    """How often it could have been made: by the reference, and for conduct by the tools that were called."""
    if not pattern.is_cause:
        tools = play.called & set(pattern.tools) if pattern.tools else play.called
        return _conduct(domain).of_run(tools)[pattern.label]
    asked = pattern.arguments  # a wrong record names its argument, and its opportunities name none
    return sum(_is_about(pattern, chance.label, chance.tool, (chance.argument,) if chance.argument else asked) for chance in play.chances)


def share(plays: Sequence[Play], of: Callable[[Play], float], among: Callable[[Play], float] = lambda play: 1.0) -> Estimate | None:
    """A share with its interval by task; None where there is nothing to count."""
    tasks: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for play in plays:
        tasks[play.task][0] += of(play)
        tasks[play.task][1] += among(play)
    if not any(chances for _, chances in tasks.values()):
        return None
    return rate([count for count, _ in tasks.values()], [max(chances, count) for count, chances in tasks.values()])


def elicited(plays: Sequence[Play], pattern: FailurePattern) -> Estimate | None:
    """e_k: the share of attempts that fail and show the mistake."""
    return share(plays, lambda play: float(not play.passed and errors(play, pattern) > 0))


def precision(plays: Sequence[Play], label: str) -> Estimate | None:
    """Of the attempts that fail, the share whose primary cause has the label."""
    return share(plays, lambda play: float(not play.passed and play.primary == label), lambda play: float(not play.passed))


def per_opportunity(domain: Domain, plays: Sequence[Play], pattern: FailurePattern) -> Estimate | None:
    """Mistakes for each place where they could have been made, in passed and failed attempts."""
    return share(plays, lambda play: errors(play, pattern), lambda play: opportunities(domain, play, pattern))


@dataclass(frozen=True)
class Lift:
    """A ratio of two shares with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_accepted(self) -> bool:
        """Whether its lower end exceeds 1."""
        return self.low > 1

    def __str__(self) -> str:
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


def _short(value: float) -> str:
    return "–" if math.isnan(value) else "inf" if math.isinf(value) else f"{value:.2f}" if value < 9.995 else f"{value:.0f}"


def lift(targeted: Estimate | None, general: Estimate | None) -> Lift:
    """The ratio of two independent shares by MOVER-R; nan where neither showed anything."""
    if targeted is None or general is None or (targeted.value == 0 and general.value == 0):
        return Lift(math.nan, 0.0, math.inf)
    one, low, high = targeted.value, targeted.low, targeted.high
    other, other_low, other_high = general.value, general.low, general.high
    product = one * other
    below = max(0.0, product**2 - low * other_high * (2 * one - low) * (2 * other - other_high))
    above = max(0.0, product**2 - high * other_low * (2 * one - high) * (2 * other - other_low))
    lower = (product - math.sqrt(below)) / (other_high * (2 * other - other_high)) if other_high != 2 * other else low / other_high
    room = other_low * (2 * other - other_low)
    return Lift(one / other if other else math.inf, max(0.0, lower), (product + math.sqrt(above)) / room if room > 0 else math.inf)


def confusion(rows: Iterable[tuple[str, Sequence[Play]]]) -> dict[str, Counter[str]]:
    """Intended label -> the primary causes of the attempts that failed."""
    found: dict[str, Counter[str]] = {}
    for intended, plays in rows:
        found.setdefault(intended, Counter()).update(play.primary or "none" for play in plays if not play.passed)
    return found


def table(matrix: dict[str, Counter[str]]) -> str:
    """The matrix in per cent of each row; the intended label's own column in bold."""
    columns = [label for label in (*CAUSES, "none") if any(row[label] for row in matrix.values())]
    lines = [f"| intended | failed | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for intended, row in matrix.items():
        total = row.total()
        cells = [f"{100 * row[label] / total:.0f}" if row[label] else "" for label in columns]
        cells = [f"**{cell}**" if cell and label == intended else cell for cell, label in zip(cells, columns, strict=True)]
        lines.append(f"| {intended} | {total} | {' | '.join(cells)} |")
    return "\n".join(lines)


def without_certificates(tasks: Iterable[Task]) -> list[Task]:
    """Tasks as an agent's run needs them, a tenth as large."""
    return [task.model_copy(update={"certificate": None}) for task in tasks]
