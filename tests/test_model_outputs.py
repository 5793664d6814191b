"""Whatever a model sends, nothing is raised but `ModelError`, and no reward comes out wrong; see benchmarks/model_outputs.py."""

import argparse
import asyncio
import importlib.util
import json
import sys
import time
from pathlib import Path
from random import Random

import pytest

from sentinel_env import Message, evaluate, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.episode import Episode
from sentinel_env.errors import ModelError
from sentinel_env.fuzzed_responses import fuzz_response
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_answers import classed, read_answer, seconds, trouble
from sentinel_env.llm_user import LLMUser
from sentinel_env.messages import MAX_ACTION_CHARACTERS
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.runner import run_tasks
from sentinel_env.trajectory import dump_line, read_trajectories, replay
from sentinel_env.users import ScriptedUser

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "model_outputs.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("model_outputs", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def library():
    return load_domain("library")


def answer(**message):
    return {"choices": [{"message": {"role": "assistant", "content": "Yes.", **message}, "finish_reason": "stop"}]}


def call(arguments, name="renew_loan"):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


# fuzzed responses through everything


@pytest.mark.parametrize("side", ["both", "harmless"])
def test_fuzzed_responses_raise_nothing_and_change_no_reward(benchmark, side, monkeypatch):
    monkeypatch.setattr(benchmark, "TASKS", 20)
    monkeypatch.setattr(benchmark, "PER_BATCH", 20)
    options = argparse.Namespace(seed=1, share=0.4, attempts=3, concurrency=20)
    found = benchmark.through_models(side, 60, options)
    assert found["fuzzed answers"] >= 60
    assert found["episodes"].get("reward 1", 0) > 0
    assert (side == "harmless") is (set(found["episodes"]) == {"reward 1"})


def test_fuzzed_actions_raise_nothing_and_change_no_reward(benchmark):
    options = argparse.Namespace(seed=1, share=0.4)
    found = benchmark.through_text(200, options)
    assert {"reward 0", "reward 1"} == set(found["episodes"])
    assert {"unreadable", "calls", "text"} <= set(found["read as"])


def test_the_check_sees_a_wrong_reward_a_change_without_a_call_and_a_call_that_nobody_sent(benchmark, library):
    (good,) = run_tasks(library, library.split(), ScriptedAgent(), ScriptedUser())
    assert benchmark.check(library, good, None) == "reward 1"
    sent = [dump_line(good)]
    assert benchmark.check(library, good, sent) == "reward 1"
    with pytest.raises(benchmark.Violation, match="5: nobody sent"):
        benchmark.check(library, good, ["something else"])
    with pytest.raises(benchmark.Violation, match="does not replay"):
        benchmark.check(library, good.model_copy(update={"changes": {}}), None)
    with pytest.raises(benchmark.Violation, match=r"1: .* ended by KeyError"):
        benchmark.check(library, good.model_copy(update={"error": "KeyError: 'choices'"}), None)


def test_the_same_seed_gives_the_same_bytes():
    def draw(seed):
        random = Random(seed)
        return [fuzz_response(answer(), random) for _ in range(200)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


# what it found once


def test_a_dialogue_that_outgrew_its_model_replays(library):
    too_long = Reply("This model's maximum context length is 4096 tokens", status=400)
    with ModelServer(["Which loan is it?", too_long]) as server:
        (found,) = run_tasks(library, library.split(), LLMAgent(Model("tiny", base_url=server.url)), ScriptedUser())
    assert (found.ending, replay(library, found).ending) == ("limit", None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "\\ud800"}}',
        b'{"choices": [{"message": {"content": null, "refusal": "\\udfff no"}}]}',
        b'{"choices": [{"message": {"content": "Hm."}}], "usage": {"prompt_tokens": 1' + b"0" * 400 + b"}}",
        b'{"choices": [{"message": {"content": "Hm."}, "finish_reason": "\\ud800"}], "model": "\\ud800"}',
        b'{"choices": [{"message": {"content": "Hm.", "reasoning": {"a": NaN, "b": "\\ud800"}}}]}',
        b'{"choices": [{"message": {"content": "Hm.", "tool_calls": [' + b"[" * 400 + b"]" * 400 + b"]}}]}",
        b'{"choices": [{"message": {"tool_calls": [{"function": {"name": "renew_loan", "arguments": {"loan_id": NaN}}}]}}]}',
    ],
)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_an_odd_response_can_always_be_recorded_read_back_and_replayed(library, body, status, tmp_path):
    with ModelServer([Reply(body=body, status=status)]) as server:
        agent = LLMAgent(Model("tiny", base_url=server.url, attempts=1))
        (found,) = run_tasks(library, library.split(), agent, ScriptedUser(), max_steps=3, out=tmp_path)
    file = tmp_path / ("errors.jsonl" if found.error else "trajectories.jsonl")
    assert list(read_trajectories(file)) == [found]
    replay(library, found)
    assert evaluate(library, found).reward == (None if found.error else 0.0)
    assert found.changes == {}


