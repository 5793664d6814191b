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
    agent: Annotated[str | None, typer.Option("--agent", help="scripted (the default), nothing, or module:attribute.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="A model as the agent: hf:PATH for a checkpoint, provider/model, or its name at --base-url."
        ),
    ] = None,
    base_url: options.BaseUrl = None,
    prices: options.Prices = None,
    temperature: options.Temperature = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Of one turn of the model; 4096 if not given.")] = None,
    tools_in_text: Annotated[bool, typer.Option("--tools-in-text", help="For a model or server without tool calls.")] = False,
    user: Annotated[str | None, typer.Option("--user", help="scripted (the default), or module:attribute.")] = None,
    user_model: options.UserModel = None,
    user_base_url: options.UserBaseUrl = None,
    user_prices: options.UserPrices = None,
    user_temperature: options.UserTemperature = None,
    max_cost: Annotated[float | None, typer.Option("--max-cost", metavar="DOLLARS", help="Stop before both models cost more.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Attempts at each task.")] = 1,
    seed: options.Seed = 0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Episodes that are live at once.")] = 8,
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="The agent's turns before an episode is cut.")] = 30,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder; runs/DOMAIN-AGENT-SPLIT otherwise.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Run an agent on tasks. The same command again goes on where it was stopped."""
    from sentinel_env.scores import score_by_split

    from .models import AgentOptions, ModelOptions, Players, after_errors

    named = AgentOptions(agent, ModelOptions("", model, base_url, prices, temperature), max_tokens, tools_in_text)
    talking = ModelOptions("user-", user_model, user_base_url, user_prices, user_temperature)
    name, player = named.name, _model_player(named.name)
    named.check(plays_here=player is not None)
    talking.check()
    world = options.open_domain(domain, data, option)
    chosen = options.choose_tasks(world, tasks, split)
    slug = "-".join(part for part in (world.name, name, split) if part)
    folder = out or Path("runs") / re.sub(r"[^A-Za-z0-9]+", "-", slug).strip("-")
    players = Players(max_cost)
    customer = players.user(user, talking, named.model)
    with console.progress(f"{world.name}, {name}", len(chosen) * trials, show=not as_json) as show:
        if player is not None:
            players.check()
            results = player(folder, world, chosen, name, customer, trials=trials, seed=seed, on_result=show)
            players.close()
        else:
            from sentinel_env.runner import run_tasks

            sides = players.agent(named, chosen), customer
            players.check()
            limits: dict[str, Any] = {"trials": trials, "seed": seed, "concurrency": concurrency, "max_steps": max_steps}
            results = run_tasks(world, chosen, *sides, **limits, out=folder, on_result=_counting(world, show))
    _show(score_by_split(world, results), as_json, folder, players.usage())
    after_errors(results, players)


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


def _show(scores: Mapping[str, Score], as_json: bool, run: Path, usage: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    if as_json:
        found = {"run": str(run), "splits": {split: score.model_dump() for split, score in scores.items()}}
        console.echo_json({**found, "usage": usage} if usage else found)
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
    if usage:
        _show_usage(usage)


def _dollars(cost: float | None) -> str:
    if cost is None:
        return "unknown; give --prices"
    return "under $0.0001" if 0 < cost < 0.0001 else f"${cost:.4f}"


def _show_usage(usage: Mapping[str, Mapping[str, Any]]) -> None:
    rows = []
    for side, used in usage.items():
        counts = (used[name] for name in ("calls", "failed", "prompt_tokens", "completion_tokens"))
        rows.append([side, used["model"], *counts, _dollars(used["cost"])])
    console.echo()
    console.echo_table(["", "model", "calls", "without an answer", "prompt tokens", "answer tokens", "cost"], rows, title="asked now")
    for side, used in usage.items():
        if used["left_out"]:
            console.echo(f"the {side}'s server does not take {', '.join(used['left_out'])}; it was asked without")
