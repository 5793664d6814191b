"""What the user of a task can say, as words and values, and how values look."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from sentinel_env.tasks import Scenario

_CHUNK = re.compile(r"[^\s,;()\[\]{}\"“”<>|=]+")
_WORD = re.compile(r"[^\W_]+(?:[.'’][^\W_]+)*")
_COMPOUND = re.compile(r"(?<![^\W_])[^\W_]+(?:-[^\W_]+)+")
_EDGES = ".:!?'’`*"
MOST_CHARACTERS = 20_000
"""Of a longer text the beginning is read."""


class Said:
    """The words of a scenario: everything that the user could tell, not what the scenario calls unknown."""

    def __init__(self, scenario: Scenario, more: Iterable[str] = ()) -> None:
        """Read a scenario, with further texts that are told."""
        facts = [*scenario.facts, *(fact for wish in scenario.wishes for fact in wish.facts)]
        known = [part for name, value in scenario.known.items() for part in (name, value)]
        personal = [*scenario.known.values(), *(fact.text for fact in scenario.facts)]
        told = [*known, scenario.goal, scenario.instructions or "", scenario.persona or "", *(wish.text for wish in scenario.wishes)]
        self.text = "\n".join(dict.fromkeys(text for text in [*personal, *told, *(fact.text for fact in facts), *more] if text))[
            :MOST_CHARACTERS
        ]
        self.lower = self.text.lower()
        self.chunks = tuple(dict.fromkeys(chunk.strip(_EDGES) for chunk in _CHUNK.findall(self.text) if chunk.strip(_EDGES)))
        """Words and identifiers as they stand, in order."""
        self.plain = frozenset(plain(chunk) for chunk in self.chunks)
        self.words = frozenset(stems(self.text))

    def says(self, value: Any) -> bool:
        """Whether the user tells a value, whole or all of its words; upper and lower case, and a leading #, are the same."""
        if value is None or isinstance(value, bool):
            return True
        if isinstance(value, list | tuple | set):
            return all(self.says(item) for item in value)
        if isinstance(value, dict):
            return all(self.says(item) for item in value.values())
        text = plain(value)
        if not text or text in self.plain or (" " in text and text in self.lower):
            return True
        parts = words(text)
        return bool(parts) and not is_identifier(text) and all(stem(part) in self.words for part in parts)


def plain(value: Any) -> str:
    """A value as text, comparable: lower case, no leading #, whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().lower().lstrip("#")


def words(text: str) -> list[str]:
    """The words and numbers of a text, lower case, those of a compound such as "t-shirt" apart and together."""
    found = _WORD.findall(text.lower())
    joined = [part.replace("-", "") for part in _COMPOUND.findall(text.lower())] if "-" in text else []
    return [*found, *joined]


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A word without its ending, a number without an empty fraction.

    >>> stem("boots"), stem("shelves"), stem("ann's"), stem("ordered"), stem("17.0")
    ('boot', 'shelf', 'ann', 'order', '17')
    """
    word = word.replace("’", "'").removesuffix("'s")
    if word.replace(".", "", 1).isdigit():
        return word.rstrip("0").rstrip(".") if "." in word else word
    for ending, least in (("ies", 5), ("ves", 6), ("es", 5), ("s", 4)):
        if word.endswith(ending) and len(word) >= least and not word.endswith("ss"):
            kept = word.removesuffix(ending)
            if ending == "es" and kept[-1:] not in "sxzho":
                continue
            return kept + {"ies": "y", "ves": "f"}.get(ending, "")
    for ending, least in (("ed", 6), ("ing", 7)):
        if word.endswith(ending) and len(word) >= least and not word.endswith("eed"):
            kept = word.removesuffix(ending)
            return kept[:-1] if len(kept) > 4 and kept[-1] == kept[-2] != "s" else kept
    return word


def stems(text: str) -> Iterator[str]:
    """The words of a text by their stems."""
    return (stem(word) for word in words(text))


def is_identifier(text: str) -> bool:
    """Whether a value is one that cannot be put together from words: it has a digit and no space, and more than a short number.

    >>> is_identifier("#W1702445"), is_identifier("mia_garcia_4516"), is_identifier("12"), is_identifier("Apt 2")
    (True, True, False, False)
    """
    return " " not in text and any(map(str.isdigit, text)) and (len(text) > 4 or not text.isdigit())


@lru_cache(maxsize=16384)
def shape(text: str) -> str:
    """How values of one sort look: letters as "a", digits as their count or, up to four, as "n"; an e-mail address is "@".

    >>> shape("#W1702445"), shape("ann_lee_1234"), shape("ann@example.com"), shape("Ann"), shape("New York")
    ('#a7', 'a_a_n', '@', 'a', 'a a')
    """
    if "@" in text.strip("@"):
        return "@"
    return re.sub(r"\d+", _counted, re.sub(r"[^\W\d_]+", "a", text[:80]))


def _counted(digits: re.Match[str]) -> str:
    return str(len(digits.group())) if len(digits.group()) > 4 else "n"
