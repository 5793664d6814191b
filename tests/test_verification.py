"""The gates: a draft that works passes all of them, and each of them alone refuses what it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcels import ASKED, LOOK, STREET, WISH, WRONG_STREET, accepted, changed, examined, propose, refusal, task, world
from post_office import call
from post_office import domain as post
from pydantic import ValidationError

from sentinel_env import Criteria, Domain, DomainError, Scenario, Task, ToolCall, load_domain, tool
from sentinel_env.certificates import Foil
from sentinel_env.failures import general_pattern
from sentinel_env.failures.opportunities import Exposure
from sentinel_env.generation import propose_tasks
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Fact, Tau2Criteria, Wish
from sentinel_env.verification import (
    GATES,
    MIN_FOILS,
    Examination,
    HeldOut,
    KnownTasks,
    verify_all,
    verify_proposal,
)


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail")


# what passes


def test_a_draft_that_works_passes_all_gates_in_order() -> None:
    verdict = verify_proposal(world, propose())
    assert verdict.task is not None
    assert tuple(gate.name for gate in verdict.gates) == GATES
    assert verdict.rejected_by is None


def test_what_nothing_was_given_to_check_with_is_said_and_refuses_nothing() -> None:
    bare = replace(post, access=None)
    unchecked = {gate.name: gate.reason for gate in verify_proposal(bare, propose()).gates if not gate.checked}
    assert unchecked == {
        "opportunity": "the label general says nothing of a mistake",
        "policy": "the domain says neither what its policy forbids nor whose its records are",
        "uniqueness": "the domain does not say what words mean",
        "leakage": "no task is held out from it",
        "oracle": "no oracle was given",
        "pilot": "no agent for a pilot was given",
    }


@pytest.mark.parametrize("rehearse", ["all", "mistake"])
def test_most_of_what_the_proposer_makes_passes(retail: Domain, rehearse: Any) -> None:
    drafts = propose_tasks(retail, general_pattern(retail), n=40)
    verdicts = list(verify_all(retail, drafts, examination=Examination(rehearse=rehearse)))
    assert sum(verdict.task is not None for verdict in verdicts) >= 28, [str(each.rejected_by) for each in verdicts if each.rejected_by]


# schema


def test_an_unknown_tool_is_refused_by_schema() -> None:
    assert examined(propose(task(actions=(call("burn", parcel_id="P1"),)))) == ("schema", "reference action 0: there is no tool 'burn'")


def test_a_mistyped_argument_is_refused_by_schema() -> None:
    name, reason = examined(propose(task(actions=(*LOOK, call("readdress", parcel_id=7, street="9 Oak Road")))))
    assert name == "schema"
    assert "reference action 2 (readdress): argument 'parcel_id' must be a valid string" in reason


def test_a_mistyped_foil_is_refused_by_schema_unless_that_is_the_mistake() -> None:
    mistyped = (call("readdress", parcel_id="P1", street=8),)
    name, reason = examined(propose(None, changed(WRONG_STREET, calls=mistyped)))
    assert name == "schema"
    assert reason.startswith("the wrong_argument foil has a call that no tool takes, 0 (readdress): argument 'street'")
    accepted(propose(None, changed(WRONG_STREET, calls=mistyped, label="schema_error")))
    accepted(propose(None, changed(WRONG_STREET, calls=(call("burn"),), label="unknown_tool")))


def test_a_task_of_another_domain_or_without_actions_is_refused_by_schema() -> None:
    assert examined(propose(), load_domain("library")) == ("schema", "the task is for domain 'post', not 'library'")
    assert examined(propose(task(actions=()))) == ("schema", "the task has no reference actions")


def endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("proposal", "reason"),
    [
        (propose(task(actions=(*LOOK,) * 5_000)), "10000 calls in one plan; at most 60"),
        (propose(None, *[WRONG_STREET] * 1_000), "1000 foils; at most 200"),
        (propose(task(changed(WISH, text="x" * 10_000_000))), "characters; at most 400,000"),
        (propose(None, changed(WRONG_STREET, calls=(call("put_tags", parcel_id="P1", tags=endless()),))), "Circular reference"),
        (propose(None, changed(WRONG_STREET, calls=(call("put_tags", parcel_id="P1", tags=deep(900)),))), "cannot be written as JSON"),
        (propose(task(changed(WISH, facts=(Fact(slot="parcel", text="P1", value="\ud800"),)))), "cannot be written as JSON"),
        (propose(changed(task(), changes={"planets": {}})), "changes: there is no table 'planets'; the tables are parcels"),
        (propose(changed(task(), changes={"parcels": {"P1": 5}})), "changes: parcels['P1'] is a int; expected an object of fields"),
    ],
)
def test_what_cannot_be_examined_is_refused_by_schema(proposal: TaskProposal, reason: str) -> None:
    name, found = examined(proposal)
    assert (name, "\n" in found) == ("schema", False)
    assert reason in found


# execution


def test_a_reference_that_a_tool_refuses_is_refused_by_execution() -> None:
    seal = call("seal", parcel_id="P1")
    draft = task(actions=(*LOOK, seal, ASKED))
    assert examined(propose(draft)) == ("execution", "action 3 (readdress): parcel P1 is sealed")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parcels": {"P1": {"color": "red"}}}, "color: Extra inputs are not permitted"),
        ({"parcels": {"P9": None}}, "no record 'P9' to remove"),
        ({"parcels": {"P1": {"sealed": "perhaps"}}}, "sealed: Input should be a valid boolean"),
    ],
)
def test_changes_that_do_not_fit_the_database_are_refused_by_execution(changes: Any, reason: str) -> None:
    name, found = examined(propose(changed(task(), changes=changes)))
    assert name == "execution"
    assert reason in found


# nothing fails


def test_a_task_that_pays_for_doing_nothing_is_refused() -> None:
    draft = task(changed(WISH, call=None, provenance={}))
    extra = Foil(label="extra_write", at=2, calls=(ASKED,))
    assert examined(propose(draft, extra)) == ("nothing fails", "doing nothing is rewarded")
    telling = task(*draft.scenario.wishes, communicate=("9 Oak Road",))
    handing_over = task(*draft.scenario.wishes, actions=(*LOOK, call("transfer_to_human")), basis=("database", "transfer"))
    for better in (telling, handing_over):
        assert "nothing fails" in {gate.name for gate in verify_proposal(world, propose(better, extra)).gates if gate.passed}


# necessity


def test_a_write_without_which_the_outcome_is_the_same_is_refused_by_necessity() -> None:
    first = Wish(text="Please send P1 to 8 Elm Street.", call=call("readdress", parcel_id="P1", street="8 Elm Street"))
    draft = task(first, WISH)
    foil = Foil(label="wrong_argument", at=3, drop=1, calls=WRONG_STREET.calls)
    assert examined(propose(draft, foil)) == ("necessity", "write 0 (readdress) changes nothing that the others do not")


def test_two_writes_that_undo_each_other_are_refused_by_necessity() -> None:
    writes = [call("put_tags", parcel_id="P1", tags=["red"]), call("put_tags", parcel_id="P1", tags=[]), ASKED]
    draft = task(actions=(*LOOK, *writes))
    assert examined(propose(draft))[0] == "necessity"


# opportunity


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"label": "wrong_argument", "tools": ("put_tags",)}, "leaves no room for wrong_argument with put_tags"),
        ({"label": "wrong_argument", "arguments": ("tags",)}, "leaves no room for wrong_argument in tags"),
        ({"label": "missing_communicate"}, "leaves no room for missing_communicate"),
        ({"label": "missing_transfer"}, "leaves no room for missing_transfer"),
        ({"label": "order_dependency"}, "leaves no room for order_dependency"),
        ({"label": "wrong_argument", "feature": "several_writes"}, "but not in the context 'several_writes'"),
        ({"label": "blind_write", "tools": ("seal",)}, "leaves no room for blind_write with seal"),
        ({"label": "ungrounded_selection"}, "leaves no room for ungrounded_selection"),
        ({"label": "clumsiness"}, "there is no failure with the label 'clumsiness'"),
    ],
)
def test_a_draft_without_the_opportunity_that_it_claims_is_refused(claim: dict[str, Any], reason: str) -> None:
    name, found = examined(propose(**{"unpunished": "of no matter here", **claim}))
    assert name == "opportunity"
    assert reason in found


@pytest.mark.parametrize(
    "claim",
    [
        {"label": "wrong_argument", "tools": ("readdress",), "arguments": ("street", "tags")},
        {"label": "missing_write", "tools": ("readdress",)},
        {"label": "extra_write", "tools": ("seal",)},
        {"label": "unneeded_transfer"},
        {"label": "repeated_error", "tools": ("readdress",)},
        {"label": "write_without_confirmation"},
    ],
)
def test_a_draft_with_the_opportunity_that_it_claims_passes(claim: dict[str, Any]) -> None:
    accepted(propose(**{"unpunished": "of no matter here", **claim}))


@pytest.mark.parametrize(("label", "feature"), [("missing_write", "last_write"), ("extra_write", "several_writes")])
def test_a_context_counts_where_the_mistake_can_be_made(label: str, feature: str) -> None:
    claim = {"label": label, "feature": feature, "unpunished": "of no matter here"}
    seal = Wish(text="Then seal parcel P1.", call=call("seal", parcel_id="P1"))
    accepted(propose(task(WISH, seal), **claim))
    assert examined(propose(**claim))[0] == "opportunity"


@pytest.mark.parametrize("label", ["missing_write", "wrong_argument", "wrong_target_record", "missing_communicate"])
def test_opportunities_that_are_seen_at_once_are_those_that_are_mined(retail: Domain, label: str) -> None:
    """The gate asks `Exposure` only where a context is claimed; both must agree."""
    names = [(name, argument) for name, each in retail.tools_by_name.items() for argument in (*each.arguments.model_fields, None)]
    for proposal in propose_tasks(retail, general_pattern(retail), n=15):
        chances = Exposure(retail, proposal.draft).chances
        for name, argument in names:
            claim = changed(proposal, label=label, tools=(name,), arguments=(argument,) if argument else (), unpunished="-")
            found = any(
                each.label == label and each.tool in (name, None) and (argument is None or each.argument in (argument, None))
                for each in chances
            )
            gate = next(gate for gate in verify_proposal(retail, claim, examination=Examination(rehearse="mistake")).gates[4:])
            assert (gate.name, gate.passed) == ("opportunity", found), (claim.tools, claim.arguments)


# policy


def test_a_write_that_the_policy_forbids_is_refused() -> None:
    wish = Wish(text="Send P1 to 1 Prison Lane.", call=call("readdress", parcel_id="P1", street="1 Prison Lane"))
    assert examined(propose(task(wish))) == ("policy", "action 2 (readdress) is forbidden: nothing goes to a prison")
    accepted(propose(task(wish)), replace(world, forbids=None))


def test_a_write_is_judged_in_the_state_before_it() -> None:
    def not_sealed(db: Any, made: ToolCall) -> str | None:
        return "it is sealed" if db.parcels[made.arguments["parcel_id"]].sealed else None

    seal = Wish(text="Then seal parcel P1.", call=call("seal", parcel_id="P1"))
    accepted(propose(task(WISH, seal)), replace(world, forbids=not_sealed))


def test_a_reference_about_two_people_is_refused_by_policy() -> None:
    draft = task(changed(WISH, text="Send P1 to 9 Oak Road. There is also P4."), actions=(*LOOK, call("look", parcel_id="P4"), ASKED))
    foil = Foil(label="missing_write", at=3, drop=1)
    name, reason = examined(propose(draft, foil))
    assert (name, reason) == ("policy", "action 2 (look) is about 'bob', action 1 about 'ann'; a task is about one person")


# uniqueness


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("P1 or P2", "parcel 'P1 or P2' means 'P1', but also 'P2'"),
        ("the parcel to 2 Elm Street", "parcel 'the parcel to 2 Elm Street' does not mean 'P1', but 'P2'"),
        ("the big parcel", "parcel 'the big parcel' does not mean 'P1'"),
    ],
)
def test_words_that_mean_something_else_are_refused_by_uniqueness(text: str, reason: str) -> None:
    draft = task(changed(WISH, facts=(Fact(slot="parcel", text=text, value="P1"), STREET)))
    assert examined(propose(draft)) == ("uniqueness", reason)
    accepted(propose(draft), replace(world, meanings=None))


def test_a_meaning_may_be_a_list() -> None:
    pair = Fact(slot="pair", text="both", value=["P1", "P2"])
    draft = task(changed(WISH, facts=(*WISH.facts, pair)))
    for found, fits in (((("P1", "P2"),), True), ((("P1",),), False), ((("P1", "P3"),), False), ((["P1", "P2"], ["P2", "P1"]), False)):
        reading = replace(world, meanings=lambda db, scenario, wish, fact, found=found: found if fact.slot == "pair" else None)
        if fits:
            accepted(propose(draft), reading)
        else:
            assert examined(propose(draft), reading)[0] == "uniqueness"


def test_words_that_cannot_be_read_are_left_unchecked() -> None:
    draft = task(changed(WISH, facts=(STREET,), provenance={}))
    gate = next(gate for gate in verify_proposal(world, propose(draft)).gates if gate.name == "uniqueness")
    assert (gate.passed, gate.checked, gate.reason) == (True, False, "the domain cannot read the words of any fact")


# foils


def test_a_proposal_without_a_foil_is_refused_unless_it_says_why() -> None:
    bare = changed(propose(), foils=())
    assert examined(bare) == ("foil", "no foil: nothing shows that the mistake is possible and costs reward")
    accepted(changed(bare, unpunished="no state shows it"))


def test_a_mistake_that_cannot_be_made_is_refused() -> None:
    lost = changed(WRONG_STREET, calls=(call("readdress", parcel_id="P9", street="9 Oak Road"),))
    assert examined(propose(None, lost)) == ("foil", "the mistake cannot be made: readdress: no parcel 'P9'")
    accepted(propose(None, changed(lost, label="hallucinated_id")))
    accepted(propose(None, WRONG_STREET, lost))


def test_a_mistake_that_only_reads_must_be_possible_too() -> None:
    endless = Foil(label="unfinished", at=2, drop=1, calls=(call("look", parcel_id="P1"),) * 3)
    accepted(propose(None, endless, label="unfinished"))
    lost = changed(endless, calls=(call("look", parcel_id="P9"),) * 3)
    assert examined(propose(None, lost, label="unfinished")) == ("foil", "the mistake cannot be made: look: no parcel 'P9'")


def test_a_foil_that_is_no_mistake_is_refused() -> None:
    assert examined(propose(None, Foil(label="missing_write"))) == ("foil", "the missing_write foil leads where the reference leads")
    silent = Foil(label="missing_communicate", silent=True)
    assert examined(propose(None, WRONG_STREET, silent)) == ("foil", "the missing_communicate foil leads where the reference leads")


def test_the_first_foil_is_the_mistake_of_the_pattern() -> None:
    claim = {"label": "missing_write", "tools": ("readdress",)}
    assert examined(propose(**claim)) == ("foil", "the first foil is a wrong_argument; expected the mistake of the pattern, missing_write")


def test_a_call_that_is_refused_leaves_no_trace_in_a_foil_either() -> None:
    """Sealed too early, the parcel cannot be readdressed any more: the order of the two writes matters."""
    seal = Wish(text="Then seal parcel P1.", call=call("seal", parcel_id="P1"))
    draft = task(WISH, seal)
    actions = draft.criteria.actions
    swapped = Foil.between("order_dependency", actions, (*actions[:2], actions[3], actions[2]))
    accepted(propose(draft, swapped, label="order_dependency"))
    harmless = changed(WRONG_STREET, at=4, drop=0, label="extra_write")
    assert examined(propose(draft, swapped, harmless)) == ("foil", "the extra_write foil leads where the reference leads")


def test_calls_tell_a_foil_apart_where_they_are_graded() -> None:
    unread = Foil(label="missing_action", at=1, drop=1)
    assert examined(propose(None, unread)) == ("foil", "the missing_action foil leads where the reference leads")
    accepted(propose(task(basis=("actions",)), unread))
    only_told = task(basis=("communicate",), communicate=("P1",))
    assert examined(propose(only_told)) == ("foil", "the wrong_argument foil leads where the reference leads")


def test_tau2_benchs_grades_and_its_skipped_calls_are_known() -> None:
    """A refused call of the reference is skipped there, and the reward may be made of the database alone."""
    loose = replace(world, dialect="tau2")
    refused = call("look", parcel_id="P9")
    draft = task(
        changed(WISH, text="Please send parcel P1 to 9 Oak Road. P9 is lost."),
        actions=(*LOOK, refused, ASKED),
        basis=("tau2",),
        communicate=("P1",),
        tau2=Tau2Criteria(reward_basis=("DB",)),
    )
    wrong = changed(WRONG_STREET, at=3)
    accepted(propose(draft, wrong), loose)
    silent = Foil(label="missing_communicate", silent=True)
    assert examined(propose(draft, wrong, silent), loose)[0] == "foil"
    assert examined(propose(draft, wrong)) == ("execution", "action 2 (look): no parcel 'P9'")
    odd = changed(draft, criteria=changed(draft.criteria, tau2=Tau2Criteria(reward_basis=("VIBES",))))
    assert examined(propose(odd, wrong), loose)[0] == "nothing fails"
    assert "reward basis 'VIBES' is not supported" in examined(propose(odd, wrong), loose)[1]


def test_handing_over_tells_a_foil_apart_where_that_is_graded() -> None:
    leaves = Foil(label="unneeded_transfer", at=3, calls=(call("transfer_to_human"),))
    assert examined(propose(None, leaves)) == ("foil", "the unneeded_transfer foil leads where the reference leads")
    accepted(propose(task(basis=("database", "transfer")), leaves))


def test_a_foil_beyond_the_end_is_refused() -> None:
    assert examined(propose(None, WRONG_STREET, Foil(label="extra_write", at=9, calls=(ASKED,)))) == (
        "foil",
        "the extra_write foil edits actions 9 to 9 of 3",
    )


def test_a_draft_of_the_proposer_needs_five_foils_that_differ() -> None:
    same = propose(None, *[WRONG_STREET] * 9)
    accepted(same)
    assert examined(changed(same, seed=0)) == ("foil", f"1 distinct foils; {MIN_FOILS} are wanted")
    different = [changed(WRONG_STREET, calls=(call("readdress", parcel_id="P1", street=f"{at} Elm Street"),)) for at in range(2, 7)]
    accepted(changed(same, foils=tuple(different), seed=0))
    assert examined(same, examination=Examination(min_foils=2))[0] == "foil"


# new, leakage


def test_the_same_task_twice_is_refused_as_known() -> None:
    known = KnownTasks(world, [changed(task(), id="older")])
    assert examined(propose(), known=known) == ("new", "the same as task 'older'")
    known.remove(changed(task(), id="older"))
    accepted(propose(), known=known)
    assert examined(propose(), known=[changed(task(changed(WISH, call=call("seal", parcel_id="P2"))), id="draft")])[0] == "new"


def test_accepted_proposals_are_known_to_later_ones() -> None:
    again = changed(propose(), draft=changed(task(), id="again"))
    first, second = verify_all(world, [propose(), again])
    assert first.task is not None
    assert refusal(second) == ("new", "the same as task 'draft'")


HELD_OUT = Task(
    id="exam",
    domain="post",
    split="test",
    scenario=Scenario(goal="Seal parcel P4."),
    criteria=Criteria(actions=(call("seal", parcel_id="P4"),)),
)


def test_a_record_of_a_held_out_task_is_refused_as_leakage() -> None:
    exam = changed(HELD_OUT, criteria=Criteria(actions=(call("look", parcel_id="P3"),)))
    examining = replace(world, tasks=lambda: [exam, changed(HELD_OUT, id="more")])
    assert examined(propose(), examining) == ("leakage", "record 'ann' is one of task 'exam' of split 'test'")
    accepted(propose(), replace(world, tasks=lambda: [HELD_OUT]))  # which is bob's
    accepted(propose(changed(task(), split="test")), examining)  # nothing is held out from tasks of the same split
    explicit = KnownTasks(world, held_out=[changed(exam, split="train")])
    assert examined(propose(), known=explicit)[0] == "leakage"
    assert HeldOut(world, [exam]).leak(task(), 0.5) == "record 'ann' is one of task 'exam' of split 'test'"


def test_a_record_tells_whose_it_is_also_where_the_domain_does_not_say_who_may_see_it(retail: Domain) -> None:
    order = next(iter(retail.base.tables["orders"]))
    read = (ToolCall(name="get_order_details", arguments={"order_id": order}),)
    exam = Task(id="exam", domain="retail", scenario=Scenario(goal="Where is it?"), criteria=Criteria(actions=read))
    customer = retail.base.tables["orders"][order].user_id
    profile = (ToolCall(name="get_user_details", arguments={"user_id": customer}),)
    mine = Task(id="mine", domain="retail", scenario=Scenario(goal="Who am I?"), criteria=Criteria(actions=profile))
    for domain in (retail, replace(retail, access=None)):
        leak = HeldOut(domain, [exam]).leak(mine, 0.5)
        assert leak is not None
        assert "is one of task 'exam' of split 'train'" in leak


def test_without_people_records_are_those_that_calls_name() -> None:
    exam = changed(HELD_OUT, criteria=Criteria(actions=(call("look", parcel_id="P1"),)))
    bare = replace(world, access=None)
    assert examined(propose(), replace(bare, tasks=lambda: [exam])) == ("leakage", "record 'P1' is one of task 'exam' of split 'test'")


@pytest.mark.parametrize(
    ("goal", "leaks"),
    [
        ("please SEND parcel P1, to 9 Oak Road", True),  # the same eight words
        ("Hello there. Please send parcel P1 to 9 Oak Road today.", True),
        ("Please send the parcel of Mr Smith to 9 Oak Road.", False),
    ],
)
def test_a_near_duplicate_of_a_held_out_text_is_refused_as_leakage(goal: str, leaks: bool) -> None:
    examining = replace(world, tasks=lambda: [changed(HELD_OUT, scenario=Scenario(goal=goal))])
    if leaks:
        assert examined(propose(), examining) == ("leakage", "100 % of the goal's word sequences stand in task 'exam' of split 'test'")
        accepted(propose(), examining, examination=Examination(max_overlap=1.1))
    else:
        accepted(propose(), examining)


def test_no_draft_from_a_held_out_customer_passes(retail: Domain) -> None:
    drafts = propose_tasks(retail, general_pattern(retail), n=30, split="test", pool=lambda user: True)
    moved = [changed(each, draft=changed(each.draft, split="dev")) for each in drafts]
    people = {each.arguments["user_id"] for task in retail.split("test") for each in task.criteria.actions if "user_id" in each.arguments}
    leaked = 0
    for proposal in moved:
        own = {each.arguments["user_id"] for each in proposal.draft.criteria.actions if "user_id" in each.arguments}
        verdict = verify_proposal(retail, proposal, examination=Examination(rehearse="mistake"))
        if own & people:
            leaked += 1
            assert verdict.task is None
    assert leaked


# round trip, punished


def test_a_reference_that_the_user_does_not_want_is_refused_by_the_round_trip() -> None:
    """The user wants one parcel sent and mentions another, which the reference sends."""
    other = call("readdress", parcel_id="P2", street="9 Oak Road")
    wish = changed(WISH, text="Please send parcel P1 to 9 Oak Road. P2 stays where it is.")
    name, reason = examined(propose(task(wish, actions=(*LOOK, other))))
    assert name == "round trip"
    assert reason.startswith("the scripted agent and user do not reach reward 1: database:")


def test_a_foil_that_earns_the_reward_in_the_episode_is_refused() -> None:
    """It tells nothing, but "That is done." happens to be all that had to be told."""
    draft = task(communicate=("done",))
    silent = Foil(label="missing_communicate", silent=True)
    assert examined(propose(draft, silent)) == ("punished", "the missing_communicate foil is rewarded")
    assert examined(propose(draft, WRONG_STREET, silent)) == ("punished", "the missing_communicate foil is rewarded")
    accepted(propose(draft, WRONG_STREET, silent), examination=Examination(rehearse="mistake"))


def test_a_task_that_is_passed_by_idle_talk_is_refused() -> None:
    """In silence nothing is told; but an agent that does nothing says "Is there anything else I can help you with?"."""
    idle = task(changed(WISH, call=None, provenance={}), communicate=("help",))
    extra = Foil(label="extra_write", at=2, calls=(ASKED,))
    assert examined(propose(idle, extra)) == ("punished", "doing nothing is rewarded")


def test_a_task_that_is_passed_by_handing_over_at_once_is_refused() -> None:
    leave = (LOOK[0], call("transfer_to_human"))
    wish = Wish(text="I want to speak to a person.")
    stay = Foil(label="missing_transfer", at=1, drop=1)
    draft = task(wish, actions=leave, basis=("database", "transfer"))
    assert examined(propose(draft, stay)) == ("punished", "handing over at once is rewarded")
    both = task(WISH, wish, actions=(*LOOK, ASKED, leave[1]), basis=("database", "transfer"))
    accepted(propose(both, changed(stay, at=3)))


def test_what_a_foil_does_after_the_last_wish_is_carried_out() -> None:
    accepted(propose(None, Foil(label="extra_write", at=3, calls=(call("seal", parcel_id="P2"),))))


# whose fault it is


@tool(writes=True)
def drop(db: Any, parcel_id: str) -> str:
    """Drop a parcel."""
    raise KeyError(parcel_id)


def test_a_tool_that_crashes_is_no_property_of_a_draft() -> None:
    fragile = replace(world, tools=(*world.tools, drop))
    dropped = Foil(label="wrong_tool", at=2, drop=1, calls=(call("drop", parcel_id="P1"),))
    for proposal in (propose(None, WRONG_STREET, dropped), propose(task(actions=(*LOOK, dropped.calls[0])))):
        with pytest.raises(DomainError, match="tool drop crashed"):
            verify_proposal(fragile, proposal)


def test_but_a_database_that_its_changes_spoil_is() -> None:
    def strict(db: Any, scenario: Scenario, wish: Wish | None, fact: Fact) -> None:
        {parcel.owner: parcel.street.split()[1] for parcel in db.parcels.values()}

    spoilt = changed(task(), changes={"parcels": {"P2": {"street": "nowhere"}}})
    name, reason = examined(propose(spoilt), replace(world, meanings=strict))
    assert (name, reason) == (
        "uniqueness",
        "the domain cannot work on what its changes make of the database: IndexError: list index out of range",
    )
    fragile = replace(world, tools=(*world.tools, drop))
    dropped = Foil(label="wrong_tool", at=2, drop=1, calls=(call("drop", parcel_id="P1"),))
    assert examined(propose(spoilt, dropped), fragile)[0] == "foil"
    with pytest.raises(TypeError):
        verify_proposal(replace(world, meanings=lambda: None), propose())  # type: ignore[arg-type]


def test_neither_is_a_domain_whose_tasks_are_broken() -> None:
    with pytest.raises(DomainError, match="task id 'exam' occurs twice"):
        verify_proposal(replace(world, tasks=lambda: [HELD_OUT, HELD_OUT]), propose())


def test_held_out_tasks_may_be_broken() -> None:
    calls = (call("look", parcel_id=["P1"]), call("burn"), call("look", parcel_id="P1"))
    broken = changed(HELD_OUT, criteria=Criteria(actions=calls), changes={"parcels": {"P1": 5}})
    assert HeldOut(world, [broken]).leak(task(), 0.5) == "record 'P1' is one of task 'exam' of split 'test'"


# whatever comes


def texts(value: Any) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in texts(part)]


def mutated(value: Any, random: Random, pool: list[str]) -> Any:
    """A JSON value with one thing in it removed, doubled, or replaced: a text by another of the draft's, anything by what does not fit."""
    if isinstance(value, dict) and value and random.random() < 0.95:
        key = random.choice(sorted(value))
        rest = {name: each for name, each in value.items() if name != key}
        return rest if random.random() < 0.05 else {**value, key: mutated(value[key], random, pool)}
    if isinstance(value, list) and value and random.random() < 0.95:
        at = random.randrange(len(value))
        how = random.random()
        if how < 0.15:
            return value[:at] + value[at + 1 :]
        if how < 0.3:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], mutated(value[at], random, pool), *value[at + 1 :]]
    if isinstance(value, str) and random.random() < 0.8:
        torn = value[: random.randrange(len(value) + 1)] + random.choice(["", "#", "0", "\n", "é", "###STOP###", "{", "\x00", "\u2028"])
        return torn if random.random() < 0.4 else random.choice(pool)
    if type(value) is int and random.random() < 0.8:
        return random.choice([0, 1, 2, 3, 60, 10**30])
    kinds = [None, True, 0, -1, 7, 10**30, 1e300, "", "x", "#W0000000", "\n", [], ["x"], {}, {"key": "x", "self": 1}, {"": {}}, [[[]]]]
    return random.choice(kinds)


