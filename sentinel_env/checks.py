"""check_domain(): everything that a domain promises, tried out. For domain authors, and for the tests of every domain here.

    check_domain(domain)            # raises one DomainError that lists every problem on a line
    examine_domain(domain)          # the same as a report, with warnings and counts

Nothing is taken on trust: tools are run with the arguments of the references and with wrong ones, every reference is executed, and an
agent that does nothing tries every task.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jsonschema import Draft202012Validator, SchemaError

from .agents import ScriptedAgent
from .database import Database
from .domain import Domain
from .episode import Episode, drive
from .errors import DomainError, SentinelError
from .evaluation import evaluate
from .fuzzing import fuzzed_calls
from .messages import ToolCall
from .neighbours import leaves
from .tasks import Task
from .trajectory import Trajectory, record
from .users import ScriptedUser

MAX_STEPS = 60
_DOMAIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHOWN = 5


@dataclass
class DomainReport:
    """What was tried and what did not hold."""

    domain: str
    problems: list[str] = field(default_factory=list)
    """What breaks a promise, each on a line."""
    warnings: list[str] = field(default_factory=list)
    """What the author should know but may be as it is, such as another benchmark's broken references."""
    counts: dict[str, int] = field(default_factory=dict)
    """How much was tried."""

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dict(self.__dict__)


def check_domain(domain: Domain) -> DomainReport:
    """Try out everything that a domain promises.

    Returns:
        The report, which may hold warnings.

    Raises:
        DomainError: Something does not hold; the text lists every problem on a line of its own.
    """
    report = examine_domain(domain)
    if report.problems:
        lines = "\n".join(f"- {problem}" for problem in report.problems)
        raise DomainError(f"domain {domain.name} has {len(report.problems)} problems:\n{lines}")
    return report


def examine_domain(domain: Domain, *, seed: int = 0, on_task: Callable[[int], None] = lambda finished: None) -> DomainReport:
    """As `check_domain`, with the problems in the report.

    Args:
        domain: The world.
        seed: Of the wrong arguments that tools are tried with.
        on_task: Called after each task with how many are finished.
    """
    report = DomainReport(domain.name, warnings=list(domain.warnings))
    report.problems += _surface(domain)
    try:
        tasks = _unique(domain, report)
        report.problems += _round_trip(domain)
        digest = domain.base.digest()
        report.problems += _tools(domain, tasks, report, Random(seed))
        report.problems += _operations(domain, report)
        report.problems += _tasks(domain, tasks, report, on_task)
        shared = _shared_entities(domain, tasks)
        if domain.dialect == "tau2":  # its splits are as they are
            report.warnings += shared
        else:
            report.problems += shared
        if domain.base.digest() != digest:
            report.problems.append("the database that all episodes share was changed by running tools; a tool holds on to a mutable value")
    except SentinelError as error:
        report.problems.append(f"{type(error).__name__}: {error}")
    report.counts = {"tools": len(domain.tools), **report.counts}
    return report


def _surface(domain: Domain) -> Iterator[str]:
    """Names, descriptions and schemas: what the agent sees."""
    if not _DOMAIN_NAME.fullmatch(domain.name):
        yield f"the domain's name {domain.name!r} is not lower-case letters, digits, - and _"
    if not domain.policy.strip():
        yield "the policy is empty"
    if not domain.tools:
        yield "there are no tools"
    for tool in domain.tools:
        if not _TOOL_NAME.fullmatch(tool.name):
            yield f"tool {tool.name!r}: a name is at most 64 letters, digits, - and _"
        if not tool.description:
            yield f"tool {tool.name}: the docstring does not say what it does"
        for name, schema in tool.schema["function"]["parameters"]["properties"].items():
            if not schema.get("description"):
                yield f"tool {tool.name}: argument {name!r} is not documented; add it to the docstring's Args"
        try:
            Draft202012Validator.check_schema(tool.schema["function"]["parameters"])
        except SchemaError as error:
            yield f"tool {tool.name}: its schema is not valid JSON Schema: {error.message}"


def _unique(domain: Domain, report: DomainReport) -> tuple[Task, ...]:
    """The tasks, each id once."""
    found: dict[str, Task] = {}
    for task in domain.tasks():
        if task.id in found:
            report.problems.append(f"task id {task.id!r} occurs twice")
        elif task.domain != domain.name:
            report.problems.append(f"task {task.id!r} is for domain {task.domain!r}")
        found.setdefault(task.id, task)
    if not found:
        report.warnings.append("there are no tasks")
    report.counts["tasks"] = len(found)
    return tuple(task for task in found.values() if task.domain == domain.name)


def _round_trip(domain: Domain) -> Iterator[str]:
    """The database through JSON, and made a second time."""
    digest = domain.base.digest()
    if type(domain.base).load(json.loads(json.dumps(domain.base.dump()))).digest() != digest:
        yield "the database does not survive dump() and load(): the digest is another one"
    if domain.database().digest() != digest:
        yield "database() gives another content at each call, so no other process has the same; seed what is random in it"


# tools


