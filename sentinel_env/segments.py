"""An agent's text in segments: sentences, lines of a list, entries of JSON; each with whether it asks for something.

What a line means depends on its heading: under "Please provide:" every line asks, under "Please confirm:" it states what will be done.
A heading rules the lines that stand deeper, by indent and bullet; JSON is laid out as such lines first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

_MAX_CHARACTERS = 16_000
"""Of a longer text the beginning and, since the question is usually last, three times as much of the end are read."""


class Segment(NamedTuple):
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
    text = text.translate(_PLAIN).lower()
    return _INLINE.sub("\n  • ", text) if "•" in text else text


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
_INLINE = re.compile(r"(?<=[^\s•]) • ")
_JSON_STARTS = ("{", "[", '"')


def _from_json(text: str) -> str | None:
    """The keys and texts of a JSON document as headings and list lines, indented by depth; None when it is none."""
    if text.lstrip()[:1] not in _JSON_STARTS:
        return None
    try:
        return "\n".join(_lines(json.loads(text)))
    except (ValueError, RecursionError):
        return None


def _lines(value: Any) -> Iterator[str]:
    """Depth first without recursion. A text of a sentence or more stands below its key; a "message" stands alone."""
    stack: list[tuple[str, Any, int]] = [("", value, 0)]
    while stack:
        key, value, depth = stack.pop()
        indent = " " * min(depth, _DEEPEST)
        if isinstance(value, Mapping | list):
            if key:
                yield f"{indent}{key}:"
            inner = depth + 1 if key else depth
            entries = value.items() if isinstance(value, Mapping) else (("", item) for item in value)
            stack.extend((str(name).replace("_", " "), item, inner) for name, item in reversed(list(entries)))
        elif isinstance(value, str) and key and (len(value) > _LONG or key == "message"):
            if key != "message":
                yield f"{indent}{key}:"
                indent += " "
            yield "\n".join(indent + line for line in value.split("\n"))
        elif value is not None:
            yield f"{indent}{key}: {value}" if key else f"{indent}{value}"


_LABEL, _LONG, _DEEPEST = 25, 40, 20

_SENTENCE = re.compile(r"(?<=[.?!])[\"')]?\s+(?=\S)")
_BULLET = re.compile(r"(?:([-•>])|\(?\d{1,2}[.)]|\(?[a-d][.)])\s+")

# What makes a sentence a request: a question, an imperative at the start of a clause, a need.

_VERB = r"(?:provide|share|send|give|specify|choose|select|pick|(?:re-?)?confirm|reply|respond|indicate|advise|tell|let (?:me|us) know)\b"
_OPENS_REQUEST = re.compile(
    r"(?:(?:also|and|or|then|next|first|now|finally|optional|alternatively),? |(?:once|if|to|for) [^,:]{1,80}, )?(?:either )?"
    rf"(?:{_VERB}|(?:enter|include|list|state|type)\b(?!:))"
    r"|(?:(?!your|answers)\w+ )?questions\b"
)
_REQUEST = re.compile(
    rf"\b(?:please (?:(?:[\w-]+ ){{0,3}}?(?:{_VERB}|include|list|enter)|confirm)|let me know|tell me|(?:can|could|would|will|do) you|may i"
    r"|(?:i|we)(?:'ll| will|'d| would)?(?: also| just| first| still| only)? need\b(?! to (?!verify|authenticate|identify|confirm|know))"
    r"|(?:required|missing|needed) (?:\w+ )?(?:info|detail)|(?:info\w*|details) (?:needed|required)|needed from you)"
    rf"|[:;(,] (?:please\b|(?:and |or |then |so |also )?{_VERB})"
)
_ALTERNATIVE = re.compile(
    r"(?:or,? |otherwise,? )?if (?!so\b|yes\b|you(?:'ve| have| know| remember| confirm| agree| approve)\b"
    r"|(?:you'd |you )?(?:would )?(?:like|want|wish)(?: me)? to (?:proceed|go ahead|continue)"
    r"|(?:that|this|it|these|everything|all)\b[^,]{0,30} (?:is|are|looks?|sounds?|works?)(?! not|n't))"
)
"""What to do otherwise is no question, but "if so", "if you have it" and "if that is right" go on with it."""
_HEADING_PLAN = re.compile(
    r"\b(?:confirm\w*|yes|propos\w+|plan|action\w*|ready to|i'?(?:ll| will| can| am going to)|here'?s? (?:is )?what|summary|chang\w+"
    r"|request\w*|details|\w+ (?:to|being) (?:be )?\w+)\b"
)
_GO_AHEAD = re.compile(r"\bconfirm\w*\b|\byes\b")
_ASKS_IN_PLAN = re.compile(
    r"\?|^(?:which|where|confirm|that you (?:approve|agree))\b|\byou(?:'d| would)? (?:want|like|prefer|wish)\b|\bit(?:'s| is) ok"
    r"|\b(?:know|confirm|specify|tell me|and) (?:which|what|whether|where|how)\b"
    r"|\b(?:please|also|^) ?(?:provide|share|specify|choose|select|pick|tell|reply|advise|let me know)\b"
    r"|\b(?:your|the) (?:prefer\w+|choice)\b"
)
"""Below the heading of a plan a line states what will be done, unless it clearly asks."""
_REQUESTED, _PLANNED = "requested", "planned"


def split_segments(text: str) -> Iterator[Segment]:
    """The segments of a normalised text, in order; a heading right below another one is ruled by it."""
    scopes: list[tuple[int, str]] = []
    after_heading = False
    lines = [_indent(line.rstrip()) for line in text.split("\n") if line and not line.isspace()]
    lines.append((0, ""))
    for (depth, line), (next_depth, next_line) in pairwise(lines):
        is_heading = line.endswith(":")
        while scopes and (scopes[-1][0] > depth or (scopes[-1][0] == depth and not (is_heading and after_heading))):
            scopes.pop()
        scope = scopes[-1][1] if scopes else ""
        *before, last = _SENTENCE.split(line)
        for sentence in before:
            yield Segment(sentence, _asks(sentence, scope), scope == _PLANNED)
        asks = _asks(last, scope)
        if is_heading:
            scope = _PLANNED if _GO_AHEAD.search(last) else _REQUESTED if asks else _PLANNED if _HEADING_PLAN.search(last) else scope
            scopes.append((depth, scope))
            asks = asks or (len(last) <= _LABEL and next_depth == depth and next_line.endswith(":"))  # a form: "Order:" above "Reason:"
        yield Segment(last, asks, scope == _PLANNED)
        after_heading = is_heading


def _indent(line: str) -> tuple[int, str]:
    """How deep a line stands, and its text without the bullet; a numbered line is above a dashed one."""
    text = line.lstrip()
    depth = len(line) - len(text)
    if bullet := _BULLET.match(text):
        return depth + (2 if bullet[1] else 1), text[bullet.end() :]
    return depth, text


def _asks(sentence: str, scope: str) -> bool:
    if scope == _REQUESTED or sentence.endswith("?"):
        return True
    if _ALTERNATIVE.match(sentence):
        return False
    if scope == _PLANNED:
        return _ASKS_IN_PLAN.search(sentence) is not None
    return "?" in sentence or _OPENS_REQUEST.match(sentence) is not None or _REQUEST.search(sentence) is not None
