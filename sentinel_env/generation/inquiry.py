"""Inquiries: a model is asked for many things, each answer is examined, and what does not hold goes back to it with the reason.

An inquiry goes in rounds: all that is still open is asked at once, as many at a time as `Asking` allows, and examined in the order of the
items whatever the order of the answers. So the same answers give the same outcome. What is answered is kept when the work ends early.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.llm import Completion, Model
from sentinel_env.llm_answers import json_in
from sentinel_env.llm_budget import Usage
from sentinel_env.messages import Message
from sentinel_env.prompt_texts import as_data
from sentinel_env.records import first_error

ANSWER, MODEL = "answer", "model"
"""What stands in the place of a gate's name where an answer has not the form of one, and where there was none."""
INTERRUPTED = "interrupted"
LONGEST_ANSWER = 40_000
_LONGEST_REASON = 600
_LOST_IN_A_ROW = 3
"""So many calls without an answer, one after the other, end the work: the model is down."""


@dataclass(frozen=True)
class Asking:
    """How a model is asked."""

    repairs: int = 2
    """How often an answer that does not hold goes back with the reason."""
    concurrency: int = 4
    """Calls at the same time. Each sets aside the most that it could cost, so that fewer use up a small budget better."""
    temperature: float = 0.8
    max_tokens: int = 4000
    """Of one answer."""
    deadline: float = 300.0
    """Seconds for one answer, waiting and asking again included."""

    def __post_init__(self) -> None:
        if self.repairs < 0 or self.concurrency < 1:
            raise ConfigError(f"expected at least 0 repairs and 1 call at a time, found {self.repairs} and {self.concurrency}")


@dataclass(frozen=True)
class Question:
    """What is asked for one item."""

    rules: str
    data: Any
    """What the rules speak of; it is shown as JSON that cannot leave its place."""
    expected: type[BaseModel]
    """The form of the answer."""
    seed: int
    """Of the first answer; each further one has the next."""


