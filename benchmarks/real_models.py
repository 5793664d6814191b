"""A real model behind a real server, by the commands of the README: does everything hold together? No measure of any model.

    python benchmarks/real_models.py --server 'python benchmarks/real_server.py --port {port}' --model smollm2
    python benchmarks/real_models.py --server 'transformers serve FOLDER --port {port} --device cpu' --model FOLDER
    python benchmarks/real_models.py --server ... --model ... --steps tools both killed

The server is any command that serves an OpenAI-compatible API on loopback, from whatever environment it lives in; it is started, waited
for, killed in one of the steps, and stopped. The steps are runs of `sentinel` as a user types them:

    tools      the agent is the model, with its own tool calls; the scripted user. A server that shows its model no tools is refused
    text       the same with --tools-in-text
    both       the user is the model too, recorded with --record; then replayed, which must give the same bytes
    killed     kill -9 of the server in the middle, without --wait-for-server; then the same command with the server back, which must finish

It ends with exit code 1 where a run did not end as it should. CPU is our process's, its start and the score included, the server's not.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentinel_env import Trajectory, load_domain
from sentinel_env.scores import score
from sentinel_env.trajectory import read_trajectories

STEPS = ("tools", "text", "both", "killed")


class Server:
    """A command that serves a model, on a free port of loopback."""

    def __init__(self, command: str, model: str, patience: float) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._command, self._model, self._patience = command, model, patience
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers a question."""
        command = shlex.split(self._command.format(port=self._port))
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + self._patience
        while not self._answers():
            if self._process.poll() is not None:
                sys.exit(
                    f"real_models: the server ended with exit code {self._process.returncode}; run it by itself: {shlex.join(command)}"
                )
            if time.monotonic() > until:
                self.kill()
                sys.exit(f"real_models: no answer from {self.url} within {self._patience:g} s; --patience gives it longer")
            time.sleep(0.5)

    def _answers(self) -> bool:
        asked = {"model": self._model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """`kill -9` it, with whatever it started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclass
class Run:
    """One run of `sentinel run` and what it took."""

    name: str
    exit_code: int
    seconds: float
    cpu: float
    """Seconds of our process."""
    results: list[Trajectory]
    wrong: list[str] = field(default_factory=list)
    """What is not as it should be."""

    def row(self, domain: str) -> str:
        """A row of the table in Markdown."""
        spent = [result.usage or {} for result in self.results]
        calls, tokens = (
            sum(each.get(f"{side}_{name}", 0) for each in spent for side in ("agent", "user") for name in names)
            for names in (("calls",), ("prompt_tokens", "completion_tokens"))
        )
        said = [message for result in self.results for message in result.messages if message.role == "assistant"]
        unreadable = sum(message.problem is not None for message in said)
        found = score(load_domain(domain), self.results)
        passed = str(found.pass_hat[0]) if found.pass_hat else "-"
        each = f"{self.seconds / calls:.1f} | {1000 * self.cpu / calls:.0f}" if calls else "- | -"
        called = sum(len(message.tool_calls) for message in said)
        cells = (self.name, len(self.results), passed, called, unreadable, found.user_faults, f"{calls:,.0f}", f"{tokens:,.0f}")
        return f"| {' | '.join(map(str, cells))} | {each} |"


COLUMNS = ["run", "episodes", "Pass^1 % [95 %]", "tool calls", "unreadable messages", "user at fault", "requests", "tokens"]
COLUMNS += ["s a request", "our CPU, ms a request"]


def run(name: str, given: argparse.Namespace, folder: Path, server: Server, *more: str, kill: bool = False) -> Run:
    """Run `sentinel run` to its end; with `kill` the server is killed once a first episode is finished."""
    out = folder / name
    command = [sys.executable, "-m", "sentinel_env", "run", given.domain, "--tasks", str(folder / "tasks.jsonl"), "--out", str(out)]
    command += ["--model", given.model, "--base-url", server.url, "--trials", str(given.trials), "--max-tokens", str(given.max_tokens)]
    command += ["--concurrency", str(given.concurrency), "--max-steps", str(given.max_steps), "--seed", "0", "--json", *more]
    print(f"$ sentinel {shlex.join(command[3:])}", file=sys.stderr, flush=True)
    began, lines = time.monotonic(), out / "trajectories.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while kill and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:  # `poll` would lose its CPU time
        if lines.is_file() and lines.read_bytes().count(b"\n"):
            server.kill()
            break
        time.sleep(0.1)
    _, status, took = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    results = list(read_trajectories(out)) if lines.is_file() else []
    return Run(name, process.returncode, time.monotonic() - began, took.ru_utime + took.ru_stime, results)


def step(name: str, given: argparse.Namespace, folder: Path, server: Server) -> list[Run]:
    """The runs of one step, with what is wrong about them."""
    if name == "text":
        return [_ended(run(name, given, folder, server, "--tools-in-text"))]
    if name == "both":
        user = ("--user-model", given.model, "--user-base-url", server.url)
        tape = str(folder / "tape.jsonl")
        first = _ended(run("both", given, folder, server, *user, "--record", tape))
        again = _ended(run("replayed", given, folder, server, *user, "--replay", tape))
        files = [(folder / each.name / "trajectories.jsonl").read_bytes() for each in (first, again)]
        again.wrong += [] if files[0] == files[1] else ["other bytes than what was recorded"]
        return [first, again]
    if name == "killed":
        cut = run(name, given, folder, server, "--wait-for-server", "0", kill=True)
        lost = folder / name / "errors.jsonl"
        count = lost.read_bytes().count(b"\n") if lost.is_file() else 0
        cut.wrong += [] if cut.exit_code == 1 and count else [f"exit code {cut.exit_code} and {count} outages; expected 1 and some"]
        server.start()
        kept = {result.id: result for result in cut.results}
        whole = _ended(run(name, given, folder, server))
        whole.name = "killed, then resumed"
        ends = {result.id: result for result in whole.results}
        whole.wrong += [f"{each} is lost or changed" for each, result in kept.items() if ends.get(each) != result]
        return [cut, whole]
    return [_ended(run(name, given, folder, server))]


def _ended(found: Run) -> Run:
    found.wrong += [] if found.exit_code == 0 else [f"exit code {found.exit_code}; expected 0"]
    return found


def flagged(runs: Sequence[Run]) -> list[str]:
    """What the guards hold against the model as the user, each kind once, with its words."""
    found: dict[str, str] = {}
    for result in (result for each in runs for result in each.results):
        for message in result.messages:
            if message.role == "user" and message.problem is not None:
                found.setdefault(message.problem, f"- {result.id}: {message.problem}: {message.content[:160]!r}")
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--server", required=True, metavar="COMMAND", help="with {port} where its port goes")
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--domain", default="retail")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tasks", type=int, default=3, help="so many, from the first on")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=50, help="of one turn of the agent")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds until the server must answer")
    parser.add_argument("--out", type=Path, help="where the runs are kept; nowhere if not given")
    given = parser.parse_args()
    if given.out is not None and given.out.exists():
        parser.error(f"{given.out} is there already; finished runs would be gone on with, so give a new folder")
    folder = given.out or Path(tempfile.mkdtemp(prefix="real-models-"))
    folder.mkdir(parents=True, exist_ok=True)
    chosen = load_domain(given.domain).split(given.split)[: given.tasks]
    (folder / "tasks.jsonl").write_text("".join(task.model_dump_json(exclude_defaults=True) + "\n" for task in chosen))
    server = Server(given.server, given.model, given.patience)
    runs: list[Run] = []
    try:
        server.start()
        for name in given.steps:
            runs += step(name, given, folder, server)
    finally:
        server.kill()
    print(f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *(each.row(given.domain) for each in runs), sep="\n")
    print("\n".join(flagged(runs)))
    wrong = [f"{each.name}: {what}" for each in runs for what in each.wrong]
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
