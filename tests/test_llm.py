"""The seam to models over real HTTP: every fault has its kind, nothing waits or costs more than was said, and no key gets out."""

import asyncio
import importlib.util
import json
import logging
import re
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random

import pytest

from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.llm import Completion, Model, ModelMessage
from sentinel_env.llm_answers import classed, read_answer, seconds, without_keys
from sentinel_env.llm_attempts import Patience
from sentinel_env.llm_budget import Budget, Usage
from sentinel_env.messages import Message, ToolCall
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.server_faults import WIRE_FAULTS

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
KEY = "sk-canary-4f1d9a7e2b"
HELLO = (Message(role="user", content="Hello there"),)
needs_litellm = pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="litellm (extra: llm) is not installed")


def ask(model: Model, **options) -> Completion:
    async def once() -> Completion:
        async with model:
            return await model.complete(HELLO, **options)

    return asyncio.run(once())


def trouble(model: Model, **options) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(model, **options)
    return caught.value


def test_an_answer_comes_with_its_usage_and_cost():
    with ModelServer([Reply("Good day", usage=(1000, 200))]) as server:
        answer = ask(Model("tiny", base_url=server.url, prices=(2.0, 10.0)), temperature=0.5, seed=7, max_tokens=50)
        (request,) = server.requests
    assert (answer.text, answer.model, answer.finish) == ("Good day", "tiny", "stop")
    assert answer.usage == Usage(calls=1, prompt_tokens=1000, completion_tokens=200, cost=0.004)
    assert request["messages"] == [{"role": "user", "content": "Hello there"}]
    assert (request["temperature"], request["seed"], request["max_tokens"]) == (0.5, 7, 50)


FAULTS = {
    "rate": Reply("slow down", status=429, retry_after=0.01),
    "timeout": Reply(fault="hang"),
    "server": Reply("boom", status=500),
    "malformed": Reply(fault="cut"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_passing_fault_is_asked_again_and_leaves_the_answer(kind):
    with ModelServer([FAULTS[kind], "Good day"]) as server:
        answer = ask(Model("tiny", base_url=server.url, timeout=2.0 if kind == "timeout" else 60.0))
    assert (answer.text, answer.usage.calls, answer.usage.failed) == ("Good day", 2, 1)


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (FAULTS["rate"], "rate", "HTTP 429: slow down"),
        (FAULTS["timeout"], "timeout", "no answer within 0.3 s"),
        (FAULTS["server"], "server", "HTTP 500: boom"),
        (FAULTS["malformed"], "malformed", "the answer was cut"),
        (Reply(fault="not_json"), "malformed", "no JSON: '<html>Bad gateway"),
        (Reply(fault="no_choices"), "malformed", "no chat completion"),
        (Reply(""), "malformed", "the answer is empty; finish reason stop"),
        (Reply("", finish="length"), "malformed", "the answer is empty; it was cut at max_tokens"),
    ],
)
def test_a_lasting_fault_ends_with_its_kind_after_the_last_attempt(reply, kind, says):
    with ModelServer([reply]) as server:
        error = trouble(Model("tiny", base_url=server.url, timeout=0.3 if kind == "timeout" else 60.0, attempts=2))
        assert kind == "timeout" or len(server.requests) == 2
    assert error.kind == kind
    assert str(error).startswith(f"model tiny: {says}" if kind != "malformed" else "model tiny: the answer")
    assert says in str(error)
    assert str(error).endswith("(asked 2 times)")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("This model's maximum context length is 4096 tokens", status=400), "context"),
        (Reply("the request exceeds the available context size", status=400), "context"),
        (Reply("no such model", status=404), "refused"),
        (Reply("You exceeded your current quota", status=429), "refused"),
        (Reply("I must not", finish="content_filter"), "refused"),
        (Reply("elsewhere", status=307), "refused"),
    ],
)
def test_what_asking_again_cannot_help_is_asked_once(reply, kind):
    with ModelServer([reply]) as server:
        error = trouble(Model("tiny", base_url=server.url))
        assert len(server.requests) == 1
    assert error.kind == kind


