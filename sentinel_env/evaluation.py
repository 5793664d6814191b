"""Grading: `evaluate(domain, trajectory)` is pure, costs O(what the episode changed), and never asks a model.

The reward is 1 when the conversation ended by its own rules and every check of the task's basis passed, else 0; it is None when
infrastructure failed. `tau2` is tau2-bench's own rule, bit for bit, without its model judge, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from .domain import Domain
from .errors import TaskError
from .messages import Message, ToolCall
from .tasks import Tau2Criteria
from .trajectory import Trajectory


class Check(BaseModel):
    """One question and its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    detail: str = ""
    """What was expected and found, for a person. It holds the reference: never show it to an agent."""


class Evaluation(BaseModel):
    """The grade of one trajectory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_id: str
    checks: tuple[Check, ...] = ()
    """What decides the reward."""
    notes: tuple[Check, ...] = ()
    """What was looked at but does not decide it, such as a benchmark's checks outside its reward basis."""
    error: str | None = None

    @property
    def reward(self) -> float | None:
        """1.0 or 0.0; None for an infrastructure error."""
        return None if self.error is not None else float(all(check.passed for check in self.checks))

    @property
    def passed(self) -> bool:
        """Whether the reward is 1."""
        return self.reward == 1.0


def evaluate(domain: Domain, trajectory: Trajectory) -> Evaluation:
    """Grade a trajectory against its own task's criteria.

    Raises:
        TaskError: The task is of another domain, or a tool refuses its reference.
    """
    task = trajectory.task
    if task.domain != domain.name:
        raise TaskError(f"trajectory {trajectory.id!r} is of domain {task.domain!r}, graded in {domain.name!r}")
    if trajectory.error is not None:
        return Evaluation(task_id=task.id, error=trajectory.error)
    checks = [_ended(trajectory.terminated, trajectory.ending)]
    notes: list[Check] = []
    for basis in task.criteria.basis:
        if basis == "database":
            checks.append(_database(domain, trajectory))
        elif basis == "communicate":
            checks.extend(_communicate(trajectory))
        elif basis == "actions":
            checks.extend(_actions(trajectory, task.criteria.actions))
        elif basis == "transfer":
            checks.append(_transfer(domain, trajectory))
        else:
            decisive, other = _tau2(domain, trajectory)
            checks.extend(decisive)
            notes.extend(other)
    return Evaluation(task_id=task.id, checks=tuple(checks), notes=tuple(notes))


def calls(trajectory: Trajectory) -> list[tuple[int, ToolCall, Message]]:
    """(message index, call, answer) of every executed call, in order."""
    found: list[tuple[int, ToolCall, Message]] = []
    messages = trajectory.messages
    for at, message in enumerate(messages):
        if message.role == "assistant" and message.tool_calls and not message.problem:
            answers = [answer for answer in messages[at + 1 : at + 1 + len(message.tool_calls)] if answer.role == "tool"]
            found.extend((at, call, answer) for call, answer in zip(message.tool_calls, answers, strict=False))
    return found


def _database(domain: Domain, trajectory: Trajectory) -> Check:
    expected = domain.reference_changes(trajectory.task)
    passed = expected == trajectory.changes
    return _passed("database") if passed else _failed("database", f"expected changes {expected}, found {trajectory.changes}")


@lru_cache(maxsize=64)
def _ended(passed: bool, ending: str | None) -> Check:
    return Check(name="ended", passed=passed, detail=f"ending: {ending or 'none'}")


@cache
def _passed(name: str) -> Check:
    return Check(name=name, passed=True)


def _failed(name: str, detail: str) -> Check:
    return Check(name=name, passed=False, detail=detail)


# communicate: numbers and currency normalised, compared as whole tokens

_NUMBER = re.compile(r"[-+\u2212]?\s?(?:[$€£]\s?)?\d[\d,]*(?:\.\d+)?")
_TOKEN = re.compile(r"-?\d+(?:\.\d+)?%?|[^\W\d_]+(?:'[^\W\d_]+)?", re.UNICODE)


def _plain_number(match: re.Match[str]) -> str:
    text = re.sub(r"[\s,$€£+]", "", match.group()).replace("\u2212", "-")
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    # a hyphen in front of a number is a sign only when nothing but space or an opening bracket stands before it
    if sign and match.start() > 0 and match.string[match.start() - 1] not in " \t\n([{:=":
        sign = " "
    return f" {sign}{digits.lstrip('0') or '0'}{'.' + fraction if fraction else ''}"


def tokens(text: str) -> list[str]:
    """Words and numbers of a text, lower case; "$1,200.50" and "1200.5" are the same token.

    >>> tokens("That is $1,200.00, Ann's refund.")
    ['that', 'is', '1200', "ann's", 'refund']
    """
    return _TOKEN.findall(_NUMBER.sub(_plain_number, text.lower().replace("\u2019", "'")))


