"""Attribution of one trajectory: what went wrong in it, where, and whose fault it was.

attribution = attribute(domain, trajectory)
attribution.primary, attribution.critical_step, attribution.fault

The layers: the edit script (`edits`), conduct (`conduct`), the point of no return (`critical`), whose fault (`fault`). No model is asked.
"""

from __future__ import annotations

from typing import Any

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.errors import SentinelError
from sentinel_env.evaluation import Evaluation, evaluate
from sentinel_env.messages import ToolCall
from sentinel_env.trajectory import Trajectory

from .conduct import check_conduct
from .critical import point_of_no_return
from .dialogue import Dialogue
from .edits import edit_script
from .endings import ending_findings
from .fault import fault_of
from .findings import Attribution, Conduct, Evidence, Finding
from .outcome import claim_step, outcome_findings
from .writes import Write, executed_writes, places_of, same_state


def attribute(domain: Domain, trajectory: Trajectory) -> Attribution:
    """Why a trajectory failed, where, and whose fault it was; for a passed one only what went wrong on the way, such as refused calls.

    Raises:
        TaskError: The trajectory is of another domain, its task does not fit the database, or a tool refuses its reference.
        DomainError: A tool crashed.
    """
    evaluation = evaluate(domain, trajectory)
    dialogue = Dialogue(domain, trajectory)
    start = dialogue.start
    conduct = _conduct(dialogue, start)
    if trajectory.error is not None:
        return _attribution(trajectory, passed=None, findings=conduct, fault=fault_of(dialogue, (), conduct, 0, is_final=False))
    if evaluation.passed:
        return _attribution(trajectory, passed=True, findings=conduct)
    case = _Case(dialogue, start, evaluation)
    causes = case.causes()
    decisive = case.decisive(causes)
    final = case.point is not None
    fault = fault_of(dialogue, causes, conduct, decisive, is_final=final, refused=case.refused)
    return _attribution(
        trajectory,
        passed=False,
        primary=causes[0] if causes else next(iter(case.caveats), None),
        findings=(*causes, *case.caveats, *conduct),
        confirmed=case.confirmed,
        critical_step=fault.step if fault.side == "user" and fault.step is not None else decisive,
        point_of_no_return=case.point.step if case.point else None,
        fault=fault,
    )


def _attribution(trajectory: Trajectory, **fields: Any) -> Attribution:
    return Attribution(trajectory=trajectory.id, task_id=trajectory.task.id, **fields)


def _conduct(dialogue: Dialogue, start: Database) -> tuple[Finding, ...]:
    found: list[Finding] = []

    def report(label: Conduct, step: int, call: ToolCall | None, detail: str) -> None:
        evidence = Evidence(trajectory=dialogue.trajectory.id, step=step, detail=detail)
        found.append(Finding(label=label, tool=call.name if call else None, evidence=evidence))

    check_conduct(dialogue, start, report)
    return tuple(sorted(found, key=lambda finding: finding.evidence.step))


_RANKS = {
    "unneeded_transfer": 1,  # nothing can follow it
    "missing_write": 3,
    "missing_transfer": 4,
    "missing_action": 4,
    "missing_communicate": 5,
    "unfinished": 6,
}
"""What comes first among causes without a point of no return; writes that were made and could have been set right come second."""


class _Case:
    """A failed run, with what its writes were and should have been."""

    def __init__(self, dialogue: Dialogue, start: Database, evaluation: Evaluation) -> None:
        self.dialogue, self.start, self.evaluation = dialogue, start, evaluation
        domain, trajectory = dialogue.domain, dialogue.trajectory
        self.made = executed_writes(domain, start, ((step, call) for step, call, _ in dialogue.calls))
        actions = trajectory.task.criteria.actions
        self.wanted = executed_writes(domain, start, enumerate(actions))
        self.refused = self._refused(actions)
        self.caveats: tuple[Finding, ...] = ()
        self.confirmed: bool | None = None
        self.point: Write | None = None

    def _refused(self, actions: tuple[ToolCall, ...]) -> list[ToolCall]:
        """The reference's writes that tools refuse; only tau2-bench's dialect lets such a reference through."""
        if self.dialogue.domain.dialect != "tau2":
            return []
        db, tools = self.start.fork(), self.dialogue.domain.tools_by_name
        writes = [call for call in actions if call.name in tools and tools[call.name].writes]
        return [call for call in writes if self.dialogue.domain.execute(db, call).is_error]

    def causes(self) -> list[Finding]:
        """The causes, the primary one first: it is the one by which the run was lost for good, else the one that did most."""
        causes: list[Finding] = []
        if any(check.name == "database" and not check.passed for check in (*self.evaluation.checks, *self.evaluation.notes)):
            domain = self.dialogue.domain
            script = edit_script(domain, self.start, self.made, self.wanted)
            causes += outcome_findings(self.dialogue, self.start, script, self.wanted)
            self.point = point_of_no_return(domain, self.start, self.made, self.wanted)
            problem = script.problem if self._is_reproduced() else "not_reproduced"
            self.confirmed = problem is None
            if problem is not None:
                evidence = Evidence(
                    trajectory=self.dialogue.trajectory.id, step=self.dialogue.end, detail="the edit script is not confirmed"
                )
                self.caveats = (Finding(label="unconfirmed", sublabel=problem, evidence=evidence),)
        causes += ending_findings(self.dialogue, self.evaluation)
        return sorted(causes, key=self._rank)

    def _rank(self, finding: Finding) -> tuple[int, int]:
        step = finding.evidence.step
        if self.point is not None and step == self.point.step and finding.label not in _RANKS:
            return 0, step
        return _RANKS.get(finding.label, 2), step

    def _is_reproduced(self) -> bool:
        """Whether executing the recorded calls leads to the recorded state."""
        recorded = self.start.fork()
        try:
            recorded.apply(self.dialogue.trajectory.changes)
        except SentinelError:
            return False
        places = {(table, key) for table, rows in self.dialogue.trajectory.changes.items() for key in rows} | places_of(self.made)
        return same_state(recorded, self.made[-1].after if self.made else self.start, places)

    def decisive(self, causes: list[Finding]) -> int:
        """The message after which the run could not pass any more, by the primary cause."""
        if self.point is not None:
            return self.point.step
        if not causes:
            return self.dialogue.end
        primary = causes[0]
        return claim_step(self.dialogue, self.start, primary) if primary.label == "missing_write" else primary.evidence.step
