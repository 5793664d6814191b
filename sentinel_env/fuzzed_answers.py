"""What a model or its provider may put into a chat completion instead of what belongs there: ways to change a good one.

Some are `HARMLESS`: a reader that looks at the content and the tool calls of the first choice only understands the same. Whole HTTP
responses are made by `fuzzed_responses`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from .messages import ToolCall


class Raw(str):
    """JSON text that stands in a body as it is, such as a number that `json` would not write."""


_TEXTS = (
    "",
    " \n\t ",
    " " * 30_000,
    "x" * 150_000,
    "\x00\x01\x1b[31m",
    "\ud800 half a pair",
    "\u202e\u2066🙂👩‍👩‍👧 \U0001f3f4",
    "<think>without an end",
    "<think>a</think><think>b</think>Yes.",
    "</think>Yes.",
    "###STOP###",
    "Yes, please go ahead. ###STOP###",
    "###TRANSFER### ###OUT-OF-SCOPE###",
    "<tool_call>{}</tool_call>",
    '<tool_call>{"name": "cancel_pending_order", "arguments": {"order_id": "#W1"',
    '{"name": null, "arguments": "x"}',
    '[{"name": "get_order_details"}, null]',
    '{"tool_calls": [{"function": {"name": "x", "arguments": "{"}}]}',
    "```json\n{]\n```",
    "[" * 20_000,
    '{"a":' * 5_000,
    "null",
    "#" * 50_000,
    "a@" * 30_000,
    "$1,000 " * 10_000,
    "9" * 60_000,
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    Raw("NaN"),
    Raw("-Infinity"),
    Raw("1e999"),
    "",
    "x",
    "\udfff",
    [],
    [None],
    {},
    {"a": 1},
)
_DEEP = Raw('{"a": ' * 200 + "1" + "}" * 200)
_DEEPER = Raw("[" * 900 + "]" * 900)


def _value(random: Random) -> Any:
    """Anything, also what is no JSON or is nested too deep to be read."""
    return random.choice((_sound(random), _sound(random), _sound(random), _DEEPER, Raw("[" * 5000)))


def _sound(random: Random) -> Any:
    """Anything that Python reads from JSON."""
    return copy.deepcopy(random.choice((*_VALUES, _DEEP, "y" * 20_000)))


Change = Callable[[dict[str, Any], Random, Sequence[ToolCall]], None]
"""Changes a completion in place."""


def message_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The first choice's message."""
    found: dict[str, Any] = answer["choices"][0]["message"]
    return found


# harmless changes


