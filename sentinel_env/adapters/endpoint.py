"""`run_episode`: one episode against any model that stands behind a base URL, for trainers and harnesses that serve it themselves.

    result = run_episode("test-000", domain="retail", base_url="http://127.0.0.1:8000/v1", model="qwen3", seed=0)
    result.reward, result.error_kind, result.passed, result.usage

    results = await asyncio.gather(*(arun_episode(row, base_url=url, model="qwen3") for row in rows))

What AReaL, rllm, verl's gateways and any harness need: they hand out an address and a key, and capture the tokens themselves. The episode
is the one of `sentinel run`: the same agent asks the model, the same rules end it, the same evaluation grades it. Episodes run in the
caller's thread or event loop, as many at once as are begun; models of the same address, key and name share their connections.
"""

from __future__ import annotations

import inspect
import json
import math
import numbers
import operator
import os
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict

from sentinel_env.attempts import usage_by_side
from sentinel_env.domain import Domain
from sentinel_env.episode import User, UserView
from sentinel_env.errors import ConfigError, ModelError, ModelTrouble
from sentinel_env.finding import USER_KEYS, find_user
from sentinel_env.llm import Model, ModelMessage
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.messages import Message
from sentinel_env.trajectory import Trajectory, record
from sentinel_env.waiting import wait_elsewhere, wait_for

from .kept import KEPT
from .rows import Row, problem_of
from .seat import Seat
from .source import Source

_SIDE, _MODEL = ("temperature", "max_tokens", "deadline", "tools_in_text", "keeps_reasoning"), ("attempts", "timeout")


class Asking(TypedDict, total=False):
    """How the model is asked: the settings of `LLMAgent`, and `attempts` and `timeout` of `Model`."""

    temperature: float | None
    max_tokens: int
    deadline: float
    tools_in_text: bool
    keeps_reasoning: bool
    attempts: int
    timeout: float


class EpisodeResult(BaseModel):
    """What came of one episode."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reward: float | None
    """1.0 or 0.0; None where infrastructure failed, which says nothing about the model."""
    error: str | None = None
    """What failed then."""
    error_kind: ModelTrouble | None = None
    """And its class, as `ModelError.kind`: after `rate`, `timeout`, `server` and `malformed` it may be tried again."""
    passed: dict[str, bool] = {}
    """By kind of check, such as "database"; the reward is whether all of them are. Empty where infrastructure failed."""
    trajectory: Trajectory
    """All that happened. Its task holds the scenario and the reference: never show it to a model."""

    @property
    def usage(self) -> dict[str, float]:
        """Requests and tokens by side, such as `agent_calls` and `user_prompt_tokens`, where models were involved."""
        return self.trajectory.usage

    def scored(self) -> float:
        """The reward as a number, for trainers that drop an episode which raises.

        Raises:
            ModelError: Infrastructure failed, so there is none.
        """
        if self.reward is None:
            raise ModelError(self.error or "the episode has no reward", kind=self.error_kind or "server")
        return self.reward

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The dialogue in OpenAI's format: what the model was shown and wrote, without the system message."""
        return [message.to_openai() for message in self.trajectory.messages]


def run_episode(
    task: Row,
    *,
    base_url: str,
    model: str,
    api_key: str | None = None,
    domain: str | Path | Domain | None = None,
    user: User | str | Mapping[str, Any] | None = None,
    seed: int = 0,
    max_steps: int = 30,
    max_errors: int = 10,
    **asking: Unpack[Asking],
) -> EpisodeResult:
    """Let a model play one episode; inside an event loop too, which waits meanwhile.

    Args:
        task: A `Task`; the id of one of the domain's; or a row of a data set, as a mapping or JSON: the task itself, or one with the
            column `task` (as `to_dataset` makes it) or `task_id`, and `domain` where it has one.
        base_url: An OpenAI-compatible server, such as `http://127.0.0.1:8000/v1`.
        model: As the server names it.
        api_key: For that server, and for nobody else.
        domain: An installed domain's name, `module:attribute`, a path, or a `Domain`; for None the one that the row or the task names.
        user: Who plays the customer, as `find_user` reads it; the scripted user for None.
        seed: Of the episode; `trial_seed(run, task.id, trial)` for the one that `sentinel run` gives a trial.
        max_steps: Assistant turns before it is truncated.
        max_errors: Refused or unreadable calls before it is truncated.
        **asking: As in `Asking`; left out, as `LLMAgent` has them, with a temperature of 0.

    Raises:
        ConfigError: A setting is unknown or impossible, or the extra is not installed.
        TaskError: There is no such task, it does not fit the domain, or its reference is refused.
        DomainError: A tool crashed.
    """
    with _table(task, base_url, model, api_key, domain, user, seed, max_steps, max_errors, asking) as (seat, agent):
        seat.open_now()
        while not seat.done:
            try:
                message = wait_for(agent.act(seat.episode.agent_view()))
            except ModelError as failure:
                seat.fail(failure)
            else:
                seat.act_now(message)
        return _result(seat, agent)


