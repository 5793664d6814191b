"""What a model that plays the customer may not do, checked by rules on its text: no model is asked, and in doubt nothing is found.

Two kinds. What can be put right without the model is *mended*: a stop token that is misspelt, or that stands beside a yes. What only the
model can put right is a *complaint*, which the model gets once; if the next message has it too, it is the user's fault and is marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .details import content_words
from .episode import OUT_OF_SCOPE, STOP, TRANSFER, UserView
from .knowledge import shape
from .messages import Message
from .segments import normalise
from .talk import Talk
from .tasks import Fact, Scenario
from .understanding import Understood, identifiers, read, values_named

TOKENS = (STOP, TRANSFER, OUT_OF_SCOPE)
_TOKEN = re.compile(r"#{1,4}[ _-]*(STOP|TRANSFER|OUT[ _-]OF[ _-]SCOPE)[ _-]*#{1,4}|\[(STOP|TRANSFER|OUT[ _-]OF[ _-]SCOPE)\]")
_YES = re.compile(
    r"\b(?:yes|yeah|yep|(?<!not )sure|go ahead|proceed|please do|do it|i confirm|confirmed|i agree|agreed|that's (?:right|correct|fine)"
    r"|that is (?:right|correct|fine)|sounds good|looks good|correct)\b"
)
_REPEATS, _BLANKS = 3, 4
_ACTS = frozenset({"anything_else"})


# what can be mended


def mend(view: UserView, text: str) -> str:
    """The text with its stop tokens spelt as they are, without one where it would cut off what was just agreed to."""
    text = _TOKEN.sub(lambda found: f"###{re.sub('[ _]', '-', found[1] or found[2])}###", text).strip()
    if not ends(text):
        return text
    heard = _last_heard(view)
    bare = without_tokens(text)
    offered = "confirm" in heard.asks or ("transfer_offer" in heard.asks and TRANSFER in text)
    if bare and offered and _YES.search(normalise(bare)):
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
    if len(spoken) >= _REPEATS and len(set(spoken[-_REPEATS:])) == 1:
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
    return "transfer" in _last_heard(view).tells


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


# what the model is asked to put right


def complaint(view: UserView, text: str) -> str | None:
    """What is wrong with a message, as the end of "it ..."; None where nothing is."""
    return _invented(view, text) or _too_early(view, text) or _again(view, text)


def _too_early(view: UserView, text: str) -> str | None:
    own = [message.content for message in view.messages if message.role == "user"]
    if not ends(text):
        return None
    if not own:
        return "ends the conversation before it has said what it wants"
    if STOP not in text or is_transferred(view) or is_settled(view):
        return None
    said = set(content_words(normalise(" ".join([*own, text]))))
    for wish in view.scenario.wishes:
        wanted = set(content_words(normalise(wish.text)))
        if len(wanted) > 1 and len(wanted & said) < len(wanted) / 3:
            return f"ends the conversation and never said {wish.text!r}"
    return None


def _again(view: UserView, text: str) -> str | None:
    """The same words for the third time, to an agent that says something else."""
    own = [message.content.strip().casefold() for message in view.messages if message.role == "user"]
    times = own.count(text.strip().casefold()) + 1
    return f"says the same for the {times}rd time" if times == _REPEATS else f"says the same {times} times" if times > _REPEATS else None


_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,32})+")
_NAME = re.compile(r"(?:[Mm]y name is|[Mm]y name's|I am|I'm|[Tt]his is) ((?:[A-Z][\w'-]+ ){1,2}[A-Z][\w'-]+)")
_LONG = 4
"""So many digits are no count and no hour."""


def _invented(view: UserView, text: str) -> str | None:
    """A value that neither the scenario nor the conversation so far holds."""
    held = normalise("\n".join([*everything(view.scenario), *(message.content for message in view.messages)]))
    known = set(identifiers(held))
    shapes = {shape(word) for word in known if len(word) > 1}
    plain = normalise(without_tokens(text))
    for email in _EMAIL.findall(without_tokens(text).lower()):  # as it is: in "a***@b.com" there is none
        if email not in held:
            return _says(email)
    plain = _EMAIL.sub(" ", plain)
    wants_details = bool(_last_heard(view).asks - {"confirm", "choice", "anything_else", "transfer_offer"})
    for word in identifiers(plain):
        if word in known or (len(word) >= _LONG and word in held):
            continue
        digits = sum(map(str.isdigit, word))
        of_a_kind = not word.isdigit() and shape(word) in shapes
        coined = not word[0].isdigit() and wants_details
        if digits >= _LONG or of_a_kind or coined:
            return _says(word)
    for name in _NAME.findall(without_tokens(text)):
        if any(part not in held for part in normalise(name).split()):
            return _says(name)
    return _other_value(view, plain)


def _other_value(view: UserView, text: str) -> str | None:
    """A value that the domain has words for, such as a gift card, where the facts of the same slot have another."""
    scenario, phrases = view.scenario, view.domain.phrases
    facts = [*scenario.facts, *(fact for wish in scenario.wishes for fact in wish.facts)]
    if re.search(r"\b(?:not|no|don't|instead of)\b", text):
        return None
    heard = normalise("\n".join(message.content for message in view.messages))
    prose = normalise("\n".join(everything(scenario)))
    for slot in sorted({fact.slot for fact in facts}):
        own = frozenset[str]().union(*(_values(fact, slot, view) for fact in facts if fact.slot == slot))
        named = values_named(text, slot, phrases)
        if own and named and not named & (own | values_named(heard, slot, phrases) | values_named(prose, slot, phrases)):
            return _says(" or ".join(sorted(named)).replace("_", " "))
    return None


def _values(fact: Fact, slot: str, view: UserView) -> frozenset[str]:
    return values_named(normalise(f"{fact.text} {fact.value}"), slot, view.domain.phrases)


def _says(value: str) -> str:
    return f"says {value!r}, which its scenario does not hold"


def everything(scenario: Scenario) -> Iterable[str]:
    """Every text that the customer of a scenario could know."""
    yield scenario.goal
    for name, value in scenario.known.items():
        yield from (name, value)
    yield from (text for text in (scenario.unknown, scenario.instructions, scenario.persona, scenario.opening, scenario.closing) if text)
    facts = list(scenario.facts)
    for wish in scenario.wishes:
        yield from (text for text in (wish.text, wish.slip, *wish.labels.values()) if text)
        facts += wish.facts
    for fact in facts:
        yield fact.text
        yield from _leaves(fact.value)


def _leaves(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield str(value)


def _last_heard(view: UserView) -> Understood:
    last: Message | None = view.messages[-1] if view.messages else None
    return read(last.content if last is not None and last.role == "assistant" else "", view.domain.phrases)
