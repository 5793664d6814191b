"""`--dry-run`: what a run would do and need, without loading a weight or training a step.

Counted are parameters, rollouts and the most tokens that they can have. Measured on this machine are the reference dialogues of the
tasks: their tokens, where the tokenizer is at hand, and what the environment and its user cost. The model's time is what its arithmetic
takes at an assumed speed (`SPEED`), without waiting for memory, so the environment's share is a rough figure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

from sentinel_env import ConfigError, Domain, Episode, ScriptedUser, Task, drive, evaluate, general_pattern, propose_tasks, record
from sentinel_env.agents import ScriptedAgent

from .accounting import affordable_updates
from .accounting import estimate as estimate_round
from .chat import Chat, text_of
from .config import TrainConfig
from .loop_config import LoopConfig, pool
from .models import resolve
from .sizes import BYTES, Memory, Size, measure, memory

SPEED = {"cpu": 2e10, "gpu": 2e14}
"""Assumed operations a second: two cores, and one large GPU at about a quarter of what its makers name."""
SAMPLE = 20
"""How many reference dialogues are played."""
LETTERS = 4
"""Letters to a token, where the tokenizer is not at hand."""


class Dialogues(BaseModel):
    """Reference dialogues, as an agent without a mistake and without a thought leads them; medians."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    played: int
    prompt_tokens: int
    tokens: int
    """Prompt and completion."""
    written: int
    """By the model."""
    counted: bool
    """Whether the model's own tokenizer counted them; four letters a token otherwise."""
    seconds: float
    """Of environment, user and grade, for one of them."""


class Stage(BaseModel):
    """A part of what would be run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rollouts: int
    updates: int = 0


class Estimate(BaseModel):
    """What a run would do and need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    size: Size
    memory: tuple[Memory, ...]
    cache: int
    """Bytes of the key-value cache with every rollout of an update at its longest, in the precision of the weights."""
    rollouts: int
    """In one update."""
    most_tokens: int
    """In one update: every rollout at its longest."""
    tokens: int
    """In one update of reference dialogues."""
    operations: float
    """Floating-point operations of an update of reference dialogues."""
    environment_seconds: float
    """Of environment, user and grade in an update; a language model as the user is not in it."""
    model_seconds: float
    environment_share: float
    dialogues: Dialogues
    stages: tuple[Stage, ...]
    notes: tuple[str, ...]
    """What was checked, and what is in the way."""


def estimate(config: TrainConfig, domain: Domain, tasks: Sequence[Task], *, loop: LoopConfig | None = None) -> Estimate:
    """Say what a run would do and need.

    Args:
        config: The run.
        domain: The world.
        tasks: What it would train on; a few of them are played by their references.
        loop: The loop that the run is a part of.

    Raises:
        ConfigError: The settings do not fit each other, the model's configuration is not at hand, or the domain has no tasks.
    """
    from .grpo_settings import grpo_config

    args = grpo_config(config, "dry-run")
    size = measure(config)
    dialogues = play(config, domain, tasks)
    rollouts = config.group_size * config.prompts_per_step
    tokens = rollouts * dialogues.tokens
    checkpointing = bool(getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False))
    passes = 2 + 2 * (config.beta > 0) + 6 + 2 * checkpointing  # a token's: sampling, the reference, and forward, backward, forward again
    operations = float(passes * size.parameters * tokens)
    kind = "gpu" if args.use_vllm or not args.use_cpu else "cpu"
    seconds, busy = rollouts * dialogues.seconds, operations / SPEED[kind]
    return Estimate(
        model=config.model,
        size=size,
        memory=memory(size, config, rows=args.per_device_train_batch_size, checkpointing=checkpointing),
        cache=size.cached * BYTES[config.weights] * rollouts * config.sampling.max_episode_tokens,
        rollouts=rollouts,
        most_tokens=rollouts * config.sampling.max_episode_tokens,
        tokens=tokens,
        operations=operations,
        environment_seconds=seconds,
        model_seconds=busy,
        environment_share=seconds / (seconds + busy),
        dialogues=dialogues,
        stages=_stages(config, loop, domain),
        notes=tuple(_notes(config, args, size, dialogues)),
    )


def play(config: TrainConfig, domain: Domain, tasks: Sequence[Task]) -> Dialogues:
    """Play the references of a few tasks and count what they take."""
    if not tasks:
        raise ConfigError("there are no tasks to estimate from; name some with --tasks")
    chosen, chat = tasks[:SAMPLE], _chat(config, domain)
    episodes, seconds = [], []
    for task in chosen:
        agent, start = ScriptedAgent(tasks=(task,)), time.perf_counter()
        episode = drive(Episode(domain, task), agent, ScriptedUser())
        evaluate(domain, record(episode))
        seconds.append(time.perf_counter() - start)
        episodes.append(episode)
    counts = [_count(episode, chat, domain) for episode in episodes]
    return Dialogues(
        played=len(chosen),
        prompt_tokens=int(median(prompt for prompt, _, _ in counts)),
        tokens=int(median(tokens for _, tokens, _ in counts)),
        written=int(median(written for _, _, written in counts)),
        counted=chat is not None,
        seconds=median(seconds),
    )


