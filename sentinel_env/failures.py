"""From failed trajectories to failure patterns, without a model.

`attribute` compares the writes that an episode executed with those of its reference, record by record, and says where they part;
`find_failures` groups what it found by cause and counts it against the opportunities there were.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .database import Changes, Database
from .domain import Domain
from .errors import ConfigError
from .evaluation import calls, evaluate
from .messages import ToolCall
from .records import first_error
from .trajectory import Trajectory

Label = Literal[
    "wrong_argument",
    "wrong_target_record",
    "wrong_tool",
    "missing_write",
    "extra_write",
    "missing_communicate",
    "unneeded_transfer",
    "unfinished",
    "tool_error",
]
LABELS: tuple[str, ...] = get_args(Label)


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Data):
    """Where a failure shows: a trajectory and the index of the message in it."""

    trajectory: str
    step: int
    """Index into the trajectory's messages; its length where something is missing at the end."""
    detail: str = ""


class Finding(_Data):
    """One thing that went wrong in one trajectory."""

    label: Label
    tool: str | None = None
    arguments: tuple[str, ...] = ()
    evidence: Evidence


class FailurePattern(_Data):
    """Failures with one cause; its JSON is the failure spec that the Proposer takes, and a person may write it by hand."""

    id: str = Field(min_length=1)
    domain: str
    label: Literal[Label, "general"]
    """`general` is no failure: the Proposer then samples whatever the domain offers."""
    tools: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    summary: str = ""
    evidence: tuple[Evidence, ...] = ()
    errors: int = 0
    """Failed trajectories that show it."""
    opportunities: int = 0
    """Trajectories in which it could have happened: whose reference calls the tool, or needs something said."""
    share: float = 0.0
    """Of all failed trajectories."""
    contrast: float = 0.0
    """Its share of the failed trajectories minus its share of the passed ones."""
    fault: Literal["agent", "user", "task", "environment", "undetermined"] = "undetermined"
    """Whose fault: the agent's where the user is scripted, otherwise not determined."""
    state: Literal["emerging", "persistent", "shrinking", "resolved", "forgotten"] = "emerging"


GENERAL = "general"


def general_pattern(domain: Domain) -> FailurePattern:
    """The pattern of no failure: tasks of every kind that the domain offers."""
    return FailurePattern(id=GENERAL, domain=domain.name, label="general", summary="tasks of every kind")


@dataclass(frozen=True)
class Write:
    """One accepted write: the call, the message it stands in and what it changed."""

    call: ToolCall
    step: int
    changed: Mapping[str, Any]
    target: tuple[tuple[str, str], ...]
    """The arguments that are record keys, with their values: which record the call is about."""


