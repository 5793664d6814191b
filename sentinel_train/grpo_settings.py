"""TRL's own settings for a run, from ours."""

from __future__ import annotations

import os
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sentinel_env import ConfigError

from .config import TrainConfig


def grpo_config(config: TrainConfig, out: str | Path) -> Any:
    """TRL's own settings for a run.

    Raises:
        ConfigError: The rollouts of an update cannot be split evenly into passes, or TRL knows or takes a setting not (named).
    """
    import torch
    from trl import GRPOConfig

    processes = int(os.environ.get("WORLD_SIZE", "1"))  # as accelerate's launcher tells each of them
    rollouts = config.group_size * config.prompts_per_step
    rows = config.rows_per_pass or max(1, rollouts // processes)
    if rollouts % (rows * processes):
        each = "" if processes == 1 else f" times the {processes} processes"
        raise ConfigError(f"rows_per_pass is {rows}; it{each} must divide group_size x prompts_per_step = {rollouts}")
    if config.prompts_per_step % processes:
        raise ConfigError(
            f"prompts_per_step is {config.prompts_per_step}; each of {processes} processes needs whole groups: make it a multiple"
        )
    on_gpu = config.device == "auto" and torch.cuda.is_available()
    settings: dict[str, Any] = {
        _checkpointing(GRPOConfig): on_gpu,
        "output_dir": str(out),
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "num_generations": config.group_size,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": rollouts // rows // processes,
        "steps_per_generation": rollouts // rows // processes,
        "beta": config.beta,
        "temperature": config.sampling.temperature,
        "max_completion_length": config.sampling.max_episode_tokens,
        "seed": config.seed,
        "use_cpu": not on_gpu,
        "bf16": config.precision == "bf16",
        "dataloader_pin_memory": on_gpu,
        "report_to": _loggers(config.report_to),
        "shuffle_dataset": False,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": 2,  # where a kill tears the last one, the one before is whole
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
    if config.shaping is not None:
        settings["reward_weights"] = [1.0, config.shaping.weight]
        settings["multi_objective_aggregation"] = "normalize_then_sum"
    if config.trl.get("use_vllm"):
        settings["vllm_max_model_length"] = config.sampling.max_episode_tokens
        settings["generation_kwargs"] = {"max_tokens": config.sampling.max_turn_tokens}
    settings |= _passed_on(config, GRPOConfig)
    try:
        return GRPOConfig(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"TRL does not take these settings: {str(error).splitlines()[0]}") from None


def _loggers(name: str) -> str:
    """What TRL is told to log to.

    Raises:
        ConfigError: It is not installed.
    """
    if name in ("tensorboard", "wandb", "trackio", "mlflow") and find_spec(name) is None:
        raise ConfigError(f"report_to is {name}, which is not installed; run `pip install {name}`, or set it to none")
    return name


def _passed_on(config: TrainConfig, accepted: Any) -> dict[str, Any]:
    """The settings of TRL's own, by the names that the installed version has for them."""
    passed = {}
    for name, value in config.trl.items():
        known = _checkpointing(accepted) if name.endswith("_checkpointing") else name
        if known not in accepted.__dataclass_fields__:
            near = get_close_matches(name, accepted.__dataclass_fields__, n=1)
            raise ConfigError(f"unknown setting 'trl.{name}'; TRL's GRPOConfig has none" + (f", did you mean {near[0]!r}?" if near else ""))
        passed[known] = value
    return passed


def lora_config(config: TrainConfig) -> Any:
    """peft's own settings for a run; None where the weights themselves are trained.

    Raises:
        ConfigError: peft is not installed.
    """
    if (lora := config.lora) is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise ConfigError("the setting 'lora' needs peft; run `pip install peft`") from None
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM")


def _checkpointing(config: Any) -> str:
    """The name of the setting that trades compute for memory; transformers renamed it."""
    return "activation_checkpointing" if "activation_checkpointing" in config.__dataclass_fields__ else "gradient_checkpointing"
