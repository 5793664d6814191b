"""Work spread over a cluster of several Ray nodes comes to what one process comes to, also when nodes, workers or the driver are killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from scripted_models import scripted
from typer.testing import CliRunner

from sentinel_env import ConfigError, DomainError, ModelError, load_domain, tool
from sentinel_env.agents import ScriptedAgent
from sentinel_env.cassette import Cassette
from sentinel_env.cli import app
from sentinel_env.commands.drafting import program_drafts
from sentinel_env.failures import find_failures, save_patterns
from sentinel_env.generation import propose_tasks
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_budget import Budget
from sentinel_env.llm_pace import Pace
from sentinel_env.llm_user import LLMUser
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.proposals import save_proposals
from sentinel_env.ray_cluster import Ray
from sentinel_env.run_folder import CONFIGURATION, read_configuration
from sentinel_env.run_limits import Limits, StoppedError
from sentinel_env.runner import run_tasks
from sentinel_env.trajectory import dump_line, read_trajectories
from sentinel_env.users import ScriptedUser

ray = pytest.importorskip("ray", reason="ray (extra: ray) is not installed")
pytestmark = pytest.mark.slow

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a CPU each, the first of them this process's own."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = Cluster(initialize_head=True, head_node_args=NODE)
    found.add_node(**NODE)
    with Ray(found.address).connected():
        yield found
    found.shutdown()


@pytest.fixture(scope="module")
def retail():
    return load_domain("retail")


@pytest.fixture(scope="module")
def tasks(retail):
    return retail.split("train")[:40]


def files(folder):
    """What is in a run's folder, without what made it."""
    return {path.name: path.read_bytes() if path.name != CONFIGURATION else read_configuration(folder) for path in sorted(folder.iterdir())}


def lines(trajectories):
    return [dump_line(each) for each in trajectories]


def ended_by_killing(node):
    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)


@dataclass
class Slow:
    """The scripted agent, which takes its time, and whose provider fails now and then."""

    fails: frozenset[str] = frozenset()
    """Tasks."""
    seconds: float = 0.02
    signs: str = ""
    """A folder for the names of the processes that it plays in."""
    inner: ScriptedAgent = field(default_factory=ScriptedAgent)
    name: str = "scripted"

    async def act(self, view):
        if self.signs:
            (Path(self.signs) / str(os.getpid())).touch()
        await asyncio.sleep(self.seconds)
        if view.task_id in self.fails:
            raise ModelError("503 from the provider")
        return self.inner.act(view)


class Fatal:
    """Ends its process."""

    name = "fatal"

    def act(self, view):
        os._exit(1)


@tool
def crash(db: object) -> str:
    """Crash."""
    raise KeyError("a bug")


library = load_domain("library")
crashing = replace(library, tools=(*library.tools, crash), origin=None)
"""What `load_domain("test_ray:crashing")` finds."""


@dataclass
class Caller:
    """Calls one tool."""

    tool: str
    name: str = "caller"

    def act(self, view):
        from sentinel_env import Message, ToolCall

        return Message(role="assistant", tool_calls=(ToolCall(name=self.tool, arguments={}),))


# runs


def test_a_run_that_loses_a_node_is_the_same_to_the_byte_with_nothing_doubled_and_no_error(cluster, retail, tasks, tmp_path):
    run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser(), trials=3, seed=4, out=tmp_path / "local")
    node = cluster.add_node(**NODE)
    seen = Counter()

    def on_result(result):
        seen[result.id] += 1
        if seen.total() == 10:
            ended_by_killing(node)

    settings = {"trials": 3, "seed": 4, "out": tmp_path / "ray", "on_result": on_result, "executor": Ray(cluster.address)}
    results = run_tasks(retail, tasks, Slow(), ScriptedUser(), concurrency=48, **settings)
    cluster.remove_node(node)
    assert len(results) == 120
    assert set(seen.values()) == {1}
    found = files(tmp_path / "ray")
    assert "errors.jsonl" not in found
    assert found == files(tmp_path / "local")


def test_workers_that_are_killed_are_replaced(cluster, retail, tasks, tmp_path):
    killed = []

    def on_result(result):
        if not killed:  # those that have begun by now: both, or on a busy machine one
            killed.extend(int(file.name) for file in tmp_path.iterdir())
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    agent = Slow(signs=str(tmp_path))
    found = run_tasks(retail, tasks, agent, ScriptedUser(), executor="ray", concurrency=16, on_result=on_result)
    assert lines(found) == lines(run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser()))
    assert killed


def test_an_attempt_that_ends_every_worker_stops_the_run_in_a_line(cluster, retail, tasks, monkeypatch):
    monkeypatch.setattr("sentinel_env.ray_runs.LOSSES", 2)
    with pytest.raises(StoppedError, match=r"^attempt \S+/0 lost its worker 2 times: .*0 of 1 attempts are finished") as stopped:
        run_tasks(retail, tasks[:1], Fatal(), ScriptedUser(), executor="ray")
    assert stopped.value.results == ()


