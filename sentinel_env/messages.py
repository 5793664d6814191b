"""Messages and tool calls, to and from OpenAI's format, and `parse_action`: what an agent's text means.

`parse_action` never raises: what looks like a call but is none becomes a message with a `problem`, which the episode shows to the
agent as an observation.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

MAX_ACTION_CHARACTERS = 100_000
MAX_CALLS = 32
MAX_DEPTH = 32


class ToolCall(BaseModel):
    """A request to run one tool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: dict[str, Any] = {}
    id: str | None = None
    """The provider's identifier, which the answering tool message repeats."""

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal, as pydantic has it, which takes four times as long."""
        if type(self) is not ToolCall or type(other) is not ToolCall:
            return super().__eq__(other)
        return self.name == other.name and self.arguments == other.arguments and self.id == other.id


class Message(BaseModel):
    """One turn of a dialogue: text, tool calls, or a tool's answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """On a tool message: the call it answers."""
    name: str | None = None
    """On a tool message: the tool that answered."""
    is_error: bool = False
    """On a tool message: the call was refused."""
    problem: str | None = None
    """On an assistant message: why its text, which was meant as a call, is none. On a user's that a model wrote: what is wrong with it
    that its guards could not put right."""

    @classmethod
    def from_openai(cls, raw: Mapping[str, Any]) -> Message:
        """Read an OpenAI chat message; a call whose arguments are not a JSON object becomes a `problem`.

        Raises:
            pydantic.ValidationError: The role is unknown or a field has the wrong type.
        """
        content = raw.get("content")
        if isinstance(content, list):
            texts = (part.get("text") for part in content if isinstance(part, Mapping))
            content = "".join(text for text in texts if isinstance(text, str))
        calls, problem = _read_calls(raw.get("tool_calls") or [])
        return cls(
            role=raw.get("role"),  # type: ignore[arg-type]
            content=clean(content or ""),
            tool_calls=calls,
            tool_call_id=raw.get("tool_call_id"),
            name=raw.get("name") if raw.get("role") == "tool" else None,
            problem=problem,
        )

    def to_openai(self) -> dict[str, Any]:
        """The message as an OpenAI chat message; arguments become a JSON string, our own fields are left out."""
        raw: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            raw["tool_calls"] = [
                {
                    "id": call.id or f"call_{at}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for at, call in enumerate(self.tool_calls)
            ]
        if self.role == "tool":
            if (
                self.tool_call_id is None and self.name is None
            ):  # the answer to an unreadable call: no API takes a tool message without its call
                return {"role": "user", "content": self.content}
            raw["tool_call_id"] = self.tool_call_id or "call_0"
            if self.name:
                raw["name"] = self.name
        return raw


def clean(text: str) -> str:
    """The text with lone surrogates, which no file can hold, replaced by a question mark."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


_THINKING = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_FENCES = ("```", "```json", "```tool_call")
_CALL_KEYS = ("name", "arguments", "function", "tool_calls")


def parse_action(text: str) -> Message:
    """Read an agent's text as an assistant message.

    Calls are one JSON object `{"name": ..., "arguments": {...}}`, a list of them, or Hermes/Qwen `<tool_call>` blocks with
    text around them. Everything else is text to the user. Never raises: an unreadable call sets `problem`.

    >>> parse_action('{"name": "renew_loan", "arguments": {"loan_id": "L1"}}').tool_calls[0].name
    'renew_loan'
    >>> parse_action("Yes (ok)").content
    'Yes (ok)'
    >>> parse_action('{"name": "renew_loan", "arguments": {').problem
    'the tool call is not valid JSON: Expecting property name enclosed in double quotes at character 37'
    """
    if not isinstance(text, str):
        return Message(role="assistant", problem=f"an action is text, found {type(text).__name__}")
    if len(text) > MAX_ACTION_CHARACTERS:
        too_long = f"the message has {len(text):,} characters; at most {MAX_ACTION_CHARACTERS:,} are read"
        return Message(role="assistant", content=clean(text[:1000]), problem=too_long)
    text = clean(text)
    if "<think>" in text:
        text = _THINKING.sub("", text, count=1)
    if _OPEN in text:
        return _parse_blocks(text)
    bare = text.strip()
    if bare.startswith("```"):
        bare = _without_fence(bare)
    if bare[:1] not in ("{", "["):
        return Message(role="assistant", content=text)
    value, problem = _load(bare)
    if problem is not None:
        looks_like_call = any(f'"{key}"' in bare for key in _CALL_KEYS)
        return Message(role="assistant", content=text, problem=problem if looks_like_call else None)
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        items = value["tool_calls"]
    else:
        items = value if isinstance(value, list) else [value]
        if not any([isinstance(item, dict) and not item.keys().isdisjoint(_CALL_KEYS) for item in items]):
            return Message(role="assistant", content=text)
    calls, unreadable = _read_calls(items, is_plain=_is_plain(bare))
    if unreadable is not None:
        return Message(role="assistant", content=text, problem=unreadable)
    return Message(role="assistant", tool_calls=calls)


def _without_fence(text: str) -> str:
    """What a Markdown code fence around the whole text holds; by string methods, because a regular expression takes quadratic time here."""
    first, _, rest = text.partition("\n")
    if first.rstrip() not in _FENCES or not rest.endswith("\n```"):
        return text
    return rest[:-4].strip()


def _parse_blocks(text: str) -> Message:
    items: list[Any] = []
    outside = ""
    position = 0
    while (start := text.find(_OPEN, position)) != -1:
        end = text.find(_CLOSE, start)
        if end == -1:
            return Message(role="assistant", content=text, problem="a <tool_call> has no closing </tool_call>")
        value, problem = _load(text[start + len(_OPEN) : end].strip())
        if problem is not None:
            return Message(role="assistant", content=text, problem=problem)
        items.extend(value if isinstance(value, list) else [value])
        outside += text[position:start]
        position = end + len(_CLOSE)
    calls, unreadable = _read_calls(items, is_plain=_is_plain(text))
    content = text if unreadable else (outside + text[position:]).strip()
    return Message(role="assistant", content=content, tool_calls=calls, problem=unreadable)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _load(text: str) -> tuple[Any, str | None]:
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return None, f"the tool call is not valid JSON: {error.msg} at character {error.pos}"
    except (ValueError, RecursionError) as error:
        return None, f"the tool call is not valid JSON: {str(error)[:200]}"
    return value, None


def _is_plain(text: str) -> bool:
    """Whether clean text is sure to hold no escaped surrogate and no deep nesting, so that what it was parsed into need not be searched."""
    return "\\u" not in text and text.count("{") + text.count("[") < MAX_DEPTH


def _read_calls(items: list[Any], *, is_plain: bool = False) -> tuple[tuple[ToolCall, ...], str | None]:
    """Tool calls from parsed JSON in our own form or in OpenAI's; all of them, or none and the problem."""
    expected = 'expected {"name": "tool", "arguments": {...}}'
    if len(items) > MAX_CALLS:
        return (), f"{len(items)} tool calls in one message; at most {MAX_CALLS} are run"
    calls = []
    for item in items:
        if not isinstance(item, (dict, Mapping)):  # a plain dict is recognised at once
            return (), f"a tool call is a JSON object, found {type(item).__name__}; {expected}"
        identifier = item.get("id")
        if (function := item.get("function")) is not None and isinstance(function, Mapping):
            item = function
        name, arguments = item.get("name"), item.get("arguments")
        if not isinstance(name, str) or not name:
            return (), f"the tool call has no name; {expected}"
        name = clean(name)
        if isinstance(arguments, str):
            arguments, unreadable = _load(arguments) if arguments.strip() else ({}, None)
            if unreadable is not None:
                return (), unreadable
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            return (), f"the arguments of {name[:100]} are a JSON object, found {type(arguments).__name__}; {expected}"
        if not is_plain:
            try:
                arguments = clean_json(arguments)
            except RecursionError:
                return (), f"the arguments of {name[:100]} are nested deeper than {MAX_DEPTH} levels"
            except ValueError as error:
                return (), f"the arguments of {name[:100]} are no JSON: {error}"
        calls.append(ToolCall(name=name, arguments=arguments, id=clean(identifier) if isinstance(identifier, str) else None))
    return tuple(calls), None


def clean_json(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A value that came from JSON, as a file can hold it: escapes such as "\\ud800" bring lone surrogates back, so every string is cleaned.

    Raises:
        RecursionError: It is nested deeper than `depth` levels.
        ValueError: It holds NaN or an infinite number, which Python reads from JSON although they are none.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if depth == 0 and isinstance(value, dict | list):
        raise RecursionError
    if isinstance(value, dict):
        return {clean(key): clean_json(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [clean_json(item, depth - 1) for item in value]
    return value
