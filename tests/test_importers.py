"""Recorded results of tau2-bench and tau-bench become trajectories; what cannot be read is named, and the rest is kept."""

import json

import pytest
from sentinel_domains.library import domain as library

from sentinel_env import ConfigError, TrajectoryError, UnknownDomainError
from sentinel_env.evaluation import evaluate
from sentinel_env.failures import mine
from sentinel_env.importers.results import import_tau2
from sentinel_env.importers.tau_bench import import_tau_bench
from sentinel_env.scores import score

RENEWED = '{"title": "Dune", "member_id": "M7", "status": "renewed"}'


def tau2_run(**changes):
    """One simulation of the library in tau2-bench's format."""
    call = {"id": "c1", "name": "renew_loan", "arguments": {"loan_id": "L1"}, "requestor": "assistant"}
    return {
        "id": "s1",
        "task_id": "renew",
        "trial": 0,
        "seed": 7,
        "termination_reason": "user_stop",
        "reward_info": {"reward": 1.0, "db_check": {"db_match": True, "db_reward": 1.0}, "reward_basis": ["DB"]},
        "messages": [
            {"role": "assistant", "content": "Hi! How can I help you today?"},
            {"role": "user", "content": "Renew Dune.", "tool_calls": None},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "id": "c1", "content": RENEWED, "requestor": "assistant", "error": False},
            {"role": "assistant", "content": "Done: two weeks.", "tool_calls": None},
            {"role": "user", "content": "Thanks. ###STOP###", "tool_calls": None},
        ],
        **changes,
    }


def tau2_file(path, *runs, **changes):
    action = {"action_id": "0", "name": "renew_loan", "arguments": {"loan_id": "L1"}}
    task = {
        "id": "renew",
        "user_scenario": {"persona": None, "instructions": {"reason_for_call": "Renew Dune.", "known_info": "You are M7."}},
        "evaluation_criteria": {"actions": [action], "communicate_info": ["two weeks"], "reward_basis": ["DB"]},
    }
    info = {"environment_info": {"domain_name": "library"}, "agent_info": {"llm": "some-model"}, "user_info": {"llm": "some-user"}}
    path.write_text(json.dumps({"info": info, "tasks": [task], "simulations": list(runs), **changes}))
    return path


def v1_run(**changes):
    """One run of the library in tau-bench's format."""
    function = {"name": "renew_loan", "arguments": '{"loan_id": "L1"}'}
    return {
        "task_id": 4,
        "trial": 1,
        "reward": 1.0,
        "info": {
            "task": {
                "user_id": "M7",
                "instruction": "You are M7. Renew Dune.",
                "actions": [{"name": "renew_loan", "kwargs": {"loan_id": "L1"}}],
                "outputs": ["two weeks"],
            },
            "reward_info": {"reward": 1.0, "info": {"r_outputs": 1.0}},
        },
        "traj": [
            {"role": "system", "content": "policy"},
            {"role": "user", "content": "Renew Dune."},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "c1", "name": "renew_loan", "content": RENEWED},
            {"role": "assistant", "content": "Done, for two weeks."},
            {"role": "user", "content": "Thanks. ###STOP###"},
        ],
        **changes,
    }


def v1_file(path, *runs):
    path.write_text(json.dumps(list(runs)))
    return path


# recordings of real agents


def test_every_output_and_verdict_of_the_recorded_tau2_runs_is_reproduced(shared):
    imported = import_tau2(shared / "data/trajectories/tau2_results_train.json", data=shared / "data/tau2_retail")
    assert (imported.outputs, imported.verdicts, imported.rewards) == (548, 71, 71)
    assert (imported.differences, imported.problems) == ((), ())
    total = score(imported.domain, imported.trajectories)
    assert (total.trajectories, total.passed, total.agreed) == (71, 61, 71)
    assert imported.notes[0].startswith("12 tasks were graded by other criteria than the file's own")
    assert {trajectory.agent for trajectory in imported.trajectories} == {"gpt-4.1-mini-2025-04-14"}


