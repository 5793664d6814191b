"""What a new task must differ from: the tasks that there are, and whatever is held out for measuring."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property, lru_cache

from sentinel_env.domain import Domain
from sentinel_env.errors import DomainError, TaskError, ToolError
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Task

from .texts import leaves

GRAM = 8
"""How many words in a row are compared."""


class HeldOut:
    """Tasks that nothing may be learnt of: their records and their words, filed once and looked up in O(draft)."""

    def __init__(self, domain: Domain, tasks: Iterable[Task], *, of_other_splits: bool = False) -> None:
        """File the tasks.

        Args:
            domain: The world.
            tasks: What is held out.
            of_other_splits: Whether only the tasks of other splits than its own are held out from a task.
        """
        self._domain = domain
        self._of_other_splits = of_other_splits
        self._records: dict[str, dict[str, str]] = defaultdict(dict)
        """Record -> split -> the first task that is about it."""
        self._grams: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._texts: list[tuple[str, str]] = []
        """(split, task id) of each text."""
        self._splits: set[str] = set()
        for task in tasks:
            for record in self._records_of(task, is_valid=False):
                self._records[record].setdefault(task.split, task.id)
            for gram in dict.fromkeys(grams(task.scenario.goal)):
                self._grams[gram].append(len(self._texts))
            self._texts.append((task.split, task.id))
            self._splits.add(task.split)

    def is_for(self, task: Task) -> bool:
        """Whether anything is held out from a task."""
        return any(self._holds_out(split, task) for split in self._splits)

    def leak(self, task: Task, max_overlap: float) -> str | None:
        """What a task, whose calls fit their tools, has in common with one that is held out from it, or None."""
        for record in sorted(self._records_of(task, is_valid=True)):
            for split, other in self._records.get(record, {}).items():
                if self._holds_out(split, task):
                    return f"record {record!r:.80} is one of task {other!r} of split {split!r}"
        own = list(dict.fromkeys(grams(task.scenario.goal)))
        shared = Counter(at for gram in own for at in self._grams.get(gram, ()) if self._holds_out(self._texts[at][0], task))
        for at, count in shared.most_common(1):
            if count >= max_overlap * len(own):
                split, other = self._texts[at]
                return f"{100 * count // len(own)} % of the goal's word sequences stand in task {other!r} of split {split!r}"
        return None

    def _holds_out(self, split: str, task: Task) -> bool:
        return not (self._of_other_splits and split == task.split)

    @cached_property
    def _subject_of(self) -> dict[str, str]:
        """Record -> whose it is, by the domain's operations."""
        operations, base = self._domain.operations, self._domain.base
        if operations is None:
            return {}
        return {record: subject for subject in operations.subjects(base) for record in (subject, *operations.entities(base, subject))}

    def _records_of(self, task: Task, *, is_valid: bool) -> frozenset[str]:
        """The records that a task is about: all of its people's, and where the domain knows no people, those that its calls name."""
        domain, found = self._domain, set[str]()
        base, operations, access = domain.base, domain.operations, domain.access
        try:
            db = domain.start(task) if task.changes else base
        except (TaskError, TypeError):  # a broken task is about what it names all the same
            db = base
        for call in task.criteria.actions:
            owner = access.owner(db, call) if access is not None and (is_valid or _fits(domain, call)) else None
            if owner is not None:
                found.add(owner)
            if operations is not None and owner is not None:
                continue
            named = {leaf for leaf in leaves(call.arguments) if isinstance(leaf, str)}
            if operations is not None:
                found.update(subject for leaf in named if (subject := self._subject_of.get(leaf)) is not None)
            elif access is None or owner is not None:
                found.update(leaf for leaf in named if any(leaf in table for table in base.tables.values()))
        if operations is not None:
            for person in [each for each in found if each in self._subject_of]:
                found |= operations.entities(base, person)
        return frozenset(found)


def _fits(domain: Domain, call: ToolCall) -> bool:
    """Whether a tool takes a call: tasks that are held out may come from anywhere."""
    tool = domain.tools_by_name.get(call.name)
    if tool is None:
        return False
    try:
        tool.validate(call.arguments)
    except ToolError:
        return False
    return True


_WORD = re.compile(r"[^\W_]+", re.UNICODE)


def grams(text: str) -> list[tuple[str, ...]]:
    """The word 8-grams of a text; a shorter text is one gram.

    >>> grams("Renew Dune, please.")
    [('renew', 'dune', 'please')]
    """
    words = _WORD.findall(text.lower())
    return [tuple(words[at : at + GRAM]) for at in range(max(1, len(words) - GRAM + 1))] if words else []


class KnownTasks:
    """The tasks that a new one must differ from, by what they do, and those that are held out from it."""

    def __init__(self, domain: Domain, tasks: Iterable[Task] = (), *, held_out: HeldOut | Iterable[Task] | None = None) -> None:
        """File the tasks.

        Args:
            domain: The world.
            tasks: What a new task must not be the same as.
            held_out: What it must share no record and no text with; for None the domain's own tasks of other splits than its own.
        """
        self._domain = domain
        self._plans: dict[str, list[str]] = defaultdict(list)
        """What a task does -> the ids of the tasks that do it."""
        self._ids: Counter[str] = Counter()
        self._held_out = held_out if isinstance(held_out, HeldOut) or held_out is None else HeldOut(domain, held_out)
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Remember a task."""
        self._ids[task.id] += 1
        self._plans[self._plan(task)].append(task.id)

    def remove(self, task: Task) -> None:
        """Forget a task that was added."""
        self._ids[task.id] -= 1
        self._plans[self._plan(task)].remove(task.id)

    def same_as(self, task: Task) -> str | None:
        """The id of a known task with this id or with the same writes (without any, the same look-ups) and things to say, or None."""
        if self._ids[task.id]:
            return task.id
        return next(iter(self._plans.get(self._plan(task), ())), None)

    @property
    def held_out(self) -> HeldOut:
        """What a new task must have nothing in common with."""
        return self._held_out or _own(self._domain)

    def _plan(self, task: Task) -> str:
        tools = self._domain.tools_by_name
        calls = [call for call in task.criteria.actions if call.name in tools]
        done = [call for call in calls if tools[call.name].writes] or [call for call in calls if self._is_about_nobody(call)]
        handed_over = any(self._domain.is_transfer(call.name) for call in calls)
        told = sorted(task.criteria.communicate)
        return json.dumps([sorted(map(_as_text, done)), handed_over, told, task.changes], sort_keys=True)

    def _is_about_nobody(self, call: ToolCall) -> bool:
        """Whether a read is of something that belongs to no person: by that two questions differ that have the same answer."""
        access = self._domain.access
        if access is None or self._domain.is_transfer(call.name) or call.name in access.identified_by:
            return False
        return access.owner(self._domain.base, call) is None


def _as_text(call: ToolCall) -> str:
    return json.dumps([call.name, call.arguments], sort_keys=True)


@lru_cache(maxsize=8)
def _own(domain: Domain) -> HeldOut:
    """A domain's tasks, each held out from those of other splits; filed once."""
    try:
        return HeldOut(domain, domain.tasks_by_id.values(), of_other_splits=True)
    except TaskError as error:  # which is no property of a draft
        raise DomainError(str(error)) from error
