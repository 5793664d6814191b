"""The verifiers adapter inside verifiers itself: its environment, its harness in a process of its own, its tool server, its scoring."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers", reason="verifiers is not installed; `make test-adapters` runs this in an environment of its own")

import verifiers.v1 as vf
from conformance import SCRIPTS, SEED, calls_of
from verifiers.v1.clients import ModelContext
from verifiers.v1.configs.client import EvalClientConfig
from verifiers.v1.utils.loaders import environment_class, load_environment

from sentinel_env.adapters.verifiers import SentinelEnvConfig
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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_comes_out_as_everywhere(script, episodes):
    episode = episodes[script.name]
    (trace,) = episode.traces
    if script.reward is None:
        assert not episode.ok
        assert episode.errors
        assert "the user's model is out of order" in episode.errors[0].message
        assert "passed" not in trace.rewards
        return
    assert episode.ok, episode.errors or trace.errors
    assert trace.reward == script.reward
    assert trace.state.verdict["ending"] == script.ending


def test_the_model_sees_policy_tools_and_words_and_nothing_of_the_reference(episodes):
    trace = episodes["passes-a-return"].traces[0]
    assert isinstance(trace, vf.Trace)
