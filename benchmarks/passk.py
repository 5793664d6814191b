"""Pass^k of recorded runs by split, with 95 % intervals over tasks, without the trials in which the user was at fault, and with their cost.

    python benchmarks/passk.py runs/first runs/second           # a Markdown table, a row for each run and split
    python benchmarks/passk.py runs/first --k 1 4               # only these k
    python benchmarks/passk.py runs/first --json                # everything that `sentinel score` knows

A run is what `sentinel run` left, or any file of trajectories in its form, such as those that `sentinel import` writes. `sentinel score`
shows one run in full, and `sentinel compare` two of them task by task.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sentinel_env.commands import options
from sentinel_env.errors import SentinelError
from sentinel_env.metrics import Estimate
from sentinel_env.scores import Score, score_by_split

Rows = list[tuple[str, str, Score]]


def read(runs: Sequence[Path], domain: str | None, data: Path | None) -> Rows:
    """(run, split, score) of everything."""
    opened = options.open_runs(runs, domain, data, None)
    return [(str(run), split, score) for run, world, found in opened for split, score in score_by_split(world, found).items()]


def table(rows: Rows, wanted: Sequence[int]) -> Iterator[str]:
    """The table in Markdown. A column that no row needs is left out."""
    largest = max((len(score.pass_hat) for _, _, score in rows), default=0)
    shown = [k for k in wanted if k <= largest]
    columns = {
        "run": [run for run, _, _ in rows],
        "split": [split for _, split, _ in rows],
        "tasks": [str(score.tasks) for _, _, score in rows],
        "trials": [str(score.trajectories - score.excluded) for _, _, score in rows],
        "lost to infrastructure": [str(score.excluded or "") for _, _, score in rows],
        **{f"Pass^{k}, %": [_cell(score.pass_hat, k) for _, _, score in rows] for k in shown},
        "user at fault": [str(score.user_faults or "") for _, _, score in rows],
        **{f"Pass^{k} without, %": [_cell(score.without_user_faults, k) for _, _, score in rows] for k in shown},
        "agent's tokens": [_tokens(score, "agent") for _, _, score in rows],
        "agent's cost": [_cost(score, "agent") for _, _, score in rows],
        "user's tokens": [_tokens(score, "user") for _, _, score in rows],
        "user's cost": [_cost(score, "user") for _, _, score in rows],
    }
    used = {name: cells for name, cells in columns.items() if any(cells)}
    yield f"| {' | '.join(used)} |"
    yield f"|{'---|' * len(used)}"
    for cells in zip(*used.values(), strict=True):
        yield f"| {' | '.join(cell or '-' for cell in cells)} |"


def _cell(found: Sequence[Estimate], k: int) -> str:
    return str(found[k - 1]) if k <= len(found) else ""


def _tokens(score: Score, side: str) -> str:
    spent = score.usage.get(side)
    return f"{spent.prompt_tokens + spent.completion_tokens:,}" if spent else ""


def _cost(score: Score, side: str) -> str:
    spent = score.usage.get(side)
    if spent is None or spent.cost is None:
        return ""
    partly = f", known of {spent.with_cost} of {spent.trajectories}" if spent.with_cost < spent.trajectories else ""
    return f"${spent.cost:.4f} (${spent.cost / spent.with_cost:.4f} a trial{partly})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--k", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--domain", help="where it is not the one that a run names")
    parser.add_argument("--data", type=Path, help="a folder in tau2-bench's format")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        rows = read(given.runs, given.domain, given.data)
    except SentinelError as error:
        sys.exit(f"passk: {error}")
    if given.json:
        print(json.dumps([{"run": run, "split": split, **score.model_dump()} for run, split, score in rows], indent=2))
    else:
        print("\n".join(table(rows, given.k)))


if __name__ == "__main__":
    main()
