"""The gates: a draft that works passes all of them, and each of them alone refuses what it is there for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from post_office import call
from post_office import domain as post
from pydantic import ValidationError

from sentinel_env import Criteria, Domain, Message, ModelError, Scenario, ScriptedAgent, Task, ToolCall, load_domain, tool
from sentinel_env.certificates import Foil
from sentinel_env.failures import FailurePattern, general_pattern
from sentinel_env.failures.opportunities import Exposure
from sentinel_env.generation import propose_tasks
from sentinel_env.proposals import TaskProposal, Verdict
from sentinel_env.tasks import Fact, Wish
from sentinel_env.verification import (
    GATES,
    MIN_FOILS,
    Examination,
    HeldOut,
    KnownTasks,
    task_digest,
    verify_all,
    verify_certificates,
    verify_proposal,
)


def forbids(db: Any, made: ToolCall) -> str | None:
    return "nothing goes to a prison" if "Prison" in str(made.arguments.get("street")) else None


def meanings(db: Any, scenario: Scenario, wish: Wish | None, fact: Fact) -> list[str] | None:
    """A parcel is named by its number or by where it goes; of nothing else the words are read."""
    if fact.slot != "parcel":
        return None
    return [key for key, parcel in db.parcels.items() if key in fact.text or parcel.street in fact.text]


world = replace(post, forbids=forbids, meanings=meanings)
"""The post office of the tests, with a rule and an ear for words."""

ASKED = call("readdress", parcel_id="P1", street="9 Oak Road")
PARCEL, STREET = Fact(slot="parcel", text="P1", value="P1"), Fact(slot="street", text="9 Oak Road", value="9 Oak Road")
WISH = Wish(
    text="Please send parcel P1 to 9 Oak Road.",
    call=ASKED,
    facts=(PARCEL, STREET),
    provenance={"parcel_id": "fact:parcel", "street": "fact:street"},
)
LOOK = (call("identify", name="ann"), call("look", parcel_id="P1"))
WRONG_STREET = Foil(label="wrong_argument", at=2, drop=1, calls=(call("readdress", parcel_id="P1", street="8 Oak Road"),))


def task(*wishes: Wish, actions: tuple[ToolCall, ...] | None = None, **criteria: Any) -> Task:
    wishes = wishes or (WISH,)
    wanted = actions if actions is not None else (*LOOK, *(wish.call for wish in wishes if wish.call is not None))
    return Task(
        id="draft",
        domain="post",
        scenario=Scenario(
            goal=" ".join(wish.text for wish in wishes), facts=(Fact(slot="name", text="ann", value="ann"),), wishes=tuple(wishes)
        ),
        criteria=Criteria(actions=wanted, **criteria),
    )


def propose(draft: Task | None = None, *foils: Foil, **more: Any) -> TaskProposal:
    return TaskProposal(pattern_id="p", draft=draft or task(), foils=foils or (WRONG_STREET,), **more)


def changed(model: Any, **fields: Any) -> Any:
    return model.model_copy(update=fields)


def refusal(verdict: Verdict) -> tuple[str, str]:
    gate = verdict.rejected_by
    assert gate is not None
    assert verdict.task is None
    return gate.name, gate.reason


def examined(proposal: TaskProposal, domain: Domain = world, **more: Any) -> tuple[str, str]:
    return refusal(verify_proposal(domain, proposal, **more))


def accepted(proposal: TaskProposal, domain: Domain = world, **more: Any) -> Task:
    verdict = verify_proposal(domain, proposal, **more)
    assert verdict.task is not None, verdict.rejected_by
    return verdict.task


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail")


def pattern(label: str, *tools: str) -> FailurePattern:
    return FailurePattern(id=label, domain="retail", label=label, tools=tools)  # type: ignore[arg-type]


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


def test_words_that_cannot_be_read_are_left_unchecked() -> None:
    draft = task(changed(WISH, facts=(STREET,), provenance={}))
    gate = next(gate for gate in verify_proposal(world, propose(draft)).gates if gate.name == "uniqueness")
    assert (gate.passed, gate.checked, gate.reason) == (True, False, "the domain cannot read the words of any fact")


# knowledge


def test_a_value_that_nobody_says_or_shows_is_refused_by_knowledge() -> None:
    draft = task(changed(WISH, text="Please send parcel P1 elsewhere.", facts=(PARCEL,), provenance={}))
    name, reason = examined(propose(draft))
    assert name == "knowledge"
    assert reason == "argument street of action 2 (readdress), '9 Oak Road': the user cannot say it and no read shows it"


def test_a_value_is_known_from_a_read_but_only_after_it() -> None:
    """The street of P2 is in no words of the user's; `look` shows it."""
    to_the_other = Wish(text="Send P1 to where P2 goes.", call=call("readdress", parcel_id="P1", street="2 Elm Street"))
    wrong = Foil(label="missing_write", at=3, drop=1)
    accepted(propose(task(to_the_other, actions=(*LOOK, call("look", parcel_id="P2"), to_the_other.call)), wrong))  # type: ignore[arg-type]
    declared = changed(to_the_other, provenance={"street": "read:look.street"})
    late = task(declared, actions=(*LOOK, declared.call, call("look", parcel_id="P2")))
    name, reason = examined(propose(late, changed(wrong, at=2)))
    assert (name, reason) == (
        "knowledge",
        "argument street of action 2 (readdress) is declared as 'read:look.street', but look did not answer '2 Elm Street' at 'street'",
    )


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("fact:city", "the wish has no fact 'city'"),
        ("fact:parcel", "no fact 'parcel' of the wish gives it"),
        ("read:look.street", "look did not answer '9 Oak Road' at 'street'"),
        ("read:put_tags.street", "no earlier action calls 'put_tags'"),
        ("policy:9 Oak Road", "neither the policy nor the tool has it"),
        ("policy:Ask who the caller is", "that is another value"),
        ("derived:rhyme", "no function of that name derives it"),
        ("a dream", "a provenance is fact:SLOT, read:TOOL.PATH, policy:TEXT or derived:NAME"),
    ],
)
def test_a_declared_provenance_that_is_not_true_is_refused_by_knowledge(declared: str, reason: str) -> None:
    draft = task(changed(WISH, provenance={"street": declared}))
    assert examined(propose(draft)) == (
        "knowledge",
        f"argument street of action 2 (readdress) is declared as {declared!r}, but {reason}",
    )


