"""TrainConfig: everything that a training run depends on, in one frozen object that a TOML file can hold.

The defaults are the tiny Solver's on two CPU cores; a recipe for a big model differs in values only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentinel_env import ConfigError


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys, from keyword arguments or from a TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Validate settings.

        Raises:
            ConfigError: A key is unknown or a value does not fit (named).
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in detail["loc"])
            if detail["type"] == "extra_forbidden":
                raise ConfigError(f"unknown setting {key!r}; {cls.__name__} has {', '.join(cls.model_fields)}") from None
            raise ConfigError(f"setting {key!r}: {detail['msg']} (found {detail.get('input')!r:.80})") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read settings from a TOML file.

        Raises:
            ConfigError: The file cannot be read, is no TOML, or holds settings that do not fit.
        """
        try:
            return cls.of(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read settings from {path}: {error}") from None


class SamplingConfig(Settings):
    """How a model takes its turns, in training and in evaluation alike."""

    temperature: float = Field(default=1.0, ge=0)
    """0 takes the likeliest token."""
    max_turn_tokens: int = Field(default=64, ge=1)
    """How many tokens the model may write in one turn."""
    max_episode_tokens: int = Field(default=640, ge=2)
    """How many tokens a whole dialogue may take, prompt and tool results included; then the episode is truncated."""
    max_steps: int = Field(default=16, ge=1)
    """How many turns the model may take; then the episode is truncated."""
    max_errors: int = Field(default=4, ge=1)
    """How many refused or unreadable calls before the episode is truncated."""
    batch_size: int = Field(default=128, ge=1)
    """How many episodes are live at once in evaluation."""


class TrainConfig(Settings):
    """One GRPO run."""

    model: str
    """A checkpoint's folder, a Hugging Face name, or "tiny": the Solver that this package ships."""
    steps: int = Field(default=60, ge=1)
    """Optimiser updates."""
    learning_rate: float = Field(default=2e-4, gt=0)
    group_size: int = Field(default=8, ge=2)
    """Rollouts per task and update, whose rewards are compared with each other."""
    prompts_per_step: int = Field(default=8, ge=1)
    """Tasks per update."""
    rows_per_pass: int | None = Field(default=None, ge=1)
    """Rollouts per forward and backward pass; all of an update's at once for None. A divisor of group_size x prompts_per_step."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the starting model."""
    sampling: SamplingConfig = SamplingConfig()
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; torch's own choice for None."""
    report_to: str = "none"
    """Where TRL logs: "none", "tensorboard", "wandb", "trackio"."""
