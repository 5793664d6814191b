"""`sentinel run`: let an agent attempt tasks, and see how often it passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel_env.errors import ConfigError

from . import executing, options

if TYPE_CHECKING:
    from sentinel_env.trajectory import Trajectory

_PATIENCE = 10.0
"""Minutes that a server which went away is waited for."""
STOPPED = 3
"""The exit code of a run that reached one of its limits."""
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
    user_max_tokens: options.UserMaxTokens = None,
    max_cost: Annotated[float | None, typer.Option("--max-cost", metavar="DOLLARS", help="Stop before both models cost more now.")] = None,
    max_minutes: Annotated[float | None, typer.Option("--max-minutes", metavar="N", help="Stop after so long.")] = None,
    max_error_rate: Annotated[
        float | None,
        typer.Option("--max-error-rate", metavar="SHARE", help="Stop when infrastructure ends more of the last 20 attempts, such as 0.5."),
    ] = None,
    wait_for_server: Annotated[
        float | None,
        typer.Option("--wait-for-server", metavar="MINUTES", help="Wait so long for a server that goes away; 10 if not given, 0 for not."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="For one request to a model, which is asked again then; 120 if not given."),
    ] = None,
    max_in_flight: Annotated[int | None, typer.Option("--max-in-flight", metavar="N", help="Requests to one model at once.")] = None,
    max_per_minute: Annotated[float | None, typer.Option("--max-per-minute", metavar="N", help="Requests to one model a minute.")] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Keep the models' answers, and ask only for what is not there.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Answer from what was recorded; no model is asked.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="Only the first N tasks.")] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Attempts at each task.")] = 1,
    seed: options.Seed = 0,
    agent_seed: Annotated[
        int | None, typer.Option("--agent-seed", help="In place of --seed for the agent; with --user-seed, runs can cross both sides.")
    ] = None,
    user_seed: Annotated[int | None, typer.Option("--user-seed", help="In place of --seed for the user.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Episodes that are live at once.")] = 8,
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="The agent's turns before an episode is cut.")] = 30,
    executor: executing.Executor = "local",
    ray_address: executing.RayAddress = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder; runs/DOMAIN-AGENT-SPLIT otherwise.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Run an agent on tasks. The same command again goes on where it was stopped; exit code 3 says that a limit stopped it."""
    from sentinel_env.run_limits import Limits, StoppedError
    from sentinel_env.scores import score_by_split

    from .models import AgentOptions, Asking, ModelOptions, Players, after_errors
    from .run_progress import progress
    from .scoring import show_scores

    named = AgentOptions(agent, ModelOptions("", model, base_url, prices, temperature), max_tokens, tools_in_text)
    talking = ModelOptions("user-", user_model, user_base_url, user_prices, user_temperature, user_max_tokens)
    name, player = named.name, _model_player(named.name)
    named.check(plays_here=player is not None)
    talking.check()
    cluster = executing.choose_cluster(executor, ray_address)
    here: dict[str, object] = {
        "--agent-seed": agent_seed,
        "--user-seed": user_seed,
        "--executor ray": cluster,
        "--wait-for-server": wait_for_server,
    }
    if player is not None and (given := [option for option, value in here.items() if value is not None]):
        raise ConfigError(f"{given[0]} is not for {name}, which plays in batches")
    if cluster is not None and (record or replay) is not None:
        raise ConfigError(f"{'--record' if replay is None else '--replay'} is for --executor local: a cassette belongs to one process")
    patience = _PATIENCE if wait_for_server is None else wait_for_server
    limits = Limits(max_minutes=max_minutes, max_error_rate=max_error_rate, wait_for_server=patience)
    world = options.open_domain(domain, data, option)
    chosen = options.choose_tasks(world, tasks, split)[:limit]
    slug = "-".join(part for part in (world.name, name, split) if part)
    folder = out or Path("runs") / re.sub(r"[^A-Za-z0-9]+", "-", slug).strip("-")
    players = Players(Asking(max_cost, max_in_flight, max_per_minute, timeout, record, replay))
    customer = players.user(user, talking, named.model)
    stopped: StoppedError | None = None
    total, found = len(chosen) * trials, _lines(folder)
    shown = progress(f"{world.name}, {name}", total, found=found, show=not as_json)
    with closing(players), shown as show:
        settings: dict[str, Any] = {"trials": trials, "seed": seed, "limits": limits}
        try:
            if player is not None:
                players.check()
                settings |= {} if temperature is None else {"temperature": temperature}
                results = player(folder, world, chosen, name, customer, **settings, on_result=show.count)
            else:
                from sentinel_env.runner import run_tasks

                sides = players.agent(named, chosen), customer
                players.check(plays=found < total)
                settings |= {"concurrency": concurrency, "max_steps": max_steps, "executor": cluster or "local"}
                settings |= {"agent_seed": agent_seed, "user_seed": user_seed}
                results = run_tasks(world, chosen, *sides, **settings, out=folder, on_result=partial(show.add, world), on_wait=show.say)
        except StoppedError as error:
            stopped, results = error, list(error.results)
    if results:
        show_scores(score_by_split(world, results), folder, players.usage(), as_json=as_json)
    if stopped is not None:
        typer.echo(f"sentinel: {stopped}", err=True)
        raise typer.Exit(STOPPED)
    after_errors(results, players)


def _lines(folder: Path) -> int:
    """How many attempts a run's folder has, finished and readable or not."""
    try:
        with (folder / "trajectories.jsonl").open("rb") as file:
            return sum(1 for _ in file)
    except OSError:  # not there yet, or a folder that the run will refuse
        return 0


def _model_player(agent: str) -> Callable[..., list[Trajectory]] | None:
    """What lets `KIND:NAME` play into a run's folder, where a package has registered the kind; see `sentinel_train.evaluate.run_into`."""
    kind, colon, _ = agent.partition(":")
    for point in entry_points(group=MODELS, name=kind) if colon else ():
        player: Callable[..., list[Trajectory]] = point.load()
        return player
    return None
