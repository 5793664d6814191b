"""What the runner costs beside models that take their time, what a kill leaves, and what faults of a provider change.

    python benchmarks/runner.py latency                               # 256 live episodes, 2 s for every answer, through a base URL
    python benchmarks/runner.py latency --through litellm
    python benchmarks/runner.py kills                                 # kill -9 at 50 random moments of runs of 200 episodes
    python benchmarks/runner.py kills --through scripted              # the same without models, in a tenth of the CPU time
    python benchmarks/runner.py faults                                # a fifth of all answers is a fault of one of ten kinds
    python benchmarks/runner.py faults --attempts 2 --timeout 5       # the same with so little patience that attempts are lost
    python benchmarks/runner.py latency --episodes 32 --latency 0.2   # smaller

Both sides are models: `LLMAgent` and `LLMUser`, over HTTP, against our own `ModelServer` in a process of its own, which answers as the
scripted agent and the scripted user did when it started; so the server costs little, and every answer is known by the request alone,
whatever the order. What a fault is, is drawn by lot from the request and how often it was asked, for the same reason. For `faults` the
agent is one that fails at times: a lot, drawn by task and trial, decides where it leaves out its last write. What each fault was
classed as is noted where an attempt ends, and compared with what the server says that it did.

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

from sentinel_env import Domain, Message, ScriptedAgent, ScriptedUser, Task, ToolCall, Trajectory, evaluate, load_domain, run_tasks
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_attempts import FailedAttempt
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
CLASSED = {
    "429 with Retry-After": ("ModelError (rate)",),
    "500": ("ModelError (server)",),
    "503": ("ModelError (server)",),
    "late": ("ModelError (timeout)",),
    "hang": ("ModelError (timeout)",),
    "cut": ("ModelError (malformed)",),
    "no JSON": ("ModelError (malformed)",),
    "no choices": ("ModelError (malformed)",),
    "empty": ("ModelError (malformed)", "an empty turn"),  # the agent's own when it comes twice
    "broken arguments": ("the agent's mistake",),
}
"""What each has to be taken for ..."""
TOO_LATE = "ModelError (timeout)"
"""... unless a busy machine brings it too late, as it may a right answer."""


# the server


def serve(pipe: Connection, tasks: Sequence[Task], trials: int, latency: float, share: float, mistakes: bool, seed: int) -> None:
    """Play both sides until the other end says to stop; then say which requests got which fault."""
    domain = load_domain(DOMAIN)
    written = {each.seed: each.messages for each in scripted(domain, tasks, trials, mistakes=mistakes, seed=seed)}
    made: dict[tuple[str, int], str] = {}

    def script(request: Mapping[str, Any]) -> Reply:
        said = answer(request, written[request["seed"]])
        if share:
            place = request_name(request), int(request["user"])
            random = Random(f"{seed} {place}")
            if random.random() < share:
                made[place] = fault = random.choice([fault for fault in FAULTS if fault != "broken arguments" or "tools" in request])
                return FAULTS[fault]
        return Reply(said.content, calls=said.tool_calls, delay=latency)

    with ModelServer(script, remembers=False) as server:
        pipe.send(server.url)
        pipe.recv()
    pipe.send(made)


def scripted(domain: Domain, tasks: Sequence[Task], trials: int, *, mistakes: bool, seed: int) -> list[Trajectory]:
    """What the scripted sides say in each attempt; with mistakes, in those that the lot chooses, without the last write."""
    right = run_tasks(domain, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), trials=trials)
    if not mistakes:
        return right
    wrong = run_tasks(domain, tasks, ScriptedAgent(tasks=tasks, plan=careless), ScriptedUser(), trials=trials)

    def is_wrong(result: Trajectory) -> bool:
        hard = Random(f"{seed} {result.task.id}").random() ** 2
        return Random(f"{seed} {result.id}").random() < hard

    return [bad if is_wrong(good) else good for good, bad in zip(right, wrong, strict=True)]


def careless(domain: Domain, task: Task) -> Sequence[ToolCall]:
    """The reference without its last write."""
    plan = list(task.criteria.actions)
    for at in reversed(range(len(plan))):
        tool = domain.tools_by_name.get(plan[at].name)
        if tool is not None and tool.writes:
            return [*plan[:at], *plan[at + 1 :]]
    return plan


def request_name(request: Mapping[str, Any]) -> str:
    """A short name for what is asked, the same at both ends."""
    return hashlib.sha256(json.dumps([request["messages"], request["seed"]]).encode()).hexdigest()[:24]


def answer(request: Mapping[str, Any], written: Sequence[Message]) -> Message:
    """The message that the scripted side wrote at this place."""
    rows = request["messages"][1:]
    is_user = request["messages"][0]["content"].startswith("You play a customer")
    own = [each for each in written if each.role == ("user" if is_user else "assistant")]
    again = "[A note" if is_user else "Error: "  # what it said was sent back
    turns = sum(row["role"] == "assistant" for row in rows)
    turns -= sum(row["role"] == "user" and row["content"].startswith(again) for row in rows)
    return own[min(turns, len(own) - 1)]


class Server:
    """The server's process."""

    def __init__(
        self,
        tasks: Sequence[Task],
        trials: int,
        *,
        latency: float = 0.0,
        share: float = 0.0,
        mistakes: bool = False,
        seed: int = 0,
    ) -> None:
        self._pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        arguments = (theirs, tasks, trials, latency, share, mistakes, seed)
        self._process = multiprocessing.get_context("spawn").Process(target=serve, args=arguments)
        self.faults: dict[tuple[str, int], str] = {}
        """(request, the how manieth time) -> the fault that it got."""

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


