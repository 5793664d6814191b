"""Files that are there whole or not at all, whenever the process is killed. Of several processes of one run only the first writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write(file: Path, text: str) -> None:
    """Write a text."""
    write_with(file, lambda path: path.write_text(text, encoding="utf-8"))


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON to be read by people too."""
    write(file, json.dumps(value, indent=2) + "\n")


def write_with(file: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file that gets its name only when it is complete."""
    if not is_first_process():
        return
    partial = file.with_name(f".{file.name}.partial")
    fill(partial)
    partial.replace(file)


def is_first_process() -> bool:
    """Whether this process is the only one of its run, or the first one that accelerate's launcher started."""
    return os.environ.get("RANK", "0") == "0"


def read_json(file: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(file.read_text(encoding="utf-8"))
