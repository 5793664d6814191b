"""The scripts through SkyRL's own generator, with an engine that says their turns: real chat templates, token ids, threads and metrics."""

import asyncio
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("skyrl.train.generators.skyrl_gym_generator", reason="needs SkyRL's trainer with torch: docs/skyrl.md")

import skyrl_gym
from conformance import MAX_STEPS, SCRIPTS, SEED, in_text
from datasets import Dataset
from skyrl.train.config import ChatTemplateConfig, GeneratorConfig, SamplingParams, SkyRLGymConfig
from skyrl.train.dataset.dataset import PromptDataset
from skyrl.train.generators.base import TrajectoryID
from skyrl.train.generators.skyrl_gym_generator import SkyRLGymGenerator
from skyrl.train.generators.utils import concatenate_generator_outputs, get_metrics_from_generator_output
from skyrl.train.utils.trainer_utils import validate_generator_output
from transformers import AutoTokenizer

from sentinel_env import ConfigError, ModelError
from sentinel_env.adapters.skyrl import register, save_rows, skyrl_rows
from sentinel_env.adapters.skyrl_generator import DroppingGenerator

pytestmark = pytest.mark.filterwarnings("default")
TINY = Path(__file__).parents[2] / "sentinel_train" / "tiny"
BY_NAME = {script.name: script for script in SCRIPTS}
GRADED = [script for script in SCRIPTS if script.reward is not None]
(FAULT,) = [script for script in SCRIPTS if script.reward is None]


class Engine:
    """An inference engine that says the turns of the script after which a session is called: `PROMPT_SCRIPT:REPETITION`."""

    def __init__(self, tokenizer, logprobs):
        self.tokenizer = tokenizer
        self.logprobs = logprobs
        self.said = Counter()
        self.sessions = Counter()
        self.prompts = {}

    async def generate(self, engine_input, model=None):
        (session,) = engine_input["session_ids"]
        text = in_text(BY_NAME[session.partition("_")[2].partition(":")[0]].turns[self.said[session]])
        self.said[session] += 1
        self.prompts[session] = engine_input["prompt_token_ids"][0]
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        return {
            "responses": [text],
            "response_ids": [ids],
            "stop_reasons": ["stop"],
            "response_logprobs": self.logprobs and [[-0.5] * len(ids)],
        }

    async def finish_session(self, session):
        self.sessions[session] += 1
        del self.said[session]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TINY)


def generator_of(tokenizer, kind=DroppingGenerator, **settings):
    register()
    logprobs = None if "chat_template" in settings else 1
    sampling = SamplingParams(logprobs=logprobs)
    config = GeneratorConfig(max_input_length=1_000_000, sampling_params=sampling, **{"max_turns": MAX_STEPS, **settings})
    return kind(config, SkyRLGymConfig(), Engine(tokenizer, logprobs), tokenizer)


@cache
def rows(domain):
    """By their tasks' ids, as a file would give them."""
    tasks = [script.task for script in SCRIPTS if script.domain == domain]
    return {row["task_id"]: json.dumps(row) for row in skyrl_rows(domain, tasks=tasks, user="conformance:customer", seed=SEED)}


def batch_of(scripts, repetitions=1, prompt=None):
    """Each script is a prompt; with `prompt`, all are trajectories of that one."""
    pairs = [(script, each) for script in scripts for each in range(repetitions)]
    chosen = [json.loads(rows(script.domain)[script.name]) for script, _ in pairs]
    return {
        "prompts": [row.pop("prompt") for row in chosen],
        "env_classes": [row.pop("env_class") for row in chosen],
        "env_extras": chosen,
        "sampling_params": None,
        "trajectory_ids": [TrajectoryID(prompt or script.name, f"{script.name}:{each}") for script, each in pairs],
        "batch_metadata": None,
    }


def generated(generator, batch):
    output = asyncio.run(generator.generate(batch, disable_tqdm=True))
    validate_generator_output(len(batch["prompts"]), output, step_wise=generator.generator_cfg.step_wise_trajectories)
    return output


def total(reward):
    return sum(reward) if isinstance(reward, list) else reward


MODES = {
    "messages": {},
    "one message": {"use_conversation_multi_turn": False},
    "steps": {"step_wise_trajectories": True},
    "template": {"chat_template": ChatTemplateConfig(source="name", name_or_path="qwen3_with_thinking")},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [SkyRLGymGenerator, DroppingGenerator])
def test_every_graded_script_has_its_reward(tokenizer, kind, mode):
    generator = generator_of(tokenizer, kind, **MODES[mode])
    output = generated(generator, batch_of(GRADED))
    last = [at for at, each in enumerate(output["env_metrics"]) if each]
    assert [(total(output["rewards"][at]), output["env_metrics"][at]["ending"]) for at in last] == [
        (script.reward, script.ending) for script in GRADED
    ]
    assert sum(map(total, output["rewards"])) == sum(script.reward for script in GRADED)
    assert all(sum(mask) for mask in output["loss_masks"])
    found = output["rollout_metrics"]
    assert found["environment/sentinel/mean/passed"] == pytest.approx(sum(script.reward for script in GRADED) / len(GRADED))
    assert found["environment/sentinel/lost_episodes"] == 0


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_skyrls_data_set_gives_the_rows_back(tokenizer, tmp_path, kind):
    written = [
        *skyrl_rows("library", options={}, seed=SEED),
        *skyrl_rows("retail", split="test", user={"model": "m", "base_url": "http://127.0.0.1:9/v1"})[:3],
    ]
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        save_rows(path, written)
    else:
        Dataset.from_list(written).to_parquet(path)
    read = PromptDataset([str(path)], tokenizer, max_prompt_length=1_000_000, num_workers=1)
    for at, row in enumerate(written):
        messages, env_class, extras, _ = read[at]
        assert (messages, env_class) == (row.pop("prompt"), row.pop("env_class"))
        assert {name: value for name, value in extras.items() if value is not None} == row
    register()
    env = skyrl_gym.make(env_class, extras={**read[0][2], "max_turns": MAX_STEPS})
    assert env.init(messages)[0][-1] == {"role": "user", "content": "user: Renew Dune for me."}