def attribute(domain: Domain, trajectory: Trajectory) -> tuple[Finding, ...]:
    """What went wrong in one trajectory; for a passed one only what went wrong on the way, such as refused calls.

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
    return tuple(findings)


def executed_writes(domain: Domain, db: Database, made: Iterable[tuple[int, ToolCall]]) -> list[Write]:
    """Run calls on a database and keep the writes that changed something."""
    writes = []
    for step, call in made:
        tool = domain.tools_by_name.get(call.name)
        if tool is None or not tool.writes:
            continue
        before = db.fork()  # after the call it still holds what was there before
        if domain.execute(db, call).is_error:
            continue
        changed = _delta(before, db)
        if changed:  # an accepted call that changes nothing has no part in the outcome
            writes.append(Write(call, step, changed, _target(db, call)))
    return writes


def _delta(before: Database, after: Database) -> Changes:
    """What one call changed, by table and key."""
    found: Changes = {}
    for name, table in after.tables.items():
        old = before.tables[name]
        for key in table._overlay:
            was, now = old.get(key), table.get(key)
            if was is not now and was != now:
                found.setdefault(name, {})[key] = None if now is None else now.model_dump(mode="json")
    return found


def _target(db: Database, call: ToolCall) -> tuple[tuple[str, str], ...]:
    keys = ((name, value) for name, value in call.arguments.items() if isinstance(value, str))
    return tuple(sorted((name, value) for name, value in keys if any(value in table for table in db.tables.values())))


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


def find_failures(domain: Domain, trajectories: Iterable[Trajectory], *, min_support: int = 1) -> list[FailurePattern]:
    """Group the failures of a run by cause, the most frequent first.

    Args:
        domain: The world of the run.
        trajectories: Passed and failed ones; streamed, none is kept.
        min_support: How many failed trajectories must show a cause.

    Raises:
        TaskError: A trajectory is of another domain, or a tool refuses its reference.
    """
    evidence: dict[tuple[Label, str | None, tuple[str, ...]], list[Evidence]] = defaultdict(list)
    errors: dict[tuple[Label, str | None, tuple[str, ...]], int] = defaultdict(int)
    in_passed: dict[tuple[Label, str | None, tuple[str, ...]], int] = defaultdict(int)
    calls_of: dict[str, int] = defaultdict(int)
    telling = failed = passed = 0
    scripted = True
    for trajectory in trajectories:
        if trajectory.error is not None:
            continue
        findings = attribute(domain, trajectory)
        good = evaluate(domain, trajectory).passed
        passed, failed = passed + good, failed + (not good)
        scripted = scripted and trajectory.user.startswith("scripted")
        telling += bool(trajectory.task.criteria.communicate)
        for called in {call.name for call in trajectory.task.criteria.actions} | {finding.tool for finding in findings if finding.tool}:
            calls_of[called] += 1
        for key in {(finding.label, finding.tool, finding.arguments) for finding in findings}:
            (in_passed if good else errors)[key] += 1
        if not good:
            for finding in findings:
                evidence[finding.label, finding.tool, finding.arguments].append(finding.evidence)
    patterns = []
    for key, count in errors.items():
        label, tool, arguments = key
        if count < min_support:
            continue
        opportunities = telling if label == "missing_communicate" else calls_of[tool] if tool else passed + failed
        patterns.append(
            FailurePattern(
                id="/".join([label, *([tool] if tool else []), *(["+".join(arguments)] if arguments else [])]),
                domain=domain.name,
                label=label,
                tools=(tool,) if tool else (),
                arguments=arguments,
                summary=_summary(label, tool, arguments),
                evidence=tuple(evidence[key]),
                errors=count,
                opportunities=opportunities,
                share=round(count / failed, 4),
                contrast=round(count / failed - (in_passed[key] / passed if passed else 0.0), 4),
                fault="agent" if scripted else "undetermined",
            )
        )
    return sorted(patterns, key=lambda pattern: (-pattern.errors, pattern.id))


_SUMMARIES: Mapping[str, str] = {
    "wrong_argument": "calls {tool} on the right record with a wrong {arguments}",
    "wrong_target_record": "calls {tool} on the wrong record",
    "wrong_tool": "changes the right record with another tool than {tool}",
    "missing_write": "never gets {tool} done",
    "extra_write": "calls {tool} where nothing or something else was wanted",
    "missing_communicate": "does not tell the user what was asked for",
    "unneeded_transfer": "hands over to a person what it could have done",
    "unfinished": "does not come to an end within the limits",
    "tool_error": "has calls of {tool} refused on the way",
}


def _summary(label: str, tool: str | None, arguments: Sequence[str]) -> str:
    return _SUMMARIES[label].format(tool=tool, arguments=" and ".join(re.sub("_", " ", name) for name in arguments))


def save_patterns(path: str | Path, patterns: Iterable[FailurePattern]) -> None:
    """Write patterns as JSON lines."""
    Path(path).write_text("".join(pattern.model_dump_json() + "\n" for pattern in patterns), encoding="utf-8")


def load_patterns(path: str | Path, domain: Domain | None = None) -> tuple[FailurePattern, ...]:
    """Read failure specs from JSON lines.

    Raises:
        ConfigError: No such file, a line that is no failure spec (named with its number and field), or, with a domain given, a spec
            of another domain or about a tool or argument that it does not have.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read failure patterns from {path}: {error}") from None
    patterns = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            pattern = FailurePattern.model_validate_json(line)
        except ValidationError as error:
            raise ConfigError(f"{path}, line {number}: {first_error(error)}") from None
        if domain is not None:
            check_pattern(domain, pattern)
        patterns.append(pattern)
    return tuple(patterns)


def check_pattern(domain: Domain, pattern: FailurePattern) -> None:
    """Refuse a failure spec that is not about this domain.

    Raises:
        ConfigError: It names another domain, or a tool or argument that the domain does not have.
    """
    if pattern.domain != domain.name:
        raise ConfigError(f"failure pattern {pattern.id!r} is about domain {pattern.domain!r}, not {domain.name!r}")
    for name in pattern.tools:
        if name not in domain.tools_by_name:
            raise ConfigError(
                f"failure pattern {pattern.id!r}: {domain.name} has no tool {name!r}; its tools: {', '.join(domain.tools_by_name)}"
            )
    tools = [domain.tools_by_name[name] for name in pattern.tools or domain.tools_by_name]
    known = {argument for tool in tools for argument in tool.schema["function"]["parameters"]["properties"]}
    for argument in pattern.arguments:
        if argument not in known:
            raise ConfigError(f"failure pattern {pattern.id!r}: no tool of it takes {argument!r}; known: {', '.join(sorted(known))}")
