"""`sentinel failures` and `compare`: what went wrong in a run and why, and how that moved between two runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel_env.errors import ConfigError

from . import console, executing, failure_text, options, summarising
from .files import write

if TYPE_CHECKING:
    from sentinel_env.failures import FailurePattern, FailureReport
    from sentinel_env.failures.summary import Summaries
    from sentinel_env.failures.tally import Tally
    from sentinel_env.ray_cluster import Ray
    from sentinel_env.trajectory import Trajectory
    from sentinel_env.variance import Sides

_LIMIT = 10

Undetermined = Annotated[bool, typer.Option("--undetermined", help="Mine failures that nothing decides along with the agent's.")]


def failures(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or trajectories.jsonl files.")],
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    why: Annotated[str | None, typer.Option("--why", metavar="TRAJECTORY", help="Explain one run, such as train-007/0.")] = None,
    undetermined: Undetermined = False,
    memory: Annotated[
        Path | None, typer.Option("--memory", help="A loop's memory.jsonl: where each pattern stands over its rounds.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the patterns as JSON lines.")] = None,
    as_json: options.AsJson = False,
    summarise: summarising.Summarise = False,
    model: options.ModelName = None,
    base_url: options.BaseUrl = None,
    samples: summarising.Samples = 5,
    max_cost: options.MaxCost = None,
    prices: options.Prices = None,
    executor: executing.Executor = "local",
    ray_address: executing.RayAddress = None,
) -> None:
    """Group what went wrong by cause, or explain one run.

    Runs in the same world are taken together. The exit code is 1 when something could not be analysed or no model answered; the rest is
    printed.
    """
    cluster = executing.choose_cluster(executor, ray_address)
    asked = summarising.choose_model(summarise, model, base_url, max_cost, prices)
    opened = [options.stream_run(run, domain, data, option) for run in runs]
    if why is not None:
        _explain(opened, why, as_json)
        return
    groups = _worlds(opened)
    reports = [_report(group, undetermined, memory, cluster) for group in groups]
    names = [", ".join(str(run.path) for run in group) for group in groups]
    for name, found in zip(names, reports, strict=True) if not as_json else ():
        for line in failure_text.report_lines(name, found):
            console.echo(line)
    _save(out, [pattern for found in reports for pattern in found.patterns])
    said: list[Summaries] = []
    for group, found in zip(groups, reports, strict=True):
        if asked is None:
            break
        said.append(summarising.summarise(asked, samples, group[0].domain, found, _stream(group), memory, show=not as_json))
        for line in summarising.summary_lines(said[-1]) if not as_json else ():
            console.echo(line)
    if said:
        _save(out, [pattern for found, words in zip(reports, said, strict=True) for pattern in words.applied(found.patterns)])
    if as_json:
        rows = [{"run": name} | found.model_dump() for name, found in zip(names, reports, strict=True)]
        for row, words in zip(rows, said, strict=False):
            row["summaries"] = words.model_dump()
        console.echo_json(rows)
    stopped = [words.stopped for words in said if words.stopped is not None and not words.out_of_budget]
    for reason in stopped:
        typer.echo(f"not summarised: {reason}", err=True)
    _complain([problem for found in reports for problem in found.problems])
    if stopped:
        raise typer.Exit(1)


def _save(out: Path | None, patterns: list[FailurePattern]) -> None:
    from sentinel_env.failures import save_patterns

    if out is not None:
        write(out, lambda: save_patterns(out, patterns))


def _worlds(opened: list[options.OpenRun]) -> list[list[options.OpenRun]]:
    """Runs whose domains were made in the same way, together."""
    groups: dict[str, list[options.OpenRun]] = {}
    for run in opened:
        groups.setdefault(repr(run.domain.origin), []).append(run)
    return list(groups.values())


def _report(group: list[options.OpenRun], undetermined: bool, memory: Path | None, cluster: Ray | None) -> FailureReport:
    from sentinel_env.failures import Memory
    from sentinel_env.failures.mining import report

    remembered = Memory.load(memory) if memory is not None else Memory()
    found = report(_count(group, cluster), undetermined=undetermined, known=remembered.known)
    if memory is None:
        return found
    last = remembered.rounds[-1].number if remembered.rounds else 0
    return found.model_copy(update={"patterns": remembered.observe(last + 1, found.patterns)})


def _count(group: list[options.OpenRun], cluster: Ray | None) -> Tally:
    """The counts of some runs."""
    if cluster is not None:
        from sentinel_env.ray_parts import tally_in_parts

        tally = tally_in_parts(cluster, group[0].domain, _stream(group))
    else:
        from sentinel_env.failures.tally import Tally

        tally = Tally(group[0].domain).add_all(_stream(group))
    for run in group:
        tally.problems[:0] = run.problems
    return tally


def _stream(group: list[options.OpenRun]) -> Iterator[Trajectory]:
    """The trajectories of some runs; their ids carry the run's name where there are several."""
    for run in group:
        yield from run.trajectories() if len(group) == 1 else _named(run)


