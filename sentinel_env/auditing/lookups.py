"""A domain's read tools as look-ups: which known values might fill which argument.

Nothing is declared for it. An argument's values look like those of the calls in the tasks, like the examples in its description, and
like the keys of the table that it is named after; a value that was read from a field with the name of another argument is none of this
one's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, product
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall

from .text import Said, shape

QUOTED = re.compile(r"[\"“]([^\"”]{1,60})[\"”]|(?<![^\s(])'([^']{1,60})'(?![^\s,.;:)])")
MOST_COMBINATIONS = 400
"""Of the ways to fill one tool's arguments, in one round."""
MOST_NAMES = 150
"""Of the rows of words that could be names."""


@dataclass(frozen=True)
class Slot:
    """One argument of a look-up."""

    name: str
    kind: str
    """ "choice", "number", "word" (letters only), "shaped", "any", or "closed" where nothing can be guessed."""
    choices: tuple[Any, ...] = ()
    shapes: frozenset[str] = frozenset()
    prefix: str = ""
    """A sign that all its values begin with and that people leave out, such as "#"."""
    listed: bool = False
    """Whether it takes a list."""


@dataclass
class Known:
    """Values that were said or read, by plain text: the value as it stood, and the fields that it was read from."""

    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Lookup:
    """A read tool with the arguments that it needs."""

    name: str
    slots: tuple[Slot, ...]

    def fill(self, known: Known, said: Said, other_arguments: frozenset[str]) -> Iterator[dict[str, Any]]:
        """Arguments that might work, each combination once."""
        if any(slot.kind == "closed" for slot in self.slots):
            return
        word_slots = [slot for slot in self.slots if slot.kind == "word"]
        others = [slot for slot in self.slots if slot.kind != "word"]
        columns = [self._candidates(slot, known, said, other_arguments) for slot in others]
        names: list[tuple[Any, ...]] = list(windows(said.text, said.chunks, len(word_slots))) if word_slots else [()]
        if len(word_slots) == 1:
            names += [(value,) for key, value in known.values.items() if word_slots[0].name in known.keys.get(key, ())]
        for words, *values in islice(product(names, *columns), MOST_COMBINATIONS):
            arguments = dict(zip((slot.name for slot in others), values, strict=True))
            arguments |= dict(zip((slot.name for slot in word_slots), words, strict=True))
            yield {slot.name: [arguments[slot.name]] if slot.listed else arguments[slot.name] for slot in self.slots}

    def _candidates(self, slot: Slot, known: Known, said: Said, other_arguments: frozenset[str]) -> Sequence[Any]:
        if slot.kind == "choice":
            return slot.choices
        found: dict[Any, None] = {}
        for key, value in known.values.items():
            fields = known.keys.get(key, frozenset())
            if slot.name in fields:
                found[value] = None
            elif fields & other_arguments:
                continue  # it is what another argument takes
            elif slot.kind == "number":
                if (number := _number(value)) is not None:
                    found[number] = None
            elif isinstance(value, str) and (slot.kind == "any" or shape(value) in slot.shapes):
                found[value] = None
            elif isinstance(value, str) and slot.prefix and shape(slot.prefix + value) in slot.shapes:
                found[slot.prefix + value] = None
        return list(found)


@lru_cache(maxsize=16)
def windows(text: str, chunks: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    """So many words in a row that could be names: capitalised ones, then those that an identifier is made of, then any."""
    runs = [re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", line) for line in text.splitlines()]
    named = [[part.capitalize() for part in chunk.split("_") if part.isalpha()] for chunk in chunks if "_" in chunk]
    spans = [tuple(run[at : at + size]) for run in [*runs, *named] for at in range(len(run) - size + 1)]
    return tuple(islice(dict.fromkeys(sorted(spans, key=lambda span: not all(word[:1].isupper() for word in span))), MOST_NAMES))


def lookups_of(domain: Domain, examples: Iterable[ToolCall]) -> tuple[Lookup, ...]:
    """The read tools of a domain, those that need least first; `examples` show what their arguments look like."""
    seen: dict[str, dict[str, None]] = defaultdict(dict)
    for call in examples:
        for name, value in call.arguments.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str) and len(seen[name]) < 500:
                    seen[name].setdefault(item)
    for name, table in domain.base.tables.items():
        singular = name.removesuffix("s")
        for argument in (f"{singular}_id", singular, f"{singular}_number", f"{singular}_key"):
            for key in islice(table, 20):
                seen[argument].setdefault(key)
    found = []
    for tool in domain.tools:
        if tool.writes or domain.is_transfer(tool.name):
            continue
        parameters = tool.schema["function"]["parameters"]
        slots = [_slot(name, parameters["properties"][name], parameters, seen.get(name, {})) for name in parameters["required"]]
        found.append(Lookup(tool.name, tuple(slots)))
    return tuple(sorted(found, key=lambda lookup: len(lookup.slots)))


def _number(value: Any) -> int | float | None:
    text = str(value).replace(",", "").lstrip("$")
    if not text.replace(".", "", 1).isdigit() or len(text) > 15:
        return None
    return float(text) if "." in text else int(text)


def resolve(schema: Mapping[str, Any], parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference stands for; of alternatives the first that is not null."""
    for _ in range(8):
        if "$ref" in schema:
            schema = parameters.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
        elif "anyOf" in schema:
            schema = next((option for option in schema["anyOf"] if option.get("type") != "null"), {})
    return schema


def _slot(name: str, declared: Mapping[str, Any], parameters: Mapping[str, Any], seen: Iterable[str]) -> Slot:
    schema = resolve(declared, parameters)
    listed = schema.get("type") == "array"
    if listed:
        schema = resolve(schema.get("items", {}), parameters)
    if "enum" in schema or "const" in schema:
        return Slot(name, "choice", tuple(schema.get("enum", [schema.get("const")])), listed=listed)
    if schema.get("type") == "boolean":
        return Slot(name, "choice", (False, True), listed=listed)
    if schema.get("type") in ("integer", "number"):
        return Slot(name, "number", listed=listed)
    if schema.get("type") not in ("string", None):
        return Slot(name, "closed")
    examples = [*seen, *quoted(str(declared.get("description", "")))]
    if not examples:
        return Slot(name, "any", listed=listed)
    if sum(len(example.split()) > 2 for example in examples) * 2 > len(examples):
        return Slot(name, "closed")  # free text
    if all(example.replace(" ", "").replace("-", "").replace("'", "").isalpha() for example in examples):
        return Slot(name, "word", listed=listed)
    signs = {re.match(r"[^\w\s]*", example).group() for example in examples}  # type: ignore[union-attr]
    prefix = signs.pop() if len(signs) == 1 else ""
    return Slot(name, "shaped", shapes=frozenset(shape(example) for example in examples), prefix=prefix, listed=listed)


def quoted(description: str) -> list[str]:
    """The examples or choices that a description gives in quotes.

    >>> quoted('Either "no longer needed" or \\'ordered by mistake\\'.')
    ['no longer needed', 'ordered by mistake']
    """
    return [double or single for double, single in QUOTED.findall(description)]
