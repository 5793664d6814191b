"""What Ray costs and gives: live episodes with models on both sides, a node that is killed in the middle, and the verbs in parts.

    python benchmarks/ray_runs.py latency        # 256 live episodes, 2 s for every answer, over the workers of a cluster on this machine
    python benchmarks/ray_runs.py nodes          # a run over several nodes, one of which is killed, against the same run in one process
    python benchmarks/ray_runs.py verbs          # propose, verify and failures, against the same in one process

`latency` is `benchmarks/runner.py latency` with another executor; its server, its sides and its bound are used. Starting Ray is counted
apart, and so is starting its workers. CPU is that of the driver and the workers, so without the server and without Ray's own processes.
Nothing is asserted there; `nodes` and `verbs` end with exit code 1 where anything was lost, doubled or changed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner import DOMAIN, Server, chosen, least, rss, sides

from sentinel_env import (
    Domain,
    ScriptedAgent,
    ScriptedUser,
    Task,
    Trajectory,
    evaluate,
    find_failures,
    load_domain,
    propose_tasks,
    ray_runs,
    run_tasks,
)
from sentinel_env.failures.mining import report
from sentinel_env.failures.tally import Tally
from sentinel_env.ray_cluster import Ray
from sentinel_env.ray_parts import propose_in_parts, tally_in_parts, verify_in_parts
from sentinel_env.verification import Examination, verify_all

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


def workers() -> list[int]:
    """This process's workers, which play attempts."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if (
                folder.name.isdigit()
                and b"ray::Worker" in (folder / "cmdline").read_bytes()
                and parent(parent(int(folder.name))) == os.getpid()
            ):
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_of(process: int) -> float:
    """Seconds of CPU time so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def started_crew(at: dict[str, float]) -> Iterator[None]:
    """Note when all workers are ready, and their CPU time until then."""
    start = ray_runs._Crew.start

    async def noted(crew: Any) -> None:
        await start(crew)
        at["ready"], at["cpu before"] = time.perf_counter(), sum(map(cpu_of, workers()))

    ray_runs._Crew.start = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        ray_runs._Crew.start = start  # type: ignore[method-assign]


def latency(options: argparse.Namespace) -> dict[str, Any]:
    domain = load_domain(DOMAIN)
    tasks, trials = chosen(domain, options.episodes)
    total = len(tasks) * trials
    at_end: dict[str, Any] = {"made": 0}

    def on_result(_: Trajectory) -> None:
        at_end["made"] += 1
        if at_end["made"] == total:
            players = workers()
            at_end["workers"] = len(players)
            at_end["cpu"], at_end["memory"] = sum(map(cpu_of, players)), sum(map(memory_of, players))

    with Server(tasks, trials, latency=options.latency) as url, tempfile.TemporaryDirectory() as folder:
        agent, user = sides(url, options.through, timeout=600.0)
        load, began = os.getloadavg()[0], time.perf_counter()
        with Ray().connected(), started_crew(at_end):
            started = time.perf_counter() - began
            began, own = time.perf_counter(), time.process_time()
            settings: dict[str, Any] = {"trials": trials, "concurrency": options.concurrency, "executor": "ray"}
            results = run_tasks(domain, tasks, agent, user, **settings, out=Path(folder) / "run", on_result=on_result)
            wall, own = time.perf_counter() - at_end["ready"], time.process_time() - own
            starting = at_end["ready"] - began
    by_id = {result.id: sum(result.usage[f"{side}_calls"] for side in ("agent", "user")) for result in results}
    plan = [by_id[f"{task.id}/{trial}"] * options.latency for trial in range(trials) for task in tasks]
    bound, calls = least(plan, options.concurrency), agent.model.spent.calls + user.model.spent.calls
    return {
        "through": options.through,
        "episodes": total,
        "live at once": min(options.concurrency, total),
        "latency, s": options.latency,
        "workers": at_end["workers"],
        "ended by infrastructure": sum(result.error is not None for result in results),
        "passed": sum(evaluate(domain, result).passed for result in results),
        "calls": calls,
        "starting Ray, s": round(started, 2),
        "starting the workers, s": round(starting, 2),
        "seconds": round(wall, 2),
        "least possible": round(bound, 2),
        "ratio": round(wall / bound, 3),
        "CPU of the driver, ms a call": round(1000 * own / calls, 3),
        "CPU of the workers, ms a call": round(1000 * (at_end["cpu"] - at_end["cpu before"]) / calls, 3),
        "memory of a worker, MB": round(at_end["memory"] / at_end["workers"] / 1e6),
        "memory of the driver, MB": round(rss() / 1e6),
        "load before": load,
        "load after": os.getloadavg()[0],
    }


def nodes(options: argparse.Namespace) -> dict[str, Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    domain = load_domain(DOMAIN)
    tasks, trials = chosen(domain, options.episodes)
    seconds: dict[str, float] = {}
    seen: Counter[str] = Counter()

    with tempfile.TemporaryDirectory() as folder:

        def play(name: str, **settings: Any) -> bytes:
            began = time.perf_counter()
            out = Path(folder) / name
            run_tasks(domain, tasks, ScriptedAgent(), ScriptedUser(), trials=trials, concurrency=options.concurrency, out=out, **settings)
            seconds[name] = round(time.perf_counter() - began, 2)
            assert not (out / "errors.jsonl").exists()
            return (out / "trajectories.jsonl").read_bytes()

        expected = play("in one process")
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        others = [cluster.add_node(**NODE) for _ in range(options.nodes - 1)]
        with Ray(cluster.address).connected():
            same = play("over all nodes", executor="ray") == expected

            def kill_one(result: Trajectory) -> None:
                seen[result.id] += 1
                if seen.total() == len(tasks) * trials // 4:
                    os.kill(others[0].all_processes["raylet"][0].process.pid, signal.SIGKILL)

            with_kill = play("with one killed after a quarter", executor="ray", on_result=kill_one) == expected
        cluster.shutdown()
    doubled = sum(times > 1 for times in seen.values())
    return {
        "episodes": len(tasks) * trials,
        "nodes": options.nodes,
        "seconds": seconds,
        "same bytes": same,
        "same bytes with one killed": with_kill,
        "lost": len(tasks) * trials - len(seen),
        "doubled": doubled,
        "load": os.getloadavg()[0],
        "failed": bool(not same or not with_kill or doubled or len(seen) != len(tasks) * trials),
    }


def forgetful(domain: Domain, task: Task) -> Iterable[Any]:
    """The reference without its last write."""
    writes = [at for at, call in enumerate(task.criteria.actions) if domain.tools_by_name[call.name].writes]
    return [call for at, call in enumerate(task.criteria.actions) if at not in writes[-1:]]


def verbs(options: argparse.Namespace) -> dict[str, Any]:
    domain = load_domain(DOMAIN)
    agent = ScriptedAgent(plan=forgetful)  # type: ignore[arg-type]
    played = run_tasks(domain, domain.split("train"), agent, ScriptedUser(), trials=options.trials)
    patterns = find_failures(domain, played)
    seconds: dict[str, dict[str, float]] = {}
    differing = []

    def both(name: str, here: Callable[[], Any], there: Callable[[], Any]) -> Any:
        found = []
        for where, work in (("local", here), ("ray", there)):
            began = time.perf_counter()
            found.append(work())
            seconds.setdefault(name, {})[where] = round(time.perf_counter() - began, 2)
        if repr(found[0]) != repr(found[1]):
            differing.append(name)
        return found[0]

    began = time.perf_counter()
    with Ray().connected():
        started = time.perf_counter() - began
        cluster, n = Ray(), options.drafts
        each = both(
            "propose",
            lambda: [propose_tasks(domain, pattern, n=n) for pattern in patterns],
            lambda: [drafts for drafts, _ in propose_in_parts(cluster, domain, patterns, n=n)],
        )
        drafts = [draft for some in each for draft in some]
        examination = Examination()
        both(
            "verify",
            lambda: list(verify_all(domain, drafts, known=domain.tasks_by_id.values(), examination=examination)),
            lambda: list(verify_in_parts(cluster, domain, drafts, examination)),
        )
        both("failures", lambda: report(Tally(domain).add_all(played)), lambda: report(tally_in_parts(cluster, domain, played)))
    return {
        "patterns": len(patterns),
        "proposals": len(drafts),
        "trajectories": len(played),
        "starting Ray, s": round(started, 2),
        "seconds": seconds,
        "differing": differing,
        "load": os.getloadavg()[0],
        "failed": bool(differing),
    }


PARTS = {"latency": latency, "nodes": nodes, "verbs": verbs}
DEFAULTS: dict[str, dict[str, Any]] = {
    "latency": {"episodes": 256, "concurrency": 256},
    "nodes": {"episodes": 2000, "concurrency": 32},
    "verbs": {"episodes": 0, "concurrency": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds for every answer")
    parser.add_argument("--through", choices=("base-url", "litellm"), default="base-url")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--drafts", type=int, default=200, help="for each pattern")
    parser.add_argument("--trials", type=int, default=40, help="of the run whose failures are mined")
    options = parser.parse_args()
    for name, value in DEFAULTS[options.part].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    found = PARTS[options.part](options)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found.get("failed") else 0)


if __name__ == "__main__":
    main()
