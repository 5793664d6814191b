import json
import shutil

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from sentinel_env import ConfigError, load_tasks, read_trajectories  # noqa: E402
from sentinel_env.failures import Memory, load_patterns  # noqa: E402
from sentinel_env.verification import HeldOut  # noqa: E402
from sentinel_train.accounting import Ledger  # noqa: E402
from sentinel_train.config import read_toml, with_settings  # noqa: E402
from sentinel_train.loop import Loop, run_loop  # noqa: E402
from sentinel_train.loop_config import LoopConfig, pool  # noqa: E402
from sentinel_train.models import TINY  # noqa: E402
from sentinel_train.pool import TaskPool  # noqa: E402
from sentinel_train.states import TrainingFolder  # noqa: E402
from sentinel_train.summary import summarise  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
TIMES = ("seconds.json", "training.jsonl", "summary.json")
"""Files with times in them."""


def settings(**changes):
    """The demo, much smaller."""
    demo = LoopConfig.load(TINY / "loop.toml").model_dump(mode="json")
    small = {
        "rounds": 2,
        "test_tasks": 3,
        "trials": 2,
        "diagnosis_tasks": 12,
        "diagnosis_trials": 1,
        "tasks": {"count": 12, "min_support": 1, "pilot_trials": 3},
        "train": {**demo["train"], "steps": 2, "group_size": 4, "prompts_per_step": 2, "threads": 1, "device": "cpu", "save_every": 1},
    }
    small["train"]["report_to"] = "none"
    return LoopConfig.of({**demo, **small, **changes})


def trained_with(**changes):
    config = settings()
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    config = settings()
    return config, run_loop(config, tmp_path_factory.mktemp("loop") / "out")


