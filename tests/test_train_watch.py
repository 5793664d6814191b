"""Each watch is silent when all is well and speaks when it is not."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_env import (
    Criteria,
    Domain,
    Episode,
    Message,
    Scenario,
    ScriptedAgent,
    ScriptedUser,
    Task,
    ToolCall,
    drive,
    load_domain,
    record,
)
from sentinel_train.watch import entropy, kind_of, unneeded_transfers, watch_calls, watch_groups, watch_transfers, watch_variety


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail", users=40, orders=80)


@pytest.fixture(scope="module")
def library() -> Domain:
    return load_domain("library")


def task(name: str, *calls: ToolCall, source: str = "proposer:general", domain: str = "library") -> Task:
    return Task(id=name, domain=domain, scenario=Scenario(goal="Help me."), criteria=Criteria(actions=calls), source=source)


FIND = ToolCall(name="find_loans", arguments={"member_id": "M7"})
RENEW = ToolCall(name="renew_loan", arguments={"loan_id": "L1"})


AGAIN = ToolCall(name="renew_loan", arguments={"loan_id": "L2"})
PLANS = ((FIND,), (FIND, RENEW), (FIND, RENEW, AGAIN))


def many(count: int, *, plans: int, sources: tuple[str, ...] = ("general",)) -> list[Task]:
    """Tasks of so many kinds, in turn."""
    return [
        task(f"{plans}-{sources}-{at}", *PLANS[at % plans], source=f"proposer:{sources[at // plans % len(sources)]}") for at in range(count)
    ]


# variety


def test_the_kind_of_a_task_is_its_pattern_its_writes_and_their_tables(library):
    assert kind_of(library, task("a", FIND, RENEW, source="proposer:missing_write")) == ("missing_write", ("renew_loan",), ("loans",))
    assert kind_of(library, task("b", FIND)) == ("general", (), ())


def test_narrow_tasks_raise_an_alarm_and_varied_ones_do_not(library):
    general = many(60, plans=3)
    narrow, varied = (watch_variety(library, many(60, plans=plans, sources=("a", "b")), general, random=Random(0)) for plans in (2, 3))
    assert narrow.alarm
    assert narrow.text == "variety: 0.69 nats over 60 targeted tasks, 0.63 of general ones' (the limit is 0.8; 1.26 with their patterns)"
    assert not varied.alarm
    assert varied.value == pytest.approx(1.0)


def test_general_tasks_beside_narrow_ones_do_not_hide_them(library):
    general = many(60, plans=3)
    round_ = [*many(40, plans=3), *many(30, plans=1, sources=("a", "b"))]
    assert watch_variety(library, round_, general, random=Random(0)).value == 0.0


def test_a_small_round_is_not_narrow_for_being_small(library):
    general, targeted = many(300, plans=3), many(300, plans=3, sources=("a", "b", "c"))
    for seed in range(20):
        few, ordinary = Random(seed).sample(targeted, 12), Random(seed).sample(general, 12)
        assert watch_variety(library, few, general, random=Random(seed)).value > 0.6
        assert watch_variety(library, targeted, ordinary, random=Random(seed)).value > 0.8


def test_too_few_tasks_say_nothing(library):
    reading = watch_variety(library, [*many(9, plans=3), task("a", FIND, source="proposer:a")], many(9, plans=3), random=Random(0))
    assert (reading.value, reading.alarm) == (None, False)
    assert reading.text == "variety: 1 targeted tasks are too few to compare"


def test_general_tasks_of_one_kind_cannot_be_undercut(library):
    assert not watch_variety(library, many(9, plans=1, sources=("a",)), many(9, plans=1), random=Random(0)).alarm


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(0, 99))
def test_entropy_does_not_depend_on_order_and_is_largest_for_equal_shares(kinds, seed):
    shuffled = Random(seed).sample(kinds, len(kinds))
    assert entropy(kinds) == pytest.approx(entropy(shuffled))
    assert -1e-12 <= entropy(kinds) <= entropy(sorted(set(kinds))) + 1e-9


# transfers


def test_handing_over_counts_where_the_reference_does_not(retail):
    over = ToolCall(name="transfer_to_human_agents", arguments={"summary": "no idea"})
    assert retail.is_transfer(over.name)
    needed, unneeded = task("needed", over, domain="retail"), task("unneeded", domain="retail")

    def hands_over(each: Task):
        episode = Episode(retail, each)
        episode.hear(Message(role="user", content="Help me."))
        episode.act(Message(role="assistant", tool_calls=(over,)))
        return record(episode)

    lost = hands_over(unneeded).model_copy(update={"error": "timeout"})
    found = unneeded_transfers(retail, [hands_over(needed), hands_over(unneeded), record(Episode(retail, unneeded)), lost])
    assert found == {"unneeded": [True, False]}


def test_a_rise_beyond_chance_and_limit_raises_an_alarm():
    def share(of_ten: int, tasks: int = 60) -> dict[str, list[bool]]:
        return {f"{of_ten}-{at}": [at % 10 < of_ten] for at in range(tasks)}

    risen = watch_transfers(share(1), share(4))
    assert risen.alarm
    assert risen.text.startswith("transfers: 40.0% of episodes hand over without need, 10.0% in the round before (a difference of +30.0 [+")
    assert not watch_transfers(share(4), share(1)).alarm
    assert not watch_transfers(share(4), share(4)).alarm
    assert not watch_transfers(share(1, tasks=10), share(2, tasks=10)).alarm, "within chance"
    assert not watch_transfers(share(0, tasks=1000), {f"x{at}": [at % 50 == 0] for at in range(1000)}).alarm, "within the limit"


def test_a_rise_from_none_to_all_is_seen():
    assert watch_transfers({f"a{at}": [False] for at in range(20)}, {f"b{at}": [True] for at in range(20)}).alarm


def test_the_first_round_has_nothing_to_compare_with():
    assert watch_transfers({}, {"a": [True]}).value is None
    assert watch_transfers({"a": []}, {"a": [True]}).value is None


# tool calls


def test_a_model_that_calls_nothing_raises_an_alarm(library):
    problem = library.split()[0]
    worked = record(drive(Episode(library, problem), ScriptedAgent(), ScriptedUser()))
    idle = record(Episode(library, problem))
    assert not watch_calls([worked, idle]).alarm
    assert watch_calls([idle, idle]).alarm
    assert watch_calls([idle]).text == "tool calls: 0.00 an episode, over 1 episodes"
    assert watch_calls([idle.model_copy(update={"error": "timeout"})]).value is None


# groups


def test_groups_without_variance_are_counted_and_told_apart():
    reading = watch_groups([[1, 1, 1], [0, 0, 0], [0, 1, 0], [0, None, 0], [None, 1]])
    assert reading.value == 0.75
    assert not reading.alarm
    assert reading.text == "flat groups: 75% of 4 groups have no variance (1 passed throughout, 2 failed; the limit is 90%)"
    assert watch_groups([[0, 0], [1, 1]]).alarm
    assert watch_groups([[1], [None, None]]).value is None