async def arun_episode(
    task: Row,
    *,
    base_url: str,
    model: str,
    api_key: str | None = None,
    domain: str | Path | Domain | None = None,
    user: User | str | Mapping[str, Any] | None = None,
    seed: int = 0,
    max_steps: int = 30,
    max_errors: int = 10,
    **asking: Unpack[Asking],
) -> EpisodeResult:
    """`run_episode` for callers that are asynchronous, hundreds at once in one event loop."""
    with _table(task, base_url, model, api_key, domain, user, seed, max_steps, max_errors, asking) as (seat, agent):
        await seat.open()
        while not seat.done:
            try:
                message = await wait_elsewhere(agent.act(seat.episode.agent_view()))
            except ModelError as failure:
                seat.fail(failure)
            else:
                await seat.act(message)
        return _result(seat, agent)


@contextmanager
def _table(
    task: Row,
    base_url: str,
    model: str,
    api_key: str | None,
    domain: str | Path | Domain | None,
    user: User | str | Mapping[str, Any] | None,
    seed: int,
    max_steps: int,
    max_errors: int,
    asking: Mapping[str, Any],
) -> Iterator[tuple[Seat, LLMAgent]]:
    """The seat at the episode and who takes it."""
    _check(asking)
    if api_key is not None and not isinstance(api_key, str):
        raise ConfigError(f"an API key is text, found {type(api_key).__name__}")
    if not isinstance(model, str) or not base_url:
        raise ConfigError(f"run_episode asks a model by its name behind a base URL, found model {model!r} at {base_url!r}")
    try:
        seed = operator.index(seed)
    except TypeError:
        raise ConfigError(f"a seed is a whole number, found {seed!r}") from None
    world, problem = problem_of(task, domain)
    of_model = {name: asking[name] for name in _MODEL if name in asking}
    key = ("model", model, str(base_url), api_key, *sorted(of_model.items()))
    with ExitStack() as stack:
        asked = stack.enter_context(KEPT.borrow(key, lambda: Model(model, base_url=str(base_url), api_key=api_key, **of_model)))
        customer = stack.enter_context(_customer(user))
        seat = Source(world, (problem,), customer, max_steps, max_errors).seat_at(problem, seed=seed)
        world.reference_changes(problem)  # a broken task is found before a model is asked
        yield seat, LLMAgent(asked, **{name: asking[name] for name in _SIDE if name in asking})


def _check(asking: Mapping[str, Any]) -> None:
    if unknown := sorted(set(asking) - {*_SIDE, *_MODEL}):
        raise ConfigError(f"run_episode has no setting {unknown[0]!r}; how a model is asked: {', '.join((*_SIDE, *_MODEL))}")
    for name, value in asking.items():
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        if name in ("max_tokens", "attempts"):
            fits, expected = isinstance(value, numbers.Integral) and is_number and int(value) >= 1, "a whole number of at least 1"
        elif name in ("deadline", "timeout"):
            fits, expected = is_number and value > 0, "seconds above 0"
        elif name == "temperature":
            fits, expected = value is None or (is_number and value >= 0), "a number of at least 0, or None"
        else:
            fits, expected = isinstance(value, bool), "True or False"
        if not fits:
            raise ConfigError(f"{name} is {expected}, found {value!r:.100}")


def _result(seat: Seat, agent: LLMAgent) -> EpisodeResult:
    episode, evaluation = seat.episode, seat.evaluation
    usage = usage_by_side(episode)
    episode.messages = [message.plain() if isinstance(message, ModelMessage) else message for message in episode.messages]
    passed: dict[str, bool] = {}
    for check in evaluation.checks:
        passed[check.name] = check.passed and passed.get(check.name, True)
    return EpisodeResult(
        reward=evaluation.reward,
        error=seat.error,
        error_kind=seat.error_kind,
        passed=passed,
        trajectory=record(episode, agent=agent.name, user=seat.user.name, error=seat.error, usage=usage),
    )


# the customer


@dataclass(frozen=True)
class _Elsewhere:
    """A user that is made from settings and shared by episodes: where it is asynchronous, it answers on the shared event loop."""

    user: User

    @property
    def name(self) -> str:
        return self.user.name

    def reply(self, view: UserView) -> Message | Awaitable[Message]:
        answer = self.user.reply(view)
        return wait_elsewhere(answer) if inspect.iscoroutine(answer) else answer

    async def close(self) -> None:
        if inspect.iscoroutinefunction(close := getattr(self.user, "close", None)):
            await close()


@contextmanager
def _customer(user: User | str | Mapping[str, Any] | None) -> Iterator[User]:
    """Who plays the customer. One from settings is kept for other episodes, since nobody else could close it."""
    if not isinstance(user, str | Mapping):
        yield find_user(user)
        return
    spelled = user if isinstance(user, str) else json.dumps(user, sort_keys=True, default=repr)
    keys = tuple(os.environ.get(name) for name in USER_KEYS)
    with KEPT.borrow(("user", spelled, keys), lambda: _Elsewhere(find_user(user))) as kept:
        yield kept
