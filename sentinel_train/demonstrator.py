"""The scripted demonstrator: it carries out a plan in few words, and is sloppy as often as it is told to be.

A model learns a dialogue from it; what it learns of the mistakes (the foils of a proposal: a wrong variant, another payment
method, a forgotten write) is what failures are then found in, and what reinforcement learning takes away again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from random import Random

from sentinel_env import AgentView, Domain, Foil, Message, TaskProposal, ToolCall, Wish
from sentinel_env.agents import TRANSFERRED, propose
from sentinel_env.understanding import IDENTITY

ASK_IDENTITY = "Can you verify who you are?"
ASK = {"payment": "Which payment method?", "reason": "What is the reason?", "new_item": "Which variant?", "address": "What is the address?"}
CONFIRM = "Shall I go ahead?"
DONE = "Done."
REFUSE = "Sorry, I cannot do that."
MORE = "Anything else?"
_PROPOSAL = "To confirm:"
_YES = re.compile(r"\byes\b", re.IGNORECASE)


class Demonstrator:
    """An agent that plays one script; its episode must be driven by the user that the script was written for."""

    name = "demonstrator"

    def __init__(self, script: Sequence[Message], *, greeted: bool = True, mistake: Foil | None = None) -> None:
        """Hold the messages to say, in order; `greeted` when the episode begins with a greeting, `mistake` where the script has one."""
        self._script = script
        self._greeted = greeted
        self.mistake = mistake
        self.overruled = False
        """Whether it went on without the yes that it had asked for: the user wants something else than the script."""

    def act(self, view: AgentView, /) -> Message:
        """The next message; after the last one, the question whether there is more to do."""
        at = sum(message.role == "assistant" for message in view.messages) - self._greeted
        if 0 < at <= len(self._script) and self._script[at - 1].content.startswith(_PROPOSAL):
            self.overruled |= _YES.search(view.messages[-1].content) is None
        return self._script[at] if at < len(self._script) else _say(MORE)


def demonstrator(domain: Domain, proposal: TaskProposal, random: Random, *, sloppy: float, careful: bool = False) -> Demonstrator:
    """A demonstrator of a proposal's task.

    Args:
        domain: The world.
        proposal: The task with its mistakes.
        random: Which mistake, if any.
        sloppy: The probability of one of the mistakes that the request tempts to.
        careful: Whether it says what it is about to do when it asks for a go-ahead, unless that is a mistake, and looks nothing up for
            a request before those ahead of it are answered. Otherwise it is as brief as a model of a million parameters needs it.
    """
    tempting = [foil for foil in proposal.foils if not foil.mutant]
    foil = random.choice(tempting) if tempting and random.random() < sloppy else None
    script = _Script(domain, proposal, foil, careful=careful)
    return Demonstrator(list(script.messages()), greeted=domain.greeting is not None, mistake=foil)


class _Script:
    """The messages that carry out a plan, made from the first to the last."""

    def __init__(self, domain: Domain, proposal: TaskProposal, foil: Foil | None, *, careful: bool) -> None:
        actions = proposal.draft.criteria.actions
        self.domain = domain
        self.scenario = proposal.draft.scenario
        self.wishes = list(self.scenario.wishes)
        """Those that are open, in the order in which they are raised."""
        self.silent = foil is not None and foil.silent
        self.careful = careful
        self.steps = list(self._edited(actions, foil) if careful else _aligned(actions, foil.plan(actions) if foil else actions))
        answers = [answer for wish in self.wishes if wish.call is None for answer in wish.answers]
        self.telling: list[str] = []
        """What has to be told with a write: all but the answers to questions."""
        for text in () if self.silent else proposal.draft.criteria.communicate:
            if text in answers:
                answers.remove(text)
            else:
                self.telling.append(text)

    def _edited(self, reference: Sequence[ToolCall], foil: Foil | None) -> Iterator[tuple[ToolCall | None, ToolCall | None]]:
        """(what should be called, what is called), by where the mistake is; what it adds to a hand-over is done in place of that."""
        foil = foil or Foil(label="none")
        instead = bool(foil.calls) and foil.at > 0 and self.domain.is_transfer(reference[foil.at - 1].name)
        start, end = foil.at - instead, foil.at + foil.drop
        yield from ((call, call) for call in reference[:start])
        yield from zip_longest((call for call in reference[start:end] if not self.domain.is_transfer(call.name)), foil.calls)
        yield from ((call, call) for call in reference[end:])

    def messages(self) -> Iterator[Message]:
        yield from self._identify()
        for at, (wanted, call) in enumerate(self.steps):
            if call is not None and self.domain.is_transfer(call.name):
                if any(wish.transfer for wish in self.wishes):  # otherwise the rest is dropped
                    yield from self._answer(wish for wish in self.wishes if not wish.transfer)
                yield Message(role="assistant", tool_calls=(call,))
                yield _say(TRANSFERRED)
                return
            if self._writes(wanted or call):
                yield from self._write(wanted, call, last=not any(self._writes(each or other) for each, other in self.steps[at + 1 :]))
            elif call is not None:
                while self.careful and self._is_due(at):
                    yield from self._answer([self.wishes.pop(0)])
                yield Message(role="assistant", tool_calls=(call,))
        yield from self._answer(self.wishes)
        if self.telling:
            yield self._report("Here is what I found.")

    def _identify(self) -> Iterator[Message]:
        facts = [fact.slot for fact in self.scenario.facts]
        asked = facts or list(self.scenario.known)
        if any(slot in IDENTITY for slot in facts):
            yield _say(ASK_IDENTITY)
        elif asked:
            yield _say(f"May I have your {' and '.join(asked)}, please?")

    def _write(self, wanted: ToolCall | None, call: ToolCall | None, *, last: bool) -> Iterator[Message]:
        """What leads to a write, the write, and the report; `wanted` where the reference has one there."""
        while wanted is not None and self.wishes and self.wishes[0].call is None:
            yield from self._answer([self.wishes.pop(0)])
        if wanted is not None:
            wish = self._meant(wanted)
            for slot in self._unsaid(wish):
                yield _say(ASK[slot])
            yield from self._confirm(wish, wanted, call)
        refused = self.wishes.pop(0) if wanted is None and self.wishes else None  # a mistake: it is done
        if call is not None:
            yield Message(role="assistant", tool_calls=(call,))
        if self.scenario.wishes or last:  # who only has a goal in prose takes the first report for the end
            yield self._report(DONE) if not any(wish.call for wish in self.wishes) else _say(f"{DONE} {MORE}")
        if self.careful and refused is not None and refused.answers:
            yield _say(MORE)  # who asked something insists once

    def _meant(self, wanted: ToolCall) -> Wish:
        """The open wish that a write of the reference fulfils, which is settled by this."""
        at = next((at for at, wish in enumerate(self.wishes) if wish.call == wanted), 0)
        return self.wishes.pop(at) if self.wishes else Wish(text="")

    def _confirm(self, wish: Wish, wanted: ToolCall, call: ToolCall | None) -> Iterator[Message]:
        """The question for a go-ahead, which brings a slip of the customer to light; a mistake is not said beforehand."""
        slips, right = wish.slip is not None, call == wanted
        if right if slips else not (right and self.careful):
            yield _say(CONFIRM)
        if right and (slips or self.careful):
            yield _say(f"{_PROPOSAL} {propose(wanted)}. {CONFIRM}")

    def _answer(self, wishes: Sequence[Wish] | Iterator[Wish]) -> Iterator[Message]:
        """What there is to say to wishes without a write: the answer to a question, or no."""
        for wish in wishes:
            answered = wish.answers and not self.silent
            yield _say(" ".join([*(f"That is {answer}." for answer in wish.answers), MORE]) if answered else f"{REFUSE} {MORE}")
            if self.careful and wish.answers and not answered:
                yield _say(f"{REFUSE} {MORE}")  # who asked something insists once

    def _report(self, opening: str) -> Message:
        amounts, self.telling = self.telling, []
        return _say(" ".join([opening, *(f"That is {amount}." for amount in amounts), MORE]))

    def _is_due(self, at: int) -> bool:
        """Whether the first open wish only wants an answer, and the look-up of this step is for a later one."""
        if not self.wishes or self.wishes[0].call is not None:
            return False
        first, *later = self.wishes
        ahead = [call for _, call in self.steps[at:] if call is not None and not self._writes(call)]
        return any(_is_about(wish, ahead[0]) for wish in later) and not any(_is_about(first, call) for call in ahead)

    def _unsaid(self, wish: Wish) -> list[str]:
        """The slots that the customer has not told unasked."""
        said = " ".join(each.text for each in self.scenario.wishes)
        return [fact.slot for fact in wish.facts if fact.slot in ASK and fact.text not in said]

    def _writes(self, call: ToolCall | None) -> bool:
        tool = self.domain.tools_by_name.get(call.name) if call is not None else None
        return tool is not None and tool.writes


def _aligned(reference: Sequence[ToolCall], plan: Sequence[ToolCall]) -> Iterator[tuple[ToolCall | None, ToolCall | None]]:
    """The same from the calls alone, as the shipped model was taught it: a mistake among several requests blurs those after it."""
    calls = list(plan)
    if len(calls) < len(reference):
        at = next((at for at, (one, other) in enumerate(zip(reference, calls, strict=False)) if one != other), len(calls))
        calls[at:at] = [None] * (len(reference) - len(calls))  # type: ignore[list-item]
    for at in range(len(calls)):
        yield (reference[at] if at < len(reference) else None), calls[at]


def _is_about(wish: Wish, call: ToolCall) -> bool:
    """Whether a call names something that the wish does, in its words or among its facts."""
    named = [fact.value for fact in wish.facts if isinstance(fact.value, str)]
    return any(value in named or value in wish.text for value in call.arguments.values() if isinstance(value, str) and value)


def _say(text: str) -> Message:
    return Message(role="assistant", content=text)
