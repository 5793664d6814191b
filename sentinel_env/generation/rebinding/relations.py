"""Relations: what holds between the roles of a task, and so has to hold again when other parts take them.

Nobody says which relations a text relies on, so all are kept that hold: what refers to what and what does not, which records are in what
state, and in which options a new variant differs from the old one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .shape import Ref, Role, Shape, Unfit
from .world import Part, Path, Reference, Scalar

Options = Mapping[str, Scalar]


@dataclass
class Assignment:
    """Which part takes each role."""

    parts: list[Part | None]
    """By role; None for a role that is only looked at and that nothing takes."""
    renamed: dict[int, dict[str, str]] = field(default_factory=dict)
    """Role -> option -> what it is called in the part that takes the role; as before where it is not listed."""
    constants: dict[tuple[str, str], str] = field(default_factory=dict)
    """(field, told value) -> another; as before where it is not listed."""

    def part(self, role: int) -> Part:
        """The part that takes a role.

        Raises:
            Unfit: None does.
        """
        part = self.parts[role]
        if part is None:
            raise Unfit("nothing takes a role that is spoken of")
        return part

    def path(self, ref: Ref) -> Path | None:
        """The field, with the name that it has in the new part."""
        if ref.path is None or ref.role not in self.renamed:
            return ref.path
        return (*ref.path[:-1], self.renamed[ref.role].get(ref.path[-1], ref.path[-1]))

    def value(self, ref: Ref) -> Scalar:
        """The value at a reference.

        Raises:
            Unfit: The part has no such field.
        """
        part, path = self.part(ref.role), self.path(ref)
        if path is None:
            return part.key
        if path not in part.leaves:
            raise Unfit("the other record has no such field")
        return part.leaves[path]


@dataclass(frozen=True)
class Link:
    """Whether one role refers to another."""

    role: int
    reference: Reference
    target: int
    holds: bool


def referred(reference: Reference, part: Part) -> frozenset[Scalar]:
    """The keys that a part, or the parts below it, refer to."""
    found = part.referred.get(id(reference))
    if found is None:
        below = [part] if part.kind == reference.kind else []
        if reference.kind[:-1] == part.kind:
            below = part.parts.get(reference.kind[-1], [])
        found = part.referred[id(reference)] = frozenset(value for each in below for value in reference.values(each))
    return found


def options(part: Part) -> dict[str, Scalar]:
    """The values of a part's open fields by their names."""
    return {path[-1]: value for path, value in part.leaves.items() if path[0] in part.open}


