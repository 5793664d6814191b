"""What an agent's text means, and OpenAI's form of a message."""

import json

import pytest
from pydantic import ValidationError

from sentinel_env import Message, ToolCall, parse_action
from sentinel_env.messages import MAX_ACTION_CHARACTERS, MAX_CALLS, MAX_DEPTH, clean

CALL = '{"name": "f", "arguments": {"a": 1}}'
F = ToolCall(name="f", arguments={"a": 1})
G = ToolCall(name="g")


@pytest.mark.parametrize(
    ("text", "calls", "content"),
    [
        (CALL, [F], ""),
        (f"  \n{CALL}\n", [F], ""),
        (f"[{CALL}, {{'name': 'g'}}]".replace("'", '"'), [F, G], ""),
        ('{"name": "g"}', [G], ""),
        ('{"name": "g", "arguments": null}', [G], ""),
        ('{"name": "g", "arguments": ""}', [G], ""),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', [F], ""),
        ('{"function": {"name": "f", "arguments": {"a": 1}}}', [F], ""),
        ('{"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}]}', [F], ""),
        ('{"id": "c7", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}', [F.model_copy(update={"id": "c7"})], ""),
        (f"```json\n{CALL}\n```", [F], ""),
        (f"```\n{CALL}\n```", [F], ""),
        (f"<tool_call>\n{CALL}\n</tool_call>", [F], ""),
        (f"Let me look.\n<tool_call>{CALL}</tool_call>\n<tool_call>[{CALL}]</tool_call> Done.", [F, F], "Let me look.\n\n Done."),
        (f"<think>Which one? <b></think>\n{CALL}", [F], ""),
        ("<think>Say hello.</think>\n\nHello!", [], "Hello!"),
        ("Hello!", [], "Hello!"),
        ("Yes (ok)", [], "Yes (ok)"),
        ("cancel(order_id='#W1')", [], "cancel(order_id='#W1')"),
        ("[sic] that is how it is", [], "[sic] that is how it is"),
        ("[1, 2]", [], "[1, 2]"),
        ("[]", [], "[]"),
        ("{}", [], "{}"),
        ('{"answer": 42}', [], '{"answer": 42}'),
        ("{curly} brackets", [], "{curly} brackets"),
        ("null", [], "null"),
        ("42", [], "42"),
        (f"Here it is: {CALL}", [], f"Here it is: {CALL}"),
        ("", [], ""),
        ("   ", [], "   "),
        ("</tool_call>", [], "</tool_call>"),
        ("a lone \ud800 surrogate", [], "a lone ? surrogate"),
        ('{"name": "g", "id": "\\ud800"}', [ToolCall(name="g", id="?")], ""),
        ('{"name": "g", "arguments": {"\\ud800": ["\\udfff"]}}', [ToolCall(name="g", arguments={"?": ["?"]})], ""),
    ],
)
def test_text_is_calls_or_words(text, calls, content):
    message = parse_action(text)
    assert (message.role, list(message.tool_calls), message.content, message.problem) == ("assistant", calls, content, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '{"name": "f", "arguments": {',
            "the tool call is not valid JSON: Expecting property name enclosed in double quotes at character 28",
        ),
        ("{'name': 'f'}", None),
        ('{"name": "f"} and more', "the tool call is not valid JSON: Extra data at character 14"),
        ('{"name": "f", "arguments": {"a": NaN}}', "the tool call is not valid JSON: NaN is not a JSON number"),
        ('{"name": "f", "arguments": {"a": -Infinity}}', "the tool call is not valid JSON: -Infinity is not a JSON number"),
        ('{"name": "f", "arguments": {"a": 1e999}}', "the tool call is not valid JSON: 1e999 is too large for a number"),
        ('{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}", "the tool call is not valid JSON: Exceeds the limit"),
        ('{"name": "f", "arguments": ' + '{"a":' * 15_000, "the tool call is not valid JSON: "),
        (
            '{"name": "f", "arguments": [1]}',
            'the arguments of f are a JSON object, found list; expected {"name": "tool", "arguments": {...}}',
        ),
        ('{"name": "f", "arguments": "a=1"}', "the tool call is not valid JSON: Expecting value at character 0"),
        ('{"name": "\\ud800", "arguments": 3}', "the arguments of ? are a JSON object, found int"),
        ('{"name": 3}', "the tool call has no name"),
        ('{"name": "", "arguments": {}}', "the tool call has no name"),
        ('{"arguments": {"a": 1}}', "the tool call has no name"),
        ('{"tool_calls": [7]}', "a tool call is a JSON object, found int"),
        ('{"tool_calls": {"name": "f"}}', "the tool call has no name"),
        (f"[{CALL}, 7]", "a tool call is a JSON object, found int"),
        (f"[{', '.join([CALL] * (MAX_CALLS + 1))}]", f"33 tool calls in one message; at most {MAX_CALLS} are run"),
        ("<tool_call>", "a <tool_call> has no closing </tool_call>"),
        (f"<tool_call>{CALL}</tool_call><tool_call>{CALL}", "a <tool_call> has no closing </tool_call>"),
        ("<tool_call></tool_call>", "the tool call is not valid JSON: Expecting value at character 0"),
        ("<tool_call>f(1)</tool_call>", "the tool call is not valid JSON: Expecting value at character 0"),
        ("x" * (MAX_ACTION_CHARACTERS + 1), "the message has 100,001 characters; at most 100,000 are read"),
        (None, "an action is text, found NoneType"),
        (b"{}", "an action is text, found bytes"),
        (7, "an action is text, found int"),
    ],
)
def test_what_should_have_been_a_call_says_why_it_is_none(text, problem):
    message = parse_action(text)
    assert message.tool_calls == ()
    assert (message.problem is None) == (problem is None)
    assert (message.problem or "").startswith(problem or "")