def test_a_server_that_is_not_there_is_one_clear_line():
    error = trouble(Model("tiny", base_url="http://127.0.0.1:9/v1", attempts=1))
    assert error.kind == "server"
    assert str(error).startswith("model tiny: cannot reach http://127.0.0.1:9/v1/chat/completions: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status):
    with ModelServer([Reply(status=status, retry_after=0.6), "Good day"]) as server:
        began = time.monotonic()
        ask(Model("tiny", base_url=server.url))
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "wait", ["-5", "0", "soon", "1e9", "inf", "nan", "", "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
def test_a_wait_that_nobody_can_mean_is_none_and_keeps_nobody_from_asking(status, wait):
    with ModelServer([Reply(status=status, retry_after=wait), "Good day"]) as server:
        model = Model("tiny", base_url=server.url)
        assert ask(model, deadline=30.0).usage.failed == 1
        assert ask(model, deadline=30.0).text == "Good day"


def test_a_date_to_wait_for_is_honoured():
    at = datetime.now(UTC) + timedelta(seconds=600)
    with ModelServer([Reply(status=503, retry_after=format_datetime(at, usegmt=True))]) as server:
        error = trouble(Model("tiny", base_url=server.url), deadline=5.0)
    assert 590 < error.retry_after <= 600
    assert "no time to ask again within 5 s" in str(error)


@pytest.mark.parametrize("zone", ["", " -0000"])
def test_a_date_without_a_zone_is_utc_wherever_it_is_read(monkeypatch, zone):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        at = datetime.now(UTC) + timedelta(seconds=600)
        assert 590 < seconds(f"{at:%a, %d %b %Y %H:%M:%S}{zone}") <= 600
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "status", "kind", "says"),
    [
        ("litellm.InternalServerError: OpenAIException - Connection error.", 500, "server", "cannot reach the provider: litellm.Internal"),
        ("Cannot connect to host api.example.com:443 ssl:default", None, "server", "cannot reach the provider: Cannot connect"),
        ("Cannot connect this account to the model", 403, "refused", "HTTP 403: Cannot connect this account"),
    ],
)
def test_a_provider_that_is_not_reached_is_called_so_and_one_that_answers_is_not(text, status, kind, says):
    error = RuntimeError(text)
    error.status_code = status
    found = classed(error)
    assert (found.kind, str(found)[: len(says)]) == (kind, says)


def test_what_it_cost_is_unknown_without_a_price_though_every_call_failed():
    with ModelServer([Reply("boom", status=500)]) as server:
        model, priced = (Model("tiny", base_url=server.url, attempts=1, prices=prices) for prices in (None, (1.0, 1.0)))
        trouble(model)
        trouble(priced)
    assert (model.spent.cost, priced.spent.cost) == (None, 0.0)


# on the wire

WIRE = {
    "cut": ("malformed", "the answer was cut"),
    "reset": ("malformed", "the answer was cut"),
    "drop": ("server", "closed the connection without an answer"),
    "drip": ("timeout", "no answer within 0.5 s"),
    "endless": ("malformed", "the answer is longer than 10,000,000 bytes"),
    "huge": ("malformed", "the answer is longer than 10,000,000 bytes"),
    "bomb": ("malformed", "the answer is longer than 10,000,000 bytes"),
    "short": ("malformed", "the answer is no JSON|sends is no HTTP"),
    "redirect": ("refused", "HTTP 307: it redirects to http://127.0.0.1:[0-9]+/v1/chat/completions$"),
    "http_1_0": None,
    "close": None,
}


@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_whatever_a_server_does_on_the_wire_is_an_answer_or_trouble_of_a_kind_and_over_in_time(fault):
    with ModelServer([Reply("Good day", fault=fault)]) as server:
        model = Model("tiny", base_url=server.url, api_key=KEY, attempts=2, timeout=0.5 if fault == "drip" else 60.0)
        if WIRE[fault] is None:
            assert [ask(model).usage.failed for _ in range(3)] == [0, 0, 0]
            return
        error = trouble(model, deadline=60.0)
    kind, says = WIRE[fault]
    assert error.kind == kind
    assert re.search(says, str(error).removesuffix(" (asked 2 times)"))
    assert KEY not in str(error)


