"""A model as the agent, through real HTTP: its mistakes are its own, outages are nobody's, and nothing else changes the reward."""

import asyncio
import importlib.util
import json
import logging
import os
import subprocess
import sys

import pytest
from scripted_models import faulty, scripted
from typer.testing import CliRunner

from sentinel_env import ToolCall, evaluate, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.cli import app
from sentinel_env.episode import AgentView
from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.llm import Model, ModelMessage
from sentinel_env.llm_agent import LLMAgent, instructions, with_ids
from sentinel_env.llm_user import LLMUser
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.runner import arun_tasks, run_tasks
from sentinel_env.trajectory import read_trajectories, replay
from sentinel_env.users import ScriptedUser

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
KEY = "sk-canary-4f1d9a7e2b"
FIND = ToolCall(name="find_loans", arguments={"member_id": "M7"})
needs_litellm = pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="litellm (extra: llm) is not installed")


@pytest.fixture(scope="module")
def library():
    return load_domain("library")


@pytest.fixture(scope="module")
def retail():
    return load_domain("retail")


def play(domain, script, *, tasks=None, attempts=4, timeout=60.0, user=None, run=None, **settings):
    """(trajectories, requests) of a model that answers by a script."""
    with ModelServer(script) as server:
        agent = LLMAgent(Model("tiny", base_url=server.url, attempts=attempts, timeout=timeout), **settings)
        found = run_tasks(domain, tasks or domain.split(), agent, user or ScriptedUser(), **(run or {}))
        return found, server.requests


def broken(arguments):
    return {"id": "call_9", "type": "function", "function": {"name": "renew_loan", "arguments": arguments}}


# the dialogue


@pytest.mark.parametrize("in_text", [False, True])
def test_a_model_that_knows_its_work_earns_one_and_replays(library, in_text):
    (played,), requests = play(library, scripted(library, library.split()), tools_in_text=in_text)
    assert (played.ending, evaluate(library, played).reward) == ("user_stop", 1.0)
    replay(library, played)
    assert all(("tools" in request) is not in_text for request in requests)
    assert {request["seed"] for request in requests} == {played.seed}
    assert {request["temperature"] for request in requests} == {0.0}


def test_the_server_gets_policy_tools_and_the_dialogue_with_its_call_ids(library):
    replies = [Reply("", calls=(FIND.model_copy(update={"id": "toolu_01"}),)), "Which loan is it?", "Bye."]
    _, requests = play(library, replies, run={"max_steps": 3})
    assert requests[0]["tools"] == library.schemas
    system, greeting, opening, call, answer, *_ = requests[-1]["messages"]
    assert (system["role"], system["content"]) == ("system", library.policy)
    assert (greeting["role"], greeting["content"]) == ("assistant", library.greeting)
    assert (opening["role"], opening["content"]) == ("user", "Renew Dune for me.")
    assert call["tool_calls"] == [
        {"id": "toolu_01", "type": "function", "function": {"name": "find_loans", "arguments": '{"member_id": "M7"}'}}
    ]
    assert (answer["role"], answer["tool_call_id"]) == ("tool", "toolu_01")


def test_calls_without_an_id_or_with_anothers_get_their_own():
    calls = [FIND, FIND.model_copy(update={"id": "a"}), FIND.model_copy(update={"id": "a"}), FIND.model_copy(update={"id": ""})]
    assert [call.id for call in with_ids(calls, 5)] == ["call_5_0", "a", "call_5_2", "call_5_3"]
    assert [call.id for call in with_ids(calls, 5, {"a", "call_5_2"})] == ["call_5_0", "call_5_1", "call_5_2_", "call_5_3"]


def test_a_server_that_numbers_the_calls_of_each_turn_anew_gets_no_identifier_twice(library):
    replies = [Reply("", calls=(FIND.model_copy(update={"id": "call_0"}),))] * 3 + ["Bye."]
    _, requests = play(library, replies, run={"max_steps": 4})
    rows = requests[-1]["messages"]
    asked = [call["id"] for row in rows for call in row.get("tool_calls", ())]
    assert len(asked) == len(set(asked)) == 3
    assert asked == [row["tool_call_id"] for row in rows if row["role"] == "tool"]


