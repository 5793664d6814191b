"""Slips: what a scripted customer gets wrong at first, and how it puts that right.

A wish with a slip is raised in the slip's words. The customer notices when it is asked to confirm, or when the agent comes back to what
was wrong; whoever writes without asking writes the wrong thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .descriptions import share_said
from .knowledge import Same, know, say_together
from .tasks import Fact, Scenario
from .understanding import Understood, identifiers

_IDENTIFIER = re.compile(r"#?\w*\d\w*")


def is_put_right(heard: Understood, scenario: Scenario, at: int) -> bool:
    """Whether a message has what the customer meant in the place of its mistake: then there is nothing to correct."""
    known = know(Same(scenario)).wishes[at]
    said = frozenset(identifiers(heard.text))
    right = [(fact, own) for fact, own in known.facts if fact in known.misspoken]
    return bool(right) and all(own & said if own else share_said(heard.text, fact.text) == 1 for fact, own in right)


def is_corrected(told: Iterable[Fact], scenario: Scenario, at: int) -> bool:
    """Whether what the customer tells when asked for details is what its mistake got wrong."""
    misspoken = know(Same(scenario)).wishes[at].misspoken
    return any(fact in misspoken for fact in told)


def is_taken_up(heard: Understood, scenario: Scenario, at: int) -> bool:
    """Whether a message speaks of what only the customer's mistake has."""
    return not know(Same(scenario)).wishes[at].mistaken.isdisjoint(identifiers(heard.text))


def correction(scenario: Scenario, at: int) -> str:
    """What is right, such as "it is order #W2"; empty where the facts do not say what was wrong."""
    misspoken = know(Same(scenario)).wishes[at].misspoken
    return f"it is {say_together(map(_named, misspoken))}" if misspoken else ""


def _named(fact: Fact) -> str:
    """A bare identifier with what it identifies."""
    return f"{fact.slot.replace('_', ' ')} {fact.text}" if _IDENTIFIER.fullmatch(fact.text) else fact.text
