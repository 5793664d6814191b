"""benchmarks/passk.py: one row for each run and split, and only the columns that a run needs."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from test_scores import made

from sentinel_env.trajectory import save_trajectories

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "passk.py"


@pytest.fixture
def passk(tmp_path, monkeypatch, capsys):
    """Run the script's main in an empty folder."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("passk", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["passk.py", *arguments])
        module.main()
        return capsys.readouterr().out

    return run


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_each_run_and_split_is_a_row(passk):
    rows = [made("a", trial=at, passed=at < 2) for at in range(4)]
    save_trajectories("one.jsonl", rows)
    save_trajectories("two.jsonl", [*rows, made("b", split="train"), made("c", error="ModelError: gone")])
    head, _, *body = cells(passk("one.jsonl", "two.jsonl"))
    assert head == ["run", "split", "tasks", "trials", "lost to infrastructure", "Pass^1, %", "Pass^2, %", "Pass^4, %"]
    assert [row[:5] for row in body] == [
        ["one.jsonl", "test", "1", "4", "-"],
        ["two.jsonl", "test", "2", "4", "1"],
        ["two.jsonl", "train", "1", "1", "-"],
        ["two.jsonl", "all", "3", "5", "1"],
    ]
    assert body[0][5].startswith("50.0 [")
    assert body[0][7].startswith("0.0 [")
    assert body[2][6] == "-"


def test_faults_and_cost_have_columns_where_a_run_has_them(passk):
    used = {"agent_calls": 2, "agent_prompt_tokens": 1500, "agent_completion_tokens": 20, "agent_cost": 0.5}
    save_trajectories("r.jsonl", [made("a", **used), made("b", passed=False, fault=True, **used), made("c", agent_calls=1)])
    head, _, row = cells(passk("r.jsonl"))
    found = dict(zip(head, row, strict=True))
    assert found["user at fault"] == "1"
    assert found["Pass^1, %"].startswith("66.7 [")
    assert found["Pass^1 without, %"].startswith("100.0 [")
    assert found["agent's tokens"] == "3,040"
    assert found["agent's cost"] == "$1.0000 ($0.5000 a trial, known of 2 of 3)"
    assert "user's cost" not in head


def test_json_has_everything_and_a_missing_run_is_one_line(passk):
    save_trajectories("r.jsonl", [made("a")])
    (row,) = json.loads(passk("r.jsonl", "--json"))
    assert (row["run"], row["split"], row["passed"], row["user_faults"]) == ("r.jsonl", "test", 1, 0)
    with pytest.raises(SystemExit, match="passk: cannot read trajectories from missing"):
        passk("missing")
