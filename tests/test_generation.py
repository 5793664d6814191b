"""Proposals stress what they say; whether they work is for the gates to find out (see test_verification)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sentinel_env import ConfigError, Domain, Foil, Task, ToolCall, load_domain, load_tasks, save_tasks
from sentinel_env.failures import FailurePattern, general_pattern
from sentinel_env.failures.opportunities import Exposure
from sentinel_env.generation import propose_tasks
from sentinel_env.knobs import VOICES, Knobs
from sentinel_env.proposals import TaskProposal, load_proposals, save_proposals
from sentinel_env.verification import GATES, verify_all

LABELS = ("wrong_argument", "wrong_target_record", "wrong_tool", "missing_write", "extra_write", "missing_communicate", "unfinished")


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail")


def pattern(label: str, tool: str | None = None, *arguments: str, domain: str = "retail") -> FailurePattern:
    return FailurePattern(id=label, domain=domain, label=label, tools=(tool,) if tool else (), arguments=arguments)  # type: ignore[arg-type]


def one(retail: Domain, label: str = "wrong_argument") -> TaskProposal:
    return propose_tasks(retail, pattern(label), n=1)[0]


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


# what a pattern asks of its tasks

OWN = (
    "wrong_argument",
    "wrong_target_record",
    "wrong_tool",
    "order_dependency",
    "missing_write",
    "extra_write",
    "missing_communicate",
    "unneeded_transfer",
    "unfinished",
    "tool_error",
    "schema_error",
    "unknown_tool",
    "hallucinated_id",
    "write_without_confirmation",
    "blind_write",
    "ungrounded_selection",
)


@pytest.mark.parametrize("label", OWN)
def test_the_first_foil_is_the_patterns_own_mistake_and_leads_elsewhere(retail: Domain, label: str) -> None:
    proposals = propose_tasks(retail, pattern(label), n=10)
    assert len(proposals) == 10
    for proposal in proposals:
        mistake = proposal.foils[0]
        assert (mistake.label, mistake.mutant, proposal.unpunished) == (label, False, "")
        assert mistake.silent or outcome(retail, proposal.draft, mistake) != outcome(retail, proposal.draft, None)


@pytest.mark.parametrize("label", ["unauthenticated_read", "unauthenticated_write", "repeated_call", "repeated_error", "text_and_call"])
def test_conduct_that_no_state_shows_says_so_instead_of_a_foil(retail: Domain, label: str) -> None:
    for proposal in propose_tasks(retail, pattern(label), n=5):
        assert "the reward cannot punish it" in proposal.unpunished
        assert all(foil.label != label for foil in proposal.foils)


def outcome(domain: Domain, task: Task, foil: Foil | None) -> object:
    db = domain.start(task)
    plan = foil.plan(task.criteria.actions) if foil else task.criteria.actions
    for call in plan:
        domain.execute(db, call)
    return db.changes(), any(domain.is_transfer(call.name) for call in plan)


def writes(retail: Domain, proposal: TaskProposal) -> list[ToolCall]:
    return [call for call in proposal.draft.criteria.actions if retail.tools_by_name[call.name].writes]


def test_drafts_have_five_foils_that_write_different_things(retail: Domain) -> None:
    for proposal in propose_tasks(retail, general_pattern(retail), n=60):
        assert len(proposal.foils) >= 5
        actions = proposal.draft.criteria.actions
        for foil in proposal.foils:
            assert foil.silent or outcome(retail, proposal.draft, foil) != outcome(retail, proposal.draft, None), foil
        assert len({str(foil.plan(actions)) for foil in proposal.foils if not foil.silent}) >= len(proposal.foils) - 1


def test_the_order_of_two_writes_matters_where_that_is_the_pattern(retail: Domain) -> None:
    for proposal in propose_tasks(retail, pattern("order_dependency"), n=10):
        first, then = writes(retail, proposal)
        raised = [wish.call for wish in proposal.draft.scenario.wishes]
        assert (raised, proposal.draft.scenario.reveal) == ([then, first], "together")
        db = retail.start(proposal.draft)
        assert not retail.execute(db, then).is_error
        assert retail.execute(db, first).is_error


def test_several_arguments_are_mistaken_together(retail: Domain) -> None:
    joint = pattern("wrong_argument", "exchange_delivered_order_items", "item_ids", "new_item_ids")
    for proposal in propose_tasks(retail, joint, n=5):
        (wrong,) = proposal.foils[0].calls
        right = proposal.draft.criteria.actions[proposal.foils[0].at]
        assert all(wrong.arguments[name] != right.arguments[name] for name in ("item_ids", "new_item_ids"))


def test_a_slip_names_another_record_which_the_foil_then_writes(retail: Domain) -> None:
    for proposal in propose_tasks(retail, pattern("write_without_confirmation"), n=10):
        (wish,) = [wish for wish in proposal.draft.scenario.wishes if wish.slip]
        assert wish.call is not None
        (wrong,) = proposal.foils[0].calls
        assert wrong.arguments["order_id"] in (wish.slip or "")
        assert wish.call.arguments["order_id"] not in (wish.slip or "")
        assert wish.slip in (proposal.draft.scenario.instructions or "")


def tuned(**knobs: object) -> FailurePattern:
    return FailurePattern(id="tuned", domain="retail", label="wrong_argument", knobs=Knobs(**knobs))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_as_many_writes_as_the_knob_says(retail: Domain, count: int) -> None:
    proposals = propose_tasks(retail, tuned(writes=count), n=5)
    assert [len(writes(retail, proposal)) for proposal in proposals] == [count] * 5


def test_without_a_knob_most_tasks_have_one_write_and_some_more(retail: Domain) -> None:
    counts = Counter(len(writes(retail, proposal)) for proposal in propose_tasks(retail, general_pattern(retail), n=300))
    assert counts[1] > counts[2] > counts[3] + counts[4] > 0


def test_knobs_choose_operation_voice_and_how_wishes_come(retail: Domain) -> None:
    knobs = {"operation": "cancel_order", "writes": 2, "reveal": "together", "voices": ("polite",)}
    for proposal in propose_tasks(retail, tuned(**knobs), n=5):
        scenario = proposal.draft.scenario
        assert (scenario.reveal, scenario.persona) == ("together", "You are very polite.")
        assert "cancel_pending_order" in [call.name for call in writes(retail, proposal)]
        assert scenario.opening


def test_a_wish_to_refuse_stands_beside_the_one_with_the_opportunity(retail: Domain) -> None:
    for proposal in propose_tasks(retail, tuned(refusal=True), n=5):
        assert any(wish.call is None for wish in proposal.draft.scenario.wishes)


def test_other_records_are_as_many_as_asked_for(retail: Domain) -> None:
    target = pattern("wrong_target_record").model_copy(update={"knobs": Knobs(other_records=2)})
    assert len(propose_tasks(retail, target, n=10)) == 10


def test_a_knob_that_cannot_be_satisfied_gives_nothing_and_says_why(retail: Domain) -> None:
    misses: Counter[str] = Counter()
    assert propose_tasks(retail, tuned(siblings=10), n=2, misses=misses) == []
    assert any("lacks 10 neighbouring values (it has" in reason for reason in misses)


def test_knobs_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ValueError, match="asks for 3 writes and for at most 2"):
        Knobs(writes=3, most_writes=2)


@pytest.mark.parametrize("feature", ["last_write", "shared_record", "several_entries", "something_to_tell", "several_payment_methods"])
def test_drafts_have_the_context_that_the_pattern_goes_with(retail: Domain, feature: str) -> None:
    target = pattern("wrong_argument").model_copy(update={"feature": feature})
    proposals = propose_tasks(retail, target, n=5)
    assert len(proposals) == 5
    for proposal in proposals:
        chances = Exposure(retail, proposal.draft).chances
        assert any(chance.label == "wrong_argument" and feature in chance.features for chance in chances)


def test_a_context_that_never_occurs_gives_nothing_and_says_why(retail: Domain) -> None:
    misses: Counter[str] = Counter()
    target = pattern("wrong_argument").model_copy(update={"feature": "full_moon"})
    assert propose_tasks(retail, target, n=1, misses=misses) == []
    assert any("full_moon" in reason for reason in misses)


def test_every_voice_is_heard_and_the_facts_stay(retail: Domain) -> None:
    proposals = propose_tasks(retail, general_pattern(retail), n=60)
    assert len({proposal.draft.scenario.persona for proposal in proposals}) == len(VOICES)
    plain = propose_tasks(retail, general_pattern(retail, Knobs(voices=("plain",))), n=60)
    assert {proposal.draft.scenario.persona for proposal in plain} == {None}


SAME = """
import hashlib, sentinel_env as s
domain = s.load_domain("retail", users=60, orders=120)
found = s.propose_tasks(domain, s.general_pattern(domain), n=15)
for label in ("wrong_argument", "wrong_target_record", "order_dependency", "blind_write"):
    found += s.propose_tasks(domain, s.FailurePattern(id=label, domain="retail", label=label), n=5)
