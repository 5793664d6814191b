"""How right the Controller's diagnosis of single runs is, and how fast.

    python benchmarks/attribution.py                            # recorded runs with annotators, a reading of others, speed: two minutes
    python benchmarks/attribution.py --json                     # the same, for programs
    python benchmarks/attribution.py --recordings FILE --labels FILE --only recorded

Recorded runs: tau-bench retail runs of an LLM agent whose failures people annotated (AgentRx): the step and the side of each root cause.
They count messages from 1 with the system message, which our trajectories leave out: step n is message n - 2 here. That follows from the
steps whose reasons quote a call: each names the assistant's message that makes it. A category "System Failure" counts as the
environment's. The other recording, of tau2-bench, has no annotations: one of us read its failures before the program existed
(tests/data/attribution_reading.jsonl).
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sentinel_env.domain import Domain
from sentinel_env.evaluation import calls
from sentinel_env.failures import Attribution, Evidence, Finding, attribute, executed_writes
from sentinel_env.failures.critical import point_of_no_return
from sentinel_env.failures.dialogue import Dialogue
from sentinel_env.failures.edits import edit_script
from sentinel_env.failures.fault import fault_of
from sentinel_env.importers.recorded import Imported
from sentinel_env.importers.results import import_tau2
from sentinel_env.importers.tau_bench import import_tau_bench
from sentinel_env.messages import ToolCall
from sentinel_env.trajectory import Trajectory, read_trajectories, save_trajectories

REPOSITORY = Path(__file__).resolve().parent.parent
READING = REPOSITORY / "tests" / "data" / "attribution_reading.jsonl"
SIDES = ("agent", "user", "task", "environment", "undetermined")


class Verdict(NamedTuple):
    """What a person says of a failed run."""

    step: int
    side: str
    label: str | None = None


def annotations(path: Path) -> dict[str, Verdict]:
    """The annotators' root causes, by task id."""
    found = {}
    for row in json.loads(path.read_text(encoding="utf-8")):
        (root,) = (failure for failure in row["failures"] if failure["failure_id"] == row["root_cause"]["failure_id"])
        side = {"Assistant": "agent", "User": "user"}.get(root["failed_agent"], "undetermined")
        if root["failure_category"] == "System Failure":
            side = "environment"
        found[str(row["trajectory_id"])] = Verdict(root["step_number"] - 2, side)
    return found


