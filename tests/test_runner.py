"""The runner loses nothing, repeats nothing, and keeps outages apart from failures."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field

import pytest
from typer.testing import CliRunner

from sentinel_env import (
    ConfigError,
    Criteria,
    DomainError,
    Message,
    ModelError,
    Scenario,
    Task,
    TaskError,
    ToolCall,
    TrajectoryError,
    load_domain,
    tool,
)
from sentinel_env.agents import ScriptedAgent, say
from sentinel_env.cli import app
from sentinel_env.run_folder import CONFIGURATION, RunFolder, read_configuration
from sentinel_env.runner import arun_tasks, run_tasks, trial_seed
from sentinel_env.trajectory import read_trajectories, replay
from sentinel_env.users import ScriptedUser


@pytest.fixture(scope="module")
def library():
    return load_domain("library")


@pytest.fixture(scope="module")
def tasks():
    """Forty tasks with one reference, told apart by their ids."""
    criteria = Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L1"}),))
    scenario = Scenario(goal="Renew Dune for me.", known={"card number": "M7"})
    return tuple(Task(id=f"renew-{at}", domain="library", scenario=scenario, criteria=criteria) for at in range(40))


@dataclass
class Unsteady:
    """A real asynchronous agent over the scripted one: it waits, in another order each time, and its provider fails now and then."""

    inner: ScriptedAgent
    fails: frozenset[int] = frozenset()
    """Which of its calls fail, counted from 0."""
    name: str = "unsteady"
    calls: int = 0
    live: int = 0
    most_live: int = 0
    seen: list[str] = field(default_factory=list)

    async def act(self, view):
        at, self.calls = self.calls, self.calls + 1
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        await asyncio.sleep(0.001 * (at * 7 % 5))
        self.live -= 1
        if at in self.fails:
            raise ModelError("503 from the provider")
        self.seen.append(view.task_id)
        return self.inner.act(view)


def files(folder):
    """What is in a run's folder, without what made it: somebody may commit between two runs."""
    return {path.name: path.read_bytes() if path.name != CONFIGURATION else read_configuration(folder) for path in sorted(folder.iterdir())}


def test_results_come_back_in_order_with_seeds_of_their_own(library, tasks):
    results = run_tasks(library, tasks[:3], ScriptedAgent(tasks=tasks), ScriptedUser(), trials=2, seed=5)
    assert [result.id for result in results] == [f"renew-{at}/{trial}" for at in range(3) for trial in range(2)]
    assert [result.seed for result in results] == [trial_seed(5, f"renew-{at}", trial) for at in range(3) for trial in range(2)]
    assert len({result.seed for result in results}) == 6
    assert all(result.terminated and replay(library, result) for result in results)


def test_seeds_are_the_same_in_every_process_and_version():
    assert trial_seed(0, "renew-dune", 0) == 1706898515


@pytest.mark.parametrize("concurrency", [2, 8, 100])
def test_concurrency_does_not_change_a_byte(library, tasks, tmp_path, concurrency):
    for name, live in (("one", 1), ("many", concurrency)):
        agent = Unsteady(ScriptedAgent(tasks=tasks))
        run_tasks(library, tasks, agent, ScriptedUser(), trials=2, concurrency=live, out=tmp_path / name)
        assert agent.most_live == min(live, 80)
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_every_task_has_its_first_trial_before_any_has_its_second(library, tasks):
    agent = Unsteady(ScriptedAgent(tasks=tasks))
    order = []
    run_tasks(library, tasks[:4], agent, ScriptedUser(), trials=2, concurrency=1, on_result=lambda result: order.append(result.trial))
    assert order == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_model_error_ends_one_attempt_and_is_tried_again_on_resume(library, tasks, tmp_path):
    out = tmp_path / "run"
    agent = Unsteady(ScriptedAgent(tasks=tasks), fails=frozenset({3, 40}))
    results = run_tasks(library, tasks, agent, ScriptedUser(), out=out)
    failed = [result for result in results if result.error]
    assert [result.error for result in failed] == ["ModelError: 503 from the provider"] * 2
    assert not any(result.terminated for result in failed)
    assert {result.id for result in read_trajectories(out / "errors.jsonl")} == {result.id for result in failed}
    assert len(list(read_trajectories(out))) == 38
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["excluded"], summary["passed"], summary["trajectories"]) == (2, 38, 40)
    assert summary["pass_hat"][0]["value"] == 1.0

    calm = Unsteady(ScriptedAgent(tasks=tasks))
    again = run_tasks(library, tasks, calm, ScriptedUser(), out=out)
    assert set(calm.seen) == {result.task.id for result in failed}
    assert [result.id for result in again] == [result.id for result in results]
    assert not (out / "errors.jsonl").exists()
    run_tasks(library, tasks, Unsteady(ScriptedAgent(tasks=tasks)), ScriptedUser(), out=tmp_path / "calm")
    assert files(out) == files(tmp_path / "calm")


