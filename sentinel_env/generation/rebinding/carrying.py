"""Carrying a task over: its reference, its facts and all its texts, with other parts in its roles."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Scenario, Wish

from .relations import Assignment
from .shape import Group, Shape, Unfit
from .speech import Neutral, Slot, Speech, Template, with_commas
from .vocabulary import COUNTING, GRAMMAR, compares

_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
_VOWEL = re.compile(r"[aeio]|u(?!s|ni|ku)", re.IGNORECASE)
_MANNERS = ("opening", "closing")
"""What a user says beside its wishes; nothing in it matters to the task."""
_PROSE = ("unknown", "instructions", "persona", *_MANNERS)
_BETWEEN = 4
"""Characters that may stand between an option's name and its value."""
_LEAST_TRACE = 4
"""Letters of an old name that are looked for within other words."""


class Script:
    """All texts of a task as templates, by where they stand."""

    def __init__(self, shape: Shape, neutral: Neutral) -> None:
        self.shape = shape
        self.templates: dict[str, Template] = {}
        speech = Speech(shape, neutral)
        bound = [at for at, role in enumerate(shape.roles) if role.standing in ("bound", "subject")]
        for place, text, context in self._texts(bound):
            self.templates[place] = speech.read(text, [*context, bound])

    def _texts(self, bound: list[int]) -> Iterator[tuple[str, str, list[list[int]]]]:
        """(place, text, the roles that it is likely to be about)."""
        task, groups = self.shape.task, self.shape.groups
        subject = [at for at, role in enumerate(self.shape.roles) if role.standing == "subject"]
        for at, wish in enumerate(task.scenario.wishes):
            own = groups[f"wish {at}"]
            yield f"wish {at} text", wish.text, [own.roles]
            if wish.slip is not None:
                yield f"wish {at} slip", wish.slip, [own.roles]
            for place, fact in enumerate(wish.facts):
                yield f"wish {at} fact {place}", fact.text, [self._about(own, fact.value), own.roles]
            for key, text in wish.labels.items():
                yield f"wish {at} label {key}", text, [self._about(own, key), own.roles]
        scenario = task.scenario
        yield "goal", scenario.goal, [bound]
        for name in _PROSE:
            if text := getattr(scenario, name):
                yield name, text, [bound]
        for key, text in scenario.known.items():
            yield f"known {key}", text, [subject]
        for place, fact in enumerate(scenario.facts):
            yield f"fact {place}", fact.text, [subject]
        for place, text in enumerate(task.criteria.tau2.nl_assertions if task.criteria.tau2 else ()):
            yield f"assertion {place}", text, [bound]
        for at, call in enumerate(self.shape.actions):
            group = groups[f"action {at}"]
            for name, value in group.values:
                if (name, value) not in group.refs and " " in value and self.shape.domain.is_transfer(call.name):
                    yield f"action {at} {name}", value, [group.roles]

    def _about(self, group: Group, value: Any) -> list[int]:
        """The roles that a fact's value names, with the entries that refer to them, or that are in them."""
        refs = [ref.role for pair, refs in group.refs.items() if pair[1] == value for ref in refs]
        roles = self.shape.roles
        entries = [at for at in group.roles if isinstance(value, str) and self.shape.refers(roles[at].part, value)]
        within = [at for at, role in enumerate(roles) if any(role.part.owner is roles[ref].part for ref in refs)]
        return [*entries, *refs, *within]

    @cached_property
    def slots(self) -> dict[int, list[Slot]]:
        """Where wishes and goal speak of each role."""
        found: dict[int, list[Slot]] = defaultdict(list)
        for place, template in self.templates.items():
            if " label " not in place and not place.startswith("assertion"):
                for slot in template.slots:
                    found[slot.ref.role].append(slot)
        return dict(found)

    @cached_property
    def spoken_options(self) -> dict[int, list[str]]:
        """The options that texts speak of, by role."""
        roles = self.shape.roles
        return {
            role: [slot.ref.path[-1] for slot in slots if slot.ref.path is not None and slot.ref.path[0] in roles[role].part.open]
            for role, slots in self.slots.items()
            if role >= 0
        }

    @cached_property
    def words(self) -> list[str]:
        """All words of what is wanted that are no slots."""
        return [word for place, template in self.templates.items() if _is_wanted(place) for word in template.words]

    @property
    def compares(self) -> bool:
        """Whether something is told by comparing it; what a wish says beside its facts is manner of speaking."""
        facts = [template for place, template in self.templates.items() if " fact " in place]
        words = [word for template in facts for word in template.words] if self.shape.task.scenario.wishes else self.words
        return any(map(compares, words))

    @property
    def not_understood(self) -> list[str]:
        """Words that may describe the very records of the task."""
        found: list[str] = []
        for place, template in self.templates.items():
            if place in _MANNERS:
                continue
            found += [*template.names, *template.numbers]
            found += template.unknown if _is_wanted(place) else template.unknown_beside
        return list(dict.fromkeys(found))

    @property
    def counts(self) -> bool:
        """Whether prose says how many records there are, or that there are others."""
        return not self.shape.task.scenario.wishes and any(word in COUNTING for word in self.words)

    # other records

    def carry(self, assignment: Assignment, told: Mapping[str, str]) -> tuple[Scenario, tuple[str, ...]]:
        """The scenario, and tau2-bench's assertions, about other records.

        Raises:
            Unfit: Something cannot be said of them, or a text still tells of the old ones.
        """
        scenario = self.shape.task.scenario

        def say(place: str) -> str:
            return self._say(self.templates[place], assignment, told)

        wishes = tuple(self._wish(at, wish, assignment, say, told) for at, wish in enumerate(scenario.wishes))
        facts = tuple(
            fact.model_copy(update={"text": say(f"fact {at}"), "value": self.value("facts", fact.slot, fact.value, assignment)})
            for at, fact in enumerate(scenario.facts)
        )
        texts: dict[str, Any] = {name: say(name) for name in _PROSE if name in self.templates}
        known = {key: say(f"known {key}") for key in scenario.known}
        assertions = tuple(say(place) for place in self.templates if place.startswith("assertion"))
        self._check_traces(assignment)
        return scenario.model_copy(update={"goal": say("goal"), "known": known, "facts": facts, "wishes": wishes, **texts}), assertions

    def _wish(self, at: int, wish: Wish, assignment: Assignment, say: Callable[[str], str], told: Mapping[str, str]) -> Wish:
        group = f"wish {at}"
        facts = tuple(
            fact.model_copy(update={"text": say(f"{group} fact {place}"), "value": self.value(group, "", fact.value, assignment)})
            for place, fact in enumerate(wish.facts)
        )
        changed: dict[str, Any] = {"text": say(f"{group} text"), "facts": facts}
        changed["labels"] = {str(self.value(group, "", key, assignment)): say(f"{group} label {key}") for key in wish.labels}
        changed["answers"] = tuple(told.get(text, text) for text in wish.answers)
        if wish.slip is not None:
            changed["slip"] = say(f"{group} slip")
        if wish.call is not None:
            changed["call"] = wish.call.model_copy(update={"arguments": self.value(group, "", wish.call.arguments, assignment)})
        return wish.model_copy(update=changed)

    def value(self, group: str, name: str, value: Any, assignment: Assignment) -> Any:
        """A JSON value with the new parts' keys and fields in the place of the old ones'.

        Raises:
            Unfit: It came from two places, which now differ.
        """
        if isinstance(value, dict):
            return {key: self.value(group, key, each, assignment) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(group, name, each, assignment) for each in value]
        refs = self.shape.groups[group].refs.get((name, value)) if isinstance(value, str) else None
        if not refs:
            return assignment.constants.get((name, value), value) if isinstance(value, str) else value
        found = dict.fromkeys(assignment.value(ref) for ref in refs)
        if len(found) != 1:
            raise Unfit("a value that two records shared differs between the others")
        return next(iter(found))

    def call(self, at: int, assignment: Assignment) -> ToolCall | None:
        """A reference action about other records; None where it looks at one that there is not.

        Raises:
            Unfit: Its arguments cannot be found.
        """
        call, group = self.shape.actions[at], self.shape.groups[f"action {at}"]
        if any(assignment.parts[ref.role] is None for refs in group.refs.values() for ref in refs):
            return None
        arguments = self.value(f"action {at}", "", call.arguments, assignment)
        for name in arguments:
            template = self.templates.get(f"action {at} {name}")
            if template is not None:
                arguments[name] = self._say(template, assignment, {})
        return call.model_copy(update={"arguments": arguments})

    def _say(self, template: Template, assignment: Assignment, told: Mapping[str, str]) -> str:
        text = ""
        for at, part in enumerate(template.parts):
            if isinstance(part, str):
                text += part
                continue
            if part.form == "constant":
                text += next((new for (_, old), new in assignment.constants.items() if old.lower() == part.text.lower()), part.text)
                continue
            if part.ref.role >= 0 and self._is_same(part, assignment):
                text += part.text
                continue
            if part.form in ("told", "amount") and (amount := told.get(part.text.replace(",", ""), told.get(part.text))) is not None:
                text += with_commas(amount) if "," in part.text else amount
                continue
            new = _spoken(part, assignment, self.shape, named=_is_field_of(template.parts[:at], part))
            before = template.parts[at - 1] if at else ""
            article = _ARTICLE.search(before) if isinstance(before, str) else None
            if article is not None:
                text = text[: len(text) - len(article.group())] + _article(article.group(1), new) + article.group(2)
            text += new
        return text

    def _is_same(self, slot: Slot, assignment: Assignment) -> bool:
        old, path = self.shape.roles[slot.ref.role].part, assignment.path(slot.ref)
        if path != slot.ref.path:
            return False
        return assignment.value(slot.ref) == (old.key if path is None else old.leaves.get(path))

    def _check_traces(self, assignment: Assignment) -> None:
        """Refuse where words that nothing explains are the old subject's: the street alone, or its name in a second e-mail address."""
        subject = next(at for at, role in enumerate(self.shape.roles) if role.standing == "subject")
        old, new = self.shape.roles[subject].part, assignment.part(subject)
        gone = [value for path, value in old.leaves.items() if isinstance(value, str) and new.leaves.get(path) != value]
        names = [value.lower() for value in [*gone, old.key or ""] if len(value) >= _LEAST_TRACE]
        words = {word for value in gone for word in value.lower().split()}
        for template in self.templates.values():
            for word in (*template.names, *template.numbers, *template.unknown):
                if word.lower() in words or any(name in word.lower() for name in names):
                    raise Unfit("a text still tells of the old records")


