"""Do the user's words tell the wanted value from the others on which the same write would work?

The others stand beside the wanted one in what was read: other variants, payment methods, records of the owner; or they are the other
constants of an argument. What would work is found out by executing it. What tells two values apart is whatever their records differ in;
a single word of it in what the user says is enough, and so is a comparison where they differ in an amount. So a finding is a value
that nothing at all speaks for, and even then only "suspect": people guess well.
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
from .issues import Issue, shorten
from .reach import choices, parts
from .text import is_identifier, plain, stems, words
from .walk import Step, Walk, execute

MOST_SIBLINGS = 60
"""Values that are tried for one argument."""


def _list(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMPARES = _list(
    """more most less least fewer fewest cheap cheaper cheapest expensive costly larger largest bigger biggest smaller smallest higher
    highest lower lowest longer longest shorter shortest lighter lightest heavier heaviest brighter brightest darker older oldest newer
    newest earlier earliest later latest recent recently last first second third maximum minimum max min best better upgrade
    downgrade easiest easier harder hardest slightly faster fastest slower maximized minimized exceed under over below above than
    big small large"""
)
_RELATES = _list("same other original originally rest remaining default usual exact identical")
_EMPTY = _list("a an the of in on at to for from with by and or but is are be it this that you your my me i not no yes none true false")
_GENERAL = _list("id number item name key")
"""Of field names: they say nothing about what the field holds."""
_SIZES = _list("xs s m l xl xxl xxxl small medium large low high beginner intermediate expert easy hard")
_CAUSE = re.compile(r"\b(?:because|since|due to|so that|as (?:you|i|it|they|we|he|she)\b)", re.IGNORECASE)
"""A cause in the user's own words, which an agent can match with the constant for it."""
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


@dataclass(frozen=True)
class Sentence:
    """What the user says, as far as it is compared."""

    words: frozenset[str]
    """Stems."""
    causal: bool


@dataclass(frozen=True)
class Sibling:
    """Another value, and what tells it from the wanted one."""

    value: Any
    call: ToolCall
    """The write with it."""
    words: frozenset[str]
    """Stems of the words that only one of the two has."""
    about: frozenset[str] = frozenset()
    """Stems of all words in what the two are: sentences without any of them are about something else."""
    comparable: bool = False
    """Whether they differ in an amount."""
    constant: bool = False
    """Whether the two are constants, not records."""
    hints: tuple[str, ...] = ()
    """What could be said of the wanted one."""


def ambiguities(walk: Walk, step: Step, explorer: Explorer, judged: Sequence[Any] = ()) -> Iterator[Issue]:
    """Arguments of a write that could as well have another value.

    Args:
        walk: The reference.
        step: An accepted write, before the explorer took it in.
        explorer: What can be known then.
        judged: Values whose words somebody else has judged.
    """
    own = stem_set(f"{step.call.name} {' '.join(step.call.arguments)}".replace("_", " "))
    sentences = _sentences(walk, step, explorer)
    before, known = _changes(walk, step, step.call), {plain(value) for value in judged}
    for name, value in step.call.arguments.items():
        found: list[Sibling] = []
        for part in dict.fromkeys(part for part in parts(value) if isinstance(part, str) and part):
            if plain(part) in known or (is_identifier(part) and explorer.said.says(part)):
                continue
            options = choices(walk.domain, step, name)
            for sibling in _constants(step, name, part, options) if options else _beside(walk, step, name, part, explorer):
                if _is_told(sibling, sentences, own, stem_set(name.replace("_", " "))):
                    continue
                changes = _changes(walk, step, sibling.call)
                if changes is not None and changes != before and not _forbidden(walk, step, sibling.call):
                    found.append(sibling)
        if found:
            yield _ambiguous(walk, step, name, found)


def _is_told(sibling: Sibling, sentences: Sequence[Sentence], own: frozenset[str], name: frozenset[str]) -> bool:
    """Whether anything that the user says speaks for one of the two."""
    about = sibling.about | name - _GENERAL
    for sentence in sentences:
        if sentence.words & sibling.words - own:
            return True
        if sibling.constant and sentence.causal:
            return True
        if not (sibling.about and sentence.words & about):
            continue
        if sentence.words & _RELATES or (sibling.comparable and sentence.words & _COMPARES):
            return True
    return False


