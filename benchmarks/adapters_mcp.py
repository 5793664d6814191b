"""What MCP's wire costs, and that nothing is left behind: the server in a process of its own, the clients here, on loopback.

    python benchmarks/adapters_mcp.py                                   # a few minutes
    python benchmarks/adapters_mcp.py --episodes 400 --opened 2000 --dropped 200

The agent is a recording of the scripted one, so that only the environment and the wire are measured: once with the SDK's own client,
which costs more than the server, and once with plain HTTP. A session plays one episode, so each includes opening and closing it. Run it
where the extra `mcp` is installed. Nothing is asserted but the rewards and that no session is left: a timing says something about a
machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from mcp import ClientSession
from mcp.client import streamable_http

from sentinel_env import Episode, Message, ScriptedAgent, ScriptedUser, Task
from sentinel_env.adapters.source import Source

IDLE_SECONDS = 2.0
Calls = list[tuple[str, dict[str, Any]]]
"""Tools and arguments."""
connect = getattr(streamable_http, "streamable_http_client", None) or streamable_http.streamablehttp_client


@contextmanager
def server(sessions: int, idle_seconds: float) -> Iterator[tuple[str, int]]:
    """(URL, process id) of a server."""
    command = [sys.executable, "-m", "sentinel_env", "serve", "mcp", "retail", "--split", "train", "--http", "--port", "0"]
    command += ["--max-sessions", str(sessions), "--idle-seconds", str(idle_seconds)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().split(" at ")[1].split(";")[0], process.pid
        finally:
            process.terminate()


def recorded(source: Source, task: Task) -> Calls:
    """What the scripted agent does, as an MCP client says it."""
    episode, agent, user = Episode(source.domain, task), ScriptedAgent(), ScriptedUser()
    found: Calls = []
    while episode.awaiting is not None:
        if episode.awaiting == "user":
            episode.hear(user.reply(episode.user_view()))
        else:
            message = agent.act(episode.agent_view())
            found += [(call.name, call.arguments) for call in message.tool_calls] or [("message_user", {"message": message.content})]
            episode.act(message)
    return found


def as_message(name: str, arguments: dict[str, Any]) -> Message:
    """A call as an episode takes it."""
    if name == "message_user":
        return Message(role="assistant", content=arguments["message"])
    return Message.from_openai({"role": "assistant", "tool_calls": [{"name": name, "arguments": arguments}]})


def seconds_of_cpu(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> str:
    """Resident memory, threads and open files of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes, threads = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads"))  # type: ignore[index]
    return f"{kilobytes / 1024:.1f} MB resident, {threads} threads, {len(os.listdir(f'/proc/{pid}/fd'))} files"


def sessions_left(url: str) -> int:
    """How many are open, once those that are idle have been closed."""
    deadline = time.monotonic() + 10 * IDLE_SECONDS
    while True:
        with urllib.request.urlopen(url.replace("/mcp", "/health")) as answer:
            found: int = json.loads(answer.read())["sessions"]
        if found == 0 or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


class Plain:
    """A session over one HTTP connection, without the SDK."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path, self._session = parts.hostname, parts.port, parts.path, ""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "plain", "version": "0"}}
        await self.ask("POST", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
        await self.ask("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ask("DELETE", None)
        self._writer.close()
        await self._writer.wait_closed()

    def send(self, method: str, body: Any) -> None:
        """A request."""
        raw = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {self._path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(raw)}"]
        lines += ["Content-Type: application/json", "Accept: application/json, text/event-stream"]
        lines += [f"Mcp-Session-Id: {self._session}"] if self._session else []
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)

    async def ask(self, method: str, body: Any) -> Any:
        """A request and the JSON of its answer."""
        self.send(method, body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        assert head.split()[1] in ("200", "202"), head
        if (named := re.search(r"(?i)^mcp-session-id: (\S+)", head, re.MULTILINE)) is not None:
            self._session = named[1]
        length = re.search(r"(?i)^content-length: (\d+)", head, re.MULTILINE)
        raw = await self._reader.readexactly(int(length[1])) if length else b""
        return json.loads(raw) if raw[:1] == b"{" else None

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """A tool's result."""
        params = {"name": name, "arguments": arguments}
        return (await self.ask("POST", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))["result"]

    def drop(self) -> None:
        """Go away without a word: the connection is reset."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def play_plainly(url: str, task: Task, calls: Calls, seed: int) -> Any:
    """An episode's verdict."""
    async with Plain(url) as session:
        await session.call("begin", {"task": task.id, "seed": seed})
        for name, arguments in calls:
            await session.call(name, arguments)
        return (await session.call("finish", {}))["structuredContent"]


