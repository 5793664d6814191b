"""Rehearsal: the task in the real episode, with the scripted user. The reference must earn the reward, and nothing else may.

What must not earn it: doing nothing, handing over to a person at once (the safe way out that training finds first), and every foil.
"""

from __future__ import annotations

from collections.abc import Sequence

from sentinel_env.agents import ScriptedAgent
from sentinel_env.domain import Domain
from sentinel_env.episode import Episode, drive
from sentinel_env.evaluation import evaluate
from sentinel_env.messages import Message, ToolCall
from sentinel_env.trajectory import record
from sentinel_env.users import RememberingUser

from .case import Case, Finding

MAX_STEPS = 60


def round_trip(case: Case) -> Finding:
    """The scripted agent, which carries out the reference, gets the reward from the scripted user's conversation."""
    episode = Episode(case.domain, case.task, max_steps=MAX_STEPS)
    drive(episode, ScriptedAgent(tasks=(case.task,)), RememberingUser(episode.user_view()))
    evaluation = evaluate(case.domain, record(episode))
    if evaluation.passed:
        return None
    failed = next(check for check in evaluation.checks if not check.passed)
    return f"the scripted agent and user do not reach reward 1: {failed.name}: {failed.detail[:200]}"


def punished(case: Case) -> Finding:
    """Nothing, handing over at once and the foils end with reward 0; see `Examination.rehearse` for how many of them are tried."""
    foils = case.proposal.foils
    if case.examination.rehearse == "all":
        if _is_rewarded(case, (), silent=True):
            return "doing nothing is rewarded"
        transfer = _handover(case.domain, case.actions)
        if transfer is not None and _is_rewarded(case, (*_identification(case), transfer), silent=True):
            return "handing over at once is rewarded"
    else:
        foils = foils[:1]
    for foil in foils:
        if _is_rewarded(case, foil.plan(case.actions), silent=foil.silent):
            return f"the {foil.label:.80} foil is rewarded"
    return None


def _is_rewarded(case: Case, plan: Sequence[ToolCall], *, silent: bool) -> bool:
    """Whether an agent gets the reward that makes the calls of another plan at once, asks for no yes, and then talks.

    At once, because the user ends the conversation when all wishes are settled: what comes after them would not be done any more. Where
    the database is graded and is another one by then than the reference's, nothing that is said later can earn the reward.
    """
    episode = Episode(case.domain, case.task, max_steps=MAX_STEPS)
    user = RememberingUser(episode.user_view())
    episode.hear(user.reply(episode.user_view()))
    if plan and episode.awaiting == "agent":
        episode.act(Message(role="assistant", tool_calls=tuple(plan)))
        if "database" in case.task.criteria.basis and episode.db.changes() != case.reference.changes:
            return False
    script = ScriptedAgent(plan=lambda *_: plan, proposes=False, reports=not silent).script(case.domain, case.task)
    turns = iter([message for message in script if not message.tool_calls])
    while episode.awaiting is not None:
        if episode.awaiting == "agent":
            episode.act(next(turns, _AT_A_LOSS))
        else:
            episode.hear(user.reply(episode.user_view()))
    return evaluate(case.domain, record(episode)).passed


_AT_A_LOSS = Message(role="assistant", content="Is there anything else I can help you with?")


def _identification(case: Case) -> list[ToolCall]:
    """The calls of the reference that find out who the user is."""
    access = case.domain.access
    return [call for call in case.actions if access is not None and call.name in access.identified_by]


def _handover(domain: Domain, actions: Sequence[ToolCall]) -> ToolCall | None:
    """A call that hands over: the reference's own, or one with made-up words; None where the domain has no tool for it."""
    return next((call for call in actions if domain.is_transfer(call.name)), None) or domain.handover
