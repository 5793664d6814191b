"""The scripted episodes through TRL's own GRPOTrainer: its prompts, its parser, its tool loop and rewards. Only the tokens are scripted."""

import json
import math
from functools import cache

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed; `make test-adapters` runs this")
pytest.importorskip("trl", reason="the extra `train` is not installed; `make test-adapters` runs this")

from conformance import MAX_STEPS, SCRIPTS, SEED, called, calls_of, customer, in_text, library, retail  # noqa: E402

from sentinel_train.dataset import to_dataset  # noqa: E402
from sentinel_train.facade import OVER, make_rollout_class  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
BY_NAME = {script.name: script for script in SCRIPTS}
UNREADABLE = "passes-after-malformed-actions"
"""A call that TRL cannot read is a turn without a call to it, and ends the rollout."""
each_script = pytest.mark.parametrize("script", [each for each in SCRIPTS if each.name != UNREADABLE], ids=lambda script: script.name)


def spelled(turn):
    """A turn as a model writes it that speaks to the user by `message_user`."""
    return in_text(turn if turn.get("tool_calls") else called("message_user", {"message": turn["content"]}))


@cache
def tokenizer():
    """One token a byte, with Qwen's template, whose calls TRL knows how to read."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl.chat_template_utils import qwen2_5_chat_template

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    made.chat_template = qwen2_5_chat_template
    return made


@cache
def trainer(name):
    """The real one, over a Llama of some bytes that is never asked."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    domain = WORLDS[name]()
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 2**20}
    marks = {"eos_token_id": tokenizer().eos_token_id, "pad_token_id": tokenizer().pad_token_id}
    args = GRPOConfig(
        output_dir="unused",
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=2**19,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
    )
    made = GRPOTrainer(
        model=LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer()), **sizes, **marks)),
        args=args,
        train_dataset=to_dataset(domain, domain.split()),
        processing_class=tokenizer(),
        environment_factory=make_rollout_class(domain, customer, seed=SEED, max_steps=MAX_STEPS),
    )
    made.model.train()
    return made


WORLDS = {"retail": retail, "library": library}


def rolled_out(script, turns):
    """Play turns twice in one group; the two environments, what TRL logged as their rewards, and the dialogues that it kept."""
    name = script.task.domain
    trl, lines = trainer(name), iter([*map(spelled, turns), *["Goodbye."] * 3])

    def speak(prompt_ids, *given, **named):
        ids = [*tokenizer().encode(next(lines), add_special_tokens=False), tokenizer().eos_token_id]
        return [list(ids) for _ in prompt_ids], None

    trl._generate_single_turn = speak
    row = to_dataset(WORLDS[name](), [script.task])[0]
    trl._generate_and_score_completions([dict(row), dict(row)])
    (rewards,) = trl._logs["rewards"].values()
    return trl.environments, list(rewards)[-2:], list(trl._logs["completion"])[-2:]


def came(environment):
    return environment.get_reward(), environment.episode.ending, environment.episode.db.changes()


@each_script
def test_a_script_comes_out_as_everywhere(script):
    environments, rewards, _ = rolled_out(script, script.turns)
    assert [came(each) for each in environments] == [script.expected] * 2
    assert [None if math.isnan(reward) else reward for reward in rewards] == [script.reward] * 2


def test_a_call_that_trl_cannot_read_ends_the_rollout_and_is_in_no_record():
    script = BY_NAME[UNREADABLE]
    environments, rewards, _ = rolled_out(script, script.turns)
    assert [came(each) for each in environments] == [(0.0, "limit", {})] * 2
    assert rewards == [0.0, 0.0]
    assert environments[0].episode.errors == 0


def test_the_other_malformed_calls_are_answered_and_the_episode_passes():
    script = BY_NAME[UNREADABLE]
    turns = [turn for turn in script.turns if not any(arguments == '{"order_id": ' for _, _, arguments in calls_of(turn))]
    assert len(turns) == len(script.turns) - 1
    environments, rewards, dialogues = rolled_out(script, turns)
    assert [came(each) for each in environments] == [script.expected] * 2
    assert rewards == [1.0, 1.0]
    answered = json.dumps(dialogues)
    assert "Tool delete_everything not found." in answered
    assert "argument after ** must be a mapping, not list" in answered
    assert environments[0].episode.errors == 4  # the two that TRL answers are none of the episode's


def test_calls_after_the_end_are_answered_that_it_is_over_and_change_nothing():
    script = BY_NAME["passes-in-the-library"]
    more = [called("renew_loan", {"loan_id": "L2"}), called("message_user", {"message": "One more thing?"})]
    environments, _, dialogues = rolled_out(script, [*script.turns, *more])
    assert came(environments[0]) == script.expected
    assert json.dumps(dialogues[0]).count(OVER) == 3
