"""Do the user's words tell the wanted value from the others on which the same write would work?

A single word of what tells them apart is enough, and so is a comparison where they differ in an amount; whether the write would work is
found out by executing it. So a finding is a value that nothing at all speaks for, or whose rival alone is spoken for, and even then only
"suspect": people guess well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sentinel_env.messages import ToolCall

from .explore import Explorer
from .issues import Issue, shorten
from .reach import choices, parts
from .siblings import GENERAL, Sibling, beside, constants, stem_set, word_list
from .text import is_identifier, plain
from .walk import Step, Walk, execute

_COMPARES = word_list(
    """more most less least fewer fewest cheap cheaper cheapest expensive costly larger largest bigger biggest smaller smallest higher
    highest lower lowest longer longest shorter shortest lighter lightest heavier heaviest brighter brightest darker older oldest newer
    newest earlier earliest later latest recent recently last first second third maximum minimum max min best better upgrade
    downgrade easiest easier harder hardest slightly faster fastest slower maximized minimized exceed under over below above than
    big small large"""
)
_RELATES = word_list("same other original originally rest remaining default usual exact identical")
_EXCEPTS = word_list(
    "except but keep kept not don't no never without instead rather all everything every any anything other others nothing none only first"
)
"""A sentence with one of these may name what is not wanted."""
_CAUSE = re.compile(r"\b(?:because|since|due to|so that|as (?:you|i|it|they|we|he|she)\b)", re.IGNORECASE)
"""A cause in the user's own words, which an agent can match with the constant for it."""
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


@dataclass(frozen=True)
class Sentence:
    """What the user says, as far as it is compared."""

    words: frozenset[str]
    """Stems."""
    causal: bool


def ambiguities(walk: Walk, step: Step, explorer: Explorer, judged: Sequence[Any] = ()) -> Iterator[Issue]:
    """Arguments of a write that could as well have another value.

    Args:
        walk: The reference.
        step: An accepted write, before the explorer took it in.
        explorer: What can be known then.
        judged: Values whose words somebody else has judged.
    """
    judge = _Judge(walk, step, explorer)
    before, known = _changes(walk, step, step.call), {plain(value) for value in judged}
    for name, value in step.call.arguments.items():
        found: dict[str, list[Sibling]] = {"open": [], "other": []}
        for part in dict.fromkeys(part for part in parts(value) if isinstance(part, str) and part):
            if plain(part) in known or (is_identifier(part) and explorer.said.says(part)):
                continue
            options = choices(walk.domain, step, name)
            for sibling in constants(step, name, part, options) if options else beside(walk, step, name, part, explorer):
                verdict = judge.verdict(sibling, name)
                if verdict == "told":
                    continue
                changes = _changes(walk, step, sibling.call)
                if changes is not None and changes != before and not _forbidden(walk, step, sibling.call):
                    found[verdict].append(sibling)
        if found["other"]:
            yield _misleading(walk, step, name, found["other"], judge.sentences)
        elif found["open"]:
            yield _ambiguous(walk, step, name, found["open"])


class _Judge:
    """What the user says of one write, and which values the reference takes."""

    def __init__(self, walk: Walk, step: Step, explorer: Explorer) -> None:
        self.sentences = _sentences(walk, step, explorer)
        self._named = explorer.said.plain
        self._own = stem_set(f"{step.call.name} {' '.join(step.call.arguments)}")
        """Words that the tool and its arguments are called by: they tell nothing apart."""
        self._used = {plain(part) for call in walk.task.criteria.actions for part in parts(call.arguments)}
        self._written = {plain(part) for write in walk.writes for part in parts(write.call.arguments)}

    def verdict(self, sibling: Sibling, name: str) -> str:
        """Whether what the user says speaks for the wanted value ("told"), for the other one only ("other"), or for neither ("open")."""
        other = plain(sibling.value)
        mine = sibling.mine - self._own
        if is_identifier(other) and other in self._named and not any(sentence.words & mine for sentence in self.sentences):
            return "told" if other in self._written else "other"
        verdict = self._by_words(sibling, sibling.about | stem_set(name) - GENERAL)
        return "told" if verdict == "other" and other in self._used else verdict

    def _by_words(self, sibling: Sibling, about: frozenset[str]) -> str:
        telling, theirs = (sibling.mine | sibling.fields) - self._own, sibling.theirs - self._own
        related = for_other = excepted = False
        for sentence in self.sentences:
            if sentence.words & telling or (sibling.constant and sentence.causal):
                return "told"
            if sibling.about and sentence.words & about:
                if sibling.comparable and sentence.words & _COMPARES:
                    return "told"
                related = related or bool(sentence.words & _RELATES)
            if sentence.words & theirs:
                for_other = True
                excepted = excepted or bool(sentence.words & _EXCEPTS)
        if for_other and not excepted:
            return "other"
        return "told" if for_other or related else "open"


def _ambiguous(walk: Walk, step: Step, name: str, found: Sequence[Sibling]) -> Issue:
    others = list(dict.fromkeys(str(sibling.value) for sibling in found))
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    hints = list(dict.fromkeys(hint for sibling in found for hint in sibling.hints))[:5]
    wanted = shorten(", ".join(map(str, parts(step.call.arguments[name]))), 80)
    reason = f"{step.name}: {name} {wanted} might as well be {shown}: the write works too, and nothing that the user says speaks for one; "
    reason += f"say which, for instance by {', '.join(hints)}" if hints else "say which"
    evidence = {"action": step.at, "argument": name, "wanted": step.call.arguments[name], "others": others, "hints": hints}
    return Issue(task=walk.task.id, kind="ambiguous_description", severity="suspect", reason=reason, evidence=evidence)


def _misleading(walk: Walk, step: Step, name: str, found: Sequence[Sibling], sentences: Sequence[Sentence]) -> Issue:
    others = list(dict.fromkeys(str(sibling.value) for sibling in found))
    said = sorted({word for sentence in sentences for sibling in found for word in sentence.words & sibling.theirs})[:5] or others[:1]
    wanted = shorten(", ".join(map(str, parts(step.call.arguments[name]))), 80)
    shown = ", ".join(others[:3])
    reason = f"{step.name}: the user's words ({', '.join(said)}) speak for {name} {shown}, and none for {wanted}; correct one of them"
    evidence = {"action": step.at, "argument": name, "wanted": step.call.arguments[name], "others": others, "words": said}
    return Issue(task=walk.task.id, kind="wrong_description", severity="suspect", reason=reason, evidence=evidence)


def _sentences(walk: Walk, step: Step, explorer: Explorer) -> list[Sentence]:
    """The wish that the write fulfils, or, where there is no such wish, the whole scenario sentence by sentence."""
    for wish in walk.task.scenario.wishes:
        if wish.call is not None and (wish.call.name, wish.call.arguments) == (step.call.name, step.call.arguments):
            return [_sentence(" ".join([wish.text, *(fact.text for fact in wish.facts)]))]
    return [_sentence(sentence) for sentence in _SENTENCE.split(explorer.said.text)]


def _sentence(text: str) -> Sentence:
    return Sentence(stem_set(text), _CAUSE.search(text) is not None)


def _changes(walk: Walk, step: Step, call: ToolCall) -> Any:
    db = step.before.fork()
    answer = execute(walk.domain, db, call)
    return None if answer is None or answer.is_error else db.changes()


def _forbidden(walk: Walk, step: Step, call: ToolCall) -> bool:
    return walk.domain.forbids is not None and walk.domain.forbids(step.before, call) is not None
