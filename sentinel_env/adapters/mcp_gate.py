"""`Gate`: what stands between the MCP SDK's HTTP application and the outside: sessions that are counted and reaped, and bounded requests.

The SDK's versions differ in how many sessions they let in and what becomes of one whose client is gone; with the gate they are all alike.
Nothing here imports the SDK.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from .mcp_lines import INVALID_REQUEST, MAX_FRAME, FrameError, error_body, read_frame

INTERNAL_ERROR, UNSUPPORTED_VERSION = -32603, -32022
_BODY_SECONDS = 30.0
_MAX_DROPPED = 16 * MAX_FRAME
_TOO_LONG = f"the message has more than {MAX_FRAME:,} bytes"
_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """An ASGI application before the SDK's.

    It is the only one to open sessions in it and to close them, the idle ones by the same DELETE that a client sends, so that both always
    know of the same. Answers are plain JSON; a GET, which would wait for messages that are never sent, is refused.
    """

    def __init__(
        self,
        app: App,
        *,
        path: str,
        versions: tuple[str, ...],
        opened: Callable[[str], None],
        closed: Callable[[str], Awaitable[None]],
        max_sessions: int,
        idle_seconds: float,
    ) -> None:
        """Stand before `app`.

        Args:
            app: The SDK's application.
            path: Where it is served.
            versions: The protocol versions that have sessions.
            opened: Told of each session, before its client knows of it.
            closed: Told of each that is gone.
            max_sessions: How many there may be.
            idle_seconds: How long one may be without a request.
        """
        self._app, self._path, self._versions = app, path, versions
        self._opened, self._closed = opened, closed
        self._max_sessions, self._idle_seconds = max_sessions, idle_seconds
        self._sessions: dict[str, _Session] = {}
        self._opening = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"].rstrip("/")
        if path == "/health" and method == "GET":
            await _respond(send, 200, json.dumps({"status": "ok", "sessions": len(self._sessions)}).encode())
        elif path != self._path:
            await _respond(send, 404, error_body(INVALID_REQUEST, f"nothing is served here; MCP is at {self._path}"))
        elif method not in ("POST", "DELETE"):
            text = "the server sends no messages of its own; POST a request, or DELETE the session"
            await _respond(send, 405, error_body(INVALID_REQUEST, text), allow="POST, DELETE")
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {key.lower(): value for key, value in scope["headers"]}
        version = headers.get(b"mcp-protocol-version", b"").decode("latin-1")
        if version and version not in self._versions:
            data = {"supported": list(self._versions), "requested": version[:100]}
            text = "this server keeps sessions, which that version of the protocol has not; begin with initialize"
            return await _respond(send, 400, error_body(UNSUPPORTED_VERSION, text, data=data))
        named = headers.get(b"mcp-session-id")
        session = self._sessions.get(named.decode("latin-1")) if named is not None else None
        if named is not None and session is None:
            return await _respond(send, 404, error_body(INVALID_REQUEST, "no such session; it was closed, or never was"))
        if scope["method"] == "DELETE":
            if session is None:
                return await _respond(send, 400, error_body(INVALID_REQUEST, "name the session in the header Mcp-Session-Id"))
            return await self._delete(session, scope, receive, send)
        try:
            frame = read_frame(await _read_body(headers, receive))
        except _GoneError:
            return None
        except _BodyError as error:
            return await _respond(send, error.status, error_body(INVALID_REQUEST, str(error)))
        except FrameError as error:
            return await _respond(send, 400, error.to_wire())
        replay = _replay(json.dumps(frame).encode(), scope, receive)
        if session is None:
            return await self._open(frame, *replay, send)
        name = str(frame["id"]) if "method" in frame and "id" in frame else None  # the SDK takes 1 and "1" for the same
        if name is not None and name in session.asked:
            text = f"a request with the id {name[:100]} has not been answered yet; give each its own"
            return await _respond(send, 400, error_body(INVALID_REQUEST, text, frame["id"]))
        with session.asking(name):
            await self._app(*replay, send)

    async def _open(self, frame: Mapping[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        if frame.get("method") != "initialize" or "id" not in frame:
            text = "there is no session; begin with initialize, and name the session in the header Mcp-Session-Id"
            return await _respond(send, 400, error_body(INVALID_REQUEST, text, frame.get("id")))
        if len(self._sessions) + self._opening >= self._max_sessions:
            text = f"{self._max_sessions} sessions are open, and no more may be; close one, or come later"
            return await _respond(send, 503, error_body(INTERNAL_ERROR, text, frame["id"]))
        self._opening += 1
        opened: _Session | None = None
        refused = False

        async def watch(message: MutableMapping[str, Any]) -> None:
            nonlocal opened, refused
            if message["type"] == "http.response.start":
                name = next((value.decode() for key, value in message["headers"] if key.lower() == b"mcp-session-id"), None)
                if message["status"] < 400 and name is not None:
                    opened = self._sessions[name] = _Session(name, scope)
                    self._opened(name)
            elif opened is not None and b'"error"' in message.get("body", b""):
                refused = "error" in json.loads(message["body"])
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            self._opening -= 1
            if opened is not None and refused:
                await self._close(opened)

    async def _delete(self, session: _Session, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def watch(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await self._app(scope, receive, watch)
        if status == 200:
            await self._forget(session)

    async def reap(self) -> None:
        """Close the sessions that nobody uses, for ever."""
        while True:
            await asyncio.sleep(min(max(self._idle_seconds / 4, 0.05), 30.0))
            late = time.monotonic() - self._idle_seconds
            for session in [each for each in self._sessions.values() if not each.busy and each.used < late]:
                try:
                    await self._close(session)
                except Exception:
                    _log.exception("an idle session could not be closed")

    async def _close(self, session: _Session) -> None:
        """Close a session as its client would."""
        scope = dict(session.scope) | {"method": "DELETE"}
        scope["headers"] = [(b"host", session.host), (b"mcp-session-id", session.name.encode())]

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message.get("status", 200) != 200:
                _log.error("closing a session was answered with %s", message["status"])

        try:
            await self._app(scope, receive, send)
        finally:
            await self._forget(session)

    async def _forget(self, session: _Session) -> None:
        if self._sessions.pop(session.name, None) is not None:
            await self._closed(session.name)


class _Session:
    """When a session was used last, and what it waits for."""

    def __init__(self, name: str, scope: Scope) -> None:
        self.name = name
        self.host = next((value for key, value in scope["headers"] if key.lower() == b"host"), b"localhost")
        self.scope = {key: value for key, value in scope.items() if key not in ("headers", "state", "extensions")}
        self.asked: set[str] = set()
        self.busy, self.used = 0, time.monotonic()

    @contextmanager
    def asking(self, name: str | None) -> Iterator[None]:
        """Around a request; None for a notification. The SDK would leave the first of two with one id without an answer, for ever."""
        self.busy += 1
        if name is not None:
            self.asked.add(name)
        try:
            yield
        finally:
            self.busy -= 1
            self.used = time.monotonic()
            if name is not None:
                self.asked.discard(name)


class _BodyError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _GoneError(Exception):
    """The client went away."""


async def _read_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body. Of one that is too long more is read and dropped, up to a limit: a client that is cut off sending reads no answer."""
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared[:20]) > _MAX_DROPPED:
        raise _BodyError(413, _TOO_LONG)
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _GoneError
                piece = message.get("body", b"")
                size += len(piece)
                if size <= MAX_FRAME:
                    body += piece
                if size > _MAX_DROPPED or (size > MAX_FRAME and not message.get("more_body")):
                    raise _BodyError(413, _TOO_LONG)
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise _BodyError(408, f"the message was not complete within {_BODY_SECONDS:.0f} seconds") from None


def _replay(body: bytes, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """The request again, with this body."""
    headers = [(key, value) for key, value in scope["headers"] if key.lower() not in (b"content-length", b"transfer-encoding")]
    told = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return dict(scope) | {"headers": [*headers, (b"content-length", str(len(body)).encode())]}, again


async def _respond(send: Send, status: int, body: bytes, **headers: str) -> None:
    fields = {"content-type": "application/json", "content-length": str(len(body))} | headers
    if status in (408, 413):
        fields["connection"] = "close"  # what is left of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode()) for k, v in fields.items()]})
    await send({"type": "http.response.body", "body": body})
