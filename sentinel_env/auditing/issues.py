"""What an audit finds: one `Issue` a fault, in words that the author of the task can act on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

Severity = Literal["broken", "suspect", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

KINDS: dict[str, str] = {
    "no_goal": "the scenario gives the user nothing to ask for",
    "bad_start": "the task's changes do not fit the database",
    "unknown_tool": "the reference calls a tool that does not exist",
    "bad_arguments": "the arguments of a reference call do not fit the tool's schema",
    "refused_write": "a tool refuses a write of the reference, so the target is another state than the author meant",
    "refused_read": "a tool refuses a read of the reference",
    "crashing_call": "a tool crashes on a reference call",
    "unexamined": "too large to examine whole",
    "no_effect": "the reference leaves the database as it was",
    "needless_write": "without this write the reference leads to the same state",
    "order_dependent": "the reference's writes in another order are refused or lead elsewhere",
    "list_order": "a list in the reference in another order leads to another state",
    "ungradable": "the criteria cannot be evaluated",
    "pays_for_nothing": "an agent that does nothing is rewarded",
    "pays_for_transfer": "an agent that only hands over to a person is rewarded",
    "pays_for_reading": "an agent that only reads is rewarded",
    "pays_for_words": "an agent that says what is asked for and changes nothing is rewarded",
    "pays_for_empty_calls": "an agent that calls the right tools without arguments is rewarded",
    "pays_for_silence": "an agent that tells the user nothing of what must be told is rewarded",
    "transfer_not_graded": "the reference hands over to a person, and an agent that does not is rewarded",
    "reference_fails": "an agent that does and says what the reference does is not rewarded",
    "never_matches": "what must be told is not found even in the words of an agent that tells it",
    "matches_too_much": "what must be told is found in words that do not tell it",
    "needs_judge": "statements that only a judge model can decide",
    "assertion_not_graded": "statements for a judge model that the reward basis leaves out",
    "compares_nothing": "a reference call is compared by its name only, or by an argument that it lacks",
    "unreachable_argument": "the user's words and the read tools do not yield an argument of a write",
    "cannot_identify": "nothing that the user says identifies the user",
    "ambiguous_description": "the user's words do not tell the wanted value from another on which the write would work too",
    "wrong_description": "the user's words describe another value than the reference's",
    "unasked_write": "no structured wish asks for a write of the reference",
    "unmet_wish": "the reference does not do what a structured wish asks for",
    "against_policy": "the policy forbids a write of the reference",
    "several_customers": "the reference uses the records of more than one customer",
    "same_id": "another task has the same id",
    "contradicts": "another task has the same words and another target",
    "same_task": "another task has the same words and the same target",
    "same_target": "another task has the same target in other words",
    "shared_records": "a task of another split uses the same records",
    "similar_text": "a task of another split has nearly the same words",
    "round_trip": "the reference in dialogue with the scripted user: broken where it is not rewarded",
}
"""Every kind of issue and what it means."""


class Issue(BaseModel):
    """One finding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str | None
    """The task's id; None for a finding about all tasks together."""
    kind: str
    """One of `KINDS`."""
    severity: Severity
    """broken: the task cannot be right. suspect: look at it. note: good to know."""
    reason: str
    """One line: what was found, and what to do about it."""
    evidence: dict[str, Any] = {}
    """What shows it, as JSON values."""

    @property
    def line(self) -> str:
        """The finding on one line."""
        return f"{self.severity} {self.kind}{'' if self.task is None else f', task {self.task!r}'}: {self.reason}"


def shorten(text: str, length: int = 200) -> str:
    """A text on one line, cut where it is too long."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def save_issues(path: str | Path, issues: Iterable[Issue]) -> None:
    """Write findings as JSON lines."""
    Path(path).write_text("".join(issue.model_dump_json() + "\n" for issue in issues), encoding="utf-8")
