"""What a scripted customer says next: its wishes against what the agent asks, proposes and reports.

A `Talk` is made anew for each reply and hears the agent's messages in order; it says what to say as parts, and `users` words them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .answers import could_answer, is_told
from .details import MARKS, Details, Part, content_words
from .episode import OUT_OF_SCOPE, STOP, TRANSFER, UserView
from .judgement import judge, wishes_meant, wishes_named
from .slips import correction, is_corrected, is_put_right, is_taken_up
from .tasks import Scenario, Wish
from .understanding import Understood

_AMOUNT_WANTED = re.compile(r"\b(?:how much|what amount|total|tell me|let me know|price difference)\b", re.IGNORECASE)
_ANNOUNCED = re.compile(r"\b(?:let me|i'll|i will|i am going to|i'm going to|one moment|checking|looking)\b")
_AMOUNT = re.compile(r"[$€£] ?\d|\d\.\d\d\b")
_LOOPS, _PROPOSAL_LOOPS, _BLANKS = 3, 5, 3


class Talk:
    """The conversation so far, as the customer sees it; made anew for each reply."""

    def __init__(self, view: UserView) -> None:
        self.scenario: Scenario = view.scenario
        self.domain = view.domain
        self.prose = not view.scenario.wishes
        """Without structured wishes the goal is one, any proposal is agreed to, and the first thing done or told settles it."""
        self.wishes: tuple[Wish, ...] = view.scenario.wishes or (Wish(text=_first_person(view.scenario.goal)),)
        self.raised = len(self.wishes) if view.scenario.reveal == "together" else 1
        self.slipping = {at for at, wish in enumerate(self.wishes) if wish.slip is not None}
        """Wishes with a mistake that has not been corrected yet."""
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
        self._details = Details(self.scenario, self.wishes, self.domain)

    def open(self) -> list[Part]:
        """The first message: the first wish, or all of them."""
        before, after = ([("", text)] if text else [] for text in (self.scenario.opening, self.scenario.closing))
        if self.prose:
            return [*before, ("", self.wishes[0].text), *after]
        return [*before, *(self._wish_part("open" if at == 0 else "also", at) for at in range(self.raised)), *after]

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
        detail_parts = self._tell(heard)
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
            parts.append(self._again("want", self._open[0], heard))
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
        return [self._wish_part("also", waiting[0])]

    def _wish_part(self, key: str, at: int) -> Part:
        """A wish in words, with its mistake as long as that is not corrected."""
        wish = self.wishes[at]
        text = (wish.slip if wish.slip is not None and at in self.slipping else wish.text).strip()
        is_phrase = text[:1].islower() and not text.endswith((".", "?", "!"))
        return (key, text) if is_phrase else ("", text)

    def _again(self, key: str, at: int, heard: Understood) -> Part:
        """A wish once more; a mistake in it is corrected where the message takes it up."""
        taken_up = at in self.slipping and is_taken_up(heard, self.scenario, at)
        return self._correct("mistake", at) if taken_up else self._wish_part(key, at)

    def _correct(self, key: str, at: int) -> Part:
        """What is right in the place of a mistake, which is not made any more."""
        self.slipping.discard(at)
        right = correction(self.scenario, at)
        return (key, right) if right else self._wish_part("no_want", at)

    def _settle(self, heard: Understood) -> list[Part]:
        """Take note of what the message says is done, refused or told."""
        asks, tells = heard.asks, heard.tells
        now = self._open[0] if self._open else None
        closing = asks <= {"anything_else", "choice", "transfer_offer"}
        parts: list[Part] = []
        if now is None:
            return parts
        if self.prose:
            heard_of = tells & {"done", "refusal", "inform"} or self.confirmed
            if (heard_of and asks <= {"anything_else"}) or ("anything_else" in asks and closing and now in self.insisted):
                self._note(settled=[now])
            elif "anything_else" in asks:
                self.insisted.add(now)
            return parts
        if "done" in tells or ("anything_else" in asks and closing and "choice" not in asks):
            finished = self.confirmed - self.settled
            if not finished and "done" in tells and closing and self.wishes[now].call is not None:
                callable_ = [at for at in self._open if self.wishes[at].call is not None]
                finished = set(wishes_meant(heard, self.scenario, callable_))
            self._note(settled=[at for at in self._raised() if is_told(heard, self.wishes[at])])  # beside a report
            for at in sorted(finished):
                if _AMOUNT_WANTED.search(self.wishes[at].text) and not self.amount_heard and at not in self.amount_asked:
                    self.amount_asked.add(at)
                    parts.append(("amount", ""))
                else:
                    self._note(settled=[at])
            if finished:
                return parts or [("thanks", "")]
        if "refusal" in tells:
            now = self._refused(heard, now)
        wish = self.wishes[now]
        if wish.answers:
            return parts + (self._take_answer(heard, now) if closing and "transfer_offer" not in asks else [])
        if wish.call is None and closing and "transfer_offer" not in asks and now not in self.confirmed:
            told = any(letter.isdigit() for letter in heard.text) and not _ANNOUNCED.search(heard.text)
            answered = bool(tells) or "anything_else" in asks or told
            if answered and wish.transfer and "refusal" not in tells and now not in self.insisted:
                self.insisted.add(now)
                return [self._again("want", now, heard)]
            if answered and ("choice" not in asks or "refusal" in tells):
                self._note(settled=[now])
                refused = "refusal" in tells and "anything_else" not in asks
                return [("leave", "")] if "choice" in asks else [("accept", "")] if refused else [("thanks", "")]
        elif wish.call is not None and "refusal" in tells and asks <= {"anything_else"}:
            if now in self.insisted:
                self._note(settled=[now])
                return [("accept", "")]
            self.insisted.add(now)
            return [self._again("insist", now, heard)]
        return parts

    def _refused(self, heard: Understood, now: int) -> int:
        """The wish that a refusal is about: of several raised ones the one that it names, else the one being talked about."""
        named = wishes_named(heard, self.scenario, self._raised())
        return now if now in named or not named else named[0]

    def _take_answer(self, heard: Understood, at: int) -> list[Part]:
        """Take note of the answer to a question; that there is none is questioned once."""
        if could_answer(heard, self.wishes[at]):
            self._note(settled=[at])
            return [("thanks", "")]
        if "refusal" not in heard.tells and "anything_else" not in heard.asks:
            return []
        if at in self.insisted:
            self._note(settled=[at])
            return [("accept", "")]
        self.insisted.add(at)
        return [self._again("insist", at, heard)]

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
        about = self.wishes[self._focus(heard)]
        lacking = [slot for slot in key - MARKS if not self._details.facts(slot, about, self._raised())]
        return [("out", ""), ("", OUT_OF_SCOPE)] if lacking else [("give_up", ""), ("", STOP)]

    def _raised(self) -> list[int]:
        return [at for at in self._open if at < self.raised]

    def _focus(self, heard: Understood) -> int:
        """The wish that the message is about: of several raised ones, the one whose words it repeats most."""
        raised = self._raised() or self._open or [0]
        if len(raised) == 1:
            return raised[0]
        overlap = {at: sum(word in heard.text for word in set(content_words(self.wishes[at].text))) for at in raised}
        return max(raised, key=lambda at: (overlap[at], -raised.index(at)))

    def _tell(self, heard: Understood) -> list[Part]:
        """Answers to everything that is asked for; what is told is right, and so ends a mistake about it."""
        at = self._focus(heard)
        parts, told = self._details.tell(heard, self.wishes[at], self._raised())
        if at in self.slipping and is_corrected(told, self.scenario, at):
            self.slipping.discard(at)
        return parts

    def _decide(self, heard: Understood) -> list[Part]:
        """Yes or no to a proposal."""
        now = self._open[0]
        if self.prose:
            self._note(confirmed=[now])
            return [("yes", "")]
        callable_ = [at for at in self._open if self.wishes[at].call is not None]
        judgement = judge(heard, self.scenario, callable_, self.domain) if callable_ else None
        slips = [at for at in judgement.wishes if at in self.slipping] if judgement else []
        wrong = judgement is None or judgement.correction or judgement.condition
        if self.wishes[now].call is None and wrong and not any(is_taken_up(heard, self.scenario, at) for at in slips):
            return self._decline(now)
        assert judgement is not None
        for at in slips:
            if not is_put_right(heard, self.scenario, at):
                return [self._correct("no", at)]
            self.slipping.discard(at)
        if judgement.correction is not None:
            other = next((at for at in judgement.wishes if self.wishes[at].text == judgement.correction), None)
            part = ("no", judgement.correction) if other is None else self._wish_part("no_want", other)
            return [part] if part[0] else [("no_other", ""), part]
        self._note(confirmed=judgement.wishes, raised=max(judgement.wishes) + 1)
        return [("yes_if", judgement.condition) if judgement.condition else ("yes", "")]

    def _decline(self, now: int) -> list[Part]:
        """No to something that was not wished for, and instead of which nothing is wanted, but for the answer to a question."""
        if self.wishes[now].answers:
            return [("leave", ""), self._wish_part("want", now)]
        self._note(settled=[now])
        return [("leave", "")]

    def _choose(self, heard: Understood) -> list[Part]:
        now = self._open[0]
        wish = self.wishes[now]
        if "transfer_offer" in heard.asks:
            wanted = [at for at in self._open if self.wishes[at].call is not None or self.wishes[at].answers]
            if self.prose or not wanted:
                return [("do_transfer", "")]
            later = any(self.wishes[at].transfer for at in self._raised())
            return [("later", "") if later else ("no_transfer", ""), self._again("want", wanted[0], heard)]
        if wish.call is None and not self.prose and heard.tells:
            return self._decline(now)
        return [self._again("want", now, heard)]


_PERSON = {"you are": "I am", "you're": "I'm", "you have": "I have", "yourself": "myself", "your": "my", "you": "I"}
_SECOND_PERSON = re.compile(r"\b(?:you are|you're|you have|yourself|your|you)\b", re.IGNORECASE)


def _first_person(goal: str) -> str:
    """A goal written as "You want to return your lamp", as the customer says it."""
    if not re.match(r"\s*(?:You|Your)\b", goal):
        return goal
    spoken = _SECOND_PERSON.sub(lambda found: _PERSON[found.group().lower()], goal)
    return spoken[:1].upper() + spoken[1:]
