"""Nothing that an agent can write raises: 100,000 hostile actions through `ToolEnv.step`, each observed, recorded and replayable."""

import json
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel_env import Message, parse_action
from sentinel_env.env import ToolEnv
from sentinel_env.trajectory import Trajectory, dump_line, record, replay

COUNT = 100_000
CHARACTERS = [*map(chr, range(0x30)), *'{}[]":,<>/abct_ `\\', *"\x7f\u0085\u2028\ufeff\ufffféΩ٣字🙂\U0010ffff\ud800\udfff"]
FRAGMENTS = ['{"name":', '"arguments":', '{"tool_calls": [', '"function": {', "null", "true", "[[[[", "}}}}", '"id": [1]', "###STOP###"]
FRAGMENTS += ["<tool_call>", "</tool_call>", "<think>", "</think>", "```json\n", "\n```", '"\\ud800"', '"\\u0000"']
FRAGMENTS += ["NaN", "Infinity", "-Infinity", "1e999", "-1e-999", "9" * 5000]
HUGE = "x" * 1_000_000
BIG = [
    "\n" * 90_000,
    "```" + "\n" * 90_000 + "x",
    "<tool_call>" * 9000,
    '{"name":' * 12_000,
    " " * 99_999,
    "e-mail? " * 12_000,
    "é" * 99_000,
]
NO_TEXT = [None, 7, -1.5, b"bytes", bytearray(b"x"), [], {}, ["a"], {"name": "calculate"}, object(), float("nan"), type]


def text(random):
    return "".join(random.choices(CHARACTERS, k=random.randrange(40)))


def value(random, depth=0):
    """Any JSON value, some of them only Python's idea of JSON."""
    kind = random.randrange(12 if depth < 4 else 9)
    if kind >= 10:
        return {text(random): value(random, depth + 1) for _ in range(random.randrange(4))}
    if kind == 9:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    if random.random() < 0.02:
        return random.choice([float("nan"), float("inf")])
    return random.choice([None, True, 0, -1, 10**30, 10**1000, 1.5, 1e308, "", "#W1", "2 ** 9 ** 9 ** 9", "((((1", "\ud800", text(random)])


def call(random, tools):
    """A call of a real tool with arguments of all wrong types and names."""
    schema = random.choice(tools).schema["function"]
    names = [*schema["parameters"]["properties"], "db", "self", "", "extra"]
    arguments = {name: value(random) for name in names if random.random() < 0.6}
    form = random.randrange(5)
    if form == 0:
        return {"function": {"name": schema["name"], "arguments": json.dumps(arguments)}, "id": value(random)}
    if form == 1:
        return {"tool_calls": [{"name": schema["name"], "arguments": arguments}] * random.choice([1, 2, 40])}
    if form == 2:
        return {"name": value(random), "arguments": value(random), "id": value(random)}
    return {"name": schema["name"], "arguments": arguments}


def broken(random, words):
    """Text of which some characters are doubled, left out or swapped."""
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(words) + 1)
        words = (
            words[:at] + random.choice(["", random.choice(CHARACTERS), random.choice(FRAGMENTS), words[at : at + 9] * 2]) + words[at + 1 :]
        )
    return words


def hostile(random, tools):
    kind = random.random()
    if kind < 0.2:
        return text(random)
    if kind < 0.3:
        return "".join(random.choices(FRAGMENTS, k=random.randrange(8)))
    if kind < 0.55:
        return json.dumps(call(random, tools))
    if kind < 0.65:
        return "".join(f"{text(random)}<tool_call>\n{json.dumps(call(random, tools))}\n</tool_call>" for _ in range(random.randrange(1, 3)))
    if kind < 0.97:
        return broken(random, json.dumps(call(random, tools), ensure_ascii=random.random() < 0.5))
    if kind < 0.99:
        return random.choice(NO_TEXT)
    if kind < 0.998:
        depth = random.choice([31, 32, 33, 500, 990, 20_000])
        deep = random.choice(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth])
        return f'{{"name": "calculate", "id": {deep}, "arguments": {{"expression": {deep}}}}}'
    return HUGE if random.random() < 0.5 else random.choice(BIG)


def attack(env, random, count):
    """So many hostile actions; whatever they do, the episode can be written down, read and replayed."""
    tools = env.domain.tools
    env.reset(seed=0)
    episodes = 0
    for _ in range(count):
        observation, reward, terminated, truncated, info = env.step(hostile(random, tools))
        assert observation.startswith(("tool: ", "user: "))
        assert observation in env.observation_space
        assert reward in (0.0, 1.0)
        json.dumps(info, allow_nan=False)
        if terminated or truncated:
            episodes += 1
            if episodes % 5 == 0:
                trajectory = record(env.episode)
                read = Trajectory.model_validate_json(dump_line(trajectory))
                assert read == trajectory
                replay(env.domain, read)
            env.reset()
    assert episodes > count / 40


@pytest.mark.slow
@pytest.mark.parametrize(("domain", "share"), [("library", 0.4), ("retail", 0.6)])
def test_hundred_thousand_hostile_actions_raise_nothing(domain, share):
    attack(ToolEnv(domain, max_steps=30), Random(f"hostile {domain}"), int(COUNT * share))


@pytest.mark.parametrize("domain", ["library", "retail"])
def test_hostile_actions_raise_nothing(domain):
    attack(ToolEnv(domain, max_steps=30), Random(f"a few {domain}"), 2_000)


def test_hostile_actions_raise_nothing_under_tau2_compatibility(shared):
    attack(ToolEnv("retail", data=shared / "data" / "tau2_retail", max_steps=30), Random("tau2"), 5_000)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["find_loans", "renew_loan", "x"])
ACTIONS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    ANY_JSON.map(json.dumps),
    st.fixed_dictionaries({"name": NAMES, "arguments": ANY_JSON}).map(json.dumps),
    st.tuples(st.text(), st.just("<tool_call>"), ANY_JSON.map(json.dumps) | st.text(), st.just("</tool_call>"), st.text()).map("".join),
    st.lists(st.sampled_from(FRAGMENTS)).map("".join),
    st.one_of(st.binary(), st.none(), st.integers(), st.floats()),
)
LIBRARY = ToolEnv("library", max_steps=1_000_000)


@settings(derandomize=True, max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(ACTIONS)
def test_whatever_hypothesis_thinks_of_raises_nothing(action):
    if LIBRARY._episode is None or LIBRARY.episode.awaiting is None:
        LIBRARY.reset(seed=0)
    observation, *_ = LIBRARY.step(action)
    assert observation in LIBRARY.observation_space


@settings(derandomize=True, max_examples=500, deadline=None)
@given(ACTIONS)
def test_what_was_parsed_can_be_written_and_read(action):
    message = parse_action(action)
    assert message.role == "assistant"
    assert Message.model_validate_json(message.model_dump_json()) == message
    if message.tool_calls:
        assert message.problem is None
        assert Message.from_openai(json.loads(json.dumps(message.to_openai()))).tool_calls
