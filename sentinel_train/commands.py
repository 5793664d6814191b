"""`sentinel train` and `sentinel loop`, with progress on standard error and tables or JSON on standard output."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .files import is_first_process

if TYPE_CHECKING:
    from .estimate import Estimate
    from .states import Trained

Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same results; the configuration's own where it is left out.")]
Out = Annotated[Path | None, typer.Option("--out", help="The folder; runs/NAME-OF-THE-CONFIGURATION otherwise.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print memory, tokens and rollouts, and what would be run; load no weights.")]

_SILENCE = 10.0
"""Seconds that a process beside the main one waits before it reports an error."""


@contextmanager
def _said_once() -> Iterator[None]:
    """Of several processes let the main one speak first of an error: where all have it, the launcher ends the others before they speak."""
    from sentinel_env import SentinelError

    try:
        yield
    except SentinelError:
        if not is_first_process():
            time.sleep(_SILENCE)
        raise


@_said_once()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Settings of the run: sentinel_train.TrainConfig, or a loop's.")],
    tasks: Annotated[Path | None, typer.Option("--tasks", help="A tasks.jsonl to train on.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="The domain, where it is not the one that the tasks name.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the domain.")] = None,
    user: Annotated[str, typer.Option("--user", help="scripted, or module:attribute.")] = "scripted",
    seed: Seed = None,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on tasks by reinforcement learning (GRPO)."""
    from sentinel_env import ConfigError, load_domain, load_tasks
    from sentinel_env.commands.options import choose_user, read_settings

    from .loop_config import read_recipe

    quiet()
    settings, recipe = read_recipe(config)
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    loaded = load_tasks(tasks) if tasks else ()
    if tasks is None and not (dry_run and recipe):
        raise ConfigError("there is nothing to train on; name a tasks.jsonl with --tasks")
    if recipe and not domain and not option:
        world = recipe.world()
    else:
        world = load_domain(domain or (loaded[0].domain if loaded else ""), **read_settings(option or []))
    if dry_run:
        from .estimate import estimate, sample_tasks

        chosen = sample_tasks(recipe, world) if recipe and not loaded else loaded
        _show(estimate(settings, world, chosen), as_json=as_json)
        return
    folder = out or Path("runs") / config.stem
    with progress(show=is_first_process() and not as_json) as report:
        from .trainer import train as run

        def on_step(logs: dict[str, float]) -> None:
            report("training", int(logs["step"]), settings.steps, f"reward {logs['rewards/outcome/mean']:.2f}")

        ended = run(settings, world, loaded, choose_user(user), out=folder, progress=on_step)
    if is_first_process():
        _show_trained(folder, ended, as_json=as_json)


def _show_trained(folder: Path, ended: Trained, *, as_json: bool) -> None:
    from .states import TrainingFolder

    rates = [update.reward for update in TrainingFolder(folder).updates()]
    if as_json:
        print(json.dumps({"checkpoint": str(folder), "rewards": rates, **ended.model_dump()}, indent=2))
        return
    print(f"checkpoint in {folder}; {ended.updates} updates, {ended.rollouts} rollouts", end="; ")
    print(f"reward {rates[0]:.2f} in the first update, {rates[-1]:.2f} in the last")
    if ended.stopped is not None:
        print(f"ended early: {ended.stopped}")


def loop(
    config: Annotated[Path | None, typer.Argument(metavar="[LOOP.toml]", help="Settings of the loop; the demo's where left out.")] = None,
    changed: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another setting, such as targeting=general or train.steps=12.")
    ] = None,
    seed: Seed = None,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run, find failures, make verified tasks from them, train, run again. The same command goes on where it was stopped."""
    from .config import read_toml, with_settings
    from .loop import run_loop
    from .loop_config import LoopConfig
    from .models import TINY
    from .summary import show, summarise

    quiet()
    file = config or TINY / "loop.toml"
    settings = LoopConfig.of(with_settings(read_toml(file), changed or []))
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    if dry_run:
        from .estimate import estimate, sample_tasks

        world = settings.world()
        _show(estimate(settings.train, world, sample_tasks(settings, world), loop=settings), as_json=as_json)
        return
    folder = out or Path("runs") / file.stem
    with progress(show=not as_json) as report:
        run_loop(settings, folder, report=report)
    summary = summarise(folder)
    if as_json:
        print(summary.model_dump_json(indent=2))
    else:
        show(summary)


def _show(estimated: Estimate, *, as_json: bool) -> None:
    from .estimate_text import show

    if as_json:
        print(estimated.model_dump_json(indent=2))
    else:
        show(estimated)


def quiet() -> None:
    """Keep the libraries from printing into the progress, and their waiting threads from spinning; before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import warnings

    from transformers.utils.logging import disable_progress_bar

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    disable_progress_bar()


@contextmanager
def progress(*, show: bool) -> Iterator[Any]:
    """A bar for each stage on standard error; yields a `Reporter`. Without a terminal, one line as a stage begins and ends."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    bars: dict[str, TaskID] = {}
    live = show and console.is_terminal
    with Progress(*columns, console=console, disable=not live) as display:

        def report(stage: str, done: int, total: int, note: str = "", /) -> None:
            if stage == "alarm":
                console.print(f"alarm: {note}", style="yellow", markup=False, highlight=False)
                return
            if stage not in bars:
                bars[stage] = display.add_task(stage, total=total or None, note=note)
            display.update(bars[stage], completed=done, total=total or None, note=note)
            if show and not live and (not total or done == total):
                console.print(f"{stage}: {done} of {total} {note}" if total else f"{stage} ...", highlight=False)

        yield report
