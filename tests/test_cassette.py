"""A cassette repeats a run of models offline, byte for byte, says what differs where it cannot, and holds no key."""

import asyncio
import json
import subprocess
import sys
import textwrap

import pytest
from scripted_models import faulty, scripted
from typer.testing import CliRunner

from sentinel_env import evaluate, load_domain
from sentinel_env.cassette import Cassette
from sentinel_env.cassette_request import Request
from sentinel_env.cli import app
from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.llm import Model, ModelMessage
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.llm_user import LLMUser
from sentinel_env.messages import Message
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.runner import run_tasks
from sentinel_env.users import ScriptedUser

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
KEY = "sk-canary-4f1d9a7e2b"
HELLO = (Message(role="user", content="Hello there"),)


@pytest.fixture(scope="module")
def library():
    return load_domain("library")


@pytest.fixture(scope="module")
def retail():
    return load_domain("retail")


def ask(model, *conversations, **options):
    """The answers' texts, asked for one after the other."""

    async def whole():
        async with model:
            return [(await model.complete(messages, **options)).text for messages in conversations]

    return asyncio.run(whole())


def said(*texts):
    return tuple(Message(role="user" if at % 2 == 0 else "assistant", content=text) for at, text in enumerate(texts))


def play(domain, tasks, cassette, out, *, base_url=None, concurrency=1, **settings):
    shared = {"cassette": cassette, "base_url": base_url, "prices": (1.0, 1.0), **settings}
    with cassette:
        sides = LLMAgent(Model("tiny", **shared)), LLMUser(Model("tiny", **shared))
        return run_tasks(domain, tasks, *sides, out=out, concurrency=concurrency), [side.model.spent.calls for side in sides]


