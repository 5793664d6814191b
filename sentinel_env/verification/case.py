"""A case: one draft under examination, with its reference executed once for all gates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from sentinel_env.database import Changes, Database
from sentinel_env.domain import Domain
from sentinel_env.episode import Agent, User
from sentinel_env.errors import DomainError, SentinelError, ToolError
from sentinel_env.failures.writes import same_state
from sentinel_env.messages import Message, ToolCall
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Task

from .known import KnownTasks

MIN_FOILS = 5
"""How many distinct foils a draft of the Proposer needs."""


@dataclass(frozen=True)
class Examination:
    """How thorough the gates are."""

    rehearse: Literal["all", "mistake"] = "all"
    """`all`: doing nothing, handing over at once and every foil are carried out in the real episode. `mistake`: only the first foil is,
    and the others at the database alone."""
    min_foils: int | None = None
    """How many distinct foils are needed. None: `MIN_FOILS` where the Proposer made the draft, which its seed tells; otherwise the
    pattern's own mistake is enough."""
    max_overlap: float = 0.5
    """The share of a goal's word 8-grams, from which on it is a near-duplicate of the held-out text that they also stand in."""
    oracle: Agent | None = None
    """A strong agent that has to pass at least once; without one that gate is not checked."""
    oracle_trials: int = 4
    pilot: Agent | None = None
    """The agent that is to be trained, for its pass rate; a task that it never passes is deferred."""
    pilot_trials: int = 16
    user: User | None = None
    """Who talks to the oracle and in the pilot; the scripted user for None."""
    seed: int = 0
    """Of the oracle's and the pilot's attempts."""

    def foils_needed(self, proposal: TaskProposal) -> int:
        """How many distinct foils this proposal needs."""
        if self.min_foils is not None:
            return self.min_foils
        return MIN_FOILS if proposal.seed is not None else 0


@dataclass(frozen=True)
class Unchecked:
    """What a gate says that had nothing to check with."""

    reason: str


Finding = str | Unchecked | None
"""Why a gate refuses, that it was not checked, or None."""


@dataclass
class Case:
    """A draft under examination. What the gates of a later place read here is known to exist by the earlier ones."""

    domain: Domain
    proposal: TaskProposal
    known: KnownTasks
    examination: Examination
    pass_rate: float | None = None
    """Of the pilot."""
    trials: int = 0

    @cached_property
    def task(self) -> Task:
        """The draft without a certificate, for whatever it says of itself is not believed."""
        draft = self.proposal.draft
        return draft if draft.certificate is None else draft.model_copy(update={"certificate": None})

    @cached_property
    def actions(self) -> tuple[ToolCall, ...]:
        """The reference."""
        return self.task.criteria.actions

    @cached_property
    def reference(self) -> Reference:
        """The reference, executed.

        Raises:
            TaskError: The draft's changes do not fit the database.
            DomainError: A tool crashed.
        """
        return run_reference(self.domain, self.task)


@dataclass
class Reference:
    """What happens when a reference is executed."""

    before: list[Database]
    """The state before each action, and after the last one; never written to."""
    answers: list[Message] = field(default_factory=list)
    """What each action returned."""
    changes: Changes = field(default_factory=dict)
    refused: str | None = None
    """Why a tool refuses an action, where one does; the actions after it are not executed then."""

    def leads_here(self, domain: Domain, at: int, calls: Iterable[ToolCall]) -> bool:
        """Whether calls from the state before an action, refused ones skipped, end in the reference's own state."""
        db = self.before[at].fork()
        for call in calls:
            accepts(domain, db, call)
        # what a mistake leaves undone shows where the reference writes; only of the others it is worked out what else they changed
        final = self.before[-1]
        return same_state(db, final, _places(self.changes)) and same_state(db, final, _places(db.changes()))


def _places(changes: Changes) -> list[tuple[str, str]]:
    return [(table, key) for table, rows in changes.items() for key in rows]


def run_reference(domain: Domain, task: Task) -> Reference:
    """Execute a reference to its end or to the first refusal, which the tau2 dialect skips as tau2-bench does."""
    db = domain.start(task)
    found = Reference([db.fork()])
    for at, call in enumerate(task.criteria.actions):
        answer = domain.execute(db, call)
        if answer.is_error and domain.dialect != "tau2":
            found.refused = f"action {at} ({call.name}): {answer.content.removeprefix('Error: ')}"
            break
        found.answers.append(answer)
        found.before.append(db.fork() if is_write(domain, call) else found.before[-1])
    found.changes = db.changes()
    if found.refused is None:
        domain.remember_reference(task, found.changes)
    return found


def is_write(domain: Domain, call: ToolCall) -> bool:
    """Whether a call is one of a tool that writes."""
    tool = domain.tools_by_name.get(call.name)
    return tool is not None and tool.writes


def accepts(domain: Domain, db: Database, call: ToolCall) -> bool:
    """Make a call whose answer nobody reads, which saves wording it; whether it was accepted.

    Raises:
        DomainError: The tool crashed.
    """
    tool = domain.tools_by_name.get(call.name)
    if tool is None:
        return False
    if domain.dialect == "tau2":
        return not domain.execute(db, call).is_error
    try:
        if tool.writes:
            with db.atomic():
                tool.run(db, call.arguments)
        else:
            tool.run(db, call.arguments)
    except ToolError:
        return False
    except SentinelError:
        raise
    except Exception as error:
        raise DomainError(f"domain {domain.name}: tool {call.name} crashed: {type(error).__name__}: {error}") from error
    return True
