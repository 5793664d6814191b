"""The scripted demonstrator: it carries out a plan in few words, and is sloppy as often as it is told to be.

A small model learns a dialogue from it; what it learns of the mistakes (the foils of a proposal: a wrong variant, another payment
method, a forgotten write) is what failures are then found in, and what reinforcement learning takes away again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from sentinel_env import AgentView, Domain, Message, TaskProposal, ToolCall, Wish

ASK_IDENTITY = "Can you verify who you are?"
ASK = {"payment": "Which payment method?", "reason": "What is the reason?", "new_item": "Which variant?", "address": "What is the address?"}
CONFIRM = "Shall I go ahead?"
DONE = "Done."
REFUSE = "Sorry, I cannot do that."
MORE = "Anything else?"


class Demonstrator:
    """An agent that plays one script; its episode must be driven by the user that the script was written for."""

    name = "demonstrator"

    def __init__(self, script: Sequence[Message], *, greeted: bool = True) -> None:
        """Hold the messages to say, in order; `greeted` when the episode begins with a greeting."""
        self._script = script
        self._greeted = greeted

    def act(self, view: AgentView, /) -> Message:
        """The next message; after the last one, the question whether there is more to do."""
        at = sum(message.role == "assistant" for message in view.messages) - self._greeted
        return self._script[at] if at < len(self._script) else _say(MORE)


def demonstrator(domain: Domain, proposal: TaskProposal, random: Random, *, sloppy: float) -> Demonstrator:
    """A demonstrator of a proposal's task, who makes one of the proposal's mistakes with the probability `sloppy`."""
    tempting = [foil for foil in proposal.foils if not foil.mutant]
    foil = random.choice(tempting) if tempting and random.random() < sloppy else None
    plan = foil.plan(proposal.draft.criteria.actions) if foil else proposal.draft.criteria.actions
    silent = foil is not None and foil.silent
    return Demonstrator(list(_script(domain, proposal, plan, silent=silent)), greeted=domain.greeting is not None)


def _script(domain: Domain, proposal: TaskProposal, plan: Sequence[ToolCall], *, silent: bool) -> Iterator[Message]:
    task = proposal.draft
    wishes = list(task.scenario.wishes)
    telling = [] if silent else list(task.criteria.communicate)
    yield _say(ASK_IDENTITY)
    for wanted, call in _aligned(task.criteria.actions, plan):
        tool = domain.tools_by_name.get((wanted or call).name)  # type: ignore[union-attr]
        if tool is None or not tool.writes:
            if call is not None:
                yield Message(role="assistant", tool_calls=(call,))
            continue
        while wanted is not None and wishes and wishes[0].call is None:
            wishes.pop(0)
            yield _say(f"{REFUSE} {MORE}")
        if wanted is not None:
            wish = wishes.pop(0) if wishes else Wish(text="")
            for slot in _unsaid(wish, proposal):
                yield _say(ASK[slot])
            yield _say(CONFIRM)
        elif wishes:
            wishes.pop(0)  # a mistake: what should be refused is done
        if call is not None:
            yield Message(role="assistant", tool_calls=(call,))
        amounts = telling if not any(wish.call for wish in wishes) else []
        telling = [] if amounts else telling
        yield _say(" ".join([DONE, *(f"That is {amount}." for amount in amounts), MORE]))
    for _ in wishes:
        yield _say(f"{REFUSE} {MORE}")


def _aligned(reference: Sequence[ToolCall], plan: Sequence[ToolCall]) -> Iterator[tuple[ToolCall | None, ToolCall | None]]:
    """(what should be called, what is called): a mistake replaces one call, leaves one out, or adds some at the end."""
    calls = list(plan)
    if len(calls) < len(reference):
        at = next((at for at, (one, other) in enumerate(zip(reference, calls, strict=False)) if one != other), len(calls))
        calls[at:at] = [None] * (len(reference) - len(calls))  # type: ignore[list-item]
    for at in range(len(calls)):
        yield (reference[at] if at < len(reference) else None), calls[at]


def _unsaid(wish: Wish, proposal: TaskProposal) -> list[str]:
    """The slots that the customer has not told unasked."""
    said = " ".join(each.text for each in proposal.draft.scenario.wishes)
    return [fact.slot for fact in wish.facts if fact.slot in ASK and fact.text not in said]


def _say(text: str) -> Message:
    return Message(role="assistant", content=text)
