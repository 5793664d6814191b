"""What adapters change of an episode, which must be nothing, and what they cost.

    python benchmarks/adapters.py                          # all of these, one after the other
    python benchmarks/adapters.py conformance              # scripted episodes and recipes, beside each framework alone (make test-adapters)
    python benchmarks/adapters.py conformance --names mcp openenv
    python benchmarks/adapters.py endpoint                 # run_episode against `sentinel run`, with the same model behind a base URL
    python benchmarks/adapters.py openenv                  # sessions at once, opened and closed, dropped: benchmarks/adapters_openenv.py
    python benchmarks/adapters.py mcp                      # the same, benchmarks/adapters_mcp.py

`conformance` makes an environment for each framework under `.venvs`; `openenv` and `mcp` run in theirs. In `endpoint` the model is our
own server in a process of its own that answers as the scripted agent does, so the time is ours and loopback's. The exit code is 1 where
a reward came out differently or a part failed; no time is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from runner import DOMAIN, Server, chosen, rss

from sentinel_env import LLMAgent, Model, ScriptedUser, Task, Trajectory, arun_episode, evaluate, load_domain
from sentinel_env.attempts import trial_seed
from sentinel_env.runner import arun_tasks

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("conformance", "endpoint", "openenv", "mcp")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"of {', '.join(PARTS)}; all of them for none")
    parser.add_argument("--names", nargs="*", default=[], help="adapters to check for conformance; all of them for none")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--concurrency", type=int, default=200, help="live episodes")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds of every answer")
    options = parser.parse_args()
    failed = 0
    for part in options.parts or PARTS:
        print(f"\n== {part}", flush=True)
        if part == "conformance":
            failed |= subprocess.run(
                [sys.executable, REPOSITORY / "tests" / "adapters" / "run_all.py", *options.names], check=False
            ).returncode
        elif part == "endpoint":
            failed |= endpoint(options)
        else:
            failed |= in_its_environment(part)
    return int(bool(failed))


def in_its_environment(part: str) -> int:
    """A server's own measurement, in the environment that `conformance` made."""
    python = REPOSITORY / ".venvs" / part / "bin" / "python"
    if not python.exists():
        print(f"NOT RUN: there is no environment; make test-adapters ADAPTERS={part} makes it")
        return 1
    return subprocess.run([python, REPOSITORY / "benchmarks" / f"adapters_{part}.py"], check=False).returncode


Play = Callable[[Sequence[Task], int, str], Awaitable[list[Trajectory]]]


def endpoint(options: argparse.Namespace) -> int:
    """`run_episode` and `sentinel run` in turn, three times each."""
    domain = load_domain(DOMAIN)
    tasks, trials = chosen(domain, options.episodes)
    found: dict[str, list[Trajectory]] = {}

    async def in_a_run(tasks: Sequence[Task], trials: int, url: str) -> list[Trajectory]:
        async with Model("scripted", base_url=url, timeout=600.0) as model:
            return await arun_tasks(domain, tasks, LLMAgent(model), ScriptedUser(), trials=trials, concurrency=options.concurrency)

    async def alone(tasks: Sequence[Task], trials: int, url: str) -> list[Trajectory]:
        slots = asyncio.Semaphore(options.concurrency)

        async def one(task: Task, trial: int) -> Trajectory:
            async with slots:
                seed = trial_seed(0, task.id, trial)
                result = await arun_episode(task, domain=domain, base_url=url, model="scripted", seed=seed, timeout=600.0)
            assert result.error is None, result.error
            return result.trajectory

        return await asyncio.gather(*(one(task, trial) for task in tasks for trial in range(trials)))

    ways: dict[str, Play] = {"sentinel run": in_a_run, "run_episode": alone}
    with Server(tasks, trials, latency=options.latency) as url:
        for play in ways.values():  # imports, and the answers that are kept
            asyncio.run(play(tasks[:1], 1, url))
        for turn in range(3):
            for name, play in ways.items():
                row = measured(play, tasks, trials, url, found, name)
                print(
                    json.dumps({"way": name, "turn": turn + 1, "latency, s": options.latency, "live at once": options.concurrency, **row})
                )
    plain = [{message.role: message.content for message in each.messages} for each in found["sentinel run"]]
    same = plain == [{message.role: message.content for message in each.messages} for each in found["run_episode"]]
    rewards = {name: Counter(evaluate(domain, each).reward for each in results) for name, results in found.items()}
    print(f"rewards: {rewards}; same messages: {same}")
    return int(not same or rewards["sentinel run"] != rewards["run_episode"])


def measured(play: Play, tasks: Sequence[Task], trials: int, url: str, found: dict[str, list[Trajectory]], name: str) -> dict[str, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    found[name] = asyncio.run(play(tasks, trials, url))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    calls = sum(each.usage["agent_calls"] for each in found[name])
    return {
        "episodes": len(found[name]),
        "seconds": round(wall, 2),
        "episodes/s": round(len(found[name]) / wall, 1),
        "CPU per call, ms": round(1000 * cpu / calls, 2),
        "memory, MB": round(rss() / 1e6, 1),
        "open files": len(os.listdir("/proc/self/fd")),
        "load": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
