import json
import math

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from train_fixtures import Brief, library, make_tiny  # noqa: E402

from sentinel_env import ConfigError, ModelError, TrainingError  # noqa: E402
from sentinel_train.config import SamplingConfig, TrainConfig  # noqa: E402
from sentinel_train.models import load_model  # noqa: E402
from sentinel_train.states import TrainingFolder  # noqa: E402
from sentinel_train.trainer import make_trainer, rows, train  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
SAMPLING = SamplingConfig(max_turn_tokens=8, max_episode_tokens=200, max_steps=4, max_errors=4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def config(tiny, **changes):
    settings = {
        "model": tiny,
        "steps": 3,
        "group_size": 4,
        "prompts_per_step": 2,
        "sampling": SAMPLING,
        "device": "cpu",
        "learning_rate": 1e-2,
        "save_every": 1,
        "report_to": "none",
    }
    return TrainConfig.of(settings | changes)


class Even:
    """Whether the model wrote an even number of letters: an untrained model does so now and then."""

    def __init__(self, _, trajectory):
        letters = sum(len(message.content) for message in trajectory.messages if message.role == "assistant")
        self.reward = None if trajectory.error else float(letters % 2)


@pytest.fixture
def even(monkeypatch):
    monkeypatch.setattr("sentinel_train.updates.evaluate", Even)


def grade(monkeypatch, reward):
    """Let every rollout earn what `reward` says of its number, counted over the whole run."""
    counted = iter(range(10**6))
    monkeypatch.setattr("sentinel_train.updates.evaluate", lambda *_: type("Evaluation", (), {"reward": reward(next(counted))}))


def weights(folder):
    return {name: tensor.clone() for name, tensor in load_model(str(folder), device="cpu")[0].state_dict().items()}


def run(settings, out, **more):
    return train(settings, library(), library().split(), Brief(), out=out, **more)


# going on


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def kill_after(update):
    def on_update(found):
        if found.step == update + 1:
            raise Killed

    return on_update


@pytest.mark.parametrize("save_every", [1, 2])
def test_a_run_that_was_killed_goes_on_to_the_same_weights(tiny, tmp_path, even, save_every):
    settings = config(tiny, steps=4, save_every=save_every)
    run(settings, tmp_path / "whole")
    for update in (0, 1, 3):
        with pytest.raises(Killed):
            run(settings, tmp_path / "killed", on_update=kill_after(update))
    played = []
    ended = run(settings, tmp_path / "killed", on_update=lambda update: played.append(update.step))
    assert played == ([4] if save_every == 1 else [3, 4])
    assert (ended.updates, ended.rollouts) == (4, 32)
    for name in ("model.safetensors", "updates.jsonl", "trained.json", "train.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "killed" / "states").exists()


def test_a_state_that_a_kill_tore_is_not_gone_on_from(tiny, tmp_path, even):
    settings = config(tiny)
    run(settings, tmp_path / "whole")
    with pytest.raises(Killed):
        run(settings, tmp_path / "killed", on_update=kill_after(2))
    states = tmp_path / "killed" / "states"
    text = (states / "checkpoint-2" / "trainer_state.json").read_text()
    (states / "checkpoint-2" / "trainer_state.json").write_text(text[: len(text) // 2])
    (states / "checkpoint-2" / "optimizer.pt").unlink()
    played = []
    run(settings, tmp_path / "killed", on_update=lambda update: played.append(update.step))
    assert played == [2, 3]
    assert (tmp_path / "killed/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_run_that_was_killed_after_its_last_update_only_saves(tiny, tmp_path, even, monkeypatch):
    run(config(tiny), tmp_path / "whole")

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("sentinel_train.trainer.save", killed)
        with pytest.raises(Killed):
            run(config(tiny), tmp_path / "killed")
    played = []
    assert run(config(tiny), tmp_path / "killed", on_update=played.append).updates == 3
    assert played == []
    assert (tmp_path / "killed/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


@pytest.mark.parametrize("left", ["states", ".train.json.partial"])
def test_a_run_that_was_killed_before_its_first_file_was_whole_begins(tiny, tmp_path, even, left):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / left).mkdir() if left == "states" else (tmp_path / "out" / left).write_text("{")
    assert run(config(tiny, steps=1), tmp_path / "out").updates == 1


def test_a_finished_run_is_not_made_again(tiny, tmp_path, even):
    first = run(config(tiny, steps=1), tmp_path)
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert run(config(tiny, steps=1), tmp_path) == first
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_of_another_run_is_refused_but_what_only_saves_memory_may_change(tiny, tmp_path, even):
    run(config(tiny, steps=1), tmp_path / "out")
    with pytest.raises(ConfigError, match="holds a training of other settings or tasks; use a new folder"):
        TrainingFolder(tmp_path / "out").open(config(tiny, steps=2), library(), library().split())
    with pytest.raises(ConfigError, match="holds a training of other settings or tasks"):
        TrainingFolder(tmp_path / "out").open(config(tiny, steps=1), library(), [library().split()[0].model_copy(update={"id": "other"})])
    with pytest.raises(ConfigError, match="holds a training of other settings or tasks"):
        run(config(tiny, steps=2), tmp_path / "out")  # finished or not
    TrainingFolder(tmp_path / "out").open(config(tiny, steps=1, rows_per_pass=1), library(), library().split())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="holds something else than a training; use a new folder"):
        run(config(tiny), tmp_path / "other")


def test_the_order_of_tasks_is_seeded_and_each_comes_before_any_comes_again(tiny):
    tasks = [library().split()[0].model_copy(update={"id": name}) for name in "abcd"]
    settings = config(tiny, steps=5, prompts_per_step=3)
    order = rows(tasks, settings)
    assert len(order) == 15
    assert order == rows(tasks, settings)
    assert {task.id for task in order[: len(tasks)]} == {task.id for task in tasks}
    assert order != rows(tasks, config(tiny, steps=5, prompts_per_step=3, seed=1))
    assert rows(tasks, config(tiny, steps=2, prompts_per_step=3)) == order[:6]


# rewards and groups


def test_what_trl_trains_on_is_the_dialogue_token_by_token(tiny, tmp_path, even):
    trainer = make_trainer(config(tiny, steps=1), library(), library().split(), Brief(), out=tmp_path)
    rollouts, passes = [], []
    play, loss = trainer.rollout_func, trainer._compute_loss

    def played(prompts, given):
        columns = play(prompts, given)
        rollouts.extend(slot.played.rollout for slot in given.environments)
        return columns

    def computed(model, inputs):
        passes.append({name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)})
        return loss(model, inputs)

    trainer.rollout_func, trainer._compute_loss = played, computed
    trainer.train()
    (inputs,) = passes
    found = []
    for row in range(len(rollouts)):
        kept = inputs["completion_mask"][row].bool()
        found.append(
            (
                inputs["prompt_ids"][row][inputs["prompt_mask"][row].bool()].tolist(),
                inputs["completion_ids"][row][kept].tolist(),
                inputs["tool_mask"][row][kept].tolist(),
                [round(each, 4) for each in inputs["sampling_per_token_logps"][row][kept].tolist()],
            )
        )
    expected = [
        (each.prompt_ids, each.completion_ids, each.mask, [round(value, 4) for value in torch.tensor(each.logprobs).tolist()])
        for each in rollouts
    ]
    assert sorted(found) == sorted(expected)  # TRL shuffles the rollouts of an update
    assert any(0 in mask for _, _, mask, _ in found)


def test_a_rollout_that_infrastructure_ends_has_no_reward_and_is_left_out_of_its_group(tiny, tmp_path, monkeypatch):
    class Flaky(Brief):
        asked = 0

        def reply(self, view):
            Flaky.asked += 1
            if Flaky.asked == 2:
                raise ModelError("the provider is down")
            return super().reply(view)

    grade_by = iter([1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    monkeypatch.setattr(
        "sentinel_train.updates.evaluate",
        lambda _, trajectory: type("Evaluation", (), {"reward": None if trajectory.error else next(grade_by)}),
    )
    logs, updates, advantages = [], [], []
    settings = config(tiny, steps=1)
    trainer = make_trainer(settings, library(), library().split(), Flaky(), out=tmp_path)
    trainer.updates.on_update = updates.append
    loss = trainer._compute_loss

    def computed(model, inputs):
        advantages.extend(
            zip(inputs["advantages"].tolist(), (inputs["tool_mask"] * inputs["completion_mask"]).sum(1).tolist(), strict=True)
        )
        return loss(model, inputs)

    trainer._compute_loss = computed
    trainer.train()
    logs = trainer.state.log_history[0]
    (update,) = updates
    assert [group.rewards for group in update.groups] == [(1.0, None, 0.0, 1.0), (0.0,) * 4]
    assert logs["reward"] == pytest.approx(2 / 7)
    assert logs["episode/lost"] == pytest.approx(1 / 8)
    mean, std = 2 / 3, math.sqrt(1 / 3)
    found = sorted(round(value, 2) for value, _ in advantages)
    assert found == sorted([round((1 - mean) / std, 2)] * 2 + [round(-mean / std, 2)] + [0.0] * 5)
    assert sum(trained == 0 for _, trained in advantages) == 1  # the lost one


def test_an_outage_stops_the_training_and_the_same_command_goes_on(tiny, tmp_path, even):
    class Down(Brief):
        def reply(self, view):
            raise ModelError("connection refused")

    settings = config(tiny, steps=2)
    run(settings, tmp_path / "whole")
    with pytest.raises(ModelError, match="infrastructure failed 8 of the 8 rollouts of update 1: ModelError: connection refused"):
        train(settings, library(), library().split(), Down(), out=tmp_path / "out")
    assert run(settings, tmp_path / "out").updates == 2
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert (tmp_path / "out/updates.jsonl").read_bytes() == (tmp_path / "whole/updates.jsonl").read_bytes()


def test_groups_without_variance_are_replaced_where_that_is_asked_for(tiny, tmp_path, monkeypatch):
    grade(monkeypatch, lambda number: float(number % 2) if number >= 8 else 0.0)  # the first two groups fail throughout
    updates = []
    ended = run(config(tiny, steps=1, resample=2), tmp_path, on_update=updates.append)
    assert [(group.rewards, group.replaced) for group in updates[0].groups] == [
        ((0.0, 1.0, 0.0, 1.0), False),
        ((0.0, 1.0, 0.0, 1.0), False),
        ((0.0,) * 4, True),
        ((0.0,) * 4, True),
    ]
    assert not updates[0].flat
    assert ended.rollouts == 16


def test_an_update_that_may_take_more_rollouts_than_there_are_is_not_made(tiny, tmp_path, even):
    ended = run(config(tiny, steps=3), tmp_path / "out", most_rollouts=20)
    assert (ended.updates, ended.rollouts) == (2, 16)
    assert "16 of 20 rollouts are used" in ended.stopped
    assert run(config(tiny, steps=2), tmp_path / "planned", most_rollouts=16).stopped is None


def test_a_lost_rollout_makes_no_variance(tiny, tmp_path, monkeypatch):
    class Lossy(Brief):
        asked = 0

        def reply(self, view):
            Lossy.asked += 1
            if Lossy.asked == 2:
                raise ModelError("the provider is down")
            return super().reply(view)

    outcome = {True: None, False: 0.0}
    monkeypatch.setattr(
        "sentinel_train.updates.evaluate", lambda _, trajectory: type("Evaluation", (), {"reward": outcome[trajectory.error is not None]})
    )
    updates = []
    train(config(tiny, steps=1), library(), library().split(), Lossy(), out=tmp_path, on_update=updates.append)
    assert updates[0].groups[0].rewards == (0.0, None, 0.0, 0.0)
    assert updates[0].flat


# what goes wrong


def test_the_training_ends_where_nothing_has_been_learned_for_many_updates(tiny, tmp_path, monkeypatch):
    grade(monkeypatch, lambda number: float(number % 2) if number < 8 else 1.0)
    ended = run(config(tiny, steps=9, flat_updates=3), tmp_path / "out")
    assert ended.updates == 4
    assert "3 updates in a row had no group in which one rollout differed from another" in ended.stopped
    assert (tmp_path / "out/model.safetensors").exists()
    assert json.loads((tmp_path / "out/trained.json").read_text())["stopped"] == ended.stopped


def test_the_end_for_want_of_variance_survives_a_kill(tiny, tmp_path, monkeypatch):
    def killed(*_):
        raise Killed

    settings = config(tiny, steps=9, flat_updates=3)
    grade(monkeypatch, lambda _: 0.0)
    run(settings, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("sentinel_train.trainer.save", killed)
        with pytest.raises(Killed):
            run(settings, tmp_path / "killed")
    assert run(settings, tmp_path / "killed").updates == 3
    for name in ("model.safetensors", "updates.jsonl", "trained.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_loss_that_is_no_number_stops_before_broken_weights_are_saved(tiny, tmp_path, even, monkeypatch):
    settings = config(tiny, steps=3)
    real = make_trainer

    def breaks(*arguments, **more):
        trainer = real(*arguments, **more)
        loss = trainer._compute_loss
        trainer._compute_loss = lambda model, inputs: loss(model, inputs) * (math.nan if trainer.state.global_step == 1 else 1)
        return trainer

    with monkeypatch.context() as patched:
        patched.setattr("sentinel_train.trainer.make_trainer", breaks)
        with pytest.raises(TrainingError, match="loss is nan in update 2; what was saved before it is kept: lower learning_rate"):
            run(settings, tmp_path / "out")
    assert [state.name for state in (tmp_path / "out/states").glob("checkpoint-*")] == ["checkpoint-1"]
    run(settings, tmp_path / "whole")
    run(settings, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryError()])
def test_running_out_of_memory_says_what_to_lower_and_keeps_what_was_saved(tiny, tmp_path, even, monkeypatch, error):
    real = make_trainer

    def breaks(*arguments, **more):
        trainer = real(*arguments, **more)
        loss = trainer._compute_loss

        def computed(model, inputs):
            if trainer.state.global_step == 1:
                raise error
            return loss(model, inputs)

        trainer._compute_loss = computed
        return trainer

    with monkeypatch.context() as patched:
        patched.setattr("sentinel_train.trainer.make_trainer", breaks)
        with pytest.raises(TrainingError, match=r"out of memory in update 2: .*rows_per_pass is 8: lower it and start again"):
            run(config(tiny, steps=2), tmp_path / "out")
    played = []
    run(config(tiny, steps=2, rows_per_pass=2), tmp_path / "out", on_update=lambda update: played.append(update.step))
    assert played == [2]


def test_other_errors_of_a_run_are_not_taken_for_a_lack_of_memory(tiny, tmp_path, monkeypatch):
    def crash(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("sentinel_train.updates.evaluate", crash)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(config(tiny), tmp_path / "out")


# shaping and logs


def test_shaping_is_a_reward_of_its_own_and_teaches_where_all_outcomes_are_alike(tiny, tmp_path, monkeypatch):
    counted = iter(range(100))
    monkeypatch.setattr("sentinel_train.updates.shape", lambda *_, **__: {"format": next(counted) % 2, "length": 0.5})
    logs = []
    shaped = config(tiny, steps=1, shaping={"format": 1.0, "length": 1.0, "weight": 0.3})
    ended = run(shaped, tmp_path / "shaped", progress=logs.append)
    plain = run(config(tiny, steps=1), tmp_path / "plain")
    assert logs[0]["rewards/outcome/mean"] == 0.0
    assert logs[0]["rewards/shaping/mean"] == pytest.approx((logs[0]["shaping/format"] + logs[0]["shaping/length"]) / 2) == 0.5
    before, after, without = weights(tiny), weights(tmp_path / "shaped"), weights(tmp_path / "plain")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(before[name], without[name]) for name in before)
    assert ended.updates == plain.updates == 1


def test_what_is_logged_says_what_came_of_the_rollouts(tiny, tmp_path, even):
    logs = []
    run(config(tiny, steps=1), tmp_path, progress=logs.append, constants={"pool/active": 7.0})
    names = {"pass_rate", "groups/without_variance", "episode/tool_calls", "episode/unreadable", "episode/truncated", "episode/lost"}
    times = {"time/generation", "time/environment", "time/user", "time/tokens"}
    assert names | times | {"pool/active", "reward", "frac_reward_zero_std", "grad_norm"} <= set(logs[0])
    assert logs[0]["pool/active"] == 7.0


def test_tensorboard_gets_the_figures_offline(tiny, tmp_path, even):
    pytest.importorskip("tensorboard", reason="the train extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(config(tiny, steps=2, report_to="tensorboard"), tmp_path)
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/pass_rate")] == [1, 2]
    assert "train/episode/tool_calls" in events.Tags()["scalars"]


def test_a_logger_that_is_not_installed_is_named(tiny, tmp_path):
    with pytest.raises(ConfigError, match="report_to is wandb, which is not installed; run `pip install wandb`, or set it to none"):
        run(config(tiny, report_to="wandb"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
