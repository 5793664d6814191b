"""The warm start: what the demonstrator shows, what is taught of it, and the checkpoint that comes out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from train_fixtures import library, make_tiny  # noqa: E402

from sentinel_env import (  # noqa: E402
    ConfigError,
    Episode,
    ScriptedUser,
    ToolCall,
    Wish,
    drive,
    evaluate,
    load_domain,
    record,
)
from sentinel_env.agents import TRANSFERRED  # noqa: E402
from sentinel_env.errors import TrainingError  # noqa: E402
from sentinel_env.knobs import Knobs  # noqa: E402
from sentinel_train.chat import Chat, text_of  # noqa: E402
from sentinel_train.config import SamplingConfig, TrainConfig  # noqa: E402
from sentinel_train.demonstrations import could_be_sampled, demonstrations, propose  # noqa: E402
from sentinel_train.demonstrator import CONFIRM, REFUSE, demonstrator  # noqa: E402
from sentinel_train.generate import Turn  # noqa: E402
from sentinel_train.loop_config import LoopConfig  # noqa: E402
from sentinel_train.models import load_model  # noqa: E402
from sentinel_train.rollout import roll_out  # noqa: E402
from sentinel_train.warm_start import SUMMARY, WarmStart, sft_settings, warm_start  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
RECIPES = Path(__file__).parents[1] / "benchmarks/recipes"
SMALL = {"users": 60, "orders": 90, "products": 20}
ROOMY = SamplingConfig(max_turn_tokens=900, max_episode_tokens=30_000, max_steps=40)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def retail():
    return load_domain("retail", **SMALL)


@pytest.fixture(scope="module")
def chat(tiny, retail):
    return Chat(load_model(tiny)[1], retail)


def anybody(subject):
    return True


def verified(domain, knobs, count, seed=0):
    return propose(domain, count, knobs=knobs, seed=seed, subjects=anybody)


def play(domain, task, *, sloppy=0.0, careful=True, seed=0):
    agent = demonstrator(domain, task, Random(seed), sloppy=sloppy, careful=careful)
    episode = Episode(domain, task.draft, max_steps=100, seed=seed)
    return agent, record(drive(episode, agent, ScriptedUser()))


def said(trajectory):
    return [message.content for message in trajectory.messages if message.role == "assistant" and not message.tool_calls]


def config(model, **changes):
    settings = {"model": model, "sampling": ROOMY, "device": "cpu", "threads": 1, "report_to": "none"}
    return TrainConfig.of(settings | changes)


def teach(model, out, *, seed=0, train=None, **changes):
    settings = {"demonstrations": 4, "sloppy": 0.0, "steps": 2, "learning_rate": 1e-2, "warmup": 0, "batch_size": 2}
    start = WarmStart.of(settings | changes)
    return warm_start(start, train or config(model), library(), out, knobs=Knobs(), seed=seed, subjects=anybody)


def weights(path):
    return load_model(str(path))[0].state_dict()


# the demonstrator

KINDS = [
    {},
    {"slip": True},
    {"question": True, "writes": 2},
    {"refusal": True},
    {"conditional": True},
    {"terse": True},
    {"reveal": "together"},
]


@pytest.mark.parametrize("careful", [True, False], ids=["careful", "brief"])
@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_a_demonstration_without_a_mistake_earns_the_reward(retail, knobs, careful):
    tasks = verified(retail, Knobs(**knobs), 40)
    assert len(tasks) > 20
    for at, task in enumerate(tasks):
        agent, trajectory = play(retail, task, careful=careful, seed=at)
        assert evaluate(retail, trajectory).reward == 1, task.draft.id
        assert not agent.overruled


@pytest.mark.parametrize("operation", ["hand_over_lost_parcel", "hand_over_new_email", "ask_order_total", "ask_available_variants"])
def test_a_question_is_answered_and_a_hand_over_is_made(retail, operation):
    for at, task in enumerate(verified(retail, Knobs(operation=operation), 10)):
        _, trajectory = play(retail, task, seed=at)
        assert evaluate(retail, trajectory).reward == 1
        assert not any(REFUSE in text for text in said(trajectory)) or any(
            not w.answers and not w.transfer for w in task.draft.scenario.wishes
        )
        assert (said(trajectory)[-1] == TRANSFERRED) == operation.startswith("hand_over")


def test_a_domain_without_operations_is_demonstrated_too():
    (task,) = verified(library(), Knobs(), 4)
    for careful in (True, False):
        _, trajectory = play(library(), task, careful=careful)
        assert evaluate(library(), trajectory).reward == 1
        assert "card number" in said(trajectory)[1]  # of the greeting and what follows: who the user is, in the words that it knows


def test_a_mistake_costs_the_reward(retail):
    tasks = [task for task in verified(retail, Knobs(), 120) if any(not foil.mutant for foil in task.foils)]
    assert len(tasks) > 80
    for at, task in enumerate(tasks):
        agent, trajectory = play(retail, task, sloppy=1.0, seed=at)
        assert agent.mistake is not None
        assert evaluate(retail, trajectory).reward == 0, (task.draft.id, agent.mistake)


def test_what_is_about_to_be_done_is_said_unless_it_is_a_mistake(retail):
    wrong = right = 0
    for at, task in enumerate(verified(retail, Knobs(most_writes=1), 60)):
        wish = next((wish for wish in task.draft.scenario.wishes if wish.call is not None), None)
        agent, trajectory = play(retail, task, sloppy=0.5, seed=at)
        asked = [text for text in said(trajectory) if CONFIRM in text]
        if wish is None or (agent.mistake is not None and agent.mistake.silent):
            continue
        if agent.mistake is not None and agent.mistake.label != "extra_write":
            assert asked == [CONFIRM]
            wrong += 1
        elif agent.mistake is None:
            assert len(asked) == 1
            assert asked[0].startswith("To confirm: ")
            assert all(str(value) in asked[0] for value in wish.call.arguments.values() if isinstance(value, str))
            right += 1
    assert wrong > 5
    assert right > 5


def test_an_order_is_looked_up_only_when_the_customer_has_named_it(retail):
    """Where the customer goes by numbers; for an order that is only described, all of them may have to be looked through."""
    seen = 0
    for task in verified(retail, Knobs(refusal=True, reveal="one by one"), 80):
        wishes = task.draft.scenario.wishes
        if any(fact.slot == "order" and fact.value not in wish.text for wish in wishes for fact in wish.facts):
            continue
        _, trajectory = play(retail, task)
        spoken = ""
        for message in trajectory.messages:
            spoken += message.content if message.role == "user" else ""
            for call in message.tool_calls:
                assert call.name != "get_order_details" or call.arguments["order_id"] in spoken, task.draft.id
                seen += call.name == "get_order_details"
    assert seen > 10


def test_a_user_who_did_not_say_yes_is_noticed():
    (task,) = verified(library(), Knobs(), 4)
    other = Wish(text="Renew Dune", call=ToolCall(name="renew_loan", arguments={"loan_id": "L1"}))
    scenario = task.draft.scenario.model_copy(update={"wishes": (other,)})
    crossed = task.model_copy(update={"draft": task.draft.model_copy(update={"scenario": scenario})})
    agent, _ = play(library(), crossed)
    assert agent.overruled
    with pytest.raises(ConfigError, match="none of 1 demonstrations earns its reward"):
        demonstrations(library(), [crossed], Chat(load_model("tiny")[1], library()), ROOMY, sloppy=0.0, seed=0)


# in tokens


class Replayed:
    """A model that takes the turns of recorded dialogues."""

    def __init__(self, rollouts):
        self.turns = [self.split(rollout) for rollout in rollouts]

    def split(self, rollout):
        turns, before = [], 0
        for token, ours in zip(rollout.completion_ids, rollout.mask, strict=True):
            if ours and not before:
                turns.append([])
            if ours:
                turns[-1].append(token)
            before = ours
        return iter(turns)

    def take(self, appended):
        return {at: Turn(ids, [0.0] * len(ids)) for at in appended for ids in [next(self.turns[at])]}


def test_what_is_taught_is_token_by_token_what_would_be_sampled(retail, chat):
    tasks = verified(retail, Knobs(), 12)
    taught = demonstrations(retail, tasks, chat, ROOMY, sloppy=0.3, seed=0).rollouts
    assert len(taught) == len(tasks)
    again = [Episode(retail, task.draft, seed=at) for at, task in enumerate(tasks)]
    sampled = roll_out(again, ScriptedUser(), chat, None, ROOMY, generator=None, turns=Replayed(taught))
    for ours, theirs in zip(taught, sampled, strict=True):
        assert (ours.prompt_ids, ours.completion_ids, ours.mask) == (theirs.prompt_ids, theirs.completion_ids, theirs.mask)
        assert ours.episode.messages == theirs.episode.messages
        assert theirs.episode.terminated


def test_the_agents_words_alone_are_trained_on(retail, chat):
    for rollout in demonstrations(retail, verified(retail, Knobs(), 6), chat, ROOMY, sloppy=0.0, seed=0).rollouts:
        ours = [token for token, trained in zip(rollout.completion_ids, rollout.mask, strict=True) if trained]
        _, *turns = [message for message in rollout.episode.messages if message.role == "assistant"]
        assert chat.tokenizer.decode(ours) == "".join(text_of(turn) + chat.tokenizer.eos_token for turn in turns)


def test_what_could_not_be_sampled_is_left_out_and_counted(retail, chat):
    tasks = verified(retail, Knobs(), 20)
    everything = demonstrations(retail, tasks, chat, ROOMY, sloppy=0.3, seed=0)
    lengths = sorted(rollout.length for rollout in everything.rollouts)
    tight = ROOMY.model_copy(update={"max_turn_tokens": 400, "max_episode_tokens": lengths[10]})
    some = demonstrations(retail, tasks, chat, tight, sloppy=0.3, seed=0)
    assert 0 < some.too_long < 20
    assert len(some.rollouts) + some.too_long == 20
    assert some.counts()["most_tokens"] < everything.counts()["most_tokens"]
    kept = [rollout.completion_ids for rollout in some.rollouts]
    assert kept == [rollout.completion_ids for rollout in everything.rollouts if could_be_sampled(rollout, tight)]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_turn_tokens": 5}, r"max_turn_tokens is 5, at least \d+ are needed for the shortest"),
        ({"max_steps": 2}, r"max_steps is 2, at least \d+ are needed"),
        ({"max_episode_tokens": 650}, r"max_episode_tokens is 650, at least \d+ are needed"),
    ],
)
def test_where_nothing_could_be_sampled_the_limit_to_raise_is_named(retail, chat, limit, message):
    tasks = verified(retail, Knobs(), 5)
    with pytest.raises(ConfigError, match=rf"all 5 demonstrations are too long to be sampled: raise train\.sampling\.\* \(.*{message}"):
        demonstrations(retail, tasks, chat, ROOMY.model_copy(update=limit), sloppy=0.0, seed=0)


def test_a_limit_that_is_raised_as_told_is_enough(retail, chat):
    tasks = verified(retail, Knobs(), 5)
    with pytest.raises(ConfigError) as refused:
        demonstrations(retail, tasks, chat, SamplingConfig(max_turn_tokens=5, max_episode_tokens=50, max_steps=1), sloppy=0.0, seed=0)
    words = str(refused.value).replace("(", "").split()
    limits = {words[at]: int(words[at + 5]) for at in range(len(words) - 5) if words[at] in SamplingConfig.model_fields}
    assert limits.keys() == {"max_turn_tokens", "max_episode_tokens", "max_steps"}
    assert demonstrations(retail, tasks, chat, SamplingConfig(**limits), sloppy=0.0, seed=0).rollouts
    for name, limit in limits.items():
        with pytest.raises(ConfigError, match=name):
            demonstrations(retail, tasks, chat, SamplingConfig(**limits | {name: limit - 1}), sloppy=0.0, seed=0)


def test_nobody_to_ask_is_refused_with_what_to_set(retail):
    with pytest.raises(ConfigError, match=r"no task to demonstrate could be made of retail: 0 drafts.*raise the domain's size"):
        propose(retail, 5, knobs=Knobs(), seed=0, subjects=lambda subject: False)


def test_demonstrations_are_about_the_allowed_subjects_only(retail):
    asked = []

    def subjects(subject):
        asked.append(subject)
        return subject < "m"

    tasks = propose(retail, 20, knobs=Knobs(), seed=0, subjects=subjects)
    reads = [call.arguments for task in tasks for call in task.draft.criteria.actions if call.name == "get_user_details"]
    assert reads
    assert all(arguments["user_id"] < "m" for arguments in reads)
    assert any(subject >= "m" for subject in asked)


# training


def test_a_warm_start_leaves_a_whole_checkpoint_and_an_account(tiny, tmp_path):
    before = {name: tensor.clone() for name, tensor in weights(tiny).items()}
    out = teach(tiny, tmp_path / "out")
    assert out == tmp_path / "out"
    after = weights(out)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tiny).items())
    assert Chat(load_model(str(out))[1], library()).opening([]) == Chat(load_model(tiny)[1], library()).opening([])
    account = json.loads((out / SUMMARY).read_text())
    assert account["demonstrations"] == 1  # the library has but one task
    assert (account["mistakes"], account["too_long"], account["failed"], account["steps"]) == (0, 0, 0, 2)
    assert account["first_loss"] > account["last_loss"]


def test_the_demonstration_becomes_likelier_with_every_step(tiny, tmp_path):
    losses = []
    start = WarmStart(demonstrations=1, sloppy=0.0, steps=25, learning_rate=2e-2, warmup=2, batch_size=1)
    warm_start(
        start,
        config(tiny),
        library(),
        tmp_path / "out",
        knobs=Knobs(),
        seed=0,
        subjects=anybody,
        report=lambda logs: losses.append((logs["step"], logs["loss"])),
    )
    assert [step for step, _ in losses] == list(range(1, 26))
    assert losses[-1][1] < losses[0][1] / 2


def test_passes_add_up_to_an_update(tiny, tmp_path):
    whole = weights(teach(tiny, tmp_path / "whole", steps=1, batch_size=2))
    split = weights(teach(tiny, tmp_path / "split", steps=1, batch_size=2, rows_per_pass=1))
    assert all(torch.allclose(whole[name], split[name], atol=1e-3) for name in whole)


def test_adapters_are_merged_into_the_weights(tiny, tmp_path):
    out = teach(tiny, tmp_path / "out", train=config(tiny, lora={"r": 4, "alpha": 8}))
    before, after = weights(tiny), weights(out)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)


AGAIN = """
import sys
from pathlib import Path
from test_train_warm_start import config, teach
model, out = sys.argv[1:]
teach(model, Path(out) / "plain", sloppy=0.5)
teach(model, Path(out) / "adapters", train=config(model, lora={"r": 4, "alpha": 8}))
"""


def test_the_same_seed_gives_the_same_bytes_in_another_process(tiny, tmp_path):
    contents = []
    for hashes in ("1", "2"):
        out = tmp_path / hashes
        environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-W", "ignore", "-c", AGAIN, tiny, str(out)], check=True, env=environment, capture_output=True)
        contents.append({str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()})
    assert contents[0].keys() == contents[1].keys() >= {"plain/model.safetensors", "adapters/model.safetensors", f"plain/{SUMMARY}"}
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []


def test_another_seed_gives_other_demonstrations(retail):
    one, other = (propose(retail, 5, knobs=Knobs(), seed=seed, subjects=anybody) for seed in (0, 1))
    assert {task.draft.id for task in one}.isdisjoint(task.draft.id for task in other)


def test_a_loss_that_is_no_number_stops_with_what_to_do(tiny, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is .* of the warm start; lower warm_start.learning_rate"):
        teach(tiny, tmp_path / "out", steps=8, learning_rate=1e30)
    assert not (tmp_path / "out" / SUMMARY).exists()


def test_memory_that_runs_out_names_what_to_lower(tiny, tmp_path, monkeypatch):
    def fit(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:129] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr("sentinel_train.warm_start.fit", fit)
    with pytest.raises(
        TrainingError, match=r"out of memory in the warm start: .*; warm_start.rows_per_pass is 2: lower it, or train adapters"
    ):
        teach(tiny, tmp_path / "out")


def test_another_error_of_torch_is_not_taken_for_it(tiny, tmp_path, monkeypatch):
    def fit(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("sentinel_train.warm_start.fit", fit)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        teach(tiny, tmp_path / "out")


def test_tensorboards_log_lies_in_the_checkpoints_folder(tiny, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    out = teach(tiny, tmp_path / "out", steps=1, train=config(tiny, report_to="tensorboard"))
    assert [file.name.split(".")[:3] for file in (out / "logs").iterdir()] == [["events", "out", "tfevents"]]
    assert {file.name for file in out.iterdir() if file.is_dir()} == {"logs"}
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ


# settings


def test_passes_that_do_not_divide_an_update_are_refused_before_a_model_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match=r"warm_start.rows_per_pass is 3; it must divide warm_start.batch_size = 4"):
        teach("no such model", tmp_path / "out", batch_size=4, rows_per_pass=3)


def test_several_processes_share_an_update(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"it times the 4 processes must divide warm_start\.batch_size = 6"):
        sft_settings(WarmStart(batch_size=6), config("tiny"), tmp_path, seed=0)


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(ConfigError, match="unknown setting 'epochs'; WarmStart has demonstrations, sloppy, steps, "):
        WarmStart.of({"epochs": 3})


@pytest.mark.parametrize(("key", "value"), [("sloppy", 1.5), ("steps", 0), ("learning_rate", 0), ("demonstrations", 0), ("warmup", -1)])
def test_an_impossible_value_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=f"setting '{key}'"):
        WarmStart.of({key: value})


def test_settings_of_training_hold_for_the_warm_start(tmp_path):
    run = config("tiny", precision="bf16", trl={"gradient_checkpointing": True, "loss_type": "dapo"}, report_to="tensorboard")
    args = sft_settings(WarmStart(steps=7, batch_size=8, rows_per_pass=2), run, tmp_path, seed=3)
    assert (args.max_steps, args.per_device_train_batch_size, args.gradient_accumulation_steps, args.seed) == (7, 2, 4, 3)
    assert (args.bf16, args.use_cpu, args.activation_checkpointing, args.report_to) == (True, True, True, ["tensorboard"])


def test_the_smollm2_recipe_has_a_warm_start_that_trl_takes(tmp_path):
    loop = LoopConfig.load(RECIPES / "smollm2.toml")
    assert loop.warm_start is not None
    assert 0 < loop.warm_start.sloppy < 1  # clean ones alone would leave nothing to learn from failures
    args = sft_settings(loop.warm_start, loop.train, tmp_path, seed=loop.seed)
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == loop.warm_start.batch_size
