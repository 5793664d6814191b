"""Waiting for asynchronous answers from code that is not asynchronous, whether or not its caller has an event loop of its own.

All waits share one event loop in a thread that lives as long as the process, so a model's connections outlast a turn. `wait_elsewhere`
lets asynchronous code have an answer made there too, for connections that are to outlast its own event loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def wait_for(answer: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; what it raises is raised here. Where the wait is interrupted, the coroutine is cancelled.

    Raises:
        RuntimeError: It was called by what runs on the shared event loop, which would wait for itself.
    """
    loop = _loop()
    if asyncio._get_running_loop() is loop:
        answer.close()
        raise RuntimeError("wait_for() was called on the event loop that it waits for; there, await the coroutine itself")
    waited = asyncio.run_coroutine_threadsafe(answer, loop)
    try:
        return waited.result()
    except BaseException:
        waited.cancel()
        raise


async def wait_elsewhere(answer: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs on the shared event loop while the caller's own goes on; cancelled with the caller."""
    loop = _loop()
    if asyncio.get_running_loop() is loop:
        return await answer
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer, loop))


_STARTING = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    with _STARTING:  # `cache` lets several first callers in at once, and each would have a loop of its own
        return _started()


@cache
def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sentinel-waiting", daemon=True).start()
    return loop


def _begin_anew() -> None:
    """In a fork, which has the loop and not the thread that runs it, and may have the lock and not the thread that holds it."""
    global _STARTING
    _STARTING = threading.Lock()
    _started.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
