"""Is the reference right? Calls that tools refuse, writes that change nothing, and orders that matter.

tau2-bench swallows what a tool refuses, so that a task silently gets a wrong target; here each refusal has a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from sentinel_env.errors import ToolError
from sentinel_env.messages import ToolCall

from .issues import Issue, Severity, shorten
from .text import Said
from .walk import Step, Walk, execute, spell

MOST_PERMUTED = 4
"""Of so many writes every order is tried; of more, only neighbours are swapped."""
MOST_EXAMINED = 24
"""Of so many writes each is dropped, and swapped with its neighbour; of more, none."""


def refusals(walk: Walk, said: Said) -> Iterator[Issue]:
    """Calls of unknown tools, with arguments that do not fit, or that a tool refuses."""
    for step in walk.steps:
        tool = walk.domain.tools_by_name.get(step.call.name)
        evidence: dict[str, Any] = {"action": step.at, "call": step.call.model_dump(exclude_none=True), "answer": step.refusal}
        if tool is None:
            yield _issue(walk, "unknown_tool", "broken", f"{step.name}: there is no such tool; correct the name", evidence)
        elif step.crash is not None:
            yield _issue(walk, "crashing_call", "broken", f"{step.name}: {step.crash}", evidence)
        elif (complaint := _complaint(walk, step)) is not None:
            # tau2-bench does not validate arguments, so there the call may have worked
            severity: Severity = "suspect" if not step.answer.is_error else "broken"
            yield _issue(walk, "bad_arguments", severity, f"{step.name}: {complaint}", evidence | {"answer": complaint})
        elif step.answer.is_error and step.writes:
            yield _issue(walk, "refused_write", "broken", f"{step.name} is refused: {step.refusal}; {_why(walk, step)}", evidence)
        elif step.answer.is_error:
            severity, advice = _refused_read(walk, step, said)
            yield _issue(walk, "refused_read", severity, f"{step.name} of {_shown(step)} is refused: {step.refusal}; {advice}", evidence)


def _shown(step: Step) -> str:
    return shorten(", ".join(str(value) for value in step.call.arguments.values()), 100)


def _complaint(walk: Walk, step: Step) -> str | None:
    try:
        walk.domain.tools_by_name[step.call.name].validate(step.call.arguments)
    except ToolError as error:
        return shorten(str(error), 300)
    return None


def _why(walk: Walk, step: Step) -> str:
    """What is wrong with a write that is refused."""
    if any(other.call == step.call for other in walk.writes if other.at < step.at):
        return "it repeats an earlier write; drop it"
    if walk.outcome([step.call])[1] is None:
        return "it works on the start, so an earlier write prevents it; the target lacks its changes"
    return "the target lacks its changes; correct the call, or the data, or drop it"


def _refused_read(walk: Walk, step: Step, said: Said) -> tuple[Severity, str]:
    """A wrong value that the user tells is tried on purpose; but our own dialect grades no reference that is refused anything."""
    if walk.domain.dialect != "tau2":
        return "broken", "a reference may hold no call that a tool refuses; correct or drop it"
    if all(said.says(value) for value in step.call.arguments.values()):
        return "note", "the user tells these values, so an agent is meant to try them"
    return "suspect", "nobody tells these values; correct or drop the call"


def effects(walk: Walk) -> Iterator[Issue]:
    """Writes that change nothing, alone or beside the others, and orders that matter."""
    writes = walk.writes
    if not writes:
        return
    if not walk.changes:
        what = "its write changes nothing" if len(writes) == 1 else f"its {len(writes)} writes undo each other"
        calls = [spell(step.call) for step in writes]
        yield _issue(walk, "no_effect", "suspect", f"the reference leaves the database as it was: {what}", {"writes": calls})
        return
    if len(writes) > MOST_EXAMINED:
        reason = f"{len(writes)} writes: which of them are needed, and whether their order matters, was not examined"
        yield _issue(walk, "unexamined", "note", reason, {"writes": len(writes)})
        return
    needless = [at for at in range(len(writes)) if len(writes) > 1 and _is_needless(walk, at)]
    for at in needless:
        reason = f"{writes[at].name}: without it the reference leads to the same state, so an agent that leaves it out is rewarded"
        yield _issue(walk, "needless_write", "suspect", reason, {"action": writes[at].at})
    yield from _order(walk, [step.call for at, step in enumerate(writes) if at not in needless])  # what is overridden comes before
    for step in writes:
        yield from _lists(walk, step)


def _is_needless(walk: Walk, at: int) -> bool:
    changes, refused = walk.outcome([step.call for other, step in enumerate(walk.writes) if other != at])
    return refused is None and changes == walk.changes


def _order(walk: Walk, calls: list[ToolCall]) -> Iterator[Issue]:
    """Whether the same writes in another order lead elsewhere."""
    changes, refused = walk.outcome(calls)
    if refused is not None or changes != walk.changes:  # two needless writes can each stand in for the other
        calls = [step.call for step in walk.writes]
    for plan, swapped in _reordered(calls):
        changes, refused = walk.outcome(plan)
        if refused is None and changes == walk.changes:
            continue
        how = f"is refused ({refused})" if refused else "leads to another state"
        severity: Severity = "note"
        if _order_is_told(walk, calls):
            advice = "the user raises them in this order"
        elif refused is not None and _policy_tells(walk, plan):
            advice = "the policy forbids it, so an agent can know"
        else:
            severity, advice = "suspect", "say in the scenario in which order, or make the target independent of it"
        evidence = {"order": [spell(call) for call in plan], "refused": refused}
        yield _issue(walk, "order_dependent", severity, f"the writes in another order ({swapped}): {how}; {advice}", evidence)
        return


def _policy_tells(walk: Walk, plan: list[ToolCall]) -> bool:
    """Whether the policy forbids the first call that is refused."""
    db, forbids = walk.start.fork(), walk.domain.forbids
    if forbids is None:
        return False
    for call in plan:
        if forbids(db, call) is not None:
            return True
        if (answer := execute(walk.domain, db, call)) is None or answer.is_error:
            return False
    return False


def _reordered(calls: list[ToolCall]) -> Iterator[tuple[list[ToolCall], str]]:
    """Other orders, those that swap two neighbours first: they say best which writes depend on each other."""
    for at in range(len(calls) - 1):
        if calls[at] != calls[at + 1]:
            plan = [*calls[:at], calls[at + 1], calls[at], *calls[at + 2 :]]
            yield plan, f"{calls[at + 1].name} before {calls[at].name}"
    if 2 < len(calls) <= MOST_PERMUTED:
        for places in permutations(range(len(calls))):
            yield [calls[place] for place in places], ", ".join(calls[place].name for place in places)


def _order_is_told(walk: Walk, calls: list[ToolCall]) -> bool:
    wishes = [wish.call for wish in walk.task.scenario.wishes if wish.call is not None]
    return [(call.name, call.arguments) for call in wishes] == [(call.name, call.arguments) for call in calls]


def _lists(walk: Walk, step: Step) -> Iterator[Issue]:
    """Lists of one length are taken for columns of one list, such as the items and what replaces them."""
    lengths = {name: len(value) for name, value in step.call.arguments.items() if isinstance(value, list) and len(value) > 1}
    for length in sorted(set(lengths.values())):
        names = [name for name, own in lengths.items() if own == length]
        turned = {name: step.call.arguments[name][::-1] for name in names}
        if all(step.call.arguments[name] == value for name, value in turned.items()):
            continue
        changes, refused = walk.outcome(
            [
                other.call.model_copy(update={"arguments": {**other.call.arguments, **turned}}) if other is step else other.call
                for other in walk.writes
            ]
        )
        if refused is not None or changes != walk.changes:
            how = f"is refused ({refused})" if refused else "leads to another state"
            listed = " and ".join(names)
            reason = f"{step.name}: the same call with {listed} in reverse order {how}, so an agent that does the same fails; "
            reason += "let the tool make one state of both, or give the order"
            yield _issue(walk, "list_order", "suspect", reason, {"action": step.at, "arguments": names})


def _issue(walk: Walk, kind: str, severity: Severity, reason: str, evidence: dict[str, Any]) -> Issue:
    return Issue(task=walk.task.id, kind=kind, severity=severity, reason=shorten(reason, 600), evidence=evidence)
