"""How two runs differ: Pass^k, and every pattern's rate, task by task where they share tasks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from sentinel_env.metrics import Estimate, largest_k, paired_difference, pass_hat_k, rate

from .kinds import Counts
from .mining import mined_sides, place_of, report
from .patterns import FailurePattern, Interval
from .selection import difference
from .tally import Tally

_SAME = "same"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PassMove(_Data):
    """Pass^k before and after."""

    k: int
    before: Estimate | None
    after: Estimate | None
    """None where a task has fewer than k trials."""
    difference: Estimate | None
    """Paired by task; None where no task is shared."""


class Flip(_Data):
    """A task that passed more or less often than before."""

    task: str
    before: tuple[int, int]
    """Trials that passed, of how many."""
    after: tuple[int, int]

    @property
    def gain(self) -> float:
        """By how much its share of passed trials rose; below 0 where it fell."""
        return self.after[0] / self.after[1] - self.before[0] / self.before[1]


class PatternMove(_Data):
    """A pattern's rate before and after."""

    id: str
    summary: str
    is_cause: bool
    before: Estimate | None
    after: Estimate | None
    """None where there was no opportunity."""
    difference: float | None = None
    interval: Interval | None = None
    """By shared task where tasks are shared, else over the tasks of each run."""
    moved: str = _SAME
    """ "fewer" or "more" where the interval leaves 0 out; "same" does not mean equal, only that these runs do not tell."""


class Comparison(_Data):
    """Two runs."""

    shared_tasks: int
    before_tasks: int
    after_tasks: int
    passes: tuple[PassMove, ...] = ()
    gained: tuple[Flip, ...] = ()
    """Shared tasks that passed more often, those that changed most first. Some flip by chance alone: Pass^k's difference tells."""
    lost: tuple[Flip, ...] = ()
    """Shared tasks that passed less often."""
    patterns: tuple[PatternMove, ...] = ()
    """Every pattern of either run: causes first, those that moved most first."""


def compare_runs(before: Tally, after: Tally, *, undetermined: bool = False) -> Comparison:
    """Compare two runs in one world.

    Args:
        before: The first run's counts.
        after: The second run's.
        undetermined: Whether failures that nothing decides are mined along with the agent's.
    """
    found = report(before, undetermined=undetermined).patterns
    again = report(after, undetermined=undetermined, known=found).patterns
    patterns = {pattern.id: pattern for pattern in (*again, *found)}
    tasks = sorted({*before.chances, *after.chances})
    counts = [Counts(tally, mined_sides(tally, undetermined=undetermined), tasks) for tally in (before, after)]
    moves = [_move(pattern, counts) for pattern in patterns.values()]
    shared = len(before.chances.keys() & after.chances.keys())
    flips = _flips(results(before), results(after))
    return Comparison(
        shared_tasks=shared,
        before_tasks=len(before.chances),
        after_tasks=len(after.chances),
        passes=_passes(before, after, shared),
        gained=tuple(flip for flip in flips if flip.gain > 0),
        lost=tuple(flip for flip in flips if flip.gain < 0),
        patterns=tuple(sorted(moves, key=lambda move: (not move.is_cause, move.moved == _SAME, -abs(move.difference or 0.0), move.id))),
    )


def results(tally: Tally) -> dict[str, list[bool]]:
    """Task -> whether each trial passed."""
    found: dict[str, list[bool]] = {}
    for shape, count in tally.shapes.items():
        found.setdefault(shape.task, []).extend([shape.outcome is None] * count)
    return found


def _passes(before: Tally, after: Tally, shared: int) -> tuple[PassMove, ...]:
    one, other = results(before), results(after)
    most = (largest_k(one), largest_k(other))
    rows = []
    for k in range(1, max(most) + 1):
        estimates = [pass_hat_k(each, k) if k <= least else None for each, least in zip((one, other), most, strict=True)]
        both = estimates[0] is not None and estimates[1] is not None and shared > 0
        gap = paired_difference(one, other, k) if both else None
        rows.append(PassMove(k=k, before=estimates[0], after=estimates[1], difference=gap))
    return tuple(rows)


def _flips(before: dict[str, list[bool]], after: dict[str, list[bool]]) -> list[Flip]:
    """Every shared task with its trials, those that changed most first."""
    shared = (task for task in before if task in after)
    flips = [Flip(task=task, before=_count(before[task]), after=_count(after[task])) for task in shared]
    return sorted(flips, key=lambda flip: (-abs(flip.gain), flip.task))


def _count(outcomes: list[bool]) -> tuple[int, int]:
    return sum(outcomes), len(outcomes)


def _move(pattern: FailurePattern, counts: list[Counts]) -> PatternMove:
    place = place_of(pattern)
    cells = [each.cell(*place) for each in counts]
    estimates = [rate(cell.errors, cell.chances) if cell.chances.any() else None for cell in cells]
    move = PatternMove(id=pattern.id, summary=pattern.summary, is_cause=pattern.is_cause, before=estimates[0], after=estimates[1])
    if estimates[0] is None or estimates[1] is None:
        return move
    value, low, high = difference(*cells)
    moved = "fewer" if high < 0 else "more" if low > 0 else _SAME
    return move.model_copy(update={"difference": round(value, 4), "interval": (round(low, 4), round(high, 4)), "moved": moved})
