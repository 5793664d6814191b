r"""What an agent's text asks of the customer and what it tells: rules on normalised text, no model.

The text is cut into segments (sentences, lines of a list, entries of JSON). A segment *asks* when it is a question, carries a request
("please provide", "I'll need") or stands in a list whose heading does. The phrases of a slot are searched in the asking segments only,
so that a phrase is a plain noun such as `card number`, and the summary of an order is not taken for a question about it.

    read("Which order is it? And your e-mail, please.", {"order": (r"which order",)}).asks  ->  {"order", "email", "identity"}

Keys of a domain's phrases, whose values are regular expressions over lower-case text: `slot` (what is asked), `slot:value` (how a text
names that value, such as `"payment:gift_card": ("gift card",)`), `tells:refusal` and its like; and `say:slot` (plain words: how the
customer names the slot, "the order number").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Phrases = Mapping[str, tuple[str, ...]]

IDENTITY = ("email", "name", "zip", "user")
"""The slots that say who the customer is."""

_MAX_CHARACTERS = 16_000
"""Of a longer text the beginning and, since the question is usually last, three times as much of the end are read."""
_CACHED_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Segment:
    """One sentence, or one line of a list."""

    text: str
    asks: bool
    """Whether it wants an answer."""
    listed: bool
    """Whether it stands under a heading that asks for a go-ahead or announces a plan: it may state an action to agree to."""


@dataclass(frozen=True, slots=True, eq=False)
class Understood:
    """What a message asks and tells."""

    asks: frozenset[str]
    """Slots; "identity" with the slots that say who the customer is; "confirm" (a yes or no to a change), "choice", "transfer_offer", "anything_else"."""
    tells: frozenset[str]
    """Some of "transfer", "refusal", "done", "inform"."""
    text: str
    """The normalised text."""
    segments: tuple[Segment, ...]


def read(text: str, phrases: Phrases) -> Understood:
    """Understand one message of an agent. Never raises; takes time linear in the text."""
    rules = _compile(tuple(phrases.items()))
    return _read_cached(text, rules) if len(text) <= _CACHED_CHARACTERS else _read(text, rules)


def values_named(text: str, slot: str, phrases: Phrases) -> frozenset[str]:
    """The values of a slot that a normalised text names, by the domain's `slot:value` phrases."""
    known = _compile(tuple(phrases.items())).values.get(slot, ())
    return frozenset(value for value, pattern in known if pattern.search(text))


def identifiers(text: str) -> list[str]:
    """The words of a normalised text that hold a digit, without "#"; amounts of money and decimals are left out.

    >>> identifiers("exchange 123 in #w77 for $12.50, gift_card_9")
    ['123', 'w77', 'gift_card_9']
    """
    return [word for word in _WORD.findall(text) if not word.isalpha() and any(letter.isdigit() for letter in word)]


def normalise(text: str) -> str:
    """Lower case, plain quotes and dashes, no Markdown emphasis; JSON becomes lines."""
    if len(text) > _MAX_CHARACTERS:
        text = _from_json(text) or text[: _MAX_CHARACTERS // 4] + "\n\n" + text[-_MAX_CHARACTERS * 3 // 4 :]
    elif text.lstrip()[:1] in _JSON_STARTS:
        text = _from_json(text) or text
    if len(text) > _MAX_CHARACTERS:
        text = text[: _MAX_CHARACTERS // 4] + "\n\n" + text[-_MAX_CHARACTERS * 3 // 4 :]
    return text.translate(_PLAIN).lower()


_PLAIN = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "–": "-",
        "—": "-",
        "‑": "-",
        "−": "-",
        "\u00a0": " ",
        "\u202f": " ",
        "*": None,
        "`": None,
        "\r": "\n",
    }
)
_JSON_STARTS = ("{", "[", '"')
_WORD = re.compile(r"(?<![\w.$])\w{1,64}(?!\.\d)(?!\w)")


def _from_json(text: str) -> str | None:
    """The keys and texts of a JSON document as headings and list lines; None when it is none."""
    if text.lstrip()[:1] not in _JSON_STARTS:
        return None
    try:
        return "\n".join(_lines(json.loads(text)))
    except (ValueError, RecursionError):
        return None


