"""What the engine costs, row by row of the budget, without any model.

    python benchmarks/engine.py                                      # a table
    python benchmarks/engine.py --json                               # the same as JSON
    python benchmarks/engine.py --tau2 CHECKOUT --tau2-python PYTHON # beside tau2-bench's gym on the same actions

tau2-bench's retail data is taken from `--data`, or from `data/tau2_retail` in `SENTINEL_SHARED` or `../shared`; without it our own is
measured. Figures are medians of single operations in one process. Nothing is asserted: a timing says something about a machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sentinel_env import Domain, Episode, Message, Task, adrive, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.env import ToolEnv
from sentinel_env.evaluation import evaluate
from sentinel_env.failures import general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.trajectory import record
from sentinel_env.users import ScriptedUser
from sentinel_env.verification import KnownTasks, verify_proposal

ROOT = Path(__file__).resolve().parent.parent
LATENCY = 2.0
"""Seconds that the imitated model takes for a turn."""


@dataclasses.dataclass
class Row:
    """One line of the table."""

    name: str
    value: float | None
    unit: str
    budget: float | None = None
    note: str = ""
    tau2: float | None = None


class Curt:
    """A user that greets and, once the agent writes to it, ends the conversation: the episode is as long as its calls."""

    name = "curt"

    def reply(self, view: Any) -> Message:
        first = all(message.role != "user" for message in view.messages)
        return Message(role="user", content="Hello." if first else "###STOP###")


class Endless(Curt):
    """A user that never ends it."""

    def reply(self, view: Any) -> Message:
        return Message(role="user", content="Hello.")


def median(timed: Callable[[], Any], repeats: int, before: Callable[[], Any] | None = None) -> float:
    """Seconds of one call, the median of so many."""
    seconds = []
    for _ in range(repeats):
        if before is not None:
            before()
        start = time.perf_counter()
        timed()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def each(actions: Iterable[str], step: Callable[[str], Any], before: Callable[[], Any] | None = None) -> float:
    """Seconds of one step, the median over different actions."""
    seconds = []
    for action in actions:
        if before is not None:
            before()
        start = time.perf_counter()
        step(action)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def call(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def imports() -> list[Row]:
    """Time and memory of `import sentinel_env` in processes of their own."""
    code = (
        "import sys, time; start, cpu = time.perf_counter(), time.process_time(); import sentinel_env; "
        "seconds, cpu = time.perf_counter() - start, time.process_time() - cpu; "
        "import json, re; heavy = [name for name in ('torch', 'transformers', 'litellm') if name in sys.modules]; "
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024; "  # maxrss would be the parent's
        "print(json.dumps([seconds, peak, cpu, heavy]))"
    )
    runs = [json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(9)]
    cpu, heavy = statistics.median(run[2] for run in runs), runs[0][3]
    return [
        Row(
            "import sentinel_env",
            statistics.median(run[0] for run in runs),
            "s",
            0.3,
            f"{cpu:.2f} s of CPU; heavy modules: {', '.join(heavy) or 'none'}",
        ),
        Row("  its resident memory", statistics.median(run[1] for run in runs), "MB", 60, "the interpreter alone takes 10 MB"),
    ]


def resets(domain: Domain) -> list[Row]:
    """The default environment's reset, its scripted user's opening included, on one and on a hundred times the database."""
    from sentinel_domains.retail.data import generate

    env = ToolEnv(domain)
    env.reset(seed=0)
    rows = [Row("reset", 1e6 * median(env.reset, 5000), "us", 50)]
    ours = load_domain("retail", data=None) if not os.environ.get("SENTINEL_TAU2_DATA") else domain
    tasks = [task for task in ours.split() if not task.changes]
    for name, times in (("  our data", 1), ("  our data, 100 times as large", 100)):
        db = generate(users=500 * times, orders=1000 * times)
        env = ToolEnv(dataclasses.replace(ours, database=lambda db=db: db, tasks=lambda: tasks))
        env.reset(seed=0)
        rows.append(Row(name, 1e6 * median(env.reset, 5000), "us", 50, str(db)))
        del env, db
        gc.collect()
    return rows


def steps(domain: Domain) -> list[Row]:
    """Reads of all orders, first with nothing kept and then again; an address written into every pending order."""
    env = ToolEnv(domain, user=Endless(), max_steps=10**9)
    env.reset(seed=0)
    orders = domain.base.tables["orders"]
    reads = [call("get_order_details", order_id=key) for key in orders]
    address = {"address1": "12 Oak Street", "address2": "", "city": "Austin", "state": "TX", "country": "USA", "zip": "78701"}
    pending = [key for key, order in orders.items() if order.status == "pending"]
    writes = [call("modify_pending_order_address", order_id=key, **address) for key in pending]
    unread = type(domain.base)(**domain.base.dump())
    fresh = ToolEnv(dataclasses.replace(domain, database=lambda: unread), user=Endless(), max_steps=10**9)
    fresh.reset(seed=0)
    cold = each(reads, fresh.step)
    each(reads, env.step)
    again, write = each(reads, env.step), each(writes, env.step, before=env.reset)
    text = median(lambda: env.step("Is there anything else?"), 300, before=lambda: env.reset(seed=0))
    return [
        Row("step: a read", 1e6 * again, "us", 30, f"get_order_details, {len(reads)} orders"),
        Row("  of a record not read before", 1e6 * cold, "us", None, "once per record and process"),
        Row("step: a write", 1e6 * write, "us", 30, f"modify_pending_order_address, {len(writes)} orders"),
        Row("step: words to the user", 1e6 * text, "us", None, "a user that answers one word"),
        Row("steps per second, reads", 1 / again, "/s", 33_000),
    ]


def play(env: ToolEnv, task: Task, actions: list[str]) -> float:
    """The task's reference from reset to grade; its reward."""
    env.reset(options={"task_id": task.id})
    for action in actions:
        env.step(action)
    return env.step("That is done.")[1]


