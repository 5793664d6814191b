"""Whether a server is there and serves a model, found out before a run is begun on it."""

from __future__ import annotations

import asyncio

from .errors import ConfigError, ModelError
from .llm_attempts import Attempts, FailedAttempt
from .llm_http import Endpoint
from .llm_requests import Form
from .messages import Message

_NO_SUCH_PLACE = ("HTTP 3", "HTTP 404", "HTTP 405", "HTTP 501")
"""What servers say where no chat completions are."""
_LISTED = 20


async def check(endpoint: Endpoint, form: Form, attempts: Attempts, timeout: float) -> None:
    """See `Model.check`; `timeout` is for each of the two questions."""
    try:
        async with asyncio.timeout(timeout):
            listing = await endpoint.models()
    except TimeoutError:
        raise attempts.named(ModelError(f"no answer within {timeout:.3g} s", kind="timeout")) from None
    except ModelError as not_there:
        raise attempts.named(attempts.bare(not_there)) from None
    if listing.names is not None and form.model in listing.names:
        return
    body = form.body([Message(role="user", content="Hello")], {"max_tokens": 1})
    try:  # some servers list nothing, or one name, and answer to any
        await attempts.once(body, timeout, accepts_empty=True)
    except FailedAttempt as failed:
        error = failed.error
        if error.kind == "refused" and form.refused(body, str(error)) is not None:
            return
        elsewhere = str(error).startswith(_NO_SUCH_PLACE) or (not listing.is_json and error.kind in ("malformed", "refused", "server"))
        if error.kind == "refused" and listing.names is not None:
            raise ConfigError(f"{attempts.named(error)}; the server has {', '.join(map(repr, listing.names[:_LISTED]))}") from None
        if elsewhere:
            raise ConfigError(f"{attempts.named(error)}; {_hint(endpoint.base_url)}") from None
        if error.kind == "refused":
            raise ConfigError(str(attempts.named(error))) from None


def _hint(base_url: str) -> str:
    if base_url.endswith("/v1"):
        return f"is a server of models at {base_url!r}?"
    return f"is {base_url!r} its base URL? It usually ends in /v1"
