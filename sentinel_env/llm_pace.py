"""How fast one model is asked, by all who ask it: requests in flight, requests a minute, and the waits that its provider asks for.

pace = Pace(in_flight=64, per_minute=500)
LLMAgent(Model("qwen3", base_url=URL, pace=pace)), LLMUser(Model("qwen3", base_url=URL, pace=pace))     # one limit for both sides
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Semaphore
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from weakref import WeakKeyDictionary

from .errors import ConfigError, ModelError

_SPREAD = 0.5
"""Seconds over which those who waited for the same moment come back."""


class Pace:
    """The limits of one model's requests, shared by whoever asks it.

    In flight is counted for each event loop by itself, because a loop cannot wake what waits in another; a run, a game, a judge and
    training each ask from one loop at a time. Who asks from several at once gives each a share. The other two limits hold over all of them.
    """

    def __init__(self, *, in_flight: int | None = None, per_minute: float | None = None) -> None:
        """Set the limits.

        Args:
            in_flight: Requests at once; None for any number.
            per_minute: Requests a minute, at equal distances; None for any number.

        Raises:
            ConfigError: A limit is not above 0.
        """
        for name, limit in (("in_flight", in_flight), ("per_minute", per_minute)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"{name} must be above 0, found {limit}")
        self.in_flight, self.per_minute = in_flight, per_minute
        self._slots: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()
        self._next, self._not_before = 0.0, 0.0

    def hold_back(self, seconds: float) -> None:
        """Let nobody ask for so long, as the provider wished."""
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + seconds)

    @asynccontextmanager
    async def turn(self, patience: float, random: Random) -> AsyncIterator[float]:
        """Wait for a turn and have it until the block ends; gives the seconds that were waited for these limits, no provider's trouble.

        Args:
            patience: Seconds that a wait which the provider asked for may last.
            random: Spreads those who waited for the same moment.

        Raises:
            ModelError: The provider asked for a longer wait (rate).
        """
        loop, own = asyncio.get_running_loop(), 0.0
        async with AsyncExitStack() as stack:
            since = loop.time()
            if self.in_flight is not None:
                await stack.enter_async_context(self._slots.setdefault(loop, Semaphore(self.in_flight)))
            while True:
                if self.per_minute is not None:
                    at = max(self._next, loop.time())
                    self._next = at + 60 / self.per_minute
                    await asyncio.sleep(at - loop.time())
                own += loop.time() - since
                if (left := self._not_before - loop.time()) <= 0:
                    break
                if left > patience:
                    raise ModelError(f"the provider asked to wait for {left:.3g} s more", kind="rate", retry_after=left)
                patience -= left
                await asyncio.sleep(left + _SPREAD * random.random())
                since = loop.time()
            yield own
