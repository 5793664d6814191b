"""Where the time of rollouts goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Part = Literal["generation", "environment", "user", "tokens"]
PARTS: tuple[Part, ...] = get_args(Part)
"""`generation`: the model's turns. `environment`: tools, limits and grades. `user`: waiting for the customer's replies. `tokens`: chat
templates, reading and spelling."""


class Clock:
    """Seconds by part, added up over everything that it was handed to."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def __call__(self, part: Part) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[part] += time.perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """What each part took."""
        return dict(self._spent)
