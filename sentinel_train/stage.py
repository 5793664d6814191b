"""One stage of a loop in a process of its own: `python -m sentinel_train.stage FOLDER STAGE`, which the loop starts where it has to.

It is the loop itself, which finds everything before the stage done, does the stage, and ends. So a stage may be spread over several
processes by accelerate's launcher, and vLLM gives its memory back with its process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentinel_env import SentinelError

from .asking import close
from .commands import progress, quiet
from .files import is_first_process
from .loop import Loop, StageDone
from .loop_config import LoopConfig


def main(
    folder: Annotated[Path, typer.Argument(help="The loop's folder.")],
    stage: Annotated[str, typer.Argument(help="Such as rounds/001/train.")],
) -> None:
    """Do one stage of a loop."""
    quiet()
    try:
        with progress(show=is_first_process()) as report:
            loop = Loop(LoopConfig.model_validate_json((folder / "loop.json").read_text(encoding="utf-8")), folder, report, only=stage)
            loop.open()
            try:
                loop.run()
            finally:
                close(loop.user)
    except StageDone:
        return
    except SentinelError as error:
        raise SystemExit(f"error: {error}") from None
    raise SystemExit(f"error: the loop in {folder} has no stage {stage!r}")


if __name__ == "__main__":
    typer.run(main)
