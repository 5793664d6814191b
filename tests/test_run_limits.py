"""A run stops when it took too long, cost too much or met too many outages; what is finished is kept, and the same call goes on."""

import asyncio
import json
import os
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from scripted_models import scripted
from typer.testing import CliRunner

from sentinel_env import ConfigError, Criteria, Limits, ModelError, Scenario, StoppedError, Task, ToolCall, evaluate, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.cli import app
from sentinel_env.commands.run_progress import Tally
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_budget import Budget
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.run_folder import RunFolder
from sentinel_env.runner import run_tasks
from sentinel_env.trajectory import read_trajectories
from sentinel_env.users import ScriptedUser


@pytest.fixture(scope="module")
def library():
    return load_domain("library")


@pytest.fixture(scope="module")
def tasks():
    criteria = Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L1"}),))
    scenario = Scenario(goal="Renew Dune for me.", known={"card number": "M7"})
    return tuple(Task(id=f"renew-{at}", domain="library", scenario=scenario, criteria=criteria) for at in range(40))


@dataclass
class Moody:
    """The scripted agent, which sleeps or fails in some tasks."""

    inner: ScriptedAgent
    sleeps: frozenset[str] = frozenset()
    fails: frozenset[str] = frozenset()
    name: str = "moody"
    seen: list[str] = field(default_factory=list)

    async def act(self, view):
        self.seen.append(view.task_id)
        await asyncio.sleep(3600 if view.task_id in self.sleeps else 0)
        if view.task_id in self.fails:
            raise ModelError("503 from the provider")
        return self.inner.act(view)


def of(tasks, *numbers):
    return frozenset(tasks[at].id for at in numbers)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


def test_time_that_is_over_gives_up_what_is_live_and_keeps_what_is_finished(library, tasks, tmp_path):
    agent = Moody(ScriptedAgent(tasks=tasks), sleeps=of(tasks, 3, 7))
    with pytest.raises(
        StoppedError, match=r"^0\.05 minutes are over; 38 of 40 attempts are finished and kept, the same command goes on$"
    ) as caught:
        run_tasks(library, tasks, agent, ScriptedUser(), out=tmp_path / "run", concurrency=4, limits=Limits(max_minutes=0.05))
    assert [each.id for each in caught.value.results] == [f"renew-{at}/0" for at in range(40) if at not in (3, 7)]
    assert not (tmp_path / "run" / "summary.json").exists()
    again = Moody(ScriptedAgent(tasks=tasks))
    run_tasks(library, tasks, again, ScriptedUser(), out=tmp_path / "run")
    assert set(again.seen) == of(tasks, 3, 7)
    run_tasks(library, tasks, Moody(ScriptedAgent(tasks=tasks)), ScriptedUser(), out=tmp_path / "whole")
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


def test_sides_that_never_wait_are_stopped_in_time_too(library, tasks):
    with pytest.raises(StoppedError, match="minutes are over"):
        run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), trials=10_000, limits=Limits(max_minutes=0.01))


def test_a_timeout_of_the_agents_own_is_no_limit_of_the_run(library, tasks):
    class Impatient:
        name = "impatient"

        async def act(self, view):
            raise TimeoutError("not ours")

    with pytest.raises(TimeoutError, match="not ours"):
        run_tasks(library, tasks, Impatient(), ScriptedUser(), limits=Limits(max_minutes=10))


@pytest.mark.parametrize("concurrency", [1, 8])
def test_too_many_outages_stop_the_run_with_the_usual_one(library, tasks, tmp_path, concurrency):
    agent = Moody(ScriptedAgent(tasks=tasks), fails=of(tasks, *range(10, 40)))
    with pytest.raises(
        StoppedError, match=r"infrastructure ended 6 of the last 10 attempts, more than 50%: 503 from the provider; \d+ of 40"
    ):
        run_tasks(
            library,
            tasks,
            agent,
            ScriptedUser(),
            out=tmp_path / "run",
            concurrency=concurrency,
            limits=Limits(max_error_rate=0.5, window=10),
        )
    kept = [each.id for each in read_trajectories(tmp_path / "run")]
    assert set(kept) <= {f"renew-{at}/0" for at in range(10)}
    assert len(kept) == 10 or concurrency > 1
    assert len(list(read_trajectories(tmp_path / "run" / "errors.jsonl"))) == 6
    well = Moody(ScriptedAgent(tasks=tasks))
    assert len(run_tasks(library, tasks, well, ScriptedUser(), out=tmp_path / "run")) == 40
    assert not (tmp_path / "run" / "errors.jsonl").exists()


