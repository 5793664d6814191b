"""Who asks: the record, or the value, by which all private records of a task hang together, found from the tasks themselves.

    orders name their user, and a user is who says who he is    ->   users ask, and orders are theirs
    loans name a member, of whom there is no record             ->   whoever a loan's `member_id` says asks

What belongs to nobody, such as a product, is shared: tasks of different splits may be about it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sentinel_env.domain import Domain
from sentinel_env.tasks import Task

from .values import said_in, strings
from .world import Part, Path, Reference, World

_CHAIN = 3
"""Over how many references a record may belong to somebody."""


@dataclass(frozen=True)
class SubjectKind:
    """What subjects are: the records of a table, or the values of a field where no table has them as keys."""

    table: str
    path: Path | None = None
    """The field; None where the records of the table are the subjects."""


class Subjects:
    """The subjects of a world, and what belongs to each."""

    def __init__(self, world: World, kind: SubjectKind) -> None:
        self.world = world
        self.kind = kind
        self._faces: dict[str, Part] = {}
        self._known: dict[int, str | None] = {}
        """Whose each record of the world is, by its identity."""
        self.belongings: dict[str, list[Part]] = defaultdict(list)
        """Subject -> its records, its own first; in the order in which its own record lists them, where it does."""
        for table in [kind.table, *(name for name in world.tables if name != kind.table)]:
            for root in world.tables[table].values():
                subject = self._known[id(root)] = self._find(root)
                if subject is not None:
                    self.belongings[subject].append(root)
        self._sort_as_listed()

    def of(self, root: Part) -> str | None:
        """Whose record it is; None where it is shared."""
        return self._known[id(root)] if id(root) in self._known else self._find(root)

    def _find(self, root: Part) -> str | None:
        for _ in range(_CHAIN):
            if root.kind[0] == self.kind.table:
                if self.kind.path is None:
                    return root.key
                value = root.leaves.get(self.kind.path)
                return value if isinstance(value, str) else None
            found = [up for reference, up in _up(self.world, root) if reference.target[0] == self.kind.table] or [
                up for _, up in _up(self.world, root)
            ]
            if not found:
                return None
            root = found[0]
        return None

    def face(self, subject: str) -> Part:
        """The subject as a part: its own record, or one without fields whose key it is."""
        if subject not in self._faces:
            self._faces[subject] = self.record(subject) or Part((self.kind.table, *(self.kind.path or ())), subject)
        return self._faces[subject]

    def record(self, subject: str) -> Part | None:
        """The subject's own record, where it has one."""
        return self.world.tables[self.kind.table].get(subject) if self.kind.path is None else None

    def _sort_as_listed(self) -> None:
        listing = [each for each in self.world.references if each.many and each.kind == (self.kind.table,) and len(each.target) == 1]
        if self.kind.path is not None or not listing:
            return
        for subject, roots in self.belongings.items():
            own = self.record(subject)
            if own is None:
                continue
            place = {key: at for each in listing for at, key in enumerate(each.values(own))}
            roots.sort(key=lambda root: (root is not own, place.get(root.key, len(place))))


def _owning(world: World) -> Iterator[Reference]:
    """References of records by a single value: what has such a field may belong to what it names."""
    yield from (each for each in world.references if len(each.kind) == 1 and len(each.target) == 1 and not each.many)


def _up(world: World, root: Part) -> Iterator[tuple[Reference, Part]]:
    for reference in _owning(world):
        if reference.kind == root.kind:
            for key in reference.values(root):
                up = world.tables[reference.target[0]].get(str(key))
                if up is not None:
                    yield reference, up


def find_subjects(domain: Domain, world: World, tasks: Sequence[Task]) -> Subjects | None:
    """What the subjects of a domain are, by a vote of its tasks; None where no task names a record."""
    votes: Counter[SubjectKind] = Counter()
    for task in tasks:
        kind = _of_task(domain, world, task)
        if kind is not None:
            votes[kind] += 1
    return Subjects(world, votes.most_common(1)[0][0]) if votes else None


def _of_task(domain: Domain, world: World, task: Task) -> SubjectKind | None:
    """Of whatever the changed records belong to: what the user says most of when it says who it is, and the most of them belong to."""
    calls = task.criteria.actions
    writes = [call for call in calls if call.name in domain.tools_by_name and domain.tools_by_name[call.name].writes]
    roots: dict[int, Part] = {}
    for value in strings([call.arguments for call in writes or calls]):
        roots.update({id(part.root): part.root for part in world.keyed.get(value, ())})
    told = "\n".join([*task.scenario.known.values(), *(fact.text for fact in task.scenario.facts)])
    told += "\n" + "\n".join(strings([call.arguments for call in calls if call not in writes]))
    found: dict[tuple[SubjectKind, str], tuple[int, int, int]] = {}
    for root in roots.values():
        for kind, subject, depth in _candidates(world, root, told):
            said, support, deepest = found.get((kind, subject), (0, 0, 0))
            found[kind, subject] = max(said, _said(world, kind, subject, told)), support + 1, max(deepest, depth)
    return max(found, key=lambda each: found[each])[0] if found else None


def _candidates(world: World, root: Part, told: str) -> Iterator[tuple[SubjectKind, str, int]]:
    yield SubjectKind(root.kind[0]), root.key or "", 0
    ups = list(_up(world, root))
    for _, up in ups:
        yield SubjectKind(up.kind[0]), up.key or "", 1
        for _, top in _up(world, up):
            yield SubjectKind(top.kind[0]), top.key or "", 2
    if not ups and not any(reference.target == root.kind for reference in world.references):
        for path, value in root.leaves.items():
            if isinstance(value, str) and len(path) == 1 and path not in root.states and value != root.key and said_in(value, told):
                yield SubjectKind(root.kind[0], path), value, 1


def _said(world: World, kind: SubjectKind, subject: str, told: str) -> int:
    """How many different things the user tells of a subject."""
    if kind.path is not None:
        return 1
    root = world.tables[kind.table][subject]
    values: Iterable[object] = (subject, *root.leaves.values())
    return len({value: None for value in values if isinstance(value, str) and len(value) > 1 and said_in(value, told)})
