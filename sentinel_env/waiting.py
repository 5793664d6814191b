"""Waiting for asynchronous answers from code that is not asynchronous, whether or not its caller has an event loop of its own.

All waits share one event loop in a thread that lives as long as the process, so a model's connections outlast a turn.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def wait_for(answer: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; what it raises is raised here."""
    return asyncio.run_coroutine_threadsafe(answer, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sentinel-waiting", daemon=True).start()
    return loop
