"""Notes: round.json, which says what a round did and why, and which alarms were raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .files import read_json, write_json
from .watch import Reading


class Notes:
    """The notes of one round, in their file."""

    def __init__(self, path: Path, alarm: Callable[[str], None]) -> None:
        """Name the file, and who is told of alarms."""
        self.path = path
        self._alarm = alarm

    def read(self) -> dict[str, Any]:
        """What is noted so far."""
        found: dict[str, Any] = read_json(self.path) if self.path.exists() else {}
        return found

    def add(self, **values: Any) -> None:
        """Note something, in place of what was there under the same name."""
        write_json(self.path, {**self.read(), **values})

    def watched(self, *readings: Reading) -> None:
        """Note what a watch saw, and say so where it is an alarm."""
        known = self.read().get("readings", {})
        self.add(readings={**known, **{reading.name: reading.model_dump(exclude={"name"}) for reading in readings}})
        for reading in readings:
            if reading.alarm:
                self._alarm(reading.text)
