"""What ends a run before all of it is done: time, money, or infrastructure that fails too often. What is finished by then is kept.

try:
    run_tasks(domain, tasks, agent, user, out="runs/night", limits=Limits(max_minutes=480, max_error_rate=0.5))
except StoppedError as stopped:
    print(stopped, len(stopped.results))       # why, and what there is; the same call goes on from there
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigError, SentinelError
from .trajectory import Trajectory


@dataclass(frozen=True)
class Limits:
    """When to stop. Money is limited where models are made, by their `Budget`; a run that has reached it stops as well."""

    max_minutes: float | None = None
    """From the beginning of this call. Episodes that are live then are given up, and begun anew when the run is resumed."""
    max_error_rate: float | None = None
    """The share of the last `window` attempts that infrastructure may end, in [0, 1)."""
    wait_for_server: float | None = None
    """Minutes that a model's server which goes away is waited for, see `outages`; None or 0 for not at all, so that every attempt meanwhile
    is ended by it."""
    window: int = 20
    """Before so many attempts were made, no share is looked at."""

    def __post_init__(self) -> None:
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ConfigError(f"max_minutes must be above 0, found {self.max_minutes}")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate < 1:
            raise ConfigError(f"max_error_rate is a share of at least 0 and below 1, found {self.max_error_rate}")
        if self.wait_for_server is not None and not self.wait_for_server >= 0:
            raise ConfigError(f"wait_for_server must be at least 0, found {self.wait_for_server}")
        if self.window < 1:
            raise ConfigError(f"window must be at least 1, found {self.window}")


class StoppedError(SentinelError, RuntimeError):
    """A run reached one of its limits before all of it was done: no fault of the agent and no bug. The same call goes on."""

    def __init__(self, why: str, results: Sequence[Trajectory] = (), planned: int = 0) -> None:
        finished = sum(result.error is None for result in results)
        super().__init__(f"{why}; {finished} of {planned} attempts are finished and kept, the same command goes on" if planned else why)
        self.why = why
        self.results = tuple(results)
        """What was made so far by task and trial, attempts that infrastructure ended too."""


class Watch:
    """Looks at the attempts of one call as they end."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._recent: deque[str | None] = deque(maxlen=limits.window)
        self.spent: str | None = None
        """Why no further attempt is begun, once a model's budget is used up; what is live goes on as far as it can pay."""

    def saw(self, error: str | None) -> None:
        """Count an attempt.

        Args:
            error: How infrastructure ended it; None where it came to an end of its own.

        Raises:
            StoppedError: The share of those is too large now.
        """
        self._recent.append(error)
        errors = [each for each in self._recent if each is not None]
        most, window = self._limits.max_error_rate, self._limits.window
        if most is None or len(self._recent) < window or len(errors) <= most * window:
            return
        ((usual, _),) = Counter(errors).most_common(1)
        said = usual.removeprefix("ModelError: ")
        raise StoppedError(f"infrastructure ended {len(errors)} of the last {window} attempts, more than {most:.0%}: {said}")