def _is_wanted(place: str) -> bool:
    return place.startswith(("goal", "wish", "action"))


def _is_field_of(before: Sequence[str | Slot], slot: Slot) -> bool:
    """Whether the option's name stands right before its value: {'size': 'L'}."""
    if len(before) < 2 or not isinstance(before[-1], str) or not isinstance(before[-2], Slot):
        return False
    return before[-2].form == "field" and before[-2].ref == slot.ref and len(before[-1]) <= _BETWEEN


def _spoken(slot: Slot, assignment: Assignment, shape: Shape, *, named: bool) -> str:
    """What stands in a slot for other records; `named` where the option's name stands before it.

    Raises:
        Unfit: It cannot be said in this way.
    """
    value, path = assignment.value(slot.ref), assignment.path(slot.ref)
    old = shape.roles[slot.ref.role].part
    if slot.form == "field":
        assert path is not None
        return _cased(path[-1], slot.text)
    if slot.form == "amount":
        if not isinstance(value, float):
            raise Unfit("an amount is no number")
        return f"{value:.2f}"
    if not isinstance(value, str) or not value:
        raise Unfit("the other record has nothing to call it by")
    if slot.form == "digits":
        runs = [run for run in re.findall(r"\d+", value) if len(run) >= _LEAST_TRACE]
        if len(runs) != 1:
            raise Unfit("the other key has other digits")
        return str(runs[0])
    if path is None:
        return value if slot.text.lower() == (old.key or "").lower() else value.lstrip("#")
    was = str(old.leaves.get(slot.ref.path or ()))
    if slot.form == "pair" and (_is_bare(was) or not _is_bare(value)):
        return f"{path[-1]} {value}"
    if path[0] in old.open and not named and _is_bare(was) and not _is_bare(value):
        return f"{path[-1]} {value}"
    return value if slot.text == was or slot.form == "pair" else _cased(value, slot.text)


def _article(like: str, word: str) -> str:
    """ "a" or "an", as the word that follows wants it."""
    article = "an" if _VOWEL.match(word) else "a"
    return article.capitalize() if like[0].isupper() else article


def _is_bare(value: str) -> bool:
    """Whether an option's value can be understood without the option's name."""
    return len(value) > 2 and not value.isdigit() and value.lower() not in GRAMMAR


def _cased(value: str, like: str) -> str:
    """A name as the other one is written: with small letters within a sentence, except for what is never written so."""
    if like.islower():
        return " ".join(word if word[1:] != word[1:].lower() else word.lower() for word in value.split(" "))
    return value[:1].upper() + value[1:] if like[:1].isupper() and like[1:].islower() else value
