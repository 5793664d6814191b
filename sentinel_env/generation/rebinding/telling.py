"""How a text tells each role from others like it, worked out on the task as it is; it must tell the new part in the same way.

"the red lamp"                  of all lines of all orders this is the only red lamp
"everything but the lamp"       every line of the order is meant, or spoken of
"my gift card"                  there is one
"the same but red"              of the other variants one has every other option as before
"the cheapest"                  of those that can be had it has the lowest price
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from .relations import Assignment, Relations, options
from .shape import Unfit
from .speech import Slot
from .world import Part

Check = Callable[[Assignment], bool]


class Telling:
    """How the roles of a task are told."""

    def __init__(self, relations: Relations, slots: Mapping[int, Sequence[Slot]], words: Sequence[str], compared: bool) -> None:
        """Find out how.

        Args:
            relations: Of the task.
            slots: Role -> where texts speak of it.
            words: All other words of the texts, in lower case.
            compared: Whether they compare values, such as "the cheapest".

        Raises:
            Unfit: Something is told in a way that is not understood.
        """
        self._relations = relations
        self._roles = relations.roles
        self._slots = slots
        self._words = words
        self._compares = compared
        self._checks: list[Check] = []
        self._by: dict[int, str] = {}
        self.source = Assignment([role.part for role in self._roles])
        waiting = [at for at in relations.active if self._needs_telling(at)]
        waiting.sort(key=lambda at: self._roles[at].is_record)
        for _ in range(2):  # a record may be told by its entries, and an entry by its record
            for at in list(waiting):
                if self._settle(at):
                    waiting.remove(at)
        for at in relations.active:  # "keep the rest"
            if any(not self._all_taken(self.source, parts) for parts in self._collections(self.source, at)):
                self._checks.append(partial(self._has_rest, at))
        undetermined = [at for at in waiting if self._roles[at].standing != "spoken"]
        if undetermined:
            raise Unfit(f"a {self._roles[undetermined[0]].part.kind[-1]} entry is told in words that are not understood")
        if self._compares and not any(name.startswith(("lowest", "highest")) for name in self._by.values()):
            raise Unfit("it compares what is not understood")

    def holds(self, assignment: Assignment) -> bool:
        """Whether everything is told in the same way."""
        return all(check(assignment) for check in self._checks)

    def _needs_telling(self, role: int) -> bool:
        part, shape = self._roles[role].part, self._relations.shape
        if self._roles[role].standing in ("subject", "read", "implied"):
            return False
        if shape.subjects.of(part.root) is not None:
            return True
        of_entry = any(
            link.target == role and link.holds and self._roles[link.role].part.key is None for link in self._relations.links[role]
        )
        return part.owner is not None and (not of_entry or any(new == role for _, _, new in self._relations.variants))

    def _settle(self, role: int) -> bool:
        ways = self._private if self._relations.shape.subjects.of(self._roles[role].part.root) is not None else self._shared
        for name, check in ways(role):
            if check(self.source):
                self._checks.append(check)
                self._by[role] = name
                return True
        return False

    def _collections(self, assignment: Assignment, role: int) -> list[list[Part]]:
        """The entries of a record, in lists of which some have roles."""
        within = {self._roles[at].part.kind[-1]: None for at in self._within(role) if self._roles[at].part.key is None}
        return [assignment.part(role).parts.get(name, []) for name in within]

    def _has_rest(self, role: int, assignment: Assignment) -> bool:
        """Whether some entries of a record have no role."""
        return any(not self._all_taken(assignment, parts) for parts in self._collections(assignment, role))

    # what is the subject's

    def _private(self, role: int) -> Iterator[tuple[str, Check]]:
        part, slots = self._roles[role].part, self._said(role)
        if any(slot.ref.path is None for slot in self._slots.get(role, ())):
            yield "key", lambda assignment: True
        if slots:
            yield "words", self._worded(role, lambda a: self._siblings(a, role))
            yield "words and state", self._worded(role, lambda a: self._in_state(a, role, self._siblings(a, role)))
        if part.owner is None:
            if any(self._by.get(at, "").startswith("words") for at in self._within(role)):
                yield "entry", lambda assignment: True
            yield "state", lambda a: self._all_taken(a, self._in_state(a, role, self._siblings(a, role)))
        elif part.key is None:
            root = self._relations.shape.role_of(part.root)
            if root in self._by:
                if slots:
                    yield "words in it", self._worded(role, lambda a: _beside(a.part(role)))
                yield "all", lambda a: self._all_taken(a, _beside(a.part(role)))
        else:
            said = [str(value).replace("_", " ") for value in part.states.values() if isinstance(value, str)]
            if any(_says(self._words, each) for each in said):
                yield "state", lambda a: self._all_taken(a, [each for each in _beside(a.part(role)) if each.states == a.part(role).states])
            yield "only", lambda a: self._all_taken(a, _beside(a.part(role)))
            if any(
                link.target == role and link.holds and self._roles[link.role].standing == "bound" for link in self._relations.links[role]
            ):
                yield "linked", lambda assignment: True

    def _worded(self, role: int, rivals: Callable[[Assignment], Sequence[Part]]) -> Check:
        """The words fit roles only, and no more of them than as the task is."""
        before = len(self._like(self.source, role, rivals(self.source)))

        def check(assignment: Assignment) -> bool:
            found = self._like(assignment, role, rivals(assignment))
            return len(found) <= before and self._all_taken(assignment, found)

        return check

    def _said(self, role: int) -> list[Slot]:
        return [slot for slot in self._slots.get(role, ()) if slot.ref.path is not None and slot.form not in ("field", "amount")]

    def _within(self, role: int) -> list[int]:
        return [at for at in self._relations.active if self._roles[at].part.owner is self._roles[role].part]

    def _siblings(self, assignment: Assignment, role: int) -> list[Part]:
        """Parts of the same kind that are the subject's."""
        part, subjects = assignment.part(role), self._relations.shape.subjects
        if part.key is not None and part.owner is not None:
            return _beside(part)
        belongings = subjects.belongings[subjects.of(part.root) or ""]
        return [each for root in belongings for each in root.below() if each.kind == part.kind]

    def _like(self, assignment: Assignment, role: int, parts: Sequence[Part]) -> list[Part]:
        """Those that what is said of a role fits too."""
        said = [(slot, assignment.path(slot.ref), assignment.value(slot.ref)) for slot in self._said(role)]
        return [part for part in parts if all(_fits(part, path, value, slot) for slot, path, value in said)]

    def _in_state(self, assignment: Assignment, role: int, parts: Sequence[Part]) -> list[Part]:
        states = assignment.part(role).root.states
        return [part for part in parts if part.root.states == states]

    def _all_taken(self, assignment: Assignment, parts: Sequence[Part]) -> bool:
        return all(any(part is taken for taken in assignment.parts) for part in parts)

    # variants

    def _shared(self, role: int) -> Iterator[tuple[str, Check]]:
        if any(slot.ref.path is None for slot in self._slots.get(role, ())):
            yield "key", lambda assignment: True
        entry = next((entry for entry, _, new in self._relations.variants if new == role), None)
        said = self._said(role)
        for how in ("same", "any"):
            for of_state in (False, True):
                if (how == "same" and entry is not None) or (how == "any" and said):
                    yield how, self._query(role, entry, how, of_state, None, 0)
        numbers = [path for path, value in self._roles[role].part.leaves.items() if isinstance(value, float)]
        for path in numbers if self._compares else ():
            for how in ("same", "any"):
                if how == "any" or entry is not None:
                    yield f"lowest {how}", self._query(role, entry, how, True, path, 1)
                    yield f"highest {how}", self._query(role, entry, how, True, path, -1)
        linked = [link for link in self._relations.links[role] if link.target == role and link.holds]
        if any(link.role != entry and self._roles[link.role].part.key is not None for link in linked):
            yield "linked", lambda assignment: True

    def _query(self, role: int, entry: int | None, how: str, of_state: bool, path: tuple[str, ...] | None, sign: int) -> Check:
        old = next((old for _, old, new in self._relations.variants if new == role), None)

        def check(assignment: Assignment) -> bool:
            part = assignment.part(role)
            replaced = assignment.part(old) if old is not None else None
            found = [each for each in self._like(assignment, role, _beside(part)) if each is not replaced]
            if how == "same" and entry is not None:
                kept = options(assignment.part(entry))
                said = {assignment.value(slot.ref) for slot in self._said(role)}
                found = [each for each in found if all(value == kept.get(name) or value in said for name, value in options(each).items())]
            if of_state:
                found = [each for each in found if each.states == part.states]
            if path is not None:
                best = min((sign * float(each.leaves[path] or 0) for each in found), default=None)
                found = [each for each in found if sign * float(each.leaves[path] or 0) == best]
            return len(found) == 1 and found[0] is part

        return check


def _beside(part: Part) -> list[Part]:
    """The parts that stand with one in the same list or mapping, itself included."""
    return part.owner.parts[part.kind[-1]] if part.owner is not None else [part]


def _fits(part: Part, path: tuple[str, ...] | None, value: object, slot: Slot) -> bool:
    if path is None:
        return part.key == value
    if path[0] in part.open and slot.form != "pair":
        return value in options(part).values()
    return part.leaves.get(path) == value


def _says(words: Sequence[str], phrase: str) -> bool:
    parts = phrase.lower().split()
    text = f" {' '.join(words)} "
    return f" {' '.join(parts)} " in text or f" {''.join(parts)} " in text
