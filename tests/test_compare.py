"""`sentinel compare` of recorded runs: flipped tasks in both directions, runs that cross two agents with two users, and odd input."""

import json

import pytest
from test_scores import made
from typer.testing import CliRunner

from sentinel_env.cli import app
from sentinel_env.trajectory import save_trajectories


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="sentinel")
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


def recorded(file, passes, *, agent="a", user="scripted", trials=4):
    """A run in which each task passes so many of its trials."""
    rows = [made(task, trial=trial, passed=trial < count) for task, count in passes.items() for trial in range(trials)]
    save_trajectories(file, [row.model_copy(update={"agent": agent, "user": user}) for row in rows])


def test_flipped_tasks_are_told_in_both_directions_those_that_changed_most_first(sentinel):
    recorded("before.jsonl", {"same": 2, "rose": 0, "rose-a-bit": 1, "fell": 4, "gone": 1})
    recorded("after.jsonl", {"same": 2, "rose": 4, "rose-a-bit": 2, "fell": 1, "new": 3})
    found = json.loads(sentinel("compare", "before.jsonl", "after.jsonl", "--json").stdout)
    moves = {name: [(each["task"], each["before"], each["after"]) for each in found[name]] for name in ("gained", "lost")}
    assert moves["gained"] == [("rose", [0, 4], [4, 4]), ("rose-a-bit", [1, 4], [2, 4])]
    assert moves["lost"] == [("fell", [4, 4], [1, 4])]
    difference = found["passes"][0]["difference"]
    assert (difference["value"], difference["tasks"]) == (0.125, 4)
    assert difference["low"] < 0.125 < difference["high"]
    text = sentinel("compare", "before.jsonl", "after.jsonl").stdout
    assert "gained 2        rose:0/4>4/4, rose-a-bit:1/4>2/4" in text
    assert "lost 1          fell:4/4>1/4" in text
    assert "same 1" in text
    assert "variance" not in text


def test_trials_of_unequal_number_are_compared_by_share(sentinel):
    recorded("before.jsonl", {"a": 1, "b": 1}, trials=2)
    recorded("after.jsonl", {"a": 2, "b": 3}, trials=4)
    found = json.loads(sentinel("compare", "before.jsonl", "after.jsonl", "--json").stdout)
    assert [each["task"] for each in found["gained"]] == ["b"]
    assert found["lost"] == []


def test_many_flipped_tasks_fit_a_hundred_columns(sentinel):
    names = [f"a-rather-long-name-of-a-task-{at}" for at in range(40)]
    recorded("before.jsonl", dict.fromkeys(names, 0), trials=1)
    recorded("after.jsonl", dict.fromkeys(names, 1), trials=1)
    text = sentinel("compare", "before.jsonl", "after.jsonl").stdout
    assert max(map(len, text.splitlines())) <= 100
    assert "gained 40" in text
    assert "lost 0          none" in text


def test_runs_that_cross_agents_and_users_show_each_sides_share(sentinel):
    """The user decides everything: with one of them every task passes, with the other none."""
    tasks = [f"t{at}" for at in range(10)]
    for agent in "ab":
        for user, count in (("u", 0), ("v", 4)):
            recorded(f"{agent}{user}.jsonl", dict.fromkeys(tasks, count), agent=agent, user=user)
    runs = ["au.jsonl", "av.jsonl", "bu.jsonl", "bv.jsonl"]
    found = json.loads(sentinel("compare", *runs, "--json").stdout)
    assert [(each["before"], each["after"]) for each in found["comparisons"]] == [("au.jsonl", other) for other in runs[1:]]
    shares = {name: share["value"] for name, share in found["variance"]["shares"].items()}
    assert shares == {"task": 0.0, "agent": 0.0, "user": 1.0, "both": 0.0, "chance": 0.0}
    text = sentinel("compare", *runs).stdout
    assert "2 agents x 2 users x 10 tasks, 4 or more trials each" in text
    assert "the user's side" in text
    assert max(map(len, text.splitlines())) <= 100


def test_two_runs_that_change_both_sides_at_once_are_warned_of(sentinel):
    recorded("au.jsonl", {"a": 0, "b": 0}, user="u")
    recorded("bv.jsonl", {"a": 1, "b": 2}, agent="b", user="v")
    text = " ".join(sentinel("compare", "au.jsonl", "bv.jsonl").stdout.split())
    assert "The variance is not split by side: agents and users are not crossed; run a with v, b with u as well." in text
    found = json.loads(sentinel("compare", "au.jsonl", "bv.jsonl", "--json").stdout)
    assert found["variance"]["shares"] == {}


def test_the_same_model_with_other_settings_is_another_side(sentinel, tmp_path):
    for name, heat in (("cold", 0.0), ("warm", 1.0)):
        (tmp_path / name).mkdir()
        recorded(f"{name}/trajectories.jsonl", {"a": 1, "b": 2})
        configuration = {"domain": {"name": "library", "options": {}}, "agent": "a", "agent_settings": {"temperature": heat}}
        (tmp_path / name / "run.json").write_text(json.dumps({"configuration": configuration}))
    found = json.loads(sentinel("compare", "cold", "warm", "--json").stdout)
    assert len(found["variance"]["agents"]) == 2
    assert found["variance"]["users"] == ["scripted"]
    assert "only one user (scripted)" in found["variance"]["why_not"]


def test_one_run_or_another_domain_is_one_line(sentinel):
    recorded("before.jsonl", {"a": 1})
    assert "compare takes two runs or more, found only before.jsonl" in sentinel("compare", "before.jsonl", code=1).stderr
    assert "Missing argument" in sentinel("compare", code=2).stderr