class Refusal(BaseModel):
    """An answer that does not hold, or a call without one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: int
    """Which of what was asked for, from 0."""
    attempt: int
    """0 for the first answer, 1 for its repair."""
    gate: str
    """What refused it: a gate of verification, "answer" where it has not the form, "model" where there is none."""
    reason: str


Examine = Callable[[int, Any], tuple[str, str] | None]
"""(item, answer) -> (gate, reason) where it does not hold, or None."""


class Inquiry:
    """Questions to a model, and what came of them so far."""

    def __init__(
        self,
        model: Model,
        items: int,
        question: Callable[[int], Question],
        examine: Examine,
        *,
        asking: Asking,
        on_finished: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            model: Asked once for each item, and again for each repair. Its budget ends the work cleanly.
            items: How many things are asked for.
            question: What is asked for each.
            examine: Whether an answer holds; called for one at a time, in the order of the items within a round.
            asking: How the model is asked.
            on_finished: Called with the number of items that are through.
        """
        self.model = model
        self.refused: list[Refusal] = []
        """Every answer that does not hold, in the order in which they were examined."""
        self.stopped: ModelError | None = None
        """Why not everything was asked: the budget, or a model that cannot be asked."""
        self._items, self._question, self._examine, self._asking, self._on_finished = items, question, examine, asking, on_finished
        self._before = model.budget.spent
        self._open: dict[int, tuple[Question, list[Message]]] = {}
        self._waiting: deque[int] = deque()
        self._answers: dict[int, tuple[int, Completion | ModelError | None]] = {}
        self._again: list[int] = []
        self._through = 0
        self._lost = 0
        self._answered = False

    @property
    def usage(self) -> Usage:
        """What the model took since the inquiry was made."""
        return self.model.budget.spent - self._before

    async def run(self) -> None:
        """Ask until everything holds, is refused for good, or cannot be asked any more.

        Raises:
            DomainError: A tool crashed while an answer was examined.
        """
        items = list(range(self._items))
        for attempt in range(1 + self._asking.repairs):
            if items and self.stopped is None:
                items = await self._round(items, attempt)
        if not self._answered and self.stopped is None:
            self.stopped = self._last_error

    _last_error: ModelError | None = None

    async def _round(self, items: Sequence[int], attempt: int) -> list[int]:
        """Ask for these, and return those whose answers have to be repaired."""
        self._waiting, self._again = deque(items), []
        places = asyncio.Semaphore(self._asking.concurrency)

        async def one(item: int) -> None:
            async with places:
                self._answers[item] = (attempt, await self._ask(item, attempt))
            self.examine_answers()

        tasks = [asyncio.create_task(one(item)) for item in items]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return self._again

    async def _ask(self, item: int, attempt: int) -> Completion | ModelError | None:
        """An answer, the model's trouble, or None where it is not asked any more."""
        if self.stopped is not None:
            return None
        if item not in self._open:
            asked = self._question(item)
            data = f"<data>\n{as_data(asked.data)}\n</data>"
            self._open[item] = asked, [Message(role="system", content=asked.rules), Message(role="user", content=data)]
        question, messages = self._open[item]
        try:
            answer = await self.model.complete(
                messages,
                schema=question.expected.model_json_schema(),
                temperature=self._asking.temperature,
                seed=question.seed + attempt,
                max_tokens=self._asking.max_tokens,
                deadline=self._asking.deadline,
            )
        except ModelError as error:
            self._last_error = error
            self._lost += 1
            if error.kind == "budget" or self._lost >= max(_LOST_IN_A_ROW, self._asking.concurrency):
                self.stopped = self.stopped or error
            return error
        self._lost, self._answered = 0, True
        return answer

    def examine_answers(self) -> None:
        """Examine what is answered and has its turn."""
        while self._waiting and self._waiting[0] in self._answers:
            item = self._waiting.popleft()
            attempt, answer = self._answers.pop(item)
            if answer is not None and not self._is_open(item, attempt, answer):
                self._open.pop(item, None)
                self._through += 1
                if self._on_finished:
                    self._on_finished(self._through)

    def examine_rest(self) -> None:
        """After an interruption: examine whatever was answered, out of turn."""
        self._waiting = deque(item for item in self._waiting if item in self._answers)
        self.examine_answers()

    def _is_open(self, item: int, attempt: int, answer: Completion | ModelError) -> bool:
        """Whether the answer has to be asked for again; a refusal is noted."""
        if isinstance(answer, ModelError):
            self.refused.append(Refusal(item=item, attempt=attempt, gate=MODEL, reason=f"{answer.kind}: {answer}"))
            return False
        question, messages = self._open[item]
        found = _read(answer, question.expected)
        refusal = (ANSWER, found) if isinstance(found, str) else self._examine(item, found)
        if refusal is None:
            return False
        gate, reason = refusal[0], _one_line(refusal[1])
        self.refused.append(Refusal(item=item, attempt=attempt, gate=gate, reason=reason))
        if attempt >= self._asking.repairs:
            return False
        complaint = prompt("repair_answer", gate=gate, reason=as_data(reason))
        messages[2:] = [
            Message(role="assistant", content=answer.text[:LONGEST_ANSWER]),
            Message(role="user", content=complaint),
        ]  # the last answer is enough to go on from, and a repair costs no more than the one before
        self._again.append(item)
        return True


def _read(answer: Completion, expected: type[BaseModel]) -> BaseModel | str:
    """The answer in its form, or why it has not that form."""
    if len(answer.text) > LONGEST_ANSWER:
        return f"it has {len(answer.text):,} characters; at most {LONGEST_ANSWER:,} are read"
    try:
        return expected.model_validate_json(json_in(answer.text))
    except ValidationError as error:
        cut = "; it was cut at max_tokens" if answer.finish == "length" else ""
        return f"it does not fit the schema: {first_error(error)}{cut}"


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} [...]"


def prompt(name: str, **values: Any) -> str:
    """One of the prompt texts, filled in."""
    return Template(files("sentinel_env").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")).substitute(values)


def final_reasons(refused: Sequence[Refusal], held: Mapping[int, Any]) -> dict[int, Refusal]:
    """The last refusal of each item that does not hold, in the order of the items."""
    last = {refusal.item: refusal for refusal in refused if refusal.item not in held}
    return dict(sorted(last.items()))
