"""What a loop achieved, from its files: Pass^k before and after, failures by pattern, tasks by gate, seconds by stage."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sentinel_env import Domain, Estimate, Trajectory, evaluate, find_failures, paired_difference, pass_hat_k, read_trajectories
from sentinel_env.metrics import group_by_task, largest_k

from .loop_config import LoopConfig


class Summary(BaseModel):
    """The figures of a loop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    seed: int
    before: tuple[Estimate, ...]
    """Pass^1, Pass^2, ... of the starting model on the held-out tasks."""
    after: tuple[Estimate, ...]
    difference: tuple[Estimate, ...]
    """Paired by task, with 95 % intervals."""
    failures: dict[str, tuple[int, int]]
    """Pattern -> failed trajectories that show it, before and after."""
    proposed: int
    accepted: int
    rejected_by_gate: dict[str, int]
    pilot: dict[str, int]
    """How many accepted tasks the model passed now and then (and was trained on), always, and never; empty without pilot trials."""
    seconds: dict[str, float]


def summarise(folder: str | Path) -> Summary:
    """Read a finished loop, and write its `summary.json`."""
    folder = Path(folder)
    config = LoopConfig.model_validate_json((folder / "loop.json").read_text(encoding="utf-8"))
    domain = config.world()
    runs = [list(read_trajectories(folder / name)) for name in ("before", "after")]
    rewards = [group_by_task((each.task.id, evaluate(domain, each).reward) for each in run) for run in runs]
    most = range(1, min(largest_k(results) for results in rewards) + 1)
    counts = [_patterns(domain, run) for run in runs]
    rounds = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("rounds/*/round.json"))]
    gates: Counter[str] = Counter()
    for each in rounds:
        gates.update(each["rejected_by_gate"])
    pilot: Counter[str] = Counter()
    for file in folder.glob("rounds/*/pilot.json"):
        pilot.update(json.loads(file.read_text(encoding="utf-8")))
    summary = Summary(
        folder=str(folder),
        seed=config.seed,
        before=tuple(pass_hat_k(rewards[0], k) for k in most),
        after=tuple(pass_hat_k(rewards[1], k) for k in most),
        difference=tuple(paired_difference(rewards[0], rewards[1], k) for k in most),
        failures={name: (counts[0][name], counts[1][name]) for name in sorted({*counts[0], *counts[1]}, key=lambda name: -counts[0][name])},
        proposed=sum(row["proposed"] for each in rounds for row in each["patterns"].values()),
        accepted=sum(each["accepted"] for each in rounds),
        rejected_by_gate=dict(gates),
        pilot=dict(pilot),
        seconds=json.loads((folder / "seconds.json").read_text(encoding="utf-8")),
    )
    (folder / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return summary


def _patterns(domain: Domain, run: list[Trajectory]) -> Counter[str]:
    return Counter({pattern.id: pattern.failures for pattern in find_failures(domain, run) if pattern.is_cause})


def show(summary: Summary) -> None:
    """Print the figures as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)

    def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
        grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for at, column in enumerate(columns):
            grid.add_column(column, justify="left" if at == 0 else "right")
        for row in rows:
            grid.add_row(*row)
        console.print(title, style="bold", soft_wrap=True)  # a table's own title is wrapped to the table's width
        console.print(grid)
        console.print()

    passes = zip(summary.before, summary.after, summary.difference, strict=True)
    tasks = summary.before[0].tasks if summary.before else 0
    table(
        f"Held-out tasks: {tasks}, % with 95 % intervals (seed {summary.seed})",
        ["", "before", "after", "paired difference"],
        [[f"Pass^{k}", str(before), str(after), str(difference)] for k, (before, after, difference) in enumerate(passes, 1)],
    )
    table(
        "Failed trajectories by pattern",
        ["pattern", "before", "after"],
        [[name, str(before), str(after)] for name, (before, after) in summary.failures.items()],
    )
    table(
        f"Tasks made from failures: {summary.accepted} accepted of {summary.proposed} proposed",
        ["refused by gate", "drafts"],
        [[gate, str(count)] for gate, count in summary.rejected_by_gate.items()],
    )
    if summary.pilot:
        often = {"learnable": "now and then: trained on", "solved": "always", "deferred": "never: deferred"}
        table(
            "How often the model passed them in a pilot",
            ["", "tasks"],
            [[often[name], str(count)] for name, count in summary.pilot.items()],
        )
    rows = [[stage, f"{seconds:.0f}"] for stage, seconds in summary.seconds.items()]
    table("Seconds by stage", ["stage", "s"], [*rows, ["total", f"{sum(summary.seconds.values()):.0f}"]])
    console.print(f"All files are in {summary.folder}", highlight=False)
