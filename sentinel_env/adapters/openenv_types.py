"""What goes over OpenEnv's wire: the action, the observations, the state, and a client that speaks in them."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from openenv.core import EnvClient
from openenv.core.client_types import StepResult
from openenv.core.env_server.types import Action, Observation, State
from pydantic import ConfigDict, Field, WithJsonSchema

from sentinel_env.messages import MAX_ACTION_CHARACTERS, Message, parse_action
from sentinel_env.thoughts import read_text, without_thought


class SentinelAction(Action):
    """The assistant's turn, in one of three forms: `text`, as a model writes it, read by `read_text`; an OpenAI assistant message, with
    `content` and `tool_calls`; or one call, `name` and `arguments`. Fields that are null are as if absent. Anything else is the agent's
    mistake, which the next observation tells it.

    `text` counts as required in the schema, although the other forms need none: by this, clients such as verifiers know where a reply
    that is no JSON object belongs.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra={"required": ["text"]})

    text: Annotated[
        Any,
        WithJsonSchema(
            {
                "type": "string",
                "description": 'Words to the user, or tool calls as text: {"name": "tool", "arguments": {...}}, a list of them, or '
                "<tool_call> blocks. Empty beside tool_calls or name.",
            }
        ),
    ] = None
    tool_calls: Annotated[
        Any, WithJsonSchema({"type": ["array", "null"], "items": {"type": "object"}, "description": "Calls in OpenAI's form."})
    ] = None
    name: Annotated[Any, WithJsonSchema({"type": ["string", "null"], "description": "The tool, where the action is one call."})] = None
    arguments: Annotated[Any, WithJsonSchema({"type": ["object", "null"], "description": "And its arguments."})] = None
    content: Annotated[Any, WithJsonSchema({"type": ["string", "null"], "description": "Of an OpenAI message: words to the user."})] = None
    role: Annotated[Any, WithJsonSchema({"type": ["string", "null"], "description": "Of an OpenAI message: assistant."})] = None
    metadata: Annotated[Any, WithJsonSchema({"type": ["object", "null"], "description": "Not read."})] = None

    def message(self) -> Message:
        """What it means; where it cannot be read, a message with a `problem`. Calls without an identifier are called call_0, call_1, ...,
        so that of several each has an answer of its own."""
        message = self._read()
        if all(call.id for call in message.tool_calls):
            return message
        calls = [call if call.id else call.model_copy(update={"id": f"call_{at}"}) for at, call in enumerate(message.tool_calls)]
        return message.model_copy(update={"tool_calls": tuple(calls)})

    def _read(self) -> Message:
        if self.role not in (None, "assistant"):
            return _unreadable(f"an action is the assistant's turn, found the role {str(self.role)[:100]!r}")
        unknown = sorted(key for key, value in (self.model_extra or {}).items() if value is not None)
        if unknown and self.role is None:  # messages of OpenAI's own carry more fields than are read
            return _unreadable(f"an action has text, or content and tool_calls, or name and arguments; found {unknown[0][:100]!r}")
        if self.name is None and self.tool_calls in (None, []):
            if self.text is not None or self.content is None:
                return read_text(_as_text(self.text))
            text = _as_text(self.content)
            if len(text) > MAX_ACTION_CHARACTERS:
                return parse_action(text)
            return without_thought(Message.from_openai({"role": "assistant", "content": text}))
        calls = self.tool_calls or []
        if not isinstance(calls, list):
            return _unreadable(f"tool_calls is a list, found {type(calls).__name__}")
        if self.name is not None:
            calls = [*calls, {"name": self.name, "arguments": self.arguments}]
        text = _as_text(self.content if self.content is not None else self.text)
        if len(text) > MAX_ACTION_CHARACTERS:
            return parse_action(text)
        return without_thought(Message.from_openai({"role": "assistant", "content": text, "tool_calls": calls}))


class SentinelObservation(Observation):
    """What the agent has not seen yet, in answer to a step.

    It has all that an agent may see, since there are clients that show it whole: so no task's id, which for a generated task begins with
    the mistake that the task is for. `state` has it.

    `reward` is 0.0 before the end, and at the end 1.0, 0.0 or, where infrastructure failed, None. At the end `metadata` has `passed` and a
    `passed_...` for each kind of check, or, where infrastructure failed, the `error`'s class and its `error_kind`.
    """

    messages: list[dict[str, Any]] = Field(default=[])
    """In OpenAI's form: tool answers, or the user's words."""
    steps: int = 0
    """The agent's turns so far."""
    ending: str | None = None
    """How the episode ended: by its own rules (`user_stop`, `transfer`, `out_of_scope`) or by a limit (`max_steps`, `max_errors`)."""


class SentinelOpening(SentinelObservation):
    """The observation of a reset: also what the agent must know from the start."""

    policy: str = ""
    """The system prompt of an agent that is given the tools in its own way."""
    tools: list[dict[str, Any]] = Field(default=[])
    """In OpenAI's function format."""
    system_prompt: str = ""
    """The system prompt of an agent that works on text alone: the policy, the tools and how to write a call."""


class SentinelState(State):
    """Where the episode stands: nothing that the agent may not know."""

    task_id: str | None = None
    seed: int | None = None
    ending: str | None = None
    done: bool = False


class SentinelClient(EnvClient[SentinelAction, SentinelObservation, SentinelState]):
    """OpenEnv's client with our types; `GenericEnvClient`, which works with dictionaries, does as well."""

    def _step_payload(self, action: SentinelAction) -> dict[str, Any]:
        return action.model_dump(exclude_none=True)

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[SentinelObservation]:
        reward, done = payload.get("reward"), payload.get("done", False)
        kind = SentinelOpening if "system_prompt" in payload["observation"] else SentinelObservation
        observation = kind(**payload["observation"], reward=reward, done=done)
        return StepResult(observation=observation, reward=reward, done=done, metadata=observation.metadata)

    def _parse_state(self, payload: dict[str, Any]) -> SentinelState:
        return SentinelState(**payload)


def _as_text(value: Any) -> str:
    """A text; whatever else JSON has, as a model would have written it. A list is OpenAI's list of parts, or of calls."""
    if isinstance(value, list) and all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _unreadable(problem: str) -> Message:
    return Message(role="assistant", problem=problem)
