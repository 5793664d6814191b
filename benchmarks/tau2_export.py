"""Whether tau2-bench itself loads, replays and grades what `sentinel export tau2` writes, without any model.

    python benchmarks/tau2_export.py --tau2 CHECKOUT --tau2-python PYTHON           # 200 proposed tasks, and 60 edited ones
    python benchmarks/tau2_export.py --tau2 CHECKOUT --tau2-python PYTHON --foils 9 # and all wrong plans, not one a task
    python benchmarks/tau2_export.py --tau2 CHECKOUT --tau2-python PYTHON --own     # and the tasks that ship with the domain

`CHECKOUT` is a checkout of tau2-bench, of which `src` and `data/tau2/user_simulator` are used as they are; `PYTHON` is an interpreter
that has its dependencies. A data folder of its own gets the export as `tau2/domains/retail`, and `TAU2_DATA_DIR` names it. There every
task is loaded by tau2-bench's loader, its reference is carried out by tau2-bench's tools on its environment, and its evaluator grades
three kinds of conversations: the reference with everything told (1 expected), a greeting and nothing else (0), and wrong plans (0).
The edited tasks are proposed ones that start from a changed database, end in a hand-over or are graded by their calls.
Without `--tau2` nothing is run.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

GENERAL = "general"
KNOBS = {
    **{"siblings": 8, "other_records": 3},  # where the database has too few, the task's changes add them
    **dict.fromkeys(("slip", "terse", "conditional", "refusal", "question", "amount"), True),
    "writes": 3,
}
"""What is asked of further tasks, one of these for each pattern."""


# here: make and export


def propose(count: int, seed: int):
    """Verified tasks for patterns of every label that has any, as many of each."""
    from sentinel_env import load_domain, propose_tasks, verify_all
    from sentinel_env.errors import SentinelError
    from sentinel_env.failures import LABELS, general_pattern
    from sentinel_env.knobs import Knobs

    domain = load_domain("retail")
    general = general_pattern(domain)
    patterns = [general, *(general.model_copy(update={"id": label, "label": label}) for label in LABELS if label != GENERAL)]
    for name, value in KNOBS.items():
        update = {"id": name, "label": "wrong_argument", "knobs": Knobs(**{name: value})}
        patterns.append(general.model_copy(update=update))
    kept, skipped = {}, {}
    share = -(-count // len(patterns))
    for wave in range(4):
        for pattern in patterns:
            if len(kept) >= count or pattern.id in skipped:
                continue
            try:
                drafts = propose_tasks(domain, pattern, n=2 * share, seed=seed + wave)
            except SentinelError as error:
                skipped[pattern.id] = str(error)
                continue
            accepted = [verdict.task for verdict in verify_all(domain, drafts, known=kept.values()) if verdict.task is not None]
            kept.update((task.id, task) for task in accepted[: min(share, count - len(kept))])
        if len(kept) >= count:
            break
    return domain, list(kept.values()), skipped


def edited(domain, tasks):
    """Proposed tasks, each with one thing that is rare among them."""
    from sentinel_env import Certificate, Foil, ToolCall

    transfer = ToolCall(name="transfer_to_human_agents", arguments={"summary": "The customer asks for what only a person can do."})
    found = []
    for at, task in enumerate(tasks):
        criteria, actions = task.criteria, (*task.criteria.actions, transfer)
        if at % 3 == 0:
            edit = {"changes": domain_changes(domain, task)}
        elif at % 3 == 1:
            skipped = Foil(label="missing_transfer", at=len(actions) - 1, drop=1)
            certificate = Certificate(pattern="edited", label="missing_transfer", version="0", foils=(skipped,))
            basis = ("database", "communicate", "transfer")
            edit = {"criteria": criteria.model_copy(update={"actions": actions, "basis": basis}), "certificate": certificate}
        else:
            skipped = Foil(label="missing_action", at=0, drop=1)
            certificate = Certificate(pattern="edited", label="missing_action", version="0", foils=(skipped,))
            edit = {"criteria": criteria.model_copy(update={"basis": ("database", "communicate", "actions")}), "certificate": certificate}
        found.append(task.model_copy(update=edit))
    return found


def domain_changes(domain, task):
    """The task's changes and more of each kind: a record that is new, fields of one that exists, something in a field."""
    start = domain.start(task)
    order = next(call.arguments["order_id"] for call in task.criteria.actions if "order_id" in call.arguments)
    user = start.users[start.orders[order].user_id]
    added = {**start.orders[order].model_dump(mode="json"), "order_id": "#W0000001"}
    card = {"source": "gift_card", "id": "gift_card_1", "balance": 12.5}
    methods = {**user.model_dump(mode="json")["payment_methods"], "gift_card_1": card}
    fork = domain.base.fork()
    fork.apply(task.changes)
    fork.apply({"orders": {"#W0000001": added}})
    fork.apply({"users": {user.user_id: {"orders": [*user.orders, "#W0000001"], "payment_methods": methods}}})
    return fork.changes()