def test_every_output_and_reward_of_the_recorded_v1_runs_is_reproduced(shared):
    imported = import_tau_bench(shared / "data/trajectories/agentrx_tau_retail.json", data=shared / "data/tau2_retail")
    assert (imported.outputs, imported.rewards, imported.differences, imported.problems) == (531, 64, (), ())
    total = score(imported.domain, imported.trajectories)
    assert (total.trajectories, total.passed, total.recorded, total.agreed) == (65, 46, 65, 65)
    assert total.endings == {"user_stop": 58, "transfer": 6, "max_steps": 1}


@pytest.mark.parametrize(("read", "name"), [(import_tau2, "tau2_results_train.json"), (import_tau_bench, "agentrx_tau_retail.json")])
def test_failures_of_recorded_runs_are_mined_where_they_are_the_agents_and_counted_where_not(shared, read, name):
    imported = read(shared / "data/trajectories" / name, data=shared / "data/tau2_retail")
    failed = {trajectory.id for trajectory in imported.trajectories if trajectory.recorded_reward == 0.0}
    found = mine(imported.domain, imported.trajectories)
    causes = [pattern for pattern in found.patterns if pattern.is_cause]
    explained = {evidence.trajectory for pattern in causes for evidence in pattern.evidence}
    assert sum(found.faults.values()) == found.failed == len(failed)
    assert explained < failed
    assert len(explained) == found.faults["agent"]
    assert {pattern.fault for pattern in causes} == {"agent"}
    assert found.problems == ()