def test_a_crashing_tool_in_a_worker_is_raised_as_itself_and_what_is_finished_is_kept(cluster, tmp_path):
    domain = load_domain("test_ray:crashing")
    with pytest.raises(DomainError, match=r"^domain library: tool crash crashed on \{\}: KeyError: 'a bug'$"):
        run_tasks(domain, domain.split(), Caller("crash"), ScriptedUser(), out=tmp_path / "run", executor="ray")
    assert not (tmp_path / "run" / "summary.json").exists()


def test_an_outage_is_kept_apart_and_tried_again_by_another_executor(cluster, retail, tasks, tmp_path):
    out = tmp_path / "run"
    fails = frozenset(task.id for task in tasks[3:5])
    results = run_tasks(retail, tasks, Slow(fails), ScriptedUser(), out=out, executor="ray")
    assert [result.error for result in results if result.error] == ["ModelError: 503 from the provider"] * 2
    assert {result.task.id for result in read_trajectories(out / "errors.jsonl")} == fails
    run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser(), out=out)
    run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser(), out=tmp_path / "local")
    assert files(out) == files(tmp_path / "local")


def test_limits_hold_over_workers(cluster, retail, tasks, tmp_path):
    settings = {"executor": "ray", "concurrency": 8, "out": tmp_path / "run"}
    with pytest.raises(StoppedError, match=r"infrastructure ended 3 of the last 3 attempts, more than 50%: 503 from the provider"):
        run_tasks(
            retail,
            tasks,
            Slow(frozenset(task.id for task in tasks)),
            ScriptedUser(),
            **settings,
            limits=Limits(max_error_rate=0.5, window=3),
        )
    with pytest.raises(StoppedError, match=r"0.03 minutes are over; \d+ of 40 attempts are finished and kept"):
        run_tasks(retail, tasks, Slow(seconds=5.0), ScriptedUser(), **settings, limits=Limits(max_minutes=0.03))
    assert len(run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser(), **settings)) == 40


def test_tasks_that_are_not_the_domains_own_cross_whole_and_so_do_two_seeds(cluster, retail, tasks):
    others = tuple(task.model_copy(update={"id": f"other-{at}"}) for at, task in enumerate(tasks[:4]))
    world = retail.with_tasks(others[:2])
    sides = ScriptedAgent(tasks=others), ScriptedUser()
    local = run_tasks(world, others, *sides, trials=2, agent_seed=3, user_seed=4)
    assert lines(run_tasks(world, others, *sides, trials=2, agent_seed=3, user_seed=4, executor="ray")) == lines(local)


KILLED = """
    import os, signal, sys
    from sentinel_env import ScriptedUser, load_domain
    from sentinel_env.ray_cluster import Ray
    from sentinel_env.runner import run_tasks
    from test_ray import Slow

    def on_result(result):
        print(result.id, flush=True)
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    left = 13
    tasks = load_domain("retail").split("train")[:40]
    run_tasks("retail", tasks, Slow(), ScriptedUser(), out=sys.argv[1], on_result=on_result, executor=Ray(sys.argv[2]))
"""


def test_a_run_whose_driver_is_killed_goes_on_where_it_stopped(cluster, retail, tasks, tmp_path):
    out, script = tmp_path / "run", tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    killed = subprocess.run([sys.executable, script, out, cluster.address], capture_output=True, text=True, env=environment)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    acknowledged = killed.stdout.split()
    assert len(acknowledged) == 13
    assert {result.id for result in read_trajectories(out)} >= set(acknowledged)
    run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser(), out=out, executor="ray")
    run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser(), out=tmp_path / "local")
    assert files(out) == files(tmp_path / "local")


