"""Tasks are carried over to other records, and only where everything that is said of the old ones holds of the new ones too."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Literal

import pytest

from sentinel_env import Criteria, Database, Domain, Record, Scenario, Table, Task, ToolCall, ToolError, load_domain, tool
from sentinel_env.failures import FailurePattern, general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.generation.rebinding import rebind_tasks
from sentinel_env.generation.rebinding.subjects import SubjectKind, find_subjects
from sentinel_env.generation.rebinding.world import World
from sentinel_env.knobs import Knobs
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Fact, Wish
from sentinel_env.verification import verify_all, verify_proposal

# a lending library with members and books of their own


class Member(Record):
    first_name: str
    last_name: str
    email: str
    cards: list[str]


class Book(Record):
    title: str
    shelf: str


class Line(Record):
    """A book that was lent, and what is owed for it."""

    title: str
    book_id: str
    fine: float


class Loan(Record):
    member_id: str
    books: list[Line]
    status: Literal["open", "renewed", "returned"]
    weeks: str | None = None


class LendingDB(Database):
    members: Table[Member]
    books: Table[Book]
    loans: Table[Loan]


@tool
def find_member(db: LendingDB, email: str) -> str:
    """Find a member.

    Args:
        email: The member's e-mail address.
    """
    found = [key for key, member in db.members.items() if member.email == email]
    if not found:
        raise ToolError("no member has this address")
    return found[0]


@tool
def get_member(db: LendingDB, member_id: str) -> Member:
    """Look at a member, with the loans.

    Args:
        member_id: The member.
    """
    return _get(db.members, member_id)


@tool
def get_loan(db: LendingDB, loan_id: str) -> Loan:
    """Look at a loan.

    Args:
        loan_id: The loan.
    """
    return _get(db.loans, loan_id)


@tool(writes=True)
def renew_loan(db: LendingDB, loan_id: str, weeks: Literal["two", "four"]) -> Loan:
    """Renew an open loan with all its books.

    Args:
        loan_id: The loan.
        weeks: For how long: "two" or "four" weeks.
    """
    if _get(db.loans, loan_id).status != "open":
        raise ToolError("only an open loan can be renewed")
    return db.loans.update(loan_id, status="renewed", weeks=weeks)


@tool(writes=True)
def waive_fines(db: LendingDB, loan_id: str, book_ids: list[str]) -> Loan:
    """Waive what is owed for some books of a loan. Waived fines are told to the member.

    Args:
        loan_id: The loan.
        book_ids: The books.
    """
    loan = _get(db.loans, loan_id)
    if not book_ids or not set(book_ids) <= {line.book_id for line in loan.books}:
        raise ToolError("the loan has no such book")
    return db.loans.update(loan_id, books=[line.replace(fine=0.0) if line.book_id in book_ids else line for line in loan.books])


def _get(table, key):
    if key not in table:
        raise ToolError(f"there is no {key!r}")
    return table[key]


TITLES = ("Dune", "Emma", "Ulysses", "Walden", "Middlemarch", "Beloved", "Persuasion", "Jane Eyre", "The Trial", "The Castle")
FIRST = ("Ann", "Bela", "Carlo", "Dora", "Edith", "Franz", "Gitta", "Horst", "Irena", "Jonas", "Klara", "Ludwig", "Mirela", "Nadja")
LAST = ("Adler", "Bertrand", "Costa", "Duval", "Ekberg", "Fontaine", "Gruber", "Halloran")


def lending_db(members: int = 60) -> LendingDB:
    random = Random(5)
    books = {f"B{100 + at}": Book(title=title, shelf=f"{at % 4 + 1}{'ABCD'[at % 4]}") for at, title in enumerate(TITLES)}
    people, loans = {}, {}
    for at in range(members):
        key = f"M{1000 + at}"
        first, last = FIRST[at % len(FIRST)], LAST[at % len(LAST)]
        owned = []
        for place in range(random.randint(1, 3)):
            lent = random.sample(list(books), random.randint(1, 3))
            lines = [Line(title=books[book].title, book_id=book, fine=random.randint(10, 900) / 100) for book in lent]
            owned.append(f"L{10_000 + 10 * at + place}")
            loans[owned[-1]] = Loan(member_id=key, books=lines, status=random.choice(("open", "open", "returned")))
        people[key] = Member(first_name=first, last_name=last, email=f"{first}.{last}{at}@example.org".lower(), cards=owned)
    return LendingDB(members=people, books=books, loans=loans)


DB = lending_db()


def call(name: str, /, **arguments: object) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def lending_task(loan_id: str, kind: str, *, goal: str | None = None, at: int = 0, split: str = "train", known: str | None = None) -> Task:
    """A task about one loan: it is renewed, or the fine for one of its books is waived."""
    loan = DB.loans[loan_id]
    member, line = DB.members[loan.member_id], loan.books[at]
    if kind == "renew":
        write = call("renew_loan", loan_id=loan_id, weeks="two")
        goal = goal or f"Please renew loan {loan_id} for two weeks."
        facts = (Fact(slot="loan", text=loan_id, value=loan_id), Fact(slot="weeks", text="two weeks", value="two"))
        told = ()
    else:
        write = call("waive_fines", loan_id=loan_id, book_ids=[line.book_id])
        goal = goal or f"Please waive the fine for {line.title}. How much was it?"
        facts = (
            Fact(slot="book", text=line.title, value=line.book_id),
            Fact(slot="loan", text=f"the one with {line.title}", value=loan_id),
        )
        told = (f"{line.fine:.2f}",)
    wish = Wish(text=goal, call=write, facts=facts, labels={loan_id: f"the loan with {line.title}"})
    return Task(
        id=f"{kind}-{loan_id}",
        domain="lending",
        scenario=Scenario(
            goal=goal,
            known={"email": member.email} if known is None else {"about you": known.format(member=member)},
            wishes=(wish,) if known is None else (),
        ),
        criteria=Criteria(
            actions=(
                call("find_member", email=member.email),
                call("get_member", member_id=loan.member_id),
                call("get_loan", loan_id=loan_id),
                write,
            ),
            communicate=told,
        ),
        split=split,
    )


def lending(*tasks: Task) -> Domain:
    return Domain(
        name="lending",
        policy="Ask for the e-mail address first. An open loan can be renewed for two or four weeks. Tell the amount of a waived fine.",
        tools=(find_member, get_member, get_loan, renew_loan, waive_fines),
        database=lambda: DB,
        tasks=lambda: tasks,
    )


def loans_where(test) -> list[str]:
    return [key for key, loan in DB.loans.items() if test(loan, DB.members[loan.member_id])]


def is_open(loan: Loan, member: Member) -> bool:
    return loan.status == "open"


def has_own_title(loan: Loan, member: Member) -> bool:
    """Its first book is in no other loan of the member, and there are others in it."""
    others = [line.title for key in member.cards for line in DB.loans[key].books]
    return len(loan.books) > 1 and others.count(loan.books[0].title) == 1


def pattern(domain: Domain, label: str, **fields: object) -> FailurePattern:
    return FailurePattern(id=label, domain=domain.name, label=label, **fields)  # type: ignore[arg-type]


def rebind(domain: Domain, label: str = "general", n: int = 30, **fields: object) -> tuple[list[TaskProposal], Counter[str]]:
    misses: Counter[str] = Counter()
    target = general_pattern(domain) if label == "general" else pattern(domain, label, **fields)
    return rebind_tasks(domain, target, n=n, random=Random(0), split="train", misses=misses), misses


@pytest.fixture(scope="module")
def library() -> Domain:
    renewed, waived = loans_where(is_open)[:3], loans_where(has_own_title)[:3]
    return lending(*(lending_task(key, "renew") for key in renewed), *(lending_task(key, "waive") for key in waived))


# the shipped library


def test_the_shipped_library_gives_the_one_task_that_it_can() -> None:
    shipped = load_domain("library")
    (proposal,) = propose_tasks(shipped, general_pattern(shipped), n=10)
    verdict = verify_proposal(shipped, proposal, known=shipped.split("train"))
    assert verdict.task is not None
    assert verdict.task.scenario.goal == "Renew Emma for me."
    assert verdict.task.scenario.known == {"card number": "M8"}
    assert verdict.task.criteria.actions == (call("renew_loan", loan_id="L2"),)
    assert verdict.task.criteria.communicate == ("two weeks",)


def test_a_domain_without_tasks_gives_nothing_and_says_why() -> None:
    assert rebind(lending()) == ([], Counter({"the domain has no task to carry over": 1}))


# what is inferred


def test_what_refers_to_what_is_found_in_the_data() -> None:
    references = {(each.kind, each.path, each.target) for each in World(DB).references}
    assert references == {
        (("members",), ("cards",), ("loans",)),
        (("loans",), ("member_id",), ("members",)),
        (("loans", "books"), ("book_id",), ("books",)),
    }


def test_members_are_who_asks_and_books_are_nobody_s(library: Domain) -> None:
    world = World(DB)
    subjects = find_subjects(library, world, library.split("train"))
    assert subjects is not None
    assert subjects.kind == SubjectKind("members")
    loan = loans_where(is_open)[0]
    assert subjects.of(world.tables["loans"][loan]) == DB.loans[loan].member_id
    assert subjects.of(world.tables["books"]["B100"]) is None


# what comes out


def test_every_draft_of_a_lending_library_passes_the_gates(library: Domain) -> None:
    drafts, _ = rebind(library, n=100)
    verdicts = list(verify_all(library, drafts, known=library.split("train")))
    assert len(verdicts) == 100
    assert Counter(str(verdict.rejected_by) for verdict in verdicts) == {"None": 100}


def test_texts_facts_calls_and_amounts_are_all_of_the_new_record(library: Domain) -> None:
    drafts = [each.draft for each in rebind(library, n=100)[0] if each.draft.criteria.actions[-1].name == "waive_fines"]
    assert len({draft.scenario.goal for draft in drafts}) >= 5
    for draft in drafts:
        find, get, look, waive = draft.criteria.actions
        loan, member = DB.loans[look.arguments["loan_id"]], DB.members[get.arguments["member_id"]]
        (book,) = waive.arguments["book_ids"]
        line = next(line for line in loan.books if line.book_id == book)
        (wish,) = draft.scenario.wishes
        assert find.arguments["email"] == draft.scenario.known["email"] == member.email
        assert look.arguments["loan_id"] in member.cards
        assert draft.scenario.goal == wish.text == f"Please waive the fine for {line.title}. How much was it?"
        assert [fact.text for fact in wish.facts] == [line.title, f"the one with {line.title}"]
        assert [fact.value for fact in wish.facts] == [book, look.arguments["loan_id"]]
        assert wish.call == waive
        assert wish.labels == {look.arguments["loan_id"]: f"the loan with {line.title}"}
        assert draft.criteria.communicate == (f"{line.fine:.2f}",)


def test_a_description_that_fits_two_records_is_dropped(library: Domain) -> None:
    drafts, misses = rebind(library, n=100)
    for draft in (each.draft for each in drafts):
        waive = draft.criteria.actions[-1]
        if waive.name == "waive_fines":
            member = DB.members[DB.loans[waive.arguments["loan_id"]].member_id]
            titles = [line.title for key in member.cards for line in DB.loans[key].books]
            assert titles.count(draft.scenario.wishes[0].facts[0].text) == 1
    assert misses["the words would not tell the other records from those beside them"] > 0


def test_no_draft_is_about_somebody_of_a_task_of_another_split(library: Domain) -> None:
    held = [lending_task(key, "renew", split="test") for key in loans_where(is_open)[6:20]]
    members = {DB.loans[task.criteria.actions[-1].arguments["loan_id"]].member_id for task in held}
    drafts, _ = rebind(library.with_tasks([*library.split("train"), *held]), n=300)
    assert len(drafts) > 50
    for draft in drafts:
        assert draft.draft.criteria.actions[1].arguments["member_id"] not in members


def test_the_same_seed_gives_the_same_drafts_and_another_one_others(library: Domain) -> None:
    first, again, other = (rebind_tasks(library, general_pattern(library), n=10, random=Random(seed), split="train") for seed in (1, 1, 2))
    assert first == again
    assert first != other


SAME = """
import hashlib, sentinel_env as s
from dataclasses import replace
domain = replace(s.load_domain("retail"), operations=None)
found = s.propose_tasks(domain, s.general_pattern(domain), n=20)
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


