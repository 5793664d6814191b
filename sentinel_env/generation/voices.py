"""Voices: the same request as different people put it. What is said round it holds no fact, so nothing has to be checked again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from sentinel_env.knobs import Voice

_BEFORE: dict[Voice, tuple[str, ...]] = {
    "polite": ("Good day to you.", "Hello, I would be grateful for some help.", "I hope you can help me."),
    "chatty": (
        "Hi there! What a week I am having, the dog is ill and it has not stopped raining.",
        "Hello! I nearly forgot to write, my sister had to remind me.",
        "Hey, I hope you had a nice weekend, mine went by far too fast.",
    ),
    "upset": ("Honestly, I am tired of this.", "This is the third time that I try to reach anybody.", "I am not happy at all."),
}
_AFTER: dict[Voice, tuple[str, ...]] = {
    "polite": ("Thank you very much.", "Many thanks in advance."),
    "chatty": ("That is what it comes down to, anyway.", "You would make my day."),
    "upset": ("And quickly.", "I do not have all day."),
}
_OPENING = re.compile(r"^(Order #?\w+: )?(?:Please|I want to|I'd like to|Can I|Can you|Could you) (\w)(.*?)(?: for me)?([.?])(?= |$)")
PERSONAS: dict[Voice, str] = {
    "brief": "You say no more than is needed.",
    "polite": "You are very polite.",
    "chatty": "You like to chat.",
    "upset": "You are annoyed and in a hurry.",
}


def speak(texts: Sequence[str], voice: Voice, random: Random, *, together: bool = False) -> list[str]:
    """The wishes' texts in a voice; the first message, of all wishes where they are raised together, has something said round it.

    >>> speak(["Can you cancel order #W1 for me? I no longer need it."], "brief", Random(0))
    ['Cancel order #W1. I no longer need it.']
    """
    said = list(texts)
    if voice == "brief":
        return [_OPENING.sub(lambda found: f"{found[1] or ''}{found[2].upper()}{found[3]}.", text, count=1) for text in said]
    if voice in _BEFORE:
        last = len(said) - 1 if together else 0
        said[0] = f"{random.choice(_BEFORE[voice])} {said[0]}"
        said[last] = f"{said[last]} {random.choice(_AFTER[voice])}"
    return said
