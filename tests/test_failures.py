"""Scripted agents with one known habit each: the failure analysis names the habit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sentinel_env import ConfigError, Domain, Episode, Task, TaskError, ToolCall, drive, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.failures import FailurePattern, attribute, find_failures, load_patterns, save_patterns
from sentinel_env.trajectory import Trajectory, record
from sentinel_env.users import ScriptedUser


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail", users=500)


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, ...]:
    return load_domain("retail").split("train")


def run(domain: Domain, tasks: Sequence[Task], plan: Callable[[Domain, Task], Sequence[ToolCall]], **style: bool) -> list[Trajectory]:
    agent = ScriptedAgent(tasks=tasks, plan=plan, **style)
    return [record(drive(Episode(domain, task, max_steps=60), agent, ScriptedUser()), user="scripted") for task in tasks]


def causes(domain: Domain, trajectories: Sequence[Trajectory]) -> list[FailurePattern]:
    return [pattern for pattern in find_failures(domain, trajectories) if pattern.is_cause]


def is_write(domain: Domain, call: ToolCall) -> bool:
    return domain.tools_by_name[call.name].writes


def with_argument(call: ToolCall, **arguments: object) -> ToolCall:
    return call.model_copy(update={"arguments": {**call.arguments, **arguments}})


def other_reason(domain: Domain, task: Task) -> list[ToolCall]:
    swap = {"no longer needed": "ordered by mistake", "ordered by mistake": "no longer needed"}
    actions = task.criteria.actions
    return [with_argument(call, reason=swap[call.arguments["reason"]]) if "reason" in call.arguments else call for call in actions]


def drop_the_last_write(domain: Domain, task: Task) -> list[ToolCall]:
    last = max(at for at, call in enumerate(task.criteria.actions) if is_write(domain, call))
    return [call for at, call in enumerate(task.criteria.actions) if at != last]


def cancel_the_last_pending_order(domain: Domain, task: Task) -> list[ToolCall]:
    """Cancels the last pending order of the user, whichever was meant."""
    plan = []
    for call in task.criteria.actions:
        if call.name == "cancel_pending_order":
            user = domain.base.users[domain.base.orders[call.arguments["order_id"]].user_id]
            call = with_argument(
                call, order_id=next(order for order in reversed(user.orders) if domain.base.orders[order].status == "pending")
            )
        plan.append(call)
    return plan


def reference(domain: Domain, task: Task) -> Sequence[ToolCall]:
    return task.criteria.actions


def test_an_agent_without_habits_has_no_failures(retail: Domain, tasks: tuple[Task, ...]) -> None:
    assert find_failures(retail, run(retail, tasks, reference)) == []


def test_a_wrong_reason_is_a_wrong_argument(retail: Domain, tasks: tuple[Task, ...]) -> None:
    (pattern,) = causes(retail, run(retail, tasks, other_reason, proposes=False))
    assert pattern.id == "wrong_argument/cancel_pending_order/reason"
    cancels = sum(any(call.name == "cancel_pending_order" for call in task.criteria.actions) for task in tasks)
    assert pattern.errors == pattern.opportunities == cancels
    assert (pattern.share, pattern.contrast, pattern.fault) == (1.0, 1.0, "agent")


def test_evidence_points_at_the_message_with_the_wrong_call(retail: Domain, tasks: tuple[Task, ...]) -> None:
    trajectories = {trajectory.id: trajectory for trajectory in run(retail, tasks, other_reason, proposes=False)}
    (pattern,) = causes(retail, list(trajectories.values()))
    for evidence in pattern.evidence:
        assert trajectories[evidence.trajectory].messages[evidence.step].tool_calls[0].name == "cancel_pending_order"


def test_a_dropped_write_is_a_missing_write(retail: Domain, tasks: tuple[Task, ...]) -> None:
    patterns = find_failures(retail, run(retail, tasks, drop_the_last_write))
    assert {pattern.label for pattern in patterns} == {"missing_write"}
    assert sum(pattern.errors for pattern in patterns) == len(tasks)


def test_the_wrong_order_is_a_wrong_target_record(retail: Domain, tasks: tuple[Task, ...]) -> None:
    (pattern,) = causes(retail, run(retail, tasks, cancel_the_last_pending_order, proposes=False))
    assert (pattern.label, pattern.tools, pattern.arguments) == ("wrong_target_record", ("cancel_pending_order",), ("order_id",))


def test_what_is_not_told_is_missing_communicate(retail: Domain, tasks: tuple[Task, ...]) -> None:
    (pattern,) = find_failures(retail, run(retail, tasks, reference, reports=False))
    assert pattern.id == "missing_communicate"
    assert pattern.failures == sum(bool(task.criteria.communicate) for task in tasks)


def test_a_truncated_episode_is_unfinished(retail: Domain, tasks: tuple[Task, ...]) -> None:
    episode = drive(Episode(retail, tasks[0], max_steps=2), ScriptedAgent(tasks=tasks), ScriptedUser())
    labels = [finding.label for finding in attribute(retail, record(episode)).findings]
    assert set(labels) == {"missing_write", "unfinished"}


def test_a_refused_call_is_a_tool_error_even_in_a_passed_run(retail: Domain, tasks: tuple[Task, ...]) -> None:
    def clumsy(domain: Domain, task: Task) -> list[ToolCall]:
        return [ToolCall(name="get_order_details", arguments={"order_id": "#W0"}), *task.criteria.actions]

    (trajectory,) = run(retail, tasks[:1], clumsy)
    assert [(finding.label, finding.tool) for finding in attribute(retail, trajectory).findings] == [
        ("tool_error", "get_order_details"),
        ("hallucinated_id", "get_order_details"),
    ]


def test_infrastructure_errors_are_no_failures(retail: Domain, tasks: tuple[Task, ...]) -> None:
    broken = Trajectory(id="x/0", task=tasks[0], error="timeout")
    assert find_failures(retail, [broken]) == []


def test_a_trajectory_of_another_domain_is_refused(tasks: tuple[Task, ...]) -> None:
    with pytest.raises(TaskError, match="is of domain 'retail', graded in 'library'"):
        attribute(load_domain("library"), Trajectory(id="x/0", task=tasks[0]))


def test_patterns_survive_their_file(tmp_path: Path, retail: Domain, tasks: tuple[Task, ...]) -> None:
    patterns = find_failures(retail, run(retail, tasks, drop_the_last_write))
    save_patterns(tmp_path / "failures.jsonl", patterns)
    assert load_patterns(tmp_path / "failures.jsonl", retail) == tuple(patterns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "bad_luck"}, "line 1: label: Input should be"),
        ({"domain": "airline"}, "is about domain 'airline', not 'retail'"),
        ({"tools": ["cancel_order"]}, "retail has no tool 'cancel_order'"),
        ({"tools": ["cancel_pending_order"], "arguments": ["colour"]}, "no tool of it takes 'colour'; known: order_id, reason"),
    ],
)
def test_a_wrong_failure_spec_is_refused_with_its_line_or_name(tmp_path: Path, retail: Domain, change: dict, message: str) -> None:
    spec = FailurePattern(id="mine", domain="retail", label="missing_write").model_dump() | change
    path = tmp_path / "failures.jsonl"
    path.write_text(json.dumps(spec))
    with pytest.raises(ConfigError, match=message):
        load_patterns(path, retail)
