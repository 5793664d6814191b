import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from train_fixtures import library, make_tiny  # noqa: E402

from sentinel_env import Message, ToolCall  # noqa: E402
from sentinel_train.chat import Chat  # noqa: E402
from sentinel_train.models import load_model  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_model(make_tiny(tmp_path_factory.mktemp("tiny")), device="cpu")[1]


def user(text):
    return Message(role="user", content=text)


def tool(text, name="find_loans"):
    return Message(role="tool", content=text, name=name)


DIALOGUES = [
    [user("Renew Dune for me.")],
    [tool("Renew Dune for me.")],
    [tool("Renew"), tool("Dune for me.")],
    [tool("Renew Dune for me.", name=None)],
    [user("")],
    [user("Ein Ü, ein \ud83d\ude00 und \\ud83d")],
]


def test_what_is_asked_for_again_is_what_a_fresh_chat_says(tokenizer):
    used = Chat(tokenizer, library())
    for _ in range(2):
        for messages in DIALOGUES:
            assert used.following(messages) == Chat(tokenizer, library()).following(messages)
            assert used.opening(messages) == Chat(tokenizer, library()).opening(messages)


def test_ids_that_their_caller_changed_come_back_unchanged(tokenizer):
    chat = Chat(tokenizer, library())
    for ids_of in (chat.opening, chat.following):
        ids = ids_of([user("My card is M7.")])
        expected = list(ids)
        ids.append(0)
        assert ids_of([user("My card is M7.")]) == expected


def test_the_opening_may_hold_earlier_turns_with_calls(tokenizer):
    chat = Chat(tokenizer, library())
    said = [user("hi"), Message(role="assistant", tool_calls=(ToolCall(name="find_loans", arguments={"member_id": "M7"}),)), tool("{}")]
    other = [user("hi"), Message(role="assistant", tool_calls=(ToolCall(name="find_loans", arguments={"member_id": "M8"}),)), tool("{}")]
    assert chat.opening(said) == Chat(tokenizer, library()).opening(said) != chat.opening(other)
