"""Can an agent know what it has to write? Each argument of a reference write must be said by the user, or be found by reading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from sentinel_env.domain import Domain

from .explore import Explorer
from .issues import Issue, shorten
from .lookups import quoted, resolve
from .text import is_identifier, plain, stem, words
from .walk import Step, Walk

SMALL = 12
"""Whole numbers up to it can be counted."""


def unreachable(walk: Walk, step: Step, explorer: Explorer) -> Iterator[Issue]:
    """Arguments of a write that nothing leads to; on the way the explorer reads what the write needs."""
    for name, value in sorted(step.call.arguments.items(), key=lambda item: is_free_text(item[1])):
        if choices(walk.domain, step, name):
            continue
        wanted = _underived(explorer, parts(value))
        if wanted and not explorer.search(step.before, partial(_all_derived, explorer, wanted)):
            yield _unreachable(walk, step, name, _underived(explorer, wanted), explorer)


def _underived(explorer: Explorer, values: Iterable[Any]) -> list[Any]:
    return [value for value in values if not derivable(explorer, value)]


def _all_derived(explorer: Explorer, values: Iterable[Any]) -> bool:
    return all(derivable(explorer, value) for value in values)


def _unreachable(walk: Walk, step: Step, name: str, missing: list[Any], explorer: Explorer) -> Issue:
    shown = ", ".join(shorten(str(part), 60) for part in missing[:3])
    called = {call.name for call, _ in explorer.answers.values()}
    unused = [lookup.name for lookup in explorer.world.lookups if lookup.name not in called]
    evidence = {"action": step.at, "argument": name, "missing": missing, "reads": explorer.calls, "tools_without_an_answer": unused}
    if explorer.exhausted:
        reason = f"{step.name}: {name} {shown} was not found within {explorer.calls} reads"
        return Issue(task=walk.task.id, kind="unreachable_argument", severity="note", reason=reason, evidence=evidence)
    reason = f"{step.name}: the user does not say {name} {shown}, and no read leads to it; say it in the scenario, or correct the call"
    return Issue(task=walk.task.id, kind="unreachable_argument", severity="suspect", reason=reason, evidence=evidence)


def identification(walk: Walk, explorer: Explorer) -> Iterator[Issue]:
    """Whether what the user says identifies the user, where the domain has tools for it and the reference needs them."""
    access = walk.domain.access
    if access is None:
        return
    owners = {owner for step in walk.steps if not step.answer.is_error and (owner := _owner(walk, step)) is not None}
    if not owners:
        return
    db = walk.start.fork()
    explorer.search(db, lambda: False, only=access.identified_by)
    found = identified(walk.domain, explorer)
    if not found:
        shown = " or ".join(access.identified_by)
        reason = f"nothing that the user says is accepted by {shown}; say who the user is, as these tools ask for it"
        yield Issue(task=walk.task.id, kind="cannot_identify", severity="suspect", reason=reason, evidence={"tools": access.identified_by})
    elif owners.isdisjoint(found):
        reason = f"the user is identified as {', '.join(sorted(found))}, and the reference uses records of {', '.join(sorted(owners))}"
        evidence = {"identified": sorted(found), "owners": sorted(owners)}
        yield Issue(task=walk.task.id, kind="cannot_identify", severity="suspect", reason=reason, evidence=evidence)


def identified(domain: Domain, explorer: Explorer) -> set[str]:
    """Who the user can be, by the tools that identify."""
    names = () if domain.access is None else domain.access.identified_by
    return {str(answer.leaves[0].value) for call, answer in explorer.answers.values() if call.name in names and answer.leaves}


def _owner(walk: Walk, step: Step) -> str | None:
    return walk.domain.access.owner(step.before, step.call) if walk.domain.access is not None else None


def parts(value: Any) -> Iterator[Any]:
    """The single values of an argument."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from parts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)
    else:
        yield value


def is_free_text(value: Any) -> bool:
    """Whether an argument is words, not an identifier."""
    return isinstance(value, str) and not is_identifier(value)


def choices(domain: Domain, step: Step, name: str) -> tuple[Any, ...]:
    """The constants that an argument may take, where its schema or its description lists them and the value is one of them."""
    parameters = domain.tools_by_name[step.call.name].schema["function"]["parameters"]
    declared = parameters["properties"].get(name, {})
    schema = resolve(declared, parameters)
    listed = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    value = step.call.arguments.get(name)
    for options in (listed, quoted(str(declared.get("description", "")))):
        if len(options) > 1 and value in options:
            return tuple(options)
    return ()


def derivable(explorer: Explorer, value: Any) -> bool:
    """Whether a value is known now, or is one that anybody can make up or count."""
    if value is None or isinstance(value, bool) or value in ("", 0):
        return True
    if isinstance(value, int | float):
        return explorer.knows(value) or (float(value).is_integer() and abs(value) <= SMALL)
    if not isinstance(value, str) or explorer.knows(value):
        return True
    if is_identifier(value):
        return False
    own = [stem(word) for word in words(value)]
    return all(word in explorer.words for word in own) or _is_constant(explorer, value) or _is_code(explorer, value)


def _is_constant(explorer: Explorer, value: str) -> bool:
    """Whether the rules name a text, such as a reason."""
    return len(value) > 2 and plain(value) in explorer.world.rules


def _is_code(explorer: Explorer, value: str) -> bool:
    """Whether a short code stands for something that was said, such as TX for Texas or NY for New York."""
    letters = value.lower()
    if not letters.isalpha() or len(letters) > 3:
        return False
    spoken = re.findall(r"[^\W\d_]+", explorer.said.lower)
    initials = "".join(word[0] for word in spoken)
    return letters in initials or any(re.match(".*".join(letters), word) for word in spoken if len(letters) < len(word) <= 40)
