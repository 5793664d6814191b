"""`sentinel run` and `score`: let an agent attempt tasks, and see how often it passes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console, options

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.scores import Score
    from sentinel_env.trajectory import Trajectory

MODELS = "sentinel_env.models"
"""The entry-point group of packages that let a model play: KIND in `--agent KIND:NAME`."""


def run(
    domain: options.DomainName,
    data: options.Data = None,
    option: options.Settings = None,
    tasks: Annotated[Path | None, typer.Option("--tasks", help="A tasks.jsonl instead of the domain's tasks.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split, such as test.")] = None,
    agent: Annotated[str, typer.Option("--agent", help="scripted, nothing, module:attribute, or hf:PATH.")] = "scripted",
    user: Annotated[str, typer.Option("--user", help="scripted, or module:attribute.")] = "scripted",
    trials: Annotated[int, typer.Option("--trials", min=1, help="Attempts at each task.")] = 1,
    seed: options.Seed = 0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Episodes that are live at once.")] = 8,
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="The agent's turns before an episode is cut.")] = 30,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder; runs/DOMAIN-AGENT-SPLIT otherwise.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Run an agent on tasks. The same command again goes on where it was stopped."""
    from sentinel_env.scores import score_by_split

    world = options.open_domain(domain, data, option)
    chosen = options.choose_tasks(world, tasks, split)
    named = "-".join(part for part in (world.name, agent, split) if part)
    folder = out or Path("runs") / re.sub(r"[^A-Za-z0-9]+", "-", named).strip("-")
    player = _model_player(agent)
    with console.progress(f"{world.name}, {agent}", len(chosen) * trials, show=not as_json) as show:
        if player is not None:
            results = player(folder, world, chosen, agent, options.choose_user(user), trials=trials, seed=seed, on_result=show)
        else:
            from sentinel_env.runner import run_tasks

            sides = options.choose_agent(agent, chosen), options.choose_user(user)
            limits: dict[str, Any] = {"trials": trials, "seed": seed, "concurrency": concurrency, "max_steps": max_steps}
            results = run_tasks(world, chosen, *sides, **limits, out=folder, on_result=_counting(world, show))
    _show(score_by_split(world, results), as_json, folder)


def score(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a trajectories.jsonl.")],
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    as_json: options.AsJson = False,
) -> None:
    """Print Pass^k by split, with 95 % intervals, and what failed."""
    from sentinel_env.scores import score_by_split

    ((_, world, trajectories),) = options.open_runs([run], domain, data, option)
    _show(score_by_split(world, trajectories), as_json, run)


def _counting(world: Domain, show: Callable[[int, int], None]) -> Callable[[Trajectory], None]:
    """Turn results into (finished, passed)."""
    from sentinel_env.evaluation import evaluate

    counts = [0, 0]

    def on_result(trajectory: Trajectory) -> None:
        counts[0] += 1
        counts[1] += evaluate(world, trajectory).passed
        show(*counts)

    return on_result


def _model_player(agent: str) -> Callable[..., list[Trajectory]] | None:
    """What lets `KIND:NAME` play into a run's folder, where a package has registered the kind; see `sentinel_train.evaluate.run_into`."""
    kind, colon, _ = agent.partition(":")
    for point in entry_points(group=MODELS, name=kind) if colon else ():
        player: Callable[..., list[Trajectory]] = point.load()
        return player
    return None


def _show(scores: Mapping[str, Score], as_json: bool, run: Path) -> None:
    if as_json:
        console.echo_json({"run": str(run), "splits": {split: score.model_dump() for split, score in scores.items()}})
        return
    columns = list(scores)
    rows: list[list[object]] = [
        ["tasks", *(scores[split].tasks for split in columns)],
        ["trajectories", *(scores[split].trajectories for split in columns)],
        ["passed", *(scores[split].passed for split in columns)],
    ]
    largest = max(len(score.pass_hat) for score in scores.values())
    for k in (k for k in range(1, largest + 1) if k <= 4 or k.bit_count() == 1 or k == largest):
        cells = [str(scores[split].pass_hat[k - 1]) if k <= len(scores[split].pass_hat) else "-" for split in columns]
        rows.append([f"Pass^{k} %", *cells])
    for what, counts in (("failed", "failed_checks"), ("ended by", "endings")):
        for name in dict.fromkeys(name for score in scores.values() for name in getattr(score, counts)):
            rows.append([f"{what} {name}", *(getattr(scores[split], counts).get(name, 0) for split in columns)])
    for name, what in (
        ("excluded", "left out (infrastructure)"),
        ("not_judged", "without the judge model"),
        ("recorded", "with a recorded reward"),
        ("agreed", "where it is the same"),
    ):
        if any(getattr(score, name) for score in scores.values()):
            rows.append([what, *(getattr(scores[split], name) for split in columns)])
    console.echo_table(["", *columns], rows, title=str(run))
