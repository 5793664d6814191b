"""What a scripted customer knows of its wishes, by identifiers; worked out once for each scenario.

`judgement` compares proposals with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from .messages import ToolCall
from .segments import normalise
from .tasks import Fact, Scenario, Wish
from .understanding import identifiers

T = TypeVar("T")


class Same(Generic[T]):
    """A cache key: this very object, whose content need not be hashed."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value


@dataclass(frozen=True, slots=True)
class KnownArgument:
    """An argument of a wish's call that has identifiers."""

    identifiers: frozenset[str]
    shapes: frozenset[str]
    """Of its identifiers."""
    fact: Fact | None
    """The fact that says it."""
    spoken: str
    """How the customer says it."""


@dataclass(frozen=True, slots=True)
class KnownWish:
    """A wish with its identifiers."""

    wish: Wish
    identifiers: frozenset[str]
    arguments: tuple[KnownArgument, ...]
    facts: tuple[tuple[Fact, frozenset[str]], ...]
    """Each fact with its identifiers."""
    compared: tuple[tuple[Fact, frozenset[str]], ...]
    """The same without those that the call does not come to: what holds in the other branch of a condition."""
    rejected: frozenset[str]
    """Identifiers of what the call does not come to."""
    mistaken: frozenset[str]
    """Identifiers that only its slip has."""
    misspoken: tuple[Fact, ...]
    """The facts that its slip gets wrong."""


@dataclass(frozen=True, slots=True)
class Known:
    """All wishes of a scenario."""

    wishes: tuple[KnownWish, ...]
    familiar: frozenset[str]
    """Every identifier that the customer could mention."""


@lru_cache(maxsize=2048)
def know(scenario_: Same[Scenario]) -> Known:
    """Work out what the customer of a scenario knows."""
    scenario = scenario_.value
    wishes = tuple(_know_wish(wish) for wish in scenario.wishes)
    facts = [*_with_identifiers(scenario.facts), *(fact for known in wishes for fact in known.facts)]
    spoken = frozenset(word for fact, _ in facts for word in identifiers(normalise(fact.text)))
    slips = (known.mistaken for known in wishes)
    return Known(wishes, spoken.union(*(known.identifiers for known in wishes), *(own for _, own in facts), *slips))


def _know_wish(wish: Wish) -> KnownWish:
    arguments = []
    for value in wish.call.arguments.values() if wish.call else ():
        if own := _identifiers_of(value):
            fact = _fact_for(wish, value)
            arguments.append(KnownArgument(own, frozenset(map(shape, own)), fact, _spoken(wish, value, fact)))
    everything = frozenset[str]().union(*(argument.identifiers for argument in arguments))
    facts = _with_identifiers(wish.facts)
    compared = tuple((fact, own) for fact, own in facts if _is_used(wish.call, fact))
    rejected = frozenset[str]().union(*(own for _, own in facts)) - everything if wish.call else frozenset[str]()
    if wish.slip is None:
        return KnownWish(wish, everything, tuple(arguments), facts, compared, rejected, frozenset(), ())
    said, slip = (frozenset(identifiers(normalise(text))) for text in (wish.text, wish.slip))
    misspoken = tuple(fact for fact, own in facts if _is_in(fact, own, wish.text, said) and not _is_in(fact, own, wish.slip, slip))
    return KnownWish(wish, everything, tuple(arguments), facts, compared, rejected, slip - said - everything, misspoken)


def _is_used(call: ToolCall | None, fact: Fact) -> bool:
    """Whether a call has a fact's value, or some of it; a fact without a value may be about anything."""
    if call is None or fact.value is None:
        return True
    parts = fact.value.values() if isinstance(fact.value, dict) else (fact.value,)
    given = call.arguments.values()
    return any(part == value or (isinstance(value, list | tuple) and part in value) for part in parts for value in given)


def _is_in(fact: Fact, own: frozenset[str], text: str, said: frozenset[str]) -> bool:
    return fact.text in text or not own.isdisjoint(said)


def _with_identifiers(facts: Iterable[Fact]) -> tuple[tuple[Fact, frozenset[str]], ...]:
    return tuple((fact, _identifiers_of(fact.value)) for fact in facts)


def _identifiers_of(value: Any) -> frozenset[str]:
    """The identifiers in a value: texts without spaces that hold a digit."""
    found: set[str] = set()
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if " " not in value and len(value) <= 64 and not value.isalpha() and any(map(str.isdigit, value)):
                found.add(value.lower().lstrip("#"))
        elif isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            stack.extend(value)
    return frozenset(found)


def shape(word: str) -> str:
    """What identifiers of one sort have in common: "w9" of "w1234", "10 digits" of an item."""
    return f"{len(word)} digits" if word.isdigit() else re.sub(r"\d+", "9", word)


def _fact_for(wish: Wish, value: Any) -> Fact | None:
    for fact in wish.facts:
        if fact.value is not None and (fact.value == value or (isinstance(value, list | tuple) and fact.value in value)):
            return fact
        if isinstance(fact.value, dict) and value in fact.value.values():
            return fact
    return None


def _spoken(wish: Wish, value: Any, fact: Fact | None) -> str:
    if fact is not None:
        return say_together(dict.fromkeys(other.text for other in wish.facts if other.slot == fact.slot))
    parts = value if isinstance(value, list | tuple) else [value]
    return " and ".join(wish.labels[part] for part in parts if isinstance(part, str) and part in wish.labels) or wish.text


_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.[\w.]{2,32}")
_ZIP = re.compile(r"\b\d{5}\b")
_NAME = re.compile(r"(?:[Nn]ame is|[Yy]ou are|[Yy]our name:?) ([A-Z][\w'-]+ [A-Z][\w'-]+)")


def facts_in_prose(scenario: Scenario, slot: str) -> list[Fact]:
    """What `Scenario.known` says under a name that holds the slot's, or, of who the customer is, in its prose."""
    name = slot.replace("_", " ")
    for key, value in scenario.known.items():
        plain = key.lower().replace("e-mail", "email").replace("_", " ")
        if name in plain and "unknown" not in plain:
            return [Fact(slot=slot, text=value)]
    pattern = {"email": _EMAIL, "zip": _ZIP, "name": _NAME}.get(slot)
    for value in scenario.known.values() if pattern else ():
        if found := pattern.search(value):  # type: ignore[union-attr]
            return [Fact(slot=slot, text=found.group(found.re.groups))]
    return []


def say_together(texts: Iterable[str]) -> str:
    """Facts of one slot in one phrase; what holds only on a condition comes after a comma."""
    first, *more = texts
    return "".join([first, *(f"{', ' if text.startswith('if ') else ' and '}{text}" for text in more)])