def files(folder):
    """What a run left, but for the versions that it began with."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


def test_a_recorded_run_of_two_models_is_repeated_offline_byte_for_byte_at_any_concurrency(retail, tmp_path):
    tasks = retail.split("dev")[:4]
    with ModelServer(scripted(retail, tasks)) as server:
        _, calls = play(retail, tasks, Cassette(tmp_path / "night"), tmp_path / "run", base_url=server.url, concurrency=4)
        assert sum(calls) == len(server.requests) > 40
    for concurrency in (1, 3):
        _, calls = play(
            retail, tasks, Cassette(tmp_path / "night", replay=True), tmp_path / f"again-{concurrency}", concurrency=concurrency
        )
        assert calls == [0, 0]
        assert files(tmp_path / f"again-{concurrency}") == files(tmp_path / "run")


def test_faults_that_were_overcome_leave_the_same_cassette_for_replay(library, tmp_path):
    tasks = library.split()
    faults = [Reply("boom", status=500), Reply(fault="cut"), Reply("")]
    with ModelServer(faulty(scripted(library, tasks), faults, share=0.4, seed=3)) as server:
        play(library, tasks, Cassette(tmp_path / "night"), tmp_path / "run", base_url=server.url, attempts=20)
    play(library, tasks, Cassette(tmp_path / "night", replay=True), tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "run")


def test_an_outage_is_repeated_when_replaying_and_asked_again_when_recording_goes_on(library, tmp_path):
    tasks = library.split()
    script = scripted(library, tasks)
    with ModelServer(lambda request: Reply("boom", status=403) if len(server.requests) == 3 else script(request)) as server:
        play(library, tasks, Cassette(tmp_path / "night"), tmp_path / "run", base_url=server.url)
    ((failed,), _) = play(library, tasks, Cassette(tmp_path / "night", replay=True), tmp_path / "again")
    assert "HTTP 403: boom" in failed.error
    assert files(tmp_path / "again") == files(tmp_path / "run")
    with ModelServer(script) as server:
        ((played,), _) = play(library, tasks, Cassette(tmp_path / "night"), tmp_path / "run", base_url=server.url)
        assert evaluate(library, played).passed
        asked = len(server.requests)
    with ModelServer(script) as server:
        play(library, tasks, Cassette(tmp_path / "other"), tmp_path / "whole", base_url=server.url)
        assert asked == len(server.requests) - 2  # those that were answered before
    ((played,), _) = play(library, tasks, Cassette(tmp_path / "night", replay=True), tmp_path / "later")
    assert evaluate(library, played).passed


def test_the_very_same_request_gets_its_answers_in_their_order(tmp_path):
    with ModelServer(["one", "two", "three"]) as server, Cassette(tmp_path / "night") as cassette:
        assert ask(Model("tiny", base_url=server.url, cassette=cassette), HELLO, said("Else"), HELLO) == ["one", "two", "three"]
    with Cassette(tmp_path / "night", replay=True) as cassette:
        model = Model("tiny", cassette=cassette)
        assert ask(model, HELLO, HELLO, said("Else")) == ["one", "three", "two"]
        with pytest.raises(ConfigError, match=r"was recorded 2 times and is asked 3 times"):
            ask(model, HELLO)


def test_what_was_answered_once_is_not_asked_again_by_the_next_process(tmp_path):
    for _ in range(2):
        with ModelServer(["one", "two"]) as server, Cassette(tmp_path / "night") as cassette:
            model = Model("tiny", base_url=server.url, cassette=cassette)
            assert ask(model, HELLO, said("Else")) == ["one", "two"]
            asked = len(server.requests)
    assert (asked, model.spent.calls, model.budget.spent.calls) == (0, 0, 0)


def test_two_models_share_a_cassette_and_do_not_take_each_others_answers(tmp_path):
    with ModelServer(lambda request: request["model"]) as server, Cassette(tmp_path / "night") as cassette:
        for name in ("small", "large", "small"):
            assert ask(Model(name, base_url=server.url, cassette=cassette), HELLO) == [name]
        assert len(server.requests) == 3


def test_what_a_server_does_not_take_still_tells_requests_apart(tmp_path):
    def no_seed(request):
        return Reply("unknown field: seed", status=400) if "seed" in request else f"answer {len(server.requests)}"

    async def both(model):
        async with model:
            return [(await model.complete(HELLO, seed=seed)).text for seed in (1, 2)]

    with ModelServer(no_seed) as server, Cassette(tmp_path / "night") as cassette:
        first, second = asyncio.run(both(Model("tiny", base_url=server.url, cassette=cassette)))
    with Cassette(tmp_path / "night", replay=True) as cassette:
        assert ask(Model("tiny", cassette=cassette), HELLO, seed=2) == [second] != [first]


def test_a_message_is_written_once_however_long_the_dialogue_grows(tmp_path):
    texts = [f"message {at} of many" for at in range(20)]
    with ModelServer(["Fine"]) as server, Cassette(tmp_path / "night") as cassette:
        ask(Model("tiny", base_url=server.url, cassette=cassette), *(said(*texts[: at + 1]) for at in range(20)))
    lines = (tmp_path / "night").read_text().splitlines()
    assert len(lines) == 20
    assert all("".join(lines).count(f'"{text}"') == 1 for text in texts)
    assert json.loads(lines[3])["messages"] == [{"role": "assistant", "content": "message 3 of many"}]


@pytest.mark.parametrize(
    ("conversation", "options", "says"),
    [
        (HELLO, {"temperature": 0.5}, "differs in its settings: temperature is 0.0 there, 0.5 now"),
        (HELLO, {"seed": 4}, "differs in its settings: seed is 3 there, 4 now"),
        (HELLO, {"tools": [{"type": "function", "function": {"name": "find"}}]}, "the tools differ: none there, find now"),
        (said("Hello then"), {}, 'message 1: content of the user is "Hello there" there, "Hello then" now'),
        (said("Hello there", "Hm"), {}, 'the nearest ends after message 1, now comes assistant "Hm"'),
        (said("x" * 500 + "y"), {}, "differs in message 1: content of the user is"),
    ],
)
def test_what_is_not_on_the_cassette_is_refused_with_the_nearest_difference(tmp_path, conversation, options, says):
    with ModelServer(["one"]) as server, Cassette(tmp_path / "night") as cassette:
        ask(Model("tiny", base_url=server.url, cassette=cassette), HELLO, temperature=0, seed=3)
    with Cassette(tmp_path / "night", replay=True) as cassette, pytest.raises(ConfigError) as caught:
        ask(Model("tiny", cassette=cassette), conversation, **{"temperature": 0, "seed": 3, **options})
    assert "night has no answer to a request of model 'tiny': " in str(caught.value)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_nearest_is_found_over_lines_that_a_later_answer_replaced(tmp_path):
    with ModelServer([Reply("boom", status=403), "one", "two"]) as server:
        for _ in range(2):
            with Cassette(tmp_path / "night") as cassette:
                try:
                    ask(Model("tiny", base_url=server.url, cassette=cassette), HELLO, said("Hello there", "one", "And?"))
                except ModelError:
                    continue
    with (
        Cassette(tmp_path / "night", replay=True) as cassette,
        pytest.raises(ConfigError, match=r'message 3.* "And\?" there, "But\?" now'),
    ):
        ask(Model("tiny", cassette=cassette), said("Hello there", "one", "But?"))


def test_reasoning_and_odd_characters_survive(tmp_path):
    odd = ModelMessage(role="assistant", content="caf\u00e9 \u2028", reasoning={"reasoning_content": "half \ud83d a pair"})
    conversation = (*HELLO, odd, Message(role="user", content="And?"))
    with ModelServer([Reply("Na\u00efve \U0001f600", reasoning="hm")]) as server, Cassette(tmp_path / "night") as cassette:
        ask(Model("tiny", base_url=server.url, cassette=cassette), conversation)
    with Cassette(tmp_path / "night", replay=True) as cassette:
        assert ask(Model("tiny", cassette=cassette), conversation) == ["Na\u00efve \U0001f600"]


@pytest.mark.parametrize("torn", [b'{"asked": {"mo', b"\xff\x00", b"{}"])
def test_a_torn_last_line_is_dropped_and_what_it_began_is_written_anew(tmp_path, torn):
    file = tmp_path / "night"
    for number in range(2):
        with ModelServer(["one", "two"]) as server, Cassette(file) as cassette:
            ask(Model("tiny", base_url=server.url, cassette=cassette), HELLO, said("Hello there", "one", "More"))
            assert len(server.requests) == 2 - number
        if number == 0:
            lines = file.read_bytes().splitlines(keepends=True)
            file.write_bytes(lines[0] + torn)
            with Cassette(file, replay=True) as cassette:
                assert ask(Model("tiny", cassette=cassette), HELLO) == ["one"]
            assert file.read_bytes().endswith(torn)
    assert file.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]\n", "line 1 is no line of a cassette"),
        ("nothing\n", "line 1 is no line of a cassette"),
        ('{"asked": {}, "follows": "8a1f", "messages": [], "completion": {}}\n', "it follows '8a1f', which no line before it has"),
        ('{"asked": {}, "tools": [], "messages": []}\n', "neither a completion nor an error"),
    ],
)
def test_what_is_no_cassette_is_refused_in_a_line_and_left_as_it_is(tmp_path, text, says):
    (tmp_path / "night").write_text(text)
    with pytest.raises(ConfigError, match=says):
        Cassette(tmp_path / "night")
    assert (tmp_path / "night").read_text() == text


def test_two_processes_do_not_write_to_one_cassette_but_may_read_it(tmp_path):
    with Cassette(tmp_path / "night"):
        with pytest.raises(ConfigError, match="another process is writing to cassette"):
            Cassette(tmp_path / "night")
        Cassette(tmp_path / "night", replay=True).close()


def test_a_key_reaches_no_cassette(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "other-canary-99")
    secret = 'odd"canary\\key'
    replies = [Reply(f"your key {KEY} is over its limit", status=403), f"You sent {KEY} and {secret} and other-canary-99", "Fine"]
    with ModelServer(replies) as server, Cassette(tmp_path / "night") as cassette:
        with pytest.raises(ModelError):
            ask(Model("tiny", base_url=server.url, api_key=KEY, cassette=cassette), HELLO)
        model = Model("tiny", base_url=server.url, api_key=secret, cassette=cassette)
        (leaked,) = ask(model, said("Hello", "there", f"My key is {KEY}"))
        ask(model, said("Hello", "there", f"My key is {KEY}", leaked, "Thanks"))
    text = (tmp_path / "night").read_text()
    assert text.count("[key]") >= 4
    assert "canary" not in text
    with Cassette(tmp_path / "night", replay=True) as cassette:
        (again,) = ask(Model("tiny", cassette=cassette), said("Hello", "there", f"My key is {KEY}"))
        assert "canary" not in again
        assert ask(Model("tiny", cassette=cassette), said("Hello", "there", f"My key is {KEY}", again, "Thanks")) == ["Fine"]


KILLED = """
    import asyncio, os, signal, sys
    from sentinel_env.cassette import Cassette
    from sentinel_env.llm import Model
    from sentinel_env.messages import Message

    async def main():
        model = Model("tiny", base_url=sys.argv[1], cassette=Cassette(sys.argv[2]))
        for at in range(5):
            await model.complete([Message(role="user", content=str(at))])
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