def mutants(drafts: list[TaskProposal], random: Random, count: int) -> Iterator[TaskProposal]:
    """What is still a proposal of so many mutated drafts."""
    for _ in range(count):
        value: Any = random.choice(drafts).model_dump(mode="json")
        pool = texts(value)
        for _ in range(random.randint(1, 3)):
            part = random.choice([None, "draft", "draft", "draft", "foils"])
            inside = isinstance(value, dict) and part in value
            value = {**value, part: mutated(value[part], random, pool)} if inside else mutated(value, random, pool)
        with suppress(ValidationError):
            yield TaskProposal.model_validate(value)


@pytest.mark.parametrize("name", ["retail", "post"])
def test_no_mutated_draft_raises(retail: Domain, name: str) -> None:
    domain = retail if name == "retail" else world
    drafts = propose_tasks(retail, general_pattern(retail), n=10) if name == "retail" else [propose(label="wrong_argument")]
    gates = set[str]()
    for proposal in mutants(drafts, Random(0), 500):
        verdict = verify_proposal(domain, proposal)
        assert verdict.task is not None or verdict.rejected_by is not None
        assert all("\n" not in gate.reason for gate in verdict.gates)
        gates.add(verdict.rejected_by.name if verdict.rejected_by else "")
    assert len(gates) > 5, gates


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    value=json_values,
    changes=st.dictionaries(st.sampled_from(["parcels", "x"]), st.dictionaries(st.sampled_from(["P1", "P9"]), json_values)),
)
def test_no_fact_or_change_of_whatever_kind_raises(value: Any, changes: Any) -> None:
    draft = task(changed(WISH, facts=(Fact(slot="parcel", text="P1", value=value), STREET)))
    verify_proposal(world, propose(changed(draft, changes=changes)))
    verify_proposal(world, propose(None, changed(WRONG_STREET, calls=(call("put_tags", parcel_id="P1", tags=value),))))
