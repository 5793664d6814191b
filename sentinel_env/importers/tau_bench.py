"""tau-bench v1's results (`sentinel import tau-bench FILE`): a list of runs, each with its task, becomes trajectories.

imported = import_tau_bench("gpt-4o-retail.json", data="data/tau2/domains/retail")

v1's rules differ from tau2-bench's: handing over to a person ends the episode, and there is no greeting. Its data is tau2-bench's, which
retail's `v1` mode reads as v1's tools do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel_env.domain import Domain, load_domain
from sentinel_env.episode import STOP
from sentinel_env.errors import TaskError, TrajectoryError
from sentinel_env.messages import Message, ToolCall
from sentinel_env.tasks import Criteria, Scenario, Task, Tau2Criteria
from sentinel_env.trajectory import Trajectory

from .recorded import Difference, Imported, compare_verdicts, execute_record, first_problem, read_json

_TRANSFER = "transfer_to_human_agents"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Action(_Part):
    name: str
    kwargs: dict[str, Any]


class _Task(_Part):
    actions: tuple[_Action, ...]
    instruction: str
    outputs: tuple[str, ...] = ()


class _Grade(_Part):
    reward: float


class _Info(_Part):
    task: _Task | None = None
    reward_info: _Grade | None = None
    error: str | None = None


class _Run(_Part):
    task_id: int | str
    reward: float
    info: _Info
    traj: tuple[dict[str, Any], ...]
    trial: int = 0


def import_tau_bench(path: str | Path, *, data: str | Path | None = None, domain: Domain | str = "retail", split: str = "test") -> Imported:
    """Read a results file.

    Args:
        path: The file.
        data: A folder with tau2-bench's data of the domain.
        domain: The world, made with v1's tools; the file does not name it.
        split: The split that the runs are of; the file does not name it either.

    Raises:
        TrajectoryError: The file cannot be read, or is no results file of tau-bench.
        UnknownDomainError: The domain is not installed.
        ConfigError: No data was given.
    """
    raw, cut = read_json(path)
    if not isinstance(raw, list):
        raise TrajectoryError(f"{path} is no results file of tau-bench: expected a list of runs, found {type(raw).__name__}")
    world = domain if isinstance(domain, Domain) else load_domain(domain, data=data, mode="v1")
    problems: list[TrajectoryError] = [cut] if cut else []
    trajectories: dict[str, Trajectory] = {}
    differences: list[Difference] = []
    outputs = rewards = 0
    for at, row in enumerate(raw):
        try:
            run = _Run.model_validate(row)
            identifier = f"{run.task_id}/{run.trial}"
            if identifier in trajectories:
                raise TrajectoryError(f"trial: task {run.task_id} has trial {run.trial} twice")
            task = _task(world, run, split)
            messages = _messages(run)
            executed = execute_record(world, task, messages, identifier)
        except ValidationError as error:
            problems.append(TrajectoryError(f"{path}, index {at}: {first_problem(error)}"))
            continue
        except (TrajectoryError, TaskError) as error:
            problems.append(TrajectoryError(f"{path}, index {at}: {error}"))
            continue
        trajectory = Trajectory(
            id=identifier,
            task=task,
            trial=run.trial,
            messages=executed.messages,
            changes=executed.changes,
            recorded_reward=None if run.info.error else run.reward,
            **_ending(run, executed.messages),
        )
        trajectories[identifier] = trajectory
        differences.extend(executed.differences)
        outputs += executed.outputs
        if run.info.reward_info is not None and trajectory.error is None:
            rewards += 1
            differences += compare_verdicts(world, trajectory, reward=run.info.reward_info.reward)
    return Imported(world, tuple(trajectories.values()), tuple(problems), differences=tuple(differences), outputs=outputs, rewards=rewards)


def _task(domain: Domain, run: _Run, split: str) -> Task:
    """v1 grades by the database and by what was said, in the way that tau2-bench took over."""
    if run.info.task is None:
        if run.info.error is None:
            raise TrajectoryError("info.task: missing, and no error says why")
        return Task(id=str(run.task_id), domain=domain.name, scenario=Scenario(goal=""), split=split, source="tau-bench")
    wanted = run.info.task
    actions = tuple(ToolCall(name=action.name, arguments=action.kwargs) for action in wanted.actions)
    criteria = Criteria(actions=actions, communicate=wanted.outputs, basis=("tau2",), tau2=Tau2Criteria())
    task = Task(
        id=str(run.task_id),
        domain=domain.name,
        scenario=Scenario(goal=wanted.instruction),
        criteria=criteria,
        split=split,
        source="tau-bench",
    )
    if not wanted.outputs and not domain.reference_changes(task):
        reason = "tau-bench's reference leaves the database as it was"
        task = task.model_copy(update={"criteria": criteria.model_copy(update={"nothing_passes": reason})})
    return task


def _messages(run: _Run) -> list[Message]:
    messages = []
    for at, raw in enumerate(run.traj):
        if raw.get("role") == "system":
            continue
        try:
            message = Message.from_openai(raw)
        except ValidationError as error:
            raise TrajectoryError(f"traj.{at}.{first_problem(error)}") from None
        if message.problem:
            raise TrajectoryError(f"traj.{at}.tool_calls: {message.problem}")
        messages.append(message)
    return messages


def _ending(run: _Run, messages: tuple[Message, ...]) -> Mapping[str, Any]:
    if run.info.error is not None:
        return {"error": run.info.error.splitlines()[0][:300] if run.info.error else "error"}
    last = messages[-1] if messages else None
    if last is not None and last.role == "tool" and last.name == _TRANSFER:
        return {"terminated": True, "ending": "transfer"}
    if last is not None and last.role == "user" and STOP in last.content:
        return {"terminated": True, "ending": "user_stop"}
    return {"truncated": True, "ending": "max_steps"}