async def play_by_the_sdk(url: str, task: Task, calls: Calls, seed: int) -> Any:
    """The same through its client."""
    async with connect(url) as streams, ClientSession(*streams[:2]) as session:
        await session.initialize()
        await session.call_tool("begin", {"task": task.id, "seed": seed})
        for name, arguments in calls:
            await session.call_tool(name, arguments)
        return (await session.call_tool("finish", {})).model_dump(by_alias=True)["structuredContent"]


async def dropped(url: str, at: int) -> None:
    """A client that goes away: after the opening, in an episode, in the middle of a call, in the middle of a request."""
    session = await Plain(url).__aenter__()
    if at % 4:
        await session.call("begin", {"row": at % 50})
    if at % 4 == 2:
        params = {"name": "message_user", "arguments": {"message": "Hello"}}
        session.send("POST", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    if at % 4 == 3:
        session._writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    await asyncio.sleep(0)
    session.drop()


async def opened_and_closed(url: str) -> None:
    """A session and nothing in it."""
    async with Plain(url):
        pass


def at_once(jobs: Sequence[Callable[[], Awaitable[None]]], limit: int) -> float:
    """Run jobs, so many at a time; seconds."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(limit)))

    began = time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - began


Play = Callable[[str, Task, Calls, int], Awaitable[Any]]
Plays = Sequence[tuple[Task, Calls]]


def over_the_wire(url: str, plays: Plays, sessions: int, play: Play) -> float:
    """Seconds of all episodes, so many sessions at a time."""

    async def one(task: Task, calls: Calls, seed: int) -> None:
        verdict = await play(url, task, calls, seed)
        assert verdict["reward"] == 1.0, (task.id, verdict)

    return at_once([lambda t=task, c=calls, s=at: one(t, c, s) for at, (task, calls) in enumerate(plays)], sessions)  # type: ignore[misc]


def in_process(source: Source, plays: Plays) -> float:
    """Seconds of them without a wire, graded."""
    began = time.perf_counter()
    for at, (task, calls) in enumerate(plays):
        seat = source.seat_at(task, seed=at)
        seat.open_now()
        for name, arguments in calls:
            seat.act_now(as_message(name, arguments))
        assert seat.reward == 1.0
    return time.perf_counter() - began


def main() -> int:
    """Measure and print.

    Returns:
        1 where a session was left.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--opened", type=int, default=10_000)
    parser.add_argument("--dropped", type=int, default=1_000)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, Python {sys.version.split()[0]}, mcp {version('mcp')}")
    source = Source.open("retail", split="train")
    tasks = [(task, recorded(source, task)) for task in source.tasks]
    plays = [tasks[at % len(tasks)] for at in range(options.episodes)]
    count = sum(len(calls) + 2 for _, calls in plays)  # and begin and finish
    in_process(source, tasks)  # references are executed once a process
    own = in_process(source, plays)
    print(f"in process: {len(plays) / own:,.0f} episodes/s, {count / own:,.0f} calls/s (one thread, graded)")
    with server(options.sessions, 60.0) as (url, pid):
        over_the_wire(url, tasks, options.sessions, play_plainly)
        for kind, play in (("plain HTTP", play_plainly), ("the SDK's client", play_by_the_sdk)):
            before, mine = seconds_of_cpu(pid), time.process_time()
            wire = over_the_wire(url, plays, options.sessions, play)
            cpu = seconds_of_cpu(pid) - before
            print(
                f"{options.sessions} sessions, {kind}: {len(plays) / wire:,.0f} episodes/s, {count / wire:,.0f} calls/s in {wire:.1f} s; "
                f"CPU: server {cpu:.1f} s ({cpu / count * 1e3:.2f} ms a call), client {time.process_time() - mine:.1f} s; {memory(pid)}",
                flush=True,
            )
        left = sessions_left(url)
        print(f"sessions left: {left}")
    with server(2 * options.dropped + options.sessions, IDLE_SECONDS) as (url, pid):
        print(f"another server: {memory(pid)} at the start", flush=True)
        for done in range(0, options.opened, 1000):
            number = min(1000, options.opened - done)
            seconds = at_once([lambda: opened_and_closed(url)] * number, options.sessions)
            left += (found := sessions_left(url))
            print(f"{done + number:,} opened and closed ({number / seconds:,.0f}/s): sessions left {found}; {memory(pid)}", flush=True)
        for _ in range(3):
            at_once([lambda at=at: dropped(url, at) for at in range(options.dropped)], options.sessions)  # type: ignore[misc]
            left += (found := sessions_left(url))
            print(f"{options.dropped:,} dropped: sessions left {found}, after {IDLE_SECONDS:.0f} idle seconds; {memory(pid)}", flush=True)
        over_the_wire(url, tasks, options.sessions, play_plainly)
        left += (found := sessions_left(url))
        print(f"and {len(tasks)} more episodes: sessions left {found}; {memory(pid)}")
    return int(left > 0)


if __name__ == "__main__":
    raise SystemExit(main())
