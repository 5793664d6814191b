"""What an update of training costs, where its time goes, and how near rollouts come to generation alone.

    python benchmarks/training.py                                    # the tiny Solver in the demo's shop
    python benchmarks/training.py --json                             # the same as JSON
    python benchmarks/training.py --cpu-time                         # CPU seconds of one thread, where others use the cores too
    python benchmarks/training.py --updates 3 --slow-user 0.5        # a customer who takes half a second for every reply
    python benchmarks/training.py --config LOOP.toml --model PATH    # another world, another model

Real updates by `sentinel_train.trainer.train`, on tasks proposed and verified as the loop does it. Where the rollouts' time goes is what
every training logs (`time/generation` and so on); what TRL does besides is timed by TRL itself, which shows it to wandb alone: here it is
listened to. On a GPU a forward pass is not over when TRL says so; its time and the backward pass's mean something together only.

The ceiling is measured twice: as the part of the rollouts' time that is generation, and by generating the same tokens in the same batches
with no episode, user, template or grade around (`Replay`). Nothing is asserted: a timing says something about a machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from sentinel_env import Domain, Episode, Message, ScriptedUser, Task, User, evaluate, general_pattern, propose_tasks, verify_all
from sentinel_train.chat import Chat
from sentinel_train.clock import PARTS
from sentinel_train.commands import quiet
from sentinel_train.config import TrainConfig
from sentinel_train.generate import Turns
from sentinel_train.loop_config import LoopConfig, read_recipe
from sentinel_train.models import TINY, load_model, set_threads
from sentinel_train.rollout import Rollout, roll_out
from sentinel_train.trainer import train

ROOT = Path(__file__).resolve().parent.parent
WARM = 2
"""Updates that are made before those that are measured."""
NAMES = {
    "generation": "generation: the model's turns",
    "environment": "environment: tools, limits, grades",
    "user": "user: the customer's replies",
    "tokens": "tokens: chat template, spelling, reading",
    "trl": "TRL: batches, rewards, advantages, and what is logged of the episodes",
    "forward": "forward: log-probabilities and loss",
    "backward": "backward",
    "rest": "optimiser, logs, the next rows",
}


class SlowUser:
    """The scripted customer behind a wait, as a language model would be; counts how often it is asked, and in how many rounds."""

    name = "slow"

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked, self.rounds = seconds, 0, 0
        self._waiting = 0
        self._user = ScriptedUser()

    async def reply(self, view: Any) -> Message:
        self.asked += 1
        self.rounds += self._waiting == 0  # all that are asked at once come before the first of them has waited
        self._waiting += 1
        await asyncio.sleep(self.seconds)
        self._waiting -= 1
        return self._user.reply(view)


class Replay(Turns):
    """Takes the turns that were taken before: all is computed and drawn as it was then, and what was written then is written again."""

    def __init__(self, written: Sequence[Sequence[Sequence[int]]], *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._written = [list(turns) for turns in written]
        self._turn: dict[int, Iterator[int]] = {}

    def take(self, appended: dict[int, list[int]]) -> dict[int, Any]:
        self._turn = {row: iter(self._written[row].pop(0)) for row in appended}
        return super().take(appended)

    def _sample(self, logits: Any) -> tuple[list[int], list[float]]:
        drawn, chances = super()._sample(logits)
        return [next(self._turn[row], token) for row, token in zip(self._rows, drawn, strict=True)], chances


def turns_of(rollout: Rollout) -> list[tuple[list[int], list[int]]]:
    """What came before each of the model's turns, and what it wrote in it."""
    marked = zip(rollout.completion_ids, rollout.mask, strict=True)
    runs = [[token for token, _ in run] for _, run in groupby(marked, key=lambda pair: pair[1])]
    return list(zip([rollout.prompt_ids, *runs[1::2]], runs[::2], strict=True))


def replay(rollouts: Sequence[Rollout], model: Any, chat: Chat, config: TrainConfig) -> float:
    """Seconds that it takes to generate the same turns again."""
    import torch

    dialogues = [turns_of(rollout) for rollout in rollouts]
    written = [[ids for _, ids in dialogue] for dialogue in dialogues]
    generator = torch.Generator(device=model.device).manual_seed(0)
    turns = Replay(written, model, config.sampling, end_id=chat.end_id, pad_id=chat.pad_id, generator=generator)
    start = time.perf_counter()
    for number in range(max(map(len, dialogues))):
        taken = turns.take({row: dialogue[number][0] for row, dialogue in enumerate(dialogues) if len(dialogue) > number})
        assert all(turn.ids == dialogues[row][number][1] for row, turn in taken.items())
    return time.perf_counter() - start


