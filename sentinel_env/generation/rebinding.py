"""New tasks for a domain that declares no operations: existing ones, carried over to other records.

    "Renew Dune for me", card M7, renew_loan(L1)   ->   "Renew Emma for me", card M8, renew_loan(L2)

An argument whose value is a record's key is rebound to another record of the same table; where a field of the old record is spoken of
in the scenario, the new record's field takes its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from sentinel_env.certificates import Foil
from sentinel_env.domain import Domain
from sentinel_env.failures import FailurePattern
from sentinel_env.messages import ToolCall
from sentinel_env.proposals import TaskProposal
from sentinel_env.records import Record
from sentinel_env.tasks import Task


def rebind_tasks(domain: Domain, pattern: FailurePattern, *, n: int, random: Random, split: str) -> list[TaskProposal]:
    """Up to n drafts, each an existing task of the split about other records, in an order drawn by `random`."""
    tasks = [task for task in domain.tasks_by_id.values() if task.split == split and _concerns(task, pattern)]
    drafts = [draft for task in tasks for draft in _rebound(domain, pattern, task)]
    random.shuffle(drafts)
    return drafts[:n]


def _concerns(task: Task, pattern: FailurePattern) -> bool:
    return not pattern.tools or any(call.name in pattern.tools for call in task.criteria.actions)


def _rebound(domain: Domain, pattern: FailurePattern, task: Task) -> Iterator[TaskProposal]:
    for name, table in domain.base.tables.items():
        keys = {value for call in task.criteria.actions for value in call.arguments.values() if isinstance(value, str) and value in table}
        if len(keys) != 1:
            continue
        (old,) = keys
        for new in table:
            if new != old:
                yield _carry_over(domain, pattern, task, name, old, new)


def _carry_over(domain: Domain, pattern: FailurePattern, task: Task, table: str, old: str, new: str) -> TaskProposal:
    records = domain.base.tables[table]
    swaps = {old: new, **_field_swaps(records[old], records[new], json.dumps(task.scenario.model_dump()))}
    draft = Task.model_validate(_swap(task.model_dump(), swaps))
    digest = hashlib.sha256(json.dumps([task.id, swaps], sort_keys=True).encode()).hexdigest()[:12]
    source = f"proposer:{pattern.id} rebound from {task.id}"
    draft = draft.model_copy(update={"id": f"{task.id}-{digest}", "domain": task.domain, "split": task.split, "source": source})
    return TaskProposal(
        pattern_id=pattern.id,
        draft=draft,
        foils=tuple(_foils(domain, pattern, draft, new, old)),
        rationale=f"task {task.id} about {new} instead of {old}",
    )


def _field_swaps(old: Record, new: Record, scenario: str) -> dict[str, str]:
    """Old text -> new text for each field that the scenario speaks of."""
    pairs = ((getattr(old, field), getattr(new, field)) for field in type(old).model_fields)
    return {
        was: now for was, now in pairs if isinstance(was, str) and isinstance(now, str) and len(was) > 1 and was in scenario and was != now
    }


def _swap(value: Any, swaps: Mapping[str, str]) -> Any:
    """Replace whole words in every text of a JSON value, all at once."""
    if isinstance(value, str):
        pattern = "|".join(re.escape(old) for old in sorted(swaps, key=len, reverse=True))
        return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda match: swaps[match.group()], value)
    if isinstance(value, dict):
        return {key: _swap(item, swaps) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_swap(item, swaps) for item in value]
    return value


def _foils(domain: Domain, pattern: FailurePattern, draft: Task, right: str, wrong: str) -> Iterator[Foil]:
    actions = draft.criteria.actions
    mistaken = tuple(call.model_copy(update={"arguments": _swap(call.arguments, {right: wrong})}) for call in actions)
    kept = tuple(call for call in actions if not _writes(domain, call))
    found = [Foil.between("wrong_target_record", actions, mistaken), Foil.between("missing_write", actions, kept)]
    if draft.criteria.communicate:
        found.append(Foil(label="missing_communicate", silent=True))
    yield from sorted(found, key=lambda foil: foil.label != pattern.label)


def _writes(domain: Domain, call: ToolCall) -> bool:
    tool = domain.tools_by_name.get(call.name)
    return tool is not None and tool.writes