@pytest.mark.parametrize("fault", [fault for fault in WIRE_FAULTS if fault not in ("redirect", "drip")])
def test_after_a_fault_on_a_kept_connection_the_next_question_has_its_own_answer(fault):
    async def talk(model):
        async with model:
            return [(await model.complete(HELLO)).text for _ in range(3)]

    with ModelServer(["one", Reply("lost", fault=fault), "two", "three"]) as server:
        heard = asyncio.run(talk(Model("tiny", base_url=server.url)))
    assert heard == (["one", "lost", "two"] if WIRE[fault] is None else ["one", "two", "three"])


def test_a_kept_connection_that_the_server_closes_is_no_failed_attempt():
    async def talk(model):
        async with model:
            return [(await model.complete(HELLO)).usage.failed for _ in range(4)]

    with ModelServer(["one", Reply(fault="drop"), "two", Reply(fault="drop"), "three", "four"]) as server:
        began = time.monotonic()
        assert asyncio.run(talk(Model("tiny", base_url=server.url, attempts=1))) == [0, 0, 0, 0]
        assert len(server.requests) == 6
    assert time.monotonic() - began < 60


def test_an_answer_of_megabytes_is_read_and_no_more_than_ten_of_them():
    with ModelServer(["x" * 9_000_000]) as server:
        assert len(ask(Model("tiny", base_url=server.url)).text) == 9_000_000


def test_a_wait_longer_than_the_deadline_is_not_begun():
    with ModelServer([Reply(status=429, retry_after=900)]) as server:
        began = time.monotonic()
        error = trouble(Model("tiny", base_url=server.url), deadline=5.0)
    assert (error.kind, error.retry_after) == ("rate", 900.0)
    assert "no time to ask again within 5 s" in str(error)
    assert time.monotonic() - began < 5


def test_the_deadline_holds_over_all_attempts():
    with ModelServer([Reply(fault="hang")]) as server:
        began = time.monotonic()
        error = trouble(Model("tiny", base_url=server.url, timeout=60.0), deadline=0.4)
    assert error.kind == "timeout"
    assert time.monotonic() - began < 10


def test_waits_double_and_their_jitter_comes_from_the_generator_that_was_given():
    one, same, other = (Patience(attempts=4, timeout=1.0, random=Random(seed)) for seed in (1, 1, 2))
    waits = [one.wait(attempt, None) for attempt in range(1, 5)]
    assert waits == [same.wait(attempt, None) for attempt in range(1, 5)]
    assert waits != [other.wait(attempt, None) for attempt in range(1, 5)]
    for attempt, wait in enumerate(waits):
        assert 0.25 * 2**attempt <= wait <= 0.5 * 2**attempt


def test_a_schema_goes_along_and_is_left_out_for_a_server_that_refuses_it():
    def script(request):
        return Reply("response_format is not supported", status=400) if "response_format" in request else "{}"

    with ModelServer(script) as server:
        model = Model("tiny", base_url=server.url)
        assert ask(model, schema={"type": "object"}).text == "{}"
        assert ask(model, schema={"type": "object"}).text == "{}"
        assert ["response_format" in request for request in server.requests] == [True, False, False]


def test_a_schema_that_is_no_valid_request_to_a_server_is_left_out_though_it_says_500():
    says = (
        "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or 'json_object'\", "
        "'input': 'json_schema'}]"
    )

    def script(request):
        return Reply(f"1 validation error:\n  {says}", status=500) if "response_format" in request else "{}"

    with ModelServer(script) as server:
        assert ask(Model("tiny", base_url=server.url), schema={"type": "object"}).text == "{}"
        assert ["response_format" in request for request in server.requests] == [True, False]


def test_an_answer_of_its_own_that_a_server_finds_wrong_is_its_trouble():
    with ModelServer([Reply("1 validation error: {'loc': ('response', 'choices'), 'msg': 'Field required'}", status=500), "Hi"]) as server:
        assert ask(Model("tiny", base_url=server.url)).usage.failed == 1


# tools and reasoning

