"""Causes that are not about writes: what was never said, a hand-over, and a conversation without an end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sentinel_env.evaluation import Evaluation, tokens
from sentinel_env.understanding import read

from .dialogue import Dialogue
from .findings import Cause, Evidence, Finding, Sublabel

_LISTED = re.compile(r"^\s*(?:\d+[.)]|[-*#])\s*", re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.#-])[$€£]? ?(\d[\d,]*(?:\.\d+)?)(?![\w-]|\.\d)")
_ANY_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_LIMITS: dict[str, Sublabel] = {"max_steps": "max_steps", "max_errors": "too_many_errors", "limit": "limit", "timeout": "limit"}


def ending_findings(dialogue: Dialogue, evaluation: Evaluation) -> Iterator[Finding]:
    """From the checks that failed and from how the conversation ended."""
    trajectory, end = dialogue.trajectory, dialogue.end

    def found(label: Cause, step: int, detail: str, *, sublabel: Sublabel | None = None, tool: str | None = None) -> Finding:
        evidence = Evidence(trajectory=trajectory.id, step=step, detail=detail)
        return Finding(label=label, sublabel=sublabel, tool=tool, evidence=evidence)

    for check in evaluation.checks:
        if check.name == "communicate" and not check.passed:
            step, sublabel = _where_unsaid(dialogue, check.detail.removeprefix("never said to the user: "))
            yield found("missing_communicate", step, check.detail, sublabel=sublabel)
        elif check.name == "actions" and not check.passed:
            yield found("missing_action", end, check.detail, tool=check.detail.removeprefix("never called: ").split(" ")[0])
    wanted = [call.name for call in trajectory.task.criteria.actions if dialogue.domain.is_transfer(call.name)]
    handed = _where_handed_over(dialogue)
    if wanted and handed is None:
        yield found("missing_transfer", end, "only a person could have settled it", tool=wanted[0])
    elif not wanted and handed is not None:
        yield found("unneeded_transfer", handed, "handed over to a person")
    if not trajectory.terminated:
        sublabel = _LIMITS.get(trajectory.ending or "", "abandoned")
        yield found("unfinished", end, f"ended by {trajectory.ending or 'nothing'}", sublabel=sublabel)


def _where_handed_over(dialogue: Dialogue) -> int | None:
    """The agent's call or words that hand the conversation over; None where it ended otherwise, or where the user left by itself."""
    if dialogue.trajectory.ending != "transfer":
        return None
    for at, call, answer in dialogue.calls:
        if dialogue.domain.is_transfer(call.name) and not answer.is_error:
            return at
    if dialogue.spoken:
        at, _ = dialogue.spoken[-1]
        if "transfer" in read(dialogue.messages[at].content, dialogue.domain.phrases).tells:
            return at
    return None


def _where_unsaid(dialogue: Dialogue, wanted: str) -> tuple[int, Sublabel]:
    """Where a missing text should have been said: of a number, where the agent first gives another of its kind that nothing showed it."""
    last = dialogue.spoken[-1][0] if dialogue.spoken else max(0, dialogue.end - 1)
    sought = tokens(wanted)
    if len(sought) != 1 or not sought[0].replace(".", "", 1).isdigit():
        return last, "nothing_said"
    of_amounts = "." in sought[0]
    proper = {
        float(text)
        for each in dialogue.trajectory.task.criteria.communicate
        if (text := "".join(tokens(each))).replace(".", "", 1).isdigit()
    }
    for at, text in dialogue.spoken:
        known = proper.union(*(_numbers(content) for step, content in (*dialogue.shown, *dialogue.user) if step < at))
        for number in _NUMBER.findall(_LISTED.sub("", text)):
            if ("." in number) == of_amounts and float(number.replace(",", "")) not in known:
                return at, "other_number_said"
    return last, "nothing_said"


def _numbers(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in _ANY_NUMBER.findall(text)}
