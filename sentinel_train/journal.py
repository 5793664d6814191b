"""Journal: a file of JSON lines that only grows and survives `kill -9`.

A line is written by one write to the end of the file. What stands behind the last newline was torn by a kill: it is not read, and the
next line takes its place. So a program that does the same again after a kill leaves the same bytes as one that was never killed. One
process writes at a time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sentinel_env import ConfigError


class Journal:
    """The whole lines of one file."""

    def __init__(self, path: str | Path) -> None:
        """Name the file; it appears with its first line."""
        self.path = Path(path)

    def read(self) -> list[str]:
        """Every whole line, without its newline; none where there is no file.

        Raises:
            ConfigError: The file cannot be read.
        """
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            return content[: content.rfind(b"\n") + 1].decode().split("\n")[:-1]  # splitlines would also split at U+2028
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {self.path}: {error}") from None

    def append(self, lines: Sequence[str]) -> None:
        """Add lines, none of which has a newline in it; when this returns, they have been handed to the operating system.

        Raises:
            ConfigError: They could not be written, such as on a full disk.
        """
        if not lines:
            return
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                _drop_torn_line(descriptor)
                for line in lines:
                    data = f"{line}\n".encode()
                    while data:
                        data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigError(f"cannot write to {self.path}: {error.strerror or error}; to resume, run the same command again") from None


def _drop_torn_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
