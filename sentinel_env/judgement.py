"""Whether a proposal that an agent wants agreed to fits what the customer wished for.

Identifiers decide where the text has any: of each shape (all like "#W9", all ten-digit numbers) the wish's own must be there, and no
foreign one in a line that states an action. Words decide for what the domain's phrases name ("PayPal" against "my gift card") and for
what a change leads to (a variant, an address). What can be neither verified nor refuted is agreed to with the condition said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .descriptions import other_outcome, other_parts, share_said
from .domain import Domain
from .knowledge import Known, KnownArgument, KnownWish, Same, know, say_together, shape
from .segments import normalise
from .tasks import Fact, Scenario, Wish
from .understanding import Understood, identifiers, values_named

_ACTION = r"\b(?:chang|switch|swap|replac|updat|proceed|renew|use|using|->|=>|to:|new)"
_NOT_AN_ACTION = re.compile(
    r"\b(?:can't|cannot|can not|won't|not|unable|other orders?|unavailable|already|instead of|example|alternativ\w+|unchanged|reply no)\b"
)
_ENDING = re.compile(r"\bending (?:in |with )?(\d{3,4})\b")
_CONDITION = re.compile(r"\b(?:if|otherwise|unless)\b")
_SHORT = 4
"""A number of up to so many digits is an identifier only where the text says so."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the customer thinks of a proposal."""

    wishes: tuple[int, ...]
    """The wishes that it is about, by position."""
    correction: str | None
    """What would be right, where it is wrong; the wish's own text where it is another action altogether."""
    condition: str | None
    """What it leaves open, where nothing is wrong."""


def judge(understood: Understood, scenario: Scenario, open_: Sequence[int], domain: Domain) -> Judgement:
    """Compare a proposal with the open wishes; the first of them is the one that is being talked about.

    Args:
        understood: The message that proposes.
        scenario: What the customer wants and knows; identifiers of settled wishes are not foreign either.
        open_: Positions of the unsettled wishes that have a call.
        domain: For the names of its tools and its phrases.
    """
    return _judge(Same(understood), Same(scenario), tuple(open_), domain)


def wishes_meant(understood: Understood, scenario: Scenario, open_: Sequence[int]) -> tuple[int, ...]:
    """The open wishes that a message is about, as `judge` finds them."""
    if len(open_) < 2:
        return tuple(open_)
    return _about(tuple(open_), know(Same(scenario)), frozenset(identifiers(understood.text)), understood.text)


def wishes_named(understood: Understood, scenario: Scenario, among: Sequence[int]) -> tuple[int, ...]:
    """Of several wishes those of which a message names an identifier, be it in their facts alone, that no other one has."""
    if len(among) < 2:
        return ()
    known, said = know(Same(scenario)), frozenset(identifiers(understood.text))
    own = {at: known.wishes[at].identifiers.union(*(words for _, words in known.wishes[at].facts)) for at in among}
    others = {at: frozenset[str]().union(*(own[other] for other in among if other != at)) for at in among}
    return tuple(at for at in among if (own[at] - others[at]) & said)


@lru_cache(maxsize=2048)
def _judge(understood_: Same[Understood], scenario_: Same[Scenario], open_: tuple[int, ...], domain: Domain) -> Judgement:
    understood, known = understood_.value, know(scenario_)
    said = frozenset(identifiers(understood.text))
    about = _about(open_, known, said, understood.text)
    actions = _actions(understood, domain)
    region = "\n".join(actions) or understood.text
    unknown = said - known.familiar
    foreign = _acted_on(region, unknown) if unknown else unknown
    message = _Proposal(
        understood.text,
        actions,
        region,
        said,
        frozenset(map(shape, foreign)),
        frozenset(shape(word) for word in unknown if len(word) > _SHORT),
        understood.asks,
    )
    condition: str | None = None
    for at in about:
        correction, left_open = _compare(known.wishes[at], message, known.familiar, domain)
        if correction:
            return Judgement(about, correction, None)
        condition = condition or left_open
    return Judgement(about, None, condition)


# What the proposal says