def test_under_tau2s_dialect_the_policy_stands_in_its_protocol(library):
    from dataclasses import replace

    text = instructions(replace(library, dialect="tau2"))
    assert text.startswith("<instructions>")
    assert text.endswith(f"<policy>\n{library.policy}\n</policy>")


def test_calls_in_the_text_are_read_where_the_server_does_not_know_them(library):
    script = ['<think>Whose?</think><tool_call>\n{"name": "renew_loan", "arguments": {"loan_id": "L1"}}\n</tool_call>', "Done: two weeks."]
    (played,), _ = play(library, script)
    assert played.changes == {"loans": {"L1": {"status": "renewed"}}}
    assert evaluate(library, played).passed


def test_reasoning_goes_back_to_the_model_and_to_nobody_else(library):
    replies = [Reply(calls=(FIND,), reasoning="Whose is it?"), Reply("Which loan?", reasoning="I cannot know."), "Bye."]
    heard = []

    class Listening(ScriptedUser):
        def reply(self, view):
            heard.extend(message.content for message in view.messages)
            return super().reply(view)

    (played,), requests = play(library, replies, user=Listening(), run={"max_steps": 3})
    assert [row.get("reasoning_content") for row in requests[-1]["messages"]] == [
        *[None] * 3,
        "Whose is it?",
        None,
        "I cannot know.",
        None,
    ]
    assert "cannot know" not in str(heard)
    assert "cannot know" not in played.model_dump_json()
    assert not any(isinstance(message, ModelMessage) for message in played.messages)
    _, requests = play(library, replies, keeps_reasoning=False, run={"max_steps": 3})
    assert "reasoning_content" not in json.dumps(requests[-1])


def test_the_trajectory_says_what_the_agent_took(library, tmp_path):
    (played,), requests = play(library, scripted(library, library.split()), run={"out": tmp_path})
    assert played.usage["agent_calls"] == len(requests) == 4
    assert played.usage["agent_completion_tokens"] > 0
    assert list(read_trajectories(tmp_path)) == [played]


# mistakes and outages


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(calls=(broken('{"loan_id": '),)), "not valid JSON"),
        (Reply(calls=(broken('["L1"]'),)), "a JSON object, found list"),
        (Reply("<think>Let me see whether"), "ended before </think>"),
        (Reply("", reasoning="Let me see", finish="length"), "cut at 4096 tokens before it said anything"),
        (Reply(""), None),
        (Reply('{"name": "renew_loan", "arguments": {'), "not valid JSON"),
        (Reply(calls=(ToolCall(name="renew_lone", arguments={}),)), None),
    ],
)
def test_what_a_model_gets_wrong_is_its_own_mistake_and_is_shown_to_it(library, reply, problem):
    (played,), requests = play(library, [reply], attempts=2)
    assert (played.error, played.ending, evaluate(library, played).reward) == (None, "max_errors", 0.0)
    first = next(message for message in played.messages[1:] if message.role == "assistant")
    assert problem is None or problem in first.problem
    assert requests[-1]["messages"][-1]["content"].startswith("Error: ")
    assert all(row["content"] or row.get("tool_calls") for row in requests[-1]["messages"])


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply("slow down", status=429, retry_after=0.01), "HTTP 429"),
        (Reply("boom", status=500), "HTTP 500"),
        (Reply(fault="hang"), "no answer within 0.3 s"),
        (Reply(fault="cut"), "the answer was cut"),
        (Reply(fault="not_json"), "no JSON"),
        (Reply(fault="no_choices"), "no chat completion"),
        (Reply("no such model", status=404), "HTTP 404"),
    ],
)
def test_an_outage_is_no_reward_and_is_tried_again_on_resume(library, tmp_path, reply, says):
    (played,), _ = play(library, [reply], attempts=2, timeout=0.3 if reply.fault == "hang" else 60.0, run={"out": tmp_path})
    assert says in played.error
    assert evaluate(library, played).reward is None
    assert [each.id for each in read_trajectories(tmp_path / "errors.jsonl")] == ["renew-dune/0"]
    (again,), _ = play(library, scripted(library, library.split()), run={"out": tmp_path})
    assert evaluate(library, again).reward == 1.0
    assert not (tmp_path / "errors.jsonl").exists()


