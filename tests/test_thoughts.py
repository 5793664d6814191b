"""Thoughts that a server leaves in a model's text: the same as for `LLMAgent`, whichever way the text comes."""

import asyncio

import pytest

from sentinel_env import Message, ScriptedUser, load_domain
from sentinel_env.adapters.seat import Seat
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.model_server import ModelServer
from sentinel_env.thoughts import read_text, without_thought

CALL = '{"name": "find_loans", "arguments": {"member_id": "M7"}}'
TEXTS = [
    "Shall I go ahead?",
    "<think>They want Dune.</think>Shall I go ahead?",
    "\n<think>\nThey want Dune.\n</think>\n\nShall I go ahead?",
    "They want Dune.\n</think>\n\nShall I go ahead?",
    f"They want Dune.</think>\n{CALL}",
    f"<think>Or {CALL}?</think>\n<tool_call>\n{CALL}\n</tool_call>",
    "<think>They want Dune, and",
    f"<think>They want <tool_call>{CALL}</tool_call>",
    "<think>a</think>",
    "</think>",
    "",
]


def as_asked(text):
    """What `LLMAgent` makes of a server's text."""
    pytest.importorskip("aiohttp", reason="a model behind a URL needs the extra endpoint")
    seat = Seat(domain := load_domain("library"), domain.split()[0], ScriptedUser())
    seat.open_now()

    async def ask(url):
        async with Model("any", base_url=url) as model:
            return await LLMAgent(model).act(seat.episode.agent_view())

    with ModelServer([text]) as server:
        read = asyncio.run(ask(server.url))
    return read.content, [(call.name, call.arguments) for call in read.tool_calls], read.problem


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_means_what_it_means_to_a_model_behind_a_url(text):
    read = read_text(text)
    assert (read.content, [(call.name, call.arguments) for call in read.tool_calls], read.problem) == as_asked(text)


@pytest.mark.parametrize("text", TEXTS)
def test_a_user_hears_no_thoughts(text):
    seat = Seat(domain := load_domain("library"), domain.split()[0], ScriptedUser())
    seat.open_now()
    seat.act_now(without_thought(Message(role="assistant", content=text)))
    assert not any("think>" in message.content or "want Dune" in message.content for message in seat.episode.spoken[1:])


def test_a_mark_inside_an_action_is_no_thought():
    for text in (
        '{"name": "find_loans", "arguments": {"member_id": "</think>"}}',
        '<tool_call>{"name": "find_loans", "arguments": {"member_id": "</think>"}}</tool_call>',
    ):
        (call,) = read_text(text).tool_calls
        assert call.arguments == {"member_id": "</think>"}


def test_calls_beside_a_thought_stay():
    calls = [{"id": "a", "function": {"name": "find_loans", "arguments": "{}"}}]
    for text in ("<think>So", "<think>So</think>"):
        read = without_thought(Message.from_openai({"role": "assistant", "content": text, "tool_calls": calls}))
        assert (read.content, read.problem, read.tool_calls[0].name) == ("", None, "find_loans")
    bad = Message(role="assistant", content="<think>So", problem="the call is none")
    assert without_thought(bad).problem == "the call is none"


@pytest.mark.parametrize("text", [None, 7, "x" * 200_000, "<think>" + "x" * 200_000])
def test_what_is_no_text_or_too_much_is_told(text):
    assert read_text(text).problem


def test_a_text_that_is_too_long_is_so_in_either_form():
    told = without_thought(Message(role="assistant", content="x" * 100_001))
    assert (told.problem, len(told.content)) == (read_text("x" * 100_001).problem, 1000)
    assert without_thought(Message(role="assistant", content="x" * 100_000)).problem is None
    assert without_thought(Message(role="assistant", content="<think>" + "x" * 200_000 + "</think>Yes.")).content == "Yes."


def test_a_long_thought_is_not_counted():
    assert read_text("<think>" + "x" * 200_000 + "</think>Yes.").content == "Yes."
