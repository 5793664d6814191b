"""`sentinel domains`, `check` and `play`: look at a world."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console, options

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.episode import Episode


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


def play(
    domain: options.DomainName,
    task: Annotated[str | None, typer.Option("--task", help="Which task; the first one otherwise.")] = None,
    user: Annotated[str, typer.Option("--user", help="scripted, or module:attribute.")] = "scripted",
    data: options.Data = None,
    option: options.Settings = None,
    seed: options.Seed = 0,
) -> None:
    """Be the agent yourself, against a simulated user."""
    from sentinel_env.episode import Episode
    from sentinel_env.errors import TaskError

    world = options.open_domain(domain, data, option)
    tasks = world.tasks_by_id
    if not tasks:
        raise TaskError(f"domain {world.name} has no tasks")
    if task is not None and task not in tasks:
        raise TaskError(f"domain {world.name} has no task {task!r}; such as {', '.join(list(tasks)[:5])}")
    episode = Episode(world, tasks[task or next(iter(tasks))], seed=seed)
    console.echo(f"You are the agent of {world.name}, on task {episode.task.id}. Type what you say to the customer, or a call:")
    console.echo(_example(world))
    console.echo("/policy shows the rules, /tools the tools, /quit ends it.\n")
    _converse(episode, options.choose_user(user))
    _conclude(episode)


def _example(world: Domain) -> str:
    tool = world.tools[0]
    arguments = " ".join(f"{name}=..." for name in tool.arguments.model_fields)
    return f"    /{tool.name} {arguments}".rstrip()


def _converse(episode: Episode, user: Any) -> None:
    from sentinel_env.agents import HumanAgent
    from sentinel_env.episode import at_once

    def ask(_: str) -> str:
        while True:
            line = input("you> ").strip()
            if line == "/quit":
                raise EOFError
            if line == "/policy":
                console.echo(episode.domain.policy)
            elif line == "/tools":
                for tool in episode.domain.tools:
                    console.echo(f"  {tool.usage}\n      {tool.description.splitlines()[0] if tool.description else ''}")
            elif line.startswith("/"):
                call, problem = _read_call(episode.domain, line[1:])
                if call is not None:
                    return call
                console.echo(f"  {problem}")
            elif line:
                return line

    agent = HumanAgent(ask=ask)
    if episode.messages:
        console.echo(f"you> {episode.messages[0].content}")
    try:
        while episode.awaiting is not None:
            if episode.awaiting == "user":
                message = at_once(user.reply(episode.user_view()), user)
                console.echo(f"user> {message.content}")
                episode.hear(message)
            else:
                for answer in episode.act(agent.act(episode.agent_view())):
                    console.echo(f"{answer.name or 'tool'}> {answer.content}")
    except EOFError:
        if episode.ending is None:
            episode.stop()


def _read_call(domain: Domain, line: str) -> tuple[str | None, str]:
    """`tool name=value ...` as the JSON of a call, or what is wrong with it. Values are JSON, or text, in quotes where it has spaces."""
    import shlex

    try:
        name, *pairs = shlex.split(line)
    except ValueError as error:
        return None, f"not understood: {error}"
    tool = domain.tools_by_name.get(name)
    if tool is None:
        return None, f"there is no {name!r}; /tools, /policy, /quit, or one of {', '.join(domain.tools_by_name)}"
    properties = tool.schema["function"]["parameters"]["properties"]
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            return None, f"{pair!r} is no name=value; {tool.usage}"
        try:
            arguments[key] = text if properties.get(key, {}).get("type") == "string" else json.loads(text)
        except ValueError:
            arguments[key] = text
    return json.dumps({"name": name, "arguments": arguments}), ""


def _conclude(episode: Episode) -> None:
    from sentinel_env.evaluation import evaluate
    from sentinel_env.trajectory import record

    evaluation = evaluate(episode.domain, record(episode, agent="human"))
    console.echo(f"\nThe conversation ended ({episode.ending}). {'Passed.' if evaluation.passed else 'Not passed:'}")
    for check in evaluation.checks:
        if not check.passed:
            console.echo(f"  {check.name}: {check.detail}")
