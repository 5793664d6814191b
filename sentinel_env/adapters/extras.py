"""What an adapter says where its framework is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Name the extra of imports that fail in the block.

    Raises:
        ModuleNotFoundError: One of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or extra).partition(".")[0]
        how = f"this adapter needs {missing}, which is not installed; pip install 'sentinel-env[{extra}]'"
        raise ModuleNotFoundError(how, name=missing) from None
