"""The tools' process of the verifiers adapter: a domain's tools over MCP, as verifiers starts it (`python -m ...verifiers_tools`).

It knows of an episode what its `SentinelState` says: the task, and the calls so far, which it runs again before each new one. That takes
tens of microseconds, and so one process serves all episodes of a worker.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import verifiers.v1 as vf
from pydantic import Field

from sentinel_env.domain import Domain, load_domain
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Task

OVER = "The conversation is over. Write a last line and call no tool."
"""What a call is answered after the end."""
CRASHED = "The environment failed, which is no fault of yours. The conversation is over."
"""What a call is answered that crashes a tool; why is in the log."""
_log = logging.getLogger(__name__)


class SentinelData(vf.TaskData):
    """A task in a row; never shown to the model but for what verifiers shows of every task."""

    task: str
    """As JSON."""
    domain: str
    options: dict[str, Any] = Field(default_factory=dict)
    data: str | None = None
    user: str | dict[str, Any] = "scripted"
    seed: int = 0
    max_steps: int = 30
    max_errors: int = 10


class SentinelState(vf.State):
    """What the tools' process knows of one episode."""

    row: str = ""
    """`SentinelData` as JSON."""
    calls: list[dict[str, Any]] = Field(default_factory=list)
    """Those so far, with whether each was refused."""
    error: str | None = None
    """Why infrastructure ended the episode."""
    verdict: dict[str, Any] | None = None
    """`Verdict` as JSON, once the episode has ended here."""


@cache
def _world(domain: str, options: tuple[tuple[str, Any], ...], data: str | None) -> Domain:
    return load_domain(domain, data=data, **dict(options))


def world_of(row: SentinelData) -> Domain:
    """The domain of a row, loaded once in a process."""
    return _world(row.domain, tuple(sorted(row.options.items())), row.data)


class SentinelToolsetConfig(vf.ToolsetConfig):
    """Which domain's tools."""

    domain: str = "retail"
    options: dict[str, Any] = Field(default_factory=dict)
    data: str | None = None


class SentinelToolset(vf.Toolset[SentinelToolsetConfig, SentinelState]):
    """A domain's tools, by their own schemas; arguments are checked by the domain, whose words the model reads."""

    TOOL_PREFIX = None

    def register(self, mcp: Any) -> None:
        """Offer the tools."""
        from mcp.server.mcpserver.tools.base import Tool

        config = self.config
        world = _world(config.domain, tuple(sorted(config.options.items())), config.data)

        class DomainTool(Tool):
            """A tool whose arguments are checked by the domain alone."""

            async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
                text = await self.fn(arguments)
                return self.fn_metadata.convert_result(text) if convert_result else text

        for tool in world.tools:
            shape = tool.schema["function"]
            offered = DomainTool.from_function(self._with_state(self._caller(tool.name)), name=tool.name, structured_output=False)
            mcp._tool_manager._tools[tool.name] = offered.model_copy(
                update={"description": shape["description"], "parameters": shape["parameters"]}
            )

    def _caller(self, name: str) -> Any:
        async def call(arguments: dict[str, Any]) -> str:
            try:
                return self._answer(ToolCall(name=name, arguments=arguments))
            except Exception:  # its text would be shown to the model; the episode takes the call too, and ends by it
                _log.exception("tool %s crashed", name)
                raise RuntimeError(CRASHED) from None

        return call

    def _answer(self, call: ToolCall) -> str:
        state = self.state
        row = SentinelData.model_validate_json(state.row)
        if sum(each["is_error"] for each in state.calls) >= row.max_errors:
            return OVER
        world, task = world_of(row), Task.model_validate_json(row.task)
        db = world.start(task)
        for each in state.calls:
            if not each["is_error"]:
                world.execute(db, ToolCall(name=each["name"], arguments=each["arguments"]))
        answer = world.execute(db, call)
        state.calls = [*state.calls, {"name": call.name, "arguments": call.arguments, "is_error": answer.is_error}]
        return answer.content


if __name__ == "__main__":
    SentinelToolset.run()
