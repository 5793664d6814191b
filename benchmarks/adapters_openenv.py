"""What OpenEnv's wire costs, and that nothing is left behind: the server in a process of its own, the clients here, on loopback.

    python benchmarks/adapters_openenv.py                                   # a few minutes
    python benchmarks/adapters_openenv.py --episodes 400 --opened 2000 --dropped 200

The agent is a recording of the scripted one, so that only the environment and the wire are measured. Run it where the extra `openenv` is
installed. Nothing is asserted but that no session is left: a timing says something about a machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openenv import GenericEnvClient
from websockets.asyncio.client import connect

from sentinel_env import Episode, Message, ScriptedAgent, ScriptedUser, Task
from sentinel_env.adapters.source import Source

SERVER = "import sys; from sentinel_env.adapters.openenv import *; from sentinel_env.adapters.source import Source\n" + (
    "serve(Source.open('retail', split='train'), port=0, max_sessions=int(sys.argv[1]))"
)
Turns = list[dict[str, Any]]


@contextmanager
def server(sessions: int) -> Iterator[tuple[str, int]]:
    """(URL, process id) of a server."""
    command = [sys.executable, "-c", SERVER, str(sessions)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield re.findall(r"http://[^;\s]+", process.stderr.readline())[0], process.pid
        finally:
            process.terminate()


def recorded(source: Source, task: Task) -> Turns:
    """What the scripted agent does, as OpenAI messages."""
    episode, agent, user = Episode(source.domain, task), ScriptedAgent(), ScriptedUser()
    turns = []
    while episode.awaiting is not None:
        if episode.awaiting == "user":
            episode.hear(user.reply(episode.user_view()))
        else:
            turns.append((message := agent.act(episode.agent_view())).to_openai())
            episode.act(message)
    return turns


def seconds_of_cpu(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> str:
    """Resident memory and threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes, threads = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads"))  # type: ignore[index]
    return f"{kilobytes / 1024:.1f} MB resident, {threads} threads"


def sessions_of(url: str) -> int:
    """How many are open, once those that are being closed are; ends the run where it is more than none."""
    for _ in range(500):
        with urllib.request.urlopen(f"{url}/sessions") as answer:
            active: int = json.loads(answer.read())["active"]
        if active == 0:
            return 0
        time.sleep(0.02)
    raise SystemExit(f"{active} sessions are left")


async def at_once(jobs: Sequence[Callable[[], Awaitable[None]]], limit: int) -> None:
    """Run jobs, so many at a time."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    await asyncio.gather(*(work() for _ in range(limit)))


def in_process(source: Source, plays: Sequence[tuple[Task, Turns]]) -> tuple[float, float]:
    """Seconds of the same episodes without a wire, graded, and of CPU."""
    began, mine = time.perf_counter(), time.process_time()
    for at, (task, turns) in enumerate(plays):
        seat = source.seat_at(task, seed=at)
        seat.open_now()
        for turn in turns:
            seat.act_now(Message.from_openai(turn))
        assert seat.reward == 1.0
    return time.perf_counter() - began, time.process_time() - mine


def over_the_wire(url: str, plays: Sequence[tuple[Task, Turns]], sessions: int) -> float:
    """Seconds of them through OpenEnv's client; a session plays one episode after the other."""
    waiting = iter(enumerate(plays))

    async def session() -> None:
        async with GenericEnvClient(base_url=url) as client:
            for at, (task, turns) in waiting:
                await client.reset(task_id=task.id, seed=at)
                for turn in turns:
                    result = await client.step(turn)
                assert result.reward == 1.0, result

    async def all_of_them() -> None:
        await asyncio.gather(*(session() for _ in range(sessions)))

    began = time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - began


async def opened_and_closed(url: str) -> None:
    """One session that plays a turn."""
    async with connect(url.replace("http", "ws", 1) + "/ws", proxy=None) as socket:
        await socket.send('{"type": "reset", "data": {"seed": 1}}')
        await socket.recv()


async def dropped(url: str, at: int) -> None:
    """A socket that goes away without a word: before, in the middle of and after a call."""
    socket = await connect(url.replace("http", "ws", 1) + "/ws", proxy=None)
    if at % 4:
        await socket.send('{"type": "reset", "data": {"seed": 1}}')
    if at % 4 >= 2:
        await socket.recv()
    if at % 4 == 3:
        await socket.send('{"type": "step", "data": {"text": "Hello"}}')
    socket.transport.abort()
    await socket.wait_closed()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--opened", type=int, default=10_000)
    parser.add_argument("--dropped", type=int, default=1_000)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    source = Source.open("retail", split="train")
    tasks = [(task, recorded(source, task)) for task in source.tasks]
    plays = [tasks[at % len(tasks)] for at in range(options.episodes)]
    steps = sum(len(turns) for _, turns in plays)
    in_process(source, tasks)  # references are executed once a process
    own, cpu = in_process(source, plays)
    print(f"in process: {len(plays) / own:,.0f} episodes/s, {steps / own:,.0f} steps/s, {cpu / steps * 1e3:.3f} ms of CPU a step")
    with server(options.sessions) as (url, pid):
        print(f"server: {memory(pid)} at the start")
        over_the_wire(url, tasks, options.sessions)
        before, mine = seconds_of_cpu(pid), time.process_time()
        wire = over_the_wire(url, plays, options.sessions)
        cpu = seconds_of_cpu(pid) - before
        print(
            f"{options.sessions} sessions: {len(plays) / wire:,.0f} episodes/s, {steps / wire:,.0f} steps/s in {wire:.1f} s; CPU: server "
            f"{cpu:.1f} s ({cpu / steps * 1e3:.3f} ms a step), client {time.process_time() - mine:.1f} s"
        )
        print(f"sessions left: {sessions_of(url)}; {memory(pid)}")
        for done in range(0, options.opened, 1000):
            count = min(1000, options.opened - done)
            asyncio.run(at_once([lambda: opened_and_closed(url)] * count, options.sessions // 2))
            print(f"{done + count:,} opened and closed: sessions left {sessions_of(url)}; {memory(pid)}")
        asyncio.run(at_once([lambda at=at: dropped(url, at) for at in range(options.dropped)], options.sessions // 2))  # type: ignore[misc]
        print(f"{options.dropped:,} dropped: sessions left {sessions_of(url)}; {memory(pid)}")
        over_the_wire(url, tasks, options.sessions)
        print(f"and {len(tasks)} more episodes: sessions left {sessions_of(url)}; {memory(pid)}")


if __name__ == "__main__":
    main()
