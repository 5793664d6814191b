"""Asking until there is an answer: one attempt within the budget and its time, and how often and when it is made again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from .errors import ModelError
from .llm_answers import Answer, without_keys
from .llm_budget import Budget, Usage
from .llm_messages import Completion
from .llm_pace import Pace
from .llm_requests import Form
from .messages import Message

RETRIED = ("rate", "timeout", "server", "malformed")
"""The kinds of trouble after which the same question is asked again."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_HOLD_BACK = 0.1
"""Seconds in which nobody asks after a first 429 that names no longer time. After the second one for the same question it is as long as
its own wait: who asks on meanwhile is refused too, and uses up its attempts."""
_BELIEVED = 86_400.0
"""Seconds. A provider that asks for a longer wait is taken to have said nothing, so that one absurd header does not end a run."""
_FOR_ROOM = 0.02
"""Seconds after which a call looks again whether those in flight have left it room in the budget."""
_CHARACTERS_PER_TOKEN = 2
"""Fewer than in any usual text, so that what a call may cost is not underestimated."""
_SHOWN = 400
"""How much of a provider's own words an error repeats."""

Send = Callable[[Mapping[str, Any]], Awaitable[Answer]]
"""One request and its answer; raises `ModelError`."""


class FailedAttempt(Exception):
    """An attempt without a usable answer, and what it took."""

    def __init__(self, error: ModelError, used: Usage, *, empty: Answer | None = None) -> None:
        super().__init__()
        self.error, self.used, self.empty = error, used, empty


@dataclass(frozen=True)
class Patience:
    """How long and how often one model is asked."""

    attempts: int
    timeout: float
    """Seconds that one attempt may take."""
    random: Random
    """For the jitter of waiting times."""

    def wait(self, attempt: int, asked: float | None) -> float:
        """Seconds until the next attempt: twice as long each time, never less than the provider asked for; a part is drawn by lot."""
        own = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 1)) * (0.5 + 0.5 * self.random.random())
        return own if asked is None else max(own, asked + _FIRST_WAIT * self.random.random())


