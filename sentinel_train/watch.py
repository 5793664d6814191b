"""Watches: the ways in which training goes wrong while its reward looks well, each with a figure, a limit and a line to read.

    reading = watch_variety(domain, tasks, general, random=Random(0))
    if reading.alarm: print(reading.text)

A watch only says; whether the loop stops is its caller's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import log
from random import Random

import numpy as np
from pydantic import BaseModel, ConfigDict

from sentinel_env import Domain, Task, Trajectory
from sentinel_env.evaluation import calls
from sentinel_env.failures import GENERAL
from sentinel_env.failures.selection import Cell, difference

NARROW = 0.8
"""Tasks are narrow when their entropy is below this part of general tasks' (spec 3e)."""
TRANSFERS = 0.05
"""Handing over may become so much more frequent from one round to the next."""
FLAT = 0.9
"""So many groups may be without variance."""
_RESAMPLES = 200


class Reading(BaseModel):
    """What a watch saw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float | None
    """None where there was nothing to look at."""
    limit: float
    alarm: bool
    text: str
    """The figure and what it is compared with, in one line."""


def watch_variety(domain: Domain, tasks: Sequence[Task], general: Sequence[Task], *, random: Random, limit: float = NARROW) -> Reading:
    """Whether a round's targeted tasks became narrower than general ones: the entropy of (tools that write, tables written to).

    A round's own general tasks are left out, since they hide what became of the others: where the tasks of four patterns all came out
    alike, the round as a whole still had 0.9 of the general entropy. The pattern is no part of what is compared: general tasks have but
    one. The text gives the figure of the specification too, which counts it.

    More tasks show more kinds, so both sides are brought to the same number: the larger is resampled to the size of the smaller.

    Args:
        domain: The world.
        tasks: What the round trains on.
        general: Tasks of every kind, such as those of the diagnosis.
        random: For the resampling.
        limit: The alarm's, as a part of the general tasks' entropy.
    """
    targeted = [kind for kind in (kind_of(domain, task) for task in tasks) if kind[0] != GENERAL]
    usual = [kind_of(domain, task) for task in general]
    size = min(len(targeted), len(usual))
    if size < 2:
        return Reading(name="variety", value=None, limit=limit, alarm=False, text=f"variety: {size} targeted tasks are too few to compare")

    def compared(start: int) -> tuple[float, float]:
        here, there = (_entropy_of([kind[start:] for kind in kinds], size, random) for kinds in (targeted, usual))
        return here, here / there if there else 1.0

    (_, counted), (found, value) = compared(0), compared(1)
    text = (
        f"variety: {found:.2f} nats over {size} targeted tasks, {value:.2f} of general ones' (the limit is {limit:g}; "
        f"{counted:.2f} with their patterns)"
    )
    return Reading(name="variety", value=value, limit=limit, alarm=value < limit, text=text)


def kind_of(domain: Domain, task: Task) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The pattern that a task was made from, its reference's writes by tool, and the tables that they change, each sorted."""
    pattern = task.certificate.pattern if task.certificate else task.source.removeprefix("proposer:")
    tools = domain.tools_by_name
    writes = sorted(call.name for call in task.criteria.actions if call.name in tools and tools[call.name].writes)
    return pattern, tuple(writes), tuple(sorted(domain.reference_changes(task)))


def entropy(kinds: Iterable[Hashable]) -> float:
    """In nats.

    >>> round(entropy("aabb"), 3)
    0.693
    """
    counts = Counter(kinds).values()
    total = sum(counts)
    return sum(count / total * log(total / count) for count in counts)


def _entropy_of(kinds: Sequence[Hashable], size: int, random: Random) -> float:
    if len(kinds) == size:
        return entropy(kinds)
    return sum(entropy(random.sample(kinds, size)) for _ in range(_RESAMPLES)) / _RESAMPLES


def unneeded_transfers(domain: Domain, trajectories: Iterable[Trajectory]) -> dict[str, list[bool]]:
    """Whether each attempt handed over to a person, by task, for tasks whose reference does not; what infrastructure ended is left out."""
    found: dict[str, list[bool]] = {}
    for each in trajectories:
        if each.error is None and not any(domain.is_transfer(call.name) for call in each.task.criteria.actions):
            made = any(domain.is_transfer(call.name) and not answer.is_error for _, call, answer in calls(each))
            found.setdefault(each.task.id, []).append(made)
    return found


def watch_transfers(before: Mapping[str, Sequence[bool]], after: Mapping[str, Sequence[bool]], *, limit: float = TRANSFERS) -> Reading:
    """Whether handing over becomes a way out that costs nothing: its share rose by more than `limit`, and by more than chance.

    Args:
        before: Whether each attempt of the round before handed over, by task; from `unneeded_transfers`.
        after: The same of this round.
        limit: The alarm's, as a difference of shares.
    """
    if not any(before.values()) or not any(after.values()):
        return Reading(name="transfers", value=None, limit=limit, alarm=False, text="transfers: no two rounds to compare")
    names = sorted({*before, *after})
    sides = [_cell(side, names) for side in (before, after)]
    value, low, high = difference(*sides)
    shares = [f"{side.errors.sum() / side.chances.sum():.1%}" for side in sides]
    text = (
        f"transfers: {shares[1]} of episodes hand over without need, {shares[0]} in the round before "
        f"(a difference of {100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points; the limit is {100 * limit:+g})"
    )
    return Reading(name="transfers", value=value, limit=limit, alarm=value > limit and low > 0, text=text)


def _cell(side: Mapping[str, Sequence[bool]], names: Sequence[str]) -> Cell:
    return Cell(*(np.array([float(count(side.get(name, ()))) for name in names]) for count in (sum, len)))


def watch_calls(trajectories: Iterable[Trajectory]) -> Reading:
    """Whether the model still calls tools: it may learn that talking is safe, or lose the format."""
    counts = [len(calls(each)) for each in trajectories if each.error is None]
    if not counts:
        return Reading(name="tool calls", value=None, limit=0, alarm=False, text="tool calls: no episode to look at")
    mean = sum(counts) / len(counts)
    text = f"tool calls: {mean:.2f} an episode, over {len(counts)} episodes"
    return Reading(name="tool calls", value=mean, limit=0, alarm=mean == 0, text=text)


def watch_groups(groups: Iterable[Sequence[float | None]], *, limit: float = FLAT) -> Reading:
    """Whether there is anything to learn from: the share of groups whose rewards are all alike, which give no gradient.

    Args:
        groups: The rewards of each group's rollouts; None for one that infrastructure failed. A group with fewer than two others is
            left out.
        limit: The alarm's, as a share.
    """
    graded = [[reward for reward in group if reward is not None] for group in groups]
    whole = [group for group in graded if len(group) > 1]
    if not whole:
        return Reading(name="flat groups", value=None, limit=limit, alarm=False, text="flat groups: no group with two rewards to look at")
    flat = [group for group in whole if min(group) == max(group)]
    share = len(flat) / len(whole)
    passed = sum(group[0] == 1 for group in flat)
    text = (
        f"flat groups: {share:.0%} of {len(whole)} groups have no variance ({passed} passed throughout, {len(flat) - passed} failed; "
        f"the limit is {limit:.0%})"
    )
    return Reading(name="flat groups", value=share, limit=limit, alarm=share > limit, text=text)
