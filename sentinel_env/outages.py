"""A model's server that goes away in the middle of a run: the run waits for it, and does not lose one attempt after the other to it.

    outages = Outages([model], minutes=10)
    play = outages.around(play)               # what plays an attempt, which is made once more where a server was away meanwhile

After every attempt that infrastructure ended each server is asked for one token. Where one is away, no further attempt is begun and it is
asked again, after waits that grow, until it answers or the time is up. A server that answers, if only to refuse, is there: what it did to
the attempt stays an error of that attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from .cassette import attempt
from .errors import ModelError
from .llm import Model
from .run_limits import StoppedError
from .tasks import Task
from .trajectory import Trajectory

Play = Callable[[Task, int], Awaitable[Trajectory]]
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
"""Seconds between two questions."""
_AGAIN = 2
"""How often one attempt is made once more; what it asks may be the very thing that ends the server."""


class Outages:
    """Of the servers of one run."""

    def __init__(self, models: Sequence[Model], *, minutes: float | None, tell: Callable[[str], None] | None = None) -> None:
        """Nobody is asked yet.

        Args:
            models: Whose servers.
            minutes: How long one of them is waited for; None or 0 for not at all.
            tell: Gets a line when a wait begins and when it ends.
        """
        self._models = list({id(model): model for model in models}.values())
        self._minutes, self._tell = minutes or 0.0, tell or (lambda _: None)
        self._turn = asyncio.Lock()
        """Held while servers are asked; with it, no attempt is begun meanwhile."""
        self._over = 0
        """How many outages are over."""
        self._found_well = -1.0
        """When the question began that found every server there, on the event loop's clock."""

    def around(self, play: Play) -> Play:
        """What plays an attempt and heeds outages."""
        if not (self._models and self._minutes):
            return play

        async def heeding(task: Task, trial: int) -> Trajectory:
            again = 0
            while True:
                async with self._turn:
                    before = self._over
                with attempt() as undo:
                    trajectory = await play(task, trial)
                if trajectory.error is None or again == _AGAIN or not await self._met(before):
                    return trajectory
                again += 1
                undo()

        return heeding

    async def _met(self, before: int) -> bool:
        """Whether a server was away since so many outages were over; it is back by then.

        Raises:
            StoppedError: It is not.
        """
        failed = asyncio.get_running_loop().time()
        async with self._turn:
            if self._over > before:
                return True
            return self._found_well < failed and await self._waited()  # many that ended at once need one answer

    async def _waited(self) -> bool:
        why, wait = await self._away(), _FIRST_WAIT
        if why is None:
            return False
        now = asyncio.get_running_loop().time
        until = now() + 60 * self._minutes
        self._tell(f"waits for a server, {self._minutes:g} minutes at most: {why}")
        while why is not None:
            if (left := until - now()) <= 0:
                raise StoppedError(f"waited {self._minutes:g} minutes for a server: {why}")
            await asyncio.sleep(min(wait, left))
            why, wait = await self._away(), min(2 * wait, _LONGEST_WAIT)
        self._over += 1
        self._tell("the server is back, the run goes on")
        return True

    async def _away(self) -> ModelError | None:
        began = asyncio.get_running_loop().time()
        for model in self._models:
            if (why := await model.away()) is not None:
                return why
        self._found_well = began
        return None
