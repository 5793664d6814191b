"""Episode: one live attempt at a task, as a state machine without I/O.

`Episode` calls neither the agent nor the user: its driver does. That is why the Gymnasium env, the runner and the trainer's rollouts
are each a few lines around it:

    episode = Episode(domain, task)
    while (awaiting := episode.awaiting) is not None:
        if awaiting == "agent":
            episode.act(agent.act(episode.agent_view()))    # runs the calls, returns what the agent will see
        else:
            episode.hear(user.reply(episode.user_view()))   # takes the user's words
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .database import Database
from .domain import Domain
from .errors import EpisodeError
from .messages import Message
from .tasks import Scenario, Task

STOP, TRANSFER, OUT_OF_SCOPE = "###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###"
Ending = Literal["user_stop", "transfer", "out_of_scope", "agent_stop", "max_steps", "max_errors", "limit"]
_ENDINGS: dict[str, Ending] = {STOP: "user_stop", TRANSFER: "transfer", OUT_OF_SCOPE: "out_of_scope"}


@dataclass(frozen=True, slots=True)
class AgentView:
    """What the agent may see. It never holds the scenario or the reference."""

    domain: Domain
    """Its policy and tools."""
    task_id: str
    messages: tuple[Message, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class UserView:
    """What the user may see: the scenario and the words exchanged, never the tool calls."""

    scenario: Scenario
    domain: Domain
    messages: tuple[Message, ...]
    """The assistant's texts and the user's own, in order."""
    seed: int


class Agent(Protocol):
    """Anything that answers as the assistant. It must not keep state between calls: the view holds all there is."""

    @property
    def name(self) -> str:
        """How results name it."""
        ...

    def act(self, view: AgentView, /) -> Message | Awaitable[Message]:
        """The assistant's next message."""
        ...


class User(Protocol):
    """Anything that answers as the customer, under the same rule."""

    @property
    def name(self) -> str:
        """How results name it."""
        ...

    def reply(self, view: UserView, /) -> Message | Awaitable[Message]:
        """The user's next message; a stop token in it ends the episode."""
        ...