TOOLS = ({"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {"key": {"type": "string"}}}}},)
FIND = ToolCall(name="find", arguments={"key": "L1"}, id="call_1_0")


def raw_call(arguments, name="find"):
    return {"id": "call_7", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tools_go_along_and_calls_come_back_beside_an_empty_text():
    with ModelServer([Reply(calls=(FIND,), reasoning="Which one?")]) as server:
        answer = ask(Model("tiny", base_url=server.url), tools=TOOLS)
        assert server.requests[0]["tools"] == list(TOOLS)
    assert (answer.text, answer.calls, answer.problem, answer.finish) == ("", (FIND,), None, "tool_calls")
    assert answer.reasoning == {"reasoning_content": "Which one?"}


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (raw_call('{"key": "L1"'), "the tool call is not valid JSON"),
        (raw_call("[1, 2]"), "the arguments of find are a JSON object, found list"),
        (raw_call('"L1"'), "the arguments of find are a JSON object, found str"),
        (raw_call("{}", name=""), "the tool call has no name"),
        (raw_call('{"key": NaN}'), "NaN is not a JSON number"),
        ({"function": None}, "the tool call has no name"),
        (raw_call('{"a":' * 40 + "1" + "}" * 40), "nested deeper than 32 levels"),
    ],
)
def test_broken_arguments_are_the_models_mistake_and_are_asked_once(call, problem):
    with ModelServer([Reply(calls=(call,))]) as server:
        answer = ask(Model("tiny", base_url=server.url), tools=TOOLS)
        assert len(server.requests) == 1
    assert (answer.calls, answer.usage.failed) == ((), 0)
    assert problem in answer.problem
    assert json.loads(answer.text) == [call]


def test_calls_that_are_no_list_are_the_providers_trouble():
    with pytest.raises(ModelError, match="no chat completion"):
        read_answer({"choices": [{"message": {"content": "", "tool_calls": 5}}]})


def test_reasoning_goes_back_with_its_message_and_no_further_than_the_server_takes_it():
    told = ModelMessage(role="assistant", content="Hello", reasoning={"reasoning_content": "Be kind."})

    def refusing(request):
        return Reply("Unknown field: reasoning_content", status=400) if "reasoning_content" in request["messages"][1] else "Good day"

    async def once(model):
        async with model:
            return [await model.complete([*HELLO, told, *HELLO]) for _ in range(2)]

    with ModelServer(["Good day"]) as server:
        asyncio.run(once(Model("tiny", base_url=server.url)))
        assert server.requests[0]["messages"][1] == {"role": "assistant", "content": "Hello", "reasoning_content": "Be kind."}
    with ModelServer(refusing) as server:
        model = Model("tiny", base_url=server.url)
        asyncio.run(once(model))
        assert ["reasoning_content" in request["messages"][1] for request in server.requests] == [True, False, False]
    assert model.left_out == {"reasoning"}


@pytest.mark.parametrize("text", ["<think>Be kind.</think>\n\nGood day", "Be kind.\n</think>Good day"])
def test_thoughts_that_a_server_leaves_in_the_text_are_reasoning(text):
    with ModelServer([text]) as server:
        answer = ask(Model("tiny", base_url=server.url))
    assert (answer.text, answer.reasoning) == ("Good day", {"reasoning_content": "Be kind."})


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("temperature", "Unsupported value: 'temperature' does not support 0 with this model."),
        ("seed", "Unrecognized request argument supplied: seed"),
        ("max_tokens", "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
    ],
)
def test_what_a_server_does_not_take_is_left_out_and_noted(name, refusal):
    with ModelServer(lambda request: Reply(refusal, status=400) if name in request else "Good day") as server:
        model = Model("tiny", base_url=server.url)
        for _ in range(2):
            assert ask(model, temperature=0.0, seed=3, max_tokens=7).text == "Good day"
        assert len(server.requests) == 3
        assert name != "max_tokens" or server.requests[-1]["max_completion_tokens"] == 7
    assert model.left_out == {name}


