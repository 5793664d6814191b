"""Recorded runs of real agents, replayed: every tool output and every verdict must come out as it was recorded.

Counts of what was compared are printed: `pytest tests/test_retail_recordings.py -rP`.
"""

import hashlib
import json

import pytest
from sentinel_domains.retail import make

from sentinel_env import Criteria, Scenario, Task, ToolCall


def read(shared, name):
    path = shared / "data" / "trajectories" / name
    if not path.is_file():
        pytest.skip(f"no recordings: {name} is not in {path.parent}")
    return json.loads(path.read_text(encoding="utf-8"))


def reference(actions, arguments):
    calls = tuple(ToolCall(name=action["name"], arguments=action[arguments]) for action in actions)
    return Task(id="recorded", domain="retail", scenario=Scenario(goal="-"), criteria=Criteria(actions=calls))


def run_calls(domain, db, calls):
    """The answers to calls, each a name and its arguments."""
    return [domain.execute(db, ToolCall(name=name, arguments=arguments)) for name, arguments in calls]


def test_tau2_runs_replay_with_every_output_and_database_verdict(shared):
    domain = make(shared / "data" / "tau2_retail")
    outputs, verdicts, wrong = 0, 0, []
    for run in read(shared, "tau2_results_train.json")["simulations"]:
        db = domain.base.fork()
        recorded = {message["id"]: message for message in run["messages"] if message["role"] == "tool"}
        calls = [call for message in run["messages"] for call in message.get("tool_calls") or []]
        for call, answer in zip(calls, run_calls(domain, db, [(call["name"], call["arguments"]) for call in calls]), strict=True):
            outputs += 1
            expected = recorded[call["id"]]
            if answer.content != expected["content"] or answer.is_error != expected.get("error", answer.is_error):
                wrong.append((run["task_id"], call["name"], expected["content"][:200], answer.content[:200]))
        grade = run["reward_info"] or {}
        if grade.get("db_check"):
            # the reference that it was graded by: some tasks in the same file have been renumbered or corrected since
            graded_by = reference([check["action"] for check in grade["action_checks"] or []], "arguments")
            verdicts += 1
            if (db.changes() == domain.reference_changes(graded_by)) != grade["db_check"]["db_match"]:
                wrong.append((run["task_id"], "verdict"))
    print({"outputs": outputs, "verdicts": verdicts})
    assert wrong == []
    assert verdicts


def test_v1_runs_replay_with_every_output_and_verdict(shared):
    domain = make(shared / "data" / "tau2_retail", mode="v1")
    outputs, verdicts, hashes, wrong = 0, 0, 0, []
    for run in read(shared, "agentrx_tau_retail.json"):
        db = domain.base.fork()
        recorded = {message["tool_call_id"]: message["content"] for message in run["traj"] if message["role"] == "tool"}
        calls = [call for message in run["traj"] for call in message.get("tool_calls") or [] if call["id"] in recorded]
        pairs = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
        for call, answer in zip(calls, run_calls(domain, db, pairs), strict=True):
            outputs += 1
            if not same_json(recorded[call["id"]], answer.content):
                wrong.append((run["task_id"], call["function"], recorded[call["id"]][:200], answer.content[:200]))
        if run["info"].get("reward_info") is None:  # v1 grades a run only when its conversation has ended
            continue
        wanted, grade = run["info"]["task"], run["info"]["reward_info"]["info"]
        task = reference(wanted["actions"], "kwargs")
        told = {output: is_told(output, run["traj"]) for output in wanted["outputs"]}
        matches = db.changes() == domain.reference_changes(task)
        verdicts += 1
        if (
            run["reward"] != float(matches and all(told.values()))
            or grade.get("r_actions", matches) != matches
            or grade.get("outputs", told) != told
        ):
            wrong.append((run["task_id"], "verdict", run["reward"], grade, matches, told))
        if "gt_data_hash" in grade:
            hashes += 1
            target = domain.base.fork()
            target.apply(domain.reference_changes(task))
            if v1_hash(domain.base, target) != grade["gt_data_hash"]:
                wrong.append((run["task_id"], "hash of the reference's database"))
    print({"outputs": outputs, "verdicts": verdicts, "hashes of the reference's database": hashes})
    assert wrong == []
    assert verdicts


def same_json(expected, found):
    """Equal as text, or as JSON: v1 orders some fields in another way and writes some balances as integers."""
    try:
        return expected == found or json.loads(expected) == json.loads(found)
    except ValueError:
        return False


def is_told(output, messages):
    said = [message["content"] for message in messages if message["role"] == "assistant" and not message.get("tool_calls")]
    return any(output.lower() in text.lower().replace(",", "") for text in said)


def v1_hash(base, db):
    """v1's hash: of the database as nested tuples, without null fields and user ids, untouched balances as integers."""
    content = db.dump()
    for user_id, user in content["users"].items():
        del user["user_id"]
        for key, method in user["payment_methods"].items():
            if method["source"] == "gift_card" and method["balance"] == base.users[user_id].payment_methods[key].balance:
                method["balance"] = int(method["balance"])
    return hashlib.sha256(str(as_tuples(content)).encode()).hexdigest()


def as_tuples(value):
    if isinstance(value, dict):
        return tuple((key, as_tuples(item)) for key, item in sorted(value.items()) if item is not None)
    if isinstance(value, list):
        return tuple(as_tuples(item) for item in value)
    return value
