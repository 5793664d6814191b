"""tau2-bench's results (`sentinel import tau2 RESULTS.json`): its simulations become trajectories that can be graded and analysed.

imported = import_tau2("results.json", data="data/tau2/domains/retail")
imported.differences        # outputs and verdicts that executing the recorded calls does not reproduce
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel_env.domain import Domain, load_domain
from sentinel_env.episode import OUT_OF_SCOPE, STOP, TRANSFER
from sentinel_env.errors import TaskError, TrajectoryError
from sentinel_env.messages import Message, ToolCall
from sentinel_env.tasks import Task
from sentinel_env.trajectory import Trajectory

from .recorded import Difference, Imported, compare_verdicts, execute_record, first_problem, read_json
from .tau2 import check_references, parse_tasks

_STOPS = {STOP: "user_stop", TRANSFER: "transfer", OUT_OF_SCOPE: "out_of_scope"}
_LIMITS = {"max_steps": "max_steps", "too_many_errors": "max_errors", "timeout": "timeout"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Call(_Part):
    id: str = ""
    name: str
    arguments: dict[str, Any]
    requestor: str = "assistant"


class _Message(_Part):
    role: str
    id: str | None = None
    content: str | None = None
    tool_calls: tuple[_Call, ...] | None = None
    error: bool | None = None
    tool_messages: tuple[_Message, ...] = ()


class _DatabaseCheck(_Part):
    db_match: bool


class _ActionCheck(_Part):
    action: dict[str, Any]


class _CommunicateCheck(_Part):
    info: str


class _AssertionCheck(_Part):
    nl_assertion: str


class _Reward(_Part):
    reward: float
    reward_basis: tuple[str, ...] | None = None
    db_check: _DatabaseCheck | None = None
    action_checks: tuple[_ActionCheck, ...] | None = None
    communicate_checks: tuple[_CommunicateCheck, ...] | None = None
    nl_assertions: tuple[_AssertionCheck, ...] | None = None
    info: dict[str, Any] | None = None

    def criteria(self) -> dict[str, Any]:
        """What the run was graded by, in the form of a task's criteria, as far as the grade says it."""
        checks: dict[str, list[Any] | None] = {
            "actions": None if self.action_checks is None else [check.action for check in self.action_checks],
            "communicate_info": None if self.communicate_checks is None else [check.info for check in self.communicate_checks],
            "nl_assertions": None if self.nl_assertions is None else [check.nl_assertion for check in self.nl_assertions],
        }
        found: dict[str, Any] = {} if self.reward_basis is None else {"reward_basis": list(self.reward_basis)}
        for name, part in (("actions", "action"), ("communicate_info", "communicate"), ("nl_assertions", "nl")):
            note = (self.info or {}).get(part)
            if checks[name] is not None:
                found[name] = checks[name]
            elif isinstance(note, Mapping) and str(note.get("note", "")).startswith("No "):
                found[name] = []
        return found


class _Simulation(_Part):
    id: str = ""
    task_id: str
    trial: int | None = None
    seed: int | None = None
    termination_reason: str
    reward_info: _Reward | None = None
    messages: tuple[_Message, ...]


def import_tau2(path: str | Path, *, data: str | Path | None = None, domain: Domain | str | None = None) -> Imported:
    """Read a results file.

    Args:
        path: The file.
        data: A folder with the data that the run was made on.
        domain: The world; the one that the file names by default.

    Raises:
        TrajectoryError: The file cannot be read, or is no results file of tau2-bench.
        UnknownDomainError: The domain is not installed.
    """
    raw, cut = read_json(path)
    if not isinstance(raw, Mapping) or not isinstance(raw.get("simulations"), list) or not isinstance(raw.get("tasks"), list):
        raise cut or TrajectoryError(f"{path} is no results file of tau2-bench: expected an object with lists `tasks` and `simulations`")
    world = (
        domain if isinstance(domain, Domain) else load_domain(domain or _text(raw, "info", "environment_info", "domain_name"), data=data)
    )
    problems: list[TrajectoryError] = [cut] if cut else []
    tasks = _Tasks(path, raw["tasks"], world)
    problems += tasks.problems
    agent, user = _text(raw, "info", "agent_info", "llm"), _text(raw, "info", "user_info", "llm")
    trajectories: dict[str, Trajectory] = {}
    differences: list[Difference] = []
    outputs = verdicts = rewards = 0
    for at, row in enumerate(raw["simulations"]):
        place = f"{path}, simulations.{at}"
        try:
            simulation = _Simulation.model_validate(row)
            task = tasks.of(simulation)
            identifier = f"{task.id}/{simulation.trial or 0}"
            if identifier in trajectories:
                raise TrajectoryError(f"trial: task {task.id!r} has trial {simulation.trial or 0} twice")
            messages, errors = _messages(simulation)
            executed = execute_record(world, task, messages, identifier, errors)
        except ValidationError as error:
            problems.append(TrajectoryError(f"{place}.{first_problem(error)}"))
            continue
        except (TrajectoryError, TaskError) as error:
            problems.append(TrajectoryError(f"{place}.{error}"))
            continue
        reward = simulation.reward_info
        trajectory = Trajectory(
            id=identifier,
            task=task,
            trial=simulation.trial or 0,
            seed=simulation.seed or 0,
            agent=agent,
            user=user,
            messages=executed.messages,
            changes=executed.changes,
            recorded_reward=reward.reward if reward else None,
            **_ending(simulation, executed.messages),
        )
        trajectories[identifier] = trajectory
        differences.extend(executed.differences)
        outputs += executed.outputs
        if reward is not None and trajectory.error is None:
            matched = reward.db_check.db_match if reward.db_check else None
            judged = "NL_ASSERTION" in (reward.reward_basis or ()) and bool(task.criteria.tau2 and task.criteria.tau2.nl_assertions)
            verdicts += matched is not None
            rewards += not judged
            differences += compare_verdicts(world, trajectory, database=matched, reward=None if judged else reward.reward)
    return Imported(world, tuple(trajectories.values()), tuple(problems), tasks.notes(), tuple(differences), outputs, verdicts, rewards)


