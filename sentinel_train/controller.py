"""The Controller: which failure patterns the next tasks are made for, and how many of them for each.

Half of the failures of a weak agent have one cause; tasks for that cause alone would make the agent good at little else. So a share is
always general, and no pattern takes more than its cap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from sentinel_env import Domain, FailurePattern, Task, Trajectory, evaluate
from sentinel_env.metrics import group_by_task

from .config import Settings

NOTHING_TO_BUILD_ON = frozenset(("unfinished",))
"""What failures look like at the end; the Proposer has no mistake to build a task around, and neither has it for conduct."""


class TargetingConfig(Settings):
    """How many tasks are made in a round, and for what."""

    tasks: int = Field(default=160, ge=1)
    """Verified tasks a round."""
    general: float = Field(default=0.3, ge=0, le=1)
    """The share of tasks of every kind."""
    cap: float = Field(default=0.25, gt=0, le=1)
    """The largest share of one pattern."""
    min_support: int = Field(default=2, ge=1)
    """How many failed trajectories must show a pattern."""
    drafts: float = Field(default=1.6, ge=1)
    """Proposals for each task that is wanted: some fail a gate."""
    pilot_trials: int = Field(default=0, ge=0)
    """Attempts of the current model at each task, before it is trained on those that it sometimes passes; 0 trains on all of them."""


@dataclass(frozen=True)
class Pilot:
    """Tasks by how often the current model passes them. Only where some attempts pass and some fail does GRPO have a gradient."""

    learnable: tuple[Task, ...]
    solved: tuple[Task, ...]
    """Passed in every attempt."""
    deferred: tuple[Task, ...]
    """Passed in none: too hard for now, and never deleted, since few attempts say little."""


def sort_by_pass_rate(domain: Domain, tasks: Sequence[Task], trajectories: Iterable[Trajectory]) -> Pilot:
    """Sort tasks by a pilot run on them; attempts that infrastructure failed do not count, and a task without any other is deferred."""
    rewards = group_by_task((each.task.id, evaluate(domain, each).reward) for each in trajectories)
    found: dict[bool | None, list[Task]] = {None: [], True: [], False: []}
    for task in tasks:
        passed = {reward == 1 for reward in rewards.get(task.id, ()) if reward is not None}
        found[None if len(passed) > 1 else True in passed].append(task)
    return Pilot(learnable=tuple(found[None]), solved=tuple(found[True]), deferred=tuple(found[False]))


def select(patterns: Sequence[FailurePattern], config: TargetingConfig, before: Mapping[str, float] | None = None) -> dict[str, int]:
    """How many tasks to make for each pattern, by its id; the rest of the round's tasks are general.

    Args:
        patterns: What the last run shows.
        config: Shares and caps.
        before: The share of each pattern in the round before, from the memory: a pattern that grew since then counts double, and so
            does one that was resolved and has come back.
    """

    def grew(pattern: FailurePattern) -> bool:
        return pattern.share > (before or {}).get(pattern.id, 1.0) or pattern.state == "forgotten"

    chosen = [
        pattern
        for pattern in patterns
        if pattern.is_cause
        and pattern.label not in NOTHING_TO_BUILD_ON
        and pattern.errors >= config.min_support
        and pattern.fault in ("agent", "undetermined")
    ]
    weights = {pattern.id: pattern.errors * (2.0 if grew(pattern) else 1.0) for pattern in chosen}
    budget = round(config.tasks * (1 - config.general))
    most = round(config.tasks * config.cap)
    shares = dict.fromkeys(weights, 0)
    open_to = list(weights)
    while open_to and (left := budget - sum(shares.values())) > 0:
        total = sum(weights[name] for name in open_to)
        for name in open_to:
            shares[name] = min(most, shares[name] + max(1, int(left * weights[name] / total)))
            if sum(shares.values()) >= budget:
                break
        open_to = [name for name in open_to if shares[name] < most]
    return {name: count for name, count in shares.items() if count}
