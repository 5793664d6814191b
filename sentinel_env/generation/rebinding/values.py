"""Values in JSON and in texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any


def strings(value: Any) -> Iterator[str]:
    """The texts in a JSON value, in order, without the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)


def said_in(value: str, text: str) -> bool:
    """Whether a value stands in a text as whole words.

    >>> said_in("M7", "card M7."), said_in("M7", "card M77")
    (True, False)
    """
    return value in text and _whole(value).search(text) is not None


@lru_cache(maxsize=4096)
def _whole(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")
