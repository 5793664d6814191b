"""What the runner costs beside models that take their time, what a kill leaves, and what faults of a provider change.

    python benchmarks/runner.py latency                               # 256 live episodes, 2 s for every answer, through a base URL
    python benchmarks/runner.py latency --through litellm
    python benchmarks/runner.py kills                                 # kill -9 at 50 random moments of runs of 200 episodes
    python benchmarks/runner.py kills --through scripted              # the same without models, in a tenth of the CPU time
    python benchmarks/runner.py faults                                # a fifth of all answers is a fault of one of ten kinds
    python benchmarks/runner.py latency --episodes 32 --latency 0.2   # smaller

Both sides are models: `LLMAgent` and `LLMUser`, over HTTP, against our own `ModelServer` in a process of its own, which answers as the
scripted agent and the scripted user did when it started; so the server costs little, and every answer is known by the request alone,
whatever the order. What a fault is, is drawn by lot from the request and how often it was asked, for the same reason.

`latency` compares the time that passed with the least that any runner could need: every call takes the latency and nothing else, and
the next episode begins when one ends. CPU is this process's, so without the server. Nothing is asserted there; `kills` and `faults`
end with exit code 1 where anything was lost, doubled or changed.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from sentinel_env import Domain, Message, ScriptedAgent, ScriptedUser, Task, Trajectory, evaluate, load_domain, run_tasks
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_user import LLMUser
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.scores import score
from sentinel_env.trajectory import read_trajectories

DOMAIN = "retail"
BROKEN = {"id": "call_x", "type": "function", "function": {"name": "get_order_details", "arguments": '{"order_id": '}}
FAULTS = {
    "429 with Retry-After": Reply("slow down", status=429, retry_after=0.1),
    "500": Reply("boom", status=500),
    "503": Reply("overloaded", status=503),
    "late": Reply("too late", delay=30.0),
    "hang": Reply(fault="hang"),
    "cut": Reply(fault="cut"),
    "no JSON": Reply(fault="not_json"),
    "no choices": Reply(fault="no_choices"),
    "empty": Reply(""),
    "broken arguments": Reply(calls=(BROKEN,)),
}


# the server


def serve(pipe: Connection, tasks: Sequence[Task], trials: int, latency: float, share: float, seed: int) -> None:
    """Play both sides until the other end says to stop; then say which faults there were."""
    domain = load_domain(DOMAIN)
    played = run_tasks(domain, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), trials=trials)
    written = {each.seed: each.messages for each in played}
    asked: Counter[bytes] = Counter()
    made: Counter[str] = Counter()

    def script(request: Mapping[str, Any]) -> Reply:
        said = answer(request, written[request["seed"]])
        if share:
            content = hashlib.sha256(json.dumps([request["messages"], request["seed"]]).encode()).digest()
            random = Random(f"{seed} {asked[content]} {content.hex()}")
            asked[content] += 1
            if random.random() < share:
                name = random.choice([name for name in FAULTS if name != "broken arguments" or "tools" in request])
                made[name] += 1
                return FAULTS[name]
        return Reply(said.content, calls=said.tool_calls, delay=latency)

    with ModelServer(script, remembers=False) as server:
        pipe.send(server.url)
        pipe.recv()
    pipe.send(dict(made))


def answer(request: Mapping[str, Any], written: Sequence[Message]) -> Message:
    """The message that the scripted side wrote at this place."""
    rows = request["messages"][1:]
    if request["messages"][0]["content"].startswith("You play a customer"):
        return [each for each in written if each.role == "user"][sum(row["role"] == "assistant" for row in rows)]
    turns = sum(row["role"] == "assistant" for row in rows) - sum(is_about_form(row) for row in rows)
    return [each for each in written if each.role == "assistant"][turns]


def is_about_form(row: Mapping[str, Any]) -> bool:
    """Whether a message tells the agent that its turn was none."""
    return row["role"] == "user" and row["content"].startswith("Error: ")


class Server:
    """The server's process."""

    def __init__(self, tasks: Sequence[Task], trials: int, *, latency: float = 0.0, share: float = 0.0, seed: int = 0) -> None:
        self._pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, tasks, trials, latency, share, seed))
        self.faults: dict[str, int] = {}

    def __enter__(self) -> str:
        self._process.start()
        return str(self._pipe.recv())

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self.faults = self._pipe.recv()
        self._process.join()


