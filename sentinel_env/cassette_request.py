"""A request as a cassette knows it, and what comes nearest to one that it does not have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .llm_answers import without_keys
from .messages import clean

_SHOWN = 120
"""Characters of a text around the place where it differs."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    asked: Mapping[str, Any]
    """Model, sampling and seed."""
    tools: Sequence[Mapping[str, Any]]
    messages: Sequence[Mapping[str, Any]]

    def without_keys(self, secrets: Iterable[str | None]) -> Request:
        """The request as it may be kept."""
        whole = json.dumps([self.asked, self.tools, self.messages], ensure_ascii=False)
        bare = without_keys_in(whole, secrets)
        return self if bare == whole else Request(*json.loads(bare))


def without_keys_in(text: str, secrets: Iterable[str | None]) -> str:
    """JSON that any file can hold, without the keys."""
    own = [each for each in secrets if each]
    return without_keys(clean(text), (*own, *(json.dumps(each)[1:-1] for each in own)))


def difference(recorded: Iterable[tuple[Request, int]], wanted: Request, nth: int) -> str:
    """The first difference from the nearest request, in a line: the one with the most in common in its settings, then in its messages."""
    nearest, best, times = None, (-1, -1, -1), 0
    for request, number in recorded:
        same = sum(request.asked.get(name) == value for name, value in wanted.asked.items())
        rank = (int(request.tools == wanted.tools), same, _shared(request, wanted))
        if rank > best:
            nearest, best = request, rank
        times = max(times, number + 1) if request == wanted else times
    if nearest is None:
        return "it is empty"
    if times:
        return f"it was recorded {times} times and is asked {nth + 1} times; was the run longer, or were more models asked?"
    if nearest.tools != wanted.tools:
        return f"the tools differ: {_tools(nearest)} there, {_tools(wanted)} now"
    names = sorted({*nearest.asked, *wanted.asked})
    if settings := [name for name in names if nearest.asked.get(name) != wanted.asked.get(name)]:
        rows = (f"{name} is {json.dumps(nearest.asked.get(name))} there, {json.dumps(wanted.asked.get(name))} now" for name in settings)
        return "the nearest differs in its settings: " + "; ".join(rows)
    at = best[2]
    if at == len(nearest.messages):
        return f"the nearest ends after message {at}, now comes {_said(wanted.messages[at])}"
    if at == len(wanted.messages):
        return f"the nearest has more messages, {len(nearest.messages)} there, {at} now"
    return f"the nearest differs in message {at + 1}: {_apart(nearest.messages[at], wanted.messages[at])}"


def _shared(one: Request, other: Request) -> int:
    """How many messages two requests begin with alike."""
    at = 0
    while at < min(len(one.messages), len(other.messages)) and one.messages[at] == other.messages[at]:
        at += 1
    return at


def _tools(request: Request) -> str:
    names = [str(tool.get("function", {}).get("name")) for tool in request.tools]
    return ", ".join(names)[:_SHOWN] or "none"


def _said(message: Mapping[str, Any]) -> str:
    return f"{message.get('role')} {json.dumps(message.get('content') or message.get('tool_calls'), ensure_ascii=False)[:_SHOWN]}"


def _apart(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first field in which two messages differ, from shortly before they part."""
    name = next(name for name in ("role", *there, *now) if there.get(name) != now.get(name))
    texts = [json.dumps(each.get(name), ensure_ascii=False) for each in (there, now)]
    alike = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, alike - _SHOWN // 4)
    shown = [("..." if start else "") + text[start : start + _SHOWN] for text in texts]
    return f"{name} of the {now.get('role')} is {shown[0]} there, {shown[1]} now"
