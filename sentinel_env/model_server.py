"""A local OpenAI-compatible server with answers, delays and faults of your choosing: a test tool for whatever asks a model.

    with ModelServer(["Hello", Reply(status=429, retry_after=0.1), Reply(fault="hang")]) as server:
        Model("any", base_url=server.url)          # the first call gets "Hello", the second is asked to wait, the third gets no answer
        server.requests                            # what was asked

    with ModelServer(lambda request: request["messages"][-1]["content"].upper()) as server: ...
    with ModelServer([Reply(calls=(ToolCall(name="find_loans", arguments={"member_id": "M7"}),), reasoning="Whose?")]) as server: ...

It listens on loopback in a thread of its own, so that a caller with or without an event loop can use it, and streams what is asked for
with `stream: true`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from .messages import ToolCall
from .server_faults import WIRE_FAULTS, WireFault, misbehave

if TYPE_CHECKING:
    from aiohttp import web

Fault = Literal["hang", "not_json", "no_choices"] | WireFault


@dataclass(frozen=True)
class Reply:
    """What the server does with one request."""

    text: str = ""
    """The answer, or what an error says."""
    delay: float = 0.0
    """Seconds before it answers."""
    status: int = 200
    retry_after: float | str | None = None
    """The value of a Retry-After header."""
    fault: Fault | None = None
    """`hang`: no answer. `not_json`: no JSON. `no_choices`: JSON that is no answer. `cut`: the connection is closed in the middle of it.
    `reset`: it is reset there. `drop`: it is closed in the place of an answer. `drip`: one byte a second. `endless`: blanks, for ever.
    `huge`: 12 MB. `bomb`: a megabyte that is a gigabyte once decompressed. `short`: more than the length that was said. `http_1_0`: no
    length; the end of the connection is the end of it. `redirect`: to the same address, with the key in it. `close`: a whole answer over a
    connection that is closed then, though it was said to be kept. Streams know `hang` and `cut`."""
    finish: str | None = None
    """Why it ended; None for "tool_calls" with calls and "stop" without."""
    calls: Sequence[ToolCall | Mapping[str, Any]] = ()
    """Tool calls; a mapping is sent as it is, such as one whose arguments are no JSON."""
    reasoning: str | None = None
    """Sent as `reasoning_content`."""
    usage: tuple[int, int] | None = None
    """Tokens of prompt and answer; counted by words for None, those of tools too."""
    body: bytes | None = None
    """Sent as it is, whatever the other fields say."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of a `body`."""


Script = Callable[[Mapping[str, Any]], Reply | str]
"""From a request's JSON to what is done with it."""


