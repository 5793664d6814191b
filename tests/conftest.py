"""What several test files share."""

import os
import signal
from pathlib import Path

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored, and tests interrupt what they start

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared():
    """The folder of recorded data that the project does not ship: `SENTINEL_SHARED`, or `shared` next to the repository."""
    folder = Path(os.environ.get("SENTINEL_SHARED") or REPOSITORY.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no recorded data in {folder}/data; set SENTINEL_SHARED to the folder that holds it")
    return folder
