"""The Controller's memory: what each round showed of each pattern, what was tried against it, and what came of that. One JSON line a round.

memory = Memory.load(path)                                  # empty where there is no file
patterns = memory.observe(1, report.patterns)               # the same patterns, each with its state over the rounds
memory.tried(1, {"missing_write/renew_loan": Attempt(wanted=20, proposed=32, accepted=20)})
memory.save(path)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel_env.errors import ConfigError
from sentinel_env.records import first_error

from .patterns import FailurePattern, Interval, State

RESOLVED = 0.5
"""A pattern is resolved when the upper end of its rate is at most this part of its peak (spec 3a)."""
RECENT, SEEN = 3, 2
"""A pattern that happened in so many of the last rounds persists."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Observation(_Data):
    """One pattern in one round."""

    errors: int
    opportunities: int
    rate: float
    rate_interval: Interval | None = None
    share: float = 0.0
    selected: bool = False
    state: State = "emerging"


class Attempt(_Data):
    """What was done against a pattern in one round."""

    wanted: int = 0
    """Tasks that the Controller asked for."""
    proposed: int = 0
    """Drafts."""
    accepted: int = 0
    """Tasks that passed the gates and were kept."""
    trained: int = 0
    """Tasks of those that the model was then trained on."""


class Round(_Data):
    """One round of the loop."""

    number: int
    patterns: dict[str, Observation] = {}
    tried: dict[str, Attempt] = {}
    """By pattern; `general` for tasks of every kind."""


class Memory:
    """What is remembered, oldest round first."""

    def __init__(self, rounds: Iterable[Round] = (), known: Iterable[FailurePattern] = ()) -> None:
        """Start from some rounds.

        Args:
            rounds: What was observed and tried.
            known: The patterns that they are about, as they were seen last.
        """
        self._rounds = {each.number: each for each in rounds}
        self._known = {pattern.id: pattern for pattern in known}

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds, oldest first."""
        return tuple(self._rounds[number] for number in sorted(self._rounds))

    @property
    def known(self) -> tuple[FailurePattern, ...]:
        """Every pattern that was ever seen; give them to `mine`, so that one that does not happen any more is still counted."""
        return tuple(self._known.values())

    def observe(self, number: int, patterns: Sequence[FailurePattern]) -> tuple[FailurePattern, ...]:
        """Take note of a round's patterns, and return them with their states. What was noted of this round before is replaced."""
        found = []
        for pattern in patterns:
            history = [each.patterns[pattern.id] for each in self.rounds if each.number < number and pattern.id in each.patterns]
            if pattern.errors or history:
                found.append(pattern.model_copy(update={"state": state_of(history, _observed(pattern))}))
        earlier = self._rounds.get(number, Round(number=number))
        self._rounds[number] = earlier.model_copy(update={"patterns": {pattern.id: _observed(pattern) for pattern in found}})
        self._known |= {pattern.id: pattern.model_copy(update={"evidence": ()}) for pattern in found}
        return tuple(found)

    def tried(self, number: int, attempts: Mapping[str, Attempt]) -> None:
        """Take note of what was done against patterns in a round; what was noted of the same pattern and round is replaced."""
        earlier = self._rounds.get(number, Round(number=number))
        self._rounds[number] = earlier.model_copy(update={"tried": {**earlier.tried, **attempts}})

    def story(self, pattern_id: str) -> list[tuple[int, Observation | None, Attempt | None]]:
        """A pattern round by round: (number, what was seen, what was then tried); what came of it is in the next row."""
        rows = [(each.number, each.patterns.get(pattern_id), each.tried.get(pattern_id)) for each in self.rounds]
        return [row for row in rows if row[1] or row[2]]

    def save(self, path: str | Path) -> None:
        """Write the memory: a line for each round, then one for each known pattern; a reader finds the old file or the new one, whole."""
        file = Path(path)
        partial = file.with_name(f".{file.name}.partial")
        lines: list[BaseModel] = [*self.rounds, *self._known.values()]
        partial.write_text("".join(line.model_dump_json(exclude_defaults=True) + "\n" for line in lines), encoding="utf-8")
        partial.replace(file)

    @classmethod
    def load(cls, path: str | Path) -> Memory:
        """Read a memory; an empty one where there is no file.

        Raises:
            ConfigError: The file cannot be read, or a line is neither a round nor a pattern (named with its number and field).
        """
        file = Path(path)
        if not file.exists():
            return cls()
        rounds, known = [], []
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the Controller's memory from {file}: {error}") from None
        for number, line in enumerate(lines, 1):
            try:
                if line.startswith('{"number"'):
                    rounds.append(Round.model_validate_json(line))
                elif line.strip():
                    known.append(FailurePattern.model_validate_json(line))
            except ValidationError as error:
                raise ConfigError(f"{file}, line {number}: {first_error(error)}") from None
        return cls(rounds, known)


def _observed(pattern: FailurePattern) -> Observation:
    return Observation(**{name: getattr(pattern, name) for name in Observation.model_fields})


def state_of(history: Sequence[Observation], now: Observation) -> State:
    """Where a pattern stands: a function of its rates alone.

    resolved: the upper end of its rate is at most half its peak; forgotten: it was resolved, and its rate is above that again;
    shrinking: its rate lies below its peak, the interval included; persistent: it happened in two of the last three rounds; else emerging.
    """
    low, high = now.rate_interval or (now.rate, now.rate)
    peak = max((each.rate for each in history), default=0.0)
    if peak and high <= RESOLVED * peak:
        return "resolved"
    if history and history[-1].state == "resolved":
        return "forgotten" if low > history[-1].rate else "resolved"
    if peak and high < peak:
        return "shrinking"
    seen = sum(each.errors > 0 for each in (*history[1 - RECENT :], now))
    return "persistent" if seen >= SEEN else "emerging"
