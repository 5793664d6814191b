"""A tool's schema as a Python signature and a Google docstring, from which transformers' `get_json_schema` reads the schema back.

TRL takes methods for tools, not schemas. What transformers cannot write is lost on the way: default values, formats, bounds, and the
fields of an argument that is an object. Line ends in the description of an argument become spaces.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from sentinel_env import Tool

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": types.NoneType,
}


def sign(method: Callable[..., Any], tool: Tool) -> Callable[..., Any]:
    """Give a method that takes `**arguments` the name, the signature and the docstring of a tool, and return it.

    The method still takes whatever it is called with, so wrong arguments are the tool's to refuse and not Python's.
    """
    function = tool.schema["function"]
    schemas: dict[str, Any] = function["parameters"]["properties"]
    definitions: dict[str, Any] = function["parameters"].get("$defs", {})
    hints = {name: hint_of(schema, definitions) for name, schema in schemas.items()}
    taken = inspect.signature(tool.function).parameters
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=taken[name].default, annotation=hint)
        for name, hint in hints.items()
    ]
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__name__ = method.__qualname__ = tool.name
    method.__doc__ = _docstring(tool, {name: schema.get("description") for name, schema in schemas.items()})
    method.__annotations__ = hints
    method.__signature__ = inspect.Signature([receiver, *parameters])  # type: ignore[attr-defined]
    return method


def hint_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """The type hint that transformers turns into this JSON schema, or into what it can say of it.

    >>> hint_of({"type": "array", "items": {"enum": ["a", "b"], "type": "string"}}, {})
    list[typing.Literal['a', 'b']]
    """
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema or "const" in schema:
        return Literal[tuple(schema.get("enum", [schema.get("const")]))]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return Union[tuple(hint_of(option, definitions) for option in options)]  # noqa: UP007
    if len(places := schema.get("prefixItems", ())) > 1:
        return tuple[tuple(hint_of(place, definitions) for place in places)]  # type: ignore[misc]
    if schema.get("type") == "array" and schema.get("items"):
        return list[hint_of(schema["items"], definitions)]  # type: ignore[misc]
    if schema.get("type") == "object" and isinstance(values := schema.get("additionalProperties"), dict):
        return dict[str, hint_of(values, definitions)]  # type: ignore[misc]
    return _TYPES.get(schema.get("type", ""), Any)


def _docstring(tool: Tool, descriptions: Mapping[str, str | None]) -> str:
    """Transformers asks for a text on the tool and on each argument; where the domain has none, the name stands in."""
    lines = [tool.description or tool.name.replace("_", " ")]
    if descriptions:
        lines += ["", "Args:"]
        lines += [f"    {name}: {' '.join((text or name.replace('_', ' ')).split())}" for name, text in descriptions.items()]
    return "\n".join(lines)
