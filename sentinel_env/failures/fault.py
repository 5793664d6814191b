"""Layer 4, whose fault: the agent's, the user's, the task's or the environment's, by the first rule that applies.

Only the agent's failures are worth training on, and about a third of recorded failures are not the agent's. The rules ask in this order:
did infrastructure fail; can the reference be carried out at all; did the user leave its scenario before the decisive step; is there a
positive sign that the agent went wrong by itself; without one it is `undetermined`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sentinel_env.messages import ToolCall

from .conduct import id_values
from .dialogue import Dialogue
from .findings import Fault, Finding
from .requests import (
    asked_for_less,
    asked_for_more,
    is_voiced,
    never_named,
    never_voiced,
    stopped_in_a_yes,
    wanted_a_person,
    withdrew,
)
from .testimony import Testimony, agreed_to_another, asked_for_another, contradicted_facts, stated_otherwise

_USUAL_STEPS = 30
"""The limit of assistant turns that tau-bench and our own episodes have by default."""
_WANTS_TO_KNOW = re.compile(r"\?|\bhow (?:much|many)|\btotal|\btell me|\blet me know|\bconfirm|\bknow\b")


def fault_of(
    dialogue: Dialogue,
    causes: Sequence[Finding],
    conduct: Sequence[Finding],
    decisive: int,
    *,
    is_final: bool,
    refused: Sequence[ToolCall] = (),
) -> Fault:
    """Decide.

    Args:
        dialogue: The trajectory.
        causes: Its causes, the primary one first.
        conduct: What else was wrong on the way.
        decisive: The message that decided it, as far as the agent's side says.
        is_final: Whether nothing could have saved the run after that message; what the user says later is no excuse then.
        refused: The writes of the reference that tools refuse.
    """
    trajectory = dialogue.trajectory
    if trajectory.error is not None:
        return Fault(side="environment", reason=f"infrastructure failed: {trajectory.error}")
    if _is_cut_off(dialogue):
        return Fault(side="environment", reason="the record breaks off with the user waiting for an answer", step=dialogue.end - 1)
    if refused and (not causes or _concerns(causes[0], refused)):
        return Fault(side="task", reason=f"tools refuse what the reference does: {refused[0].name} {refused[0].arguments}")
    if not causes:
        return Fault(side="undetermined", reason="no cause was found")
    if trajectory.user.startswith("scripted"):
        return Fault(side="agent", reason="the user is scripted and keeps to its scenario")
    for found in _against_the_user(dialogue, causes, conduct, decisive):
        if is_final and found[0] > decisive:
            continue
        return Fault(side="user", reason=f"the user {found[1]}", step=found[0])
    if (reason := _against_the_agent(dialogue, causes[0], conduct)) is not None:
        return Fault(side="agent", reason=reason, step=decisive)
    return Fault(side="undetermined", reason="nothing that was said decides it")


def _concerns(finding: Finding, refused: Sequence[ToolCall]) -> bool:
    """Whether the cause is about something that a refused write of the reference is about: they share an identifier."""
    calls = [call for call in (finding.executed, finding.wanted) if call is not None]
    values = {value for call in calls for _, value in id_values(call)}
    return any(value in values for call in refused for _, value in id_values(call))


def _is_cut_off(dialogue: Dialogue) -> bool:
    """A recorded run that no limit explains: it is not ended, the user spoke last, and the agent had turns left."""
    trajectory = dialogue.trajectory
    if trajectory.terminated or trajectory.recorded_reward is None or not dialogue.messages:
        return False
    turns = sum(message.role == "assistant" for message in dialogue.messages)
    return dialogue.messages[-1].role == "user" and turns < _USUAL_STEPS


def _against_the_user(dialogue: Dialogue, causes: Sequence[Finding], conduct: Sequence[Finding], decisive: int) -> Iterator[Testimony]:
    before = min(decisive, dialogue.end)
    for at, message in enumerate(dialogue.messages[:before]):
        if message.role == "user" and message.problem:  # as the guards of a model that plays the user saw it
            yield at, message.problem.removeprefix("the user ")
    unasked = {each.evidence.step for each in conduct if each.label == "write_without_confirmation"}
    structured = bool(dialogue.trajectory.task.scenario.wishes or dialogue.trajectory.task.scenario.facts)
    # a hand-over or a thing unsaid is not explained by what was said about a write; writes of one talk explain each other
    for finding in causes if causes[0].executed or causes[0].wanted else causes[:1]:
        rules: list[Callable[[], Testimony | None]] = [
            partial(stopped_in_a_yes, dialogue, finding),
            partial(wanted_a_person, dialogue, finding),
            partial(stated_otherwise, dialogue, finding, before),
            partial(asked_for_another, dialogue, finding, before),
            partial(agreed_to_another, dialogue, finding),
        ]
        if finding.evidence.step not in unasked:  # who is not asked cannot be blamed for what it had not said yet
            rules += [partial(asked_for_less, dialogue, finding, before), partial(never_named, dialogue, finding, before)]
        rules += [
            partial(asked_for_more, dialogue, finding, before),
            partial(withdrew, dialogue, finding, before),
            partial(never_voiced, dialogue, finding),
        ]
        yield from (found for rule in rules if (found := rule()) is not None)
    if structured and (contradiction := contradicted_facts(dialogue, before)) is not None:
        yield contradiction
    if [finding.label for finding in causes] == ["unfinished"] and _only_talk_is_left(dialogue):
        yield dialogue.end - 1, "never ends the conversation, although all is done"


def _only_talk_is_left(dialogue: Dialogue) -> bool:
    """The state is right, all is said, and the last turns are words: the user could have stopped."""
    return bool(dialogue.spoken) and bool(dialogue.user) and max(at for at, _ in dialogue.spoken) >= dialogue.end - 2


def _against_the_agent(dialogue: Dialogue, primary: Finding, conduct: Sequence[Finding]) -> str | None:
    step = primary.evidence.step
    match primary.label:
        case "wrong_argument" | "wrong_target_record" | "wrong_tool" | "extra_write":
            unasked = any(each.label == "write_without_confirmation" and each.evidence.step == step for each in conduct)
            return "the agent wrote it without having been told to" if unasked else "the agent chose what it wrote"
        case "order_dependency":
            return "the agent wrote in an order in which the rest could not follow"
        case "unneeded_transfer" | "missing_transfer":
            return "the agent decides whether to hand over"
        case "missing_communicate":
            if primary.sublabel == "other_number_said":
                return "the agent said another number"
            asked = any(_WANTS_TO_KNOW.search(text) for _, text in dialogue.user)
            return "the user asked, and the agent did not say it" if asked else None
        case "missing_write":
            if primary.sublabel in ("claimed_done", "attempt_rejected"):
                return "the agent said that it was done" if primary.sublabel == "claimed_done" else "what the agent tried was refused"
            voiced = primary.wanted is not None and is_voiced(dialogue, primary.wanted)
            return "the user asked for it, and the agent did not do it" if voiced and dialogue.user else None
        case "missing_action":
            return "the agent did not make the call"
        case "unfinished":
            return "the agent made too many errors" if primary.sublabel == "too_many_errors" else None
    return None
