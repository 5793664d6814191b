"""Drafts for the post office, in which the gates are tested: one that passes them all, and what makes others of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from post_office import call
from post_office import domain as post

from sentinel_env import Criteria, Domain, Scenario, Task, ToolCall
from sentinel_env.certificates import Foil
from sentinel_env.proposals import TaskProposal, Verdict
from sentinel_env.tasks import Fact, Wish
from sentinel_env.verification import verify_proposal


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