def test_outages_within_the_share_let_a_run_go_on(library, tasks):
    agent = Moody(ScriptedAgent(tasks=tasks), fails=of(tasks, *range(0, 40, 2)))
    results = run_tasks(library, tasks, agent, ScriptedUser(), concurrency=1, limits=Limits(max_error_rate=0.5, window=10))
    assert sum(each.error is not None for each in results) == 20


def test_a_share_of_nothing_stops_at_the_first_outage_once_the_window_is_full(library, tasks):
    agent = Moody(ScriptedAgent(tasks=tasks), fails=of(tasks, 0))
    with pytest.raises(StoppedError) as caught:
        run_tasks(library, tasks, agent, ScriptedUser(), concurrency=1, limits=Limits(max_error_rate=0, window=5))
    assert len(caught.value.results) == 5


def test_a_budget_that_is_used_up_is_no_outage_and_live_episodes_go_on_as_far_as_it_pays(library, tasks, tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")

    script = scripted(library, tasks)

    def run(budget):
        with ModelServer(lambda request: replace(script(request), usage=(200, 10))) as server:
            model = Model("tiny", base_url=server.url, prices=(1.0, 1.0), budget=budget)
            return run_tasks(library, tasks, LLMAgent(model, max_tokens=100), ScriptedUser(), out=tmp_path / "run", concurrency=4)

    counts = []
    for _ in range(2):
        budget = Budget(max_cost=0.012)
        with pytest.raises(StoppedError, match=r"at most \$0\.012 may be spent; \d+ of 40 attempts are finished and kept") as caught:
            run(budget)
        assert budget.spent.cost <= 0.012
        assert all(evaluate(library, each).passed for each in caught.value.results)
        counts.append(len(caught.value.results))
        assert not (tmp_path / "run" / "errors.jsonl").exists()
    assert 0 < counts[0] < counts[1]
    assert len(run(Budget())) == 40


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_minutes": 0}, "max_minutes must be above 0, found 0"),
        ({"max_error_rate": 1}, "max_error_rate is a share of at least 0 and below 1, found 1"),
        ({"max_error_rate": float("nan")}, "found nan"),
        ({"window": 0}, "window must be at least 1"),
    ],
)
def test_limits_that_mean_nothing_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        Limits(**settings)


def test_lines_are_on_the_disk_within_a_second_and_at_the_end(library, tasks, tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), real(file))[1])
    agent = Moody(ScriptedAgent(tasks=tasks), sleeps=of(tasks, 39))
    with pytest.raises(StoppedError):
        run_tasks(library, tasks, agent, ScriptedUser(), out=tmp_path / "run", limits=Limits(max_minutes=0.03))
    lines = [path for path in synced if path.endswith("trajectories.jsonl")]
    assert 1 <= len(lines) <= 4  # and not one for each of the 39 lines


def test_a_line_that_comes_while_another_is_synced_is_not_forgotten(library, tasks, tmp_path, monkeypatch):
    (result, other) = run_tasks(library, tasks[:2], ScriptedAgent(tasks=tasks), ScriptedUser())
    real, calls = os.fsync, []
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.add(result)

        def slow(file):
            real(file)
            if not calls:
                calls.append("first")
                folder.add(other)
            else:
                calls.append("again")

        monkeypatch.setattr(os, "fsync", slow)
        folder.sync()
        folder.sync()
        folder.sync()
    assert calls == ["first", "again"]


# a checkpoint


