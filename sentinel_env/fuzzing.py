"""Calls with wrong, missing, odd and shuffled arguments, from a tool's schema and from calls that are known to be good."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from .domain import Domain
from .messages import ToolCall

_ODD: tuple[Any, ...] = ("", " ", "nobody-has-this-id", "0", 0, -1, 1.5, True, None, [], ["x"], {}, "ä\u0000\u202e🙂", "x" * 5000)


def fuzzed_calls(domain: Domain, good: Iterable[ToolCall], random: Random, *, per_tool: int = 60) -> Iterator[ToolCall]:
    """Calls to every tool of a domain, most of which it has to refuse.

    Args:
        domain: The world.
        good: Calls whose arguments fit, such as those of references; values of one argument name are exchanged between them.
        random: What to draw from.
        per_tool: How many for each tool.
    """
    seen: dict[str, list[Any]] = defaultdict(list)
    examples: dict[str, list[ToolCall]] = defaultdict(list)
    for call in good:
        examples[call.name].append(call)
        for name, value in call.arguments.items():
            seen[name].append(value)
    keys = [key for table in domain.base.tables.values() for key in list(table)[:50]]
    yield ToolCall(name="no_such_tool", arguments={})
    for tool in domain.tools:
        properties: dict[str, dict[str, Any]] = tool.schema["function"]["parameters"]["properties"]
        yield ToolCall(name=tool.name, arguments={})
        yield ToolCall(name=tool.name, arguments={"no_such_argument": 1})
        for _ in range(per_tool):
            arguments = {name: _fitting(schema, seen[name], keys, random) for name, schema in properties.items()}
            if examples[tool.name] and random.random() < 0.7:
                arguments = dict(random.choice(examples[tool.name]).arguments)
            for name in [name for name in arguments if random.random() < 0.4]:
                if random.random() < 0.1:
                    del arguments[name]
                else:
                    arguments[name] = _wrong(arguments[name], seen[name], random)
            yield ToolCall(name=tool.name, arguments=arguments)


def _fitting(schema: dict[str, Any], seen: list[Any], keys: list[str], random: Random) -> Any:
    """A value of the right type, most likely one that exists."""
    if seen and random.random() < 0.8:
        return random.choice(seen)
    if "enum" in schema:
        return random.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return [_fitting(schema.get("items", {}), [], keys, random) for _ in range(random.randrange(3))]
    if kind in ("integer", "number"):
        return random.randrange(-3, 1000)
    if kind == "boolean":
        return random.random() < 0.5
    if kind == "object":
        return {}
    return random.choice(keys) if keys else "text"


def _wrong(value: Any, seen: list[Any], random: Random) -> Any:
    """Something odd, another known value, or for a list one that is doubled or cut."""
    choice = random.random()
    if choice < 0.4 and seen:
        return random.choice(seen)
    if choice < 0.6 and isinstance(value, list):
        return random.choice((value * 2, value[:-1], value[::-1]))
    return random.choice(_ODD)
