"""Examining certified tasks again: a certificate is a claim, and here is what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sentinel_env.domain import Domain
from sentinel_env.proposals import Verdict
from sentinel_env.tasks import Task

from .case import Examination
from .certifying import as_proposal, task_digest
from .examining import verify_proposal
from .known import HeldOut, KnownTasks

State = Literal["holds", "changed", "fails", "uncertified"]


@dataclass(frozen=True)
class Recheck:
    """What became of one task's certificate."""

    task: Task
    """With a certificate of today where it passes all gates, otherwise as it was."""
    state: State
    """`changed`: the task or the database is another one since, but it passes all gates. `fails`: some gate refuses it now."""
    reason: str = ""
    verdict: Verdict | None = None


def verify_certificates(domain: Domain, tasks: Iterable[Task], *, examination: Examination | None = None) -> Iterator[Recheck]:
    """Put certified tasks through the gates again, each with the domain's and the other given tasks known.

    Args:
        domain: The world.
        tasks: With certificates; one without is passed on as `uncertified`.
        examination: How thorough the gates are. Without an oracle and a pilot what these once found is taken over.

    Raises:
        DomainError: A tool crashed.
    """
    examination = examination or Examination()
    given = {task.id: task for task in tasks}
    everything = {**domain.tasks_by_id, **given}
    known = KnownTasks(domain, everything.values(), held_out=HeldOut(domain, everything.values(), of_other_splits=True))
    for task in given.values():
        proposal = as_proposal(task)
        if proposal is None or task.certificate is None:
            yield Recheck(task, "uncertified", "it carries no certificate")
            continue
        known.remove(task)
        verdict = verify_proposal(domain, proposal, known=known, examination=examination)
        known.add(task)
        changed = "the task or the database was changed since" if task_digest(domain, task) != task.certificate.digest else ""
        refused = verdict.rejected_by
        if verdict.task is not None and verdict.task.certificate is not None:
            certificate = verdict.task.certificate
            if not certificate.trials:
                pilot = {"pass_rate": task.certificate.pass_rate, "trials": task.certificate.trials}
                certificate = certificate.model_copy(update=pilot)
            renewed = verdict.task.model_copy(update={"certificate": certificate})
            yield Recheck(renewed, "changed" if changed else "holds", changed, verdict)
        else:
            why = f"no longer passes {refused.name}: {refused.reason}" if refused is not None else "deferred"
            yield Recheck(task, "fails", f"{changed}; {why}" if changed else why, verdict)
