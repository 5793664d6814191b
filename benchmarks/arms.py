"""Arms of the loop at equal rollouts: one configuration, several targetings, several seeds, one table.

    python benchmarks/arms.py                                              # the tiny recipe: closed_loop and general, seeds 0 to 4
    python benchmarks/arms.py --arms closed_loop placebo general --seeds 0-7 --config LOOP.toml --budget 20000

Every run is `sentinel loop` in a process of its own, in a folder of its own, and goes on where it was stopped. All runs of a comparison
have one budget of rollouts (diagnosis, pilot and training), and runs of one seed have the same held-out tasks, so that arms are compared
task by task. Another seed has other held-out tasks, other drafts and other draws: the interval over seeds holds all of that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sentinel_env import paired_difference, read_trajectories
from sentinel_env.evaluation import evaluate
from sentinel_env.metrics import Results, group_by_task, pass_hat_k
from sentinel_train.accounting import Ledger, unequal
from sentinel_train.loop_config import LoopConfig
from sentinel_train.models import TINY
from sentinel_train.targeting import Targeting

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)
"""Of Student's t at 97.5 %, for 1, 2, ... degrees of freedom."""
KS = (1, 2, 3, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=TINY / "loop.toml", help="The loop; its targeting, budget and seed are replaced.")
    parser.add_argument("--arms", nargs="+", default=["closed_loop", "general"], choices=Targeting.__args__)
    parser.add_argument("--seeds", default="0-4", help="Such as 0-4 or 0,3,7.")
    parser.add_argument("--budget", type=int, default=5880, help="Rollouts of each run.")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run.")
    parser.add_argument("--processes", type=int, default=2, help="Runs at a time.")
    parser.add_argument("--out", type=Path, default=Path("runs/arms"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    first, dash, last = options.seeds.partition("-")
    seeds = range(int(first), int(last) + 1) if dash else [int(seed) for seed in options.seeds.split(",")]
    runs = [(arm, seed) for seed in seeds for arm in options.arms]
    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(lambda run: one(options, *run), runs))
    found = read(options.out, options.arms, list(seeds))
    print(json.dumps(found, indent=2) if options.json else text(found))


def one(options: argparse.Namespace, arm: str, seed: int) -> None:
    """Run one loop, or go on with it."""
    folder = options.out / f"{arm}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    base = LoopConfig.load(options.config)
    changes = {
        "targeting": arm,
        "budget": options.budget,
        "seed": seed,
        "train": base.train.model_copy(update={"threads": options.threads}),
    }
    config = options.out / f"{arm}-{seed}.json"
    config.write_text(base.model_copy(update=changes).model_dump_json(indent=2) + "\n")
    command = [sys.executable, "-m", "sentinel_env", "loop", str(config), "--out", str(folder), "--json"]
    with (options.out / f"{arm}-{seed}.log").open("w") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, check=False, env={**os.environ, "OMP_NUM_THREADS": str(options.threads)})
    print(f"{arm}, seed {seed}: exit code {ended.returncode}", file=sys.stderr, flush=True)


def results(folder: Path, run: str, config: LoopConfig) -> Results:
    """What came of each held-out task."""
    domain = config.world()
    return group_by_task((each.task.id, evaluate(domain, each).reward) for each in read_trajectories(folder / run))


def read(out: Path, arms: list[str], seeds: list[int]) -> dict[str, Any]:
    """The figures of all runs; Pass^k as values, differences as [mean, low, high]."""
    rows, after, spent = [], {}, {}
    for arm in arms:
        for seed in seeds:
            folder = out / f"{arm}-{seed}"
            config = LoopConfig.model_validate_json((folder / "loop.json").read_text(encoding="utf-8"))
            before = results(folder, "before", config)
            after[arm, seed] = results(folder, "after", config)
            spent[f"{arm}, seed {seed}"] = Ledger(folder / "rollouts.jsonl").counted()
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "rollouts": spent[f"{arm}, seed {seed}"],
                    "updates": sum(json.loads(file.read_text())["trained"]["updates"] for file in folder.glob("rounds/*/round.json")),
                    "before": [pass_hat_k(before, k).value for k in KS],
                    "after": [pass_hat_k(after[arm, seed], k).value for k in KS],
                    "difference": [_triple(paired_difference(before, after[arm, seed], k)) for k in KS],
                }
            )
    over_seeds = {}
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm]
        over_seeds[arm] = {
            "before": [over([row["before"][at] for row in own]) for at in range(len(KS))],
            "after": [over([row["after"][at] for row in own]) for at in range(len(KS))],
            "after - before": [over([row["difference"][at][0] for row in own]) for at in range(len(KS))],
        }
    base, *others = arms
    versus = {
        other: [over([paired_difference(after[other, seed], after[base, seed], k).value for seed in seeds]) for k in KS] for other in others
    }
    return {"runs": rows, "over_seeds": over_seeds, f"{base}_minus": versus, "unequal": unequal(spent)}


def _triple(estimate: Any) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def over(values: list[float]) -> list[float]:
    """Mean and 95 % interval of independent runs, by Student's t; without an interval for a single run."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return [mean, float("nan"), float("nan")]
    half = T_QUANTILES[min(len(values) - 2, len(T_QUANTILES) - 1)] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return [mean, mean - half, mean + half]


def text(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| arm | seed | rollouts | updates | Pass^1 before | after | difference | Pass^4 before | after | difference |",
        "|" + "---|" * 10,
    ]
    for row in found["runs"]:
        cells = [row["arm"], row["seed"], f"{row['rollouts']:,}", row["updates"]]
        for at in (0, 3):
            cells += [f"{100 * row['before'][at]:.1f}", f"{100 * row['after'][at]:.1f}", _shown(row["difference"][at])]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| over seeds (95 % interval of runs, Student's t) | Pass^1 | Pass^2 | Pass^3 | Pass^4 |", "|" + "---|" * 5]
    for arm, figures in found["over_seeds"].items():
        for what, values in figures.items():
            shown = _shown if "-" in what else _share
            lines.append(f"| {arm}: {what} | " + " | ".join(map(shown, values)) + " |")
    for name, value in found.items():
        if name.endswith("_minus"):
            for other, differences in value.items():
                lines.append(f"| {name.removesuffix('_minus')} - {other}, after | " + " | ".join(map(_shown, differences)) + " |")
    return "\n".join([*lines, *([f"\nNot at equal rollouts: {found['unequal']}"] if found["unequal"] else [])])


def _share(triple: list[float]) -> str:
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * each for each in triple))


def _shown(triple: list[float]) -> str:
    value, low, high = (100 * each for each in triple)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    main()