# prose


def prose(goal: str, known: str = "Your name is {member.first_name} {member.last_name}, your address {member.email}.") -> Domain:
    """One task in prose, about the first loan that has a title of its own, and two others that make the words common."""
    key = loans_where(has_own_title)[0]
    line = DB.loans[key].books[0]
    return lending(lending_task(key, "waive", goal=goal.format(title=line.title, loan=key), known=known))


def test_prose_of_common_words_is_said_of_other_records() -> None:
    drafts, _ = rebind(prose("You want the fine for {title} waived."))
    assert {each.features["rebound"] for each in drafts} == {"other records"}
    assert len({each.draft.scenario.goal for each in drafts}) > 5


def test_prose_that_is_not_understood_is_only_said_of_copies() -> None:
    domain = prose("You want the fine for that gloomy Russian brick, {title}, waived.")
    drafts, misses = rebind(domain)
    assert any("gloomy" in reason for reason in misses)
    assert len(drafts) == 30
    (source,) = domain.split("train")
    old = DB.loans[source.criteria.actions[2].arguments["loan_id"]]
    for proposal in drafts:
        draft = proposal.draft
        key = draft.criteria.actions[2].arguments["loan_id"]
        member = draft.criteria.actions[1].arguments["member_id"]
        assert proposal.features == {"rebound": "copied records"}
        assert member != old.member_id
        loan = domain.start(draft).tables["loans"][key]
        assert (loan.books, loan.status, loan.member_id) == (old.books, old.status, member)
        assert DB.members[member].email in draft.scenario.known["about you"]
        assert draft.scenario.goal == source.scenario.goal
    assert all(verdict.task is not None for verdict in verify_all(domain, drafts, known=domain.split("train")))


