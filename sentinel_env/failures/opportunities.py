"""Opportunities: where a task's reference plan leaves room for each kind of mistake, and in what context.

A pattern that is frequent may only have had many chances. So errors are counted against the places in the *reference* where they could
have happened, which no agent can change: a write with a tool is one opportunity to leave it out, to make it on another record, to use
another tool, and for each argument to get it wrong; a thing to tell is one to keep quiet. The same walk names each place's context.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.neighbours import leaves, neighbours
from sentinel_env.records import Record
from sentinel_env.tasks import Task
from sentinel_env.tools import Tool

from .findings import Finding
from .writes import Write, executed_writes

FEATURES: Mapping[str, str] = {
    "last_write": "that is the last of several",
    "several_writes": "where several writes are wanted",
    "shared_record": "on a record that another write changes too",
    "several_entries": "with several entries in a list",
    "sibling_values": "where the record holds other values of the kind",
    "other_records": "where the caller has other records of the kind",
    "to_be_found": "on a record that the user does not name by its key",
    "nothing_to_write": "where nothing may be written",
    "something_to_find": "where the user does not name a record by its key",
    "refusal_beside": "where another wish has to be refused",
    "something_to_tell": "where something has to be told",
}
"""Context features that are worked out for every domain, with their words; of equally good ones the first is preferred."""

ID_NAME = re.compile(r"(?:^|_)ids?$")
"""Names of arguments that take identifiers."""
_NONE: frozenset[str] = frozenset()
_STEPS, _NEAR = 2, 200
"""How far, and how many records around a call are looked at for siblings."""


class Chance(NamedTuple):
    """One opportunity for one kind of mistake."""

    label: str
    tool: str | None = None
    argument: str | None = None
    """For `wrong_argument`."""
    features: frozenset[str] = _NONE

    def is_of(self, label: str, tools: Collection[str] = (), arguments: Collection[str] = ()) -> bool:
        """Whether it is one for a label, with one of some tools and in one of some arguments, where there are any."""
        return (
            self.label == label
            and (not tools or self.tool is None or self.tool in tools)
            and (not arguments or self.argument is None or self.argument in arguments)
        )


class Exposure:
    """All opportunities that a task's reference leaves, and the context of each finding."""

    def __init__(self, domain: Domain, task: Task) -> None:
        """Execute the reference.

        Raises:
            TaskError: The task's changes do not fit the database.
        """
        self.task = task
        start = domain.start(task)
        writes = executed_writes(domain, start, enumerate(task.criteria.actions))
        self.common = frozenset(_of_task(task, writes))
        self._writes = [_Place(domain, start, task, writes, at, self.common) for at in range(len(writes))]
        self.chances = tuple(self._all(domain))

    def _all(self, domain: Domain) -> Iterator[Chance]:
        for place in self._writes:
            yield from place.chances()
        for label in ("extra_write", "unfinished"):
            yield Chance(label, features=self.common)
        calls = self.task.criteria.actions
        transfers = [call.name for call in calls if domain.is_transfer(call.name)]
        if transfers:
            yield Chance("missing_transfer", transfers[0], features=self.common)
        elif any(domain.is_transfer(tool.name) for tool in domain.tools):
            yield Chance("unneeded_transfer", features=self.common)
        yield from (Chance("missing_communicate", features=self.common) for _ in self.task.criteria.communicate)
        basis = self.task.criteria.basis
        if "actions" in basis or (self.task.criteria.tau2 and "ACTION" in self.task.criteria.tau2.reward_basis):
            yield from (Chance("missing_action", call.name, features=self.common) for call in calls)

    def context(self, finding: Finding) -> frozenset[str]:
        """The features of the place in the reference that a finding is about."""
        place = next((place for place in self._writes if place.call == finding.wanted), None)
        if place is None and finding.wanted is None and finding.label != "extra_write":
            place = next((place for place in self._writes if place.call.name == finding.tool), None)
        if place is None:
            return self.common
        found = place.features
        if finding.label == "wrong_target_record":
            found |= place.about_target
        for argument in finding.arguments if finding.label == "wrong_argument" else ():
            found |= place.about.get(argument, _NONE)
        return found


class ConductChances:
    """Conduct that a run leaves room for, by the tools that it calls: each tool is one opportunity a run, however often it is called."""

    def __init__(self, domain: Domain) -> None:
        """Work out what each tool leaves room for."""
        self._by_tool: dict[str, tuple[str, ...]] = {tool.name: tuple(_conduct_of(domain, tool)) for tool in domain.tools}
        access = ("unauthenticated_read", "unauthenticated_write", "other_users_record") if domain.access else ()
        self._of_all = Counter(("text_and_call", "unknown_tool", *access))

    def of_run(self, called: Iterable[str]) -> Counter[str]:
        """How many opportunities for each label a run has that calls these tools."""
        found = Counter(self._of_all)
        for name in called:
            found.update(self._by_tool[name])
        return found


