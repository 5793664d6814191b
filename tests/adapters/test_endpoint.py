"""run_episode against a real server on loopback: the scripted episodes, every fault, and what a process is left with."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra `endpoint` is not installed; `make test-adapters` runs this")

from conformance import MAX_STEPS, SCRIPTS, SEED
from pydantic import ValidationError

from sentinel_env import (
    ConfigError,
    DomainError,
    ModelError,
    ScriptedAgent,
    ScriptedUser,
    TaskError,
    evaluate,
    load_domain,
    run_tasks,
    tool,
)
from sentinel_env.adapters.endpoint import arun_episode, run_episode
from sentinel_env.adapters.kept import KEPT, Kept
from sentinel_env.attempts import trial_seed
from sentinel_env.llm import Model
from sentinel_env.llm_agent import LLMAgent
from sentinel_env.model_server import ModelServer, Reply

BY_NAME = {script.name: script for script in SCRIPTS}
PASS = BY_NAME["passes-in-the-library"]
CUSTOMER = {"user": "conformance:customer", "seed": SEED, "max_steps": MAX_STEPS}
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def turn_of(request, script):
    """The script's turn that a request asks for: as many as the assistant wrote, its greeting left out."""
    written = sum(message["role"] == "assistant" for message in request["messages"])
    turn = script.turns[written - 1]
    return Reply(turn["content"], calls=turn.get("tool_calls", ()))


@pytest.fixture
def server():
    """Plays the script that the model is called after."""
    with ModelServer(lambda request: turn_of(request, BY_NAME[request["model"]])) as found:
        yield found


def play(script, server, **settings):
    return run_episode(script.name, domain=script.domain, base_url=server.url, model=script.name, **CUSTOMER | settings)


def came(result):
    return result.reward, result.trajectory.ending, result.trajectory.changes


# conformance


@each_script
def test_a_script_comes_out_as_everywhere(script, server):
    result = play(script, server)
    assert came(result) == script.expected
    assert (result.error is None, result.error_kind) == ((True, None) if script.reward is not None else (False, "server"))
    assert result.passed == {} if script.reward is None else all(result.passed.values()) == bool(script.reward)


def test_hundreds_at_once_in_one_event_loop_come_out_as_everywhere(server):
    scripts = SCRIPTS * 10

    async def all_of_them():
        rows = [{"task_id": script.name, "domain": script.domain} for script in scripts]
        return await asyncio.gather(*(arun_episode(row, base_url=server.url, model=row["task_id"], **CUSTOMER) for row in rows))

    results = asyncio.run(all_of_them())
    assert [came(result) for result in results] == [script.expected for script in scripts]


def test_episodes_are_those_of_a_run_to_the_last_message():
    domain = load_domain("retail")
    tasks = domain.split()[:6]
    scripted = run_tasks(domain, tasks, ScriptedAgent(tasks=tasks), ScriptedUser())
    written = {each.seed: [message for message in each.messages if message.role == "assistant"] for each in scripted}

    def script(request):
        message = written[request["seed"]][sum(message["role"] == "assistant" for message in request["messages"])]
        return Reply(message.content, calls=message.tool_calls, usage=(100, 10))

    with ModelServer(script) as server:
        run = run_tasks(domain, tasks, LLMAgent(Model("any", base_url=server.url)), ScriptedUser())
        asked = len(server.requests)
        alone = [run_episode(task, base_url=server.url, model="any", seed=trial_seed(0, task.id, 0)) for task in tasks]
    assert [result.trajectory for result in alone] == run
    assert [result.reward for result in alone] == [evaluate(domain, trajectory).reward for trajectory in run]
    assert alone[0].usage == run[0].usage
    assert sum(result.usage["agent_calls"] for result in alone) == asked
    by_key = sorted(map(json.dumps, server.requests))
    assert by_key[::2] == by_key[1::2]


# rows


