"""Models and tokenizers: where they come from and how they are loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sentinel_env import ConfigError

TINY = Path(__file__).with_name("tiny")


def resolve(name: str) -> str:
    """The folder or Hugging Face name that a model's name stands for: "tiny", "hf:PATH" or "PATH"."""
    name = name.removeprefix("hf:")
    return str(TINY) if name == "tiny" else name


def load_model(name: str, *, device: str = "auto", precision: str = "fp32") -> tuple[Any, Any]:
    """A causal language model in evaluation mode, and its tokenizer.

    Raises:
        ConfigError: There is no such model, or it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    source = resolve(name)
    if source.startswith((".", "/", "~")) and not Path(source).is_dir():
        raise ConfigError(f"there is no folder {source!r} with a model")
    try:
        with _quiet(logging):
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load model {name!r}: {str(error).splitlines()[0]}") from None
    place = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
    return model.to(place).eval(), tokenizer


class _quiet:  # noqa: N801
    """Loading bars off for the duration: a model of a megabyte needs none."""

    def __init__(self, logging: Any) -> None:
        self._logging = logging

    def __enter__(self) -> None:
        self._shown = self._logging.is_progress_bar_enabled()
        self._logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._logging.enable_progress_bar()


def set_threads(threads: int | None) -> None:
    """Limit torch's CPU threads, and let those that wait sleep: on cores that are shared, spinning ones cost five times as long."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, so a program that has done so is too late
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
