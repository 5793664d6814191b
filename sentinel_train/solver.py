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
    from .rollout import hear

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


def fit(
    model: Any, tokenizer: Any, rollouts: Sequence[Rollout], config: SolverConfig, *, out: str | Path, callbacks: Sequence[Any] = ()
) -> Any:
    """Supervised training by TRL on the ids of demonstrations; only the agent's own turns count."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"input_ids": rollout.prompt_ids + rollout.completion_ids, "assistant_masks": [0] * len(rollout.prompt_ids) + rollout.mask}
        for rollout in rollouts
    ]
    for number, course in enumerate(config.courses):
        args = SFTConfig(
            output_dir=str(out),
            max_steps=course.steps,
            per_device_train_batch_size=config.batch_size,
            learning_rate=course.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=50,
            weight_decay=0.0,
            train_sampling_strategy="group_by_length",
            max_length=None,
            seed=config.seed + number,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            report_to="none",
            save_strategy="no",
            logging_steps=25,
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=list(callbacks)
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        model.half().float()
    return model
