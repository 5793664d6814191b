"""Draws: which tasks of the pool a round trains on, once the mixture says how many of each arm.

    snapshot = pool.before(3, "training")
    mixture = apportion(weights, 480, config, room=room(snapshot))
    tasks = draw(snapshot, mixture.counts, group_size=8, random=random)         # 480 rows for the trainer

A task may come several times in a round, so that a small arm can fill its share; those that promise a gradient come more often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log
from random import Random

from sentinel_env import Task

from .mixture import REPLAY
from .pool import Snapshot
from .standing import Entry, State, gradient_chance, pass_rate

MOST_DRAWS = 8
"""How often a round may draw one active task; a solved one is drawn once, since it has little to teach."""
REVIEW = 0.02
"""The share of a round that looks at retired tasks again, as part of the replay (spec 3e)."""


def room(snapshot: Snapshot, *, most_draws: int = MOST_DRAWS) -> dict[str, int]:
    """How many rows each arm can fill, for `apportion`."""
    return {
        **{arm: most_draws * count for arm, count in snapshot.stock().items()},
        REPLAY: len(_earlier(snapshot, "solved")) + len(_earlier(snapshot, "retired")),
    }


def draw(snapshot: Snapshot, counts: Mapping[str, int], *, group_size: int, random: Random) -> list[Task]:
    """The rows of a round in random order: so many of each arm, none a second time before all of its arm have come once.

    Args:
        snapshot: The pool before the training.
        counts: Rows by arm, within `room`.
        group_size: Rollouts of a row; how likely they are not to be alike decides who comes first.
        random: For the order.
    """
    rows = _replayed(snapshot, counts.get(REPLAY, 0), total=sum(counts.values()), random=random)
    active = snapshot.having("active")
    for arm, count in counts.items():
        entries = [entry for entry in active if entry.arm == arm]
        while entries and count > 0:
            chances = [gradient_chance(pass_rate(entry, snapshot.number), group_size) if entry.filtered else 1.0 for entry in entries]
            dealt = _shuffled(entries, chances, random)[:count]
            rows.extend(dealt)
            count -= len(dealt)
    random.shuffle(rows)
    return [entry.task for entry in rows]


def _replayed(snapshot: Snapshot, count: int, *, total: int, random: Random) -> list[Entry]:
    """A few retired tasks, then solved ones, then what is missing from the retired."""
    retired, solved = _earlier(snapshot, "retired"), _earlier(snapshot, "solved")
    random.shuffle(retired)
    random.shuffle(solved)
    review = ceil(REVIEW * total)
    return [*retired[:review], *solved, *retired[review:]][:count]


def _earlier(snapshot: Snapshot, state: State) -> list[Entry]:
    """What can be forgotten: tasks of earlier rounds. One that was solved in its first pilot was never trained for."""
    return [entry for entry in snapshot.having(state) if entry.born < snapshot.number]


def _shuffled(entries: Sequence[Entry], weights: Sequence[float], random: Random) -> list[Entry]:
    """A random order in which each next one is drawn by weight from those that are left (Efraimidis and Spirakis 2006)."""
    keys = [log(1 - random.random()) / weight for weight in weights]
    return [entries[at] for at in sorted(range(len(entries)), key=lambda at: -keys[at])]
