"""The scripts through SkyRL-gym's own `make`; `test_skyrl_generator` has SkyRL's generator."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

skyrl_gym = pytest.importorskip("skyrl_gym", reason="needs SkyRL-gym: make test-adapters")

from conformance import MAX_STEPS, SCRIPTS, SEED, in_text  # noqa: E402
from skyrl_gym.metrics import aggregate_for_environment  # noqa: E402

from sentinel_env import ConfigError, EpisodeError, Message, ModelError, ScriptedUser, TaskError, load_domain  # noqa: E402
from sentinel_env.adapters.skyrl import SentinelEnv, register, save_rows, skyrl_rows  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")
BY_NAME = {script.name: script for script in SCRIPTS}
GRADED = [script for script in SCRIPTS if script.reward is not None]
(FAULT,) = [script for script in SCRIPTS if script.reward is None]
named = pytest.mark.parametrize("script", GRADED, ids=lambda script: script.name)


@pytest.fixture(autouse=True)
def registered():
    register()


def row_of(script, **extras):
    return {"domain": script.domain, "task_id": script.name, "user": "conformance:customer", "seed": SEED, "max_turns": MAX_STEPS, **extras}


def started(script, **extras):
    env = skyrl_gym.make("sentinel", env_config={}, extras=row_of(script, **extras))
    chat, _ = env.init([{"role": "user", "content": "user: Hello."}])
    return env, chat


def play(script, **extras):
    """The environment after the script's turns, and what each step gave."""
    env, _ = started(script, **extras)
    return env, [env.step(in_text(turn)) for turn in script.turns]


@named
def test_a_script_comes_out_as_everywhere(script):
    env, outputs = play(script)
    episode = env.seat.episode
    assert (sum(each["reward"] for each in outputs), episode.ending, episode.db.changes()) == script.expected
    assert [each["done"] for each in outputs] == [False] * (len(outputs) - 1) + [True]
    assert env.get_metrics()["passed"] == script.reward
    assert env.get_metrics()["ending"] == script.ending


def test_a_user_that_cannot_answer_stops_the_step_and_leaves_no_reward():
    env, _ = started(FAULT)
    for turn in FAULT.turns[:-1]:
        env.step(in_text(turn))
    with pytest.raises(ModelError, match="has no reward, its user could not answer: ModelError: the user's model is out of order"):
        env.step(in_text(FAULT.turns[-1]))
    assert env.seat.reward is None
    assert env.get_metrics() == {"lost": 1.0, "trouble": "server", "steps": env.seat.episode.steps}


def test_the_chat_begins_with_the_policy_the_greeting_and_the_user():
    env, chat = started(BY_NAME["passes-an-exchange"])
    assert [each["role"] for each in chat] == ["system", "assistant", "user"]
    assert env.source.domain.policy in chat[0]["content"]
    assert chat[2]["content"].startswith("user: ")
    chat, facts = env.init([{"role": "system", "content": "My own words."}, {"role": "user", "content": "away with it"}])
    assert chat[0] == {"role": "system", "content": "My own words."}
    assert "away with it" not in str(chat)
    assert facts == {"task_id": "passes-an-exchange"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"max_turns": "5"}, "max_turns is a whole number of at least 1, found '5'"),
        ({"max_turns": 0}, "max_turns is a whole number"),
        ({"max_turns": True}, "max_turns is a whole number"),
        ({"options": "[1]"}, "options are a mapping"),
        ({"seed": "7"}, "the seed is a whole number"),
        ({"task_id": None, "task": ""}, "the row's task is empty"),
        ({"task_id": None, "task": "[1]"}, "should be an object"),
        ({"task_id": None, "index": 1.0}, "there is no row"),
    ],
)
def test_a_row_that_is_none_is_refused(row, complaint):
    with pytest.raises((ConfigError, TaskError), match=complaint):
        SentinelEnv(extras={"domain": "library", "task_id": "renew-dune", **row})


def test_numbers_may_be_numpys():
    row = {"domain": "retail", "index": np.int64(3), "seed": np.int32(5), "max_turns": np.int64(7)}
    plain = {"domain": "retail", "index": 3, "seed": 5, "max_turns": 7}
    assert SentinelEnv(extras=row).init([]) == SentinelEnv(extras=plain).init([])


