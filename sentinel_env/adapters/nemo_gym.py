"""NeMo Gym: a resources server with a domain's episodes, an agent server, and the files that NeMo Gym starts them from.

    python -m sentinel_env.adapters.nemo_gym_files retail --split train --out gym    # the servers' folders, their YAML and the rows
    cd gym && gym env start --config resources_servers/sentinel/configs/retail.yaml --model-type vllm_model --model-url ...
    gym eval run --no-serve --agent sentinel_retail_agent --input resources_servers/sentinel/data/retail_train.jsonl --output rollouts.jsonl

`SentinelServer` is one of NeMo Gym's Gymnasium-style servers: `/reset` lets the user speak, `/step` takes a model's response and gives the
tools' outputs or the user's next message. A session is one episode; the tasks with their references stay in the server, a row names one.

A user that cannot answer leaves no reward, and a step has a number in that place. So the server answers 503, and `SentinelAgent`, which is
NeMo Gym's gymnasium_agent otherwise, turns that into what NeMo Gym calls a failure: a rollout with the reward null and a failure class,
which goes to the file of failures and is run again on `--resume`. With gymnasium_agent itself the collection stops.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import Field, PrivateAttr

from sentinel_env.errors import ConfigError, TaskError
from sentinel_env.messages import MAX_ACTION_CHARACTERS, Message, clean
from sentinel_env.thoughts import without_thought

from .extras import needed
from .seat import Seat
from .source import Source

with needed("nemo-gym"):
    from aiohttp import ClientResponseError
    from nemo_gym.base_resources_server import BaseResourcesServerConfig
    from nemo_gym.openai_utils import NeMoGymResponse
    from resources_servers.gymnasium import GymnasiumServer
    from responses_api_agents.gymnasium_agent.app import GymnasiumAgent, GymnasiumAgentRunRequest
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse

_log = logging.getLogger(__name__)
LOST = "sentinel_lost"
"""In the detail of a 503: the kind of trouble that ended an episode."""
FINAL = ("refused", "budget")
"""Troubles that come again however often a rollout is run."""


class SentinelServerConfig(BaseResourcesServerConfig):
    """What stands in the YAML beside NeMo Gym's own settings."""

    episodes: dict[str, Any] = Field(default_factory=dict)
    """The settings of `Source.open`: domain, split, tasks, user, data, max_steps, max_errors, options."""
    max_sessions: int = Field(default=4096, ge=1)
    """How many episodes may be open at once."""
    idle_seconds: float = Field(default=3600, gt=0)
    """An episode that nobody has stepped for so long is given up; a model's longest answer has to fit in."""
    max_body_bytes: int = Field(default=64 << 20, ge=1 << 10)
    """The longest request that is read. A response in training holds all its token ids and their probabilities."""


@dataclass
class _Session:
    seat: Seat
    used: float
    """When, by the event loop's clock."""