def hash_as_tau2(db) -> str:
    """The hash that tau2-bench gives a database."""
    return hashlib.sha256(json.dumps(db.dump(), sort_keys=True, default=str).encode()).hexdigest()


def hand_over(folder: Path, tasks, exported, foils: int) -> dict:
    """What the other interpreter needs of each task: what to say, wrong plans, and the database after the reference as we see it."""
    from sentinel_env import load_domain

    there = load_domain("retail", data=folder)
    plans = {}
    for task in tasks:
        if task.id not in exported.tasks:
            continue
        twin = there.tasks_by_id[task.id]
        db = there.start(twin)
        for call in twin.criteria.actions:
            there.execute(db, call)
        wrong = [
            {"label": foil.label, "silent": foil.silent, "calls": [call.model_dump() for call in foil.plan(task.criteria.actions)]}
            for foil in (task.certificate.foils[:foils] if task.certificate else ())
        ]
        plans[task.id] = {
            "actions": [call.model_dump() for call in task.criteria.actions],
            "said": list(task.criteria.communicate),
            "hash": hash_as_tau2(db),
            "passing": [text for text in exported.warnings.get(task.id, ()) if "wrong plan passes" in text],
            "foils": wrong,
        }
    return plans


def run_there(options, name: str, domain, tasks) -> bool:
    """Export, run the other interpreter on it, and print what came out."""
    from sentinel_env.exporters.tau2 import export_tau2

    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        folder = data / "tau2" / "domains" / "retail"
        start = time.perf_counter()
        exported = export_tau2(domain, tasks, folder)
        seconds = time.perf_counter() - start
        (data / "tau2" / "user_simulator").symlink_to((options.tau2 / "data" / "tau2" / "user_simulator").resolve())
        print(f"\n{name}: {len(exported.tasks)} of {len(tasks)} tasks exported in {seconds:.1f} s")
        print(f"  with changes to the database: {sum(bool(task.changes) for task in tasks if task.id in exported.tasks)}")
        for text, count in Counter(general_form(reason) for reason in exported.left_out.values()).most_common():
            print(f"  left out, {count}: {text}")
        for text, count in Counter(general_form(text) for texts in exported.warnings.values() for text in texts).most_common():
            print(f"  warned, {count}: {text}")
        plans = Path(scratch) / "plans.json"
        plans.write_text(json.dumps(hand_over(folder, tasks, exported, options.foils)), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(options.tau2.resolve() / "src"), "TAU2_DATA_DIR": str(data)}
        command = [options.tau2_python, str(Path(__file__).resolve()), "--inside", str(plans)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tau2-bench does not run with {options.tau2_python}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    for what, (good, total) in result["counts"].items():
        print(f"  {what}: {good} of {total}")
    for failure in result["failures"]:
        print(f"  FAILURE {failure}")
    return not result["failures"]


def general_form(text: str) -> str:
    """A reason without the ids that differ from task to task."""
    import re

    return re.sub(r"\[[^]]*\]|\b\d+\b|'\d+'", "*", text)


# there: load, replay and grade, in tau2-bench's interpreter


def inside(plans_file: Path) -> None:
    """Everything that tau2-bench does with the folder that TAU2_DATA_DIR names; prints one JSON line."""
    from loguru import logger

    logger.remove()
    from tau2.data_model.message import ToolCall, ToolMessage
    from tau2.registry import registry

    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    tasks = registry.get_tasks_loader("retail")("base")
    splits = registry.get_task_splits_loader("retail")()
    checks = Checks()
    checks.note(
        "tasks loaded by tau2-bench", len(tasks) == len(plans), f"{len(tasks)} of {len(plans)} tasks loaded", len(tasks), len(plans)
    )
    for name in splits:
        loaded = registry.get_tasks_loader("retail")(name)
        assert len(loaded) == len(splits[name]), name
    for task in tasks:
        plan = plans[task.id]
        assert str(task.user_scenario)
        env = registry.get_env_constructor("retail")()
        data = task.initial_state.initialization_data if task.initial_state else None
        env.set_state(initialization_data=data, initialization_actions=None, message_history=[])
        refused = []
        for action in task.evaluation_criteria.actions:
            answer = env.get_response(ToolCall(id="x", name=action.name, arguments=action.arguments))
            assert isinstance(answer, ToolMessage)
            if answer.error:
                refused.append(f"{action.name}: {answer.content}")
        checks.note("references carried out without a refusal", not refused, f"{task.id}: {refused}")
        checks.note("same database after it as in our compatibility mode", env.get_db_hash() == plan["hash"], task.id)
        reward = grade(task, plan["actions"], plan["said"])
        checks.note("reward 1 for the reference", reward.reward == 1, f"{task.id}: {reward.reward_breakdown}")
        nothing = grade(task, [], None)
        checks.note("reward 0 for doing nothing", nothing.reward == 0, f"{task.id}: {nothing.reward_breakdown}")
        for foil in plan["foils"]:
            wrong = grade(task, foil["calls"], None if foil["silent"] else plan["said"])
            expected = any(foil["label"] in text for text in plan["passing"])
            checks.note("reward 0 for a wrong plan, or warned of", (wrong.reward == 0) or expected, f"{task.id}: {foil['label']}")
    print(json.dumps({"counts": checks.counts, "failures": checks.failures}), flush=True)
    os._exit(0)


@dataclasses.dataclass
class Checks:
    """Counts by what was checked, and every failure in words."""

    counts: dict = dataclasses.field(default_factory=dict)
    failures: list = dataclasses.field(default_factory=list)

    def note(self, what, passed, detail, good=None, total=None):
        before = self.counts.get(what, (0, 0))
        self.counts[what] = (before[0] + (int(passed) if good is None else good), before[1] + (1 if total is None else total))
        if not passed:
            self.failures.append(f"{what}: {detail}")


def grade(task, calls, said):
    """What tau2-bench's evaluator says of a conversation with these calls; what is said is worded as an agent might, with commas."""
    from tau2.data_model.message import AssistantMessage, ToolCall, UserMessage
    from tau2.data_model.simulation import SimulationRun, TerminationReason
    from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
    from tau2.registry import registry

    env = registry.get_env_constructor("retail")()
    data = task.initial_state.initialization_data if task.initial_state else None
    env.set_state(initialization_data=data, initialization_actions=None, message_history=[])
    messages = [
        AssistantMessage(role="assistant", content="Hi! How can I help you today?"),
        UserMessage(role="user", content=task.user_scenario.instructions.reason_for_call),
    ]
    for at, call in enumerate(calls):
        made = ToolCall(id=f"call_{at}", name=call["name"], arguments=call["arguments"])
        messages += [AssistantMessage(role="assistant", content=None, tool_calls=[made]), env.get_response(made)]
    if said is not None:
        messages.append(AssistantMessage(role="assistant", content=f"That is done. {'. '.join(map(worded, said))}"))
    messages.append(UserMessage(role="user", content="###STOP###"))
    run = SimulationRun(
        id="run",
        task_id=task.id,
        start_time="",
        end_time="",
        duration=0.0,
        termination_reason=TerminationReason.USER_STOP,
        messages=messages,
    )
    return evaluate_simulation(run, task, EvaluationType.ALL, solo_mode=False, domain="retail")


def worded(said: str) -> str:
    """An amount as agents write it: "$1,234.50"."""
    try:
        return f"${float(said):,.2f}" if "." in said else said
    except ValueError:
        return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tau2", type=Path, help="a checkout of tau2-bench")
    parser.add_argument("--tau2-python", default=sys.executable, help="an interpreter that has tau2-bench's dependencies")
    parser.add_argument("--tasks", type=int, default=200, help="how many tasks to propose")
    parser.add_argument("--edited", type=int, default=60, help="how many of them to edit and export again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--foils", type=int, default=1, help="how many wrong plans of each certificate to grade; the pattern's own is the first"
    )
    parser.add_argument("--own", action="store_true", help="also export the tasks that ship with the domain")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.inside)
    if options.tau2 is None:
        print("Nothing was run: give a checkout of tau2-bench as --tau2, and an interpreter with its dependencies as --tau2-python.")
        return None
    if not (options.tau2 / "src" / "tau2").is_dir():
        raise SystemExit(f"{options.tau2} is no checkout of tau2-bench: it has no src/tau2")
    domain, tasks, skipped = propose(options.tasks, options.seed)
    print(f"proposed: {len(tasks)} tasks, {dict(Counter(task.source for task in tasks))}")
    for pattern, reason in skipped.items():
        print(f"  no task for {pattern}: {reason}")
    good = run_there(options, "proposed tasks", domain, tasks)
    about_orders = [task for task in tasks if any("order_id" in call.arguments for call in task.criteria.actions)]
    good = run_there(options, "edited tasks", domain, edited(domain, about_orders[: options.edited])) and good
    if options.own:
        good = run_there(options, "our own tasks", domain, domain.split()) and good
    if not good:
        raise SystemExit(1)
    return None


if __name__ == "__main__":
    main()