def test_thoughts_blocks_and_several_calls_are_read():
    env, _ = started(BY_NAME["fails-with-two-calls-in-one-turn"])
    env.step("<think>Whose loan is it?</think>May I have your card number, please?")
    calls = '<tool_call>\n{"name": "find_loans", "arguments": {"member_id": "M7"}}\n</tool_call>'
    output = env.step(f"<think>Two at once.</think>{calls}\n{calls}")
    (observation,) = output["observations"]
    assert observation["role"] == "user"
    assert observation["content"].count('tool: {"L1"') == 2
    output = env.step("Is that all?</think>Is that all?")
    assert env.seat.episode.spoken[-2].content == "Is that all?"
    output = env.step("<think>Let me see, they want")
    assert output["observations"][0]["content"].startswith("tool: Error: the message ended before </think>")


@pytest.mark.parametrize("action", ["", " ", '{"name": "find_loans", "arguments": {', "<tool_call>", "\ud800", "x" * 200_000, None, 7])
def test_what_cannot_be_read_is_answered_and_ends_nothing(action):
    env, _ = started(BY_NAME["passes-in-the-library"])
    output = env.step(action)
    assert not output["done"]
    assert output["reward"] == 0.0
    assert output["observations"][0]["content"]
    json.dumps(output).encode()


def test_neither_the_scenario_nor_the_reference_is_in_what_the_environment_says():
    script = BY_NAME["fails-wrong-argument"]
    env, chat = started(script)
    said = [chat, *(env.step(in_text(turn)) for turn in script.turns), env.get_metrics(), str(env)]
    for secret in (script.task.scenario.instructions, script.task.criteria.model_dump_json(), "reference"):
        assert not secret or secret not in json.dumps(said[1:])


def test_the_turns_of_the_generator_cut_an_episode():
    env, _ = started(BY_NAME["passes-an-exchange"], max_turns=2)
    outputs = [env.step(in_text(turn)) for turn in BY_NAME["passes-an-exchange"].turns[:2]]
    assert [each["done"] for each in outputs] == [False, True]
    assert outputs[-1]["reward"] == 0.0
    assert env.get_metrics()["ending"] == "max_steps"
    with pytest.raises(EpisodeError, match="ended"):
        env.step("Hello?")


def test_an_episode_that_the_generator_leaves_counts_as_cut():
    env, _ = started(BY_NAME["passes-an-exchange"])
    env.step("May I have your e-mail address?")
    assert env.get_metrics() == {"passed": 0.0, "ending": "limit", "steps": 1, "refused_calls": 0}
    env.close()
    env.close()
    assert env.seat.episode.ending == "limit"


def test_metrics_are_means_of_the_graded_episodes():
    metrics = [play(script)[0].get_metrics() for script in GRADED] + [{"lost": 1.0, "trouble": "rate", "steps": 2}, {}]
    found = aggregate_for_environment("sentinel", metrics)
    assert found["sentinel/episodes"] == len(GRADED)
    assert found["sentinel/lost_episodes"] == 1
    assert found["sentinel/mean/passed"] == pytest.approx(sum(script.reward for script in GRADED) / len(GRADED))
    assert found["sentinel/mean/ending/max_errors"] == pytest.approx(sum(each.ending == "max_errors" for each in GRADED) / len(GRADED))
    assert sum(value for name, value in found.items() if "/ending/" in name) == pytest.approx(1)
    assert aggregate_for_environment("sentinel", [{"lost": 1.0, "trouble": "rate", "steps": 2}]) == {
        "sentinel/episodes": 0,
        "sentinel/lost_episodes": 1,
    }


def test_registering_is_idempotent_and_takes_no_other_name_away():
    register()
    register("sentinel-too")
    assert isinstance(skyrl_gym.make("sentinel-too", extras=row_of(GRADED[0])), SentinelEnv)
    with pytest.raises(ConfigError, match="environment 'gsm8k' already"):
        register("gsm8k")


