"""What a scripted customer says next: its wishes against what the agent asks, proposes and reports.

A `Talk` is made anew for each reply and hears the agent's messages in order; it says what to say as parts, and `users` words them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .episode import OUT_OF_SCOPE, STOP, TRANSFER, UserView
from .judgement import judge, wishes_meant
from .tasks import Fact, Scenario, Wish
from .understanding import IDENTITY, Understood

_NOUNS = {"email": "my e-mail address", "name": "my name", "zip": "my zip code", "user": "my user id", "identity": "that"}
_MARKS = frozenset({"identity", "confirm", "choice", "transfer_offer", "anything_else"})
_NOT_OF_A_WISH = _MARKS.union(IDENTITY)
_ORDER = {"order": 0, "item": 1, "new_item": 2, "payment": 3, "reason": 4, "address": 5}
_AMOUNT_WANTED = re.compile(r"\b(?:how much|what amount|total|tell me|let me know|price difference)\b", re.IGNORECASE)
_AMOUNT = re.compile(r"[$€£] ?\d|\d\.\d\d\b")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.[\w.]{2,32}")
_ZIP = re.compile(r"\b\d{5}\b")
_NAME = re.compile(r"(?:[Nn]ame is|[Yy]ou are|[Yy]our name:?) ([A-Z][\w'-]+ [A-Z][\w'-]+)")
_LOOPS, _PROPOSAL_LOOPS, _BLANKS = 3, 5, 3

Part = tuple[str, str]
"""A key of `users._WORDINGS`, or "" for plain words, and what fills it."""


class Talk:
    """The conversation so far, as the customer sees it; made anew for each reply."""

    def __init__(self, view: UserView) -> None:
        self.scenario: Scenario = view.scenario
        self.domain = view.domain
        self.prose = not view.scenario.wishes
        """Without structured wishes the goal is one, any proposal is agreed to, and the first thing done or told settles it."""
        self.wishes: tuple[Wish, ...] = view.scenario.wishes or (Wish(text=_first_person(view.scenario.goal)),)
        self.raised = len(self.wishes) if view.scenario.reveal == "together" else 1
        self.settled: set[int] = set()
        self.confirmed: set[int] = set()
        self._open = list(range(len(self.wishes)))
        """Unsettled wishes, the one being talked about first: raised before unraised, unconfirmed before confirmed."""
        self.insisted: set[int] = set()
        self.amount_asked: set[int] = set()
        self.amount_heard = False
        self.blanks = 0
        self.repeats = 0
        self.last_asks: frozenset[str] = frozenset()
        self.texts: dict[str, int] = {}
        self.identified: set[str] = set()

    def open(self) -> list[Part]:
        """The first message: the first wish, or all of them."""
        if self.prose:
            return [("", self.wishes[0].text)]
        return [self._wish_part("open" if at == 0 else "also", wish) for at, wish in enumerate(self.wishes[: self.raised])]

    def _note(self, *, settled: Iterable[int] = (), confirmed: Iterable[int] = (), raised: int = 0) -> None:
        """Take note of where the wishes stand, the only place that does; `raised` of them have been raised by now."""
        self.settled.update(settled)
        self.confirmed.update(confirmed)
        self.raised = max(self.raised, raised)
        left = (at for at in range(len(self.wishes)) if at not in self.settled)
        self._open = sorted(left, key=lambda at: (at >= self.raised, at in self.confirmed, at))

    def answer(self, heard: Understood) -> list[Part]:
        """Take one message of the agent and answer it; the parts end with a stop token when the conversation is over."""
        asks, tells = heard.asks, heard.tells
        if "transfer" in tells:
            return [("transferred", ""), ("", TRANSFER)]
        before = len(self.settled)
        self.amount_heard = self.amount_heard or _AMOUNT.search(heard.text) is not None
        parts = self._settle(heard)
        if not self._open:
            return [("end", ""), ("", STOP)]
        if ending := self._loops(heard, moved=len(self.settled) > before):
            return ending
        detail_parts = self._details(heard)
        if "confirm" in asks:
            parts += self._decide(heard)
            parts += detail_parts
        elif detail_parts:
            parts += detail_parts
        elif len(self.settled) > before:
            pass
        elif "choice" in asks:
            parts += self._choose(heard)
        elif not asks and not tells:
            unclear = any(segment.asks for segment in heard.segments)
            parts += [("unsure", "")] if unclear and not parts else [] if parts else [("fine", "")]
        elif not parts:
            parts.append(self._wish_part("want", self.wishes[self._open[0]]))
        if len(self.settled) > before:
            parts += self._raise_next()
        if not self._open and not any(key.startswith("yes") for key, _ in parts):
            parts = [part for part in parts if part[0] != "thanks"] + [("end", ""), ("", STOP)]
        return parts

    def _raise_next(self) -> list[Part]:
        """The next wish in words, unless one is already being worked on."""
        waiting = [at for at in self._open if at not in self.confirmed]
        if not waiting:
            return []
        self._note(raised=waiting[0] + 1)
        return [self._wish_part("also", self.wishes[waiting[0]])]

    def _wish_part(self, key: str, wish: Wish) -> Part:
        text = wish.text.strip()
        is_phrase = text[:1].islower() and not text.endswith((".", "?", "!"))
        return (key, text) if is_phrase else ("", text)

    def _settle(self, heard: Understood) -> list[Part]:
        """Take note of what the message says is done, refused or told."""
        asks, tells = heard.asks, heard.tells
        now = self._open[0] if self._open else None
        closing = asks <= {"anything_else", "choice", "transfer_offer"}
        parts: list[Part] = []
        if now is None:
            return parts
        if self.prose:
            told = tells & {"done", "refusal", "inform"} or self.confirmed
            if (told and asks <= {"anything_else"}) or ("anything_else" in asks and closing and now in self.insisted):
                self._note(settled=[now])
            elif "anything_else" in asks:
                self.insisted.add(now)
            return parts
        if "done" in tells or ("anything_else" in asks and closing and "choice" not in asks):
            finished = self.confirmed - self.settled
            if not finished and "done" in tells and closing and self.wishes[now].call is not None:
                callable_ = [at for at in self._open if self.wishes[at].call is not None]
                finished = set(wishes_meant(heard, self.scenario, callable_))
            for at in sorted(finished):
                if _AMOUNT_WANTED.search(self.wishes[at].text) and not self.amount_heard and at not in self.amount_asked:
                    self.amount_asked.add(at)
                    parts.append(("amount", ""))
                else:
                    self._note(settled=[at])
            if finished:
                return parts or [("thanks", "")]
        wish = self.wishes[now]
        if wish.call is None and closing and "transfer_offer" not in asks and now not in self.confirmed:
            answered = bool(tells) or "anything_else" in asks or any(letter.isdigit() for letter in heard.text)
            if answered and ("choice" not in asks or "refusal" in tells):
                self._note(settled=[now])
                refused = "refusal" in tells and "anything_else" not in asks
                return [("leave", "")] if "choice" in asks else [("accept", "")] if refused else [("thanks", "")]
        elif wish.call is not None and "refusal" in tells and asks <= {"anything_else"}:
            if now in self.insisted:
                self._note(settled=[now])
                return [("accept", "")]
            self.insisted.add(now)
            return [self._wish_part("insist", wish)]
        return parts

    def _loops(self, heard: Understood, *, moved: bool) -> list[Part]:
        """The end, when the same question or nothing understandable comes again and again."""
        if moved:
            self.texts.clear()
            self.repeats = 0
        times = self.texts[heard.text] = self.texts.get(heard.text, 0) + 1
        key = heard.asks - {"anything_else"}
        self.blanks = 0 if moved or heard.asks or heard.tells else self.blanks + 1
        self.repeats = self.repeats + 1 if key and key == self.last_asks else 1
        self.last_asks = key
        limit = _PROPOSAL_LOOPS if "confirm" in key else _LOOPS
        if self.repeats < limit and times < _LOOPS and self.blanks < _BLANKS:
            return []
        lacking = [slot for slot in key - _MARKS if not self._facts(slot, self._focus(heard))]
        return [("out", ""), ("", OUT_OF_SCOPE)] if lacking else [("give_up", ""), ("", STOP)]

    def _focus(self, heard: Understood) -> Wish:
        """The wish that the message is about: of several raised ones, the one whose words it repeats most."""
        raised = [at for at in self._open if at < self.raised] or self._open or [0]
        if len(raised) == 1:
            return self.wishes[raised[0]]
        overlap = {at: sum(word in heard.text for word in set(_content_words(self.wishes[at].text))) for at in raised}
        return self.wishes[max(raised, key=lambda at: (overlap[at], -raised.index(at)))]

    def _facts(self, slot: str, wish: Wish) -> list[Fact]:
        """What the customer knows of a slot: for this wish, else in general, else for another raised wish."""
        for facts in (wish.facts, self.scenario.facts):
            if found := [fact for fact in facts if fact.slot == slot]:
                return found
        for at in self._open:
            if at < self.raised and (found := [fact for fact in self.wishes[at].facts if fact.slot == slot]):
                return found
        return self._from_known(slot)

    def _from_known(self, slot: str) -> list[Fact]:
        """What `Scenario.known` says under a name that holds the slot's, or, of who the customer is, in its prose."""
        name = slot.replace("_", " ")
        for key, value in self.scenario.known.items():
            plain = key.lower().replace("e-mail", "email").replace("_", " ")
            if name in plain and "unknown" not in plain:
                return [Fact(slot=slot, text=value)]
        pattern = {"email": _EMAIL, "zip": _ZIP, "name": _NAME}.get(slot)
        for value in self.scenario.known.values() if pattern else ():
            if found := pattern.search(value):  # type: ignore[union-attr]
                return [Fact(slot=slot, text=found.group(found.re.groups))]
        return []

    def _details(self, heard: Understood) -> list[Part]:
        """Answers to everything that is asked for."""
        known, unknown = self._identity(heard)
        slots = sorted(heard.asks - _NOT_OF_A_WISH, key=lambda slot: (_ORDER.get(slot, len(_ORDER)), slot))
        wish = self._focus(heard)
        for slot in slots:
            facts = self._facts(slot, wish)
            known += [fact.text for fact in facts if fact.text not in known]
            if not facts:
                unknown.append(self._noun(slot))
        asking = "\n".join(segment.text for segment in heard.segments if segment.asks) if self.scenario.known else ""
        for key, value in self.scenario.known.items() if asking else ():
            words = _content_words(key)
            if words and value not in known and all(word in asking for word in words):
                known.append(value)
        parts: list[Part] = []
        if known:
            short = len(known) == 1 and not known[0].startswith("I ")
            parts.append(("say" if short else "list", ", ".join(known)))
            unknown = [] if "my e-mail address" not in unknown and not slots else unknown
        if unknown:
            forgotten = "identity" in heard.asks and not slots
            parts.append(("forgotten" if forgotten else "unknown", " or ".join(dict.fromkeys(unknown))))
        return parts

    def _noun(self, slot: str) -> str:
        return self.domain.phrases.get(f"say:{slot}", (_NOUNS.get(slot, f"the {slot.replace('_', ' ')}"),))[0]

    def _identity(self, heard: Understood) -> tuple[list[str], list[str]]:
        """What the customer says of who it is, and what of it that was asked it does not know."""
        if "identity" not in heard.asks:
            return [], []
        asked = [slot for slot in IDENTITY if slot in heard.asks]
        if not asked:
            asked = ["email"] if self._facts("email", self.wishes[0]) else ["name", "zip"]
        have = {slot: facts[0].text for slot in asked if (facts := self._facts(slot, self.wishes[0]))}
        if "email" in asked and "email" in have and not ("email" in self.identified and {"name", "zip"} & set(asked)):
            self.identified.add("email")
            return [have["email"]], []
        rest = [slot for slot in asked if slot != "email" or "email" not in have]
        return [have[slot] for slot in rest if slot in have], [self._noun(slot) for slot in rest if slot not in have]

    def _decide(self, heard: Understood) -> list[Part]:
        """Yes or no to a proposal."""
        now = self._open[0]
        if self.prose:
            self._note(confirmed=[now])
            return [("yes", "")]
        callable_ = [at for at in self._open if self.wishes[at].call is not None]
        if self.wishes[now].call is None:
            told = judge(heard, self.scenario, callable_, self.domain) if callable_ else None
            if told is None or told.correction or told.condition:
                self._note(settled=[now])
                return [("leave", "")]
        judgement = judge(heard, self.scenario, callable_, self.domain)
        if judgement.correction is not None:
            wish = next((self.wishes[at] for at in judgement.wishes if self.wishes[at].text == judgement.correction), None)
            return [("no_want", wish.text) if wish and self._wish_part("", wish)[1] == wish.text else ("no", judgement.correction)]
        self._note(confirmed=judgement.wishes, raised=max(judgement.wishes) + 1)
        return [("yes_if", judgement.condition) if judgement.condition else ("yes", "")]

    def _choose(self, heard: Understood) -> list[Part]:
        now = self._open[0]
        wish = self.wishes[now]
        if "transfer_offer" in heard.asks:
            if self.prose or not any(self.wishes[at].call is not None for at in self._open):
                return [("do_transfer", "")]
            return [("no_transfer", ""), self._wish_part("want", wish)]
        if wish.call is None and not self.prose and heard.tells:
            self._note(settled=[now])
            return [("leave", "")]
        return [self._wish_part("want", wish)]


_COMMON = frozenset(
    ("the", "a", "an", "my", "your", "of", "in", "for", "to", "and", "or", "is", "it", "number", "id", "with", "from", "on", "i")
)


@lru_cache(maxsize=1024)
def _content_words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.findall(r"[^\W_]+", text.lower()) if word not in _COMMON)


_PERSON = {"you are": "I am", "you're": "I'm", "you have": "I have", "yourself": "myself", "your": "my", "you": "I"}
_SECOND_PERSON = re.compile(r"\b(?:you are|you're|you have|yourself|your|you)\b", re.IGNORECASE)


def _first_person(goal: str) -> str:
    """A goal written as "You want to return your lamp", as the customer says it."""
    if not re.match(r"\s*(?:You|Your)\b", goal):
        return goal
    spoken = _SECOND_PERSON.sub(lambda found: _PERSON[found.group().lower()], goal)
    return spoken[:1].upper() + spoken[1:]
