"""What is put right in the words of a model that plays the customer without asking it again, and what ends a conversation for it.

Rules on its text: no model is asked, and in doubt nothing is changed. What only the model can put right is in `user_complaints`.
"""

from __future__ import annotations

import re

from .episode import OUT_OF_SCOPE, STOP, TRANSFER, UserView
from .messages import Message
from .segments import normalise
from .talk import Talk
from .understanding import Understood, read

TOKENS = (STOP, TRANSFER, OUT_OF_SCOPE)
_TOKEN = re.compile(r"#{1,4}[ _-]*(STOP|TRANSFER|OUT[ _-]OF[ _-]SCOPE)[ _-]*#{1,4}|\[(STOP|TRANSFER|OUT[ _-]OF[ _-]SCOPE)\]")
YES = re.compile(
    r"\b(?:yes|yeah|yep|(?<!not )sure|go ahead|proceed|please do|do it|i confirm|confirmed|i agree|agreed|that's (?:right|correct|fine)"
    r"|that is (?:right|correct|fine)|sounds good|looks good|correct)\b"
)
REPEATS, _BLANKS = 3, 4
_ACTS = frozenset({"anything_else"})


# what can be mended


def mend(view: UserView, text: str) -> str:
    """The text with its stop tokens spelt as they are, without one that the agent put into the customer's mouth, or that would cut off
    what was just agreed to."""
    text = _TOKEN.sub(lambda found: f"###{re.sub('[ _]', '-', found[1] or found[2])}###", text).strip()
    if not ends(text):
        return text
    heard = last_heard(view)
    bare = without_tokens(text)
    if _TOKEN.search(_last_words(view)) and not is_transferred(view):
        return bare or "I would rather go on."
    offered = "confirm" in heard.asks or ("transfer_offer" in heard.asks and TRANSFER in text)
    if bare and offered and YES.search(normalise(bare)):
        return bare
    return text


def ends(text: str) -> bool:
    """Whether a message ends the conversation."""
    return any(token in text for token in TOKENS)


def without_tokens(text: str) -> str:
    """The words of a message."""
    for token in TOKENS:
        text = text.replace(token, " ")
    return " ".join(text.split()) if "\n" not in text.strip() else text.strip()


# what ends a conversation whatever the model says


def dead_loop(view: UserView) -> str | None:
    """The words with which a customer leaves a conversation that goes nowhere; None while it moves."""
    spoken = [message.content.strip().casefold() for message in view.messages if message.role == "assistant"]
    if len(spoken) >= REPEATS and len(set(spoken[-REPEATS:])) == 1:
        return f"This is going nowhere. Never mind. {STOP}"
    recent = list(view.messages[-2 * _BLANKS :])
    said = [message.content for message in recent if message.role == "user"]
    heard = [read(message.content, view.domain.phrases) for message in recent if message.role == "assistant"]
    if len(heard) == _BLANKS and all(_is_blank(each) for each in heard) and not any("?" in text for text in said):
        return f"That's all, thank you. Goodbye. {STOP}"
    return None


def _is_blank(heard: Understood) -> bool:
    """A message that asks for nothing and tells nothing, such as a farewell."""
    asks_something = any(segment.asks for segment in heard.segments) and "anything_else" not in heard.asks
    return heard.asks <= _ACTS and not heard.tells and not asks_something


def is_transferred(view: UserView) -> bool:
    """Whether the agent has just said that it hands over to a person."""
    return "transfer" in last_heard(view).tells


def is_settled(view: UserView) -> bool:
    """Whether everything that a scenario with structured wishes wants is done, answered or refused, as the scripted user understands it."""
    if not view.scenario.wishes:
        return False
    talk = Talk(view)
    talk.open()
    opened = False
    for message in view.messages:
        if message.role == "user":
            opened = True
        elif opened:
            talk.answer(read(message.content, view.domain.phrases))
    return len(talk.settled) == len(talk.wishes)


def last_heard(view: UserView) -> Understood:
    """What the agent has just said, understood."""
    return read(_last_words(view), view.domain.phrases)


def _last_words(view: UserView) -> str:
    last: Message | None = view.messages[-1] if view.messages else None
    return last.content if last is not None and last.role == "assistant" else ""
