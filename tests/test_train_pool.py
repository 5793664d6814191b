"""The task pool: where tasks stand, what a kill leaves, and what a round trains on."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_env import Criteria, Fact, Scenario, Task, ToolCall
from sentinel_env.errors import ConfigError
from sentinel_train.draws import MOST_DRAWS, draw, room
from sentinel_train.mixture import REPLAY
from sentinel_train.pool import TaskPool
from sentinel_train.standing import REVISIT, STATES, Entry, Seen, gradient_chance, learnability, pass_rate, standing

MODULES = ("journal", "standing", "pool", "mixture", "allocation", "draws", "targeting", "accounting", "watch")


def entry(name: str = "a", *seen: Seen, arm: str = "general", born: int = 1, filtered: bool = True) -> Entry:
    task = Task(
        id=name,
        domain="library",
        scenario=Scenario(goal="Renew “Dune” for me\u2028please.", facts=(Fact(slot="item", text="the two", value=["L1", "L2"]),)),
        criteria=Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L1"}),)),
    )
    return Entry(task=task, arm=arm, pattern=arm, born=born, filtered=filtered, seen=seen)


def pilot(passes: int, number: int = 1, attempts: int = 8) -> Seen:
    return Seen(round=number, stage="pilot", attempts=attempts, passes=passes)


def trained(passes: int, number: int = 1, attempts: int = 8) -> Seen:
    return Seen(round=number, stage="training", attempts=attempts, passes=passes)


def standings(*seen: Seen, number: int = 2) -> str:
    return standing(entry("a", *seen), number).state


# where a task stands


def test_a_new_task_is_tried_first():
    assert standings() == "pilot"


@pytest.mark.parametrize(("passes", "state"), [(0, "deferred"), (1, "active"), (7, "active"), (8, "solved")])
def test_the_pilot_sorts_tasks_by_how_often_they_are_passed(passes, state):
    assert standings(pilot(passes)) == state


def test_attempts_that_infrastructure_failed_say_nothing():
    assert standings(pilot(0, attempts=0)) == "pilot"
    assert standings(pilot(3), trained(0, attempts=0)) == "active"


def test_nearly_always_in_two_rounds_in_a_row_retires_a_task():
    assert standings(pilot(8), trained(8)) == "solved"
    assert standings(pilot(8), trained(19, 2, attempts=20)) == "retired"
    assert standings(trained(19, 1, attempts=20), trained(19, 2, attempts=20)) == "retired"
    assert standings(pilot(8), trained(7, 2), trained(8, 3)) == "solved"


def test_a_retired_task_stays_so_until_a_review_fails():
    retired = pilot(8), trained(8, 2)
    assert standings(*retired, trained(8, 5)) == "retired"
    assert standings(*retired, trained(7, 5)) == "active"


def test_a_solved_task_that_fails_is_active_again():
    assert standings(pilot(8), trained(0, 2)) == "active"


def test_a_task_that_was_passed_before_is_not_deferred_by_training():
    assert standings(pilot(3), trained(0)) == "active"


def test_a_deferred_task_is_looked_at_again_some_rounds_after_its_last_attempt():
    tried = entry("a", pilot(0))
    assert [standing(tried, 1 + rounds).state for rounds in range(REVISIT + 1)] == ["deferred"] * REVISIT + ["pilot"]
    again = entry("a", pilot(0), pilot(0, 1 + REVISIT))
    assert standing(again, 2 + REVISIT).state == "deferred"
    assert standing(again, 1 + 2 * REVISIT).state == "pilot"


def test_why_says_what_was_seen():
    assert standing(entry("a", pilot(0)), 4).why == "passed 0 of 8 in round 1 (pilot); 3 rounds later it is looked at again"
    assert (
        standing(entry("a", pilot(8), trained(20, 2, attempts=20)), 3).why
        == "passed 20 of 20 in round 2 (training), and nearly always since round 1"
    )


def test_a_task_that_is_not_filtered_is_always_active():
    assert standing(entry("a", pilot(8), trained(8, 2), filtered=False), 3).state == "active"


def test_older_attempts_count_less():
    improving = entry("a", trained(0, 1), trained(8, 3))
    assert pass_rate(improving, 3) == pytest.approx((8 + 0.5) / (8 + 0.7**2 * 8 + 1))


def test_what_is_passed_every_other_time_is_worth_most():
    rates = [at / 10 for at in range(11)]
    assert max(rates, key=learnability) == 0.5
    assert max(rates, key=lambda rate: gradient_chance(rate, 8)) == 0.5
    assert gradient_chance(0.0, 8) == gradient_chance(1.0, 8) == 0.0


seen_lists = st.lists(
    st.builds(
        lambda number, stage, passes, attempts: Seen(round=number, stage=stage, attempts=attempts, passes=min(passes, attempts)),
        st.integers(1, 6),
        st.sampled_from(["pilot", "training"]),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    max_size=8,
)


@given(seen_lists, st.integers(6, 12))
def test_whatever_is_seen_a_task_stands_somewhere_and_rates_are_open_shares(seen, number):
    tried = entry("a", *seen)
    assert standing(tried, number).state in STATES
    assert 0 < pass_rate(tried, number) < 1


def test_more_passes_than_attempts_are_refused():
    with pytest.raises(ValueError, match="9 passes in 8 attempts"):
        pilot(9)


# the file


def fill(pool: TaskPool) -> None:
    """Two rounds, as a loop would note them."""
    pool.add(*(entry(name) for name in "abcd"))
    pool.saw_rewards(1, "pilot", [("a", [1, 0, None]), ("b", [0, 0]), ("c", [1, 1]), ("d", [None])])
    pool.saw_rewards(1, "training", [("a", [1, 1])])
    pool.add(entry("e", arm="missing_write", born=2))
    pool.saw_rewards(2, "pilot", [("d", [0, 1]), ("e", [1, 0])])
    pool.saw_rewards(2, "training", [("c", [1, 1]), ("a", [0, 1])])


def test_the_pool_comes_back_from_its_file(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    assert len(pool) == 0
    fill(pool)
    again = TaskPool(tmp_path / "pool.jsonl")
    assert list(again) == list(pool)
    assert again.before(3, "propose").states() == {"pilot": 0, "active": 3, "solved": 0, "deferred": 1, "retired": 1}


def test_a_kill_at_any_byte_leaves_a_pool_that_goes_on_to_the_same_bytes(tmp_path):
    file = tmp_path / "pool.jsonl"
    fill(TaskPool(file))
    whole = file.read_bytes()
    for size in range(len(whole)):
        file = tmp_path / f"{size}.jsonl"  # some disks take long to replace what a file holds
        file.write_bytes(whole[:size])
        pool = TaskPool(file)
        lines = whole[:size].count(b"\n")
        assert len(pool) + sum(len(each.seen) for each in pool) == lines
        if size % 151 == 0 or whole[size - 1 : size] == b"\n":  # beginning again takes longer than reading
            pool.before(3, "propose").states()
            fill(pool)
            assert file.read_bytes() == whole
            assert list(TaskPool(file)) == list(pool)


def test_a_process_that_is_killed_in_the_middle_leaves_whole_lines(tmp_path):
    file = tmp_path / "pool.jsonl"
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_train_pool import entry, pilot, TaskPool
pool = TaskPool({str(file)!r})
pool.add(entry("first"))
for at in range(10**9):
    if at == 50:
        print("begun", flush=True)
    pool.add(entry(str(at)))
    pool.saw(str(at), pilot(at % 9))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    pool = TaskPool(file)
    assert len(pool) > 50
    assert all(len(each.seen) == 1 for each in list(pool)[1:-1])


def test_the_same_again_adds_nothing_and_another_count_replaces(tmp_path):
    file = tmp_path / "pool.jsonl"
    pool = TaskPool(file)
    fill(pool)
    before = file.read_bytes()
    fill(pool)
    assert file.read_bytes() == before
    pool.saw("a", pilot(8))
    assert TaskPool(file)["a"].seen == (pilot(8), trained(2, attempts=2), trained(1, 2, attempts=2))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id":"x","seen":{"round":1,"stage":"pilot","attempts":8,"passes":1}}', "line 2: task 'x' was tried but is not in the pool"),
        ('{"id":"a","seen":{"round":1,"stage":"pilot","attempts":1,"passes":2}}', "line 2: seen: Value error, 2 passes in 1 attempts"),
        ('{"task":{"id":"b"}}', "line 2: task.domain: Field required"),
        ("gibberish", "line 2: Invalid JSON"),
        ("", "line 2: Invalid JSON"),
    ],
)
def test_a_whole_line_that_is_no_pools_is_named(tmp_path, line, message):
    file = tmp_path / "pool.jsonl"
    TaskPool(file).add(entry("a"))
    file.write_text(file.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        TaskPool(file)


def test_an_id_belongs_to_one_task(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    pool.add(entry("a"))
    with pytest.raises(ConfigError, match="task 'a' is in the pool already, and differs"):
        pool.add(entry("a", born=2))


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot write to .*: No such file or directory"):
        TaskPool(tmp_path / "nowhere" / "pool.jsonl").add(entry("a"))


# before a stage


def test_a_stage_sees_the_pool_as_it_was_before_it_whatever_was_noted_since(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    fill(pool)
    assert pool.before(1, "propose").entries == ()
    assert [each.task.id for each in pool.before(1, "pilot").to_pilot()] == ["a", "b", "c", "d"]
    assert pool.before(1, "training").states() == {"pilot": 1, "active": 1, "solved": 1, "deferred": 1, "retired": 0}
    assert [each.task.id for each in pool.before(2, "propose").entries] == ["a", "b", "c", "d"]
    assert [each.task.id for each in pool.before(2, "pilot").to_pilot()] == ["d", "e"]
    assert pool.before(2, "training").stock() == {"general": 1, "missing_write": 1}


def test_arms_are_summed_up_for_a_log(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    fill(pool)
    arms = pool.before(1, "training").by_arm()
    assert arms["general"]["tasks"] == 4
    assert arms["general"]["tried"] == 3
    assert arms["general"]["pass_rate"] == pytest.approx((1.5 / 3 + 0.5 / 3 + 2.5 / 3) / 3)


# draws


def snapshot(tmp_path, **passes: int):
    """A task for each name, of the arm before its digit, passed so many times of 8 in the pilot."""
    pool = TaskPool(tmp_path / "pool.jsonl")
    pool.add(*(entry(name, arm=name.rstrip("0123456789")) for name in passes))
    for name, count in passes.items():
        pool.saw(name, pilot(count))
    return pool.before(2, "training")


def test_what_was_solved_before_it_was_ever_trained_on_is_no_replay(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    pool.add(entry("solved"))
    pool.saw("solved", pilot(8))
    assert room(pool.before(1, "training")) == {REPLAY: 0}
    assert draw(pool.before(1, "training"), {REPLAY: 1}, group_size=8, random=Random(0)) == []
    assert room(pool.before(2, "training")) == {REPLAY: 1}


def test_rows_are_as_many_of_each_arm_as_the_mixture_says(tmp_path):
    active = snapshot(tmp_path, general1=4, general2=2, slip1=3, slip2=0, slip3=8)
    assert room(active) == {"general": 2 * MOST_DRAWS, "slip": MOST_DRAWS, REPLAY: 1}
    rows = draw(active, {"general": 5, "slip": 3, REPLAY: 1}, group_size=8, random=Random(0))
    counts = Counter(task.id for task in rows)
    assert counts["slip1"] == 3
    assert counts["slip3"] == 1
    assert sorted([counts["general1"], counts["general2"]]) == [2, 3]
    assert len(rows) == 9


def test_an_arm_comes_whole_before_any_of_its_tasks_comes_twice(tmp_path):
    active = snapshot(tmp_path, **{f"general{at}": 1 + at % 7 for at in range(20)})
    for count in (7, 20):
        assert set(Counter(task.id for task in draw(active, {"general": count}, group_size=8, random=Random(1))).values()) == {1}


def test_what_promises_a_gradient_comes_first(tmp_path):
    active = snapshot(tmp_path, general1=4, **{"general2": 1})
    first = Counter(draw(active, {"general": 1}, group_size=2, random=Random(seed))[0].id for seed in range(400))
    chances = [gradient_chance(pass_rate(each, 2), 2) for each in active.entries]
    assert first["general1"] / 400 == pytest.approx(chances[0] / sum(chances), abs=0.07)


def test_replay_reviews_a_few_retired_tasks_and_takes_solved_ones(tmp_path):
    pool = TaskPool(tmp_path / "pool.jsonl")
    pool.add(*(entry(f"retired{at}") for at in range(5)), *(entry(f"solved{at}") for at in range(5)))
    for at in range(5):
        pool.saw(f"retired{at}", pilot(8, 1))
        pool.saw(f"retired{at}", trained(8, 2))
        pool.saw(f"solved{at}", pilot(8, 2))
    before = pool.before(3, "training")

    def replayed(count: int) -> dict[str, int]:
        return dict(Counter(task.id[:-1] for task in draw(before, {REPLAY: count}, group_size=8, random=Random(0))))

    assert replayed(4) == {"retired": 1, "solved": 3}
    assert replayed(10) == {"retired": 5, "solved": 5}


def test_the_same_seed_draws_the_same_rows(tmp_path):
    active = snapshot(tmp_path, general1=4, general2=2, slip1=3, slip3=8)
    one, other = (draw(active, {"general": 5, "slip": 3, REPLAY: 1}, group_size=8, random=Random(7)) for _ in range(2))
    assert [task.id for task in one] == [task.id for task in other]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_and_nothing_needs_torch(name):
    module = importlib.import_module(f"sentinel_train.{name}")
    assert doctest.testmod(module).failed == 0
    script = f"import sys, sentinel_train.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