def test_a_dialogue_that_outgrows_the_model_is_truncated_and_one_that_never_fitted_is_an_error(library):
    too_long = Reply("This model's maximum context length is 4096 tokens", status=400)
    (played,), _ = play(library, [Reply(calls=(FIND,)), "Which loan?", too_long])
    assert (played.error, played.truncated, played.ending) == (None, True, "limit")
    assert evaluate(library, played).reward == 0.0
    (played,), _ = play(library, [too_long])
    assert "maximum context length" in played.error
    assert evaluate(library, played).reward is None


def test_a_server_without_tool_calls_says_what_to_do(library):
    refusal = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    (played,), _ = play(library, [Reply(refusal, status=400)])
    assert "a server without tool calls needs tools_in_text (--tools-in-text)" in played.error


def test_a_provider_that_takes_no_tools_is_refused_before_anything_is_sent():
    class Toolless(Model):
        takes_tools = False

    model = Toolless("tiny", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="takes no tools"):
        LLMAgent(model)
    assert LLMAgent(model, tools_in_text=True).name == "tiny"


FAULTS = [
    Reply("slow down", status=429, retry_after=0.01),
    Reply("boom", status=500),
    Reply(fault="hang"),
    Reply(fault="cut"),
    Reply(fault="not_json"),
    Reply(fault="no_choices"),
    Reply(""),
    Reply(calls=(broken('{"loan_id": '),)),
]


@pytest.mark.slow  # it waits for time-outs
def test_a_fifth_of_faults_changes_no_reward(retail):
    """Few at once and a patient time-out, because a right answer that a busy machine brings too late is a fault more."""
    tasks = retail.split("dev")[:20]
    script, run = scripted(retail, tasks), {"concurrency": 10}
    calm, without = play(retail, script, tasks=tasks, run=run)
    shaken, requests = play(retail, faulty(script, FAULTS), tasks=tasks, attempts=12, timeout=8.0, run=run)
    assert len(requests) > 1.1 * len(without)
    assert [each.error for each in shaken] == [None] * len(tasks)
    rewards = [evaluate(retail, each).reward for each in calm]
    assert [evaluate(retail, each).reward for each in shaken] == rewards
    assert sum(rewards) == len(tasks)


def test_hundreds_of_live_episodes_share_one_model(retail):
    tasks = retail.split("train")[:64]
    live = most = 0

    class Counting(LLMAgent):
        async def act(self, view):
            nonlocal live, most
            live += 1
            most = max(most, live)
            try:
                return await super().act(view)
            finally:
                live -= 1

    script = scripted(retail, tasks)

    def slowly(request):
        reply = script(request)
        return Reply(reply.text, calls=reply.calls, delay=0.1)

    with ModelServer(slowly) as server:
        found = run_tasks(retail, tasks, Counting(Model("tiny", base_url=server.url)), ScriptedUser(), concurrency=64)
    assert most == 64
    assert all(evaluate(retail, each).passed for each in found)


def test_concurrency_does_not_change_a_byte(retail, tmp_path):
    tasks = retail.split("dev")[:10]
    for name, concurrency in (("one", 1), ("many", 10)):
        play(retail, scripted(retail, tasks), tasks=tasks, run={"concurrency": concurrency, "out": tmp_path / name})
    one, many = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "many"))
    assert one == many


def test_a_run_of_other_settings_is_refused(library, tmp_path):
    script = scripted(library, library.split())
    play(library, script, run={"out": tmp_path})
    with pytest.raises(ConfigError, match=r"agent_settings\.temperature: it has 0\.0, now 1\.0"):
        play(library, script, temperature=1.0, run={"out": tmp_path})


