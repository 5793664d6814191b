"""What is logged of an update is what happened in it, and an update from which nothing can be learned is said to be one."""

from __future__ import annotations

from collections.abc import Sequence
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
    Trajectory,
    drive,
    evaluate,
    general_pattern,
    load_domain,
    propose_tasks,
    record,
    verify_proposal,
)
from sentinel_train.metrics import alarms, measure

FIND = ToolCall(name="find_loans", arguments={"member_id": "M7"})
DUNE, ABSENT = (ToolCall(name="renew_loan", arguments={"loan_id": loan}) for loan in ("L1", "L9"))
STOP = Message(role="user", content="###STOP###")


@pytest.fixture(scope="module")
def library() -> Domain:
    return load_domain("library")


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail", users=40, orders=80)


def task(name: str = "a", *calls: ToolCall, source: str = "proposer:general", domain: str = "library") -> Task:
    return Task(id=name, domain=domain, scenario=Scenario(goal="Help me."), criteria=Criteria(actions=calls), source=source)


def played(domain: Domain, task: Task, *turns: ToolCall | str | None, ended: str = "stop") -> Trajectory:
    """An episode in which the agent calls and says these things; None is a turn that cannot be read."""
    episode = Episode(domain, task)
    for turn in turns:
        if episode.awaiting == "user":
            episode.hear(Message(role="user", content="Go on."))
        if isinstance(turn, ToolCall):
            episode.act(Message(role="assistant", tool_calls=(turn,)))
        else:
            episode.act(Message(role="assistant", content=turn or "{", problem=None if turn else "no JSON"))
    if ended == "limit":
        episode.truncate()
    elif ended == "stop":
        if episode.awaiting == "agent":
            episode.act(Message(role="assistant", content="Done."))
        episode.hear(STOP)
    return record(episode)


def lost(trajectory: Trajectory) -> Trajectory:
    return trajectory.model_copy(update={"error": "ModelError: no answer"})


def measured(domain: Domain, trajectories: Sequence[Trajectory], *, group_size: int = 2) -> dict[str, float]:
    return measure(domain, trajectories, [evaluate(domain, each).reward for each in trajectories], group_size=group_size)


def test_one_update_is_measured_as_it_went(library):
    wanted = task("a", FIND, DUNE, source="proposer:wrong_tool/find loans")
    idle = task("b", source="author")
    metrics = measured(
        library,
        [
            played(library, wanted, FIND, ABSENT, DUNE),  # 4 turns, 3 calls, one refused
            played(library, wanted, FIND, None, ended="limit"),  # 2 turns, 1 call, one unreadable
            played(library, idle, "Hello."),  # 1 turn
            lost(played(library, idle, FIND)),
        ],
    )
    ended = {f"episode/ended/{ending}": 0.0 for ending in ("transfer", "out_of_scope", "agent_stop", "max_steps", "max_errors")}
    assert metrics == ended | {
        "pass_rate": pytest.approx(2 / 3),
        "pass_rate/wrong_tool/find loans": 0.5,
        "pass_rate/author": 1.0,
        "groups/without_variance": 0.0,
        "episode/tool_calls": pytest.approx(4 / 3),
        "episode/turns": pytest.approx(7 / 3),
        "episode/refused_calls": 0.25,
        "episode/unreadable": pytest.approx(1 / 7),
        "episode/truncated": pytest.approx(1 / 3),
        "episode/lost": 0.25,
        "episode/transferred": 0.0,
        "episode/ended/user_stop": pytest.approx(2 / 3),
        "episode/ended/limit": pytest.approx(1 / 3),
    }


def test_real_episodes_of_generated_tasks_are_counted_by_the_pattern_of_their_certificate(retail):
    proposals = propose_tasks(retail, general_pattern(retail), n=6)
    tasks = [made for proposal in proposals if (made := verify_proposal(retail, proposal).task) is not None]
    assert tasks[0].certificate is not None
    tasks[1] = tasks[1].model_copy(update={"source": "elsewhere"})  # the certificate decides
    agents = [ScriptedAgent(tasks), ScriptedAgent(tasks, plan=lambda *_: (), reports=False)]
    trajectories = [record(drive(Episode(retail, each), agent, ScriptedUser())) for each in tasks for agent in agents]
    metrics = measured(retail, trajectories)
    assert metrics["pass_rate"] == metrics["pass_rate/general"] == 0.5
    assert [name for name in metrics if name.startswith("pass_rate/")] == ["pass_rate/general"]
    assert metrics["groups/without_variance"] == 0.0
    assert metrics["episode/refused_calls"] == metrics["episode/unreadable"] == 0.0
    assert alarms(metrics) == []


