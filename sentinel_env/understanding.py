r"""What an agent's text asks of the customer and what it tells: rules on normalised text, no model.

The text is cut into segments (sentences, lines of a list, entries of JSON). A segment *asks* when it is a question, carries a request
("please provide", "I'll need") or stands below a heading that does. The phrases of a slot are searched in the asking segments only,
so that a phrase is a plain noun such as `card number`, and the summary of an order is not taken for a question about it. Whoever still
asks who the customer is cannot want a go-ahead; and what a bare go-ahead names ("... with your gift card. Shall I proceed?") is not asked.

    read("Which order is it? And your e-mail, please.", {"order": (r"which order",)}).asks  ->  {"order", "email", "identity"}

Keys of a domain's phrases, whose values are regular expressions over lower-case text: `slot` (what is asked), `slot:value` (how a text
names that value, such as `"payment:gift_card": ("gift card",)`), `tells:refusal` and its like, `not:done` (participles of a state, such
as "delivered", which report no change); and `say:slot` (plain words: how the customer names the slot, "the order number").
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

_WHO = frozenset({*IDENTITY, "identity"})
_ACTS = frozenset({"confirm", "choice", "transfer_offer", "anything_else"})
"""What is asked besides details."""

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
    r"(?:once|after|when|if|before|until|as soon as|note|important|reminder)\b"
    r"|.*?\b(?:after (?:that|this)|once (?:you|it|that|this|the|submitted|confirmed|approved))\b"
)
_AMOUNT = re.compile(r"\$ ?\d|\b\d{1,9}\.\d\d\b")
"""An amount informs, except in the report of a change, which says it once more."""
_ONLY = re.compile(r"\bonly\b|\b(?:these are|this is|included?) (?:all|every)|\bno other\b")
_BARE = re.compile(
    r"(?!.*\b(?:which|what|where|whether|choose|select|provide|share|specify|tell me|let me know|confirm (?:the|your)|your chosen"
    r"|or(?! no))\b)"
)
"""What stands in a go-ahead is a part of it, and so is that nothing else is wanted, unless the sentence asks for more."""
_DETAILS_MISSING = re.compile(r"^if (?:so|yes),? (?:please )?let me know (?:the|which|your) ", re.MULTILINE)
_OPEN_QUESTION = re.compile(
    r"\bhow (?:would|do|should)? ?(?:you|i|we)(?:'d| would)? (?:like|want|wish)?(?: me)? ?to (?:proceed|continue|go on)\b"
    r"|\bhow you'd like\b|\bwhich (?:option|one|of these|path|you)\b[^,.]{0,30}\b(?:prefer|proceed)\b"
    r"|\b(?:would you like|do you want|prefer)\b.{0,150}\bor\b.{0,150}\?|\bwould you like to\b"
)
_OFFER = re.compile(
    r"^(?:or |also,? )?if (?:you|any|there|something)\b.{3,160}\b(?:let me know|just|reply|say|tell me|i can|i'll|i will|happy to)\b"
    r"|\blet me know if (?:you|there|anything)\b",
    re.MULTILINE,
)
"""A closing offer, which is all that a message asks when it asks nothing else."""


@dataclass(frozen=True, eq=False)
class _Rules:
    asks: tuple[tuple[str, re.Pattern[str]], ...]
    tells: tuple[tuple[str, re.Pattern[str]], ...]
    values: Mapping[str, tuple[tuple[str, re.Pattern[str]], ...]]
    confirm: re.Pattern[str]
    name: re.Pattern[str]


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for several; the word boundary or start of line that most begin with is tested once, which is five times faster."""
    groups: dict[str, list[str]] = {r"\b": [], "^": [], "": []}
    for pattern in patterns:
        start = next(start for start in groups if pattern.startswith(start))
        outside = pattern
        while (shorter := _GROUP.sub("", outside)) != outside:
            outside = shorter
        is_single = "|" not in outside
        groups[start if is_single else ""].append(pattern.removeprefix(start) if is_single else f"(?:{pattern})")
    return re.compile("|".join(f"{start}(?:{'|'.join(group)})" for start, group in groups.items() if group), re.MULTILINE)


