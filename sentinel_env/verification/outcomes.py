"""Outcomes: where the reference leads, and that neither less of it nor any foil leads there."""

from __future__ import annotations

import json
from collections import Counter

from sentinel_env.certificates import Foil
from sentinel_env.evaluation import evaluate
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Criteria, Tau2Criteria
from sentinel_env.trajectory import Trajectory

from .case import Case, Finding, accepts, is_write

_REFUSED_BY_NATURE = frozenset(("schema_error", "unknown_tool", "tool_error", "repeated_error", "hallucinated_id"))
"""Mistakes that a tool refuses; what is left undone after them is what costs reward."""


def execution(case: Case) -> Finding:
    """No tool refuses the reference."""
    return case.reference.refused


def nothing_fails(case: Case) -> Finding:
    """An agent that changes and says nothing, in a conversation that ends well, must get reward 0."""
    silence = Trajectory(id=f"{case.task.id}/nothing", task=case.task, terminated=True, ending="user_stop")
    return "doing nothing is rewarded" if evaluate(case.domain, silence).passed else None


def necessity(case: Case) -> Finding:
    """Without any one of its writes the reference leads elsewhere."""
    writes = [(at, call) for at, call in enumerate(case.actions) if is_write(case.domain, call)]
    for number, (at, dropped) in enumerate(writes):
        later = [call for _, call in writes[number + 1 :]]
        if case.reference.leads_here(case.domain, at, later):
            return f"write {number} ({dropped.name}) changes nothing that the others do not"
    return None


def foil(case: Case) -> Finding:
    """The pattern's own mistake can be made, every foil leads elsewhere than the reference, and there are enough of them."""
    proposal, foils = case.proposal, case.proposal.foils
    for each in foils:
        if each.at + each.drop > len(case.actions):
            return f"the {each.label:.80} foil edits actions {each.at} to {each.at + each.drop} of {len(case.actions)}"
    if not proposal.unpunished:
        if not foils:
            return "no foil: nothing shows that the mistake is possible and costs reward"
        if proposal.label not in ("general", foils[0].label):
            return f"the first foil is a {foils[0].label:.80}; expected the mistake of the pattern, {proposal.label}"
        if (refused := _is_impossible(case, foils[0])) is not None:
            return refused
    different: list[tuple[tuple[ToolCall, ...], bool]] = []
    for each in foils:
        plan = each.plan(case.actions)
        if not _leads_elsewhere(case, each, plan):
            return f"the {each.label:.80} foil leads where the reference leads"
        if (plan, each.silent) not in different:
            different.append((plan, each.silent))
    needed = case.examination.foils_needed(proposal)
    return f"{len(different)} distinct foils; {needed} are wanted" if len(different) < needed else None


def _is_impossible(case: Case, mistake: Foil) -> str | None:
    """Why a mistake cannot be made: a tool refuses all of its own writes, or all calls where it makes no write."""
    domain = case.domain
    own = [call for call in mistake.calls if is_write(domain, call)]
    own = own or [call for call in mistake.calls if not domain.is_transfer(call.name)]
    if not own or mistake.label in _REFUSED_BY_NATURE:
        return None
    db = case.reference.before[mistake.at].fork()
    if any([accepts(domain, db, call) for call in own]):  # each one, for a later call may need an earlier one
        return None
    refusal = domain.execute(case.reference.before[mistake.at].fork(), own[0]).content.removeprefix("Error: ")
    return f"the mistake cannot be made: {own[0].name}: {refusal}"


def _leads_elsewhere(case: Case, foil: Foil, plan: tuple[ToolCall, ...]) -> bool:
    """Whether the reward of a plan can differ from the reference's: by the state, what is told, handing over, or the calls themselves.

    A call that a tool refuses is skipped, for in an episode too it leaves no trace.
    """
    domain, graded = case.domain, _graded(case.task.criteria)
    if "communicate" in graded and foil.silent and case.task.criteria.communicate:
        return True
    if "transfer" in graded and _hands_over(case, plan) != _hands_over(case, case.actions):
        return True
    if "actions" in graded and Counter(map(_key, case.actions)) - Counter(map(_key, plan)):
        return True
    rest = (*foil.calls, *case.actions[foil.at + foil.drop :])
    return "database" in graded and not case.reference.leads_here(domain, foil.at, [call for call in rest if is_write(domain, call)])


def _graded(criteria: Criteria) -> frozenset[str]:
    """What the reward is made of, tau2-bench's names in ours."""
    if "tau2" not in criteria.basis:
        return frozenset(criteria.basis)
    names = {"DB": "database", "COMMUNICATE": "communicate", "ACTION": "actions"}
    return frozenset((*criteria.basis, *(names.get(name, name) for name in (criteria.tau2 or Tau2Criteria()).reward_basis)))


def _hands_over(case: Case, plan: tuple[ToolCall, ...]) -> bool:
    return any(case.domain.is_transfer(call.name) for call in plan)


def _key(call: ToolCall) -> str:
    return json.dumps([call.name, call.arguments], sort_keys=True)
