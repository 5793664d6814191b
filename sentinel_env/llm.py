"""The seam to language models: ask one by name, wait no longer than you said, pay no more than you said, and know what went wrong.

    async with Model("openai/gpt-4o-mini", budget=Budget(max_cost=1.0)) as model:          # any provider, through litellm
        print((await model.complete([Message(role="user", content="Hello")])).text)

    Model("qwen3", base_url="http://127.0.0.1:8000/v1")                                    # any OpenAI-compatible server, directly

The only importer of litellm, and that only when a model without a base URL is made: importing it takes seconds and 180 MB. A model
never reads the clock for anything but its deadlines and draws its jitter from a generator that it is given.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from random import Random
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from .errors import ConfigError, ModelError
from .llm_answers import Answer, classed, read_answer, without_keys
from .llm_budget import Budget, Usage
from .llm_http import Endpoint
from .messages import Message

RETRIED = ("rate", "timeout", "server", "malformed")
"""The kinds of trouble after which the same question is asked again."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_CHARACTERS_PER_TOKEN = 2
"""Fewer than in any usual text, so that what a call may cost is not underestimated."""
_SHOWN = 400
"""How much of a provider's own words an error repeats."""


class Completion(BaseModel):
    """An answer, and what it took to get it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    model: str
    """As the provider names it."""
    finish: str | None = None
    """Why it ended: "stop", or "length" where it was cut at `max_tokens`."""
    usage: Usage
    """Of this call, with the attempts that failed."""

    @property
    def cost(self) -> float | None:
        """US dollars; None where no price is known."""
        return self.usage.cost


class Model:
    """A language model by name."""

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        prices: tuple[float, float] | None = None,
        budget: Budget | None = None,
        attempts: int = 4,
        timeout: float = 120.0,
        random: Random | None = None,
    ) -> None:
        """Choose a model; nothing is sent.

        Args:
            name: As its server names it; without `base_url` as litellm does, `provider/model`.
            base_url: An OpenAI-compatible server, such as `http://127.0.0.1:8000/v1`; it is asked directly.
            api_key: For that server or provider. With None a server gets no key, and litellm takes the provider's from the environment.
            prices: US dollars for a million tokens of prompt and of answer; None for what litellm knows.
            budget: Shared with other models, or None for no limit.
            attempts: How often a question is sent at most.
            timeout: Seconds that one attempt may take.
            random: For the jitter of waiting times.

        Raises:
            ConfigError: The extra `llm` is not installed, no provider is known for the name, the URL is none, or the budget limits the
                cost of a model without a known price.
        """
        if attempts < 1 or not timeout > 0:
            raise ConfigError(f"a model needs at least 1 attempt and a timeout above 0, found {attempts} and {timeout}")
        self.name = name
        self.budget = budget or Budget()
        self._attempts, self._timeout, self._random = attempts, timeout, random or Random(0)
        self._prices, self._takes_schema = prices, True
        self._keys = (api_key,)
        self._send: Callable[[Mapping[str, Any]], Awaitable[Answer]]
        self._close: Callable[[], Awaitable[None]] | None = None
        self._litellm: Any = None
        if base_url is not None:
            _need("aiohttp")
            endpoint = Endpoint(base_url, api_key)
            self._send, self._close = endpoint.send, endpoint.close
        else:
            self._litellm = _load_litellm()
            self._send, self._close = _through(self._litellm, name, api_key), _flush
        if self.budget.max_cost is not None and self._cost(1, 1) is None:
            raise ConfigError(f"no price is known for model {name!r}, so its cost cannot be limited; give its prices, or limit tokens")

    def __repr__(self) -> str:
        return f"Model({self.name!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next call opens them again."""
        if self._close is not None:
            await self._close()

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int = 1024,
        deadline: float = 300.0,
    ) -> Completion:
        """Ask for the next message.

        Args:
            messages: The conversation.
            schema: A JSON schema for the answer. A server that cannot hold to one is asked without; the answer is not checked here.
            temperature: The provider's own for None.
            seed: For providers that take one.
            max_tokens: Of the answer.
            deadline: Seconds for everything, waiting and further attempts included.

        Raises:
            ModelError: No usable answer; its `kind` says why.
        """
        body: dict[str, Any] = {"model": self.name, "messages": [message.to_openai() for message in messages], "max_tokens": max_tokens}
        body |= {name: value for name, value in (("temperature", temperature), ("seed", seed)) if value is not None}
        if schema is not None and self._takes_schema:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        until = asyncio.get_running_loop().time() + deadline
        usage, attempt = Usage(), 0
        while True:
            attempt += 1
            left = until - asyncio.get_running_loop().time()
            try:
                answer, used = await self._ask(body, min(self._timeout, left))
                return Completion(text=answer.text, model=answer.model or self.name, finish=answer.finish, usage=usage + used)
            except _Failed as failed:
                usage += failed.used
                error = failed.error
            if error.kind == "refused" and "response_format" in body and _NO_SCHEMA.search(str(error)):
                self._takes_schema = False
                del body["response_format"]
                continue
            wait = self._wait(attempt, error.retry_after)
            if error.kind not in RETRIED or attempt >= self._attempts:
                raise self._error(error, f" (asked {attempt} times)" if attempt > 1 else "")
            if asyncio.get_running_loop().time() + wait >= until:
                raise self._error(error, f" (no time to ask again within {deadline:g} s)")
            await asyncio.sleep(wait)

    def _error(self, error: ModelError, more: str) -> ModelError:
        return ModelError(f"model {self.name}: {error}{more}", kind=error.kind, retry_after=error.retry_after)

    async def _ask(self, body: Mapping[str, Any], timeout: float) -> tuple[Answer, Usage]:
        """One attempt.

        Raises:
            _Failed: It gave no usable answer.
        """
        size = len(json.dumps([body["messages"], body.get("response_format")]))
        prompt, most_said = size // _CHARACTERS_PER_TOKEN, body["max_tokens"]
        most = Usage(calls=1, prompt_tokens=prompt, completion_tokens=most_said, cost=self._cost(prompt, most_said))
        try:
            self.budget.hold(most)
        except ModelError as error:
            raise _Failed(error, Usage()) from None
        used = Usage(calls=1, failed=1)
        try:
            async with asyncio.timeout(timeout):
                answer = await self._send(body)
            used = self._used(answer, prompt)
            if not answer.text.strip():
                why = "it was cut at max_tokens" if answer.finish == "length" else f"finish reason {answer.finish}"
                raise ModelError(f"the answer is empty; {why}", kind="malformed")
            return answer, used
        except TimeoutError:
            used = most.model_copy(update={"failed": 1})
            raise _Failed(ModelError(f"no answer within {timeout:.3g} s", kind="timeout"), used) from None
        except ModelError as error:
            if error.kind in ("malformed", "timeout"):
                used = (used if used.prompt_tokens else most).model_copy(update={"failed": 1})
            said = without_keys(str(error), self._keys)[:_SHOWN]  # cut last: half a key is not recognised
            raise _Failed(ModelError(said, kind=error.kind, retry_after=error.retry_after), used) from None
        except asyncio.CancelledError:
            used = most.model_copy(update={"failed": 1})
            raise
        finally:
            self.budget.settle(most, used)

    def _used(self, answer: Answer, prompt: int) -> Usage:
        asked = answer.prompt_tokens if answer.prompt_tokens is not None else prompt
        said = answer.completion_tokens if answer.completion_tokens is not None else len(answer.text) // _CHARACTERS_PER_TOKEN
        return Usage(calls=1, prompt_tokens=asked, completion_tokens=said, cost=self._cost(asked, said))

    def _cost(self, prompt: int, said: int) -> float | None:
        """US dollars for so many tokens, or None."""
        if self._prices is not None:
            return (prompt * self._prices[0] + said * self._prices[1]) / 1e6
        if self._litellm is None:
            return None
        try:
            return float(sum(self._litellm.cost_per_token(model=self.name, prompt_tokens=prompt, completion_tokens=said)))
        except Exception:  # litellm raises a bare Exception for a model that is not in its list
            return None

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Seconds until the next attempt: what the provider asked for, or twice as long each time; a part of it is drawn by lot."""
        own = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1))
        return asked + _FIRST_WAIT * self._random.random() if asked is not None else own * (0.5 + 0.5 * self._random.random())


class _Failed(Exception):
    """An attempt without a usable answer, and what it took."""

    def __init__(self, error: ModelError, used: Usage) -> None:
        super().__init__()
        self.error, self.used = error, used


_NO_SCHEMA = re.compile(r"response_format|json_schema|structured output|guided", re.I)


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"a model needs {package}, which is not installed; pip install 'sentinel-env[llm]'")


# litellm


def _load_litellm() -> Any:
    """The module, without what it would otherwise do on import: read a .env file and fetch its list of prices."""
    _need("litellm")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for logger in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(logger).disabled = True  # they log every argument, keys and prompts among them
    for logger in ("httpx", "httpcore", "openai"):
        logging.getLogger(logger).setLevel(logging.WARNING)  # below that they log addresses, in which some providers carry the key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm
    litellm.telemetry = False
    litellm.suppress_debug_info = True  # it prints advice to standard output otherwise
    litellm.drop_params = True  # what a provider does not take, such as a seed, is left out
    return litellm


def _through(litellm: Any, name: str, api_key: str | None) -> Callable[[Mapping[str, Any]], Awaitable[Answer]]:
    """A function that asks once through litellm.

    Raises:
        ConfigError: litellm knows no provider for the name, or its key is not in the environment.
    """
    try:
        litellm.get_llm_provider(name)
        missing = [] if api_key else litellm.validate_environment(name)["missing_keys"]
    except Exception:
        raise ConfigError(
            f"no provider is known for model {name!r}; write provider/model, such as openai/{name}, or give a base URL"
        ) from None
    if keys := [each for each in missing if each.endswith("_API_KEY")]:
        raise ConfigError(f"model {name!r} needs a key; set {' and '.join(keys)} in the environment")

    async def send(body: Mapping[str, Any]) -> Answer:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                response = await litellm.acompletion(**body, api_key=api_key, num_retries=0, max_retries=0)
        except Exception as error:  # every provider's package has errors of its own
            raise classed(error) from None
        return read_answer(response.model_dump())

    return send


async def _flush() -> None:
    """Wait for litellm's own bookkeeping of finished calls, which the end of the event loop would cut with a warning."""
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER as WORKER

    await asyncio.sleep(0)
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await WORKER.flush()