@dataclass(frozen=True, slots=True)
class _Proposal:
    text: str
    actions: tuple[str, ...]
    """The lines that state an action."""
    region: str
    """These lines; the whole text where there are none."""
    said: frozenset[str]
    """All identifiers."""
    foreign: frozenset[str]
    """The shapes of those that are acted on and that the customer does not know."""
    beside: frozenset[str]
    """The shapes of all that the customer does not know, without short numbers."""
    asks: frozenset[str]


def _about(open_: tuple[int, ...], known: Known, said: frozenset[str], text: str) -> tuple[int, ...]:
    """The wishes of which the text names an identifier that no other open wish has; else the one being talked about, or, of several on
    the same record, the one whose action it names."""
    named = []
    for at in open_:
        others = frozenset[str]().union(*(known.wishes[other].identifiers for other in open_ if other != at))
        if ((known.wishes[at].identifiers | known.wishes[at].mistaken) - others) & said:
            named.append(at)
    return tuple(named) or _by_action([at for at in open_ if known.wishes[at].identifiers & said], known, text) or open_[:1]


def _by_action(open_: Sequence[int], known: Known, text: str) -> tuple[int, ...]:
    """The wish with most words of its tool's name, those that the others' tools lack, in the text; none where that decides nothing."""
    if len(open_) < 2:
        return ()
    names = {at: frozenset(call.name.split("_")) if (call := known.wishes[at].wish.call) else frozenset() for at in open_}
    told = [
        (sum(word in text for word in names[at] - frozenset().union(*(names[other] for other in open_ if other != at))), at) for at in open_
    ]
    best = max(told)[0]
    found = [at for count, at in told if count == best]
    return (found[0],) if len(found) == 1 else ()


def _actions(understood: Understood, domain: Domain) -> tuple[str, ...]:
    action = _verbs(domain).action
    return tuple(
        segment.text
        for segment in understood.segments
        if (segment.listed or action.search(segment.text)) and not _NOT_AN_ACTION.search(segment.text)
    )


_MADE_AN_IDENTIFIER = re.compile(
    r"(?:\b(?:item|id|ids|to|for|with|into|order|by|number|and)|#|->|=>)(?=\W{0,3}(\w+)\b(?! ?[\w-]+ ?(?:inch|piece|gb|days)))"
)


def _acted_on(region: str, unknown: frozenset[str]) -> frozenset[str]:
    """Which unknown identifiers the lines that state an action have."""
    found = unknown.intersection(identifiers(region))
    short = {word for word in found if word.isdigit() and len(word) <= _SHORT}
    return found - short.difference(_MADE_AN_IDENTIFIER.findall(region)) if short else found


@dataclass(frozen=True, slots=True)
class _Verbs:
    """What the domain's writes do, by the first word of their names, such as "cancel" and "return"."""

    known: tuple[re.Pattern[str], ...]
    action: re.Pattern[str]
    records: tuple[tuple[str, re.Pattern[str]], ...]
    """The first parameter of a write, such as "order_id", and how a text names such a record."""
    valued: frozenset[str]
    """The slots whose values the domain's phrases name."""


@lru_cache(maxsize=64)
def _verbs(domain: Domain) -> _Verbs:
    writes = [tool for tool in domain.tools if tool.writes]
    words = sorted({tool.name.split("_")[0] for tool in writes} - {"transfer"})
    stems = [rf"\b{re.escape(word.rstrip('ey') if len(word) > 4 else word)}" for word in words]
    keys = sorted({next(iter(tool.schema["function"]["parameters"]["properties"]), "") for tool in writes})
    records = {key: rf"\b{re.escape(key.removesuffix('_id'))}s?(?: id| number)?:? \(?#?(\w{{1,64}})" for key in keys if key.endswith("_id")}
    return _Verbs(
        tuple(re.compile(stem) for stem in stems),
        re.compile("|".join([_ACTION, *stems])),
        tuple((key, re.compile(pattern)) for key, pattern in records.items()),
        frozenset(slot for slot, colon, _ in (key.partition(":") for key in domain.phrases) if colon),
    )


# The comparison


def _compare(known: KnownWish, message: _Proposal, familiar: frozenset[str], domain: Domain) -> tuple[str | None, str | None]:
    """(what would be right, None), or (None, what the proposal leaves open)."""
    if _other_action(known.wish, message.region, familiar, domain):
        return known.wish.text, None
    wrong, condition = _compare_identifiers(known, message)
    if wrong:
        return wrong, None
    for fact, own in known.compared:
        if (
            _other_value(fact, message.region, domain)
            or other_parts(fact, message.text)
            or (not own & message.said and other_outcome(fact, own, known.wish, message.region))
        ):
            return fact.text, None
    return _left_out(known, message), condition


