"""Other values on which the same write might work: what stands beside the wanted one, and what tells the two apart.

The others are found in what was read: other variants, payment methods, records of the owner; or they are the other constants that an
argument takes. What tells two values apart is whatever their records differ in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

from sentinel_env.messages import ToolCall

from .answers import Answer, Leaf
from .explore import Explorer
from .reach import parts
from .text import is_identifier, plain, stem, stems, words
from .walk import Step, Walk

MOST_SIBLINGS = 60
"""Values that are tried for one argument."""


def word_list(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_EMPTY = word_list("a an the of in on at to for from with by and or but is are be it this that you your my me i not no yes none true false")
GENERAL = word_list("id number item name key")
"""Of field names: they say nothing about what the field holds."""
_SIZES = word_list("xs s m l xl xxl xxxl small medium large low high beginner intermediate expert easy hard")


@dataclass(frozen=True)
class Sibling:
    """Another value, and what tells it from the wanted one."""

    value: Any
    call: ToolCall
    """The write with it."""
    mine: frozenset[str]
    """Stems of the words that only the wanted one has."""
    theirs: frozenset[str]
    """Stems of the words that only the other one has."""
    fields: frozenset[str] = frozenset()
    """Stems of the names of what they differ in."""
    about: frozenset[str] = frozenset()
    """Stems of all words in what the two are: sentences without any of them are about something else."""
    comparable: bool = False
    """Whether they differ in an amount."""
    constant: bool = False
    """Whether the two are constants, not records."""
    hints: tuple[str, ...] = ()
    """What could be said of the wanted one."""


@lru_cache(maxsize=8192)
def stem_set(text: str) -> frozenset[str]:
    """The stems of a text's words, those that say nothing left out; "book shelf" is a bookshelf too."""
    found = words(text.replace("_", " "))
    joined = " ".join(one + two for one, two in pairwise(found))
    return frozenset([*map(stem, found), *stems(joined)]) - _EMPTY


def _with(step: Step, name: str, part: Any, other: Any) -> ToolCall:
    value = step.call.arguments[name]
    changed = [other if item == part else item for item in value] if isinstance(value, list) else other
    return step.call.model_copy(update={"arguments": {**step.call.arguments, name: changed}})


def constants(step: Step, name: str, part: str, options: Sequence[Any]) -> Iterator[Sibling]:
    """The other constants that an argument may take."""
    for other in options:
        if other != part:
            own, its = stem_set(str(part)), stem_set(str(other))
            yield Sibling(other, _with(step, name, part, other), own - its, its - own, constant=True)


def beside(walk: Walk, step: Step, name: str, part: str, explorer: Explorer) -> Iterator[Sibling]:
    """Values that stand beside the wanted one in something that was read, those that the reference wants elsewhere left out."""
    if not is_identifier(part):
        return
    wanted = {plain(value) for write in walk.writes for value in parts(write.call.arguments.get(name))}
    tried: set[str] = set()
    for _, answer in list(explorer.answers.values()):
        for leaf in answer.by_value.get(plain(part), ()):
            for other in answer.siblings(leaf):
                key = plain(other.value)
                if key in wanted or key in tried or len(tried) >= MOST_SIBLINGS:
                    continue
                tried.add(key)
                yield from _compare(step, name, part, answer, leaf, other, explorer)


def _compare(step: Step, name: str, part: str, answer: Answer, leaf: Leaf, other: Leaf, explorer: Explorer) -> Iterator[Sibling]:
    mine, others = answer.fields(leaf), answer.fields(other)
    if len(mine) > 1:
        yield _sibling(other.value, _with(step, name, part, other.value), mine, others)
        return
    for lookup in explorer.world.lookups:  # a bare key: what is behind it tells
        if len(lookup.slots) != 1:
            continue
        behind = [
            explorer.read(step.before, ToolCall(name=lookup.name, arguments={lookup.slots[0].name: key})) for key in (part, other.value)
        ]
        if behind[0] is not None and behind[1] is not None:
            for changed in _on_other_record(step, name, part, other.value, behind[0], behind[1]):
                one, two = behind[0].words, behind[1].words
                hints = tuple(word for word in sorted(one - two) if word.isalpha() and len(word) > 3)
                yield Sibling(other.value, changed, one - two, two - one, about=one | two, comparable=True, hints=hints)
            return
    yield Sibling(other.value, _with(step, name, part, other.value), frozenset(), stem_set(str(other.value)))


def _sibling(value: Any, call: ToolCall, mine: dict[str, Any], others: dict[str, Any]) -> Sibling:
    own, its, both = set[str](), set[str](), set[str]()
    fields: set[str] = set()
    hints: list[str] = []
    comparable = False
    for key in dict.fromkeys([*mine, *others]):
        one, two = mine.get(key), others.get(key)
        in_one, in_two = (frozenset() if each is None else stem_set(str(each)) for each in (one, two))
        field = key.rpartition(".")[2].replace("_", " ")
        both |= in_one | in_two | stem_set(field) - GENERAL
        if one != two:
            own |= in_one
            its |= in_two
            fields |= stem_set(field) - GENERAL
            comparable = comparable or (_is_amount(one) and _is_amount(two))
            if one is not None and not is_identifier(str(one)):
                hints.append(f"{field} {str(one).replace('_', ' ')}")
    return Sibling(
        value, call, frozenset(own - its), frozenset(its - own), frozenset(fields), frozenset(both), comparable, hints=tuple(hints)
    )


def _is_amount(value: Any) -> bool:
    text = str(value).lower()
    return isinstance(value, int | float) or text in _SIZES or (re.match(r"\d{1,4}(?!\d)", text) is not None and not is_identifier(text))


def _on_other_record(step: Step, name: str, part: str, other: Any, mine: Answer, behind: Answer) -> Iterator[ToolCall]:
    """The same write on another record: what the reference names within the one record has its like in the other."""
    options: list[list[Any]] = []
    names = list(step.call.arguments)
    for argument in names:
        value = step.call.arguments[argument]
        if argument == name:
            options.append([_with(step, name, part, other).arguments[name]])
            continue
        alike = _alike(value, mine, behind)
        options.append([value] if alike is None else [alike, value])
    for values in list(product(*options))[:8]:
        yield step.call.model_copy(update={"arguments": dict(zip(names, values, strict=True))})


def _alike(value: Any, mine: Answer, behind: Answer) -> Any:
    """What stands in the other record for the parts of a value: of the same kind, by a key or a name that both have; None without any."""
    found = []
    for part in value if isinstance(value, list) else [value]:
        leaf = next((leaf for leaf in mine.by_value.get(plain(part), ()) if "*" in leaf.place), None)
        if leaf is None:
            return None
        fields = {key: own for key, own in mine.fields(leaf).items() if key == "name" or is_identifier(str(own))}
        likes = [
            other
            for other in behind.by_place.get(leaf.place, ())
            if any(behind.fields(other).get(key) == own for key, own in fields.items() if plain(own) != plain(part))
        ]
        taken = [like.value for like in likes if like.value not in found]
        if not taken:
            return None
        found.append(taken[0])
    return found if isinstance(value, list) else found[0]