def _tools(domain: Domain, tasks: Iterable[Task], report: DomainReport, random: Random) -> Iterator[str]:
    """Run references and wrong calls: reads change nothing, refusals leave no trace, equal calls give equal answers, nothing crashes."""
    problems: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    good = [call for task in tasks for call in task.criteria.actions]
    states = [domain.base, *(_after_reference(domain, task) for task in list(tasks)[:_SHOWN])]
    for call in (*good, *fuzzed_calls(domain, good, random)):
        for state in (domain.base, random.choice(states)):
            try:
                problems.update(_try(domain, call, state))
            except SentinelError as error:
                problems[str(error)] += 1
        tried[call.name] += 1
    report.counts["calls"] = tried.total()
    for tool in domain.tools:
        if not any(call.name == tool.name for call in good):
            report.warnings.append(f"tool {tool.name}: no reference calls it, so only made-up arguments were tried")
    for text, count in problems.items():
        yield text if count == 1 else f"{text} ({count} times)"


def _after_reference(domain: Domain, task: Task) -> Database:
    db = domain.start(task)
    for call in task.criteria.actions:
        domain.execute(db, call)
    return db


def _try(domain: Domain, call: ToolCall, state: Database) -> Iterator[str]:
    first, second = state.fork(), state.fork()
    answer = domain.execute(first, call)
    changes = first.changes()
    tool = domain.tools_by_name.get(call.name)
    if tool is not None and not tool.writes and changes:
        yield f"tool {call.name}: a read, but it changes {', '.join(changes)}; declare it with @tool(writes=True)"
    if answer.is_error and changes:
        yield f"tool {call.name}: a refused call leaves a trace in {', '.join(changes)} ({answer.content[:80]})"
    if domain.execute(second, call).content != answer.content or second.changes() != changes:
        yield f"tool {call.name}: the same call gives another result the second time; it must depend on the database and its arguments only"


# tasks


def _tasks(domain: Domain, tasks: Iterable[Task], report: DomainReport, on_task: Callable[[int], None]) -> Iterator[str]:
    passed = 0
    for finished, task in enumerate(tasks, 1):
        if not (task.scenario.goal.strip() or task.scenario.wishes):
            yield f"task {task.id!r}: the scenario has no goal"
        try:
            domain.reference_changes(task)
        except SentinelError as error:
            yield str(error)
        else:
            yield from _doing_nothing(domain, task)
            failure = _scripted(domain, task)
            passed += failure is None
            if failure is not None and task.scenario.wishes:
                yield f"task {task.id!r}: the scripted agent with the scripted user does not pass: {failure}"
        on_task(finished)
    report.counts["passed by the scripted agent with the scripted user"] = passed


def _doing_nothing(domain: Domain, task: Task) -> Iterator[str]:
    nothing = Trajectory(id=task.id, task=task, terminated=True, ending="user_stop")
    passes, intended = evaluate(domain, nothing).passed, task.criteria.nothing_passes
    if passes and intended is None:
        yield f"task {task.id!r}: an agent that does nothing passes; if that is intended, give the reason in criteria.nothing_passes"
    if intended is not None and not passes:
        yield f"task {task.id!r}: criteria.nothing_passes says that doing nothing passes, but it fails"


def _scripted(domain: Domain, task: Task) -> str | None:
    """Why the reference, carried out in dialogue, does not pass; None when it does."""
    episode = drive(Episode(domain, task, max_steps=MAX_STEPS), ScriptedAgent(tasks=(task,)), ScriptedUser())
    failed = [check for check in evaluate(domain, record(episode)).checks if not check.passed]
    return f"{failed[0].name}: {failed[0].detail[:200]}" if failed else None


# operations and splits


def _operations(domain: Domain, report: DomainReport, subjects: int = 20) -> Iterator[str]:
    """Every kind of request can be made by somebody, and its own calls are accepted."""
    if domain.operations is None:
        return
    asked = 0
    for kind in domain.operations.kinds:
        made = 0
        for subject in domain.operations.subjects(domain.base):
            if made >= subjects:
                break
            request = kind.request(domain.base.fork(), subject, Random(f"{kind.name}/{subject}"))
            if request is None:
                continue
            made += 1
            db = domain.base.fork()
            for call in (*request.reads, *((request.wish.call,) if request.wish.call else ())):
                answer = domain.execute(db, call)
                if answer.is_error:
                    yield f"operation {kind.name}: subject {subject!r} asks for {call.name}, which is refused: {answer.content[:200]}"
        if not made:
            report.warnings.append(f"operation {kind.name}: nobody in the database can ask for it")
        asked += made
    report.counts["requests"] = asked


def _shared_entities(domain: Domain, tasks: Iterable[Task]) -> Iterator[str]:
    """Subjects whose records tasks of two splits use."""
    if domain.operations is None:
        return
    owners: dict[str, set[str]] = defaultdict(set)
    for subject in domain.operations.subjects(domain.base):
        for entity in domain.operations.entities(domain.base, subject):
            owners[entity].add(subject)
    users: dict[str, dict[str, str]] = defaultdict(dict)
    for task in tasks:
        for text in leaves([call.arguments for call in task.criteria.actions]):
            for subject in owners.get(text, ()):
                users[subject].setdefault(task.split, task.id)
    shared = {subject: splits for subject, splits in sorted(users.items()) if len(splits) > 1}
    for subject, splits in list(shared.items())[:_SHOWN]:
        yield f"splits share {subject!r}: {', '.join(f'task {task!r} of {split}' for split, task in sorted(splits.items()))}"
    if len(shared) > _SHOWN:
        yield f"splits share {len(shared) - _SHOWN} more subjects"