def test_what_was_answered_before_a_kill_is_on_the_cassette(tmp_path):
    with ModelServer(lambda request: request["messages"][0]["content"]) as server:
        subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), server.url, tmp_path / "night"])
    with Cassette(tmp_path / "night", replay=True) as cassette:
        assert ask(Model("tiny", cassette=cassette), *(said(str(at)) for at in range(5))) == list("01234")


def test_requests_come_back_whole_from_lines_that_hold_their_end_only(tmp_path):
    conversations = [said(*"ab"), said(*"abcd"), said(*"abx"), said(*"q")]
    with ModelServer(["Fine"]) as server, Cassette(tmp_path / "night") as cassette:
        ask(Model("tiny", base_url=server.url, cassette=cassette), *conversations)
        found = [request for request, _ in cassette.requests()]
    assert all(isinstance(request, Request) for request in found)
    assert ["".join(row["content"] for row in request.messages) for request in found] == ["ab", "abcd", "abx", "q"]


def test_the_command_records_replays_and_caches(library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        return CliRunner().invoke(app, ["run", "library", "--model", "tiny", *map(str, arguments)], prog_name="sentinel")

    with ModelServer(scripted(library, library.split())) as server:
        first = command("--base-url", server.url, "--record", "night.jsonl", "--out", "run")
        asked = len(server.requests)
        cached = command("--base-url", server.url, "--record", "night.jsonl", "--out", "cached", "--prices", "1,1", "--max-cost", "1")
        assert len(server.requests) == asked + 3  # whether it is there, and shows tools
    replayed = command("--replay", "night.jsonl", "--out", "again")
    assert [result.exit_code for result in (first, cached, replayed)] == [0, 0, 0], (first.stderr, cached.stderr, replayed.stderr)
    assert "asked now" in first.stdout
    assert "asked now" not in replayed.stdout
    assert files(tmp_path / "run") == files(tmp_path / "again")
    other = command("--replay", "night.jsonl", "--temperature", "1", "--out", "other")
    assert (other.exit_code, other.stderr.count("\n")) == (1, 1)
    assert "temperature is 0.0 there, 1.0 now" in other.stderr


def test_a_replayed_model_of_any_provider_needs_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Cassette(tmp_path / "night"):
        pass
    with Cassette(tmp_path / "night", replay=True) as cassette:
        model = Model("openai/gpt-4o-mini", cassette=cassette)
        asyncio.run(model.check())
        assert LLMAgent(model).name == "openai/gpt-4o-mini"
        with pytest.raises(ConfigError, match="it is empty"):
            ask(model, HELLO)
        assert ScriptedUser().name == "scripted"
