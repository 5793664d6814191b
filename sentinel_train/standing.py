"""Where a generated task stands, by rules on what the model made of it in each round.

    new ──▶ pilot ──▶ active ◀──▶ solved ──▶ retired          a solved or retired task that fails again is active
              ▲│
              │▼
            deferred                                          never passed in the pilot: "unknown", looked at again, never thrown away

A state is computed from attempts and passes, and stored nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sentinel_env import Task

State = Literal["pilot", "active", "solved", "deferred", "retired"]
"""`pilot`: to be tried before anything else. `active`: passed now and then, so training on it has a gradient. `solved`: passed in every
attempt the last time. `deferred`: passed in none, which says "unknown" and not "impossible". `retired`: passed nearly always, twice."""
STATES: tuple[State, ...] = get_args(State)

Stage = Literal["propose", "pilot", "training"]
"""What a round does with the pool, in this order."""
_ORDER: dict[str, int] = {stage: at for at, stage in enumerate(get_args(Stage))}

RETIRED_AT = 0.95
"""A task that is passed at least so often in two rounds in a row is retired (spec 3e)."""
REVISIT = 3
"""After so many rounds a deferred task is looked at again."""
DISCOUNT = 0.7
"""What an attempt counts for, to the power of how many rounds ago it was (spec 3e)."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seen(_Data):
    """What the model made of a task in one stage of a round."""

    round: int = Field(ge=1)
    stage: Literal["pilot", "training"]
    attempts: int = Field(ge=0)
    """Rollouts that were graded; those that infrastructure failed do not count."""
    passes: int = Field(ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.passes > self.attempts:
            raise ValueError(f"{self.passes} passes in {self.attempts} attempts")
        return self

    def __str__(self) -> str:
        return f"passed {self.passes} of {self.attempts} in round {self.round} ({self.stage})"


class Entry(_Data):
    """A task in the pool."""

    task: Task
    arm: str
    """What it was made for: a failure pattern's id, "general" or "explore". Its attempts count for this arm."""
    pattern: str
    """The pattern that it was made from; another one than the arm in the placebo and in exploration."""
    born: int = Field(ge=1)
    """The round in which it was made."""
    filtered: bool = True
    """False: it is trained on however often it is passed, and needs no pilot."""
    seen: tuple[Seen, ...] = ()
    """Oldest first; the pool fills it."""

    def before(self, number: int, stage: Stage) -> Self | None:
        """The task as it was before a stage of a round; None where it had not been made by then."""
        moment = number, _ORDER[stage]
        if (self.born, _ORDER["propose"]) >= moment:
            return None
        return self.model_copy(update={"seen": tuple(seen for seen in self.seen if when(seen) < moment)})


def when(seen: Seen) -> tuple[int, int]:
    """A moment of the loop, to sort by."""
    return seen.round, _ORDER[seen.stage]


@dataclass(frozen=True)
class Standing:
    """Where a task stands, and why."""

    state: State
    why: str


def standing(entry: Entry, number: int) -> Standing:
    """Where a task stands in a round: a function of what was seen of it.

    Never passed in the pilot: deferred, and back to the pilot `REVISIT` rounds after its last attempt. Passed now and then: active; always:
    solved; at least `RETIRED_AT` in two rounds in a row: retired. One that is never passed in training is active: it was passed before.
    """
    if not entry.filtered:
        return Standing("active", "it is trained on however often it is passed")
    state: State = "pilot"
    why = f"made in round {entry.born} and not tried yet"
    high: int | None = None  # the round in which it began to be passed nearly always
    last = entry.born
    for seen in entry.seen:
        if not seen.attempts:
            continue
        last, why = seen.round, str(seen)
        if seen.passes >= RETIRED_AT * seen.attempts:
            if high is not None and high < seen.round:
                state, why = "retired", f"{why}, and nearly always since round {high}"
            else:
                state = "solved" if seen.passes == seen.attempts else "active"
            high = seen.round if high is None else high
        else:
            high = None
            state = "deferred" if not seen.passes and seen.stage == "pilot" else "active"
    if state == "deferred" and number - last >= REVISIT:
        return Standing("pilot", f"{why}; {number - last} rounds later it is looked at again")
    return Standing(state, why)


def pass_rate(entry: Entry, number: int) -> float:
    """How often a task is passed, older attempts discounted; half a pass and half a failure are added, so that it is never 0 or 1."""
    weights = [DISCOUNT ** (number - seen.round) for seen in entry.seen]
    passes = sum(weight * seen.passes for weight, seen in zip(weights, entry.seen, strict=True))
    attempts = sum(weight * seen.attempts for weight, seen in zip(weights, entry.seen, strict=True))
    return (passes + 0.5) / (attempts + 1)


def learnability(rate: float) -> float:
    """p (1 - p): the variance of a rollout's reward, largest for a task that is passed every other time.

    >>> learnability(0.5)
    0.25
    """
    return rate * (1 - rate)


def gradient_chance(rate: float, group_size: int) -> float:
    """The chance that a group's rollouts are not all alike, without which GRPO has no gradient: 1 - p^G - (1 - p)^G.

    >>> gradient_chance(0.5, 2)
    0.5
    """
    return 1 - rate**group_size - (1 - rate) ** group_size
