"""`sentinel propose`: from failure patterns to draft tasks that stress them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel_env.errors import ConfigError

from . import console, drafting, executing, options
from .files import write

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.failures import FailurePattern
    from sentinel_env.proposals import TaskProposal
    from sentinel_env.ray_cluster import Ray

_LIMIT = 15
_REASONS = 3


def propose(
    patterns: Annotated[Path, typer.Argument(metavar="FAILURES.jsonl", help="Failure patterns, as `sentinel failures --out` writes them.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the proposals.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Proposals for each pattern.")] = 10,
    split: Annotated[str, typer.Option("--split", help="The split that the tasks are for.")] = "train",
    model: options.ModelName = None,
    paraphrase: drafting.Paraphrase = False,
    base_url: options.BaseUrl = None,
    max_cost: options.MaxCost = None,
    prices: options.Prices = None,
    seed: options.Seed = 0,
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    executor: executing.Executor = "local",
    ray_address: executing.RayAddress = None,
    as_json: options.AsJson = False,
) -> None:
    """Draft tasks that stress failure patterns.

    Each comes with the mistake that it must punish; verify them before use. With a model, it writes them or rewords them, and what is
    written has passed the gates.
    """
    from sentinel_env.failures import check_pattern, load_patterns

    cluster = executing.choose_cluster(executor, ray_address)
    if cluster is not None and model is not None:
        raise ConfigError("--executor ray is for the program's own drafts; a model writes them elsewhere already")
    writer = drafting.choose_model(model, base_url, max_cost, prices, paraphrase)
    loaded = load_patterns(patterns)
    if not loaded:
        raise ConfigError(f"{patterns} holds no failure pattern")
    world = options.open_domain(domain or loaded[0].domain, data, option)
    for pattern in loaded:
        check_pattern(world, pattern)
    if writer is not None:
        drafting.propose(writer, world, loaded, out, n=n, seed=seed, split=split, paraphrase=paraphrase, as_json=as_json)
        return
    _propose(world, loaded, out, n=n, seed=seed, split=split, cluster=cluster, as_json=as_json)


def _propose(
    world: Domain, patterns: Sequence[FailurePattern], out: Path, *, n: int, seed: int, split: str, cluster: Ray | None, as_json: bool
) -> None:
    from sentinel_env.proposals import save_proposals

    drafts: list[TaskProposal] = []
    counts: dict[str, int] = {}
    misses: dict[str, Counter[str]] = {}
    unpunished: dict[str, str] = {}
    with console.progress("proposing", len(patterns), show=not as_json) as show:
        found_by_pattern = drafting.program_drafts(world, patterns, n=n, seed=seed, split=split, cluster=cluster)
        for at, (pattern, (made, why)) in enumerate(zip(patterns, found_by_pattern, strict=True), 1):
            counts[pattern.id] = counts.get(pattern.id, 0) + len(made)
            if len(made) < n:
                misses[pattern.id] = why
            if made and made[0].unpunished:
                unpunished[pattern.id] = made[0].unpunished
            drafts.extend(made)
            show(at)
    write(out, lambda: save_proposals(out, drafts))
    if as_json:
        found = {"out": str(out), "proposals": len(drafts), "by_pattern": counts}
        short = {name: dict(why.most_common(_LIMIT)) for name, why in misses.items()}
        console.echo_json({**found, "too_few": short, "opportunity_only": unpunished})
    else:
        console.echo_table(["failure pattern", "proposals"], list(counts.items()))
        for name, why in misses.items():
            reasons = "; ".join(f"{reason} ({times})" for reason, times in why.most_common(_REASONS)) or "there is no task to start from"
            typer.echo(f"{name}: {counts[name]} of {n} drafts; tries came to nothing because: {reasons}", err=True)
        for name, text in unpunished.items():
            typer.echo(f"{name}: its drafts give the opportunity, but no foil makes the mistake: {text}", err=True)
        console.echo(f"{len(drafts)} proposals in {out}")
    if not drafts:
        raise ConfigError("no draft could be made")