class Attempts:
    """Asks one model."""

    def __init__(
        self,
        form: Form,
        send: Send,
        *,
        price: Callable[[int, int], float | None],
        budget: Budget,
        pace: Pace,
        patience: Patience,
        keys: Sequence[str],
    ) -> None:
        """Nothing is sent yet.

        Args:
            form: What of a request is sent.
            send: Asks once.
            price: US dollars for so many tokens of prompt and answer; None where it is not known.
            budget: May be shared with other models.
            pace: May be shared with whoever asks this model.
            patience: When it is asked again.
            keys: What neither an error nor an answer may repeat.
        """
        self._form, self._send, self._price = form, send, price
        self._budget, self._pace, self._patience, self._keys = budget, pace, patience, keys
        self.spent = Usage()
        """What it took so far."""

    async def complete(
        self, messages: Sequence[Message], settings: Mapping[str, Any], deadline: float, *, may_be_empty: bool, may_decline: bool
    ) -> Completion:
        """See `Model.complete`."""
        body = self._form.body(messages, settings)
        until = _now() + deadline
        usage, attempt, accepts_empty = Usage(), 0, False
        while True:
            attempt += 1
            try:
                async with self._pace.turn(until - _now(), self._patience.random) as waited:
                    until += waited
                    timeout = max(0.0, min(self._patience.timeout, until - _now()))
                    empty = accepts_empty or (may_be_empty and attempt >= self._patience.attempts)
                    answer, used = await self.once(body, timeout, accepts_empty=empty, accepts_refusal=may_decline)
                return Completion.of(answer, model=self._form.model, usage=usage + used)
            except ModelError as asked_to_wait:
                raise self.named(asked_to_wait, f"; there is no time for that within {deadline:g} s") from None
            except FailedAttempt as failed:
                usage += failed.used
                error = failed.error
                if may_be_empty and failed.empty is not None and failed.empty.finish == "length":  # nothing but reasoning
                    return Completion.of(failed.empty, model=self._form.model, usage=usage)
                accepts_empty = accepts_empty or (may_be_empty and failed.empty is not None)
            if error.kind == "refused" and (name := self._form.refused(body, str(error))) is not None:
                self._form.left_out.add(name)
                body = self._form.body(messages, settings)
                continue
            wait = self._patience.wait(attempt, error.retry_after)
            if error.kind == "rate" or (error.retry_after is not None and error.kind in RETRIED):
                self._pace.hold_back(max(error.retry_after or 0.0, _HOLD_BACK if attempt == 1 else wait))
            if error.kind not in RETRIED or attempt >= self._patience.attempts:
                raise self.named(error, f" (asked {attempt} times)" if attempt > 1 else "")
            if _now() + wait >= until:
                raise self.named(error, f" (no time to ask again within {deadline:g} s)")
            await asyncio.sleep(wait)

    async def once(
        self, body: Mapping[str, Any], timeout: float, *, accepts_empty: bool, accepts_refusal: bool = False
    ) -> tuple[Answer, Usage]:
        """One attempt.

        Raises:
            FailedAttempt: It gave no usable answer.
        """
        size = len(json.dumps([body["messages"], body.get("tools"), body.get("response_format")]))
        prompt, most_said = size // _CHARACTERS_PER_TOKEN, body.get("max_tokens") or body["max_completion_tokens"]
        most = Usage(calls=1, prompt_tokens=prompt, completion_tokens=most_said, cost=self._price(prompt, most_said))
        until = _now() + timeout
        await self._hold(most, until)
        used = Usage(calls=1, failed=1, cost=None if most.cost is None else 0.0)
        try:
            async with asyncio.timeout_at(until):
                answer = self._without_keys(await self._send(body))
            used = self._used(answer, prompt)
            if answer.is_empty and not accepts_empty:
                used = used.model_copy(update={"failed": 1})
                why = "it was cut at max_tokens" if answer.finish == "length" else f"finish reason {answer.finish}"
                raise FailedAttempt(ModelError(f"the answer is empty; {why}", kind="malformed"), used, empty=answer)
            if answer.declined and not accepts_refusal:
                raise ModelError(f"the model declined to answer: {answer.text}", kind="refused")
            return answer, used
        except TimeoutError:
            used = most.model_copy(update={"failed": 1})
            raise FailedAttempt(ModelError(f"no answer within {timeout:.3g} s", kind="timeout"), used) from None
        except ModelError as error:
            if error.kind in ("malformed", "timeout"):
                used = (used if used.prompt_tokens else most).model_copy(update={"failed": 1})
            raise FailedAttempt(self.bare(error), used) from None
        except asyncio.CancelledError:
            used = most.model_copy(update={"failed": 1})
            raise
        finally:
            self._budget.settle(most, used)
            self.spent += used

    def _without_keys(self, answer: Answer) -> Answer:
        """An answer that does not repeat a key, as that of a server which was given one might; it is kept in files."""

        def clean(value: Any) -> Any:
            if isinstance(value, str):
                for key in self._keys:
                    value = value.replace(key, "[key]")
                return value
            if isinstance(value, Mapping):
                return {clean(name): clean(each) for name, each in value.items()}
            return [clean(each) for each in value] if isinstance(value, list) else value

        if not self._keys:
            return answer
        calls = tuple(
            call.model_copy(update={"name": clean(call.name), "arguments": clean(call.arguments), "id": clean(call.id)})
            for call in answer.calls
        )
        texts = {name: clean(getattr(answer, name)) for name in ("text", "model", "problem", "reasoning")}
        return replace(answer, calls=calls, **texts)

    def bare(self, error: ModelError) -> ModelError:
        """An error without keys, cut to what can be read, and without a wait that no provider means."""
        said = without_keys(str(error), self._keys)[:_SHOWN]  # cut last: half a key is not recognised
        wait = error.retry_after
        return ModelError(said, kind=error.kind, retry_after=wait if wait is not None and 0 <= wait <= _BELIEVED else None)

    def named(self, error: ModelError, more: str = "") -> ModelError:
        """An error that says which model it is about."""
        return ModelError(f"model {self._form.model}: {error}{more}", kind=error.kind, retry_after=error.retry_after)

    async def _hold(self, most: Usage, until: float) -> None:
        """Set aside what the attempt could take, waiting for calls in flight where only these stand in the way."""
        while True:
            try:
                return self._budget.hold(most)
            except ModelError as error:
                if not self._budget.has_room(most) or _now() >= until:
                    raise FailedAttempt(error, Usage()) from None
            await asyncio.sleep(_FOR_ROOM)

    def _used(self, answer: Answer, prompt: int) -> Usage:
        asked = answer.prompt_tokens if answer.prompt_tokens is not None else prompt
        arguments = sum(len(json.dumps(call.arguments)) for call in answer.calls)
        size = len(answer.text) + arguments + len(json.dumps(answer.reasoning, default=str))
        said = answer.completion_tokens if answer.completion_tokens is not None else size // _CHARACTERS_PER_TOKEN
        return Usage(calls=1, prompt_tokens=asked, completion_tokens=said, cost=self._price(asked, said))


def _now() -> float:
    return asyncio.get_running_loop().time()
