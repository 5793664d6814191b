"""The warm start: a model that calls no tools yet is taught by scripted demonstrations before it learns from its failures.

    [warm_start]
    demonstrations = 400
    steps = 100

Each demonstration is a dialogue about a verified task, with the scripted user, spelt in the model's own chat template and token ids;
only the agent's turns are trained on. Some carry a mistake that the task tempts to, so that something is left to learn from failures.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from sentinel_env import ConfigError, Domain
from sentinel_env.errors import TrainingError
from sentinel_env.knobs import Knobs

from .chat import Chat
from .config import Settings, TrainConfig
from .demonstrations import demonstrations, propose
from .models import load_model, set_threads
from .solver import fit, sft_config
from .trl_runs import logged_to, memory_explained, save

SUMMARY = "warm_start.json"
PASSED_ON = ("deepspeed", "fsdp", "fsdp_config", "gradient_checkpointing", "activation_checkpointing", "gradient_checkpointing_kwargs")
"""Those of TRL's settings in `train.trl` that hold for supervised training too: how it is spread and how it saves memory."""


Progress = Callable[[dict[str, float]], None]


class WarmStart(Settings):
    """Supervised training on demonstrations, before the first round."""

    demonstrations: int = Field(default=400, ge=1)
    """How many dialogues; fewer where the domain has fewer tasks. They are repeated until the steps are done."""
    sloppy: float = Field(default=0.3, ge=0, le=1)
    """The share of them with a mistake; what is demonstrated without any is soon done without any, and leaves nothing to learn."""
    steps: int = Field(default=100, ge=1)
    """Optimiser updates."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """At its highest: it rises over `warmup` and falls to nothing along a cosine."""
    warmup: int = Field(default=10, ge=0)
    """In updates."""
    batch_size: int = Field(default=16, ge=1)
    """Demonstrations per update."""
    rows_per_pass: int | None = Field(default=None, ge=1)
    """Demonstrations per forward and backward pass; all of an update's at once for None. A divisor of batch_size."""


def warm_start(
    config: WarmStart,
    train: TrainConfig,
    domain: Domain,
    out: Path,
    *,
    knobs: Knobs,
    seed: int,
    subjects: Callable[[str], bool],
    report: Progress | None = None,
) -> Path:
    """Teach a model by demonstrations and save it.

    Args:
        config: The demonstrations and the training on them.
        train: Which model, where and in what precision, and the limits of its dialogues.
        domain: The world.
        out: The folder of the checkpoint, which is whole: adapters are merged into the weights. `warm_start.json` counts what was taught.
        knobs: How the tasks are made.
        seed: Same seed, same demonstrations and, on a CPU, the same weights.
        subjects: Whom the demonstrations may be about.
        report: Called after every update with "step" and "loss".

    Returns:
        The checkpoint's folder.

    Raises:
        ConfigError: The settings do not fit each other, the model cannot be used, or no demonstration is left.
        TrainingError: The loss is no number, or memory runs out.
    """
    from .grpo_settings import lora_config

    set_threads(train.threads)
    args = sft_settings(config, train, out, seed=seed)  # first: it gives each of several processes its device
    adapters = lora_config(train)
    model, tokenizer = load_model(train.model, device=train.device, precision=train.weights)
    chat = Chat(tokenizer, domain)
    tasks = propose(domain, config.demonstrations, knobs=knobs, seed=seed, subjects=subjects)
    taught = demonstrations(domain, tasks, chat, train.sampling, sloppy=config.sloppy, seed=seed)
    losses: list[float] = []
    advice = f"warm_start.rows_per_pass is {args.per_device_train_batch_size}: lower it, or train adapters (train.lora)"
    with logged_to(out / "logs"), memory_explained(lambda: "in the warm start", advice):
        trainer = fit(model, tokenizer, taught.rollouts, args, adapters=adapters, callbacks=[_callback(losses, report)])
    save(trainer, train, out)
    if trainer.accelerator.is_main_process:
        summary = {**taught.counts(), "steps": config.steps, "first_loss": losses[0], "last_loss": losses[-1]}
        (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return out


def sft_settings(config: WarmStart, train: TrainConfig, out: str | Path, *, seed: int) -> Any:
    """TRL's own settings for the warm start.

    Raises:
        ConfigError: The demonstrations of an update cannot be split evenly into passes, or TRL does not take a setting.
    """
    import torch

    processes = int(os.environ.get("WORLD_SIZE", "1"))  # as accelerate's launcher tells each of them
    rows = config.rows_per_pass or max(1, config.batch_size // processes)
    if config.batch_size % (rows * processes):
        each = "" if processes == 1 else f" times the {processes} processes"
        raise ConfigError(f"warm_start.rows_per_pass is {rows}; it{each} must divide warm_start.batch_size = {config.batch_size}")
    on_gpu = train.device == "auto" and torch.cuda.is_available()
    settings: dict[str, Any] = {
        "max_steps": config.steps,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": config.batch_size // rows // processes,
        "seed": seed,
        "use_cpu": not on_gpu,
        "bf16": train.precision == "bf16",
        "activation_checkpointing": on_gpu,
        "dataloader_pin_memory": on_gpu,
        "report_to": train.report_to,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
    }
    passed_on = {name: value for name, value in train.trl.items() if name in PASSED_ON}
    if "gradient_checkpointing" in passed_on:
        passed_on["activation_checkpointing"] = passed_on.pop("gradient_checkpointing")
    try:
        return sft_config(out, **settings | passed_on)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"TRL does not take these settings: {str(error).splitlines()[0]}") from None


def _callback(losses: list[float], report: Progress | None) -> Any:
    from transformers import TrainerCallback

    class Reports(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"the loss is {logs['loss']} in step {state.global_step} of the warm start; lower warm_start.learning_rate, or train "
                    "in fp32"
                )
            losses.append(logs["loss"])
            if report is not None and state.is_world_process_zero:
                report({"step": float(state.global_step), "loss": logs["loss"]})

    return Reports()
