"""Attribution of one trajectory: what went wrong in it, where, and whose fault it was.

attribution = attribute(domain, trajectory)
attribution.primary, attribution.critical_step, attribution.fault
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.evaluation import calls, evaluate
from sentinel_env.messages import ToolCall
from sentinel_env.trajectory import Trajectory

from .findings import Attribution, Evidence, Fault, Finding, Label
from .writes import Write, executed_writes


def attribute(domain: Domain, trajectory: Trajectory) -> Attribution:
    """Why a trajectory failed, where, and whose fault it was; for a passed one only what went wrong on the way, such as refused calls.

    Raises:
        TaskError: The trajectory is of another domain, or a tool refuses its reference.
    """
    evaluation = evaluate(domain, trajectory)
    findings: list[Finding] = []
    end = len(trajectory.messages)

    def add(label: Label, step: int, detail: str = "", *, tool: str | None = None, arguments: tuple[str, ...] = ()) -> None:
        evidence = Evidence(trajectory=trajectory.id, step=step, detail=detail)
        findings.append(Finding(label=label, tool=tool, arguments=arguments, evidence=evidence))

    if trajectory.error is None and not evaluation.passed:
        if any(check.name == "database" and not check.passed for check in (*evaluation.checks, *evaluation.notes)):
            _compare_writes(domain, trajectory, add)
        for check in evaluation.checks:
            if check.name == "communicate" and not check.passed:
                add("missing_communicate", end, check.detail)
        if not trajectory.terminated:
            add("unfinished", end, f"ended by {trajectory.ending or 'nothing'}")
        elif trajectory.ending == "transfer":
            add("unneeded_transfer", end - 1, "handed over to a person")
    for step, call, answer in calls(trajectory):
        if answer.is_error:
            add("tool_error", step, answer.content[:200], tool=call.name)
    passed = None if trajectory.error is not None else evaluation.passed
    primary = next((finding for finding in findings if finding.is_cause), None)
    return Attribution(
        trajectory=trajectory.id,
        task_id=trajectory.task.id,
        passed=passed,
        primary=primary,
        findings=tuple(findings),
        critical_step=primary.evidence.step if primary else None,
        fault=_fault(trajectory) if passed is not True else None,
    )


def _fault(trajectory: Trajectory) -> Fault:
    if trajectory.error is not None:
        return Fault(side="environment", reason=trajectory.error)
    if trajectory.user.startswith("scripted"):
        return Fault(side="agent", reason="the user is scripted")
    return Fault(side="undetermined")


def _compare_writes(domain: Domain, trajectory: Trajectory, add: Any) -> None:
    """Match executed writes to reference writes, the closest first, and say what is left over."""
    made = executed_writes(domain, domain.start(trajectory.task), [(step, call) for step, call, _ in calls(trajectory)])
    wanted = executed_writes(domain, domain.start(trajectory.task), enumerate(trajectory.task.criteria.actions))
    end = len(trajectory.messages)
    _take(made, wanted, lambda one, other: _same_call(one.call, other.call))
    _take(made, wanted, lambda one, other: one.changed == other.changed)
    for write, reference in _take(made, wanted, lambda one, other: one.call.name == other.call.name and one.target == other.target):
        names = tuple(sorted(_different(write.call.arguments, reference.call.arguments)))
        detail = "; ".join(
            f"{name}: {write.call.arguments.get(name)!r} instead of {reference.call.arguments.get(name)!r}" for name in names
        )
        add("wrong_argument", write.step, detail, tool=write.call.name, arguments=names)
    for write, reference in _take(made, wanted, lambda one, other: one.call.name != other.call.name and one.target == other.target):
        add("wrong_tool", write.step, f"{write.call.name} instead of {reference.call.name}", tool=reference.call.name)
    for write, reference in _take(made, wanted, lambda one, other: one.call.name == other.call.name):
        names = tuple(sorted({name for name, _ in set(write.target) ^ set(reference.target)}))
        detail = f"{dict(write.target)} instead of {dict(reference.target)}"
        add("wrong_target_record", write.step, detail, tool=write.call.name, arguments=names)
    for reference in wanted:
        add("missing_write", end, f"never done: {reference.call.name} {reference.call.arguments}", tool=reference.call.name)
    for write in made:
        add("extra_write", write.step, f"not wanted: {write.call.name} {write.call.arguments}", tool=write.call.name)


def _same_call(one: ToolCall, other: ToolCall) -> bool:
    return one.name == other.name and one.arguments == other.arguments


def _take(made: list[Write], wanted: list[Write], same: Any) -> list[tuple[Write, Write]]:
    """Pairs that are the same in some sense, taken out of both lists, in the order of the execution."""
    pairs = []
    for write in list(made):
        reference = next((reference for reference in wanted if same(write, reference)), None)
        if reference is not None:
            pairs.append((write, reference))
            made.remove(write)
            wanted.remove(reference)
    return pairs


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in {*one, *other} if one.get(name) != other.get(name)}
