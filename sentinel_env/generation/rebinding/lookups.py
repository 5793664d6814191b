"""Looking things up: reads that a reference leaves out, as other references make them.

Some tasks only have their writes for a reference. Nobody could make those without knowing who asks and what is in the records, so the reads
by which other tasks find that out are put before them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sentinel_env.messages import ToolCall

from .relations import Assignment, Relations
from .shape import Ref, Shape, Unfit
from .speech import Slot
from .world import Kind, Path


@dataclass(frozen=True)
class Read:
    """A read of one part: its tool, and for each argument the field, or None for the key, that it is given."""

    tool: str
    arguments: tuple[tuple[str, Path | None], ...]

    @property
    def is_by_key(self) -> bool:
        """Whether it takes the key and nothing else."""
        return len(self.arguments) == 1 and self.arguments[0][1] is None

    def refs(self, role: int) -> dict[str, Ref]:
        """The same of a role."""
        return {name: Ref(role, path) for name, path in self.arguments}


def learn_reads(shapes: Iterable[Shape]) -> dict[Kind, Counter[Read]]:
    """How often the references make each read, by the kind of part that it is of."""
    found: dict[Kind, Counter[Read]] = defaultdict(Counter)
    for shape in shapes:
        for at, call in enumerate(shape.actions):
            made = None if shape.writes(call) or shape.domain.is_transfer(call.name) else _made(shape, at, call)
            if made is not None:
                role, read = made
                found[shape.roles[role].part.kind][read] += 1
    return found


def _made(shape: Shape, at: int, call: ToolCall) -> tuple[int, Read] | None:
    """(role, read) of an action all of whose arguments come from one role."""
    group = shape.groups[f"action {at}"]
    arguments: list[tuple[str, Path | None]] = []
    roles: dict[int, None] = {}
    for name, value in call.arguments.items():
        refs = group.refs.get((name, value)) if isinstance(value, str) else None
        if not refs:
            return None
        arguments.append((name, refs[0].path))
        roles[refs[0].role] = None
    return (next(iter(roles)), Read(call.name, tuple(arguments))) if len(roles) == 1 else None


class Lookups:
    """The reads that one task's reference lacks."""

    def __init__(self, relations: Relations, slots: Mapping[int, Iterable[Slot]], reads: Mapping[Kind, Counter[Read]]) -> None:
        """Find them.

        Args:
            relations: Of the task.
            slots: Role -> where texts speak of it: nobody can be looked up by what is not said.
            reads: What the references of other tasks read.
        """
        self._shape = relations.shape
        self.calls: list[tuple[str, dict[str, Ref]]] = []
        tau2 = self._shape.task.criteria.tau2
        if "actions" in self._shape.task.criteria.basis or (tau2 is not None and "ACTION" in tau2.reward_basis):
            return  # every action of the reference is wanted, and no more
        subject = next(at for at, role in enumerate(self._shape.roles) if role.standing == "subject")
        if not any(any(ref.path is not None and ref.role == subject for ref in refs) for refs in self._read_refs()):
            said = {slot.ref.path for slot in slots.get(subject, ())}
            self._add(
                subject, (read for read, _ in _sorted(reads, self._shape, subject) if {path for _, path in read.arguments} <= said - {None})
            )
        owners = [self._shape.role_of(relations.roles[new].part.root) for _, _, new in relations.variants]
        for role in dict.fromkeys([subject, *self._written(), *(owner for owner in owners if owner is not None)]):
            if not any(Ref(role) in refs for refs in self._read_refs()):
                self._add(role, (read for read, _ in _sorted(reads, self._shape, role) if read.is_by_key))

    def _read_refs(self) -> Iterator[list[Ref]]:
        for at, call in enumerate(self._shape.actions):
            if not self._shape.writes(call):
                yield [ref for refs in self._shape.groups[f"action {at}"].refs.values() for ref in refs]

    def _written(self) -> Iterator[int]:
        """The records that the writes name."""
        for at, call in enumerate(self._shape.actions):
            if self._shape.writes(call):
                for role in self._shape.groups[f"action {at}"].roles:
                    if self._shape.roles[role].is_record and self._shape.subjects.of(self._shape.roles[role].part) is not None:
                        yield role

    def _add(self, role: int, reads: Iterable[Read]) -> None:
        read = next(iter(reads), None)
        if read is not None:
            self.calls.append((read.tool, read.refs(role)))

    def of(self, assignment: Assignment) -> list[ToolCall]:
        """The reads of other records.

        Raises:
            Unfit: One has no such field.
        """
        found = []
        for tool, refs in self.calls:
            arguments = {name: assignment.value(ref) for name, ref in refs.items()}
            if any(not isinstance(value, str) for value in arguments.values()):
                raise Unfit("the other record has no such field")
            found.append(ToolCall(name=tool, arguments=arguments))
        return found


def _sorted(reads: Mapping[Kind, Counter[Read]], shape: Shape, role: int) -> list[tuple[Read, int]]:
    return reads[shape.roles[role].part.kind].most_common() if shape.roles[role].part.kind in reads else []
