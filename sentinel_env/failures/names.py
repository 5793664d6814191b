"""What people call the things that calls name by identifier: the words that stand beside an identifier in the records.

An item id is "Tablet", "gold" and "8-inch" to a customer. Whether somebody spoke of it is looked up by those words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from sentinel_env.records import Record

_WORD = re.compile(r"[^\W_]+")
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
    """The words beside identifiers in some records, and which identifiers are neighbours."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def are_siblings(self, one: Any, other: Any) -> bool:
        """Whether both are keys of one mapping in a record, such as two variants of a product."""
        if not isinstance(one, str) or not isinstance(other, str):
            return False
        fields = (value for record in self.records for value in record.__dict__.values())
        return any(isinstance(value, Mapping) and one in value and other in value for value in fields)

    def of(self, identifiers: Iterable[str]) -> set[str]:
        """Stems of the words that stand beside any of the identifiers, those with digits left out."""
        parts = [part for identifier in set(identifiers) for part in self._by_identifier.get(identifier, ())]
        texts = {text for part in parts for text in _described(part)}
        return {stem(word) for text in texts for word in words(text) if word.isalpha() and len(word) > 2}

    @cached_property
    def _by_identifier(self) -> dict[str, list[Mapping[str, Any]]]:
        """Identifier -> the nested records that hold it; a whole row is about more than one thing and is left out."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for record in self.records:
            for part in _parts(record, _DEPTH):
                for value in part.values():
                    if isinstance(value, str) and " " not in value:
                        found.setdefault(value, []).append(part)
        return found


def _parts(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    inner = value.__dict__.values() if isinstance(value, Record) else value.values() if isinstance(value, Mapping) else value
    for each in inner:
        if isinstance(each, Record):
            yield each.__dict__
        if depth and isinstance(each, Record | Mapping | list | tuple):
            yield from _parts(each, depth - 1)


def _described(part: Mapping[str, Any]) -> list[str]:
    """The texts of a record and of a mapping in it, such as a variant's options."""
    mappings = (value for value in part.values() if isinstance(value, Mapping))
    values = [*part.values(), *(inner for mapping in mappings for inner in mapping.values())]
    return [value for value in values if isinstance(value, str)]
