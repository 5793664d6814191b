"""The shape of a task: which records, and parts of records, its plan and its facts are about, and where each of their values comes from.

An argument is the key of a part, or a field of one (a name, a street), or else a constant. The parts are the task's *roles*; rebinding
gives each role another part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Task

from .subjects import Subjects
from .values import strings
from .world import Kind, Part, Path, World

Standing = Literal["subject", "bound", "read", "spoken", "implied"]
"""Why a role is there: it asks; a write or a fact is about it; it is only looked at; a text speaks of it; another role refers to it."""
_RANK = {"subject": 0, "bound": 1, "spoken": 2, "implied": 3, "read": 4}
_FROM_FACTS = ("fact:", "policy:")


class Unfit(Exception):
    """A task, or a candidate for its rebinding, that cannot be used; the text says why."""


@dataclass
class Role:
    """One part that a task is about."""

    part: Part
    standing: Standing

    @property
    def is_record(self) -> bool:
        """Whether it is a whole record."""
        return self.part.owner is None


@dataclass(frozen=True)
class Ref:
    """Where a value comes from: a role's key, or a field of it."""

    role: int
    path: Path | None = None


@dataclass
class Group:
    """Values that stand together: the arguments of one call, the facts of one wish."""

    values: list[tuple[str, str]]
    """(argument or field, value)."""
    is_binding: bool
    """Whether what it names is what the task is about, not only looked at."""
    constant: frozenset[str] = frozenset()
    """Arguments that are told in so many words."""
    refs: dict[tuple[str, str], tuple[Ref, ...]] = field(default_factory=dict)
    roles: list[int] = field(default_factory=list)
    """The roles that it names."""


