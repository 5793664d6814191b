"""Every rollout is counted once, and a round's cost is known before it runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_env.errors import ConfigError
from sentinel_train.accounting import Cost, Ledger, RoundPlan, affordable_updates, estimate, unequal

PLAN = RoundPlan(
    diagnosis_tasks=60,
    diagnosis_trials=2,
    pilot_tasks=160,
    pilot_trials=8,
    updates=12,
    prompts_per_update=16,
    group_size=8,
    evaluation_tasks=100,
    evaluation_trials=4,
)


def fill(ledger: Ledger) -> None:
    ledger.count(0, "evaluation", 400)
    for number in (1, 2):
        ledger.count(number, "diagnosis", 120)
        ledger.count(number, "pilot", 1280)
        ledger.count(number, "training", 1536)


def test_totals_are_by_round_and_purpose(tmp_path):
    ledger = Ledger(tmp_path / "rollouts.jsonl")
    fill(ledger)
    assert ledger.rounds()[0] == Cost(evaluation=400)
    assert ledger.rounds()[2] == Cost(diagnosis=120, pilot=1280, training=1536)
    assert ledger.total() == Cost(diagnosis=240, pilot=2560, training=3072, evaluation=400)


def test_evaluation_is_no_part_of_the_budget(tmp_path):
    ledger = Ledger(tmp_path / "rollouts.jsonl")
    fill(ledger)
    assert ledger.counted() == 240 + 2560 + 3072
    assert ledger.left(10_000) == 10_000 - 5872
    assert ledger.left(10_000, before=2) == 10_000 - 2936
    assert ledger.left(1000) < 0


def test_a_stage_that_is_done_again_is_counted_once(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    ledger = Ledger(file)
    fill(ledger)
    before = file.read_bytes()
    fill(ledger)
    assert file.read_bytes() == before
    ledger.count(2, "training", 1000)
    assert Ledger(file).total().training == 2536


def test_a_kill_at_any_byte_leaves_a_ledger_that_goes_on_to_the_same_bytes(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    fill(Ledger(file))
    whole = file.read_bytes()
    for size in range(len(whole)):
        file = tmp_path / f"{size}.jsonl"  # some disks take long to replace what a file holds
        file.write_bytes(whole[:size])
        fill(Ledger(file))
        assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"round":1,"purpose":"fun","rollouts":3}', "line 1: purpose: Input should be"), ("{}", "line 1: round: Field required")],
)
def test_a_line_that_is_no_ledgers_is_named(tmp_path, line, message):
    file = tmp_path / "rollouts.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(ConfigError, match=message):
        Ledger(file)


def test_a_round_is_estimated_before_it_runs():
    cost = estimate(PLAN, 1)
    assert cost == Cost(diagnosis=120, pilot=1280, training=1536, evaluation=400)
    assert cost.counted == 2936


@pytest.mark.parametrize(
    ("targeting", "first", "second"),
    [
        ("closed_loop", 2936, 2936),
        ("placebo", 2936, 2936),
        ("one_shot", 2936, 2816),
        ("learnability_general", 2816, 2816),
        ("general", 1536, 1536),
    ],
)
def test_a_control_does_not_pay_for_stages_that_it_does_not_use(targeting, first, second):
    plan = PLAN.model_copy(update={"targeting": targeting})
    assert [estimate(plan, number).counted for number in (1, 2)] == [first, second]


@given(
    st.sampled_from(["closed_loop", "one_shot", "placebo", "learnability_general", "general"]),
    st.integers(1, 3),
    st.integers(-100, 20_000),
)
def test_updates_fill_the_budget_and_never_exceed_it(targeting, number, left):
    plan = PLAN.model_copy(update={"targeting": targeting})
    updates = affordable_updates(plan, number, left)
    cost = estimate(plan.model_copy(update={"updates": updates}), number)
    if updates:
        assert left - plan.rollouts_per_update < cost.counted <= left
    else:
        assert cost.counted + plan.rollouts_per_update > left


def test_runs_of_unequal_cost_are_not_to_be_compared():
    assert unequal({"closed_loop": 10_000, "general": 9_950}) is None
    assert unequal({}) is None
    message = "closed_loop took 10000 rollouts and general 9000 (10% fewer); give both the same budget, or compare them over rollouts"
    assert unequal({"closed_loop": 10_000, "one_shot": 9_500, "general": 9_000}) == message


def test_a_plan_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="group_size"):
        RoundPlan(group_size=1)
