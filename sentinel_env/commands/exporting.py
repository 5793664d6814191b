"""`sentinel export tau2`: our tasks and database as a folder that another benchmark loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console, options

if TYPE_CHECKING:
    from sentinel_env.exporters.tau2 import Exported

app = typer.Typer(no_args_is_help=True, help="Write tasks in the format of another benchmark.", rich_markup_mode=None)
_LIMIT = 15


@app.callback()
def formats() -> None:
    """Write tasks in the format of another benchmark."""


@app.command("tau2")
def tau2(
    tasks: Annotated[Path, typer.Argument(metavar="TASKS.jsonl", help="The tasks, as `sentinel verify --out` writes them.")],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; made where it is missing.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the files of an earlier export.")] = False,
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a folder with db.json, tasks.json, split_tasks.json and policy.md, as tau2-bench keeps its retail domain.

    Put it in the place of data/tau2/domains/retail, or into a data folder that TAU2_DATA_DIR names. A task that tau2-bench's tools
    cannot carry out, or grade otherwise in what matters, is left out and named.
    """
    from sentinel_env.errors import TaskError
    from sentinel_env.exporters.tau2 import export_tau2
    from sentinel_env.tasks import load_tasks

    loaded = load_tasks(tasks)
    if not loaded:
        raise TaskError(f"{tasks} holds no task")
    world = options.open_domain(domain or loaded[0].domain, data, option)
    _report(export_tau2(world, loaded, out, force=force), as_json)


def _report(exported: Exported, as_json: bool) -> None:
    if as_json:
        console.echo_json(
            {
                "folder": str(exported.folder),
                "tasks": list(exported.tasks),
                "left_out": exported.left_out,
                "warnings": {task: list(texts) for task, texts in exported.warnings.items()},
            }
        )
        return
    warned = [f"warning: task {task!r}: {text}" for task, texts in exported.warnings.items() for text in texts]
    for lines in ([f"left out: task {task!r}: {reason}" for task, reason in exported.left_out.items()], warned):
        for line in lines[:_LIMIT]:
            typer.echo(line, err=True)
        if len(lines) > _LIMIT:
            typer.echo(f"  and {len(lines) - _LIMIT} more; --json has all of them", err=True)
    total = len(exported.tasks) + len(exported.left_out)
    console.echo(f"{len(exported.tasks)} of {total} tasks in {exported.folder}")
