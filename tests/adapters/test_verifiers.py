"""The verifiers adapter inside verifiers itself: its environment, its harness in a process of its own, its tool server, its scoring."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers", reason="verifiers is not installed; `make test-adapters` runs this in an environment of its own")

from conformance import SCRIPTS, SEED, calls_of, source
from verifiers.v1.clients import ModelContext
from verifiers.v1.configs.client import EvalClientConfig
from verifiers.v1.types import AssistantMessage
from verifiers.v1.utils.loaders import environment_class, load_environment, resolve_env_config

from sentinel_env import ToolCall, load_domain
from sentinel_env.adapters.verifiers import SentinelEnvConfig, _read
from sentinel_env.adapters.verifiers_tools import CRASHED, SentinelToolset, SentinelToolsetConfig
from sentinel_env.model_server import ModelServer, Reply

pytestmark = pytest.mark.filterwarnings("default")
BY_NAME = {script.name: script for script in SCRIPTS}
HERE = Path(__file__).resolve().parent


def answer(request: Mapping[str, Any]) -> Reply:
    """What the script named as the model says next."""
    turns = BY_NAME[request["model"]].turns
    said = [message for message in request["messages"] if message["role"] == "assistant" and message.get("content") != GREETING]
    turn = turns[len(said)]
    calls = [
        {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}
        for identifier, name, arguments in calls_of(turn)
    ]
    return Reply(turn["content"], calls=calls)


GREETING = "Hi! How can I help you today?"


async def played(domain: str, url: str) -> dict[str, Any]:
    """The episodes of a domain's scripts, by name."""
    taskset = {"id": "conformance_tasks", "domain": domain, "user": "conformance:customer", "seed": SEED}
    assert environment_class("conformance_tasks").__name__ == "SentinelEnv"
    env = load_environment(
        SentinelEnvConfig.model_validate({"taskset": taskset, "agent": {"harness": {"id": "null"}, "runtime": {"type": "subprocess"}}})
    )
    client = EvalClientConfig(base_url=url, api_key_var="NO_KEY")
    found = {}
    async with env.serving():
        for task in env.taskset:
            ctx = ModelContext(model=task.data.id, client=client)
            found[task.data.id] = await env.run_episode(task, ctx)
    return found


@pytest.fixture(scope="module")
def episodes():
    os.environ["NO_KEY"] = "none"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    with ModelServer(answer) as server:
        found: dict[str, Any] = {}
        for domain in ("conformance:retail", "conformance:library"):
            found |= asyncio.run(played(domain, server.url))
        return found


def changes_by_the_tools(script, trace):
    """What the calls that the tools' process ran make of the database."""
    domain = source(script.domain).domain
    db = domain.start(script.task)
    for call in trace.state.calls:
        answer = domain.execute(db, ToolCall(name=call["name"], arguments=call["arguments"]))
        assert answer.is_error == call["is_error"]
    return db.changes()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_comes_out_as_everywhere(script, episodes):
    episode = episodes[script.name]
    (trace,) = episode.traces
    assert changes_by_the_tools(script, trace) == script.changes
    if script.reward is None:
        assert not episode.ok
        assert episode.errors
        assert "the user's model is out of order" in episode.errors[0].message
        assert trace.rewards["passed"] is None
        return
    assert episode.ok, episode.errors or trace.errors
    assert trace.reward == script.reward
    assert trace.state.verdict["ending"] == script.ending


def test_the_model_is_shown_policy_tools_and_words_and_nothing_else(episodes):
    (trace,) = episodes["passes-a-return"].traces
    script = BY_NAME["passes-a-return"]
    shown = [message.model_dump_json() for message in trace.messages if message.role != "assistant"]
    assert load_domain("retail").policy in trace.messages[0].content
    assert not any(hidden in text for hidden in ("criteria", "wishes", "provenance") for text in shown)
    assert script.task.scenario.known["email"] in "".join(shown)