@pytest.mark.parametrize(("read", "name"), [(import_tau2, "tau2_results_train.json"), (import_tau_bench, "agentrx_tau_retail.json")])
def test_a_file_cut_off_in_the_middle_gives_what_stands_before_the_cut(shared, tmp_path, read, name):
    text = (shared / "data/trajectories" / name).read_text()
    whole = read(shared / "data/trajectories" / name, data=shared / "data/tau2_retail").trajectories
    cut = tmp_path / name
    cut.write_text(text[: len(text) * 3 // 4])
    imported = read(cut, data=shared / "data/tau2_retail")
    assert 10 < len(imported.trajectories) < len(whole)
    assert imported.trajectories == whole[: len(imported.trajectories)]
    assert [f"{cut} is not JSON" in str(problem) for problem in imported.problems] == [True]


# the format


def test_a_tau2_run_keeps_what_was_recorded(tmp_path):
    (trajectory,) = import_tau2(tau2_file(tmp_path / "results.json", tau2_run())).trajectories
    assert (trajectory.id, trajectory.seed, trajectory.agent, trajectory.user) == ("renew/0", 7, "some-model", "some-user")
    assert (trajectory.terminated, trajectory.ending, trajectory.recorded_reward) == (True, "user_stop", 1.0)
    assert trajectory.changes == {"loans": {"L1": {"status": "renewed"}}}
    assert trajectory.task.scenario.goal == "Renew Dune."
    assert [message.name for message in trajectory.messages if message.role == "tool"] == ["renew_loan"]
    assert evaluate(library, trajectory).passed


def test_a_v1_run_keeps_what_was_recorded(tmp_path):
    (trajectory,) = import_tau_bench(v1_file(tmp_path / "v1.json", v1_run()), domain=library).trajectories
    assert (trajectory.id, trajectory.trial, trajectory.recorded_reward, trajectory.ending) == ("4/1", 1, 1.0, "user_stop")
    assert trajectory.task.scenario.goal == "You are M7. Renew Dune."
    assert trajectory.task.criteria.communicate == ("two weeks",)
    assert trajectory.messages[0].role == "user"
    assert evaluate(library, trajectory).passed


def test_in_v1_handing_over_ends_the_episode(tmp_path):
    function = {"name": "transfer_to_human_agents", "arguments": "{}"}
    handed_over = [
        {"role": "user", "content": "Renew Dune."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "name": "transfer_to_human_agents", "content": "Transfer successful"},
    ]
    (trajectory,) = import_tau_bench(v1_file(tmp_path / "v1.json", v1_run(traj=handed_over, reward=0.0)), domain=library).trajectories
    assert (trajectory.terminated, trajectory.ending) == (True, "transfer")


@pytest.mark.parametrize(
    ("reason", "ending", "terminated", "truncated"),
    [
        ("agent_stop", "agent_stop", True, False),
        ("max_steps", "max_steps", False, True),
        ("too_many_errors", "max_errors", False, True),
        ("agent_error", "agent_error", False, False),
    ],
)
def test_endings_of_tau2_are_ours(tmp_path, reason, ending, terminated, truncated):
    path = tau2_file(tmp_path / "results.json", tau2_run(termination_reason=reason, reward_info=None))
    (trajectory,) = import_tau2(path).trajectories
    assert (trajectory.ending, trajectory.terminated, trajectory.truncated) == (ending, terminated, truncated)


@pytest.mark.parametrize("read", ["tau2", "v1"])
def test_an_outage_is_no_failure(tmp_path, read):
    if read == "tau2":
        imported = import_tau2(tau2_file(tmp_path / "r.json", tau2_run(termination_reason="infrastructure_error", reward_info=None)))
    else:
        run = v1_run(info={"error": "RateLimitError: slow down\nTraceback"}, traj=[], reward=0.0)
        imported = import_tau_bench(v1_file(tmp_path / "r.json", run), domain=library)
    (trajectory,) = imported.trajectories
    assert trajectory.error
    assert evaluate(imported.domain, trajectory).reward is None


def test_several_tool_messages_in_one_are_taken_apart(tmp_path):
    run = tau2_run()
    run["messages"][3] = {"role": "tool", "tool_messages": [run["messages"][3]]}
    imported = import_tau2(tau2_file(tmp_path / "results.json", run))
    assert (imported.outputs, imported.differences, imported.problems) == (1, (), ())


# what does not agree is reported


def test_an_output_or_verdict_that_is_not_reproduced_is_reported(tmp_path):
    run = tau2_run(reward_info={"reward": 0.0, "db_check": {"db_match": False}, "reward_basis": ["DB"]})
    run["messages"][3]["content"] = RENEWED.replace("Dune", "Emma")
    imported = import_tau2(tau2_file(tmp_path / "results.json", run))
    assert [difference.what for difference in imported.differences] == ["messages.3 (renew_loan)", "database verdict", "reward"]
    assert 'recorded \'{"title": "Emma"' in str(imported.differences[0])
    assert imported.trajectories[0].messages[3].content == run["messages"][3]["content"]


def test_a_reward_that_a_judge_had_a_say_in_is_not_compared(tmp_path):
    grade = {
        "reward": 0.0,
        "db_check": {"db_match": True},
        "reward_basis": ["DB", "NL_ASSERTION"],
        "nl_assertions": [{"nl_assertion": "The agent is polite.", "met": False}],
    }
    imported = import_tau2(tau2_file(tmp_path / "results.json", tau2_run(reward_info=grade)))
    assert (imported.verdicts, imported.rewards, imported.differences) == (1, 0, ())
    assert score(imported.domain, imported.trajectories).not_judged == 1


def test_a_run_counts_by_the_criteria_that_it_was_graded_by(tmp_path):
    action = {"action_id": "0", "name": "renew_loan", "arguments": {"loan_id": "L2"}}
    grade = {
        "reward": 0.0,
        "db_check": {"db_match": False},
        "reward_basis": ["DB"],
        "action_checks": [{"action": action, "action_match": False}],
    }
    imported = import_tau2(tau2_file(tmp_path / "results.json", tau2_run(reward_info=grade)))
    assert imported.differences == ()
    assert imported.trajectories[0].task.criteria.actions[0].arguments == {"loan_id": "L2"}
    assert imported.notes == ("1 tasks were graded by other criteria than the file's own; those of the grade are used: renew",)


# malformed files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_id": None}, r"simulations\.1\.task_id: Input should be a valid string"),
        ({"task_id": "lost"}, r"simulations\.1\.task_id: 'lost' is not among the file's readable tasks"),
        ({"messages": [{"role": "tool", "id": "x", "content": "?"}]}, r"simulations\.1\.messages\.0: a tool's output without a call"),
        ({"messages": [{"content": "?"}]}, r"simulations\.1\.messages\.0\.role: Field required"),
        ({"messages": [{"role": "judge"}]}, r"simulations\.1\.messages\.0\.role: expected assistant, user, tool or system, found 'judge'"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{}"}]}]},
            r"tool_calls\.0\.arguments: Input should be",
        ),
        (
            {"messages": [{"role": "user", "tool_calls": [{"name": "f", "arguments": {}, "requestor": "user"}]}]},
            r"simulations\.1\.messages\.0\.tool_calls: calls by the user are not supported",
        ),
        ({"trial": 0}, r"simulations\.1\.trial: task 'renew' has trial 0 twice"),
        ({"termination_reason": 3}, r"simulations\.1\.termination_reason: Input should be a valid string"),
    ],
)
def test_a_malformed_tau2_run_is_named_and_the_rest_is_kept(tmp_path, changes, message):
    path = tau2_file(tmp_path / "results.json", tau2_run(), {**tau2_run(trial=1), **changes}, tau2_run(trial=2))
    imported = import_tau2(path)
    assert [trajectory.trial for trajectory in imported.trajectories] == [0, 2]
    (problem,) = imported.problems
    assert str(problem).startswith(str(path))
    with pytest.raises(TrajectoryError, match=message):
        raise problem


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_id": None}, r"index 1: task_id"),
        ({"info": {}}, r"index 1: info\.task: missing"),
        ({"traj": "none"}, r"index 1: traj: Input should be a valid tuple"),
        ({"traj": [{"role": "robot"}]}, r"index 1: traj\.0\.role: Input should be"),
        (
            {"traj": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            r"index 1: traj\.0\.tool_calls: the tool call is not valid JSON",
        ),
        ({"trial": 1}, r"index 1: trial: task 4 has trial 1 twice"),
    ],
)
def test_a_malformed_v1_run_is_named_and_the_rest_is_kept(tmp_path, changes, message):
    path = v1_file(tmp_path / "v1.json", v1_run(), {**v1_run(trial=2), **changes}, v1_run(trial=3))
    imported = import_tau_bench(path, domain=library)
    assert [trajectory.trial for trajectory in imported.trajectories] == [1, 3]
    (problem,) = imported.problems
    with pytest.raises(TrajectoryError, match=message):
        raise problem


