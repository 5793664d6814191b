"""Patterns: what is counted against what, which context is named, what recurs, and that nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest
from sentinel_domains import library

from sentinel_env import Criteria, Domain, DomainError, Episode, Message, Scenario, Task, ToolCall, drive, tool
from sentinel_env.agents import ScriptedAgent
from sentinel_env.failures import FailurePattern, FailureReport, mine
from sentinel_env.failures.kinds import _groups
from sentinel_env.failures.opportunities import Exposure
from sentinel_env.failures.tally import EVIDENCE, Tally
from sentinel_env.tasks import Wish
from sentinel_env.trajectory import Trajectory, record
from sentinel_env.users import ScriptedUser

TITLES = ("Dune", "Emma", "Ulysses")


def renew(key: str) -> ToolCall:
    return ToolCall(name="renew_loan", arguments={"loan_id": key})


def task(member: int, wanted: Sequence[int]) -> Task:
    card = f"M{100 + member}"
    wishes = tuple(
        Wish(text=f"Please renew {TITLES[at]}.", call=renew(f"L{3 * member + at}"), labels={f"L{3 * member + at}": TITLES[at]})
        for at in wanted
    )
    return Task(
        id=f"t{member}",
        domain="library",
        scenario=Scenario(goal="-", known={"card number": card}, wishes=wishes),
        criteria=Criteria(
            actions=(ToolCall(name="find_loans", arguments={"member_id": card}), *(wish.call for wish in wishes if wish.call))
        ),
    )


@pytest.fixture(scope="module")
def world() -> Domain:
    """Forty members with three loans; every second one wants two of them renewed."""
    loans = {f"L{at}": library.Loan(title=TITLES[at % 3], member_id=f"M{100 + at // 3}") for at in range(120)}
    tasks = [task(member, (0, 2) if member % 2 else (1,)) for member in range(40)]
    return replace(library.domain, database=lambda: library.LibraryDB(loans=loans), tasks=lambda: tasks)


Plan = Callable[[Domain, Task], Sequence[ToolCall]]


def play(world: Domain, plan: Plan, *, tasks: Sequence[Task] | None = None) -> Iterator[Trajectory]:
    agent = ScriptedAgent(tasks=world.split(), plan=plan)
    for each in tasks or world.split():
        yield record(drive(Episode(world, each), agent, ScriptedUser()), agent="scripted", user="scripted")


def reference(world: Domain, task: Task) -> Sequence[ToolCall]:
    return task.criteria.actions


def without_the_last_of_several(world: Domain, task: Task) -> Sequence[ToolCall]:
    actions = task.criteria.actions
    return actions[:-1] if len(actions) > 2 else actions


def by_id(report: FailureReport) -> dict[str, FailurePattern]:
    return {pattern.id: pattern for pattern in report.patterns}


def test_opportunities_are_the_places_in_the_reference(world: Domain) -> None:
    two = Exposure(world, world.tasks_by_id["t1"]).chances
    assert sum(chance.label == "missing_write" for chance in two) == 2
    assert {chance.label for chance in two} == {
        "missing_write",
        "wrong_target_record",
        "extra_write",
        "unfinished",
    }  # one tool, nothing to tell
    assert ["last_write" in chance.features for chance in two if chance.label == "missing_write"] == [False, True]


def test_a_habit_is_named_with_its_context_and_recurs(world: Domain) -> None:
    (pattern,) = mine(world, play(world, without_the_last_of_several)).patterns
    assert pattern.id == "missing_write/renew_loan@last_write"
    assert (pattern.errors, pattern.opportunities, pattern.tasks, pattern.share) == (20, 20, 20, 1.0)
    assert pattern.rate_interval is not None
    assert pattern.rate_interval[0] > 0.8
    assert pattern.selected


def test_a_context_that_does_not_separate_is_not_named(world: Domain) -> None:
    def forgets_everything(world: Domain, task: Task) -> Sequence[ToolCall]:
        return task.criteria.actions[:1]

    (pattern,) = mine(world, play(world, forgets_everything)).patterns
    assert (pattern.id, pattern.feature) == ("missing_write/renew_loan", None)


def test_few_tasks_do_not_recur(world: Domain) -> None:
    few = [each for each in world.split() if int(each.id[1:]) % 2][:4]
    right = [each for each in world.split() if each not in few]
    runs = [*play(world, without_the_last_of_several, tasks=few), *play(world, reference, tasks=right)]
    (pattern,) = mine(world, runs).patterns
    assert (pattern.tasks, pattern.selected) == (4, False)


def test_an_agent_that_errs_everywhere_alike_has_no_pattern_that_recurs(world: Domain) -> None:
    random = Random(3)

    def careless(world: Domain, task: Task) -> Sequence[ToolCall]:
        plan = []
        for call in task.criteria.actions:
            if call.name == "renew_loan":
                if random.random() < 0.1:
                    continue
                if random.random() < 0.1:
                    call = renew(f"L{3 * int(task.id[1:]) + random.randrange(3)}")
            plan.append(call)
        return plan

    report = mine(world, play(world, careless))
    assert report.failed > 3
    assert not any(pattern.selected for pattern in report.patterns)


def test_conduct_of_passed_runs_is_found_with_its_rate_and_without_a_contrast(world: Domain) -> None:
    def guesses_first(world: Domain, task: Task) -> Sequence[ToolCall]:
        return [ToolCall(name="find_loans", arguments={"member_id": "M98765"}), *task.criteria.actions]

    report = mine(world, play(world, guesses_first))
    (pattern,) = report.patterns
    assert (report.failed, pattern.id) == (0, "hallucinated_id/find_loans")
    assert (pattern.rate, pattern.failures, pattern.share, pattern.contrast_interval) == (1.0, 0, 0.0, None)
    assert pattern.selected
    assert not pattern.is_cause


def test_the_order_of_trajectories_changes_nothing_but_the_order_of_evidence(world: Domain) -> None:
    runs = list(play(world, without_the_last_of_several)) * 2
    one, other = mine(world, runs), mine(world, reversed(runs))
    plain = {"evidence": ()}
    assert [pattern.model_copy(update=plain) for pattern in one.patterns] == [
        pattern.model_copy(update=plain) for pattern in other.patterns
    ]
    assert {each.trajectory for each in one.patterns[0].evidence} == {each.trajectory for each in other.patterns[0].evidence}


def test_evidence_is_capped_and_its_choice_follows_the_seed(world: Domain) -> None:
    runs = [each.model_copy(update={"id": f"{each.id}-{trial}"}) for trial in range(3) for each in play(world, without_the_last_of_several)]
    first, again, other = (mine(world, runs, seed=seed).patterns[0].evidence for seed in (0, 0, 1))
    assert len(first) == EVIDENCE
    assert first == again != other


def test_failures_of_the_user_are_counted_apart(world: Domain) -> None:
    class Leaving:
        name = "leaving"

        def reply(self, view: object, /) -> Message:
            return Message(role="user", content="Never mind. ###STOP###")

    agent = ScriptedAgent(tasks=world.split())
    runs = [record(drive(Episode(world, each), agent, Leaving()), user="leaving") for each in world.split()]
    report = mine(world, [*runs, *play(world, without_the_last_of_several)])
    assert report.faults["agent"] == 20
    assert report.failed == 60
    assert report.mined == ("agent",)
    assert sum(pattern.failures for pattern in report.patterns) == 20


def test_what_cannot_be_analysed_is_a_problem_and_the_rest_is_analysed(world: Domain) -> None:
    good = list(play(world, without_the_last_of_several))
    base = good[0]
    odd = {
        "other-domain": base.task.model_copy(update={"domain": "retail"}),
        "no-reference": Task(id="x", domain="library", scenario=Scenario(goal="-")),
        "unknown-tool": base.task.model_copy(update={"criteria": Criteria(actions=(ToolCall(name="sell_loan", arguments={}),))}),
        "refused": base.task.model_copy(update={"id": "y", "criteria": Criteria(actions=(renew("L999"),))}),
    }
    bad = [base.model_copy(update={"id": name, "task": task}) for name, task in odd.items()]
    elsewhere = good[1].model_copy(update={"id": "elsewhere", "changes": {"loans": {"L999": {"status": "renewed"}}}})
    report = mine(world, [*bad, elsewhere, *good])
    assert [problem.split(":")[0] for problem in report.problems] == [*odd, "elsewhere"]
    expected = ("is of domain 'retail'", "has no reference", "reference calls sell_loan", "reference action 0", "another database")
    for problem, text in zip(report.problems, expected, strict=True):
        assert text in problem
    assert by_id(report)["missing_write/renew_loan@last_write"].errors >= 20


def test_a_tool_that_crashes_is_our_mistake_and_no_problem_of_the_trajectory(world: Domain) -> None:
    @tool(writes=True)
    def renew_loan(db: library.LibraryDB, loan_id: str) -> library.Loan:
        """Renew a loan.

        Args:
            loan_id: The loan.
        """
        raise ZeroDivisionError

    good = list(play(world, without_the_last_of_several))
    broken = replace(world, tools=[each for each in world.tools if each.name != "renew_loan"] + [renew_loan])
    with pytest.raises(DomainError, match="renew_loan"):
        mine(broken, good)


def test_no_run_no_failure_and_no_grade_are_all_a_report(world: Domain) -> None:
    assert mine(world, []).patterns == ()
    assert mine(world, play(world, reference)).patterns == ()
    broken = mine(world, [Trajectory(id="x", task=world.split()[0], error="timeout")])
    assert (broken.excluded, broken.trajectories, broken.patterns) == (1, 1, ())


def test_unknown_tools_of_an_agent_do_not_become_tools_of_a_pattern(world: Domain) -> None:
    def asks_for_more(world: Domain, task: Task) -> Sequence[ToolCall]:
        return [ToolCall(name="search_catalogue", arguments={}), *task.criteria.actions]

    (pattern,) = mine(world, play(world, asks_for_more)).patterns
    assert (pattern.id, pattern.tools) == ("unknown_tool", ())


def test_arguments_that_go_wrong_together_are_one_kind_and_others_are_several() -> None:
    from collections import Counter

    address = Counter({("city", "street", "zip"): 8, ("street",): 2, ("street", "zip"): 3})
    assert list(_groups(address)) == [("city", "street", "zip")]
    apart = Counter({("item",): 5, ("payment",): 4, ("item", "payment"): 3})
    assert sorted(_groups(apart)) == [("item",), ("payment",)]


def test_a_tally_holds_counts_and_no_trajectory(world: Domain) -> None:
    runs = list(play(world, without_the_last_of_several))
    small, large = Tally(world).add_all(runs), Tally(world).add_all(runs * 5)
    assert len(small.shapes) == len(large.shapes)
    assert large.failed == 5 * small.failed
