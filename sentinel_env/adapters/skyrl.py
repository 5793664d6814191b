"""SkyRL-gym: an episode as a text environment, and the rows of a data set that say which.

    register()                                                       # in the entry point's Ray task
    save_rows("train.jsonl", skyrl_rows("retail", split="train"))    # data.train_data="['train.jsonl']"

SkyRL's generator holds the dialogue. It makes an environment for each trajectory from a row, gives it the model's text, and puts the
observations into the chat. A domain is loaded once in a process, so an environment costs no more than its episode; a user that is a
language model is asked from the generator's threads (`environment.skyrl_gym.max_env_workers`).

A trajectory whose user could not answer has no reward, and SkyRL has no word for that: a reward of None fails an assertion, and the
loss mask is not the environment's to set. So `step` raises `ModelError`, which stops the batch; a generator made with
`sentinel_env.adapters.skyrl_generator` plays the episode again, or leaves its group out, instead.
"""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import inspect
import json
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from sentinel_env.env import as_text
from sentinel_env.episode import Ending
from sentinel_env.errors import ConfigError, EpisodeError, ModelError, TaskError
from sentinel_env.messages import Message
from sentinel_env.tasks import Task, load_tasks
from sentinel_env.thoughts import read_text
from sentinel_env.waiting import wait_for

from .extras import needed
from .seat import Seat
from .skyrl_rows import ENV_CLASS, plain, save_rows, skyrl_rows
from .source import Source

with needed("skyrl"):
    import skyrl_gym
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

__all__ = ["SentinelEnv", "register", "save_rows", "skyrl_rows"]
ENTRY_POINT = "sentinel_env.adapters.skyrl:SentinelEnv"
DROPS = "sentinel_drops_lost"
"""In the extras: the generator drops lost trajectories, so the environment ends one instead of raising."""
LOST = "lost"
"""In the metrics: infrastructure ended the episode; what the generator holds for its reward is none."""
_OF_SOURCE = ("domain", "split", "tasks", "user", "data", "max_steps", "max_errors", "options")

Chat = list[dict[str, str]]


def register(env_class: str = ENV_CLASS) -> None:
    """Make `SentinelEnv` known to SkyRL-gym under a name; as often as one likes.

    Raises:
        ConfigError: Another environment has that name.
    """
    from skyrl_gym.envs.registration import registry

    known = registry.get(env_class)
    if known is None:
        skyrl_gym.register(id=env_class, entry_point=ENTRY_POINT)
    elif known.entry_point not in (ENTRY_POINT, SentinelEnv):
        raise ConfigError(f"SkyRL-gym has an environment {env_class!r} already ({known.entry_point}); register under another name")