class SentinelServer(GymnasiumServer):
    """A domain's episodes, one a session."""

    config: SentinelServerConfig
    _source: Source = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Load the domain.

        Raises:
            pydantic.ValidationError: Several workers, of which each would have sessions of its own; and what `Source.open` finds wrong.
        """
        super().model_post_init(context)
        if (self.config.num_workers or 1) > 1:
            raise ConfigError(f"an episode lives in one process; num_workers is 1 here, found {self.config.num_workers}")
        self._source = Source.open(**self.config.episodes)

    def setup_webserver(self) -> Starlette:
        """NeMo Gym's routes behind a limit of size; the connections of a user that is a model end with the server."""
        app: Starlette = super().setup_webserver()
        app.add_middleware(LimitBody, limit=self.config.max_body_bytes)
        within, close = app.router.lifespan_context, getattr(self._source.user, "close", None)

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[Any]:
            async with within(app) as state:
                yield state
            if inspect.iscoroutinefunction(close):
                await close()

        app.router.lifespan_context = lifespan
        return app

    async def reset(self, metadata: Mapping[str, Any], session_id: str | None = None) -> tuple[str | None, dict[str, Any]]:
        """Begin the episode of a row; one that the session had before is given up.

        Args:
            metadata: The row: `task_id` or `index`, and `seed`.
            session_id: NeMo Gym's.

        Returns:
            The user's first words, and the task's id.
        """
        self.session_state.pop(session_id, None)
        if len(self.session_state) >= self.config.max_sessions:
            raise HTTPException(503, f"{len(self.session_state)} episodes are open, which is the limit (max_sessions); try again later")
        try:
            seat = self._source.seat(task_id=metadata.get("task_id"), index=metadata.get("index"), seed=_seed(metadata))
        except TaskError as error:
            raise HTTPException(422, str(error)) from None
        self.session_state[session_id] = session = _Session(seat, 0.0)
        self._use(session_id, session)
        news = await self._taken(session_id, session, seat.open())
        return news[-1].content, {"task_id": seat.episode.task.id}

    async def step(
        self, action: NeMoGymResponse, metadata: Mapping[str, Any], session_id: str | None = None
    ) -> tuple[str | None, float, bool, bool, dict[str, Any]]:
        """Take the model's response.

        Returns:
            The user's words, or what is said to a response that is empty; the reward, 0.0 before the end; terminated; truncated; and
            `task_id`, `steps`, the tools' outputs, and at the end `ending`, `passed` and `refused_calls`.
        """
        session = self.session_state.get(session_id)
        if session is None:
            raise HTTPException(404, "this session has no episode: it has ended, it was given up as idle, or /reset was not called")
        seat = session.seat
        if seat.episode.awaiting != "agent":  # two steps of one session at once
            raise HTTPException(409, "the episode waits for the user; it cannot take an agent's turn")
        calls = [item.call_id for item in action.output if item.type == "function_call"]
        self._use(session_id, session)
        news = await self._taken(session_id, session, seat.act(read(action)))
        said, outputs = _split(news, calls)
        episode = seat.episode
        facts: dict[str, Any] = {"task_id": episode.task.id, "steps": episode.steps, "tool_outputs": outputs}
        if seat.done:
            facts |= {"ending": episode.ending, "passed": seat.evaluation.passed, "refused_calls": episode.errors}
        return said, seat.reward or 0.0, episode.terminated, episode.truncated, facts

    async def _taken(self, session_id: str | None, session: _Session, turn: Awaitable[list[Message]]) -> list[Message]:
        """What came of a turn; where none can be taken, or nothing can come of the episode any more, NeMo Gym is told by a status."""
        try:
            news = await turn
        except Exception as failure:  # its text may tell of the reference or of the scenario, and NeMo Gym would send it
            self._forget(session_id, session)
            kind = type(failure).__name__
            _log.exception("task %s: the environment failed", session.seat.episode.task.id)
            raise HTTPException(500, f"the environment failed ({kind}), which is no fault of the agent's; its log says how") from failure
        except BaseException:
            self._forget(session_id, session)
            raise
        if session.seat.error is not None:
            self._forget(session_id, session)
            _log.warning("task %s: %s", session.seat.episode.task.id, session.seat.error)  # its text may quote the scenario
            raise HTTPException(503, {LOST: session.seat.error_kind, "error": session.seat.error.partition(":")[0]})
        return news

    def _use(self, session_id: str | None, session: _Session) -> None:
        loop = asyncio.get_running_loop()
        if not session.used:
            loop.call_later(self.config.idle_seconds, self._reap, session_id, session)
        session.used = loop.time()

    def _reap(self, session_id: str | None, session: _Session) -> None:
        loop = asyncio.get_running_loop()
        if self.session_state.get(session_id) is not session:
            return
        if (left := session.used + self.config.idle_seconds - loop.time()) > 0:
            loop.call_later(left, self._reap, session_id, session)
        else:
            self._forget(session_id, session)

    def _forget(self, session_id: str | None, session: _Session) -> None:
        if self.session_state.get(session_id) is session:
            del self.session_state[session_id]


