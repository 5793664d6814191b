"""How fast a model is asked: in flight, a minute, and as slowly as its provider wishes, by all who ask it together."""

import asyncio
from random import Random

import pytest
from scripted_models import scripted
from typer.testing import CliRunner

from sentinel_env import load_domain
from sentinel_env.cli import app
from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.llm import Completion, Model
from sentinel_env.llm_http import Endpoint
from sentinel_env.llm_pace import Pace
from sentinel_env.messages import Message
from sentinel_env.model_server import ModelServer, Reply

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
HELLO = (Message(role="user", content="Hello there"),)


class Clocked:
    """A server's script that notes when it is asked and how many answers are open."""

    def __init__(self, replies=(), delay=0.0):
        self.replies, self.delay = list(replies), delay
        self.times = []

    def __call__(self, request):
        import time

        self.times.append(time.monotonic())
        return self.replies.pop(0) if self.replies else Reply("Good day", delay=self.delay)


def many(models, times, **options):
    async def whole():
        calls = (models[at % len(models)].complete(HELLO, **options) for at in range(times))
        try:
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            for model in models:
                await model.close()

    return asyncio.run(whole())


def most_live(model_server_script, limit):
    """(answers, the most requests that were open at once) of two models that share a limit."""
    live = most = 0
    send = Endpoint.send

    async def watched(self, body):
        nonlocal live, most
        live += 1
        most = max(most, live)
        try:
            return await send(self, body)
        finally:
            live -= 1

    with ModelServer(model_server_script) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Endpoint, "send", watched)
        pace = Pace(in_flight=limit)
        found = many([Model("tiny", base_url=server.url, pace=pace) for _ in range(2)], 20)
    return found, most


@pytest.mark.parametrize(("limit", "most"), [(3, 3), (None, 20)])
def test_no_more_are_in_flight_than_the_limit_of_those_who_share_it(limit, most):
    found, seen = most_live(lambda _: Reply("Good day", delay=0.05), limit)
    assert all(isinstance(each, Completion) for each in found)
    assert seen == most


def test_a_call_that_waits_to_ask_again_is_not_in_flight():
    replies = iter([Reply("boom", status=500)])
    found, _ = most_live(lambda _: next(replies, None) or "Good day", 1)
    assert all(isinstance(each, Completion) for each in found)


def test_requests_a_minute_come_at_equal_distances_whoever_asks():
    script = Clocked()
    with ModelServer(script) as server:
        pace = Pace(per_minute=600)
        many([Model("tiny", base_url=server.url, pace=pace) for _ in range(2)], 8)
    assert script.times[-1] - script.times[0] >= 0.65  # seven distances of 0.1 s


def test_waiting_for_ones_own_limits_costs_no_deadline():
    with ModelServer([Reply("Good day", delay=0.2)]) as server:
        model = Model("tiny", base_url=server.url, pace=Pace(in_flight=1), attempts=1)
        found = many([model], 6, deadline=0.9)
    assert [type(each) for each in found] == [Completion] * 6


def test_a_wait_that_the_provider_asks_for_slows_everyone():
    script = Clocked([Reply("slow down", status=429, retry_after=1.0)])

    async def whole(models):
        first = asyncio.create_task(models[0].complete(HELLO))
        while not script.times:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # the refusal has arrived
        await asyncio.gather(first, *(model.complete(HELLO) for model in models for _ in range(5)))
        for model in models:
            await model.close()

    with ModelServer(script) as server:
        pace = Pace()
        asyncio.run(whole([Model("tiny", base_url=server.url, pace=pace) for _ in range(2)]))
    refused, *others = script.times
    assert len(others) == 11
    assert min(others) - refused >= 0.99


def test_a_wait_that_is_longer_than_anyone_has_is_said_at_once():
    with ModelServer([Reply("slow down", status=429, retry_after=3600)]) as server:
        model = Model("tiny", base_url=server.url)
        errors = many([model], 1, deadline=30) + many([model], 3, deadline=30)
        assert len(server.requests) == 1
    assert {error.kind for error in errors} == {"rate"}
    assert "no time to ask again within 30 s" in str(errors[0])
    assert "the provider asked to wait for 3.6e+03 s more; there is no time for that within 30 s" in str(errors[1])


def test_after_a_pause_the_distances_hold():
    async def whole():
        pace, loop, times = Pace(per_minute=600), asyncio.get_running_loop(), []

        async def one():
            async with pace.turn(60, Random(0)):
                times.append(loop.time())

        calls = [asyncio.create_task(one()) for _ in range(5)]
        await asyncio.sleep(0.05)
        pace.hold_back(0.6)
        await asyncio.gather(*calls)
        return times

    times = asyncio.run(whole())
    assert times[1] - times[0] >= 0.55
    assert times[-1] - times[1] >= 0.29


def test_a_pace_works_in_one_event_loop_after_another():
    with ModelServer([Reply("Good day", delay=0.02)]) as server:
        model = Model("tiny", base_url=server.url, pace=Pace(in_flight=1, per_minute=60_000))
        for _ in range(2):
            assert all(isinstance(each, Completion) for each in many([model], 4))


@pytest.mark.parametrize("settings", [{"in_flight": 0}, {"per_minute": 0}, {"per_minute": float("nan")}])
def test_a_pace_of_nothing_is_refused(settings):
    with pytest.raises(ConfigError, match="must be above 0"):
        Pace(**settings)


def test_an_error_of_the_pace_is_a_model_error_of_a_rate():
    async def whole():
        pace = Pace()
        pace.hold_back(10)
        async with pace.turn(1, Random(0)):
            pass

    with pytest.raises(ModelError) as caught:
        asyncio.run(whole())
    assert caught.value.kind == "rate"


def test_the_command_shares_the_limits_between_the_sides_of_one_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    library = load_domain("library")
    script, clock = scripted(library, library.split()), Clocked()

    def answer(request):
        if request["max_tokens"] > 1:  # of the run itself
            clock(request)
        return script(request)

    with ModelServer(answer, models=("tiny",)) as server:
        url = ("--base-url", server.url, "--user-model", "tiny", "--user-base-url", server.url)
        options = ("run", "library", "--model", "tiny", *url, "--max-in-flight", "1", "--max-per-minute", "600")
        result = CliRunner().invoke(app, options, prog_name="sentinel")
    assert result.exit_code == 0, result.stderr
    assert clock.times[-1] - clock.times[0] >= 0.09 * (len(clock.times) - 1)


@pytest.mark.parametrize("retry_after", [None, 0, 0.05])
def test_many_who_are_refused_without_a_usable_wait_slow_down_together_and_all_get_answers(retry_after):
    import time

    room = {"at": time.monotonic(), "left": 4.0}

    def forty_a_second(request):
        now = time.monotonic()
        room["left"] = min(4.0, room["left"] + 40 * (now - room["at"])) - 1
        room["at"] = now
        if room["left"] >= 0:
            return Reply("Good day")
        room["left"] += 1
        return Reply("slow down", status=429, retry_after=retry_after)

    with ModelServer(forty_a_second) as server:
        found = many([Model("tiny", base_url=server.url)], 120)
    assert [type(each).__name__ for each in found if not isinstance(each, Completion)] == []
