"""Proposals stress what they say, and only those that work get through the gates."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel_env import ConfigError, Domain, Task, ToolCall, load_domain
from sentinel_env.certificates import Foil
from sentinel_env.failures import FailurePattern, general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.proposals import TaskProposal, Verdict, load_proposals, save_proposals
from sentinel_env.verification import GATES, KnownTasks, verify_all, verify_proposal

LABELS = ("wrong_argument", "wrong_target_record", "wrong_tool", "missing_write", "extra_write", "missing_communicate", "unfinished")


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail")


def pattern(label: str, tool: str | None = None, *arguments: str, domain: str = "retail") -> FailurePattern:
    return FailurePattern(id=label, domain=domain, label=label, tools=(tool,) if tool else (), arguments=arguments)  # type: ignore[arg-type]


def one(retail: Domain, label: str = "wrong_argument") -> TaskProposal:
    return propose_tasks(retail, pattern(label), n=1)[0]


def changed(proposal: TaskProposal, **criteria: object) -> TaskProposal:
    draft = proposal.draft
    return proposal.model_copy(update={"draft": draft.model_copy(update={"criteria": draft.criteria.model_copy(update=criteria)})})


def refusal(verdict: Verdict) -> tuple[str, str]:
    gate = verdict.rejected_by
    assert gate is not None
    assert verdict.task is None
    return gate.name, gate.reason


@pytest.mark.parametrize("label", LABELS)
def test_most_proposals_of_each_pattern_pass_all_gates(retail: Domain, label: str) -> None:
    verdicts = list(verify_all(retail, propose_tasks(retail, pattern(label), n=20)))
    assert len(verdicts) == 20
    accepted = [verdict for verdict in verdicts if verdict.task is not None]
    assert len(accepted) >= 15, Counter(str(verdict.rejected_by) for verdict in verdicts)
    assert all(tuple(gate.name for gate in verdict.gates) == GATES for verdict in accepted)
    if label != "unfinished":
        assert all(verdict.proposal.foils[0].label == label for verdict in accepted)


def test_a_pattern_about_one_tool_gives_tasks_about_it(retail: Domain) -> None:
    for proposal in propose_tasks(retail, pattern("wrong_argument", "cancel_pending_order", "reason"), n=10):
        ((right, wrong),) = [
            pair
            for pair in zip(proposal.draft.criteria.actions, proposal.foils[0].plan(proposal.draft.criteria.actions), strict=True)
            if pair[0] != pair[1]
        ]
        assert right.name == wrong.name == "cancel_pending_order"
        assert right.arguments["order_id"] == wrong.arguments["order_id"]
        assert right.arguments["reason"] != wrong.arguments["reason"]


def test_same_seed_same_drafts_and_another_seed_others(retail: Domain) -> None:
    first, again, other = (propose_tasks(retail, general_pattern(retail), n=5, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_no_draft_shares_a_record_with_a_task_of_another_split(retail: Domain) -> None:
    assert retail.operations is not None
    held_out = {
        value
        for task in retail.tasks_by_id.values()
        if task.split != "train"
        for call in task.criteria.actions
        for value in call.arguments.values()
        if isinstance(value, str) and (value in retail.base.tables["users"] or value in retail.base.tables["orders"])
    }
    for proposal in propose_tasks(retail, general_pattern(retail), n=50):
        user = next(call.arguments["user_id"] for call in proposal.draft.criteria.actions if call.name == "get_user_details")
        assert held_out.isdisjoint(retail.operations.entities(retail.base, user))


def test_the_splits_of_the_shipped_tasks_share_no_user_or_order(retail: Domain) -> None:
    assert retail.operations is not None
    seen: dict[str, str] = {}
    for task in retail.tasks_by_id.values():
        user = next(call.arguments["user_id"] for call in task.criteria.actions if call.name == "get_user_details")
        for entity in retail.operations.entities(retail.base, user):
            assert seen.setdefault(entity, task.split) == task.split
    assert set(seen.values()) == {"train", "dev", "test"}
    assert len(retail.tasks_by_id) >= 120


def test_a_domain_without_operations_gets_tasks_by_rebinding() -> None:
    library = load_domain("library")
    (proposal,) = propose_tasks(library, general_pattern(library), n=10)
    verdict = verify_proposal(library, proposal, known=library.split("train"))
    assert verdict.task is not None
    assert verdict.task.scenario.goal == "Renew Emma for me."
    assert verdict.task.scenario.known == {"card number": "M8"}
    assert verdict.task.criteria.actions == (ToolCall(name="renew_loan", arguments={"loan_id": "L2"}),)


# what each gate refuses


def test_an_unknown_tool_is_refused_by_the_schema_gate(retail: Domain) -> None:
    draft = changed(one(retail), actions=(ToolCall(name="destroy_order", arguments={}),))
    assert refusal(verify_proposal(retail, draft)) == ("schema", "reference action 0: there is no tool 'destroy_order'")


def test_a_mistyped_argument_is_refused_by_the_schema_gate(retail: Domain) -> None:
    draft = changed(one(retail), actions=(ToolCall(name="get_order_details", arguments={"order_id": 7}),))
    name, reason = refusal(verify_proposal(retail, draft))
    assert name == "schema"
    assert "argument 'order_id' must be a valid string" in reason


def test_a_reference_that_a_tool_refuses_is_refused_by_the_execution_gate(retail: Domain) -> None:
    cancel = ToolCall(name="cancel_pending_order", arguments={"order_id": "#W0", "reason": "no longer needed"})
    draft = changed(one(retail), actions=(cancel,))
    assert refusal(verify_proposal(retail, draft)) == ("execution", "action 0 (cancel_pending_order): Order not found")


def test_a_task_that_pays_for_doing_nothing_is_refused(retail: Domain) -> None:
    proposal = one(retail)
    reads = tuple(call for call in proposal.draft.criteria.actions if not retail.tools_by_name[call.name].writes)
    assert refusal(verify_proposal(retail, changed(proposal, actions=reads, communicate=()))) == (
        "nothing fails",
        "doing nothing is rewarded",
    )


def test_a_write_that_changes_nothing_is_refused_by_the_necessity_gate(retail: Domain) -> None:
    proposal = one(retail)
    user = next(call.arguments["user_id"] for call in proposal.draft.criteria.actions if call.name == "get_user_details")
    idle = ToolCall(name="modify_user_address", arguments={"user_id": user, **retail.base.tables["users"][user].address.model_dump()})
    draft = changed(proposal, actions=(*proposal.draft.criteria.actions, idle))
    name, reason = refusal(verify_proposal(retail, draft))
    assert name == "necessity"
    assert "modify_user_address" in reason


def test_a_foil_that_is_no_mistake_is_refused(retail: Domain) -> None:
    proposal = one(retail)
    same = proposal.model_copy(update={"foils": (Foil(label="wrong_argument"),)})
    assert refusal(verify_proposal(retail, same)) == ("foil", "the wrong_argument foil leads to the state of the reference")


def test_a_proposal_without_a_foil_is_refused(retail: Domain) -> None:
    assert refusal(verify_proposal(retail, one(retail).model_copy(update={"foils": ()})))[0] == "foil"


def test_the_same_task_twice_is_refused_as_known(retail: Domain) -> None:
    proposal = one(retail)
    known = KnownTasks(retail, [proposal.draft.model_copy(update={"id": "older"})])
    assert refusal(verify_proposal(retail, proposal, known=known)) == ("new", "the same as task 'older'")


def test_a_reference_that_the_user_does_not_want_is_refused_by_the_round_trip(retail: Domain) -> None:
    """The scenario speaks of another wish than the reference fulfils, so user and reference never come together."""
    proposal, other = propose_tasks(retail, pattern("wrong_argument", "cancel_pending_order", "reason"), n=2)
    scenario = proposal.draft.scenario.model_copy(update={"wishes": other.draft.scenario.wishes, "goal": other.draft.scenario.goal})
    astray = proposal.model_copy(update={"draft": proposal.draft.model_copy(update={"scenario": scenario})})
    assert refusal(verify_proposal(retail, astray))[0] == "round trip"


def test_a_task_of_another_domain_is_refused(retail: Domain) -> None:
    assert refusal(verify_proposal(load_domain("library"), one(retail)))[0] == "schema"


# asking wrongly


def test_a_pattern_of_another_domain_is_an_error(retail: Domain) -> None:
    with pytest.raises(ConfigError, match="is about domain 'airline', not 'retail'"):
        propose_tasks(retail, pattern("missing_write", domain="airline"), n=1)


def test_zero_tasks_are_an_error(retail: Domain) -> None:
    with pytest.raises(ConfigError, match="at least one task"):
        propose_tasks(retail, general_pattern(retail), n=0)


def test_a_domain_with_neither_operations_nor_tasks_gives_no_drafts(retail: Domain) -> None:
    bare = replace(retail, operations=None, tasks=tuple)
    assert propose_tasks(bare, general_pattern(bare), n=3) == []


def test_proposals_survive_their_file(tmp_path: Path, retail: Domain) -> None:
    proposals = propose_tasks(retail, general_pattern(retail), n=3)
    save_proposals(tmp_path / "proposals.jsonl", proposals)
    assert load_proposals(tmp_path / "proposals.jsonl") == tuple(proposals)


def test_a_task_in_its_file_is_the_same_task(retail: Domain) -> None:
    task = retail.split("test")[0]
    assert Task.model_validate_json(task.model_dump_json(exclude_defaults=True)) == task
