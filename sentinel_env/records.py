"""Records: frozen pydantic models whose lists and dicts are frozen too.

A record is shared by every episode that reads it, so nothing that reads it may change it. That buys two things: a fork of the
database costs nothing, and the text that the agent sees and the digest of a record are computed once and kept with it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Never

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import DatabaseError, FrozenError


def _refuse(name: str) -> Callable[..., Never]:
    def method(self: object, *_: object, **__: object) -> Never:
        raise FrozenError(f"a {type(self).__name__} of a record cannot be changed in place ({name}); use table.update(key, field=value)")

    return method


class FrozenList(list[Any]):
    """A list that was read from a record; it compares and serialises as a list."""

    def __reduce__(self) -> tuple[type[FrozenList], tuple[list[Any]]]:
        return FrozenList, (list(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


class FrozenDict(dict[str, Any]):
    """A dict that was read from a record; it compares and serialises as a dict."""

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


_LIST_WRITES = (
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "__imul__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
)
_DICT_WRITES = ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update")
for _name in _LIST_WRITES:
    setattr(FrozenList, _name, _refuse(_name))
for _name in _DICT_WRITES:
    setattr(FrozenDict, _name, _refuse(_name))


_FROZEN: set[type] = {str, int, float, bool, type(None), FrozenList, FrozenDict}
"""Types that hold nothing that can be changed; types of records join them as they are met."""


def freeze(value: Any) -> Any:
    """The same value with every list, dict and set in it frozen.

    Raises:
        FrozenError: A model in it is not frozen and so could change under another episode.
    """
    kind = type(value)
    if kind in _FROZEN:
        return value
    if kind is list:
        return FrozenList([freeze(item) for item in value])
    if kind is dict:
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if kind is tuple:
        return tuple(freeze(item) for item in value)
    if kind is set:
        return frozenset(value)
    if isinstance(value, BaseModel):
        if not kind.model_config.get("frozen"):
            raise FrozenError(f"{kind.__name__} can be changed in place, so a record cannot hold it; derive it from Record")
        if isinstance(value, Record):
            _FROZEN.add(kind)
    return value


class Record(BaseModel):
    """One row of a table. Subclass it with typed fields; unknown fields and wrong types are refused.

    >>> class Loan(Record):
    ...     title: str
    ...     renewals: list[str] = []
    >>> loan = Loan(title="Dune")
    >>> loan.renewals.append("2026-01-01")
    Traceback (most recent call last):
    ...
    sentinel_env.errors.FrozenError: a FrozenList of a record cannot be changed in place (append); use table.update(key, field=value)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if taken := sorted({"json_hash", "json_text", "replace"} & set(cls.model_fields)):
            raise DatabaseError(f"{cls.__name__}: a field cannot be called {taken[0]!r}, which every record has; choose another name")

    def model_post_init(self, context: Any, /) -> None:
        """Freeze the lists and dicts that the fields hold."""
        fields = self.__dict__
        for name, value in fields.items():
            if type(value) not in _FROZEN:
                fields[name] = freeze(value)

    def __setattr__(self, name: str, value: Any) -> Never:
        raise FrozenError(f"{type(self).__name__}.{name} cannot be changed in place; use table.update(key, {name}=value)")

    def __delattr__(self, name: str) -> Never:
        raise FrozenError(f"{type(self).__name__}.{name} cannot be deleted; a record is frozen")

    @cached_property
    def json_text(self) -> str:
        """The record as the JSON text that an agent sees: fields in their declared order, absent optional fields as null.

        It is `json.dumps(self.model_dump(mode="json"))`, composed of the texts that the records in it have kept: a changed order does
        not spell its unchanged lines again.
        """
        layout = _layout(type(self))
        if layout is not None:
            prefixes, inside = layout
            fields = self.__dict__
            try:
                return "{" + ", ".join([prefix + _json(fields[name], inside) for name, prefix in prefixes]) + "}"
            except _UnknownError:
                pass
        return json.dumps(self.model_dump(mode="json"))

    @cached_property
    def json_hash(self) -> bytes:
        """SHA-256 of the record's JSON with sorted keys, 32 bytes."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).digest()

    def replace(self, **changes: Any) -> Any:
        """A validated copy with some fields changed.

        Raises:
            pydantic.ValidationError: A field is unknown or a value does not fit it.
        """
        fields = {name: self.__dict__[name] for name in type(self).model_fields}
        return type(self).model_validate({**fields, **changes})


def first_error(error: ValidationError) -> str:
    """Pydantic's first complaint as `field.path: what is wrong`."""
    detail = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in detail["loc"])
    found = detail.get("input")
    shown = f" (found {found!r:.80})" if not isinstance(found, Mapping | Record) else ""
    return f"{path}: {detail['msg']}{shown}" if path else f"{detail['msg']}{shown}"


class _UnknownError(Exception):
    """A value whose JSON only pydantic knows."""


_Layout = tuple[tuple[tuple[str, str], ...], frozenset[type]]
"""(name, `"name": `) of each field, and the models that fields are declared to hold."""


@cache
def _layout(record_type: type[Record]) -> _Layout | None:
    """How to compose the text; None where the type has serialisers, aliases, excluded or computed fields, which only pydantic knows."""
    inside: set[type] = set()
    queue: list[Any] = [record_type.__pydantic_core_schema__]
    while queue:
        part = queue.pop()
        if isinstance(part, dict):
            if part.get("computed_fields") or any(str(name).startswith("serialization") for name in part):
                return None
            if part.get("type") == "model":
                inside.add(part["cls"])
            queue.extend(part.values())
        elif isinstance(part, list | tuple):
            queue.extend(part)
    return tuple((name, f"{_quoted(name)}: ") for name in record_type.model_fields), frozenset(inside)


def _json(value: Any, inside: frozenset[type]) -> str:
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if value is None:
        return "null"
    if kind is float and math.isfinite(value):
        return float.__repr__(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return int.__repr__(value)
    if kind is FrozenList:
        return "[" + ", ".join([_json(item, inside) for item in value]) + "]"
    if kind is FrozenDict:
        if all([type(key) is str for key in value]):
            return "{" + ", ".join([f"{_quoted(key)}: {_json(item, inside)}" for key, item in value.items()]) + "}"
    elif kind in inside:
        return str(value.json_text)
    raise _UnknownError
