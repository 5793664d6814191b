"""What people call the things that calls name by identifier: an item id is "Tablet" to a customer, and a loan is "Dune" to a reader."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from sentinel_env.records import Record

_WORD = re.compile(r"[^\W_]+")
_IDENTIFIER = re.compile(r"\S*\d\S*")
_NAMES = ("name", "title", "label")
"""Fields by which things are called."""
_DEPTH = 4


def words(text: str) -> set[str]:
    """The words of a text in lower case; letters and digits only."""
    return set(_WORD.findall(text.lower()))


def stem(word: str) -> str:
    """A word up to its ending: enough to find "cancelled" and "cancelling" by "cancel".

    >>> stem("cancelling"), stem("boots"), stem("battery")
    ('cancel', 'boot', 'batter')
    """
    for ending in ("ing", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if word[-1:] == word[-2:-1] else word


class Names:
    """What some records are called, and the records nested in them, by their identifiers; and which identifiers are neighbours."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        """Take records by key."""
        self.records = records

    def are_siblings(self, one: Any, other: Any) -> bool:
        """Whether both are keys of one mapping in a record, such as two variants of a product."""
        if not isinstance(one, str) or not isinstance(other, str):
            return False
        fields = (value for record in self.records.values() for value in record.__dict__.values())
        return any(isinstance(value, Mapping) and one in value and other in value for value in fields)

    def of(self, identifiers: Iterable[str]) -> set[str]:
        """Stems of the words in the names of what the identifiers stand for, such as "tablet"."""
        texts = {text for identifier in set(identifiers) for text in self._by_identifier.get(identifier, ())}
        return {stem(word) for text in texts for word in words(text) if word.isalpha() and len(word) > 2}

    @cached_property
    def _by_identifier(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for key, record in self.records.items():
            for part in (record, *_parts(record, _DEPTH)):
                fields = part.__dict__
                called = {text for name in _NAMES if isinstance(text := fields.get(name), str)}
                if called:
                    identifiers = [value for value in fields.values() if isinstance(value, str) and _IDENTIFIER.fullmatch(value)]
                    for identifier in [*identifiers, *([key] if part is record else [])]:
                        found.setdefault(identifier, set()).update(called)
        return found


def _parts(value: Any, depth: int) -> Iterator[Record]:
    inner = value.__dict__.values() if isinstance(value, Record) else value.values() if isinstance(value, Mapping) else value
    for each in inner:
        if isinstance(each, Record):
            yield each
        if depth and isinstance(each, Record | Mapping | list | tuple):
            yield from _parts(each, depth - 1)
