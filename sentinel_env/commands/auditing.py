"""`sentinel audit`: what is wrong with tasks that somebody wrote."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sentinel_env.errors import ConfigError

from . import console, options
from .files import write

if TYPE_CHECKING:
    from sentinel_env.auditing import Issue
    from sentinel_env.domain import Domain
    from sentinel_env.tasks import Task

_LIMIT = 60


def audit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TASKS_OR_DOMAIN", help="A tasks.jsonl, a tasks.json of tau2-bench, or a domain, whose own tasks are examined."
        ),
    ],
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    split: Annotated[str | None, typer.Option("--split", help="Examine the tasks of one split only.")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Show the notes too.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write every finding as a JSON line.")] = None,
    fail_on: Annotated[
        Literal["broken", "suspect", "never"], typer.Option("--fail-on", help="The least severity that makes the exit code 1.")
    ] = "broken",
    as_json: options.AsJson = False,
) -> None:
    """Find tasks that are broken, pay for doing nothing or cannot be known.

    The exit code is 1 when something is broken; see --fail-on.
    """
    from sentinel_env import auditing

    world, tasks = _open(source, domain, data, option)
    if split is not None:
        tasks = replace(world, tasks=lambda: tasks).split(split)
    if not tasks:
        raise ConfigError(f"{source} holds no tasks")
    with console.progress(f"auditing {world.name}", len(tasks), show=not as_json) as show:
        found = auditing.audit(world, tasks, on_task=show)
    if out is not None:
        write(out, lambda: auditing.save_issues(out, found))
    if as_json:
        console.echo_json([issue.model_dump() for issue in found])
    else:
        _print(world, tasks, found, notes, out)
    grave = {"never": (), "broken": ("broken",), "suspect": ("broken", "suspect")}[fail_on]
    if any(issue.severity in grave for issue in found):
        raise typer.Exit(1)


def _open(source: str, name: str | None, data: Path | None, settings: list[str] | None) -> tuple[Domain, tuple[Task, ...]]:
    """The world and the tasks: those of a file, or a domain's own."""
    from sentinel_env.importers.tau2 import parse_tasks
    from sentinel_env.tasks import load_tasks

    path = Path(source)
    if path.suffix == ".jsonl" or (path.is_file() and path.suffix != ".py" and path.suffix != ".json"):
        tasks = load_tasks(path)
        if not tasks:
            raise ConfigError(f"{source} holds no tasks")
        return options.open_domain(name or tasks[0].domain, data, settings), tasks
    if path.suffix == ".json":
        if name is None:
            raise ConfigError(
                f"{source} is in tau2-bench's format, which does not name our domain; add --domain, and --data for its database"
            )
        world = options.open_domain(name, data, settings)
        return world, parse_tasks(_read_json(path), origin=source, domain=world.name, db=world.base)
    if name is not None and name != source:
        raise ConfigError(f"{source!r} is taken for a domain, and --domain says {name!r}; expected a file of tasks, or one of the two")
    world = options.open_domain(source, data, settings)
    return world, tuple(world.tasks())


def _read_json(path: Path) -> object:
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None


def _print(world: Domain, tasks: tuple[Task, ...], found: tuple[Issue, ...], notes: bool, out: Path | None) -> None:
    from sentinel_env.auditing import KINDS, SEVERITIES

    shown = [issue for severity in SEVERITIES for issue in found if issue.severity == severity and (notes or severity != "note")]
    for issue in shown[:_LIMIT]:
        console.echo(issue.line)
    if len(shown) > _LIMIT:
        console.echo(f"... and {len(shown) - _LIMIT} more{f', all in {out}' if out else '; --out FILE writes them all'}")
    counts = Counter((issue.kind, issue.severity) for issue in found)
    kinds = {issue.kind for issue in found}
    rows = [[kind, *(counts[kind, severity] for severity in SEVERITIES), means] for kind, means in KINDS.items() if kind in kinds]
    if rows:
        console.echo_table(["kind", *SEVERITIES, "what it means"], rows)
    totals = Counter(issue.severity for issue in found)
    faulty = len({issue.task for issue in found if issue.severity != "note"} - {None})
    summary = ", ".join(f"{totals[severity]} {severity}" for severity in SEVERITIES)
    console.echo(f"{world.name}: {len(tasks)} tasks, {faulty} with a finding; {summary}{f', in {out}' if out else ''}")
