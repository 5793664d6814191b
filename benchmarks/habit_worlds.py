"""The worlds of `known_truth.py`: tasks of our retail domain of every kind, and a lending library large enough for 300 tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from sentinel_domains import library

from sentinel_env import Criteria, Domain, Scenario, Task, ToolCall, load_domain
from sentinel_env.certificates import Foil
from sentinel_env.failures import FailurePattern, general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Fact, Wish
from sentinel_env.verification import KnownTasks, verify_proposal

LABELS = ("general", "general", "wrong_argument", "wrong_target_record", "missing_write", "extra_write", "missing_communicate")
SHARED_RECORD = 6
"""One retail task in so many has two writes on one order, of which the first in the customer's words locks the order."""


def retail_world(count: int) -> Domain:
    """Our retail domain with verified tasks: of every kind that the Proposer makes, and two changes of one order."""
    domain = load_domain("retail", users=1500, orders=3000)
    known = KnownTasks(domain)
    sources = {label: _proposed(domain, label, count, known) for label in LABELS}
    locking = _two_changes_of_one_order(domain, known)
    tasks = [next(locking) if at % SHARED_RECORD == 0 else next(sources[LABELS[at % len(LABELS)]]) for at in range(count)]
    return domain.with_tasks(tasks)


def _proposed(domain: Domain, label: str, count: int, known: KnownTasks) -> Iterator[Task]:
    pattern = general_pattern(domain) if label == "general" else FailurePattern(id=label, domain=domain.name, label=label)  # type: ignore[arg-type]
    for seed in range(100):
        for proposal in propose_tasks(domain, pattern, n=count, seed=seed):
            yield from _accepted(domain, proposal, known)


def _accepted(domain: Domain, proposal: TaskProposal, known: KnownTasks) -> Iterator[Task]:
    verdict = verify_proposal(domain, proposal, known=known)
    if verdict.task is not None:
        known.add(verdict.task)
        yield verdict.task


def _two_changes_of_one_order(domain: Domain, known: KnownTasks) -> Iterator[Task]:
    """Other items and another address for one pending order: the address first, for a modified order's address is fixed."""
    operations = domain.operations
    assert operations is not None
    kinds = {kind.name: kind for kind in operations.kinds}
    random = Random(0)
    subjects = operations.subjects(domain.base)
    while True:
        subject = subjects[random.randrange(len(subjects))]
        items = kinds["modify_items"].request(domain.base.fork(), subject, random)
        address = kinds["change_order_address"].request(domain.base.fork(), subject, random)
        if items is None or address is None or items.communicate:
            continue
        first, then = items.wish.call, address.wish.call
        if first is None or then is None or first.arguments["order_id"] != then.arguments["order_id"]:
            continue
        facts, identification, unknown = operations.introduce(domain.base, subject, random)
        reads = [*identification, *items.reads, *address.reads]
        task = Task(
            id=f"two-changes-{subject}-{random.randrange(10**6)}",
            domain=domain.name,
            scenario=Scenario(
                goal=f"{items.wish.text} {address.wish.text}",
                known={fact.slot: fact.text for fact in facts},
                unknown=unknown or None,
                facts=facts,
                wishes=(items.wish, address.wish),
                reveal="together",
            ),
            criteria=Criteria(actions=(*_once(reads), then, first)),
        )
        foil = Foil.between("missing_write", task.criteria.actions, (*_once(reads), then))
        yield from _accepted(domain, TaskProposal(pattern_id="order_dependency", draft=task, foils=(foil,)), known)


def _once(calls: list[ToolCall]) -> list[ToolCall]:
    found: list[ToolCall] = []
    for call in calls:
        if call not in found:
            found.append(call)
    return found


_TITLES = ("Dune", "Emma", "Ulysses", "Walden", "Middlemarch", "Beloved")


def library_world(count: int) -> Domain:
    """The shipped library with members of six loans each, two of them renewed already; a task renews one to three, or has to refuse."""
    random = Random(0)
    loans = {}
    tasks = []
    for member in range(count):
        card = f"M{1000 + member}"
        keys = [f"L{10_000 + 6 * member + at}" for at in range(len(_TITLES))]
        held = random.sample(_TITLES, len(_TITLES))
        for at, key in enumerate(keys):
            loans[key] = library.Loan(title=held[at], member_id=card, status="renewed" if at in (1, 4) else "on loan")
        open_ = [at for at in range(len(keys)) if at not in (1, 4)]
        wanted = [1] if member % 6 == 5 else random.sample(open_, random.choice((1, 1, 2, 3)))
        tasks.append(_library_task(card, [(keys[at], held[at], at != 1) for at in wanted]))
    return replace(library.domain, database=lambda: library.LibraryDB(loans=loans), tasks=lambda: tasks)


def _library_task(card: str, wanted: list[tuple[str, str, bool]]) -> Task:
    def wish(key: str, title: str, allowed: bool) -> Wish:
        call = ToolCall(name="renew_loan", arguments={"loan_id": key}) if allowed else None
        return Wish(
            text=f"Please renew {title} for me.",
            call=call,
            facts=(Fact(slot="title", text=title, value=key),),
            provenance={"loan_id": "read:find_loans.key"} if call else {},
            labels={key: title},
        )

    wishes = tuple(wish(*each) for each in wanted)
    calls = [each.call for each in wishes if each.call]
    return Task(
        id=f"renew-{card}",
        domain="library",
        scenario=Scenario(goal=" ".join(each.text for each in wishes), known={"card number": card}, wishes=wishes),
        criteria=Criteria(
            actions=(ToolCall(name="find_loans", arguments={"member_id": card}), *calls),
            communicate=("two weeks",) if calls else (),
            nothing_passes=None if calls else "a loan can be renewed once",
        ),
    )
