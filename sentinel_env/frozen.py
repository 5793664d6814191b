"""Lists and dicts that cannot be changed in place: what a record holds in the place of plain ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

from pydantic import BaseModel

from .errors import FrozenError


def _refuse(name: str) -> Callable[..., Never]:
    def method(self: object, *_: object, **__: object) -> Never:
        raise FrozenError(f"a {type(self).__name__} of a record cannot be changed in place ({name}); use table.update(key, field=value)")

    return method


class FrozenList(list[Any]):
    """A list that was read from a record; it compares and serialises as a list."""

    __slots__ = ("json_text",)
    json_text: str
    """Its JSON, once it has been spelled: a changed record takes over the text of the lists and dicts that it keeps."""

    def __reduce__(self) -> tuple[type[FrozenList], tuple[list[Any]]]:
        return FrozenList, (list(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


class FrozenDict(dict[str, Any]):
    """A dict that was read from a record; it compares and serialises as a dict."""

    __slots__ = ("json_text",)
    json_text: str
    """Its JSON, once it has been spelled: a changed record takes over the text of the lists and dicts that it keeps."""

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


_WRITES = ("__setitem__", "__delitem__", "clear", "pop")
_LIST_WRITES = (*_WRITES, "__iadd__", "__imul__", "append", "extend", "insert", "remove", "reverse", "sort")
_DICT_WRITES = (*_WRITES, "__ior__", "popitem", "setdefault", "update")
for _name in _LIST_WRITES:
    setattr(FrozenList, _name, _refuse(_name))
for _name in _DICT_WRITES:
    setattr(FrozenDict, _name, _refuse(_name))


FROZEN_TYPES: set[type] = {str, int, float, bool, type(None), FrozenList, FrozenDict}
"""Types that hold nothing that can be changed; types of records join them as they are declared."""


def freeze(value: Any) -> Any:
    """The same value with every list, dict and set in it frozen.

    Raises:
        FrozenError: A model in it is not frozen and so could change under another episode.
    """
    kind = type(value)
    if kind in FROZEN_TYPES:
        return value
    if kind is list:
        return FrozenList([freeze(item) for item in value])
    if kind is dict:
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if kind is tuple:
        return tuple(freeze(item) for item in value)
    if kind is set:
        return frozenset(value)
    if isinstance(value, BaseModel) and not kind.model_config.get("frozen"):
        raise FrozenError(f"{kind.__name__} can be changed in place, so a record cannot hold it; derive it from Record")
    return value