class ModelServer:
    """The server; a context manager."""

    def __init__(
        self,
        script: Script | Iterable[Reply | str],
        *,
        key: str | None = None,
        models: Sequence[str] | None = None,
        port: int = 0,
        remembers: bool = True,
    ) -> None:
        """Say what it answers.

        Args:
            script: A function of the request, or one reply a request, the last of them for all further ones.
            key: The API key that it asks for. A wrong one is refused in words that repeat it, as real providers do.
            models: Names that it lists and answers to; with None it answers to any name and lists none.
            port: Where it listens; any free one for 0.
            remembers: Whether `requests` is kept; for long runs it need not be.
        """
        self._script = script if callable(script) else _in_turn(script)
        self._key, self._models, self._port, self._remembers = key, models, port, remembers
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""
        """The base URL, once it runs."""
        self.requests: list[dict[str, Any]] = []
        """The JSON of every request so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if not self.url:
            raise OSError(f"cannot listen on port {self._port} of loopback")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.run_until_complete(_end_others())
            self._loop.close()

    async def _serve(self) -> None:
        from aiohttp import web

        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/models", self._list)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def _refused(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        wrong = self._key is not None and given != self._key
        return _error(401, f"Incorrect API key provided: {given}.", {}) if wrong else None

    async def _list(self, request: web.Request) -> web.Response:
        from aiohttp import web

        if (refused := self._refused(request)) is not None:
            return refused
        if self._models is None:
            return _error(404, "not found", {})
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self._models]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        body = await request.json()
        if (refused := self._refused(request)) is not None:
            return refused
        if self._models is not None and body.get("model") not in self._models:
            return _error(404, f"The model `{body.get('model')}` does not exist.", {})
        with self._lock:
            if self._remembers:
                self.requests.append(body)
            reply = self._script(body)
        reply = Reply(reply) if isinstance(reply, str) else reply
        await asyncio.sleep(reply.delay)
        if reply.fault == "hang":
            await self._stop.wait()
        if reply.body is not None:
            return web.Response(body=reply.body, status=reply.status, headers={"Content-Type": "application/json", **reply.headers})
        if reply.status != 200:
            return _error(reply.status, reply.text, {} if reply.retry_after is None else {"Retry-After": str(reply.retry_after)})
        if reply.fault == "not_json":
            return web.Response(text="<html>Bad gateway</html>")
        if reply.fault == "no_choices":
            return web.json_response({"object": "chat.completion", "choices": []})
        answer = completion(body, reply)
        if body.get("stream"):
            return await _stream(request, body, answer, cut=reply.fault == "cut")
        if reply.fault in WIRE_FAULTS:
            return await misbehave(request, answer, reply.fault)
        return web.json_response(answer)


async def _end_others() -> None:
    """End what still runs: answers that nobody waits for any longer."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _in_turn(replies: Iterable[Reply | str]) -> Script:
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def _error(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    from aiohttp import web

    return web.json_response({"error": {"message": text, "type": "error", "code": None}}, status=status, headers=headers)


def completion(body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """A reply as a chat completion in OpenAI's form."""
    asked = sum(len(str(message.get("content")).split()) for message in body["messages"]) + len(json.dumps(body.get("tools") or "").split())
    prompt, said = reply.usage or (asked, len(reply.text.split()) + len(reply.calls))
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.reasoning is not None:
        message["reasoning_content"] = reply.reasoning
    if reply.calls:
        message["content"] = reply.text or None
        message["tool_calls"] = [_call(at, call, len(body["messages"])) for at, call in enumerate(reply.calls)]
    finish = reply.finish or ("tool_calls" if reply.calls else "stop")
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": body.get("model", ""),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said},
    }


def _call(at: int, call: ToolCall | Mapping[str, Any], turn: int) -> dict[str, Any]:
    if not isinstance(call, ToolCall):
        return dict(call)
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    return {"id": call.id or f"call_{turn}_{at}", "type": "function", "function": function}


async def _stream(request: web.Request, body: Mapping[str, Any], answer: Mapping[str, Any], *, cut: bool) -> web.StreamResponse:
    """Send an answer as server-sent events; with `cut` the connection breaks in the middle."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    chunks = list(_chunks(body, answer))
    for chunk in chunks[: len(chunks) // 2] if cut else chunks:
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    if not cut:
        await response.write(b"data: [DONE]\n\n")
    elif request.transport is not None:
        request.transport.close()
    return response


def _chunks(body: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """An answer in pieces, as OpenAI sends them: the role, reasoning and text by words, calls with their arguments in two halves."""
    head = {name: answer[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    (choice,) = answer["choices"]
    message = choice["message"]

    def piece(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish}]}

    yield piece({"role": "assistant", "content": ""})
    for name in ("reasoning_content", "content"):
        yield from (piece({name: word}) for word in (message.get(name) or "").replace(" ", " \0").split("\0") if word)
    for at, call in enumerate(message.get("tool_calls", ())):
        function = call.get("function", {})
        text = str(function.get("arguments") or "")
        yield piece({"tool_calls": [{**call, "index": at, "function": {**function, "arguments": text[: len(text) // 2]}}]})
        yield piece({"tool_calls": [{"index": at, "function": {"arguments": text[len(text) // 2 :]}}]})
    yield piece({}, choice["finish_reason"])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": answer["usage"]}
