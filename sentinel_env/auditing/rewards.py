"""Who else is rewarded? Lazy agents hold real episodes of the task, and the real `evaluate` grades them.

Each finding is about what the criteria pay for, so an agent that is rewarded for less hides those that would be for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sentinel_env.episode import STOP, Episode
from sentinel_env.evaluation import Evaluation, evaluate
from sentinel_env.messages import Message, ToolCall
from sentinel_env.trajectory import record

from .issues import Issue, Severity
from .walk import Walk

_BYE = Message(role="user", content=f"Thanks, bye. {STOP}")


def graded(walk: Walk, calls: Sequence[ToolCall] = (), words: Sequence[str] = ()) -> Evaluation:
    """The grade of an agent that makes calls, says words, and is then dismissed by the user.

    Raises:
        TaskError: The criteria cannot be evaluated.
    """
    no_limit = len(calls) + len(words) + 9
    episode = Episode(walk.domain, walk.task, max_steps=no_limit, max_errors=no_limit)
    episode.hear(Message(role="user", content=walk.task.scenario.goal or "Hello."))
    for call in calls:
        episode.act(Message(role="assistant", tool_calls=(call,)))
    for word in words:
        episode.act(Message(role="assistant", content=word if word.strip() else "OK."))
        episode.hear(Message(role="user", content="Go on."))
    episode.act(Message(role="assistant", content="OK."))
    episode.hear(_BYE)
    return evaluate(walk.domain, record(episode))


def _is_transfer(walk: Walk, call: ToolCall) -> bool:
    return walk.domain.is_transfer(call.name)


def rewards(walk: Walk) -> Iterator[Issue]:
    """The lazy agents that are rewarded."""
    actions = [step.call for step in walk.steps if step.crash is None]
    told = list(walk.task.criteria.communicate)
    hand_over = [call for call in actions if _is_transfer(walk, call)]
    reads = [step.call for step in walk.steps if step.crash is None and not step.writes and not _is_transfer(walk, step.call)]
    if not _can_be_rewarded(walk, actions, told):
        yield _fails(walk, graded(walk, actions, told))
        return
    if graded(walk).passed:
        yield _for_nothing(walk, reads)
    else:
        yield from _for_less(walk, reads, hand_over)
    if told and graded(walk, actions).passed:
        basis = _basis(walk)
        reason = f"an agent that tells nothing of {', '.join(told)} is rewarded: the reward basis ({basis}) leaves out what must be told"
        # tau2-bench lists what its judge's statements repeat, so the words are not lost there
        judged = walk.task.criteria.tau2 is not None and bool(walk.task.criteria.tau2.nl_assertions)
        yield _issue(walk, "pays_for_silence", "note" if judged else "suspect", reason, told=told)


def _can_be_rewarded(walk: Walk, actions: Sequence[ToolCall], told: Sequence[str]) -> bool:
    return graded(walk, actions, told).passed


def _fails(walk: Walk, evaluation: Evaluation) -> Issue:
    failed = [check for check in evaluation.checks if not check.passed]
    reason = f"an agent that does and says what the reference does fails {failed[0].name}: {failed[0].detail[:200]}"
    return _issue(walk, "reference_fails", "broken", reason, failed=[check.name for check in failed])


def _for_nothing(walk: Walk, reads: Sequence[ToolCall]) -> Issue:
    criteria = walk.task.criteria
    paid = ["nothing"]
    transfers = [_any_call(walk, tool.name) for tool in walk.domain.tools if walk.domain.is_transfer(tool.name)]
    if transfers and graded(walk, transfers[:1]).passed:
        paid.append("hand over to a person")
    if reads and graded(walk, reads).passed:
        paid.append("read")
    state = "the reference leaves the database as it was" if not walk.changes else "the reward basis leaves out what the reference changes"
    severity: Severity = "broken"
    advice = "grade what the agent must do or say, or give the reason in criteria.nothing_passes"
    if criteria.tau2 is None and criteria.nothing_passes is not None:
        severity, advice = "note", f"its author intends it: {criteria.nothing_passes}"
    elif criteria.tau2 is not None and criteria.tau2.nl_assertions and "NL_ASSERTION" in criteria.tau2.reward_basis:
        severity, advice = "suspect", "only a judge model can tell it from a right one"
    also = f", and so is one that does nothing but {' or '.join(paid[1:])}" if paid[1:] else ""
    reason = f"an agent that does nothing is rewarded{also}: {state}; {advice}"
    return _issue(walk, "pays_for_nothing", severity, reason, paid=paid, unchanged=not walk.changes)


def _for_less(walk: Walk, reads: Sequence[ToolCall], hand_over: Sequence[ToolCall]) -> Iterator[Issue]:
    """Agents that do something, but not what the user asked for."""
    domain, told = walk.domain, list(walk.task.criteria.communicate)
    wants_change = bool(walk.writes)
    if wants_change or not hand_over:
        for tool in domain.tools:
            if domain.is_transfer(tool.name) and graded(walk, [_any_call(walk, tool.name)]).passed:
                reason = f"an agent that only calls {tool.name} is rewarded; grade what the reference does besides"
                yield _issue(walk, "pays_for_transfer", "broken", reason, tool=tool.name)
                break
    if reads and graded(walk, reads).passed:
        severity: Severity = "broken" if wants_change or hand_over or told else "suspect"
        reason = "an agent that makes the reference's reads and says nothing is rewarded; grade what the user gets from it"
        yield _issue(walk, "pays_for_reading", severity, reason)
    if wants_change and told and graded(walk, (), told).passed:
        reason = f"an agent that changes nothing and says {', '.join(told)} is rewarded; put the database into the reward basis"
        yield _issue(walk, "pays_for_words", "broken", reason)
    if walk.writes and graded(walk, [ToolCall(name=step.call.name) for step in walk.writes], told).passed:
        reason = "an agent that calls the writes without any argument is rewarded; put the database into the reward basis"
        yield _issue(walk, "pays_for_empty_calls", "broken", reason)
    if hand_over:
        without = [step.call for step in walk.steps if step.crash is None and not _is_transfer(walk, step.call)]
        if graded(walk, without, told).passed:
            reason = f"an agent that does not hand over to a person ({hand_over[0].name}) is rewarded; put transfer into the reward basis"
            yield _issue(walk, "transfer_not_graded", "suspect", reason)


def _any_call(walk: Walk, name: str) -> ToolCall:
    """A hand-over with some text for each argument."""
    parameters = walk.domain.tools_by_name[name].schema["function"]["parameters"]
    return ToolCall(name=name, arguments=dict.fromkeys(parameters["required"], "The customer needs help."))


def _basis(walk: Walk) -> str:
    criteria = walk.task.criteria
    return ", ".join(criteria.tau2.reward_basis if criteria.tau2 is not None else criteria.basis) or "empty"


def _issue(walk: Walk, kind: str, severity: Severity, reason: str, **evidence: object) -> Issue:
    return Issue(task=walk.task.id, kind=kind, severity=severity, reason=reason, evidence=evidence)