def _lines(value: Any) -> Iterator[str]:
    """Depth first without recursion; a text of a sentence or more stands alone below its key."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, Mapping):
            yield f"\n{key}:" if key else ""
            stack.extend((str(name).replace("_", " "), item) for name, item in reversed(list(value.items())))
        elif isinstance(value, list):
            yield f"{key}:" if key else ""
            stack.extend(("", item) for item in reversed(value))
        elif isinstance(value, str) and (len(value) > 40 or not key):
            yield (f"\n{key}:\n" if key and key != "message" else "") + (value if "\n" in value or not value else f"- {value}")
        elif value is not None:
            yield f"- {key}: {value}" if key else f"- {value}"


# Segments

_SENTENCE = re.compile(r"(?<=[.?!])[\"')]?\s+(?=\S)")
_BULLET = re.compile(r"\s*(?:[-•>]|\(?\d{1,2}[.)]|\(?[a-d][.)])\s+")
_REQUEST = re.compile(
    r"\?|\b(?:please(?! (?:hold|note|wait|allow|be aware|follow|have|ignore|see|check))|(?:could|can|would|will) you|let me know|tell me"
    r"|may i|do you|provide|confirm|share|specify|choose|what i need"
    r"|(?:i|we)(?:'ll| will|'d| would)?(?: also| just| first| still| only)? need(?! to (?:look|find|locate|check|retrieve|identify))"
    r"|send me|give me|questions|reply)\b|^(?:list|enter|include|pick|select|send|give|state|which|what|where)\b"
)
_FALLBACK = re.compile(
    r"^(?:or )?if (?:you(?:'d| would)? (?:prefer|rather|do(?! not| n't)|don't want|want|need|believe|have|like|change|notice|can't access)"
    r"|anything|any of|not\b|a different|there's|you're not sure)"
)
"""What to do otherwise is no question."""
_LATER = re.compile(r"^(?:once|after|when) (?:you|i|we|the|that|confirmed|verified|submitted|approved|done|everything)\b")
_NEEDS = re.compile(r"\b(?:i|we)(?:'ll| will) (?:also )?need\b|\bplease (?:provide|share|tell)\b|let me know (?:the|which|your)\b")
_ANNOUNCED = re.compile(
    r"\b(?:i'll|i will|we'll|we will|i can|then) (?!need)(?:\w+ ){0,3}(?:ask|list|summari[sz]e|confirm|review|present|verify)\b"
    r"|\bbefore (?:proceeding|i proceed|i make|making|submitting)\b"
)
_HEAD_DETAILS = re.compile(
    r"\b(?:provide|share|need|tell|send|give|let me know|required (?:information|details|info)|needed|missing|questions|specify|choose)\b"
)
_HEAD_PLAN = re.compile(
    r"\b(?:confirm\w*|yes|propos\w+|plan|action\w*|ready to|i'?(?:ll| will| can| am going to)|here'?s? (?:is )?what|summary|chang\w+|steps|request\w*"
    r"|details|exchang\w*|return\w*|cancel\w*)\b"
)
_GO_AHEAD = re.compile(r"\bconfirm\w*\b|\byes\b")
_BELOW = re.compile(r"\b(?:details|information|questions|fields) below\b")
_STRICT = re.compile(
    r"\?|\b(?:choose|which|prefer|preferred|preference|whether|would you|tell me|let me know|select|unless you)\b"
    r"|^(?:the |your )?[\w ]{0,30}(?:method|item)s?(?: \w+){0,9}[.(]"
)
_MOST_HEADING = 25
"""In a list, a line of so many characters that ends in a colon is a field to fill in; a longer one is a heading."""


def _segments(text: str) -> Iterator[Segment]:
    details = plan = below = False
    for line in text.split("\n"):
        line = line.strip()
        if not line:
            continue
        bullet = _BULLET.match(line)
        if bullet:
            line = line[bullet.end() :]
        is_heading = line.endswith(":") and not (bullet and (details or plan or below) and len(line) < _MOST_HEADING)
        if not is_heading:
            if not bullet:
                details, plan, below = False, False, below or _BELOW.search(line) is not None
            for sentence in _SENTENCE.split(line) if len(line) > 40 else (line,):
                fill_in = below and sentence.endswith(":")
                yield Segment(sentence, fill_in or _asks(sentence, details and bullet is not None, plan), plan and bullet is not None)
            continue
        *before, line = _SENTENCE.split(line)
        for sentence in before:
            yield Segment(sentence, _asks(sentence, False, False), False)
        request = _REQUEST.search(line) is not None and not _ANNOUNCED.search(line)
        go_ahead = _GO_AHEAD.search(line) is not None
        details = not go_ahead and ((details and bullet is not None) or (_HEAD_DETAILS.search(line) is not None and request))
        plan = go_ahead or (not details and _HEAD_PLAN.search(line) is not None)
        yield Segment(line, request, plan)


def _asks(sentence: str, under_request: bool, under_plan: bool) -> bool:
    if not sentence.endswith("?"):
        if _FALLBACK.search(sentence) or sentence.startswith("to confirm"):
            return False
        if _LATER.search(sentence) and not _NEEDS.search(sentence):
            return False
        if _ANNOUNCED.search(sentence) and "please" not in sentence:
            return False
    if under_request:
        return True
    return (_STRICT if under_plan else _REQUEST).search(sentence) is not None


# What is asked and told

_ASKS: dict[str, tuple[str, ...]] = {
    "email": (
        r"\b(?:your|the|account|valid)(?: \w+)? e-?mail\b(?! (?:we have )?on file| instructions| confirmation)",
        r"^e-?mail\b",
        r"\be-?mail (?:address|associated|you used)\b",
    ),
    "name": (r"\b(?:first|last|full) name\b", r"\byour name\b", r"\bname (?:and|\+|plus|with) (?:your )?(?:zip|postal)", r"^name\b"),
    "zip": (r"\bzip\b", r"\bpost(?:al )?code\b"),
    "user": (r"\b(?:your|the) (?:user|customer) (?:id|number|name)\b",),
    "identity": (
        r"\b(?:verify|authenticate|identify) you\b(?!'|r)|\b(?:verify|authenticate|confirm) (?:your (?:identity|account)|who you are)",
    ),
    "confirm": (
        r"\b(?:reply|respond|answer|say|type)\b.{0,25}\byes\b",
        r"\byes ?(?:/|or) ?\"?no\b",
        r"\byes\"? to (?:proceed|go ahead|confirm|authori[sz]e|approve)",
        r"\b(?:shall|should) i\b(?! (?:use|look|check|search|transfer|send))",
        r"\bmay i (?:proceed|go ahead|continue)",
        r"\b(?:would you like|do you want|like|want) (?:me|us) to (?!transfer|check|look|help|find|connect|escalate|show|list|send|search|share|proceed with transfer|go ahead with transfer)",
        r"\b(?:would you like|do you want|want|wish) to (?:proceed|go ahead|continue)\b(?! with (?:a )?transfer|[^?\n]{0,100} or )",
        r"\bdo you (?:confirm|agree|approve|authori[sz]e)\b",
        r"(?<!also )(?<!you to )\bconfirm(?: (?:this|that|these|it|now|below|above))?(?: so i can proceed)?[.!:?)]*$",
        r"\bconfirm (?:if|that|whether)?(?: you|you'd|i) ?(?:would |'d )?(?:like|want|wish|should)?(?: me)?(?: to)? (?:proceed|go ahead|cancel|continue)",
        r"\bconfirm (?:if|that|whether)\b.{0,30}\bproceed",
        r"\blet me know (?:if|whether) you(?:'d| would)? (?:like|want)(?: me)? to (?:proceed|go ahead|continue)",
        r"\bconfirm the (?:following|above|details|return|exchange|change)\b",
        r"\bis (?:this|that|everything|all of this|all this) (?:correct|ok|okay|right|fine|all right|alright)",
        r"\b(?:does|do) (?:this|that|it|these|everything) (?:look|sound|work)",
        r"\b(?:ok|okay|go ahead|proceed|confirm|sound good|all right)\?",
        r"\byour (?:explicit )?(?:confirmation|approval|go-ahead|consent)\b",
        r"\bexplicit (?:confirmation|yes|approval)\b",
    ),
    "transfer_offer": (
        r"(?:would you like|do you want|want|like|shall i|should i|prefer)\b.{0,40}\b(?:transfer\w*|connect\w*|escalat\w*|human|representative)\b",
        r"\bi can (?:also )?(?:transfer|connect|escalate|route) you\b",
    ),
    "choice": (
        r"\bwould you like to (?!proceed|go ahead|continue|use|confirm|review|exchange for|receive|pay|add anything|make any)",
        r"\bwhich (?:option|of these|of the|one|action|path|way)\b.{0,40}\bproceed with\b",
        r"\blet me know what changes\b",
        r"\bwould you like (?:me to )?(?:check|look|send|search|a copy|help|show|share)",
        r"\bplease confirm which\b",
        r"\boption a\b.{0,60}\bor\b",
    ),
    "anything_else": (
        r"\b(?:anything|something) (?:else|more)\b",
        r"\bany (?:other|further|more|additional) (?:\w+ ){0,4}(?:questions?|requests?|help|assistance|settings|orders?|concerns|needs|issues)\b",
        r"\b(?:further|more|additional) (?:questions|assistance|help|requests)\b",
        r"\bif you need (?:anything|any)\b",
        r"\bfeel free to (?:ask|let|reach|share)",
        r"\bif you'd like more details\b",
        r"\bwhat else\b",
        r"\blet me know if you (?:need|have any)\b",
        r"\bif you need any changes\b",
    ),
}
_TELLS: dict[str, tuple[str, ...]] = {
    "transfer": (
        r"\byou(?:'re| are)(?: now)? being transferred\b",
        r"\bi(?:'m| am)(?: now)? (?:transferring|escalating|connecting|handing)\b",
        r"\bi(?:'ve| have)(?: now)? (?:transferred|escalated)\b",
        r"\bplease hold\b",
        r"^(?:\w+[,:] )?i(?:'ll| will)(?: now)? (?:transfer|connect|escalate) (?:you|this)\b",
    ),
    "done": (
        r"\b(?:has|have|'ve|was|were)(?: now| also| already)?(?: been)?(?: now)?(?: successfully)? (?:submitted|completed|updated|changed|modified|cancell?ed|returned|exchanged"
        r"|refunded|renewed|applied|initiated|placed|made|switched|reverted|issued|booked|added|removed|done|recorded|scheduled|extended|saved|reset|activated|processed|requested|set up)\b",
        r"\bsuccessfully (?!verified|authenticated|located|identified|found|retrieved|confirmed|logged)\w+ed\b",
        r"\ball set\b",
        r"\b(?:is|are) (?:complete|completed|done|submitted)\b",
        r"\b(?:is|are) now (?:cancell?ed|updated|renewed|reverted|changed|modified|exchanged|returned)\b",
        r"^(?:done|completed|changed|refunded|updates? completed|(?:return|exchange|request|change|order|cancellation)s? (?:submitted|cancell?ed|updated|completed|confirmed))\b",
        r"^i(?: just| now)? (?:cancell?ed|updated|changed|modified|returned|exchanged|renewed|submitted|completed|processed|switched|booked)\b",
        r"\b(?:updates confirmed|submitted)\b:?$",
        r"\bresult: success\b",
        r"\bstatus: \w{0,30}_(?:submitted|completed|done)\b",
    ),
    "refusal": (
        r"\bunfortunately\b",
        r"\b(?:i|we)(?:'m| am|'re| are)? (?:can't|cannot|can not|can only|couldn't|could not|unable|not able|won't be able to (?!modify|cancel|make|change))",
        r"\b(?:is|are|was|were|be) (?:currently )?(?:not|n't) (?:\w+ ){0,2}(?:possible|allowed|permitted|eligible|available|supported)\b",
        r"\b(?:isn't|aren't) (?:\w+ ){0,2}(?:possible|allowed|permitted|eligible|available|supported|shown|exposed|visible)\b",
        r"\b(?:unavailable|out of stock|not in stock|no in-stock|no way to)\b",
        r"\bdo(?:es)?(?: not|n't) (?:have (?:a way|visibility|access|separate|system|that|those|any|sizing|in-system)|support|allow|offer|display|see any|indicate)",
        r"\bcan't be (?:changed|cancelled|exchanged|returned|processed|split)\b",
        r"\bcannot be (?:changed|cancelled|exchanged|returned|processed|split)\b",
        r"\bno modifications can\b",
        r"\bonly (?:exchange|modify|return|cancel|be (?:processed|exchanged|returned|made))\b",
        r"\b(?:i|we) (?:must|have to) (?:decline|refuse|deny)\b",
        r"^sorry,? (?:but )?(?:no|that)\b",
    ),
    "inform": (
        r"\bhere (?:are the available|is what i found)\b|\bhere's what i (?:found|can|see)\b",
        r"\bthere (?:are|is) (?:currently )?(?:\d|only|no|one|two|three|several)",
        r"\byou have (?:one|two|three|\d|a|an|no)\b",
        r"\b(?:id|number) (?:for|of) .{1,60} is\b",
    ),
}
_CONDITIONAL = re.compile(
    r"^(?:once|after|when|if|before|until|as soon as|note|important|reminder)\b|\?$|\bonce (?:you|it|that|this|the|submitted|confirmed|approved)\b"
)
_REMINDER = re.compile(
    r"\b(?:be able to (?:modify|cancel|make|change)|can't be cancelled or|cannot be cancelled or|no longer|only be (?:done|requested|submitted|performed)|if you (?:can't|don't|cannot))\b"
)
_AMOUNT = re.compile(r"\$ ?\d|\b\d{1,9}\.\d\d\b")
"""An amount informs, except in the report of a change, which says it once more."""
_ONLY = re.compile(r"\bconfirm\b.{0,60}\bonly\b|\bonly (?:item|change)|\bthis is the only|\bthese are (?:all|the only)")
"""That nothing else is wanted belongs to the go-ahead, where one is asked."""
_DETAILS_MISSING = re.compile(r"^if (?:so|yes),? (?:please )?let me know (?:the|which|your) ", re.MULTILINE)
_OPEN_QUESTION = re.compile(
    r"\bhow (?:would|do|should)? ?(?:you|i|we)(?:'d| would)? (?:like|want|wish)?(?: me)? ?to (?:proceed|continue|go on)\b|\bhow you'd like\b"
    r"|\b(?:would you like|do you want|prefer)\b.{0,150}\bor\b.{0,150}\?"
)


@dataclass(frozen=True, eq=False)
class _Rules:
    asks: tuple[tuple[str, re.Pattern[str]], ...]
    tells: tuple[tuple[str, re.Pattern[str]], ...]
    values: Mapping[str, tuple[tuple[str, re.Pattern[str]], ...]]
    confirm: re.Pattern[str]
    name: re.Pattern[str]


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for several; the word boundary that most begin with is tested once, which makes the search five times faster."""
    at_word: list[str] = []
    anywhere: list[str] = []
    for pattern in patterns:
        is_single = pattern.startswith(r"\b") and "|" not in _GROUP.sub("", _GROUP.sub("", _GROUP.sub("", pattern)))
        (at_word if is_single else anywhere).append(pattern)
    joined = [rf"\b(?:{'|'.join(pattern.removeprefix(chr(92) + 'b') for pattern in at_word)})"] if at_word else []
    return re.compile("|".join(joined + [f"(?:{pattern})" for pattern in anywhere]), re.MULTILINE)