def play(tasks: Sequence[Task], domain: Domain, user: User, model: Any, chat: Chat, config: TrainConfig, seed: int) -> Any:
    """The rollouts of one update with their grades, apart from TRL, and the seconds that they took."""
    import torch

    start, limits = time.perf_counter(), {"max_steps": config.sampling.max_steps, "max_errors": config.sampling.max_errors}
    episodes = [Episode(domain, task, seed=seed, **limits) for task in tasks for _ in range(config.group_size)]
    generator = torch.Generator(device=model.device).manual_seed(seed)
    rollouts = roll_out(episodes, user, chat, model, config.sampling, generator=generator)
    for rollout in rollouts:
        evaluate(domain, rollout.trajectory())
    return rollouts, time.perf_counter() - start


def ceiling(domain: Domain, tasks: Sequence[Task], user: User, checkpoint: str, config: TrainConfig, repeats: int) -> dict[str, float]:
    """Rollouts per second, and of the same rollouts' turns generated again; the median of pairs, each measured side by side."""
    model, tokenizer = load_model(checkpoint, device=config.device, precision=config.weights)
    chat, size = Chat(tokenizer, domain), config.prompts_per_step
    pairs = []
    for at in range(WARM + repeats):
        chosen = [tasks[(at * size + each) % len(tasks)] for each in range(size)]
        rollouts, seconds = play(chosen, domain, user, model, chat, config, seed=at)
        pairs.append((len(rollouts) / seconds, len(rollouts) / replay(rollouts, model, chat, config)))
    kept = pairs[WARM:]
    rates = [statistics.median(each) for each in zip(*kept, strict=True)]
    return {"playing": rates[0], "alone": rates[1], "share": statistics.median(playing / alone for playing, alone in kept)}


@contextmanager
def timed_by_trl() -> Iterator[Counter[str]]:
    """Seconds by method, as TRL times its own; it reports them to wandb, mlflow and trackio, and to no callback."""
    from trl.extras.profiling import ProfilingContext

    spent: Counter[str] = Counter()
    kept = ProfilingContext._log_metrics
    ProfilingContext._log_metrics = lambda self, seconds: spent.update({self.name.rpartition(".")[2]: seconds})
    try:
        yield spent
    finally:
        ProfilingContext._log_metrics = kept


def updates(config: TrainConfig, domain: Domain, tasks: Sequence[Task], user: User, out: str) -> list[dict[str, float]]:
    """Train; the seconds of each measured update by part, which add up to those between one log and the next."""
    found: list[dict[str, float]] = []
    with timed_by_trl() as spent:
        last = [time.perf_counter()]

        def progress(logs: dict[str, float]) -> None:
            now = time.perf_counter()
            parts = {part: logs[f"time/{part}"] for part in PARTS}
            parts["trl"] = spent["_prepare_inputs"] - sum(parts.values())
            parts["forward"] = spent["compute_loss"]
            parts["backward"] = logs["step_time"] - spent["_prepare_inputs"] - spent["compute_loss"]
            parts["rest"] = now - last[0] - logs["step_time"]
            found.append(parts)
            spent.clear()
            last[0] = now
            print(f"update {logs['step']:.0f} of {config.steps}: {sum(parts.values()):.2f} s", file=sys.stderr)

        train(config, domain, tasks, user, out=out, progress=progress)
    return found[WARM:]


def verified(loop: LoopConfig, domain: Domain, count: int) -> list[Task]:
    """Tasks of every kind."""
    drafts = propose_tasks(domain, general_pattern(domain, loop.knobs), n=2 * count, seed=loop.seed)
    found = [verdict.task for verdict in verify_all(domain, drafts) if verdict.task is not None][:count]
    if not found:
        raise SystemExit(f"no task of {domain.name} could be made; name a configuration whose domain tasks can be proposed for")
    return found


