"""The reference, carried out once step by step, and what other plans on the same start lead to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sentinel_env.database import Changes, Database
from sentinel_env.domain import Domain
from sentinel_env.errors import DomainError
from sentinel_env.messages import Message, ToolCall
from sentinel_env.tasks import Task

from .issues import shorten


@dataclass(frozen=True)
class Step:
    """One reference action."""

    at: int
    call: ToolCall
    before: Database
    """A fork of the state that the call found."""
    answer: Message
    writes: bool
    crash: str | None = None
    """Why the tool crashed, where it did."""

    @property
    def name(self) -> str:
        """How reasons name it."""
        return f"action {self.at} ({self.call.name[:80]})"

    @property
    def refusal(self) -> str:
        """The tool's words, where it refused."""
        return shorten(self.answer.content.removeprefix("Error: "))


@dataclass(frozen=True)
class Walk:
    """The reference on the task's start."""

    domain: Domain
    task: Task
    start: Database
    """The state that the task begins with; only forked."""
    steps: tuple[Step, ...]
    changes: Changes
    """What all of them change; what a tool refuses changes nothing."""
    after: Database
    """The state that they lead to."""

    @cached_property
    def writes(self) -> list[Step]:
        """The accepted writes."""
        return [step for step in self.steps if step.writes and not step.answer.is_error]

    def outcome(self, plan: Sequence[ToolCall]) -> tuple[Changes, str | None]:
        """What a plan changes on the same start, and the first refusal that it meets."""
        db = self.start.fork()
        for call in plan:
            answer = execute(self.domain, db, call)
            if answer is None or answer.is_error:
                said = "the tool crashes" if answer is None else answer.content.removeprefix("Error: ")
                return db.changes(), f"{call.name}: {shorten(said, 120)}"
        return db.changes(), None


def walk(domain: Domain, task: Task) -> Walk:
    """Carry out the reference.

    Raises:
        TaskError: The task's changes do not fit the database.
    """
    start = domain.start(task)
    db, steps = start.fork(), []
    for at, call in enumerate(task.criteria.actions):
        tool = domain.tools_by_name.get(call.name)
        before = db.fork() if tool is not None and tool.writes else db
        try:
            answer, crash = domain.execute(db, call), None
        except DomainError as error:
            answer, crash = Message(role="tool", content="Error: the tool crashed", is_error=True), shorten(str(error))
        steps.append(Step(at, call, before, answer, tool is not None and tool.writes, crash))
    return Walk(domain, task, start, tuple(steps), db.changes(), db)


def execute(domain: Domain, db: Database, call: ToolCall) -> Message | None:
    """The answer to a call that nobody wrote by hand; None where the tool crashes on it, which is for `sentinel check` to report."""
    try:
        return domain.execute(db, call)
    except DomainError:
        return None


def spell(call: ToolCall) -> str:
    """A call on one line."""
    return shorten(f"{call.name}({json.dumps(call.arguments, ensure_ascii=False, default=str)})", 300)