def test_arguments_are_nested_at_most_so_deep():
    def nested(depth):
        return json.dumps({"name": "f", "arguments": {"a": json.loads("[" * depth + "]" * depth)}})

    assert parse_action(nested(MAX_DEPTH - 1)).tool_calls
    assert parse_action(nested(MAX_DEPTH)).problem == f"the arguments of f are nested deeper than {MAX_DEPTH} levels"


@pytest.mark.parametrize(
    "text",
    ["```" + "\n" * 99_000 + "x", "<tool_call>{}" * 7_000, "<think>" * 14_000, " " * 99_999 + "{", "</tool_call><tool_call>" * 4_000],
)
def test_reading_takes_linear_time(text):
    """Quadratic time would keep this test busy for minutes."""
    assert parse_action(text).tool_calls == ()


def test_reading_the_same_text_twice_shares_nothing_that_can_change():
    first, second = parse_action(CALL), parse_action(CALL)
    first.tool_calls[0].arguments["a"] = 2
    assert second.tool_calls[0].arguments == {"a": 1}


# OpenAI's form


@pytest.mark.parametrize(
    "message",
    [
        Message(role="system", content="Be kind."),
        Message(role="user", content="é 🙂"),
        Message(role="assistant", content="Hello"),
        Message(role="assistant", content="Wait.", tool_calls=(ToolCall(name="f", arguments={"a": [1, None, "é"]}, id="c1"),)),
        Message(role="assistant", tool_calls=(ToolCall(name="f", id="c1"), ToolCall(name="g", id="c2"))),
        Message(role="tool", content="{}", tool_call_id="c1", name="f"),
    ],
)
def test_messages_survive_the_way_through_openais_form(message):
    raw = json.loads(json.dumps(message.to_openai()))
    assert Message.from_openai(raw) == message


def test_openai_content_may_be_null_or_parts():
    assert Message.from_openai({"role": "assistant", "content": None}).content == ""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert Message.from_openai({"role": "user", "content": parts}).content == "ab"


def test_an_openai_call_that_cannot_be_read_is_a_problem_and_no_exception():
    raw = {"role": "assistant", "content": "x", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}
    message = Message.from_openai(raw)
    assert message.tool_calls == ()
    assert message.problem.startswith("the tool call is not valid JSON")


def test_an_unknown_role_is_refused():
    with pytest.raises(ValidationError, match="role"):
        Message.from_openai({"role": "robot", "content": "x"})


def test_calls_without_an_id_are_given_one_and_the_answer_to_none_is_a_users():
    calls = Message(role="assistant", tool_calls=(F, G)).to_openai()["tool_calls"]
    assert [call["id"] for call in calls] == ["call_0", "call_1"]
    assert Message(role="tool", content="Error: unreadable").to_openai() == {"role": "user", "content": "Error: unreadable"}


def test_messages_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Message(role="user").content = "x"


def test_clean_text_can_always_be_encoded():
    assert clean("a\ud800b\U0001f642") == "a?b🙂"
    assert clean("é") == "é"
