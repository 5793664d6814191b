"""A tool's answer as values with their places: what an agent learns from it, and which other values stand beside one.

Nothing here knows a domain: places are paths into JSON, in which list positions and the keys of a map of records are a "*".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from .text import _CHUNK, _EDGES, plain, stems

MOST_LEAVES = 5_000
"""Of a longer answer the beginning is read."""

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of an answer."""

    value: Any
    key: str | None
    """The field that holds it; None for an element of a list that is the whole answer, and for plain text."""
    path: Path
    place: Path
    """The path with "*" for positions in lists and keys of maps."""

    @property
    def entity(self) -> int:
        """How much of the path names the record, list element or map entry that the value belongs to."""
        return max((at + 1 for at, part in enumerate(self.place) if part == "*"), default=0)


@dataclass(frozen=True, eq=False)
class Answer:
    """What one answer holds."""

    leaves: tuple[Leaf, ...]

    @cached_property
    def by_value(self) -> dict[str, list[Leaf]]:
        """The leaves by their plain value."""
        found: dict[str, list[Leaf]] = {}
        for leaf in self.leaves:
            found.setdefault(plain(leaf.value), []).append(leaf)
        return found

    @cached_property
    def taught(self) -> tuple[tuple[str, Any, frozenset[str]], ...]:
        """Each plain value, the value as it stands, and the fields that hold it."""
        return tuple(
            (key, leaves[0].value, frozenset(leaf.key for leaf in leaves if leaf.key is not None)) for key, leaves in self.by_value.items()
        )

    @cached_property
    def by_place(self) -> dict[Path, list[Leaf]]:
        """The leaves by their place."""
        found: dict[Path, list[Leaf]] = {}
        for leaf in self.leaves:
            found.setdefault(leaf.place, []).append(leaf)
        return found

    @cached_property
    def words(self) -> frozenset[str]:
        """The stems of all words in it."""
        return frozenset(word for leaf in self.leaves for word in stems(str(leaf.value)))

    def siblings(self, leaf: Leaf) -> list[Leaf]:
        """Other values at the same place, each once."""
        own = plain(leaf.value)
        return list({plain(other.value): other for other in self.by_place[leaf.place] if plain(other.value) != own}.values())

    def fields(self, leaf: Leaf) -> dict[str, Any]:
        """The plain values of the record, list element or map entry that a value belongs to, by field; of nested lists, the texts."""
        return dict(self._entities.get(leaf.path[: leaf.entity], {}))

    @cached_property
    def _entities(self) -> dict[Path, dict[str, Any]]:
        found: dict[Path, dict[str, Any]] = {}
        for leaf in self.leaves:
            for length in {leaf.entity, *(at + 1 for at, part in enumerate(leaf.place) if part == "*"), 0}:
                name = ".".join(leaf.place[length:])
                fields = found.setdefault(leaf.path[:length], {})
                if name in fields:
                    fields[name] = f"{fields[name]} {leaf.value}"
                elif name:
                    fields[name] = leaf.value
        return found


@lru_cache(maxsize=1024)
def read_answer(content: str) -> Answer:
    """The values in a tool's answer: JSON, or text taken apart into words."""
    try:
        data = json.loads(content)
    except ValueError:
        data = None
    if isinstance(data, dict | list):
        leaves = _leaves(data)
        return Answer(tuple(leaf for leaf, _ in zip(leaves, range(MOST_LEAVES), strict=False)))
    found = [chunk.strip(_EDGES) for chunk in _CHUNK.findall(content[:50_000])]
    parts = [part for chunk in found for part in re.split("[:/]", chunk)]
    chunks = dict.fromkeys([content.strip(), *found, *parts])
    return Answer(tuple(Leaf(chunk, None, (str(at),), ()) for at, chunk in enumerate(chunks) if chunk))


def _leaves(data: Any) -> Iterator[Leaf]:
    stack: list[tuple[Any, str | None, Path, Path]] = [(data, None, (), ())]
    while stack:
        value, key, path, place = stack.pop()
        if isinstance(value, dict):
            is_map = _is_map(value)
            for name, item in reversed(value.items()):
                stack.append((item, key if is_map else name, (*path, name), (*place, "*" if is_map else name)))
            if is_map:
                yield from (Leaf(name, key, (*path, name), (*place, "*")) for name in value)
        elif isinstance(value, list):
            stack.extend((item, key, (*path, str(at)), (*place, "*")) for at, item in reversed(list(enumerate(value))))
        elif value is not None and not isinstance(value, bool) and value != "":
            yield Leaf(value, key, path, place)


def _is_map(value: dict[str, Any]) -> bool:
    """Whether the keys are data: identifiers of records, not names of fields."""
    return bool(value) and all(isinstance(item, dict) for item in value.values()) and any(map(str.isdigit, "".join(value)))
