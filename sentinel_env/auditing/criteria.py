"""Criteria that never count, or count too much: what must be told, what a judge must read, what is compared.

Whether words are found is asked of the real `evaluate`, not of a second reading of its rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sentinel_env.evaluation import Check
from sentinel_env.tasks import Basis, Criteria

from .issues import Issue, Severity
from .rewards import graded
from .text import Said
from .walk import Walk

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def criteria_issues(walk: Walk, said: Said) -> Iterator[Issue]:
    """Everything about the criteria beside the reference's actions."""
    yield from _told(walk, said)
    yield from _judged(walk)
    yield from _compared(walk)


def _told(walk: Walk, said: Said) -> Iterator[Issue]:
    """Words that are never found, and words that are found where they are not told."""
    for wanted in dict.fromkeys(walk.task.criteria.communicate):
        counts = _counts(walk)
        if not _found(walk, wanted, f"{wanted}."):
            severity: Severity = "broken" if counts else "note"
            reason = f"{wanted!r} is not found even in the words of an agent that says just that; write it without commas"
            yield _issue(walk, "never_matches", severity, reason, wanted=wanted)
        elif not wanted.strip() or _found(walk, wanted, "OK."):
            yield _issue(walk, "matches_too_much", "suspect" if counts else "note", f"{wanted!r} is found in any words", wanted=wanted)
        elif (other := _other_number(walk, wanted, said)) is not None:
            reason = (
                f"{wanted!r} is found in {other!r}, which an agent may well say instead; ask for more of the words, or match whole numbers"
            )
            yield _issue(walk, "matches_too_much", "suspect" if counts else "note", reason, wanted=wanted, found_in=other)


def _counts(walk: Walk) -> bool:
    criteria = walk.task.criteria
    tau2 = criteria.tau2 is not None and "tau2" in criteria.basis and "COMMUNICATE" in criteria.tau2.reward_basis
    return tau2 or "communicate" in criteria.basis


def _found(walk: Walk, wanted: str, words: str) -> bool:
    """Whether the evaluation finds the wanted words in some others, be it for the reward or for its notes."""
    tau2 = walk.task.criteria.tau2 if "tau2" in walk.task.criteria.basis else None
    basis: tuple[Basis, ...] = ("communicate",) if tau2 is None else ("tau2",)
    criteria = Criteria(communicate=(wanted,), basis=basis, tau2=tau2)
    task = walk.task.model_copy(update={"id": f"{walk.task.id}/words", "criteria": criteria})
    evaluation = graded(Walk(walk.domain, task, walk.start, (), {}, walk.after), (), [words])
    checks: list[Check] = [check for check in (*evaluation.checks, *evaluation.notes) if check.name == "communicate"]
    return bool(checks) and all(check.passed for check in checks)


def _other_number(walk: Walk, wanted: str, said: Said) -> str | None:
    """Another number that stands in what the user tells or the reference's calls return, and that is taken for the wanted one."""
    digits = wanted.replace(",", "").strip("$ ")
    if not _NUMBER.fullmatch(digits):
        return None
    texts = [said.text, *(step.answer.content for step in walk.steps if not step.answer.is_error)]
    others = dict.fromkeys(
        number
        for text in texts
        for number in _NUMBER.findall(text)
        if digits in number.replace(",", "") and _value(number) != _value(digits)
    )
    return next((other for other in list(others)[:3] if _found(walk, wanted, f"It is {other}.")), None)


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _judged(walk: Walk) -> Iterator[Issue]:
    tau2 = walk.task.criteria.tau2
    if tau2 is None or not tau2.nl_assertions:
        return
    shown = f"{len(tau2.nl_assertions)} statement{'s' if len(tau2.nl_assertions) > 1 else ''} for a judge model"
    if "NL_ASSERTION" in tau2.reward_basis:
        reason = f"{shown}: without one they decide nothing"
        yield _issue(walk, "needs_judge", "note", reason, statements=list(tau2.nl_assertions))
    else:
        reason = f"{shown} that the reward basis ({', '.join(tau2.reward_basis)}) leaves out: they never count"
        yield _issue(walk, "assertion_not_graded", "suspect", reason, statements=list(tau2.nl_assertions))


def _compared(walk: Walk) -> Iterator[Issue]:
    """tau2-bench compares the arguments that `compare_args` names; with none, any call of that name will do."""
    tau2 = walk.task.criteria.tau2
    if tau2 is None:
        return
    counts = "ACTION" in tau2.reward_basis
    for at, names in sorted(tau2.compare_arguments.items()):
        if at >= len(walk.steps):
            continue
        step = walk.steps[at]
        severity: Severity = "suspect" if counts and not walk.domain.is_transfer(step.call.name) else "note"
        if not names:
            reason = f"{step.name}: compare_args is empty, so any call of that name counts{'' if counts else ', if actions counted'}"
            yield _issue(walk, "compares_nothing", severity, reason, action=at)
        elif absent := [name for name in names if name not in step.call.arguments]:
            reason = f"{step.name}: compare_args names {absent[0]!r}, which the call does not have"
            yield _issue(walk, "compares_nothing", severity, reason, action=at)


def _issue(walk: Walk, kind: str, severity: Severity, reason: str, **evidence: object) -> Issue:
    return Issue(task=walk.task.id, kind=kind, severity=severity, reason=reason, evidence=evidence)
