"""The gates: a draft becomes a task only when running it shows that it works and that the mistake costs reward.

A draft is untrusted data. Nothing in it raises: whatever is wrong with it is the one-line reason of the gate that it fails. The
gates go from cheap to dear, and the first failure ends the examination.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from sentinel_env.agents import ScriptedAgent
from sentinel_env.certificates import Gate
from sentinel_env.database import Changes
from sentinel_env.domain import Domain
from sentinel_env.episode import Episode, drive
from sentinel_env.errors import SentinelError, TaskError
from sentinel_env.evaluation import Evaluation, evaluate
from sentinel_env.messages import ToolCall
from sentinel_env.proposals import TaskProposal, Verdict
from sentinel_env.tasks import Task
from sentinel_env.trajectory import Trajectory, record
from sentinel_env.users import RememberingUser

GATES = ("schema", "execution", "nothing fails", "necessity", "foil", "new", "round trip", "punished")
MAX_STEPS = 60


class KnownTasks:
    """The tasks that a new one must differ from, by what they do."""

    def __init__(self, domain: Domain, tasks: Iterable[Task] = ()) -> None:
        self._domain = domain
        self._ids: set[str] = set()
        self._plans: dict[str, str] = {}
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Remember a task."""
        self._ids.add(task.id)
        self._plans.setdefault(self._plan(task), task.id)

    def same_as(self, task: Task) -> str | None:
        """The id of a known task with this id or with the same writes and the same things to say, or None."""
        return task.id if task.id in self._ids else self._plans.get(self._plan(task))

    def _plan(self, task: Task) -> str:
        writes = sorted(json.dumps([call.name, call.arguments], sort_keys=True) for call in _writes(self._domain, task.criteria.actions))
        return json.dumps([writes, sorted(task.criteria.communicate), task.changes], sort_keys=True)


def verify_proposal(domain: Domain, proposal: TaskProposal, *, known: KnownTasks | Iterable[Task] = ()) -> Verdict:
    """Put a proposal through the gates.

    Args:
        domain: The world.
        proposal: The draft with its foils.
        known: Tasks that it must differ from; it is not added to them.

    Raises:
        DomainError: A tool crashed, which is a bug of the domain and no property of the draft.
    """
    gates: list[Gate] = []
    known_tasks = known if isinstance(known, KnownTasks) else KnownTasks(domain, known)
    for name, reason in _examine(domain, proposal, known_tasks):
        gates.append(Gate(name=name, passed=reason is None, reason=reason or ""))
        if reason is not None:
            return Verdict(proposal=proposal, gates=tuple(gates))
    return Verdict(proposal=proposal, task=proposal.draft, gates=tuple(gates))


def verify_all(domain: Domain, proposals: Iterable[TaskProposal], *, known: Iterable[Task] = ()) -> Iterator[Verdict]:
    """Verify proposals one after the other; each accepted one is known to those that follow."""
    seen = KnownTasks(domain, known)
    for proposal in proposals:
        verdict = verify_proposal(domain, proposal, known=seen)
        if verdict.task is not None:
            seen.add(verdict.task)
        yield verdict


def _examine(domain: Domain, proposal: TaskProposal, known: KnownTasks) -> Iterator[tuple[str, str | None]]:
    """(gate, why it refuses or None), lazily: a later gate may rely on the earlier ones."""
    task = proposal.draft
    yield "schema", _schema(domain, proposal)
    changes, reason = _reference(domain, task)
    yield "execution", reason
    yield "nothing fails", _nothing_fails(domain, task)
    yield "necessity", _necessity(domain, task, changes)
    yield "foil", _foils_differ(domain, proposal, changes)
    same = known.same_as(task)
    yield "new", f"the same as task {same!r}" if same else None
    yield "round trip", _round_trip(domain, task)
    yield "punished", _punished(domain, proposal)


