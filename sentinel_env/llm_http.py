"""A client for OpenAI-compatible servers, such as vLLM, SGLang, llama.cpp and Ollama: one HTTP request a call, and nothing around it.

It exists beside litellm because of what a call costs here: about 0.3 ms of CPU instead of 10. aiohttp rather than httpx for the same
reason (measured on loopback with 22 messages: 0.24 and 1.29 ms); litellm brings it along anyway.

A request that is sent over a kept connection which the server was just about to close is sent again over another, at once: that is no
trouble of the server's, and no answer can have been under way. Everything else that goes wrong is the caller's to ask again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin, urlsplit

from .errors import ConfigError, ModelError
from .llm_answers import Answer, read_answer, trouble, without_keys

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from aiohttp import ClientSession

_LARGEST = 10_000_000
"""Bytes of an answer that are read."""
_LOOKED_AT = 100_000
"""Characters of what is no answer."""


@dataclass(frozen=True)
class Listing:
    """What a server says that it serves."""

    names: tuple[str, ...] | None
    """None where it lists nothing."""
    is_json: bool = True
    """False for a page that is there and is none of a server of models."""


class _NotThereError(ModelError):
    """Nothing answered in HTTP."""


class _NoJSONError(ModelError):
    """An answer that is none, such as a page."""


@dataclass
class _Connection:
    """Of one request."""

    was_kept: bool = False
    """It carried another request before."""
    has_answered: bool = False


class Endpoint:
    """The chat completions of one server."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        """Name the server; nothing is sent.

        Args:
            base_url: Such as `http://127.0.0.1:8000/v1`.
            api_key: Sent to this server only: redirects are not followed, and no proxy or .netrc of the environment is used.

        Raises:
            ConfigError: It is no http or https address, or carries a key itself; or the key cannot stand in a header.
        """
        if (problem := _problem(base_url)) is not None:
            shown = without_keys(_without_secrets(base_url), (api_key,))
            raise ConfigError(f"a base URL looks like http://127.0.0.1:8000/v1, found {shown!r}{problem}")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigError(
                "the API key holds a space, a line break or another character that no key has; was it read with its line end?"
            )
        self.base_url = base_url.rstrip("/")
        self.url = f"{self.base_url}/chat/completions"
        self._key = api_key
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: ClientSession | None = None
        self._loop: AbstractEventLoop | None = None

    async def send(self, body: Mapping[str, Any]) -> Answer:
        """Ask once, for as long as the caller waits.

        Raises:
            ModelError: Of every kind but `budget`, as `ModelError.kind` says.
        """
        return read_answer(await self._request("POST", self.url, body))

    async def models(self) -> Listing:
        """The names of the models that the server lists.

        Raises:
            ModelError: Nothing that speaks HTTP is there, or it refuses the key.
        """
        try:
            raw = await self._request("GET", f"{self.base_url}/models", None)
        except _NoJSONError:
            return Listing(None, is_json=False)
        except ModelError as error:
            if isinstance(error, _NotThereError) or str(error).startswith(("HTTP 401", "HTTP 403")):
                raise
            return Listing(None)
        rows = raw.get("data") if isinstance(raw, dict) else None
        names = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)] if isinstance(rows, list) else []
        return Listing(tuple(names) or None)

    async def _request(self, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        """The JSON of an answer.

        Raises:
            ModelError: There is none; the text never holds what follows the path of an address.
        """
        import aiohttp

        connection = _Connection()
        while True:
            try:
                status, headers, content = await self._exchange(method, url, body, connection)
                break
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise _NotThereError(f"cannot reach {url}: {_why(error)}", kind="server") from None
                if connection.has_answered:
                    raise ModelError(f"the answer was cut: {_why(error)}", kind="malformed") from None
                if not connection.was_kept:
                    hint = "; is it https that it speaks, or another service?" if method == "GET" else ""
                    raise _NotThereError(f"{url} closed the connection without an answer{hint}", kind="server") from None
                connection.was_kept = False  # it is gone from those that are kept, so this ends
            except (aiohttp.ClientPayloadError, aiohttp.http.HttpProcessingError) as error:
                raise ModelError(f"the answer was cut: {_first_line(error)}", kind="malformed") from None
            except aiohttp.ClientResponseError as error:
                raise _NotThereError(f"what {url} sends is no HTTP: {self._shown(_sent(error), 60)}", kind="malformed") from None
            except (aiohttp.ClientError, OSError) as error:
                raise _NotThereError(f"cannot reach {url}: {_why(error)}", kind="server") from None
        text = content.decode("utf-8", "replace")
        if 300 <= status < 400:
            raise ModelError(f"HTTP {status}: it redirects to {_place(url, headers.get('location'))}", kind="refused")
        if status != 200:
            raise trouble(status, text, headers)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise _NoJSONError(f"the answer is no JSON: {self._shown(text, 1000)!r}", kind="malformed") from None

    def _shown(self, text: str, most: int) -> str:
        """The beginning of a text, without keys; cut after they are out, because half a key is not recognised."""
        return without_keys(text[:_LOOKED_AT], (self._key,))[:most]

    async def _exchange(
        self, method: str, url: str, body: Mapping[str, Any] | None, connection: _Connection
    ) -> tuple[int, Mapping[str, str], bytearray]:
        """One request and its answer, as aiohttp has them."""
        options: dict[str, Any] = {"headers": self._headers, "allow_redirects": False, "trace_request_ctx": connection}
        async with self._open().request(method, url, json=body, **options) as response:
            connection.has_answered, content = True, bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > _LARGEST:
                    raise ModelError(f"the answer is longer than {_LARGEST:,} bytes", kind="malformed")
            return response.status, response.headers, content

    def _open(self) -> ClientSession:
        """The session of the running event loop; one of a loop that has ended is left to it."""
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            whole = aiohttp.ClientTimeout(total=None)  # the caller's deadline decides
            trace = aiohttp.TraceConfig()
            trace.on_connection_reuseconn.append(_note_kept)
            self._session = aiohttp.ClientSession(timeout=whole, connector=aiohttp.TCPConnector(limit=0), trace_configs=[trace])
            self._loop = loop
        return self._session

    async def close(self) -> None:
        """Close the connections, on the event loop that has them."""
        session, loop, self._session = self._session, self._loop, None
        if session is None or loop is None:
            return
        if loop is asyncio.get_running_loop():
            await session.close()
        elif loop.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(session.close(), loop))


async def _note_kept(session: Any, context: Any, params: Any) -> None:
    context.trace_request_ctx.was_kept = True


def _problem(base_url: str) -> str | None:
    """What is wrong with a base URL, as the end of a sentence; None for nothing."""
    try:
        parts = urlsplit(base_url)
        port, host = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:  # UnicodeError among them
        return ", which is no address"
    if parts.scheme not in ("http", "https") or not host:
        return ""
    if parts.username is not None or parts.password is not None:
        return " with a user or a password; a key is never part of it"
    if parts.query or parts.fragment:
        return " with more after its path; a key is never part of it"
    if port == 0 or re.search(r"[\s\x00-\x1f\x7f]", base_url):
        return ", which is no address" if port == 0 else ", which holds a blank or a line break"
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return "; leave /chat/completions away"
    return None


def _without_secrets(url: str) -> str:
    """An address, which may be a broken one, without a user, a password and what follows its path."""
    return re.sub(r"(?<=//)[^/?#]*@", "", re.sub(r"[?#].*", "", url, flags=re.DOTALL))


def _place(url: str, location: str | None) -> str:
    """Where a redirect leads, without what may be secret in it."""
    if not location:
        return "nowhere"
    try:
        parts = urlsplit(urljoin(url, location))
        return SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "").geturl()
    except ValueError:
        return "no address"


def _why(error: BaseException) -> str:
    """Why there is no connection: the system's word for it rather than aiohttp's, which talks of SSL where there is none."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted, {cause.verify_message}; SSL_CERT_FILE names a file of those that are"
    if isinstance(cause, ssl.SSLError):
        return f"it does not speak TLS ({(cause.reason or 'no reason').lower().replace('_', ' ')}); is it http:// rather than https://?"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return getattr(cause, "strerror", None) or _first_line(error)


def _sent(error: BaseException) -> str:
    """What came in the place of HTTP, as aiohttp quotes it."""
    lines = str(getattr(error, "message", error)).splitlines()
    quoted = next((line.strip() for line in lines if line.strip().startswith(("b'", 'b"'))), lines[0] if lines else "nothing")
    return quoted


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
