"""What a scenario's user says: the texts that can be put otherwise, and the scenario in other words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from sentinel_env.tasks import Fact, Scenario

from .slices import leaves


def texts_of(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """(name, text) of what can be said otherwise; what is only a value, such as an e-mail address, cannot."""
    if not scenario.wishes or not _is_sum(scenario):
        yield "goal", scenario.goal
    for at, wish in enumerate(scenario.wishes):
        yield f"wish_{at}", wish.text
        if wish.slip is not None:
            yield f"wish_{at}_slip", wish.slip
        for number, fact in enumerate(wish.facts):
            if not _is_literal(fact):
                yield f"wish_{at}_fact_{number}", fact.text


def _is_sum(scenario: Scenario) -> bool:
    """Whether the goal is the wishes one after the other."""
    return scenario.goal == " ".join(wish.text for wish in scenario.wishes)


def _is_literal(fact: Fact) -> bool:
    values = {word for _, text in leaves(fact.value) for word in re.findall(r"\w+", text)}
    return fact.value is not None and values.issuperset(re.findall(r"\w+", fact.text))


def with_texts(scenario: Scenario, texts: Mapping[str, str]) -> Scenario:
    """The scenario in other words."""
    wishes = []
    for at, wish in enumerate(scenario.wishes):
        facts = (
            fact.model_copy(update={"text": texts.get(f"wish_{at}_fact_{number}", fact.text)}) for number, fact in enumerate(wish.facts)
        )
        words = {"text": texts[f"wish_{at}"], "slip": texts.get(f"wish_{at}_slip", wish.slip), "facts": tuple(facts)}
        wishes.append(wish.model_copy(update=words))
    goal = texts["goal"] if "goal" in texts else " ".join(wish.text for wish in wishes)
    return scenario.model_copy(update={"goal": goal, "wishes": tuple(wishes)})


def in_form(original: str, reworded: str) -> str:
    """Without the full stop that many put behind a phrase which has none."""
    return reworded if original.endswith((".", "!", "?")) else reworded.removesuffix(".")


def other_form(original: str, reworded: str) -> str | None:
    """Why a fact does not fit where the original stands in what a user says: a phrase after "It's", or a sentence with "I"."""
    for what, has in _FORMS:
        if has(original) != has(reworded):
            return f"it must {'' if has(original) else 'not '}{what}, as the original does{'' if has(original) else ' not'}"
    return None


_FORMS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ('begin with "I"', lambda text: text.startswith(("I ", "I'"))),
    ("end like a sentence", lambda text: text.endswith((".", "!", "?"))),
)
