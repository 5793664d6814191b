"""`sentinel domains` and `check`: look at a world."""

from __future__ import annotations

from typing import Any

import typer

from . import console, options


def domains(as_json: options.AsJson = False) -> None:
    """List the installed domains."""
    from sentinel_env.domain import list_domains, load_domain
    from sentinel_env.errors import SentinelError

    rows: list[dict[str, Any]] = []
    for name, point in list_domains().items():
        row: dict[str, Any] = {"name": name, "from": point.value}
        try:
            domain = load_domain(name)
            splits = [task.split for task in domain.tasks_by_id.values()]
            counts = {split: splits.count(split) for split in sorted(set(splits))}
            row |= {"tools": len(domain.tools), "records": {key: len(table) for key, table in domain.base.tables.items()}, "tasks": counts}
        except SentinelError as error:  # one broken plug-in does not hide the others
            row["error"] = str(error)
        rows.append(row)
    if as_json:
        console.echo_json(rows)
        return

    def shown(row: dict[str, Any]) -> list[object]:
        if "error" in row:
            return [row["name"], "-", f"broken: {row['error']}", "-", row["from"]]
        listed = [", ".join(f"{count} {key}" for key, count in row[part].items()) for part in ("records", "tasks")]
        return [row["name"], row["tools"], *listed, row["from"]]

    console.echo_table(["domain", "tools", "records", "tasks", "from"], [shown(row) for row in rows])


def check(
    domain: options.DomainName,
    data: options.Data = None,
    option: options.Settings = None,
    as_json: options.AsJson = False,
) -> None:
    """Check all that a domain promises.

    The exit code is 1 when something does not hold.
    """
    from sentinel_env.checks import examine_domain

    world = options.open_domain(domain, data, option)
    with console.progress(f"checking {world.name}", len(world.tasks()), show=not as_json) as show:
        report = examine_domain(world, on_task=show)
    if as_json:
        console.echo_json(report.as_json())
    else:
        for problem in report.problems:
            console.echo(f"problem: {problem}")
        for warning in report.warnings:
            console.echo(f"warning: {warning}")
        found = ", ".join(f"{count} {what}" for what, count in report.counts.items())
        console.echo(f"{world.name}: {found}; {len(report.problems)} problems, {len(report.warnings)} warnings")
    if report.problems:
        raise typer.Exit(1)
