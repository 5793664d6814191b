"""JSON-RPC messages checked before the MCP SDK sees them, and standard input and output as lines of them.

The SDK reads a line however long, leaves one that is no message without an answer, and at the end of the input drops the calls that are
still being carried out. Nothing here imports it.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import select
import sys
import threading
import time
from typing import Any, Self

from sentinel_env.messages import clean_json

MAX_FRAME = 1_000_000
"""Bytes of one message."""
MAX_FRAME_DEPTH = 48
"""Levels of nesting: more than a tool's arguments may have, so that an agent is told of those as of other mistakes."""
MAX_UNANSWERED = 64
"""How many requests of a stdio client may wait for their answers before no more are read."""
PARSE_ERROR, INVALID_REQUEST = -32700, -32600


class FrameError(ValueError):
    """A frame that is no JSON-RPC message."""

    def __init__(self, code: int, message: str, identifier: str | int | None = None) -> None:
        super().__init__(message)
        self.code, self.identifier = code, identifier

    def to_wire(self) -> bytes:
        """As a JSON-RPC error."""
        return error_body(self.code, str(self), self.identifier)


def error_body(code: int, message: str, identifier: str | int | None = None, data: Any = None) -> bytes:
    """A JSON-RPC error as JSON."""
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return json.dumps({"jsonrpc": "2.0", "id": identifier, "error": error}).encode()


def read_frame(raw: bytes) -> dict[str, Any]:
    """One JSON-RPC message, with lone surrogates replaced.

    Raises:
        FrameError: It is something else.
    """
    if len(raw) > MAX_FRAME:
        raise FrameError(INVALID_REQUEST, f"the message has more than {MAX_FRAME:,} bytes")
    try:
        frame = json.loads(raw)
        frame = clean_json(frame, MAX_FRAME_DEPTH)
    except RecursionError:
        raise FrameError(INVALID_REQUEST, f"the message is nested deeper than {MAX_FRAME_DEPTH} levels") from None
    except ValueError as error:  # which a UnicodeDecodeError is, too
        raise FrameError(PARSE_ERROR, f"the message is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(frame, dict):
        raise FrameError(INVALID_REQUEST, f"a message is one JSON object, found {type(frame).__name__}")
    identifier = frame.get("id")
    if ("id" in frame) and (isinstance(identifier, bool) or not isinstance(identifier, str | int)):
        raise FrameError(INVALID_REQUEST, "a request's id is a string or a whole number")
    if frame.get("jsonrpc") != "2.0":
        raise FrameError(INVALID_REQUEST, 'a message has "jsonrpc": "2.0"', identifier)
    if "method" in frame:
        if not isinstance(frame["method"], str):
            raise FrameError(INVALID_REQUEST, "a method is a string", identifier)
        if not isinstance(frame.get("params", {}), dict):
            raise FrameError(INVALID_REQUEST, "params is an object", identifier)
    elif "id" not in frame or not frame.keys() & {"result", "error"}:
        raise FrameError(INVALID_REQUEST, "a message has a method, or an id with a result or an error", identifier)
    return frame


class Lines:
    """Standard input and output as a stdio server of the SDK takes them: lines in, of bounded length, and lines out.

    What is printed elsewhere meanwhile goes to standard error. The end of the input is told when what was asked has been answered, or
    nobody reads the answers any more. Threads of its own read and write, which end with the process: no interrupt waits for a client.
    """

    def __init__(self) -> None:
        """Take over standard input and output."""
        self._loop = asyncio.get_running_loop()
        sys.stdout.flush()
        self._in, self._out = os.dup(0), os.dup(1)
        os.dup2(2, 1)
        self._frames: asyncio.Queue[str | None] = asyncio.Queue(MAX_UNANSWERED)
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._asked: set[str] = set()
        self._news = asyncio.Event()
        self._is_gone = False
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """Give standard output back; what is still being written is waited for, a little."""
        self._answers.put(None)
        deadline = time.monotonic() + 2.0
        while not self._answers.empty() and not self._is_gone and time.monotonic() < deadline:
            time.sleep(0.01)
        os.dup2(self._out, 1)

    def __aiter__(self) -> Self:
        """The frames."""
        return self

    async def __anext__(self) -> str:
        """The next one; refused lines are answered here and left out."""
        while len(self._asked) >= MAX_UNANSWERED and not self._is_gone:
            await self._some_news()
        line = await self._frames.get()
        if line is None:
            while self._asked and not self._is_gone:
                await self._some_news()
            raise StopAsyncIteration
        return line

    async def write(self, line: str) -> None:
        """Send a line."""
        self._answers.put(line.encode())
        frame = json.loads(line)
        if "method" not in frame and "id" in frame:
            self._answered(json.dumps(frame["id"]))

    async def flush(self) -> None:
        """Nothing is held back."""

    def _answered(self, identifier: str) -> None:
        self._asked.discard(identifier)
        self._news.set()

    async def _some_news(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(0.2):
                await self._news.wait()
        except TimeoutError:
            self._is_gone = self._is_gone or _has_no_reader(self._out)

    async def _take(self, raw: bytes | None) -> None:
        """A whole line, or None at the end."""
        if raw is None:
            return await self._frames.put(None)
        if not raw.strip():
            return None
        try:
            frame = read_frame(raw)
        except FrameError as error:
            return self._answers.put(error.to_wire() + b"\n")
        if "method" in frame and "id" in frame:
            name = json.dumps(frame["id"])
            if name in self._asked:
                text = f"a request with the id {name[:100]} has not been answered yet; give each its own"
                return self._answers.put(error_body(INVALID_REQUEST, text, frame["id"]) + b"\n")
            self._asked.add(name)
        elif frame.get("method") == "notifications/cancelled":  # not every version answers what was cancelled
            self._answered(json.dumps(frame.get("params", {}).get("requestId")))
        await self._frames.put(json.dumps(frame))

    # threads

    def _read(self) -> None:
        held, is_skipping = bytearray(), False
        while True:
            try:
                piece = os.read(self._in, 65_536)
            except OSError:
                piece = b""
            *whole, rest = piece.split(b"\n")
            for part in whole:
                line, held = bytes(held + part), bytearray()
                if not is_skipping and not self._hand_over(line):
                    return
                is_skipping = False
            held += rest
            if len(held) > MAX_FRAME:
                if not is_skipping and not self._hand_over(bytes(held)):  # which is refused; the rest of the line is not read
                    return
                held, is_skipping = bytearray(), True
            if not piece:
                if held and not is_skipping:
                    self._hand_over(bytes(held))
                self._hand_over(None)
                return

    def _hand_over(self, line: bytes | None) -> bool:
        """Wait until the loop has taken it; whether the loop is still there."""
        taking = self._take(line)
        try:
            asyncio.run_coroutine_threadsafe(taking, self._loop).result()
        except Exception:  # the loop is closed, or closing
            taking.close()
            return False
        return True

    def _write(self) -> None:
        while (data := self._answers.get()) is not None:
            try:
                while data:
                    data = data[os.write(self._out, data) :]
            except OSError:
                self._is_gone = True
                return


def _has_no_reader(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
