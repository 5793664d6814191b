"""Certificates: what an accepted task carries of its examination, and the proposal that it can be examined as again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sentinel_env import __version__
from sentinel_env.certificates import Certificate, Gate
from sentinel_env.domain import Domain
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Task

from .case import Case


def certify(case: Case, gates: Sequence[Gate]) -> Task:
    """The draft as a task with its certificate."""
    proposal = case.proposal
    certificate = Certificate(
        pattern=proposal.pattern_id,
        label=proposal.label,
        tools=proposal.tools,
        arguments=proposal.arguments,
        feature=proposal.feature,
        version=__version__,
        seed=proposal.seed,
        model=proposal.model,
        gates=tuple(gates),
        foils=proposal.foils,
        unpunished=proposal.unpunished,
        features=proposal.features,
        pass_rate=case.pass_rate,
        trials=case.trials,
        digest=task_digest(case.domain, case.task),
    )
    return case.task.model_copy(update={"certificate": certificate})


def task_digest(domain: Domain, task: Task) -> str:
    """Hex digest of a task without its certificate and of the domain's database: another one means that either was changed.

    Fields at their default are left out, so that a later version with further fields gives the same.
    """
    content = task.model_dump(mode="json", exclude={"certificate"}, exclude_defaults=True)
    text = json.dumps([content, domain.base.digest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def as_proposal(task: Task) -> TaskProposal | None:
    """What a task was proposed as, from its certificate; None without one."""
    certificate = task.certificate
    if certificate is None:
        return None
    return TaskProposal(
        pattern_id=certificate.pattern,
        draft=task.model_copy(update={"certificate": None}),
        foils=certificate.foils,
        label=certificate.label,
        tools=certificate.tools,
        arguments=certificate.arguments,
        feature=certificate.feature,
        unpunished=certificate.unpunished,
        features=certificate.features,
        seed=certificate.seed,
        model=certificate.model,
    )
