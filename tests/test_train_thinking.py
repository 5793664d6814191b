"""Dialogues with models that think: Qwen3's tool format, by TRL's own templates and a tokenizer made as Qwen's is.

The stand-in has Qwen's pipeline (NFC, its pre-tokenisation, byte-level BPE) and its added tokens with their flags, of which `<think>` and
`<tool_call>` are not special; only its merges are few, because they are learnt from a text of this test.
"""

import json

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402
from train_fixtures import Brief, library  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402
from trl.chat_template_utils import qwen3_chat_template, qwen3_training_chat_template  # noqa: E402

from sentinel_env import ConfigError, Episode, Message, ToolCall, evaluate, record  # noqa: E402
from sentinel_train.chat import Chat  # noqa: E402
from sentinel_train.config import SamplingConfig  # noqa: E402
from sentinel_train.generate import Turn  # noqa: E402
from sentinel_train.rollout import roll_out  # noqa: E402
from sentinel_train.solver import demonstrate  # noqa: E402

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # Qwen's own
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ORDINARY = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
THINKING = qwen3_chat_template.replace(  # Qwen3-Thinking-2507 begins every turn of the model inside its reasoning
    qwen3_chat_template[qwen3_chat_template.rindex("{%- if add_generation_prompt %}") :],
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}",
)
SAMPLING = SamplingConfig(max_turn_tokens=200, max_episode_tokens=8000)
TURNS = (
    ("They want Dune renewed; <tool_call> needs the card first.", "May I have your card number, please?"),
    ("M7 has L1.\n\nRenew it.", '<tool_call>\n{"name": "renew_loan", "arguments": {"loan_id": "L1"}}\n</tool_call>'),
    ("Done.", "Renewed for two weeks."),
)


def tokenizer(template):
    tokens = Tokenizer(models.BPE())
    tokens.normalizer = normalizers.NFC()
    tokens.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokens.train_from_iterator([library().policy, json.dumps(library().schemas)], trainer)
    tokens.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokens.add_tokens([AddedToken(token, special=False, normalized=False) for token in ORDINARY])
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template)


@pytest.fixture(scope="module", params=["qwen3", "thinking"])
def chat(request):
    return Chat(tokenizer({"qwen3": qwen3_chat_template, "thinking": THINKING}[request.param]), library())


def written(chat, thought, said):
    """A turn as the model samples it: where the prompt opened the reasoning, it goes on from there."""
    text = f"{thought}\n</think>\n\n{said}"
    return [*chat.tokenizer.encode(text if chat.thinks else f"<think>\n{text}", add_special_tokens=False), chat.end_id]


class Recorded:
    """Takes recorded turns, and keeps what it was given."""

    def __init__(self, turns):
        self.turns = list(turns)
        self.ids = []

    def take(self, appended):
        (row,) = appended
        ids = self.turns.pop(0)
        self.ids += [*appended[row], *ids]
        return {row: Turn(ids, [-1.0] * len(ids))}


def play(chat):
    turns = Recorded([written(chat, *turn) for turn in TURNS])
    episode = Episode(library(), library().split()[0])
    (rollout,) = roll_out([episode], Brief(), chat, None, SAMPLING, generator=None, turns=turns)
    return rollout, turns


def test_the_prompt_holds_the_policy_and_every_tool_as_qwen_writes_them(chat):
    text = chat.tokenizer.decode(chat.opening([Message(role="user", content="Renew Dune.")]))
    system, rest = text.split("<|im_end|>", 1)
    assert system.startswith("<|im_start|>system\n" + library().policy)
    listed = system.split("<tools>\n")[1].split("\n</tools>")[0]
    assert [json.loads(line) for line in listed.splitlines()] == library().schemas
    assert rest == "\n<|im_start|>user\nRenew Dune.<|im_end|>\n<|im_start|>assistant\n" + "<think>\n" * chat.thinks


def test_whether_a_turn_begins_inside_the_reasoning_is_read_from_the_template():
    assert not Chat(tokenizer(qwen3_chat_template), library()).thinks
    assert Chat(tokenizer(THINKING), library()).thinks


def test_reasoning_is_neither_heard_nor_run(chat):
    said, call, _ = (chat.parse(written(chat, *turn)) for turn in TURNS)
    assert said == Message(role="assistant", content="May I have your card number, please?")
    assert call == Message(role="assistant", tool_calls=(ToolCall(name="renew_loan", arguments={"loan_id": "L1"}),))


def test_a_thought_that_is_cut_is_not_heard(chat):
    text = "The customer must not hear this" if chat.thinks else "<think>\nThe customer must not hear this"
    message = chat.parse(chat.tokenizer.encode(text, add_special_tokens=False))
    assert message.content == ""
    assert message.problem.startswith("the message ended before </think>")


def test_a_dialogue_with_reasoning_passes_and_the_user_heard_none_of_it(chat):
    rollout, _ = play(chat)
    assert evaluate(library(), record(rollout.episode)).passed
    assert not any(thought in message.content for message in rollout.episode.messages for thought, _ in TURNS)


def test_what_the_model_sees_at_a_turn_begins_with_all_that_was_there_before(chat):
    rollout, turns = play(chat)
    assert turns.ids == rollout.prompt_ids + rollout.completion_ids
    kept = [token for token, mask in zip(rollout.completion_ids, rollout.mask, strict=True) if mask]
    assert kept == [token for turn in TURNS for token in written(chat, *turn)]


def test_the_ids_are_those_of_trls_training_template_for_the_whole_dialogue(chat):
    """TRL's training variant renders reasoning in every turn; what we put together turn by turn is the same, token by token."""
    rollout, _ = play(chat)
    rows = [{"role": "system", "content": library().policy}]
    thoughts = iter(TURNS)
    for message in rollout.episode.messages[: -1 if rollout.episode.messages[-1].role == "user" else None]:
        row = {"role": message.role, "content": message.content}
        if message.role == "assistant" and message is not rollout.episode.messages[0]:
            row["reasoning_content"] = next(thoughts)[0]
            row["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls]
        rows.append(row)
    greeting = chat.tokenizer.apply_chat_template(
        rows, tools=library().schemas, tokenize=False, chat_template=qwen3_training_chat_template
    ).replace("assistant\n<think>\n\n</think>\n\n", "assistant\n", 1)  # the greeting, which nobody thought about
    ours = rollout.prompt_ids + rollout.completion_ids
    assert [*ours, *chat.tokenizer.encode("\n")] == chat.tokenizer.encode(greeting, add_special_tokens=False)


def test_a_demonstration_closes_the_reasoning_that_the_prompt_opened(chat):
    from sentinel_env.agents import ScriptedAgent

    task = library().split()[0]
    rollout = demonstrate(Episode(library(), task), ScriptedAgent(tasks=(task,)), Brief(), chat)
    text = chat.tokenizer.decode(rollout.prompt_ids + rollout.completion_ids)
    assert text.count("<think>") == text.count("<think>\n\n</think>\n\n") == rollout.episode.steps * chat.thinks


def test_a_template_that_refuses_tools_is_refused_with_what_to_do():
    template = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
    with pytest.raises(ConfigError, match=r"refuses a tool call and its answer \(roles must alternate\); .*sentinel_train.prepare"):
        Chat(tokenizer(template), library())


def test_smollm2s_own_template_without_tools_is_refused_with_what_to_do():
    template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    with pytest.raises(ConfigError, match=r"does not render tool calls with their arguments and answers; .*--template qwen2_5"):
        Chat(tokenizer(template), library())
