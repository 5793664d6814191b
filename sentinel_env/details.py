"""What a scripted customer tells of itself and of its wishes when it is asked for details."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from .domain import Domain
from .knowledge import facts_in_prose
from .tasks import Fact, Scenario, Wish
from .understanding import IDENTITY, Understood

_NOUNS = {"email": "my e-mail address", "name": "my name", "zip": "my zip code", "user": "my user id", "identity": "that"}
MARKS = frozenset({"identity", "confirm", "choice", "transfer_offer", "anything_else"})
"""What is asked besides details."""
_NOT_OF_A_WISH = MARKS.union(IDENTITY)
_ORDER = {"order": 0, "item": 1, "new_item": 2, "payment": 3, "reason": 4, "address": 5}

Part = tuple[str, str]
"""A key of `users._WORDINGS`, or "" for plain words, and what fills it."""


class Details:
    """What the customer of one conversation knows; it remembers by what it has identified itself."""

    def __init__(self, scenario: Scenario, wishes: Sequence[Wish], domain: Domain) -> None:
        self._scenario, self._wishes, self._domain = scenario, wishes, domain
        self._identified: set[str] = set()

    def facts(self, slot: str, wish: Wish, raised: Sequence[int]) -> list[Fact]:
        """What the customer knows of a slot: for this wish, else in general, else for another raised wish."""
        for facts in (wish.facts, self._scenario.facts):
            if found := [fact for fact in facts if fact.slot == slot]:
                return found
        for at in raised:
            if found := [fact for fact in self._wishes[at].facts if fact.slot == slot]:
                return found
        return facts_in_prose(self._scenario, slot)

    def tell(self, heard: Understood, wish: Wish, raised: Sequence[int]) -> tuple[list[Part], list[Fact]]:
        """(answers to everything that a message about this wish asks for, the facts that they tell)."""
        known, unknown = self._identity(heard)
        slots = sorted(heard.asks - _NOT_OF_A_WISH, key=lambda slot: (_ORDER.get(slot, len(_ORDER)), slot))
        told: list[Fact] = []
        for slot in slots:
            facts = self.facts(slot, wish, raised)
            told += facts
            known += [fact.text for fact in facts if fact.text not in known]
            if not facts:
                unknown.append(self._noun(slot))
        asking = "\n".join(segment.text for segment in heard.segments if segment.asks) if self._scenario.known else ""
        for key, value in self._scenario.known.items() if asking else ():
            words = content_words(key)
            if words and value not in known and all(word in asking for word in words):
                known.append(value)
        parts: list[Part] = []
        if known:
            short = len(known) == 1 and not known[0].startswith("I ")
            parts.append(("say" if short else "list", ", ".join(known)))
            unknown = [] if "my e-mail address" not in unknown and not slots else unknown
        if unknown:
            forgotten = "identity" in heard.asks and not slots
            parts.append(("forgotten" if forgotten else "unknown", " or ".join(dict.fromkeys(unknown))))
        return parts, told

    def _noun(self, slot: str) -> str:
        return self._domain.phrases.get(f"say:{slot}", (_NOUNS.get(slot, f"the {slot.replace('_', ' ')}"),))[0]

    def _identity(self, heard: Understood) -> tuple[list[str], list[str]]:
        """What the customer says of who it is, and what of it that was asked it does not know."""
        if "identity" not in heard.asks:
            return [], []
        asked = [slot for slot in IDENTITY if slot in heard.asks]
        if not asked:
            asked = ["email"] if self.facts("email", self._wishes[0], ()) else ["name", "zip"]
        have = {slot: facts[0].text for slot in asked if (facts := self.facts(slot, self._wishes[0], ()))}
        if "email" in asked and "email" in have and not ("email" in self._identified and {"name", "zip"} & set(asked)):
            self._identified.add("email")
            return [have["email"]], []
        rest = [slot for slot in asked if slot != "email" or "email" not in have]
        return [have[slot] for slot in rest if slot in have], [self._noun(slot) for slot in rest if slot not in have]


_COMMON = frozenset(
    ("the", "a", "an", "my", "your", "of", "in", "for", "to", "and", "or", "is", "it", "number", "id", "with", "from", "on", "i")
)


@lru_cache(maxsize=1024)
def content_words(text: str) -> tuple[str, ...]:
    """The words of a text that say what it is about, in lower case."""
    return tuple(word for word in re.findall(r"[^\W_]+", text.lower()) if word not in _COMMON)
