"""An agent's text in segments: sentences, lines of a list, entries of JSON; each with whether it asks for something.

What a line means depends on its heading: under "Please provide:" every line asks, under "Please confirm:" it states what will be done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_CHARACTERS = 16_000
"""Of a longer text the beginning and, since the question is usually last, three times as much of the end are read."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One sentence, or one line of a list."""

    text: str
    asks: bool
    """Whether it wants an answer."""
    listed: bool
    """Whether it stands under a heading that asks for a go-ahead or announces a plan: it may state an action to agree to."""


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
    stack: list[tuple[str, Any, bool]] = [("", value, True)]
    while stack:
        key, value, on_top = stack.pop()
        if isinstance(value, Mapping):
            yield f"\n{key}:" if key else ""
            stack.extend((str(name).replace("_", " "), item, not key) for name, item in reversed(list(value.items())))
        elif isinstance(value, list):
            yield f"{key}:" if key else ""
            stack.extend(("", item, False) for item in reversed(value))
        elif isinstance(value, str) and (len(value) > 40 or not key):
            heading = f"\n{key}:\n" if key and key != "message" else ""
            yield heading + (value if "\n" in value or not value else f"- {value}")
        elif value is not None:
            yield ("" if on_top else "- ") + (f"{key}: {value}" if key else f"{value}")


_SENTENCE = re.compile(r"(?<=[.?!])[\"')]?\s+(?=\S)")
_BULLET = re.compile(r"\s*(?:[-•>]|\(?\d{1,2}[.)]|\(?[a-d][.)])\s+")
_REQUEST = re.compile(
    r"\?|\b(?:please(?! (?:hold|note|wait|allow|be aware|follow|have|ignore|see|check))|(?:could|can|would|will) you|let me know|tell me"
    r"|may i|do you|provide|confirm|share|specify|choose|what i need"
    r"|(?:i|we)(?:'ll| will|'d| would)?(?: also| just| first| still| only)? need(?! to (?:look|find|locate|check|retrieve|identify))"
    r"|send me|give me|questions|reply)\b|^(?:list|enter|include|pick|select|send|give|state|which|what|where)\b"
)
_FALLBACK = re.compile(
    r"^(?:or )?if (?:you(?:'d| would)? (?:prefer|rather|do(?! not| n't)|don't want|want|need|believe|have|like|change|notice"
    r"|can't access)"
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
    r"\b(?:confirm\w*|yes|propos\w+|plan|action\w*|ready to|i'?(?:ll| will| can| am going to)|here'?s? (?:is )?what|summary"
    r"|chang\w+|steps|request\w*"
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


def split_segments(text: str) -> Iterator[Segment]:
    """The segments of a normalised text, in order."""
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
