"""What a loop achieved, from its files: Pass^k before and after, failures by pattern, tasks by gate, seconds by stage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sentinel_env import Domain, Estimate, Trajectory, evaluate, find_failures, paired_difference, pass_hat_k, read_trajectories
from sentinel_env.metrics import group_by_task, largest_k

from .accounting import Cost, Ledger
from .loop_config import LoopConfig
from .pool import TaskPool
from .states import TrainingFolder


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
    states: dict[str, int]
    """Where the tasks of the pool stand in the end; see `sentinel_train.standing`."""
    rollouts: Cost
    """Of the model, by purpose."""
    updates: int
    alarms: tuple[str, ...]
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
        states=TaskPool(folder / "pool.jsonl").before(config.rounds + 1, "propose").states(),
        rollouts=Ledger(folder / "rollouts.jsonl").total(),
        updates=sum(each["trained"]["updates"] for each in rounds),
        alarms=tuple(_alarms(folder, rounds)),
        seconds=json.loads((folder / "seconds.json").read_text(encoding="utf-8")),
    )
    (folder / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return summary


def _alarms(folder: Path, rounds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the watches of each round saw, and what its training raised, in how many updates."""
    for number, each in enumerate(rounds, 1):
        yield from (f"round {number}: {reading['text']}" for reading in each.get("readings", {}).values() if reading["alarm"])
        if each["trained"]["stopped"]:
            yield f"round {number}: {each['trained']['stopped']}"
        raised = Counter(
            alarm for update in TrainingFolder(folder / f"rounds/{number:03d}/checkpoint").updates() for alarm in update.alarms
        )
        yield from (f"round {number}: {alarm} ({count} updates)" for alarm, count in raised.items())


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
    often = {
        "pilot": "to be tried",
        "active": "now and then",
        "solved": "always, the last time",
        "deferred": "never: put off",
        "retired": "nearly always, twice",
    }
    table(
        "How often the model passes them",
        ["", "tasks"],
        [[often[name], str(count)] for name, count in summary.states.items() if count],
    )
    table(
        f"Rollouts: {summary.rollouts.counted} counted, {summary.updates} updates",
        ["purpose", "rollouts"],
        [[name, str(count)] for name, count in summary.rollouts.model_dump().items()],
    )
    for alarm in summary.alarms:
        console.print(f"alarm: {alarm}", style="yellow", markup=False)
    rows = [[stage, f"{seconds:.0f}"] for stage, seconds in summary.seconds.items()]
    table("Seconds by stage", ["stage", "s"], [*rows, ["total", f"{sum(summary.seconds.values()):.0f}"]])
    console.print(f"All files are in {summary.folder}", highlight=False)
