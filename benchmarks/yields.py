"""Yield: how many tasks each pattern gets, what refuses the others, and what an accepted task costs.

Each pattern is proposed for in rounds, with fresh seeds, until `count` tasks are accepted or nothing new comes. The gates run with the
full mutant set in the real episode; a second, smaller measurement runs only the pattern's own mistake there.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from pattern_tasks import every_pattern, make, retail

from sentinel_env.failures import CAUSES

_TIMED = 100
"""Accepted tasks of each pattern in the measurement with only the mistake."""
_WARM = 10
BUDGETS = {"ms proposing": 2.0, "ms mistake": 2.0, "ms": 10.0}
"""CPU milliseconds of an accepted task: proposing and the gates, with the pattern's mistake or with every foil in the real episode."""


def measure(count: int, *, processes: int, seconds: float) -> list[dict[str, Any]]:
    """One row for each pattern of retail."""
    jobs = [(at, count, seconds) for at in range(len(every_pattern(retail())))]
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as workers:
        return list(workers.map(_of_pattern, jobs))


def _of_pattern(job: tuple[int, int, float]) -> dict[str, Any]:
    at, count, seconds = job
    domain = retail()
    pattern = every_pattern(domain)[at]
    make(domain, pattern, count=_WARM, seed=99, seconds=1)  # what is worked out once for a domain is not a task's cost
    made = make(domain, pattern, count=count, seconds=seconds)
    quick = make(domain, pattern, count=min(count, _TIMED), seed=7, seconds=seconds / 10, rehearse="mistake")
    tools = domain.tools_by_name
    writes = {str(sorted(repr(call) for call in task.criteria.actions if tools[call.name].writes)) for task in made.tasks}
    certificates = [task.certificate for task in made.tasks if task.certificate is not None]
    return {
        "pattern": pattern.id,
        "label": pattern.label,
        "proposals": made.proposals,
        "accepted": len(made.tasks),
        "refused": dict(made.refused.most_common()),
        "misses": {"all": made.misses.total(), **dict(made.misses.most_common(5))},
        "rounds": made.rounds,
        "plans": len(writes),
        "own mistake": sum(bool(each.foils) and each.foils[0].label == pattern.label for each in certificates),
        "foils": statistics.mean(len(each.foils) for each in certificates) if certificates else 0.0,
        "augmented": sum(bool(task.changes) for task in made.tasks),
        "ms": made.milliseconds,
        "ms mistake": quick.milliseconds,
        "ms proposing": 1000 * quick.proposing / len(quick.tasks) if quick.tasks else None,
        "ended": made.ended,
        "why": made.why,
    }


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _refused(counts: Counter[str], proposals: int) -> str:
    return ", ".join(f"{name} {100 * count / max(1, proposals):.1f}" for name, count in counts.most_common(4)) or "–"


def text(rows: Sequence[dict[str, Any]], count: int) -> str:
    """A table by label, the patterns that do not reach the count with the reason, and one line for each pattern."""
    lines = [
        f"| label | patterns | with {count:,} | proposals | accepted | refused by, % of proposals | distinct writes | own mistake, % "
        "| foils | changed database, % | ms: mistake, all |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label in ("general", *dict.fromkeys(row["label"] for row in rows if row["label"] != "general")):
        own = [row for row in rows if row["label"] == label]
        proposals, accepted = (sum(row[name] for row in own) for name in ("proposals", "accepted"))
        refused: Counter[str] = Counter()
        for row in own:
            refused.update(row["refused"])
        costs = [[row[name] for row in own if row[name] is not None] for name in ("ms mistake", "ms")]
        lines.append(
            f"| {label if label in CAUSES or label == 'general' else f'*{label}*'} | {len(own)} "
            f"| {sum(row['accepted'] >= count for row in own)} | {proposals:,} | {accepted:,} | {_refused(refused, proposals)} "
            f"| {sum(row['plans'] for row in own):,} | {_share(own, 'own mistake')} "
            f"| {_number(_mean(own, 'foils'))} | {_share(own, 'augmented')} "
            f"| {', '.join(_number(statistics.median(each) if each else None) for each in costs)} |"
        )
    reached = sum(row["accepted"] >= count for row in rows)
    lines += ["", f"{reached} of {len(rows)} patterns have {count:,} accepted tasks. The others:"]
    lines += [f"- {row['pattern']}: {row['accepted']:,} ({row['ended']}): {row['why']}" for row in rows if row["accepted"] < count]
    for name, column in (("proposing alone", "ms proposing"), ("rehearsing the mistake", "ms mistake"), ("rehearsing everything", "ms")):
        known = [row for row in rows if row[column] is not None]
        over = [row for row in known if row[column] > BUDGETS[column]]
        if known:
            worst, middle = max(known, key=lambda row: row[column]), statistics.median(row[column] for row in known)
            lines.append(
                f"CPU of an accepted task, {name}: median {_number(middle)} ms, most {_number(worst[column])} "
                f"({worst['pattern']}); {len(over)} of {len(known)} over {BUDGETS[column]:.0f} ms"
            )
    lines += [
        "",
        "each pattern: accepted of proposals, refused by gate, distinct writes, ms with the mistake and with everything rehearsed",
    ]
    lines += [
        f"{row['pattern']:66} {row['accepted']:5} of {row['proposals']:5}  {row['plans']:5}  {_number(row['ms mistake']):>6} "
        f"{_number(row['ms']):>6}  {dict(row['refused'])}"
        for row in rows
    ]
    return "\n".join(lines)


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    accepted = sum(row["accepted"] for row in rows)
    return sum(row[name] * row["accepted"] for row in rows) / accepted if accepted else None


def _share(rows: Sequence[dict[str, Any]], name: str) -> str:
    accepted = sum(row["accepted"] for row in rows)
    return f"{100 * sum(row[name] for row in rows) / accepted:.0f}" if accepted else "–"