def test_a_run_of_nothing_but_errors_still_has_a_summary(library, tasks, tmp_path):
    agent = Unsteady(ScriptedAgent(tasks=tasks), fails=frozenset(range(100)))
    results = run_tasks(library, tasks[:2], agent, ScriptedUser(), out=tmp_path / "run")
    assert all(result.error for result in results)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["excluded_tasks"], summary["pass_hat"]) == (["renew-0", "renew-1"], [])


def test_a_crashing_tool_stops_the_run_and_keeps_what_is_finished(library, tasks, tmp_path):
    calls = []

    @tool(writes=True)
    def renew_loan(db: object, loan_id: str) -> str:
        """Crash at the fourth call of an agent.

        Args:
            loan_id: The loan.
        """
        calls.append(loan_id)
        if len(calls) > len(tasks) + 3:
            raise KeyError(loan_id)
        return "done"

    from dataclasses import replace

    crashing = replace(library, tools=(renew_loan,))
    with pytest.raises(DomainError, match=r"tool renew_loan crashed on .*KeyError"):
        run_tasks(crashing, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), out=tmp_path / "run", concurrency=1)
    assert len(list(read_trajectories(tmp_path / "run"))) == 3
    assert not (tmp_path / "run" / "summary.json").exists()


KILLED = """
    import os, signal, sys
    from sentinel_env import *
    from sentinel_env.agents import ScriptedAgent
    from sentinel_env.runner import run_tasks
    from sentinel_env.users import ScriptedUser

    criteria = Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L1"}),))
    scenario = Scenario(goal="Renew Dune for me.", known={"card number": "M7"})
    tasks = tuple(Task(id=f"renew-{at}", domain="library", scenario=scenario, criteria=criteria) for at in range(40))
    done = []

    def on_result(result):
        done.append(result)
        print(result.id, flush=True)  # acknowledged
        if len(done) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    run_tasks("library", tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), trials=2, out=sys.argv[1], on_result=on_result)
"""


@pytest.mark.parametrize("torn", [b"", b'{"id": "renew-39/1", "task": {"id"', b"\x00\xff"])
def test_a_killed_run_loses_nothing_and_repeats_nothing(library, tasks, tmp_path, torn):
    out = tmp_path / "run"
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    killed = subprocess.run([sys.executable, script, out, "23"], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    acknowledged = killed.stdout.split()
    assert len(acknowledged) == 23
    with (out / "trajectories.jsonl").open("ab") as file:
        file.write(torn)

    again = Unsteady(ScriptedAgent(tasks=tasks), name="scripted")
    results = run_tasks(library, tasks, again, ScriptedUser(), trials=2, out=out)
    assert len(results) == 80
    lines = [result.id for result in read_trajectories(out)]
    assert sorted(lines) == sorted(set(lines)) == sorted(result.id for result in results)
    redone = {result.id for result in results} - set(acknowledged)
    assert len(redone) == 57

    run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), trials=2, out=tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")


def test_acknowledged_results_are_on_disk(library, tasks, tmp_path):
    def on_result(result):
        assert (tmp_path / "run" / "trajectories.jsonl").read_text().splitlines()[-1].startswith(f'{{"id":"{result.id}"')

    run_tasks(library, tasks[:5], ScriptedAgent(tasks=tasks), ScriptedUser(), out=tmp_path / "run", concurrency=1, on_result=on_result)


def test_resuming_reports_what_was_found_finished_and_runs_nothing(library, tasks, tmp_path):
    out = tmp_path / "run"
    run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), out=out)
    before, seen = files(out), []
    agent = Unsteady(ScriptedAgent(tasks=tasks), name="scripted")
    run_tasks(library, tasks, agent, ScriptedUser(), out=out, on_result=lambda result: seen.append(result.id))
    assert (agent.calls, len(seen)) == (0, 40)
    assert files(out) == before


