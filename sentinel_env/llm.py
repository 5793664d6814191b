"""The seam to language models: ask one by name, wait no longer than you said, pay no more than you said, and know what went wrong.

    async with Model("openai/gpt-4o-mini", budget=Budget(max_cost=1.0)) as model:          # any provider, through litellm
        print((await model.complete([Message(role="user", content="Hello")])).text)

    Model("qwen3", base_url="http://127.0.0.1:8000/v1")                                    # any OpenAI-compatible server, directly
    Model("openai/gpt-4o-mini", cassette=Cassette("night.jsonl", replay=True))             # nobody: what was recorded, again

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

from pydantic import BaseModel, ConfigDict, Field

from .cassette import Cassette
from .cassette_request import Request
from .errors import ConfigError, ModelError
from .llm_answers import REASONING, Answer, classed, read_answer, without_keys
from .llm_budget import Budget, Usage
from .llm_http import Endpoint
from .llm_pace import Pace
from .messages import Message, ToolCall

RETRIED = ("rate", "timeout", "server", "malformed")
"""The kinds of trouble after which the same question is asked again."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_FOR_ROOM = 0.02
"""Seconds after which a call looks again whether those in flight have left it room in the budget."""
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
    calls: tuple[ToolCall, ...] = ()
    """The tools that it calls; there may be text beside them, or none."""
    problem: str | None = None
    """Why what it meant as calls is none, such as arguments that are no JSON object: its own mistake, and no error here."""
    reasoning: dict[str, Any] = {}
    """Its reasoning, under the names that the provider has for it."""

    @property
    def cost(self) -> float | None:
        """US dollars; None where no price is known."""
        return self.usage.cost


