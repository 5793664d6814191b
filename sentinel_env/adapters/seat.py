"""`Seat`: the agent's place at one episode, for frameworks that hold the agent. The user answers by itself.

    seat = Seat(domain, task, ScriptedUser(), seed=0)
    (opening,) = await seat.open()
    while not seat.done:
        news = await seat.act(message)        # tool answers, the user's reply, or both: what the agent has not seen yet
    seat.reward                               # 1.0 or 0.0; None where infrastructure failed

`open_now` and `act_now` are the same for frameworks that are not asynchronous.
"""

from __future__ import annotations

import inspect
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.episode import Episode, User
from sentinel_env.errors import EpisodeError, ModelError, ModelTrouble
from sentinel_env.evaluation import Evaluation, evaluate
from sentinel_env.messages import Message
from sentinel_env.tasks import Task
from sentinel_env.trajectory import Trajectory, record
from sentinel_env.waiting import wait_for


class Seat:
    """One episode with its user."""

    def __init__(self, domain: Domain, task: Task, user: User, *, seed: int = 0, max_steps: int = 30, max_errors: int = 10) -> None:
        """Take the seat; `open` lets the user begin.

        Args:
            domain: The world.
            task: The problem.
            user: Who plays the customer; its `reply` may be asynchronous.
            seed: Of the episode, for the user.
            max_steps: As in `Episode`.
            max_errors: As in `Episode`.

        Raises:
            TaskError: The task does not fit the domain.
        """
        self.episode = Episode(domain, task, max_steps=max_steps, max_errors=max_errors, seed=seed)
        """Holds the task with its reference: never show it to the agent."""
        self.user = user
        self.error: str | None = None
        """Why infrastructure ended it."""
        self.error_kind: ModelTrouble | None = None
        """Its `ModelError.kind`."""
        self._evaluation: Evaluation | None = None

    @property
    def done(self) -> bool:
        """Whether the episode has ended or infrastructure failed."""
        return self.error is not None or self.episode.awaiting is None

    @property
    def reward(self) -> float | None:
        """1.0 or 0.0 as `evaluate` has it; None before the end, and where infrastructure failed."""
        return self.evaluation.reward if self.done else None

    @property
    def evaluation(self) -> Evaluation:
        """The grade.

        Raises:
            EpisodeError: The episode goes on.
        """
        if not self.done:
            raise EpisodeError("the episode goes on; it is graded at its end")
        if self._evaluation is None:
            self._evaluation = evaluate(self.episode.domain, self.trajectory())
        return self._evaluation

    def trajectory(self, *, agent: str = "") -> Trajectory:
        """The record so far."""
        return record(self.episode, agent=agent, user=self.user.name, error=self.error)

    async def open(self) -> list[Message]:
        """Let the user speak first.

        Returns:
            The user's opening; nothing where infrastructure failed.

        Raises:
            EpisodeError: It was opened before.
        """
        self._check_new()
        return await self._hear()

    async def act(self, message: Message) -> list[Message]:
        """Take the agent's turn, and the user's where the agent wrote to the user.

        Returns:
            What the agent has not seen yet: tool answers, or the user's reply; nothing where infrastructure failed.

        Raises:
            EpisodeError: It has not begun, or is over.
            DomainError: A tool crashed.
        """
        answers = self._act(message)
        return [*answers, *await self._hear()] if self.episode.awaiting == "user" else answers

    def open_now(self) -> list[Message]:
        """`open` for callers that are not asynchronous."""
        self._check_new()
        return self._hear_now()

    def act_now(self, message: Message) -> list[Message]:
        """`act` for callers that are not asynchronous."""
        answers = self._act(message)
        return [*answers, *self._hear_now()] if self.episode.awaiting == "user" else answers

    def cut(self) -> None:
        """Truncate the episode where it goes on: the framework has reached a limit of its own."""
        if not self.done:
            self.episode.truncate()

    def fail(self, failure: ModelError) -> None:
        """Take note that the agent's model could not answer: where the dialogue has grown too long for it, the episode is truncated, as
        in a run; all other trouble leaves no reward."""
        if failure.kind == "context" and self.episode.awaiting == "agent" and self.episode.steps > 0:
            self.cut()
        else:
            self._lost(failure)

    def _check_new(self) -> None:
        if self.episode.awaiting != "user" or self.episode.steps or self.error is not None:
            raise EpisodeError("the episode has begun; take another seat for another one")

    def _act(self, message: Message) -> list[Message]:
        if self.error is not None:
            raise EpisodeError(f"the episode was ended by infrastructure ({self.error}); begin another one")
        return self.episode.act(message)

    async def _hear(self) -> list[Message]:
        try:
            return self._heard(await _given(self.user, self.user.reply(self.episode.user_view())))
        except ModelError as failure:
            return self._lost(failure)

    def _hear_now(self) -> list[Message]:
        try:
            answer = self.user.reply(self.episode.user_view())
            return self._heard(answer if isinstance(answer, Message) else wait_for(_given(self.user, answer)))
        except ModelError as failure:
            return self._lost(failure)

    def _heard(self, reply: Message) -> list[Message]:
        self.episode.hear(reply)
        return [reply]

    def _lost(self, failure: ModelError) -> list[Message]:
        self.error, self.error_kind = f"{type(failure).__name__}: {failure}", failure.kind
        return []


async def _given(user: User, answer: Any) -> Message:
    if inspect.isawaitable(answer):
        answer = await answer
    if not isinstance(answer, Message):
        raise EpisodeError(f"user {user.name} answered with a {type(answer).__name__}; reply(view) gives a Message, or promises one")
    return answer
