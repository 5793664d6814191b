"""An OpenEnv server (0.10): `sentinel serve openenv retail`, and the environment, the action and the client that belong to it.

    client = SentinelClient(base_url="http://127.0.0.1:8000").sync()
    with client:
        result = client.reset(index=3, seed=0)
        while not result.done:
            result = client.step(SentinelAction(text=model(result.observation.messages)))
        result.reward                              # 1.0 or 0.0; None where infrastructure failed

Every websocket has an episode of its own. An action that cannot be read or run is answered by an observation, never by an error: errors
are for clients that break the protocol, and even those keep their session.
"""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import itertools
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any

from sentinel_env.errors import ConfigError, DomainError, EpisodeError, SentinelError

from .extras import needed

with needed("openenv"):
    from openenv.core.env_server.http_server import HTTPEnvServer
    from openenv.core.env_server.mcp_types import JsonRpcErrorCode, JsonRpcResponse
    from openenv.core.env_server.types import ConcurrencyConfig, ServerMode

from .openenv_guard import Guard
from .openenv_session import SentinelEnvironment
from .openenv_types import SentinelAction, SentinelClient, SentinelObservation, SentinelOpening, SentinelState
from .source import Source

__all__ = [
    "SentinelAction",
    "SentinelClient",
    "SentinelEnvironment",
    "SentinelObservation",
    "SentinelOpening",
    "SentinelState",
    "make_app",
    "serve",
]
_MAX_FRAME = 8_000_000
"""Bytes of a frame at which the websocket itself is closed; the guard refuses smaller ones without that."""


def make_app(source: Source, *, max_sessions: int = 100, idle_seconds: float = 600.0) -> Guard:
    """The server as an ASGI application, for a web server of your own.

    OpenEnv's reaper of idle sessions is left off: it goes by the end of the last step, and so would close a session whose user is taking
    its time. The guard closes a websocket whose client is idle, and every session ends with its websocket.

    Args:
        source: Which episodes there are.
        max_sessions: Websockets at once; one more is told so and closed.
        idle_seconds: How long a client may say nothing while it is its turn.

    Raises:
        ConfigError: A limit is not above 0.
    """
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    if max_sessions < 1 or idle_seconds <= 0:
        raise ConfigError(f"max_sessions and idle_seconds are above 0, found {max_sessions} and {idle_seconds}")
    app = FastAPI(title=f"SENTINEL: {source.domain.name}", version=version("sentinel-env"), docs_url=None, redoc_url=None)
    server = HTTPEnvServer(
        partial(SentinelEnvironment, source, itertools.count()),
        SentinelAction,
        SentinelObservation,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=max_sessions),
        env_name=source.domain.name,
        state_cls=SentinelState,
        reset_observation_cls=SentinelOpening,
    )
    server.register_routes(app, mode=ServerMode.SIMULATION)
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/mcp"]

    @app.post("/mcp")
    async def no_mcp() -> dict[str, Any]:
        """There is none: OpenEnv's would open sessions that nobody closes."""
        refusal = "there is no MCP here; `sentinel serve mcp` is a server for it"
        return JsonRpcResponse.error_response(JsonRpcErrorCode.METHOD_NOT_FOUND, refusal).model_dump()

    @app.get("/sessions")
    async def sessions() -> dict[str, int]:
        """How many there are, and may be."""
        return {"active": server.active_sessions, "most": max_sessions}

    @app.exception_handler(SentinelError)
    async def refused(_: object, error: SentinelError) -> JSONResponse:
        status = 500 if isinstance(error, DomainError) else 409 if isinstance(error, EpisodeError) else 400
        return JSONResponse({"detail": str(error)}, status)

    return Guard(app, idle_seconds=idle_seconds, max_requests=max(max_sessions, 32))


def serve(
    source: Source,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_sessions: int = 100,
    idle_seconds: float = 600.0,
    started: Callable[[str], object] | None = None,
) -> None:
    """Serve until Ctrl-C.

    Args:
        source: Which episodes there are.
        host: Where to listen; only this machine unless told otherwise.
        port: 0 for any that is free.
        max_sessions: As `make_app`.
        idle_seconds: As `make_app`.
        started: Is told the URL once the server listens; it is printed to stderr for None.

    Raises:
        ConfigError: It cannot listen there, or a limit is not above 0.
    """
    import uvicorn

    app = make_app(source, max_sessions=max_sessions, idle_seconds=idle_seconds)
    if not 0 <= port <= 65535:
        raise ConfigError(f"a port is a number from 0 to 65535, found {port}")
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {error}; choose another one, or 0 for any that is free") from None
    url = f"http://[{host}]:{listening.getsockname()[1]}" if ":" in host else f"http://{host}:{listening.getsockname()[1]}"
    if started is None:
        print(f"sentinel: {source.domain.name} is served at {url}; stop with Ctrl-C", file=sys.stderr, flush=True)
    else:
        started(url)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type, unused-ignore]
        log_config=None,
        log_level="error",
        access_log=False,
        ws_max_size=_MAX_FRAME,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
    )
    with listening, suppress(KeyboardInterrupt):
        uvicorn.Server(config).run([listening])