def chosen(domain: Domain, episodes: int, *, at_least: int = 1) -> tuple[tuple[Task, ...], int]:
    """Tasks and trials for so many episodes, at least so many trials."""
    tasks = domain.split("train")
    number = max(number for number in range(1, len(tasks) + 1) if episodes % number == 0 and episodes // number >= at_least)
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


def problems(results: Sequence[Trajectory], role: str) -> int:
    """How many messages of a role have a problem."""
    return sum(message.role == role and message.problem is not None for each in results for message in each.messages)


class Classes:
    """What the attempts of models ended in, by request and the how manieth time it was asked, which the request says in `user`: of those
    that a busy machine gives up before they are sent, the server knows nothing."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self.found: dict[tuple[str, int], str] = {}

    def watch(self, model: Model) -> None:
        """Note every attempt of a model from now on."""
        attempts = model._attempts
        once = attempts.once

        async def watched(body: Mapping[str, Any], timeout: float, **accepts: bool) -> Any:
            name = request_name(body)
            self._asked[name] += 1
            place = name, self._asked[name]
            try:
                answer, used = await once({**body, "user": str(place[1])}, timeout, **accepts)
            except FailedAttempt as failed:
                self.found[place] = f"ModelError ({failed.error.kind})"
                raise
            self.found[place] = "the agent's mistake" if answer.problem else "an empty turn" if answer.is_empty else "an answer"
            return answer, used

        attempts.once = watched  # type: ignore[method-assign]


def faults(options: argparse.Namespace) -> dict[str, Any]:
    domain = load_domain(DOMAIN)
    tasks, trials = chosen(domain, options.episodes, at_least=4)
    settings = {"latency": options.latency, "mistakes": True, "seed": options.seed}

    def play(url: str, out: Path | None, classes: Classes) -> tuple[list[Trajectory], dict[str, Any]]:
        agent, user = sides(url, options.through, timeout=options.timeout, attempts=options.attempts)
        for side in (agent, user):
            classes.watch(side.model)
        began = time.perf_counter()
        results = run_tasks(domain, tasks, agent, user, trials=trials, concurrency=options.concurrency, out=out)
        asked = [side.model.spent for side in (agent, user)]
        return (
            results,
            {
                "seconds": round(time.perf_counter() - began, 2),
                "calls": sum(each.calls for each in asked),
                "without an answer": sum(each.failed for each in asked),
                "messages that a guard mended": int(sum(each.usage.get("user_repairs", 0) for each in results)),
                "marked as the user's fault": problems(results, "user"),
                "turns sent back to the agent": problems(results, "assistant"),
                "ended by infrastructure": sum(each.error is not None for each in results),
            },
        )

    with Server(tasks, trials, **settings) as url:
        calm, without = play(url, None, Classes())
    server = Server(tasks, trials, share=options.share, **settings)
    rounds: list[dict[str, Any]] = []
    matrix: dict[str, Counter[str]] = {fault: Counter() for fault in FAULTS}
    classes = Classes()
    with tempfile.TemporaryDirectory() as folder, server as url:
        out, shaken = Path(folder) / "run", list[Trajectory]()
        while len(rounds) < MOST_ROUNDS and (not rounds or rounds[-1]["ended by infrastructure"]):
            finished = ids(out)
            shaken, found = play(url, out, classes)
            noted = [each.id for each in read_trajectories(out / "errors.jsonl")] if (out / "errors.jsonl").exists() else []
            lost = sorted(each.id for each in shaken if each.error is not None)
            found["errors.jsonl holds exactly those"] = sorted(noted) == lost
            found["already finished"] = len(finished)
            rounds.append(found)
        again = list(read_trajectories(out))
    for place, fault in server.faults.items():
        matrix[fault][classes.found.get(place, "not seen by the client")] += 1
    innocent = Counter(kind for place, kind in classes.found.items() if place not in server.faults)
    rewards = [[evaluate(domain, each).reward for each in results] for results in (calm, shaken)]
    curves = [score(domain, each).pass_hat for each in (calm, shaken)]
    return {
        "tasks": len(tasks),
        "trials": trials,
        "time-out, s": options.timeout,
        "attempts at a question": options.attempts,
        "without faults": without,
        "with faults, each round the same command": rounds,
        "faults": len(server.faults),
        "each fault, and what its request ended in": {fault: dict(kinds.most_common()) for fault, kinds in matrix.items()},
        "requests without a fault ended in": dict(innocent.most_common()),
        "other rewards": sum(a != b for a, b in zip(*rewards, strict=True)),
        "Pass^k without": [str(each) for each in curves[0]],
        "Pass^k with": [str(each) for each in curves[1]],
        "failed": curves[0] != curves[1]
        or rewards[0] != rewards[1]
        or again != shaken
        or any(set(kinds) - {*CLASSED[fault], TOO_LATE} for fault, kinds in matrix.items())
        or bool(set(innocent) - {"an answer", TOO_LATE})
        or not all(found["errors.jsonl holds exactly those"] for found in rounds),
    }


MOST_ROUNDS = 40
PARTS = {"latency": latency, "kills": kills, "faults": faults}
DEFAULTS: dict[str, dict[str, Any]] = {
    "latency": {"episodes": 256, "concurrency": 256, "latency": 2.0},
    "kills": {"episodes": 200, "concurrency": 16, "latency": 0.02},
    "faults": {"episodes": 256, "concurrency": 128, "latency": 0.0},
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
    parser.add_argument("--attempts", type=int, default=16, help="how often a question is asked at most, where there are faults")
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
