"""Words that say nothing about one record more than about another: what may stay as it is when a text is about other records.

A text in prose is not understood here. So it may only change its records where every other word in it is known to be neutral: a word
of grammar, a word of the domain's policy and tools, or one that tasks about many different people and things use.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from sentinel_env.domain import Domain
from sentinel_env.failures.names import stem

from .shape import Shape, all_texts
from .values import strings
from .world import World

WORD = re.compile(r"[^\W\d_](?:[\w'’-]*[^\W_])?")
NUMBER = re.compile(r"(?<!\w)[#$€£]?\w*\d(?:[\w@.:/#-]*\w)?")
_USES = 3
"""Tasks of so many different subjects must use a word that is neutral."""

_GRAMMAR = """
    a an the this that these those it its itself they them their theirs he him his she her hers we us our ours you your yours yourself i
    me my mine myself and or but nor so yet if then else when while once after before until since because as than though although unless
    whether of in on at to from by with without within for about into onto over under up down out off through between during against per
    is are was were be been being am do does did doing done have has had having will would shall should can could may might must cannot
    can't don't doesn't didn't won't wouldn't isn't aren't wasn't weren't haven't hasn't couldn't shouldn't i'm i'd i've i'll you're you'd
    you've you'll it's that's there's what's let's not no yes ok okay please thanks thank hi hello dear sorry there here now today also too
    just only still already again soon even ever never always very really quite rather almost instead however otherwise anyway maybe perhaps
    what which who whom whose where why how much many more most less least few some any all both each every either neither none other others
    another same different such own new old one two three four five six seven eight nine ten first second third last next
    want wants wanted like likes need needs get gets got getting give gives make makes made go goes going let know knows think see say says
    tell tells told ask asks asked mention use using keep keeps put take takes try tries help helps look looks find finds come comes sure
    able right wrong possible thing things something anything everything nothing someone anyone nobody way time times kind lot bit
    actually exactly currently simply immediately already possibly probably hopefully regardless whatever whichever including included along
    allow allows allowed agree agrees accept accepts believe choose chooses chosen decide decided forget insist insists regret share speak
    talk word words money amount given fine good great okay hope glad sad angry upset unhappy polite brief urgent important problem issue
    online website total altogether add
    set ending well couple goal specifically current long longer around ago busy become part mind anymore
    back ahead else per via lastly finally first firstly secondly then afterwards together separately
"""
GRAMMAR = frozenset(_GRAMMAR.split())
"""Words of grammar and of asking, which describe no record."""
_COUNTING = "two three four five six seven eight nine ten both either neither several multiple other others"
COUNTING = frozenset(_COUNTING.split())
"""Words that say how many records there are, or that there are others: as many there must be again."""
RELATIONAL = frozenset(("more", "most", "less", "least", "than", "fewer"))
"""Words that compare, with every word that ends in "est"."""


def compares(word: str) -> bool:
    """Whether a word compares one value with others: "cheapest", "less"."""
    return word in RELATIONAL or (word.endswith("est") and len(word) > 5)


class Vocabulary:
    """The neutral words of a domain and its tasks."""

    def __init__(self, domain: Domain, world: World, shapes: Sequence[Shape]) -> None:
        self._domain_words = frozenset(_stems(_domain_texts(domain, world)))
        self._content = frozenset(_stems(_descriptions(world)))
        users: dict[str, dict[str, None]] = defaultdict(dict)
        for shape in shapes:
            for word in _stems(all_texts(shape.task)):
                users[word][shape.subject] = None
        self._common = frozenset(word for word, subjects in users.items() if len(subjects) >= _USES)

    def is_neutral(self, word: str, *, is_name: bool) -> bool:
        """Whether a word fits any record.

        Args:
            word: As it stands in the text.
            is_name: Whether it is written as a name is, with a capital within a sentence.
        """
        lower = word.lower().replace("’", "'")
        if lower in GRAMMAR or lower.removesuffix("'s") in GRAMMAR:
            return True
        parts = [stem(part) for part in re.split(r"[-']", lower) if part] if "-" in lower or "'" in lower else [stem(lower)]
        if all(part in self._domain_words for part in parts):
            return True
        if is_name:
            return False
        return all(part in self._common and part not in self._content for part in parts)


def _stems(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for word in WORD.findall(text):
            for part in re.split(r"[-'’]", word.lower()):
                if part:
                    yield stem(part)


def _domain_texts(domain: Domain, world: World) -> Iterator[str]:
    """What the domain says of itself: its policy, its tools and what they take, the names of tables and fields, and the states."""
    yield domain.policy
    for tool in domain.tools:
        yield from (tool.name.replace("_", " "), tool.description)
        for name, schema in tool.schema["function"]["parameters"].get("properties", {}).items():
            yield from (name.replace("_", " "), *strings([schema.get("description", ""), schema.get("enum", [])]))
    for kind, parts in world.by_kind.items():
        yield from (" ".join(kind).replace("_", " "),)
        names = {part: None for each in parts for path in each.leaves if path[0] not in each.open for part in path}
        yield from (name.replace("_", " ") for name in names)
        yield from dict.fromkeys(value.replace("_", " ") for each in parts for value in each.states.values() if isinstance(value, str))


def domain_words(domain: Domain) -> str:
    """What the policy and the tools say, in lower case."""
    return "\n".join([domain.policy, *(str(tool.schema["function"]) for tool in domain.tools)]).lower()


def _descriptions(world: World) -> Iterator[str]:
    """What records are described by: texts of few words in their fields, and the names of fields that only some have."""
    seen: dict[str, None] = {}
    for parts in world.by_kind.values():
        for part in parts:
            for path, value in part.leaves.items():
                if isinstance(value, str) and path not in part.states and len(value) < 60 and "@" not in value and value != part.key:
                    seen[value] = None
                if path[0] in part.open:
                    seen[path[-1]] = None
    yield from seen
