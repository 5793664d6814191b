"""A lending library: the smallest complete domain."""

from typing import Literal

from sentinel_env import Criteria, Database, Domain, Record, Scenario, Table, Task, ToolCall, ToolError, tool


class Loan(Record):
    """A book that a member has borrowed."""

    title: str
    member_id: str
    status: Literal["on loan", "returned", "renewed"] = "on loan"


class LibraryDB(Database):
    """The library's loans."""

    loans: Table[Loan]


@tool
def find_loans(db: LibraryDB, member_id: str) -> dict[str, Loan]:
    """List a member's loans.

    Args:
        member_id: The member's card number, such as "M7".
    """
    return db.loans.where(member_id=member_id)


@tool(writes=True)
def renew_loan(db: LibraryDB, loan_id: str) -> Loan:
    """Renew a loan for two weeks.

    Args:
        loan_id: The loan, such as "L1".
    """
    loan = db.loans.get(loan_id)
    if loan is None:
        raise ToolError(f"no loan {loan_id!r}")
    if loan.status != "on loan":
        raise ToolError(f"loan {loan_id} is {loan.status}; only a loan that is on loan can be renewed")
    return db.loans.update(loan_id, status="renewed")


domain = Domain(
    name="library",
    policy="Ask for the card number first. A loan can be renewed once. Never renew another member's loan.",
    tools=(find_loans, renew_loan),
    database=lambda: LibraryDB(loans={"L1": Loan(title="Dune", member_id="M7"), "L2": Loan(title="Emma", member_id="M8")}),
    tasks=lambda: [
        Task(
            id="renew-dune",
            domain="library",
            scenario=Scenario(goal="Renew Dune for me.", known={"card number": "M7"}),
            criteria=Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L1"}),), communicate=("two weeks",)),
        )
    ],
)
