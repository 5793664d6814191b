"""The form of a draft: whether its calls fit the tools, and whether it is of a size that can be examined. Later gates rely on it."""

from __future__ import annotations

from collections.abc import Iterable

from sentinel_env.domain import Domain
from sentinel_env.errors import ToolError
from sentinel_env.messages import ToolCall

from .case import Case, Finding

MAX_ACTIONS, MAX_FOILS, MAX_CHARACTERS = 60, 200, 400_000
"""Of a draft; the longest of ours has a tenth of that."""
_REFUSED_BY_NATURE = frozenset(("schema_error", "unknown_tool"))


def schema(case: Case) -> Finding:
    """Every call fits its tool, and everything else is of a kind and size that the later gates can work on."""
    domain, task = case.domain, case.task
    if (found := _size(case)) is not None:
        return found
    if task.domain != domain.name:
        return f"the task is for domain {task.domain!r:.80}, not {domain.name!r}"
    if not task.criteria.actions:
        return "the task has no reference actions"
    if (found := _changes(domain, task.changes)) is not None:
        return found
    if (found := _calls(domain, task.criteria.actions)) is not None:
        return f"reference action {found}"
    checked: set[int] = set()
    for foil in case.proposal.foils:
        found = None if foil.label in _REFUSED_BY_NATURE else _calls(domain, foil.calls, checked)
        if found is not None:
            return f"the {foil.label[:80]} foil has a call that no tool takes, {found}"
    return None


def _size(case: Case) -> str | None:
    task, foils = case.task, case.proposal.foils
    most_calls = max((len(calls) for calls in (task.criteria.actions, *(foil.calls for foil in foils))), default=0)
    if most_calls > MAX_ACTIONS:
        return f"{most_calls} calls in one plan; at most {MAX_ACTIONS} can be carried out"
    if len(foils) > MAX_FOILS:
        return f"{len(foils)} foils; at most {MAX_FOILS} are examined"
    try:
        text = case.proposal.model_dump_json()
    except (ValueError, RecursionError) as error:  # endless, too deep, or a text that no file can hold
        return f"the draft cannot be written as JSON: {str(error).removeprefix('Error serializing to JSON: ')}"
    if len(text) > MAX_CHARACTERS:
        return f"the draft has {len(text):,} characters; at most {MAX_CHARACTERS:,} are examined"
    return None


def _changes(domain: Domain, changes: object) -> str | None:
    """Whether rows are rows; what their fields take is for the database to say."""
    assert isinstance(changes, dict)
    for name, rows in changes.items():
        table = domain.base.tables.get(name)
        if table is None:
            return f"changes: there is no table {name!r:.80}; the tables are {', '.join(domain.base.tables)}"
        for key, row in rows.items():
            if row is not None and not isinstance(row, dict):
                return f"changes: {name}[{key!r:.80}] is a {type(row).__name__}; expected an object of fields, or null"
    return None


def _calls(domain: Domain, calls: Iterable[ToolCall], checked: set[int] | None = None) -> str | None:
    for at, call in enumerate(calls):
        if checked is not None:  # mutants share their calls
            if id(call) in checked:
                continue
            checked.add(id(call))
        tool = domain.tools_by_name.get(call.name)
        if tool is None:
            return f"{at}: there is no tool {call.name!r:.80}"
        try:
            tool.validate(call.arguments)
        except ToolError as error:
            return f"{at} ({call.name}): {error}"
    return None