def _named(run: options.OpenRun) -> Iterator[Trajectory]:
    for trajectory in run.trajectories():
        yield trajectory.model_copy(update={"id": f"{run.path.name}:{trajectory.id}"})


def _explain(opened: list[options.OpenRun], why: str, as_json: bool) -> None:
    from sentinel_env.failures.explain import explain

    known: list[str] = []
    for run in opened:
        for trajectory in run.trajectories():
            if why in (trajectory.id, f"{run.path.name}:{trajectory.id}"):
                explanation = explain(run.domain, trajectory)
                if as_json:
                    console.echo_json({"run": str(run.path)} | explanation.model_dump())
                    return
                for line in failure_text.explanation_lines(trajectory, explanation):
                    console.echo(line)
                return
            known.append(trajectory.id)
    close = difflib.get_close_matches(why, known, n=1) or [each for each in known if each.startswith(why)][:1]
    hint = f"did you mean {close[0]!r}?" if close else f"such as {', '.join(known[:5])}"
    raise ConfigError(f"no trajectory {why!r} in {', '.join(str(run.path) for run in opened)}; {hint}")


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="BEFORE AFTER...", help="Two runs in one world; more of them are compared with the first.")
    ],
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    undetermined: Undetermined = False,
    as_json: options.AsJson = False,
) -> None:
    """Compare two runs: how Pass^k and the failure patterns moved, task by task where tasks are shared, and which tasks flipped.

    Runs that cross agents with users, such as two agents, each with the same two users, also show how much of the variance of outcomes is
    due to each side.
    """
    from sentinel_env.failures.comparison import compare_runs
    from sentinel_env.variance import Sides, split_variance

    if len(runs) < 2:
        raise ConfigError(f"compare takes two runs or more, found only {runs[0]}")
    opened = [options.stream_run(run, domain, data, option) for run in runs]
    for run in opened[1:]:
        if run.domain.name != opened[0].domain.name:
            both = f"{runs[0]} is a run in {opened[0].domain.name} and {run.path} one in {run.domain.name}"
            raise ConfigError(f"{both}; only runs in one domain can be compared")
    sides = Sides()
    tallies = [_count_sides(run, sides) for run in opened]
    split = split_variance(sides.outcomes())
    later = zip(runs[1:], tallies[1:], strict=True)
    found = [(str(runs[0]), str(run), compare_runs(tallies[0], tally, undetermined=undetermined)) for run, tally in later]
    if as_json:
        rows = [{"before": before, "after": after} | comparison.model_dump() for before, after, comparison in found]
        variance = {"variance": split.model_dump()}
        console.echo_json(rows[0] | variance if len(rows) == 1 else {"comparisons": rows} | variance)
    else:
        for at, (before, after, comparison) in enumerate(found):
            for line in [*([""] if at else []), *failure_text.comparison_lines(before, after, comparison)]:
                console.echo(line)
        if len(runs) > 2 or (len(split.agents) > 1 and len(split.users) > 1):
            for line in ["", *failure_text.variance_lines(split)]:
                console.echo(line)
    _complain([problem for tally in tallies for problem in tally.problems])


def _count_sides(run: options.OpenRun, sides: Sides) -> Tally:
    """The counts of a run, whose outcomes go into `sides` as well."""
    from sentinel_env.failures.tally import Tally
    from sentinel_env.run_folder import CONFIGURATION, read_configuration

    made_by = read_configuration(run.path) if (run.path / CONFIGURATION).exists() else None

    def noted() -> Iterator[Trajectory]:
        for trajectory in run.trajectories():
            sides.add(run.domain, trajectory, made_by)
            yield trajectory

    tally = Tally(run.domain).add_all(noted())
    tally.problems[:0] = run.problems
    return tally


def _complain(problems: list[str]) -> None:
    """Say what could not be analysed; the exit code is 1 then."""
    for problem in problems[:_LIMIT]:
        typer.echo(f"not analysed: {problem}", err=True)
    if len(problems) > _LIMIT:
        typer.echo(f"not analysed: {len(problems) - _LIMIT} more; --json has all of them", err=True)
    if problems:
        raise typer.Exit(1)
