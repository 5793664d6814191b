"""What tasks are made for in each arm of the experiment, with the same numbers in all of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_env import load_domain, propose_tasks
from sentinel_env.failures import LABELS, FailurePattern, general_pattern
from sentinel_env.knobs import Knobs
from sentinel_train.mixture import EXPLORE, MixtureConfig, new_tasks
from sentinel_train.targeting import EXPLORED, Batch, Targeting, aim, aimed_at, diagnoses, explored, mixture_of, pilots

ARMS: tuple[Targeting, ...] = get_args(Targeting)
GENERAL = FailurePattern(id="general", domain="retail", label="general", knobs=Knobs(voices=("plain",)))


def pattern(name: str, **knobs) -> FailurePattern:
    return FailurePattern(id=name, domain="retail", label="missing_write", knobs=Knobs(**knobs))


NOW = (pattern("a", siblings=2), pattern("b", operation="return_items"), pattern("c", writes=3))
FIRST = (pattern("x"), pattern("y"))
OTHERS = tuple(pattern(f"other{at}", operation="cancel_order") for at in range(4))


def batches(targeting: Targeting, now=NOW, first=FIRST, *, seed: int = 0, total: int = 100, others=()) -> tuple[Batch, ...]:
    patterns = aimed_at(targeting, now, first)
    counts = new_tasks({each.id: 1.0 for each in patterns}, total, 0, MixtureConfig()).counts
    return aim(targeting, patterns, counts, general=GENERAL, random=Random(seed), others=others)


def made_for(found) -> dict[str, str]:
    return {batch.arm: batch.pattern.id for batch in found if batch.arm not in ("general", EXPLORE)}


@pytest.mark.parametrize("targeting", ARMS)
@given(names=st.sets(st.sampled_from("abcdef")), total=st.integers(0, 300), seed=st.integers(0, 99))
def test_every_arm_of_the_experiment_makes_the_same_number_of_tasks(targeting, names, total, seed):
    now = [pattern(name) for name in sorted(names)]
    found = batches(targeting, now, now[:2], seed=seed, total=total, others=OTHERS[:1])
    assert sum(batch.count for batch in found) == total
    assert all(batch.count > 0 for batch in found)
    assert batches(targeting, now, now[:2], seed=seed, total=total, others=OTHERS[:1]) == found


def test_closed_loop_follows_this_round_and_one_shot_the_first():
    assert made_for(batches("closed_loop")) == {"a": "a", "b": "b", "c": "c"}
    assert made_for(batches("one_shot")) == {"x": "x", "y": "y"}


def test_the_controls_are_general_tasks_and_differ_in_the_filter():
    (learnable,), (plain,) = batches("learnability_general"), batches("general")
    assert learnable == Batch(arm="general", pattern=GENERAL, count=100)
    assert plain == Batch(arm="general", pattern=GENERAL, count=100, filtered=False)


@given(names=st.sets(st.sampled_from("abcdef"), min_size=2), others=st.integers(0, 4), seed=st.integers(0, 99))
def test_the_placebo_gives_each_patterns_tasks_to_another_one(names, others, seed):
    now = [pattern(name, writes=1 + at % 4) for at, name in enumerate(sorted(names))]
    found = batches("placebo", now, (), seed=seed, others=OTHERS[:others])
    images = made_for(found)
    assert all(arm != image for arm, image in images.items())
    assert len(set(images.values())) == len(images)
    assert sum(image.startswith("other") for image in images.values()) == min(others, len(images))
    loop = {batch.arm: batch for batch in batches("closed_loop", now, ()) if batch.arm in names}
    swapped = {batch.arm: batch for batch in found if batch.arm in names}
    assert {arm: batch.count for arm, batch in swapped.items()} == {arm: batch.count for arm, batch in loop.items()}
    assert all(batch.pattern.knobs.writes == loop[arm].pattern.knobs.writes for arm, batch in swapped.items())


def test_which_operation_carries_a_mistake_goes_with_the_mistake():
    found = {batch.arm: batch.pattern.knobs.operation for batch in batches("placebo", others=OTHERS)}
    assert [found[arm] for arm in "abc"] == ["cancel_order"] * 3


def test_a_placebo_of_one_pattern_is_another_one_or_general_tasks():
    one = [pattern("a", writes=2)]
    assert made_for(batches("placebo", one, others=OTHERS)).popitem()[1].startswith("other")
    (alone,) = [batch for batch in batches("placebo", one, others=one) if batch.arm == "a"]
    assert alone.pattern.label == "general"
    assert alone.pattern.knobs.writes == 2


def test_exploration_draws_every_label_alike_seen_or_not():
    assert set(EXPLORED) == set(LABELS) - {"missing_action", "unconfirmed"}
    drawn: Counter[str] = Counter()
    for seed in range(600):
        once = explored(5, Random(seed))
        assert set(once.values()) == {1}
        drawn.update(once)
    expected = 600 * 5 / len(EXPLORED)
    assert set(drawn) == set(EXPLORED)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in drawn.values())
    assert sum(explored(3 * len(EXPLORED), Random(0)).values()) == 3 * len(EXPLORED)


def test_what_is_explored_counts_for_exploration_and_has_the_general_knobs():
    found = [batch for batch in batches("closed_loop") if batch.arm == EXPLORE]
    assert sum(batch.count for batch in found) == 5
    assert all(batch.pattern.id == f"explore/{batch.pattern.label}" and batch.pattern.knobs == GENERAL.knobs for batch in found)


def test_only_what_is_used_is_paid_for():
    assert [[diagnoses(arm, number) for number in (1, 2)] for arm in ARMS] == [
        [True, True],
        [True, False],
        [True, True],
        [False, False],
        [False, False],
    ]
    assert [pilots(arm) for arm in ARMS] == [True, True, True, True, False]


def test_general_tasks_have_no_floor_for_what_they_lack():
    usual = MixtureConfig()
    assert [(mixture_of(arm, usual).explore, mixture_of(arm, usual).replay) for arm in ARMS] == [(0.05, 0.1)] * 3 + [(0, 0.1), (0, 0)]


def test_the_proposer_takes_every_batch():
    domain = load_domain("library")
    patterns = [FailurePattern(id="missing_write/renew_loan", domain="library", label="missing_write", tools=("renew_loan",))]
    counts = new_tasks({patterns[0].id: 1.0}, 40, 0, MixtureConfig()).counts
    found = aim("closed_loop", patterns, counts, general=general_pattern(domain), random=Random(0))
    assert len(found) > 2
    for batch in found:
        assert all(proposal.pattern_id == batch.pattern.id for proposal in propose_tasks(domain, batch.pattern, n=batch.count))
