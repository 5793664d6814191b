"""The statistics of patterns: is a rate higher than errors of all kinds alike would give, and does it go with failing.

The unit is the task with all its trials. An agent that errs *uniformly* makes every kind of mistake equally often per opportunity; a
habit stands out from that. So a kind's rate is tested against `RATIO` times the pooled rate of everything else, on the number of tasks in
which it happened: several errors in one task count once, which is the careful side when trials of a task are alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import exp, lgamma, log, log1p
from typing import TypeVar

import numpy as np

from sentinel_env.metrics import Values, rate

RATIO = 2.0
"""How many times the rate of everything else a habit must exceed: not every opportunity that is counted can really be missed."""
ALPHA = 0.05
"""The chance that a run of a uniformly erring agent shows any selected pattern."""
MIN_TASKS = 5
"""In how many distinct tasks a pattern must show (spec 3a)."""
MIN_SHARE = 0.05
"""What share of the failures a pattern must show in (spec 3a)."""

Name = TypeVar("Name", bound=Hashable)

_RESAMPLES, _CHUNK = 2000, 100


class Cell:
    """Errors and opportunities of one kind of mistake, by task."""

    __slots__ = ("chances", "errors")

    def __init__(self, errors: Values, chances: Values) -> None:
        self.errors = errors
        self.chances = chances

    @property
    def tasks(self) -> int:
        """In how many tasks it happened."""
        return int((self.errors > 0).sum())

    def __sub__(self, other: Cell) -> Cell:
        return Cell(np.maximum(self.errors - other.errors, 0.0), np.maximum(self.chances - other.chances, 0.0))

    def __add__(self, other: Cell) -> Cell:
        return Cell(self.errors + other.errors, self.chances + other.chances)


def exceeds(cell: Cell, rest: Cell, *, ratio: float = RATIO) -> float:
    """The p-value of "this kind errs at most `ratio` times as often as the rest", one-sided.

    Under it a task with n opportunities shows the kind with a chance of at most 1 - (1 - p)^n, p being `ratio` times the upper end of the
    rest's interval. The number of tasks that show it is compared with a binomial of the mean chance, whose tail is at least as heavy as
    that of the unequal chances (Hoeffding 1956).
    """
    open_ = cell.chances > 0
    if not open_.any() or not cell.tasks:
        return 1.0
    highest = rate(rest.errors, rest.chances).high if (rest.chances > 0).any() else 1.0
    p = min(1.0, ratio * highest)
    mean = float((1 - (1 - p) ** cell.chances[open_]).mean())
    return _upper_tail(cell.tasks, int(open_.sum()), mean)


def separates(inside: Cell, outside: Cell) -> float:
    """The one-sided p-value of Fisher's exact test that a kind happens in more tasks inside a context than outside it."""
    hit, of = inside.tasks, int((inside.chances > 0).sum())
    others, of_others = outside.tasks, int((outside.chances > 0).sum())
    if not of or not of_others:
        return 1.0
    most = min(of, hit + others)
    whole = _log_choose(of + of_others, hit + others)
    return min(1.0, sum(exp(_log_choose(of, k) + _log_choose(of_others, hit + others - k) - whole) for k in range(hit, most + 1)))


def holm(p_values: Mapping[Name, float], hypotheses: int) -> dict[Name, float]:
    """p-values corrected for having looked at so many hypotheses, by Holm's method; those that are not listed count as 1."""
    corrected, highest = {}, 0.0
    for at, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, p_values[name] * max(1, hypotheses - at)))
        corrected[name] = highest
    return corrected


def gaps(
    failed: Values, passed: Values, shown: Sequence[tuple[Values, Values]], *, seed: int = 0
) -> list[tuple[float, tuple[float, float] | None]]:
    """P(kind | failed) - P(kind | passed) of each kind, with a bootstrap interval over tasks.

    Args:
        failed: Failed trajectories of each task.
        passed: Passed ones.
        shown: For each kind, the failed and the passed ones of each task that show it.
        seed: Of the resampling.
    """
    bad, good = float(failed.sum()), float(passed.sum())

    def gap(of_failed: float, of_passed: float) -> float:
        return (of_failed / bad if bad else 0.0) - (of_passed / good if good else 0.0)

    values = [gap(float(one.sum()), float(other.sum())) for one, other in shown]
    if not bad or not good or not shown:
        return [(value, None) for value in values]
    table = np.stack([failed, passed, *(column for pair in shown for column in pair)], axis=1)  # (tasks, 2 + 2 kinds)
    random, tasks = np.random.default_rng(seed), len(failed)
    rows = []
    for _ in range(_RESAMPLES // _CHUNK):
        weights = random.multinomial(tasks, np.full(tasks, 1 / tasks), size=_CHUNK)  # (resamples, tasks)
        totals = weights @ table
        with np.errstate(invalid="ignore", divide="ignore"):
            rows.append(totals[:, 2::2] / totals[:, :1] - totals[:, 3::2] / totals[:, 1:2])
    low, high = np.nanquantile(np.concatenate(rows), [0.025, 0.975], axis=0)
    return [(value, (float(low[at]), float(high[at]))) for at, value in enumerate(values)]


def difference(before: Cell, after: Cell, *, seed: int = 0) -> tuple[float, float, float]:
    """The rate after minus the rate before, with a 95 % bootstrap interval: by shared task where tasks are shared, else by run.

    Where all tasks agree the interval is put together from those of the two rates (Newcombe 1998, method 10).
    The cells must be about the same tasks in the same order; a task that is in one run only has no opportunity in the other.
    """
    shared = (before.chances > 0) & (after.chances > 0)
    if shared.sum() >= 2:
        before, after = (Cell(cell.errors[shared], cell.chances[shared]) for cell in (before, after))
    random = np.random.default_rng(seed)
    sides = [(cell.errors[cell.chances > 0], cell.chances[cell.chances > 0]) for cell in (before, after)]
    value = sides[1][0].sum() / sides[1][1].sum() - sides[0][0].sum() / sides[0][1].sum()
    drawn = []
    for _ in range(_RESAMPLES // _CHUNK):
        counts = [len(chances) for _, chances in sides]
        weights = [random.multinomial(count, np.full(count, 1 / count), size=_CHUNK) for count in counts]
        if shared.sum() >= 2:
            weights[1] = weights[0]
        rates = [(weight @ errors) / (weight @ chances) for weight, (errors, chances) in zip(weights, sides, strict=True)]
        drawn.append(rates[1] - rates[0])
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    if low == high:  # no task differs from the others, and a bootstrap knows no more than that
        one, other = (rate(cell.errors, cell.chances) for cell in (before, after))
        low = value - ((other.value - other.low) ** 2 + (one.high - one.value) ** 2) ** 0.5
        high = value + ((other.high - other.value) ** 2 + (one.value - one.low) ** 2) ** 0.5
    return float(value), max(-1.0, float(low)), min(1.0, float(high))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) if 0 <= k <= n else -np.inf


def _upper_tail(hits: int, of: int, p: float) -> float:
    """P(at least so many hits) of a binomial."""
    if p <= 0.0:
        return 0.0 if hits else 1.0
    if p >= 1.0:
        return 1.0
    return min(1.0, sum(exp(_log_choose(of, k) + k * log(p) + (of - k) * log1p(-p)) for k in range(hits, of + 1)))
