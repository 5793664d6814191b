"""What a structured fact's words mean, by the domain's own reading of them, against the value that the reference takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Fact, Wish

from .issues import Issue, shorten
from .reach import parts
from .walk import Walk, spell


def told_facts(walk: Walk) -> Iterator[tuple[Wish | None, Fact]]:
    """The structured facts of a scenario that have a value, with the wish that they belong to."""
    scenario = walk.task.scenario
    yield from ((None, fact) for fact in scenario.facts if fact.value is not None)
    yield from ((wish, fact) for wish in scenario.wishes for fact in wish.facts if fact.value is not None)


def wishes(walk: Walk) -> Iterator[Issue]:
    """Writes of the reference that no structured wish asks for, and wishes that it does not fulfil."""
    asked = [wish.call for wish in walk.task.scenario.wishes if wish.call is not None and _writes(walk, wish.call)]
    if not walk.task.scenario.wishes:
        return
    for step in walk.writes:
        same = next((call for call in asked if (call.name, call.arguments) == (step.call.name, step.call.arguments)), None)
        if same is None:
            reason = f"{step.name}: no wish of the user asks for it; drop it, or add the wish"
            yield Issue(task=walk.task.id, kind="unasked_write", severity="suspect", reason=reason, evidence={"action": step.at})
        else:
            asked.remove(same)
    for call in asked:
        reason = f"the user wants {spell(call)}, which the reference does not make"
        yield Issue(task=walk.task.id, kind="unmet_wish", severity="suspect", reason=reason, evidence={"call": call.model_dump()})


def _writes(walk: Walk, call: ToolCall) -> bool:
    tool = walk.domain.tools_by_name.get(call.name)
    return tool is not None and tool.writes


def misleading(walk: Walk, judged: list[Any]) -> Iterator[Issue]:
    """Facts whose words mean something else, or something else as well; the values that were judged are added to `judged`."""
    read = walk.domain.meanings
    if read is None:
        return
    for wish, fact in told_facts(walk):
        meant = read(walk.start, walk.task.scenario, wish, fact)
        if meant is None:
            continue
        judged.extend(parts(fact.value))
        others = [value for value in meant if value != fact.value]
        shown = ", ".join(shorten(str(value), 60) for value in others[:3])
        evidence = {"slot": fact.slot, "words": fact.text, "value": fact.value, "others": others[:20]}
        if fact.value not in meant:
            means = f"mean {shown}" if others else "mean nothing"
            reason = f"the {fact.slot} {fact.text!r}: the words {means}, the reference takes {shorten(str(fact.value), 60)}; reword it"
            yield Issue(task=walk.task.id, kind="wrong_description", severity="broken", reason=reason, evidence=evidence)
        elif others:
            reason = f"the {fact.slot} {fact.text!r} could also mean {shown}; add what tells it from {shorten(str(fact.value), 60)}"
            yield Issue(task=walk.task.id, kind="ambiguous_description", severity="suspect", reason=reason, evidence=evidence)
