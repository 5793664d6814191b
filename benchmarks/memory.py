"""Whether memory stays flat over thousands of episodes in one process.

    python benchmarks/memory.py scripted                 # 10,000 episodes of scripted sides in ten runs, then in one
    python benchmarks/memory.py models                   # both sides models, over HTTP, against our own server without latency
    python benchmarks/memory.py scripted --trace         # where memory grew between the third run and the last, slower

`run_tasks` returns every trajectory, so one long run grows by what a trajectory takes; that is measured in `one run`. Whatever else is
kept (caches, scripts, connections, tasks of the event loop) shows in `ten runs`, each into a folder of its own, whose results are
dropped: there the resident memory must not grow from run to run. The server is a process of its own and not counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from runner import DOMAIN, Server, rss, sides

from sentinel_env import Domain, Task, Trajectory, load_domain, run_tasks

RUNS = 10
SETTLED = 3
"""Runs after which everything that is made once has been made."""


def play(domain: Domain, tasks: Sequence[Task], players: tuple[Any, Any], trials: int, **settings: Any) -> int:
    """One run into a folder, its results dropped."""
    with tempfile.TemporaryDirectory() as folder:
        return sum(
            result.error is None for result in run_tasks(domain, tasks, *players, trials=trials, out=Path(folder) / "run", **settings)
        )


def ten_runs(domain: Domain, tasks: Sequence[Task], players: tuple[Any, Any], options: argparse.Namespace) -> dict[str, Any]:
    trials = options.episodes // RUNS // len(tasks)
    rows: list[float] = []
    finished = 0
    before = None
    for at in range(RUNS):
        finished += play(domain, tasks, players, trials, concurrency=options.concurrency)
        gc.collect()
        rows.append(rss())
        print(f"run {at + 1}: {finished:,} episodes, {rows[-1] / 1e6:.1f} MB", file=sys.stderr, flush=True)
        if options.trace and at + 1 == SETTLED:
            before = tracemalloc.take_snapshot()
    grown = rows[-1] - rows[SETTLED - 1]
    found: dict[str, Any] = {
        "episodes": finished,
        "MB after each run": [round(each / 1e6, 1) for each in rows],
        "bytes an episode, after the third run": round(grown / (trials * len(tasks) * (RUNS - SETTLED))),
    }
    if before is not None:
        found["grown most"] = [str(each) for each in tracemalloc.take_snapshot().compare_to(before, "lineno")[:10]]
    return found


def one_run(domain: Domain, tasks: Sequence[Task], players: tuple[Any, Any], options: argparse.Namespace) -> dict[str, Any]:
    trials = options.episodes // len(tasks)
    rows: list[float] = []
    seen = 0

    def note(_: Trajectory) -> None:
        nonlocal seen
        seen += 1
        if seen % (options.episodes // RUNS) == 0:
            rows.append(rss())
            print(f"one run: {seen:,} episodes, {rows[-1] / 1e6:.1f} MB", file=sys.stderr, flush=True)

    gc.collect()
    start = rss()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        results = run_tasks(domain, tasks, *players, trials=trials, concurrency=options.concurrency, out=out, on_result=note)
        size = (out / "trajectories.jsonl").stat().st_size
        end = rss()
        count = len(results)
        del results
        gc.collect()
    return {
        "episodes": count,
        "MB before": round(start / 1e6, 1),
        "MB after each tenth": [round(each / 1e6, 1) for each in rows],
        "bytes that an episode's result holds": round((rows[-1] - rows[0]) / (count * (RUNS - 1) / RUNS)),
        "bytes of its line in the file": round(size / count),
        "MB at the end": round(end / 1e6, 1),
        "MB once the results are dropped": round(rss() / 1e6, 1),
    }


PARTS = {"ten-runs": ten_runs, "one-run": one_run}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("players", choices=("scripted", "models"))
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--part", choices=PARTS, help="only this one")
    parser.add_argument("--trace", action="store_true", help="follow allocations")
    options = parser.parse_args()
    domain = load_domain(DOMAIN)
    tasks = domain.split("train")[: min(100, options.episodes // RUNS)]
    if options.trace:
        tracemalloc.start(10)
    found: dict[str, Any] = {"players": options.players}
    for name in (options.part,) if options.part else PARTS:
        began = time.perf_counter()
        trials = options.episodes // len(tasks) // (RUNS if name == "ten-runs" else 1)
        with Server(tasks, trials) if options.players == "models" else nullcontext("") as url:
            players = sides(url, "base-url" if url else "scripted")
            found[name] = PARTS[name](domain, tasks, players, options) | {"seconds": round(time.perf_counter() - began)}
    print(json.dumps(found | {"load": os.getloadavg()[0]}, indent=2))


if __name__ == "__main__":
    main()
