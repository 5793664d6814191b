"""The `sentinel` command as people and programs use it: verbs, JSON, one-line errors, exit codes."""

import json
import subprocess
import sys
import textwrap

import pytest
from typer.testing import CliRunner

from sentinel_env.cli import app
from sentinel_env.tasks import load_tasks

VERBS = ["domains", "check", "play", "run", "score", "failures", "compare", "propose", "verify", "import"]


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SENTINEL_TAU2_DATA", raising=False)

    def run(*arguments, code=0, **options):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="sentinel", **options)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


def as_json(result):
    return json.loads(result.stdout)


def process(*arguments, cwd=None, **options):
    return subprocess.run([sys.executable, "-m", "sentinel_env", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, **options)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(sentinel, verb):
    assert verb in sentinel("--help").stdout
    assert "Usage: sentinel " + verb in sentinel(verb, "--help").stdout


def test_help_imports_nothing_heavy(tmp_path):
    code = "import sys; from sentinel_env.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path).stdout
    for module in ("torch", "transformers", "litellm", "pandas", "rich.progress", "sentinel_domains"):
        assert f"'{module}'" not in shown, module


def test_no_arguments_is_help_and_wrong_usage_is_two(sentinel):
    assert "Commands:" in sentinel(code=2).output
    assert "No such command 'fly'" in sentinel("fly", code=2).output
    assert "Missing argument" in sentinel("run", code=2).output
    assert "--trials" in sentinel("run", "library", "--trials", "0", code=2).output
    assert "--seed" in sentinel("run", "library", "--seed", "one", code=2).output


def test_domains_lists_what_is_installed_and_survives_a_broken_one(sentinel, monkeypatch):
    rows = {row["name"]: row for row in as_json(sentinel("domains", "--json"))}
    assert rows["library"] == {
        "name": "library",
        "from": "sentinel_domains.library:domain",
        "tools": 2,
        "records": {"loans": 2},
        "tasks": {"train": 1},
    }
    assert rows["retail"]["tools"] == 16
    monkeypatch.setenv("SENTINEL_TAU2_DATA", "nowhere")
    assert "nowhere is no folder" in sentinel("domains").stdout


def test_check_passes_a_whole_domain_and_refuses_a_broken_one_line_by_line(sentinel, tmp_path):
    assert as_json(sentinel("check", "library", "--json"))["problems"] == []
    (tmp_path / "broken_library.py").write_text(
        textwrap.dedent("""
            from dataclasses import replace
            from sentinel_domains.library import domain as library

            domain = replace(library, policy="", tasks=lambda: [*library.tasks(), *library.tasks()])
        """)
    )
    result = sentinel("check", "broken_library.py", code=1)
    problems = [line for line in result.stdout.splitlines() if line.startswith("problem: ")]
    assert problems == ["problem: the policy is empty", "problem: task id 'renew-dune' occurs twice"]
    assert len(as_json(sentinel("check", "broken_library.py", "--json", code=1))["problems"]) == 2


def test_run_then_score(sentinel, tmp_path):
    shown = as_json(sentinel("run", "library", "--trials", "3", "--json"))
    assert shown["run"] == "runs/library-scripted"
    assert (shown["splits"]["train"]["passed"], shown["splits"]["train"]["trajectories"]) == (3, 3)
    assert as_json(sentinel("score", "runs/library-scripted", "--json")) == shown
    assert as_json(sentinel("score", "runs/library-scripted/trajectories.jsonl", "--json"))["splits"] == shown["splits"]
    table = sentinel("score", "runs/library-scripted").stdout
    assert "Pass^3 %" in table
    assert "100.0 [" in table
    assert sorted(path.name for path in (tmp_path / "runs/library-scripted").iterdir()) == [
        "run.json",
        "summary.json",
        "trajectories.jsonl",
    ]


def test_scores_come_by_split_with_what_failed(sentinel):
    splits = as_json(sentinel("run", "retail", "--agent", "nothing", "--json"))["splits"]
    assert {split: score["trajectories"] for split, score in splits.items()} == {"dev": 40, "test": 100, "train": 100, "all": 240}
    assert all(score["passed"] == 0 and score["failed_checks"]["database"] > 0 for score in splits.values())
    assert "failed database" in sentinel("score", "runs/retail-nothing").stdout


def test_a_second_run_with_other_settings_does_not_overwrite_the_first(sentinel):
    sentinel("run", "library")
    error = sentinel("run", "library", "--seed", "1", code=1).stderr
    assert error == ("sentinel: runs/library-scripted holds another run (seed: it has 0, now 1); use a new folder to start anew\n")


def test_an_agent_and_a_user_of_ones_own(sentinel, tmp_path):
    (tmp_path / "my_sides.py").write_text(
        textwrap.dedent("""
            from sentinel_env import Message
            from sentinel_env.agents import say

            class Shrugging:
                name = "shrugging"

                def act(self, view):
                    return say("I cannot help.")

            class Leaving:
                name = "leaving"

                def reply(self, view):
                    return Message(role="user", content="###STOP###")

            leaving = Leaving()
            number = 3
        """)
    )
    sentinel("run", "library", "--agent", "my_sides:Shrugging", "--user", "my_sides:leaving", "--out", "mine")
    assert json.loads((tmp_path / "mine/run.json").read_text())["configuration"]["agent"] == "shrugging"
    assert "no agent 'my_sides:Nobody'" in sentinel("run", "library", "--agent", "my_sides:Nobody", code=1).stderr
    assert (
        "is a int; expected an object with a name and the method act(view)"
        in sentinel("run", "library", "--agent", "my_sides:number", code=1).stderr
    )


def test_the_pipeline_closes(sentinel, tmp_path):
    sentinel("run", "retail", "--split", "dev", "--agent", "nothing", "--out", "runs/base", "--json")
    (found,) = as_json(sentinel("failures", "runs/base", "--out", "failures.jsonl", "--json"))
    assert (found["failed"], found["trajectories"]) == (40, 40)
    assert "missing_write/cancel_pending_order" in {pattern["id"] for pattern in found["patterns"]}
    proposed = as_json(sentinel("propose", "failures.jsonl", "-n", "2", "--out", "new/proposals.jsonl", "--json"))
    assert proposed["proposals"] == 2 * len(found["patterns"])
    verified = as_json(sentinel("verify", "new/proposals.jsonl", "--out", "new/tasks.jsonl", "--json"))
    tasks = load_tasks(tmp_path / "new/tasks.jsonl")
    assert verified["accepted"] == len(tasks) > 0
    after = as_json(sentinel("run", "retail", "--tasks", "new/tasks.jsonl", "--json"))
    assert after["splits"]["train"]["passed"] == len(tasks)
    assert "gate" in sentinel("verify", "new/proposals.jsonl").stdout
    assert "failure pattern" in sentinel("propose", "failures.jsonl", "-n", "1", "--out", "again.jsonl").stdout


def test_propose_says_for_which_patterns_no_draft_makes_the_mistake(sentinel, tmp_path):
    spec = '{"id": "mute", "domain": "retail", "label": "text_and_call"}\n{"id": "card", "domain": "retail", "label": "missing_write"}\n'
    (tmp_path / "spec.jsonl").write_text(spec)
    result = sentinel("propose", "spec.jsonl", "-n", "1", "--out", "drafts.jsonl")
    assert "mute: its drafts give the opportunity, but no foil makes the mistake: text beside a call" in result.stderr


def test_failures_of_several_runs_in_one_world_are_taken_together(sentinel):
    sentinel("run", "library", "--agent", "nothing", "--out", "runs/one")
    sentinel("run", "library", "--agent", "nothing", "--out", "runs/two", "--seed", "1")
    (found,) = as_json(sentinel("failures", "runs/one", "runs/two", "--json"))
    pattern = next(pattern for pattern in found["patterns"] if pattern["label"] == "missing_write")
    assert pattern["errors"] == 2
    assert [evidence["trajectory"] for evidence in pattern["evidence"]] == ["one:renew-dune/0", "two:renew-dune/0"]


def test_recorded_results_are_imported_and_analysed_at_once(sentinel, shared):
    data = shared / "data"
    first = as_json(sentinel("import", "tau2", data / "trajectories/tau2_results_train.json", "--data", data / "tau2_retail", "--json"))
    second = as_json(
        sentinel("import", "tau-bench", data / "trajectories/agentrx_tau_retail.json", "--data", data / "tau2_retail", "--json")
    )
    assert first["compared"] == {"outputs": 548, "database verdicts": 71, "rewards": 71}
    assert second["compared"] == {"outputs": 531, "database verdicts": 0, "rewards": 64}
    assert first["differences"] == second["differences"] == []
    found = as_json(sentinel("failures", first["run"], second["run"], "--json"))
    assert [(run["failed"], run["trajectories"]) for run in found] == [(10, 71), (19, 65)]
    assert "65" in sentinel("score", second["run"]).stdout


def test_a_cut_off_file_is_imported_as_far_as_it_goes_and_says_so(sentinel, shared, tmp_path):
    text = (shared / "data/trajectories/agentrx_tau_retail.json").read_text()
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    result = sentinel("import", "tau-bench", "cut.json", "--data", shared / "data/tau2_retail", code=1)
    assert "not imported: cut.json is not JSON" in result.stderr
    assert "trajectories in runs/cut" in result.stdout


def test_play_lets_a_person_be_the_agent(sentinel):
    lines = ["May I have your card number?", "/tools", "/policy", "", "/find_loans member_id=M7"]
    lines += [
        "/renew_loan loan_id=L9",
        "/nonsense",
        "/renew_loan L1",
        '{"name": "renew_loan", "arguments": {"loan_id": "L1"}}',
        "Done, renewed for two weeks. Anything else?",
    ]
    shown = sentinel("play", "library", input="\n".join(lines) + "\n").stdout
    assert "user> Renew Dune for me." in shown
    assert "find_loans takes member_id: string" in shown
    assert "Never renew another member's loan." in shown
    assert "renew_loan> Error: no loan 'L9'" in shown
    assert "there is no 'nonsense'" in shown
    assert "'L1' is no name=value" in shown
    assert "The conversation ended (user_stop). Passed." in shown


@pytest.mark.parametrize("lines", ["/quit\n", ""])
def test_play_can_be_left(sentinel, lines):
    assert "Not passed:\n  database: " in sentinel("play", "library", input=lines).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "retial"], "no domain 'retial'; did you mean 'retail'?"),
        (["run", "nothing_here:domain"], "no module 'nothing_here'"),
        (["check", "missing.py"], "no domain file 'missing.py'"),
        (["run", "library", "--split", "test"], "domain library has no split 'test'; its splits: train"),
        (
            ["run", "library", "--agent", "gpt"],
            "no agent 'gpt'; expected scripted, nothing or module:attribute; a model is named with --model",
        ),
        (["run", "library", "--user", "gpt"], "no user 'gpt'; expected scripted or module:attribute"),
        (["run", "library", "--tasks", "missing.jsonl"], "cannot read tasks from missing.jsonl"),
        (["run", "library", "--tasks", "other.jsonl"], "other.jsonl, line 1: id: Field required"),
        (["run", "library", "-o", "users"], "--option takes NAME=VALUE, found 'users'"),
        (["run", "library", "-o", "users=3"], "domain 'library' takes no options, found users"),
        (["run", "retail", "--data", "missing"], "missing is no folder; expected a folder with db.json, tasks.json, policy.md"),
        (["run", "library", "--out", "other.jsonl"], "cannot keep a run in other.jsonl"),
        (["score", "missing"], "cannot read trajectories from missing"),
        (["score", "other.jsonl"], "other.jsonl, line 1: id: Field required"),
        (["score", "empty.jsonl"], "empty.jsonl holds no trajectory yet"),
        (["failures", "missing"], "cannot read trajectories from missing"),
        (["failures", "empty.jsonl"], "empty.jsonl holds no trajectory yet"),
        (["failures", "other.jsonl"], "other.jsonl, line 1: id: Field required"),
        (["compare", "missing", "empty.jsonl"], "cannot read trajectories from missing"),
        (["propose", "missing.jsonl", "--out", "out.jsonl"], "cannot read failure patterns from missing.jsonl"),
        (["propose", "empty.jsonl", "--out", "out.jsonl"], "empty.jsonl holds no failure pattern"),
        (["verify", "other.jsonl"], "other.jsonl, line 1: pattern_id: Field required"),
        (["import", "tau2", "missing.json"], "cannot read results from missing.json"),
        (["import", "tau-bench", "other.jsonl"], "no results file of tau-bench"),
        (["play", "library", "--task", "none"], "domain library has no task 'none'; such as renew-dune"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_one(sentinel, tmp_path, arguments, message):
    (tmp_path / "other.jsonl").write_text('{"something": "else"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    result = sentinel(*arguments, code=1)
    assert result.stderr.startswith("sentinel: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_real_process_prints_one_line_and_no_traceback(tmp_path):
    result = process("run", "retial", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert process("--version", cwd=tmp_path).stdout.strip() == "0.1.0"
    assert process("run", cwd=tmp_path).returncode == 2


def test_a_domain_file_beside_the_caller_works_in_a_real_process(tmp_path):
    (tmp_path / "my_library.py").write_text("from sentinel_domains.library import domain\n")
    result = process("run", "my_library:domain", "--json", cwd=tmp_path)
    assert json.loads(result.stdout)["splits"]["train"]["passed"] == 1, result.stderr
    again = process("score", "runs/library-scripted", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["splits"]["train"]["passed"] == 1, again.stderr


def test_a_verb_of_an_extra_says_what_to_install(tmp_path):
    """As on a machine without the training extra: its libraries cannot be imported."""
    code = textwrap.dedent("""
        import sys
        for name in ("torch", "transformers", "trl", "datasets"):
            sys.modules[name] = None
        from sentinel_env.cli import main
        main(sys.argv[1:])
    """)
    arguments = ["run", "library", "--agent", "hf:somewhere"]
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert "which is not installed; pip install 'sentinel-env[train]'" in result.stderr
    assert result.stderr.count("\n") == 1


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupt_says_so(sentinel, monkeypatch):
    monkeypatch.setattr("sentinel_env.domain.list_domains", interrupt)
    assert "sentinel: stopped" in sentinel("domains", code=130).stderr


def test_an_interrupt_of_another_packages_verb_says_so(sentinel, monkeypatch):
    pytest.importorskip("trl", reason="the train extra is not installed")
    monkeypatch.setattr("sentinel_train.loop.run_loop", interrupt)
    assert "sentinel: stopped" in sentinel("loop", code=130).stderr
