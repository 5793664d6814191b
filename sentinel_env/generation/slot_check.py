"""The slot check: whether other words for a text hold all and only what it said.

Two kinds of things are compared. What can be told exactly: numbers, identifiers, e-mail addresses, the values that stand in the part of
the database that the task is about, the values that the domain's phrases name. And what turns a request into another one, by closed lists
of words: negations, conditions, quantities, actions, demands, excuses. It is meant to refuse too much rather than too little, because the
original is always there to be kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.failures.names import stem
from sentinel_env.segments import normalise
from sentinel_env.tasks import Fact, Scenario, Task
from sentinel_env.understanding import values_named

from .slices import leaves, named_by, slice_around

_BARE = frozenset(
    re.findall(r"\w+", "yes no none on off in out one may will mark small medium large standard new other any all home work s m l xl")
)
"""Values that are also plain words: they count where their field's name stands beside them."""
_ROOM = 160
"""How many characters longer than three times the original other words may be."""


Find = Callable[["Slots", str], Iterable[str]]
"""(slots, normalised text) -> what stands in it."""


@dataclass(frozen=True)
class Slots:
    """What the texts of one task may say, worked out once."""

    domain: Domain
    values: frozenset[str]
    """Values that could be spoken of, each as ` words between blanks `."""
    facts: tuple[str, ...]
    """The words of every fact: what one text leaves out, other words for it may not tell."""


def slots_of(domain: Domain, db: Database, task: Task) -> Slots:
    """The slots of a task, on the database as it finds it."""
    scenario = task.scenario
    named = [place for call in task.criteria.actions for _, text in leaves(call.arguments) for place in named_by(db, text)]
    sources = [slice_around(db, named), [fact.value for fact in _facts(scenario)], [call.arguments for call in task.criteria.actions]]
    choices = [tool.schema["function"]["parameters"] for tool in domain.tools]
    values = {_value(name, text) for source in sources for name, text in leaves(source)}
    values |= {_value("", text) for name, text in leaves(choices) if name == "enum"}
    return Slots(domain, frozenset(values - {""}), tuple(dict.fromkeys(fact.text for fact in _facts(scenario))))


def _facts(scenario: Scenario) -> Iterator[Fact]:
    yield from scenario.facts
    for wish in scenario.wishes:
        yield from wish.facts


def why_not(slots: Slots, original: str, reworded: str) -> str | None:
    """What other words for a text lose or add; None where they say the same, as far as it can be told."""
    if len(reworded) > 3 * len(original) + _ROOM:
        return f"it has {len(reworded)} characters, the original {len(original)}; say no more than that does"
    was, now = normalise(original), normalise(reworded)
    if difference := _difference(_values(slots, was), _values(slots, now), same_words=_telling(was)):
        return f"{difference}, a value from the records"
    for what, find in _COMPARED:
        if difference := _difference(Counter(find(slots, was)), Counter(find(slots, now))):
            return f"{difference}, {what}"
    for fact in slots.facts:
        before, after = _share(fact, was), _share(fact, now)
        if before == 1 and after < 0.5:
            return f"it lacks {fact!r}"
        if before < 0.5 <= after and after > before:
            return f"it tells {fact!r}, which the original leaves out"
    if excuse := _excuse(was, now):
        return f"it gives a reason that the original does not give: {excuse!r}"
    if name := _new_name(original, reworded):
        return f"it names {name!r}, which the original does not"
    return None


def _difference(was: Counter[str], now: Counter[str], same_words: frozenset[str] = frozenset()) -> str | None:
    """What one has and the other has not, but for what only puts the same words together otherwise."""
    if lost := was - now:
        return f"it lacks {next(iter(lost)).strip()!r}"
    added = [each for each in now - was if not (same_words and _telling(each) <= same_words)]
    return f"it adds {added[0].strip()!r}" if added else None


# what can be told exactly

_TOKEN = re.compile(r"[#$€£]?\w+(?:[@._+'-]+\w+)*")


def _numbers(slots: Slots, text: str) -> list[str]:
    """Everything with a digit, and e-mail addresses; a unit that is joined by a hyphen is no part of it."""
    found = []
    for token in _TOKEN.findall(text):
        if "@" in token or any(map(str.isdigit, token)):
            found.append(re.sub(r"(?<=\d)-[a-z]+$|'s$", "", token))
    return found


_PARTS = re.compile(r"[^\W_]+(?:[.]\d+)?")


def _flat(text: str) -> str:
    return f" {' '.join(_PARTS.findall(normalise(text)))} "


def _value(name: str, text: str) -> str:
    """A value as it is looked for in a text; empty where it is not: a number is compared as such."""
    flat = _flat(text)
    word = flat.strip()
    if not word or (" " not in word and any(map(str.isdigit, word))):
        return ""
    if len(word) <= 2 or word in _BARE:
        return f" {_flat(name).strip()} {word} " if name else ""
    return flat


def _values(slots: Slots, text: str) -> Counter[str]:
    flat = _flat(text)
    return Counter(sorted(value for value in slots.values if value in flat))


@lru_cache(maxsize=4096)
def _telling(text: str) -> frozenset[str]:
    """The stems of the words that tell something."""
    return frozenset(stem(word) for word in _PARTS.findall(normalise(text)) if word not in _EMPTY)


def _share(fact: str, text: str) -> float:
    """The share of a fact's telling words that a text has."""
    words = _telling(fact)
    return len(words & _telling(text)) / len(words) if words else 0.0


def _named_values(slots: Slots, text: str) -> list[str]:
    """What the domain's phrases name, such as "reason: ordered by mistake"."""
    phrases = slots.domain.phrases
    valued = dict.fromkeys(slot for slot, colon, _ in (key.partition(":") for key in phrases) if colon)
    return [f"{slot}: {value}" for slot in valued for value in sorted(values_named(text, slot, phrases)) if slot not in _NOT_VALUED]