def test_an_empty_answer_that_may_be_is_asked_for_once_more_and_then_taken():
    with ModelServer(["", "Good day"]) as server:
        assert ask(Model("tiny", base_url=server.url), may_be_empty=True).text == "Good day"
    with ModelServer([""]) as server:
        answer = ask(Model("tiny", base_url=server.url), may_be_empty=True)
        assert len(server.requests) == 2
    assert (answer.text, answer.usage.calls, answer.usage.failed) == ("", 2, 1)
    with ModelServer([Reply("", finish="length", reasoning="Let me see.")]) as server:
        assert ask(Model("tiny", base_url=server.url), may_be_empty=True).finish == "length"
        assert len(server.requests) == 1


def test_a_model_knows_what_it_took_whoever_shares_its_budget():
    budget = Budget(max_tokens=100_000)
    with ModelServer([Reply("Good day", usage=(10, 2))]) as server:
        one, other = (Model(name, base_url=server.url, budget=budget) for name in ("one", "other"))
        for model in (one, one, other):
            ask(model)
    assert (one.spent.tokens, other.spent.tokens, budget.spent.tokens) == (24, 12, 36)


def test_a_model_is_asked_from_one_event_loop_after_another():
    async def once(model):
        return await model.complete(HELLO)  # nobody closes it

    with ModelServer(["Good day"]) as server:
        model = Model("tiny", base_url=server.url)
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(once(model)).text == "Good day"
        loop.run_until_complete(model.close())
        loop.close()
        assert ask(model).text == "Good day"


def test_connections_of_another_loop_are_closed_on_that_loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with ModelServer(["Good day"]) as server:
        model = Model("tiny", base_url=server.url)
        asyncio.run_coroutine_threadsafe(model.complete(HELLO), loop).result()
        asyncio.run(model.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


# is it there?


def check(model):
    async def once():
        async with model:
            await model.check()

    asyncio.run(once())


def test_a_server_that_lists_the_model_is_asked_nothing_more():
    with ModelServer(["Good day"], models=("tiny", "large")) as server:
        check(Model("tiny", base_url=server.url))
        assert server.requests == []


@pytest.mark.parametrize("models", [None, ("another name",)])
def test_a_server_that_answers_to_any_name_is_asked_for_one_token(models):
    with ModelServer(["Good day"]) as server:
        if models:
            server._models = Anything(models)
        check(Model("tiny", base_url=server.url))
        assert [request["max_tokens"] for request in server.requests] == [1]


def in_tokens(*counts):
    """A server that says so many tokens of the prompts without and with a tool."""
    return lambda request: Reply("Hi", usage=(counts["tools" in request], 1))


@pytest.mark.parametrize(
    ("script", "shows"),
    [
        (lambda request: "Hi", True),
        (in_tokens(40, 207), True),
        (in_tokens(38, 38), False),
        (in_tokens(1, 1), None),  # a cache has the rest
        (in_tokens(207, 40), None),
        (lambda request: Reply("no tools here", status=400) if "tools" in request else "Hi", None),
        (lambda request: Reply(body=b'{"choices": [{"message": {"content": "Hi"}}]}'), None),
        (lambda request: Reply(fault="hang"), None),
    ],
)
def test_whether_tools_reach_a_model_is_told_by_the_tokens_of_its_prompt(script, shows):
    async def once():
        async with Model("tiny", base_url=server.url, timeout=0.3) as model:
            return await model.shows_tools()

    with ModelServer(script) as server:
        assert asyncio.run(once()) is shows
        assert all(request["max_tokens"] == 1 for request in server.requests)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("Hi"), None),
        (Reply(""), None),
        (Reply("who are you?", status=401), None),
        (Reply("loading the model", status=503), "server"),
        (Reply("slow down", status=429), "rate"),
        (Reply(fault="hang"), "timeout"),
        (Reply(fault="drop"), "server"),
    ],
)
def test_a_server_that_answers_nothing_is_away_and_one_that_refuses_is_not(reply, kind):
    async def once():
        async with Model("tiny", base_url=server.url, timeout=0.3) as model:
            return await model.away()

    with ModelServer([reply]) as server:
        away = asyncio.run(once())
    assert (away and away.kind) == kind


def test_a_model_tells_what_it_was_made_of_and_no_key_with_it():
    model = Model("tiny", base_url="http://127.0.0.1:8000/v1", api_key=KEY, prices=(1.0, 2.0), attempts=2, timeout=7.0)
    again = Model(**vars(model.made_of))
    assert again.made_of == model.made_of
    assert (again.made_of.api_key, KEY in repr(model.made_of)) == (KEY, False)