def _ambiguous(walk: Walk, step: Step, name: str, found: Sequence[Sibling]) -> Issue:
    others = list(dict.fromkeys(str(sibling.value) for sibling in found))
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    hints = list(dict.fromkeys(hint for sibling in found for hint in sibling.hints))[:5]
    wanted = shorten(", ".join(map(str, parts(step.call.arguments[name]))), 80)
    reason = f"{step.name}: {name} {wanted} might as well be {shown}: the write works too, and nothing that the user says speaks for one; "
    reason += f"say which, for instance by {', '.join(hints)}" if hints else "say which"
    evidence = {"action": step.at, "argument": name, "wanted": step.call.arguments[name], "others": others, "hints": hints}
    return Issue(task=walk.task.id, kind="ambiguous_description", severity="suspect", reason=reason, evidence=evidence)


@lru_cache(maxsize=8192)
def stem_set(text: str) -> frozenset[str]:
    """The stems of a text's words, those that say nothing left out."""
    return frozenset(stems(text)) - _EMPTY


def _sentences(walk: Walk, step: Step, explorer: Explorer) -> list[Sentence]:
    """The wish that the write fulfils, or, where there is no such wish, the whole scenario sentence by sentence."""
    for wish in walk.task.scenario.wishes:
        if wish.call is not None and (wish.call.name, wish.call.arguments) == (step.call.name, step.call.arguments):
            return [_sentence(" ".join([wish.text, *(fact.text for fact in wish.facts)]))]
    return [_sentence(sentence) for sentence in _SENTENCE.split(explorer.said.text)]


def _sentence(text: str) -> Sentence:
    """A sentence's words; "book shelf" is a bookshelf too."""
    found = words(text.replace("_", " "))
    return Sentence(stem_set(" ".join([*found, *(one + two for one, two in pairwise(found))])), _CAUSE.search(text) is not None)


def _changes(walk: Walk, step: Step, call: ToolCall) -> Any:
    db = step.before.fork()
    answer = execute(walk.domain, db, call)
    return None if answer is None or answer.is_error else db.changes()


def _forbidden(walk: Walk, step: Step, call: ToolCall) -> bool:
    return walk.domain.forbids is not None and walk.domain.forbids(step.before, call) is not None


def _with(step: Step, name: str, part: Any, other: Any) -> ToolCall:
    value = step.call.arguments[name]
    changed = [other if item == part else item for item in value] if isinstance(value, list) else other
    return step.call.model_copy(update={"arguments": {**step.call.arguments, name: changed}})


def _constants(step: Step, name: str, part: str, options: Sequence[Any]) -> Iterator[Sibling]:
    for other in options:
        if other != part:
            yield Sibling(other, _with(step, name, part, other), stem_set(str(part)) ^ stem_set(str(other)), constant=True)


def _beside(walk: Walk, step: Step, name: str, part: str, explorer: Explorer) -> Iterator[Sibling]:
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
                yield Sibling(other.value, changed, one ^ two, one | two, comparable=True, hints=hints)
            return
    yield Sibling(other.value, _with(step, name, part, other.value), frozenset())


def _sibling(value: Any, call: ToolCall, mine: dict[str, Any], others: dict[str, Any]) -> Sibling:
    telling: set[str] = set()
    about: set[str] = set()
    hints: list[str] = []
    comparable = False
    for key in dict.fromkeys([*mine, *others]):
        one, two = mine.get(key), others.get(key)
        own, its = (stem_set(str(each).replace("_", " ")) for each in (one, two))
        field = key.rpartition(".")[2].replace("_", " ")
        named = stem_set(field) - _GENERAL
        about |= own | its | named
        if one != two:
            telling |= (own ^ its) | named
            comparable = comparable or (_is_amount(one) and _is_amount(two))
            if one is not None and not is_identifier(str(one)):
                hints.append(f"{field} {str(one).replace('_', ' ')}")
    return Sibling(value, call, frozenset(telling), frozenset(about), comparable, hints=tuple(hints))


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