_GROUP = re.compile(r"\([^()]*\)")
"""An innermost group; taking it out three times leaves what is outside of groups."""


@lru_cache(maxsize=64)
def _compile(phrases: tuple[tuple[str, tuple[str, ...]], ...]) -> _Rules:
    asks, tells = dict(_ASKS), dict(_TELLS)
    values: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for key, patterns in phrases:
        kind, colon, value = key.partition(":")
        if kind == "tells":
            tells[value] = tells.get(value, ()) + patterns
        elif colon and kind != "say":
            values.setdefault(kind, []).append((value, _any(patterns)))
        elif not colon:
            asks[key] = asks.get(key, ()) + patterns
    return _Rules(
        tuple((slot, _any(patterns)) for slot, patterns in asks.items()),
        tuple((label, _any(patterns)) for label, patterns in tells.items()),
        {slot: tuple(known) for slot, known in values.items()},
        _any(asks["confirm"]),
        _any(asks["name"]),
    )


def _read(text: str, rules: _Rules) -> Understood:
    text = normalise(text)
    segments = tuple(_segments(text))
    tells = _find_tells(segments, rules)
    asks = frozenset() if "transfer" in tells else _find_asks(text, segments, rules)
    return Understood(asks, tells, text, segments)


_read_cached = lru_cache(maxsize=4096)(_read)


