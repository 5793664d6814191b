"""What attribution says about one trajectory: findings, whose fault it was, and the step after which it could not pass any more.

A finding's *label* says what went wrong, its *sublabel* how. Labels are of two sorts: **causes**, of which the edit script from what was
done to what was wanted is made, and **conduct**, which is wrong whatever came of it and happens in passed runs too.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from sentinel_env.messages import ToolCall

Cause = Literal[
    "wrong_argument",
    "wrong_target_record",
    "wrong_tool",
    "order_dependency",
    "missing_write",
    "extra_write",
    "missing_communicate",
    "missing_action",
    "missing_transfer",
    "unneeded_transfer",
    "unfinished",
]
"""Why a run did not pass; a failed one has at least one of them."""

Conduct = Literal[
    "tool_error",
    "schema_error",
    "unknown_tool",
    "repeated_call",
    "repeated_error",
    "hallucinated_id",
    "unauthenticated_read",
    "unauthenticated_write",
    "write_without_confirmation",
    "blind_write",
    "ungrounded_selection",
    "other_users_record",
    "text_and_call",
]
"""What is wrong on the way, whether or not the run passed."""

Label = Literal[Cause, Conduct, "unconfirmed"]
"""`unconfirmed` stands beside the causes of a run whose edit script does not lead to the reference's state when it is executed."""

CAUSES: tuple[str, ...] = get_args(Cause)
CONDUCT: tuple[str, ...] = get_args(Conduct)
LABELS: tuple[str, ...] = (*CAUSES, *CONDUCT, "unconfirmed")

Sublabel = Literal[
    # wrong_argument: how the value differs from the reference's
    "incomplete_set",  # a list that lacks some of what belongs in it
    "surplus_set",  # a list with more than belongs in it
    "other_set",  # a list of other things
    "sibling",  # a neighbour: both values are kept in one record, such as two variants of a product
    "other_record",  # the key of another record
    "other_value",  # anything else: a text, a number, a choice
    # order_dependency
    "locked_out",  # what was done first made what was wanted impossible
    "different_result",  # the same writes in another order lead elsewhere
    # missing_write
    "attempt_rejected",
    "claimed_done",
    "opened_not_executed",
    "record_never_opened",
    "not_voiced_by_user",
    # extra_write
    "on_reference_target",
    "off_target",
    "refusal_expected",
    # missing_communicate
    "other_number_said",
    "nothing_said",
    # unfinished
    "max_steps",
    "too_many_errors",
    "limit",
    "abandoned",
    # unconfirmed
    "not_reproduced",  # executing the recorded calls does not lead to the recorded state
    "edits_refused",  # a tool refuses the edited writes in every order that was tried
    "edits_lead_elsewhere",
    # other_users_record, tool_error and the like need none
]

Side = Literal["agent", "user", "task", "environment", "undetermined"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Data):
    """Where a failure shows: a trajectory and the index of the message in it."""

    trajectory: str
    step: int
    """Index into the trajectory's messages, 0-based; its length where something is missing at the end."""
    detail: str = ""
    """In words, for a person."""


class Finding(_Data):
    """One thing that went wrong in one trajectory; one that has a call in `executed` or `wanted` is one edit of the edit script."""

    label: Label
    sublabel: Sublabel | None = None
    """How, where the label has kinds."""
    tool: str | None = None
    """The tool that it is about: the reference's, where that is another than the one called."""
    arguments: tuple[str, ...] = ()
    """Names of the arguments that it is about, sorted."""
    fields: tuple[str, ...] = ()
    """`table.field` of the record fields that came out otherwise, sorted; from the changes that the two writes make."""
    features: tuple[str, ...] = ()
    """The domain's own names for the kind of mistake, from `Domain.features`, such as "variant" and "near_duplicate"."""
    executed: ToolCall | None = None
    """The call that was made: to be dropped, or replaced by the wanted one."""
    wanted: ToolCall | None = None
    """The reference's call: to be added, or to stand in place of the executed one."""
    evidence: Evidence

    @property
    def is_cause(self) -> bool:
        """Whether it explains why a run did not pass; otherwise it is conduct, or a caveat."""
        return self.label in CAUSES


class Fault(_Data):
    """Who made the run fail."""

    side: Side
    """`undetermined` where the evidence does not decide."""
    reason: str = ""
    """The rule that decided, with what it saw."""
    step: int | None = None
    """The message in which it shows, where there is one."""


class Attribution(_Data):
    """What went wrong in one trajectory."""

    trajectory: str
    task_id: str
    passed: bool | None
    """None where infrastructure failed: such a run is no failure of anybody's."""
    primary: Finding | None = None
    """The cause that comes first in the run; None for a passed run."""
    findings: tuple[Finding, ...] = ()
    """All of them: causes first, then conduct by step."""
    confirmed: bool | None = None
    """Whether executing the writes with the edits applied leads to the reference's state. None where the state is right or not graded."""
    critical_step: int | None = None
    """Index of the message that decided the run: the user's that left its scenario where the fault is the user's, else the point of no
    return, else where the primary cause shows. None for a passed run."""
    point_of_no_return: int | None = None
    """Index of the message with the write after which no selection of the reference's writes leads to its state; None without one."""
    fault: Fault | None = None
    """None for a passed run."""

    @property
    def edits(self) -> tuple[Finding, ...]:
        """The edit script: what has to be dropped, replaced and added for the database to come out right."""
        return tuple(finding for finding in self.findings if finding.is_cause and (finding.executed or finding.wanted))