def references(domain: Domain) -> list[Row]:
    """Every task's reference calls through the environment, from reset to grade."""
    env = ToolEnv(domain, user=Curt(), max_steps=1000)
    plans = [(task, [call(made.name, **made.arguments) for made in task.criteria.actions]) for task in domain.split()]
    rewards = [play(env, task, actions) for task, actions in plans]
    total = median(lambda: [play(env, task, actions) for task, actions in plans], 5)
    calls = sum(len(actions) for _, actions in plans)
    by_task = statistics.median(median(lambda: play(env, task, actions), 3) for task, actions in plans)  # noqa: B023
    return [
        Row(
            f"{len(plans)} reference episodes ({calls} calls), reset to grade",
            total,
            "s",
            round(0.05 * calls / 550, 3),
            f"{sum(rewards):.0f} rewarded; the budget is 0.05 s for 114 episodes with 550 calls",
        ),
        Row("  one of them", 1e6 * by_task, "us", None),
    ]


def grades(domain: Domain) -> list[Row]:
    """Recording and grading a finished episode, the reference executed before or not."""
    episodes = []
    for task in domain.split():
        episode = Episode(domain, task, max_steps=1000, max_errors=1000)
        episode.hear(Message(role="user", content="Hello."))
        for made in task.criteria.actions:
            episode.act(Message(role="assistant", tool_calls=(made,)))
        episode.act(Message(role="assistant", content="That is done."))
        episode.hear(Message(role="user", content="###STOP###"))
        episodes.append(episode)
    warm = statistics.median(median(lambda: evaluate(domain, record(episode)), 20) for episode in episodes)  # noqa: B023
    cold = []
    for _ in range(5):
        fresh = dataclasses.replace(domain)
        _ = fresh.base
        for episode in episodes:
            start = time.perf_counter()
            evaluate(fresh, record(episode))
            cold.append(time.perf_counter() - start)
    note = f"record() and evaluate(), median over {len(episodes)} reference episodes"
    return [
        Row("grade, the reference cached", 1e6 * warm, "us", 20, note),
        Row("grade, the reference not run before", 1e6 * statistics.median(cold), "us", 1000),
    ]