def test_a_provenance_of_an_argument_that_there_is_not_is_refused_by_knowledge() -> None:
    draft = task(changed(WISH, provenance={"color": "fact:street"}))
    assert examined(propose(draft)) == ("knowledge", "the provenance of 'color' is declared, which action 2 (readdress) does not have")


def test_the_parts_of_a_value_count_where_they_are_spoken() -> None:
    labels = Wish(
        text="Label P1 red and fragile.",
        call=call("put_tags", parcel_id="P1", tags=["red", "fragile"]),
        facts=(Fact(slot="tags", text="red and fragile", value={"first": "red", "second": "fragile"}),),
        provenance={"tags": "fact:tags"},
    )
    wrong = Foil(label="missing_write", at=2, drop=1)
    accepted(propose(task(labels), wrong))
    hidden = changed(labels, text="Label P1.", facts=(Fact(slot="tags", text="as always", value=["red", "fragile"]),))
    assert examined(propose(task(hidden), wrong))[0] == "knowledge"


@tool(writes=True)
def close(db: Any, parcel_id: str, reason: str) -> str:
    """Close a parcel.

    Args:
        parcel_id: Which.
        reason: Either "lost" or "late".
    """
    db.parcels.update(parcel_id, sealed=True, street=reason)
    return "closed"


def test_a_constant_of_the_tool_is_known_where_a_fact_of_the_wish_gives_it() -> None:
    closing = replace(world, tools=(*world.tools, close))
    wish = Wish(text="Close P1, it never came.", call=call("close", parcel_id="P1", reason="lost"))
    given = changed(wish, facts=(Fact(slot="reason", text="it never came", value="lost"),))
    wrong = Foil(label="missing_write", at=2, drop=1)
    accepted(propose(task(given), wrong), closing)
    name, reason = examined(propose(task(wish), wrong), closing)
    assert name == "knowledge"
    assert "argument reason of action 2 (close), 'lost'" in reason