def _find_asks(text: str, segments: tuple[Segment, ...], rules: _Rules) -> frozenset[str]:
    asking = "\n".join(segment.text for segment in segments if segment.asks)
    if _ONLY.search(asking) and rules.confirm.search(asking):
        asking = "\n".join(segment.text for segment in segments if segment.asks and not _ONLY.search(segment.text)) + "\nconfirm?"
    found = {slot for slot, pattern in rules.asks if pattern.search(text if slot == "anything_else" else asking)}
    if "confirm" in found and _DETAILS_MISSING.search(asking):
        found.discard("confirm")
        found.add("choice")
    if "transfer_offer" in found:
        found.add("choice")
    if not found.isdisjoint(IDENTITY):
        found.add("identity")
    if "identity" in found and (alternative := rules.name.search(text)):  # "if you don't remember it, your name and zip code"
        found |= {"name", "zip"} if "zip" in text[alternative.start() :] else {"name"}
    if not found - {"anything_else"} and _OPEN_QUESTION.search(asking):
        found.add("choice")
    return frozenset(found)


def _find_tells(segments: tuple[Segment, ...], rules: _Rules) -> frozenset[str]:
    facts = "\n".join(segment.text for segment in segments if not _CONDITIONAL.search(segment.text))
    found = {label for label, pattern in rules.tells if pattern.search(facts)}
    if "done" not in found and _AMOUNT.search(facts):
        found.add("inform")
    return frozenset(found)
