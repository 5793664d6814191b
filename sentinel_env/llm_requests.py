"""What a model is sent: the conversation and its settings, without what its server has refused to take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .cassette_request import Request
from .llm_answers import REASONING
from .llm_messages import ModelMessage
from .messages import Message

_NOT_TAKEN = {
    "response_format": re.compile(r"response_format|json_schema|structured output|guided", re.I),
    "max_tokens": re.compile(r"max_completion_tokens", re.I),
    "temperature": re.compile(r"temperature", re.I),
    "seed": re.compile(r"\bseed\b", re.I),
    "reasoning": re.compile(r"reasoning|thinking", re.I),
}
"""What can be left out of a request, and how a refusal names it."""


def wanted(
    *, max_tokens: int, temperature: float | None, seed: int | None, schema: Mapping[str, Any] | None, tools: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The settings of a request, under OpenAI's names."""
    found: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    if schema is not None:
        found["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    if tools:
        found["tools"] = list(tools)
    return found


class Form:
    """The form in which one server takes requests for one model, as far as its refusals have told."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.left_out: set[str] = set()
        """See `Model.left_out`."""

    def body(self, messages: Sequence[Message], settings: Mapping[str, Any]) -> dict[str, Any]:
        """What is sent."""
        rows = [message.to_openai() | self._reasoning_of(message) for message in messages]
        body = {"model": self.model, "messages": rows}
        body |= {name: value for name, value in settings.items() if value is not None and name not in self.left_out}
        return body if "max_tokens" in body else body | {"max_completion_tokens": settings["max_tokens"]}

    def asked(self, messages: Sequence[Message], settings: Mapping[str, Any]) -> Request:
        """What is asked for, whatever the server takes of it."""
        asked = {"model": self.model} | {name: value for name, value in settings.items() if name != "tools" and value is not None}
        asked |= {"temperature": float(asked["temperature"])} if "temperature" in asked else {}
        rows = [message.to_openai() | (message.reasoning if isinstance(message, ModelMessage) else {}) for message in messages]
        return Request(asked, settings.get("tools", []), rows)

    def refused(self, body: Mapping[str, Any], refusal: str) -> str | None:
        """What of a request a refusal is about, where it can be left out."""
        sent = body.keys() | {"reasoning" for row in body["messages"] if not row.keys().isdisjoint(REASONING)}
        return next((name for name, pattern in _NOT_TAKEN.items() if name in sent and pattern.search(refusal)), None)

    def _reasoning_of(self, message: Message) -> dict[str, Any]:
        return message.reasoning if isinstance(message, ModelMessage) and "reasoning" not in self.left_out else {}