def test_numbers_that_are_none_in_arguments_are_the_models_mistake():
    for number in (float("nan"), float("inf"), -float("inf")):
        read = read_answer(answer(tool_calls=[call({"loan_id": "L1", "weeks": [number]})]))
        assert (read.calls, "is not a JSON number" in read.problem) == ((), True)
    assert read_answer(answer(tool_calls=[call({"loan_id": "L1"})])).calls[0].arguments == {"loan_id": "L1"}


def test_parts_of_a_content_that_are_no_text_are_not_read_out():
    parts = [
        {"type": "text", "text": "Yes"},
        {"type": "text", "text": None},
        {"type": "text", "text": 7},
        {"type": "thinking", "text": "."},
    ]
    assert read_answer(answer(content=parts)).text == "Yes."
    assert Message.from_openai({"role": "user", "content": parts}).content == "Yes."


@pytest.mark.parametrize("count", [10**400, -1, 1.5, "7", True, None, [], {}])
def test_a_count_of_tokens_that_is_none_is_left_to_the_reader(count):
    read = read_answer(answer() | {"usage": {"prompt_tokens": count, "completion_tokens": 3}})
    assert (read.prompt_tokens, read.completion_tokens) == (None, 3)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "Fri, 31 Dec 9999 23:59:59 -2300", "", "\xe9"])
def test_a_wait_that_cannot_be_kept_is_none(value):
    assert seconds(value) is None


def test_an_error_of_any_words_can_be_written_to_a_file():
    for text in ('{"error": {"message": "\\ud800"}}', '{"error": null}', "[" * 3000, "\x00"):
        str(trouble(503, text, {})).encode()
    read_answer(answer(refusal="\ud800")).text.encode()


def test_trouble_of_ones_own_models_can_be_recorded_in_any_words(library, tmp_path):
    class Odd(ScriptedUser):
        def reply(self, view):
            raise ModelError("no \ud800 line")

    (found,) = run_tasks(library, library.split(), ScriptedAgent(), Odd(), out=tmp_path)
    assert list(read_trajectories(tmp_path / "errors.jsonl")) == [found]
    str(classed(RuntimeError("a context window of \ud800"))).encode()
    str(classed(type("ContextWindowExceededError", (Exception,), {})("\ud800"))).encode()


@pytest.mark.parametrize("refusal", [None, "", " ", True, 7, [None], {"a": 1}])
def test_a_refusal_without_words_is_none(refusal):
    assert read_answer(answer(refusal=refusal)).text == "Yes."


def test_an_answer_of_nothing_but_blanks_is_read_at_once():
    """Looking for the end of a thought from each of a million blanks would take hours."""
    began = time.process_time()
    assert read_answer(answer(content=" " * 1_000_000)).is_empty
    assert read_answer(answer(content=" " * 1_000_000 + "a</think>Yes.")).text == "Yes."
    assert time.process_time() - began < 30


def test_a_customer_that_talks_without_end_is_trouble_and_no_turn(library):
    async def ask(url):
        async with Model("tiny", base_url=url) as model:
            await LLMUser(model).reply(Episode(library, library.split()[0]).user_view())

    with ModelServer(["x" * (MAX_ACTION_CHARACTERS + 1)]) as server, pytest.raises(ModelError, match="at most 100,000 are heard") as caught:
        asyncio.run(ask(server.url))
    assert caught.value.kind == "malformed"


def test_a_body_goes_out_as_it_is(library):
    with ModelServer([Reply("words", body=json.dumps(answer(content="bytes")).encode(), headers={"Content-Type": "x"})]) as server:

        async def ask():
            async with Model("tiny", base_url=server.url) as model:
                return await model.complete([Message(role="user", content="Hello")])

        assert asyncio.run(ask()).text == "bytes"
