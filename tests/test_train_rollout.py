import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from train_fixtures import Brief, library, make_tiny  # noqa: E402

from sentinel_env import ConfigError, Episode, Message, ToolCall, evaluate, record  # noqa: E402
from sentinel_train.chat import Chat  # noqa: E402
from sentinel_train.config import SamplingConfig, TrainConfig  # noqa: E402
from sentinel_train.models import load_model  # noqa: E402
from sentinel_train.rollout import roll_out  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
SAMPLING = SamplingConfig(max_turn_tokens=12, max_episode_tokens=300, max_steps=6, max_errors=6)
RECORDING = SamplingConfig(temperature=0.0, max_turn_tokens=100, max_episode_tokens=1000)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(tiny):
    return load_model(tiny, device="cpu")


@pytest.fixture
def chat(loaded):
    return Chat(loaded[1], library())


class Recorded:
    """Stands for a model: it writes what was recorded, whatever it reads."""

    device = "cpu"

    def __init__(self, ids, vocabulary):
        self.ids = list(ids)
        self.vocabulary = vocabulary
        self.read = []

    def __call__(self, *, input_ids, **_):
        self.read.extend(input_ids[0].tolist())
        logits = torch.zeros(1, 1, self.vocabulary)
        logits[0, 0, self.ids.pop(0)] = 3.0
        return type("Output", (), {"logits": logits})


def episodes(count, task_at=0, **limits):
    domain = library()
    task = domain.split()[task_at]
    return [
        Episode(domain, task, seed=at, **({"max_steps": SAMPLING.max_steps, "max_errors": SAMPLING.max_errors} | limits))
        for at in range(count)
    ]


def play(loaded, chat, count=4, sampling=SAMPLING, seed=0, **limits):
    generator = torch.Generator().manual_seed(seed)
    return roll_out(episodes(count, **limits), Brief(), chat, loaded[0], sampling, generator=generator)


RECORDED = (
    Message(role="assistant", content="May I have your card number, please?"),
    Message(role="assistant", tool_calls=(ToolCall(name="renew_loan", arguments={"loan_id": "L1"}),)),
    Message(role="assistant", content="Renewed for two weeks."),
)


def test_what_is_trained_on_is_the_dialogue_token_by_token(loaded, chat):
    turns = [chat.spell(message) for message in RECORDED]
    model = Recorded([token for ids in turns for token in ids], len(loaded[1]))
    (rollout,) = roll_out(episodes(1), Brief(), chat, model, RECORDING, generator=None)
    messages = rollout.episode.messages
    answers = [chat.following([messages[3]]), chat.following([messages[5]])]
    assert [message.role for message in messages] == ["assistant", "user", "assistant", "user", "assistant", "tool", "assistant", "user"]
    assert rollout.prompt_ids == chat.opening(messages[:2])
    assert rollout.completion_ids == [*turns[0], *answers[0], *turns[1], *answers[1], *turns[2]]
    assert rollout.mask == [
        *([1] * len(turns[0])),
        *([0] * len(answers[0])),
        *([1] * len(turns[1])),
        *([0] * len(answers[1])),
        *([1] * len(turns[2])),
    ]
    expected = torch.tensor([3.0, *([0.0] * (len(loaded[1]) - 1))]).log_softmax(0)[0].item()
    assert rollout.logprobs == pytest.approx([expected * kept for kept in rollout.mask])
    assert model.read == rollout.prompt_ids + rollout.completion_ids[:-1]
    assert evaluate(library(), record(rollout.episode)).passed


def test_sampled_log_probabilities_are_those_of_the_whole_dialogue_in_one_pass(loaded, chat):
    model, _ = loaded
    for rollout in play(loaded, chat, count=6):
        ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
        with torch.no_grad():
            chances = model(ids).logits.log_softmax(-1)[0]
        start = len(rollout.prompt_ids)
        whole = [
            chances[start + at - 1, token].item() * kept
            for at, (token, kept) in enumerate(zip(rollout.completion_ids, rollout.mask, strict=True))
        ]
        assert rollout.logprobs == pytest.approx(whole, abs=1e-4)


def test_the_same_seed_gives_the_same_rollouts(loaded, chat):
    first, second, other = play(loaded, chat), play(loaded, chat), play(loaded, chat, seed=1)
    assert [rollout.completion_ids for rollout in first] == [rollout.completion_ids for rollout in second]
    assert [rollout.completion_ids for rollout in first] != [rollout.completion_ids for rollout in other]


def test_an_episode_without_room_for_another_turn_is_truncated_and_earns_nothing(loaded, chat):
    sampling = SAMPLING.model_copy(update={"max_episode_tokens": 30})
    rollouts = play(loaded, chat, sampling=sampling)
    assert all(rollout.length <= 30 for rollout in rollouts)
    assert any(rollout.episode.truncated for rollout in rollouts)
    assert all(evaluate(library(), record(rollout.episode)).reward == 0.0 for rollout in rollouts)


def test_a_limit_of_turns_truncates(loaded, chat):
    assert all(rollout.episode.truncated for rollout in play(loaded, chat, max_steps=1))


def test_a_prompt_that_leaves_no_room_is_truncated_before_the_first_turn(loaded, chat):
    (rollout,) = play(loaded, chat, count=1, sampling=SAMPLING.model_copy(update={"max_episode_tokens": 13}))
    assert rollout.episode.truncated
    assert rollout.completion_ids == []


def test_an_unreadable_call_becomes_an_observation(loaded, chat):
    broken = [*loaded[1].encode('<tool_call>\n{"name": "renew_loan"', add_special_tokens=False), chat.end_id]
    model = Recorded([*broken, *chat.spell(RECORDED[2]), *chat.spell(RECORDED[2])], len(loaded[1]))
    (rollout,) = roll_out(episodes(1), Brief(), chat, model, RECORDING, generator=None)
    assert rollout.episode.messages[3].content == "Error: a <tool_call> has no closing </tool_call>"
    assert rollout.episode.terminated


def test_a_turn_that_is_cut_is_closed_by_a_token_that_is_not_trained_on(loaded, chat):
    rollout = next(rollout for rollout in play(loaded, chat) if sum(rollout.mask[:13]) == 12)
    assert rollout.completion_ids[12] == chat.end_id
    assert rollout.mask[:13] == [*([1] * 12), 0]


def test_what_is_sampled_is_read_as_it_would_be_written(chat):
    for message in RECORDED:
        assert chat.parse(chat.spell(message)) == message


def test_a_model_without_a_chat_template_is_refused(loaded):
    tokenizer = load_model_tokenizer(loaded)
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="has no chat template"):
        Chat(tokenizer, library())


def test_a_chat_template_without_tool_calls_is_refused(loaded):
    tokenizer = load_model_tokenizer(loaded)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}"
    with pytest.raises(ConfigError, match="does not render tool calls"):
        Chat(tokenizer, library())


def load_model_tokenizer(loaded):
    import copy

    return copy.deepcopy(loaded[1])


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(ConfigError, match="unknown setting 'learning_rates'"):
        TrainConfig.of({"model": "tiny", "learning_rates": 1})


def test_a_bad_setting_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"setting 'sampling.temperature': .*greater than or equal to 0"):
        TrainConfig.of({"model": "tiny", "sampling": {"temperature": -1}})