_NOT_VALUED = frozenset(("tells", "not", "say"))


def _actions(slots: Slots, text: str) -> list[str]:
    """The stems of the domain's writes, such as "cancel"."""
    stems = {tool.name.split("_")[0] for tool in slots.domain.tools if tool.writes}
    cut = sorted({stem.rstrip("ey") if len(stem) > 4 else stem for stem in stems})
    return [stem for stem in cut for _ in re.findall(rf"\b{re.escape(stem)}", text)]


# what turns a request into another one

_IDIOMS = re.compile(
    r"\b(?:that's|that is|this is|and that's) all\b|\ball (?:right|set|good|the best)\b|\b(?:after|at|first of) all\b|\bfirst off\b"
    r"|\bif (?:possible|you (?:could|can|would|will|don't mind|please)|that's (?:ok|okay|all right|possible)|it's not too much trouble)\b"
    r"|\b(?:wonder|wondering|see|know) if\b|\bwould you mind\b|\bno (?:rush|worries|problem)\b|\bwhy (?:not|don't you)\b|\bcan't wait\b"
    r"|\b(?:can't|couldn't|won't|wouldn't) you\b|\bnot (?:happy|pleased|impressed|amused)(?: at all)?\b"
    r"|\b(?:don't|do not) have all day\b|\bonce again\b"
)
"""Ways of speaking that hold such words and mean none of it."""
_NEGATION = re.compile(r"\b(?:no|not|never|none|nothing|neither|nor|without|cannot|nobody|only|just|except|exclusively|solely)\b|n't\b")
_CONDITION = re.compile(r"\b(?:if|unless|otherwise|in case|provided|assuming|as long as|or else|failing that|in that case|when|whether)\b")
_QUANTITY = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|dozen|hundred|couple|pair|half|both|all|each|every|entire|whole"
    r"|everything|first|second|third|latest|newest|oldest|earliest|cheapest|cheaper|largest|smallest|bigger|smaller|another|others?|rest|remaining)\b"
)
_AMOUNT = re.compile(r"\b(?:how much|what amount|total|tell me|let me know|price difference|how many)\b")
"""Which a scripted user takes for a question about an amount."""
_DEMAND = re.compile(
    r"\b(?:refund|credit|voucher|coupon|discount|compensat|reimburs|complain|manager|supervisor|human|transfer|fee|waive|upgrad|expedit"
    r"|express|overnight|replac|instead|double|policy|exception)"
)


_BECAUSE = re.compile(r"\b(?:because|since|due to|owing to|as i|so that|the reason|seeing that|given that|now that)\b([^.?!;]*)")
_EXCUSES = tuple(
    re.findall(
        r"\w+",
        """
        accident allerg anymore anniversary birthday broke cheap chang christmas damag defect delay differ duplicat elsewher expens fault
        fit friend gift husband late mind mistak mov neighbo need price regret scratch slow sudden travel twic unhappy wedding wife wrong
        quality color colour size
        """,
    )
)
"""Beginnings of words by which people say why they want something."""
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        """
        a an the this that these those it its my mine your our i you we me of in on at to for from with by and or but as is are was be
        been have has had do does don t s d m ll re ve can could will would should may might must please just like want wish really also
        they them their there here very much so too what when which who how order number one ones same not no yes any some
        """,
    )
)


def _excuse(was: str, now: str) -> str | None:
    """A reason in the text that the original has not: after a "because", or by a word that gives one."""
    was, now = was.replace("gift card", ""), now.replace("gift card", "")  # which is no gift
    known = {stem(word) for word in re.findall(r"[a-z]+", was)}
    for said in _BECAUSE.finditer(now):
        words = [word for word in re.findall(r"[a-z]{4,}", said[1]) if word not in _EMPTY]
        if any(stem(word) not in known for word in words):
            return str(said[0]).strip()
    return next((str(word) for word in re.findall(r"[a-z]+", now) if word.startswith(_EXCUSES) and stem(word) not in known), None)


_CAPITAL = re.compile(r"(?<=[\w,'] )[A-Z][\w'-]*")


def _new_name(original: str, reworded: str) -> str | None:
    """A capitalised word within a sentence that the original has not."""
    known = set(re.findall(r"\w+", normalise(original)))
    for found in _CAPITAL.finditer(reworded):
        word = str(found[0])
        if "@" in reworded[: found.start()].split()[-1]:  # an address ends a sentence without a full stop
            continue
        parts = re.findall(r"\w+", normalise(word))
        if parts[0] != "i" and not known.issuperset(part for part in parts if part != "s"):
            return word
    return None


def _words(pattern: re.Pattern[str]) -> Find:
    return lambda slots, text: pattern.findall(_IDIOMS.sub(" ", text))


def _times(pattern: re.Pattern[str], name: str) -> Find:
    return lambda slots, text: [name for _ in pattern.finditer(_IDIOMS.sub(" ", text))]


_COMPARED: tuple[tuple[str, Find], ...] = (
    ("a number or identifier; each must stay exactly as often as it was", _numbers),
    ("a value of the domain", _named_values),
    ("an action", _actions),
    ("a quantity", _words(_QUANTITY)),
    ("so that it says something else", _times(_NEGATION, "a negation or limit, such as not or only")),
    ("so that it depends on something else", _times(_CONDITION, "a condition, such as if or otherwise")),
    ("so that something else is asked", _times(_AMOUNT, "a question for an amount")),
    ("something to demand", _words(_DEMAND)),
)
"""(what it is, what finds it), each to be the same in both texts."""