def live_episodes(domain: Domain, count: int = 10_000) -> list[Row]:
    """Memory that so many episodes hold, each in its middle: three reads and, where the task has one, a write."""

    def begin(task: Task) -> ToolEnv:
        env = ToolEnv(domain, user=Curt(), max_steps=1000, task_id=task.id)
        env.reset()
        for made in task.criteria.actions[:6]:
            env.step(call(made.name, **made.arguments))
        return env

    tasks = domain.split()
    for task in tasks:
        begin(task)  # what is computed once and kept
    gc.collect()
    before, threads = resident_bytes(), threading.active_count()
    live = [begin(tasks[at % len(tasks)]) for at in range(count)]
    resident, more_threads = resident_bytes() - before, threading.active_count() - threads
    del live
    gc.collect()
    tracemalloc.start()
    live = [begin(tasks[at % len(tasks)]) for at in range(1000)]
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return [
        Row("memory of a live episode", traced / len(live) / 1024, "KB", 64, "tracemalloc over 1,000 environments, up to six calls each"),
        Row("  by resident memory", resident / count / 1024, "KB", 64, f"{count:,} environments, {more_threads} more threads"),
    ]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def concurrency(count: int = 256) -> list[Row]:
    """So many episodes at once against an agent that takes two seconds for a turn."""
    ours = dataclasses.replace(load_domain("retail"))
    scripted, user = ScriptedAgent(), ScriptedUser()

    class Distant:
        name = "distant"

        async def act(self, view: Any) -> Message:
            await asyncio.sleep(LATENCY)
            return scripted.act(view)

    tasks = [ours.split()[at % len(ours.split())] for at in range(count)]

    async def run() -> list[Episode]:
        return list(await asyncio.gather(*(adrive(Episode(ours, task, seed=at), Distant(), user) for at, task in enumerate(tasks))))

    cpu, start = time.process_time(), time.perf_counter()
    episodes = asyncio.run(run())
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    bound = LATENCY * max(episode.steps for episode in episodes)
    passed = sum(evaluate(ours, record(episode)).passed for episode in episodes)
    turns = sum(episode.steps for episode in episodes)
    note = f"{wall:.2f} s for a bound of {bound:.0f} s; {turns} turns, {passed} rewarded, {cpu:.2f} s of CPU"
    return [Row(f"{count} concurrent episodes at {LATENCY:.0f} s latency, over the bound", 100 * (wall / bound - 1), "%", 10, note)]


def proposals(seed: int = 0, count: int = 200) -> list[Row]:
    """CPU time to propose a task and put it through every gate; measured again with other tasks, for the user keeps what it understood."""
    ours = load_domain("retail")
    known = KnownTasks(ours, ours.split())
    for draft in propose_tasks(ours, general_pattern(ours), n=5, seed=1_000_000):  # what is computed once, such as the user's patterns
        verify_proposal(ours, draft, known=known)
    start = time.process_time()
    drafts = propose_tasks(ours, general_pattern(ours), n=count, seed=seed)
    proposed = time.process_time() - start
    verdicts = [verify_proposal(ours, draft, known=known) for draft in drafts]
    total = time.process_time() - start
    accepted = sum(verdict.task is not None for verdict in verdicts)
    note = f"{accepted} of {len(drafts)} accepted; proposing takes {1000 * proposed / len(drafts):.2f} ms of it"
    return [Row("a verified task proposal", 1000 * total / max(1, accepted), "ms CPU", 2, note)]


