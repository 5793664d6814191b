"""Training by two processes, launched as accelerate does on two GPUs: here both compute on the CPU."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")
pytest.importorskip("accelerate", reason="the train extra is not installed")
psutil = pytest.importorskip("psutil", reason="accelerate's psutil is not installed")

from train_fixtures import library, make_tiny  # noqa: E402

from sentinel_env import save_tasks  # noqa: E402

pytestmark = pytest.mark.slow
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("torch was built without gloo", allow_module_level=True)

TESTS = Path(__file__).parent
SETTINGS = """
model = "{model}"
steps = {steps}
group_size = 4
prompts_per_step = 2
rows_per_pass = 4
learning_rate = 1e-2
device = "cpu"
save_every = 1
report_to = "none"
threads = 1
[sampling]
max_turn_tokens = 8
max_episode_tokens = 300
max_steps = 6
[shaping]
length = 1.0
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A model and two tasks, which are alike but for their names and what the user wants."""
    folder = tmp_path_factory.mktemp("inputs")
    make_tiny(folder / "tiny")
    task = library().split()[0]
    scenario = task.scenario.model_copy(update={"goal": "Renew it, please."})
    save_tasks(folder / "tasks.jsonl", [task, task.model_copy(update={"id": "renew-it", "scenario": scenario})])
    return folder


@contextmanager
def launched(inputs, out, *, user="noting", steps=3, hang=None):
    """Start training in processes of their own, and end whatever is left of them."""
    notes = out.with_name(f"{out.name}-notes")
    notes.mkdir(exist_ok=True)
    config = inputs / f"{steps}.toml"
    config.write_text(SETTINGS.format(model=inputs / "tiny", steps=steps))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port)]
    command = ["-m", "sentinel_env", "train", config, "--tasks", inputs / "tasks.jsonl", "--domain", "library"]
    command += ["--user", f"train_processes:{user}", "--out", out]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS), "SENTINEL_NOTES": str(notes)}
    environment |= {"SENTINEL_HANG": str(hang)} if hang else {}
    process = subprocess.Popen(
        [*launcher, *map(str, command)], env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, notes
    finally:
        kill(process)
        process.communicate()


def kill(process):
    """kill -9 of a launcher and all that it started."""
    if process.poll() is None:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def train(inputs, out, **more):
    with launched(inputs, out, **more) as (process, notes):
        said, errors = process.communicate(timeout=240)
    return process.returncode, said, errors, notes


def test_two_processes_train_one_model_and_go_on_after_a_kill(inputs, tmp_path):
    code, said, errors, notes = train(inputs, tmp_path / "whole")
    assert code == 0, errors
    assert said.count("checkpoint in") == 1
    assert "3 updates, 24 rollouts" in said
    assert "Traceback" not in errors

    updates = [json.loads(line) for line in (tmp_path / "whole/updates.jsonl").read_text().splitlines()]
    assert [update["step"] for update in updates] == [1, 2, 3]
    assert all(sorted(group["task"] for group in update["groups"]) == ["renew-dune", "renew-it"] for update in updates)
    assert all(len(group["rewards"]) == 4 for update in updates for group in update["groups"])
    assert not all(update["flat"] for update in updates)
    first, second = ((notes / f"{rank}.jsonl").read_text().splitlines() for rank in (0, 1))
    assert first != second  # each process plays its own groups, by draws of its own
    made = (tmp_path / "whole/model.safetensors").read_bytes()
    assert made != (inputs / "tiny/model.safetensors").read_bytes()
    assert not (tmp_path / "whole/states").exists()

    state = tmp_path / "killed/states/checkpoint-1/trainer_state.json"
    with launched(inputs, tmp_path / "killed", hang=state) as (process, notes):
        end = time.monotonic() + 240
        while len(list(notes.glob("*.hangs"))) < 2:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"it did not come to its second update: {process.communicate()[1]}")
            time.sleep(0.05)
        kill(process)
    assert not (tmp_path / "killed/trained.json").exists()
    code, said, errors, notes = train(inputs, tmp_path / "killed")
    assert code == 0, errors
    for name in ("model.safetensors", "updates.jsonl", "trained.json", "train.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_an_error_that_all_processes_have_is_said_once(inputs, tmp_path):
    code, _, errors, _ = train(inputs, tmp_path / "out", steps=1, user="down")
    assert code == 1
    assert errors.count("sentinel: infrastructure failed 8 of the 8 rollouts of update 1: ModelError: connection refused") == 1


def test_an_error_of_another_process_than_the_main_one_is_said_too(inputs, tmp_path):
    code, _, errors, _ = train(inputs, tmp_path / "out", steps=1, user="partly")
    assert code == 1
    assert errors.count("sentinel: process 1 broke") == 1
