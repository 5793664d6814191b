"""`@tool`: a plain function `f(db, ...)` becomes a tool with a JSON schema and strict argument validation.

The schema comes from the type hints and the Google docstring, in OpenAI's function format. Arguments are JSON, so they are
validated strictly: a number is no string, and the text of a refusal says what the tool takes.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import WRAPPER_ASSIGNMENTS, cached_property, partial
from typing import Any, get_type_hints, overload

import docstring_parser
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from .errors import DomainError, ToolError
from .records import Record


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that an agent can call. It stays callable as the plain function: `renew_loan(db, "L1")`."""

    function: Callable[..., Any]
    writes: bool = False
    """Whether it may change the database. A tool that does not say so and writes all the same is refused."""

    def __post_init__(self) -> None:
        # what functools.update_wrapper would set, on a frozen object
        self.__dict__.update({name: getattr(self.function, name) for name in WRAPPER_ASSIGNMENTS}, __wrapped__=self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function, unvalidated."""
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The function's name, which the agent uses."""
        return self.function.__name__

    @cached_property
    def _documented(self) -> docstring_parser.Docstring:
        return docstring_parser.parse(inspect.getdoc(self.function) or "", style=docstring_parser.DocstringStyle.GOOGLE)

    @property
    def description(self) -> str:
        """The docstring without its sections."""
        parts = (self._documented.short_description, self._documented.long_description)
        return "\n\n".join(part for part in parts if part)

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The arguments as a strict pydantic model.

        Raises:
            DomainError: The function takes no database, or an argument has no type hint or is `*args`/`**kwargs`.
        """
        parameters = list(inspect.signature(self.function).parameters.values())
        if not parameters:
            raise DomainError(f"tool {self.name}: its first parameter is the database, found no parameter; write def {self.name}(db, ...)")
        try:
            hints = get_type_hints(self.function, include_extras=True)
        except NameError as error:
            raise DomainError(f"tool {self.name}: a type hint does not resolve: {error}; define the type at module level") from None
        texts = {item.arg_name: item.description for item in self._documented.params}
        fields: dict[str, Any] = {}
        for at, parameter in enumerate(parameters[1:]):
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise DomainError(f"tool {self.name}: *{parameter.name} has no JSON schema; name each argument")
            if parameter.name not in hints:
                raise DomainError(f"tool {self.name}: argument {parameter.name!r} has no type hint")
            default = PydanticUndefined if parameter.default is parameter.empty else parameter.default
            taken = hasattr(BaseModel, parameter.name) or parameter.name.startswith(("_", "model_"))
            field = Field(default, description=texts.get(parameter.name), alias=parameter.name if taken else None)
            fields[f"argument_{at}" if taken else parameter.name] = (hints[parameter.name], field)
        config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
        return create_model(self.name, __config__=config, **fields)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The tool in OpenAI's function format."""
        parameters = self.arguments.model_json_schema()
        _drop_titles(parameters)
        parameters.setdefault("properties", {})
        parameters.setdefault("required", [])
        parameters.pop("additionalProperties", None)
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": parameters}}

    @cached_property
    def _null_means_default(self) -> frozenset[str]:
        fields = self.arguments.model_fields.items()
        return frozenset(field.alias or name for name, field in fields if not field.is_required() and not _takes_null(field))

    @cached_property
    def _renamed(self) -> dict[str, str]:
        """Field -> argument, where pydantic cannot have a field of the argument's name, such as `copy`."""
        return {name: field.alias for name, field in self.arguments.model_fields.items() if field.alias is not None}

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The validated arguments as keyword arguments of the function; null stands for an optional argument's default.

        Raises:
            ToolError: An argument is missing, unknown or of the wrong type; the text lists all of them and what the tool takes.
        """
        if self._null_means_default and None in arguments.values():
            arguments = {name: value for name, value in arguments.items() if value is not None or name not in self._null_means_default}
        try:
            valid = self._validate(arguments)
        except ValidationError:  # a date or an enum is a string in JSON, which only the JSON mode reads
            try:
                valid = self.arguments.model_validate_json(json.dumps(arguments), strict=True)
            except ValidationError as error:
                raise ToolError(f"{self._complaint(error)}; {self.usage}") from None
        found: dict[str, Any] = valid.__dict__
        if self._renamed:
            return {self._renamed.get(name, name): value for name, value in found.items()}
        return found

    @cached_property
    def _validate(self) -> Callable[[Mapping[str, Any]], Any]:
        """`arguments.model_validate` in strict mode, without the checks of its own arguments that it makes each time."""
        return partial(self.arguments.__pydantic_validator__.validate_python, strict=True)

    def run(self, db: Any, arguments: Mapping[str, Any]) -> Any:
        """Validate the arguments and call the function.

        Raises:
            ToolError: The arguments do not fit, or the tool refuses the call.
        """
        return self.function(db, **self.validate(arguments))

    @cached_property
    def usage(self) -> str:
        """One line that says what the tool takes, for error texts."""
        parameters = self.schema["function"]["parameters"]
        shown = [
            f"{name}: {_type_text(schema, parameters)}{'' if name in parameters['required'] else ' (optional)'}"
            for name, schema in parameters["properties"].items()
        ]
        return f"{self.name} takes {', '.join(shown) if shown else 'no arguments'}"

    def _complaint(self, error: ValidationError) -> str:
        texts = []
        for detail in error.errors(include_url=False):
            path = ".".join(str(part) for part in detail["loc"])
            if detail["type"] == "missing":
                texts.append(f"argument {path!r} is missing")
            elif detail["type"] == "extra_forbidden":
                texts.append(f"unknown argument {path[:100]!r}")
            else:
                message = detail["msg"].removeprefix("Input should be ")
                texts.append(f"argument {path!r} must be {message}, found {json.dumps(detail['input'], default=str)[:100]}")
        return "; ".join(texts[:5])


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(*, writes: bool = False) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(function: Callable[..., Any] | None = None, /, *, writes: bool = False) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool.

    Args:
        function: `f(db, ...)` with type hints and a Google docstring. Its result is text, a record, or JSON-like data of them.
        writes: Whether it may change the database. Raise `ToolError` to refuse a call; a refused call leaves no trace.

    >>> @tool
    ... def add(db: object, a: int, b: int = 1) -> int:
    ...     '''Add two numbers.
    ...
    ...     Args:
    ...         a: The first.
    ...         b: The second.
    ...     '''
    ...     return a + b
    >>> add.run(None, {"a": 2, "b": None})
    3
    >>> add.run(None, {"a": "2"})
    Traceback (most recent call last):
    ...
    sentinel_env.errors.ToolError: argument 'a' must be a valid integer, found "2"; add takes a: integer, b: integer (optional)
    """
    if function is None:
        return lambda decorated: Tool(decorated, writes=writes)
    return Tool(function, writes=writes)


def to_text(value: Any) -> str:
    """A tool's result as the agent sees it: text as it is, a record as its JSON, other data as JSON with records inside."""
    if isinstance(value, str):
        return value
    if isinstance(value, Record):
        return value.json_text
    return json.dumps(to_jsonable_python(value), allow_nan=False)


def _takes_null(field: FieldInfo) -> bool:
    annotation: Any = field.annotation
    try:
        TypeAdapter(annotation).validate_python(None, strict=True)
    except ValidationError:
        return False
    return True


def _drop_titles(schema: Any) -> None:
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for name, value in schema.items():
            if name in ("properties", "$defs"):
                for nested in value.values():
                    _drop_titles(nested)
            elif name not in ("default", "const", "enum", "examples"):
                _drop_titles(value)
    elif isinstance(schema, list):
        for value in schema:
            _drop_titles(value)


def _type_text(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """A type in words; `parameters` holds the definitions that it may refer to."""
    if "$ref" in schema:
        schema = parameters["$defs"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_type_text(option, parameters) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_text(schema.get('items', {}), parameters)}"
    return str(schema.get("type", "object"))