class SentinelEnv(BaseTextEnv):
    """One episode.

    The extras are a row's columns: `domain`, the task as `task_id`, `index` or whole as `task`, `seed`, and the settings of `Source.open`
    (`split`, `tasks`, `user`, `data`, `max_steps`, `max_errors`, `options`). Structures may stand as JSON, since not every file format
    keeps them; a column that is None is not there. `max_turns`, which the generator adds, cuts an episode as `max_steps` does.
    """

    def __init__(self, env_config: Mapping[str, Any] | Any = None, extras: Mapping[str, Any] | None = None) -> None:
        """Find the episode of a row.

        Args:
            env_config: Settings for all rows that have none of their own (`environment.skyrl_gym.sentinel`).
            extras: The row.

        Raises:
            TaskError: No such task, or none is named.
            ConfigError: A setting that is none; and what `Source.open` raises.
        """
        super().__init__()
        row = {**plain(env_config), **plain(extras)}
        source = _source({name: row[name] for name in _OF_SOURCE if name in row})
        if (turns := row.get("max_turns")) is not None:
            if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
                raise ConfigError(f"max_turns is a whole number of at least 1, found {turns!r:.100}")
            source = dataclasses.replace(source, max_steps=min(source.max_steps, turns))
        self.source = source
        self.max_turns = source.max_steps
        self._task = _task(source, row)
        self._seed = row.get("seed", 0)
        if isinstance(self._seed, bool) or not isinstance(self._seed, int):
            raise ConfigError(f"the seed is a whole number, found {self._seed!r:.100}")
        self._drops = bool(row.get(DROPS))
        self._seat: Seat | None = None

    @property
    def seat(self) -> Seat:
        """The episode with its user. It holds the task with its reference: for drivers and tests, not for agents.

        Raises:
            EpisodeError: `init` was not called.
        """
        if self._seat is None:
            raise EpisodeError("there is no episode yet; call init() first")
        return self._seat

    def init(self, prompt: Sequence[Mapping[str, str]]) -> tuple[Chat, dict[str, Any]]:
        """Begin the episode.

        Args:
            prompt: Its system messages are kept; the domain's own where it has none. The rest makes room for what the user says.

        Returns:
            The chat so far, and the task's id.

        Raises:
            ModelError: The user could not answer.
        """
        self._seat = self.source.seat_at(self._task, seed=self._seed)
        self.turns = 0
        news = self._seat.open_now()
        self._check()
        system = [dict(each) for each in prompt or () if each["role"] == "system"]
        greeting = [{"role": each.role, "content": each.content} for each in self.source.greeting]
        opening: Chat = system or [{"role": "system", "content": self.source.system_prompt}]
        return [*opening, *greeting, *_heard(news)], {"task_id": self._task.id}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Take the agent's turn, and the user's where the agent wrote to the user.

        Args:
            action: What the model wrote, as `read_text` reads it.

        Returns:
            What the agent has not seen yet, as a user's message; the reward of `evaluate` at the end, and 0.0 before.

        Raises:
            ModelError: The user could not answer.
            EpisodeError: The episode is over.
            DomainError: A tool crashed.
        """
        seat = self.seat
        if self._drops and seat.error is not None:  # the user failed in `init`
            return _output([], 0.0, True, self._facts())
        news = seat.act_now(read_text(action))
        self.turns += 1
        self._check()
        return _output(_heard(news), seat.reward or 0.0, seat.done, self._facts())

    def close(self) -> None:
        """End the episode, cut where it goes on."""
        if self._seat is not None:
            self._seat.cut()

    def get_metrics(self) -> dict[str, Any]:
        """How the episode went; one that goes on was cut by the generator, which ends a chat that is too long."""
        seat = self.seat
        if seat.error is not None:
            return {LOST: 1.0, "trouble": seat.error_kind, "steps": seat.episode.steps}
        passed = seat.evaluation.passed if seat.done else False
        ending = seat.episode.ending or "limit"
        return {"passed": float(passed), "ending": ending, "steps": seat.episode.steps, "refused_calls": seat.episode.errors}

    @staticmethod
    def aggregate_metrics(metrics: list[dict[str, Any]]) -> dict[str, float]:
        """Means over the episodes that have a grade, and how many have none.

        SkyRL joins the metrics of batches by their names: what has "mean" in it is averaged, all else is added up.
        """
        graded = [each for each in metrics if "ending" in each]
        lost = sum(each.get(LOST, 0.0) for each in metrics)
        found: dict[str, float] = {"sentinel/episodes": len(graded), "sentinel/lost_episodes": lost}
        if graded:
            for name in ("passed", "steps", "refused_calls"):
                found[f"sentinel/mean/{name}"] = sum(each[name] for each in graded) / len(graded)
            for ending in get_args(Ending):
                found[f"sentinel/mean/ending/{ending}"] = sum(each["ending"] == ending for each in graded) / len(graded)
        return found

    def _check(self) -> None:
        if (error := self.seat.error) is not None and not self._drops:
            kind = self.seat.error_kind or "server"
            raise ModelError(f"task {self._task.id!r} has no reward, its user could not answer: {error}", kind=kind)

    def _facts(self) -> dict[str, Any]:
        episode = self.seat.episode
        return {"task_id": self._task.id, "steps": episode.steps, "ending": episode.ending, "error": self.seat.error}


def _output(observations: Chat, reward: float, done: bool, metadata: dict[str, Any]) -> BaseTextEnvStepOutput:
    return BaseTextEnvStepOutput(observations=observations, reward=reward, done=done, metadata=metadata, postprocessed_action=None)


def _heard(news: Sequence[Message]) -> Chat:
    """As the system prompt says: lines that begin with "tool:" or "user:", in one message, whatever roles a chat template knows."""
    return [{"role": "user", "content": as_text(news)}] if news else []


_LOADING = threading.Lock()


def _source(settings: Mapping[str, Any]) -> Source:
    """The episodes of settings, the domain loaded once in a process."""
    try:
        key = json.dumps(settings, sort_keys=True, default=_spelled)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the settings of an environment are plain, found {dict(settings)!r:.200}: {error}") from None
    with _LOADING:
        return _opened(key)


@lru_cache(maxsize=32)
def _opened(key: str) -> Source:
    source = Source.open(**json.loads(key))
    if inspect.iscoroutinefunction(close := getattr(source.user, "close", None)):
        atexit.register(_quietly, close)
    return source


def _quietly(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Close a user's connections at the end of the process, which they do not hold up."""
    with suppress(Exception):
        wait_for(asyncio.wait_for(close(), 2))


def _spelled(value: Any) -> Any:
    """What JSON has no form for: paths, and the containers of OmegaConf."""
    if isinstance(value, Path):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else list(value)


def _task(source: Source, row: Mapping[str, Any]) -> Task:
    if (whole := row.get("task")) is not None:
        if isinstance(whole, Task):
            return whole
        for task in load_tasks([whole]):
            return task
        raise TaskError("the row's task is empty")
    if row.get("task_id") is None and row.get("index") is None:
        raise TaskError("the row names no task; give task_id, index or task, as skyrl_rows() does")
    return source.task(task_id=row.get("task_id"), index=row.get("index") if row.get("task_id") is None else None)
