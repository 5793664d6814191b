"""Other parts for the roles of a task: the subject first, then what is the subject's, then what that refers to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from .relations import Assignment, Relations, referred
from .world import Part

MOST_STEPS = 400
"""Parts tried for one subject."""


class Search:
    """Finds assignments in which all relations of a task hold again."""

    def __init__(self, relations: Relations) -> None:
        self._relations = relations
        self._shape = relations.shape
        self._order = self._plan()
        self._needs = Counter(
            (role.part.kind, tuple(role.part.states.values()) if at in relations.keeping_state else ())
            for at, role in enumerate(relations.roles)
            if role.is_record and role.standing != "read" and self._shape.subjects.of(role.part) is not None
        )

    def _plan(self) -> list[int]:
        """The roles in the order in which they are given: what others are found by comes before them."""
        roles, subjects = self._relations.roles, self._shape.subjects
        subject = self._shape.role_of(subjects.face(self._shape.subject))
        assert subject is not None
        private = [at for at in self._relations.active if subjects.of(roles[at].part.root) is not None and at != subject]
        records = [at for at in private if roles[at].is_record]
        parts = [at for at in private if not roles[at].is_record]
        shared = [at for at in self._relations.active if at not in private and at != subject]
        found_by_entry = [at for at in shared if self._finders(at)]
        rest = [at for at in shared if at not in found_by_entry]
        return [subject, *records, *parts, *sorted(found_by_entry, key=lambda at: not roles[at].is_record), *rest]

    def _finders(self, role: int) -> list[tuple[int, int]]:
        """(role of an entry, which of the role's links) by which the part for a role is found."""
        links = self._relations.links[role]
        return [(link.role, at) for at, link in enumerate(links) if link.target == role and link.holds and not link.reference.many]

    def assignments(self, subject: str, random: Random) -> Iterator[Assignment]:
        """Assignments with this subject, in an order drawn by `random`; at most `MOST_STEPS` parts are tried."""
        subjects = self._shape.subjects
        belongings = subjects.belongings[subject]
        have: Counter[tuple[object, ...]] = Counter()
        for root in belongings:
            have[root.kind, tuple(root.states.values())] += 1
            have[root.kind, ()] += 1
        if any(have[need] < count for need, count in self._needs.items()):
            return
        assignment = Assignment([None] * len(self._relations.roles))
        self._steps = MOST_STEPS
        for whole in self._extend(assignment, 0, subject, random):
            yield self._with_reads(whole, belongings)

    def _extend(self, assignment: Assignment, at: int, subject: str, random: Random) -> Iterator[Assignment]:
        if at == len(self._order):
            yield Assignment(list(assignment.parts))
            return
        role = self._order[at]
        candidates = self._candidates(assignment, role, subject)
        for part in random.sample(candidates, len(candidates)) if len(candidates) > 1 else candidates:
            if self._steps <= 0:
                return
            self._steps -= 1
            if self._relations.fits(assignment, role, part):
                assignment.parts[role] = part
                yield from self._extend(assignment, at + 1, subject, random)
                assignment.parts[role] = None

    def _candidates(self, assignment: Assignment, role: int, subject: str) -> Sequence[Part]:
        shape, old = self._shape, self._relations.roles[role].part
        if old is shape.subjects.face(shape.subject):
            return [shape.subjects.face(subject)]
        is_private = shape.subjects.of(old.root) is not None
        if old.owner is not None:
            owner_role = shape.role_of(old.owner)
            owner = assignment.parts[owner_role] if owner_role is not None else None
            found = self._found(assignment, role)
            if found is not None:
                return found
            return owner.parts.get(old.kind[-1], []) if owner is not None else []
        if is_private:
            return [root for root in shape.subjects.belongings[subject] if root.kind == old.kind]
        found = self._found(assignment, role)
        return [old] if found is None else found

    def _found(self, assignment: Assignment, role: int) -> list[Part] | None:
        """The parts that an entry, whose own part is known, refers to; None where nothing refers to them."""
        for entry, at in self._finders(role):
            part = assignment.parts[entry]
            if part is None:
                continue
            keys = referred(self._relations.links[role][at].reference, part)
            kind = self._relations.roles[role].part.kind
            return [each for key in sorted(map(str, keys)) for each in self._shape.world.keyed.get(key, ()) if each.kind == kind]
        return None

    def _with_reads(self, assignment: Assignment, belongings: Sequence[Part]) -> Assignment:
        """Records that are only looked at, as many as there are."""
        for at, role in enumerate(self._relations.roles):
            if assignment.parts[at] is None and at not in self._relations.active:
                left = [root for root in belongings if root.kind == role.part.kind and not any(root is each for each in assignment.parts)]
                assignment.parts[at] = left[0] if left else None
        return assignment
