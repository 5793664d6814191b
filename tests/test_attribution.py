"""Attribution names what was done wrong, where, and whose fault it was; on a small domain of its own, on retail and on recorded runs."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from post_office import call, carried_out, domain, play, task

from sentinel_env import Message, TaskError, Wish, load_domain
from sentinel_env.evaluation import calls
from sentinel_env.failures import CAUSES, attribute, executed_writes
from sentinel_env.failures.assignment import assign
from sentinel_env.failures.critical import point_of_no_return
from sentinel_env.failures.edits import edit_script
from sentinel_env.importers.results import import_tau2
from sentinel_env.importers.tau_bench import import_tau_bench
from sentinel_env.tasks import Fact
from sentinel_env.trajectory import Trajectory

P1 = call("readdress", parcel_id="P1", street="9 Oak Road")
P2 = call("readdress", parcel_id="P2", street="9 Oak Road")


def causes(attribution):
    return [(finding.label, finding.sublabel) for finding in attribution.findings if finding.is_cause]


def conduct(attribution):
    return [(finding.label, finding.evidence.step) for finding in attribution.findings if not finding.is_cause]


# the assignment

costs = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.lists(st.one_of(st.just(math.inf), st.integers(0, 8).map(float)), min_size=columns, max_size=columns), min_size=1, max_size=4
    )
)


def price(table, pairs, left, right):
    paired = sum(table[row][column] for row, column in pairs)
    return paired + left * (len(table) - len(pairs)) + right * (len(table[0]) - len(pairs))


def every_matching(rows, columns):
    for size in range(min(rows, columns) + 1):
        for chosen in itertools.combinations(range(rows), size):
            yield from (list(zip(chosen, others, strict=True)) for others in itertools.permutations(range(columns), size))


@given(costs, st.integers(0, 5), st.integers(0, 5))
def test_no_matching_is_cheaper_than_the_assignment(table, left, right):
    found = assign(table, alone_left=left, alone_right=right)
    best = min(price(table, pairs, left, right) for pairs in every_matching(len(table), len(table[0])))
    assert price(table, found, left, right) == best
    assert len({row for row, _ in found}) == len({column for _, column in found}) == len(found)


# labels


def test_a_passed_run_has_no_cause_and_no_fault():
    attribution = attribute(domain, carried_out(task(P1), P1))
    assert attribution.passed
    assert (attribution.primary, attribution.critical_step, attribution.point_of_no_return, attribution.fault) == (None,) * 4
    assert attribution.findings == ()


@pytest.mark.parametrize(
    ("wanted", "made", "label", "sublabel"),
    [
        (P1, call("readdress", parcel_id="P1", street="8 Oak Road"), "wrong_argument", "other_value"),
        (P1, P2, "wrong_target_record", None),
        (P1, call("seal", parcel_id="P1"), "wrong_tool", None),
        (
            call("put_tags", parcel_id="P1", tags=["a", "b"]),
            call("put_tags", parcel_id="P1", tags=["a"]),
            "wrong_argument",
            "incomplete_set",
        ),
        (call("put_tags", parcel_id="P1", tags=["a"]), call("put_tags", parcel_id="P1", tags=["a", "b"]), "wrong_argument", "surplus_set"),
        (call("put_tags", parcel_id="P1", tags=["a"]), call("put_tags", parcel_id="P1", tags=["c"]), "wrong_argument", "other_set"),
    ],
)
def test_one_wrong_write_is_one_finding_with_its_kind(wanted, made, label, sublabel):
    attribution = attribute(domain, carried_out(task(wanted), made))
    assert causes(attribution) == [(label, sublabel)]
    assert attribution.confirmed
    assert attribution.primary.executed == made
    assert attribution.primary.wanted == wanted


def test_a_wrong_argument_says_which_fields_came_out_otherwise():
    attribution = attribute(domain, carried_out(task(P1), call("readdress", parcel_id="P1", street="8 Oak Road")))
    assert (attribution.primary.arguments, attribution.primary.fields) == (("street",), ("parcels.street",))


def test_a_write_too_much_is_named_by_where_it_stands():
    on_target, off_target = call("put_tags", parcel_id="P1", tags=["x"]), call("put_tags", parcel_id="P3", tags=["x"])
    assert causes(attribute(domain, carried_out(task(P1), P1, on_target))) == [("extra_write", "on_reference_target")]
    assert causes(attribute(domain, carried_out(task(P1), P1, off_target))) == [("extra_write", "off_target")]
    assert causes(attribute(domain, carried_out(task(goal="Open my parcel."), P1))) == [("extra_write", "refusal_expected")]


def test_a_write_without_effect_on_the_outcome_is_no_cause():
    detour = call("readdress", parcel_id="P1", street="nowhere")
    wrong = call("readdress", parcel_id="P2", street="nowhere")
    attribution = attribute(domain, carried_out(task(P1, P2), detour, P1, wrong))
    assert causes(attribution) == [("wrong_argument", "other_value")]
    assert attribution.primary.executed == wrong


def test_what_locks_a_wanted_write_out_is_an_order_dependency_at_the_write_that_locks():
    seal = call("seal", parcel_id="P1")
    trajectory = carried_out(task(P1, seal), seal, P1)
    attribution = attribute(domain, trajectory)
    assert causes(attribution) == [("order_dependency", "locked_out")]
    assert trajectory.messages[attribution.critical_step].tool_calls == (seal,)
    assert attribution.point_of_no_return == attribution.critical_step


def test_a_lock_by_a_write_that_nobody_wanted_is_the_extra_write_itself():
    attribution = attribute(domain, carried_out(task(P1), call("seal", parcel_id="P1"), P1))
    assert ("order_dependency", "locked_out") not in causes(attribution)


def test_a_write_that_can_be_repeated_rightly_is_no_point_of_no_return():
    attribution = attribute(domain, carried_out(task(P1), call("readdress", parcel_id="P1", street="8 Oak Road")))
    assert attribution.point_of_no_return is None
    assert attribution.critical_step == attribution.primary.evidence.step


@pytest.mark.parametrize(
    ("turns", "sublabel"),
    [
        ((call("look", parcel_id="P1"), "It is on its way.", "> Bye ###STOP###"), "opened_not_executed"),
        (("It is on its way.", "> Bye ###STOP###"), "record_never_opened"),
        (("Parcel P1 has been updated.", "> Bye ###STOP###"), "claimed_done"),
        ((call("readdress", parcel_id="P1"), "Sorry.", "> Bye ###STOP###"), "attempt_rejected"),
        (("> Good morning!", "Hello.", "> Bye ###STOP###"), "not_voiced_by_user"),
    ],
)
def test_a_missing_write_is_named_by_how_near_it_came(turns, sublabel):
    attribution = attribute(domain, play(task(P1), *turns))
    assert ("missing_write", sublabel) in causes(attribution)


def test_a_number_that_was_said_in_place_of_the_right_one_is_where_it_was_lost():
    problem = task(goal="How many parcels do I have?", communicate=("3",))
    trajectory = play(problem, "Let me see.", "> Yes?", "You have 4 parcels.", "> Thanks ###STOP###")
    attribution = attribute(domain, trajectory)
    assert causes(attribution) == [("missing_communicate", "other_number_said")]
    assert trajectory.messages[attribution.critical_step].content == "You have 4 parcels."
    assert attribution.fault.side == "agent"


def test_a_hand_over_comes_before_what_is_missing_because_of_it():
    trajectory = play(task(P1), call("transfer_to_human"), "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT.", "> OK ###TRANSFER###")
    attribution = attribute(domain, trajectory)
    assert [label for label, _ in causes(attribution)] == ["unneeded_transfer", "missing_write"]
    assert trajectory.messages[attribution.critical_step].tool_calls[0].name == "transfer_to_human"


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["P1", "P2", "P3"]), max_size=3), st.lists(st.sampled_from(["P1", "P2", "P3"]), max_size=3), st.data())
def test_executing_a_confirmed_edit_script_reproduces_the_reference(wanted, made, data):
    def writes(keys):
        kinds = st.sampled_from([("readdress", {"street": "a"}), ("readdress", {"street": "b"}), ("put_tags", {"tags": ["x"]})])
        return [call(name, parcel_id=key, **rest) for key in keys for name, rest in [data.draw(kinds)]]

    problem, executed = task(*writes(wanted)), writes(made)
    attribution = attribute(domain, carried_out(problem, *executed))
    if attribution.passed:
        assert attribution.edits == ()
        return
    assert attribution.confirmed
    edited = [write.call for write in executed_writes(domain, domain.start(problem), enumerate(executed))]
    for edit in attribution.edits:
        if edit.label == "order_dependency":
            return
        if edit.executed is not None:
            at = edited.index(edit.executed)
            edited[at : at + 1] = [edit.wanted] if edit.wanted else []
        else:
            edited.append(edit.wanted)
    db = domain.start(problem)
    for each in edited:
        domain.execute(db, each)
    assert db.changes() == domain.reference_changes(problem)


# conduct


def test_conduct_is_reported_with_its_step_in_passed_runs_too():
    trajectory = play(
        task(P1),
        call("look", parcel_id="P1"),  # 2: nobody is identified
        call("identify", name="ann"),
        call("look", parcel_id="P9"),  # 6: said by nobody, refused
        call("look", parcel_id="P9"),  # 8: again
        call("look", parcel_id="P5"),  # 10: bob's, said by nobody
        call("open_parcel"),  # 12: no such tool
        call("look", parcel="P1"),  # 14: no such argument
        Message(role="assistant", content="One moment.", tool_calls=(call("look", parcel_id="P1"),)),  # 16: beside words, and again
        P1,  # 18: nobody agreed
        "I am through.",
        "> Thanks ###STOP###",
    )
    attribution = attribute(domain, trajectory)
    assert attribution.passed
    assert conduct(attribution) == [
        ("unauthenticated_read", 2),
        ("tool_error", 6),
        ("hallucinated_id", 6),
        ("tool_error", 8),
        ("repeated_error", 8),
        ("hallucinated_id", 10),
        ("other_users_record", 10),
        ("unknown_tool", 12),
        ("tool_error", 12),
        ("schema_error", 14),
        ("tool_error", 14),
        ("text_and_call", 16),
        ("repeated_call", 16),
        ("write_without_confirmation", 18),
    ]


def test_a_record_that_was_changed_unread_is_a_blind_write():
    trajectory = play(
        task(P1), call("identify", name="ann"), "Readdress P1? Please confirm.", "> Yes.", P1, "I am through.", "> Bye ###STOP###"
    )
    assert conduct(attribute(domain, trajectory)) == [("blind_write", 6)]


def test_a_policy_that_asks_for_no_confirmation_makes_none_necessary():
    library = load_domain("library")
    (problem,) = library.tasks()
    trajectory = play(
        problem, call("find_loans", member_id="M7"), call("renew_loan", loan_id="L1"), "Two weeks.", "> Bye ###STOP###", world=library
    )
    assert attribute(library, trajectory).findings[0].label == "hallucinated_id"  # the card number, which this user never gave
    assert "write_without_confirmation" not in {finding.label for finding in attribute(library, trajectory).findings}


# whose fault


def side(trajectory, world=domain):
    fault = attribute(world, trajectory).fault
    return fault.side, fault.step


WRONG = call("readdress", parcel_id="P1", street="8 Oak Road")


def test_a_scripted_user_is_never_at_fault():
    assert side(carried_out(task(P1), WRONG, user="scripted"))[0] == "agent"


def test_what_the_agent_chose_by_itself_is_its_own_fault():
    assert side(carried_out(task(P1), WRONG))[0] == "agent"


def test_a_value_that_the_user_gave_against_its_scenario_is_the_users_fault():
    turns = (
        "> Readdress P1 to 8 Oak Road.",
        call("look", parcel_id="P1"),
        "To 8 Oak Road? Please confirm.",
        "> Yes.",
        WRONG,
        "Done.",
        "> Bye ###STOP###",
    )
    assert side(play(task(P1), *turns)) == ("user", 1)


def test_a_value_that_the_agent_brought_up_is_not_the_users_fault():
    turns = ("> Readdress P1.", "To 8 Oak Road? Please confirm.", "> Yes, to 8 Oak Road.", WRONG, "Done.", "> Bye ###STOP###")
    assert side(play(task(P1), *turns))[0] == "agent"


def test_what_the_user_says_after_the_decisive_step_is_no_excuse():
    problem = task(call("put_tags", parcel_id="P1", tags=["a"]), goal="Tag P1 with a.")
    turns = (call("look", parcel_id="P1"), call("seal", parcel_id="P1"), "Done.", "> Never mind. ###STOP###")
    assert side(play(problem, *turns))[0] == "agent"


def test_a_user_that_agrees_and_leaves_in_one_message_is_at_fault():
    turns = (
        call("look", parcel_id="P1"),
        "I will readdress P1 to 9 Oak Road. Do you confirm (yes/no)?",
        "> Yes, please go ahead! ###STOP###",
    )
    trajectory = play(task(P1), *turns)
    assert side(trajectory) == ("user", len(trajectory.messages) - 1)


def test_a_user_that_gives_its_wish_up_is_at_fault():
    turns = (call("look", parcel_id="P1"), "Shall I readdress P1?", "> Actually, never mind.", "All right.", "> Bye ###STOP###")
    assert side(play(task(P1), *turns)) == ("user", 5)


def test_a_user_that_asks_for_a_person_is_at_fault_unless_its_scenario_does():
    turns = (call("look", parcel_id="P1"), "Shall I readdress P1?", "> Just transfer me to a human agent! ###TRANSFER###")
    assert side(play(task(P1), *turns))[0] == "user"
    assert side(play(task(P1, goal="Readdress P1, or have yourself transferred."), *turns))[0] != "user"


def test_structured_facts_convict_a_user_that_gives_another_identifier():
    problem = task(P1, goal="Readdress it.", facts=(Fact(slot="parcel", text="P1000", value="P1000"),))
    turns = ("> Readdress parcel P2000.", call("look", parcel_id="P2000"), "There is none.", "> Bye ###STOP###")
    assert side(play(problem, *turns)) == ("user", 1)


def test_structured_wishes_convict_a_user_that_agrees_to_something_else():
    wish = Wish(text="readdress parcel P1", call=P1, facts=(Fact(slot="parcel", text="P1", value="P1"),))
    problem = task(P1, goal="Readdress parcel P1 to 9 Oak Road.", wishes=(wish,))
    turns = ("I will seal parcel P3. Do you confirm (yes/no)?", "> Yes.", call("seal", parcel_id="P3"), "Done.", "> Bye ###STOP###")
    assert side(play(problem, *turns)) == ("user", 3)


def test_infrastructure_is_the_environments_fault():
    attribution = attribute(domain, Trajectory(id="t/0", task=task(P1), error="timeout"))
    assert (attribution.passed, attribution.fault.side, attribution.primary) == (None, "environment", None)


def test_a_reference_that_tools_refuse_is_the_tasks_fault():
    lax = dataclasses.replace(domain, dialect="tau2")  # under ours, such a reference is a TaskError
    seal = call("seal", parcel_id="P1")
    assert side(carried_out(task(seal, P1), seal, call("put_tags", parcel_id="P1", tags=["x"]), world=lax), lax)[0] == "task"


# input that is not as it should be


def test_a_trajectory_of_another_domain_is_refused():
    with pytest.raises(TaskError, match="is of domain 'post', graded in 'library'"):
        attribute(load_domain("library"), Trajectory(id="t/0", task=task(P1)))


def test_an_empty_run_misses_what_its_reference_does():
    attribution = attribute(domain, Trajectory(id="t/0", task=task(P1)))
    assert causes(attribution) == [("missing_write", "record_never_opened"), ("unfinished", "abandoned")]
    assert attribution.confirmed
    assert attribution.critical_step == 0
    assert attribution.fault.side == "undetermined"


def test_without_a_reference_any_write_is_too_much_and_none_is_missing():
    assert causes(attribute(domain, carried_out(task(goal="Hello."), P1))) == [("extra_write", "refusal_expected")]


def test_a_record_that_cannot_be_reproduced_is_said_to_be_unconfirmed():
    trajectory = carried_out(task(P1), WRONG).model_copy(update={"changes": {"parcels": {"P1": {"street": "elsewhere"}}}})
    attribution = attribute(domain, trajectory)
    assert attribution.confirmed is False
    assert ("unconfirmed", "not_reproduced") in [(finding.label, finding.sublabel) for finding in attribution.findings]


def test_attribution_depends_on_nothing_but_its_input():
    trajectory = carried_out(task(P1, P2), WRONG, call("seal", parcel_id="P3"))
    assert attribute(domain, trajectory).model_dump_json() == attribute(domain, trajectory).model_dump_json()
    assert {finding.label for finding in attribute(domain, trajectory).findings if finding.is_cause} <= set(CAUSES)


@pytest.mark.parametrize("name", ["P²", "②", "٣", "P1²"])
def test_an_identifier_in_strange_digits_is_a_mistake_like_any_other(name):
    trajectory = play(task(P1), call("look", parcel_id=name), "I cannot find it.", "> Thanks. ###STOP###")
    found = attribute(domain, trajectory).findings
    assert any(finding.label == "tool_error" for finding in found)


# recorded runs


@pytest.fixture(scope="module")
def recorded(shared):
    folder = shared / "data"
    return {
        "tau-bench": import_tau_bench(folder / "trajectories" / "agentrx_tau_retail.json", data=folder / "tau2_retail"),
        "tau2-bench": import_tau2(folder / "trajectories" / "tau2_results_train.json", data=folder / "tau2_retail"),
    }


@pytest.mark.parametrize("name", ["tau-bench", "tau2-bench"])
def test_every_recorded_failure_has_a_cause_a_side_and_a_confirmed_script(recorded, name):
    imported = recorded[name]
    failed = [each for trajectory in imported.trajectories if (each := attribute(imported.domain, trajectory)).passed is False]
    assert failed
    for each in failed:
        assert each.primary is not None
        assert each.primary.is_cause
        assert each.confirmed is not False
        assert each.fault is not None
        assert each.critical_step is not None


@pytest.mark.parametrize("name", ["tau-bench", "tau2-bench"])
def test_a_passed_run_has_no_point_of_no_return_and_no_edit_even_if_one_looks(recorded, name):
    imported = recorded[name]
    for trajectory in imported.trajectories:
        if attribute(imported.domain, trajectory).passed:
            start = imported.domain.start(trajectory.task)
            made = executed_writes(imported.domain, start, ((step, each) for step, each, _ in calls(trajectory)))
            wanted = executed_writes(imported.domain, start, enumerate(trajectory.task.criteria.actions))
            assert point_of_no_return(imported.domain, start, made, wanted) is None
            assert edit_script(imported.domain, start, made, wanted).edits == ()


def test_the_lock_of_a_modified_order_is_found_in_recorded_runs(recorded):
    imported = recorded["tau-bench"]
    found = {each.task_id for trajectory in imported.trajectories if (each := attribute(imported.domain, trajectory)) and ordered(each)}
    assert found == {"41", "72", "98"}


def ordered(attribution):
    return any(finding.label == "order_dependency" for finding in attribution.findings)


def test_retail_names_its_mistakes(recorded):
    imported = recorded["tau-bench"]
    by_task = {trajectory.task.id: attribute(imported.domain, trajectory) for trajectory in imported.trajectories}
    assert by_task["99"].primary.features == ("payment_method",)
    assert by_task["20"].primary.features == ("variant",)