class Episode:
    """One live attempt at a task."""

    def __init__(
        self,
        domain: Domain,
        task: Task,
        *,
        max_steps: int = 30,
        max_errors: int = 10,
        seed: int = 0,
        agent_seed: int | None = None,
        user_seed: int | None = None,
    ) -> None:
        """Start an attempt; it waits for the user's opening.

        Args:
            domain: The world.
            task: The problem.
            max_steps: How many assistant turns it may take before it is truncated.
            max_errors: How many refused or unreadable calls before it is truncated.
            seed: For the agent and the user, who see it.
            agent_seed: What the agent sees in its place; None for the same.
            user_seed: The same for the user.

        Raises:
            TaskError: The task's changes do not fit the database.
        """
        self.domain = domain
        self.task = task
        self.seed = seed
        self.agent_seed = seed if agent_seed is None else agent_seed
        self.user_seed = seed if user_seed is None else user_seed
        self.max_steps = max_steps
        self.max_errors = max_errors
        self.db: Database = domain.start(task)
        self.messages: list[Message] = [Message(role="assistant", content=domain.greeting)] if domain.greeting else []
        self.spoken: list[Message] = list(self.messages)
        """The messages that the user sees."""
        self.steps = 0
        self.errors = 0
        self.awaiting: Literal["agent", "user"] | None = "user"
        self.ending: Ending | None = None

    @property
    def terminated(self) -> bool:
        """Whether the conversation's own rules ended it."""
        return self.ending is not None and not self.truncated

    @property
    def truncated(self) -> bool:
        """Whether a limit cut it."""
        return self.ending in ("max_steps", "max_errors", "limit")

    def agent_view(self) -> AgentView:
        """What the agent may see now."""
        return AgentView(self.domain, self.task.id, tuple(self.messages), self.agent_seed)

    def user_view(self) -> UserView:
        """What the user may see now."""
        return UserView(self.task.scenario, self.domain, tuple(self.spoken), self.user_seed)

    def act(self, message: Message) -> list[Message]:
        """Take the assistant's turn: run its calls in order, or put its text before the user.

        Text beside calls stays in the record but is not shown to the user, as in tau2-bench.

        Returns:
            The tool messages that answer it: what the agent has not seen yet.

        Raises:
            EpisodeError: It is not the agent's turn, or the message is not the assistant's.
            DomainError: A tool crashed.
        """
        if self.awaiting != "agent":
            raise EpisodeError(
                f"the episode {f'ended ({self.ending})' if self.ending else 'waits for the user'}; it cannot take an agent's turn"
            )
        if message.role != "assistant":
            raise EpisodeError(f"an agent's message has the role assistant, found {message.role}")
        self.steps += 1
        self.messages.append(message)
        if message.tool_calls and not message.problem:
            answers = [self.domain.execute(self.db, call) for call in message.tool_calls]
        elif message.problem or not message.content.strip():
            problem = message.problem or "the message is empty; write to the user or call a tool"
            answers = [Message(role="tool", content=f"Error: {problem}", is_error=True)]
        else:
            answers = []
            self.spoken.append(message)
            self.awaiting = "user"
        self.messages.extend(answers)
        for answer in answers:
            self.errors += answer.is_error
        if self.errors >= self.max_errors:
            self._end("max_errors")
        elif self.steps >= self.max_steps and self.awaiting == "agent":
            self._end("max_steps")
        return answers

    def hear(self, message: Message) -> None:
        """Take the user's turn; a stop token ends the episode.

        Raises:
            EpisodeError: It is not the user's turn, or the message is not the user's.
        """
        if self.awaiting != "user":
            raise EpisodeError(
                f"the episode {f'ended ({self.ending})' if self.ending else 'waits for the agent'}; it cannot take a user's turn"
            )
        if message.role != "user":
            raise EpisodeError(f"a user's message has the role user, found {message.role}")
        self.messages.append(message)
        self.spoken.append(message)
        self.awaiting = "agent"
        for token, ending in _ENDINGS.items():
            if token in message.content:
                self._end(ending)
                return
        if self.steps >= self.max_steps:
            self._end("max_steps")

    def stop(self) -> None:
        """End the episode on the agent's side, for agents that can say that they are done.

        Raises:
            EpisodeError: It has ended already.
        """
        if self.ending is not None:
            raise EpisodeError(f"the episode ended ({self.ending}) already")
        self._end("agent_stop")

    def truncate(self) -> None:
        """Cut the episode by a limit of the driver's own, such as a token budget.

        Raises:
            EpisodeError: It has ended already.
        """
        if self.ending is not None:
            raise EpisodeError(f"the episode ended ({self.ending}) already")
        self._end("limit")

    def _end(self, ending: Ending) -> None:
        self.ending = ending
        self.awaiting = None


def drive(episode: Episode, agent: Agent, user: User) -> Episode:
    """Run an episode to its end with an agent and a user that answer at once.

    Raises:
        EpisodeError: One of them is asynchronous; use `adrive`.
        DomainError: A tool crashed.
        ModelError: A model could not answer.
    """
    while episode.awaiting is not None:
        if episode.awaiting == "agent":
            episode.act(at_once(agent.act(episode.agent_view()), agent))
        else:
            episode.hear(at_once(user.reply(episode.user_view()), user))
    return episode


async def adrive(episode: Episode, agent: Agent, user: User) -> Episode:
    """Run an episode to its end; either side may be asynchronous. Raises as `drive` does."""
    while episode.awaiting is not None:
        if episode.awaiting == "agent":
            episode.act(await _later(agent.act(episode.agent_view()), agent))
        else:
            episode.hear(await _later(user.reply(episode.user_view()), user))
    return episode


def at_once(answer: Message | Awaitable[Message], side: Any) -> Message:
    """The answer of an agent or a user that must not be asynchronous.

    Raises:
        EpisodeError: It is, or it is no message.
    """
    if isinstance(answer, Message):
        return answer
    if not inspect.isawaitable(answer):
        raise _no_message(answer, side)
    if inspect.iscoroutine(answer):
        answer.close()
    raise EpisodeError(f"{side.name} answers asynchronously; use adrive(), or one that answers at once")


async def _later(answer: Message | Awaitable[Message], side: Any) -> Message:
    given = await answer if inspect.isawaitable(answer) else answer
    if not isinstance(given, Message):
        raise _no_message(given, side)
    return given


def _no_message(answer: Any, side: Any) -> EpisodeError:
    return EpisodeError(f"{side.name} answered with a {type(answer).__name__}, {answer!r:.80}; an agent or a user gives back a Message")
