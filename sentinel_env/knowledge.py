"""What a scripted customer knows of its wishes, by identifiers; worked out once for each scenario.

`judgement` compares proposals with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

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
    return Known(wishes, spoken.union(*(known.identifiers for known in wishes), *(own for _, own in facts)))


def _know_wish(wish: Wish) -> KnownWish:
    arguments = []
    for value in wish.call.arguments.values() if wish.call else ():
        if own := _identifiers_of(value):
            fact = _fact_for(wish, value)
            arguments.append(KnownArgument(own, frozenset(map(shape, own)), fact, _spoken(wish, value, fact)))
    everything = frozenset[str]().union(*(argument.identifiers for argument in arguments))
    return KnownWish(wish, everything, tuple(arguments), _with_identifiers(wish.facts))


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
        return " and ".join(dict.fromkeys(other.text for other in wish.facts if other.slot == fact.slot))
    parts = value if isinstance(value, list | tuple) else [value]
    return " and ".join(wish.labels[part] for part in parts if isinstance(part, str) and part in wish.labels) or wish.text
