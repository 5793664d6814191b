"""The knowledge gate: everything in a reference can be known to somebody who hears the user and reads with the tools."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any, Literal

import pytest
from parcels import LOOK, PARCEL, WISH, accepted, changed, examined, propose, task, world
from post_office import call

from sentinel_env import Criteria, Database, Domain, Record, Scenario, Table, Task, ToolCall, ToolError, load_domain, tool
from sentinel_env.certificates import Foil
from sentinel_env.failures import FailurePattern
from sentinel_env.generation import propose_tasks
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Fact, Wish
from sentinel_env.verification import verify_proposal


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail")


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
    proposal = propose_tasks(retail, FailurePattern(id="p", domain="retail", label="wrong_argument", tools=("cancel_pending_order",)), n=1)[
        0
    ]
    own = next(each for each in proposal.draft.criteria.actions if each.name == "cancel_pending_order").arguments["order_id"]
    other = next(key for key, order in retail.base.tables["orders"].items() if order.status == "pending" and key != own)
    text = proposal.model_dump_json().replace(f'"order_id":"{own}"', f'"order_id":"{other}"')
    free = replace(retail, meanings=None, access=None, forbids=None)
    assert examined(TaskProposal.model_validate_json(text), free)[0] == "knowledge"


# a domain with numbers, choices and lists


class Account(Record):
    owner: str
    balance: float
    cards: list[str]


class BankDB(Database):
    accounts: Table[Account]


class Way(StrEnum):
    WIRE = "wire"
    CHECK = "check"


@tool
def list_branches(db: BankDB) -> dict[str, Any]:
    """List the branches."""
    return {"B7": {"city": "Rome"}, "B8": {"city": "Oslo"}}


@tool
def find_account(db: BankDB, first: str, last: str) -> dict[str, Account]:
    """Find accounts by their owner's name."""
    return db.accounts.where(owner=f"{first} {last}")


@tool
def read_card(db: BankDB, number: int) -> str:
    """Read a card."""
    if number != 4711:
        raise ToolError("no such card")
    return f"card {number} of branch B9, limit 1,500.00"


@tool
def list_messages(db: BankDB, kind: Literal["open", "closed"]) -> str:
    """List the messages of a kind."""
    return "none"


@tool
def compute(db: BankDB, expression: str) -> str:
    """Work out an expression."""
    return "3"


@tool(writes=True)
def pay(db: BankDB, account: str, amount: float, way: Way = Way.WIRE, branch: str = "", urgent: bool = False) -> str:
    """Pay an amount.

    Args:
        account: From which account, such as "A0".
        amount: How much.
        way: How.
        branch: Through which branch.
        urgent: Whether at once.
    """
    held = db.accounts.get(account)
    if held is None:
        raise ToolError(f"no account {account!r}")
    db.accounts.update(account, balance=held.balance - amount)
    return "paid"


bank = Domain(
    name="bank",
    policy="Branch B5 is for emergencies.",
    tools=(list_branches, find_account, read_card, list_messages, compute, pay),
    database=lambda: BankDB(accounts={f"A{at}": Account(owner=f"Ann Lee{at}", balance=9.0, cards=["C1", "C2"]) for at in range(3)}),
)
FOUND = (call("find_account", first="Ann", last="Lee0"),)


def paying(*reads: ToolCall, text: str = "Pay $1,200.50 for me.", facts: tuple[Fact, ...] = (), **arguments: Any) -> TaskProposal:
    """Ann Lee0 wants something paid from account A0; `declared` is the provenance."""
    provenance = arguments.pop("declared", {})
    made = call("pay", **{"account": "A0", "amount": 1200.5, **arguments})
    wish = Wish(text=text, call=made, facts=facts, provenance=provenance)
    who = Fact(slot="name", text="Ann Lee0", value={"first": "Ann", "last": "Lee0"})
    draft = Task(
        id="d",
        domain="bank",
        scenario=Scenario(goal=text, facts=(who,), wishes=(wish,)),
        criteria=Criteria(actions=(*(reads or FOUND), made)),
    )
    return TaskProposal(pattern_id="p", draft=draft, foils=(Foil(label="missing_write", at=len(reads or FOUND), drop=1),))


def unknown(proposal: TaskProposal) -> str | None:
    """What the gate says of it."""
    gate = next(gate for gate in verify_proposal(bank, proposal).gates if gate.name == "knowledge")
    return gate.reason if not gate.passed else None


def test_a_number_is_known_however_it_is_written() -> None:
    assert unknown(paying()) is None
    assert unknown(paying(amount=1500.0)) == ("argument amount of action 1 (pay), 1500.0: the user cannot say it and no read shows it")
    assert unknown(paying(*FOUND, call("read_card", number=4711), text="It is card 4711. Pay all of it.", amount=1500.0)) is None
    assert unknown(paying(text="Pay all that I have.", amount=9.0)) is None  # the balance