def _usage(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    answer["usage"] = random.choice((_sound(random), {name: _sound(random) for name in ("prompt_tokens", "completion_tokens")}))


def _model(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    answer[random.choice(("model", "id", "object", "created", "system_fingerprint"))] = _sound(random)


def _reasoning(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    name = random.choice(("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"))
    message_of(answer)[name] = random.choice((_sound(random), random.choice(_TEXTS)))


def _extra(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    place = random.choice((answer, answer["choices"][0], message_of(answer)))
    place[random.choice(("function_call", "audio", "annotations", "logprobs", "index", "x_extra", "role"))] = _sound(random)


def _more_choices(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    answer["choices"].append(random.choice((_sound(random), {"message": {"content": "another"}}, copy.deepcopy(answer["choices"][0]))))


def _in_parts(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    message = message_of(answer)
    text = message["content"]
    if isinstance(text, str) and text and not isinstance(text, Raw):
        at = random.randrange(len(text))
        odd = random.choice(({"type": "text", "text": None}, {"type": "image_url"}, {"type": "thinking", "thinking": "Hm."}, 7, None))
        message["content"] = [{"type": "text", "text": text[:at]}, odd, {"type": "text", "text": text[at:]}]


def _finish(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    odd = random.choice((_sound(random), "tool_calls", "stop", "eos", "length", "end_turn", "\ud800"))
    answer["choices"][0]["finish_reason"] = odd


def _arguments_as_object(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    for call in message_of(answer).get("tool_calls") or ():
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict) and isinstance(function.get("arguments"), str):
            function["arguments"] = Raw(function["arguments"])


def _other_ids(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    for call in message_of(answer).get("tool_calls") or ():
        if isinstance(call, dict):
            call[random.choice(("id", "type", "index"))] = _sound(random)


# other changes


def _content(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    message_of(answer)["content"] = random.choice((_value(random), random.choice(_TEXTS), random.choice(_TEXTS)))


def _content_added(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    text = message_of(answer)["content"]
    if isinstance(text, str):
        parts = [text, random.choice(_TEXTS)]
        random.shuffle(parts)
        message_of(answer)["content"] = "".join(parts)


def _calls_wrong(answer: dict[str, Any], random: Random, calls: Sequence[ToolCall]) -> None:
    good = [_as_openai(call) for call in random.sample(list(calls), min(len(calls), 2))]
    first = good[0] if good else {}
    function = first.get("function", {})
    message_of(answer)["tool_calls"] = random.choice(
        (
            _value(random),
            first,
            [good],
            [first, _value(random)],
            [{**first, "function": _value(random)}],
            [{**first, "function": {**function, "name": _value(random)}}],
            [{**first, "function": {**function, "name": random.choice(_TEXTS)}}],
            [{**first, "function": {"name": function.get("name")}}],
            [{"name": function.get("name"), "arguments": function.get("arguments")}],
            good * 20,
        )
    )


def _calls_other(answer: dict[str, Any], random: Random, calls: Sequence[ToolCall]) -> None:
    made = [_as_openai(call) for call in random.choices(list(calls), k=random.choice((1, 1, 1, 2, 3)))] if calls else []
    message_of(answer)["tool_calls"] = made * random.choice((1, 1, 2))


def _arguments(answer: dict[str, Any], random: Random, calls: Sequence[ToolCall]) -> None:
    rows = message_of(answer).get("tool_calls")
    if not rows and calls:
        rows = message_of(answer)["tool_calls"] = [_as_openai(random.choice(list(calls)))]
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(function := row.get("function"), dict):
            function["arguments"] = _odd_arguments(function.get("arguments"), random)


def _odd_arguments(text: Any, random: Random) -> Any:
    text = text if isinstance(text, str) and text else "{}"
    at = random.randrange(len(text))
    first = text[1:-1].split(", ")[0] if len(text) > 2 else '"a": 1'
    return random.choice(
        (
            _value(random),
            random.choice(_TEXTS),
            text[:at],
            text[at:],
            text + text,
            text + "}",
            json.dumps(text),
            "{" + first + ', "order_id": ' + random.choice(("NaN", "1e999", "9" * 3000, "9" * 5000, '"\\ud800"', "null", "[]")) + "}",
            "{" + first + ", " + first + ', "order_id": "#W0"}',
            text.replace('"', "'"),
            text[:-1] + ",}",
            text[:-1] + ", // done\n}",
            "```json\n" + text + "\n```",
            text[:-1] + ', "deep": ' + str(_DEEP) + "}",
            Raw(
                text[:-1]
                + (", " if len(text) > 2 else "")
                + '"x": '
                + random.choice(("NaN", "-Infinity", "1e999", "7" * 3000, str(_DEEPER)))
                + "}"
            ),
            Raw('{"a": 1, ' + (text[1:-1] or '"b": 2') + ', "a": 2}'),
        )
    )


def _refusal(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    message_of(answer)["refusal"] = random.choice((_value(random), "I can't help with that.", "\ud800"))


def _no_choices(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    answer["choices"] = _value(random)


def _no_message(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    answer["choices"][0] = random.choice((_value(random), {**answer["choices"][0], "message": _value(random)}))


def _error(answer: dict[str, Any], random: Random, _: Sequence[ToolCall]) -> None:
    answer["error"] = random.choice((_value(random), {"message": random.choice((_value(random), "\ud800", "overloaded")), "code": 502}))
    if random.random() < 0.8:
        del answer["choices"]


HARMLESS: dict[str, Change] = {
    "usage": _usage,
    "model": _model,
    "reasoning": _reasoning,
    "extra field": _extra,
    "more choices": _more_choices,
    "content in parts": _in_parts,
    "arguments as an object": _arguments_as_object,
    "other ids": _other_ids,
    "finish reason": _finish,
}
OTHER: dict[str, Change] = {
    "content": _content,
    "content added": _content_added,
    "calls of a wrong shape": _calls_wrong,
    "other calls": _calls_other,
    "arguments": _arguments,
    "refusal": _refusal,
    "no choices": _no_choices,
    "no message": _no_message,
    "error in the body": _error,
}


def _as_openai(call: ToolCall) -> dict[str, Any]:
    return {"id": "call_0", "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}


def write_json(value: Any) -> str:
    """JSON text, with `Raw` parts as they are."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {write_json(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write_json, value)) + "]"
    return json.dumps(value)
