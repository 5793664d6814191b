"""Makes the tiny Solver that this package ships: `python -m sentinel_train.build` writes `sentinel_train/tiny/` anew.

The domain and its options are those of `tiny/loop.toml`, so the Solver knows the world that the loop then works in. Its
demonstrations are about other people than the loop's held-out tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field

from sentinel_env import Domain, Episode, ScriptedUser, TaskProposal, drive, general_pattern, propose_tasks
from sentinel_env.knobs import Knobs

from .chat import Chat
from .config import Settings
from .demonstrator import demonstrator
from .loop_config import LoopConfig, pool
from .models import TINY
from .rollout import Rollout
from .solver import SolverConfig, demonstrate, make_model, teach, transcript
from .tokenizer import make_tokenizer, words_of


class BuildConfig(Settings):
    """How the tiny Solver is made."""

    worlds: int = Field(default=60, ge=1)
    """How many databases the demonstrations are drawn from. With one, its ids are learned by heart instead of copied."""
    options: Mapping[str, Any] = {}
    """Options of those databases, beside the loop's."""
    operations: tuple[str, ...] = ()
    """What is demonstrated, where it is not the loop's operations."""
    demonstrations: int = Field(default=200, ge=1)
    """In each of them."""
    sloppy: float = Field(default=0.5, ge=0, le=1)
    """The share of demonstrations with a mistake."""
    fixed: tuple[str, ...] = ()
    """Pieces of text that are tokens of their own."""
    vocabulary_from: int = Field(default=40, ge=1)
    """How many of them the tokenizer's phrases are taken from."""
    solver: SolverConfig = SolverConfig()
    seed: int = 0


def build(config: BuildConfig, loop: LoopConfig, out: Path, *, log: Callable[[str], None] = print) -> Path:
    """Make tokenizer and model, and write them to a folder."""
    from .models import set_threads

    set_threads(config.solver.threads)
    worlds = [
        loop.model_copy(
            update={"options": {**loop.options, **config.options, "seed": number}, "operations": config.operations or loop.operations}
        ).world()
        for number in range(config.worlds)
    ]
    drafts = [_drafts(world, config.demonstrations, config.seed + number, loop.knobs) for number, world in enumerate(worlds)]
    texts = [
        text for world, some in zip(worlds, drafts, strict=True) for text in _transcripts(world, some[: config.vocabulary_from], config)
    ]
    words = {word for world in worlds for word in words_of(world)}
    tokenizer = make_tokenizer(texts, words, fixed=config.fixed)
    rollouts = [
        rollout
        for world, some in zip(worlds, drafts, strict=True)
        for rollout in demonstrations(world, some, Chat(tokenizer, world), config)
    ]
    lengths = sorted(rollout.length for rollout in rollouts)
    log(f"{len(tokenizer)} tokens; {len(rollouts)} demonstrations of {lengths[len(lengths) // 2]} tokens (median), {lengths[-1]} at most")
    model = make_model(tokenizer, config.solver)
    log(f"{sum(weights.numel() for weights in model.parameters()):,} weights")
    teach(model, tokenizer, rollouts, config.solver, out=out, callbacks=[_logger(log)])
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "build.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / "training_args.bin").unlink(missing_ok=True)
    return out


def demonstrations(domain: Domain, drafts: list[TaskProposal], chat: Chat, config: BuildConfig) -> list[Rollout]:
    """The drafts as a sloppy demonstrator solves them, in tokens."""
    random, user = Random(domain.base.digest()), ScriptedUser()
    return [
        demonstrate(Episode(domain, draft.draft, seed=at), demonstrator(domain, draft, random, sloppy=config.sloppy), user, chat)
        for at, draft in enumerate(drafts)
    ]


def _drafts(domain: Domain, count: int, seed: int, knobs: Knobs) -> list[TaskProposal]:
    return propose_tasks(domain, general_pattern(domain, knobs), n=count, seed=seed, pool=pool("train"))


def _transcripts(domain: Domain, drafts: list[TaskProposal], config: BuildConfig) -> list[str]:
    random, user = Random(config.seed), ScriptedUser()
    return [
        transcript(drive(Episode(domain, draft.draft, seed=at), demonstrator(domain, draft, random, sloppy=config.sloppy), user))
        for at, draft in enumerate(drafts)
    ]


def _logger(log: Callable[[str], None]) -> Any:
    from transformers import TrainerCallback

    class Log(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if logs and "loss" in logs:
                log(json.dumps({"step": state.global_step, "loss": round(logs["loss"], 4)}))

    return Log()


if __name__ == "__main__":
    build(BuildConfig.load(TINY / "build.toml"), LoopConfig.load(TINY / "loop.toml"), TINY)
