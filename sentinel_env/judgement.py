"""Whether a proposal that an agent wants agreed to fits what the customer wished for.

Identifiers decide where the text has any: of each shape (all of "#W9", all ten-digit numbers) the wish's own must be there and no
foreign one in a line that states an action. Words decide for what the domain's phrases name ("PayPal" against "my gift card") and for
what a change leads to (a variant, an address). What can be neither verified nor refuted is agreed to with the condition said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .domain import Domain
from .tasks import Fact, Wish
from .understanding import Understood, identifiers, normalise, values_named

_ACTION = r"\b(?:chang|switch|swap|replac|updat|proceed|renew|use|using|->|=>|to:|new)"
_NOT_AN_ACTION = re.compile(
    r"\b(?:can't|cannot|can not|won't|not|unable|other orders?|unavailable|already|instead of|example|alternativ\w+|unchanged|reply no)\b"
)
_LEADS_TO = re.compile(r"(?:\b(?:for|to|into|with|new \w+)\b:?|->|=>)(.{1,120})")
_STOP_WORDS = frozenset(
    "a an the this that it its my your our you i we me of in on at to for from with without by and or one ones is are be has have please same as new current existing "
    "item items order id number product option options variant price difference payment method refund charge using use will would like proceed go ahead yes no confirm "
    "exchange change modify update return cancel delivered pending original account shipping address following details shall should okay ok instead".split()
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the customer thinks of a proposal."""

    wishes: tuple[int, ...]
    """The wishes that it is about, by position."""
    correction: str | None
    """What would be right, where it is wrong."""
    condition: str | None
    """What it leaves open, where nothing is wrong."""


def judge(understood: Understood, wishes: Sequence[Wish], open_: Sequence[int], facts: Iterable[Fact], domain: Domain) -> Judgement:
    """Compare a proposal with the open wishes; `wishes[open_[0]]` is the one that is being talked about.

    Args:
        understood: The message that proposes.
        wishes: All wishes, also settled ones: what belongs to them is no foreign identifier.
        open_: Positions of the unsettled wishes that have a call.
        facts: What the customer knows about itself.
        domain: For the names of its tools and its phrases.
    """
    region = _region(understood, domain)
    said = identifiers(understood.text)
    owned = {at: _identifiers_of(wish.call.arguments) if wish.call else frozenset() for at, wish in enumerate(wishes)}
    about = _about(open_, owned, frozenset(said))
    familiar = frozenset().union(
        *owned.values(), *(_identifiers_of(fact.value) | frozenset(identifiers(normalise(fact.text))) for fact in facts)
    )
    familiar = familiar.union(*(identifiers(normalise(fact.text)) for wish in wishes for fact in wish.facts))
    condition: str | None = None
    for at in about:
        correction, open_point = _compare(wishes[at], understood, region, familiar, domain)
        if correction:
            return Judgement(about, correction, None)
        condition = condition or open_point
    return Judgement(about, None, condition)


def _about(open_: Sequence[int], owned: dict[int, frozenset[str]], said: frozenset[str]) -> tuple[int, ...]:
    """The wishes of which the text names an identifier that no other open wish has; else the one being talked about."""
    named = []
    for at in open_:
        others = frozenset().union(*(owned[other] for other in open_ if other != at))
        if (owned[at] - others) & said:
            named.append(at)
    return tuple(named) or tuple(open_[:1])


def _compare(wish: Wish, understood: Understood, region: str, familiar: frozenset[str], domain: Domain) -> tuple[str | None, str | None]:
    """(what would be right, None), or (None, what the proposal leaves open)."""
    assert wish.call is not None
    if _other_verb(wish, region, domain):
        return wish.text, None
    said, acted = frozenset(identifiers(understood.text)), frozenset(_acted_on(region))
    condition: str | None = None
    foreign_seen: str | None = None
    for value in wish.call.arguments.values():
        wanted = _identifiers_of(value)
        if not wanted:
            continue
        shapes = {_shape(word) for word in wanted}
        present, missing = wanted & said, wanted - said
        foreign = {word for word in acted - familiar if _shape(word) in shapes}
        other = {word for word in said - familiar if _shape(word) in shapes and len(word) > 4}
        fact = _fact_for(wish, value)
        choosing = fact is not None and fact.slot in understood.asks
        if missing and not choosing and (present or foreign or other):
            return _spoken(wish, value, fact), None
        if foreign and not choosing:
            foreign_seen = foreign_seen or _spoken(wish, value, fact)
        if missing and not choosing and fact is not None and not _covers(understood.text, fact.text):
            condition = condition or fact.text
    if foreign_seen and not understood.asks & {"new_item", "item", "order"}:
        return foreign_seen, None
    for fact in wish.facts:
        named = values_named(region, fact.slot, domain.phrases)
        expected = values_named(normalise(f"{fact.text} {fact.value}"), fact.slot, domain.phrases)
        if named and expected and not named & expected:
            return fact.text, None
        if _leads_elsewhere(fact, wish, region, said):
            return fact.text, None
    return None, condition


