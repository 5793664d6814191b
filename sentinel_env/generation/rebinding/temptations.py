"""Mistakes that a carried-over task tempts to, found by its roles: the same write on a sibling record, another part of the same account.

Each is executed: a foil is a plan that no tool refuses and that leads elsewhere than the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from random import Random
from typing import Any

from sentinel_env.certificates import Foil
from sentinel_env.database import Changes
from sentinel_env.failures import FailurePattern
from sentinel_env.generation.mutations import mutants, transfer_call
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Task

from .relations import Assignment, Relations, options
from .shape import Group
from .world import Part

FOILS = 7
"""How many foils a draft has, its own mistake included, where the plan and the database hold so many."""
_TRIED = 12


class Temptations:
    """The mistakes that one draft tempts to."""

    def __init__(self, relations: Relations, task: Task, assignment: Assignment, places: Sequence[int | None]) -> None:
        """Execute the reference.

        Args:
            relations: Of the task that was carried over.
            task: The draft.
            assignment: Who takes the roles.
            places: For each action of the draft the place of the old one in the shape's actions; None for a read that was added.
        """
        self._shape, self._task, self._assignment, self._places = relations.shape, task, assignment, places
        self._variants = relations.variants
        self._domain = relations.shape.domain
        self._actions = task.criteria.actions
        self.refused: str | None = None
        """Why the reference cannot be executed, where it cannot."""
        self._start = self._domain.start(task)
        db = self._start.fork()
        for call in self._actions:
            if self._writes(call) and self._domain.forbids is not None and self._domain.forbids(db, call) is not None:
                self.refused = f"the policy forbids {call.name} on the other records"
                return
            if self._domain.execute(db, call).is_error:
                self.refused = f"{call.name} is refused on the other records"
                return
        self.changes: Changes = db.changes()
        for at, call in enumerate(self._actions):
            if self._writes(call) and not self._leads_elsewhere(Foil(label="missing_write", at=at, drop=1)):
                self.refused = f"{call.name} changes nothing on the other records"
                return

    def _writes(self, call: ToolCall) -> bool:
        return self._domain.tools_by_name[call.name].writes

    # foils

    def foils(self, pattern: FailurePattern) -> list[Foil]:
        """The pattern's own mistake first, where it can be made, then others, then mutants."""
        own = self._own(pattern)
        found = [own] if own is not None else []
        for label in ("wrong_target_record", "wrong_argument", "missing_write"):
            if own is None or label != own.label:
                found += islice(self._of(label, FailurePattern(id="any", domain=self._domain.name, label=label)), 1)
        if self._told.criteria.communicate and pattern.label != "missing_communicate":
            found.append(Foil(label="missing_communicate", silent=True))
        return found + mutants(self._domain, self._told, Random(self._task.id), want=FOILS - len(found), beside=found)

    @cached_property
    def _told(self) -> Task:
        """The draft, with nothing to tell where no reward depends on it."""
        if not self._task.criteria.communicate or grades_telling(self._task):
            return self._task
        return self._task.model_copy(update={"criteria": self._task.criteria.model_copy(update={"communicate": ()})})

    def _own(self, pattern: FailurePattern) -> Foil | None:
        found = next(self._of(pattern.label, pattern), None)
        if found is None and pattern.label in ("wrong_argument", "wrong_target_record", "extra_write"):
            mutant = next((each for each in mutants(self._domain, self._told, Random(0), want=30) if self._is_own(pattern, each)), None)
            found = mutant.model_copy(update={"mutant": False}) if mutant is not None else None
        return found

    def _is_own(self, pattern: FailurePattern, foil: Foil) -> bool:
        """Whether a mutant is the pattern's own mistake, with one of its tools and in its arguments."""
        if foil.label != pattern.label or len(foil.calls) != 1:
            return False
        (wrong,) = foil.calls
        if pattern.tools and wrong.name not in pattern.tools:
            return False
        if pattern.label != "wrong_argument" or not pattern.arguments:
            return True
        right = self._actions[foil.at].arguments
        return any(right.get(name) != wrong.arguments.get(name) for name in pattern.arguments)

    def _of(self, label: str, pattern: FailurePattern) -> Iterator[Foil]:
        """The mistakes of one label, those that lead nowhere left out."""
        for foil in self._made(label, pattern):
            if foil.silent or self._leads_elsewhere(foil):
                yield foil

    def _made(self, label: str, pattern: FailurePattern) -> Iterator[Foil]:
        targets = self._targets(pattern)
        writes = [at for at, call in enumerate(self._actions) if self._writes(call)]
        match label:
            case "missing_write":
                yield from (Foil(label=label, at=at, drop=1) for at in reversed(targets))
            case "wrong_argument":
                for at in targets:
                    yield from (Foil(label=label, at=at, drop=1, calls=(call,)) for call in self._other_arguments(at, pattern.arguments))
            case "wrong_target_record":
                for at in targets:
                    yield from (Foil(label=label, at=at, drop=1, calls=(call,)) for call in self._on_siblings(at))
            case "extra_write":
                for at in targets:
                    yield from (Foil(label=label, at=at + 1, calls=(call,)) for call in self._on_siblings(at))
                if not writes:
                    return
                for call in self._with_other_tools(writes[-1]):
                    if not pattern.tools or call.name in pattern.tools:
                        yield Foil(label=label, at=writes[-1] + 1, calls=(call,))
            case "wrong_tool":
                for at in targets:
                    yield from (Foil(label=label, at=at, drop=1, calls=(call,)) for call in self._with_other_tools(at))
            case "order_dependency" if len(writes) > 1:
                swapped = list(self._actions)
                for at, other in zip(writes, reversed(writes), strict=True):
                    swapped[at] = self._actions[other]
                yield Foil.between(label, self._actions, swapped)
            case "missing_communicate" if self._told.criteria.communicate:
                yield Foil(label=label, silent=True)
            case "unneeded_transfer" if writes and (transfer := transfer_call(self._domain)) is not None:
                yield Foil(label=label, at=writes[0], drop=len(self._actions) - writes[0], calls=(transfer,))
            case "missing_transfer":
                yield from (
                    Foil(label=label, at=at, drop=1) for at, call in enumerate(self._actions) if self._domain.is_transfer(call.name)
                )
            case "unfinished" if writes:
                yield Foil(label=label, at=writes[0], drop=len(self._actions) - writes[0])

    def _targets(self, pattern: FailurePattern) -> list[int]:
        """The writes that a pattern is about."""
        writes = [at for at, call in enumerate(self._actions) if self._writes(call)]
        about = [at for at in writes if self._actions[at].name in pattern.tools]
        return about if any(self._domain.tools_by_name[name].writes for name in pattern.tools) else writes

    def _leads_elsewhere(self, foil: Foil) -> bool:
        """Whether no tool refuses its calls, and it does not end where the reference does."""
        db = self._start.fork()
        for at, call in enumerate(foil.plan(self._actions)):
            if self._writes(call) and self._domain.execute(db, call).is_error and foil.at <= at < foil.at + len(foil.calls):
                return False
        return db.changes() != self.changes

    # wrong calls

    def _group(self, at: int) -> Group:
        return self._shape.groups[f"action {self._places[at]}"]

    def _part(self, at: int, value: str) -> Part | None:
        """The part that an argument names by its key."""
        group = self._group(at)
        for refs in group.refs.values():
            for ref in refs:
                part = self._assignment.parts[ref.role]
                if ref.path is None and part is not None and part.key == value:
                    return part
        return None

    def _other_arguments(self, at: int, names: Sequence[str]) -> Iterator[ToolCall]:
        """The call with a sibling in the place of what an argument names: another variant, another payment method, another choice."""
        call = self._actions[at]
        schema = self._domain.tools_by_name[call.name].schema["function"]["parameters"]["properties"]
        for name in names or call.arguments:
            value = call.arguments.get(name)
            for other in islice(self._other_values(at, value, schema.get(name, {})), _TRIED):
                yield call.model_copy(update={"arguments": {**call.arguments, name: other}})

    def _other_values(self, at: int, value: Any, schema: Any) -> Iterator[Any]:
        yield from (choice for choice in schema.get("enum", ()) if choice != value and isinstance(value, str))
        if isinstance(value, str):
            part = self._part(at, value)
            if part is not None and part.owner is not None:
                yield from (each.key for each in _siblings(part))
        elif isinstance(value, list):
            for place, each in enumerate(value):
                part = self._part(at, each) if isinstance(each, str) else None
                for other in _siblings(part) if part is not None and part.owner is not None else ():
                    yield [*value[:place], other.key, *value[place + 1 :]]
            if len(value) > 1:
                yield value[:-1]

    def _on_siblings(self, at: int) -> Iterator[ToolCall]:
        """The same write on another record of the subject, with what that holds in the place of what the right one holds."""
        call, group = self._actions[at], self._group(at)
        subjects = self._shape.subjects
        for refs in group.refs.values():
            for ref in refs:
                record = self._assignment.parts[ref.role]
                if ref.path is not None or record is None or record.owner is not None or subjects.of(record) is None:
                    continue
                belongings = subjects.belongings[subjects.of(record) or ""]
                others = [each for each in belongings if each.kind == record.kind and each.key != record.key]
                for other in others[:_TRIED]:
                    arguments = self._moved(call.arguments, at, record, other)
                    if arguments is not None:
                        yield call.model_copy(update={"arguments": arguments})
                        for own, sibling in self._own_parts(at):
                            yield call.model_copy(update={"arguments": _exchanged(arguments, {own: sibling})})

    def _own_parts(self, at: int) -> Iterator[tuple[str, str]]:
        """(key, another) of parts of the subject's own record that a write names, such as a payment method."""
        for role in self._group(at).roles:
            part = self._assignment.parts[role]
            if part is not None and part.owner is not None and part.key is not None and self._shape.subjects.of(part.root) is not None:
                yield from ((part.key, str(each.key)) for each in _siblings(part))

    def _moved(self, arguments: Any, at: int, record: Part, other: Part) -> Any:
        """Arguments about another record; None where that has too few entries."""
        world, roles = self._shape.world, self._group(at).roles
        keys: dict[str, str] = {str(record.key): str(other.key)}
        for role in roles:
            entry = self._assignment.parts[role]
            if entry is None or entry.owner is not record or entry.key is not None:
                continue
            for reference in world.references:
                was = str(entry.leaves.get(reference.path))
                if reference.kind == entry.kind and not reference.many and was not in keys:
                    there = (str(each.leaves.get(reference.path)) for each in other.parts.get(entry.kind[-1], ()))
                    free = next((key for key in there if key not in keys.values()), None)
                    if free is None:
                        return None
                    keys[was] = free
        for _, old, new in (each for each in self._variants if each[0] in roles and each[2] in roles):
            replaced, wanted = self._assignment.part(old), self._assignment.part(new)
            now = [each for each in world.keyed.get(keys.get(str(replaced.key), ""), ()) if each.kind == replaced.kind]
            if now:
                keys[str(wanted.key)] = str(next(iter(_siblings(now[0])), now[0]).key)
        return _exchanged(arguments, keys)

    def _with_other_tools(self, at: int) -> Iterator[ToolCall]:
        """Other writes that take what this one, or an earlier call, is given."""
        call = self._actions[at]
        known: dict[str, Any] = {}
        for each in (*self._actions[:at], call):
            known.update(each.arguments)
        for tool in self._domain.tools:
            if not tool.writes or tool.name == call.name:
                continue
            parameters = tool.schema["function"]["parameters"]
            arguments = {}
            for name in parameters["required"]:
                choices = parameters["properties"].get(name, {}).get("enum")
                if name in known:
                    arguments[name] = known[name]
                elif choices:
                    arguments[name] = choices[0]
            shares = any(arguments.get(name) == value for name, value in call.arguments.items())
            if shares and len(arguments) == len(parameters["required"]):
                yield ToolCall(name=tool.name, arguments=arguments)


def grades_telling(task: Task) -> bool:
    """Whether the reward depends on what is told."""
    tau2 = task.criteria.tau2
    return "communicate" in task.criteria.basis or (
        "tau2" in task.criteria.basis and tau2 is not None and "COMMUNICATE" in tau2.reward_basis
    )


def _siblings(part: Part) -> list[Part]:
    """The parts beside one, in the same state and with the most options in common first."""
    assert part.owner is not None
    own = options(part)
    others = [each for each in part.owner.parts[part.kind[-1]] if each is not part]

    def far(other: Part) -> tuple[bool, int]:
        return other.states != part.states, sum(value != own.get(name) for name, value in options(other).items())

    return sorted(others, key=far)


def _exchanged(value: Any, keys: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _exchanged(each, keys) for name, each in value.items()}
    if isinstance(value, list):
        return [_exchanged(each, keys) for each in value]
    return keys.get(value, value) if isinstance(value, str) else value