def read(action: NeMoGymResponse) -> Message:
    """A model's response as an assistant's message: its text and its calls; reasoning is left out."""
    texts, calls = [], []
    for item in action.output:
        if item.type == "function_call":
            calls.append({"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}})
        elif item.type == "message" and item.role == "assistant":
            parts = [item.content] if isinstance(item.content, str) else [_text(part) for part in item.content]
            texts.extend(parts)
    text = "".join(texts)
    size = len(text) + sum(len(call["function"]["name"]) + len(call["function"]["arguments"]) for call in calls)
    if size > MAX_ACTION_CHARACTERS:
        problem = f"the message has {size:,} characters; at most {MAX_ACTION_CHARACTERS:,} are read"
        return Message(role="assistant", content=clean(text[:1000]), problem=problem)
    return without_thought(Message.from_openai({"role": "assistant", "content": text, "tool_calls": calls}))


def _text(part: Any) -> str:
    found = part.get("text") if isinstance(part, Mapping) else getattr(part, "text", None) or getattr(part, "refusal", None)
    return found if isinstance(found, str) else ""


def _split(news: Sequence[Message], calls: Sequence[str]) -> tuple[str | None, list[dict[str, str]]]:
    """The words for the model, and an output for each of its calls, whether or not they could be read."""
    if not calls:
        return ("\n".join(message.content for message in news) or None), []
    answers = [message.content for message in news]
    if len(answers) != len(calls):  # one answer to a message that could not be read
        answers = answers[:1] * len(calls)
    return None, [{"call_id": call, "output": answer} for call, answer in zip(calls, answers, strict=True)]


def _seed(metadata: Mapping[str, Any]) -> int:
    seed = metadata.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TaskError(f"the seed of a row is a whole number, found {seed!r:.100}")
    return seed


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LimitBody:
    """ASGI middleware that answers 413 to a request that is too long, before all of it is read."""

    def __init__(self, app: Any, limit: int) -> None:
        """Wrap an application.

        Args:
            app: It.
            limit: In bytes.
        """
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        parts, size = [], 0
        while True:
            event = await receive()
            if event["type"] != "http.request":  # the client is gone
                return
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > self.limit:
                refusal = JSONResponse({"detail": f"a request has at most {self.limit:,} bytes"}, 413, headers={"connection": "close"})
                await refusal(scope, receive, send)
                return
            if not event.get("more_body"):
                break
        body: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def replay() -> MutableMapping[str, Any]:
            return body.pop() if body else await receive()

        await self.app(scope, replay, send)


class SentinelAgent(GymnasiumAgent):
    """NeMo Gym's gymnasium_agent, for which an episode that infrastructure ended is a failure and no reward."""

    async def run(self, request: Request, body: GymnasiumAgentRunRequest) -> Any:
        """Play a row's episode.

        Returns:
            The rollout; where the user could not answer, one with the reward null that names NeMo Gym's failure class.
        """
        try:
            return await super().run(request, body)
        except ClientResponseError as error:
            kind = _lost(error)
            if kind is None:
                raise
        row = body.model_dump(mode="json")
        told = {"reward": None, "terminated": False, "truncated": False, "info": {"error": kind}, "response": None}
        routed = {"_ng_failure_class": "transient", "_ng_failure_terminal": kind in FINAL}
        return JSONResponse({"responses_create_params": row["responses_create_params"], **told, **routed})


def _lost(error: ClientResponseError) -> str | None:
    """The kind of trouble, where the answer was ours about an episode that has no reward."""
    try:
        return str(json.loads(getattr(error, "response_content", b""))["detail"][LOST])
    except (ValueError, KeyError, TypeError):
        return None
