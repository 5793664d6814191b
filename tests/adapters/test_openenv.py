"""OpenEnv's own clients, raw websockets and raw HTTP against the server in a process of its own."""

import asyncio
import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("openenv", reason="the extra `openenv` is not installed; `make test-adapters` runs this")

from conformance import FAULT, LEAVES, SCRIPTS, SEED, in_text
from openenv import GenericEnvClient
from openenv.cli._validation import validate_running_environment
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sentinel_env import ConfigError, Criteria, EpisodeError, Message, ScriptedUser, TaskError, ToolCall, load_domain
from sentinel_env.adapters.openenv import SentinelAction, SentinelClient, SentinelEnvironment, SentinelOpening, serve
from sentinel_env.adapters.openenv_session import _usual_source
from sentinel_env.adapters.seat import Seat
from sentinel_env.adapters.source import Source

pytestmark = pytest.mark.filterwarnings("default")
BY_NAME = {script.name: script for script in SCRIPTS}
HERE = Path(__file__).resolve().parent
MOST = 6
"""Sessions at once, of every server here."""
PATIENCE = 20.0
SECRET = "L-9901-SECRET"
WAIT = "Please wait."
HASTE = 1.0
"""Seconds after which the hasty server closes an idle session."""


# what the server's process plays with


class Slow:
    """The scripted user as a model would be one: asynchronous, and never heard of again once it is asked to wait."""

    name = "slow"

    async def reply(self, view):
        if view.messages and WAIT in view.messages[-1].content:
            await asyncio.Event().wait()
        return ScriptedUser().reply(view)


class Brief:
    """Greets, and leaves at once."""

    name = "brief"

    def reply(self, view):
        return Message(role="user", content="###STOP###" if any(message.role == "user" for message in view.messages) else "Hello.")


class Pondering(Slow):
    """Takes longer over a reply than the server lets a client be idle."""

    async def reply(self, view):
        await asyncio.sleep(1.5 * HASTE if view.messages[1:] else 0)
        return await super().reply(view)


slow, brief, pondering = Slow(), Brief(), Pondering()


def broken():
    """The library, with a task whose reference is refused when it is graded: the error would tell of it."""
    library = load_domain("library")
    (task,) = library.split()
    criteria = Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": SECRET}),))
    return library.with_tasks([task.model_copy(update={"id": "broken", "criteria": criteria})])


class Noting(Seat):
    """Writes the changes of an episode that has ended to a file: they are not on the wire."""

    folder = Path()

    @property
    def reward(self):
        if self.done:
            (self.folder / f"{self.episode.task.id}.json").write_text(json.dumps(self.episode.db.changes()))
        return super().reward


class Watched(Source):
    def seat_at(self, task, *, seed=0):
        seat = super().seat_at(task, seed=seed)
        seat.__class__ = Noting
        return seat


SERVER = r"""
import sys, threading, json
from test_openenv import Noting, Path, Watched
from sentinel_env.adapters.openenv import serve
def run(name, source, options):
    serve(Watched.open(**source), port=0, started=lambda url: sys.stdout.write(f"{name} {url}\n") and sys.stdout.flush(), **options)
Noting.folder = Path(sys.argv[1])
*others, last = json.loads(sys.argv[2])
for each in others:
    threading.Thread(target=run, args=each, daemon=True).start()
run(*last)
print("ended", flush=True)
"""


@contextmanager
def serving(folder, *servers):
    """A process with servers in it: (name, arguments of Source.open, arguments of serve)."""
    command = [sys.executable, "-c", SERVER, str(folder), json.dumps(servers)]
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    with (folder / "log").open("w") as log, subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            yield process, dict(process.stdout.readline().split() for _ in servers)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("openenv")


@pytest.fixture(scope="module")
def urls(folder):
    ordinary = {"max_sessions": MOST, "idle_seconds": 60}
    customer = {"user": "conformance:customer"}
    with serving(
        folder,
        ("retail", {"domain": "conformance:retail", **customer}, ordinary),
        ("library", {"domain": "conformance:library", **customer}, ordinary),
        ("shop", {"domain": "retail"}, ordinary),
        ("slow", {"domain": "library", "user": "test_openenv:slow"}, ordinary),
        ("broken", {"domain": "test_openenv:broken", "user": "test_openenv:brief"}, ordinary),
        ("hasty", {"domain": "library", "user": "test_openenv:pondering"}, {"max_sessions": MOST, "idle_seconds": HASTE}),
    ) as (_, urls):
        yield urls