def test_a_malformed_task_is_named_and_its_runs_too(tmp_path):
    path = tau2_file(tmp_path / "results.json", tau2_run(), tasks=[{"id": "renew"}])
    imported = import_tau2(path)
    assert imported.trajectories == ()
    broken, lost = imported.problems
    with pytest.raises(TrajectoryError, match=r"results\.json, tasks\.0: task 'renew': user_scenario: Field required"):
        raise broken
    with pytest.raises(TrajectoryError, match=r"simulations\.0\.task_id: 'renew' is not among the file's readable tasks"):
        raise lost


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("not JSON", "is not JSON"),
        ("[]", "no results file of tau2-bench: expected an object"),
        ('{"tasks": []}', "no results file of tau2-bench"),
        ('{"tasks": {}, "simulations": []}', "no results file of tau2-bench"),
        ('{"tasks": [], "simul', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_a_line(tmp_path, text, message):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(TrajectoryError, match=message):
        import_tau2(tmp_path / "other.json")


def test_v1_wants_a_list(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(TrajectoryError, match=r"no results file of tau-bench: expected a list of runs, found dict"):
        import_tau_bench(tmp_path / "other.json", domain=library)


def test_a_missing_file_a_folder_and_a_binary_file_are_refused_in_a_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "binary"):
        with pytest.raises(TrajectoryError, match="cannot read results from"):
            import_tau2(path)


def test_an_unknown_domain_and_missing_data_are_refused_in_a_line(tmp_path, monkeypatch):
    monkeypatch.delenv("SENTINEL_TAU2_DATA", raising=False)
    info = {"environment_info": {"domain_name": "moon"}}
    with pytest.raises(UnknownDomainError, match="no domain 'moon'"):
        import_tau2(tau2_file(tmp_path / "results.json", tau2_run(), info=info))
    with pytest.raises(ConfigError, match="mode 'v1' is for tau2-bench's data"):
        import_tau_bench(v1_file(tmp_path / "v1.json", v1_run()))
