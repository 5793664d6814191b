"""`Source`: which episodes there are, in plain settings that any framework's configuration, row or command line can hold.

source = Source.open("retail", split="train", user="scripted")
seat = source.seat(index=3, seed=0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sentinel_env.domain import Domain, load_domain
from sentinel_env.episode import User
from sentinel_env.errors import ConfigError, TaskError
from sentinel_env.finding import find_task, find_user
from sentinel_env.messages import Message
from sentinel_env.prompt_texts import in_text
from sentinel_env.tasks import Task, load_tasks

from .seat import Seat


@dataclass(frozen=True)
class Source:
    """A domain with the tasks to play, the user who plays them, and the limits."""

    domain: Domain
    tasks: tuple[Task, ...]
    user: User
    max_steps: int = 30
    max_errors: int = 10

    def __post_init__(self) -> None:
        for name, limit in (("max_steps", self.max_steps), ("max_errors", self.max_errors)):
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise ConfigError(f"{name} is a whole number of at least 1, found {limit!r}")

    @classmethod
    def open(
        cls,
        domain: str | Path | Domain = "retail",
        *,
        split: str | None = None,
        tasks: str | Path | None = None,
        user: User | str | Mapping[str, Any] | None = None,
        data: str | Path | None = None,
        max_steps: int = 30,
        max_errors: int = 10,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Load what the settings say.

        Args:
            domain: An installed domain's name, `module:attribute`, a path, or a `Domain`.
            split: Of the tasks; all of them for None.
            tasks: A file of tasks, such as `sentinel verify` writes, instead of the domain's own.
            user: As `find_user` reads it; the scripted user for None.
            data: A folder in tau2-bench's format, where the domain supports it.
            max_steps: Assistant turns before an episode is truncated.
            max_errors: Refused or unreadable calls before it is truncated.
            options: For a domain that is a function, such as retail's `{"users": 5000}`.

        Raises:
            UnknownDomainError: No such domain.
            TaskError: No such split, a file that cannot be read, or no tasks at all.
            ConfigError: No such user, a limit below 1, or options that are no mapping.
        """
        if options is not None and not isinstance(options, Mapping):
            raise ConfigError(f"options are a mapping of names, found {options!r:.100}")
        world = load_domain(domain, data=data, **(options or {}))
        if tasks is not None:
            world = world.with_tasks(load_tasks(tasks))
        chosen = world.split(split)
        if not chosen:
            raise TaskError(f"domain {world.name} has no tasks to play")
        return cls(world, chosen, find_user(user), max_steps, max_errors)

    def task(self, *, task_id: str | None = None, index: int | None = None) -> Task:
        """The task of an id, of whatever split, or of a row.

        Raises:
            TaskError: There is none, or neither or both are given.
        """
        if (task_id is None) == (index is None):
            raise TaskError("name the task by its id or by its row, one of them")
        if task_id is not None:
            return find_task([*self.tasks, *self.domain.tasks_by_id.values()], task_id, self.domain)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.tasks):
            raise TaskError(f"there is no row {index!r:.100}; there are {len(self.tasks)}, from 0")
        return self.tasks[index]

    def seat(self, *, task_id: str | None = None, index: int | None = None, seed: int = 0) -> Seat:
        """A new seat at a task.

        Raises:
            TaskError: As `task`.
        """
        return self.seat_at(self.task(task_id=task_id, index=index), seed=seed)

    def seat_at(self, task: Task, *, seed: int = 0) -> Seat:
        """A new seat at a task of the caller's own, such as one that stands whole in a row.

        Raises:
            TaskError: It does not fit the domain.
        """
        if task.domain != self.domain.name:
            raise TaskError(f"task {task.id!r} is for domain {task.domain!r}, played in {self.domain.name!r}")
        return Seat(self.domain, task, self.user, seed=seed, max_steps=self.max_steps, max_errors=self.max_errors)

    @property
    def system_prompt(self) -> str:
        """The policy, the tools and how to write a call, for agents that work on text."""
        return in_text(self.domain)

    @property
    def greeting(self) -> tuple[Message, ...]:
        """The agent's fixed first message, where the domain has one."""
        return (Message(role="assistant", content=self.domain.greeting),) if self.domain.greeting else ()
