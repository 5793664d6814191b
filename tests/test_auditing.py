"""An audit finds planted faults by their names, is silent about good tasks, and finds what is known to be broken in tau2-bench."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from random import Random

import post_office
import pytest
from planted_faults import PLANTS, in_prose
from sentinel_domains.library import LibraryDB, Loan, find_loans, renew_loan
from sentinel_domains.library import domain as library
from typer.testing import CliRunner

from sentinel_env import Criteria, Scenario, Task, ToolCall, load_domain, save_tasks, tool
from sentinel_env.auditing import KINDS, Issue, audit
from sentinel_env.cli import app

EACH = 4
"""Tasks in which a fault is planted."""


@pytest.fixture(scope="module")
def retail():
    return load_domain("retail")


@pytest.fixture(scope="module")
def tau2(shared):
    return load_domain("retail", data=shared / "data/tau2_retail")


def grave(issues):
    return [issue.line for issue in issues if issue.severity != "note"]


def kinds(issues, severity=None):
    return {issue.kind for issue in issues if severity is None or issue.severity == severity}


# good tasks


@pytest.mark.parametrize("name", ["retail", "library"])
def test_the_tasks_that_ship_come_out_clean(name):
    assert grave(audit(load_domain(name))) == []


def test_good_tasks_in_prose_come_out_clean(retail):
    assert grave(audit(retail, [in_prose(task) for task in retail.split("dev")])) == []


def test_a_domain_that_answers_in_plain_text_is_read_too():
    compact = load_domain("retail", compact=True)
    assert kinds(audit(compact, compact.split("dev"))) <= {"same_target"}


# planted faults


@pytest.mark.parametrize(("kind", "severity", "plant"), PLANTS, ids=[plant.__name__ for _, _, plant in PLANTS])
def test_a_planted_fault_is_found_and_named(retail, kind, severity, plant):
    random, planted = Random(plant.__name__), 0
    tasks = list(retail.split("train"))
    random.shuffle(tasks)
    for task in tasks:
        faulty = plant(retail, task, random)
        if faulty is None:
            continue
        planted += 1
        found = [issue for issue in audit(retail, faulty) if issue.task == faulty[-1].id]
        assert (kind, severity) in {(issue.kind, issue.severity) for issue in found}, [issue.line for issue in found]
        assert not any(issue.kind == kind for issue in audit(retail, [task])), "the untouched task has it too"
        if planted == EACH:
            break
    assert planted == EACH


def test_every_kind_is_planted_somewhere():
    elsewhere = {"crashing_call", "unexamined", "order_dependent", "list_order", "against_policy"}
    assert {kind for kind, _, _ in PLANTS} | elsewhere == set(KINDS)


def test_writes_whose_order_matters_are_named_with_the_order():
    world = post_office.domain
    seal, readdress = post_office.call("seal", parcel_id="P1"), post_office.call("readdress", parcel_id="P1", street="9 Oak Road")
    task = post_office.task(post_office.call("identify", name="ann"), readdress, seal, goal="I am ann. Seal P1, for 9 Oak Road.")
    (issue,) = [issue for issue in audit(world, [task]) if issue.kind == "order_dependent"]
    assert issue.severity == "suspect"
    assert "seal before readdress" in issue.reason
    assert "parcel P1 is sealed" in issue.reason
    policy = replace(world, forbids=lambda db, call: "it is sealed" if db.parcels[call.arguments["parcel_id"]].sealed else None)
    (issue,) = [issue for issue in audit(policy, [task]) if issue.kind == "order_dependent"]
    assert issue.severity == "note", "the policy tells the agent"


def test_a_list_whose_order_makes_another_state_is_named():
    task = post_office.task(post_office.call("put_tags", parcel_id="P1", tags=["red", "urgent"]), goal="I am ann. Tag P1 red and urgent.")
    (issue,) = [issue for issue in audit(post_office.domain, [task]) if issue.kind == "list_order"]
    assert "tags" in issue.reason


def test_a_write_that_the_policy_forbids_is_broken():
    strict = replace(library, forbids=lambda db, call: "Dune is reserved")
    (issue,) = [issue for issue in audit(strict) if issue.kind == "against_policy"]
    assert (issue.severity, issue.task) == ("broken", "renew-dune")
    assert "Dune is reserved" in issue.reason


@tool(writes=True)
def lose_loan(db: LibraryDB, loan_id: str) -> str:
    """Lose a loan."""
    return db.loans[loan_id].title


def test_a_tool_that_crashes_on_the_reference_is_a_finding_and_no_crash():
    world = replace(library, tools=(find_loans, renew_loan, lose_loan))
    (task,) = library.tasks()
    criteria = Criteria(actions=(ToolCall(name="lose_loan", arguments={"loan_id": "L9"}),))
    assert "crashing_call" in kinds(audit(world, [task.model_copy(update={"criteria": criteria})]), "broken")


TITLES = ("Dune", "Emma", "Ulysses")


def many_loans(count=12):
    loans = {
        f"L{3 * member + at}": Loan(title=title, member_id=f"M{100 + member}") for member in range(count) for at, title in enumerate(TITLES)
    }
    return replace(library, database=lambda: LibraryDB(loans=loans))


def renewal(member, loan, goal="Please renew Emma for me."):
    scenario = Scenario(goal=goal, known={"card number": f"M{100 + member}"})
    actions = (ToolCall(name="renew_loan", arguments={"loan_id": f"L{loan}"}),)
    return Task(id=f"renew-{member}", domain="library", scenario=scenario, criteria=Criteria(actions=actions, communicate=("two weeks",)))


@pytest.mark.parametrize("member", range(0, 12, 3))
def test_in_a_domain_that_declares_nothing_words_are_held_against_what_was_read(member):
    """Each member has three loans, Emma is the second: a program finds out from a title which loan is meant."""
    world, emma = many_loans(), 3 * member + 1
    assert grave(audit(world, [renewal(member, emma)])) == []
    assert kinds(audit(world, [renewal(member, emma + 1)]), "suspect") == {"wrong_description"}
    assert kinds(audit(world, [renewal(member, emma, goal="Please renew a book for me.")]), "suspect") == {"ambiguous_description"}
    assert kinds(audit(world, [renewal(member, (emma + 6) % 36)]), "suspect") == {"unreachable_argument"}


def test_a_library_task_about_somebody_elses_book_cannot_be_known():
    task = Task(
        id="renew-emma",
        domain="library",
        scenario=Scenario(goal="Renew my book.", known={"card number": "M7"}),
        criteria=Criteria(actions=(ToolCall(name="renew_loan", arguments={"loan_id": "L2"}),), communicate=("two weeks",)),
    )
    (issue,) = audit(library, [task])[:1]
    assert (issue.kind, issue.severity) == ("unreachable_argument", "suspect")
    assert "loan_id L2" in issue.reason


# untrusted tasks


def test_a_reference_of_very_many_writes_is_not_tried_in_every_order():
    writes = [post_office.call("readdress", parcel_id="P1", street=f"{at} Elm Street") for at in range(300)]
    assert "unexamined" in kinds(audit(post_office.domain, [post_office.task(*writes)]), "note")


ODD = [None, True, -1, 1e308, float("nan"), "", "x" * 5000, "ä\u0000\u202e🙂", [], [[]], {"a": {"b": [1]}}, ["L1", "L1"]]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_arguments_and_words_are_findings_and_no_crash(value):
    calls = [ToolCall(name="renew_loan", arguments={"loan_id": value}), ToolCall(name="find_loans", arguments={"member_id": value})]
    scenario = Scenario(goal=str(value) * 3, known={"card": str(value)}, instructions="\n\t" * 50)
    for dialect in ("sentinel", "tau2"):
        task = Task(id="odd", domain="library", scenario=scenario, criteria=Criteria(actions=tuple(calls), communicate=(str(value), "")))
        assert kinds(audit(replace(library, dialect=dialect), [task]))


def test_a_task_of_another_domain_is_a_finding(retail):
    assert [(issue.kind, issue.severity) for issue in audit(retail, library.tasks())] == [("ungradable", "broken")]


def test_the_same_tasks_give_the_same_findings_again(retail):
    tasks = [task for _, _, plant in PLANTS for task in plant(retail, retail.split("train")[3], Random(1)) or ()]
    assert audit(load_domain("retail"), tasks) == audit(retail, tasks)


# tau2-bench's train tasks


def tasks_with(issues, kind, *severities):
    return {issue.task for issue in issues if issue.kind == kind and issue.severity in severities}


def test_what_is_known_to_be_broken_in_tau2_is_found(tau2):
    found = audit(tau2)
    # the lists of the specification, as far as they are train tasks
    assert tasks_with(found, "pays_for_nothing", "broken") == {"10", "25", "50", "57"}
    assert tasks_with(found, "pays_for_nothing", "suspect") == {"24", "67", "105"}
    assert tasks_with(found, "refused_write", "broken") == {"105"}
    assert tasks_with(found, "refused_read", "suspect", "note") == {"2", "3", "4", "35", "37", "46", "47", "54", "67"}
    assert tasks_with(found, "list_order", "suspect") == {"20", "21", "37"}
    assert tasks_with(found, "same_target", "note") == {"84"}
    assert len(tasks_with(found, "pays_for_silence", "suspect", "note")) == 25
    assert tasks_with(found, "pays_for_silence", "suspect") == {"30", "31"}
    assert len(tasks_with(found, "needs_judge", "note") - {None}) == 29
    assert tasks_with(found, "compares_nothing", "note") == {"10", "50"}


def test_reads_that_are_refused_on_purpose_are_notes(tau2):
    """The user of task 46 tells two wrong order numbers; the product of tasks 2 to 4 is told by nobody."""
    found = audit(tau2)
    assert tasks_with(found, "refused_read", "suspect") == {"2", "3", "4"}


def test_on_tau2_every_argument_can_be_found_and_few_descriptions_are_suspect(tau2):
    found = audit(tau2)
    assert not kinds(found) & {"unreachable_argument", "cannot_identify", "several_customers", "against_policy"}
    assert Counter(issue.task for issue in found if issue.kind == "ambiguous_description").keys() >= {"16", "41", "63", "91"}
    assert len(tasks_with(found, "ambiguous_description", "suspect")) <= 8


def test_records_that_two_splits_share_are_counted(tau2):
    tasks = [task.model_copy(update={"split": "test" if task.id in ("1", "11", "99") else "train"}) for task in tau2.tasks()]
    (whole,) = [issue for issue in audit(tau2, tasks) if issue.kind == "shared_records" and issue.task is None]
    assert "of 3 tasks of test, 3 share a customer with train, 3 share orders" in whole.reason


# the command


def sentinel(*arguments, code=0):
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def broken_file(folder, retail):
    path = folder / "tasks.jsonl"
    task = retail.split("dev")[0]
    save_tasks(path, [task, task.model_copy(update={"id": "free", "criteria": Criteria(basis=())})])
    return path


def test_the_command_prints_findings_and_fails_when_something_is_broken(tmp_path, retail):
    shown = sentinel(broken_file(tmp_path, retail), code=1).stdout
    assert "broken pays_for_nothing, task 'free'" in shown
    assert "retail: 2 tasks, 1 with a finding" in shown
    sentinel(broken_file(tmp_path, retail), "--fail-on", "never")
    sentinel("library", "--fail-on", "suspect")


def test_the_command_writes_json_and_lines(tmp_path, retail):
    out = tmp_path / "made" / "issues.jsonl"
    rows = json.loads(sentinel(broken_file(tmp_path, retail), "--json", "--out", out, code=1).stdout)
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [Issue.model_validate_json(line).model_dump() for line in lines] == rows


def test_the_command_reads_tau2s_own_file(shared):
    data = shared / "data/tau2_retail"
    shown = sentinel(data / "tasks.json", "--domain", "retail", "--data", data, "--notes", code=1).stdout
    assert "note refused_read, task '46'" in shown


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("bad.jsonl", '{"id": "a"}\n', (), "bad.jsonl, line 1"),
        ("bad.jsonl", "not json\n", (), "bad.jsonl, line 1"),
        ("empty.jsonl", "\n", (), "holds no tasks"),
        ("tasks.json", "[{}]", ("--domain", "retail"), "task at index 0"),
        ("tasks.json", "[", ("--domain", "retail"), "is not JSON"),
        ("tasks.json", "[]", (), "add --domain"),
        ("absent.jsonl", None, (), "cannot read tasks"),
        ("absent", None, (), "no domain"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, name, content, arguments, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    result = sentinel(path if name != "absent" else "absent", *arguments, code=1)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