def _other_action(wish: Wish, region: str, familiar: frozenset[str], domain: Domain) -> bool:
    """Whether the proposal names an action that the wish is not about, or acts on a sort of record that it has nothing to do with."""
    assert wish.call is not None
    verbs = _verbs(domain)
    found = [pattern for pattern in verbs.known if pattern.search(region)]
    wished, text = wish.call.name.replace("_", " "), wish.text.lower()
    if not _CONDITION.search(text):  # of "change it, otherwise cancel it" only what it comes to is right
        wished += " " + text
    if found and not any(pattern.search(wished) for pattern in found):
        return True
    others = (pattern for key, pattern in verbs.records if key not in wish.call.arguments)
    return any(set(identifiers(word)) - familiar for pattern in others for word in pattern.findall(region))


def _compare_identifiers(known: KnownWish, message: _Proposal) -> tuple[str | None, str | None]:
    condition = surplus = None
    for argument in known.arguments:
        fact = argument.fact
        if fact is not None and fact.slot in message.asks:  # still being asked for: no objection yet
            continue
        missing = argument.identifiers - message.said
        foreign = argument.shapes & message.foreign
        rival = argument.shapes & _rivals(known, fact, message.said)
        if missing and (argument.identifiers & message.said or foreign or rival or argument.shapes & message.beside):
            return argument.spoken, None
        if foreign or (rival and _acts_on_mistaken(known, argument, message)):
            surplus = surplus or argument.spoken
        if missing and fact is not None and not fact.text.startswith("I ") and share_said(message.text, fact.text) < 0.5:
            condition = condition or (argument.spoken if known.rejected else fact.text)
    if known.rejected and message.foreign & frozenset(map(shape, known.rejected)):
        surplus = surplus or known.wish.text
    return (None if message.asks & {"new_item", "item", "order"} else surplus), condition


def _rivals(known: KnownWish, fact: Fact | None, said: frozenset[str]) -> frozenset[str]:
    """The shapes of what was said in the place of a fact and belongs to a slip or to the other branch of a condition."""
    if not (known.rejected or known.mistaken):
        return frozenset()
    other = (own for each, own in known.facts if fact is not None and each.slot == fact.slot)
    return frozenset(map(shape, said & (known.mistaken | (known.rejected & frozenset[str]().union(*other)))))


def _acts_on_mistaken(known: KnownWish, argument: KnownArgument, message: _Proposal) -> bool:
    """Whether a line that states an action has an identifier that only the customer's slip has, and none of the right ones."""
    lines = (frozenset(identifiers(line)) for line in message.actions)
    return any(known.mistaken & line and not argument.identifiers & line for line in lines)


def _other_value(fact: Fact, region: str, domain: Domain) -> bool:
    """Whether the text names only other values of the fact's slot, or other last digits than its "ending in 4242"."""
    if fact.slot in _verbs(domain).valued and (named := values_named(region, fact.slot, domain.phrases)):
        expected = values_named(normalise(f"{fact.text} {fact.value}"), fact.slot, domain.phrases)
        if expected and not named & expected:
            return True
    own = set(_ENDING.findall(fact.text.lower()))
    endings = _ENDING.findall(region) if own else ()
    return bool(endings) and own.isdisjoint(endings)


def _left_out(known: KnownWish, message: _Proposal) -> str | None:
    """All facts of a slot, where the text has the words of some and nothing of another."""
    by_slot: dict[str, list[tuple[Fact, frozenset[str]]]] = {}
    for fact, own in known.compared:
        by_slot.setdefault(fact.slot, []).append((fact, own))
    for slot, facts in by_slot.items():
        told = [bool(own & message.said) or share_said(message.text, fact.text) > 0 for fact, own in facts]
        if all(told):
            continue
        named_otherwise = re.search(rf"\b{slot.replace('_', ' ')}s?: *[^\W\d]", message.text) is not None
        if any(told) or (named_otherwise and not facts[0][0].text.startswith("I ")):
            return say_together(fact.text for fact, _ in facts)
    return None