def reading(path: Path) -> dict[str, Verdict]:
    """Our own reading, by trajectory id."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["trajectory"]: Verdict(row["critical_step"], row["fault"], row["label"]) for row in rows}


def measure(imported: Imported, said: dict[str, Verdict]) -> dict[str, Any]:
    """Coverage, agreement with people, and false alarms of one recording."""
    domain = imported.domain
    attributions = [attribute(domain, trajectory) for trajectory in imported.trajectories]
    failed = [each for each in attributions if each.passed is False]
    passed = [trajectory for trajectory, each in zip(imported.trajectories, attributions, strict=True) if each.passed]
    pairs = [(each, verdict) for each in failed if (verdict := said.get(each.trajectory) or said.get(each.task_id)) is not None]
    edited = [each for each in failed if each.confirmed is not None]
    forced = [_forced(domain, trajectory) for trajectory in passed]
    return {
        "runs": len(attributions),
        "failed": len(failed),
        "compared": len(pairs),
        "with a primary label": sum(each.primary is not None for each in failed),
        "with a wrong state": len(edited),
        "with a confirmed edit script": sum(bool(each.confirmed) for each in edited),
        "primary labels": _counts(each.primary.label for each in failed if each.primary),
        "same label": sum(each.primary is not None and each.primary.label == verdict.label for each, verdict in pairs),
        "same side": sum(each.fault is not None and each.fault.side == verdict.side for each, verdict in pairs),
        "sides": _counts(f"{verdict.side} -> {each.fault.side if each.fault else 'none'}" for each, verdict in pairs),
        "step": _steps(pairs),
        "step where people blame the agent": _steps([pair for pair in pairs if pair[1].side == "agent"]),
        "step where people blame the user": _steps([pair for pair in pairs if pair[1].side == "user"]),
        "false points of no return": sum(point for point, _ in forced),
        "false edit scripts": sum(edits for _, edits in forced),
        "user blamed for right writes": _blamed(domain, passed),
        "labels in failed runs": _counts(label for each in attributions if each.passed is False for label in _labels(each)),
        "labels in passed runs": _counts(label for each in attributions if each.passed for label in _labels(each)),
        "disagreements": [
            f"{each.trajectory}: step {each.critical_step} for {verdict.step}, {each.fault.side if each.fault else None} for {verdict.side}"
            for each, verdict in pairs
            if each.critical_step != verdict.step or each.fault is None or each.fault.side != verdict.side
        ],
    }


def _forced(domain: Domain, trajectory: Trajectory) -> tuple[bool, bool]:
    """Whether the layers would find something in a passed run if they were asked."""
    start = domain.start(trajectory.task)
    made = executed_writes(domain, start, ((step, call) for step, call, _ in calls(trajectory)))
    wanted = executed_writes(domain, start, enumerate(trajectory.task.criteria.actions))
    script = edit_script(domain, start, made, wanted)
    return point_of_no_return(domain, start, made, wanted) is not None, bool(script.edits or script.order or script.reordered)


def _blamed(domain: Domain, passed: list[Trajectory]) -> dict[str, str]:
    """How often the rules against the user speak up in passed runs when they are asked about a right write as if it had gone wrong."""
    asked: Counter[str] = Counter()
    blamed: Counter[str] = Counter()
    for trajectory in passed:
        dialogue = Dialogue(domain, trajectory)
        for step, call, answer in dialogue.calls:
            if answer.is_error or not domain.tools_by_name[call.name].writes:
                continue
            for kind, finding in _as_if_wrong(trajectory.id, step, call):
                asked[kind] += 1
                fault = fault_of(dialogue, [finding], (), min(step, dialogue.end), is_final=kind != "missing")
                blamed[kind] += fault.side == "user"
    return {kind: f"{blamed[kind]} of {asked[kind]}" for kind in sorted(asked)}


def _as_if_wrong(trajectory: str, step: int, call: ToolCall) -> Iterator[tuple[str, Finding]]:
    evidence = Evidence(trajectory=trajectory, step=step)
    yield "missing", Finding(label="missing_write", tool=call.name, wanted=call, evidence=evidence)
    yield "extra", Finding(label="extra_write", tool=call.name, executed=call, evidence=evidence)
    for name, value in call.arguments.items():
        for at in range(len(value) if isinstance(value, list) and len(value) > 1 else 0):
            short = call.model_copy(update={"arguments": {**call.arguments, name: value[:at] + value[at + 1 :]}})
            detail: dict[str, Any] = {"sublabel": "incomplete_set", "arguments": (name,), "executed": short, "wanted": call}
            yield "incomplete", Finding(label="wrong_argument", tool=call.name, evidence=evidence, **detail)


def _labels(attribution: Attribution) -> set[str]:
    return {finding.label for finding in attribution.findings}


def _counts(items: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(items).items(), key=lambda item: (-item[1], item[0])))


def _steps(pairs: list[tuple[Attribution, Verdict]]) -> dict[str, int]:
    far = [abs(each.critical_step - verdict.step) for each, verdict in pairs if each.critical_step is not None]
    return {"of": len(pairs), "exact": far.count(0), "within 2": sum(way <= 2 for way in far), "within 5": sum(way <= 5 for way in far)}


def measure_speed(recordings: list[Imported], streamed: int) -> dict[str, Any]:
    """Milliseconds of CPU that an attribution takes, and what a stream of them keeps in memory."""
    failed, every = [], []
    for imported in recordings:
        for trajectory in imported.trajectories:
            started = time.process_time()
            found = attribute(imported.domain, trajectory)
            taken = 1000 * (time.process_time() - started)
            every.append(taken)
            if found.passed is False:
                failed.append(taken)
    return {"all runs": _times(every), "failed runs": _times(failed), "stream": _stream(recordings[0], streamed)}


def _times(taken: list[float]) -> dict[str, float]:
    ordered = sorted(taken)
    return {
        "runs": len(ordered),
        "median ms": round(statistics.median(ordered), 3),
        "p95 ms": round(ordered[math.ceil(0.95 * len(ordered)) - 1], 3),
        "max ms": round(ordered[-1], 3),
    }


def _stream(imported: Imported, count: int) -> dict[str, Any]:
    """Attribute a file's trajectories one after the other, keeping none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trajectories.jsonl"
        save_trajectories(path, _repeated(imported.trajectories, count))
        largest = max(len(line) for line in path.open(encoding="utf-8"))
        for trajectory in imported.trajectories:  # what is kept for good, such as references and what texts mean
            attribute(imported.domain, trajectory)
        tracemalloc.start()
        for trajectory in read_trajectories(path):
            attribute(imported.domain, trajectory)
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return {"trajectories": count, "largest line KB": largest / 1024, "peak KB": peak / 1024, "kept KB": kept / 1024}