def _count(episode: Episode, chat: Chat | None, domain: Domain) -> tuple[int, int, int]:
    """Tokens of the prompt, of the whole, and of what the agent wrote."""
    first = next((at for at, message in enumerate(episode.messages) if message.role == "user"), 0) + 1
    opening, rest = episode.messages[:first], episode.messages[first:]
    if chat is not None:
        prompt = len(chat.opening(opening))
        written = sum(len(chat.spell(message)) for message in rest if message.role == "assistant")
        heard = sum(len(chat.following([message])) for message in rest if message.role != "assistant")
        return prompt, prompt + written + heard, written
    prompt = (len(domain.policy) + len(str(domain.schemas)) + sum(len(message.content) for message in opening)) // LETTERS
    written = sum(len(text_of(message)) for message in rest if message.role == "assistant") // LETTERS
    heard = sum(len(message.content) for message in rest if message.role != "assistant") // LETTERS
    return prompt, prompt + written + heard, written


def _chat(config: TrainConfig, domain: Domain) -> Chat | None:
    """The model's tokenizer, where it is at hand."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(config.model), local_files_only=True)
    except (OSError, ValueError):
        return None
    return Chat(tokenizer, domain)


def _stages(config: TrainConfig, loop: LoopConfig | None, domain: Domain) -> tuple[Stage, ...]:
    """What would be run, in its order."""
    training = Stage(name="train", rollouts=config.steps * config.group_size * config.prompts_per_step, updates=config.steps)
    if loop is None:
        return (training,)
    tasks = loop.test_tasks if loop.test_split is None else len(domain.split(loop.test_split))
    held_out = tasks * loop.trials
    stages = [Stage(name="before: the held-out tasks", rollouts=held_out)]
    for number in range(1, loop.rounds + 1):
        stages.extend(_round(loop, number, spent=sum(stage.rollouts for stage in stages[1:])))
    stages.append(Stage(name="after: the held-out tasks", rollouts=held_out))
    return tuple(stage for stage in stages if stage.rollouts)


def _round(loop: LoopConfig, number: int, *, spent: int) -> list[Stage]:
    """What a round runs at most: tasks of earlier rounds are not tried again, and the pool may need fewer new ones."""
    plan = loop.plan()
    if loop.budget is not None:
        plan = plan.model_copy(update={"updates": affordable_updates(plan, number, loop.budget * number // loop.rounds - spent)})
    cost = estimate_round(plan, number)
    return [
        Stage(name=f"round {number}: diagnosis", rollouts=cost.diagnosis),
        Stage(name=f"round {number}: pilot", rollouts=cost.pilot),
        Stage(name=f"round {number}: train", rollouts=cost.training, updates=plan.updates),
    ]


def _notes(config: TrainConfig, args: Any, size: Size, dialogues: Dialogues) -> list[str]:
    """What was checked, and what would be in the way."""
    import trl
    from trl.import_utils import is_vllm_available

    notes = [f"TRL {trl.__version__} takes the settings"]
    longest = config.sampling.max_episode_tokens
    if size.positions is not None and longest > size.positions:
        notes.append(f"sampling.max_episode_tokens is {longest:,}, but the model reads {size.positions:,} tokens: lower it")
    if dialogues.tokens + config.sampling.max_turn_tokens > longest:
        notes.append(f"a reference dialogue takes {dialogues.tokens:,} of {longest:,} tokens: half of the episodes would be truncated")
    if args.use_vllm:
        share = args.vllm_gpu_memory_utilization
        where = f"beside the training, with {share:.0%} of the GPU's memory" if args.vllm_mode == "colocate" else "in a server of its own"
        notes.append(f"turns are generated by vLLM {where}" + ("" if is_vllm_available() else "; vLLM is not installed here"))
    if config.weights == "bf16" and config.lora is None:
        notes.append(
            "all weights are trained and held in bf16, too coarse for small steps: let DeepSpeed keep fp32 ones, or set weights to fp32"
        )
    if "think" in config.model.lower():
        notes.append("references do not think: what the model writes before </think> comes on top of their tokens")
    if not dialogues.counted:
        notes.append(f"the tokenizer is not at hand: {LETTERS} letters were counted as a token")
    return notes


def sample_tasks(loop: LoopConfig, domain: Domain) -> tuple[Task, ...]:
    """A few tasks of the kind that a loop would train on."""
    drafts = propose_tasks(domain, general_pattern(domain, loop.knobs), n=SAMPLE, seed=loop.seed, pool=pool("train"))
    return tuple(draft.draft for draft in drafts)
