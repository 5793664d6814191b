"""The embedded Solver: a Llama of under a million parameters that works and learns in text on two CPU cores.

It is made once, offline, and shipped: a tokenizer of the domain's words and phrases, a small model, and supervised training by TRL on
demonstrations of a scripted agent that is sloppy on purpose, so that there is something left to learn from failures.
`initializer_range` is what makes ids learnable to copy: at transformers' default a model of this size takes many times as long.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentinel_env import Agent, Episode, Message, User

from .chat import Chat, text_of
from .config import Settings
from .rollout import Rollout


class Course(Settings):
    """One pass of supervised training: warm-up, then a learning rate that falls to nothing along a cosine."""

    steps: int
    learning_rate: float = 2e-3


class SolverConfig(Settings):
    """Size and training of the tiny Solver."""

    hidden: int = 128
    inner: int = 256
    layers: int = 3
    heads: int = 4
    positions: int = 1024
    initializer_range: float = 0.08
    batch_size: int = 16
    courses: tuple[Course, ...] = (Course(steps=1500),)
    """One after the other, each with another order of the demonstrations; between them the weights are rounded as they are shipped."""
    seed: int = 0
    threads: int = 1


def demonstrate(episode: Episode, agent: Agent, user: User, chat: Chat) -> Rollout:
    """Play an episode with a scripted agent and spell its turns as a model would have written them."""
    from .asking import hear

    rollout = Rollout(episode)
    hear([episode], user)
    rollout.prompt_ids = chat.opening(episode.messages)
    while episode.awaiting is not None:
        message = agent.act(episode.agent_view())
        assert isinstance(message, Message)
        ids = chat.spell(message)
        rollout.write(ids, [0.0] * len(ids))
        answers = episode.act(message)
        if episode.awaiting == "user":
            answers = [*answers, *hear([episode], user)]
        if episode.awaiting == "agent":
            rollout.write(chat.following(answers))
    return rollout


def transcript(episode: Episode) -> str:
    """A finished episode as one text, to train the tokenizer on."""
    from .tokenizer import END

    parts = []
    for message in episode.messages:
        if message.role == "assistant":
            parts.append(f"<|im_start|>assistant\n{text_of(message)}{END}\n")
        elif message.role == "tool":
            parts.append(f"<|im_start|>user\n<tool_response>\n{message.content}\n</tool_response>{END}\n")
        else:
            parts.append(f"<|im_start|>user\n{message.content}{END}\n")
    return "".join(parts)


def make_model(tokenizer: Any, config: SolverConfig) -> Any:
    """An untrained Llama of the configured size."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            hidden_size=config.hidden,
            intermediate_size=config.inner,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.positions,
            initializer_range=config.initializer_range,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def sft_config(out: str | Path, **settings: Any) -> Any:
    """TRL's own settings for supervised training: a learning rate that falls to nothing along a cosine, and nothing cut or saved."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl import SFTConfig

    ours: dict[str, Any] = {
        "output_dir": str(out),
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.0,
        "train_sampling_strategy": "group_by_length",
        "max_length": None,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return SFTConfig(**ours | settings)


def fit(model: Any, tokenizer: Any, rollouts: Sequence[Rollout], args: Any, *, adapters: Any = None, callbacks: Sequence[Any] = ()) -> Any:
    """Supervised training by TRL on the ids of demonstrations; only the agent's own turns count.

    Args:
        model: The model, which is trained in place.
        tokenizer: Its tokenizer.
        rollouts: The demonstrations.
        args: TRL's settings, of `sft_config`.
        adapters: peft's settings, where adapters are trained in place of the weights.
        callbacks: Of transformers' trainer.

    Returns:
        TRL's `SFTTrainer`, after the training.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTTrainer

    if adapters is not None:
        set_seed(args.seed)  # the trainer seeds itself only after it has made them
    rows = [
        {"input_ids": rollout.prompt_ids + rollout.completion_ids, "assistant_masks": [0] * len(rollout.prompt_ids) + rollout.mask}
        for rollout in rollouts
    ]
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapters,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def teach(
    model: Any, tokenizer: Any, rollouts: Sequence[Rollout], config: SolverConfig, *, out: str | Path, callbacks: Sequence[Any] = ()
) -> Any:
    """The tiny Solver's courses on the CPU; after each, the weights are rounded as they are shipped."""
    for number, course in enumerate(config.courses):
        args = sft_config(
            out,
            max_steps=course.steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=course.learning_rate,
            warmup_steps=50,
            seed=config.seed + number,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            report_to="none",
            logging_steps=25,
        )
        fit(model, tokenizer, rollouts, args, callbacks=callbacks)
        model.half().float()
    return model
