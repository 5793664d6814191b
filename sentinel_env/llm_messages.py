"""What a model's answer becomes: a `Completion` for whoever asked, a `ModelMessage` for an episode."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .llm_answers import Answer
from .llm_budget import Usage
from .messages import Message, ToolCall


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

    @classmethod
    def of(cls, answer: Answer, *, model: str, usage: Usage) -> Completion:
        """An answer as a completion; `model` names it where the provider does not."""
        return cls(
            text=answer.text,
            model=answer.model or model,
            finish=answer.finish,
            usage=usage,
            calls=answer.calls,
            problem=answer.problem,
            reasoning=answer.reasoning,
        )


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
