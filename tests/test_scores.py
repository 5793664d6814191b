"""The score table: splits, trajectories in which the user was at fault, what both sides took, and the judge's columns."""

import asyncio
import json
import re

import pytest
from test_judge import NO, POLITE, YES, attempt
from typer.testing import CliRunner

from sentinel_env import Message, load_domain
from sentinel_env.agents import ScriptedAgent
from sentinel_env.cli import app
from sentinel_env.llm import Model
from sentinel_env.llm_user import LLMUser
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.runner import arun_tasks
from sentinel_env.scores import score, score_by_split
from sentinel_env.trajectory import read_trajectories, save_trajectories

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")

WRONG = Message(role="user", content="It's L7.", problem="the user says 'l7', which its scenario does not hold")


def made(name, *, trial=0, passed=True, fault=False, split="test", error=None, **usage):
    """A trajectory that passed or failed, in which the user was marked or not."""
    found = attempt(name, trial=trial, ended=passed, error=error, asserts=())
    messages = (*found.messages, WRONG) if fault else found.messages
    return found.model_copy(update={"messages": messages, "task": found.task.model_copy(update={"split": split}), "usage": usage})


@pytest.fixture
def library():
    return load_domain("library")


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="sentinel")
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


# the user's faults


def test_trajectories_with_a_marked_user_are_left_out_whether_they_passed_or_failed(library):
    found = score(
        library,
        [
            *(made("a", trial=at, passed=at < 2) for at in range(4)),
            made("b", trial=0, passed=False, fault=True),
            made("b", trial=1, passed=True, fault=True),
            made("b", trial=2, passed=True),
            made("b", trial=3, passed=False, error="ModelError: gone"),
        ],
    )
    assert (found.pass_hat[0].value, found.pass_hat[0].trials, found.excluded) == (pytest.approx((1 / 2 + 2 / 3) / 2), 7, 1)
    assert found.user_faults == 2
    (one,) = found.without_user_faults
    assert (one.value, one.trials, one.tasks) == (0.75, 5, 2)


def test_a_task_of_which_only_faults_are_left_is_in_no_variant(library):
    found = score(library, [made("a"), made("b", passed=False, fault=True)])
    assert (found.pass_hat[0].value, found.pass_hat[0].tasks) == (0.5, 2)
    assert (found.without_user_faults[0].value, found.without_user_faults[0].tasks) == (1.0, 1)
    assert score(library, [made("b", fault=True)]).without_user_faults == ()


def test_a_mistake_of_the_agent_is_no_fault_of_the_user(library):
    unreadable = Message(role="assistant", content="{", problem="the tool call is not valid JSON")
    found = made("a")
    found = score(library, [found.model_copy(update={"messages": (*found.messages, unreadable)})])
    assert (found.user_faults, found.without_user_faults) == (0, ())


def test_the_table_names_the_faults_and_says_how_many_tasks_are_left(sentinel, library):
    save_trajectories("r.jsonl", [made("a"), made("b", passed=False, fault=True), made("c", split="train")])
    lines = {line.split("  ")[0]: line.split() for line in sentinel("score", "r.jsonl").stdout.splitlines()}
    assert lines["user at fault"][-3:] == ["1", "0", "1"]
    assert [cell for cell in lines["Pass^1 % without these"] if "." in cell and "[" not in cell and "]" not in cell] == ["100.0"] * 3
    assert lines["tasks without these"][-3:] == ["1", "1", "2"]
    save_trajectories("s.jsonl", [made("a")])
    assert "fault" not in sentinel("score", "s.jsonl").stdout


# what it took


def test_tokens_and_cost_are_summed_by_side_over_those_that_have_them(library):
    used = {"agent_calls": 4, "agent_prompt_tokens": 1000, "agent_completion_tokens": 50}
    rows = [
        made("a", **used, agent_cost=0.25, user_calls=2, user_prompt_tokens=300, user_completion_tokens=20),
        made("b", passed=False, **used, agent_cost=0.5),
        made("c", **used),
        made("d", split="train"),
    ]
    scores = score_by_split(library, rows)
    agent, user = scores["test"].usage["agent"], scores["test"].usage["user"]
    assert (agent.trajectories, agent.calls, agent.prompt_tokens, agent.completion_tokens) == (3, 12, 3000, 150)
    assert (agent.cost, agent.with_cost) == (0.75, 2)
    assert (user.trajectories, user.prompt_tokens, user.cost, user.with_cost) == (1, 300, None, 0)
    assert scores["train"].usage == {}
    assert scores["all"].usage == scores["test"].usage


def test_the_table_says_where_a_cost_is_partly_known(sentinel):
    save_trajectories("r.jsonl", [made("a", agent_calls=1, agent_cost=0.25), made("b", agent_calls=1)])
    table = sentinel("score", "r.jsonl").stdout
    assert "$0.2500 (known of 1 of 2)" in table
    assert "user's" not in table


# the judge on the command line


