r"""What an agent's text asks of the customer and what it tells: rules on normalised text, no model.

The text is cut into segments (sentences, lines of a list, entries of JSON). A segment *asks* when it is a question, carries a request
("please provide", "I'll need") or stands in a list whose heading does. The phrases of a slot are searched in the asking segments only,
so that a phrase is a plain noun such as `card number`, and the summary of an order is not taken for a question about it.

    read("Which order is it? And your e-mail, please.", {"order": (r"which order",)}).asks  ->  {"order", "email", "identity"}

Keys of a domain's phrases, whose values are regular expressions over lower-case text: `slot` (what is asked), `slot:value` (how a text
names that value, such as `"payment:gift_card": ("gift card",)`), `tells:refusal` and its like; and `say:slot` (plain words: how the
customer names the slot, "the order number").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from .segments import Segment, normalise, split_segments
from .vocabulary import ASKS, TELLS

Phrases = Mapping[str, tuple[str, ...]]

IDENTITY = ("email", "name", "zip", "user")
"""The slots that say who the customer is."""

_CACHED_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True, eq=False)
class Understood:
    """What a message asks and tells."""

    asks: frozenset[str]
    """Slots, with "identity" for those that say who the customer is; "confirm" (a yes or no to a change), "choice", "transfer_offer",
    "anything_else"."""
    tells: frozenset[str]
    """Some of "transfer", "refusal", "done", "inform"."""
    text: str
    """The normalised text."""
    segments: tuple[Segment, ...]


def read(text: str, phrases: Phrases) -> Understood:
    """Understand one message of an agent. Never raises; takes time linear in the text."""
    rules = _compile(tuple(phrases.items()))
    return _read_cached(text, rules) if len(text) <= _CACHED_CHARACTERS else _read(text, rules)


def values_named(text: str, slot: str, phrases: Phrases) -> frozenset[str]:
    """The values of a slot that a normalised text names, by the domain's `slot:value` phrases."""
    known = _compile(tuple(phrases.items())).values.get(slot, ())
    return frozenset(value for value, pattern in known if pattern.search(text))


_WORD = re.compile(r"(?<![\w.$])\w{1,64}(?!\.\d)(?!\w)")


def identifiers(text: str) -> list[str]:
    """The words of a normalised text that hold a digit, without "#"; amounts of money and decimals are left out.

    >>> identifiers("exchange 123 in #w77 for $12.50, gift_card_9")
    ['123', 'w77', 'gift_card_9']
    """
    return [word for word in _WORD.findall(text) if not word.isalpha() and any(letter.isdigit() for letter in word)]


_CONDITIONAL = re.compile(
    r"^(?:once|after|when|if|before|until|as soon as|note|important|reminder)\b|\?$|\bonce (?:you|it|that|this|the|submitted"
    r"|confirmed|approved)\b"
)
_REMINDER = re.compile(
    r"\b(?:be able to (?:modify|cancel|make|change)|can't be cancelled or|cannot be cancelled or|no longer|only be (?:done"
    r"|requested|submitted|performed)|if you (?:can't|don't|cannot))\b"
)
_AMOUNT = re.compile(r"\$ ?\d|\b\d{1,9}\.\d\d\b")
"""An amount informs, except in the report of a change, which says it once more."""
_ONLY = re.compile(r"\bconfirm\b.{0,60}\bonly\b|\bonly (?:item|change)|\bthis is the only|\bthese are (?:all|the only)")
"""That nothing else is wanted belongs to the go-ahead, where one is asked."""
_DETAILS_MISSING = re.compile(r"^if (?:so|yes),? (?:please )?let me know (?:the|which|your) ", re.MULTILINE)
_OPEN_QUESTION = re.compile(
    r"\bhow (?:would|do|should)? ?(?:you|i|we)(?:'d| would)? (?:like|want|wish)?(?: me)? ?to (?:proceed|continue|go on)\b"
    r"|\bhow you'd like\b"
    r"|\b(?:would you like|do you want|prefer)\b.{0,150}\bor\b.{0,150}\?"
)