class Anything(tuple):
    """A list of models that answers to names which it does not list, as llama.cpp's does."""

    def __contains__(self, name):
        return True


def test_a_model_that_is_not_served_is_refused_with_the_names_that_are():
    with (
        ModelServer(["Good day"], models=("tiny", "large")) as server,
        pytest.raises(ConfigError, match=r"model huge: HTTP 404: The model `huge` does not exist.*the server has 'tiny', 'large'"),
    ):
        check(Model("huge", base_url=server.url))


def test_a_base_url_without_its_end_is_refused_with_a_hint():
    with ModelServer(["Good day"]) as server, pytest.raises(ConfigError, match=r"is 'http://127.0.0.1:[0-9]+' its base URL"):
        check(Model("tiny", base_url=server.url.removesuffix("/v1")))


def test_a_server_that_is_down_or_refuses_the_key_says_so():
    with pytest.raises(ModelError, match=r"cannot reach http://127.0.0.1:9/v1/models: connection refused"):
        check(Model("tiny", base_url="http://127.0.0.1:9/v1"))
    with ModelServer(["Good day"], key="another") as server, pytest.raises(ModelError, match="HTTP 401") as caught:
        check(Model("tiny", base_url=server.url, api_key=KEY))
    assert KEY not in str(caught.value)


def test_a_server_that_has_trouble_now_is_no_reason_not_to_begin():
    with ModelServer([Reply("loading", status=503)]) as server:
        check(Model("tiny", base_url=server.url))


# the test server


def stream(server, **body):
    import urllib.request

    data = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "stream": True, **body}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/chat/completions", data)) as response:
        lines = response.read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_the_server_streams_text_reasoning_calls_and_usage():
    reply = Reply("Good day to you", calls=(FIND,), reasoning="Be kind.")
    with ModelServer([reply]) as server:
        chunks = stream(server, stream_options={"include_usage": True})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Good day to you"
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Be kind."
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert pieces[0]["id"] == "call_1_0"
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"key": "L1"}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["completion_tokens"] == 5


# budget


def test_a_call_that_could_pass_the_budget_is_not_made():
    with ModelServer([Reply("Good day", usage=(100, 100))]) as server:
        budget = Budget(max_cost=0.002)
        model = Model("tiny", base_url=server.url, prices=(1.0, 10.0), budget=budget)
        ask(model, max_tokens=100)
        error = trouble(model, max_tokens=100)
        assert len(server.requests) == 1
    assert error.kind == "budget"
    assert "at most $0.002 may be spent" in str(error)
    assert budget.spent.cost == pytest.approx(0.0011)


def test_calls_in_flight_are_within_the_budget_together():
    async def many(model):
        async with model:
            return await asyncio.gather(*(model.complete(HELLO, max_tokens=100) for _ in range(10)), return_exceptions=True)

    with ModelServer([Reply("Good day", delay=0.2, usage=(20, 100))]) as server:
        budget = Budget(max_tokens=500)
        results = asyncio.run(many(Model("tiny", base_url=server.url, budget=budget)))
        assert 0 < len(server.requests) <= 5
    assert all(isinstance(result, Completion) or result.kind == "budget" for result in results)
    assert budget.spent.tokens <= 500


def test_a_call_waits_for_room_that_calls_in_flight_only_hold():
    async def many(model):
        async with model:
            return await asyncio.gather(*(model.complete(HELLO, max_tokens=400) for _ in range(10)))

    with ModelServer([Reply("Good day", delay=0.05, usage=(20, 5))]) as server:
        budget = Budget(max_tokens=1000)
        assert len(asyncio.run(many(Model("tiny", base_url=server.url, budget=budget)))) == 10
    assert budget.spent.tokens == 250


