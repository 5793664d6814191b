"""Users: a scripted customer that needs no model, and a human at the terminal.

    drive(Episode(domain, task), agent, ScriptedUser())

`ScriptedUser` keeps no state: each reply folds over the visible messages again, from the scenario and the seed. That is why it can be
shared by a thousand episodes, cross processes, and be replayed. Where an episode has a user of its own, `RememberingUser` says the same
and hears each message once. What an agent's text means is decided by `understanding`, whether a
proposal is right by `judgement`, what to say by `talk`; this module words it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from .details import Part
from .episode import STOP, UserView
from .messages import Message
from .talk import Talk
from .understanding import read

_WORDINGS: dict[str, tuple[str, ...]] = {
    "open": ("Hi, I'd like to {}.", "Hello, I want to {}.", "Hi! Could you {}?", "I'd like to {}, please."),
    "also": ("I'd also like to {}.", "Next, I want to {}.", "One more thing: please {}."),
    "want": ("I'd like to {}.", "I want to {}.", "What I want is to {}."),
    "insist": ("Are you sure? I'd really like to {}.", "Please check again. I want to {}."),
    "say": ("It's {}.", "{}.", "Sure: {}."),
    "list": ("{}.", "Sure: {}."),
    "unknown": ("I don't know {}.", "Sorry, I don't know {}.", "I can't tell you {}, sorry."),
    "forgotten": ("I don't remember {}.", "Sorry, I don't remember {}.", "I don't know {}."),
    "yes": ("Yes, please go ahead.", "Yes, that's right.", "Yes, please do.", "Yes."),
    "yes_if": ("Yes, if that means {}.", "Yes. To be clear: {}."),
    "no": ("No, that's not right: {}.", "No, please change that: {}.", "No, not like that: {}."),
    "no_want": ("No, that's not what I want. I'd like to {}.", "No. I want to {}."),
    "no_other": ("No, that's not what I want.", "No, I want something else."),
    "mistake": ("Sorry, my mistake: {}.", "Oh, I mixed that up: {}."),
    "leave": ("No, thanks. Then leave it as it is.", "No, I don't want that. Please leave everything as it is."),
    "accept": ("OK, I understand.", "All right, then not.", "I see."),
    "thanks": ("Thank you.", "Great, thanks.", "Thanks."),
    "fine": ("OK.", "OK, thanks.", "All right."),
    "no_transfer": ("No transfer, please.", "I'd rather not be transferred."),
    "later": ("First let's see to the rest.", "The rest first, please."),
    "do_transfer": ("Yes, please transfer me.", "OK, please transfer me."),
    "amount": ("How much is that in total?", "What amount is that?"),
    "unsure": ("I'm not sure.", "I don't know that, sorry."),
    "end": ("That's all, thank you.", "No, that's everything. Thanks!", "That's all. Bye."),
    "give_up": ("This is going nowhere. Never mind.", "Let's leave it. Goodbye."),
    "out": ("I can't tell you more than that.", "That is all I know."),
    "transferred": ("OK, thank you.", "Thanks, I'll hold."),
}


@dataclass(frozen=True)
class ScriptedUser:
    """A customer that answers by rules: no model, no state, the same words for the same scenario, messages and seed."""

    name: str = "scripted"

    def reply(self, view: UserView, /) -> Message:
        """The customer's next message; it ends the conversation when all its wishes are settled, or when nothing moves."""
        return RememberingUser(view).reply(view)


class RememberingUser:
    """The `ScriptedUser` of a single episode: it says the same, but remembers what it has heard."""

    name = ScriptedUser.name

    def __init__(self, view: UserView) -> None:
        """Begin an episode; `view` may be any of its views, what was said so far is heard with the first reply."""
        scenario = view.scenario
        self._salt = scenario.goal + "".join([wish.text for wish in scenario.wishes])
        self._talk = Talk(view)
        self._parts = self._talk.open()
        self._opened = False
        self._heard = self._turn = 0

    def reply(self, view: UserView, /) -> Message:
        """The customer's next message; the view's messages must go on from those of the view before."""
        for message in view.messages[self._heard :]:
            if message.role == "user":
                self._opened = True
            elif self._opened and message.role == "assistant":
                self._parts = self._talk.answer(read(message.content, view.domain.phrases))
                self._turn += 1
        self._heard = len(view.messages)
        chance = blake2b(f"{view.seed}\x1f{self._turn}\x1f{self._salt}".encode("utf-8", "replace"), digest_size=16).digest()
        return Message(role="user", content=_render(self._parts, chance))


@dataclass(frozen=True)
class HumanUser:
    """A person: each reply is a line that `ask` returns for the agent's words; the end of input ends the conversation."""

    ask: Callable[[str], str] = input
    name: str = "human"

    def reply(self, view: UserView, /) -> Message:
        """Ask for a line until it is not empty."""
        last = view.messages[-1].content if view.messages else ""
        prompt = f"agent: {last}\nyou: " if last else "you: "
        try:
            while not (line := self.ask(prompt).strip()):
                prompt = "you: "
        except EOFError:
            line = STOP
        return Message(role="user", content=line)


def _render(parts: Sequence[Part], chance: bytes) -> str:
    """The parts in words; one byte chooses the wording of each."""
    said = []
    for at, (key, text) in enumerate(parts):
        wordings = _WORDINGS.get(key, ("{}",))
        said.append(_sentence(wordings[chance[at % 16] % len(wordings)].replace("{}", text)))
    return " ".join(said)


def _sentence(text: str) -> str:
    """With a capital and a single full stop, except around what has to be copied as it is: an e-mail address, an identifier."""
    first, last = text.split(" ", 1)[0], text.rsplit(" ", 1)[-1]
    if first.isalpha() or "'" in first:
        text = text[:1].upper() + text[1:]
    for end in (".", "?", "!"):
        text = text.replace(end + ".", end).replace(end + "?", end)
    return text.removesuffix(".") if "@" in last or "_" in last else text
