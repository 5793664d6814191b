"""Voices: the same request as different people put it. What is said round it holds no fact, so nothing has to be checked again."""

from __future__ import annotations

import re
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


def word(text: str, voice: Voice) -> str:
    """A wish's text in a voice.

    >>> word("Can you cancel order #W1 for me? I no longer need it.", "brief")
    'Cancel order #W1. I no longer need it.'
    """
    if voice != "brief":
        return text
    return _OPENING.sub(lambda found: f"{found[1] or ''}{found[2].upper()}{found[3]}.", text, count=1)


def surround(voice: Voice, random: Random) -> tuple[str | None, str | None]:
    """What a voice says before and after its first message."""
    if voice not in _BEFORE:
        return None, None
    return random.choice(_BEFORE[voice]), random.choice(_AFTER[voice])
