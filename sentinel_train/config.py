"""TrainConfig: everything that a training run depends on, in one frozen object that a TOML file can hold.

The defaults are the tiny Solver's on two CPU cores; a recipe for a big model differs in values only. What TRL has a setting for and a
run of ours leaves alone, such as vLLM, DeepSpeed or the loss, is passed on under TRL's own name in `trl`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from sentinel_env import ConfigError

OURS = {
    "output_dir": "the folder of the run, --out",
    "max_steps": "steps",
    "num_train_epochs": "steps",
    "learning_rate": "learning_rate",
    "num_generations": "group_size",
    "per_device_train_batch_size": "rows_per_pass",
    "gradient_accumulation_steps": "rows_per_pass",
    "steps_per_generation": "rows_per_pass",
    "generation_batch_size": "prompts_per_step",
    "beta": "beta",
    "temperature": "sampling.temperature",
    "max_completion_length": "sampling.max_episode_tokens",
    "generation_kwargs": "sampling",
    "max_tool_calling_iterations": "sampling.max_steps",
    "seed": "seed",
    "use_cpu": "device",
    "bf16": "precision",
    "fp16": "precision",
    "report_to": "report_to",
    "reward_weights": "shaping.weight",
    "shuffle_dataset": "seed",
    "save_strategy": "save_every",
    "save_steps": "save_every",
    "resume_from_checkpoint": "the folder of the run, --out",
    "model_init_kwargs": "model and weights",
    **dict.fromkeys(("top_p", "top_k", "min_p", "repetition_penalty"), "nothing: rollouts are drawn from the model's whole distribution"),
}
"""Settings of TRL that ours decide, and which."""


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
        return cls.of(read_toml(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file, or a JSON file as a run's folder holds one.

    Raises:
        ConfigError: It cannot be read, or is no TOML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        values: dict[str, Any] = json.loads(text) if Path(path).suffix == ".json" else tomllib.loads(text)
        return values
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read settings from {path}: {error}") from None


def with_settings(values: Mapping[str, Any], changed: Iterable[str]) -> dict[str, Any]:
    """Settings with others in their place: KEY=VALUE, where a key of a table is written table.key and a value is JSON where it can be.

    >>> with_settings({"train": {"steps": 60}}, ["train.steps=12", "targeting=general"])
    {'train': {'steps': 12}, 'targeting': 'general'}

    Raises:
        ConfigError: One is not KEY=VALUE, or its key lies in something that is no table.
    """
    found = deepcopy(dict(values))
    for each in changed:
        key, equals, text = each.partition("=")
        *tables, name = key.split(".")
        table: Any = found
        for part in tables:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if not (equals and name and isinstance(table, dict)):
            raise ConfigError(f"--set takes KEY=VALUE, such as targeting=general or train.steps=12; found {each!r}")
        try:
            table[name] = json.loads(text)
        except ValueError:
            table[name] = text
    return found


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


class LoraSettings(Settings):
    """Low-rank adapters by peft: trained in place of the model's weights, and merged into them in the checkpoint."""

    r: int = Field(default=16, ge=1)
    """Their rank."""
    alpha: int = Field(default=32, ge=1)
    """What they add is weighted by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | tuple[str, ...] = "all-linear"
    """The layers that get one."""


class ShapingConfig(Settings):
    """A second reward beside the outcome's, of how an episode went: each term is in [0, 1], best is 1, and they are averaged by weight.

    It is normalised within its group apart from the outcome, so it decides nothing where `weight` is small and outcomes differ; where all
    outcomes of a group are alike, it is all there is to learn from.
    """

    weight: float = Field(default=0.2, gt=0)
    """Of the whole, where the outcome has 1."""
    action_checks: float = Field(default=0.0, ge=0)
    """The share of the reference's writes that were made."""
    authentication: float = Field(default=0.0, ge=0)
    """Whether nothing of a customer was touched before they were identified."""
    repeated_calls: float = Field(default=0.0, ge=0)
    """The share of calls that say something new."""
    format: float = Field(default=0.0, ge=0)
    """The share of turns that could be read."""
    length: float = Field(default=0.0, ge=0)
    """How little of the episode's room for turns was used."""

    @model_validator(mode="after")
    def _has_a_term(self) -> Self:
        if not any((self.action_checks, self.authentication, self.repeated_calls, self.format, self.length)):
            raise ValueError("no term has a weight; give one to action_checks, authentication, repeated_calls, format or length")
        return self


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
    """What training computes in."""
    weights: Literal["fp32", "bf16"] = "fp32"
    """What the model's weights are held in. bf16 halves their memory: for a frozen model under LoRA, or where DeepSpeed keeps fp32 ones."""
    lora: LoraSettings | None = None
    """Adapters in place of the weights; the weights themselves are trained for None."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; torch's own choice for None."""
    shaping: ShapingConfig | None = None
    """A second reward, of how an episode went; the outcome alone is trained on for None."""
    resample: int = Field(default=0, ge=0)
    """How often an update's groups without variance, which have no gradient, are replaced by other tasks' groups; all rollouts count."""
    flat_updates: int = Field(default=20, ge=1)
    """After so many updates in a row without any variance the training ends: there is nothing to learn from these tasks."""
    save_every: int = Field(default=10, ge=1)
    """Updates between the states that a run which was stopped goes on from."""
    report_to: str = "tensorboard"
    """Where TRL logs: "none", "tensorboard", "wandb", "trackio"."""
    trl: Mapping[str, Any] = {}
    """Other settings of TRL's `GRPOConfig` by their names there, such as {"use_vllm": True, "loss_type": "dapo", "logging_steps": 5}."""

    @field_validator("trl")
    @classmethod
    def _leaves_ours_alone(cls, trl: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in trl:
            if name in OURS:
                raise ValueError(f"{name!r} is decided by {OURS[name]}")
        return trl

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what only big models need, so that a tiny run's configuration reads the same with and without it."""
        fields = type(self).model_fields
        unused = {name for name in ("weights", "lora", "shaping", "resample", "trl") if getattr(self, name) == fields[name].default}
        return {name: value for name, value in dump(self).items() if name not in unused}