def test_the_chat_that_the_model_reads_is_the_dialogue(tokenizer):
    generator = generator_of(tokenizer, **MODES["template"])
    script = BY_NAME["passes-an-exchange"]
    generated(generator, batch_of([script]))
    (ids,) = generator.inference_engine_client.prompts.values()
    text = tokenizer.decode(ids)
    parts = ["You help a user under the policy", "How can I help you today?", "user: ", in_text(script.turns[0]), "tool: "]
    assert re.search(".*".join(map(re.escape, parts)), text, re.DOTALL)
    assert "user: Hello." not in text


def test_skyrls_own_generator_stops_at_a_lost_episode(tokenizer):
    with pytest.raises(ModelError, match="has no reward, its user could not answer"):
        generated(generator_of(tokenizer, SkyRLGymGenerator), batch_of([*GRADED[:2], FAULT]))


@pytest.mark.parametrize("mode", MODES)
def test_a_lost_episode_is_played_again_and_then_its_prompt_is_left_out(tokenizer, mode):
    generator = generator_of(tokenizer, **MODES[mode])
    scripts = [GRADED[0], FAULT, GRADED[4]]
    output = generated(generator, batch_of(scripts, repetitions=2))
    names = [each.instance_id for each in output["trajectory_ids"] or batch_of(scripts, repetitions=2)["trajectory_ids"]]
    for name, mask, reason in zip(names, output["loss_masks"], output["stop_reasons"], strict=True):
        assert (not sum(mask)) == (name == FAULT.name) == (reason == "error")
    assert generator.inference_engine_client.sessions == Counter(
        {f"{script.name}_{script.name}:{each}": 2 if script is FAULT else 1 for script in scripts for each in (0, 1)}
    )
    last = [at for at, each in enumerate(output["env_metrics"]) if each]
    averages = get_metrics_from_generator_output({"rewards": [output["rewards"][at] for at in last]}, [names[at] for at in last])
    assert averages["avg_score"] == pytest.approx((GRADED[0].reward + GRADED[4].reward) / 2), "the average is that of the graded"
    found = output["rollout_metrics"]
    assert (found["environment/sentinel/episodes"], found["environment/sentinel/lost_episodes"]) == (4, 2)
    assert (found["generate/num_error_trajectories"], found["generate/num_masked_instances"]) == (2, 1)


def test_all_trajectories_of_a_prompt_are_left_out_with_one(tokenizer):
    same = batch_of([GRADED[0], GRADED[4], FAULT], prompt="one")
    other = batch_of(GRADED[5:7], prompt="other")
    batch = {name: None if values is None else [*values, *other[name]] for name, values in same.items()}
    output = generated(generator_of(tokenizer), batch)
    assert [bool(sum(mask)) for mask in output["loss_masks"]] == [False, False, False, True, True]
    rewards = [total(reward) for reward in output["rewards"]]
    assert rewards[:2] == [GRADED[0].reward, GRADED[4].reward]
    assert rewards[2] == pytest.approx(sum(rewards[:2]) / 2), "in place of none: what leaves the prompt's mean as it is"


def test_nothing_but_lost_episodes_stops_the_training(tokenizer):
    with pytest.raises(ModelError, match="not one of 1 prompts has a reward"):
        generated(generator_of(tokenizer), batch_of([FAULT], repetitions=3))


def test_one_turn_of_each_episode_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"generator\.batched"):
        generated(generator_of(tokenizer, batched=True), batch_of(GRADED[:1]))
    with pytest.raises(ConfigError, match=r"generator\.max_turns is 1"):
        generated(generator_of(tokenizer, max_turns=1), batch_of(GRADED[:1]))


def test_metrics_of_batches_are_joined_as_means(tokenizer):
    generator = generator_of(tokenizer)
    outputs = [generated(generator, batch_of(scripts)) for scripts in (GRADED[:4], GRADED[4:8])]
    found = concatenate_generator_outputs(outputs)["rollout_metrics"]
    assert found["environment/sentinel/episodes"] == 8
    assert found["environment/sentinel/mean/passed"] == pytest.approx(sum(script.reward for script in GRADED[:8]) / 8)
    assert found["environment/sentinel/mean/ending/user_stop"] <= 1


def test_a_chat_that_grows_too_long_is_cut_and_has_no_reward(tokenizer):
    generator = generator_of(tokenizer)
    generator.generator_cfg.max_input_length = 200
    output = generated(generator, batch_of([BY_NAME["passes-an-exchange"]]))
    assert sum(output["rewards"][0]) == 0.0
    assert output["env_metrics"][0]["ending"] == "limit"
    assert 0 < output["env_metrics"][0]["steps"] < len(BY_NAME["passes-an-exchange"].turns)