class ModelMessage(Message):
    """A message that a model wrote, with what only a live episode needs; a trajectory records the plain message."""

    reasoning: dict[str, Any] = Field(default_factory=dict)
    """Goes back to the model with the message, as it came."""
    usage: Usage = Usage()
    """What it took."""
    repairs: int = 0
    """How often a guard had it written anew, or mended it."""

    def plain(self) -> Message:
        """The message alone."""
        return Message.model_construct(
            self.model_fields_set & Message.model_fields.keys(), **{name: getattr(self, name) for name in Message.model_fields}
        )


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
        if attempts < 1 or not timeout > 0:
            raise ConfigError(f"a model needs at least 1 attempt and a timeout above 0, found {attempts} and {timeout}")
        self.name = name
        self.budget, self.pace, self.cassette = budget or Budget(), pace or Pace(), cassette
        self._attempts, self._timeout, self._random = attempts, timeout, random or Random(0)
        self.spent = Usage()
        """What it took so far, whoever shares its budget."""
        self.left_out: set[str] = set()
        """What the server refused to take and was asked without: "temperature", "seed", "max_tokens" (sent as `max_completion_tokens`),
        "response_format", "reasoning" (of earlier turns)."""
        self._prices = prices
        self._keys = (api_key,)
        self._send: Callable[[Mapping[str, Any]], Awaitable[Answer]]
        self._close: Callable[[], Awaitable[None]] | None = None
        self._litellm: Any = None
        self._endpoint: Endpoint | None = None
        if cassette is not None and cassette.replay:
            return
        if base_url is not None:
            _need("aiohttp")
            self._endpoint = Endpoint(base_url, api_key)
            self._send, self._close = self._endpoint.send, self._endpoint.close
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
            ConfigError: It serves other models and refuses this one.
        """
        if self._endpoint is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                names = await self._endpoint.models()
        except TimeoutError:
            raise self._error(ModelError(f"no answer within {self._timeout:.3g} s", kind="timeout"), "") from None
        except ModelError as error:
            said = without_keys(str(error), self._keys)[:_SHOWN]
            raise self._error(ModelError(said, kind=error.kind), "") from None
        if names is not None and self.name in names:
            return
        try:  # some servers list nothing, or one name, and answer to any
            await self._ask(self._body([Message(role="user", content="Hello")], {"max_tokens": 1}), self._timeout, accepts_empty=True)
        except _Failed as failed:
            if failed.error.kind == "refused" and self._not_taken({"max_tokens": 1, "messages": []}, str(failed.error)) is None:
                hint = "" if names is None else f"; the server has {', '.join(map(repr, names[:20]))}"
                if names is None and "HTTP 404" in str(failed.error):
                    hint = f"; is {self._endpoint.url.removesuffix('/chat/completions')!r} its base URL? It usually ends in /v1"
                raise ConfigError(f"{self._error(failed.error, '')}{hint}") from None

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

        Raises:
            ModelError: No usable answer; its `kind` says why.
        """
        wanted: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        if schema is not None:
            wanted["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        if tools:
            wanted["tools"] = list(tools)
        if self.cassette is None:
            return await self._complete(messages, wanted, deadline, may_be_empty)
        place = self.cassette.place(self._request(messages, wanted), self._keys)
        if (found := self.cassette.find(place)) is not None:
            if "error" in found:
                raise ModelError(found["error"]["text"], kind=found["error"]["kind"])
            return Completion.model_validate(found["completion"])
        try:
            completion = await self._complete(messages, wanted, deadline, may_be_empty)
        except ModelError as error:
            if error.kind != "budget":
                self.cassette.keep(place, {"error": {"kind": error.kind, "text": str(error)}}, self._keys)
            raise
        self.cassette.keep(place, {"completion": completion.model_dump(mode="json", exclude_defaults=True)}, self._keys)
        return completion

    def _request(self, messages: Sequence[Message], wanted: Mapping[str, Any]) -> Request:
        """What is asked for, whatever the server takes of it."""
        asked = {"model": self.name} | {name: value for name, value in wanted.items() if name != "tools" and value is not None}
        asked |= {"temperature": float(asked["temperature"])} if "temperature" in asked else {}
        rows = [message.to_openai() | (message.reasoning if isinstance(message, ModelMessage) else {}) for message in messages]
        return Request(asked, wanted.get("tools", []), rows)

    async def _complete(self, messages: Sequence[Message], wanted: Mapping[str, Any], deadline: float, may_be_empty: bool) -> Completion:
        """`complete` by asking."""
        body = self._body(messages, wanted)
        until = asyncio.get_running_loop().time() + deadline
        usage, attempt, accepts_empty = Usage(), 0, False
        while True:
            attempt += 1
            try:
                async with self.pace.turn(until - asyncio.get_running_loop().time(), self._random) as waited:
                    until += waited
                    left = until - asyncio.get_running_loop().time()
                    answer, used = await self._ask(
                        body, min(self._timeout, left), accepts_empty or (may_be_empty and attempt >= self._attempts)
                    )
                return _completion(answer, self.name, usage + used)
            except ModelError as failed_turn:
                raise self._error(failed_turn, f"; there is no time for that within {deadline:g} s") from None
            except _Failed as failed:
                usage += failed.used
                error = failed.error
                if may_be_empty and failed.empty is not None and failed.empty.finish == "length":  # nothing but reasoning
                    return _completion(failed.empty, self.name, usage)
                accepts_empty = accepts_empty or (may_be_empty and failed.empty is not None)
            if error.kind == "refused" and (name := self._not_taken(body, str(error))) is not None:
                self.left_out.add(name)
                body = self._body(messages, wanted)
                continue
            if error.retry_after is not None and error.kind in RETRIED:
                self.pace.hold_back(error.retry_after)
            wait = self._wait(attempt, error.retry_after)
            if error.kind not in RETRIED or attempt >= self._attempts:
                raise self._error(error, f" (asked {attempt} times)" if attempt > 1 else "")
            if asyncio.get_running_loop().time() + wait >= until:
                raise self._error(error, f" (no time to ask again within {deadline:g} s)")
            await asyncio.sleep(wait)

    def _body(self, messages: Sequence[Message], wanted: Mapping[str, Any]) -> dict[str, Any]:
        """What is sent, without what the server does not take."""
        rows = [message.to_openai() | self._reasoning_of(message) for message in messages]
        body = {"model": self.name, "messages": rows}
        body |= {name: value for name, value in wanted.items() if value is not None and name not in self.left_out}
        return body if "max_tokens" in body else body | {"max_completion_tokens": wanted["max_tokens"]}

    def _reasoning_of(self, message: Message) -> dict[str, Any]:
        return message.reasoning if isinstance(message, ModelMessage) and "reasoning" not in self.left_out else {}

    def _not_taken(self, body: Mapping[str, Any], refusal: str) -> str | None:
        """What of a request the refusal is about, where it can be left out."""
        sent = body.keys() | {"reasoning" for row in body["messages"] if not row.keys().isdisjoint(REASONING)}
        return next((name for name, pattern in _NOT_TAKEN.items() if name in sent and pattern.search(refusal)), None)

    def _error(self, error: ModelError, more: str) -> ModelError:
        return ModelError(f"model {self.name}: {error}{more}", kind=error.kind, retry_after=error.retry_after)

    async def _ask(self, body: Mapping[str, Any], timeout: float, accepts_empty: bool) -> tuple[Answer, Usage]:
        """One attempt.

        Raises:
            _Failed: It gave no usable answer.
        """
        size = len(json.dumps([body["messages"], body.get("tools"), body.get("response_format")]))
        prompt, most_said = size // _CHARACTERS_PER_TOKEN, body.get("max_tokens") or body["max_completion_tokens"]
        most = Usage(calls=1, prompt_tokens=prompt, completion_tokens=most_said, cost=self._cost(prompt, most_said))
        until = asyncio.get_running_loop().time() + timeout
        while True:
            try:
                self.budget.hold(most)
                break
            except ModelError as error:
                if not self.budget.has_room(most) or asyncio.get_running_loop().time() >= until:
                    raise _Failed(error, Usage()) from None
            await asyncio.sleep(_FOR_ROOM)
        used = Usage(calls=1, failed=1)
        try:
            async with asyncio.timeout_at(until):
                answer = await self._send(body)
            used = self._used(answer, prompt)
            if answer.is_empty and not accepts_empty:
                used = used.model_copy(update={"failed": 1})
                why = "it was cut at max_tokens" if answer.finish == "length" else f"finish reason {answer.finish}"
                raise _Failed(ModelError(f"the answer is empty; {why}", kind="malformed"), used, empty=answer)
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
            self.spent += used

    def _used(self, answer: Answer, prompt: int) -> Usage:
        asked = answer.prompt_tokens if answer.prompt_tokens is not None else prompt
        size = (
            len(answer.text)
            + sum(len(json.dumps(call.arguments)) for call in answer.calls)
            + len(json.dumps(answer.reasoning, default=str))
        )
        said = answer.completion_tokens if answer.completion_tokens is not None else size // _CHARACTERS_PER_TOKEN
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

    def __init__(self, error: ModelError, used: Usage, *, empty: Answer | None = None) -> None:
        super().__init__()
        self.error, self.used, self.empty = error, used, empty


_NOT_TAKEN = {
    "response_format": re.compile(r"response_format|json_schema|structured output|guided", re.I),
    "max_tokens": re.compile(r"max_completion_tokens", re.I),
    "temperature": re.compile(r"temperature", re.I),
    "seed": re.compile(r"\bseed\b", re.I),
    "reasoning": re.compile(r"reasoning|thinking", re.I),
}
"""What can be left out of a request, and how a refusal names it."""


def _completion(answer: Answer, name: str, usage: Usage) -> Completion:
    return Completion(
        text=answer.text,
        model=answer.model or name,
        finish=answer.finish,
        usage=usage,
        calls=answer.calls,
        problem=answer.problem,
        reasoning=answer.reasoning,
    )


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
