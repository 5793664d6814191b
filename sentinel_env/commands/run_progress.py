"""How far a run is, on standard error: a bar in a terminal, a line a minute in a log. How many passed, what it cost, how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.trajectory import Trajectory

_EVERY = 60.0
"""Seconds between two lines of a log."""


@dataclass
class Tally:
    """What is known of a run's attempts so far."""

    total: int
    made: int = 0
    passed: int = 0
    errors: int = 0
    """Those that infrastructure ended; they are in `made`."""
    cost: float = 0.0
    """US dollars of both sides' answers, as far as prices are known."""
    began: float = field(default_factory=time.monotonic)
    found: int = 0
    """Of those made, the ones that an earlier call had finished."""

    def add(self, trajectory: Trajectory, passed: bool) -> None:
        """Count an attempt."""
        self.made += 1
        self.passed += passed
        self.errors += trajectory.error is not None
        self.cost += sum((trajectory.usage or {}).get(f"{side}_cost", 0.0) for side in ("agent", "user"))

    def seconds_left(self, now: float) -> float | None:
        """At the pace of this call; None before its first attempt has ended."""
        made = self.made - self.found
        return (now - self.began) / made * (self.total - self.made) if made else None

    def note(self) -> str:
        """Pass rate, outages and cost in a few words."""
        finished = self.made - self.errors
        parts = [f"{100 * self.passed / finished:.0f} % passed"] if finished else []
        parts += [f"{self.errors} without an end"] if self.errors else []
        parts += [f"${self.cost:.2f}"] if self.cost else []
        return ", ".join(parts)

    def line(self, now: float) -> str:
        """All of it in a line.

        >>> Tally(total=40, made=10, passed=6, errors=2, cost=0.25, began=0.0).line(120.0)
        '10 of 40 made, 75 % passed, 2 without an end, $0.25, 6 min left'
        """
        left = self.seconds_left(now)
        parts = [f"{self.made} of {self.total} made", self.note(), "" if left is None else f"{left / 60:.0f} min left"]
        return ", ".join(part for part in parts if part)


class Progress:
    """Counts a run's trajectories and shows them."""

    def __init__(self, tally: Tally, show: Callable[[int, str], None], say: Callable[[str], None]) -> None:
        self._tally, self._show = tally, show
        self.say = say
        """Shows a line at once."""

    def add(self, world: Domain, trajectory: Trajectory) -> None:
        """Count a trajectory."""
        from sentinel_env.evaluation import evaluate

        self._tally.add(trajectory, trajectory.error is None and evaluate(world, trajectory).passed)
        self._show(self._tally.made, self._tally.note())

    def count(self, made: int, passed: int) -> None:
        """Say how many there are, for whoever counts them."""
        self._tally.made, self._tally.passed = made, passed
        self._show(made, self._tally.note())


@contextmanager
def progress(what: str, total: int, *, found: int, show: bool = True) -> Iterator[Progress]:
    """Show how far a run is, of which so many attempts are found finished."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    tally = Tally(total, found=found)
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        told = tally.began

        def tell(made: int, note: str) -> None:
            nonlocal told
            if show and (now := time.monotonic()) - told >= _EVERY:
                told = now
                print(f"{what}: {tally.line(now)}", file=sys.stderr, flush=True)

        yield Progress(tally, tell, lambda line: print(f"{what}: {line}", file=sys.stderr, flush=True) if show else None)
        return

    class Left(ProgressColumn):
        def render(self, task: object) -> Text:
            left = tally.seconds_left(time.monotonic())
            return Text("" if left is None else f"{left // 60:.0f}:{left % 60:02.0f} left")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left(), TextColumn("{task.fields[note]}"))
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, note="")
        yield Progress(tally, lambda made, note: bar.update(task, completed=made, note=note), lambda line: bar.update(task, note=line))
