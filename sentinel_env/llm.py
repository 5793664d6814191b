"""The seam to language models: ask one by name, wait no longer than you said, pay no more than you said, and know what went wrong.

    async with Model("openai/gpt-4o-mini", budget=Budget(max_cost=1.0)) as model:          # any provider, through litellm
        print((await model.complete([Message(role="user", content="Hello")])).text)

    Model("qwen3", base_url="http://127.0.0.1:8000/v1")                                    # any OpenAI-compatible server, directly
    Model("openai/gpt-4o-mini", cassette=Cassette("night.jsonl", replay=True))             # nobody: what was recorded, again

The only importer of litellm, and that only when a model without a base URL is made: importing it takes seconds and 180 MB. A model
never reads the clock for anything but its deadlines and draws its jitter from a generator that it is given.

The way of a question: `llm_requests` makes it, `llm_attempts` asks it as often as it takes, through `llm_http` or litellm, and
`llm_answers` reads what comes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from random import Random
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from .cassette import Cassette
from .errors import ConfigError, ModelError
from .llm_answers import Answer, classed, read_answer
from .llm_attempts import RETRIED, Attempts, Patience, Send
from .llm_budget import Budget, Usage
from .llm_check import check, is_away, shows_tools
from .llm_http import Endpoint
from .llm_messages import Completion, ModelMessage
from .llm_pace import Pace
from .llm_requests import Form, wanted
from .messages import Message
from .records import first_error

__all__ = ["RETRIED", "Completion", "Model", "ModelMessage"]

_SHORTEST_KEY = 8


@dataclass(frozen=True)
class MadeOf:
    """What a model was made of, so that another process can make it again; as the arguments of `Model`."""

    name: str
    base_url: str | None
    api_key: str | None = field(repr=False)
    prices: tuple[float, float] | None
    attempts: int
    timeout: float


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
        pace: Pace | None = None,
        cassette: Cassette | None = None,
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
            pace: How fast the model is asked, shared by whoever asks it; None for as fast as they like.
            cassette: Where answers are taken from and kept; one that replays makes everything about servers, keys and prices void.

        Raises:
            ConfigError: The extra `llm` is not installed, no provider is known for the name, the URL is none, or the budget limits the
                cost of a model without a known price.
        """
        if not name.strip():
            raise ConfigError("a model needs a name, such as openai/gpt-4o-mini; found an empty one")
        if attempts < 1 or not timeout > 0:
            raise ConfigError(f"a model needs at least 1 attempt and a timeout above 0, found {attempts} and {timeout}")
        self.name = name
        self.made_of = MadeOf(name, base_url, api_key, prices, attempts, timeout)
        self.budget, self.pace, self.cassette = budget or Budget(), pace or Pace(), cassette
        self._keys = _secrets(api_key)
        self._form = Form(name)
        self._litellm: Any = None
        self._endpoint: Endpoint | None = None
        send: Send = _nobody
        self._close: Callable[[], Awaitable[None]] | None = None
        replays = cassette is not None and cassette.replay
        if base_url is not None and not replays:
            _need("aiohttp")
            self._endpoint = Endpoint(base_url, api_key)
            send, self._close = self._endpoint.send, self._endpoint.close
        elif not replays:
            self._litellm = _load_litellm()
            send, self._close = _through(self._litellm, name, api_key), _flush
        if self.budget.max_cost is not None and not replays and self._price(1, 1) is None:
            raise ConfigError(f"no price is known for model {name!r}, so its cost cannot be limited; give its prices, or limit tokens")
        patience = Patience(attempts, timeout, random or Random(0))
        limits: dict[str, Any] = {"budget": self.budget, "pace": self.pace, "patience": patience}
        self._attempts = Attempts(self._form, send, price=self._price, keys=self._keys, **limits)

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

    @property
    def spent(self) -> Usage:
        """What it took so far, whoever shares its budget; whoever asks on its behalf elsewhere adds to it."""
        return self._attempts.spent

    @spent.setter
    def spent(self, usage: Usage) -> None:
        self._attempts.spent = usage

    @property
    def left_out(self) -> set[str]:
        """What the server refused to take and was asked without: "temperature", "seed", "max_tokens" (sent as `max_completion_tokens`),
        "response_format", "reasoning" (of earlier turns)."""
        return self._form.left_out

    @property
    def takes_tools(self) -> bool:
        """False where litellm knows that the provider does not take tools; it would leave them out without a word."""
        if self._litellm is None:
            return True
        taken = self._litellm.get_supported_openai_params(model=self.name)
        return taken is None or "tools" in taken

    async def check(self) -> None:
        """Find out whether a server is there and serves the model, by its list or by one token; a provider behind litellm is not asked.

        Raises:
            ModelError: It cannot be reached, or refuses the key.
            ConfigError: It serves other models and refuses this one, or it is no server of models.
        """
        if self._endpoint is not None:
            await check(self._endpoint, self._form, self._attempts, self.made_of.timeout)

    async def shows_tools(self) -> bool | None:
        """Whether a server puts tools into the model's prompt, by two questions of one token; None where it cannot be told.

        A provider behind litellm is not asked.
        """
        return None if self._endpoint is None else await shows_tools(self._form, self._attempts, self.made_of.timeout)

    async def away(self) -> ModelError | None:
        """Why nobody answers just now, by a question of one token; None where somebody does, if only to refuse it."""
        if self.cassette is not None and self.cassette.replay:
            return None
        return await is_away(self._form, self._attempts, self.made_of.timeout)

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        schema: Mapping[str, Any] | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int = 1024,
        deadline: float = 300.0,
        may_be_empty: bool = False,
        may_decline: bool = False,
    ) -> Completion:
        """Ask for the next message.

        What a server refuses to take of temperature, seed, schema and earlier reasoning is left out from then on, see `left_out`.

        Args:
            messages: The conversation. Reasoning in it goes along.
            tools: What it may call, in OpenAI's function format.
            schema: A JSON schema for the answer. A server that cannot hold to one is asked without; the answer is not checked here.
            temperature: The provider's own for None.
            seed: For providers that take one.
            max_tokens: Of the answer.
            deadline: Seconds for everything, waiting and further attempts included.
            may_be_empty: An answer without text and calls is asked for once more, and then it is the model's answer. Otherwise it is
                trouble like any other that is malformed.
            may_decline: A refusal in the model's own words is its answer; otherwise it is trouble (refused). What its provider's filter
                holds back always is.

        Raises:
            ModelError: No usable answer; its `kind` says why.
        """
        settings = wanted(max_tokens=max_tokens, temperature=temperature, seed=seed, schema=schema, tools=tools)
        allowed = {"may_be_empty": may_be_empty, "may_decline": may_decline}
        if self.cassette is None:
            return await self._attempts.complete(messages, settings, deadline, **allowed)
        place = self.cassette.place(self._form.asked(messages, settings), self._keys)
        if (found := self.cassette.find(place)) is not None:
            return _recorded(found, self.cassette)
        try:
            completion = await self._attempts.complete(messages, settings, deadline, **allowed)
        except ModelError as error:
            if error.kind != "budget":
                self.cassette.keep(place, {"error": {"kind": error.kind, "text": str(error)}}, self._keys)
            raise
        self.cassette.keep(place, {"completion": completion.model_dump(mode="json", exclude_defaults=True)}, self._keys)
        return completion

    def _price(self, prompt: int, said: int) -> float | None:
        """US dollars for so many tokens, or None."""
        if (prices := self.made_of.prices) is not None:
            return (prompt * prices[0] + said * prices[1]) / 1e6
        if self._litellm is None:
            return None
        try:
            return float(sum(self._litellm.cost_per_token(model=self.name, prompt_tokens=prompt, completion_tokens=said)))
        except Exception:  # litellm raises a bare Exception for a model that is not in its list
            return None