def measure_tau2(checkout: Path, python: str, domain: Domain, rows: list[Row]) -> None:
    """Fill in what tau2-bench's gym takes for the same actions."""
    plans = {task.id: [call(made.name, **made.arguments) for made in task.criteria.actions] for task in domain.split()}
    environment = {"TAU2_DATA_DIR": str(checkout / "data")} | os.environ | {"PYTHONPATH": str(checkout / "src")}
    script = Path(__file__).with_name("tau2_gym.py")
    done = subprocess.run([python, str(script)], input=json.dumps(plans), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"tau2-bench's gym does not run with {python}: {done.stderr[-2000:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    for row in rows:
        for name, value in measured.items():
            if row.name.startswith(name):
                row.tau2 = value


def environment(domain: Domain, data: Path | None) -> dict[str, Any]:
    """What a reader has to know about a run."""
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    return {
        "data": f"{'tau2-bench retail' if data else 'our retail'}: {domain.base}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load average": round(os.getloadavg()[0], 2),
        "revision": revision,
    }


def find_data(given: str | None) -> Path | None:
    shared = Path(os.environ.get("SENTINEL_SHARED") or ROOT.parent / "shared") / "data" / "tau2_retail"
    folder = Path(given) if given else shared
    if given and not (folder / "db.json").is_file():
        raise SystemExit(f"{folder} holds no db.json; --data is a folder in tau2-bench's format")
    return folder if (folder / "db.json").is_file() else None


def best(tries: Iterable[Row]) -> Row:
    """Of the same row measured several times, the one that others on the machine disturbed least."""
    return sorted(tries, key=lambda row: -row.value if row.unit == "/s" else row.value)[0]


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    with_tau2 = any(row.tau2 is not None for row in rows)
    lines = ["| what | measured | budget |" + (" tau2-bench | ratio |" if with_tau2 else "") + " note |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for row in rows:
        cells = [row.name.replace("  ", "– ", 1), shown(row.value, row.unit), shown(row.budget, row.unit) if row.budget else ""]
        if with_tau2:
            ratio = f"{row.tau2 / row.value:,.0f}" if row.tau2 and row.value else ""
            cells += [shown(row.tau2, row.unit) if row.tau2 else "", ratio if row.unit != "/s" else ""]
        lines.append(f"| {' | '.join([*cells, row.note])} |")
    return "\n".join(lines)


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--data", help="a folder in tau2-bench's format")
    parser.add_argument("--tau2", type=Path, help="a checkout of tau2-bench, to measure its gym on the same actions")
    parser.add_argument("--tau2-python", default=sys.executable, help="an interpreter that has tau2-bench's dependencies and gymnasium")
    parser.add_argument(
        "--repeat", type=int, default=1, help="measure so often and show the best median, for a machine that others use too"
    )
    parser.add_argument("--skip", nargs="*", default=[], help="parts to leave out: imports resets steps grades references memory ...")
    options = parser.parse_args()
    data = find_data(options.data)
    domain = load_domain("retail", data=data)
    seeds = itertools.count()
    parts: dict[str, Callable[[], list[Row]]] = {
        "imports": imports,
        "steps": lambda: steps(domain),
        "grades": lambda: grades(domain),
        "references": lambda: references(domain),
        "memory": lambda: live_episodes(domain),
        "proposals": lambda: proposals(next(seeds)),
        "concurrency": concurrency,
        "resets": lambda: resets(domain),
    }
    rows: list[Row] = []
    for name, part in parts.items():
        if name not in options.skip:
            print(f"{name} ...", file=sys.stderr)
            runs = [part() for _ in range(1 if name in ("concurrency", "resets") else options.repeat)]
            rows += [best(tries) for tries in zip(*runs, strict=True)]
    if options.tau2:
        print("tau2-bench ...", file=sys.stderr)
        measure_tau2(options.tau2, options.tau2_python, domain, rows)
    about = environment(domain, data)
    if options.json:
        print(json.dumps({"environment": about, "rows": [dataclasses.asdict(row) for row in rows]}, indent=2))
    else:
        print(", ".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
        print(table(rows))


if __name__ == "__main__":
    main()