@pytest.mark.parametrize(
    "row",
    [
        PASS.task,
        PASS.task.model_dump(),
        PASS.task.model_dump_json(exclude_defaults=True),
        {"prompt": [], "task": PASS.task.model_dump_json(), "data_source": None},
        {"task": PASS.task.model_dump(), "task_id": None},
        {"task": PASS.name, "domain": PASS.domain},
        json.dumps({"task_id": PASS.name, "domain": PASS.domain}),
    ],
    ids=lambda row: f"{type(row).__name__}-{str(row)[:12]}",
)
def test_a_task_comes_as_it_is_or_in_a_row(row, server):
    result = run_episode(row, base_url=server.url, model=PASS.name, **CUSTOMER)
    assert came(result) == PASS.expected
    assert result.trajectory.task == PASS.task


@pytest.mark.parametrize(
    ("row", "domain", "error", "match"),
    [
        ("renew-dune", None, ConfigError, "named by its id; say of which domain"),
        ("renew-dun", "library", TaskError, "did you mean 'renew-dune'"),
        ("{", None, TaskError, "the row is no JSON"),
        ("[1]", "library", TaskError, "has no task"),
        ('{"id": "a"}', None, TaskError, r"the row is no task: domain: Field required"),
        ({"task": None}, "library", TaskError, "a task is a Task, the id of one, or a row that holds it, found None"),
        (7, "library", TaskError, "found 7"),
        (PASS.task, "retail", TaskError, "is for domain 'library'"),
        (PASS.task.model_copy(update={"changes": {"loans": {"L9": {"size": 1}}}}), None, TaskError, "changes: "),
    ],
)
def test_what_is_no_task_is_said_before_a_model_is_asked(row, domain, error, match, server):
    with pytest.raises(error, match=match):
        run_episode(row, domain=domain, base_url=server.url, model="any")
    assert server.requests == []


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"temprature": 1}, "no setting 'temprature'; how a model is asked: temperature, "),
        ({"base_url": None}, "behind a base URL, found model 'any' at None"),
        ({"base_url": "localhost:8000"}, "a base URL looks like"),
        ({"model": None}, "found model None"),
        ({"model": " "}, "a model needs a name"),
        ({"api_key": "a key"}, "the API key holds a space"),
        ({"seed": 1.5}, "a seed is a whole number, found 1.5"),
        ({"max_steps": 0}, "max_steps is a whole number of at least 1"),
        ({"attempts": 0}, "attempts is a whole number of at least 1, found 0"),
        ({"max_tokens": "many"}, "max_tokens is a whole number of at least 1, found 'many'"),
        ({"timeout": float("nan")}, "timeout is seconds above 0, found nan"),
        ({"temperature": "hot"}, "temperature is a number of at least 0, or None, found 'hot'"),
        ({"tools_in_text": 1}, "tools_in_text is True or False, found 1"),
        ({"api_key": 5}, "an API key is text, found int"),
        ({"user": "nobody:here"}, "cannot be imported"),
        ({"user": {"model": "m", "size": 1}}, "has no setting 'size'"),
    ],
)
def test_settings_that_cannot_work_are_said_at_once(settings, match):
    with pytest.raises(ConfigError, match=match):
        run_episode(PASS.task, **{"base_url": "http://127.0.0.1:9/v1", "model": "any"} | settings)


# how the model is asked


def test_how_the_model_is_asked_goes_through(server):
    numpy = pytest.importorskip("numpy")
    play(PASS, server, temperature=0.7, max_tokens=99, seed=numpy.int64(5))
    asked = server.requests[0]
    assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0.7, 99, 5)
    assert [each["function"]["name"] for each in asked["tools"]] == ["find_loans", "renew_loan"]
    play(PASS, server, temperature=None, tools_in_text=True)
    asked = server.requests[-1]
    assert "tools" not in asked
    assert "temperature" not in asked
    assert "find_loans" in asked["messages"][0]["content"]