def test_the_command_starts_a_cluster_of_its_own_that_is_heard_nowhere(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "sentinel_env", "run", "library", "--trials", "3", "--executor", "ray", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["splits"]["train"]["passed"] == 3


# models


def test_models_on_both_sides_play_in_workers_and_their_usage_comes_back(cluster, retail, tasks):
    script = scripted(retail, tasks[:8], trials=2)
    live = Counter()
    lock = threading.Lock()

    def answer(request):
        with lock:
            live["asked"] += 1
        return replace(said, delay=0.05) if isinstance(said := script(request), Reply) else Reply(said, delay=0.05)

    with ModelServer(answer, key="sk-canary") as server:
        models = [Model("tiny", base_url=server.url, api_key="sk-canary", prices=(1, 1)) for _ in range(2)]
        found = run_tasks(retail, tasks[:8], LLMAgent(models[0]), LLMUser(models[1]), trials=2, executor="ray", concurrency=16)
    assert all(result.error is None and result.terminated for result in found)
    assert sum(model.spent.calls for model in models) == live["asked"] == sum(r.usage["agent_calls"] + r.usage["user_calls"] for r in found)
    assert models[0].budget.spent.cost == pytest.approx(models[0].spent.cost)


def test_one_budget_holds_over_all_workers_and_the_same_call_goes_on(cluster, retail, tasks, tmp_path):
    script = scripted(retail, tasks)
    with ModelServer(script) as server:

        def play(most):
            budget = Budget(max_cost=most)
            sides = [Model("tiny", base_url=server.url, prices=(1, 1), budget=budget) for _ in range(2)]
            agent, user = LLMAgent(sides[0], max_tokens=100), LLMUser(sides[1], max_tokens=100)
            try:
                return budget, run_tasks(retail, tasks, agent, user, executor="ray", concurrency=4, out=tmp_path / "run"), ""
            except StoppedError as stopped:
                return budget, stopped.results, str(stopped)

        budget, results, why = play(0.5)
        assert "at most $0.5 may be spent" in why
        assert 0 < len(results) < 40
        assert 0.25 < budget.spent.cost <= 0.5
        assert not (tmp_path / "run" / "errors.jsonl").exists()
        asked = len(server.requests)
        budget, results, _ = play(10.0)
        assert len(results) == 40
        assert len(server.requests) - asked == budget.spent.calls


def test_a_pace_is_divided_among_the_workers(cluster, retail, tasks):
    live, most = Counter(), []
    script = scripted(retail, tasks[:12])

    class Counting(ModelServer):
        async def _answer(self, request):
            live["now"] += 1
            most.append(live["now"])
            try:
                return await super()._answer(request)
            finally:
                live["now"] -= 1

    with Counting(
        lambda request: replace(script(request), delay=0.02) if isinstance(script(request), Reply) else script(request)
    ) as server:
        pace = Pace(in_flight=2)
        sides = [Model("tiny", base_url=server.url, pace=pace) for _ in range(2)]
        run_tasks(retail, tasks[:12], LLMAgent(sides[0]), LLMUser(sides[1]), executor="ray", concurrency=12)
    assert max(most) == 2


# what cannot cross


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda kept: {"agent": Slow(inner=threading.Lock())},
            r"agent scripted cannot be sent to other processes \(TypeError: cannot pickle",
        ),
        (lambda kept: {"user": replace(ScriptedUser(), name=threading.Lock())}, r"user <.*> cannot be sent to other processes"),
        (
            lambda kept: {"domain": replace(kept["domain"], origin=None)},
            r"domain 'retail' cannot be made again in other processes; let a function",
        ),
        (lambda kept: {"domain": replace(kept["domain"], policy="Be kind.")}, r"domain 'retail' is not what load_domain\('retail'\) makes"),
        (
            lambda kept: {"agent": LLMAgent(Model("m", cassette=kept["cassette"]))},
            r"cassette \S+ is for one process; record and replay with",
        ),
        (lambda kept: {"executor": "dask"}, "there is no executor 'dask'; it is 'local' or 'ray'"),
        (lambda kept: {"executor": Ray("ray://10.0.0.5:10001")}, "is for Ray's client; give the head's own address"),
        (lambda kept: {"executor": Ray("127.0.0.1:1")}, "cannot reach the Ray cluster at 127.0.0.1:1: .*refused"),
    ],
    ids=range(8),
)
def test_what_cannot_cross_is_refused_in_a_line_before_anything_is_written(retail, tasks, tmp_path, change, says):
    file = tmp_path / "cassette.jsonl"
    file.write_text("")
    with Cassette(file, replay=True) as cassette:
        sides = {"domain": retail, "agent": ScriptedAgent(), "user": ScriptedUser(), "executor": Ray()}
        sides |= change({**sides, "cassette": cassette})
        domain, agent, user = (sides.pop(name) for name in ("domain", "agent", "user"))
        with pytest.raises(ConfigError, match=f"^[^\n]*{says}[^\n]*$"):
            run_tasks(domain, tasks[:1], agent, user, out=tmp_path / "run", **sides)
    assert not (tmp_path / "run").exists()


def test_without_ray_a_line_names_the_extra(retail, tasks, monkeypatch):
    monkeypatch.setattr("sentinel_env.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs ray, which is not installed; pip install 'sentinel-env\[ray\]'$"):
        run_tasks(retail, tasks, ScriptedAgent(), ScriptedUser(), executor="ray")


# the verbs