def _conduct_of(domain: Domain, tool: Tool) -> Iterator[str]:
    yield from ("tool_error", "schema_error")
    identifiers = [name for name in tool.arguments.model_fields if ID_NAME.search(name)]
    if identifiers:
        yield "hallucinated_id"
    if not tool.writes:
        yield "repeated_call"
        return
    if identifiers:
        yield "blind_write"
    if len(identifiers) > 1:
        yield "ungrounded_selection"
    if "confirm" in domain.policy.lower():
        yield "write_without_confirmation"


class _Place:
    """One write of the reference."""

    def __init__(self, domain: Domain, start: Database, task: Task, writes: list[Write], at: int, common: frozenset[str]) -> None:
        write = writes[at]
        self.call = write.call
        before = writes[at - 1].after if at else start
        others = frozenset(place for other in writes if other is not write for place in other.places)
        targets = dict(write.target)
        found = set(common)
        if len(writes) > 1 and at == len(writes) - 1:
            found.add("last_write")
        if write.places & others:
            found.add("shared_record")
        if any(isinstance(value, list | tuple) and len(value) > 1 for value in write.call.arguments.values()):
            found.add("several_entries")
        if domain.contexts is not None:
            found.update(domain.contexts(before, write.call))
        near = neighbours(before, write.call, steps=_STEPS, most=_NEAR)
        self.features = frozenset(found)
        self.about = {
            name: frozenset({"sibling_values"} if any(_has_siblings(record, value) for record in near) else ())
            for name, value in write.call.arguments.items()
            if name not in targets
        }
        self.targets = tuple(sorted(targets))
        self.other_tools = any(
            tool.writes and tool.name != write.call.name and targets.keys() & tool.arguments.model_fields.keys() for tool in domain.tools
        )
        self.about_target = frozenset(_of_target(before, task, write, near))

    def chances(self) -> Iterator[Chance]:
        tool = self.call.name
        yield Chance("missing_write", tool, features=self.features)
        if self.other_tools:
            yield Chance("wrong_tool", tool, features=self.features)
        if self.targets:
            yield Chance("wrong_target_record", tool, features=self.features | self.about_target)
        if "shared_record" in self.features:
            yield Chance("order_dependency", tool, features=self.features)
        for name, more in self.about.items():
            yield Chance("wrong_argument", tool, name, self.features | more)


def _of_task(task: Task, writes: list[Write]) -> Iterator[str]:
    if not writes:
        yield "nothing_to_write"
    if len(writes) > 1:
        yield "several_writes"
    if task.criteria.communicate:
        yield "something_to_tell"
    if any(origin.startswith("read:") for wish in task.scenario.wishes for origin in wish.provenance.values()):
        yield "something_to_find"
    if writes and any(wish.call is None for wish in task.scenario.wishes):
        yield "refusal_beside"


def _of_target(db: Database, task: Task, write: Write, near: list[Record]) -> Iterator[str]:
    for name, key in write.target:
        table = next(table for table in db.tables.values() if key in table)
        if any(leaf != key and leaf in table for record in near for leaf in leaves(record)) or _shares_owner(table, key):
            yield "other_records"
        wish = next((wish for wish in task.scenario.wishes if wish.call == write.call), None)
        if wish is not None and wish.provenance.get(name, "").startswith("read:"):
            yield "to_be_found"


_SMALL = 2000


def _shares_owner(table: Any, key: str) -> bool:
    """Whether another record of a small table has the same value in a field that is named as an identifier."""
    if len(table) > _SMALL:
        return False
    record = table[key]
    own = {name: value for name, value in record.__dict__.items() if name.endswith("_id") and value != key and isinstance(value, str)}
    return any(other is not record and getattr(other, name) == value for name, value in own.items() for other in table.values())


def _has_siblings(record: Record, value: Any) -> bool:
    """Whether a record keeps a value beside others: as one of several keys, or as the same field of one of several entries."""
    wanted = [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, str)]
    for held in record.__dict__.values():
        if isinstance(held, Mapping) and len(held) > 1 and any(each in held for each in wanted):
            return True
        if isinstance(held, list | tuple) and len(held) > 1 and all(isinstance(entry, Record) for entry in held):
            columns: dict[str, set[str]] = {}
            for entry in held:
                for name, each in entry.__dict__.items():
                    if isinstance(each, str):
                        columns.setdefault(name, set()).add(each)
            if any(len(column) > 1 and any(each in column for each in wanted) for column in columns.values()):
                return True
    return False
