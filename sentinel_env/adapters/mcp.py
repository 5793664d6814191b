"""MCP: a domain's tools for any MCP client, over stdio or streamable HTTP, with one isolated database or episode a session (extra: mcp).

    sentinel serve mcp retail                           # stdio: what a client starts itself
    sentinel serve mcp retail --http --port 8000        # http://127.0.0.1:8000/mcp

    serve_http(Source.open("retail", split="test"), port=8000)

A session begins as a fork of the database to look around in. With `begin` it becomes an episode, `message_user` talks to the user, and
`finish` grades it in words that do not tell the reference. Where the server is for one task, `begin` comes first.

The SDK's low-level server is used, 1.x or 2.x, so that our schemas and our refusals reach the client as they are. An agent's mistakes are
results with `isError`; what crashed is "internal error" to the client, with its trace in the server's log. An MCP client sends calls one
by one, so each is a turn of its own. `mcp_wire` is what lies between the SDK and the outside.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import quote

from sentinel_env.errors import ConfigError
from sentinel_env.tools import Tool

from .mcp_gate import Gate
from .mcp_lines import Lines
from .mcp_visit import OURS, InternalError, Visit, begin, begin_the_task, finish, message_user
from .seat import Seat
from .source import Source

PATH = "/mcp"


class Server:
    """The SDK's server for one source: who visits is told by the id of the HTTP session, or is None on stdio."""

    def __init__(self, source: Source, *, task: str | None = None, record: Callable[[Seat], None] | None = None) -> None:
        """Prepare it; nobody visits yet.

        Raises:
            ConfigError: A domain's tool has a name that is needed here.
            TaskError: No such task.
        """
        for each in source.domain.tools:
            if each.name in OURS:
                raise ConfigError(f"domain {source.domain.name}: a tool is called {each.name!r}, which the MCP server needs; rename it")
        if task is not None:
            source.task(task_id=task)
        self.source, self.task, self.record = source, task, record
        self.visits: dict[str | None, Visit] = {}
        self.core = _sdk_server(f"sentinel-{source.domain.name}", self._instructions(), self.answer)
        self._tools = [_listed(each) for each in source.domain.tools]
        ours = (begin if task is None else begin_the_task, message_user, finish)
        self._tools += [_listed(each, name) for each, name in zip(ours, OURS, strict=True)]

    def open(self, session: str | None) -> None:
        """Let a session in."""
        self.visits[session] = Visit(self.source, self.task, self.record)

    async def close(self, session: str | None) -> None:
        """See a session out."""
        if (visit := self.visits.pop(session, None)) is not None:
            await visit.close()

    async def end(self) -> None:
        """See everyone out, and let a user that is a model hang up."""
        for session in list(self.visits):
            await self.close(session)
        close = getattr(self.source.user, "close", None)
        if callable(close) and inspect.isawaitable(closing := close()):
            await closing

    async def answer(self, session: str | None, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The result of a request; `mistaken` or `crashed` raises what the SDK makes an error of the protocol."""
        domain = self.source.domain
        if method == "tools/list":
            return {"tools": self._tools}
        if method == "tools/call":
            visit = self.visits.get(session)
            if visit is None:
                _fail(-32600, "no such session; begin with initialize")
            try:
                return (await visit.call(params["name"], params.get("arguments") or {})).to_wire()
            except InternalError:
                _fail(-32603, "internal error; the server's log has it")
        uri, about = f"sentinel://{quote(domain.name, safe='')}/policy", "The rules that the agent must follow."
        if method == "prompts/list":
            return {"prompts": [{"name": "policy", "description": about}]}
        if method == "resources/list":
            return {"resources": [{"uri": uri, "name": "policy", "description": about, "mimeType": "text/markdown"}]}
        if method == "prompts/get":
            if params.get("name") != "policy":
                _fail(-32602, f"no prompt {str(params.get('name'))[:100]!r}; there is 'policy'")
            text = f"{domain.policy}\n\n{self._instructions()}"
            return {"description": about, "messages": [{"role": "user", "content": {"type": "text", "text": text}}]}
        if str(params.get("uri")) != uri:
            _fail(-32602, f"no resource {str(params.get('uri'))[:200]!r}; there is {uri!r}")
        return {"contents": [{"uri": uri, "mimeType": "text/markdown", "text": domain.policy}]}

    def _instructions(self) -> str:
        source, name = self.source, self.source.domain.name
        greeting = "".join(f' You have greeted the user with "{message.content}"' for message in source.greeting)
        talk = (
            f"begin lets the user speak first.{greeting} message_user is the only thing that the user reads. "
            "finish ends the conversation and gives the verdict."
        )
        if self.task is not None:
            return f"You are the agent of {name}; the prompt policy has its rules. {talk}"
        last = len(source.tasks) - 1
        rows = f"Tasks are named by their row, 0 to {last}, or by their id."
        return f"The tools of {name} on a database of your own; the prompt policy has its rules. To play a task call begin. {rows} {talk}"


def _listed(each: Tool, name: str | None = None) -> dict[str, Any]:
    """A tool as clients list it."""
    function = each.schema["function"]
    writes = each.writes or name is not None
    hints = {"readOnlyHint": not writes, "destructiveHint": each.writes, "openWorldHint": name == "message_user"}
    described = {"name": name or each.name, "description": function["description"], "inputSchema": function["parameters"]}
    return described | {"annotations": hints}


# the SDK, 1.x and 2.x

_METHODS = {
    "tools/list": ("ListTools", "PaginatedRequestParams"),
    "tools/call": ("CallTool", "CallToolRequestParams"),
    "prompts/list": ("ListPrompts", "PaginatedRequestParams"),
    "prompts/get": ("GetPrompt", "GetPromptRequestParams"),
    "resources/list": ("ListResources", "PaginatedRequestParams"),
    "resources/read": ("ReadResource", "ReadResourceRequestParams"),
}
"""Method -> the stem of its types in 1.x, its parameters in 2.x."""

Answering = Callable[[str | None, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


def _sdk_server(name: str, instructions: str, answer: Answering) -> Any:
    """A low-level server of the SDK whose requests `answer` takes, unvalidated but for the protocol's own types."""
    from mcp import types
    from mcp.server.lowlevel import Server as Core

    from sentinel_env import __version__

    core: Any = Core(name, version=__version__, instructions=instructions)
    for method, (stem, params_type) in _METHODS.items():
        result = getattr(types, f"{stem}Result")
        if hasattr(core, "add_request_handler"):
            core.add_request_handler(method, getattr(types, params_type), _handler_2(method, result, answer))
        else:
            core.request_handlers[getattr(types, f"{stem}Request")] = _handler_1(core, method, result, answer)
    return core


def _handler_2(method: str, result: Any, answer: Answering) -> Any:
    async def handle(context: Any, params: Any) -> Any:
        return result.model_validate(await answer(_session_of(context.request), method, _plain(params)))

    return handle


def _handler_1(core: Any, method: str, result: Any, answer: Answering) -> Any:
    from mcp import types

    server_result: Any = types.ServerResult

    async def handle(request: Any) -> Any:
        found = await answer(_session_of(core.request_context.request), method, _plain(request.params))
        return server_result(result.model_validate(found))

    return handle


def _session_of(request: Any) -> str | None:
    return None if request is None else str(request.headers.get("mcp-session-id"))


def _plain(params: Any) -> dict[str, Any]:
    return {} if params is None else dict(params.model_dump(mode="json", by_alias=True, exclude_none=False))


def _fail(code: int, message: str) -> NoReturn:
    """Answer with an error of the protocol."""
    from mcp.shared import exceptions

    found: Any = exceptions
    if hasattr(found, "MCPError"):
        raise found.MCPError(code, message)
    from mcp import types

    raise found.McpError(types.ErrorData(code=code, message=message))


def _handshakes() -> tuple[str, ...]:
    """The protocol versions that have sessions."""
    try:
        from mcp.shared.version import SUPPORTED_PROTOCOL_VERSIONS
    except ModuleNotFoundError:
        from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS

        return tuple(HANDSHAKE_PROTOCOL_VERSIONS)
    return tuple(SUPPORTED_PROTOCOL_VERSIONS)


def serve_stdio(source: Source, *, task: str | None = None, record: Callable[[Seat], None] | None = None) -> None:
    """Serve one session on standard input and output, to the end of the input.

    Args:
        source: Which episodes there are.
        task: The id of the only task that is played; None where the client chooses.
        record: Told of each seat whose episode is over, or was left.

    Raises:
        ConfigError: A domain's tool has a name that is needed here.
        TaskError: No such task.
    """
    asyncio.run(_serve_stdio(Server(source, task=task, record=record)))


async def _serve_stdio(server: Server) -> None:
    from mcp.server.stdio import stdio_server

    lines: Any = Lines()
    server.open(None)
    try:
        async with stdio_server(lines, lines) as (incoming, outgoing):
            await server.core.run(incoming, outgoing, server.core.create_initialization_options())
    except Exception:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # an interrupt: the SDK's tasks may fall over each other's closed streams
            raise asyncio.CancelledError from None
        raise
    finally:
        await server.end()
        lines.close()


def serve_http(
    source: Source,
    *,
    task: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_sessions: int = 256,
    idle_seconds: float = 600.0,
    record: Callable[[Seat], None] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve sessions by streamable HTTP until interrupted.

    Args:
        source: Which episodes there are.
        task: As in `serve_stdio`.
        host: Where to listen.
        port: Any free one for 0.
        max_sessions: How many sessions there may be at once; further ones are refused with 503.
        idle_seconds: After how long without a request a session is closed.
        record: As in `serve_stdio`.
        ready: Told the URL once it listens.

    Raises:
        ConfigError: It cannot listen there, a limit is not above 0, or as `serve_stdio`.
        TaskError: No such task.
    """
    if not (idle_seconds > 0 and max_sessions > 0):
        raise ConfigError(f"idle_seconds and max_sessions are above 0, found {idle_seconds!r} and {max_sessions!r}")
    server = Server(source, task=task, record=record)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}; choose another --port or --host") from None
    with listening:
        asyncio.run(_serve_http(server, listening, host, max_sessions, idle_seconds, ready))


async def _serve_http(
    server: Server, listening: socket.socket, host: str, max_sessions: int, idle_seconds: float, ready: Callable[[str], None] | None
) -> None:
    import uvicorn
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    names = ["127.0.0.1", "localhost", "[::1]"]
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    if is_loopback(host):  # a page in the user's browser that has given itself our address is refused
        hosts, origins = [*names, *(f"{name}:*" for name in names)], [f"http://{name}:*" for name in names]
        security = TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins)
    limits = dict.fromkeys(("max_sessions", "session_idle_timeout"))  # the gate's own hold, whatever the SDK's version has
    limits = {name: None for name in limits if name in inspect.signature(StreamableHTTPSessionManager).parameters}
    manager: Any = StreamableHTTPSessionManager(server.core, json_response=True, security_settings=security, **limits)
    gate = Gate(
        manager.handle_request,
        path=PATH,
        versions=_handshakes(),
        opened=server.open,
        closed=server.close,
        max_sessions=max_sessions,
        idle_seconds=idle_seconds,
    )
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        gate,
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,  # longer than clients keep theirs, who would otherwise write into one that is being closed
        timeout_graceful_shutdown=3,
    )
    async with manager.run():
        reaper = asyncio.create_task(gate.reap())
        if ready is not None:
            ready(f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}")
        try:
            await uvicorn.Server(config).serve(sockets=[listening])
        finally:
            reaper.cancel()
            await server.end()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    return host in ("localhost", "::1") or host.startswith("127.")
