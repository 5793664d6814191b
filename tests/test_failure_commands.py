"""What a person sees of failures: the report, one run explained, two runs compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sentinel_env import Domain, Episode, Task, ToolCall, drive, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.cli import app
from sentinel_env.failures import Memory, mine
from sentinel_env.failures.explain import explain
from sentinel_env.trajectory import Trajectory, record, save_trajectories
from sentinel_env.users import ScriptedUser


def drop_the_last_write(domain: Domain, task: Task) -> Sequence[ToolCall]:
    tools = domain.tools_by_name
    last = max((at for at, call in enumerate(task.criteria.actions) if tools[call.name].writes), default=None)
    return [call for at, call in enumerate(task.criteria.actions) if at != last]


def play(plan: Callable[[Domain, Task], Sequence[ToolCall]], count: int = 40, **style: bool) -> list[Trajectory]:
    domain = load_domain("retail")
    agent = ScriptedAgent(plan=plan, **style)
    tasks = domain.split("dev")[:count]
    return [record(drive(Episode(domain, task, max_steps=60), agent, ScriptedUser()), user="scripted") for task in tasks]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_trajectories(folder / "bad.jsonl", play(drop_the_last_write))
    save_trajectories(folder / "good.jsonl", play(lambda domain, task: task.criteria.actions))
    return folder


@pytest.fixture
def sentinel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(folder)

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exit_code == code, result.output
        return result

    return run


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_the_report_says_what_recurs_and_fits_a_hundred_columns(sentinel: Callable[..., Result]) -> None:
    text = sentinel("failures", "bad.jsonl").stdout
    lines = text.splitlines()
    assert "failed" in lines[0]
    assert "whose fault: agent" in lines[1]
    assert "missing_write/" in text
    assert max(map(len, lines)) <= 100


def test_a_run_without_failures_says_so(sentinel: Callable[..., Result]) -> None:
    assert sentinel("failures", "good.jsonl").stdout.splitlines()[-1] == "nothing went wrong"


def test_why_names_the_change_that_would_have_passed(sentinel: Callable[..., Result]) -> None:
    (failed, *_) = [each for each in play(drop_the_last_write, 5) if each.changes != load_domain("retail").reference_changes(each.task)]
    text = sentinel("failures", "bad.jsonl", "--why", failed.id).stdout
    dropped = [call for call in failed.task.criteria.actions if load_domain("retail").tools_by_name[call.name].writes][-1]
    assert f"{failed.id} failed" in text
    assert f"call {dropped.name}(" in text
    assert "executing the writes so leads to the reference's state" in text
    assert "It was decided at message" in text
    assert "What is otherwise in the database:" in text
    assert max(map(len, text.splitlines())) <= 100
    assert as_json(sentinel("failures", "bad.jsonl", "--why", failed.id, "--json"))["attribution"]["passed"] is False


def test_why_knows_what_was_meant(sentinel: Callable[..., Result]) -> None:
    result = sentinel("failures", "bad.jsonl", "--why", "dev-00/0", code=1)
    assert result.stderr.startswith("sentinel: no trajectory 'dev-00/0' in bad.jsonl; did you mean 'dev-0")
    assert result.stderr.count("\n") == 1


def test_differences_lead_to_the_leaf(folder: Path) -> None:
    domain = load_domain("retail")

    def elsewhere(domain: Domain, task: Task) -> Sequence[ToolCall]:
        return [
            call.model_copy(update={"arguments": {**call.arguments, "city": "Nowhere"}}) if "city" in call.arguments else call
            for call in task.criteria.actions
        ]

    runs = [each for each in play(elsewhere, proposes=False) if any("city" in call.arguments for call in each.task.criteria.actions)]
    explanation = next(found for each in runs if (found := explain(domain, each)).differences)
    wrong = [difference for difference in explanation.differences if difference.place.endswith(".city")]
    assert wrong
    assert {difference.found for difference in wrong} <= {"Nowhere"}


def test_compare_pairs_shared_tasks_and_says_what_moved(sentinel: Callable[..., Result]) -> None:
    found = as_json(sentinel("compare", "bad.jsonl", "good.jsonl", "--json"))
    assert found["shared_tasks"] == 40
    assert found["passes"][0]["difference"]["low"] > 0
    moves = {move["moved"] for move in found["patterns"]}
    assert moves <= {"fewer", "same"}
    assert "fewer" in moves
    text = sentinel("compare", "bad.jsonl", "good.jsonl").stdout
    assert "40 shared tasks" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_run_compared_with_itself_moved_nowhere(sentinel: Callable[..., Result]) -> None:
    found = as_json(sentinel("compare", "bad.jsonl", "bad.jsonl", "--json"))
    assert {(move["difference"], move["moved"]) for move in found["patterns"]} == {(0.0, "same")}


def test_runs_of_two_domains_are_not_compared(sentinel: Callable[..., Result], folder: Path) -> None:
    domain = load_domain("library")
    save_trajectories(folder / "library.jsonl", [record(drive(Episode(domain, domain.split()[0]), ScriptedAgent(), ScriptedUser()))])
    assert "only runs in one domain can be compared" in sentinel("compare", "bad.jsonl", "library.jsonl", code=1).stderr


def test_what_cannot_be_read_is_said_and_the_rest_is_analysed(sentinel: Callable[..., Result], folder: Path) -> None:
    text = (folder / "bad.jsonl").read_text()
    lines = text.splitlines(keepends=True)
    (folder / "torn.jsonl").write_text("".join([*lines[:3], '{"nothing": 1}\n', *lines[3:6]]) + lines[6][: len(lines[6]) // 2])
    result = sentinel("failures", "torn.jsonl", code=1)
    assert "torn.jsonl, line 4: id: Field required" in result.stderr
    assert "torn.jsonl, line 8: it breaks off in the middle" in result.stderr
    assert "of 6 failed" in result.stdout
    (found,) = as_json(sentinel("failures", "torn.jsonl", "--json", code=1))
    assert len(found["problems"]) == 2


def test_states_come_from_a_loops_memory(sentinel: Callable[..., Result], folder: Path) -> None:
    memory = Memory()
    patterns = mine(load_domain("retail"), play(drop_the_last_write)).patterns
    memory.observe(1, patterns)
    memory.save(folder / "memory.jsonl")
    (found,) = as_json(sentinel("failures", "bad.jsonl", "--memory", "memory.jsonl", "--json"))
    assert {pattern["state"] for pattern in found["patterns"]} == {"persistent"}
    (good,) = as_json(sentinel("failures", "good.jsonl", "--memory", "memory.jsonl", "--json"))
    assert [pattern["errors"] for pattern in good["patterns"]] == [0] * len(patterns)
    assert "seen in earlier rounds" in sentinel("failures", "good.jsonl", "--memory", "memory.jsonl").stdout