def test_the_key_goes_to_the_server_and_into_no_result():
    with ModelServer([Reply("Hello?")], key="sk-right") as server:
        right = run_episode(PASS.task, base_url=server.url, api_key="sk-right", model="any", max_steps=1)
        wrong = run_episode(PASS.task, base_url=server.url, api_key="sk-wrong", model="any", max_steps=1)
    assert (right.reward, right.trajectory.ending) == (0.0, "max_steps")
    assert (wrong.reward, wrong.error_kind) == (None, "refused")
    assert "sk-" not in right.model_dump_json() + wrong.model_dump_json()


def test_neither_the_scenario_nor_the_reference_goes_to_the_model(server):
    script = BY_NAME["fails-by-handing-over"]
    result = play(script, server)
    shown = json.dumps([server.requests, result.messages])
    task = script.task
    (write,) = (call for call in task.criteria.actions if call.name.startswith("modify"))
    assert write.arguments["address1"] not in shown
    assert not any(word in shown for word in ("provenance", "criteria", "wishes", "communicate"))
    assert str(write.arguments["address1"]) not in json.dumps(result.passed)
    assert result.passed == {"ended": True, "database": False}


def test_a_result_is_frozen_and_outlives_the_process_as_json(server):
    result = play(PASS, server)
    with pytest.raises(ValidationError, match="frozen"):
        result.reward = 0.0
    assert type(result).model_validate_json(result.model_dump_json()) == result
    assert result.messages[-1]["content"].endswith("###STOP###")


# what goes wrong


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("boom", status=500), "server"),
        (Reply("slow down", status=429), "rate"),
        (Reply("no such model", status=404), "refused"),
        (Reply(fault="hang"), "timeout"),
        (Reply(fault="cut"), "malformed"),
        (Reply(fault="not_json"), "malformed"),
        (Reply(fault="no_choices"), "malformed"),
        (Reply("maximum context length is 4096 tokens", status=400), "context"),
    ],
)
def test_a_fault_of_the_model_has_no_reward_and_a_class(reply, kind):
    with ModelServer([reply]) as server:
        result = run_episode(PASS.task, base_url=server.url, model="any", attempts=1, timeout=0.3)
    assert (result.reward, result.error_kind, result.passed) == (None, kind, {})
    assert result.error.startswith("ModelError: model any: ")
    assert result.trajectory.error == result.error
    assert evaluate(load_domain("library"), result.trajectory).reward is None


def test_a_server_that_is_not_there_has_no_reward():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run_episode(PASS.task, base_url=f"http://127.0.0.1:{port}/v1", model="any", attempts=1)
    assert (result.reward, result.error_kind) == (None, "server")
    assert "cannot reach" in result.error


def test_a_fault_in_the_middle_keeps_what_was_said_until_then():
    def script(request):
        assistant = sum(message["role"] == "assistant" for message in request["messages"])
        return turn_of(request, PASS) if assistant < 3 else Reply("boom", status=503)

    with ModelServer(script) as server:
        result = run_episode(PASS.task, base_url=server.url, model="any", attempts=1)
    assert result.reward is None
    assert [message.role for message in result.trajectory.messages] == ["assistant", "user", "assistant", "user", "assistant", "tool"]
    assert result.usage["agent_calls"] == 2


def test_a_dialogue_that_outgrows_the_model_is_truncated_as_in_a_run():
    too_long = Reply("This model's maximum context length is 4096 tokens", status=400)

    def script(request):
        return too_long if len(request["messages"]) > 6 else turn_of(request, PASS)

    with ModelServer(script) as server:
        result = run_episode(PASS.task, base_url=server.url, model="any")
        (run,) = run_tasks(load_domain("library"), [PASS.task], LLMAgent(Model("any", base_url=server.url)), ScriptedUser())
    assert (result.reward, result.error, result.trajectory.ending) == (0.0, None, "limit")
    assert (run.ending, run.truncated, run.changes) == ("limit", True, result.trajectory.changes)


