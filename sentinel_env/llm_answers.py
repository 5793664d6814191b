"""What a provider sends back: an answer in OpenAI's form, or one of the kinds of trouble of `ModelError`; and no key in either.

Both ways to a model (`llm_http` and litellm) go through here, so a fault is called the same whichever way it came.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from .errors import ModelError, ModelTrouble
from .messages import Message, ToolCall, clean, clean_json

_READ = 10_000
"""How much of a provider's own words is looked at; the model cuts them shorter once the keys are out."""


@dataclass(frozen=True)
class Answer:
    """One answer of a model."""

    text: str
    model: str
    """As the provider names it."""
    finish: str | None = None
    """Why it ended: "stop", or "length" where it was cut at `max_tokens`."""
    prompt_tokens: int | None = None
    """None where the provider does not say."""
    completion_tokens: int | None = None
    calls: tuple[ToolCall, ...] = ()
    problem: str | None = None
    """Why what was meant as calls is none: the model's mistake, not the provider's."""
    declined: bool = False
    """Whether the text is the model's own refusal, in the field that providers have for it."""
    reasoning: dict[str, Any] = field(default_factory=dict)
    """The fields of the message that hold its reasoning, as the provider names them."""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing and calls nothing."""
        return not (self.text.strip() or self.calls or self.problem)


def read_answer(raw: Any) -> Answer:
    """The answer in a chat completion, which may be an empty text; calls that cannot be read become its `problem`.

    Raises:
        ModelError: It is no chat completion (malformed), or the provider's filter held it back (refused).
    """
    try:
        choice = raw["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        content, calls = message.get("content") or "", message.get("tool_calls") or []
        if not isinstance(content, str | list) or not isinstance(calls, list):
            raise TypeError
    except (TypeError, KeyError, IndexError, AttributeError):
        raise ModelError(f"the answer is no chat completion: {str(raw)[:_READ]!r}", kind="malformed") from None
    refusal = message.get("refusal")
    declined = isinstance(refusal, str) and bool(refusal.strip())
    if finish == "content_filter":
        raise ModelError(f"the model declined to answer: {clean(refusal[:_READ]) if declined else 'content filter'}", kind="refused")
    if declined:
        content, calls = refusal, []
    read = Message.from_openai({"role": "assistant", "content": content, "tool_calls": calls})
    reasoning = {name: kept for name in REASONING if (kept := _kept(message.get(name)))}
    text = read.content
    if "</think>" in text and (thought := _THOUGHT.match(text := text.lstrip())) is not None:
        reasoning.setdefault("reasoning_content", thought[1].strip())
        text = text[thought.end() :]
    usage = raw.get("usage") or {}
    return Answer(
        text=(text or _as_written(calls)) if read.problem else text,
        model=_name(raw.get("model")) or "",
        finish=_name(finish),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        calls=read.tool_calls,
        declined=declined,
        problem=read.problem,
        reasoning=reasoning,
    )


REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
"""DeepSeek's and vLLM's, OpenRouter's and newer vLLM's, OpenRouter's, Anthropic's through litellm."""
_THOUGHT = re.compile(r"(?:<think>)?(.*?)</think>\s*", re.DOTALL)
"""What a server without a reasoning parser leaves in the text; some chat templates write the opening mark themselves."""
_SHOWN_OF_A_CALL = 2000


_LONGEST_NAME = 200
_MOST_TOKENS = 10**12
"""A larger count is none."""


def _as_written(calls: list[Any]) -> str:
    """Unreadable calls as text, so that the record shows them and the model can see what it did."""
    try:
        return json.dumps(calls, default=str)[:_SHOWN_OF_A_CALL]
    except RecursionError:
        return "(calls that are nested too deep)"


def _kept(reasoning: Any) -> Any:
    """Reasoning that can be kept and sent back; None for what no JSON can hold, or is nested too deep."""
    try:
        return clean_json(reasoning)
    except (ValueError, RecursionError):
        return None


def _name(value: Any) -> str | None:
    return clean(value[:_LONGEST_NAME]) if isinstance(value, str) else None


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


_THINKING = re.compile(r"^.*</think>", re.DOTALL)


def json_in(text: str) -> str:
    """The JSON of an answer, without the thoughts before it and the fence around it; it is validated by whoever asked.

    >>> json_in('<think>What do they want?</think>```json {"a": 1} ```')
    '{"a": 1}'
    """
    bare = _THINKING.sub("", text).strip()
    return bare.removeprefix("```json").removeprefix("```").removesuffix("```").strip()


_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size)|maximum (context|model) length|too many tokens|(prompt|input|request).{0,20}too (long|large)", re.I
)
_NO_SUCH_REQUEST = re.compile(r"\bvalidation errors?:.*'body'", re.I)
"""What llama-cpp-python's server says of a request that it does not take, with a status of 500."""
_NO_CREDIT = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.I)


