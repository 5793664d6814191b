"""verifiers: a domain as a taskset, its tools as a toolset, and an environment in which the user answers.

    # retail_tasks.py, and then: vf-eval retail_tasks --env.taskset.split train --env.agent.runtime.type subprocess
    from sentinel_env.adapters.verifiers import SentinelEnv, SentinelTaskset

    __all__ = ["SentinelEnv", "SentinelTaskset"]

verifiers' harness holds the dialogue with the model and calls tools over MCP (see `verifiers_tools`), in processes of their own; the
user, the episode and the grade stay here. What counts is the trace: the episode takes its messages from there, so a turn that the harness
answers itself, such as a call that cannot be read, is known too.

With `--env.id user-sim` a model of verifiers' own plays the user: the prompt of a task is what the user knows and wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from sentinel_env.episode import STOP, Episode
from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.evaluation import evaluate
from sentinel_env.finding import find_user
from sentinel_env.llm_agent import instructions
from sentinel_env.llm_user import scenario_text
from sentinel_env.messages import Message
from sentinel_env.tasks import Task
from sentinel_env.thoughts import without_thought
from sentinel_env.trajectory import record

from .extras import needed
from .seat import Seat
from .source import Source

with needed("verifiers"):
    import verifiers.v1 as vf
    from verifiers.v1.types import content_text

    from .verifiers_tools import SentinelData, SentinelState, SentinelToolset, SentinelToolsetConfig, world_of


class SentinelTask(vf.Task[SentinelData, SentinelState, vf.TaskConfig]):
    """A task; graded as everywhere."""

    @property
    def key(self) -> str:
        """Its id and seed."""
        return f"{self.data.domain}/{self.data.id}/{self.data.seed}"

    async def setup(self, trace: vf.Trace) -> None:
        """Tell the tools' process which task it is.

        Raises:
            ConfigError: The environment is one that would show the model what the user knows, such as verifiers' own for a single agent.
        """
        if self.data.prompt is not None:
            raise ConfigError("a task's prompt is for the user alone; play it in SentinelEnv, or with --env.id user-sim")
        trace.state.row = self.data.model_dump_json()

    @vf.stop
    def cut(self, trace: vf.Trace) -> bool:
        """Whether the model has had all its turns, or too many of its calls were refused."""
        refused = sum(call["is_error"] for call in trace.state.calls)
        return trace.num_turns >= self.data.max_steps or refused >= self.data.max_errors

    @vf.reward
    async def passed(self, trace: vf.Trace) -> float:
        """1.0 or 0.0.

        Raises:
            ModelError: Infrastructure ended the episode: verifiers records an error and no reward.
        """
        return float(_verdict(self.data, trace)["reward"])

    @vf.metric
    async def outcome(self, trace: vf.Trace) -> dict[str, float]:
        """Turns, refused calls, and each kind of check that the grade is made of."""
        return dict(_verdict(self.data, trace)["metrics"])


def _verdict(row: SentinelData, trace: vf.Trace) -> dict[str, Any]:
    """What came of an episode: as `SentinelEnv` left it, or, where verifiers' own user played, by its trace.

    Raises:
        ModelError: Infrastructure ended it.
    """
    if trace.state.error is not None:
        raise ModelError(trace.state.error)
    if trace.state.verdict is None:
        episode = _begun(row).episode
        for message in trace.messages:
            if episode.awaiting == "user" and message.role == "user":
                episode.hear(Message(role="user", content=content_text(message.content)))
            elif episode.awaiting == "agent" and message.role == "assistant":
                episode.act(_read(message))
        if episode.awaiting == "user":  # verifiers' user took leave, which the assistant's trace does not show
            episode.hear(Message(role="user", content=STOP))
        trace.state.verdict = _judged(episode)
    return trace.state.verdict


def _judged(episode: Episode) -> dict[str, Any]:
    if episode.awaiting is not None:
        episode.truncate()
    evaluation = evaluate(episode.domain, record(episode))
    checks: dict[str, float] = {}
    for check in evaluation.checks:
        checks[f"passed_{check.name}"] = min(float(check.passed), checks.get(f"passed_{check.name}", 1.0))
    metrics = {"steps": float(episode.steps), "refused_calls": float(episode.errors), **checks}
    return {"reward": evaluation.reward, "ending": episode.ending, "metrics": metrics}


def _read(message: vf.AssistantMessage) -> Message:
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls or ()]
    return without_thought(Message.from_openai({"role": "assistant", "content": message.content, "tool_calls": calls}))


def _begun(row: SentinelData) -> Seat:
    source = Source(world_of(row), (), find_user(row.user), row.max_steps, row.max_errors)
    return source.seat_at(Task.model_validate_json(row.task), seed=row.seed)


class SentinelTasksetConfig(vf.TasksetConfig):
    """Which episodes there are; `--env.taskset.domain` and so on."""

    domain: str = "retail"
    """An installed domain, `module:attribute` or a path."""
    split: str | None = None
    tasks: str | None = None
    """A file of tasks, such as `sentinel verify` writes, instead of the domain's own."""
    data: str | None = None
    """A folder in tau2-bench's format."""
    options: dict[str, Any] = Field(default_factory=dict)
    user: str | dict[str, Any] = "scripted"
    """As `sentinel_env.finding.find_user` reads it."""
    seed: int = 0
    max_steps: int = 30
    max_errors: int = 10


class SentinelTaskset(vf.Taskset[SentinelTask, SentinelTasksetConfig]):
    """A domain's tasks."""

    def load(self) -> Iterator[SentinelTask]:
        """Each task, with the policy as its system prompt."""
        config = self.config
        settings = {name: getattr(config, name) for name in ("split", "tasks", "data", "options", "user", "max_steps", "max_errors")}
        source = Source.open(config.domain, **settings)
        shared = {name: getattr(config, name) for name in ("domain", "options", "data", "user", "seed", "max_steps", "max_errors")}
        for task in source.tasks:
            known = scenario_text(task.scenario, source.domain)
            row = SentinelData(
                id=task.id, name=task.id, prompt=known, system_prompt=instructions(source.domain), task=task.model_dump_json(), **shared
            )
            yield SentinelTask(row, config.task)

    @classmethod
    def toolsets(cls, config: SentinelTasksetConfig) -> list[vf.Toolset]:
        """The domain's tools, in one process for all episodes of a worker."""
        return [SentinelToolset(SentinelToolsetConfig(domain=config.domain, options=config.options, data=config.data))]


class SentinelEnvConfig(vf.EnvConfig):
    """One agent, the assistant."""

    agent: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"})


class SentinelEnv(vf.Env[SentinelEnvConfig]):
    """The dialogue: the model on one side, our user on the other."""

    async def run(self, task: SentinelTask, agents: Any) -> None:
        """One episode.

        Raises:
            ModelError: The user's model could not answer; verifiers records the episode as failed, without a reward.
        """
        seat = _begun(task.data)
        played = task.with_data(prompt=None)  # the user opens
        async with agents.agent.interaction(played) as dialogue:
            news, seen = await seat.open(), 0
            while not seat.done:
                segment = await dialogue.turn(news[-1].content)
                for message in dialogue.trace.assistant_messages[seen:]:
                    seen += 1
                    if not seat.done:
                        news = await seat.act(_read(message))
                if segment.terminated:
                    seat.cut()
            if seat.error is None:
                dialogue.trace.state.verdict = _judged(seat.episode)
            else:
                dialogue.trace.state.error = seat.error
        if seat.error is not None:
            raise ModelError(seat.error)


__all__ = ["SentinelEnv", "SentinelTaskset"]
