"""How a `ModelServer` misbehaves on the wire: answers that never end, break off, are too large, or come over a connection that is closed.

`misbehave(request, answer, fault)` sends what the fault makes of an answer. Faults of the answer's content, such as no JSON, are the
server's own; see `Reply.fault` for all of them.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from aiohttp import web

WireFault = Literal["cut", "reset", "drop", "drip", "endless", "huge", "bomb", "short", "http_1_0", "redirect", "close"]
WIRE_FAULTS: tuple[WireFault, ...] = get_args(WireFault)
_BETWEEN_BYTES = 1.0
"""Seconds."""
_HUGE = 12_000_000
"""Bytes."""
_BLOCK = 2**20


async def misbehave(request: web.Request, answer: Mapping[str, Any], fault: WireFault) -> web.StreamResponse:
    """Answer a request with a fault."""
    try:
        return await _FAULTS[fault](request, json.dumps(answer).encode())
    except ConnectionError:  # whoever asked has seen enough
        return _raw(request, b"")


async def _begin(request: web.Request, **headers: str) -> web.StreamResponse:
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    await response.prepare(request)
    return response


async def _cut(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Promise the whole answer, send half of it and close the connection."""
    response = await _begin(request, **{"Content-Length": str(len(whole))})
    await response.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def _reset(request: web.Request, whole: bytes) -> web.StreamResponse:
    """As `_cut`, but the connection is reset."""
    response = await _begin(request, **{"Content-Length": str(len(whole))})
    await response.write(whole[: len(whole) // 2])
    await asyncio.sleep(0.05)  # a reset overtakes what was sent just before
    if request.transport is not None:
        own = request.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return response


async def _drop(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Close the connection in the place of an answer."""
    return _raw(request, b"")


async def _drip(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Send a byte a second."""
    response = await _begin(request)
    for at in range(len(whole)):
        await response.write(whole[at : at + 1])
        await asyncio.sleep(_BETWEEN_BYTES)
    return response


async def _endless(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Send blanks before the answer, and never the answer."""
    response = await _begin(request)
    while True:
        await response.write(b" " * 65_536)


async def _huge(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Send an answer of 12 MB."""
    from aiohttp import web

    return web.Response(body=whole[:-1] + b" " * _HUGE + whole[-1:], content_type="application/json")


async def _bomb(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Send a megabyte that is a gigabyte once it is decompressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b" " * _BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * _BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    response = await _begin(request, **{"Content-Encoding": "gzip"})
    await response.write(head + block * 1023)
    return response


async def _short(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Promise half of what is sent."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(whole) // 2}\r\n\r\n"
    return _raw(request, head.encode() + whole)


async def _http_1_0(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Answer as old servers do: no length, and the end of the connection is the end of the answer."""
    return _raw(request, b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + whole)


async def _redirect(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Redirect to the same address, for ever, with what a server should not repeat."""
    from aiohttp import web

    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return web.Response(status=307, headers={"Location": f"{request.path}?api_key={given}"})


async def _close(request: web.Request, whole: bytes) -> web.StreamResponse:
    """Answer as it should be, and close a connection that was said to be kept."""
    response = await _begin(request, **{"Content-Length": str(len(whole))})
    await response.write_eof(whole)
    if request.transport is not None:
        request.transport.close()
    return response


def _raw(request: web.Request, sent: bytes) -> web.StreamResponse:
    """Send bytes past the server's own HTTP, and close the connection."""
    from aiohttp import web

    if request.transport is not None:
        request.transport.write(sent)
        request.transport.close()
    return web.Response()


_FAULTS: Mapping[str, Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]] = {
    "cut": _cut,
    "reset": _reset,
    "drop": _drop,
    "drip": _drip,
    "endless": _endless,
    "huge": _huge,
    "bomb": _bomb,
    "short": _short,
    "http_1_0": _http_1_0,
    "redirect": _redirect,
    "close": _close,
}