def test_a_model_as_the_user_is_asked_too_and_its_faults_have_no_reward(server):
    def customer(request):
        said = sum(message["role"] == "assistant" for message in request["messages"])
        if broken and said == 3:
            return Reply("out of order", status=400)
        return ["Renew Dune for me.", "M7.", "Yes.", "Thanks. ###STOP###"][said]

    with ModelServer(customer) as other:
        settings = {"user": {"model": "customer", "base_url": other.url, "guards": False}, "seed": 3}
        for broken in (False, True):
            result = run_episode(PASS.task, base_url=server.url, model=PASS.name, **settings)
            assert (result.reward, result.error_kind) == ((None, "refused") if broken else (1.0, None))
        result = asyncio.run(arun_episode(PASS.task, base_url=server.url, model=PASS.name, **settings))
    assert result.error_kind == "refused"
    assert (result.trajectory.user, result.usage["user_calls"]) == ("llm:customer", 3)


def test_a_crash_of_a_tool_comes_out():
    @tool
    def find_loans(db, member_id: str) -> str:
        """List a member's loans.

        Args:
            member_id: The card number.
        """
        raise ZeroDivisionError("a bug of the domain")

    domain = load_domain("library")
    domain = replace(domain, tools=(find_loans, *domain.tools[1:]))
    with ModelServer([Reply(calls=({"function": {"name": "find_loans", "arguments": '{"member_id": "M7"}'}},))]) as server:
        for play_it in (run_episode, lambda *given, **named: asyncio.run(arun_episode(*given, **named))):
            with pytest.raises(DomainError, match="tool find_loans crashed on"):
                play_it(PASS.task, domain=domain, base_url=server.url, model="any")


def test_a_user_of_the_callers_own_answers_in_the_callers_event_loop(server):
    class Bound:
        name = "bound"

        def __init__(self):
            self.lock, self.loops = asyncio.Lock(), set()

        async def reply(self, view):
            async with self.lock:
                await asyncio.sleep(0)
                self.loops.add(asyncio.get_running_loop())
                return ScriptedUser().reply(view)

    async def some():
        user = Bound()
        results = await asyncio.gather(*(arun_episode(PASS.task, base_url=server.url, model=PASS.name, user=user) for _ in range(9)))
        assert user.loops == {asyncio.get_running_loop()}
        return [result.reward for result in results]

    assert asyncio.run(some()) == [1.0] * 9


# loops, threads, connections


def test_it_works_inside_an_event_loop_that_runs_and_in_many_threads(server):
    async def inside():
        return play(PASS, server).reward

    assert asyncio.run(inside()) == 1.0
    with ThreadPoolExecutor(16) as pool:
        assert [result.reward for result in pool.map(lambda _: play(PASS, server), range(32))] == [1.0] * 32


