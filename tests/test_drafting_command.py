"""What `sentinel propose --model` does with a model: asks it, writes what holds, says what became of the rest."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import typer
from post_office import domain as post
from test_drafting import STREETS, good
from test_paraphrasing import polite
from typer.testing import CliRunner

from sentinel_env import ConfigError, load_domain
from sentinel_env.cli import app
from sentinel_env.commands import drafting
from sentinel_env.failures import FailurePattern, save_patterns
from sentinel_env.llm import Model
from sentinel_env.llm_budget import Budget
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.proposals import load_proposals

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")

SEALS = FailurePattern(id="seals", domain="post", label="missing_write", tools=("readdress",))


def propose(script: Any, out: Path, *, patterns: Any = (STREETS,), world: Any = post, as_json: bool = False, **more: Any) -> None:
    options = {"n": 2, "seed": 0, "split": "train", "paraphrase": False} | {
        name: more.pop(name) for name in ("paraphrase",) if name in more
    }
    with ModelServer(script) as server:
        drafting.propose(Model("tiny", base_url=server.url, attempts=1, **more), world, patterns, out, as_json=as_json, **options)


def test_what_holds_is_written_and_the_rest_is_counted_with_its_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turn = iter(range(99))
    propose(lambda request: "no" if next(turn) % 4 else good(request), tmp_path / "new" / "proposals.jsonl", patterns=(STREETS, SEALS))
    written = load_proposals(tmp_path / "new" / "proposals.jsonl")
    assert {proposal.model for proposal in written} == {"tiny"}
    said = capsys.readouterr().out
    assert "refused for good: " in said
    assert "x answer: it does not fit the schema: Invalid JSON" in said
    assert f"{len(written)} proposals in " in said
    assert "calls, " in said
    assert "tokens at unknown cost" in said


def test_the_programs_drafts_come_in_the_models_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pattern = FailurePattern(id="reasons", domain="retail", label="wrong_argument", tools=("cancel_pending_order",), arguments=("reason",))
    propose(polite, tmp_path / "out", patterns=(pattern,), world=load_domain("retail"), paraphrase=True)
    written = load_proposals(tmp_path / "out")
    assert len(written) == 2
    assert any(proposal.model == "tiny" and "Thank you so much." in proposal.draft.scenario.goal for proposal in written)


def test_a_budget_that_is_spent_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    propose(good, tmp_path / "out", prices=(1.0, 1.0), budget=Budget(max_cost=0.001), as_json=False)
    assert "ended by the budget: model tiny: the next call could bring the cost" in capsys.readouterr().out
    assert load_proposals(tmp_path / "out") == ()


def test_a_model_that_is_not_there_ends_with_1_after_writing_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turn = iter(range(99))
    with pytest.raises(typer.Exit) as ended:
        propose(lambda request: good(request) if next(turn) < 2 else Reply("gone", status=503), tmp_path / "out", patterns=(STREETS, SEALS))
    assert ended.value.exit_code == 1
    assert len(load_proposals(tmp_path / "out")) >= 1
    assert "not all were asked for: model tiny: HTTP 503: gone" in capsys.readouterr().err


def test_the_outcome_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    propose(good, tmp_path / "out", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["by_pattern"] == {"streets": found["proposals"]}
    assert found["asked"][0]["usage"]["calls"] >= 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"base_url": "http://localhost/v1"}, "--base-url needs a model: --model NAME"),
        ({"paraphrase": True}, "--paraphrase needs a model"),
        ({"name": "tiny", "base_url": "http://localhost/v1", "prices": "cheap"}, "--prices takes two numbers"),
        ({"name": "tiny", "base_url": "http://localhost/v1", "max_cost": 1.0}, "no price is known for model 'tiny'"),
    ],
)
def test_options_that_do_not_go_together_are_errors(options: dict[str, Any], says: str) -> None:
    given = {"name": None, "base_url": None, "max_cost": None, "prices": None, "paraphrase": False} | options
    with pytest.raises(ConfigError, match=says):
        drafting.choose_model(**given)


def test_without_a_model_the_program_writes() -> None:
    assert drafting.choose_model(None, None, None, None, False) is None


def test_an_interrupt_leaves_what_holds_in_the_file(tmp_path: Path) -> None:
    def script(request: Any) -> Any:
        asked = next(turn)
        if asked < 2:
            return good(request)
        if asked == 2:  # once: a second interrupt would stop the tests
            threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
        return Reply(fault="hang")

    turn = iter(range(99))
    with pytest.raises(KeyboardInterrupt):
        propose(script, tmp_path / "out", patterns=(STREETS, SEALS))
    assert len(load_proposals(tmp_path / "out")) >= 1


def test_the_command_asks_the_model_and_its_file_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_patterns("failures.jsonl", [STREETS])
    world = ["--domain", str(Path(__file__).parent / "post_office.py")]
    with ModelServer(good) as server:
        asking = ["propose", "failures.jsonl", "-n", "3", "--out", "new.jsonl", "--model", "tiny", "--base-url", server.url, *world]
        told = CliRunner().invoke(app, asking)
    assert told.exit_code == 0, told.output
    checked = CliRunner().invoke(app, ["verify", "new.jsonl", "--out", "tasks.jsonl", *world])
    assert checked.exit_code == 0, checked.output
    number = len(load_proposals("new.jsonl"))
    assert f"{number} of {number} accepted" in checked.output