def trouble(status: int, text: str, headers: Mapping[str, str]) -> ModelError:
    """The error for an HTTP status that is no success, with the beginning of what the server said."""
    said = clean(" ".join(_message(text[:_READ]).split()))
    kind = _kind(status, said)
    return ModelError(f"HTTP {status}{f': {said}' if said else ''}", kind=kind, retry_after=seconds(headers.get("retry-after")))


def _message(text: str) -> str:
    """The message in an error's JSON, in OpenAI's form or a plainer one; the text itself where there is none."""
    try:
        raw = json.loads(text)
        error = raw.get("error", raw)
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return text


def _kind(status: int, text: str) -> ModelTrouble:
    if status == 429:
        return "refused" if _NO_CREDIT.search(text) else "rate"
    if status in (408, 504):
        return "timeout"
    if status in (409, 425) or (status >= 500 and not _NO_SUCH_REQUEST.search(text)):
        return "server"
    return "context" if status in (400, 413, 422) and is_too_long(text) else "refused"


def is_too_long(text: str) -> bool:
    """Whether a refusal is about a dialogue that does not fit into the model's context.

    >>> is_too_long("This model's maximum context length is 4096 tokens"), is_too_long("slow down")
    (True, False)
    """
    return _TOO_LONG.search(text) is not None


def classed(error: Exception) -> ModelError:
    """An error that litellm raised as ours."""
    name, text = type(error).__name__, clean(" ".join(str(error).split()))
    if isinstance(error, ImportError) or "ContentPolicy" in name:
        return ModelError(f"{name}: {text}", kind="refused")
    if "ContextWindow" in name:
        return ModelError(f"{name}: {text}", kind="context")
    if _UNREADABLE.search(text):
        return ModelError(f"{name}: {text}", kind="malformed")
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else 500
    if status >= 500 and _NOT_REACHED.search(text):
        return ModelError(f"cannot reach the provider: {text}", kind="server")
    headers = getattr(error, "litellm_response_headers", None) or getattr(getattr(error, "response", None), "headers", None)
    return trouble(status, text, headers or {})


_UNREADABLE = re.compile(r"invalid response from LLM endpoint|response with no 'choices'")
"""How litellm words what it reports as a status of 500,"""
_NOT_REACHED = re.compile(r"\bConnection error\b|\bCannot connect\b", re.I)
"""and what no server said at all."""


def seconds(retry_after: str | None) -> float | None:
    """A Retry-After header in seconds from now; None where there is none that can be read.

    >>> seconds("2.5"), seconds("soon"), seconds("inf"), seconds("Wed, 21 Oct 2015 07:28:00 GMT")
    (2.5, None, None, 0.0)
    """
    if retry_after is None:
        return None
    try:
        return max(0.0, number) if math.isfinite(number := float(retry_after)) else None
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(retry_after)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)  # as `-0000` and no zone at all are read
        return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


_LOOKS_SECRET = re.compile(r"\b(sk|hf|gsk|xai)[-_][A-Za-z0-9_*.-]{8,}|(?<=Bearer )\S+", re.I)
_NAMED_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL")
_SHORTEST = 8


def without_keys(text: str, own: Iterable[str | None] = ()) -> str:
    """The text with every key taken out: those given, those of the environment, and whatever looks like one.

    >>> without_keys("Incorrect API key provided: sk-abcdef123456.")
    'Incorrect API key provided: [key]'
    """
    secrets = {each for each in own if each}
    secrets |= {value for name, value in os.environ.items() if _NAMED_SECRET.search(name) and len(value) >= _SHORTEST}
    secrets |= {form for each in secrets for form in (quote(each, safe=""), json.dumps(each)[1:-1])}  # as an echo may spell it
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[key]")
    return _LOOKS_SECRET.sub("[key]", text)
