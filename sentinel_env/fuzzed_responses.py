"""Whole HTTP responses that no provider should send: chat completions that are odd or wrong, damaged as bytes, or of another status.

fuzzed = fuzz_response(answer, Random(7), calls)      # `answer`: a good completion as a dict; `calls`: what else may be called
fuzzed.body, fuzzed.status, fuzzed.names              # the bytes, the HTTP status, which changes were made
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from .fuzzed_answers import HARMLESS, OTHER, message_of, write_json
from .messages import ToolCall


@dataclass(frozen=True)
class FuzzedResponse:
    """An HTTP response."""

    body: bytes
    names: tuple[str, ...]
    """The changes that were made, in order."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def _as_stream(answer: Mapping[str, Any], random: Random) -> bytes:
    """The answer as server-sent events that nobody asked for: whole, cut, doubled, or two choices in turns."""
    text = write_json(message_of(dict(answer))["content"])
    rows = [
        f'{{"choices": [{{"index": {at}, "delta": {{"role": "assistant", "content": {said}}}}}]}}'
        for at, said in zip(random.choices((0, 1), k=4), random.choices((text, '"a"', "null"), k=random.randrange(1, 5)), strict=False)
    ]
    whole = "".join(f"{random.choice(('data: ', 'data:', ': keep-alive', 'event: x'))}{row}\n\n" for row in rows) + "data: [DONE]\n\n"
    return whole.encode("utf-8", "surrogatepass")[: random.choice((None, len(whole) // 2, -3))]


def _damaged(body: bytes, answer: Mapping[str, Any], random: Random) -> tuple[str, bytes]:
    at = random.randrange(len(body) or 1)
    name = random.choice(("cut", "flipped", "doubled", "junk before", "junk after", "UTF-16", "stream", "something else"))
    other = (
        b"",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{",
        b"<html>Bad gateway</html>",
        b"\xef\xbb\xbf" + body,
        b"[" * 100_000,
        b"\xff\xfe\x00",
    )
    return name, {
        "cut": lambda: body[:at],
        "flipped": lambda: body[:at] + bytes([random.randrange(256)]) + body[at + 1 :],
        "doubled": lambda: body + body,
        "junk before": lambda: random.choice((b"\x00", b")]}',\n", b"data: ", b"OK ")) + body,
        "junk after": lambda: body + random.choice((b"\x00", b"}", b"\n\nnull", b"data: [DONE]")),
        "UTF-16": lambda: body.decode("utf-8", "replace").encode("utf-16"),
        "stream": lambda: _as_stream(answer, random),
        "something else": lambda: random.choice(other),
    }[name]()


_STATUSES = (201, 202, 203, 206, 301, 400, 401, 403, 404, 408, 409, 413, 418, 422, 425, 429, 500, 502, 503, 504, 520, 529)
_SAID = (
    "",
    "slow down",
    "maximum context length is 4096 tokens",
    "insufficient_quota",
    "tools are not supported",
    '{"error": {"message": "\\ud800\\udfff", "code": null}}',
    '{"error": null}',
    '{"error": {"message": null}}',
    '{"error": [1]}',
    "[" * 3000,
    "\x00" * 100,
    "<html>" * 3000,
)
_WAITS = ("0", "0.01", "soon", "-5", "nan", "", "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2300", "\xe9")


def _status(random: Random) -> FuzzedResponse:
    status, said = random.choice(_STATUSES), random.choice(_SAID)
    headers = {"Retry-After": random.choice(_WAITS)} if random.random() < 0.5 else {}
    return FuzzedResponse(said.encode(), (f"HTTP {status}",), status, headers)


_TYPES = ("application/json", "text/plain", "text/event-stream", "text/html; charset=utf-16", "application/json; charset=nonsense", "x")


def fuzz_response(answer: Mapping[str, Any], random: Random, calls: Sequence[ToolCall] = (), *, harmless: bool = False) -> FuzzedResponse:
    """Change a chat completion in one to three ways.

    Args:
        answer: A good one, as a provider's JSON has it; it stays as it is.
        random: What to draw from.
        calls: Calls that are put into some answers, such as `fuzzed_calls` makes.
        harmless: Make only changes that do not touch what the answer says.
    """
    if not harmless and random.random() < 0.06:
        return _status(random)
    changed, names = copy.deepcopy(dict(answer)), []
    for _ in range(random.choice((1, 1, 2, 3))):
        name, change = random.choice(list((HARMLESS if harmless or random.random() < 0.3 else OTHER).items()))
        try:
            change(changed, random, calls)
        except (AttributeError, IndexError, KeyError, TypeError):  # a change before it left nothing to change
            continue
        names.append(name)
    body = write_json(changed).encode("utf-8", "surrogatepass")
    if not harmless and random.random() < 0.12:
        name, body = _damaged(body, answer, random)
        names.append(name)
    return FuzzedResponse(body, tuple(names), headers={"Content-Type": random.choice(_TYPES)} if random.random() < 0.2 else {})
