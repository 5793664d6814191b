"""LineFile: a file that lines are added to, each of them whole or not at all, and on the disk within a second.

A line is handed to the operating system before `add` returns, so it outlives a killed process; a thread has it put on the disk half a
second later, so whoever adds lines never waits for a disk. Where a line does not fit, what was written of it is taken back: the next one
would otherwise continue it, and neither could be read.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer

from .errors import ConfigError

_SYNC_AFTER = 0.5
"""Seconds."""


class LineFile:
    """An open file; whoever opened it has locked it."""

    def __init__(self, file: int, path: Path, *, advice: str) -> None:
        """Take over a file.

        Args:
            file: Its descriptor, open to append.
            path: For errors.
            advice: What an error says to do.
        """
        self._file, self._path, self._advice = file, path, advice
        self._end = os.fstat(file).st_size
        self._is_unsynced = False
        self._failed: ConfigError | None = None
        self._timer: Timer | None = None
        self._syncing = Lock()

    def add(self, line: bytes) -> None:
        """Append a line, which ends with its line break.

        Raises:
            ConfigError: It could not be written, such as on a full disk, or the disk did not take an earlier one.
        """
        if self._failed is not None:
            raise self._failed
        left = line
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise self._error(error) from None
        self._end += len(line)
        self._is_unsynced = True
        if self._timer is None:
            self._timer = Timer(_SYNC_AFTER, self._sync_in_time)
            self._timer.daemon = True
            self._timer.start()

    def sync(self) -> None:
        """Have what was added on the disk; may be called from any thread.

        Raises:
            ConfigError: The disk did not take it.
        """
        with self._syncing:
            if self._failed is not None:
                raise self._failed
            if not self._is_unsynced or self._file < 0:
                return
            self._is_unsynced = False  # first, so that a line that is added meanwhile is not forgotten
            try:
                os.fsync(self._file)
            except OSError as error:
                if error.errno == errno.EINVAL:  # no file on a disk
                    return
                self._failed = self._error(error)  # for good: the system forgets what it could not write
                raise self._failed from None

    def _sync_in_time(self) -> None:
        self._timer = None
        with suppress(ConfigError):  # the next `add` or `sync` raises it
            self.sync()

    def _error(self, error: OSError) -> ConfigError:
        return ConfigError(f"cannot write to {self._path}: {error.strerror or error}; {self._advice}")

    def close(self) -> None:
        """Put all of it on the disk, and close the file.

        Raises:
            ConfigError: The disk did not take it.
        """
        if self._timer is not None:
            self._timer.cancel()
        try:
            self.sync()
        finally:
            with self._syncing:
                file, self._file = self._file, -1
                if file >= 0:
                    os.close(file)
