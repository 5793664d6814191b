"""The `sentinel` command: one function a verb, in `commands/`.

Exit codes: 0 when it worked, 1 with one line for a `SentinelError`, 2 for wrong usage, 3 when a run reached one of its limits, 130 after an
interrupt. Verbs import what they need when they run, so that `--help` is instant; verbs of other packages come from the entry-point group
`sentinel_env.commands`.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from .commands import auditing, exporting, failing, importing, playing, running, scoring, serving, targeting, verifying, worlds
from .errors import SentinelError

GROUP = "sentinel_env.commands"
_SUMMARIES = {
    "train": "Train a model on tasks by reinforcement learning (extra: train).",
    "loop": "Run, find failures, make tasks from them, train, run again (extra: train).",
}

_EXTRAS = dict.fromkeys(("torch", "transformers", "trl", "datasets", "accelerate", "peft"), "train") | {"mcp": "mcp", "openenv": "openenv"}
"""Package -> the extra that installs it."""


INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""A disk that is full, a file that may not grow, a quota that is used up."""


class Verbs(TyperGroup):
    """The verbs, with every error raised on purpose printed as one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except SentinelError as error:
            text = " ".join(str(error).split())
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            text = f"this needs {package}, which is not installed; pip install 'sentinel-env[{_EXTRAS[package]}]'"
        except (KeyboardInterrupt, EOFError):
            typer.echo("sentinel: stopped", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno not in _FULL:
                raise
            _leave_output()
            text = f"cannot write the output: {error.strerror}"
        typer.echo(f"sentinel: {text}", err=True)
        raise typer.Exit(1)


def _leave_output() -> None:
    """Let the interpreter end without another attempt at what standard output does not take."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An environment, failure analysis and task synthesis for tool-using language-model agents.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version.")) -> None:
    """Run agents on tasks, see why they fail, make verified tasks from that, and train."""


_VERBS: dict[str, Callable[..., None]] = {
    "domains": worlds.domains,
    "check": worlds.check,
    "play": playing.play,
    "run": running.run,
    "score": scoring.score,
    "failures": failing.failures,
    "compare": failing.compare,
    "propose": targeting.propose,
    "verify": verifying.verify,
    "audit": auditing.audit,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)
app.add_typer(importing.app, name="import")
app.add_typer(exporting.app, name="export")
app.add_typer(serving.app, name="serve")


def _add_plug_in(point: EntryPoint) -> None:
    """Register a verb of another package without importing it: what follows its name is handed on when it is used."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}

    @app.command(point.name, help=_SUMMARIES.get(point.name, f"From {point.value}."), context_settings=settings, add_help_option=False)
    def verb(ctx: typer.Context) -> None:
        own = typer.Typer(
            pretty_exceptions_enable=False,
            add_completion=False,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        own.command(point.name)(point.load())
        code = own(args=ctx.args, prog_name=ctx.command_path, standalone_mode=False)
        if code == INTERRUPTED:  # which typer has caught by then
            raise KeyboardInterrupt
        if isinstance(code, int) and code:
            raise typer.Exit(code)


for _point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
    _add_plug_in(_point)


def main(arguments: list[str] | None = None) -> None:
    """The entry point of the `sentinel` command."""
    app(args=sys.argv[1:] if arguments is None else arguments, prog_name="sentinel")
