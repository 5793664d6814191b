"""Whether a server is there, serves a model and shows it tools: found out before a run is begun on it, and when answers stay away."""

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
_HELLO = (Message(role="user", content="Hello! What can you do for me?"),)
_SOON = 30.0
"""Seconds in which a question of one token is answered by a server that is well."""


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
    body = form.body(_HELLO, {"max_tokens": 1})
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


_TOOL = {
    "type": "function",
    "function": {"name": "get_time", "description": "The time of day.", "parameters": {"type": "object", "properties": {}}},
}
_SHORTEST_PROMPT = 4
"""Tokens of a greeting in any chat template. A server that says fewer leaves out what it has in a cache, and its counts mean nothing."""


async def shows_tools(form: Form, attempts: Attempts, timeout: float) -> bool | None:
    """See `Model.shows_tools`. llama.cpp, llama-cpp-python and transformers leave tools out without a word where the model's chat template
    has no place for them; the tokens of a prompt with and without one tell."""
    counts: list[int] = []
    for more in ({}, {"tools": [_TOOL]}):
        try:
            answer, _ = await attempts.once(form.body(_HELLO, {"max_tokens": 1, **more}), min(timeout, _SOON), accepts_empty=True)
        except FailedAttempt:
            return None
        if answer.prompt_tokens is None or answer.prompt_tokens < _SHORTEST_PROMPT:
            return None
        counts.append(answer.prompt_tokens)
    without, having = counts
    return having > without if having >= without else None


async def is_away(form: Form, attempts: Attempts, timeout: float) -> ModelError | None:
    """See `Model.away`."""
    try:
        await attempts.once(form.body(_HELLO, {"max_tokens": 1}), min(timeout, _SOON), accepts_empty=True)
    except FailedAttempt as failed:
        return attempts.named(failed.error) if failed.error.kind in ("server", "timeout", "rate") else None
    return None


def _hint(base_url: str) -> str:
    if base_url.endswith("/v1"):
        return f"is a server of models at {base_url!r}?"
    return f"is {base_url!r} its base URL? It usually ends in /v1"