def test_a_folder_of_another_run_is_refused_naming_what_differs(library, tasks, tmp_path):
    out = tmp_path / "run"
    run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), out=out)
    with pytest.raises(ConfigError, match=r"another run \(seed: it has 0, now 1; trials: it has 1, now 2\); use a new folder"):
        run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), trials=2, seed=1, out=out)
    with pytest.raises(ConfigError, match=r"tasks\.count: it has 40, now 39"):
        run_tasks(library, tasks[:-1], ScriptedAgent(tasks=tasks), ScriptedUser(), out=out)


def test_two_processes_do_not_share_a_folder(library, tasks, tmp_path):
    with (
        RunFolder(tmp_path / "run", {"agent": "scripted"}),
        pytest.raises(ConfigError, match="another process is writing"),
    ):
        run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), out=tmp_path / "run")


def test_a_damaged_folder_is_refused_in_a_line(library, tasks, tmp_path):
    out = tmp_path / "run"
    settings = (library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser())
    run_tasks(*settings, out=out)
    lines = (out / "trajectories.jsonl").read_text().splitlines(keepends=True)
    (out / "trajectories.jsonl").write_text("".join([*lines, lines[0]]))
    with pytest.raises(TrajectoryError, match="'renew-0/0' occurs twice"):
        run_tasks(*settings, out=out)
    (out / "trajectories.jsonl").write_text("".join([lines[0], "{}\n", *lines[1:]]))
    with pytest.raises(TrajectoryError, match=r"trajectories\.jsonl, line 2: id: Field required"):
        run_tasks(*settings, out=out)
    (out / "run.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"run\.json is not a run's configuration"):
        run_tasks(*settings, out=out)
    (out / "run.json").unlink()
    with pytest.raises(ConfigError, match=r"holds trajectories\.jsonl but no run\.json"):
        run_tasks(*settings, out=out)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot keep a run in"):
        run_tasks(*settings, out=tmp_path / "file")


def test_a_full_disk_stops_the_run_in_a_line(tmp_path, library, tasks):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with RunFolder(tmp_path / "run", {}) as folder:
        (tmp_path / "run" / "trajectories.jsonl").symlink_to("/dev/full")
        (result,) = run_tasks(library, tasks[:1], ScriptedAgent(tasks=tasks), ScriptedUser())
        with pytest.raises(ConfigError, match=r"cannot write to .*trajectories\.jsonl: No space left"):
            folder.add(result)


@pytest.mark.parametrize("name", ["trials", "concurrency", "max_steps"])
def test_counts_below_one_are_refused(library, tasks, name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, found 0"):
        run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), **{name: 0})


def test_bad_tasks_are_refused_before_the_first_episode(library, tasks):
    agent = Unsteady(ScriptedAgent(tasks=tasks))
    broken = tasks[0].model_copy(
        update={"id": "b", "criteria": Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L9"}),))}
    )
    foreign = tasks[0].model_copy(update={"id": "f", "domain": "museum"})
    for wrong, message in (
        ((*tasks, tasks[0]), "task id 'renew-0' occurs twice"),
        ((*tasks, broken), r"task 'b', reference action 0 \(renew_loan\): no loan 'L9'"),
        ((*tasks, foreign), "task 'f' is for domain 'museum', run in 'library'"),
    ):
        with pytest.raises(TaskError, match=message):
            run_tasks(library, wrong, agent, ScriptedUser())
    with pytest.raises(ConfigError, match="no tasks to run"):
        run_tasks(library, (), agent, ScriptedUser())
    assert agent.calls == 0


def test_inside_an_event_loop_there_is_an_awaitable(library, tasks):
    async def inside():
        with pytest.raises(ConfigError, match="await arun_tasks"):
            run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser())
        return await arun_tasks(library, tasks[:2], ScriptedAgent(tasks=tasks), ScriptedUser())

    assert len(asyncio.run(inside())) == 2


def test_a_limit_cuts_an_episode(library, tasks):
    @dataclass(frozen=True)
    class Endless:
        name: str = "endless"

        def act(self, view):
            return Message(role="assistant", tool_calls=(ToolCall(name="find_loans", arguments={"member_id": "M7"}),))

    (result,) = run_tasks(library, tasks[:1], Endless(), ScriptedUser(), max_steps=7)
    assert (result.truncated, result.ending) == (True, "max_steps")
    assert sum(message.role == "assistant" for message in result.messages) == 8  # with the greeting