@dataclass(frozen=True)
class Reached:
    """A scripted user behind a line that may be down."""

    down: bool
    name: str = "reached"

    def reply(self, view):
        if self.down:
            raise ModelError("503 from the provider")
        return ScriptedUser().reply(view)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(max_error_rate=0, window=2), r"infrastructure ended 2 of the last 2 attempts, .*; 0 of 8 attempts are finished and kept"),
        (Limits(max_minutes=1e-6), r"1e-06 minutes are over; 0 of 8 attempts"),
    ],
)
def test_a_checkpoint_that_plays_in_batches_stops_between_them_and_goes_on_with_the_same_bytes(library, tmp_path, limits, says):
    pytest.importorskip("torch", reason="torch (extra: train) is not installed")
    from sentinel_train.config import SamplingConfig
    from sentinel_train.evaluate import run_into

    few = SamplingConfig(batch_size=4, max_steps=2, max_turn_tokens=4)
    play = partial(run_into, domain=library, tasks=library.split(), model="tiny", trials=8, sampling=few, temperature=0.0)
    with pytest.raises(StoppedError, match=says) as caught:
        play(tmp_path / "run", user=Reached(down=True), limits=limits)
    assert len(caught.value.results) == (4 if limits.max_error_rate is not None else 0)
    assert len(play(tmp_path / "run", user=Reached(down=False), limits=Limits(max_error_rate=0))) == 8
    play(tmp_path / "whole", user=Reached(down=False))
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["configuration"]["sampling"]["temperature"] == 0.0


# the command


def command(*arguments):
    return CliRunner().invoke(app, ["run", "library", *map(str, arguments)], prog_name="sentinel")


def test_a_stopped_command_says_why_in_a_line_with_a_code_of_its_own_and_goes_on(tmp_path, monkeypatch, library):
    pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
    monkeypatch.chdir(tmp_path)
    script = scripted(library, library.split(), trials=30)
    with ModelServer(
        lambda request: Reply("boom", status=403) if len(server.requests) > 14 else script(request), models=("tiny",)
    ) as server:
        options = ("--model", "tiny", "--base-url", server.url, "--trials", 30, "--concurrency", 1, "--out", "run")
        stopped = command(*options, "--max-error-rate", 0.5)
    assert stopped.exit_code == 3
    assert stopped.stderr.startswith("sentinel: infrastructure ended ")
    assert stopped.stderr.count("\n") == 1
    assert "3 of 30 attempts are finished and kept, the same command goes on" in stopped.stderr
    assert "tasks" in stopped.stdout
    with ModelServer(script, models=("tiny",)) as server:
        options = ("--model", "tiny", "--base-url", server.url, "--trials", 30, "--out", "run")
        assert command(*options, "--max-error-rate", 0.5).exit_code == 0
        assert len(server.requests) == 27 * 4 + 2  # whether tools are shown
    assert json.loads(Path("run/summary.json").read_text())["passed"] == 30


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--max-minutes", "0"), "max_minutes must be above 0"),
        (("--max-error-rate", "50"), "max_error_rate is a share"),
        (("--max-cost", "1"), "--max-cost is for models that are asked; name one with --model or --user-model"),
        (("--max-in-flight", "1"), "--max-in-flight is for models that are asked"),
        (("--record", "night.jsonl"), "--record is for models that are asked"),
        (("--model", "hf:tiny", "--agent-seed", "5"), "--agent-seed is not for hf:tiny, which plays in batches"),
        (("--model", "hf:tiny", "--max-tokens", "5"), "--max-tokens is for a model behind a server; hf:tiny is played with training's own"),
        (("--user-max-tokens", "5"), "--user-max-tokens is for a model; name it with --user-model"),
        (("--model", "tiny", "--base-url", "http://127.0.0.1:9/v1", "--max-in-flight", "0"), "in_flight must be above 0"),
        (("--model", "tiny", "--record", "a", "--replay", "b"), "give one of them"),
        (("--model", "tiny", "--replay", "none.jsonl"), "cannot open cassette none.jsonl: No such file"),
    ],
)
def test_limits_that_do_not_fit_are_one_line_and_leave_nothing(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    result = command(*options)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_pass_rate_outages_cost_and_time_left_of_this_call(library, tasks):
    (result,) = run_tasks(library, tasks[:1], ScriptedAgent(tasks=tasks), ScriptedUser())
    tally = Tally(total=10, found=2, began=time.monotonic() - 60)
    assert tally.seconds_left(time.monotonic()) is None or tally.made < tally.found
    for at in range(4):
        tally.add(result.model_copy(update={"usage": {"agent_cost": 0.5, "user_cost": 0.25}}), passed=at != 0)
    tally.add(result.model_copy(update={"error": "ModelError: HTTP 500"}), passed=False)
    assert tally.line(tally.began + 60) == "5 of 10 made, 75 % passed, 1 without an end, $3.00, 2 min left"