def memory(device: str) -> dict[str, float]:
    """Peaks in MB: of the process, and on a GPU of what torch allocated there."""
    import torch

    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # KB on Linux
    if device == "auto" and torch.cuda.is_available():
        peaks["GPU"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, by name."""
    quiet()
    if options.cpu_time:
        time.perf_counter = time.process_time  # which the clocks of rollouts, of TRL and of this program all read
    config, loop = read_recipe(options.config)
    if loop is None:
        raise SystemExit(f"{options.config} is no loop's configuration; it says nothing about a world")
    changes: dict[str, Any] = {
        "steps": WARM + options.updates,
        "report_to": "none",
        "save_every": WARM + options.updates,
        "flat_updates": 10**6,
    }
    changes |= ({"model": options.model} if options.model else {}) | ({"threads": 1} if options.cpu_time else {})
    config = config.model_copy(update=changes)
    set_threads(config.threads)
    domain = loop.world()
    tasks = verified(loop, domain, config.steps * config.prompts_per_step)
    slow = SlowUser(options.slow_user) if options.slow_user else None
    rollouts = config.prompts_per_step * config.group_size
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as out:
        found = updates(config, domain, tasks, slow or ScriptedUser(), out)
        measured: dict[str, Any] = {
            "about": about(domain, config, load) | {"seconds": "CPU" if options.cpu_time else "wall"},
            "updates": len(found),
            "rollouts": rollouts,
        }
        measured["seconds"] = seconds = {part: statistics.fmean(each[part] for each in found) for part in NAMES}
        measured["memory"] = memory(config.device)
        if slow:
            per_update = {"asked": slow.asked / config.steps, "rounds": slow.rounds / config.steps, "seconds": slow.seconds}
            return measured | {"slow user": per_update}
        playing = [sum(each[part] for part in PARTS) for each in found]
        measured["rollouts/s"] = {
            "by the clock": {
                "playing": rollouts / statistics.fmean(playing),
                "alone": rollouts / seconds["generation"],
                "share": seconds["generation"] / statistics.fmean(playing),
            },
            "beside a replay": ceiling(domain, tasks, ScriptedUser(), out, config, options.updates),
        }
    return measured


def about(domain: Domain, config: TrainConfig, load: float) -> dict[str, Any]:
    """What a reader has to know about a run."""
    import torch

    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    gpu = config.device == "auto" and torch.cuda.is_available()
    return {
        "model": config.model,
        "world": repr(domain.base),
        "device": torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load average before": round(load, 2),
        "revision": revision,
    }


def show(measured: dict[str, Any]) -> None:
    """The figures as Markdown."""
    print(", ".join(f"{name}: {value}" for name, value in measured["about"].items()))
    seconds, rollouts = measured["seconds"], measured["rollouts"]
    whole = sum(seconds.values())
    print(f"\n| an update of {rollouts} rollouts, mean of {measured['updates']} | s | % |\n|---|---|---|")
    for part, name in NAMES.items():
        print(f"| {name} | {seconds[part]:.3f} | {100 * seconds[part] / whole:.1f} |")
    print(f"| all | {whole:.3f} | 100 |")
    if "rollouts/s" in measured:
        print("\n| rollouts/s | played and graded | generation alone | of it |\n|---|---|---|---|")
        for name, rate in measured["rollouts/s"].items():
            print(f"| {name} | {rate['playing']:.1f} | {rate['alone']:.1f} | {100 * rate['share']:.1f} % |")
    if slow := measured.get("slow user"):
        print(
            f"\nThe customer takes {slow['seconds']} s and is asked {slow['asked']:.0f} times an update, in {slow['rounds']:.1f} rounds: "
            f"{slow['rounds'] * slow['seconds']:.1f} s if all of a round are asked at once (measured: {seconds['user']:.1f} s), "
            f"{slow['asked'] * slow['seconds']:.0f} s one after another"
        )
    print("\npeak memory: " + ", ".join(f"{name} {peak:,.0f} MB" for name, peak in measured["memory"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--config", type=Path, default=TINY / "loop.toml", help="a loop's configuration")
    parser.add_argument("--model", help="another model than the configuration's")
    parser.add_argument("--updates", type=int, default=10, help=f"how many are measured, after {WARM} others")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU seconds in place of those that pass, with one thread")
    parser.add_argument("--slow-user", type=float, metavar="SECONDS", help="the customer takes so long for every reply")
    options = parser.parse_args()
    measured = measure(options)
    if options.json:
        print(json.dumps(measured, indent=2))
    else:
        show(measured)


if __name__ == "__main__":
    main()
