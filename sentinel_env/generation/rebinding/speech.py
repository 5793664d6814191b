"""Texts as templates: where a text speaks of a record, by its key, a field, or a word of its name, and what else it says.

"Exchange the red lamp in #W1."   ->   Exchange the {line.options.color} {line.name} in {order}.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .shape import Ref, Shape
from .vocabulary import GRAMMAR, NUMBER, WORD
from .world import Kind, Part, Path, World

Form = Literal["value", "pair", "digits", "last", "first", "field", "amount", "constant", "told"]
"""How a text says it: in full; an option with its name; the digits of a key; the last words of a name, or its first; an option's name;
money; a constant that the task tells; what has to be told."""
_LEAST_DIGITS = 4
_LEAST_WORD = 4
_SENTENCE = re.compile(r"(?<=[.!?;:\n])\s+")
_DETERMINER = re.compile(r"\b(?:the|a|an|your|my|this|that|and)\s+$", re.IGNORECASE)
_NEXT_WORD = re.compile(r"\s+([\w'’]+)")
_START = re.compile(r"(?:^|[.!?:;\n(\"'*-])\s*$")


Neutral = Callable[[str, bool], bool]
"""(word, whether it is written as a name) -> whether it fits any record."""


@dataclass(frozen=True)
class Slot:
    """A place in a text where a role is spoken of."""

    ref: Ref
    form: Form
    text: str
    """What stands there."""


@dataclass
class Template:
    """A text with its slots."""

    parts: list[str | Slot] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Names that nothing explains."""
    own_names: list[str] = field(default_factory=list)
    """Those that stand in no sentence with a slot of something shared, such as "Texas": they may be about whoever asks."""
    numbers: list[str] = field(default_factory=list)
    """Numbers that nothing explains."""
    unknown: list[str] = field(default_factory=list)
    """Other words that are not known to be neutral."""
    unknown_beside: list[str] = field(default_factory=list)
    """Those that stand in one sentence with a slot of something shared."""
    words: list[str] = field(default_factory=list)
    """All words beside the slots, in lower case."""

    @property
    def slots(self) -> list[Slot]:
        """The places in order."""
        return [part for part in self.parts if isinstance(part, Slot)]


@dataclass(frozen=True)
class _Sense:
    """What a phrase could stand for."""

    part: Part | None
    path: Path | None
    form: Form
    exact: str


class Speech:
    """All phrases by which a task's records can be spoken of."""

    def __init__(self, shape: Shape, neutral: Neutral) -> None:
        self._shape = shape
        self._neutral = neutral
        self._senses: dict[str, list[_Sense]] = defaultdict(list)
        self._constants: dict[str, list[frozenset[str]]] = defaultdict(list)
        self._collect()
        longest = sorted(self._senses, key=lambda phrase: (-len(phrase), phrase))
        any_phrase = "|".join(map(re.escape, longest)) or "(?!)"
        self._pattern = re.compile(rf"(?<![\w-])(?<!\w[.@])(?:{any_phrase})(?!\w|[.@-]\w)", re.IGNORECASE)

    def _collect(self) -> None:
        shape = self._shape
        own = [shape.subjects.face(shape.subject), *(part for root in shape.belongings for part in root.below())]
        scope = {id(part): part for part in [*own, *(role.part for role in shape.roles)]}
        for part in scope.values():
            for phrase, sense in _phrases(shape.world, part):
                if phrase.lower() not in GRAMMAR:
                    self._senses[phrase.lower()].append(sense)
        for text in shape.task.criteria.communicate:
            for written in dict.fromkeys((text, with_commas(text))) if any(map(str.isdigit, text)) else ():
                self._senses[written.lower()].append(_Sense(None, None, "told", text))
        for group in shape.groups.values():
            told = frozenset(value for pair in group.values if pair not in group.refs and len(value := pair[1]) > 1)
            for value in sorted(told) if group.is_binding else ():
                self._senses[value.lower()].append(_Sense(None, None, "constant", value))
                self._constants[value.lower()].append(told)

    def read(self, text: str, context: Sequence[Sequence[int]]) -> Template:
        """A text as a template.

        Args:
            text: The text.
            context: Roles that it is likely to be about, the likeliest first.
        """
        template = Template()
        found = list(self._pattern.finditer(text))
        at = 0
        for match, sense in [(match, self._choose(match, context, found)) for match in found]:
            if sense is None:
                continue
            ref = Ref(-1) if sense.part is None else Ref(self._shape.add_spoken(sense.part), sense.path)
            template.parts += [text[at : match.start()], Slot(ref, sense.form, match.group())]
            at = match.end()
        template.parts.append(text[at:])
        self._note_words(template)
        return template

    def _choose(self, match: re.Match[str], context: Sequence[Sequence[int]], found: Sequence[re.Match[str]]) -> _Sense | None:
        """What a phrase stands for: what the text is likelier to be about, what is named beside it, what is the subject's."""
        said, text = match.group(), match.string.lower()
        senses = [sense for sense in self._senses[said.lower()] if len(said) > 2 or sense.exact == said]
        told = [sense for sense in senses if sense.part is None]
        if told and any(other.lower() in text for group in self._constants[said.lower()] for other in group if other != said):
            return told[0]
        own = [sense for sense in senses if sense.part is not None and (sense.form != "first" or _stands_alone(match))]
        if not own:
            return told[0] if told else None
        rank = {id(self._shape.roles[role].part): at for at, roles in reversed(list(enumerate(context))) for role in roles}

        def order(sense: _Sense) -> tuple[int, int, bool, int]:
            part = sense.part
            assert part is not None
            is_shared = self._shape.subjects.of(part.root) is None
            return rank.get(id(part), len(context)), self._distance(part, match, found), is_shared, len(part.kind)

        return min(own, key=order)

    def _distance(self, part: Part, match: re.Match[str], found: Sequence[re.Match[str]]) -> int:
        """How far the next other mention of a part is: an option goes with the name beside it."""
        beside = (other for other in found if other is not match and self._names(other, part))
        return min((abs(other.start() - match.start()) for other in beside), default=len(match.string))

    def _names(self, match: re.Match[str], part: Part) -> bool:
        """Whether a phrase could name a part, by more than an option of it."""
        senses = self._senses[match.group().lower()]
        return any(sense.part is part and (sense.path is None or sense.path[0] not in part.open) for sense in senses)

    def _note_words(self, template: Template) -> None:
        """Take note of the words beside the slots, sentence by sentence."""
        sentence: list[tuple[str, bool]] = []
        of_things = False
        line = ""  # the sentence so far
        for part in [*template.parts, None]:
            if isinstance(part, Slot):
                of_things = of_things or self._is_thing(part)
                line += part.text
                continue
            for at, piece in enumerate([""] * 2 if part is None else _SENTENCE.split(part)):
                if at:
                    self._note_sentence(template, sentence, of_things=of_things)
                    sentence, of_things, line = [], False, ""
                start, line = len(line), line + piece
                template.numbers += [number.group() for number in NUMBER.finditer(piece)]
                for word in WORD.finditer(NUMBER.sub(lambda number: " " * len(number.group()), piece)):
                    said, is_first = word.group(), _START.search(line[: start + word.start()]) is not None
                    sentence.append((said, said[0].isupper() and (not is_first or said.isupper()) and said != "I"))

    def _note_sentence(self, template: Template, sentence: Iterable[tuple[str, bool]], *, of_things: bool) -> None:
        for word, is_name in sentence:
            template.words.append(word.lower())
            if self._neutral(word, is_name):
                continue
            (template.names if is_name else template.unknown).append(word)
            if is_name and not of_things:
                template.own_names.append(word)
            elif of_things and not is_name:
                template.unknown_beside.append(word)

    def _is_thing(self, slot: Slot) -> bool:
        """Whether something is spoken of that is shared, or in a record: not who asks, nor a record as such."""
        if slot.ref.role < 0:
            return False
        part = self._shape.roles[slot.ref.role].part
        return self._shape.subjects.of(part.root) is None or (part.owner is not None and part.key is None)


