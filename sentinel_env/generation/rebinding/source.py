"""The tasks that can be carried over, each analysed once: its shape, its texts, what holds in it and how its records are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from random import Random

from sentinel_env.database import Changes
from sentinel_env.domain import Domain
from sentinel_env.errors import SentinelError
from sentinel_env.failures.opportunities import Exposure
from sentinel_env.knowledge import Same
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Task

from .amounts import Amounts
from .carrying import Script
from .constants import Constants
from .copying import Copier
from .lookups import Lookups, Read, learn_reads
from .relations import Assignment, Relations
from .search import Search
from .shape import Shape, Unfit
from .subjects import Subjects, find_subjects
from .telling import Telling
from .values import strings
from .vocabulary import Vocabulary, domain_words
from .world import Kind, World, world_of

PER_SUBJECT = 3
"""How many assignments with one subject are looked at."""


class Source:
    """A task that can be carried over."""

    def __init__(self, shape: Shape, vocabulary: Vocabulary, fixed: str, reads: Mapping[Kind, Counter[Read]]) -> None:
        """Analyse it."""
        self.shape = shape
        self.task = shape.task
        self.script = Script(shape, lambda word, is_name: vocabulary.is_neutral(word, is_name=is_name))
        self.relations = Relations(shape)
        self.amounts = Amounts(self.relations, fixed)
        self.search = Search(self.relations)
        self.constants = Constants(shape)
        self.lookups = Lookups(self.relations, self.script.slots, reads)
        self.not_free: str | None = None
        """Why the task cannot be about other records as they are, but only about copies of its own."""
        own = {root.name for root in shape.belongings}
        self.shared_changes: Changes = {}
        """Those of the task's changes that are not about its subject."""
        for table, rows in self.task.changes.items():
            if kept := {key: row for key, row in rows.items() if (table, key) not in own}:
                self.shared_changes[table] = kept
        self._telling: Telling | None = None
        if words := self.script.not_understood:
            self.not_free = f"words that may describe the records of the task: {', '.join(words[:3])}"
        else:
            try:
                self._telling = Telling(self.relations, self.script.slots, self.script.words, self.script.compares)
            except Unfit as reason:
                self.not_free = str(reason)

    def rebindings(self, subject: str, random: Random) -> Iterator[Assignment | Unfit]:
        """Assignments with another subject as the database has it, and why others are none."""
        if self._telling is None:
            return
        if self.script.counts and not _same_census(self.shape, subject):
            yield Unfit("another number of records, of which the text speaks")
            return
        found = 0
        for assignment in self.search.assignments(subject, random):
            if found >= PER_SUBJECT:
                return
            if not self.relations.name_options(assignment, self.script.spoken_options):
                yield Unfit("the other record has other options")
            elif not self._telling.holds(assignment):
                yield Unfit("the words would not tell the other records from those beside them")
            else:
                found += 1
                assignment.constants = self.constants.draw(random)
                yield assignment

    @cached_property
    def exposure(self) -> Exposure:
        """The opportunities that the task leaves."""
        return Exposure(self.shape.domain, self.task)

    def actions(self, assignment: Assignment, *, copied: bool) -> list[ToolCall | None]:
        """The reference about other records; None in the place of what is left out.

        Raises:
            Unfit: It cannot be worked out.
        """
        calls = [self.script.call(at, assignment) for at in range(len(self.shape.actions))]
        return calls if copied else [call and self.amounts.calculate(at, call, assignment) for at, call in enumerate(calls)]

    def copier(self) -> Copier:
        """What puts another subject in the same situation."""
        subject = next(at for at, role in enumerate(self.shape.roles) if role.standing == "subject")
        said = [slot.ref for slot in self.script.slots.get(subject, ())]
        given = [ref for group in self.shape.groups.values() for refs in group.refs.values() for ref in refs if ref.role == subject]
        changing = frozenset(ref.path for ref in [*said, *given] if ref.path is not None)
        named = any(template.own_names for template in self.script.templates.values())
        return Copier(self.shape, self.shared_changes, pinned=named, changing=changing)


class Sources:
    """All tasks of a split that can be carried over, and who may take part."""

    def __init__(self, domain: Domain, split: str) -> None:
        """Analyse them."""
        self.domain = domain
        tasks = [task for task in domain.tasks_by_id.values() if task.split == split]
        world = world_of(Same(domain.base))
        self.sources: list[Source] = []
        self.misses: Counter[str] = Counter()
        """Why tasks cannot be carried over at all."""
        subjects = find_subjects(domain, world, tasks)
        if not tasks or subjects is None:
            self.misses["the domain has no task to carry over" if not tasks else "no task names a record"] += 1
            self.pool: list[str] = []
            return
        held_out = _held_out(domain, world, subjects, split)
        self.pool = [subject for subject in subjects.belongings if subject not in held_out]
        shapes = list(self._shapes(domain, world, subjects, tasks))
        vocabulary = Vocabulary(domain, world, shapes)
        fixed = domain_words(domain)
        reads = learn_reads(shapes)
        self.sources = [Source(shape, vocabulary, fixed, reads) for shape in shapes]
        votes = Counter(label for source in self.sources for label in source.amounts.labels())
        for source in self.sources:
            source.amounts.choose(votes)

    def _shapes(self, domain: Domain, world: World, subjects: Subjects, tasks: list[Task]) -> Iterator[Shape]:
        for task in tasks:
            try:
                if task.changes:
                    changed = world.over(domain.start(task), task.changes)
                    yield Shape(domain, changed, Subjects(changed, subjects.kind), task)
                else:
                    yield Shape(domain, world, subjects, task)
            except Unfit as reason:
                self.misses[f"task not carried over: {reason}"] += 1
            except SentinelError:
                self.misses["task not carried over: its changes do not fit the database"] += 1


def _same_census(shape: Shape, subject: str) -> bool:
    """Whether a subject has as many records and parts in each state as the task's own."""

    def census(of: str) -> list[tuple[object, ...]]:
        subjects = shape.subjects
        rows: list[tuple[object, ...]] = [(root.kind, *map(str, root.states.values())) for root in subjects.belongings[of]]
        face = subjects.face(of)
        rows += [(part.kind, *map(str, part.states.values())) for part in face.below() if part is not face]
        return sorted(rows, key=repr)

    return census(shape.subject) == census(subject)


def _held_out(domain: Domain, world: World, subjects: Subjects, split: str) -> frozenset[str]:
    """The subjects of the tasks of other splits."""
    found: set[str] = set()
    for task in domain.tasks_by_id.values():
        if task.split == split:
            continue
        named = strings(
            [[call.arguments for call in task.criteria.actions], [fact.value for wish in task.scenario.wishes for fact in wish.facts]]
        )
        own = {subjects.of(part.root) for value in named for part in world.keyed.get(value, ())} - {None}
        own |= {value for call in task.criteria.actions for value in strings(call.arguments) if value in subjects.belongings}
        if not own:
            try:
                own = {Shape(domain, world, subjects, task).subject}
            except SentinelError:
                own = set()
            except Unfit:
                own = set()
        found |= {subject for subject in own if subject is not None}
    return frozenset(found)


@lru_cache(maxsize=4)
def sources_of(domain: Domain, split: str) -> Sources:
    """The tasks of a domain's split, analysed once."""
    return Sources(domain, split)
