"""A server that goes away in the middle of a run is waited for, and the run ends as if it had always been there."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest
from scripted_models import scripted
from typer.testing import CliRunner

from sentinel_env import ConfigError, Limits, ModelError, StoppedError, load_domain, outages
from sentinel_env.agents import ScriptedAgent
from sentinel_env.cassette import Cassette
from sentinel_env.cli import app
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_user import LLMUser
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.runner import run_tasks
from sentinel_env.trajectory import read_trajectories
from sentinel_env.users import ScriptedUser

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
TRIALS = 12


@pytest.fixture(scope="module")
def library():
    return load_domain("library")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(outages, "_FIRST_WAIT", 0.02)


def results(folder):
    return (folder / "trajectories.jsonl").read_bytes(), (folder / "summary.json").read_bytes()


def play(library, url, out, *, minutes=1.0, on_wait=None, concurrency=4, **options):
    model = Model("tiny", base_url=url, attempts=1, timeout=5.0)
    limits = Limits(wait_for_server=minutes, **options)
    settings = {"trials": TRIALS, "concurrency": concurrency, "limits": limits, "on_wait": on_wait, "out": out}
    return run_tasks(library, library.split(), LLMAgent(model), ScriptedUser(), **settings)


@pytest.fixture(scope="module")
def undisturbed(library, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    with ModelServer(scripted(library, library.split(), trials=TRIALS)) as server:
        play(library, server.url, out)
    return results(out)


def is_question(request):
    """Whether the server is there."""
    return request["max_tokens"] == 1


class Fails:
    """A server that is well for some requests, then fails until it was asked so often whether it is there, and then is well."""

    def __init__(self, script, *, well, asked, reply):
        self.script, self.well, self.asked, self.reply = script, well, asked, reply

    def __call__(self, request):
        self.well -= 1
        if self.well >= 0 or self.asked <= 0:
            return self.script(request)
        self.asked -= is_question(request)
        return self.reply


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("reply", [Reply("loading the model", status=503), Reply("slow down", status=429), Reply(fault="drop")])
def test_an_outage_costs_no_attempt_and_changes_no_result(library, tmp_path, undisturbed, concurrency, reply):
    script = Fails(scripted(library, library.split(), trials=TRIALS), well=7, asked=3, reply=reply)
    told = []
    with ModelServer(script) as server:
        found = play(library, server.url, tmp_path / "run", on_wait=told.append, concurrency=concurrency)
        assert 3 <= sum(map(is_question, server.requests)) <= 4 + concurrency
    assert [each.error for each in found] == [None] * TRIALS
    assert results(tmp_path / "run") == undisturbed
    assert not (tmp_path / "run" / "errors.jsonl").exists()
    assert told[0].startswith("waits for a server, 1 minutes at most: model tiny: ")
    assert told[1:] == ["the server is back, the run goes on"]


def test_what_is_recorded_around_an_outage_is_asked_once_and_replays_to_the_same_bytes(library, tmp_path, undisturbed):
    tasks, whole = library.split(), scripted(library, library.split(), trials=TRIALS)

    def go(out, **where):
        with Cassette(tmp_path / "night.jsonl", replay=not where) as cassette:
            agent = LLMAgent(Model("tiny", attempts=1, cassette=cassette, **where))
            limits = Limits(wait_for_server=1.0)
            run_tasks(library, tasks, agent, ScriptedUser(), trials=TRIALS, out=out, limits=limits)

    with ModelServer(Fails(whole, well=13, asked=3, reply=Reply("boom", status=503))) as server:
        go(tmp_path / "run", base_url=server.url)
        answered = [json.dumps(request) for request in server.requests if not is_question(request)]
    go(tmp_path / "again")
    assert results(tmp_path / "run") == results(tmp_path / "again") == undisturbed
    assert 0 < len(answered) - len(set(answered)) <= 8  # those that met the outage; a turn that was answered is not paid for twice


def test_a_server_that_is_gone_and_started_again_at_its_address_is_found_again(library, tmp_path, undisturbed):
    script = scripted(library, library.split(), trials=TRIALS)
    with ExitStack() as stack:
        first = ModelServer(lambda request: leave() if len(first.requests) == 9 else script(request))
        first.__enter__()
        port = int(first.url.split(":")[2].split("/")[0])

        def leave():
            first._loop.call_soon(first._stop.set)
            return Reply(fault="hang")

        def start_again(line):
            if line.startswith("waits"):
                first._thread.join()
                stack.enter_context(ModelServer(script, port=port))

        play(library, first.url, tmp_path / "run", on_wait=start_again)
    assert results(tmp_path / "run") == undisturbed


def test_the_wait_has_an_end_and_the_same_call_goes_on(library, tmp_path, undisturbed):
    script = scripted(library, library.split(), trials=TRIALS)
    with (
        ModelServer(Fails(script, well=20, asked=10**6, reply=Reply("boom", status=500))) as server,
        pytest.raises(
            StoppedError,
            match=rf"^waited 0\.005 minutes for a server: model tiny: HTTP 500: boom; \d+ of {TRIALS} attempts are finished and kept",
        ) as caught,
    ):
        play(library, server.url, tmp_path / "run", minutes=0.005)
    assert 0 < len(caught.value.results) < TRIALS
    assert not (tmp_path / "run" / "errors.jsonl").exists()
    with ModelServer(script) as server:
        play(library, server.url, tmp_path / "run")
    assert results(tmp_path / "run") == undisturbed


def test_a_limit_of_minutes_ends_the_wait_too(library, tmp_path):
    with (
        ModelServer(Fails(lambda _: "Hello", well=0, asked=10**6, reply=Reply("boom", status=500))) as server,
        pytest.raises(StoppedError, match=r"^0\.005 minutes are over"),
    ):
        play(library, server.url, tmp_path / "run", minutes=60.0, max_minutes=0.005)


def test_a_server_that_refuses_is_there_and_its_refusals_are_errors_of_the_attempts(library, tmp_path):
    with ModelServer([Reply("not you", status=403)]) as server:
        found = play(library, server.url, tmp_path / "run")
    assert all("HTTP 403: not you" in each.error for each in found)


def test_an_attempt_that_ends_the_server_each_time_is_made_a_few_times_only(library, tmp_path):
    """What the first task asks is the very thing that it cannot bear."""
    state = {"down": 0, "crashes": 0}

    def fragile(request):
        if is_question(request):
            state["down"] -= 1
            return Reply("starting", status=503) if state["down"] >= 0 else "Hello"
        state["down"], state["crashes"] = 2, state["crashes"] + 1
        return Reply(fault="reset")

    with ModelServer(fragile) as server:
        model = Model("tiny", base_url=server.url, attempts=1)
        (found,) = run_tasks(library, library.split()[:1], LLMAgent(model), ScriptedUser(), limits=Limits(wait_for_server=1.0))
    assert "the answer was cut" in found.error
    assert state["crashes"] == 3


def test_the_users_server_is_waited_for_as_well(library):
    tasks = library.split()
    script = Fails(scripted(library, tasks), well=1, asked=2, reply=Reply("boom", status=502))
    with ModelServer(script) as server:
        user = LLMUser(Model("tiny", base_url=server.url, attempts=1))
        (found,) = run_tasks(library, tasks, ScriptedAgent(tasks=tasks), user, limits=Limits(wait_for_server=1.0))
    assert found.error is None


def test_without_a_wait_every_attempt_meanwhile_is_ended(library, tmp_path):
    with ModelServer(Fails(lambda _: "Hello", well=0, asked=10**6, reply=Reply("boom", status=500))) as server:
        found = play(library, server.url, tmp_path / "run", minutes=0)
        assert not any(map(is_question, server.requests))
    assert all(each.error for each in found)


def test_a_wait_below_nothing_is_refused():
    with pytest.raises(ConfigError, match="wait_for_server must be at least 0, found -1"):
        Limits(wait_for_server=-1)


# the command


def test_the_command_says_that_it_waits_and_stops_with_its_own_code(tmp_path, monkeypatch, library):
    monkeypatch.chdir(tmp_path)
    script = scripted(library, library.split(), trials=4)
    options = ("run", "library", "--model", "tiny", "--trials", "4", "--concurrency", "1", "--out", "run")

    def command(url, *more):
        return CliRunner().invoke(app, [*options, "--base-url", url, *more], prog_name="sentinel")

    down = Fails(script, well=6, asked=10**6, reply=Reply("boom", status=503, retry_after=0))
    with ModelServer(down, models=("tiny",)) as server:
        stopped = command(server.url, "--wait-for-server", "0.002")
    assert (stopped.exit_code, stopped.stderr.count("\n")) == (3, 2)
    first, last = stopped.stderr.splitlines()
    assert first.startswith("library, tiny: waits for a server, 0.002 minutes at most: model tiny: HTTP 503: boom")
    assert last.startswith("sentinel: waited 0.002 minutes for a server: ")
    assert "1 of 4 attempts are finished and kept" in last
    with ModelServer(script, models=("tiny",)) as server:
        assert command(server.url).exit_code == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["passed"] == 4


def test_an_interrupt_ends_the_wait(tmp_path, library):
    script = scripted(library, library.split())
    with ModelServer(Fails(script, well=3, asked=10**6, reply=Reply("boom", status=503, retry_after=0)), models=("tiny",)) as server:
        command = [sys.executable, "-m", "sentinel_env", "run", "library", "--model", "tiny", "--base-url", server.url, "--out", "run"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ}) as running:
            assert "waits for a server, 10 minutes at most" in running.stderr.readline()
            running.send_signal(signal.SIGINT)
            assert running.stderr.read() == "sentinel: stopped\n"
    assert running.returncode == 130


def test_a_time_for_a_request_and_the_first_tasks_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    retail = load_domain("retail")
    script = scripted(retail, retail.split("dev"))

    def command(*options):
        return CliRunner().invoke(app, ["run", "retail", "--split", "dev", *options], prog_name="sentinel")

    with ModelServer(lambda request: Reply(fault="hang") if not is_question(request) else script(request)) as server:
        asked = ("--model", "tiny", "--base-url", server.url, "--timeout", "0.1", "-n", "2", "--out", "slow")
        slow = command(*asked)
    assert slow.exit_code == 1
    assert "2 of 2 attempts were ended by infrastructure and do not count; 2 by: model tiny: no answer within 0.1 s" in slow.stderr
    assert command("-n", "3", "--out", "run").exit_code == 0
    assert [each.task.id for each in read_trajectories("run")] == [task.id for task in retail.split("dev")[:3]]
    other = command("-n", "4", "--out", "run")
    assert (other.exit_code, "tasks" in other.stderr) == (1, True)


def test_what_never_fits_is_not_to_be_tried_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = iter(range(5000, 6000))

    def small(request):
        if is_question(request):
            return "Hello"
        return Reply(f"This model's maximum context length is 4096 tokens, you asked for {next(counts)}", status=400)

    with ModelServer(small) as server:
        options = ["run", "library", "--trials", "3", "--model", "tiny", "--base-url", server.url]
        said = CliRunner().invoke(app, options, prog_name="sentinel").stderr
    assert "3 of 3 attempts were ended by infrastructure and do not count; 3 by: model tiny: HTTP 400: This model's maximum" in said
    assert said.endswith("; they never fit: choose a model with a longer context, or fewer --max-tokens\n")
    assert "tries them again" not in said


def test_away_is_what_a_model_says_and_a_replayed_one_never_is(tmp_path):
    async def away(model):
        async with model:
            return await model.away()

    (tmp_path / "night.jsonl").write_text("")
    with Cassette(tmp_path / "night.jsonl", replay=True) as cassette:
        assert asyncio.run(away(Model("tiny", cassette=cassette))) is None
    gone = asyncio.run(away(Model("tiny", base_url="http://127.0.0.1:9/v1")))
    assert isinstance(gone, ModelError)
    assert str(gone).startswith("model tiny: cannot reach http://127.0.0.1:9/v1/chat/completions")


def test_attempts_that_end_at_once_have_the_server_asked_once_for_all_of_them(library):
    def script(request):
        return Reply("Hello", delay=0.3) if request["max_tokens"] == 1 else Reply("it declines", status=400, delay=0.3)

    with ModelServer(script) as server:
        found = play(library, server.url, None, concurrency=TRIALS)
        asked = sum(request["max_tokens"] == 1 for request in server.requests)
    assert all(trajectory.error for trajectory in found)
    assert asked < len(found) / 2