def _phrases(world: World, part: Part) -> Iterator[tuple[str, _Sense]]:
    if part.key is not None:
        plain = part.key.lstrip("#")
        for phrase in dict.fromkeys((part.key, plain)):
            yield phrase, _Sense(part, None, "value", part.key)
        for digits in re.findall(r"\d+", part.key):
            if len(digits) >= _LEAST_DIGITS and digits != part.key:
                yield digits, _Sense(part, None, "digits", digits)
    referring = {each.path for each in world.references if each.kind == part.kind}
    for path, value in part.leaves.items():
        if isinstance(value, float):
            yield f"{value:.2f}", _Sense(part, path, "amount", f"{value:.2f}")
        if not isinstance(value, str) or not value or value == part.key or path in referring or path in part.states:
            continue
        if not (value.isdigit() and len(value) < 3):
            yield value, _Sense(part, path, "value", value)
        if path[0] in part.open:
            yield f"{path[-1]} {value}", _Sense(part, path, "pair", f"{path[-1]} {value}")
            if len(path[-1]) >= _LEAST_WORD:
                yield path[-1], _Sense(part, path, "field", path[-1])
        elif " " in value and not any(map(str.isdigit, value)):
            for form, words in _short(value):
                if len(words) >= _LEAST_WORD and _spread(world, part.kind, path)[words.lower()] == 1:
                    yield words, _Sense(part, path, form, words)


def _short(name: str) -> Iterator[tuple[Form, str]]:
    """What a name may be shortened to: the words from somewhere to its end, and its first word."""
    words = name.split()
    for at in range(1, len(words)):
        yield "last", " ".join(words[at:])
    yield "first", words[0]


def with_commas(text: str) -> str:
    """A number with a comma after the thousands."""
    whole, dot, cents = text.partition(".")
    return f"{int(whole):,}{dot}{cents}" if whole.isdigit() and 3 < len(whole) < 12 else text


def _stands_alone(match: re.Match[str]) -> bool:
    """Whether a word is used as a noun: "your jigsaw to", not "into gaming"."""
    after = _NEXT_WORD.match(match.string, match.end())
    return _DETERMINER.search(match.string[: match.start()]) is not None and (after is None or after.group(1).lower() in GRAMMAR)


def _spread(world: World, kind: Kind, path: Path) -> Counter[str]:
    """How many different values of a field have each of these short names."""
    cache: dict[tuple[Kind, Path], Counter[str]] = world.__dict__.setdefault("_spread", {})
    if (kind, path) not in cache:
        values = {value: None for part in world.by_kind[kind] if isinstance(value := part.leaves.get(path), str)}
        cache[kind, path] = Counter(
            words.lower() for value in values for words in dict.fromkeys([words for _, words in _short(value)] + [value])
        )
    return cache[kind, path]
