"""Targeting with the shipped tiny Solver in its own small shop: patterns mined from its runs, tasks for them, and its runs on those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elicitation import Play, confusion, elicited, lift, per_opportunity, precision, table, watch
from pattern_tasks import make
from targeting import percent, verdict

from sentinel_env import Domain, ScriptedUser, Task, evaluate, general_pattern
from sentinel_env.failures import FailurePattern, mine
from sentinel_env.verification import KnownTasks
from sentinel_train.evaluate import run_model
from sentinel_train.loop_config import LoopConfig, pool
from sentinel_train.models import TINY

MODEL = "tiny"
PATTERNS = 5
"""How many patterns, those with most failures first."""
DIAGNOSIS = 100
"""General tasks, other ones than those that are compared with, from whose failures the patterns are mined."""


def measure(count: int, *, trials: int, threads: int, seed: int = 0) -> dict[str, Any]:
    """Mine, make tasks, play and compare."""
    config = LoopConfig.load(TINY / "loop.toml")
    domain = config.world()
    known = KnownTasks(domain)

    def tasks(pattern: FailurePattern, wanted: int, at: int) -> list[Task]:
        knobs = pattern.knobs.model_copy(update={"voices": config.knobs.voices, "most_writes": config.knobs.most_writes})
        pattern = pattern.model_copy(update={"knobs": knobs})
        return make(domain, pattern, count=wanted, seed=seed + at, seconds=60.0, known=known, pool=pool("train")).tasks

    def play(chosen: Sequence[Task], at: int, attempts: int) -> list[Any]:
        runs = run_model(
            domain, chosen, MODEL, ScriptedUser(), trials=attempts, seed=seed + at, sampling=config.train.sampling, threads=threads
        )
        return [rollout.trajectory(trial=trial, agent=MODEL, user="scripted") for trial, rollout in runs]

    general = tasks(general_pattern(domain), count, 1)
    diagnosis = play(tasks(general_pattern(domain), DIAGNOSIS, 2), 2, 2)
    found = [pattern for pattern in mine(domain, diagnosis).patterns if pattern.is_cause and pattern.label != "unfinished"]
    chosen = sorted(found, key=lambda pattern: -pattern.failures)[:PATTERNS]
    sets = {pattern.id: tasks(pattern, count, 3 + at) for at, pattern in enumerate(chosen)}
    runs = {name: play(own, 20 + at, trials) for at, (name, own) in enumerate(sets.items()) if own}
    on_general = play(general, 19, trials)
    plays = {name: watch(domain, own) for name, own in runs.items()}
    base = watch(domain, on_general)
    passed = {name: _pass_rate(domain, own) for name, own in [("general", on_general), *runs.items()]}
    rows = [_row(domain, pattern, chosen, plays, base, len(sets[pattern.id]), passed) for pattern in chosen]
    matrix = confusion([("general", base), *((pattern.label, plays.get(pattern.id, [])) for pattern in chosen)])
    return {
        "rows": rows,
        "passed": passed,
        "matrix": matrix,
        "diagnosis": [len(diagnosis), sum(not evaluate(domain, each).passed for each in diagnosis)],
    }


def _pass_rate(domain: Domain, runs: Sequence[Any]) -> float:
    return sum(evaluate(domain, run).passed for run in runs) / len(runs)


def _row(
    domain: Domain,
    pattern: FailurePattern,
    chosen: Sequence[FailurePattern],
    plays: dict[str, list[Play]],
    base: list[Play],
    tasks: int,
    passed: dict[str, float],
) -> dict[str, Any]:
    own = plays.get(pattern.id, [])
    others = [play for other in chosen if other.label != pattern.label for play in plays.get(other.id, [])]
    shares = [elicited(each, pattern) for each in (own, base, others)]
    return {
        "pattern": pattern.id,
        "failures": pattern.failures,
        "tasks": tasks,
        "passed": passed.get(pattern.id),
        "elicited": shares[:2],
        "lift": lift(shares[0], shares[1]),
        "placebo": lift(shares[2], shares[1]),
        "precision": [precision(each, pattern.label) for each in (own, base)],
        "per opportunity": [per_opportunity(domain, each, pattern) for each in (own, base)],
    }


def text(found: dict[str, Any]) -> str:
    """The tables."""
    attempts, failed = found["diagnosis"]
    lines = [
        f"The tiny Solver: patterns from {attempts} attempts at general tasks, of which {failed} failed; it passes "
        f"{100 * found['passed']['general']:.0f} % of the general tasks.",
        "| pattern | tasks | passed | elicited, targeted | general | lift | placebo | accepted | precision (general) "
        "| per opportunity (general) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        (own, general), (on_own, on_general) = row["elicited"], row["per opportunity"]
        passed = "–" if row["passed"] is None else f"{100 * row['passed']:.0f}"
        lines.append(
            f"| {row['pattern']} | {row['tasks']} | {passed} | {percent(own)} | {percent(general)} | {row['lift']} | {row['placebo']} "
            f"| {verdict(row['lift'], row['tasks'])} | {' ('.join(map(percent, row['precision']))}) "
            f"| {percent(on_own)} ({percent(on_general)}) |"
        )
    return "\n".join([*lines, "", "primary causes, %:", table(found["matrix"])])