def test_groups_whose_rewards_are_all_alike_have_no_variance(library):
    good, bad = played(library, task("a", DUNE), DUNE), played(library, task("a", DUNE), FIND)
    gone = lost(bad)
    metrics = measured(library, [good, bad, bad, bad, good, good, gone, bad, gone, gone])
    assert metrics["groups/without_variance"] == pytest.approx(2 / 3)
    assert "groups/without_variance" not in measured(library, [gone, bad, gone, gone])


def test_only_handing_over_without_need_is_counted(retail):
    over = ToolCall(name="transfer_to_human_agents", arguments={"summary": "no idea"})
    needed, unneeded = task("needed", over, domain="retail"), task("unneeded", domain="retail")
    attempts = [played(retail, needed, over)] * 2 + [played(retail, unneeded, over), played(retail, unneeded, "No.")]
    assert measured(retail, attempts)["episode/transferred"] == 0.5
    assert "episode/transferred" not in measured(retail, attempts[:2])
    assert measured(retail, [lost(attempts[2]), attempts[3]])["episode/transferred"] == 0.0


def test_what_has_nothing_to_average_over_is_left_out(library):
    assert measure(library, [], [], group_size=4) == {}
    assert measured(library, [lost(played(library, task(), FIND))] * 2) == {"episode/lost": 1.0}
    silent = measured(library, [record(Episode(library, task()))] * 2)
    assert silent["episode/tool_calls"] == silent["episode/turns"] == 0
    assert not {"episode/refused_calls", "episode/unreadable"} & set(silent)


def test_an_infrastructure_error_is_never_a_reward(library):
    gone = lost(played(library, task(), FIND))
    with pytest.raises(ValueError, match=r"'a/0' was ended by infrastructure \(ModelError: no answer\), but has reward 0.0; give None"):
        measure(library, [gone, gone], [None, 0.0], group_size=2)


def test_rollouts_that_are_no_groups_are_refused(library):
    one, other = played(library, task("a"), FIND), played(library, task("b"), FIND)
    with pytest.raises(ValueError, match="found 2 trajectories and 1 rewards"):
        measure(library, [one, one], [1.0], group_size=2)
    with pytest.raises(ValueError, match="found 3 trajectories, which do not make whole groups of 2"):
        measure(library, [one] * 3, [1.0] * 3, group_size=2)
    with pytest.raises(ValueError, match="a group of 2 is of tasks 'a', 'b'"):
        measure(library, [one, other], [1.0, 1.0], group_size=2)


@given(st.lists(st.lists(st.sampled_from([1.0, 0.0, None]), min_size=3, max_size=3), max_size=5), st.integers(0, 99))
def test_shares_are_shares_and_the_order_within_a_group_does_not_matter(outcomes, seed):
    library = load_domain("library")
    kinds = {1.0: played(library, task("a", DUNE), DUNE), 0.0: played(library, task("a", DUNE), ABSENT, None, ended="limit")}
    kinds[None] = lost(kinds[0.0])
    shuffled = [Random(seed).sample(group, len(group)) for group in outcomes]
    one, other = (
        measure(
            library, [kinds[reward] for group in groups for reward in group], [reward for group in groups for reward in group], group_size=3
        )
        for groups in (outcomes, shuffled)
    )
    assert one == other
    assert all(0 <= value <= 1 for name, value in one.items() if name not in ("episode/tool_calls", "episode/turns"))
    assert ("pass_rate" in one) == any(reward is not None for group in outcomes for reward in group)


# alarms


def test_an_update_without_a_single_tool_call_raises_an_alarm(library):
    talk, work = played(library, task(), "Hello."), played(library, task(), FIND)
    (line,) = alarms(measured(library, [talk, talk]))
    assert line.startswith("no tool call in the whole update")
    assert alarms(measured(library, [talk, work])) == []
    unreadable = played(library, task(), None)
    assert len(alarms(measured(library, [unreadable, talk]))) == 1, "a call that cannot be read is none"


def test_an_update_that_was_truncated_throughout_raises_an_alarm(library):
    cut, whole = played(library, task(), FIND, ended="limit"), played(library, task(), FIND)
    (line,) = alarms(measured(library, [cut, cut]))
    assert line.startswith("every rollout was truncated")
    assert alarms(measured(library, [cut, whole])) == []
    assert len(alarms(measured(library, [cut, lost(whole)]))) == 1, "what infrastructure ended says nothing"


def test_an_update_that_infrastructure_mostly_ended_raises_an_alarm(library):
    good = played(library, task(), FIND)
    gone = lost(good)
    assert alarms(measured(library, [good, good, gone, gone])) == []
    (line,) = alarms(measured(library, [good, gone, gone, gone]))
    assert line.startswith("infrastructure ended 75% of the rollouts (the limit is 50%)")
    assert len(alarms(measured(library, [gone, gone]))) == 1
    assert alarms({}) == []