def _repeated(trajectories: tuple[Trajectory, ...], count: int) -> Iterator[Trajectory]:
    for at in range(count):
        yield trajectories[at % len(trajectories)].model_copy(update={"id": f"copy/{at}"})


def interval(hits: int, of: int) -> str:
    """A share with Wilson's 95 % interval."""
    if not of:
        return "-"
    z, share = 1.96, hits / of
    middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low, high = (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)
    return f"{hits} of {of} ({100 * share:.0f} % [{100 * low:.0f}, {100 * high:.0f}])"


def show(name: str, result: dict[str, Any]) -> None:
    """Print one recording's figures."""
    print(f"\n{name}: {result['runs']} runs, {result['failed']} failed, {result['compared']} of them judged by people")
    for key, of in (("with a primary label", "failed"), ("with a confirmed edit script", "with a wrong state"), ("same side", "compared")):
        print(f"  {key}: {interval(result[key], result[of])}")
    if result["same label"]:
        print(f"  same label: {interval(result['same label'], result['compared'])}")
    for key in ("step", "step where people blame the agent", "step where people blame the user"):
        steps = result[key]
        print(f"  {key}: " + ", ".join(f"{way} {interval(steps[way], steps['of'])}" for way in ("exact", "within 2", "within 5")))
    print("  side, people's -> ours: " + ", ".join(f"{sides} {count}" for sides, count in result["sides"].items()))
    passed, blamed = result["runs"] - result["failed"], result["user blamed for right writes"]
    print(
        f"  passed runs ({passed}): {result['false points of no return']} points of no return, {result['false edit scripts']} edit scripts"
    )
    print("  user blamed for right writes of passed runs, asked as if they were: " + ", ".join(f"{k} {v}" for k, v in blamed.items()))
    for key in ("primary labels", "labels in failed runs", "labels in passed runs", "disagreements"):
        rows = result[key]
        print(
            f"  {key}: " + (", ".join(f"{label} {count}" for label, count in rows.items()) if isinstance(rows, dict) else "; ".join(rows))
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SENTINEL_SHARED") or REPOSITORY.parent / "shared") / "data"
    parser.add_argument("--data", type=Path, default=shared / "tau2_retail", help="tau2-bench's retail data")
    parser.add_argument("--recordings", type=Path, default=shared / "trajectories" / "agentrx_tau_retail.json")
    parser.add_argument("--labels", type=Path, default=shared / "trajectories" / "agentrx_labels.json")
    parser.add_argument(
        "--read", type=Path, default=shared / "trajectories" / "tau2_results_train.json", help="the recording that was read"
    )
    parser.add_argument("--stream", type=int, default=2000, help="trajectories that are streamed to measure memory")
    parser.add_argument("--only", choices=("recorded", "speed"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    annotated = import_tau_bench(arguments.recordings, data=arguments.data)
    read = import_tau2(arguments.read, data=arguments.data)
    results: dict[str, Any] = {}
    if arguments.only != "speed":
        results["annotated"] = measure(annotated, annotations(arguments.labels))
        results["read"] = measure(read, reading(READING))
    if arguments.only != "recorded":
        results["speed"] = measure_speed([annotated, read], arguments.stream)
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    for name in ("annotated", "read"):
        if name in results:
            show(name, results[name])
    for name, figures in results.get("speed", {}).items():
        print(
            f"\n{name}: "
            + ", ".join(f"{key} {value:,.3g}" if isinstance(value, float) else f"{key} {value:,}" for key, value in figures.items())
        )


if __name__ == "__main__":
    main()
