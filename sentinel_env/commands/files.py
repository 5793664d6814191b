"""The files that verbs write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sentinel_env.errors import ConfigError


def write(path: Path, write: Callable[[], None]) -> None:
    """Write a file, its folder made where it is missing.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
