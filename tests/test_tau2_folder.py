"""Loading a folder in tau2-bench's format: what becomes of it, and what is said about a broken one."""

import json

import pytest
from sentinel_domains.library import LibraryDB, domain
from sentinel_domains.retail import make

from sentinel_env import ConfigError, DatabaseError, TaskError
from sentinel_env.importers.tau2 import load_folder

LOANS = {"loans": {"L1": {"title": "Dune", "member_id": "M7"}, "L2": {"title": "Emma", "member_id": "M8", "status": "renewed"}}}
SAID = {
    "domain": "library",
    "reason_for_call": "Renew Dune.",
    "known_info": "My card is M7.",
    "unknown_info": None,
    "task_instructions": "Be brief.",
}


def task(task_id="t1", *, actions=(("renew_loan", {"loan_id": "L1"}),), instructions=SAID, **fields):
    calls = [{"action_id": f"{task_id}_{at}", "name": name, "arguments": arguments} for at, (name, arguments) in enumerate(actions)]
    criteria = {"actions": calls, "communicate_info": [], "nl_assertions": None, "reward_basis": ["DB", "NL_ASSERTION"]}
    return {
        "id": task_id,
        "user_scenario": {"instructions": instructions},
        "evaluation_criteria": {**criteria, **fields.pop("criteria", {})},
        **fields,
    }


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, db=LOANS, tasks=[task()])
    (tmp_path / "policy.md").write_text("Renew once.")
    return tmp_path


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))


def load(folder, **fields):
    return load_folder(folder, name="library", database=LibraryDB, tools=domain.tools, **fields)


def test_a_task_keeps_what_the_user_knows_and_the_reference(folder):
    loaded = load(folder)
    (found,) = loaded.tasks_by_id.values()
    assert (found.scenario.goal, found.scenario.instructions, list(found.scenario.known.values())) == (
        "Renew Dune.",
        "Be brief.",
        ["My card is M7."],
    )
    assert loaded.reference_changes(found) == {"loans": {"L1": {"status": "renewed"}}}
    assert (found.criteria.basis, found.criteria.tau2.reward_basis, found.source) == (("tau2",), ("DB", "NL_ASSERTION"), "tau2")
    assert (loaded.warnings, loaded.policy) == ((), "Renew once.")


def test_instructions_may_be_plain_text(folder):
    write(folder, tasks=[task(instructions="Renew Dune.")])
    assert load(folder).tasks_by_id["t1"].scenario.goal == "Renew Dune."


def test_a_reference_action_that_a_tool_refuses_is_reported_and_skipped(folder):
    write(folder, tasks=[task(actions=[("renew_loan", {"loan_id": "L2"}), ("renew_loan", {"loan_id": "L1"})])])
    loaded = load(folder)
    (line,) = loaded.warnings
    assert line.startswith('task \'t1\', reference action 0, renew_loan({"loan_id": "L2"}): loan L2 is renewed')
    assert loaded.reference_changes(loaded.tasks_by_id["t1"]) == {"loans": {"L1": {"status": "renewed"}}}


def test_without_tau2s_dialect_a_task_with_a_refused_write_is_left_out_and_a_refused_read_is_dropped(folder):
    wrong_read = task("t2", actions=[("find_loans", {"member": "M7"}), ("renew_loan", {"loan_id": "L1"})])
    write(folder, tasks=[task("t1", actions=[("renew_loan", {"loan_id": "L2"})]), wrong_read])
    loaded = load(folder, dialect="sentinel")
    assert [call.name for call in loaded.tasks_by_id["t2"].criteria.actions] == ["renew_loan"]
    assert list(loaded.tasks_by_id) == ["t2"]
    assert "task 't1' is left out: a write of its reference is refused" in loaded.warnings


def test_a_task_that_is_passed_by_doing_nothing_says_so(folder):
    nothing, told = (
        task("t1", actions=[]),
        task("t2", actions=[], criteria={"communicate_info": ["L1"], "reward_basis": ["DB", "COMMUNICATE"]}),
    )
    write(folder, tasks=[nothing, told])
    tasks = load(folder).tasks_by_id
    assert tasks["t1"].criteria.nothing_passes.startswith("tau2-bench's reference leaves the database as it was")
    assert tasks["t2"].criteria.nothing_passes is None


