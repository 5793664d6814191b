"""The mixture of a round: what each arm weighs, and the shares that always hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_train_pool import entry, pilot

from sentinel_env.errors import ConfigError
from sentinel_env.failures import FailurePattern
from sentinel_train.allocation import Pairs, pairs, weigh
from sentinel_train.mixture import EXPLORE, REPLAY, RESERVED, MixtureConfig, apportion, new_tasks
from sentinel_train.pool import TaskPool

DEFAULT = MixtureConfig()
SLACK = 1e-6


def pattern(name: str, share: float = 0.3, state: str = "persistent") -> FailurePattern:
    return FailurePattern(id=name, domain="library", label="missing_write", share=share, state=state)


# the shares

weights = st.dictionaries(st.sampled_from(["general", "a", "b", "c", "d", "e"]), st.floats(0, 1e3, allow_subnormal=False))
mixtures = st.builds(
    lambda general, replay, explore, most, new: MixtureConfig(
        general=general, replay=replay * (1 - general), explore=explore * (1 - general) * (1 - replay), most_per_pattern=most, most_new=new
    ),
    *[st.floats(0, 1)] * 3,
    *[st.floats(0.01, 1)] * 2,
)
rooms = st.dictionaries(st.sampled_from([*RESERVED, "a", "b", "c", "old"]), st.integers(0, 80))


@given(weights, st.integers(20, 500))
def test_with_room_for_all_every_share_holds(weights, total):
    mixture = apportion(weights, total, DEFAULT)
    assert sum(mixture.counts.values()) == total
    assert mixture.gave_way == ()
    assert mixture.counts["general"] >= 0.30 * total - SLACK
    assert mixture.counts[REPLAY] >= 0.10 * total - SLACK
    assert mixture.counts[EXPLORE] >= 0.05 * total - SLACK
    assert all(count <= 0.25 * total + SLACK for arm, count in mixture.counts.items() if arm not in RESERVED)


@given(weights, st.integers(0, 200), mixtures, st.none() | rooms)
def test_what_cannot_be_kept_gives_way_in_the_documented_order_and_is_named(weights, total, mixture, room):
    made = apportion(weights, total, mixture, room=room)
    counts, found = made.counts, sum(made.counts.values())
    patterns = [arm for arm in counts if arm not in RESERVED]
    limits = {arm: total if room is None else room.get(arm, 0) for arm in counts}
    assert all(0 <= count <= limits[arm] for arm, count in counts.items())
    most = mixture.most_per_pattern * total + SLACK
    assert all(counts[arm] <= most for arm in patterns)
    assert found <= total
    if found < total:
        assert all(counts[arm] in (limits[arm], int(most)) for arm in counts)
        assert made.gave_way[0] == f"{total} tasks wanted, {found} to be had"
    left = total
    for arm, share in (("general", mixture.general), (REPLAY, mixture.replay), (EXPLORE, mixture.explore)):
        assert counts[arm] >= min(share * total - SLACK, limits[arm], left)
        left -= counts[arm]
        assert any(line.startswith(f"{arm}:") for line in made.gave_way) == (counts[arm] < share * found - 1e-9)
    for arm in patterns:
        assert any(line.startswith(f"{arm}:") for line in made.gave_way) == (counts[arm] > mixture.most_per_pattern * found + 1e-9)


@given(weights, st.integers(0, 200), mixtures, rooms)
def test_the_same_again_gives_the_same(weights, total, mixture, room):
    assert apportion(weights, total, mixture, room=room) == apportion(weights, total, mixture, room=room)


def test_patterns_share_by_weight_what_the_floors_leave():
    free = MixtureConfig(most_per_pattern=1)
    assert apportion({"a": 3, "b": 1}, 160, free).counts == {"general": 48, "a": 66, "b": 22, EXPLORE: 8, REPLAY: 16}


def test_what_few_patterns_cannot_take_is_general():
    assert apportion({"a": 1}, 160, DEFAULT).counts == {"general": 96, "a": 40, EXPLORE: 8, REPLAY: 16}
    assert apportion({}, 160, DEFAULT).counts == {"general": 136, EXPLORE: 8, REPLAY: 16}


def test_a_pattern_without_weight_gets_tasks_only_where_nothing_else_is_left():
    assert apportion({"a": 1, "b": 0}, 160, DEFAULT).counts["b"] == 0
    assert apportion({"a": 1, "b": 0}, 160, DEFAULT, room={"general": 10, "b": 100}).counts == {
        "general": 10,
        "a": 0,
        "b": 40,
        EXPLORE: 0,
        REPLAY: 0,
    }


def test_too_few_tasks_for_all_floors_are_general_first():
    assert apportion({"a": 1}, 1, DEFAULT).counts == {"general": 1, "a": 0, EXPLORE: 0, REPLAY: 0}
    small = apportion({"a": 1}, 2, DEFAULT)
    assert (small.counts["general"], small.counts[REPLAY]) == (1, 1)
    assert small.gave_way == ("explore: 0 of 2 tasks, less than 0.05",)


def test_nothing_to_be_had_is_said():
    assert apportion({"a": 1}, 160, DEFAULT, room={}).gave_way == ("160 tasks wanted, 0 to be had",)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="expected a total and weights of at least 0"):
        apportion({"a": weight}, 10, DEFAULT)


@given(weights, st.integers(1, 300), st.integers(0, 600), mixtures)
def test_a_round_makes_few_tasks_once_the_pool_can_fill_it(weights, total, active, mixture):
    made = sum(new_tasks(weights, total, active, mixture).counts.values())
    assert made <= max(mixture.most_new * active + SLACK, total - active)
    assert made <= total
    if active < total:
        assert made >= min(total - active, total)


def test_new_tasks_are_no_replay():
    assert new_tasks({"a": 1, "b": 1}, 160, 0, DEFAULT).counts == {"general": 72, "a": 40, "b": 40, EXPLORE: 8, REPLAY: 0}


# impossible mixtures


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"general": 0.9}, r"setting 'explore': Value error, general 0.9 \+ replay 0.1 \+ explore 0.05 is more than 1; lower one of them"),
        ({"general": 1.2}, "setting 'general': Input should be less than or equal to 1"),
        ({"replay": -0.1}, "setting 'replay': Input should be greater than or equal to 0"),
        ({"most_per_pattern": 0}, "setting 'most_per_pattern': Input should be greater than 0"),
        ({"most_new": 0}, "setting 'most_new': Input should be greater than 0"),
        ({"explore": float("nan")}, "setting 'explore': "),
        ({"cap": 0.2}, "unknown setting 'cap'; MixtureConfig has general, replay, explore, most_per_pattern, most_new"),
    ],
)
def test_an_impossible_mixture_is_refused_with_its_key(values, message):
    with pytest.raises(ConfigError, match=message):
        MixtureConfig.of(values)


def test_floors_may_take_everything():
    everything = MixtureConfig(general=0.85, replay=0.1, explore=0.05)
    assert apportion({"a": 1}, 20, everything).counts == {"general": 17, "a": 0, EXPLORE: 1, REPLAY: 2}


# what arms weigh


def test_equal_weighs_all_patterns_alike():
    assert weigh("equal", [pattern("a", 0.9), pattern("b", 0.1)], {}, Random(0)) == {"a": 1.0, "b": 1.0, "general": 1.0}


def test_thompson_prefers_what_explains_more_and_what_can_be_learnt():
    known = {"a": Pairs(200, 300), "b": Pairs(200, 300), "c": Pairs(1, 499)}
    found = weigh("thompson", [pattern("a", 0.4), pattern("b", 0.2), pattern("c", 0.4)], known, Random(0))
    assert found["a"] > found["b"] > found["c"] > 0
    assert found["general"] == 0.0, "the patterns explain all failures"


def test_general_tasks_weigh_what_no_pattern_explains():
    known = {"a": Pairs(2000, 3000), "general": Pairs(2000, 3000)}
    found = weigh("thompson", [pattern("a", 0.25)], known, Random(0))
    assert found["general"] / found["a"] == pytest.approx(3, rel=0.2)


def test_what_is_resolved_weighs_nothing():
    assert weigh("thompson", [pattern("a", state="resolved"), pattern("b", state="shrinking")], {}, Random(0))["a"] == 0


def test_what_is_unknown_is_sometimes_tried_before_what_is_known_to_be_good():
    known = {"a": Pairs(400, 600)}
    wins = sum((found := weigh("thompson", [pattern("a"), pattern("b")], known, Random(seed)))["b"] > found["a"] for seed in range(200))
    assert 60 < wins < 180


def test_an_arm_of_hopeless_and_of_solved_tasks_has_little_to_learn_from(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    for name, passes in {"half1": 0, "half2": 8, "even1": 4, "even2": 4}.items():
        pool.add(entry(name, arm=name[:-1]))
        pool.saw(name, pilot(passes))
    known = pairs(pool.before(1, "training"))
    assert known["half"].differ == 0
    assert known["half"].alike == 8
    assert known["even"].differ / (known["even"].differ + known["even"].alike) == pytest.approx(4 / 7)


def test_pairs_estimate_learnability_without_bias():
    random = Random(3)
    rates = [random.random() for _ in range(20_000)]
    passes = [sum(random.random() < rate for _ in range(4)) for rate in rates]
    differ = sum(count * (4 - count) / 3 for count in passes)
    assert differ / (2 * len(rates)) / 2 == pytest.approx(1 / 6, abs=0.004), "the mean of p (1 - p) over uniform p"


def test_older_pairs_count_less(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    pool.add(entry("a"))
    pool.saw("a", pilot(4))
    now, later = (pairs(pool.before(number, "training"))["general"] for number in (1, 3))
    assert later.differ == pytest.approx(now.differ * 0.49)
    assert later.alike == pytest.approx(now.alike * 0.49)


def test_a_pattern_with_the_name_of_an_arm_is_refused():
    with pytest.raises(ConfigError, match="a failure pattern is called 'explore', which is an arm of the mixture"):
        weigh("equal", [pattern("explore")], {}, Random(0))


def test_weights_and_counts_are_the_same_in_another_process_and_hash_seed():
    script = """
import sys; sys.path.insert(0, sys.argv[1])
from test_train_mixture import *
patterns = [pattern(name, 0.1) for name in "cab"]
print(apportion(weigh("thompson", patterns, {}, Random("3/1")), 160, DEFAULT).model_dump_json())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, str(Path(__file__).parent)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