def test_choices_are_known_where_a_fact_gives_them_and_defaults_always() -> None:
    assert unknown(paying(way="wire", urgent=False)) is None
    assert "'check'" in str(unknown(paying(way="check")))
    assert unknown(paying(way="check", text="Pay 1200.50 by check.")) is None
    assert unknown(paying(way="check", facts=(Fact(slot="way", text="on paper", value="check"),))) is None
    assert "urgent" in str(unknown(paying(urgent=True)))
    assert unknown(paying(urgent=True, facts=(Fact(slot="urgent", text="now", value=True),))) is None


def test_a_read_may_try_every_choice() -> None:
    assert unknown(paying(*FOUND, call("list_messages", kind="closed"))) is None


def test_what_is_known_by_the_name_of_an_argument_is_tried_for_it() -> None:
    """The account is found by a name in two facts, or in what the user knows, though the reference does not look it up."""
    lazy = paying(call("list_branches"))
    scenario = lazy.draft.scenario
    named = changed(scenario, facts=(Fact(slot="first", text="Ann"), Fact(slot="last", text="Lee0")))
    knowing = changed(scenario, facts=(), known={"first": "Ann", "last": "Lee0"})
    for known in (scenario, named, knowing):
        assert unknown(changed(lazy, draft=changed(lazy.draft, scenario=known))) is None
    other = changed(scenario, facts=(Fact(slot="middle", text="Ann"), Fact(slot="last", text="Lee0")))
    assert "'A0'" in str(unknown(changed(lazy, draft=changed(lazy.draft, scenario=other))))


def test_an_example_in_the_documentation_is_no_choice() -> None:
    """ "A0" stands in it, but nothing says that it is this customer's."""
    nobody = paying(call("list_branches"))
    facts = (Fact(slot="name", text="Bob"),)
    stranger = changed(nobody, draft=changed(nobody.draft, scenario=changed(nobody.draft.scenario, facts=facts)))
    assert "argument account of action 1 (pay), 'A0'" in str(unknown(stranger))


def test_reads_that_take_several_values_or_none_are_found_too() -> None:
    assert unknown(paying(call("compute", expression="1 + 1200.50"))) is not None  # nobody said 1
    assert unknown(paying(call("compute", expression="(1200.50 + 4) * 2"), text="Pay 1200.50 for 4 people, 2 each.")) is None
    for expression in ("seven", "seven + 2", "2", "1.2.3 + 2", ". + 2"):
        assert unknown(paying(call("compute", expression=expression), text="Pay 1200.50 for 20.")) is not None
    assert unknown(paying(*FOUND, call("compute", expression="9.0 - 9"))) is None  # the balance that was read
    assert unknown(paying(*FOUND, call("compute", expression="9.0 - 8"))) is not None
    assert unknown(paying(branch="B8")) is None  # list_branches
    assert unknown(paying(branch="B9", text="Pay 1200.50 by card 4711.")) is None  # read_card
    assert unknown(paying(branch="B9")) is not None


@pytest.mark.parametrize(
    ("declared", "arguments", "reads", "lie"),
    [
        ({"account": "read:find_account.key"}, {}, FOUND, None),
        ({"account": "read:find_account"}, {}, FOUND, None),
        ({"account": "read:find_account.owner"}, {}, FOUND, "did not answer 'A0' at 'owner'"),
        ({"branch": "read:list_branches.keys"}, {"branch": "B8"}, (*FOUND, call("list_branches")), None),
        ({"branch": "read:list_branches.city"}, {"branch": "B8"}, (*FOUND, call("list_branches")), "did not answer 'B8' at 'city'"),
        ({"branch": "read:list_branches.city"}, {"branch": "Oslo"}, (*FOUND, call("list_branches")), None),
        ({"branch": "read:find_account.cards"}, {"branch": "C2"}, FOUND, None),
        ({"branch": "read:find_account.cards.key"}, {"branch": "C2"}, FOUND, "did not answer 'C2' at 'cards.key'"),
        ({"branch": "read:find_account.owner"}, {"branch": "Ann Lee0"}, FOUND, None),
        ({"amount": "read:find_account.balance"}, {"amount": 9.0}, FOUND, None),
        ({"branch": "policy:Branch B5"}, {"branch": "B5"}, FOUND, "the user cannot say it and no read shows it"),
        ({"way": "policy:check"}, {"way": "check"}, FOUND, None),
        ({"branch": "read:read_card.branch"}, {"branch": "B9"}, (*FOUND, call("read_card", number=4711)), None),
        ({"way": "read:read_card.way"}, {"way": "check"}, (*FOUND, call("read_card", number=4711)), None),
        ({"branch": "read:read_card.branch"}, {"branch": "Rome"}, (*FOUND, call("read_card", number=4711)), "did not answer 'Rome'"),
    ],
)
def test_declared_paths_lead_to_the_value(declared: dict[str, str], arguments: dict[str, Any], reads: Any, lie: str | None) -> None:
    facts = (Fact(slot="way", text="on paper", value="check"),)
    found = unknown(paying(*reads, text="Pay 1200.50 by card 4711.", facts=facts, declared=declared, **arguments))
    assert found is None if lie is None else lie in str(found)
