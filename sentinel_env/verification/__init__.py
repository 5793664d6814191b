"""The gates: a draft becomes a task only when running it shows that it works and that the mistake costs reward.

    verdict = verify_proposal(domain, proposal)                 # verdict.task, with its certificate, or verdict.rejected_by
    for recheck in verify_certificates(domain, tasks): ...      # what became of the certificates of tasks

A draft is untrusted data. Nothing in it raises: whatever is wrong with it is the one-line reason of the gate that it fails. The
gates go from cheap to dear, and the first refusal ends the examination. A gate that the domain, or the caller, gave nothing to check
with says so and refuses nothing.
"""

from .again import Recheck, verify_certificates
from .case import MIN_FOILS, Examination
from .certifying import as_proposal, task_digest
from .examining import GATES, verify_all, verify_proposal
from .known import HeldOut, KnownTasks

__all__ = [
    "GATES",
    "MIN_FOILS",
    "Examination",
    "HeldOut",
    "KnownTasks",
    "Recheck",
    "as_proposal",
    "task_digest",
    "verify_all",
    "verify_certificates",
    "verify_proposal",
]