class Shape:
    """A task's roles and groups."""

    def __init__(self, domain: Domain, world: World, subjects: Subjects, task: Task) -> None:
        """Read a task.

        Raises:
            Unfit: It is about nobody, or about several subjects.
        """
        self.domain, self.world, self.subjects, self.task = domain, world, subjects, task
        self.roles: list[Role] = []
        self._place: dict[int, int] = {}
        accepted = dict(_accepted(domain, task))
        self.actions = list(accepted.values())
        """The reference without the reads that a tool refuses."""
        self.places = list(accepted)
        """Where each of them stands in the task's own reference."""
        self.groups: dict[str, Group] = dict(self._groups())
        for group in self.groups.values():
            self._bind_records(group)
        self.subject = self._find_subject()
        self.belongings = subjects.belongings[self.subject]
        self._add(subjects.face(self.subject), "subject")
        for group in self.groups.values():
            self._bind_parts(group)
            self._bind_entries(group)
        for role in list(self.roles):
            self._add_implied(role.part)
        for group in self.groups.values():
            self._find_fields(group)

    def _groups(self) -> Iterator[tuple[str, Group]]:
        wishes = self.task.scenario.wishes
        for at, call in enumerate(self.actions):
            wish = next((wish for wish in wishes if wish.call == call), None)
            told = [name for name, origin in (wish.provenance if wish else {}).items() if origin.startswith(_FROM_FACTS)]
            yield f"action {at}", Group(list(named(call.arguments)), self.writes(call), frozenset(told))
        for at, wish in enumerate(wishes):
            values = (
                [("", fact.value) for fact in wish.facts] + [("", list(wish.labels))] + [("", wish.call.arguments if wish.call else {})]
            )
            told = [name for name, origin in wish.provenance.items() if origin.startswith(_FROM_FACTS)]
            yield f"wish {at}", Group([pair for name, value in values for pair in named(value, name)], True, frozenset(told))
        facts = [pair for fact in self.task.scenario.facts for pair in named(fact.value, fact.slot)]
        yield "facts", Group(facts, True)

    def writes(self, call: ToolCall) -> bool:
        """Whether a call's tool writes."""
        return self.domain.tools_by_name[call.name].writes

    # roles

    def role_of(self, part: Part) -> int | None:
        """The role that a part has."""
        return self._place.get(id(part))

    def _add(self, part: Part, standing: Standing) -> int:
        at = self._place.get(id(part))
        if at is None:
            at = self._place[id(part)] = len(self.roles)
            self.roles.append(Role(part, standing))
        elif _RANK[standing] < _RANK[self.roles[at].standing]:
            self.roles[at].standing = standing
        return at

    def add_spoken(self, part: Part) -> int:
        """The role of a part that a text speaks of, and of the record that it is in."""
        if part.owner is not None:
            self._add(part.root, "spoken")
        at = self._add(part, "spoken")
        self._add_implied(part)
        return at

    def _bind(self, group: Group, pair: tuple[str, str], part: Part) -> None:
        at = self._add(part, "bound" if group.is_binding else "read")
        if at not in group.roles:
            group.roles.append(at)
        group.refs.setdefault(pair, (Ref(at),))

    def _bind_records(self, group: Group) -> None:
        for pair in group.values:
            for part in self.world.keyed.get(pair[1], ())[:1]:
                if part.owner is None:
                    self._bind(group, pair, part)

    def _find_subject(self) -> str:
        found = {subject: None for role in self.roles if (subject := self.subjects.of(role.part)) is not None}
        if not found:
            found = {subject: None for group in self.groups.values() if (subject := self._identified(group)) is not None}
        if len(found) != 1:
            raise Unfit("no role for whoever asks" if not found else "records of several people")
        return next(iter(found))

    def _identified(self, group: Group) -> str | None:
        """The one subject whose fields a call is given."""
        pairs = [pair for pair in group.values if pair not in group.refs]
        kind = self.subjects.kind
        if not pairs or kind.path is not None:
            return None
        own: Kind = (kind.table,)
        matching = [root for root in self.world.by_kind[own] if len(_matches(root, pairs)) == len(pairs)]
        return matching[0].key if len(matching) == 1 else None

    def _bind_parts(self, group: Group) -> None:
        """Keys of parts: those of the subject first, since two of its payment methods may be called alike in two accounts."""
        for pair in group.values:
            if pair in group.refs:
                continue
            if pair[1] == self.subject:
                self._bind(group, pair, self.subjects.face(self.subject))
                continue
            found = self.world.keyed.get(pair[1], [])
            own = [part for part in found if self.subjects.of(part.root) == self.subject]
            if own or len(found) == 1:
                part = (own or found)[0]
                self._bind(group, pair, part)
                self._add(part.root, "implied")

    def _bind_entries(self, group: Group) -> None:
        """Entries of the group's records that refer to what it names: the lines of an order with its items, one for each time.

        An entry about what is the subject's own, such as a payment with its card, is no more than a relation between the two.
        """
        records = [self.roles[at].part for at in group.roles if self.roles[at].is_record and self._is_private(self.roles[at].part)]
        used: set[int] = set()
        for pair in group.values:
            value, refs = pair[1], group.refs.get(pair, ())
            if refs and self._is_private(self.roles[refs[0].role].part):
                continue
            for part in (entry for record in records for entry in record.below() if entry.key is None):
                if id(part) not in used and self.refers(part, value):
                    used.add(id(part))
                    at = self._add(part, "bound" if group.is_binding else "read")
                    if at not in group.roles:
                        group.roles.append(at)
                    break

    def refers(self, part: Part, key: str) -> bool:
        """Whether a field of a part, one value, refers to a key."""
        return any(not each.many and each.kind == part.kind and part.leaves.get(each.path) == key for each in self.world.references)

    def _is_private(self, part: Part) -> bool:
        return self.subjects.of(part.root) is not None

    def _add_implied(self, part: Part) -> None:
        """What an entry refers to, with the records in which that is."""
        if part.owner is None:
            return
        self._add(part.root, "implied")
        for each in self.world.references:
            if each.kind == part.kind and not each.many:
                for value in each.values(part):
                    found = [target for target in self.world.keyed.get(str(value), ()) if target.kind == each.target]
                    own = [target for target in found if self.subjects.of(target.root) == self.subject]
                    for target in (own or found)[:1]:
                        self._add(target, "implied")
                        self._add(target.root, "implied")

    # fields

    def _find_fields(self, group: Group) -> None:
        """Values that are not keys: fields of the record, or part, that has most of them, and by which it can be told."""
        pairs = [pair for pair in group.values if pair not in group.refs and pair[0] not in group.constant]
        if not any(value for _, value in pairs):
            return
        known = [role.part for role in self.roles if role.standing != "implied"]
        candidates = [*known, *(root for root in self.belongings if self.role_of(root) is None)]
        found = [(len(_told(matches)), part, matches) for part in candidates if _told(matches := _matches(part, pairs))]
        most = max((count for count, _, _ in found), default=0)
        best = [(part, matches) for count, part, matches in found if count == most and self._tells(part, matches)]
        best = [each for each in best if self.role_of(each[0]) is not None] or best[:1]
        for part, matches in best:
            at = self._add(part, "bound")
            for pair, path in matches.items():
                group.refs[pair] = (*group.refs.get(pair, ()), Ref(at, path))
                if at not in group.roles:
                    group.roles.append(at)

    def _tells(self, part: Part, matches: dict[tuple[str, str], Path]) -> bool:
        """Whether these values are somebody's own: a street is, a state is not."""
        same = (each for each in self.world.by_kind[part.kind] if all(each.leaves.get(path) == pair[1] for pair, path in matches.items()))
        owners = {self.subjects.of(each.root) or each.root.key: None for each in same}
        return len(owners) == 1


def _accepted(domain: Domain, task: Task) -> Iterator[tuple[int, ToolCall]]:
    db = domain.start(task)
    for at, call in enumerate(task.criteria.actions):
        tool = domain.tools_by_name.get(call.name)
        if tool is None:
            raise Unfit("its reference calls a tool that there is not")
        if not domain.execute(db, call).is_error:
            yield at, call
        elif tool.writes:
            raise Unfit("a write of its reference is refused")


def named(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts in a JSON value with the name of the argument or field that each stands under."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from named(each, key)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from named(each, name)
    elif isinstance(value, str):
        yield name, value


def _matches(part: Part, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Path]:
    """Which fields of a part have the values, by the same name where several have."""
    found: dict[tuple[str, str], Path] = {}
    for pair in pairs:
        name, value = pair
        paths = [path for path, each in part.leaves.items() if each == value and path not in part.states and value != part.key]
        exact = [path for path in paths if path[-1] == name]
        if exact or (value and paths):
            found[pair] = (exact or paths)[0]
    return found


def _told(matches: Iterable[tuple[str, str]]) -> list[str]:
    return [value for _, value in matches if value]


def all_texts(task: Task) -> Iterator[str]:
    """Everything that a task says to anybody."""
    scenario = task.scenario
    yield from filter(None, (scenario.goal, scenario.unknown, scenario.instructions, scenario.persona))
    yield from scenario.known.values()
    yield from strings([fact.text for fact in scenario.facts])
    for wish in scenario.wishes:
        yield from filter(None, (wish.text, wish.slip))
        yield from (fact.text for fact in wish.facts)
        yield from wish.labels.values()
