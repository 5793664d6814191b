"""What the verbs print: tables for people on standard output, JSON for programs, progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def echo_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def echo(text: str = "") -> None:
    """Print a line as it is, without markup and without wrapping."""
    print(text)


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; columns whose cells are numbers are right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for at, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[at], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)


@contextmanager
def progress(what: str, total: int, *, show: bool = True) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, where that is a terminal; yields a function (how many are finished, how many of them passed)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    what_is_done, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = (what_is_done, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    with Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as bar:
        task = bar.add_task(what, total=total, note="")

        def update(finished: int, passed: int | None = None) -> None:
            bar.update(task, completed=finished, note="" if passed is None else f"{100 * passed / finished:.0f} % passed")

        yield update