print(hashlib.sha256("".join(each.model_dump_json() for each in found).encode()).hexdigest())
"""


def test_the_same_drafts_come_out_in_every_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SAME], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


# asking wrongly


def test_a_pattern_of_another_domain_is_an_error(retail: Domain) -> None:
    with pytest.raises(ConfigError, match="is about domain 'airline', not 'retail'"):
        propose_tasks(retail, pattern("missing_write", domain="airline"), n=1)


def test_an_unknown_operation_is_an_error(retail: Domain) -> None:
    with pytest.raises(ConfigError, match="retail has no operation 'cancel'; its operations: cancel_order"):
        propose_tasks(retail, tuned(operation="cancel"), n=1)


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


def test_a_line_separator_in_a_text_is_no_end_of_a_line(tmp_path: Path, retail: Domain) -> None:
    proposal = one(retail)
    scenario = proposal.draft.scenario.model_copy(update={"goal": "one\u2028two\x85three"})
    odd = proposal.model_copy(update={"draft": proposal.draft.model_copy(update={"scenario": scenario})})
    save_proposals(tmp_path / "proposals.jsonl", [odd])
    save_tasks(tmp_path / "tasks.jsonl", [odd.draft])
    assert load_proposals(tmp_path / "proposals.jsonl") == (odd,)
    assert load_tasks(tmp_path / "tasks.jsonl") == (odd.draft,)
