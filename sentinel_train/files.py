"""Files that are there whole or not at all, whenever the process is killed. Of several processes of one run only the first writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentinel_env import ConfigError


def write(file: Path, text: str) -> None:
    """Write a text."""
    write_with(file, lambda path: path.write_text(text, encoding="utf-8"))


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON to be read by people too."""
    write(file, json.dumps(value, indent=2) + "\n")


def write_with(file: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file that gets its name only when it is complete.

    Raises:
        ConfigError: It cannot be written, such as on a full disk.
    """
    if not is_first_process():
        return
    partial = file.with_name(f".{file.name}.partial")
    try:
        fill(partial)
        partial.replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}; to go on, run the same command again") from None


def make_folder(path: Path) -> None:
    """Create a folder, and those above it.

    Raises:
        ConfigError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create the folder {path}: {error.strerror or error}") from None


def is_first_process() -> bool:
    """Whether this process is the only one of its run, or the first one that accelerate's launcher started."""
    return os.environ.get("RANK", "0") == "0"


def read_json(file: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(file.read_text(encoding="utf-8"))
