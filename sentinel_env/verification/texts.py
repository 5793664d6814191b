"""Values in texts: whether what a tool takes stands in what a user says or in what a tool answered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")


def leaves(value: Any) -> list[Any]:
    """The texts, numbers and truth values in a JSON value, in order; the keys of objects are left out.

    >>> leaves({"a": [1, "x"], "b": None})
    [1, 'x', None]
    """
    found, stack = [], [value]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            stack.extend(reversed(each.values()))
        elif isinstance(each, list | tuple):
            stack.extend(reversed(each))
        else:
            found.append(each)
    return found


def holds(text: str, value: str) -> bool:
    """Whether a value stands in a text as whole words.

    >>> [holds(text, "W12") for text in ("order W12 and w3", "W12", "order W123", "XW12", "XW12, W12")]
    [True, True, False, False, True]
    """
    at = text.find(value)
    while at != -1:
        end = at + len(value)
        if not (at and _joins(text[at - 1], value[0])) and not (end < len(text) and _joins(value[-1], text[end])):
            return True
        at = text.find(value, at + 1)
    return False


def _joins(one: str, other: str) -> bool:
    """Whether two neighbouring characters are of one word."""
    return (one.isalnum() or one == "_") and (other.isalnum() or other == "_")


class Words:
    """What somebody says, for looking values up in it: upper and lower case and "#" do not matter."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.text = "\n".join(" ".join(text.lower().split()) for text in texts)

    def __contains__(self, value: object) -> bool:
        """Whether a value is said; a number in whatever way it is written."""
        if isinstance(value, str):
            plain = " ".join(value.lower().split()).lstrip("#")
            return bool(plain) and holds(self.text, plain)
        return isinstance(value, int | float) and not isinstance(value, bool) and value in self._numbers

    @cached_property
    def _numbers(self) -> frozenset[float]:
        return numbers_in(self.text)


def numbers_in(text: str) -> frozenset[float]:
    """The numbers in a text.

    >>> sorted(numbers_in("2 for $1,200.50, order W7"))
    [2.0, 1200.5]
    """
    return frozenset(float(number.replace(",", "")) for number in _NUMBER.findall(text))


class Answer:
    """What a tool answered: JSON, or plain text."""

    def __init__(self, tool: str, text: str) -> None:
        self.tool = tool
        self.text = text

    def __contains__(self, value: object) -> bool:
        """Whether it shows a value: a whole text or key of its JSON, or whole words of a plain text."""
        if isinstance(value, str):
            if self.is_json:
                return json.dumps(value) in self.text or f'"{value}"' in self.text
            return bool(value) and holds(self.text, value)
        return isinstance(value, int | float) and not isinstance(value, bool) and value in self._numbers

    @property
    def is_json(self) -> bool:
        """Whether it is an object, a list or a text of JSON; a name or a sentence is plain text."""
        return self.text[:1] in ("{", "[", '"')

    @cached_property
    def _numbers(self) -> frozenset[float]:
        return numbers_in(self.text)

    @cached_property
    def content(self) -> Any:
        """The JSON value; the text itself where it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return self.text

    @cached_property
    def names(self) -> list[str]:
        """Every text in it, the keys of objects included; the words of a plain text."""
        if not isinstance(self.content, dict | list):
            return str(self.content).split()
        found: dict[str, None] = {}
        stack = [self.content]
        while stack:
            each = stack.pop()
            if isinstance(each, dict):
                found.update(dict.fromkeys(each))
                stack.extend(reversed(each.values()))
            elif isinstance(each, list):
                stack.extend(reversed(each))
            elif isinstance(each, str):
                found[each] = None
        return list(found)

    def at(self, path: str) -> list[Any]:
        """All values at a dotted path and below; it goes through the entries of lists, and of objects that have no such key."""
        found = [self.content]
        for part in path.split(".") if path else ():
            found = [value for each in found for value in _step(each, part)]
        return [below for each in found for below in (*leaves(each), *(each if isinstance(each, dict) else ()))]


def _step(value: Any, part: str) -> list[Any]:
    if isinstance(value, dict):
        if part in value:
            return [value[part]]
        if part in ("key", "keys"):
            return list(value)
        return [found for each in value.values() if isinstance(each, dict | list) for found in _step(each, part)]
    if isinstance(value, list):
        return [found for each in value for found in _step(each, part)]
    return []
