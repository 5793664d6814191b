"""`sentinel serve openenv` and `serve mcp`: a domain for agents that run elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel_env.errors import ConfigError

from . import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_env.adapters.seat import Seat
    from sentinel_env.adapters.source import Source

app = typer.Typer(no_args_is_help=True, help="Serve a domain to agents that run elsewhere.", rich_markup_mode=None)

Split = Annotated[str | None, typer.Option("--split", help="Of the tasks; all of them otherwise.")]
Tasks = Annotated[Path | None, typer.Option("--tasks", help="A file of tasks, instead of the domain's own.")]
UserSpec = Annotated[str | None, typer.Option("--user", help="scripted (the default), or module:attribute.")]
MaxSteps = Annotated[int, typer.Option("--max-steps", min=1, help="Assistant turns before an episode is cut.")]
Host = Annotated[str, typer.Option("--host", help="Where to listen; only this machine can reach the default.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Any free one for 0.")]
MaxSessions = Annotated[int, typer.Option("--max-sessions", min=1, help="How many sessions there may be at once.")]
IdleSeconds = Annotated[float, typer.Option("--idle-seconds", min=0.1, help="A session without a request for so long is closed.")]


@app.command("openenv")
def openenv(
    domain: options.DomainName,
    split: Split = None,
    tasks: Tasks = None,
    user: UserSpec = None,
    user_model: options.UserModel = None,
    user_base_url: options.UserBaseUrl = None,
    user_temperature: options.UserTemperature = None,
    data: options.Data = None,
    option: options.Settings = None,
    max_steps: MaxSteps = 30,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    max_sessions: MaxSessions = 256,
    idle_seconds: IdleSeconds = 600.0,
) -> None:
    """Serve episodes to OpenEnv's clients (extra: openenv)."""
    from sentinel_env.adapters import openenv as adapter

    source = _open(domain, split, tasks, _user(user, user_model, user_base_url, user_temperature), data, option, max_steps)
    _warn(host)
    adapter.serve(source, host=host, port=port, max_sessions=max_sessions, idle_seconds=idle_seconds)
    raise KeyboardInterrupt  # nothing else ends it


@app.command("mcp")
def mcp(
    domain: options.DomainName,
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP; otherwise standard input and output.")] = False,
    task: Annotated[
        str | None, typer.Option("--task", help="The only task to play; otherwise the client chooses, or looks around.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A .jsonl file to which the trajectories of what is played are added.")] = None,
    split: Split = None,
    tasks: Tasks = None,
    user: UserSpec = None,
    user_model: options.UserModel = None,
    user_base_url: options.UserBaseUrl = None,
    user_temperature: options.UserTemperature = None,
    data: options.Data = None,
    option: options.Settings = None,
    max_steps: MaxSteps = 30,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    max_sessions: MaxSessions = 256,
    idle_seconds: IdleSeconds = 600.0,
) -> None:
    """Serve a domain's tools to MCP clients, an episode a session (extra: mcp)."""
    import logging

    import mcp as _needed  # noqa: F401  # a missing extra is told before a domain is loaded

    from sentinel_env.adapters.mcp import serve_http, serve_stdio

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    source = _open(domain, split, tasks, _user(user, user_model, user_base_url, user_temperature), data, option, max_steps)
    record = _recorder(out) if out is not None else None
    if not http:
        return serve_stdio(source, task=task, record=record)
    _warn(host)
    serve_http(
        source,
        task=task,
        host=host,
        port=port,
        max_sessions=max_sessions,
        idle_seconds=idle_seconds,
        record=record,
        ready=lambda url: typer.echo(f"sentinel: {source.domain.name} is served at {url}; stop with Ctrl-C", err=True),
    )


def _open(
    domain: str, split: str | None, tasks: Path | None, user: object, data: Path | None, option: list[str] | None, max_steps: int
) -> Source:
    from sentinel_env.adapters.source import Source
    from sentinel_env.finding import find_user

    world = options.open_domain(domain, data, option)
    return Source.open(world, split=split, tasks=tasks, user=find_user(user), max_steps=max_steps)  # type: ignore[arg-type]


def _user(spec: str | None, model: str | None, base_url: str | None, temperature: float | None) -> object:
    """What `find_user` takes."""
    if model is None:
        if base_url is not None or temperature is not None:
            raise ConfigError("--user-base-url and --user-temperature describe a model; name it with --user-model")
        return options.choose_user(spec or "scripted")
    if spec is not None:
        raise ConfigError("the user is named by --user or by --user-model, one of them")
    return {"model": model, "base_url": base_url} | ({} if temperature is None else {"temperature": temperature})


def _warn(host: str) -> None:
    if host not in ("localhost", "::1") and not host.startswith("127."):
        typer.echo(f"sentinel: warning: {host} can be reached from other machines, and nobody is asked for a password", err=True)


def _recorder(out: Path) -> Callable[[Seat], None]:
    from sentinel_env.trajectory import dump_line

    def record(seat: Seat) -> None:
        with out.open("a", encoding="utf-8") as file:
            file.write(dump_line(seat.trajectory(agent="mcp")))

    try:
        out.open("a", encoding="utf-8").close()
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error}") from None
    return record