def test_in_an_event_loop_of_ones_own_the_model_stays_open_until_it_is_closed(library):
    async def twice(model):
        async with model:
            for _ in range(2):
                (found,) = await arun_tasks(library, library.split(), LLMAgent(model), ScriptedUser())
                assert evaluate(library, found).passed

    with ModelServer(scripted(library, library.split())) as server:
        asyncio.run(twice(Model("tiny", base_url=server.url)))


@pytest.mark.slow  # importing litellm takes seconds
@needs_litellm
def test_through_litellm_it_is_the_same(library, monkeypatch, caplog, capfd, tmp_path):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    script = scripted(library, library.split())
    replies = iter([Reply(calls=(broken('{"loan_id": '),)), Reply("boom", status=500), Reply(fault="not_json"), Reply("")])
    with ModelServer(lambda request: next(replies, None) or script(request), key=KEY) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        agent = LLMAgent(Model("openai/gpt-4o-mini"))
        (found,) = run_tasks(library, library.split(), agent, ScriptedUser(), out=tmp_path)
    assert (found.error, evaluate(library, found).reward) == (None, 1.0)
    assert found.usage["agent_failed"] == 3
    assert 0 < found.usage["agent_cost"] < 0.01
    assert any(message.problem for message in found.messages)
    assert KEY not in caplog.text + "".join(capfd.readouterr()) + "".join(path.read_text() for path in tmp_path.iterdir())


# a model's act by itself


def test_an_error_keeps_its_kind(library):
    async def once(server):
        async with Model("tiny", base_url=server.url, attempts=1) as model:
            await LLMAgent(model).act(AgentView(library, "renew-dune", (), 0))

    with ModelServer([Reply("slow down", status=429)]) as server, pytest.raises(ModelError) as caught:
        asyncio.run(once(server))
    assert caught.value.kind == "rate"


# the command


