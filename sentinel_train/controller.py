"""The Controller's choice: which of the patterns that a round shows tasks are made for. How many for each is `allocation`'s affair."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel_env import FailurePattern

NOTHING_TO_BUILD_ON = frozenset(("unfinished",))
"""What failures look like at the end; the Proposer has no mistake to build a task around, and neither has it for conduct."""


def select(patterns: Sequence[FailurePattern], *, min_support: int) -> tuple[FailurePattern, ...]:
    """The patterns that tasks can be made for.

    Args:
        patterns: What the last run shows.
        min_support: How many failed trajectories must show a pattern.
    """
    return tuple(
        pattern
        for pattern in patterns
        if pattern.is_cause
        and pattern.label not in NOTHING_TO_BUILD_ON
        and pattern.errors >= min_support
        and pattern.fault in ("agent", "undetermined")
    )