def test_a_tasks_split_is_the_smallest_that_names_it(folder):
    write(
        folder, tasks=[task("t1"), task("t2"), task("t3")], split_tasks={"base": ["t1", "t2", "t3"], "train": ["t1"], "test": ["t2", "t9"]}
    )
    loaded = load(folder)
    assert {found.id: found.split for found in loaded.tasks_by_id.values()} == {"t1": "train", "t2": "test", "t3": "base"}
    assert loaded.warnings == ("split_tasks.json names 1 tasks that tasks.json lacks, such as 't9'",)


def test_initial_data_is_merged_into_the_record(folder):
    start = {"initialization_data": {"agent_data": {"loans": {"L1": {"title": "Dune II"}}}}}
    write(folder, tasks=[task(initial_state=start)])
    loaded = load(folder)
    record = loaded.start(loaded.tasks_by_id["t1"]).loans["L1"]
    assert (record.title, record.member_id) == ("Dune II", "M7")


def test_without_criteria_the_database_is_not_judged(folder):
    write(folder, tasks=[{**task(), "evaluation_criteria": None}, task("t2", criteria={"actions": None})])
    tasks = load(folder).tasks_by_id
    assert tasks["t1"].criteria.tau2.reward_basis == ()
    assert tasks["t2"].criteria.tau2.reward_basis == ("NL_ASSERTION",)


@pytest.mark.parametrize(
    ("files", "error", "text"),
    [
        ({"tasks": "{"}, TaskError, r"tasks\.json is not JSON"),
        ({"tasks": {}}, TaskError, r"tasks\.json: expected a list of tasks, found dict"),
        ({"tasks": [{"id": "t7"}]}, TaskError, r"tasks\.json: task 't7': user_scenario: Field required"),
        ({"tasks": [task(), task()]}, TaskError, r"tasks\.json: task 't1' occurs twice"),
        (
            {"tasks": [task(criteria={"actions": [{"name": "renew_loan"}]})]},
            TaskError,
            r"'t1': evaluation_criteria\.actions\.0\.arguments: Field required",
        ),
        ({"tasks": [task(criteria={"env_assertions": [{}]})]}, TaskError, r"'t1': evaluation_criteria\.env_assertions are not supported"),
        ({"tasks": [task(initial_state={"message_history": [{}]})]}, TaskError, r"'t1': initial_state\.message_history is not supported"),
        ({"split_tasks": ["t1"]}, TaskError, r"split_tasks\.json: expected an object of split name to a list"),
        ({"db": {"loans": {"L1": {"title": 3, "member_id": "M7"}}}}, DatabaseError, r"loans\['L1'\]\.title"),
        ({"db": {"books": {}}}, DatabaseError, "no table 'books'"),
    ],
)
def test_a_malformed_file_is_named_with_the_place(folder, files, error, text):
    write(folder, **files)
    with pytest.raises(error, match=text):
        load(folder)


def test_a_folder_without_the_files_says_what_is_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"lacks db\.json, tasks\.json, policy\.md; expected a folder with"):
        make(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        make(tmp_path / "absent")


def test_retail_takes_its_folder_from_the_environment(tmp_path, monkeypatch):
    write(tmp_path, db={"users": {}, "orders": {}, "products": {}}, tasks=[])
    (tmp_path / "policy.md").write_text("-")
    monkeypatch.setenv("SENTINEL_TAU2_DATA", str(tmp_path))
    assert make().dialect == "tau2"
    assert make(mode="sentinel").dialect == "sentinel"


def test_retail_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ConfigError, match="no mode 'tau3'; its modes: sentinel, tau2, v1"):
        make(mode="tau3")
    with pytest.raises(ConfigError, match=r"no option 'user'; its options: data, mode, .*users"):
        make(user=5)
    with pytest.raises(ConfigError, match="option 'users' is for generated data"):
        make(tmp_path, users=5)
    with pytest.raises(ConfigError, match="mode 'tau2' is for tau2-bench's data"):
        make(mode="tau2")
