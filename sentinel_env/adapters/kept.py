"""Models and users that many episodes share, one after the other and at once, so that their connections outlast an episode.

    with KEPT.borrow(("model", name, base_url), lambda: Model(name, base_url=base_url)) as model: ...

Whoever is borrowed is asked on the event loop of `sentinel_env.waiting`, whatever loop or thread an episode has: so connections belong to
the process, not to a caller's event loop, and nothing is left open where that one ends. Those that nobody has borrowed for long are
closed, since a gateway may give each episode an address of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sentinel_env.waiting import wait_for

S = TypeVar("S")
_PATIENCE = 2.0
"""Seconds that closing at the end of the process may take."""


class Kept:
    """Sides by what they were made from."""

    def __init__(self, most_idle: int = 32) -> None:
        """Begin empty.

        Args:
            most_idle: How many are kept that no episode has borrowed.
        """
        self.most_idle = most_idle
        self._sides: dict[Hashable, Any] = {}
        self._borrowers: dict[Hashable, int] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._sides)

    @contextmanager
    def borrow(self, key: Hashable, make: Callable[[], S]) -> Iterator[S]:
        """Have a side until the block ends; the same one as everybody who gives the same key.

        Args:
            key: What it is made from.
            make: Makes it, where it is not kept.
        """
        with self._lock:
            if key not in self._sides:
                self._sides[key] = make()
            side: S = self._sides[key]
            self._borrowers[key] = self._borrowers.get(key, 0) + 1
        try:
            yield side
        finally:
            with self._lock:
                self._give_back(key)

    def _give_back(self, key: Hashable) -> None:
        if key not in self._borrowers:  # the process is a fork, or ends
            return
        self._borrowers[key] -= 1
        if self._borrowers[key]:
            return
        del self._borrowers[key]
        self._sides[key] = self._sides.pop(key)  # it goes last
        idle = [each for each in self._sides if each not in self._borrowers]
        for each in idle[: max(0, len(idle) - self.most_idle)]:
            if (ending := _end(self._sides.pop(each))) is not None:
                threading.Thread(target=_quietly, args=(ending,), daemon=True).start()

    def close(self) -> None:
        """Close all of them; who borrows again gets another."""
        with self._lock:
            sides, self._sides, self._borrowers = list(self._sides.values()), {}, {}
        for side in sides:
            if (ending := _end(side)) is not None:
                _quietly(ending)

    def forget(self) -> None:
        """Begin anew in a forked process: what there is belongs to the other one."""
        self._of_parent = self._sides
        self._sides, self._borrowers, self._lock = {}, {}, threading.RLock()


def _end(side: Any) -> Coroutine[Any, Any, None] | None:
    close = getattr(side, "close", None)
    return close() if inspect.iscoroutinefunction(close) else None


def _quietly(ending: Coroutine[Any, Any, None]) -> None:
    with suppress(Exception):  # a connection that cannot even be closed is no trouble of the episode that comes next
        wait_for(asyncio.wait_for(ending, _PATIENCE))


KEPT = Kept()
"""Of this process."""
atexit.register(KEPT.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=KEPT.forget)
