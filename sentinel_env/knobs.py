"""Knobs: what a failure spec asks of the tasks that are to stress it, beyond the mistake itself. Each may be left open."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Reveal = Literal["together", "one by one"]
Voice = Literal["plain", "brief", "polite", "chatty", "upset"]
VOICES: tuple[Voice, ...] = get_args(Voice)
MOST_WRITES = 4


class Knobs(BaseModel):
    """How hard a task should be, and in what way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str | None = None
    """The domain's operation that carries the opportunity; any that fits for None."""
    writes: int | None = Field(default=None, ge=1, le=MOST_WRITES)
    """Exactly so many writes; few, mostly one, for None."""
    most_writes: int = Field(default=MOST_WRITES, ge=1, le=MOST_WRITES)
    """Never more writes than this."""
    siblings: int = Field(default=0, ge=0, le=10)
    """At least so many neighbouring values that are easily mistaken for a wanted one, such as variants of a product."""
    other_records: int = Field(default=0, ge=0, le=10)
    """At least so many other records of the caller on which the write would work too, such as orders with the same product."""
    reveal: Reveal | None = None
    """Whether the user opens with all wishes."""
    slip: bool | None = None
    """Whether the user first names a wrong record and corrects that when asked to confirm."""
    terse: bool | None = None
    """Whether the request leaves a detail out until the agent asks."""
    conditional: bool | None = None
    """Whether the request has a condition, such as "if that is not available, then ..."."""
    refusal: bool | None = None
    """Whether the user also wants something whose right answer is no."""
    question: bool | None = None
    """Whether the user also asks something that is only to be answered."""
    amount: bool | None = None
    """Whether an amount has to be told."""
    voices: tuple[Voice, ...] = VOICES
    """In which voices the user may speak."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.writes is not None and self.writes > self.most_writes:
            raise ValueError(f"asks for {self.writes} writes and for at most {self.most_writes}")
        if not self.voices:
            raise ValueError("voices is empty; name at least one, or leave it out")
        return self