# the parts


def sides(url: str, through: str, **settings: Any) -> tuple[Any, Any]:
    """Both sides as models, or scripted ones of this process."""
    if through == "scripted":
        return ScriptedAgent(tasks=load_domain(DOMAIN).tasks()), ScriptedUser()
    if through == "litellm":
        os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": url, "OPENAI_API_BASE": url}
        return LLMAgent(Model("openai/gpt-4o-mini", **settings)), LLMUser(Model("openai/gpt-4o-mini", **settings))
    agent, user = (Model("scripted", base_url=url, **settings) for _ in range(2))
    return LLMAgent(agent), LLMUser(user)


def chosen(domain: Domain, episodes: int) -> tuple[tuple[Task, ...], int]:
    """Tasks and trials for so many episodes."""
    tasks = domain.split("train")
    number = max(number for number in range(1, len(tasks) + 1) if episodes % number == 0)
    return tasks[:number], episodes // number


def least(durations: Sequence[float], workers: int) -> float:
    """The time of a run whose every episode takes its duration: each worker takes the next one when it is free."""
    free = [0.0] * workers
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def rss() -> float:
    """Memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def latency(options: argparse.Namespace) -> dict[str, Any]:
    domain = load_domain(DOMAIN)
    tasks, trials = chosen(domain, options.episodes)
    total = len(tasks) * trials
    with Server(tasks, trials, latency=options.latency) as url:
        agent, user = sides(url, options.through, timeout=600.0)
        small = run_tasks(domain, tasks[:1], agent, user)  # imports and connections
        assert small[0].error is None, small[0].error
        before, load = rss(), os.getloadavg()[0]
        called = agent.model.spent.calls + user.model.spent.calls
        began, cpu = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            results = run_tasks(domain, tasks, agent, user, trials=trials, concurrency=options.concurrency, out=Path(folder) / "run")
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    calls = agent.model.spent.calls + user.model.spent.calls - called
    by_id = {result.id: sum(result.usage[f"{side}_calls"] for side in ("agent", "user")) for result in results}
    plan = [by_id[f"{task.id}/{trial}"] * options.latency for trial in range(trials) for task in tasks]
    bound = least(plan, options.concurrency)
    return {
        "through": options.through,
        "episodes": total,
        "live at once": min(options.concurrency, total),
        "latency, s": options.latency,
        "passed": sum(evaluate(domain, result).passed for result in results),
        "calls": calls,
        "seconds": round(wall, 2),
        "least possible": round(bound, 2),
        "ratio": round(wall / bound, 3),
        "CPU per call, ms": round(1000 * cpu / calls, 3),
        "CPU of one core": round(cpu / wall, 3),
        "memory per live episode, kB": round((peak - before) / 1000 / min(options.concurrency, total)),
        "load before": load,
        "load after": os.getloadavg()[0],
    }


def kills(options: argparse.Namespace) -> dict[str, Any]:
    domain = load_domain(DOMAIN)
    tasks, trials = chosen(domain, options.episodes)
    random = Random(options.seed)
    lost = doubled = differing = runs = done = torn = 0

    def run(url: str, out: Path, acknowledged: Path) -> None:
        with acknowledged.open("w", buffering=1) as file:
            run_tasks(
                domain,
                tasks,
                *sides(url, options.through),
                trials=trials,
                concurrency=options.concurrency,
                out=out,
                on_result=lambda result: file.write(f"{result.id}\n"),  # type: ignore[arg-type, return-value]
            )

    with tempfile.TemporaryDirectory() as folder, Server(tasks, trials, latency=options.latency) as url:
        whole = Path(folder) / "whole"
        began = time.perf_counter()
        assert forked(lambda: run(url, whole, Path(f"{whole}.txt")), None) == 0
        seconds = time.perf_counter() - began
        expected = (whole / "trajectories.jsonl").read_bytes()
        while done < options.kills:
            runs += 1
            out = Path(folder) / f"run-{runs}"
            acknowledged = Path(f"{out}.txt")
            kept: list[str] = []
            seen: set[str] = set()
            code = -signal.SIGKILL
            while code == -signal.SIGKILL:
                acknowledged.write_text("")
                left = len(tasks) * trials - len(kept)
                moment = None
                if done < options.kills and left and random.random() < 0.8:
                    seconds_after = random.uniform(0, 2 * seconds / len(tasks) / trials)
                    moment = Moment(acknowledged, len(kept) + random.randint(0, left), seconds_after)
                code = forked(lambda out=out, acknowledged=acknowledged: run(url, out, acknowledged), moment)
                assert code in (0, -signal.SIGKILL), f"a resumed run ended with {code}"
                if code == 0:
                    break
                done += 1
                kept = ids(out)
                print(f"kill {done} of run {runs}: {len(kept)} finished", file=sys.stderr, flush=True)
                seen.update(acknowledged.read_text().split())
                lost += len(seen - set(kept))
                if kept and random.random() < 0.3:
                    with (out / "trajectories.jsonl").open("ab") as file:
                        file.write(b'{"id": "torn')
                    torn += 1
            final = ids(out)
            doubled += len(final) - len(set(final))
            lost += len(set(ids(whole)) - set(final))
            differing += (out / "trajectories.jsonl").read_bytes() != expected
    return {
        "episodes": len(tasks) * trials,
        "uninterrupted, s": round(seconds, 2),
        "kills": done,
        "runs": runs,
        "torn last lines added": torn,
        "finished episodes lost": lost,
        "doubled": doubled,
        "runs with other bytes": differing,
        "failed": bool(lost or doubled or differing),
    }


def ids(out: Path) -> list[str]:
    """The ids in a run's folder, a torn last line left out."""
    return [each.id for each in read_trajectories(out)] if (out / "trajectories.jsonl").exists() else []


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after a file has so many lines, however fast the machine is just now."""

    file: Path
    lines: int
    seconds: float


def forked(work: Callable[[], None], moment: Moment | None) -> int:
    """Do something in a copy of this process, killed at a moment; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            work()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    if moment is not None:
        while lines(moment.file) < moment.lines and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.001)
        time.sleep(moment.seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def faults(options: argparse.Namespace) -> dict[str, Any]:
    domain = load_domain(DOMAIN)
    tasks, trials = chosen(domain, options.episodes)

    def play(share: float) -> tuple[list[Trajectory], dict[str, Any]]:
        server = Server(tasks, trials, latency=options.latency, share=share, seed=options.seed)
        with server as url:
            agent, user = sides(url, options.through, timeout=options.timeout, attempts=16)
            began = time.perf_counter()
            results = run_tasks(domain, tasks, agent, user, trials=trials, concurrency=options.concurrency)
            seconds = time.perf_counter() - began
        asked = [side.model.spent for side in (agent, user)]
        return results, {
            "seconds": round(seconds, 2),
            "calls": sum(each.calls for each in asked),
            "without an answer": sum(each.failed for each in asked),
            "faults": server.faults,
        }

    calm, without = play(0.0)
    shaken, with_faults = play(options.share)
    pairs = [(evaluate(domain, a).reward, evaluate(domain, b).reward) for a, b in zip(calm, shaken, strict=True)]
    curves = [score(domain, each).pass_hat for each in (calm, shaken)]
    return {
        "episodes": len(calm),
        "time-out, s": options.timeout,
        "without": without,
        "with": with_faults,
        "ended by infrastructure": sum(each.error is not None for each in shaken),
        "other rewards": sum(a != b for a, b in pairs),
        "Pass^1": [str(curve[0]) for curve in curves],
        "failed": curves[0] != curves[1] or any(a != b for a, b in pairs),
    }


PARTS = {"latency": latency, "kills": kills, "faults": faults}
DEFAULTS: dict[str, dict[str, Any]] = {
    "latency": {"episodes": 256, "concurrency": 256, "latency": 2.0},
    "kills": {"episodes": 200, "concurrency": 16, "latency": 0.02},
    "faults": {"episodes": 128, "concurrency": 128, "latency": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--latency", type=float, help="seconds for every answer")
    parser.add_argument("--through", choices=("base-url", "litellm", "scripted"), default="base-url")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--share", type=float, default=0.2, help="of the answers that are faults")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for an answer, where there are faults")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, value in DEFAULTS[options.part].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    found = PARTS[options.part](options)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found.get("failed") else 0)


if __name__ == "__main__":
    main()