@contextmanager
def counted(url):
    """The address of a relay to a server, and its connections so far."""
    made, writers, (host, port) = [], [], url.removeprefix("http://").removesuffix("/v1").split(":")

    async def pass_on(source, target):
        while data := await source.read(65536):
            target.write(data)

    async def relay(reader, writer):
        made.append(writer)
        answers, questions = await asyncio.open_connection(host, port)
        writers.extend((writer, questions))
        await asyncio.gather(pass_on(reader, questions), pass_on(answers, writer))

    async def end():
        listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(relay, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", made
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_episodes_one_after_the_other_share_a_connection_whatever_loop_they_are_in(server):
    with counted(server.url) as (url, connections):
        for _ in range(5):
            assert run_episode(PASS.task, base_url=url, model=PASS.name).reward == 1.0
            assert asyncio.run(arun_episode(PASS.task, base_url=url, model=PASS.name)).reward == 1.0
        assert len(connections) == 1
        asyncio.run(asyncio.wait_for(many(url, 8), 60))
        assert len(connections) <= 9


async def many(url, count):
    return await asyncio.gather(*(arun_episode(PASS.task, base_url=url, model=PASS.name) for _ in range(count)))


def test_addresses_of_one_episode_each_do_not_pile_up():
    for at in range(KEPT.most_idle + 20):
        run_episode(PASS.task, base_url=f"http://127.0.0.1:9/session-{at}/v1", model="any", attempts=1)
    assert len(KEPT) <= KEPT.most_idle


def test_the_longest_idle_goes_first_and_what_is_borrowed_stays():
    kept, closed = Kept(most_idle=2), []

    class Side:
        def __init__(self, name):
            self.name = name

        async def close(self):
            closed.append(self.name)
            over.set()

    over = threading.Event()
    with kept.borrow("held", lambda: Side("held")) as held:
        for name in ("a", "b", "a", "c"):
            with kept.borrow(name, lambda name=name: Side(name)):
                pass
        assert over.wait(10)
        assert closed == ["b"]
        with kept.borrow("held", lambda: Side("other")) as same:
            assert same is held
    kept.close()
    assert sorted(closed) == ["a", "b", "c", "held"]


def test_a_cancelled_episode_lets_go_of_everything():
    arrived = threading.Event()

    def script(request):
        arrived.set()
        return Reply(fault="hang")

    async def cancelled(url):
        task = asyncio.create_task(arun_episode(PASS.task, base_url=url, model="any"))
        await asyncio.to_thread(arrived.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ModelServer(script) as server:
        asyncio.run(cancelled(server.url))
        assert not any("any" in key and server.url in key for key in KEPT._borrowers)


WHOLE = """
import asyncio, gc, sys
sys.modules["litellm"] = None
from sentinel_env import arun_episode, run_episode
from sentinel_env.model_server import ModelServer
with ModelServer(["Goodbye."]) as server:
    ask = dict(base_url=server.url, model="any", max_steps=2, user={"model": "customer", "base_url": server.url})
    row = {"task_id": "renew-dune", "domain": "library"}
    for _ in range(3):
        print(run_episode(row, **ask).reward, asyncio.run(arun_episode(row, **ask)).reward)
    loop = asyncio.new_event_loop()
    print(loop.run_until_complete(arun_episode(row, **ask)).reward)
    loop.close()
    del loop
    gc.collect()
    END
"""
FORK = """
    import os
    child = os.fork()
    if child == 0:
        print(run_episode(row, **ask).reward, flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("end", ["", FORK], ids=["ends", "forks"])
def test_a_process_that_closes_nothing_ends_without_a_word(end):
    code = WHOLE.replace("    END\n", end)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["0.0"] * 7 + (["0.0", "0"] if end else [])


# AReaL, which is not installed here: its two ways of calling an agent, word for word


def areal_agent():
    """The class that docs/run_episode.md prints."""
    text = (Path(__file__).parents[2] / "docs" / "run_episode.md").read_text(encoding="utf-8")
    (block,) = (each for each in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "class " in each)
    found = {}
    exec(block, found)  # our own recipe
    return found["SentinelAgent"]()


def wrap_run(data, environment):
    os.environ.update(environment)
    return asyncio.run(areal_agent().run(data))


def test_areals_agent_gives_a_float_inline_and_in_a_pool_of_processes():
    row = {"task": PASS.task.model_dump_json()}
    with ModelServer(lambda request: turn_of(request, PASS), key="session-1") as server:
        inline = asyncio.run(areal_agent().run(row, base_url=server.url, http_client=None, api_key="session-1"))
        with ProcessPoolExecutor(2) as pool:
            environment = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "session-1"}
            rewards = list(pool.map(wrap_run, [row] * 4, [environment] * 4))
        assert [inline, *rewards] == [1.0] * 5
        with pytest.raises(ModelError, match="HTTP 401") as caught:
            asyncio.run(areal_agent().run(row, base_url=server.url, http_client=None, api_key="session-0"))
    assert caught.value.kind == "refused"
