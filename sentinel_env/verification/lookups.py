"""Lookups: a search for the reads by which somebody who hears the user finds something out, for references that leave them out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Fact, Scenario
from sentinel_env.tools import Tool

from .texts import Answer

MOST_CALLS = 300
"""How many reads are tried."""
_MOST_TOGETHER = 40
_LONGEST = 200
"""Characters of a word that is looked up."""


class Lookups:
    """Reads in the order in which somebody would come to them: what the user says first, then what each answer names."""

    def __init__(self, domain: Domain, db: Database, spoken: Sequence[str], facts: Sequence[Fact], scenario: Scenario) -> None:
        self._domain = domain
        self._db = db
        self._answers: list[Answer] = []
        self._search = self._read(spoken, facts, scenario)

    def show(self, value: Any) -> bool:
        """Whether some read shows a value; the search goes on from where it was left."""
        if any(value in answer for answer in self._answers):
            return True
        for answer in self._search:
            self._answers.append(answer)
            if value in answer:
                return True
        return False

    def _read(self, spoken: Sequence[str], facts: Sequence[Fact], scenario: Scenario) -> Iterator[Answer]:
        left = MOST_CALLS
        tools = [tool for tool in self._domain.tools if not tool.writes and not self._domain.is_transfer(tool.name)]
        single = [tool for tool in tools if len(_required(tool)) == 1]
        queue = deque(ToolCall(name=tool.name) for tool in tools if not _required(tool))
        queue.extend(call for tool in tools if len(_required(tool)) > 1 for call in _together(tool, facts, scenario))
        seen: set[str] = set()

        def take(words: Iterable[str]) -> None:
            """Put calls with these words into the queue, keys of records first: a read of anything else is most often refused."""
            fresh = [word for word in dict.fromkeys(words) if word and word not in seen and len(word) <= _LONGEST]
            seen.update(fresh)
            keys = [word for word in fresh if any(word in table for table in self._db.tables.values())]
            queue.extendleft(call for word in reversed(keys) for call in _with(single, word))
            queue.extend(call for word in fresh if word not in keys for call in _with(single, word))

        take([*spoken, *(word.strip(".,;:!?\"'()") for text in spoken for word in text.split())])
        while queue and left:
            left -= 1
            call = queue.popleft()
            message = self._domain.execute(self._db.fork(), call)
            if not message.is_error:
                answer = Answer(call.name, message.content)
                yield answer
                take(answer.names)


def _required(tool: Tool) -> list[str]:
    return list(tool.schema["function"]["parameters"]["required"])


def _with(tools: Iterable[Tool], word: str) -> Iterator[ToolCall]:
    """Calls of tools that take one value, with a word for it."""
    for tool in tools:
        (name,) = _required(tool)
        kind = tool.schema["function"]["parameters"]["properties"][name].get("type")
        if kind == "string" or (kind == "integer" and word.isdecimal() and len(word) < _LONGEST):
            yield ToolCall(name=tool.name, arguments={name: word if kind == "string" else int(word)})


def _together(tool: Tool, facts: Sequence[Fact], scenario: Scenario) -> Iterator[ToolCall]:
    """Calls of a tool that takes several values, each from what the user knows under that name."""
    names = _required(tool)
    choices = []
    for name in names:
        found = [fact.value.get(name) for fact in facts if isinstance(fact.value, dict)]
        found += [fact.text for fact in facts if fact.slot == name]
        found += [text for key, text in scenario.known.items() if key.lower().replace(" ", "_") == name]
        choices.append(list(dict.fromkeys(value for value in found if isinstance(value, str))))
    for at, values in enumerate(product(*choices)):
        if at >= _MOST_TOGETHER:
            return
        yield ToolCall(name=tool.name, arguments=dict(zip(names, values, strict=True)))
