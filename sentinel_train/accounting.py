"""Accounting: every rollout of the model in training, so that two runs can be compared at equal cost.

    ledger = Ledger("out/rollouts.jsonl")
    ledger.count(1, "pilot", 960)
    ledger.counted(), ledger.left(20_000)          # diagnosis + pilot + training; evaluation stands apart

What a round's stage took is one line. A stage that is done again after a kill says the same again and is counted once: what matters is
what the result was made from. Executions of scripted agents cost no rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentinel_env import ConfigError
from sentinel_env.records import first_error

from .journal import Journal
from .targeting import Targeting, diagnoses, pilots

Purpose = Literal["diagnosis", "pilot", "training", "evaluation"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
COUNTED: tuple[Purpose, ...] = ("diagnosis", "pilot", "training")
"""What a budget is about: all that a method spends to get better (spec 4)."""
TOLERANCE = 0.01
"""Runs whose rollouts differ by at most this share cost the same."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spending(_Data):
    """One line of the ledger."""

    round: int = Field(ge=0)
    """0 for what comes before the first round, and one more than the last for what comes after it."""
    purpose: Purpose
    rollouts: int = Field(ge=0)


class Cost(_Data):
    """Rollouts by purpose."""

    diagnosis: int = 0
    pilot: int = 0
    training: int = 0
    evaluation: int = 0

    @property
    def counted(self) -> int:
        """Those that a budget is about."""
        return sum(getattr(self, purpose) for purpose in COUNTED)


class Ledger:
    """The rollouts of a run, in its file."""

    def __init__(self, path: str | Path) -> None:
        """Read a ledger, or begin an empty one.

        Raises:
            ConfigError: The file cannot be read, or a whole line of it is no ledger's (named with its number).
        """
        self._journal = Journal(path)
        self._rows: dict[tuple[int, Purpose], int] = {}
        for number, line in enumerate(self._journal.read(), 1):
            try:
                row = Spending.model_validate_json(line)
            except ValidationError as error:
                raise ConfigError(f"{path}, line {number}: {first_error(error)}") from None
            self._rows[row.round, row.purpose] = row.rollouts

    def count(self, number: int, purpose: Purpose, rollouts: int) -> None:
        """Take note of all that a round took for a purpose; it replaces what was noted of the same.

        Raises:
            ConfigError: The file cannot be written.
        """
        row = Spending(round=number, purpose=purpose, rollouts=rollouts)
        if self._rows.get((number, purpose)) != rollouts:
            self._journal.append([row.model_dump_json()])
            self._rows[number, purpose] = rollouts

    def rounds(self) -> dict[int, Cost]:
        """What each round took, by its number."""
        numbers = sorted({number for number, _ in self._rows})
        return {number: Cost(**{purpose: self._rows.get((number, purpose), 0) for purpose in PURPOSES}) for number in numbers}

    def total(self) -> Cost:
        """What the run took so far."""
        rounds = self.rounds().values()
        return Cost(**{purpose: sum(getattr(cost, purpose) for cost in rounds) for purpose in PURPOSES})

    def counted(self) -> int:
        """Rollouts so far that a budget is about."""
        return self.total().counted

    def left(self, budget: int, *, before: int | None = None) -> int:
        """What is left of a budget, or was left before a round began, whatever that round has noted since."""
        return budget - sum(cost.counted for number, cost in self.rounds().items() if before is None or number < before)


class RoundPlan(_Data):
    """What a round is going to do, as numbers."""

    targeting: Targeting = "closed_loop"
    diagnosis_tasks: int = Field(default=0, ge=0)
    diagnosis_trials: int = Field(default=1, ge=1)
    pilot_tasks: int = Field(default=0, ge=0)
    """Tasks that the round makes, and deferred ones that it looks at again."""
    pilot_trials: int = Field(default=0, ge=0)
    updates: int = Field(default=0, ge=0)
    prompts_per_update: int = Field(default=1, ge=1)
    group_size: int = Field(default=2, ge=2)
    evaluation_tasks: int = Field(default=0, ge=0)
    evaluation_trials: int = Field(default=1, ge=1)

    @property
    def rollouts_per_update(self) -> int:
        """What one update of the model takes."""
        return self.prompts_per_update * self.group_size


def estimate(plan: RoundPlan, number: int) -> Cost:
    """What a round takes at most; its targeting decides which stages it has.

    >>> estimate(RoundPlan(diagnosis_tasks=60, diagnosis_trials=2, pilot_tasks=160, pilot_trials=8, updates=12, group_size=8), 1).counted
    1496
    """
    return Cost(
        diagnosis=plan.diagnosis_tasks * plan.diagnosis_trials if diagnoses(plan.targeting, number) else 0,
        pilot=plan.pilot_tasks * plan.pilot_trials if pilots(plan.targeting) else 0,
        training=plan.updates * plan.rollouts_per_update,
        evaluation=plan.evaluation_tasks * plan.evaluation_trials,
    )


def affordable_updates(plan: RoundPlan, number: int, left: int) -> int:
    """How many updates a round can make of what is left of a budget, after its diagnosis and its pilot; 0 where not even those fit.

    So a control that needs no pilot trains longer on the same budget.
    """
    cost = estimate(plan, number)
    return max(0, left - cost.diagnosis - cost.pilot) // plan.rollouts_per_update


def updates_left(ledger: Ledger, plan: RoundPlan, budget: int, rounds: int, number: int) -> int:
    """How many updates a round makes of its equal part of a run's budget, and of what earlier rounds left, after its diagnosis and pilot.

    Args:
        ledger: With the round's diagnosis and pilot; its training does not matter.
        plan: What an update takes.
        budget: Of the whole run.
        rounds: How many there are.
        number: The round.

    Raises:
        ConfigError: None.
    """
    costs = ledger.rounds()
    now = costs.get(number, Cost())
    left = budget * number // rounds - sum(cost.counted for other, cost in costs.items() if other < number) - now.diagnosis - now.pilot
    if left < plan.rollouts_per_update:
        raise ConfigError(
            f"the budget of {budget} rollouts leaves {max(0, left)} for the training of round {number}, and an update takes "
            f"{plan.rollouts_per_update}; raise budget, or lower diagnosis_tasks, tasks.count or tasks.pilot_trials"
        )
    return left // plan.rollouts_per_update


def unequal(spent: Mapping[str, int], tolerance: float = TOLERANCE) -> str | None:
    """Why runs cannot be compared at equal rollouts, in one line; None where they can.

    Args:
        spent: What each run took, by its name, from `Ledger.counted`.
        tolerance: The largest difference that does not matter, as a share of the largest run.
    """
    if not spent:
        return None
    least, most = (choose(spent, key=lambda name: spent[name]) for choose in (min, max))
    if spent[most] - spent[least] <= tolerance * spent[most]:
        return None
    return (
        f"{most} took {spent[most]} rollouts and {least} {spent[least]} ({1 - spent[least] / spent[most]:.0%} fewer); "
        "give both the same budget, or compare them over rollouts"
    )
