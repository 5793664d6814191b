"""What reinforcement and supervised training by TRL have in common: where they log, how weights are saved, what no memory means."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sentinel_env import TrainingError

from .config import TrainConfig

_NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


def save(trainer: Any, config: TrainConfig, out: Path) -> None:
    """Write the weights, with adapters merged into them, and the tokenizer."""
    if config.lora is None:
        trainer.save_model(str(out))
        (out / "training_args.bin").unlink(missing_ok=True)  # it holds paths and times
    elif trainer.accelerator.is_main_process:
        trainer.accelerator.unwrap_model(trainer.model).merge_and_unload().save_pretrained(str(out))
        trainer.processing_class.save_pretrained(str(out))


@contextmanager
def logged_to(folder: Path) -> Iterator[None]:
    """Where TensorBoard writes, unless the caller's environment says otherwise; transformers reads it as its callback is made."""
    name = "TENSORBOARD_LOGGING_DIR"
    own = not os.environ.get(name)
    if own:
        os.environ[name] = str(folder)
    try:
        yield
    finally:
        if own:
            del os.environ[name]


@contextmanager
def memory_explained(where: Callable[[], str], advice: str) -> Iterator[None]:
    """Say what to do where memory runs out.

    Args:
        where: Says when it ran out, such as "in update 7".
        advice: What to lower.

    Raises:
        TrainingError: It does.
    """
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        said = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise TrainingError(f"out of memory {where()}: {said}; {advice}") from error