@dataclass(frozen=True, eq=False)
class _Rules:
    asks: tuple[tuple[str, re.Pattern[str]], ...]
    tells: tuple[tuple[str, re.Pattern[str]], ...]
    values: Mapping[str, tuple[tuple[str, re.Pattern[str]], ...]]
    confirm: re.Pattern[str]
    name: re.Pattern[str]


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for several; the word boundary that most begin with is tested once, which makes the search five times faster."""
    at_word: list[str] = []
    anywhere: list[str] = []
    for pattern in patterns:
        is_single = pattern.startswith(r"\b") and "|" not in _GROUP.sub("", _GROUP.sub("", _GROUP.sub("", pattern)))
        (at_word if is_single else anywhere).append(pattern)
    joined = [rf"\b(?:{'|'.join(pattern.removeprefix(chr(92) + 'b') for pattern in at_word)})"] if at_word else []
    return re.compile("|".join(joined + [f"(?:{pattern})" for pattern in anywhere]), re.MULTILINE)


_GROUP = re.compile(r"\([^()]*\)")
"""An innermost group; taking it out three times leaves what is outside of groups."""


@lru_cache(maxsize=64)
def _compile(phrases: tuple[tuple[str, tuple[str, ...]], ...]) -> _Rules:
    asks, tells = dict(ASKS), dict(TELLS)
    values: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for key, patterns in phrases:
        kind, colon, value = key.partition(":")
        if kind == "tells":
            tells[value] = tells.get(value, ()) + patterns
        elif colon and kind != "say":
            values.setdefault(kind, []).append((value, _any(patterns)))
        elif not colon:
            asks[key] = asks.get(key, ()) + patterns
    return _Rules(
        tuple((slot, _any(patterns)) for slot, patterns in asks.items()),
        tuple((label, _any(patterns)) for label, patterns in tells.items()),
        {slot: tuple(known) for slot, known in values.items()},
        _any(asks["confirm"]),
        _any(asks["name"]),
    )


def _read(text: str, rules: _Rules) -> Understood:
    text = normalise(text)
    segments = tuple(split_segments(text))
    tells = _find_tells(segments, rules)
    asks = frozenset() if "transfer" in tells else _find_asks(text, segments, rules)
    return Understood(asks, tells, text, segments)


_read_cached = lru_cache(maxsize=4096)(_read)


def _find_asks(text: str, segments: tuple[Segment, ...], rules: _Rules) -> frozenset[str]:
    asking = "\n".join(segment.text for segment in segments if segment.asks)
    if _ONLY.search(asking) and rules.confirm.search(asking):
        asking = "\n".join(segment.text for segment in segments if segment.asks and not _ONLY.search(segment.text)) + "\nconfirm?"
    found = {slot for slot, pattern in rules.asks if pattern.search(text if slot == "anything_else" else asking)}
    if "confirm" in found and _DETAILS_MISSING.search(asking):
        found.discard("confirm")
        found.add("choice")
    if "transfer_offer" in found:
        found.add("choice")
    if not found.isdisjoint(IDENTITY):
        found.add("identity")
    if "identity" in found and (alternative := rules.name.search(text)):  # "if you don't remember it, your name and zip code"
        found |= {"name", "zip"} if "zip" in text[alternative.start() :] else {"name"}
    if not found - {"anything_else"} and _OPEN_QUESTION.search(asking):
        found.add("choice")
    return frozenset(found)


def _find_tells(segments: tuple[Segment, ...], rules: _Rules) -> frozenset[str]:
    facts = "\n".join(segment.text for segment in segments if not _CONDITIONAL.search(segment.text))
    found = {label for label, pattern in rules.tells if pattern.search(facts)}
    if "done" not in found and _AMOUNT.search(facts):
        found.add("inform")
    return frozenset(found)
