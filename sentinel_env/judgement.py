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
_ENDING = re.compile(r"\bending (?:in |with )?(\d{3,4})\b")
_SHORT = 4
"""A number of up to so many digits is an identifier only where the text says so."""
_NOT_AN_ACTION = re.compile(
    r"\b(?:can't|cannot|can not|won't|not|unable|other orders?|unavailable|already|instead of|example|alternativ\w+|unchanged|reply no)\b"
)
_LEADS_TO = re.compile(r"(?:\b(?:for|to|into|with|new \w+)\b:?|->|=>)(.{1,120})")
_STOP_WORDS = frozenset(
    "a an the this that it its my your our you i we me of in on at to for from with without by and or one ones is are be has have please same as new current existing "
    "item items order id number product option options variant price difference payment method refund charge using use will would like proceed go ahead yes no confirm "
    "but exchange change modify update return cancel delivered pending original account shipping address following details shall should okay ok instead".split()
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
    if _other_verb(wish, region, domain) or _other_record(wish, region, familiar, domain):
        return wish.text, None
    said = frozenset(identifiers(understood.text))
    wrong, condition = _compare_identifiers(wish, understood, frozenset(_acted_on(region)), said, familiar)
    if wrong:
        return wrong, None
    for fact in wish.facts:
        named = values_named(region, fact.slot, domain.phrases)
        expected = values_named(normalise(f"{fact.text} {fact.value}"), fact.slot, domain.phrases)
        contradicted = bool(named and expected and not named & expected) or _other_ending(fact, region)
        if contradicted or _partly_said(fact, understood.text) or _leads_elsewhere(fact, wish, region, said):
            return fact.text, None
    return _left_out(wish, understood.text, said), condition


def _compare_identifiers(
    wish: Wish, understood: Understood, acted: frozenset[str], said: frozenset[str], familiar: frozenset[str]
) -> tuple[str | None, str | None]:
    assert wish.call is not None
    condition = foreign_seen = None
    for value in wish.call.arguments.values():
        wanted = _identifiers_of(value)
        fact = _fact_for(wish, value)
        if not wanted or (fact is not None and fact.slot in understood.asks):  # still being asked for: no objection yet
            continue
        shapes = {_shape(word) for word in wanted}
        missing = wanted - said
        foreign = {word for word in acted - familiar if _shape(word) in shapes}
        beside = {word for word in said - familiar if _shape(word) in shapes and len(word) > _SHORT}
        if missing and (wanted & said or foreign or beside):
            return _spoken(wish, value, fact), None
        if foreign:
            foreign_seen = foreign_seen or _spoken(wish, value, fact)
        if missing and fact is not None and not fact.text.startswith("I ") and not _covers(understood.text, fact.text):
            condition = condition or fact.text
    return (None if understood.asks & {"new_item", "item", "order"} else foreign_seen), condition


def _left_out(wish: Wish, text: str, said: frozenset[str]) -> str | None:
    """All facts of a slot, where the text has the words of some and nothing of another."""
    by_slot: dict[str, list[Fact]] = {}
    for fact in wish.facts:
        by_slot.setdefault(fact.slot, []).append(fact)
    for slot, facts in by_slot.items():
        told = [bool(_identifiers_of(fact.value) & said) or _said_words(text, fact.text) > 0 for fact in facts]
        named_otherwise = re.search(rf"\b{slot.replace('_', ' ')}s?: *[^\W\d]", text) is not None
        if (any(told) or (named_otherwise and not facts[0].text.startswith("I "))) and not all(told):
            return " and ".join(fact.text for fact in facts)
    return None


def _partly_said(fact: Fact, text: str) -> bool:
    """Whether a text has some parts of a structured value, such as an address, and other words in the place of the rest."""
    if not isinstance(fact.value, dict):
        return False
    parts = [normalise(part) for part in fact.value.values() if isinstance(part, str) and part and not (part.isupper() and len(part) == 3)]
    found = [re.search(rf"\b{re.escape(part)}\b", text) for part in parts]
    spans = [match.span() for match in found if match]
    if len(spans) < 2:
        return False
    between = text[min(start for start, _ in spans) : max(end for _, end in spans)]
    own = set(re.findall(r"\d+", " ".join(parts)))
    added = set(re.findall(r"\b\d+\b", between)) - own if len(between) < 200 else set()
    return len(spans) < len(parts) or bool(added)


def _other_ending(fact: Fact, region: str) -> bool:
    """Whether the text names only other last digits than the fact's "ending in 4242"."""
    own, named = set(_ENDING.findall(fact.text.lower())), set(_ENDING.findall(region))
    return bool(own and named) and not own & named


def _other_record(wish: Wish, region: str, familiar: frozenset[str], domain: Domain) -> bool:
    """Whether the proposal acts on a sort of record that the wish is not about, such as an order instead of the account."""
    assert wish.call is not None
    for key, pattern in _verbs(domain).records:
        if key not in wish.call.arguments and any(set(identifiers(found)) - familiar for found in pattern.findall(region)):
            return True
    return False


def _spoken(wish: Wish, value: Any, fact: Fact | None) -> str:
    if fact is not None:
        return " and ".join(dict.fromkeys(other.text for other in wish.facts if other.slot == fact.slot))
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
        if isinstance(fact.value, dict) and value in fact.value.values():
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
    records: tuple[tuple[str, re.Pattern[str]], ...]
    """The first parameter of a write, such as "order_id", and how a text names such a record."""


@lru_cache(maxsize=64)
def _verbs(domain: Domain) -> _Verbs:
    """What the domain's writes do, by the first word of their names, such as "cancel" and "return"."""
    words = sorted({tool.name.split("_")[0] for tool in domain.tools if tool.writes} - {"transfer"})
    stems = {word: rf"\b{re.escape(word.rstrip('ey') if len(word) > 4 else word)}" for word in words}
    keys = sorted({next(iter(tool.schema["function"]["parameters"]["properties"]), "") for tool in domain.tools if tool.writes})
    records = {key: rf"\b{re.escape(key.removesuffix('_id'))}s?(?: id| number)?:? \(?#?(\w{{1,64}})" for key in keys if key.endswith("_id")}
    return _Verbs(
        tuple((word, re.compile(stem)) for word, stem in stems.items()),
        re.compile("|".join([_ACTION, *stems.values()])),
        tuple((key, re.compile(pattern)) for key, pattern in records.items()),
    )


def _other_verb(wish: Wish, region: str, domain: Domain) -> bool:
    """Whether the proposal names an action of the domain, but none that the wish is about."""
    assert wish.call is not None
    wish_text = f"{wish.text.lower()} {wish.call.name}".replace("_", " ")
    found = [(verb, pattern) for verb, pattern in _verbs(domain).known if pattern.search(region)]
    return bool(found) and not any(pattern.search(wish_text) for _, pattern in found)


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[^\W_]+", normalise(text)) if word not in _STOP_WORDS)


def _said_words(text: str, description: str) -> float:
    """The share of a description's telling words that occur in a text; 1 where it has none."""
    words = _words(description)
    return sum(word in text for word in words) / len(words) if words else 1.0


def _covers(text: str, description: str) -> bool:
    return _said_words(text, description) >= 0.5


def _leads_elsewhere(fact: Fact, wish: Wish, region: str, said: frozenset[str]) -> bool:
    """Whether the text describes, in words, another outcome than the fact's: a variant or an address that lacks most of its words."""
    if not (fact.slot.startswith("new_") or fact.slot == "address") or _identifiers_of(fact.value) & said:
        return False
    known = _words(" ".join([wish.text, *wish.labels.values(), *(other.text for other in wish.facts)]))
    others = [_words(label) for key, label in wish.labels.items() if key.lower().lstrip("#") not in _identifiers_of(fact.value)]
    wanted = _words(fact.text) - frozenset().union(*others)
    described = [words for span in _LEADS_TO.findall(region) if (words := _words(span))]
    if wanted and any(words - known for words in described) and 2 * sum(word in region for word in wanted) < len(wanted):
        return True
    return "same" in fact.text.lower() and any(_changes_more(line, known) for line in region.split("\n"))


def _changes_more(line: str, known: frozenset[str]) -> bool:
    """Whether "a (red, small) -> a (blue, large)" changes more than what the customer spoke of."""
    before, arrow, after = line.partition("->")
    old, new = _words(before), _words(after)
    return bool(arrow) and len(old & new) >= 2 and any(not word.isdigit() for word in new - old - known)
