import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from train_fixtures import Brief, library, make_tiny  # noqa: E402

from sentinel_env import ConfigError, TaskError, load_domain  # noqa: E402
from sentinel_train.config import SamplingConfig, TrainConfig  # noqa: E402
from sentinel_train.controller import select  # noqa: E402
from sentinel_train.dataset import COLUMN, read_row, to_dataset  # noqa: E402
from sentinel_train.grpo_settings import grpo_config  # noqa: E402
from sentinel_train.models import load_model  # noqa: E402
from sentinel_train.rollout import Rollout  # noqa: E402
from sentinel_train.trainer import make_trainer, train  # noqa: E402
from sentinel_train.updates import Slot, as_columns  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
SAMPLING = SamplingConfig(max_turn_tokens=8, max_episode_tokens=200, max_steps=4, max_errors=4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def config(tiny, **changes):
    settings = {
        "model": tiny,
        "steps": 1,
        "group_size": 4,
        "prompts_per_step": 2,
        "sampling": SAMPLING,
        "device": "cpu",
        "learning_rate": 1e-2,
    }
    return TrainConfig.of(settings | changes)


def weights(path):
    return {name: tensor.clone() for name, tensor in load_model(str(path))[0].state_dict().items()}


def test_an_update_changes_the_weights_and_reports_rewards(tiny, tmp_path, monkeypatch):
    # an untrained model never passes: let the reward be whether it wrote an even number of tokens
    monkeypatch.setattr("sentinel_train.updates.evaluate", lambda domain, trajectory: Even(trajectory))
    logs = []
    ended = train(config(tiny), library(), library().split(), Brief(), out=tmp_path / "out", progress=logs.append)
    assert (ended.updates, ended.rollouts, ended.stopped) == (1, 8, None)
    assert [log["step"] for log in logs] == [1.0]
    assert 0 < logs[0]["reward"] < 1
    before, after = weights(tiny), weights(tmp_path / "out")
    assert any(not torch.equal(before[name], after[name]) for name in before)


class Even:
    def __init__(self, trajectory):
        self.reward = float(sum(len(message.content) for message in trajectory.messages if message.role == "assistant") % 2)


def test_a_group_is_rollouts_of_one_task(tiny, tmp_path):
    trainer = make_trainer(config(tiny), library(), library().split(), Brief(), out=tmp_path)
    seen = []
    inner = trainer.rollout_func
    trainer.rollout_func = lambda prompts, trainer: (
        seen.extend(slot.task.id for slot in trainer.environments),
        inner(prompts, trainer),
    )[1]
    trainer.train()
    assert len(seen) == 8
    assert all(len(set(seen[at : at + 4])) == 1 for at in (0, 4))


def test_what_trl_keeps_for_a_rollout_has_no_tools():
    slot = Slot()
    task = library().split()[0]
    slot.reset(**{COLUMN: task.model_dump_json(), "prompt": []})
    assert slot.task == task
    assert [name for name in dir(slot) if not name.startswith("_") and callable(getattr(slot, name))] == ["reset"]


def test_a_rollout_without_a_turn_is_one_token_that_is_not_trained_on():
    columns = as_columns([Rollout(None, prompt_ids=[5])], end_id=1)
    assert columns == {"prompt_ids": [[5]], "completion_ids": [[1]], "logprobs": [[0.0]], "env_mask": [[0]]}


def test_rows_give_back_their_tasks():
    tasks = library().split()
    assert [read_row(row[COLUMN]) for row in to_dataset(library(), tasks)] == list(tasks)


def test_no_tasks_are_refused():
    with pytest.raises(TaskError, match="no tasks to train on"):
        to_dataset(library(), [])


def test_tasks_of_another_domain_are_refused():
    with pytest.raises(TaskError, match="for domain 'library', trained on 'retail'"):
        to_dataset(load_domain("retail"), library().split())


def test_passes_that_do_not_divide_an_update_are_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match="rows_per_pass is 3; it must divide group_size x prompts_per_step = 8"):
        grpo_config(config(tiny, rows_per_pass=3), tmp_path)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder .* with a model"):
        load_model(str(tmp_path / "nowhere"))


# the Controller


def pattern(name, errors, label="wrong_argument", fault="agent", share=0.1):
    from sentinel_env.failures import FailurePattern

    return FailurePattern(id=name, domain="library", label=label, errors=errors, fault=fault, share=share)


def test_rare_patterns_and_those_without_a_mistake_to_build_on_are_left_out():
    patterns = [pattern("rare", 1), pattern("cut", 9, label="unfinished"), pattern("user", 9, fault="user"), pattern("kept", 9)]
    assert [each.id for each in select(patterns, min_support=2)] == ["kept"]
    assert [each.id for each in select(patterns, min_support=1)] == ["rare", "kept"]
