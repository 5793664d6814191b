"""Foils of a carried-over task: the pattern's own mistake first, then what else it tempts to, then mutants.

A foil is executed before it is one: a tool accepts its calls, and it leads elsewhere than the reference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from random import Random

from sentinel_env.certificates import Foil
from sentinel_env.database import Changes
from sentinel_env.failures import FailurePattern
from sentinel_env.failures.opportunities import ID_NAME
from sentinel_env.generation.mutations import mutants
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Task

from .shape import Unfit
from .temptations import Temptations

MOST = 7
"""How many foils a draft has, its own mistake included, where the plan and the database hold so many."""
_REFUSED = ("hallucinated_id", "tool_error")
"""Labels whose mistake is a call that a tool refuses, after which the rest is left undone."""
_ALSO = ("wrong_target_record", "wrong_argument", "missing_write")
"""What every draft shows of, where it can."""


class Foils:
    """The foils of one draft."""

    def __init__(self, task: Task, temptations: Temptations) -> None:
        """Execute the reference.

        Raises:
            Unfit: A tool refuses it, the policy forbids it, or a write of it changes nothing.
        """
        self._task, self._temptations = task, temptations
        self._domain = temptations.domain
        self._actions = task.criteria.actions
        self._start = self._domain.start(task)
        db = self._start.fork()
        for call in self._actions:
            if self._writes(call) and self._domain.forbids is not None and self._domain.forbids(db, call) is not None:
                raise Unfit(f"the policy forbids {call.name} on the other records")
            if self._domain.execute(db, call).is_error:
                raise Unfit(f"{call.name} is refused on the other records")
        self._changes: Changes = db.changes()
        self._places = [at for at, call in enumerate(self._actions) if self._writes(call)]
        """Of the writes."""
        for at in self._places:
            if not self._leads_elsewhere(Foil(label="missing_write", at=at, drop=1)):
                raise Unfit(f"{self._actions[at].name} changes nothing on the other records")

    def _writes(self, call: ToolCall) -> bool:
        return self._domain.tools_by_name[call.name].writes

    def own(self, pattern: FailurePattern) -> Foil | None:
        """The pattern's own mistake; None where it cannot be made, or no reward shows it."""
        return next(self._possible(pattern.label, pattern.tools, pattern.arguments), None)

    def others(self, own: Foil | None) -> list[Foil]:
        """What else the draft tempts to, one of each kind, and mutants."""
        found = [own] if own is not None else []
        for label in _ALSO:
            if own is None or label != own.label:
                found += islice(self._possible(label), 1)
        if self._told.criteria.communicate and (own is None or not own.silent):
            found.append(Foil(label="missing_communicate", silent=True))
        found += mutants(self._domain, self._told, Random(self._task.id), want=MOST - len(found), beside=found)
        return found if own is None else found[1:]

    @cached_property
    def _told(self) -> Task:
        """The draft, with nothing to tell where no reward depends on it."""
        if not self._task.criteria.communicate or grades_telling(self._task):
            return self._task
        return self._task.model_copy(update={"criteria": self._task.criteria.model_copy(update={"communicate": ()})})

    def _possible(self, label: str, tools: Collection[str] = (), arguments: Sequence[str] = ()) -> Iterator[Foil]:
        """The foils of one label that lead somewhere else."""
        return (foil for foil in self._made(label, tools, arguments) if foil.silent or self._leads_elsewhere(foil))

    def _made(self, label: str, tools: Collection[str], arguments: Sequence[str]) -> Iterator[Foil]:
        tempting, writes = self._temptations, self._places
        about = [at for at in writes if self._actions[at].name in tools]
        targets = about if any(self._domain.tools_by_name[name].writes for name in tools) else writes
        match label:
            case "missing_write":
                yield from (Foil(label=label, at=at, drop=1) for at in reversed(targets))
            case "wrong_argument":
                for at in targets:
                    yield from _instead(label, at, tempting.other_arguments(at, arguments))
            case "wrong_target_record" | "write_without_confirmation":
                for at in targets:
                    yield from _instead(label, at, chain(tempting.on_siblings(at), tempting.on_strangers(at)))
            case "wrong_tool":
                for at in targets:
                    yield from _instead(label, at, tempting.with_other_tools(at))
            case "blind_write" | "ungrounded_selection":
                yield from self._hasty(label, targets)
            case "extra_write" | "other_users_record":
                for at in targets or writes[-1:]:
                    own = tempting.on_siblings(at) if label == "extra_write" else ()
                    yield from (Foil(label=label, at=at + 1, calls=(call,)) for call in chain(own, tempting.on_strangers(at)))
            case "order_dependency" if len(writes) > 1:
                swapped = list(self._actions)
                for at, other in zip(writes, reversed(writes), strict=True):
                    swapped[at] = self._actions[other]
                yield Foil.between(label, self._actions, swapped)
            case "missing_communicate" if self._told.criteria.communicate:
                yield Foil(label=label, silent=True)
            case "unneeded_transfer" if writes and (transfer := self._domain.handover) is not None:
                yield Foil(label=label, at=writes[0], drop=len(self._actions) - writes[0], calls=(transfer,))
            case "missing_transfer":
                yield from (
                    Foil(label=label, at=at, drop=1) for at, call in enumerate(self._actions) if self._domain.is_transfer(call.name)
                )
            case "unfinished" if writes:
                yield Foil(label=label, at=writes[0], drop=len(self._actions) - writes[0])
            case "hallucinated_id" | "tool_error":
                for at in targets:
                    wrong = _with_other_digits(self._actions[at], only_ids=label == "hallucinated_id")
                    if wrong is not None:
                        yield Foil(label=label, at=at, drop=len(self._actions) - at, calls=(wrong,))

    def _hasty(self, label: str, targets: list[int]) -> Iterator[Foil]:
        """A wrong write, without anything looked up since the write before it."""
        for at in targets:
            names = [name for name in self._actions[at].arguments if ID_NAME.search(name)]
            calls = self._temptations.on_siblings(at) if label == "blind_write" else self._temptations.other_arguments(at, names)
            since = max((place + 1 for place in self._places if place < at), default=0)
            yield from (Foil(label=label, at=since, drop=at + 1 - since, calls=(call,)) for call in calls)

    def _leads_elsewhere(self, foil: Foil) -> bool:
        """Whether its calls are accepted, or are refused by their nature, and it does not end where the reference does."""
        db = self._start.fork()
        for at, call in enumerate(foil.plan(self._actions)):
            if self._writes(call) and self._domain.execute(db, call).is_error and foil.at <= at < foil.at + len(foil.calls):
                return foil.label in _REFUSED
        return db.changes() != self._changes


def _instead(label: str, at: int, calls: Iterator[ToolCall]) -> Iterator[Foil]:
    return (Foil(label=label, at=at, drop=1, calls=(call,)) for call in calls)


def _with_other_digits(call: ToolCall, *, only_ids: bool) -> ToolCall | None:
    for name, value in call.arguments.items():
        if isinstance(value, str) and any(map(str.isdecimal, value)) and (ID_NAME.search(name) or not only_ids):
            other = "".join(str((int(letter) + 5) % 10) if letter.isdecimal() else letter for letter in value)
            return call.model_copy(update={"arguments": {**call.arguments, name: other}})
    return None


def grades_telling(task: Task) -> bool:
    """Whether the reward depends on what is told."""
    tau2 = task.criteria.tau2
    return "communicate" in task.criteria.basis or (
        "tau2" in task.criteria.basis and tau2 is not None and "COMMUNICATE" in tau2.reward_basis
    )
