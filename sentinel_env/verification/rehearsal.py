"""Rehearsal: the task in the real episode, with the scripted user. The reference must earn the reward, and nothing else may.

What must not earn it: doing nothing, handing over to a person at once (the safe way out that training finds first), and every foil.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sentinel_env.agents import ScriptedAgent
from sentinel_env.domain import Domain
from sentinel_env.episode import Agent, AgentView, Episode, drive
from sentinel_env.evaluation import Evaluation, evaluate
from sentinel_env.messages import Message, ToolCall
from sentinel_env.trajectory import record
from sentinel_env.users import RememberingUser

from .case import Case, Finding, is_write

MAX_STEPS = 60
_HAND_OVER = "You are being transferred to a human agent. Please hold on."


def round_trip(case: Case) -> Finding:
    """The scripted agent, which carries out the reference, gets the reward from the scripted user's conversation."""
    evaluation = _play(case, ScriptedAgent(tasks=(case.task,)))
    if evaluation.passed:
        return None
    failed = next(check for check in evaluation.checks if not check.passed)
    return f"the scripted agent and user do not reach reward 1: {failed.name}: {failed.detail[:200]}"


def punished(case: Case) -> Finding:
    """Nothing, handing over at once and the foils end with reward 0; see `Examination.rehearse` for how many of them are tried."""
    domain, foils = case.domain, case.proposal.foils
    everything = case.examination.rehearse == "all"
    if everything:
        if _play(case, _wrong(case, (), silent=True)).passed:
            return "doing nothing is rewarded"
        if (call := _handover(domain, case.actions)) is not None and _play(case, _leaving(case, call)).passed:
            return "handing over at once is rewarded"
    for foil in foils if everything else foils[:1]:
        if _play(case, _wrong(case, foil.plan(case.actions), silent=foil.silent)).passed:
            return f"the {foil.label:.80} foil is rewarded"
    return None


def _wrong(case: Case, plan: Sequence[ToolCall], *, silent: bool) -> _Reciting:
    """An agent that carries out another plan at one go, without asking for a yes, and then reports.

    At one go, because the user ends the conversation when all wishes are settled: what comes after them would not be done any more.
    """
    script = ScriptedAgent(plan=lambda *_: plan, proposes=False, reports=not silent).script(case.domain, case.task)
    asking = 1 if _is_known(case) else 0
    calls = [Message(role="assistant", tool_calls=(call,)) for call in plan]
    return _Reciting([*script[:asking], *calls, *(message for message in script[asking:] if not message.tool_calls)])


def _is_known(case: Case) -> bool:
    """Whether the user can say who it is, so that a script begins by asking."""
    return bool(case.task.scenario.facts or case.task.scenario.known)


def _play(case: Case, agent: Agent) -> Evaluation:
    episode = Episode(case.domain, case.task, max_steps=MAX_STEPS)
    return evaluate(case.domain, record(drive(episode, agent, RememberingUser(episode.user_view()))))


class _Reciting:
    """An agent that says what it was given, message by message, in one episode."""

    name = "reciting"

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = iter(messages)

    def act(self, view: AgentView) -> Message:
        """The next message; after the last one, an offer of more help."""
        return next(self._messages, Message(role="assistant", content="Is there anything else I can help you with?"))


def _leaving(case: Case, transfer: ToolCall) -> _Reciting:
    """An agent that finds out who the user is and hands over."""
    identified_by = case.domain.access.identified_by if case.domain.access is not None else ()
    plan = [*(call for call in case.actions if call.name in identified_by and not is_write(case.domain, call)), transfer]
    asking = ScriptedAgent(plan=lambda *_: ()).script(case.domain, case.task)[:1] if _is_known(case) else []
    calls = [Message(role="assistant", tool_calls=(call,)) for call in plan]
    return _Reciting([*asking, *calls, Message(role="assistant", content=_HAND_OVER)])


def _handover(domain: Domain, actions: Sequence[ToolCall]) -> ToolCall | None:
    """A call that hands over: the reference's own, or one with made-up words; None where the domain has no tool for it."""
    return next((call for call in actions if domain.is_transfer(call.name)), None) or _made_up(domain)


@lru_cache(maxsize=8)
def _made_up(domain: Domain) -> ToolCall | None:
    for tool in domain.tools:
        if domain.is_transfer(tool.name):
            parameters = tool.schema["function"]["parameters"]
            kinds = {name: parameters["properties"][name].get("type") for name in parameters["required"]}
            if all(kind == "string" for kind in kinds.values()):
                return ToolCall(name=tool.name, arguments=dict.fromkeys(kinds, "The customer asks for help."))
    return None