def test_an_attempt_without_figures_counts_with_the_most_it_could_have_taken():
    with ModelServer([Reply(fault="hang")]) as server:
        budget = Budget(max_tokens=10_000)
        trouble(Model("tiny", base_url=server.url, budget=budget, timeout=0.2, attempts=1), max_tokens=100)
    assert budget.spent.completion_tokens == 100
    assert (budget.spent.calls, budget.spent.failed) == (1, 1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Model("tiny", base_url="http://localhost/v1", budget=Budget(max_cost=1)), "no price is known for model 'tiny'"),
        (lambda: Budget(max_cost=0), "max_cost must be above 0"),
        (lambda: Model("tiny", base_url="localhost:8000"), "a base URL looks like http"),
        (lambda: Model("tiny", base_url=f"http://me:{KEY}@localhost/v1"), "found 'http://localhost/v1'"),
        (lambda: Model("tiny", base_url="http://localhost/v1", attempts=0), "at least 1 attempt"),
        (lambda: Model("tiny", base_url="http://localhost/v1", api_key=f"{KEY}\n"), "was it read with its line end"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_sent(make, says):
    with pytest.raises(ConfigError, match=says) as caught:
        make()
    assert KEY not in str(caught.value)


# keys


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(getattr(error, "__dict__", ""))


def test_a_key_reaches_no_error_log_or_representation(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with ModelServer(["Good day"], key="the right one") as server:
        model = Model("tiny", base_url=server.url, api_key=KEY)
        error = trouble(model)
        assert server.requests == []
    assert error.kind == "refused"
    assert "Incorrect API key provided: [key]." in str(error)
    told = everything_said(error) + repr(model) + caplog.text + "".join(capfd.readouterr())
    assert KEY not in told
    assert KEY[3:] not in told


def test_a_long_error_is_cut_only_after_the_key_is_out():
    for padding in range(350, 420):
        with ModelServer([Reply("x" * padding + KEY, status=403)]) as server:
            assert "canary" not in str(trouble(Model("tiny", base_url=server.url, api_key=KEY)))


def test_the_right_key_is_sent_and_is_not_repeated_by_the_answer():
    with ModelServer(["Good day"], key=KEY) as server:
        answer = ask(Model("tiny", base_url=server.url, api_key=KEY))
        assert KEY not in json.dumps(server.requests)
    assert KEY not in answer.model_dump_json()


def test_an_answer_does_not_repeat_the_key_it_was_asked_with():
    call = ToolCall(name="find", arguments={"key": [{"deep": f"<{KEY}>"}], KEY: 1}, id=KEY)
    with ModelServer([Reply(f"You gave me {KEY}", calls=(call,), reasoning=f"{KEY}?")]) as server:
        answer = ask(Model("tiny", base_url=server.url, api_key=KEY), tools=TOOLS)
        assert ask(Model("tiny", base_url=server.url, api_key="another-key"), tools=TOOLS).text == f"You gave me {KEY}"
    assert KEY not in answer.model_dump_json()
    assert (answer.text, answer.calls[0].arguments) == ("You gave me [key]", {"key": [{"deep": "<[key]>"}], "[key]": 1})


def test_a_key_of_the_environment_is_never_sent_to_a_base_url(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ModelServer(["Good day"], key="another") as server:
        assert "provided: ." in str(trouble(Model("tiny", base_url=server.url)))


# litellm


@pytest.fixture
def openai(monkeypatch):
    """A server in the place of OpenAI's, as litellm is told by the environment."""

    def use(server: ModelServer, key: str = KEY) -> Model:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        return Model("openai/gpt-4o-mini", attempts=2, budget=Budget(max_cost=1.0))

    return use


@pytest.mark.slow  # importing litellm takes seconds
@needs_litellm
def test_litellm_answers_with_usage_and_its_own_price(openai):
    with ModelServer([Reply("Good day", usage=(1_000, 1_000))], key=KEY) as server:
        answer = ask(openai(server), schema={"type": "object"}, seed=7)
        assert server.requests[-1]["seed"] == 7
        assert server.requests[-1]["response_format"]["type"] == "json_schema"
    assert answer.text == "Good day"
    assert 0.0001 < answer.cost < 0.01


@pytest.mark.slow  # importing litellm takes seconds
@needs_litellm
def test_litellm_takes_tools_and_brings_calls_and_reasoning(openai):
    told = ModelMessage(role="assistant", tool_calls=(FIND,), reasoning={"reasoning_content": "Which one?"})
    answered = Message(role="tool", content="none", tool_call_id=FIND.id, name="find")
    with ModelServer([Reply(calls=(FIND,), reasoning="Which one?"), Reply(calls=(raw_call('{"key": '),))]) as server:
        model = openai(server)
        assert model.takes_tools
        first = ask(model, tools=TOOLS)
        assert (first.text, first.calls, first.reasoning) == ("", (FIND,), {"reasoning_content": "Which one?"})
        assert server.requests[-1]["tools"] == list(TOOLS)

        async def next_turn():
            async with model:
                return await model.complete([*HELLO, told, answered], tools=TOOLS)

        second = asyncio.run(next_turn())
        assert server.requests[-1]["messages"][1]["tool_calls"][0]["id"] == FIND.id
        assert server.requests[-1]["messages"][2]["tool_call_id"] == FIND.id
    assert "the tool call is not valid JSON" in second.problem


@pytest.mark.slow  # importing litellm takes seconds
@needs_litellm
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("slow down", status=429, retry_after=900), "rate"),
        (Reply("boom", status=500), "server"),
        (Reply(fault="not_json"), "malformed"),
        (Reply(fault="no_choices"), "malformed"),
        (Reply(""), "malformed"),
        (Reply("This model's maximum context length is 4096 tokens", status=400), "context"),
        (Reply("no such model", status=404), "refused"),
    ],
)
def test_litellms_errors_have_the_same_kinds(openai, reply, kind):
    with ModelServer([reply]) as server:
        assert trouble(openai(server)).kind == kind


