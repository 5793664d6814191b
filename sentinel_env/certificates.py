"""What is known about a generated task: the mistakes that it must punish, and which gates it passed.

A certificate travels with its task, so that anybody can examine the task again: `sentinel verify TASKS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .messages import ToolCall


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Foil(_Data):
    """A plausible wrong plan that must cost reward, as an edit of the reference: what is made instead of some of its calls.

    >>> read, write = ToolCall(name="read", arguments={}), ToolCall(name="write", arguments={})
    >>> Foil.between("missing_write", [read, write], [read])
    Foil(label='missing_write', at=1, drop=1, calls=(), silent=False, mutant=False)
    """

    label: str
    """The failure that it shows, as in failure patterns."""
    at: int = Field(default=0, ge=0)
    """The reference action before which the edit begins."""
    drop: int = Field(default=0, ge=0)
    """How many reference actions are left out there."""
    calls: tuple[ToolCall, ...] = ()
    """What is called in their place."""
    silent: bool = False
    """Whether it tells the user nothing of what was asked for."""
    mutant: bool = False
    """Whether the program made it from the plan alone; otherwise it is what the request itself tempts to."""

    def plan(self, actions: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """The calls that it makes, where the reference makes these."""
        return (*actions[: self.at], *self.calls, *actions[self.at + self.drop :])

    @classmethod
    def between(
        cls, label: str, actions: Sequence[ToolCall], plan: Sequence[ToolCall], *, silent: bool = False, mutant: bool = False
    ) -> Foil:
        """The foil that makes the calls of `plan` where the reference makes those of `actions`."""
        start = 0
        while start < min(len(actions), len(plan)) and actions[start] == plan[start]:
            start += 1
        end = 0
        while end < min(len(actions), len(plan)) - start and actions[-1 - end] == plan[-1 - end]:
            end += 1
        made = tuple(plan[start : len(plan) - end])
        return cls(label=label, at=start, drop=len(actions) - end - start, calls=made, silent=silent, mutant=mutant)


class Gate(_Data):
    """One check of a proposal and its outcome."""

    name: str
    passed: bool
    reason: str = ""
    """Why it refused; of a gate that was not run, why not."""
    checked: bool = True
    """False where the domain, or the caller, gave it nothing to check with. An unchecked gate refuses nothing."""


class Certificate(_Data):
    """What a generated task was made for and what was checked of it; `sentinel verify` checks it again."""

    pattern: str
    """The id of the failure pattern that it is to stress."""
    label: str
    tools: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    feature: str | None = None
    version: str
    """Of this package."""
    seed: int | None = None
    """Of the Proposer; None where a person or a model wrote the draft."""
    model: str | None = None
    """The language model that wrote or reworded it."""
    gates: tuple[Gate, ...] = ()
    foils: tuple[Foil, ...] = ()
    """The pattern's own mistake first, where the reward can punish it."""
    unpunished: str = ""
    """Why the pattern's own mistake is not among the foils: the task then only gives the opportunity for it."""
    features: dict[str, Any] = {}
    """Structural facts about the request that it stresses, such as {"near_duplicate_variants": 3}."""
    pass_rate: float | None = Field(default=None, ge=0, le=1)
    """Of the pilot, where there was one."""
    trials: int = 0
    """Attempts of the pilot."""
    digest: str = ""
    """Of the task without its certificate and of the database that it was checked on: with another one, something was changed since."""