def test_a_read_that_the_reference_leaves_out_is_searched_for() -> None:
    """Nobody says "L1", and the reference does not look it up; but the card number is known, and `find_loans` takes it."""
    library = load_domain("library")
    known = library.tasks_by_id["renew-dune"]
    wrong = Foil(label="wrong_target_record", drop=1, calls=(call("renew_loan", loan_id="L2"),))
    accepted(propose(known, wrong), library)
    unknown = changed(known, scenario=changed(known.scenario, known={"card number": "M1"}))
    name, reason = examined(propose(unknown, wrong), library)
    assert (name, reason) == ("knowledge", "argument loan_id of action 0 (renew_loan), 'L1': the user cannot say it and no read shows it")


def test_somebody_elses_order_is_not_known(retail: Domain) -> None:
    """The orders of other customers cannot be found from what this one says."""
    proposal = propose_tasks(retail, pattern("wrong_argument", "cancel_pending_order"), n=1)[0]
    own = next(each for each in proposal.draft.criteria.actions if each.name == "cancel_pending_order").arguments["order_id"]
    other = next(key for key, order in retail.base.tables["orders"].items() if order.status == "pending" and key != own)
    text = proposal.model_dump_json().replace(f'"order_id":"{own}"', f'"order_id":"{other}"')
    free = replace(retail, meanings=None, access=None, forbids=None)
    assert examined(TaskProposal.model_validate_json(text), free)[0] == "knowledge"


# foils


def test_a_proposal_without_a_foil_is_refused_unless_it_says_why() -> None:
    bare = changed(propose(), foils=())
    assert examined(bare) == ("foil", "no foil: nothing shows that the mistake is possible and costs reward")
    accepted(changed(bare, unpunished="no state shows it"), examination=Examination(min_foils=0))


def test_a_mistake_that_cannot_be_made_is_refused() -> None:
    lost = changed(WRONG_STREET, calls=(call("readdress", parcel_id="P9", street="9 Oak Road"),))
    assert examined(propose(None, lost)) == ("foil", "the mistake cannot be made: readdress: no parcel 'P9'")
    accepted(propose(None, changed(lost, label="hallucinated_id")))
    accepted(propose(None, WRONG_STREET, lost))


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


def test_what_a_foil_does_after_the_last_wish_is_carried_out() -> None:
    accepted(propose(None, Foil(label="extra_write", at=3, calls=(call("seal", parcel_id="P2"),))))


# oracle, pilot


@dataclass(frozen=True)
class Sometimes:
    """Carries out the reference in some attempts, and does nothing in others."""

    task: Task
    name: str = "sometimes"
    passes: Callable[[int], bool] = lambda seed: seed % 2 == 0

    def act(self, view: Any) -> Message:
        good = self.passes(view.seed)
        return ScriptedAgent(tasks=(self.task,), **({} if good else {"plan": lambda *_: (), "reports": False})).act(view)


@dataclass(frozen=True)
class Out:
    """Cannot be reached."""

    name: str = "out"

    def act(self, view: Any) -> Message:
        raise ModelError("no connection")


def never(seed: int) -> bool:
    return False


def test_a_task_that_the_oracle_never_passes_is_refused() -> None:
    hopeless = Sometimes(task(), passes=never)
    assert examined(propose(), examination=Examination(oracle=hopeless)) == ("oracle", "sometimes passes none of 4 attempts")
    accepted(propose(), examination=Examination(oracle=Sometimes(task()), oracle_trials=8))


def test_a_pilot_measures_the_pass_rate() -> None:
    certificate = accepted(propose(), examination=Examination(pilot=Sometimes(task()))).certificate
    assert certificate is not None
    assert certificate.trials == 16
    assert certificate.pass_rate is not None
    assert 0 < certificate.pass_rate < 1


