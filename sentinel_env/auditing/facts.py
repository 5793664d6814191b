"""What a structured fact's words mean, by the domain's own reading of them, against the value that the reference takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sentinel_env.tasks import Fact, Wish

from .issues import Issue, shorten
from .reach import parts
from .walk import Walk


def told_facts(walk: Walk) -> Iterator[tuple[Wish | None, Fact]]:
    """The structured facts of a scenario that have a value, with the wish that they belong to."""
    scenario = walk.task.scenario
    yield from ((None, fact) for fact in scenario.facts if fact.value is not None)
    yield from ((wish, fact) for wish in scenario.wishes for fact in wish.facts if fact.value is not None)


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