_GROUP = re.compile(r"\([^()]*\)")
"""An innermost group; taking them out until none is left leaves what is outside of groups."""


@lru_cache(maxsize=64)
def _compile(phrases: tuple[tuple[str, tuple[str, ...]], ...]) -> _Rules:
    asks, tells, not_done = dict(ASKS), dict(TELLS), "(?!)"
    values: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for key, patterns in phrases:
        kind, colon, value = key.partition(":")
        if kind == "not":
            not_done = "|".join(patterns)
        elif kind == "tells":
            tells[value] = tells.get(value, ()) + patterns
        elif colon and kind != "say":
            values.setdefault(kind, []).append((value, _any(patterns)))
        elif not colon:
            asks[key] = asks.get(key, ()) + patterns
    return _Rules(
        tuple((slot, _any(patterns)) for slot, patterns in asks.items()),
        tuple((label, _any(pattern.replace("NOT_DONE", not_done) for pattern in patterns)) for label, patterns in tells.items()),
        {slot: tuple(known) for slot, known in values.items()},
        _any(asks["confirm"]),
        _any(asks["name"]),
    )


def _read(text: str, rules: _Rules) -> Understood:
    text = normalise(text)
    segments = tuple(split_segments(text))
    tells = _find_tells(segments, rules)
    asks = frozenset() if "transfer" in tells else _find_asks(text, segments, tells, rules)
    if "identity" in asks:
        tells -= {"inform"}  # before it is known who the customer is, nothing was looked up
    return Understood(asks, tells, text, segments)


_read_cached = lru_cache(maxsize=4096)(_read)


def _find_asks(text: str, segments: tuple[Segment, ...], tells: frozenset[str], rules: _Rules) -> frozenset[str]:
    asking = [segment.text for segment in segments if segment.asks]
    joined = "\n".join(asking)
    found = {slot for slot, pattern in rules.asks if pattern.search(text if slot == "anything_else" else joined)}
    if "confirm" in found and not found <= _ACTS:
        found = _beside_go_ahead(found, asking, rules)
    if "confirm" in found and _DETAILS_MISSING.search(joined):
        found = found - {"confirm"} | {"choice"}
    if not found.isdisjoint(_WHO):
        found.add("identity")
        if alternative := rules.name.search(text):  # "if you don't remember it, your name and zip code"
            found |= {"name", "zip"} if "zip" in text[alternative.start() :] else {"name"}
    if "transfer_offer" in found:
        found.add("choice")
    if not found - {"anything_else"} and _OPEN_QUESTION.search(joined):
        found.add("choice")
    if not found and _OFFER.search("\n".join(segment.text for segment in segments)):
        found.add("choice" if "refusal" in tells else "anything_else")
    return frozenset(found)


def _beside_go_ahead(found: set[str], asking: list[str], rules: _Rules) -> set[str]:
    """What is asked besides a go-ahead, without the details that it names; nobody asks a stranger for one."""
    open_ = [line for line in asking if not (_BARE.match(line) and rules.confirm.search(line))]
    text = "\n".join(open_)
    if any(pattern.search(text) for slot, pattern in rules.asks if slot in _WHO & found):
        return found - {"confirm"}
    text = "\n".join(line for line in open_ if not _ONLY.search(line))
    return {slot for slot, pattern in rules.asks if slot in found and (slot in _ACTS or pattern.search(text))}


def _find_tells(segments: tuple[Segment, ...], rules: _Rules) -> frozenset[str]:
    facts = "\n".join(segment.text for segment in segments if not (segment.text.endswith("?") or _CONDITIONAL.match(segment.text)))
    found = {label for label, pattern in rules.tells if pattern.search(facts)}
    if "done" not in found and _AMOUNT.search(facts):
        found.add("inform")
    return frozenset(found)