def test_the_folder_says_what_ran(library, tasks, tmp_path):
    run_tasks(library, tasks, ScriptedAgent(tasks=tasks), ScriptedUser(), out=tmp_path / "run", seed=3)
    found = read_configuration(tmp_path / "run")
    assert found["domain"]["name"] == "library"
    assert (found["agent"], found["user"], found["seed"], found["trials"], found["max_steps"]) == ("scripted", "scripted", 3, 1, 30)
    made_with = json.loads((tmp_path / "run" / "run.json").read_text())["made_with"]
    assert set(made_with) == {"sentinel_env", "python", "git"}


def test_saying_something_is_enough_to_be_an_agent(library, tasks):
    class Polite:
        name = "polite"

        def act(self, view):
            return say("Goodbye.")

    (result,) = run_tasks(library, tasks[:1], Polite(), ScriptedUser())
    assert result.agent == "polite"


# seeds of the two sides


class Chancy:
    """A side whose luck is in its seed alone: the agent forgets the write, the user says which draw it had."""

    def __init__(self, tasks, name="chancy"):
        self.name, self.inner, self.idle = name, ScriptedAgent(tasks=tasks), ScriptedAgent(tasks=tasks, plan=lambda *_: ())

    def act(self, view):
        return (self.inner if view.seed % 2 else self.idle).act(view)


@dataclass(frozen=True)
class Telling:
    """A scripted user that tells its seed."""

    name: str = "telling"

    def reply(self, view):
        said = ScriptedUser().reply(view)
        return said.model_copy(update={"content": f"{view.seed}: {said.content}"})


def test_either_side_can_have_a_seed_of_its_own(library, tasks):
    agent, user = Chancy(tasks), Telling()

    def seeds(**given):
        results = run_tasks(library, tasks[:6], agent, user, trials=2, **given)
        told = [int(result.messages[1].content.split(":")[0]) for result in results]
        return [result.seed for result in results], [bool(result.changes) for result in results], told

    own = [trial_seed(5, f"renew-{at}", trial) for at in range(6) for trial in range(2)]
    others = [trial_seed(8, f"renew-{at}", trial) for at in range(6) for trial in range(2)]
    odd, other_odd = ([seed % 2 == 1 for seed in each] for each in (own, others))
    assert odd != other_odd
    assert seeds(seed=5) == (own, odd, own)
    assert seeds(seed=5, agent_seed=8) == (own, other_odd, own)
    assert seeds(seed=5, user_seed=8) == (own, odd, others)
    assert seeds(seed=5, agent_seed=5, user_seed=5) == seeds(seed=5)


def test_runs_that_cross_the_two_seeds_tell_the_sides_apart(library, tasks, tmp_path):
    runs = []
    for agent_seed in (1, 2):
        for user_seed in (1, 2):
            runs.append(tmp_path / f"{agent_seed}{user_seed}")
            settings = {"trials": 2, "agent_seed": agent_seed, "user_seed": user_seed}
            run_tasks(library, tasks, Chancy(tasks), ScriptedUser(), **settings, out=runs[-1])
    with pytest.raises(ConfigError, match="user_seed: it has 2, now 1"):
        run_tasks(library, tasks, Chancy(tasks), ScriptedUser(), trials=2, agent_seed=2, user_seed=1, out=runs[-1])
    shown = CliRunner().invoke(app, ["compare", *map(str, runs), "--json"], prog_name="sentinel")
    assert shown.exit_code == 0, shown.output
    split = json.loads(shown.stdout)["variance"]
    assert split["agents"] == ['chancy {"agent_seed": 1}', 'chancy {"agent_seed": 2}']
    assert split["users"] == ['scripted {"user_seed": 1}', 'scripted {"user_seed": 2}']
    assert split["shares"]["agent"]["value"] > 0.2
    assert split["shares"]["user"]["high"] < 0.05


def test_the_command_takes_the_two_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "library", "--agent-seed", "3", "--user-seed", "4", "--out", "run"]
    assert CliRunner().invoke(app, arguments, prog_name="sentinel").exit_code == 0
    found = read_configuration("run")
    assert (found["seed"], found["agent_seed"], found["user_seed"]) == (0, 3, 4)