def test_score_with_a_judge_keeps_its_verdicts_beside_the_run_and_asks_once(sentinel, tmp_path):
    run = tmp_path / "runs"
    run.mkdir()
    save_trajectories(run / "trajectories.jsonl", [attempt("a"), attempt("b", said="Hm."), attempt("c", said="Well.")])
    script = lambda request: "hm" if "Hm." in str(request) else NO if "Well." in str(request) else YES  # noqa: E731
    with ModelServer(script, models=["judge-1"]) as server:
        arguments = ("score", "runs", "--judge", "judge-1", "--judge-base-url", server.url, "--json")
        first = json.loads(sentinel(*arguments).stdout)
        asked = len(server.requests)
        again = json.loads(sentinel(*arguments).stdout)
        assert len(server.requests) == asked == 3
    split = first["splits"]["train"]
    assert again["splits"] == first["splits"]
    assert (first["usage"]["judge"]["calls"], again["usage"]["judge"]["calls"]) == (3, 0)
    assert split["pass_hat"][0]["value"] == 1.0
    judged = split["judged"]
    assert (judged["met"], judged["unmet"], judged["not_judged"], judged["left_out"]) == (1, 1, {"unreadable": 1}, 1)
    assert judged["pass_hat"][0]["value"] == 0.5
    rows = [json.loads(line) for line in (run / "judgements.jsonl").read_text().splitlines()]
    assert {(row["trajectory"], row["assertion"], row["model"]) for row in rows} == {(f"{name}/0", POLITE, "judge-1") for name in "abc"}
    plain = sentinel("score", "runs").stdout
    assert "without the judge model" in plain
    assert "judged" not in plain.replace("without the judge model", "")


def test_the_table_has_the_judge_in_rows_of_its_own(sentinel):
    save_trajectories("r.jsonl", [attempt("a"), attempt("b", said="Hm.")])
    with ModelServer(lambda request: "hm" if "Hm." in str(request) else YES, models=["{judge}"]) as server:
        table = sentinel("score", "r.jsonl", "--judge", "{judge}", "--judge-base-url", server.url).stdout
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in table.splitlines() if re.search(r"\S\s{2,}\S", line))
    assert rows["assertions met"].strip() == "1"
    assert rows["not judged (unreadable)"].strip() == "1"
    assert rows["left out (not judged)"].strip() == "1"
    assert rows["Pass^1 % judged by {judge}"].startswith("100.0 [")
    assert "without the judge model" not in table
    assert "unknown; give --judge-prices" in table


def test_a_judge_that_fails_is_said_and_the_rest_is_printed(sentinel):
    save_trajectories("r.jsonl", [attempt("a"), attempt("b", said="Hm.")])
    script = lambda request: Reply("overloaded", status=503, retry_after=0) if "Hm." in str(request) else YES  # noqa: E731
    with ModelServer(script, models=["judge-1"]) as server:
        result = sentinel("score", "r.jsonl", "--judge", "judge-1", "--judge-base-url", server.url, code=1)
    assert "not judged (server)" in result.stdout
    assert "1 questions to the judge got no answer, 1 of them by trouble of the kind 'server'" in result.stderr
    assert "the same command again asks what is open" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-cost", "1"], "--max-cost goes with --judge MODEL"),
        (["--judge-base-url", "http://127.0.0.1:1/v1"], "--judge-base-url goes with --judge MODEL"),
        (["--judge", "j", "--judge-base-url", "http://127.0.0.1:1/v1", "--judge-prices", "x"], "--judge-prices takes two numbers"),
        (["--judge", "j", "--judge-base-url", "http://127.0.0.1:1/v1", "--max-cost", "1"], "give --judge-prices IN,OUT"),
        (["--judge", "j", "--judge-base-url", "http://127.0.0.1:9/v1"], "connection refused"),
        (["--judge", "j", "--judge-base-url", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_one_line(sentinel, arguments, message):
    save_trajectories("r.jsonl", [attempt("a")])
    result = sentinel("score", "r.jsonl", *arguments, code=1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_run_without_assertions_is_not_judged_silently(sentinel):
    save_trajectories("r.jsonl", [made("a")])
    result = sentinel("score", "r.jsonl", "--judge", "j", "--judge-base-url", "http://127.0.0.1:9/v1", code=1)
    assert "no task of r.jsonl has natural-language assertions in its reward basis" in result.stderr


# from a real run


def test_a_model_that_makes_things_up_as_the_user_is_left_out_of_the_variant_and_its_tokens_are_counted(library, tmp_path):
    """The user names a loan that its scenario does not hold, and again after the guard's complaint."""
    task = library.split()[0]

    async def run(server):
        async with Model("tiny", base_url=server.url, prices=(1, 1)) as model:
            settings = {"trials": 2, "max_steps": 3, "out": tmp_path / "run"}
            return await arun_tasks(library, [task], ScriptedAgent(), LLMUser(model), **settings)

    with ModelServer(["Renew Dune.", "My card number is M8123, the code is ABC-99871."]) as server:
        asyncio.run(run(server))
    found = score(library, read_trajectories(tmp_path / "run"))
    assert (found.trajectories, found.user_faults, found.without_user_faults) == (2, 2, ())
    assert found.usage["user"].calls >= 4
    assert found.usage["user"].cost > 0
    assert "agent" not in found.usage