def test_a_row_holds_a_task_by_its_id_and_one_of_the_callers_own_whole(tmp_path):
    rows = skyrl_rows("library", seed=SEED)
    assert [row["task_id"] for row in rows] == [task.id for task in load_domain("library").split()]
    assert all(isinstance(value, str | int) for row in rows for name, value in row.items() if name != "prompt")
    own = BY_NAME["passes-on-a-changed-database"]
    rows = skyrl_rows("library", tasks=[own.task], seed=SEED, options=None)
    save_rows(tmp_path / "rows.jsonl", rows)
    (row,) = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    prompt, env_class = row.pop("prompt"), row.pop("env_class")
    env = skyrl_gym.make(env_class, extras={**row, "reward_spec": None, "options": None, "max_turns": MAX_STEPS})
    env.init(prompt)
    output = [env.step(in_text(turn)) for turn in own.turns][-1]
    assert (output["reward"], env.seat.episode.ending, env.seat.episode.db.changes()) == own.expected


def test_settings_come_from_the_configuration_too_and_the_row_goes_first():
    env = skyrl_gym.make("sentinel", env_config={"domain": "library", "max_steps": 3}, extras={"index": 0, "user": None})
    assert (env.source.domain.name, env.source.max_steps) == ("library", 3)
    env = skyrl_gym.make("sentinel", env_config={"domain": "library", "max_steps": 3}, extras={"index": 0, "max_steps": 5})
    assert env.source.max_steps == 5


@pytest.mark.parametrize(
    ("extras", "error", "says"),
    [
        ({}, TaskError, "names no task"),
        ({"task_id": "train-9999"}, TaskError, "no task 'train-9999'"),
        ({"index": -1}, TaskError, "no row -1"),
        ({"index": "0"}, TaskError, "no row '0'"),
        ({"task": "{"}, TaskError, "line 1"),
        ({"task": '{"id": "x", "domain": "library", "scenario": {"goal": "x"}}'}, TaskError, "for domain 'library'"),
        ({"index": 0, "seed": "7"}, ConfigError, "seed"),
        ({"index": 0, "max_turns": 0}, ConfigError, "max_turns"),
        ({"index": 0, "user": "nowhere:nobody"}, ConfigError, "nowhere:nobody"),
        ({"index": 0, "user": "{"}, ConfigError, "user is no JSON"),
        ({"index": 0, "user": ScriptedUser()}, ConfigError, "plain"),
    ],
)
def test_a_row_that_cannot_be_played_says_why(extras, error, says):
    with pytest.raises(error, match=says):
        skyrl_gym.make("sentinel", extras=extras).init([])


def test_rows_refuse_what_a_file_cannot_hold():
    with pytest.raises(ConfigError, match="user stands in a row"):
        skyrl_rows("library", user=ScriptedUser())


def test_an_environment_without_its_episode_says_so():
    with pytest.raises(EpisodeError, match=r"call init\(\) first"):
        skyrl_gym.make("sentinel", extras={"domain": "library", "index": 0}).step("Hello")


def test_thousands_of_environments_share_one_domain():
    envs = [skyrl_gym.make("sentinel", extras=row_of(GRADED[0], max_turns=2 + at % 5)) for at in range(2000)]
    assert len({id(env.source.domain) for env in envs}) == 1


class Patient:
    """A user whose model answers only when four episodes ask it at once."""

    name = "patient"

    def __init__(self):
        self.together = asyncio.Barrier(4)

    async def reply(self, view):
        if not any(message.role == "user" for message in view.messages):
            return Message(role="user", content="Hello.")
        await asyncio.wait_for(self.together.wait(), 60)
        return Message(role="user", content="Bye. ###STOP###")


patient = Patient()


def test_users_that_are_asynchronous_answer_many_threads_at_once():
    envs = [skyrl_gym.make("sentinel", extras={"domain": "library", "index": 0, "user": f"{__name__}:patient"}) for _ in range(4)]
    assert [env.init([])[0][-1]["content"] for env in envs] == ["user: Hello."] * 4
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda env: env.step("What is it?"), envs))
    assert [each["done"] for each in outputs] == [True] * 4
