"""`sentinel import tau2` and `import tau-bench`: recorded results of other benchmarks as runs of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console, options

if TYPE_CHECKING:
    from sentinel_env.importers.recorded import Imported

app = typer.Typer(no_args_is_help=True, help="Turn recorded results of other benchmarks into a run.", rich_markup_mode=None)

Results = Annotated[Path, typer.Argument(metavar="RESULTS.json", help="The recorded results.")]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder; runs/NAME-OF-THE-FILE otherwise.")]
_LIMIT = 10


@app.command("tau2")
def tau2(
    results: Results,
    data: options.Data = None,
    domain: options.OfDomain = None,
    out: Out = None,
    as_json: options.AsJson = False,
) -> None:
    """Import results of tau2-bench."""
    from sentinel_env.importers.results import import_tau2

    _keep(results, import_tau2(results, data=data, domain=domain), out, as_json)


@app.command("tau-bench")
def tau_bench(
    results: Results,
    data: options.Data = None,
    domain: options.OfDomain = None,
    out: Out = None,
    as_json: options.AsJson = False,
) -> None:
    """Import results of tau-bench (v1)."""
    from sentinel_env.importers.tau_bench import import_tau_bench

    _keep(results, import_tau_bench(results, data=data, domain=domain or "retail"), out, as_json)


def _keep(results: Path, imported: Imported, out: Path | None, as_json: bool) -> None:
    """Write the run, and say what was compared and what is wrong; exit code 1 when a part of the file could not be read."""
    from sentinel_env.run_folder import RunFolder
    from sentinel_env.runner import configuration, made_with
    from sentinel_env.scores import score

    folder = out or Path("runs") / results.stem
    tasks = list({trajectory.task.id: trajectory.task for trajectory in imported.trajectories}.values())
    settings = {"imported": results.name, "trajectories": len(imported.trajectories)}
    with RunFolder(folder, configuration(imported.domain, tasks, **settings), made_with=made_with()) as kept:
        total = score(imported.domain, imported.trajectories).model_dump()
        kept.complete(imported.trajectories, total)
    if as_json:
        console.echo_json(
            {
                "run": str(folder),
                "trajectories": len(imported.trajectories),
                "compared": {"outputs": imported.outputs, "database verdicts": imported.verdicts, "rewards": imported.rewards},
                "differences": [str(difference) for difference in imported.differences],
                "problems": [str(problem) for problem in imported.problems],
                "notes": list(imported.notes),
            }
        )
    else:
        console.echo(f"{len(imported.trajectories)} trajectories in {folder}")
        console.echo(
            f"executed again: {imported.outputs} tool outputs, {imported.verdicts} database verdicts "
            f"and {imported.rewards} rewards compared, {len(imported.differences)} differ"
        )
        for text in (*imported.differences[:_LIMIT], *(f"note: {note}" for note in imported.notes)):
            console.echo(f"  {text}")
        if len(imported.differences) > _LIMIT:
            console.echo(f"  and {len(imported.differences) - _LIMIT} more; --json has all of them")
        for problem in imported.problems:
            typer.echo(f"not imported: {problem}", err=True)
    if imported.problems:
        raise typer.Exit(1)
