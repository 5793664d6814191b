"""What a program can find out that has only the user's words and the domain's read tools.

It starts with the words, fills the read tools' arguments with what it knows, and goes on with what they answer until everything wanted
is known, or nothing more can be asked. It does not know the reference, the database or the meaning of anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.messages import Message, ToolCall

from .answers import Answer, read_answer
from .lookups import Known, Lookup, lookups_of
from .text import Said, plain
from .walk import execute

MOST_CALLS = 800
"""In one task."""
DULL = 15
"""After so many answers in a row that teach nothing, a tool is left alone."""
HOPELESS = 400
"""After so many refusals in a row, too."""
_KEPT_ANSWERS = 20_000


class World:
    """A domain's look-ups with the answers on its untouched database, shared by all tasks of an audit."""

    def __init__(self, domain: Domain, examples: Iterable[ToolCall]) -> None:
        """Find out what the read tools take."""
        self.domain = domain
        self.lookups: tuple[Lookup, ...] = lookups_of(domain, examples)
        self.arguments = frozenset(slot.name for lookup in self.lookups for slot in lookup.slots)
        self.rules = "\n".join([domain.policy, *(json.dumps(tool.schema, ensure_ascii=False) for tool in domain.tools)]).lower()
        """What every agent is told: the policy and what the tools say of themselves."""
        self._answers: dict[tuple[str, str], str | None] = {}

    def ask(self, db: Database, call: ToolCall, *, untouched: bool) -> str | None:
        """The answer to a read, None where it is refused."""
        key = (call.name, repr(call.arguments))
        if untouched and key in self._answers:
            return self._answers[key]
        answer = execute(self.domain, db, call)
        content = None if answer is None or answer.is_error else answer.content
        if untouched:
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            self._answers[key] = content
        return content


class Explorer:
    """What is known in one task."""

    def __init__(self, world: World, said: Said, *, untouched: bool) -> None:
        """Begin with the user's words; `untouched` says whether the task starts on the domain's own database."""
        self.world = world
        self.said = said
        self.known = Known()
        self._words = set(said.words)
        self._unread: list[Answer] = []
        self.answers: dict[tuple[str, str], tuple[ToolCall, Answer]] = {}
        """Every accepted call with what it taught."""
        self.calls = 0
        self._untouched = untouched
        self._tried: set[tuple[str, str]] = set()
        for chunk in said.chunks:
            self.known.values.setdefault(plain(chunk), chunk)

    @property
    def exhausted(self) -> bool:
        """Whether it stopped because it has asked enough."""
        return self.calls >= MOST_CALLS

    def knows(self, value: Any) -> bool:
        """Whether a value was said, or read as it is."""
        return plain(value) in self.known.values or self.said.says(value)

    @property
    def words(self) -> set[str]:
        """The stems of all words that were said or read."""
        self._words.update(*(answer.words for answer in self._unread))
        self._unread.clear()
        return self._words

    def search(self, db: Database, done: Callable[[], bool], only: Iterable[str] = ()) -> bool:
        """Read until `done`, or until nothing more can be asked; says whether it is done."""
        chosen = frozenset(only)
        quiet: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        while not done():
            before = (len(self.known.values), len(self._tried))
            for lookup in self.world.lookups:
                if chosen and lookup.name not in chosen:
                    continue
                for arguments in lookup.fill(self.known, self.said, self.world.arguments):
                    if quiet[lookup.name] >= DULL or refused[lookup.name] >= HOPELESS or self.exhausted:
                        break
                    learned = self.ask(db, ToolCall(name=lookup.name, arguments=arguments))
                    if learned is None:
                        continue
                    refused[lookup.name] = refused[lookup.name] + 1 if learned < 0 else 0
                    quiet[lookup.name] = quiet[lookup.name] + 1 if learned == 0 else 0
                    if learned > 0 and done():
                        return True
            if self.exhausted or (len(self.known.values), len(self._tried)) == before:
                break
        return done()

    def ask(self, db: Database, call: ToolCall) -> int | None:
        """Make a read: how many values it taught, -1 where it is refused, None where it was tried before."""
        key = (call.name, repr(call.arguments))
        if key in self._tried:
            return None
        self._tried.add(key)
        self.calls += 1
        content = self.world.ask(db, call, untouched=self._untouched)
        if content is None:
            return -1
        known = self.answers.get(key)
        return None if known is not None and known[1] is read_answer(content) else self.learn(call, content)

    def read(self, db: Database, call: ToolCall) -> Answer | None:
        """What a read answers, be it made before or now; None where it is refused."""
        self.ask(db, call)
        found = self.answers.get((call.name, repr(call.arguments)))
        return None if found is None else found[1]

    def learn(self, call: ToolCall, content: str) -> int:
        """Take in an accepted call's answer; how many values it taught."""
        answer = read_answer(content)
        self.answers[call.name, repr(call.arguments)] = (call, answer)
        before = len(self.known.values)
        for key, value, fields in answer.taught:
            self.known.values.setdefault(key, value)
            self.known.keys[key] = self.known.keys.get(key, fields) | fields
        self._unread.append(answer)
        return len(self.known.values) - before

    def write(self, call: ToolCall, answer: Message) -> None:
        """Take in a write: its answer, and that every record may be another one since."""
        self.learn(call, answer.content)
        self._tried.clear()
        self._untouched = False
