"""NeMo Gym's own collection and gymnasium_agent play the scripts against our server, over HTTP, with a model that says their turns."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nemo_gym", reason="needs NeMo Gym, on Python 3.12 or later: make test-adapters")

from conformance import MAX_STEPS, SCRIPTS, SEED, source
from nemo_gym import rollout_collection, server_utils
from nemo_gym_rig import BY_NAME, Client, Rig, model_server
from omegaconf import OmegaConf
from responses_api_agents.gymnasium_agent.app import GymnasiumAgent

from sentinel_env.adapters.nemo_gym import SentinelAgent
from sentinel_env.adapters.nemo_gym_files import nemo_gym_rows, write_files
from sentinel_env.adapters.source import Source

pytestmark = pytest.mark.filterwarnings("default")
GRADED = [script for script in SCRIPTS if script.reward is not None]
(FAULT,) = [script for script in SCRIPTS if script.reward is None]
DOMAINS = ("retail", "library")
CONFORMING = {name: {"domain": f"conformance:{name}", "user": "conformance:customer", "max_steps": MAX_STEPS} for name in DOMAINS}


@pytest.fixture(scope="module")
def rig():
    rig = Rig()

    async def connect():
        server_utils.set_global_aiohttp_client(server_utils.GlobalAIOHTTPAsyncClientConfig())

    rig.run(connect())
    rig.listen("policy_model", "responses_api_models", model_server())
    for name, episodes in CONFORMING.items():
        rig.serve(name, episodes)
        rig.agent(SentinelAgent, f"{name}_agent", name)
        rig.agent(GymnasiumAgent, f"{name}_plain", name)
    yield rig

    async def disconnect():
        await server_utils._GLOBAL_AIOHTTP_CLIENT.close()
        server_utils._GLOBAL_AIOHTTP_CLIENT = None

    rig.run(disconnect())
    rig.close()


def rows_of(scripts, suffix="agent"):
    found = []
    for script in scripts:
        name = script.domain.partition(":")[2]
        (row,) = [row for row in nemo_gym_rows(source(script.domain), agent=f"{name}_{suffix}", seed=SEED) if row["task_id"] == script.name]
        found.append(json.loads(json.dumps(row)))
        found[-1]["responses_create_params"]["metadata"] = {"script": script.name}
    return found


class Collection(rollout_collection.RolloutCollectionHelper):
    """NeMo Gym's collection of rollouts, which is told where the servers are by the rig and not by a head server."""

    rig: object

    def setup_server_client(self, head_server_config=None):
        return self.rig.client


