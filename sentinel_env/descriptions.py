"""Whether an agent's words describe what the customer spoke of: by which share of the telling words they have."""

from __future__ import annotations

import re
from functools import lru_cache

from .segments import normalise
from .tasks import Fact, Wish

_LEADS_TO = re.compile(r"(?:\b(?:for|to|into|with|new \w+)\b:?|->|=>)(.{1,120})")
_COMMON_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a an the this that it its my your our you i we me of in on at to for from with without by and or but one ones is are be
        has have please same as new current existing item items order id number product option options variant price difference
        payment method refund charge using use will would like proceed go ahead yes no confirm exchange change modify update
        return cancel delivered pending original account shipping address following details shall should okay ok instead
        """,
    )
)


def other_parts(fact: Fact, text: str) -> bool:
    """Whether a text has some parts of a structured value, such as an address, and other words in the place of the rest."""
    if not isinstance(fact.value, dict):
        return False
    parts = [normalise(part) for part in fact.value.values() if isinstance(part, str) and part and not (part.isupper() and len(part) == 3)]
    spans = [span for part in parts if (span := _whole_words(part, text))]
    if len(spans) < 2:
        return False
    between = text[min(start for start, _ in spans) : max(end for _, end in spans)]
    added = set(re.findall(r"\b\d+\b", between)) - set(re.findall(r"\d+", " ".join(parts))) if len(between) < 200 else set()
    return len(spans) < len(parts) or bool(added)


def _whole_words(part: str, text: str) -> tuple[int, int] | None:
    """Where a part first stands in a text, not inside of a longer word."""
    start = text.find(part)
    while start >= 0:
        end = start + len(part)
        if not (text[start - 1 : start].isalnum() and part[0].isalnum()) and not (text[end : end + 1].isalnum() and part[-1].isalnum()):
            return start, end
        start = text.find(part, start + 1)
    return None


def other_outcome(fact: Fact, own: frozenset[str], wish: Wish, region: str) -> bool:
    """Whether the text describes, in words, another variant or address than the fact's."""
    if not (fact.slot.startswith("new_") or fact.slot == "address"):
        return False
    known = _words(" ".join([wish.text, *wish.labels.values(), *(other.text for other in wish.facts)]))
    others = [_words(label) for key, label in wish.labels.items() if key.lower().lstrip("#") not in own]
    wanted = _words(fact.text) - frozenset[str]().union(*others)
    described = [words for span in _LEADS_TO.findall(region) if (words := _words(span))]
    if wanted and any(words - known for words in described) and 2 * sum(word in region for word in wanted) < len(wanted):
        return True
    return "same" in fact.text.lower() and any(_changes_more(line, known) for line in region.split("\n"))


def _changes_more(line: str, known: frozenset[str]) -> bool:
    """Whether "a (red, small) -> a (blue, large)" changes more than what the customer spoke of."""
    before, arrow, after = line.partition("->")
    old, new = (_words(before), _words(after)) if arrow else (frozenset[str](), frozenset[str]())
    return len(old & new) >= 2 and any(not word.isdigit() for word in new - old - known)


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in re.findall(r"[^\W_]+", normalise(text)) if word not in _COMMON_WORDS)


def share_said(text: str, description: str) -> float:
    """The share of a description's telling words that occur in a text; 1 where it has none."""
    words = _words(description)
    return sum(word in text for word in words) / len(words) if words else 1.0