def test_a_task_that_the_pilot_never_passes_is_deferred_and_not_refused() -> None:
    verdict = verify_proposal(world, propose(), examination=Examination(pilot=Sometimes(task(), passes=never)))
    assert (verdict.task, verdict.deferred, verdict.rejected_by) == (None, True, None)
    assert verdict.gates[-1].reason == "sometimes passes none of 16 attempts: deferred"


def test_an_outage_says_nothing_about_a_task() -> None:
    verdict = verify_proposal(world, propose(), examination=Examination(oracle=Out(), pilot=Out()))
    assert verdict.task is not None
    reason = "no attempt of out could be finished: ModelError: no connection"
    assert [(gate.checked, gate.reason) for gate in verdict.gates[-2:]] == [(False, reason)] * 2


# certificates


def test_an_accepted_task_carries_what_was_checked() -> None:
    proposal = propose(label="wrong_argument", tools=("readdress",), arguments=("street",), features={"n": 1}, model="someone")
    made = accepted(changed(proposal, pattern_id="wrong-street"))
    certificate = made.certificate
    assert certificate is not None
    assert (certificate.pattern, certificate.label, certificate.tools, certificate.arguments) == (
        "wrong-street",
        "wrong_argument",
        ("readdress",),
        ("street",),
    )
    assert (certificate.foils, certificate.features, certificate.model) == (proposal.foils, {"n": 1}, "someone")
    assert tuple(gate.name for gate in certificate.gates) == GATES
    assert certificate.digest == task_digest(world, made) == task_digest(world, task())
    assert Task.model_validate_json(made.model_dump_json(exclude_defaults=True)) == made


def test_the_digest_tells_tasks_and_databases_apart() -> None:
    other = replace(world, database=lambda: type(world.base)(parcels={"P1": world.base.tables["parcels"]["P1"]}))
    digests = [task_digest(world, task()), task_digest(world, changed(task(), id="x")), task_digest(other, task())]
    assert len(set(digests)) == 3
    swapped = Task.model_validate(json.loads(json.dumps(task().model_dump(mode="json"), sort_keys=True)))
    assert task_digest(world, swapped) == digests[0]


def test_certified_tasks_are_examined_again() -> None:
    made = accepted(propose())
    seal = Wish(text="Please seal parcel P2.", call=call("seal", parcel_id="P2"))
    other = accepted(
        propose(
            changed(task(seal, actions=(LOOK[0], call("look", parcel_id="P2"), seal.call)), id="other"),  # type: ignore[arg-type]
            Foil(label="missing_write", at=2, drop=1),
        )
    )
    renamed = changed(other, id="renamed")
    spoilt = changed(made, id="spoilt", criteria=changed(made.criteria, actions=(*LOOK, call("seal", parcel_id="P1"), ASKED)))
    states = {
        each.task.id: (each.state, each.reason) for each in verify_certificates(world, [made, renamed, spoilt, changed(task(), id="bare")])
    }
    was_changed = "the task or the database was changed since"
    assert states == {
        "draft": ("fails", "no longer passes new: the same as task 'bare'"),
        "renamed": ("changed", was_changed),
        "spoilt": ("fails", f"{was_changed}; no longer passes execution: action 3 (readdress): parcel P1 is sealed"),
        "bare": ("uncertified", "it carries no certificate"),
    }
    (again,) = verify_certificates(world, [made])
    assert (again.state, again.reason, again.task) == ("holds", "", made)
    (renewed,) = verify_certificates(world, [renamed])
    assert [each.state for each in verify_certificates(world, [renewed.task])] == ["holds"]


def test_what_a_pilot_found_is_kept_when_a_task_is_examined_again() -> None:
    made = accepted(propose(), examination=Examination(pilot=Sometimes(task())))
    (again,) = verify_certificates(world, [made])
    assert again.task.certificate is not None
    assert made.certificate is not None
    assert again.task.certificate.pass_rate == made.certificate.pass_rate


def test_a_certificate_in_a_draft_is_not_believed() -> None:
    made = accepted(propose())
    assert made.certificate is not None
    forged = changed(made, certificate=changed(made.certificate, digest="forged", pass_rate=1.0))
    assert accepted(propose(forged)) == made


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
