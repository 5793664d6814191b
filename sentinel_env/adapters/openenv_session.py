"""`SentinelEnvironment`: OpenEnv's environment, which is one session of the server."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata

from sentinel_env.errors import ConfigError, DomainError, EpisodeError, TaskError
from sentinel_env.llm_agent import instructions
from sentinel_env.messages import Message, clean
from sentinel_env.tasks import Task

from .openenv_guard import GoneError, while_connected
from .openenv_types import SentinelAction, SentinelObservation, SentinelOpening, SentinelState
from .seat import Seat
from .source import Source

SOURCE = "SENTINEL_SOURCE"
_log = logging.getLogger(__name__)
_MAX_NAME = 255
"""Characters of a name, as OpenEnv has it for an episode's."""
_TURNS = itertools.count()


@cache
def _usual_source() -> Source:
    return Source.open(**json.loads(os.environ.get(SOURCE, "{}")))


class SentinelEnvironment(Environment[SentinelAction, SentinelObservation, SentinelState]):
    """One episode after another, for one client; an OpenEnv `Environment` and `TaskProvider`."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, source: Source | None = None, turns: Iterator[int] | None = None) -> None:
        """Take the episodes of a source.

        Args:
            source: Which tasks there are, with their user; for None what the environment variable `SENTINEL_SOURCE` says, as JSON of the
                arguments of `Source.open`: for bridges that make an environment by its class alone.
            turns: Numbers the resets that name neither a task nor a seed; shared by the sessions of a server.
        """
        super().__init__()
        self.source = source if source is not None else _usual_source()
        self._turns = turns if turns is not None else _TURNS
        self._seat: Seat | None = None
        self._episode_id: str | None = None

    async def reset_async(
        self,
        /,
        seed: int | None = None,
        episode_id: str | None = None,
        *,
        index: int | None = None,
        task_id: str | None = None,
        split: str | None = None,
        **unknown: Any,
    ) -> SentinelOpening:
        """Begin an episode; the one before is forgotten.

        Args:
            seed: Of the user; and of the choice of a task where none is named: row `seed % len(rows)`. Without both, rows come in turn.
            episode_id: What the client calls it; returned by `state`.
            index: The row of the task.
            task_id: Or its id, of whatever split.
            split: Rows are counted in this split; among all tasks of the source for None.
            **unknown: Refused, unless None.

        Raises:
            TaskError: No such task, row or split.
            ConfigError: An argument is of the wrong type, or unknown.
        """
        task, seed = self._chosen(seed, episode_id, index, task_id, split, unknown)
        with self._private():
            seat = self._sit_down(task, seed, episode_id)
            return self._opening(seat, await while_connected(seat.open()))

    def reset(
        self,
        /,
        seed: int | None = None,
        episode_id: str | None = None,
        *,
        index: int | None = None,
        task_id: str | None = None,
        split: str | None = None,
        **unknown: Any,
    ) -> SentinelOpening:
        """`reset_async` for bridges that are not asynchronous."""
        task, seed = self._chosen(seed, episode_id, index, task_id, split, unknown)
        with self._private():
            seat = self._sit_down(task, seed, episode_id)
            return self._opening(seat, seat.open_now())

    async def step_async(self, action: SentinelAction, timeout_s: float | None = None, **_: Any) -> SentinelObservation:
        """Take the agent's turn, and the user's where the agent wrote to the user.

        Args:
            action: The turn.
            timeout_s: Not used: a user that is a model has its own deadline, and a client that goes away ends the wait.

        Raises:
            EpisodeError: There is no episode, or it has ended.
            DomainError: The environment failed; its log says how.
        """
        seat = self._seated()
        with self._private():
            return SentinelObservation(**_seen(seat, await while_connected(seat.act(action.message()))))

    def step(self, action: SentinelAction, timeout_s: float | None = None, **_: Any) -> SentinelObservation:
        """`step_async` for bridges that are not asynchronous."""
        seat = self._seated()
        with self._private():
            return SentinelObservation(**_seen(seat, seat.act_now(action.message())))

    @property
    def state(self) -> SentinelState:
        """Where the episode stands."""
        if self._seat is None:
            return SentinelState()
        episode = self._seat.episode
        known = {"task_id": episode.task.id, "seed": episode.seed, "ending": episode.ending, "done": self._seat.done}
        return SentinelState(episode_id=self._episode_id, step_count=episode.steps, **known)

    def get_metadata(self) -> EnvironmentMetadata:
        """What this is."""
        name, tools = self.source.domain.name, len(self.source.domain.tools)
        description = f"An agent with {tools} tools serves a simulated customer: domain {name}, {len(self.source.tasks)} tasks."
        return EnvironmentMetadata(name=name, description=description, version=version("sentinel-env"))

    def close(self) -> None:
        """Forget the episode."""
        self._seat = None

    # the tasks, for OpenEnv's routes

    def list_splits(self) -> list[str]:
        """The splits that have tasks, in the order of their first row."""
        return list(dict.fromkeys(task.split for task in self.source.tasks))

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """What may be known of a split's tasks: id, split and row; `reset(split=..., index=...)` plays one.

        Raises:
            TaskError: No such split.
        """
        return [{"id": task.id, "split": split, "index": at} for at, task in enumerate(self._rows(split))]

    def num_tasks(self, split: str) -> int:
        """How many there are. Raises as `list_tasks`."""
        return len(self._rows(split))

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """One of them.

        Raises:
            TaskError: No such split.
            IndexError: No such row.
        """
        if not 0 <= index < len(tasks := self.list_tasks(split)):
            raise IndexError(index)
        return tasks[index]

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, Any]]:
        """Some of them, as Python slices. Raises as `list_tasks`."""
        return self.list_tasks(split)[start:stop]

    # how an episode is begun

    def _rows(self, split: str | None) -> tuple[Task, ...]:
        if split is None:
            return self.source.tasks
        rows = tuple(task for task in self.source.tasks if task.split == split)
        if not rows:
            raise TaskError(f"there is no split {split!r:.100}; there is {', '.join(self.list_splits())}")
        return rows

    def _chosen(self, seed: Any, episode_id: Any, index: Any, task_id: Any, split: Any, unknown: Mapping[str, Any]) -> tuple[Task, int]:
        if named := sorted(name for name, value in unknown.items() if value is not None):
            raise ConfigError(f"reset takes seed, episode_id, index, task_id and split; found {named[0][:100]!r}")
        for name, value, kind in (("episode_id", episode_id, str), ("task_id", task_id, str), ("split", split, str)):
            if not (value is None or (isinstance(value, kind) and len(value) <= _MAX_NAME)):
                raise ConfigError(f"{name} is a text of at most {_MAX_NAME} characters, found {value!r:.100}")
        for name, value in (("seed", seed), ("index", index)):
            if not (value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63)):
                raise ConfigError(f"{name} is a whole number from 0, found {value!r:.100}")
        if task_id is not None:
            if index is not None or split is not None:
                raise TaskError("name the task by its id, or by its row in a split, one of them")
            return self.source.task(task_id=task_id), seed or 0
        rows = self._rows(split)
        if index is not None:
            if index >= len(rows):
                raise TaskError(f"there is no row {index}; there are {len(rows)}, from 0")
            return rows[index], seed or 0
        if seed is not None:
            return rows[seed % len(rows)], seed
        turn = next(self._turns)
        return rows[turn % len(rows)], turn // len(rows)

    def _sit_down(self, task: Task, seed: int, episode_id: str | None) -> Seat:
        seat = self.source.seat_at(task, seed=seed)
        self._seat, self._episode_id = seat, episode_id or f"{task.id}:{seed}"
        return seat

    def _seated(self) -> Seat:
        if self._seat is None:
            raise EpisodeError("there is no episode here; call reset first, over the same websocket")
        if self._seat.done:
            raise EpisodeError(f"the episode has ended ({self._seat.episode.ending or self._seat.error_kind}); call reset for another one")
        return self._seat

    def _opening(self, seat: Seat, news: list[Message]) -> SentinelOpening:
        seen = _seen(seat, [*self.source.greeting, *news])
        domain = self.source.domain
        if not seat.done:
            seen["reward"] = None
        return SentinelOpening(**seen, policy=instructions(domain), tools=domain.schemas, system_prompt=self.source.system_prompt)

    @contextmanager
    def _private(self) -> Iterator[None]:
        """What goes wrong in here is for the log, not for the client: it may tell of the reference or of the scenario."""
        try:
            yield
        except GoneError:
            raise
        except Exception as failure:
            task = self._seat.episode.task.id if self._seat is not None else "?"
            self._seat = None
            _log.exception("task %s: the environment failed", task)
            kind = type(failure).__name__
            raise DomainError(
                f"the environment failed ({kind}), which is no fault of the agent's; its log says how. Call reset"
            ) from failure


def _seen(seat: Seat, news: list[Message]) -> dict[str, Any]:
    """The fields of an observation."""
    episode = seat.episode
    seen: dict[str, Any] = {
        "messages": [{**(sent := message.to_openai()), "content": clean(sent["content"])} for message in news],
        "steps": episode.steps,
        "ending": episode.ending,
        "done": seat.done,
        "reward": seat.reward if seat.done else 0.0,
    }
    if seat.error is not None:
        _log.warning("task %s, seed %s: %s", episode.task.id, episode.seed, seat.error)  # its text may quote the scenario
        seen["metadata"] = {"error": seat.error.partition(":")[0], "error_kind": seat.error_kind}
    elif seat.done:
        evaluation = seat.evaluation
        passed: dict[str, bool] = {"passed": evaluation.passed}
        for check in evaluation.checks:
            passed[f"passed_{check.name}"] = check.passed and passed.get(f"passed_{check.name}", True)
        seen["metadata"] = passed
    return seen
