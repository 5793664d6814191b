"""A client for OpenAI-compatible servers, such as vLLM, SGLang, llama.cpp and Ollama: one HTTP request a call, and nothing around it.

It exists beside litellm because of what a call costs here: about 0.3 ms of CPU instead of 10. aiohttp rather than httpx for the same
reason (measured on loopback with 22 messages: 0.24 and 1.29 ms); litellm brings it along anyway.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import ConfigError, ModelError
from .llm_answers import Answer, read_answer, trouble

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from aiohttp import ClientSession

_LARGEST = 10_000_000
"""Bytes of an answer that are read."""


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
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password or parts.query:
            raise ConfigError(
                f"a base URL looks like http://127.0.0.1:8000/v1, found {parts._replace(netloc=parts.hostname or '').geturl()!r}"
            )
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigError(
                "the API key holds a space, a line break or another character that no key has; was it read with its line end?"
            )
        self._base = base_url.rstrip("/")
        self.url = f"{self._base}/chat/completions"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: ClientSession | None = None
        self._loop: AbstractEventLoop | None = None

    async def send(self, body: Mapping[str, Any]) -> Answer:
        """Ask once, for as long as the caller waits.

        Raises:
            ModelError: Of every kind but `budget`, as `ModelError.kind` says.
        """
        return read_answer(await self._request("POST", self.url, body))

    async def models(self) -> list[str] | None:
        """The names of the models that the server lists; None where it lists none.

        Raises:
            ModelError: It cannot be reached, or refuses the key.
        """
        try:
            raw = await self._request("GET", f"{self._base}/models", None)
        except ModelError as error:
            if str(error).startswith(("HTTP 401", "HTTP 403", "cannot reach")):
                raise
            return None
        rows = raw.get("data") if isinstance(raw, dict) else None
        names = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)] if isinstance(rows, list) else []
        return names or None

    async def _request(self, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        import aiohttp

        try:
            async with self._open().request(method, url, json=body, headers=self._headers, allow_redirects=False) as response:
                status, headers, content = response.status, response.headers, bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > _LARGEST:
                        raise ModelError(f"the answer is longer than {_LARGEST:,} bytes", kind="malformed")
        except (aiohttp.ClientPayloadError, aiohttp.http.HttpProcessingError) as error:
            raise ModelError(f"the answer was cut: {_first_line(error)}", kind="malformed") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ModelError(f"cannot reach {url}: {_why(error)}", kind="server") from None
        text = content.decode("utf-8", "replace")
        if status != 200:
            raise trouble(status, text, headers)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ModelError(f"the answer is no JSON: {text[:1000]!r}", kind="malformed") from None

    def _open(self) -> ClientSession:
        """The session of the running event loop; one of a loop that has ended is left to it."""
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            whole = aiohttp.ClientTimeout(total=None)  # the caller's deadline decides
            self._session = aiohttp.ClientSession(timeout=whole, connector=aiohttp.TCPConnector(limit=0))
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


def _why(error: BaseException) -> str:
    """Why there is no connection: the system's word for it rather than aiohttp's, which talks of SSL where there is none."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return getattr(getattr(error, "os_error", None), "strerror", None) or _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