def _spoken(wish: Wish, value: Any, fact: Fact | None) -> str:
    if fact is not None:
        return fact.text
    labels = [
        wish.labels[word]
        for word in (value if isinstance(value, list | tuple) else [value])
        if isinstance(word, str) and word in wish.labels
    ]
    return " and ".join(labels) if labels else wish.text


def _fact_for(wish: Wish, value: Any) -> Fact | None:
    for fact in wish.facts:
        if fact.value is not None and (fact.value == value or (isinstance(value, list | tuple) and fact.value in value)):
            return fact
    return None


def _region(understood: Understood, domain: Domain) -> str:
    """The lines that state an action; the whole text where none does."""
    action = _verbs(domain).action
    lines = [
        segment.text
        for segment in understood.segments
        if (segment.listed or action.search(segment.text)) and not _NOT_AN_ACTION.search(segment.text)
    ]
    return "\n".join(lines) or understood.text


def _acted_on(region: str) -> list[str]:
    """The identifiers in the region; a number of up to four digits counts only behind a word that makes it one."""
    found = []
    for word in identifiers(region):
        if (
            not word.isdigit()
            or len(word) > 4
            or re.search(
                rf"(?:\b(?:item|id|ids|to|for|with|into|order|by|number|and)|#|->|=>)\W{{0,3}}{word}\b(?! ?[\w-]+ ?(?:inch|piece|gb|days))",
                region,
            )
        ):
            found.append(word)
    return found


@lru_cache(maxsize=100_000)
def _shape(word: str) -> str:
    return f"{len(word)} digits" if word.isdigit() else re.sub(r"\d+", "9", word)


def _identifiers_of(value: Any) -> frozenset[str]:
    """The identifiers in a value: texts without spaces that hold a digit."""
    found: set[str] = set()
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            stack.extend(value)
        elif isinstance(value, str) and " " not in value and len(value) <= 64 and any(letter.isdigit() for letter in value):
            found.add(value.lower().lstrip("#"))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Verbs:
    known: tuple[tuple[str, re.Pattern[str]], ...]
    action: re.Pattern[str]


@lru_cache(maxsize=64)
def _verbs(domain: Domain) -> _Verbs:
    """What the domain's writes do, by the first word of their names, such as "cancel" and "return"."""
    words = sorted({tool.name.split("_")[0] for tool in domain.tools if tool.writes} - {"transfer"})
    stems = {word: rf"\b{re.escape(word.rstrip('ey') if len(word) > 4 else word)}" for word in words}
    return _Verbs(tuple((word, re.compile(stem)) for word, stem in stems.items()), re.compile("|".join([_ACTION, *stems.values()])))


def _other_verb(wish: Wish, region: str, domain: Domain) -> bool:
    """Whether the proposal names an action of the domain, but none that the wish is about."""
    assert wish.call is not None
    wish_text = f"{wish.text.lower()} {wish.call.name}".replace("_", " ")
    found = [(verb, pattern) for verb, pattern in _verbs(domain).known if pattern.search(region)]
    return bool(found) and not any(pattern.search(wish_text) for _, pattern in found)


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[^\W_]+", normalise(text)) if word not in _STOP_WORDS)


def _covers(text: str, description: str) -> bool:
    """Whether at least half of a description's telling words occur in a text."""
    words = _words(description)
    return sum(word in text for word in words) * 2 >= len(words)


def _leads_elsewhere(fact: Fact, wish: Wish, region: str, said: frozenset[str]) -> bool:
    """Whether the text describes, in words, another outcome than the fact's: a variant or an address that lacks most of its words."""
    if not (fact.slot.startswith("new_") or fact.slot == "address") or _identifiers_of(fact.value) & said:
        return False
    known = _words(" ".join([wish.text, *wish.labels.values(), *(other.text for other in wish.facts)]))
    wanted = _words(fact.text) - frozenset().union(
        *(_words(label) for key, label in wish.labels.items() if key.lower() not in _identifiers_of(fact.value))
    )
    described = [words for span in _LEADS_TO.findall(region) if (words := _words(span))]
    if not wanted or not any(words - known for words in described):
        return False
    return sum(word in region for word in wanted) < 0.6 * len(wanted)
