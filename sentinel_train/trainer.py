"""GRPO by TRL: its trainer, our rollouts, our reward.

TRL hands every rollout an environment, which here exposes no tool methods: then its own tool loop is off, and `rollout_func` plays
the dialogue with real user turns, tool turns and endings, exactly as evaluation does. Nothing of the algorithm is made here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sentinel_env import ConfigError, Domain, Episode, Task, User, evaluate, record

from .chat import Chat
from .config import TrainConfig
from .dataset import COLUMN, read_row, to_dataset
from .models import load_model, set_threads
from .rollout import Rollout, roll_out
from .served import ServedTurns, check_vllm, require_vllm

Progress = Callable[[dict[str, float]], None]


def train(
    config: TrainConfig, domain: Domain, tasks: Sequence[Task], user: User, *, out: str | Path, progress: Progress | None = None
) -> Path:
    """Train a model on tasks and save it.

    Args:
        config: The run.
        domain: The world.
        tasks: What to train on, in any number; they are drawn in a seeded order, again and again.
        user: Who plays the customer.
        out: The folder of the checkpoint.
        progress: Called after every update with TRL's measurements, such as "step", "reward", "reward_std" and "step_time".

    Returns:
        The checkpoint's folder.

    Raises:
        ConfigError: The settings do not fit each other, or the model cannot be used.
    """
    trainer = make_trainer(config, domain, tasks, user, out=out, progress=progress)
    trainer.train()
    out = Path(out)
    if config.lora is None:
        trainer.save_model(str(out))
    elif trainer.accelerator.is_main_process:
        trainer.accelerator.unwrap_model(trainer.model).merge_and_unload().save_pretrained(str(out))
        trainer.processing_class.save_pretrained(str(out))
    return out


def make_trainer(
    config: TrainConfig, domain: Domain, tasks: Sequence[Task], user: User, *, out: str | Path, progress: Progress | None = None
) -> Any:
    """TRL's `GRPOTrainer`, ready to `train()`. Raises as `train` does."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    set_threads(config.threads)
    import torch
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    args = grpo_config(config, out)  # first: it gives each of several processes its device
    adapters = lora_config(config)
    if args.use_vllm:
        check_vllm(config.trl, args.world_size)
        require_vllm()
    model, tokenizer = load_model(config.model, device=config.device, precision=config.weights)
    chat = Chat(tokenizer, domain)
    world = rollout_environment(domain, config)
    generator = torch.Generator(device=model.device).manual_seed(config.seed + 1_000_003 * args.process_index)

    def rollout_func(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        from trl.models.utils import unwrap_model_for_generation

        episodes = [environment.episode for environment in trainer.environments]
        if args.use_vllm:
            served = ServedTurns(trainer.vllm_generation)
            return as_columns(roll_out(episodes, user, chat, None, config.sampling, generator=generator, turns=served), chat.end_id)
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as unwrapped:
            training = unwrapped.training
            unwrapped.eval()
            rollouts = roll_out(episodes, user, chat, unwrapped, config.sampling, generator=generator)
            unwrapped.train(training)
        return as_columns(rollouts, chat.end_id)

    rows = list(tasks) * -(-config.prompts_per_step // max(1, len(tasks)))  # TRL drops an update that the tasks do not fill
    trainer = GRPOTrainer(
        model=model,
        args=args,
        train_dataset=to_dataset(domain, rows),
        processing_class=tokenizer,
        rollout_func=rollout_func,
        environment_factory=world,
        peft_config=adapters,
        callbacks=_callbacks(progress),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def rollout_environment(domain: Domain, config: TrainConfig) -> type:
    """The class that TRL makes one instance of for each rollout: it starts the episode of a row and grades it."""

    class Rollouts:
        episode: Episode

        def reset(self, **row: Any) -> None:
            sampling = config.sampling
            task = read_row(row[COLUMN])
            self.episode = Episode(domain, task, max_steps=sampling.max_steps, max_errors=sampling.max_errors, seed=config.seed)

        def get_reward(self) -> float | None:
            return evaluate(domain, record(self.episode)).reward

    return Rollouts


def as_columns(rollouts: Sequence[Rollout], end_id: int) -> dict[str, Any]:
    """What TRL's `rollout_func` returns. A rollout without a model turn becomes one masked token."""
    for rollout in rollouts:
        if not rollout.completion_ids:
            rollout.write([end_id])
    return {
        "prompt_ids": [rollout.prompt_ids for rollout in rollouts],
        "completion_ids": [rollout.completion_ids for rollout in rollouts],
        "logprobs": [rollout.logprobs for rollout in rollouts],
        "env_mask": [rollout.mask for rollout in rollouts],
    }


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
        "report_to": config.report_to,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    if config.trl.get("use_vllm"):
        settings["vllm_max_model_length"] = config.sampling.max_episode_tokens
        settings["generation_kwargs"] = {"max_tokens": config.sampling.max_turn_tokens}
    settings |= _passed_on(config, GRPOConfig)
    try:
        return GRPOConfig(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"TRL does not take these settings: {str(error).splitlines()[0]}") from None


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


def _callbacks(progress: Progress | None) -> list[Any]:
    from transformers import TrainerCallback

    class Reports(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if progress is not None and state.is_world_process_zero and logs and "reward" in logs:
                progress({"step": float(state.global_step), **logs})

    return [Reports()]