@pytest.mark.slow  # importing litellm takes seconds
@needs_litellm
def test_through_litellm_too_a_key_reaches_no_error_log_or_output(openai, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with ModelServer(["Good day"], key="the right one") as server:
        model = openai(server)
        error = trouble(model)
    assert error.kind == "refused"
    assert KEY not in everything_said(error) + repr(model) + caplog.text + "".join(capfd.readouterr())


@pytest.mark.slow  # importing litellm takes seconds
@needs_litellm
def test_through_litellm_no_fault_of_a_server_brings_the_key_back(openai, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    replies = [
        Reply(f"{KEY} is banned", status=403),
        Reply(f"headers: Bearer {KEY}", status=500),
        Reply(f"{KEY} is over its limit", status=429, retry_after=0),
        Reply(body=f"<html>{KEY}</html>".encode()),
        Reply(f"{KEY} is not taken", finish="content_filter"),
        Reply(fault="redirect"),
        Reply(fault="cut"),
        Reply(fault="drop"),
    ]
    for reply in replies:
        with ModelServer([reply]) as server:
            assert KEY not in everything_said(trouble(openai(server), deadline=60.0)), reply
    with ModelServer([Reply(f"You gave me {KEY}")]) as server:
        assert ask(openai(server)).text == "You gave me [key]"
        gone = openai(server)
    assert KEY not in everything_said(trouble(gone))
    assert KEY not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.slow  # importing litellm takes seconds
@needs_litellm
@pytest.mark.parametrize(
    ("name", "says"),
    [("tiny", "write provider/model, such as openai/tiny"), ("openai/gpt-4o-mini", "set OPENAI_API_KEY in the environment")],
)
def test_a_model_without_a_provider_or_key_is_refused_before_anything_is_sent(monkeypatch, name, says):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=says):
        Model(name)


@pytest.mark.parametrize("spelled", ["p%40ss%2Fword%201", "p@ss/word 1", 'say \\"p@ss\\"'])
def test_a_key_that_is_echoed_in_another_spelling_is_taken_out(spelled):
    own = "p@ss/word 1" if "word" in spelled else 'say "p@ss"'
    assert without_keys(f"no such key: {spelled}!", [own]) == "no such key: [key]!"


def test_an_answer_does_not_repeat_the_key_of_the_other_side(monkeypatch):
    monkeypatch.setenv("SENTINEL_API_KEY", KEY)
    with ModelServer([f"My key is {KEY}."]) as server:
        assert ask(Model("tiny", base_url=server.url)).text == "My key is [key]."
