"""The examination: the gates from cheap to dear, and the verdict. The first refusal ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from sentinel_env.certificates import Gate
from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError, DatabaseError, ModelError, TaskError, ToolError
from sentinel_env.proposals import TaskProposal, Verdict
from sentinel_env.tasks import Task

from .case import Case, Examination, Finding, Unchecked
from .certifying import certify
from .claims import opportunity, policy, uniqueness
from .form import schema
from .knowledge import knowledge
from .known import KnownTasks
from .outcomes import execution, foil, necessity, nothing_fails
from .rehearsal import punished, round_trip
from .trials import oracle, pilot


def _new(case: Case) -> Finding:
    """No known task has the id, or the same writes and the same things to say."""
    same = case.known.same_as(case.task)
    return f"the same as task {same!r}" if same else None


def _leakage(case: Case) -> Finding:
    """No record and no near-duplicate text of a task that is held out."""
    held_out = case.known.held_out
    if not held_out.is_for(case.task):
        return Unchecked("no task is held out from it")
    return held_out.leak(case.task, case.examination.max_overlap)


_PILOT = "pilot"
_GATES: Mapping[str, Callable[[Case], Finding]] = {
    "schema": schema,
    "execution": execution,
    "nothing fails": nothing_fails,
    "necessity": necessity,
    "opportunity": opportunity,
    "policy": policy,
    "uniqueness": uniqueness,
    "knowledge": knowledge,
    "foil": foil,
    "new": _new,
    "leakage": _leakage,
    "round trip": round_trip,
    "punished": punished,
    "oracle": oracle,
    _PILOT: pilot,
}
GATES = tuple(_GATES)
"""The names of the gates, in the order in which they are passed."""
_DEFAULT = Examination()
_LONGEST_REASON = 400


def verify_proposal(
    domain: Domain, proposal: TaskProposal, *, known: KnownTasks | Iterable[Task] = (), examination: Examination = _DEFAULT
) -> Verdict:
    """Put a proposal through the gates.

    Args:
        domain: The world.
        proposal: The draft with its foils.
        known: Tasks that it must differ from; it is not added to them. `KnownTasks` also says what is held out from it.
        examination: How thorough the gates are.

    Returns:
        The verdict. Its task carries a certificate; it is None where a gate refused, or where the pilot deferred it.

    Raises:
        DomainError: A tool crashed on the domain's own database, which is a bug of the domain and no property of the draft.
    """
    known_tasks = known if isinstance(known, KnownTasks) else KnownTasks(domain, known)
    case = Case(domain, proposal, known_tasks, examination)
    gates: list[Gate] = []
    for name in GATES:
        gate = _pass(name, case)
        gates.append(gate)
        if not gate.passed:
            return Verdict(proposal=proposal, gates=tuple(gates), deferred=name == _PILOT)
    return Verdict(proposal=proposal, task=certify(case, gates), gates=tuple(gates))


def _pass(name: str, case: Case) -> Gate:
    try:
        found = _GATES[name](case)
    except (TaskError, DatabaseError, ToolError) as error:  # such as changes that do not fit the database
        found = str(error)
    except Exception as error:
        if not case.task.changes or isinstance(error, ModelError | ConfigError):
            raise
        # its changes may contradict each other, such as a customer's order that there is not: no tool and no hook must bear that
        found = f"the domain cannot work on what its changes make of the database: {type(error).__name__}: {error}"
    if found is None:
        return _said(name, "", True, True)
    reason = " ".join((found.reason if isinstance(found, Unchecked) else found).split())[:_LONGEST_REASON]
    return _said(name, reason, isinstance(found, Unchecked), not isinstance(found, Unchecked))


@lru_cache(maxsize=1024)
def _said(name: str, reason: str, passed: bool, checked: bool) -> Gate:
    """An outcome; most are the same ones again."""
    return Gate(name=name, reason=reason, passed=passed, checked=checked)


def verify_all(
    domain: Domain, proposals: Iterable[TaskProposal], *, known: KnownTasks | Iterable[Task] = (), examination: Examination = _DEFAULT
) -> Iterator[Verdict]:
    """Verify proposals one after the other; each accepted one is known to those that follow, and is added to `known` where that is one."""
    seen = known if isinstance(known, KnownTasks) else KnownTasks(domain, known)
    for proposal in proposals:
        verdict = verify_proposal(domain, proposal, known=seen, examination=examination)
        if verdict.task is not None:
            seen.add(verdict.task)
        yield verdict
