"""What models may take, in tokens and dollars, and what they took."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .errors import ConfigError, ModelError

_COUNTS = ("calls", "failed", "prompt_tokens", "completion_tokens")


class Usage(BaseModel):
    """What calls took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int = 0
    """Requests, those that were asked again included."""
    failed: int = 0
    """Of these, the ones without a usable answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    """US dollars; None where no price is known."""

    def __add__(self, other: Usage) -> Usage:
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in _COUNTS}, cost=cost)

    def __sub__(self, other: Usage) -> Usage:
        cost = None if self.cost is None or other.cost is None else self.cost - other.cost
        return Usage(**{name: getattr(self, name) - getattr(other, name) for name in _COUNTS}, cost=cost)

    @property
    def tokens(self) -> int:
        """Both kinds together."""
        return self.prompt_tokens + self.completion_tokens


class Budget:
    """What may be spent, by any number of models together.

    A call is not made when the most that it could take would pass a limit; it waits where only calls in flight stand in its way, which
    nearly always take less. An attempt that ended without the provider's figures counts
    with that most, because it may have been charged for.
    """

    def __init__(self, *, max_cost: float | None = None, max_tokens: int | None = None) -> None:
        """Set the limits.

        Args:
            max_cost: US dollars; None for no limit.
            max_tokens: Of prompts and answers together; None for no limit.

        Raises:
            ConfigError: A limit is not above 0.
        """
        for name, limit in (("max_cost", max_cost), ("max_tokens", max_tokens)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"{name} must be above 0, found {limit}")
        self.max_cost, self.max_tokens = max_cost, max_tokens
        self.spent = Usage()
        """Everything that was asked so far."""
        self._held_cost, self._held_tokens = 0.0, 0

    def hold(self, most: Usage) -> None:
        """Set aside what a call could take.

        Raises:
            ModelError: That could pass a limit (budget).
        """
        cost = (self.spent.cost or 0.0) + self._held_cost + (most.cost or 0.0)
        tokens = self.spent.tokens + self._held_tokens + most.tokens
        if self.max_cost is not None and cost > self.max_cost:
            raise ModelError(f"the next call could bring the cost to ${cost:.4f}; at most ${self.max_cost:g} may be spent", kind="budget")
        if self.max_tokens is not None and tokens > self.max_tokens:
            raise ModelError(f"the next call could bring the tokens to {tokens:,}; at most {self.max_tokens:,} may be used", kind="budget")
        self._held_cost += most.cost or 0.0
        self._held_tokens += most.tokens

    def has_room(self, most: Usage) -> bool:
        """Whether a call would be within the limits if nothing else were in flight."""
        cost, tokens = (self.spent.cost or 0.0) + (most.cost or 0.0), self.spent.tokens + most.tokens
        return (self.max_cost is None or cost <= self.max_cost) and (self.max_tokens is None or tokens <= self.max_tokens)

    def settle(self, most: Usage, used: Usage) -> None:
        """Replace what was set aside by what was used."""
        self._held_cost -= most.cost or 0.0
        self._held_tokens -= most.tokens
        self.spent += used
