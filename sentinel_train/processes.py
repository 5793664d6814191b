"""Starting one stage of a loop in a process of its own; `sentinel_train.stage` is what runs there."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from sentinel_env import ConfigError, TrainingError


def start_stage(folder: Path, stage: str, launch: Sequence[str]) -> None:
    """Do a stage in a process of its own, and wait for it.

    Args:
        folder: The loop's.
        stage: Such as rounds/001/train.
        launch: What starts a Python module, such as ["accelerate", "launch", "--num_processes", "8"].

    Raises:
        ConfigError: It cannot be started.
        TrainingError: It failed; it has said why.
    """
    try:
        ended = subprocess.run([*launch, "-m", "sentinel_train.stage", str(folder), stage], check=False)
    except OSError as error:
        raise ConfigError(f"cannot start {launch[0]!r}, the first word of launch: {error.strerror}") from None
    if ended.returncode:
        raise TrainingError(f"stage {stage} ended with exit code {ended.returncode} and said why; start again to go on from there")
