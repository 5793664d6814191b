"""The mixture: what a round's tasks are made up of, whatever the failures of the round before say.

    >>> apportion({"missing_write/renew_loan": 0.4, "general": 0.1}, 160, MixtureConfig()).counts
    {'general': 96, 'missing_write/renew_loan': 40, 'explore': 8, 'replay': 16}

Half of a weak agent's failures have one cause; tasks for that cause alone would make it good at little else. So some of every round is
general, some repeats what is solved, some explores mistakes that were never seen, and no pattern takes more than its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, floor, isfinite

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from sentinel_env import ConfigError
from sentinel_env.failures import GENERAL

from .config import Settings

EXPLORE = "explore"
"""The arm of mistakes that are looked for whether or not they were seen."""
REPLAY = "replay"
"""The arm of tasks that are solved or retired."""
RESERVED = (GENERAL, EXPLORE, REPLAY)
_EXACT = 1e-9
"""0.1 x 30 is 3, and not the next whole number."""


class MixtureConfig(Settings):
    """Shares of a round's tasks (spec 3e)."""

    general: float = Field(default=0.30, ge=0, le=1)
    """At least so much is of every kind."""
    replay: float = Field(default=0.10, ge=0, le=1)
    """At least so much was solved or retired before."""
    explore: float = Field(default=0.05, ge=0, le=1, validate_default=True)
    """At least so much is made for labels drawn uniformly from the whole taxonomy."""
    most_per_pattern: float = Field(default=0.25, gt=0, le=1)
    """At most so much is for one pattern."""
    most_new: float = Field(default=0.20, gt=0, le=1)
    """A round makes at most so many tasks, as a share of those that are active; or more, where a round could not be filled otherwise."""

    @field_validator("explore")
    @classmethod
    def _leaves_room(cls, explore: float, info: ValidationInfo) -> float:
        shares: dict[str, float] = {name: info.data[name] for name in ("general", "replay") if name in info.data}
        shares["explore"] = explore
        if sum(shares.values()) > 1 + _EXACT:
            raise ValueError(f"{' + '.join(f'{name} {value:g}' for name, value in shares.items())} is more than 1; lower one of them")
        return explore


class Mixture(BaseModel):
    """How many tasks each arm gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[str, int]
    """By arm: "general", "explore", "replay" and patterns by their id."""
    gave_way: tuple[str, ...] = ()
    """What could not be kept, one line each."""


def apportion(weights: Mapping[str, float], total: int, mixture: MixtureConfig, *, room: Mapping[str, int] | None = None) -> Mixture:
    """Divide a round's tasks among arms by weight, within the shares.

    What is above the floors is dealt one by one to the arm that has least for its weight (Webster's method). Where not everything can be
    kept, what comes first here wins:

    1. No arm gets more than its room.
    2. No pattern gets more than its share of `total`: rather fewer tasks than asked for.
    3. `total` tasks: what one arm cannot take goes to others, to those without weight last: general, patterns, exploration, replay.
    4. The floors: general, then replay, then exploration.

    Args:
        weights: By pattern id, and for "general"; an arm that is not listed has none.
        total: How many tasks the round wants.
        mixture: The shares.
        room: How many tasks each arm can have; no limit for None. An arm that is not listed has none.

    Raises:
        ValueError: A weight is negative or not a number, or `total` is negative.
    """
    if total < 0 or not all(isfinite(weight) and weight >= 0 for weight in weights.values()):
        raise ValueError(f"expected a total and weights of at least 0, found {total} and {dict(weights)}")
    patterns = [arm for arm in {**weights, **(room or {})} if arm not in RESERVED]
    most = floor(mixture.most_per_pattern * total + _EXACT)
    limits = {arm: most if arm in patterns else total for arm in (GENERAL, *patterns, EXPLORE, REPLAY)}
    if room is not None:
        limits = {arm: min(limit, room.get(arm, 0)) for arm, limit in limits.items()}
    counts = dict.fromkeys(limits, 0)
    left = total
    for arm, share in ((GENERAL, mixture.general), (REPLAY, mixture.replay), (EXPLORE, mixture.explore)):
        counts[arm] = min(limits[arm], ceil(share * total - _EXACT), left)
        left -= counts[arm]
    for _ in range(left):
        open_to = [arm for arm in counts if counts[arm] < limits[arm]]
        if not open_to:
            break
        counts[max(open_to, key=lambda arm: weights.get(arm, 0.0) / (2 * counts[arm] + 1))] += 1  # the first of equals
    return Mixture(counts=counts, gave_way=_gave_way(counts, total, mixture))


def _gave_way(counts: Mapping[str, int], total: int, mixture: MixtureConfig) -> tuple[str, ...]:
    found = sum(counts.values())
    lines = [f"{total} tasks wanted, {found} to be had"] if found < total else []
    for arm, share in ((GENERAL, mixture.general), (REPLAY, mixture.replay), (EXPLORE, mixture.explore)):
        if counts[arm] < share * found - _EXACT:
            lines.append(f"{arm}: {counts[arm]} of {found} tasks, less than {share:g}")
    lines.extend(
        f"{arm}: {count} of {found} tasks, more than {mixture.most_per_pattern:g}"
        for arm, count in counts.items()
        if arm not in RESERVED and count > mixture.most_per_pattern * found + _EXACT
    )
    return tuple(lines)


def new_tasks(weights: Mapping[str, float], total: int, active: int, mixture: MixtureConfig) -> Mixture:
    """What a round makes that wants `total` tasks and has so many active ones: a mixture like that of the round, without replay.

    It makes `mixture.most_new` of those that are active, or what it lacks to be filled where that is more. Raises as `apportion` does.

    >>> [sum(new_tasks({}, 160, active, MixtureConfig()).counts.values()) for active in (0, 150, 400)]
    [160, 30, 80]
    """
    count = min(total, max(floor(mixture.most_new * active + _EXACT), total - active))
    return apportion(weights, count, mixture.model_copy(update={"replay": 0.0}))


def check_arms(patterns: Iterable[str]) -> None:
    """Refuse patterns whose ids are arms of another meaning.

    Raises:
        ConfigError: One is called "general", "explore" or "replay".
    """
    for name in patterns:
        if name in RESERVED:
            raise ConfigError(f"a failure pattern is called {name!r}, which is an arm of the mixture; give it another id")