def _text(raw: Mapping[str, Any], *path: str) -> str:
    value: Any = raw
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return str(value or "")


class _Tasks:
    """A file's tasks, as its runs were graded by them."""

    def __init__(self, path: str | Path, rows: list[Any], domain: Domain) -> None:
        self._domain = domain
        self._splits = {task.id: task.split for task in domain.tasks_by_id.values()}
        self._rows: dict[str, dict[str, Any]] = {}
        self._parsed: dict[str, Task] = {}
        self._graded_otherwise: dict[str, str] = {}
        self.problems: list[TrajectoryError] = []
        for at, row in enumerate(rows):
            try:
                task = self._parse(row, f"{path}, tasks.{at}")
            except TaskError as error:
                self.problems.append(TrajectoryError(str(error)))
                continue
            self._rows[task.id] = row
            self._parsed[task.id] = task

    def _parse(self, row: Any, origin: str) -> Task:
        (task,) = parse_tasks([row], origin=origin, domain=self._domain.name, db=self._domain.base, splits=self._splits)
        kept, _ = check_references(self._domain, [task])
        if not kept:
            raise TaskError(f"task {task.id!r}: a tool refuses a write of its reference")
        return kept[0]

    def of(self, simulation: _Simulation) -> Task:
        """The task of a run, with the criteria that it was graded by: files exist whose tasks were renumbered or corrected afterwards.

        Raises:
            TrajectoryError: The file has no such task.
            TaskError: The criteria in the grade are malformed.
        """
        identifier = simulation.task_id
        if identifier not in self._rows:
            raise TrajectoryError(f"task_id: {identifier!r} is not among the file's readable tasks")
        filed = self._parsed[identifier]
        if simulation.reward_info is None:
            return filed
        row = self._rows[identifier]
        graded = {**row, "evaluation_criteria": {**(row.get("evaluation_criteria") or {}), **simulation.reward_info.criteria()}}
        task = self._parse(graded, "reward_info")
        if task == filed:
            return filed
        same = next((name for name, other in self._parsed.items() if other.criteria.actions == task.criteria.actions), None)
        self._graded_otherwise[identifier] = f"{identifier} (the file's {same})" if same and same != identifier else identifier
        return self._parse({**graded, "user_scenario": self._rows[same or identifier]["user_scenario"]}, "reward_info")

    def notes(self) -> tuple[str, ...]:
        """What was taken from the runs instead of from the tasks."""
        if not self._graded_otherwise:
            return ()
        names = ", ".join(self._graded_otherwise.values())
        return (
            f"{len(self._graded_otherwise)} tasks were graded by other criteria than the file's own; those of the grade are used: {names}",
        )


def _messages(simulation: _Simulation) -> tuple[list[Message], list[bool | None]]:
    messages: list[Message] = []
    errors: list[bool | None] = []
    flat = [part for message in simulation.messages for part in (message.tool_messages or (message,))]
    for at, raw in enumerate(flat):
        if any(call.requestor != "assistant" for call in raw.tool_calls or ()):
            raise TrajectoryError(f"messages.{at}.tool_calls: calls by the user are not supported")
        if raw.role == "tool":
            errors.append(raw.error)
            messages.append(Message(role="tool", content=raw.content or "", tool_call_id=raw.id))
        elif raw.role in ("assistant", "user"):
            calls = tuple(ToolCall(name=call.name, arguments=call.arguments, id=call.id or None) for call in raw.tool_calls or ())
            messages.append(Message(role=raw.role, content=raw.content or "", tool_calls=calls))  # type: ignore[arg-type]
        elif raw.role != "system":
            raise TrajectoryError(f"messages.{at}.role: expected assistant, user, tool or system, found {raw.role!r}")
    return messages, errors


def _ending(simulation: _Simulation, messages: tuple[Message, ...]) -> dict[str, Any]:
    reason = simulation.termination_reason
    if reason == "infrastructure_error":
        return {"error": reason}
    if reason in _LIMITS:
        return {"truncated": True, "ending": _LIMITS[reason]}
    last = messages[-1].content if messages else ""
    if reason == "user_stop":
        return {"terminated": True, "ending": next((ending for token, ending in _STOPS.items() if token in last), reason)}
    return {"terminated": reason == "agent_stop", "ending": reason}
