"""The task pool: every generated task with what the model made of it, and where it stands.

    pool = TaskPool("out/pool.jsonl")                        # empty where there is no file
    pool.add(Entry(task=task, arm="general", pattern="general", born=1))
    for entry in pool.before(1, "pilot").to_pilot():
        pool.saw(entry.task.id, Seen(round=1, stage="pilot", attempts=8, passes=3))
    pool.before(1, "training").states()                      # {"active": 40, "deferred": 31, "solved": 9}

The file holds what happened, a line each: a task came in, a task was tried. Where a task stands is computed from that and stored nowhere,
so no kill can leave a state that contradicts its reasons. Each stage of a round looks at the pool as it was *before* that stage: a stage
that is done again after a kill finds the same tasks, adds the same lines, and a line that is there already is not written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel_env import ConfigError
from sentinel_env.records import first_error

from .journal import Journal
from .standing import STATES, Entry, Seen, Stage, Standing, State, learnability, pass_rate, standing, when


@dataclass(frozen=True)
class Snapshot:
    """The pool as it was before one stage of a round."""

    number: int
    entries: tuple[Entry, ...]
    """In the order in which they were made."""

    @cached_property
    def standings(self) -> dict[str, Standing]:
        """Where each task stands, by its id."""
        return {entry.task.id: standing(entry, self.number) for entry in self.entries}

    def states(self) -> dict[str, int]:
        """How many tasks are in each state."""
        counts = Counter(each.state for each in self.standings.values())
        return {state: counts[state] for state in STATES}

    def having(self, *states: State) -> list[Entry]:
        """The tasks in these states."""
        return [entry for entry in self.entries if self.standings[entry.task.id].state in states]

    def to_pilot(self) -> list[Entry]:
        """What a pilot has to try: what is new, and what was deferred long enough ago."""
        return self.having("pilot")

    def stock(self) -> dict[str, int]:
        """How many active tasks each arm has, in the order in which the arms came in."""
        return dict(Counter(entry.arm for entry in self.having("active")))

    def by_arm(self) -> dict[str, dict[str, float]]:
        """For a log: each arm's tasks, and means over those that were tried, in which older attempts are discounted."""
        found: dict[str, dict[str, float]] = {}
        for arm in dict.fromkeys(entry.arm for entry in self.entries):
            entries = [entry for entry in self.entries if entry.arm == arm]
            rates = [pass_rate(entry, self.number) for entry in entries if any(seen.attempts for seen in entry.seen)]
            found[arm] = {"tasks": len(entries), "tried": len(rates)}
            if rates:
                means = sum(rates) / len(rates), sum(map(learnability, rates)) / len(rates)
                found[arm] |= {"pass_rate": means[0], "learnability": means[1]}
        return found


class TaskPool:
    """The pool in its file."""

    def __init__(self, path: str | Path) -> None:
        """Read the pool, or begin an empty one.

        Raises:
            ConfigError: The file cannot be read, or a whole line of it is no pool's (named with its number).
        """
        self._journal = Journal(path)
        self._entries: dict[str, Entry] = {}
        for number, line in enumerate(self._journal.read(), 1):
            try:
                if line.startswith('{"task":'):
                    self._enter(Entry.model_validate_json(line))
                else:
                    tried = _Tried.model_validate_json(line)
                    self._note(tried.id, tried.seen)
            except ValidationError as error:
                raise ConfigError(f"{path}, line {number}: {first_error(error)}") from None
            except ConfigError as error:
                raise ConfigError(f"{path}, line {number}: {error}") from None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __getitem__(self, task_id: str) -> Entry:
        return self._entries[task_id]

    def add(self, *entries: Entry) -> None:
        """Take tasks in; those that are in the pool already are left as they are.

        Raises:
            ConfigError: A task's id is taken by another one, or the file cannot be written.
        """
        self._journal.append([_born(entry) for entry in entries if self._enter(entry)])

    def saw(self, task_id: str, seen: Seen) -> None:
        """Take note of what the model made of a task; what was noted of the same task, round and stage before is replaced.

        Raises:
            ConfigError: The pool has no such task, or the file cannot be written.
        """
        if self._note(task_id, seen):
            self._journal.append([_Tried(id=task_id, seen=seen).model_dump_json()])

    def saw_rewards(self, number: int, stage: Literal["pilot", "training"], rewards: Iterable[tuple[str, Sequence[float | None]]]) -> None:
        """Take note of a stage's rollouts: (task id, rewards), None for one that infrastructure failed. Raises as `saw`."""
        for task_id, given in rewards:
            graded = [reward for reward in given if reward is not None]
            self.saw(task_id, Seen(round=number, stage=stage, attempts=len(graded), passes=sum(reward == 1 for reward in graded)))

    def before(self, number: int, stage: Stage) -> Snapshot:
        """The pool as it was before a stage of a round, whatever has been noted of that stage and later ones since."""
        found = (entry.before(number, stage) for entry in self._entries.values())
        return Snapshot(number, tuple(entry for entry in found if entry is not None))

    def _enter(self, entry: Entry) -> bool:
        """Whether it was not there; nothing has been seen of it then."""
        known = self._entries.get(entry.task.id)
        if known is not None:
            if _born(known) != _born(entry):
                raise ConfigError(f"task {entry.task.id!r} is in the pool already, and differs; give every task an id of its own")
            return False
        self._entries[entry.task.id] = entry.model_copy(update={"seen": ()})
        return True

    def _note(self, task_id: str, seen: Seen) -> bool:
        """Whether it was not there."""
        entry = self._entries.get(task_id)
        if entry is None:
            raise ConfigError(f"task {task_id!r} was tried but is not in the pool; add it first")
        if seen in entry.seen:
            return False
        others = [each for each in entry.seen if when(each) != when(seen)]
        self._entries[task_id] = entry.model_copy(update={"seen": tuple(sorted([*others, seen], key=when))})
        return True


class _Tried(BaseModel):
    """A line of the file: a task was tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    seen: Seen


def _born(entry: Entry) -> str:
    """A line of the file: a task came in."""
    return entry.model_dump_json(exclude={"seen"}, exclude_defaults=True)
