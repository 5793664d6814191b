"""Stages in processes of their own, vLLM for runs, a language model as the customer, and a real `kill -9`."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from random import Random

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from test_train_loop import contents, settings  # noqa: E402

from sentinel_env import ConfigError, ModelError, ScriptedUser, TrainingError, load_tasks  # noqa: E402
from sentinel_env.model_server import ModelServer  # noqa: E402
from sentinel_train.config import TrainConfig  # noqa: E402
from sentinel_train.engine import open_engine  # noqa: E402
from sentinel_train.evaluate import run_model  # noqa: E402
from sentinel_train.loop import run_loop  # noqa: E402
from sentinel_train.loop_config import LoopConfig  # noqa: E402
from sentinel_train.models import load_model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def small():
    torch.set_num_threads(1)
    return settings(rounds=1, test_tasks=2, trials=1, diagnosis_tasks=12, tasks={"count": 8, "min_support": 1, "pilot_trials": 3})


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    return run_loop(small, tmp_path_factory.mktemp("whole") / "out")


def to_toml(config, file):
    """A configuration as a file; JSON values are TOML values."""
    import json

    tables, lines = [], []

    def write(values, name):
        plain = {key: value for key, value in values.items() if not isinstance(value, dict) and value is not None}
        if name:
            tables.append(f"[{name}]")
        tables.extend(f"{key} = {json.dumps(value)}" for key, value in plain.items())
        for key, value in values.items():
            if isinstance(value, dict) and value:
                write(value, f"{name}.{key}" if name else key)

    write(config.model_dump(mode="json", exclude_none=True), "")
    file.write_text("\n".join([*lines, *tables]) + "\n")
    return file


@pytest.mark.slow
def test_the_loop_survives_kill_9_at_random_moments_with_the_same_result(small, whole, tmp_path):
    random = Random(0)
    config = to_toml(small, tmp_path / "loop.toml")
    assert LoopConfig.load(config) == small
    command = [sys.executable, "-m", "sentinel_env", "loop", str(config), "--out", str(tmp_path / "out")]
    kills = 0
    while kills < 6:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + random.uniform(3, 7)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills > 0
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.slow
def test_stages_in_processes_of_their_own_come_to_the_same(small, whole, tmp_path):
    folder = run_loop(small.model_copy(update={"launch": (sys.executable,)}), tmp_path / "out")
    found, expected = contents(folder), contents(whole)
    assert found.pop("loop.json") != expected.pop("loop.json")
    assert found == expected


def test_a_stage_that_fails_in_its_process_is_named(small, tmp_path, capfd):
    broken = small.model_copy(update={"launch": (sys.executable,), "train": small.train.model_copy(update={"model": "nowhere/at-all"})})
    with pytest.raises(TrainingError, match="stage before ended with exit code 1 and said why; start again to go on from there"):
        run_loop(broken, tmp_path / "out")
    assert "error: cannot load model 'nowhere/at-all'" in capfd.readouterr().err


def test_a_launcher_that_is_not_there_is_named(small, tmp_path, whole):
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "rounds/001/checkpoint")
    with pytest.raises(ConfigError, match="cannot start 'acelerate', the first word of launch: No such file"):
        run_loop(small.model_copy(update={"launch": ("acelerate", "launch")}), folder)


# vLLM


class Engine:
    """Stands for TRL's VLLMGeneration, and takes what that takes."""

    made = ()

    def __init__(self, **given):
        from trl.generation.vllm_generation import VLLMGeneration

        inspect.signature(VLLMGeneration).bind(**given)
        Engine.made = (*Engine.made, given)

    def generate(self, prompts, images, num_generations, profiler=None):
        return prompts, [[ids[-1], 1] for ids in prompts], [[[-0.5], [-0.25]] for _ in prompts], None


@pytest.fixture
def vllm(monkeypatch):
    Engine.made = ()
    monkeypatch.setattr("sentinel_train.engine.require_vllm", lambda: None)
    monkeypatch.setattr("trl.generation.vllm_generation.VLLMGeneration", Engine)
    return TrainConfig.of({"model": "tiny", "device": "cpu", "trl": {"use_vllm": True, "vllm_gpu_memory_utilization": 0.4}})


def test_runs_take_their_turns_with_vllm_where_training_does(vllm, small, whole):
    tasks = load_tasks(whole / "test.jsonl")
    played = list(run_model(small.world(), tasks, "tiny", ScriptedUser(), sampling=vllm.sampling, threads=1, vllm=vllm))
    assert len(played) == len(tasks)
    assert all(rollout.completion_ids[rollout.mask.index(1) + 1] == 1 for _, rollout in played)
    (given,) = Engine.made
    assert given["mode"] == "colocate"
    assert given["gpu_memory_utilization"] == 0.4
    assert given["max_model_length"] == vllm.sampling.max_episode_tokens
    assert given["generation_kwargs"] == {"max_tokens": vllm.sampling.max_turn_tokens}


def test_vllm_that_is_not_installed_is_named():
    config = TrainConfig.of({"model": "tiny", "device": "cpu", "trl": {"use_vllm": True}})
    with pytest.raises(ConfigError, match=r"vLLM is not installed; run `pip install 'trl\[vllm\]'`"):
        open_engine(config, *load_model("tiny", device="cpu"))


# a language model as the customer


def test_a_language_model_can_be_the_customer_of_the_whole_loop(small, tmp_path):
    with ModelServer(["I would like to cancel my order. ###STOP###"]) as server:
        config = small.model_copy(update={"targeting": "general", "trials": 1})
        values = config.model_dump(mode="json") | {"user": {"model": "customer", "base_url": server.url}}
        values["tasks"]["pilot_trials"] = 0
        values["train"]["steps"] = 1
        folder = run_loop(LoopConfig.of(values), tmp_path / "out")
        assert len(server.requests) >= 2 + 8 + 2
    assert (folder / "after/summary.json").exists()


def test_a_customer_who_cannot_be_reached_is_an_outage_and_no_failure_of_the_model(small, tmp_path):
    values = small.model_dump(mode="json") | {"user": {"model": "customer", "base_url": "http://127.0.0.1:9/v1"}, "targeting": "general"}
    values["tasks"]["pilot_trials"] = 0
    with pytest.raises(ModelError, match="infrastructure"):
        run_loop(LoopConfig.of(values), tmp_path / "out")
