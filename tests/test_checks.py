"""`check_domain` accepts what is right and names what is wrong: each domain here is broken in one way."""

import itertools
from dataclasses import replace

import pytest
from sentinel_domains.library import LibraryDB, Loan, find_loans, renew_loan
from sentinel_domains.library import domain as library

from sentinel_env import Criteria, Database, Domain, DomainError, Operations, Record, Scenario, Table, Task, ToolCall, ToolError, tool
from sentinel_env.checks import check_domain, examine_domain
from sentinel_env.domain import list_domains, load_domain
from sentinel_env.tasks import Fact, Wish

(RENEW,) = library.tasks()


def broken(**fields):
    return replace(library, **{"name": "library", **fields})


def with_tool(function):
    return broken(tools=(find_loans, renew_loan, function))


def with_tasks(*tasks):
    return broken(tasks=lambda: tasks)


@pytest.mark.parametrize("name", sorted(list_domains()))
def test_installed_domains_hold_what_they_promise(name):
    report = check_domain(load_domain(name))
    assert report.problems == []
    assert report.counts["tasks"] > 0
    assert report.counts["calls"] > 50


@tool
def undocumented(db: LibraryDB, member_id: str) -> str:
    """Say something."""
    return "something"


@tool
def unexplained(db: LibraryDB) -> str:
    return "something"


@tool
def sly_read(db: LibraryDB) -> str:
    """Change a loan in a read."""
    db.loans.update("L1", title="Emma")
    return "done"


@tool(writes=True)
def crashes_on_unknown_loans(db: LibraryDB, loan_id: str) -> str:
    """Return a loan.

    Args:
        loan_id: The loan.
    """
    return db.loans[loan_id].title


_TIMES = itertools.count()


@tool
def counts_its_calls(db: LibraryDB) -> str:
    """Answer otherwise each time."""
    return str(next(_TIMES))


def case(domain, message):
    return pytest.param(domain, message, id=message[:40])


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        case(broken(policy=" "), "the policy is empty"),
        case(broken(name="My Library", tasks=tuple), "the domain's name 'My Library'"),
        case(broken(tools=(), tasks=tuple), "there are no tools"),
        case(with_tool(undocumented), "tool undocumented: argument 'member_id' is not documented"),
        case(with_tool(unexplained), "tool unexplained: the docstring does not say what it does"),
        case(with_tool(sly_read), "sly_read is declared as a read but changes loans"),
        case(with_tool(crashes_on_unknown_loans), "tool crashes_on_unknown_loans crashed on"),
        case(with_tool(counts_its_calls), "tool counts_its_calls: the same call gives another result the second time"),
        case(with_tasks(RENEW, RENEW), "task id 'renew-dune' occurs twice"),
        case(with_tasks(RENEW.model_copy(update={"domain": "museum"})), "task 'renew-dune' is for domain 'museum'"),
        case(with_tasks(RENEW.model_copy(update={"scenario": Scenario(goal=" ")})), "task 'renew-dune': the scenario has no goal"),
        case(
            with_tasks(
                RENEW.model_copy(update={"criteria": Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L9"}),))})
            ),
            "task 'renew-dune', reference action 0 (renew_loan): no loan 'L9'",
        ),
        case(with_tasks(RENEW.model_copy(update={"criteria": Criteria()})), "an agent that does nothing passes"),
        case(
            with_tasks(RENEW.model_copy(update={"criteria": RENEW.criteria.model_copy(update={"nothing_passes": "on purpose"})})),
            "criteria.nothing_passes says that doing nothing passes, but it fails",
        ),
        case(with_tasks(RENEW.model_copy(update={"changes": {"loans": {"L1": {"colour": "red"}}}})), "changes: "),
        case(
            broken(database=lambda: LibraryDB(loans={"L1": {"title": "Dune", "member_id": str(next(_TIMES))}})), "database() gives another"
        ),
    ],
)
def test_a_broken_domain_is_refused_with_a_line_that_says_what_is_wrong(domain, message):
    with pytest.raises(DomainError, match=r"domain .* has \d+ problems:\n- ") as caught:
        check_domain(domain)
    assert any(message in line for line in str(caught.value).splitlines()[1:]), str(caught.value)


def test_every_problem_is_listed_at_once():
    report = examine_domain(broken(policy="", tools=(find_loans, renew_loan, undocumented, unexplained)))
    assert len(report.problems) == 3


def test_a_task_with_wishes_must_be_passable_in_dialogue():
    wanted = ToolCall(name="renew_loan", arguments={"loan_id": "L1"})
    other = ToolCall(name="renew_loan", arguments={"loan_id": "L2"})
    scenario = Scenario(
        goal="Renew Emma.", wishes=(Wish(text="renew Emma", call=other, facts=(Fact(slot="loan", text="L2", value="L2"),)),)
    )
    task = Task(id="mismatch", domain="library", scenario=scenario, criteria=Criteria(actions=(wanted,)))
    assert any(
        "the scripted agent with the scripted user does not pass" in problem for problem in examine_domain(with_tasks(task)).problems
    )


def test_a_database_that_json_does_not_keep_is_refused():
    class Odd(Record):
        numbers: dict[int, str]

        def model_post_init(self, context):
            object.__setattr__(self, "numbers", {**self.numbers, len(self.numbers): "one more at each load"})

    class OddDB(Database):
        things: Table[Odd]

    odd = Domain(name="odd", policy="Be kind.", tools=(), database=lambda: OddDB(things={"a": Odd(numbers={})}))
    assert any("does not survive dump() and load()" in problem for problem in examine_domain(odd).problems)


def test_splits_that_share_a_member_are_refused_where_the_domain_says_who_owns_what():
    member = Operations(
        kinds=(),
        subjects=lambda db: ("M7", "M8"),
        entities=lambda db, subject: frozenset({subject, *db.loans.where(member_id=subject)}),
        introduce=lambda db, subject, random: ((), (), ""),
    )
    tasks = (RENEW, RENEW.model_copy(update={"id": "renew-again", "split": "test"}))
    report = examine_domain(broken(tasks=lambda: tasks, operations=member))
    assert report.problems == ["splits share 'M7': task 'renew-again' of test, task 'renew-dune' of train"]


def test_a_refused_call_that_leaves_a_trace_is_found():
    class Careless(Domain):
        def execute(self, db, call):
            answer = super().execute(db, call)
            if answer.is_error and "L1" in db.loans:
                db.loans.update("L1", title="touched")
            return answer

    careless = Careless(name="library", policy="Be kind.", tools=(renew_loan,), database=library.database, tasks=library.tasks)
    assert any("a refused call leaves a trace in loans" in problem for problem in examine_domain(careless).problems)


def test_a_refusal_is_no_crash():
    @tool
    def always_refuses(db: LibraryDB) -> Loan:
        """Refuse."""
        raise ToolError("not today")

    assert examine_domain(with_tool(always_refuses)).problems == []