def collect(rig, folder, rows, *, resume=False):
    """NeMo Gym's collection; its rollouts, its failures and its metrics."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = rollout_collection.RolloutCollectionConfig(
        input_jsonl_fpath=str(folder / "rows.jsonl"),
        output_jsonl_fpath=str(folder / "rollouts.jsonl"),
        upload_rollouts_to_wandb=False,
        resume_from_cache=resume,
    )
    rig.run(Collection(rig=rig).run_from_config(config))
    rollouts, failures = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()] for name in ("rollouts.jsonl", "rollouts_failures.jsonl")
    )
    return rollouts, failures, json.loads((folder / "rollouts_aggregate_metrics.json").read_text())


@pytest.fixture(scope="module")
def collected(rig, tmp_path_factory):
    return collect(rig, tmp_path_factory.mktemp("collected"), rows_of(SCRIPTS))


@pytest.mark.parametrize("script", GRADED, ids=lambda script: script.name)
def test_a_script_comes_out_as_everywhere(rig, collected, script):
    (rollout,) = [each for each in collected[0] if each["info"]["task_id"] == script.name]
    episode = rig.servers[script.domain.partition(":")[2]].seats[script.name].episode
    assert (rollout["reward"], rollout["info"]["ending"], episode.db.changes()) == script.expected
    assert (rollout["terminated"], rollout["truncated"]) == (episode.terminated, episode.truncated)
    assert rollout["info"]["passed"] == bool(script.reward)
    assert (rollout["info"]["steps"], rollout["info"]["refused_calls"]) == (episode.steps, episode.errors)


def test_every_call_has_its_output_and_the_user_is_a_user(rig, collected):
    for rollout in collected[0]:
        items = rollout["response"]["output"]
        called = [item["call_id"] for item in items if item["type"] == "function_call"]
        answered = [item["call_id"] for item in items if item["type"] == "function_call_output"]
        assert called[: len(answered)] == answered
        assert len(called) - len(answered) <= 2, "only those of the last turn have none"
        opening = rollout["responses_create_params"]["input"]
        assert [item["role"] for item in opening] == ["system", "assistant", "user"]


def test_an_infrastructure_fault_is_a_failure_without_a_reward_and_no_rollout(rig, collected):
    rollouts, failures, metrics = collected
    assert FAULT.name not in {each["info"]["task_id"] for each in rollouts}
    (failure,) = failures
    assert failure["reward"] is None
    assert (failure["_ng_failure_class"], failure["_ng_failure_terminal"], failure["info"]) == ("transient", False, {"error": "server"})
    means = {each["agent_ref"]["name"]: each["agent_metrics"]["mean/reward"] for each in metrics}
    for name in DOMAINS:
        rewards = [script.reward for script in GRADED if script.domain == f"conformance:{name}"]
        assert means[f"{name}_agent"] == pytest.approx(sum(rewards) / len(rewards)), "the fault is not in the mean"


def test_a_failure_is_run_again_on_resume(rig, tmp_path):
    rows = rows_of([GRADED[0], FAULT])
    collect(rig, tmp_path, rows)
    rollouts, failures, _ = collect(rig, tmp_path, rows, resume=True)
    assert (len(rollouts), len(failures)) == (1, 2)


def test_with_nemo_gyms_own_agent_graded_scripts_are_the_same_and_a_fault_stops_the_collection(rig, tmp_path):
    rollouts, failures, _ = collect(rig, tmp_path, rows_of(GRADED[:6], "plain"))
    assert {each["info"]["task_id"]: each["reward"] for each in rollouts} == {script.name: script.reward for script in GRADED[:6]}
    assert not failures
    with pytest.raises(Exception, match="500"):
        collect(rig, tmp_path, rows_of([FAULT], "plain"))
    assert (tmp_path / "rollouts.jsonl").read_text() == ""


def test_no_session_is_left(rig, collected):
    assert all(not server.session_state for server in rig.servers.values())


def test_neither_the_scenario_nor_the_reference_leaves_the_server(rig, collected):
    script = BY_NAME["fails-wrong-argument"]
    client = Client(rig.instances["retail"]["resources_servers"]["any"]["port"])
    said = [client.reset(task_id=script.name, seed=SEED), *(client.step(turn) for turn in script.turns)]
    shown = json.dumps([said, collected[0], nemo_gym_rows(source(script.domain), agent="a")])
    for secret in ("criteria", "scenario", "expected", "reference"):
        assert f'"{secret}"' not in shown
    assert script.task.scenario.goal not in json.dumps(nemo_gym_rows(source(script.domain), agent="a"))


# the files


def test_the_files_are_what_nemo_gym_reads(tmp_path):
    config, rows = write_files(tmp_path, "library", options=None)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == [
        "resources_servers/sentinel/app.py",
        "resources_servers/sentinel/configs/library.yaml",
        "resources_servers/sentinel/data/library_all.jsonl",
        "resources_servers/sentinel/requirements.txt",
        "responses_api_agents/sentinel_agent/app.py",
        "responses_api_agents/sentinel_agent/requirements.txt",
    ]
    found = OmegaConf.to_container(OmegaConf.load(config))
    server = found["sentinel_library"]["resources_servers"]["sentinel"]
    assert server["episodes"]["domain"] == "library"
    (row,) = map(json.loads, rows.read_text().splitlines())
    assert row["agent_ref"]["name"] in found
    assert [tool["name"] for tool in row["responses_create_params"]["tools"]] == ["find_loans", "renew_loan"]


def test_tasks_of_the_callers_own_are_copied_beside_the_rows(rig, tmp_path):
    script = BY_NAME["passes-on-a-changed-database"]
    (tmp_path / "mine.jsonl").write_text(script.task.model_dump_json() + "\n")
    config, rows = write_files(tmp_path / "gym", "library", tasks=tmp_path / "mine.jsonl", seed=SEED)
    (tmp_path / "mine.jsonl").unlink()
    found = OmegaConf.to_container(OmegaConf.load(config))
    client = Client(rig.serve("mine", found["sentinel_library"]["resources_servers"]["sentinel"]["episodes"]))
    (row,) = map(json.loads, rows.read_text().splitlines())
    assert "criteria" not in row
    client.reset(**row)
    assert client.step(*script.turns)[1]["reward"] == script.reward


@pytest.mark.parametrize("domain", ["mine.py", "./mine.py:domain", "mine:domain", "folder"])
def test_a_domain_that_is_a_path_is_found_from_the_servers_folder(tmp_path, monkeypatch, domain):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from sentinel_domains.library import domain\n")
    Path("folder").mkdir()
    Path("folder/__init__.py").write_text("from sentinel_domains.library import domain\n")
    config, _ = write_files("gym", domain)
    episodes = OmegaConf.to_container(OmegaConf.load(config))["sentinel_library"]["resources_servers"]["sentinel"]["episodes"]
    monkeypatch.chdir("gym/resources_servers/sentinel")
    assert domain == "mine:domain" or Source.open(**episodes).domain.name == "library"
    assert (episodes["domain"] == domain) == (domain == "mine:domain")


def test_the_command_writes_them_and_says_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "sentinel_env.adapters.nemo_gym_files"]
    done = subprocess.run([*command, "library", "--out", "gym"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "gym/resources_servers/sentinel/configs/library.yaml",
        "gym/resources_servers/sentinel/data/library_all.jsonl",
    ]
    done = subprocess.run([*command, "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