class Relations:
    """What holds between the roles of a task."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.roles: Sequence[Role] = shape.roles
        self.links: dict[int, list[Link]] = defaultdict(list)
        """By role, either end."""
        for link in self._find_links():
            self.links[link.role].append(link)
            self.links[link.target].append(link)
        self.variants = list(self._find_variants())
        """(entry, role of what it is, role of what replaces it)."""

    @cached_property
    def active(self) -> list[int]:
        """The roles that must be taken."""
        return [at for at, role in enumerate(self.roles) if role.standing != "read" or not self._is_private(at)]

    def _is_private(self, role: int) -> bool:
        return self.shape.subjects.of(self.roles[role].part.root) is not None

    def _find_links(self) -> Iterator[Link]:
        for at in self.active:
            for other in self.active:
                part, target = self.roles[at].part, self.roles[other].part
                for reference in self.shape.world.references if at != other else ():
                    if (
                        reference.target == target.kind
                        and reference.kind[: len(part.kind)] == part.kind
                        and len(reference.kind) <= len(part.kind) + 1
                    ):
                        yield Link(at, reference, other, target.key in referred(reference, part))

    def _find_variants(self) -> Iterator[tuple[int, int, int]]:
        """Where an entry is exchanged: the entry, what it refers to, and a sibling of that with the same options."""
        for at in self.active:
            entry = self.roles[at].part
            if entry.key is not None or not entry.open:
                continue
            own = [
                link.target for link in self.links[at] if link.role == at and link.holds and self.roles[link.target].part.open == entry.open
            ]
            for old in own:
                for other in self.active:
                    part = self.roles[other].part
                    if (
                        other not in own
                        and part.owner is self.roles[old].part.owner
                        and part.open == entry.open
                        and self._same_call(at, other)
                    ):
                        yield at, old, other

    def _same_call(self, one: int, other: int) -> bool:
        return any(one in group.roles and other in group.roles for group in self.shape.groups.values() if group.is_binding)

    @cached_property
    def keeping_state(self) -> frozenset[int]:
        """The roles that must be taken by a part in the same state."""
        return frozenset(at for at in range(len(self.roles)) if self._keeps_state(at))

    def _keeps_state(self, role: int) -> bool:
        """Not what is only referred to by an entry, for it may be sold out by now."""
        if self.roles[role].standing in ("read", "implied"):
            return False
        of_entry = any(link.target == role and link.holds and self.roles[link.role].part.key is None for link in self.links[role])
        return not of_entry or self._is_private(role)

    def fits(self, assignment: Assignment, role: int, part: Part) -> bool:
        """Whether a part can take a role beside those that are taken."""
        old = self.roles[role].part
        if part.kind != old.kind or any(other is part for other in assignment.parts):
            return False
        if role in self.keeping_state and part.states != old.states:
            return False
        if not self.allows_exchange(assignment, role, part):
            return False
        for link in self.links[role]:
            source = part if link.role == role else assignment.parts[link.role]
            target = part if link.target == role else assignment.parts[link.target]
            if source is not None and target is not None and (target.key in referred(link.reference, source)) != link.holds:
                return False
        return True

    def allows_exchange(self, assignment: Assignment, role: int, part: Part) -> bool:
        """Whether a variant differs from the entry that it replaces in as many options as the old one does, by the same names in prose."""
        for entry, _, new in self.variants:
            taken = assignment.parts[entry]
            if new == role and taken is not None:
                before, after = _changed(self.roles[entry].part, self.roles[new].part), _changed(taken, part)
                if len(before) != len(after) or (self.is_prose and set(before) != set(after)):
                    return False
        return True

    def name_options(self, assignment: Assignment, spoken: Mapping[int, Sequence[str]]) -> bool:
        """Match the options of the old parts with those of the new ones; whether they can be matched.

        Args:
            assignment: A whole assignment; what its options are called is added.
            spoken: Role -> the options that texts speak of.
        """
        done: dict[int, dict[str, str]] = {}
        """Identity of a shared record -> how its options are called."""
        for entry, old, new in [*self.variants, *((at, at, at) for at in self.active if self.roles[at].part.open)]:
            part, wanted = assignment.part(entry), assignment.part(new)
            before, after = options(self.roles[entry].part), options(part)
            names = done.get(id(self._shared(entry)))
            if names is None:
                if self.is_prose:
                    needed = [name for role in (entry, old, new) for name in spoken.get(role, ())]
                    names = {name: name for name in before} if set(needed) <= set(after) else None
                else:
                    names = _matched(
                        list(before), list(after), _changed(self.roles[entry].part, self.roles[new].part), _changed(part, wanted)
                    )
                if names is None:
                    return False
                done[id(self._shared(entry))] = names
            if entry != new and {names.get(each, each) for each in _changed(self.roles[entry].part, self.roles[new].part)} != set(
                _changed(part, wanted)
            ):
                return False
            for role in (entry, old, new):
                assignment.renamed[role] = names
        return True

    @cached_property
    def is_prose(self) -> bool:
        """Whether the task says what it wants in prose only, of which nothing may be understood but the words."""
        return not self.shape.task.scenario.wishes

    def _shared(self, role: int) -> Part:
        """What tells whose options they are: the shared record that an entry refers to, or that a part is in."""
        part = self.roles[role].part
        if part.owner is not None and self.shape.subjects.of(part.root) is None:
            return part.owner
        found = [self.roles[link.target].part for link in self.links[role] if link.role == role and link.holds]
        return next((each.root for each in found if self.shape.subjects.of(each.root) is None), part)


def _changed(entry: Part, variant: Part) -> list[str]:
    """The options in which a variant differs from an entry."""
    own, other = options(entry), options(variant)
    return [name for name, value in own.items() if value != other.get(name)]


def _matched(before: Sequence[str], after: Sequence[str], changed: Sequence[str], changed_now: Sequence[str]) -> dict[str, str] | None:
    """Old option -> new option, changed ones with changed ones, the same name where there is one; None where they do not match."""
    if len(changed) != len(changed_now):
        return None
    found: dict[str, str] = {}
    for old, new in ((changed, changed_now), ([n for n in before if n not in changed], [n for n in after if n not in changed_now])):
        left = [name for name in new if name not in old]
        for name in old:
            if name in new:
                found[name] = name
            elif left:
                found[name] = left.pop(0)
    return found
