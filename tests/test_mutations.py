"""Mutants are wrong plans of any domain, made from a reference alone."""

from __future__ import annotations

from random import Random

import pytest

from sentinel_env import Criteria, Domain, Foil, Task, ToolCall, load_domain
from sentinel_env.generation.mutations import mutants


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail")


def state(domain: Domain, task: Task, plan: tuple[ToolCall, ...]) -> object:
    db = domain.start(task)
    for call in plan:
        domain.execute(db, call)
    return db.changes()


def test_mutants_need_no_request_and_lead_elsewhere(retail: Domain) -> None:
    for task in retail.split("dev"):
        found = mutants(retail, task, Random(0), want=6)
        assert len(found) >= 4
        for foil in found:
            assert foil.mutant
            plan = foil.plan(task.criteria.actions)
            assert foil.silent or state(retail, task, plan) != state(retail, task, task.criteria.actions), foil


def test_they_drop_change_add_hand_over_and_keep_quiet(retail: Domain) -> None:
    labels = {foil.label for task in retail.split("train") for foil in mutants(retail, task, Random(0), want=30)}
    assert labels >= {
        "missing_write",
        "wrong_argument",
        "wrong_target_record",
        "extra_write",
        "unneeded_transfer",
        "missing_communicate",
    }


def test_no_mutant_repeats_a_foil_that_is_there(retail: Domain) -> None:
    task = retail.split("dev")[0]
    found = mutants(retail, task, Random(0), want=20)
    beside = found[:3]
    again = mutants(retail, task, Random(0), want=20, beside=beside)
    plans = [foil.plan(task.criteria.actions) for foil in beside if not foil.silent]
    assert again
    assert all(foil.plan(task.criteria.actions) not in plans for foil in again)


def test_the_same_generator_gives_the_same_mutants(retail: Domain) -> None:
    task = retail.split("dev")[1]
    assert mutants(retail, task, Random(3), want=20) == mutants(retail, task, Random(3), want=20)


def test_none_are_wanted_none_are_made(retail: Domain) -> None:
    assert mutants(retail, retail.split("dev")[0], Random(0), want=0) == []


def test_another_loan_is_renewed_or_none_in_a_domain_that_declares_nothing() -> None:
    library = load_domain("library")
    task = library.tasks_by_id["renew-dune"]
    other = ToolCall(name="renew_loan", arguments={"loan_id": "L2"})
    found = mutants(library, task, Random(0), want=10)
    assert Foil(label="missing_write", drop=1, mutant=True) in found
    assert Foil(label="wrong_target_record", drop=1, calls=(other,), mutant=True) in found
    assert Foil(label="extra_write", at=1, calls=(other,), mutant=True) in found
    assert Foil(label="missing_communicate", silent=True, mutant=True) in found


def test_a_hand_over_that_is_wanted_is_left_out(retail: Domain) -> None:
    (user,) = [call for call in retail.split("dev")[0].criteria.actions if call.name == "get_user_details"]
    transfer = retail.handover
    assert transfer is not None
    task = Task(
        id="handover",
        domain="retail",
        scenario=retail.split("dev")[0].scenario,
        criteria=Criteria(actions=(user, transfer), basis=("database", "communicate", "transfer")),
    )
    first, *others = mutants(retail, task, Random(0), want=5)
    assert first == Foil(label="missing_transfer", at=1, drop=1, mutant=True)
    assert {foil.label for foil in others} <= {"extra_write"}