def is_said(wanted: str, texts: Iterable[str]) -> bool:
    """Whether the wanted words or number occur, as whole tokens in a row, in one of the texts. An empty wish is met.

    >>> is_said("10", ["It costs 100 dollars"]), is_said("1,200", ["You get $1200.00 back"])
    (False, True)
    """
    sought = tokens(wanted)
    if not sought:
        return any(wanted.strip().lower() in text.lower() for text in texts) if wanted.strip() else True
    size = len(sought)
    for text in texts:
        found = tokens(text)
        if any(found[at : at + size] == sought for at in range(len(found) - size + 1)):
            return True
    return False


def spoken_texts(trajectory: Trajectory) -> list[str]:
    """What the agent said to the user: assistant texts without calls."""
    return [
        message.content for message in trajectory.messages if message.role == "assistant" and not message.tool_calls and not message.problem
    ]


def _communicate(trajectory: Trajectory) -> list[Check]:
    texts = spoken_texts(trajectory) if trajectory.task.criteria.communicate else []
    return [
        _passed("communicate") if is_said(wanted, texts) else _failed("communicate", f"never said to the user: {wanted}")
        for wanted in trajectory.task.criteria.communicate
    ]


def _actions(trajectory: Trajectory, wanted: Sequence[ToolCall]) -> list[Check]:
    """Each reference call must have been made and accepted, whatever the order, each as often as the reference makes it."""
    made = [call for _, call, answer in calls(trajectory) if not answer.is_error]
    checks = []
    for reference in wanted:
        match = next((call for call in made if call.name == reference.name and call.arguments == reference.arguments), None)
        if match is not None:
            made.remove(match)
        checks.append(_called(reference, match is not None))
    return checks


def _transfer(domain: Domain, trajectory: Trajectory) -> Check:
    """Handed over to a person if, and only if, the reference does."""
    wanted = any(domain.is_transfer(call.name) for call in trajectory.task.criteria.actions)
    made = any(domain.is_transfer(call.name) and not answer.is_error for _, call, answer in calls(trajectory))
    if made == wanted:
        return _passed("transfer")
    return _failed("transfer", "handed over to a person without need" if made else "did not hand over to a person")


def _called(reference: ToolCall, passed: bool) -> Check:
    return _passed("actions") if passed else _failed("actions", f"never called: {reference.name} {reference.arguments}")


# tau2-bench's rules


def _tau2(domain: Domain, trajectory: Trajectory) -> tuple[list[Check], list[Check]]:
    """(deciding checks, others) as tau2-bench's evaluator has them; see the importer for how its tasks become ours."""
    criteria = trajectory.task.criteria
    tau2 = criteria.tau2 or Tau2Criteria()
    decisive: list[Check] = []
    notes: list[Check] = []
    groups = {
        "DB": [_database(domain, trajectory)],
        "ACTION": _tau2_actions(trajectory, criteria.actions, tau2),
        "COMMUNICATE": _tau2_communicate(trajectory),
    }
    for name, checks in groups.items():
        (decisive if name in tau2.reward_basis else notes).extend(checks)
    for name in tau2.reward_basis:
        if name == "NL_ASSERTION":
            notes.extend(Check(name="judge", passed=False, detail=f"not judged (no model asked): {text}") for text in tau2.nl_assertions)
        elif name not in groups:
            raise TaskError(
                f"task {trajectory.task.id!r}: reward basis {name!r} is not supported; known: {', '.join(groups)}, NL_ASSERTION"
            )
    return decisive, notes


def _tau2_actions(trajectory: Trajectory, wanted: Sequence[ToolCall], tau2: Tau2Criteria) -> list[Check]:
    """Order and multiplicity ignored; the predicted call's own argument names are compared unless the task lists others."""
    made: dict[str, list[dict[str, Any]]] = {}
    for message in trajectory.messages:
        if message.tool_calls:
            for call in message.tool_calls:
                made.setdefault(call.name, []).append(call.arguments)
    checks = []
    for at, reference in enumerate(wanted):
        found = made.get(reference.name, [])
        passed = reference.arguments in found or _tau2_found(found, reference.arguments, tau2.compare_arguments.get(at))
        checks.append(_called(reference, passed))
    return checks


def _tau2_found(made: Iterable[Mapping[str, Any]], wanted: Mapping[str, Any], listed: Sequence[str] | None) -> bool:
    for arguments in made:
        compared = arguments if listed is None else listed
        kept, sought = ({name: value for name, value in each.items() if name in compared} for each in (arguments, wanted))
        if kept == sought:
            return True
    return False


def _tau2_communicate(trajectory: Trajectory) -> list[Check]:
    """A lower-cased substring of an assistant text with its commas removed; commas stay in what is sought."""
    sought = trajectory.task.criteria.communicate
    if not sought:
        return []
    texts = [message.content.lower().replace(",", "") for message in trajectory.messages if message.role == "assistant" and message.content]
    return [
        _passed("communicate")
        if any(wanted.lower() in text for text in texts)
        else _failed("communicate", f"never said to the user: {wanted}")
        for wanted in sought
    ]
