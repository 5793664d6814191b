"""What stands between the network and OpenEnv's server: it passes on JSON objects of a sane size, and knows when a client has gone.

OpenEnv's own handler ends a session for a frame that is JSON but no object, for bytes, for numbers of 5,000 digits and for half a
surrogate pair; it lets one client attach to the session of another, and any web page open one; and it notices that a client has gone
only once the call in progress is over. So a frame is read here first, and one that cannot be used is answered in OpenEnv's own form of
an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from sentinel_env.messages import clean

T = TypeVar("T")
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Event, Receive, Send], Awaitable[None]]

MAX_BYTES = 2_000_000
"""Of one frame or body; a text of 100,000 characters fits, however it is escaped."""
MAX_DEPTH = 100
"""Of JSON in a frame. What is too deep for a tool call, but not for this, is the agent's mistake and becomes an observation."""
_TOO_DEEP = f"JSON that is nested deeper than {MAX_DEPTH} levels"
_BODY_SECONDS = 30.0
_AHEAD = 4
"""Frames that a client may send ahead of the answers."""
_gone: ContextVar[asyncio.Event] = ContextVar("gone")


class GoneError(ConnectionError):
    """The client of this session has gone."""


async def while_connected(answer: Awaitable[T]) -> T:
    """What an answer comes to; it is given up as soon as the client of this session has gone.

    Raises:
        GoneError: The client has gone.
    """
    gone = _gone.get(None)
    if gone is None:
        return await answer
    awaited, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait({awaited, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if awaited.done():
            return awaited.result()
        raise GoneError("the client has gone")
    finally:
        leaving.cancel()
        if not awaited.done():
            awaited.cancel()
            with suppress(asyncio.CancelledError, Exception):  # whatever it still had to say, nobody is there to hear it
                await awaited


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: App, *, idle_seconds: float, max_requests: int) -> None:
        """Wrap it.

        Args:
            app: OpenEnv's.
            idle_seconds: A websocket whose client says nothing for so long while it is its turn is closed, and its session with it.
            max_requests: Plain HTTP requests that are answered at once; the others are asked to come again.
        """
        self.app = app
        self.idle_seconds = idle_seconds
        self.max_requests = max_requests
        self._requests = 0

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one connection or request."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _socket(self, scope: Event, receive: Receive, send: Send) -> None:
        frames: asyncio.Queue[Event] = asyncio.Queue(_AHEAD)
        gone = asyncio.Event()
        _gone.set(gone)

        async def listen() -> None:
            while not gone.is_set():
                event = await receive()
                if event["type"] == "websocket.disconnect":
                    gone.set()
                await frames.put(event)

        async def tell(event: Event) -> None:
            if not gone.is_set():
                with suppress(OSError):  # it has gone in this moment
                    await send(event)

        async def given() -> Event:
            while True:
                try:
                    event = await asyncio.wait_for(frames.get(), self.idle_seconds)
                except TimeoutError:
                    await tell(_error(f"nothing was heard for {self.idle_seconds:g} seconds; the session is closed", "SESSION_ERROR"))
                    return {"type": "websocket.disconnect", "code": 1001}
                if gone.is_set():  # nobody waits for what else it asked for
                    return {"type": "websocket.disconnect", "code": 1006}
                if event["type"] != "websocket.receive":
                    return event
                try:
                    return {"type": "websocket.receive", "text": _clean_frame(event.get("text"))}
                except ValueError as problem:
                    await tell(_error(str(problem), "INVALID_JSON"))

        if _is_foreign(scope["headers"]):
            return await tell({"type": "websocket.close", "code": 1008})
        listening = asyncio.create_task(listen())
        try:
            if b"session_id" in scope.get("query_string", b""):
                await tell({"type": "websocket.accept"})
                await tell(_error("each connection has a session of its own; there is none to attach to", "SESSION_ERROR"))
                await tell({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, given, tell)
        finally:
            listening.cancel()

    async def _request(self, scope: Event, receive: Receive, send: Send) -> None:
        if self._requests >= self.max_requests:
            return await _refuse(send, 503, f"{self.max_requests} requests are being answered; try again")
        self._requests += 1
        try:
            await self._answer(scope, receive, send)
        except _TooMuch as problem:
            await _refuse(send, 413, str(problem))
        except ValueError as problem:
            await _refuse(send, 422, str(problem))
        except TimeoutError:
            await _refuse(send, 408, f"the body did not arrive within {_BODY_SECONDS:g} seconds")
        except GoneError:
            pass
        finally:
            self._requests -= 1

    async def _answer(self, scope: Event, receive: Receive, send: Send) -> None:
        body = await asyncio.wait_for(_body(receive), _BODY_SECONDS)
        if body.strip():
            body = _clean_object(body, finite=True).encode()
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")]
        whole: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

        async def given() -> Event:
            return whole.pop() if whole else await receive()

        await self.app({**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}, given, send)


def _is_foreign(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a browser opens the websocket for a page of another place, which it does for any page."""
    named = dict(headers)
    origin = named.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != named.get(b"host")


class _TooMuch(ValueError):
    pass


def _clean_frame(text: str | None) -> str:
    if text is None:
        raise ValueError("a frame is text, found bytes")
    return _clean_object(text)


def _clean_object(text: str | bytes, *, finite: bool = False) -> str:
    """The JSON object that a text holds, as JSON without lone surrogates. NaN, which Python's clients can send, stays where it need not
    be `finite`: in an action it is the agent's mistake, and becomes an observation.

    Raises:
        ValueError: It is none, or too much.
    """
    if len(text) > MAX_BYTES:
        raise _TooMuch(f"{len(text):,} bytes at once; at most {MAX_BYTES:,} are read")
    try:
        text = text if isinstance(text, str) else text.decode()
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON: {error}") from None
    except UnicodeDecodeError:
        raise ValueError("invalid JSON: it is not in UTF-8") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, found {type(value).__name__}")
    if value.get("type") == "mcp":
        raise ValueError("there is no MCP here; `sentinel serve mcp` is a server for it")
    if text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(value, MAX_DEPTH):
        raise ValueError(_TOO_DEEP)
    is_plain = text.isascii() and "\\u" not in text  # then it can hold no surrogate
    return text if is_plain and not finite else clean(json.dumps(value, ensure_ascii=False, allow_nan=not finite))


def _is_deep(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(_is_deep(each, levels - 1) for each in (value.values() if isinstance(value, dict) else value))


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise GoneError("the client has gone")
        parts.append(event.get("body", b""))
        if sum(map(len, parts)) > MAX_BYTES:
            raise _TooMuch(f"more than {MAX_BYTES:,} bytes in one body")
        if not event.get("more_body"):
            return b"".join(parts)


def _error(message: str, code: str) -> Event:
    return {"type": "websocket.send", "text": json.dumps({"type": "error", "data": {"message": message, "code": code}})}


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