def contents(folder):
    """Every file that has no times in it; of a run's own, what decides it, since the version of this repository may change meanwhile."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in TIMES]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: json.loads(text)["configuration"] if name.endswith("run.json") else text for name, text in found.items()}


def test_a_round_leaves_every_file(finished):
    config, folder = finished
    for name in ("loop.json", "test.jsonl", "before/summary.json", "after/summary.json", "pool.jsonl", "rollouts.jsonl", "memory.jsonl"):
        assert (folder / name).is_file(), name
    for number in (1, 2):
        place = folder / f"rounds/{number:03d}"
        for name in ("diagnosis.jsonl", "failures.jsonl", "tasks.jsonl", "rejected.jsonl", "round.json", "training.jsonl"):
            assert (place / name).is_file(), name
        assert (place / "checkpoint/model.safetensors").is_file()
        made = json.loads((place / "round.json").read_text())
        assert made["accepted"] == len(load_tasks(place / "tasks.jsonl"))
        assert sum(made["mixture"].values()) == made["updates"] * config.train.prompts_per_step


def test_the_pool_knows_what_the_model_made_of_every_task(finished):
    _, folder = finished
    entries = list(TaskPool(folder / "pool.jsonl"))
    for number in (1, 2):
        born = [entry.task for entry in entries if entry.born == number]
        assert [task.id for task in born] == [task.id for task in load_tasks(folder / f"rounds/{number:03d}/tasks.jsonl")]
        piloted = [entry for entry in entries if any(seen.round == number and seen.stage == "pilot" for seen in entry.seen)]
        assert {entry.task.id for entry in piloted} == {each.task.id for each in read_trajectories(folder / f"rounds/{number:03d}/pilot")}
        trained = {entry.task.id: seen for entry in entries for seen in entry.seen if (seen.round, seen.stage) == (number, "training")}
        groups = [group for update in TrainingFolder(folder / f"rounds/{number:03d}/checkpoint").updates() for group in update.groups]
        assert set(trained) == {group.task for group in groups}
        assert sum(seen.attempts for seen in trained.values()) == sum(len(group.rewards) for group in groups) == 16
        assert sum(seen.passes for seen in trained.values()) == sum(reward == 1 for group in groups for reward in group.rewards)


def test_every_rollout_is_counted(finished):
    _, folder = finished
    rounds = Ledger(folder / "rollouts.jsonl").rounds()
    assert (rounds[0].evaluation, rounds[3].evaluation) == (6, 6)
    for number in (1, 2):
        runs = {name: len(list(read_trajectories(folder / f"rounds/{number:03d}/{name}"))) for name in ("run", "pilot")}
        assert (rounds[number].diagnosis, rounds[number].pilot, rounds[number].training) == (runs["run"], runs["pilot"], 16)


def test_only_what_the_model_passes_now_and_then_is_trained_on_beside_the_replay(finished):
    _, folder = finished
    whole = TaskPool(folder / "pool.jsonl")
    for number in (1, 2):
        before = whole.before(number, "training")
        states = {name: standing.state for name, standing in before.standings.items()}
        groups = [group for update in TrainingFolder(folder / f"rounds/{number:03d}/checkpoint").updates() for group in update.groups]
        replayed = [group.task for group in groups if states[group.task] != "active"]
        assert all(states[name] in ("solved", "retired") and whole[name].born < number for name in replayed)


def test_the_memory_holds_what_was_seen_and_what_was_tried(finished):
    _, folder = finished
    rounds = Memory.load(folder / "memory.jsonl").rounds
    assert [each.number for each in rounds] == [1, 2]
    for each in rounds:
        place = folder / f"rounds/{each.number:03d}"
        assert set(each.patterns) == {pattern.id for pattern in load_patterns(place / "failures.jsonl")}
        assert sum(tried.accepted for tried in each.tried.values()) == len(load_tasks(place / "tasks.jsonl"))
        assert sum(tried.trained for tried in each.tried.values()) > 0


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
    training = people("rounds/001/tasks.jsonl") | people("rounds/002/tasks.jsonl") | people("rounds/001/diagnosis.jsonl")
    assert test
    assert test.isdisjoint(training)
    assert all(pool("test")(person) for person in test)
    assert all(pool("train")(person) for person in training)


def test_what_is_complete_is_not_made_again(finished):
    config, folder = finished
    before, times = contents(folder), {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    run_loop(config, folder)
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == times


def test_what_is_missing_is_made_again_the_same(finished, tmp_path):
    config, folder = finished
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for name in ("rounds/002/tasks.jsonl", "rounds/002/failures.jsonl", "test.jsonl"):
        (copy / name).unlink()
    for name in ("before", "rounds/002/checkpoint", "rounds/001/pilot", "rounds/002/run"):
        shutil.rmtree(copy / name)
    run_loop(config, copy)
    assert contents(copy) == contents(folder)


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_loop_that_is_killed_again_and_again_ends_as_if_it_never_had_been(finished, tmp_path):
    """At every moment at which anything is reported: in the midst of runs and updates, and between any two stages."""
    config, folder = finished
    told = []
    run_loop(config, folder, report=lambda *what: told.append(what))
    moments, reached = 0, set()

    def report(stage, done, total, note="", /):
        nonlocal moments
        if (stage, done) not in reached:  # each is passed the second time
            reached.add((stage, done))
            moments += 1
            raise Killed

    for _ in range(1000):
        try:
            run_loop(config, tmp_path / "out", report=report)
            break
        except Killed:
            pass
    assert moments > 30
    assert contents(tmp_path / "out") == contents(folder)


def test_a_folder_of_another_configuration_is_refused_but_memory_may_be_spared(finished):
    config, folder = finished
    with pytest.raises(ConfigError, match="holds a loop of another configuration; use a new folder"):
        run_loop(config.model_copy(update={"seed": 5}), folder)
    run_loop(trained_with(rows_per_pass=1, save_every=5), folder)
    assert LoopConfig.load(folder / "loop.json").train.rows_per_pass == 1  # which a stage in a process of its own reads
    run_loop(config, folder)


def test_a_domains_own_held_out_tasks_share_no_record_with_those_of_the_diagnosis(tmp_path):
    own = {"render": {}, "options": {}, "operations": [], "test_split": "test", "rounds": 1, "targeting": "closed_loop"}
    config = settings(**own)
    loop = Loop(config, tmp_path / "out")
    loop.open()
    held_out = loop.held_out()
    assert [task.id for task in held_out] == [task.id for task in loop.domain.split("test")]
    loose = loop.general("train", 150, tmp_path / "out/loose.jsonl")
    apart = loop.general("train", 150, tmp_path / "out/apart.jsonl", held_out=held_out)
    leak = HeldOut(loop.domain, held_out, of_other_splits=True).leak
    assert any(leak(task, 1.1) for task in loose)
    assert not any(leak(task, 1.1) for task in apart)


# the arms of an experiment


@pytest.mark.parametrize("targeting", ["one_shot", "placebo", "learnability_general", "general"])
def test_one_word_switches_the_arm_and_a_budget_makes_all_cost_the_same(targeting, tmp_path):
    config = settings(targeting=targeting, allocation="equal", budget=180)
    folder = run_loop(config, tmp_path / "out")
    ledger, entries = Ledger(folder / "rollouts.jsonl"), list(TaskPool(folder / "pool.jsonl"))
    assert 180 - 8 * 2 < ledger.counted() <= 180
    rounds = ledger.rounds()
    diagnosed = [number for number in (1, 2) if rounds[number].diagnosis]
    assert diagnosed == {"one_shot": [1], "placebo": [1, 2]}.get(targeting, [])
    assert bool(rounds[1].pilot) == (targeting != "general")
    if targeting in ("general", "learnability_general"):
        assert {entry.arm for entry in entries} == {"general"}
    made = [json.loads((folder / f"rounds/00{number}/round.json").read_text()) for number in (1, 2)]
    if targeting == "one_shot":
        assert made[0]["selected"] == made[1]["selected"] != []
    if targeting == "placebo":
        patterned = [entry for entry in entries if entry.arm not in ("general", "explore")]
        assert all(entry.arm != entry.pattern for entry in patterned)


def test_a_budget_without_room_for_an_update_is_refused(tmp_path):
    complaint = "the budget of 90 rollouts gives a round 45; its diagnosis takes 12, its pilot up to 36 and an update 8: raise budget"
    with pytest.raises(ConfigError, match=complaint):
        run_loop(settings(budget=90), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_setting_can_be_changed_on_the_command_line():
    changed = with_settings(read_toml(TINY / "loop.toml"), ["targeting=placebo", "train.steps=7", "mixture.general=0.5", "train.model=a=b"])
    config = LoopConfig.of(changed)
    assert (config.targeting, config.train.steps, config.mixture.general, config.train.model) == ("placebo", 7, 0.5, "a=b")
    for wrong in ("targeting", "=x", "train.model.name=x", "rounds.x=1"):
        with pytest.raises(ConfigError, match=r"--set takes KEY=VALUE, such as targeting=general or train.steps=12; found"):
            with_settings(read_toml(TINY / "loop.toml"), [wrong])
    with pytest.raises(ConfigError, match=r"unknown setting 'train.step'"):
        LoopConfig.of(with_settings(read_toml(TINY / "loop.toml"), ["train.step=7"]))


# what goes wrong


def test_a_model_that_never_passes_is_said_to_have_nothing_to_train_on(tmp_path):
    config = settings(rounds=1)
    mute = config.train.model_copy(update={"sampling": config.train.sampling.model_copy(update={"max_turn_tokens": 1})})
    with pytest.raises(ConfigError, match=r"no task of round 1 can be trained on \(12 deferred\): .* start from a better model"):
        run_loop(config.model_copy(update={"train": mute}), tmp_path / "out")


def test_a_training_that_has_nothing_to_learn_from_ends_early_and_the_loop_goes_on(tmp_path, monkeypatch):
    told = []
    config = settings(rounds=1, targeting="general", tasks={"count": 6, "pilot_trials": 0})
    quick = config.train.model_copy(update={"steps": 6, "flat_updates": 2, "prompts_per_step": 1, "group_size": 2})
    mute = quick.model_copy(update={"sampling": quick.sampling.model_copy(update={"max_turn_tokens": 1})})
    folder = run_loop(config.model_copy(update={"train": mute}), tmp_path / "out", report=lambda *what: told.append(what))
    trained = json.loads((folder / "rounds/001/round.json").read_text())["trained"]
    assert trained["updates"] == 2
    assert (folder / "after/summary.json").exists()
    alarms = [note for stage, _, _, note in [(*what, "")[:4] for what in told] if stage == "alarm"]
    assert any("2 updates in a row had no group" in alarm for alarm in alarms)
    assert any("no tool call in the whole update" in alarm for alarm in alarms)
    assert any("2 updates in a row had no group" in alarm for alarm in summarise(folder).alarms)


def test_the_summary_compares_by_task(finished):
    _, folder = finished
    summary = summarise(folder)
    assert len(summary.before) == len(summary.after) == len(summary.difference) == 2
    assert summary.difference[0].tasks == 3
    each = {f"rounds/00{number}/{stage}" for number in (1, 2) for stage in ("run", "propose", "pilot", "train")}
    assert set(summary.seconds) == {"before", "after", *each}
    assert summary.rollouts.training == 32
    assert summary.updates == 4
    assert sum(summary.states.values()) == summary.accepted
    assert json.loads((folder / "summary.json").read_text())["accepted"] == summary.accepted


def test_an_unknown_operation_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ConfigError, match="domain retail has no operation 'fly'; its operations: cancel_order, "):
        run_loop(settings(operations=["fly"]), tmp_path)


def test_too_small_a_domain_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="test tasks could be made; raise the domain's size"):
        run_loop(settings(test_tasks=400, render={}, options={"users": 6, "orders": 5, "products": 4}), tmp_path)


def test_the_demo_configuration_reads():
    assert LoopConfig.load(TINY / "loop.toml").train.model == "tiny"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"targetting": "general"}, "unknown setting 'targetting'; LoopConfig has .*targeting"),
        ({"targeting": "random"}, "setting 'targeting': Input should be 'closed_loop', 'one_shot', 'placebo'"),
        ({"allocation": "ucb"}, "setting 'allocation': Input should be 'thompson' or 'equal'"),
        (
            {"mixture": {"general": 0.8, "replay": 0.3}},
            r"setting 'mixture.explore': .*general 0.8 \+ replay 0.3 \+ explore 0.05 is more than 1",
        ),
        ({"mixture": {"most": 0.3}}, "unknown setting 'mixture.most'"),
        ({"tasks": {"count": 0}}, "setting 'tasks.count': .*greater than or equal to 1"),
        ({"budget": 0}, "setting 'budget'"),
        ({"train": {"model": "tiny", "shaping": {"weight": 0.1}}}, "no term has a weight"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        settings(**changes)
