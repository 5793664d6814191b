"""Allocation: what each failure pattern weighs when a round's tasks are divided, before the mixture has its say.

`thompson` weighs a pattern by how much it explains, how much there is to learn from its tasks, and whether it is resolved:
share x learnability x (1 - resolved), the learnability drawn from what is known of it. `equal` is the control: all patterns alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from sentinel_env.failures import GENERAL, FailurePattern

from .mixture import check_arms
from .pool import Snapshot
from .standing import DISCOUNT

Allocation = Literal["thompson", "equal"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of attempts at one task, over an arm's tasks: in how many of them one attempt passed and the other failed.

    The share of such pairs estimates 2 p (1 - p), averaged over tasks, without bias. The arm's mean pass rate would not do: where half of
    the tasks are always passed and half never, it is 0.5, and there is nothing to learn.
    """

    differ: float = 0.0
    alike: float = 0.0

    def learnability(self, random: Random) -> float:
        """The arm's mean p (1 - p), drawn from its Beta posterior; the prior is one pair of each kind, so what is unknown is tried."""
        return random.betavariate(1 + self.differ, 1 + self.alike) / 2


def pairs(snapshot: Snapshot) -> dict[str, Pairs]:
    """What is known of each arm; n attempts at a task are worth n / 2 pairs, and older ones are discounted."""
    found: dict[str, Pairs] = {}
    for entry in snapshot.entries:
        for seen in entry.seen:
            if seen.attempts < 2:
                continue
            weight = DISCOUNT ** (snapshot.number - seen.round)
            differ = seen.passes * (seen.attempts - seen.passes) / (seen.attempts - 1)
            before = found.get(entry.arm, Pairs())
            found[entry.arm] = Pairs(before.differ + weight * differ, before.alike + weight * (seen.attempts / 2 - differ))
    return found


def weigh(allocation: Allocation, patterns: Sequence[FailurePattern], known: Mapping[str, Pairs], random: Random) -> dict[str, float]:
    """The weight of each pattern by its id, and of "general", for `apportion`.

    General tasks weigh as much as one pattern under `equal`. Under `thompson` they explain what no pattern explains. Exploration and
    replay have their floors and no weight.

    Args:
        allocation: "thompson" or "equal".
        patterns: The selected patterns.
        known: What is known of each arm's learnability.
        random: For the draws.

    Raises:
        ConfigError: A pattern has the name of another arm.
    """
    check_arms(pattern.id for pattern in patterns)
    if allocation == "equal":
        return {**{pattern.id: 1.0 for pattern in patterns}, GENERAL: 1.0}

    def drawn(arm: str) -> float:
        return known.get(arm, Pairs()).learnability(random)

    weights = {pattern.id: pattern.share * drawn(pattern.id) * (pattern.state != "resolved") for pattern in patterns}
    return {**weights, GENERAL: _unexplained(pattern.share for pattern in patterns) * drawn(GENERAL)}


def _unexplained(shares: Iterable[float]) -> float:
    """The share of failures that no pattern explains, at least: some show several."""
    return max(0.0, 1.0 - sum(shares))