def sentinel(*arguments, cwd, key=None):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("API_KEY")}
    environment |= {"SENTINEL_API_KEY": key} if key else {}
    command = [sys.executable, "-m", "sentinel_env", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_a_run_of_a_served_model_ends_with_its_score_and_its_cost(library, tmp_path):
    with ModelServer(scripted(library, library.split(), trials=4), models=("tiny",)) as server:
        command = (
            "run",
            "library",
            "--model",
            "tiny",
            "--base-url",
            server.url,
            "--prices",
            "1000,2000",
            "--max-cost",
            "1000",
            "--trials",
            4,
        )
        shown = sentinel(*command, cwd=tmp_path)
        assert (shown.returncode, shown.stderr) == (0, "")
        as_json = json.loads(sentinel(*command, "--out", "again", "--json", cwd=tmp_path).stdout)
    assert "asked now" in shown.stdout
    assert "tiny" in shown.stdout
    assert (tmp_path / "runs/library-tiny/summary.json").exists()
    used = as_json["usage"]["agent"]
    assert (used["model"], used["calls"], used["failed"]) == ("tiny", 4 * 4 + 2, 0)  # two ask whether tools are shown
    assert used["cost"] == pytest.approx((used["prompt_tokens"] * 1000 + used["completion_tokens"] * 2000) / 1e6)
    assert as_json["splits"]["train"]["passed"] == 4


def test_both_sides_can_be_models_within_one_limit(library, tmp_path):
    with ModelServer(scripted(library, library.split())) as server:
        sides = ("--model", "one", "--base-url", server.url, "--user-model", "two", "--user-base-url", server.url)
        costs = ("--prices", "0,0", "--user-prices", "1000,1000")
        shown = json.loads(sentinel("run", "library", *sides, *costs, "--out", "whole", "--json", cwd=tmp_path).stdout)
        cut = sentinel("run", "library", *sides, *costs, "--max-cost", "1", "--out", "cut", cwd=tmp_path)
        unpriced = sentinel("run", "library", *sides, "--prices", "0,0", "--max-cost", "1", cwd=tmp_path)
    assert shown["splits"]["train"]["passed"] == 1
    assert shown["usage"]["agent"]["cost"] == 0
    assert shown["usage"]["user"]["cost"] > 0
    assert (cut.returncode, cut.stdout, cut.stderr.count("\n")) == (3, "", 1)
    assert "at most $1 may be spent; 0 of 1 attempts are finished and kept, the same command goes on" in cut.stderr
    assert not (tmp_path / "cut" / "errors.jsonl").exists()
    assert unpriced.stderr == (
        "sentinel: --max-cost needs a price, and none is known for model 'two'; "
        "give --user-prices IN,OUT, such as 0,0 where it costs nothing\n"
    )


def test_a_key_reaches_no_file_and_no_output_of_a_whole_run(library, tmp_path):
    script = scripted(library, library.split(), trials=3)
    replies = iter([Reply("warming up", status=500)])

    def leaky(request):
        if len(server.requests) > 9:
            return Reply(f"your key {KEY} is over its limit", status=403)
        return next(replies, None) or script(request)

    with ModelServer(leaky, key=KEY) as server:
        command = ("run", "library", "--model", "tiny", "--base-url", server.url, "--trials", 3, "--concurrency", 1, "--out", "run")
        result = sentinel(*command, cwd=tmp_path, key=KEY)
        wrong = sentinel(*command, cwd=tmp_path, key="sk-another-canary-77")
    assert result.returncode == 1
    assert "[key] is over its limit" in result.stderr
    assert "its key is read from SENTINEL_API_KEY" in wrong.stderr
    told = result.stdout + result.stderr + wrong.stdout + wrong.stderr
    told += "".join(path.read_text() for path in (tmp_path / "run").iterdir())
    assert "errors.jsonl" in [path.name for path in (tmp_path / "run").iterdir()]
    assert "canary" not in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "tiny", "--base-url", "http://127.0.0.1:9/v1"), "cannot reach http://127.0.0.1:9/v1/models: connection refused"),
        (("--model", "tiny", "--base-url", "127.0.0.1:9"), "a base URL looks like http://127.0.0.1:8000/v1"),
        (("--model", "tiny", "--agent", "nothing"), "--agent nothing and --model tiny both say who the agent is"),
        (("--base-url", "http://127.0.0.1:9/v1"), "--base-url is for a model; name it with --model"),
        (("--temperature", "1"), "--temperature is for a model; name it with --model"),
        (("--tools-in-text",), "--tools-in-text is for a model; name it with --model"),
        (("--user-prices", "1,2"), "--user-prices is for a model; name it with --user-model"),
        (("--user-model", "hf:tiny"), "hf:tiny cannot be the user; serve the checkpoint"),
        (("--user", "scripted", "--user-model", "tiny"), "--user scripted and --user-model tiny both say who the user is"),
        (("--model", "hf:tiny", "--base-url", "http://127.0.0.1:9/v1"), "--base-url is for a model behind a server"),
        (("--model", "tiny", "--base-url", "http://127.0.0.1:9/v1", "--prices", "one"), "--prices takes two numbers"),
        (("--model", "tiny", "--base-url", "http://127.0.0.1:9/v1", "--max-cost", "0"), "max_cost must be above 0"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_leave_nothing(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["run", "library", *arguments], prog_name="sentinel")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


DECLINED = Reply(
    body=json.dumps({"choices": [{"message": {"content": None, "refusal": "I cannot help with that."}, "finish_reason": "stop"}]}).encode()
)


def test_a_refusal_of_the_agents_own_is_what_it_says_and_no_outage(library):
    (found,), _ = play(library, [DECLINED])
    assert found.error is None
    assert [message.content for message in found.messages if message.role == "assistant"][-1] == "I cannot help with that."


def test_a_refusal_of_anybody_elses_model_is_trouble(library):
    with ModelServer([DECLINED]) as server:
        (found,) = run_tasks(library, library.split(), ScriptedAgent(), LLMUser(Model("tiny", base_url=server.url)))
    assert "the model declined to answer: I cannot help with that." in found.error