def _schema(domain: Domain, proposal: TaskProposal) -> str | None:
    task = proposal.draft
    if task.domain != domain.name:
        return f"the task is for domain {task.domain!r}, not {domain.name!r}"
    if not task.criteria.actions:
        return "the task has no reference actions"
    checked: set[int] = set()
    for at, call in enumerate((*task.criteria.actions, *(call for foil in proposal.foils for call in foil.calls))):
        if id(call) in checked:  # most of a foil's plan is the reference's own
            continue
        checked.add(id(call))
        tool = domain.tools_by_name.get(call.name)
        where = f"reference action {at}" if at < len(task.criteria.actions) else "a foil"
        if tool is None:
            return f"{where}: there is no tool {call.name!r}"
        try:
            tool.validate(call.arguments)
        except SentinelError as error:
            return f"{where} ({call.name}): {error}"
    return None


def _outcome(domain: Domain, task: Task, plan: Sequence[ToolCall]) -> tuple[Changes, str | None]:
    """What a plan changes, and the refusal that it meets, if any."""
    try:
        db = domain.start(task)
    except SentinelError as error:
        return {}, str(error)
    for at, call in enumerate(plan):
        answer = domain.execute(db, call)
        if answer.is_error:
            return {}, f"action {at} ({call.name}): {answer.content.removeprefix('Error: ')}"
    return db.changes(), None


def _reference(domain: Domain, task: Task) -> tuple[Changes, str | None]:
    """The same of the reference. What it changes is executed once, for this gate and for the grades of the later ones."""
    if domain.dialect == "tau2":  # where grading skips what a tool refuses
        return _outcome(domain, task, task.criteria.actions)
    try:
        return domain.reference_changes(task), None
    except TaskError:
        return _outcome(domain, task, task.criteria.actions)  # which words the refusal


def _writes(domain: Domain, plan: Iterable[ToolCall]) -> list[ToolCall]:
    return [call for call in plan if call.name in domain.tools_by_name and domain.tools_by_name[call.name].writes]


def _nothing_fails(domain: Domain, task: Task) -> str | None:
    """An agent that changes and says nothing, in a conversation that ends well, must get reward 0."""
    silence = Trajectory(id=f"{task.id}/nothing", task=task, terminated=True, ending="user_stop")
    return "doing nothing is rewarded" if evaluate(domain, silence).passed else None


def _necessity(domain: Domain, task: Task, changes: Changes) -> str | None:
    writes = _writes(domain, task.criteria.actions)
    if len(writes) == 1:  # without it nothing changes
        return None if changes else f"write 0 ({writes[0].name}) changes nothing"
    for at, dropped in enumerate(writes):
        without, refused = _outcome(domain, task, [*writes[:at], *writes[at + 1 :]])
        if refused is None and without == changes:
            return f"write {at} ({dropped.name}) changes nothing that the others do not"
    return None


def _foils_differ(domain: Domain, proposal: TaskProposal, changes: Changes) -> str | None:
    """The first foil, the pattern's own mistake, must be possible; all of them must lead elsewhere."""
    if not proposal.foils:
        return "no foil: nothing shows that the mistake is possible and costs reward"
    for at, foil in enumerate(proposal.foils):
        outcome, refused = _outcome(domain, proposal.draft, foil.plan(proposal.draft.criteria.actions))
        if refused is not None and at == 0:
            return f"the mistake cannot be made: {refused}"
        if refused is None and outcome == changes and not (foil.silent and proposal.draft.criteria.communicate):
            return f"the {foil.label} foil leads to the state of the reference"
    return None


def _grade(domain: Domain, task: Task, agent: ScriptedAgent) -> Evaluation:
    episode = Episode(domain, task, max_steps=MAX_STEPS)
    return evaluate(domain, record(drive(episode, agent, RememberingUser(episode.user_view()))))


def _round_trip(domain: Domain, task: Task) -> str | None:
    evaluation = _grade(domain, task, ScriptedAgent(tasks=(task,)))
    if evaluation.passed:
        return None
    failed = next(check for check in evaluation.checks if not check.passed)
    return f"the scripted agent and user do not reach reward 1: {failed.name}: {failed.detail[:200]}"


def _punished(domain: Domain, proposal: TaskProposal) -> str | None:
    """In the real episode the pattern's own mistake must end with reward 0; the other foils are known to lead to another state."""
    task, mistake = proposal.draft, proposal.foils[0]
    agent = ScriptedAgent(tasks=(task,), plan=lambda *_: mistake.plan(task.criteria.actions), proposes=False, reports=not mistake.silent)
    return f"the {mistake.label} foil is rewarded" if _grade(domain, task, agent).passed else None
