"""A trajectory as the analysis reads it: who said what when, what was called, what was shown; texts in lower case, worked out once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.evaluation import calls
from sentinel_env.messages import Message, ToolCall
from sentinel_env.trajectory import Trajectory

from .names import Names


class Dialogue:
    """What happened, by speaker."""

    def __init__(self, domain: Domain, trajectory: Trajectory) -> None:
        self.domain = domain
        self.trajectory = trajectory
        self.messages = trajectory.messages
        self.end = len(trajectory.messages)
        self.calls: list[tuple[int, ToolCall, Message]] = calls(trajectory)
        """(message index, call, answer) of every executed call, in order."""

    @cached_property
    def start(self) -> Database:
        """The database as the task finds it."""
        return self.domain.start(self.trajectory.task)

    @cached_property
    def names(self) -> Names:
        """What the things are called that the calls of the run, or of its reference, name by key."""
        calls = [*(call for _, call, _ in self.calls), *self.trajectory.task.criteria.actions]
        keys = dict.fromkeys(value for call in calls for value in call.arguments.values() if isinstance(value, str))
        found = ((key, table.get(key)) for key in keys for table in self.start.tables.values())
        return Names({key: record for key, record in found if record is not None})

    @cached_property
    def user(self) -> list[tuple[int, str]]:
        """What the user said: (message index, text)."""
        return [(at, plain(message.content)) for at, message in enumerate(self.messages) if message.role == "user"]

    @cached_property
    def spoken(self) -> list[tuple[int, str]]:
        """What the agent said to the user, calls left out: (message index, text)."""
        return [
            (at, plain(message.content))
            for at, message in enumerate(self.messages)
            if message.role == "assistant" and not message.tool_calls and not message.problem
        ]

    @cached_property
    def shown(self) -> list[tuple[int, str]]:
        """What accepted calls showed the agent: (message index of the call, text)."""
        return [(at, answer.content.lower()) for at, _, answer in self.calls if not answer.is_error]

    def refused(self) -> Iterator[tuple[int, ToolCall]]:
        """The writes that tools refused."""
        for at, call, answer in self.calls:
            tool = self.domain.tools_by_name.get(call.name)
            if answer.is_error and tool is not None and tool.writes:
                yield at, call

    def user_before(self, step: int) -> tuple[int, str] | None:
        """The user's last message before a step."""
        return next((said for said in reversed(self.user) if said[0] < step), None)

    def spoken_before(self, step: int) -> tuple[int, str] | None:
        """The agent's last words to the user before a step."""
        return next((said for said in reversed(self.spoken) if said[0] < step), None)

    def is_opened(self, key: str, before: int) -> bool:
        """Whether the record was read before a step."""
        opened = self.first_opened(key)
        return opened is not None and opened < before

    def first_opened(self, key: str) -> int | None:
        """The step of the first accepted call that takes a record's key, or that lists the record with its content."""
        listed = (f'"{key.lower()}": {{', f'"{key.lower()}":{{')
        for at, call, answer in self.calls:
            if answer.is_error:
                continue
            if key in call.arguments.values() or any(each in answer.content.lower() for each in listed):
                return at
        return None


def plain(text: str) -> str:
    """Lower case, with plain apostrophes and without Markdown emphasis."""
    return text.lower().replace("\u2019", "'").replace("**", "")