def test_a_text_that_still_tells_of_the_old_member_is_dropped() -> None:
    known = "Your name is {member.first_name} {member.last_name}, your address {member.email} or {member.last_name}77@example.org."
    drafts, misses = rebind(prose("You want the fine for {title} waived.", known))
    for draft in (each.draft for each in drafts):  # some have the same last name
        assert DB.members[draft.criteria.actions[1].arguments["member_id"]].last_name == DB.members["M1000"].last_name
    assert misses["copy: a text still tells of the old records"] > 0


def test_reads_that_a_reference_lacks_are_put_before_its_writes(library: Domain) -> None:
    key = loans_where(has_own_title)[3]
    whole = lending_task(key, "waive", goal=f"You want the fine for {DB.loans[key].books[0].title} waived.", known="It is {member.email}.")
    bare = whole.model_copy(update={"criteria": whole.criteria.model_copy(update={"actions": whole.criteria.actions[-1:]})})
    drafts, _ = rebind(library.with_tasks([*library.split("train"), bare]), "wrong_target_record", n=60)
    found = [each.draft for each in drafts if each.draft.id.startswith(bare.id)]
    assert found
    for draft in found:
        assert [action.name for action in draft.criteria.actions] == ["find_member", "get_member", "get_loan", "waive_fines"]


