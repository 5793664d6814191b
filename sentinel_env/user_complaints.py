"""What a model that plays the customer is asked to put right: found by rules on its text, no model is asked, and in doubt nothing is found.

The model gets a complaint once, with the reason; if its next message has one too, it is the user's fault and is marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from .details import content_words
from .episode import STOP, UserView
from .judgement import judge
from .knowledge import Same, know, shape
from .prompt_texts import fill
from .segments import normalise
from .tasks import Fact, Scenario
from .understanding import identifiers, read, values_named
from .user_guards import REPEATS, YES, dead_loop, ends, is_settled, is_transferred, last_heard, without_tokens


def complaint(view: UserView, text: str) -> str | None:
    """What is wrong with a message, as the end of "it ..."; None where nothing is."""
    rules = (_plays_the_agent, _repeats_its_part, _invented, _agrees_wrongly, _too_early, _again)
    return next((found for rule in rules if (found := rule(view, text)) is not None), None)


_AGENTS_PART = re.compile(
    r"\bhow (?:can|may) i (?:help|assist) you(?: today)?\s*(?:[?!.]|$)"
    r"|\bwhat can i (?:do for|help) you(?: with)?(?: today)?\s*(?:[?!.]|$)"
    r"|\b(?:i'm|i am|we're|we are) (?:always |just )?(?:here|ready) to (?:help|assist)"
    r"(?: you\b|\s*(?:[!.,]|$)| with (?:any|whatever|what you))"
    r"|\b(?:i'm|i am) an? (?:\w+ ){0,2}(?:chatbot|(?:ai|virtual) assistant|language model)\b"
)
"""How assistants offer their help; what a customer says to one, such as "are you here to help me?", is none of it."""


def _plays_the_agent(view: UserView, text: str) -> str | None:
    """The other part, into which many small models fall back."""
    return "speaks as the agent, not as the customer" if _AGENTS_PART.search(normalise(text)) else None


def said_nothing(view: UserView) -> str | None:
    """Why a conversation that went nowhere did so by the customer's fault, as the end of "it ...": hardly a word of anything that it wants,
    and no identifier that it has, was said. None where in doubt, and for wishes in prose."""
    own = normalise(" ".join(message.content for message in view.messages if message.role == "user"))
    said = set(content_words(own))
    wanted = [set(content_words(normalise(wish.text))) for wish in view.scenario.wishes]
    hardly = all(len(words) > 1 and len(words & said) < len(words) / 3 for words in wanted)
    held = normalise("\n".join(everything(view.scenario)))
    if wanted and hardly and set(identifiers(own)).isdisjoint(identifiers(held)):
        return "leaves and has said nothing of what it wants"
    return None


_SHINGLE = 8
"""So many words in a row are no chance."""


def _repeats_its_part(view: UserView, text: str) -> str | None:
    """The model's instructions, or the frame in which it gets its scenario."""
    said = " ".join(_WORD.findall(normalise(text)))
    told = view.scenario.instructions or ""
    if any(row in said for row in (*_shingles(fill("user_simulator", scenario="")), *_shingles(told))):
        return "repeats its instructions, which are not for the agent"
    return None


_WORD = re.compile(r"[\w#'$-]+")


@lru_cache(maxsize=256)
def _shingles(text: str) -> tuple[str, ...]:
    """Every few words in a row, as they stand in a normalised text."""
    words = _WORD.findall(normalise(text))
    return tuple(" ".join(words[at : at + _SHINGLE]) for at in range(len(words) - _SHINGLE + 1))


_HOLDS_BACK = re.compile(r"\b(?:no|not|n't|don't|but|wait|instead|except|rather|only if|as long as|first)\b|\?")


def _agrees_wrongly(view: UserView, text: str) -> str | None:
    """A bare yes to a proposal that is right for none of its wishes, as the scripted user judges them, and whose identifiers of one sort,
    such as orders, are all of something else. Agents show much beside what they propose, so one identifier that fits is enough."""
    scenario, heard = view.scenario, last_heard(view)
    callable_ = [at for at, wish in enumerate(scenario.wishes) if wish.call is not None]
    plain = normalise(without_tokens(text))
    if not callable_ or "confirm" not in heard.asks or any(wish.slip for wish in scenario.wishes):
        return None
    if not YES.search(plain) or _HOLDS_BACK.search(plain):
        return None
    known, said = know(Same(scenario)), frozenset(identifiers(heard.text))
    own = frozenset[str]().union(*(known.wishes[at].identifiers for at in callable_))
    fitting = {shape(word) for word in own & said}
    foreign = {shape(word) for word in said - known.familiar} & {shape(word) for word in own}
    if not foreign - fitting:
        return None
    found = [judge(heard, scenario, among, view.domain).correction for among in (callable_, *([at] for at in callable_))]
    return None if any(correction is None for correction in found) else "agrees to something that it does not want"


def _too_early(view: UserView, text: str) -> str | None:
    own = [message.content for message in view.messages if message.role == "user"]
    if not ends(text):
        return None
    if not own:
        return "ends the conversation before it has said what it wants"
    if STOP not in text or is_transferred(view) or is_settled(view) or _says_the_same(view):
        return None
    if (unsaid := _never_said(view, " ".join([*own, text]))) is not None:
        return f"ends the conversation and never said {unsaid!r}"
    heard = last_heard(view)
    still = heard.asks - {"anything_else", "transfer_offer"} if view.scenario.wishes else heard.asks & {"identity"}
    if still and "refusal" not in heard.tells:
        return "ends the conversation although the agent still asks something and not all that it wants is settled"
    return None


def _says_the_same(view: UserView) -> bool:
    """Whether the agent has just said the same twice, or nothing moves: who leaves then has reason to."""
    spoken = [message.content.strip().casefold() for message in view.messages if message.role == "assistant"]
    return (len(spoken) > 1 and spoken[-1] == spoken[-2]) or dead_loop(view) is not None


def _never_said(view: UserView, own: str) -> str | None:
    """A wish of whose words, those that other wishes share left out, the customer has said none: it may say it in others."""
    said = set(content_words(normalise(own)))
    spoken = said.union(*(content_words(normalise(message.content)) for message in view.messages))
    wanted = [set(content_words(normalise(wish.text))) for wish in view.scenario.wishes]
    for at, (wish, words) in enumerate(zip(view.scenario.wishes, wanted, strict=True)):
        alone = words.difference(*wanted[:at], *wanted[at + 1 :])
        hardly = len(words) > 1 and len(words & said) < len(words) / 3
        if alone.isdisjoint(said) and (hardly or (len(alone) > 1 and alone.isdisjoint(spoken))):
            return wish.text
    return None


def _again(view: UserView, text: str) -> str | None:
    """The same words for the third time, to an agent that said something else each time and did not only offer more help."""
    spoken = [message.content.strip().casefold() for message in view.messages]
    own = [at for at, message in enumerate(view.messages) if message.role == "user" and spoken[at] == text.strip().casefold()]
    if len(own) + 1 < REPEATS:
        return None
    answered = {spoken[at - 1] for at in (*own, len(spoken)) if at}
    if sum(read(said, view.domain.phrases).asks != {"anything_else"} for said in answered) < REPEATS:
        return None
    times = len(own) + 1
    return f"says the same for the {times}rd time" if times == REPEATS else f"says the same {times} times"


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
    wants_details = bool(last_heard(view).asks - {"confirm", "choice", "anything_else", "transfer_offer"})
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