@pytest.fixture(scope="module")
def folder(tmp_path_factory, retail, tasks):
    """A run of an agent that forgets its last write, its patterns, proposals of which some come twice, and certified tasks."""

    def forgetful(domain, task):
        writes = [at for at, call in enumerate(task.criteria.actions) if domain.tools_by_name[call.name].writes]
        return [call for at, call in enumerate(task.criteria.actions) if at not in writes[-1:]]

    found = tmp_path_factory.mktemp("verbs")
    mixed = [ScriptedAgent(plan=forgetful, name="a"), ScriptedAgent(plan=forgetful, proposes=False, name="a")]
    rows = [line for agent in mixed for line in lines(run_tasks(retail, tasks, agent, ScriptedUser(), trials=6))]
    rows = [line.replace("/", f"/{at}-", 1) for at, line in enumerate(rows)]
    rows.insert(300, '{"id": "no trajectory"}\n')
    (found / "run.jsonl").write_text("".join(rows))
    patterns = find_failures(retail, run_tasks(retail, tasks, mixed[0], ScriptedUser()))
    save_patterns(found / "patterns.jsonl", patterns)
    drafts = [draft for pattern in patterns for draft in propose_tasks(retail, pattern, n=6)]
    save_proposals(found / "proposals.jsonl", [*drafts, *drafts[:9], *propose_tasks(retail, patterns[0], n=20, seed=1)])
    return found


def sentinel(*arguments, code=0):
    result = CliRunner().invoke(app, [str(each) for each in arguments], prog_name="sentinel")
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_failures_are_the_same_to_the_byte(cluster, folder, monkeypatch):
    monkeypatch.chdir(folder)
    said = [sentinel("failures", "run.jsonl", "--out", f"{name}.jsonl", "--executor", name, "--json", code=1) for name in ("local", "ray")]
    assert said[0] == said[1]
    assert json.loads(said[0])[0]["problems"]
    assert Path("local.jsonl").read_bytes() == Path("ray.jsonl").read_bytes()


def test_proposals_are_the_same(cluster, folder, retail):
    patterns = find_failures(retail, read_trajectories_of(folder))
    made = [list(program_drafts(retail, patterns, n=4, seed=2, split="train", cluster=each)) for each in (None, Ray())]
    assert made[0] == made[1]
    assert sum(len(drafts) for drafts, _ in made[0]) > 4


def read_trajectories_of(folder):
    from sentinel_env.trajectory import scan_trajectories

    return scan_trajectories(folder / "run.jsonl", [])


def test_verdicts_are_the_same_also_on_drafts_that_come_twice(cluster, folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = [sentinel("verify", "proposals.jsonl", "--out", f"{name}.jsonl", "--executor", name, "--json") for name in ("local", "ray")]
    assert found[0] == found[1]
    assert json.loads(found[0])["refused"]["new"] >= 9
    assert Path("local.jsonl").read_bytes() == Path("ray.jsonl").read_bytes()
    tasks = Path("local.jsonl").read_text().splitlines()
    Path("changed.jsonl").write_text("\n".join([tasks[0].replace('"goal":"', '"goal":"Hello. ', 1), *tasks[1:]]))
    again = [sentinel("verify", "changed.jsonl", "--executor", name, "--json", code=1) for name in ("local", "ray")]
    assert again[0] == again[1]


def test_work_in_parts_outlives_its_workers(cluster, tmp_path, monkeypatch):
    from sentinel_env.ray_cluster import in_order

    marks = tmp_path / "marks"
    marks.mkdir()
    assert list(in_order(dies_once, str(marks), range(12))) == [at * at for at in range(12)]
    assert len(list(marks.iterdir())) == 2
    monkeypatch.setattr("sentinel_env.ray_cluster.LOSSES", 1)
    with pytest.raises(ConfigError, match="Ray lost the worker of the same part 2 times"):
        list(in_order(dies, None, [1]))
    with pytest.raises(KeyError, match="a bug"):
        list(in_order(crashes, None, range(4)))


def dies_once(marks, part):
    mark = Path(marks) / str(part)
    if part % 6 == 0 and not mark.exists():
        mark.touch()
        os._exit(1)
    return part * part


def dies(shared, part):
    os._exit(1)


def crashes(shared, part):
    raise KeyError("a bug")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "retail", "--ray-address", "10.0.0.5:6379"), "--ray-address goes with --executor ray"),
        (("run", "retail", "--executor", "ray", "--replay", "night.jsonl", "--model", "m"), "--replay is for --executor local"),
        (("run", "retail", "--executor", "ray", "--model", "hf:tiny"), "--executor ray is not for hf:tiny, which plays in batches"),
        (("verify", "proposals.jsonl", "--executor", "ray", "--ray-address", "127.0.0.1:1"), "cannot reach the Ray cluster at 127.0.0.1:1"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_leave_nothing(folder, monkeypatch, arguments, says):
    monkeypatch.chdir(folder)
    before = sorted(Path().iterdir())
    result = CliRunner().invoke(app, arguments, prog_name="sentinel")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert says in result.stderr
    assert sorted(Path().iterdir()) == before