def test_a_task_in_prose_with_two_writes_is_carried_out_whole() -> None:
    key = next(iter(loans_where(lambda loan, member: is_open(loan, member) and has_own_title(loan, member))))
    task = lending_task(
        key, "waive", goal=f"You want the fine for {DB.loans[key].books[0].title} waived and loan {key} renewed.", known="{member.email}"
    )
    writes = (*task.criteria.actions, call("renew_loan", loan_id=key, weeks="two"))
    domain = lending(task.model_copy(update={"criteria": Criteria(actions=writes)}))
    drafts, _ = rebind(domain, n=5)
    assert len(drafts) == 5
    assert all(verdict.task is not None for verdict in verify_all(domain, drafts))


# what a pattern asks for


@pytest.mark.parametrize(
    "label", ["wrong_target_record", "wrong_argument", "missing_write", "extra_write", "missing_communicate", "blind_write"]
)
def test_the_pattern_s_own_mistake_is_the_first_foil_and_costs_reward(library: Domain, label: str) -> None:
    drafts, _ = rebind(library, label, n=12)
    assert len(drafts) == 12
    assert {each.foils[0].label for each in drafts} == {label}
    assert all(verdict.task is not None for verdict in verify_all(library, drafts))


def test_drafts_say_what_they_are_to_stress(library: Domain) -> None:
    drafts, _ = rebind(library, "wrong_argument", n=3, tools=("renew_loan",), arguments=("weeks",))
    assert drafts
    for proposal in drafts:
        assert (proposal.label, proposal.tools, proposal.arguments) == ("wrong_argument", ("renew_loan",), ("weeks",))
        (wrong,) = proposal.foils[0].calls
        assert (wrong.name, wrong.arguments["weeks"]) == ("renew_loan", "four")


def test_a_mistake_for_which_no_task_leaves_room_gives_nothing_and_says_why(library: Domain) -> None:
    drafts, misses = rebind(library, "missing_transfer")
    assert drafts == []
    assert misses == {"task not carried over: it leaves no room for the pattern's mistake": 6}


def test_a_number_of_writes_that_no_task_has_gives_nothing_and_says_why(library: Domain) -> None:
    drafts, misses = rebind(library, "missing_write", knobs=Knobs(writes=3))
    assert drafts == []
    assert misses == {"task not carried over: it has another number of writes than 3": 6}


def test_tasks_whose_reference_is_refused_are_left_out_and_counted() -> None:
    task = lending_task(loans_where(lambda loan, _: loan.status == "returned")[0], "renew")
    assert rebind(lending(task)) == ([], Counter({"task not carried over: a write of its reference is refused": 1}))


# retail


def test_our_retail_without_operations_gives_tasks_that_pass_the_gates() -> None:
    domain = replace(load_domain("retail"), operations=None)
    drafts, _ = rebind(domain, n=60)
    verdicts = list(verify_all(domain, drafts, known=domain.split("train")))
    assert len(verdicts) == 60
    refused = Counter(verdict.rejected_by.name for verdict in verdicts if verdict.rejected_by is not None)
    assert refused.total() <= 15, refused  # a short text may stand in a held-out task word for word


def test_tau2_bench_s_tasks_are_carried_over(shared) -> None:
    domain = load_domain("retail", data=shared / "data" / "tau2_retail")
    drafts, _ = rebind(domain, n=120)
    verdicts = list(verify_all(domain, drafts, known=domain.split("train")))
    assert len(verdicts) == 120
    assert sum(verdict.task is not None for verdict in verdicts) >= 110
    assert len({each.draft.id.split("-")[0] for each in drafts}) >= 50
    assert {each.features["rebound"] for each in drafts} == {"other records", "copied records"}