@contextmanager
def client(url, kind=GenericEnvClient):
    with kind(base_url=url).sync() as opened:
        yield opened


@contextmanager
def raw(url, path="/ws", **options):
    with connect(url.replace("http", "ws", 1) + path, proxy=None, open_timeout=PATIENCE, max_size=None, **options) as opened:
        yield opened


def ask(sock, frame):
    """The answer to one raw frame."""
    sock.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
    return json.loads(sock.recv(timeout=PATIENCE))


def http(url, path, body=None):
    """(status, JSON) of a raw request."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url + path, data, {"content-type": "application/json"}), timeout=PATIENCE
        ) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def settled(url, active=0):
    """Wait until so many sessions are open."""
    deadline = time.monotonic() + PATIENCE
    while (found := http(url, "/sessions")[1]["active"]) != active:
        assert time.monotonic() < deadline, f"{found} sessions are open"
        time.sleep(0.01)


def plays(url):
    """Whether a new client can play an episode from start to end."""
    script = BY_NAME["passes-in-the-library"]
    with client(url) as each:
        each.reset(index=0)
        return [each.step(turn) for turn in script.turns][-1].reward == 1.0


def play(each, script, turns):
    """(results from the reset on)."""
    results = [each.reset(task_id=script.name, seed=SEED)]
    for turn in turns:
        assert not results[-1].done
        results.append(each.step(turn))
    return results


# every script, through OpenEnv's clients


@pytest.mark.parametrize("form", ["messages", "text"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_comes_out_as_everywhere(urls, folder, script, form):
    with client(urls[script.domain.removeprefix("conformance:")]) as each:
        results = play(each, script, [turn if form == "messages" else {"text": in_text(turn)} for turn in script.turns])
        state = each.state()
    changes = json.loads((folder / f"{script.name}.json").read_text())
    last = results[-1]
    assert last.done
    assert (last.reward, last.observation["ending"], changes) == (script.reward, script.ending, json.loads(json.dumps(script.changes)))
    assert results[0].reward is None
    assert [result.reward for result in results[1:-1]] == [0.0] * (len(results) - 2), "rewards are deltas: what clients sum is the reward"
    assert all(result.metadata is None for result in results[:-1])
    if script.reward is None:
        assert last.metadata == {"error": "ModelError", "error_kind": "server"}
    else:
        assert last.metadata["passed"] == (script.reward == 1.0) == all(last.metadata.values())
    assert (state["done"], state["step_count"], state["task_id"]) == (True, len(script.turns), script.name)
    assert script.name not in json.dumps([result.observation for result in results]), "a generated task's name says what it is for"
    told = json.dumps([[result.observation, result.metadata] for result in results] + [state])
    for secret in (FAULT, LEAVES, "out of order", "expected changes", "never called", '"detail"', "criteria", "scenario"):
        assert secret not in told


def test_the_typed_client_has_the_reward_in_its_observation_as_trl_reads_it(urls):
    script = BY_NAME["passes-a-return"]
    with client(urls["retail"], SentinelClient) as each:
        results = play(each, script, [SentinelAction(text=in_text(turn)) for turn in script.turns])
        assert isinstance(results[0].observation, SentinelOpening)
        assert (results[-1].observation.reward, results[-1].reward, results[-1].observation.done) == (1.0, 1.0, True)
        assert results[-1].metadata == results[-1].observation.metadata
        assert each.state().step_count == len(script.turns)


def test_the_opening_holds_what_an_agent_must_know(urls):
    retail = load_domain("retail")
    with client(urls["shop"]) as each:
        first = each.reset(index=0).observation
        then = each.step({"text": "One moment."}).observation
    assert [message["role"] for message in first["messages"]] == ["assistant", "user"]
    assert first["messages"][0]["content"] == retail.greeting
    assert (first["policy"], first["tools"]) == (retail.policy, json.loads(json.dumps(retail.schemas)))
    assert retail.policy in first["system_prompt"]
    assert not {"policy", "tools", "system_prompt"} & set(then)


# which episode


def test_a_task_is_chosen_by_row_id_split_and_seed(urls):
    source = Source.open("retail")
    of_test = [task.id for task in source.tasks if task.split == "test"]
    with client(urls["shop"]) as each:
        for chosen, expected in (
            ({"index": 5}, source.tasks[5].id),
            ({"index": 2, "split": "test", "seed": 4}, of_test[2]),
            ({"task_id": of_test[1], "seed": None, "index": None}, of_test[1]),
            ({"seed": len(source.tasks) + 3}, source.tasks[3].id),
            ({"seed": 1, "split": "test"}, of_test[1]),
        ):
            each.reset(**chosen)
            assert each.state()["task_id"] == expected
        in_turn = []
        for _ in range(3):
            each.reset()
            in_turn.append(each.state()["task_id"])
        assert len(set(in_turn)) == 3, "without row and seed the rows come in turn"
        each.reset(task_id=of_test[0], seed=9, episode_id="mine")
        assert each.state() == {"episode_id": "mine", "step_count": 0, "task_id": of_test[0], "seed": 9, "ending": None, "done": False}


def test_the_same_seed_gives_the_same_bytes(urls):
    def frames():
        with raw(urls["shop"]) as sock:
            for frame in ({"type": "reset", "data": {"index": 7, "seed": 3}}, {"type": "step", "data": {"text": "What is your email?"}}):
                sock.send(json.dumps(frame))
                yield sock.recv(timeout=PATIENCE)

    assert list(frames()) == list(frames())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"index": "a"}, "index is a whole number from 0, found 'a'"),
        ({"index": True}, "index is a whole number"),
        ({"index": -1}, "index is a whole number from 0"),
        ({"index": 1.5}, "index is a whole number"),
        ({"index": 10**6}, "there is no row 1000000; there are"),
        ({"seed": "1"}, "seed is a whole number"),
        ({"seed": float("nan")}, "seed is a whole number"),
        ({"seed": 10**4000}, "seed is a whole number"),
        ({"seed": [[[]]]}, "seed is a whole number"),
        ({"task_id": 5}, "task_id is a text"),
        ({"task_id": "trian-000"}, "did you mean 'train-0"),
        ({"task_id": "\ud800"}, "no task"),
        ({"task_id": "train-000", "index": 1}, "one of them"),
        ({"split": "night"}, "there is no split 'night'; there is train"),
        ({"episode_id": "x" * 300}, "episode_id is a text of at most 255"),
        ({"taskid": "train-000"}, "found 'taskid'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_reset_that_cannot_be_read_says_why_and_leaves_the_episode_as_it_was(urls, chosen, message):
    with client(urls["shop"]) as each:
        each.reset(index=1)
        with pytest.raises(RuntimeError, match=re.escape(message)):
            each.reset(**chosen)
        assert each.state()["task_id"] == "train-001"


def test_the_tasks_are_listed_without_what_must_not_be_known(urls):
    url = urls["shop"]
    source = Source.open("retail")
    assert http(url, "/list_environments") == (200, ["retail"])
    assert [split["name"] for split in http(url, "/retail/splits")[1]] == ["train", "dev", "test"]
    assert http(url, "/retail/num_tasks", {"split": "test"})[1] == {"num_tasks": sum(task.split == "test" for task in source.tasks)}
    listed = http(url, "/retail/tasks", {"split": "train"})[1]["tasks"]
    assert [task["id"] for task in listed] == [task.id for task in source.tasks if task.split == "train"]
    assert all(set(task) == {"id", "split", "index"} for task in listed)
    assert http(url, "/retail/task", {"split": "train", "index": 4})[1] == {"task": listed[4]}
    assert http(url, "/retail/task_range", {"split": "train", "start": 2, "stop": 5})[1] == {"tasks": listed[2:5]}
    assert http(url, "/retail/task", {"split": "train", "index": -1})[0] == 400
    status, answer = http(url, "/retail/tasks", {"split": "night"})
    assert (status, answer["detail"][:25]) == (400, "there is no split 'night'")
    assert http(url, "/airline/splits")[0] == 404


# actions


ODD_ACTIONS = [
    {},
    {"text": None},
    {"text": ""},
    {"text": "\ud800 \udfff"},
    {"text": 5},
    {"text": True},
    {"text": {"name": 1}},
    {"text": "x" * 100_001},
    {"text": '{"name": "renew_loan", "arguments": {'},
    {"text": '{"name": "renew_loan", "arguments": ' + '{"a": ' * 5000 + "}" * 5000 + "}"},
    {"message": "Hello"},
    {"\ud800": 1},
    {"role": "user", "content": "I am the customer. ###STOP###"},
    {"role": 5},
    {"content": 5},
    {"content": ["a", 3, {"text": 4}, {"text": "b"}]},
    {"content": "x" * 100_001},
    {"tool_calls": {}},
    {"tool_calls": "renew_loan"},
    {"tool_calls": 5},
    {"tool_calls": [1, None]},
    {"tool_calls": [{}]},
    {"tool_calls": [{"name": "renew_loan"}] * 33},
    {"tool_calls": [{"function": {"name": ["renew_loan"], "arguments": {}}}]},
    {"tool_calls": [{"function": {"name": "renew_loan", "arguments": "{"}}], "text": "x" * 100_001},
    {"name": 5},
    {"name": ""},
    {"name": "renew_loan", "arguments": []},
    {"name": "renew_loan", "arguments": {"loan_id": float("nan")}},
    {"name": "renew_loan", "arguments": {"loan_id": float("inf")}},
    {"name": "renew_loan", "arguments": {"loan_id": None}},
    {"name": "renew_loan", "arguments": {"loan_id": 10**300}},
    {"name": "renew_loan", "arguments": {"loan_id": "\udc00"}},
    {"name": "renew_loan", "arguments": {"loan_id": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}},
    {"name": "no_such_tool", "arguments": {}},
    {"metadata": 5},
    {"type": "call_tool", "tool_name": "renew_loan", "arguments": {"loan_id": "L1"}},
    {"type": "list_tools"},
]


@pytest.mark.parametrize("action", ODD_ACTIONS, ids=lambda action: json.dumps(action)[:40])
def test_an_action_that_cannot_be_run_is_an_observation_and_the_session_lives(urls, action):
    with client(urls["library"]) as each:
        each.reset(task_id="passes-in-the-library", seed=SEED)
        result = each.step(action)
        assert (result.reward, result.done, result.observation["steps"]) == (0.0, False, 1)
        assert result.observation["messages"]
        results = [each.step(turn) for turn in BY_NAME["passes-in-the-library"].turns]
    said = (
        action.get("text") in (5, True)
        or action.get("text") == "\ud800 \udfff"
        or action.get("content") in (5, ["a", 3, {"text": 4}, {"text": "b"}])
    )
    assert said or result.observation["messages"][0]["content"].startswith("Error: ")
    assert results[-1].reward in (0.0, 1.0)


@pytest.mark.parametrize(
    "action",
    [
        {"name": "find_loans", "arguments": {"member_id": "M7"}},
        {"name": "find_loans", "arguments": '{"member_id": "M7"}'},
        {"name": "find_loans", "arguments": {"member_id": "M7"}, "text": None, "tool_calls": None, "content": None, "metadata": None},
        {"name": "find_loans", "arguments": {"member_id": "M7"}, "text": "", "tool_calls": [], "role": None, "metadata": {}},
        {"text": '{"name": "find_loans", "arguments": {"member_id": "M7"}}', "tool_calls": None, "name": None},
        {"text": '[{"name": "find_loans", "arguments": {"member_id": "M7"}}]'},
        {"text": [{"name": "find_loans", "arguments": {"member_id": "M7"}}]},
        {"text": {"name": "find_loans", "arguments": {"member_id": "M7"}}},
        {"text": "Let me see.", "tool_calls": [{"name": "find_loans", "arguments": {"member_id": "M7"}}]},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "reasoning_content": "Whose?",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find_loans", "arguments": '{"member_id": "M7"}'}}],
        },
    ],
    ids=range(10),
)
def test_a_call_may_be_written_as_clients_write_it(urls, action):
    with client(urls["library"]) as each:
        each.reset(index=0)
        (answer,) = each.step(action).observation["messages"]
    assert (answer["role"], answer["name"]) == ("tool", "find_loans")
    assert "Dune" in answer["content"]


TWICE = {"name": "find_loans", "arguments": {"member_id": "M7"}}


@pytest.mark.parametrize("action", [{"text": json.dumps([TWICE, TWICE])}, {"tool_calls": [TWICE, TWICE]}], ids=["text", "calls"])
def test_of_two_calls_without_identifiers_each_has_its_own_answer(urls, action):
    with client(urls["library"]) as each:
        each.reset(index=0)
        answers = each.step(action).observation["messages"]
    assert [answer["tool_call_id"] for answer in answers] == ["call_0", "call_1"]


@pytest.mark.parametrize("field", ["text", "content"])
def test_a_thought_is_not_heard_in_whatever_form_it_comes(urls, field):
    with client(urls["library"]) as each:
        each.reset(index=0)
        assert each.step({field: "They want Dune.\n</think>\n\nMay I have your card number?"}).observation["messages"][0]["role"] == "user"
        result = each.step({field: "<think>They want Dune, and"})
    assert "before </think>" in result.observation["messages"][0]["content"]


def as_verifiers(reply, schema):
    """A reply as the OpenEnv taskset of verifiers 0.4 makes an action of it."""
    reply = reply.strip()
    if reply.startswith("```") and reply.endswith("```"):
        reply = "\n".join(reply.splitlines()[1:-1]).strip()
    try:
        action = json.loads(reply)
    except json.JSONDecodeError:
        action = reply
    if isinstance(action, dict):
        return action
    (required,) = schema["required"]
    return {required: action}


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script.domain == "conformance:library"], ids=lambda script: script.name)
def test_replies_go_the_way_that_verifiers_sends_them(urls, script):
    url = urls["library"]
    schema = http(url, "/schema")[1]["action"]
    assert schema["required"] == ["text"]
    with client(url) as each:
        results = play(each, script, [as_verifiers(in_text(turn), schema) for turn in script.turns])
    assert sum(result.reward or 0.0 for result in results) == script.reward


def test_the_class_alone_is_enough_for_nemo_gyms_bridge(monkeypatch):
    monkeypatch.setenv("SENTINEL_SOURCE", json.dumps({"domain": "conformance:library", "user": "test_openenv:slow"}))
    _usual_source.cache_clear()
    script = BY_NAME["passes-in-the-library"]

    async def bridge():  # it calls an environment that is not asynchronous from an event loop
        env = SentinelEnvironment()
        opening = env.reset(**{"task_id": script.name})
        total = float(opening.reward) if opening.reward is not None else 0.0
        for turn in script.turns:
            body = {"text": in_text(turn), "tool_calls": None, "name": None, "arguments": None}
            observation = env.step(SentinelAction(**body))
            total += float(observation.reward)
            assert json.loads(json.dumps(observation.model_dump()))["done"] == observation.done
        env.close()
        return total

    assert asyncio.run(bridge()) == 1.0
    first, second = SentinelEnvironment(), SentinelEnvironment()
    first.reset()
    second.reset()
    assert first.state.task_id != second.state.task_id, "rows come in turn, over all environments of a process"
    _usual_source.cache_clear()


# out of turn


def test_steps_before_a_reset_and_after_the_end_are_refused_in_words(urls):
    script = BY_NAME["passes-in-the-library"]
    with client(urls["library"]) as each:
        assert each.state()["task_id"] is None
        with pytest.raises(RuntimeError, match="there is no episode here; call reset first"):
            each.step({"text": "Hello"})
        play(each, script, script.turns)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"the episode has ended \(user_stop\); call reset for another one"):
                each.step({"text": "Hello"})
        assert each.state()["done"]
        assert play(each, script, script.turns)[-1].reward == 1.0
        fault = BY_NAME["infrastructure-fails"]
    with client(urls["retail"]) as each:
        play(each, fault, fault.turns)
        with pytest.raises(RuntimeError, match=r"the episode has ended \(server\)"):
            each.step({"text": "Hello"})


def test_what_fails_in_the_environment_is_for_the_log_alone(urls, folder):
    with client(urls["broken"]) as each:
        each.reset(index=0)
        with pytest.raises(RuntimeError, match=r"the environment failed \(TaskError\), which is no fault of the agent's") as caught:
            each.step({"text": "Hello"})
        assert SECRET not in str(caught.value)
        with pytest.raises(RuntimeError, match="call reset first"):
            each.step({"text": "Hello"})
        each.reset(index=0)
        assert each.state()["task_id"] == "broken"
    assert SECRET in (folder / "log").read_text()


def test_why_infrastructure_failed_is_for_the_log_alone(urls, folder):
    script = BY_NAME["infrastructure-fails"]
    with client(urls["retail"]) as each:
        assert "out of order" not in str(play(each, script, script.turns)[-1])
    assert f"task {script.name}, seed {SEED}: ModelError: the user's model is out of order" in (folder / "log").read_text()


# abuse


DEEP = '{"type": "step", "data": {"name": "a", "arguments": ' + '{"a": ' * 100_000 + "1" + "}" * 100_000 + "}}"
ABUSE = {
    "bytes": b"\x00\xff\xfe",
    "json in bytes": b'{"type": "reset"}',
    "nothing": "",
    "no json": "hello",
    "half": '{"type": "reset", ',
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "a text": '"reset"',
    "no type": "{}",
    "another type": '{"type": "fly"}',
    "a type that is none": '{"type": {"a": [1]}}',
    "a surrogate for a type": '{"type": "\\ud800"}',
    "step without data": '{"type": "step"}',
    "step with a list": '{"type": "step", "data": []}',
    "step with a surrogate": '{"type": "step", "data": "\\ud800"}',
    "step with NaN": '{"type": "step", "data": NaN}',
    "reset with a number": '{"type": "reset", "data": 1e999}',
    "a reset of its own self": '{"type": "reset", "data": {"self": 1, "timeout": 2}}',
    "more than there is": '{"type": "reset", "data": {}, "\\udfff": [NaN, "\\ud800"]}',
    "half deep": '{"type": "reset", "data": ' + "[" * 90 + "]" * 90 + "}",
    "deep": DEEP,
    "deeper lists": "[" * 200_000,
    "a long number": '{"type": "reset", "data": {"seed": ' + "9" * 5000 + "}}",
    "large": '{"type": "step", "data": {"text": "' + "x" * 2_000_000 + '"}}',
    "mcp": '{"type": "mcp", "data": {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create", "params": {}}}',
    "mcp close": '{"type": "mcp", "data": {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/close", "params": {"session_id": "x"}}}',
}


@pytest.mark.parametrize("frame", ABUSE.values(), ids=ABUSE)
def test_a_frame_that_cannot_be_read_is_answered_by_an_error_and_the_session_lives(urls, frame):
    url = urls["library"]
    with raw(url) as sock:
        assert ask(sock, {"type": "reset", "data": {"index": 0, "seed": SEED}})["data"]["observation"]["messages"]
        answer = ask(sock, frame)
        assert answer["type"] == "error"
        assert answer["data"]["message"]
        assert ask(sock, {"type": "step", "data": {"text": "Hello"}})["data"]["observation"]["steps"] == 1
        assert ask(sock, {"type": "state"})["data"]["step_count"] == 1


def test_a_frame_beyond_all_measure_ends_its_own_session_alone(urls):
    url = urls["library"]
    with client(url) as other:
        other.reset(index=0)
        with raw(url) as sock, pytest.raises(ConnectionClosed) as caught:
            ask(sock, "x" * 17_000_000)
        assert caught.value.rcvd is None or caught.value.rcvd.code == 1009, "or it is cut off while it still sends"
        assert other.step({"text": "Hello"}).observation["steps"] == 1
    settled(url)


def test_nobody_attaches_to_the_session_of_another(urls):
    url = urls["library"]
    with client(url) as other:
        other.reset(index=0)
        for wanted in ("x", "00000000-0000-0000-0000-000000000000", ""):
            with raw(url, f"/ws?session_id={wanted}") as sock:
                assert "there is none to attach to" in json.loads(sock.recv(timeout=PATIENCE))["data"]["message"]
                with pytest.raises(ConnectionClosed):
                    sock.recv(timeout=PATIENCE)
        assert http(url, "/sessions")[1] == {"active": 1, "most": MOST}
        assert other.step({"text": "Hello"}).observation["steps"] == 1
    settled(url)


def test_a_web_page_of_another_place_opens_no_session(urls):
    url = urls["library"]
    for origin in ("http://example.com", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus, match="403"), raw(url, origin=origin):
            pass
    with raw(url, origin=url) as sock:
        assert ask(sock, {"type": "reset", "data": {"index": 0}})["type"] == "observation"


def test_sessions_at_once_do_not_see_each_other(urls):
    script = BY_NAME["passes-in-the-library"]
    url = urls["library"]
    settled(url)

    async def one(at):
        async with GenericEnvClient(base_url=url) as each:
            await each.reset(task_id=script.name, seed=at)
            for turn in script.turns:
                result = await each.step(turn)
            return result.reward, (await each.state())["seed"]

    async def all_at_once():
        return await asyncio.gather(*map(one, range(MOST)))

    assert asyncio.run(all_at_once()) == [(1.0, at) for at in range(MOST)]
    settled(url)


def test_one_client_too_many_is_told_so_and_the_next_one_comes_in(urls):
    url = urls["library"]
    settled(url)
    with client(url) as last:
        others = [GenericEnvClient(base_url=url).sync() for _ in range(MOST - 1)]
        for each in (last, *others):
            each.reset(index=0)
        with pytest.raises(RuntimeError, match="CAPACITY_REACHED"), client(url) as late:
            late.reset(index=0)
        assert last.step({"text": "Hello"}).observation["steps"] == 1
        others.pop().close()
        settled(url, MOST - 1)
        with client(url) as late:
            assert late.reset(index=0).observation["messages"]
        for each in others:
            each.close()
    settled(url)


def test_a_user_who_thinks_holds_up_nobody_else_and_a_client_that_vanishes_frees_its_place(urls):
    url = urls["slow"]
    with raw(url) as waiting:
        assert ask(waiting, {"type": "reset", "data": {"index": 0}})["type"] == "observation"
        waiting.send(json.dumps({"type": "step", "data": {"text": WAIT}}))
        assert plays(url)
        settled(url, 1)
        waiting.socket.shutdown(socket.SHUT_RDWR)
        settled(url)
    assert plays(url)


def test_clients_that_vanish_at_any_moment_leave_no_session_behind(urls):
    url = urls["slow"]
    reset, step = ({"type": "reset", "data": {"index": 0}}, {"type": "step", "data": {"text": WAIT}})
    frames = [[], [reset], [reset, step], [reset, step, step, step], ["{"], [{"type": "close"}], [reset, {"type": "close"}]]
    for sent, answers in itertools.product(frames, (0, 1)):
        with raw(url) as sock:
            for frame in sent:
                sock.send(frame if isinstance(frame, str) else json.dumps(frame))
            if answers and sent and sent[0] != {"type": "close"}:
                sock.recv(timeout=PATIENCE)
            sock.socket.shutdown(socket.SHUT_RDWR)
        settled(url)
    assert plays(url)


def test_an_idle_client_loses_its_session_and_can_come_back(urls):
    url = urls["hasty"]
    with client(url) as each:
        each.reset(index=0)
        settled(url)
        with suppress(RuntimeError):  # where the news has not arrived yet
            each.reset(index=0)
        assert each.reset(index=0).observation["messages"], "OpenEnv's client connects again"
    with raw(url) as sock:
        answer = json.loads(sock.recv(timeout=PATIENCE))["data"]
        assert (answer["code"], answer["message"]) == ("SESSION_ERROR", "nothing was heard for 1 seconds; the session is closed")
        with pytest.raises(ConnectionClosed):
            sock.recv(timeout=PATIENCE)
    settled(url)


def test_a_client_is_not_idle_while_its_user_ponders(urls):
    with client(urls["hasty"]) as each:
        each.reset(index=0)
        assert each.step({"text": "Hello"}).observation["steps"] == 1


def test_frames_that_are_sent_ahead_are_answered_in_order(urls):
    with raw(urls["library"]) as sock:
        sock.send('{"type": "reset", "data": {"task_id": "passes-in-the-library"}}')
        for at in range(20):
            sock.send("[]" if at % 2 else '{"type": "step", "data": {"name": "find_loans", "arguments": {"member_id": "M7"}}}')
        answers = [json.loads(sock.recv(timeout=PATIENCE)) for _ in range(21)]
    assert [answer["type"] for answer in answers] == ["observation", *["observation", "error"] * 10]
    assert [answer["data"]["observation"]["steps"] for answer in answers[1::2]] == list(range(1, 11))


def test_plain_http_is_answered_in_words(urls):
    url = urls["library"]
    opening = http(url, "/reset", {"index": 0, "seed": 1})
    assert (opening[0], opening[1]["done"]) == (200, False)
    assert http(url, "/reset", {"index": "a"}) == (400, {"detail": "index is a whole number from 0, found 'a'"})
    assert http(url, "/reset", b"[1]")[0] == 422
    assert http(url, "/reset", b'{"seed": NaN}')[0] == 422
    assert http(url, "/reset", b'{"seed": "\\ud800"}')[0] == 422
    assert http(url, "/reset", b"\xff\xfe")[0] == 422
    assert http(url, "/reset", ("[" * 100_000).encode())[0] == 422
    assert http(url, "/reset", b'{"seed": ' + b"9" * 5000 + b"}")[0] == 422
    assert http(url, "/reset", b'{"a": "' + b"x" * 2_100_000 + b'"}')[0] == 413
    status, answer = http(url, "/step", {"action": {"text": "Hello"}})
    assert (status, answer["detail"]) == (409, "there is no episode here; call reset first, over the same websocket")
    assert http(url, "/state")[1] == {"episode_id": None, "step_count": 0, "task_id": None, "seed": None, "ending": None, "done": False}
    assert http(url, "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create", "params": {}})[1]["error"]
    for page in ("/docs", "/redoc", "/web", "/harness", "/nowhere"):
        assert http(url, page)[0] == 404
    settled(url)


def test_openenvs_own_validation_passes(urls):
    report = validate_running_environment(urls["shop"])
    assert report["passed"], [each for each in report["criteria"] if not each["passed"]]


# the process


def test_it_ends_cleanly_with_clients_in_the_middle_of_a_call(tmp_path):
    options = {"max_sessions": MOST, "idle_seconds": 60}
    with (
        serving(tmp_path, ("slow", {"domain": "library", "user": "test_openenv:slow"}, options)) as (process, urls),
        raw(urls["slow"]) as sock,
    ):
        ask(sock, {"type": "reset", "data": {"index": 0}})
        sock.send(json.dumps({"type": "step", "data": {"text": WAIT}}))
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "ended\n"
        assert process.wait(PATIENCE) == 0
    assert (tmp_path / "log").read_text() == ""


def test_a_place_that_is_taken_and_limits_that_are_none_are_refused():
    source = Source.open("library")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, pytest.raises(ConfigError, match="choose another one, or 0"):
        serve(source, port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="0 to 65535"):
        serve(source, port=70_000)
    with pytest.raises(ConfigError, match="above 0"):
        serve(source, port=0, max_sessions=0)


def test_the_environment_by_itself_refuses_what_it_must():
    env = SentinelEnvironment(Source.open("library"))
    with pytest.raises(EpisodeError, match="call reset first"):
        env.step(SentinelAction(text="Hello"))
    with pytest.raises(TaskError, match="there is no row 9; there are 1"):
        env.reset(index=9)
    env.reset()
    env.close()
    with pytest.raises(EpisodeError, match="call reset first"):
        asyncio.run(env.step_async(SentinelAction(text="Hello")))


def test_the_recipe_runs_as_printed():
    recipe = (HERE.parent.parent / "docs" / "openenv.md").read_text(encoding="utf-8")
    (shell,) = re.findall(r"```sh\n(.*?)```", recipe, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    serving = shlex.split(shell.splitlines()[1], comments=True)
    assert (serving[0], serving[-1]) == ("sentinel", "8000")
    command = [sys.executable, "-m", "sentinel_env", *serving[1:-1], "0"]  # whatever else listens on this machine
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            (url,) = re.findall(r"http://[\d.:]+", process.stderr.readline())
            ran = subprocess.run([sys.executable, "-c", code.replace("http://127.0.0.1:8000", url)], capture_output=True, text=True)
            process.send_signal(signal.SIGINT)
            assert (process.wait(PATIENCE), process.stderr.read()) == (130, "sentinel: stopped\n")
        finally:
            process.kill()
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("0.0 False\n")
