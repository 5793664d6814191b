import json
import shutil

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from train_fixtures import make_tiny  # noqa: E402

from sentinel_env import (  # noqa: E402
    ConfigError,
    Episode,
    ScriptedAgent,
    ScriptedUser,
    drive,
    load_domain,
    load_tasks,
    read_trajectories,
    record,
)
from sentinel_env.failures import Memory, load_patterns  # noqa: E402
from sentinel_train.controller import sort_by_pass_rate  # noqa: E402
from sentinel_train.loop import run_loop  # noqa: E402
from sentinel_train.loop_config import LoopConfig, pool  # noqa: E402
from sentinel_train.models import TINY  # noqa: E402
from sentinel_train.summary import summarise  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


def settings(model, **changes):
    return LoopConfig.of(
        {
            "domain": "retail",
            "options": {"compact": True, "users": 60, "orders": 150, "products": 8, "variants": [3, 4], "id_digits": 4, "order_digits": 4},
            "operations": ["cancel_order", "return_items"],
            "test_tasks": 3,
            "trials": 2,
            "diagnosis_tasks": 3,
            "diagnosis_trials": 1,
            "targeting": {"tasks": 4, "min_support": 1, "pilot_trials": 2},
            "train": {
                "model": model,
                "steps": 1,
                "group_size": 2,
                "prompts_per_step": 1,
                "device": "cpu",
                "sampling": {"max_turn_tokens": 6, "max_episode_tokens": 400, "max_steps": 3},
            },
        }
        | changes
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("loop")
    config = settings(make_tiny(folder / "tiny"))
    return config, run_loop(config, folder / "out")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_round_leaves_every_file(finished):
    _, folder = finished
    for name in (
        "loop.json",
        "test.jsonl",
        "before/summary.json",
        "after/summary.json",
        "rounds/001/failures.jsonl",
        "rounds/001/tasks.jsonl",
    ):
        assert (folder / name).is_file(), name
    assert (folder / "rounds/001/checkpoint/model.safetensors").is_file()
    made = json.loads((folder / "rounds/001/round.json").read_text())
    assert made["accepted"] == len(load_tasks(folder / "rounds/001/tasks.jsonl")) == 4


def test_the_memory_holds_what_was_seen_and_what_was_tried(finished):
    _, folder = finished
    (remembered,) = Memory.load(folder / "memory.jsonl").rounds
    assert set(remembered.patterns) == {pattern.id for pattern in load_patterns(folder / "rounds/001/failures.jsonl")}
    assert sum(tried.accepted for tried in remembered.tried.values()) == 4
    assert 0 < sum(tried.trained for tried in remembered.tried.values()) <= 4


def test_before_and_after_are_the_same_held_out_tasks(finished):
    _, folder = finished
    before, after = ([(each.task.id, each.trial) for each in read_trajectories(folder / name)] for name in ("before", "after"))
    assert before == after
    assert len(before) == 6


def test_nobody_in_a_held_out_task_is_in_a_training_task(finished):
    _, folder = finished

    def people(name):
        reads = [call.arguments for task in load_tasks(folder / name) for call in task.criteria.actions if call.name == "get_user_details"]
        return {arguments["user_id"] for arguments in reads}

    test = people("test.jsonl")
    training = people("rounds/001/tasks.jsonl") | people("rounds/001/diagnosis.jsonl")
    assert test
    assert test.isdisjoint(training)
    assert all(pool("test")(person) for person in test)
    assert all(pool("train")(person) for person in training)


def test_what_is_complete_is_not_made_again(finished):
    config, folder = finished
    before = {name: content for name, content in contents(folder).items() if name != "seconds.json"}
    run_loop(config, folder)
    after = contents(folder)
    assert {name: after[name] for name in before} == before


def test_what_is_missing_is_made_again_the_same(finished, tmp_path):
    config, folder = finished
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for name in ("rounds/001/tasks.jsonl", "rounds/001/failures.jsonl"):
        (copy / name).unlink()
    for name in ("before", "rounds/001/checkpoint"):
        shutil.rmtree(copy / name)
    remembered = (copy / "memory.jsonl").read_text()
    run_loop(config, copy)
    assert (copy / "memory.jsonl").read_text() == remembered
    assert [json.loads(line)["step"] for line in (copy / "rounds/001/training.jsonl").read_text().splitlines()] == [1]
    assert (copy / "rounds/001/checkpoint/model.safetensors").read_bytes() == (
        folder / "rounds/001/checkpoint/model.safetensors"
    ).read_bytes()
    for name in ("rounds/001/tasks.jsonl", "rounds/001/failures.jsonl", "before/trajectories.jsonl"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes(), name


def test_what_was_trained_on_is_remembered_also_after_a_kill_right_behind_the_training(finished, tmp_path):
    config, folder = finished
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    memory = Memory.load(copy / "memory.jsonl")
    tried = memory.rounds[0].tried
    memory.tried(1, {name: attempt.model_copy(update={"trained": 0}) for name, attempt in tried.items()})
    memory.save(copy / "memory.jsonl")
    run_loop(config, copy)
    assert Memory.load(copy / "memory.jsonl").rounds[0].tried == tried
    assert sum(attempt.trained for attempt in tried.values()) == 4


def test_trained_on_is_what_the_model_passes_now_and_then():
    domain = load_domain("library")
    often, always, never, broken = (task.model_copy(update={"id": name}) for task, name in zip(domain.tasks()[:1] * 4, "abcd", strict=True))
    passed = record(drive(Episode(domain, often), ScriptedAgent(tasks=(often,)), ScriptedUser()))
    failed = record(Episode(domain, often))
    lost = failed.model_copy(update={"error": "the user's model did not answer"})

    def attempts(task, *outcomes):
        return [each.model_copy(update={"task": task}) for each in outcomes]

    pilot = sort_by_pass_rate(
        domain,
        [often, always, never, broken],
        [
            *attempts(often, passed, failed),
            *attempts(always, passed, passed, lost),
            *attempts(never, failed, failed),
            *attempts(broken, lost),
        ],
    )
    assert (pilot.learnable, pilot.solved, pilot.deferred) == ((often,), (always,), (never, broken))


def test_a_folder_of_another_configuration_is_refused(finished):
    config, folder = finished
    with pytest.raises(ConfigError, match="holds a loop of another configuration; use a new folder"):
        run_loop(config.model_copy(update={"seed": 5}), folder)


def test_the_summary_compares_by_task(finished):
    _, folder = finished
    summary = summarise(folder)
    assert len(summary.before) == len(summary.after) == len(summary.difference) == 2
    assert summary.difference[0].tasks == 3
    stages = {"before", "rounds/001/run", "rounds/001/propose", "rounds/001/pilot", "rounds/001/train", "after"}
    assert set(summary.seconds) == stages
    assert summary.pilot == {"learnable": 0, "solved": 0, "deferred": 4}
    assert json.loads((folder / "summary.json").read_text())["accepted"] == 4


def test_an_unknown_operation_is_refused_with_those_that_there_are(finished, tmp_path):
    config, _ = finished
    with pytest.raises(ConfigError, match="domain retail has no operation 'fly'; its operations: cancel_order, "):
        run_loop(config.model_copy(update={"operations": ("fly",)}), tmp_path)


def test_too_small_a_domain_is_refused(finished, tmp_path):
    config, _ = finished
    with pytest.raises(ConfigError, match="test tasks could be made; raise the domain's size"):
        run_loop(config.model_copy(update={"test_tasks": 400, "options": {"users": 6, "orders": 5, "products": 4}}), tmp_path)


def test_the_demo_configuration_reads():
    assert LoopConfig.load(TINY / "loop.toml").train.model == "tiny"