def test_the_tools_are_the_domains_own_with_their_schemas(episodes):
    (trace,) = episodes["passes-a-return"].traces
    offered = {tool.model_dump()["name"]: tool.model_dump()["parameters"] for tool in trace.branches[-1].tools}
    schemas = {schema["function"]["name"]: schema["function"]["parameters"] for schema in load_domain("retail").schemas}
    assert offered == schemas


def test_a_refused_call_reads_as_everywhere(episodes):
    (trace,) = episodes["cut-by-max-errors"].traces
    assert trace.tool_messages[0].content.startswith("Error: ")
    assert trace.metrics["refused_calls"] == 10


def test_an_environment_that_would_show_the_model_what_the_user_knows_is_refused():
    os.environ["NO_KEY"] = "none"
    agent = {"harness": {"id": "null"}, "runtime": {"type": "subprocess"}}

    async def alone(url: str) -> Any:
        config = resolve_env_config({"id": "single-agent", "taskset": {"id": "conformance_tasks", "domain": "library"}, "agent": agent})
        env = load_environment(config)
        async with env.serving():
            (task,) = env.taskset
            return await env.run_episode(task, ModelContext(model="any", client=EvalClientConfig(base_url=url, api_key_var="NO_KEY")))

    with ModelServer(["Hello."]) as server:
        episode = asyncio.run(alone(server.url))
        assert not server.requests
    assert not episode.ok
    assert "for the user alone" in str([error.message for trace in episode.traces for error in trace.errors])


def test_a_thought_that_the_models_server_leaves_in_the_text_is_not_heard():
    message = AssistantMessage(content="They want Dune.</think>Your card number?")
    assert _read(message).content == "Your card number?"
    assert "before </think>" in _read(AssistantMessage(content="<think>They want")).problem


def test_why_a_tool_crashed_is_for_the_log_alone(caplog):
    toolset = SentinelToolset(SentinelToolsetConfig(domain="library"))
    with pytest.raises(RuntimeError) as caught:  # there is no episode: whatever fails, the model would read its text
        asyncio.run(toolset._caller("find_loans")({"member_id": "M7"}))
    assert str(caught.value) == CRASHED
    assert "Traceback" in caplog.text


def both_sides(request: Mapping[str, Any]) -> Reply:
    """A model that plays verifiers' user and the assistant, told apart by their system prompts."""
    said = sum(message["role"] == "assistant" for message in request["messages"])
    if request["messages"][0]["content"].startswith("You are role-playing a USER"):
        return Reply(("Please renew Dune. My card is M7.", "###DONE###")[min(said, 1)])
    renew = ToolCall(name="renew_loan", arguments={"loan_id": "L1"})
    return (Reply(calls=(renew,)), Reply("It is renewed for two weeks."))[min(said, 1)]


def test_a_user_of_verifiers_own_can_play_and_the_grade_is_ours():
    os.environ["NO_KEY"] = "none"
    runtime = {"type": "subprocess"}
    taskset = {"id": "conformance_tasks", "domain": "library"}

    async def whole(url: str) -> Any:
        config = resolve_env_config(
            {
                "id": "user-sim",
                "taskset": taskset,
                "assistant": {"harness": {"id": "null"}, "runtime": runtime},
                "user": {"runtime": runtime},
            }
        )
        env = load_environment(config)
        async with env.serving():
            (task,) = env.taskset
            return await env.run_episode(task, ModelContext(model="both", client=EvalClientConfig(base_url=url, api_key_var="NO_KEY")))

    with ModelServer(both_sides) as server:
        episode = asyncio.run(whole(server.url))
    assert episode.ok, [error.message for trace in episode.traces for error in trace.errors]
    assistant = next(trace for trace in episode.traces if trace.agent.name == "assistant")
    assert assistant.reward == 1.0
    assert assistant.state.verdict["ending"] == "user_stop"
