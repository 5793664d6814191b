"""Agents that try a task before it is accepted, and what an accepted task carries."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from parcels import ASKED, LOOK, accepted, changed, examined, propose, task, world
from post_office import call

from sentinel_env import Message, ModelError, ScriptedAgent, Task
from sentinel_env.certificates import Foil
from sentinel_env.tasks import Wish
from sentinel_env.verification import GATES, Examination, task_digest, verify_certificates, verify_proposal

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
