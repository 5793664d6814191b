"""`sentinel verify`: proposals through the gates, certified tasks through them again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sentinel_env import load_domain, load_tasks, save_tasks
from sentinel_env.cli import app
from sentinel_env.failures import FailurePattern
from sentinel_env.generation import propose_tasks
from sentinel_env.proposals import load_proposals, save_proposals
from sentinel_env.verification import GATES

Run = Callable[..., Any]


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in a folder that holds eight proposals."""
    monkeypatch.chdir(tmp_path)
    retail = load_domain("retail")
    pattern = FailurePattern(id="reason", domain="retail", label="wrong_argument", tools=("cancel_pending_order",), arguments=("reason",))
    save_proposals("proposals.jsonl", propose_tasks(retail, pattern, n=8))

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, ["verify", *arguments], prog_name="sentinel")
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


def as_json(result: Any) -> Any:
    return json.loads(result.stdout)


def test_accepted_tasks_carry_certificates_that_hold(sentinel: Run) -> None:
    found = as_json(sentinel("proposals.jsonl", "--out", "tasks.jsonl", "--json"))
    tasks = load_tasks("tasks.jsonl")
    assert found["accepted"] == len(tasks) > 4
    assert all(task.certificate is not None and task.certificate.pattern == "reason" for task in tasks)
    assert found["unchecked"] == {"oracle": len(tasks), "pilot": len(tasks)}
    again = as_json(sentinel("tasks.jsonl", "--json"))
    assert (again["holds"], again["changed"], again["fails"], again["uncertified"]) == (len(tasks), 0, 0, 0)
    assert again["refused"] == {}
    assert [row["state"] for row in again["tasks"]] == ["holds"] * len(tasks)


def test_the_gates_are_counted(sentinel: Run) -> None:
    Path("twice.jsonl").write_text(2 * Path("proposals.jsonl").read_text())
    shown = sentinel("twice.jsonl", "--quick").stdout
    rows = {line[:13].strip(): line[13:].split() for line in shown.splitlines()}
    assert rows["gate"] == ["refused", "unchecked"]
    assert all(gate in rows for gate in GATES)
    assert int(rows["new"][0]) >= 4
    assert "new: the same as task" in shown


def test_a_task_that_was_changed_since_is_told_from_one_that_fails(sentinel: Run) -> None:
    sentinel("proposals.jsonl", "--out", "tasks.jsonl")
    first, second, third, *_ = load_tasks("tasks.jsonl")
    reads = tuple(call for call in second.criteria.actions if call.name != "cancel_pending_order")
    spoilt = second.model_copy(update={"criteria": second.criteria.model_copy(update={"actions": reads, "communicate": ()})})
    save_tasks("mixed.jsonl", [first.model_copy(update={"id": "other"}), spoilt, third.model_copy(update={"certificate": None})])
    found = as_json(sentinel("mixed.jsonl", "--json", "--out", "kept.jsonl", code=1))
    assert [(row["id"], row["state"]) for row in found["tasks"]] == [
        ("other", "changed"),
        (second.id, "fails"),
        (third.id, "uncertified"),
    ]
    assert found["tasks"][0]["reason"] == "the task or the database was changed since"
    assert found["tasks"][1]["reason"].startswith("the task or the database was changed since; no longer passes ")
    assert "1 changed, 1 fails, 1 uncertified" in sentinel("mixed.jsonl", code=1).stdout
    assert [task.id for task in load_tasks("kept.jsonl")] == ["other"]
    assert as_json(sentinel("kept.jsonl", "--json"))["holds"] == 1  # with a certificate of its own


def test_tasks_without_certificates_claim_nothing_that_could_fail(sentinel: Run) -> None:
    save_tasks("tasks.jsonl", load_domain("retail").split("dev")[:3])
    assert "3 tasks: 0 holds, 0 changed, 0 fails, 3 uncertified" in sentinel("tasks.jsonl").stdout


def test_a_file_of_both_kinds_is_an_error_that_names_the_line(sentinel: Run) -> None:
    sentinel("proposals.jsonl", "--out", "tasks.jsonl")
    Path("both.jsonl").write_text(Path("tasks.jsonl").read_text() + Path("proposals.jsonl").read_text())
    line = len(load_tasks("tasks.jsonl")) + 1
    assert f"both.jsonl, line {line}: a proposal among tasks; keep them in files of their own" in sentinel("both.jsonl", code=1).output


def test_an_empty_file_is_an_error(sentinel: Run) -> None:
    Path("empty.jsonl").write_text("")
    assert "empty.jsonl holds no proposal" in sentinel("empty.jsonl", code=1).output


def test_what_the_pilot_never_passes_is_deferred_and_kept(sentinel: Run) -> None:
    found = as_json(sentinel("proposals.jsonl", "--pilot", "nothing", "--trials", "2", "--deferred", "later.jsonl", "--json"))
    later = load_proposals("later.jsonl")
    assert (found["accepted"], found["deferred"]) == (0, len(later))
    assert later
    tried = as_json(
        sentinel("later.jsonl", "--pilot", "scripted", "--oracle", "scripted", "--trials", "3", "--out", "tasks.jsonl", "--json")
    )
    assert (tried["accepted"], tried["deferred"], tried["unchecked"]) == (len(later), 0, {})
    certificates = [task.certificate for task in load_tasks("tasks.jsonl")]
    assert [(each.pass_rate, each.trials) for each in certificates if each] == [(1.0, 3)] * len(later)


def test_a_place_for_what_is_deferred_needs_a_pilot(sentinel: Run) -> None:
    assert "--deferred goes with --pilot" in sentinel("proposals.jsonl", "--deferred", "later.jsonl", code=1).output