def _recorded(found: Mapping[str, Any], cassette: Cassette) -> Completion:
    """What a cassette has.

    Raises:
        ModelError: An outage.
        ConfigError: It cannot be read.
    """
    try:
        if "completion" in found:
            return Completion.model_validate(found["completion"])
        outage = ModelError(str(found["error"]["text"]), kind=found["error"]["kind"])
    except (ValidationError, KeyError, TypeError) as error:
        said = first_error(error) if isinstance(error, ValidationError) else f"no {error}"
        raise ConfigError(f"{cassette.path} holds an answer that this version cannot read ({said}); record it anew") from None
    raise outage


def _secrets(api_key: str | None) -> tuple[str, ...]:
    """What no error, record or answer may repeat; a word such as "none", which servers without keys are given, is no secret."""
    known = [value for name, value in os.environ.items() if name.endswith("_API_KEY")]  # the other side's among them
    return tuple(each for each in (api_key, *known) if each is not None and len(each) >= _SHORTEST_KEY)


async def _nobody(body: Mapping[str, Any]) -> Answer:
    raise AssertionError("a cassette that replays answers or raises; nobody is asked")


def _need(package: str) -> None:
    if find_spec(package) is None:
        extra = "endpoint" if package == "aiohttp" else "llm"
        raise ConfigError(f"a model needs {package}, which is not installed; pip install 'sentinel-env[{extra}]'")


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


def _through(litellm: Any, name: str, api_key: str | None) -> Send:
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
        return read_answer(response.model_dump(warnings=False))

    return send


async def _flush() -> None:
    """Wait for litellm's own bookkeeping of finished calls, which the end of the event loop would cut with a warning."""
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER as WORKER

    await asyncio.sleep(0)
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await WORKER.flush()
