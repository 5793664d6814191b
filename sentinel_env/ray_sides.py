"""The two sides of a run as they cross to Ray's workers: objects are pickled, models are made again from what they were made of.

What one run may do is shared by its workers: requests in flight and a minute are divided evenly among them, and what may be spent is kept
by one actor, which every call asks for room. The provider's wish to wait is heeded by the worker that heard it.
"""

from __future__ import annotations

import io
import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from .episode import Agent, User
from .errors import ConfigError, ModelError
from .llm import MadeOf, Model
from .llm_budget import Budget, Usage
from .llm_pace import Pace
from .ray_cluster import unpicklable

_PATIENCE = 0.1
"""Seconds after which a worker that found no room in a budget asks for it again."""


@dataclass(frozen=True)
class Parts:
    """What a model is made of, here or there."""

    own: MadeOf
    budget: int
    """Which of the run's."""
    pace: int


@dataclass(frozen=True)
class Packed:
    """Both sides."""

    sides: bytes
    """Of the pair, with models as their numbers."""
    models: tuple[Parts, ...]
    paces: tuple[tuple[int | None, float | None], ...]
    """Requests in flight and a minute, of the whole run."""
    budgets: tuple[tuple[float | None, int | None], ...]
    """Dollars and tokens, of the whole run."""

    def most_workers(self, wanted: int) -> int:
        """How many there can be, so that each may have a request in flight."""
        return min([wanted, *(in_flight for in_flight, _ in self.paces if in_flight is not None)])

    def open(self, share: tuple[int, int], worker: int, keeper: Any) -> tuple[Agent, User, list[Model]]:
        """The sides in a worker.

        Args:
            share: The number of the worker's share, from 0, and how many shares there are.
            worker: How the keeper knows it; one that takes a lost one's share is another.
            keeper: The actor that keeps the budgets.
        """
        number, shares = share
        paces = [
            Pace(
                in_flight=None if in_flight is None else in_flight // shares + (number < in_flight % shares),
                per_minute=None if per_minute is None else per_minute / shares,
            )
            for in_flight, per_minute in self.paces
        ]
        budgets = [
            Budget() if limits == (None, None) else SharedBudget(keeper, at, worker, *limits) for at, limits in enumerate(self.budgets)
        ]
        models = [
            Model(**vars(each.own), budget=budgets[each.budget], random=Random(number), pace=paces[each.pace]) for each in self.models
        ]
        agent, user = _unpickler(models)(io.BytesIO(self.sides)).load()
        return agent, user, models


def pack(agent: Agent, user: User) -> tuple[Packed, list[Model]]:
    """The sides on their way out, and their models in the order in which a worker has them.

    Raises:
        ConfigError: A side cannot be pickled, or its model has a cassette.
    """
    models: list[Model] = []
    for kind, side in (("agent", agent), ("user", user)):  # each by itself, to say which one
        try:
            _pickler(models)(io.BytesIO()).dump(side)
        except ConfigError:
            raise
        except Exception as error:  # whatever an object's own methods raise
            raise ConfigError(unpicklable(f"{kind} {side.name}", error)) from None
    file = io.BytesIO()
    _pickler(models)(file).dump((agent, user))
    paces, budgets = _different([model.pace for model in models]), _different([model.budget for model in models])
    parts = tuple(Parts(model.made_of, budgets.index(model.budget), paces.index(model.pace)) for model in models)
    limits = tuple((budget.max_cost, budget.max_tokens) for budget in budgets)
    return Packed(file.getvalue(), parts, tuple((pace.in_flight, pace.per_minute) for pace in paces), limits), models


def _different(values: Sequence[Any]) -> list[Any]:
    return list({id(value): value for value in values}.values())


def _pickler(models: list[Model]) -> Any:
    """A pickler that writes models as numbers, and collects them."""
    from ray import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, value: Any) -> int | None:
            if type(value) is not Model:
                return None
            if value.cassette is not None:
                raise ConfigError(f"cassette {value.cassette.path} is for one process; record and replay with the executor local")
            if all(value is not known for known in models):
                models.append(value)
            return next(at for at, known in enumerate(models) if value is known)

    return Pickler


def _unpickler(models: Sequence[Model]) -> Any:
    class Unpickler(pickle.Unpickler):
        def persistent_load(self, number: int) -> Model:
            return models[number]

    return Unpickler


class Keeper:
    """The budgets of a run, in an actor: the only place where it is known what all workers spend and have in flight."""

    def __init__(self, budgets: Sequence[tuple[float | None, int | None, Usage]]) -> None:
        """Begin with limits of dollars and tokens, and what was spent before."""
        self._budgets: list[Budget] = []
        self._held: defaultdict[int, Counter[tuple[int, Usage]]] = defaultdict(Counter)
        """Worker -> (budget, the most that a call in flight takes)."""
        for dollars, tokens, spent in budgets:
            self._budgets.append(Budget(max_cost=dollars, max_tokens=tokens))
            self._budgets[-1].spent = spent

    def hold(self, worker: int, at: int, most: Usage) -> tuple[str | None, bool]:
        """Set room for a call aside: (why not, whether there may be room later)."""
        budget = self._budgets[at]
        try:
            budget.hold(most)
        except ModelError as error:
            return str(error), budget.has_room(most)
        self._held[worker][at, most] += 1
        return None, True

    def settle(self, worker: int, at: int, most: Usage, used: Usage) -> None:
        """Replace what was set aside by what was used."""
        if self._held[worker][at, most] > 0:  # and was not taken as spent, because the worker was given up
            self._held[worker][at, most] -= 1
            self._budgets[at].settle(most, used)

    def lost(self, worker: int) -> None:
        """Take what a worker had in flight as spent; it may have been."""
        for (at, most), times in self._held.pop(worker, Counter()).items():
            for _ in range(times):
                self._budgets[at].settle(most, most.model_copy(update={"failed": 1}))

    def spent(self) -> list[Usage]:
        """What was used, by budget."""
        return [budget.spent for budget in self._budgets]


class SharedBudget(Budget):
    """A worker's way to a budget that the keeper has."""

    def __init__(self, keeper: Any, at: int, worker: int, max_cost: float | None, max_tokens: int | None) -> None:
        """Say whose it is."""
        super().__init__(max_cost=max_cost, max_tokens=max_tokens)
        self._keeper, self._at, self._worker = keeper, at, worker
        self._full_until, self._reason, self._may_have_room = 0.0, "", True

    def hold(self, most: Usage) -> None:
        """As of any budget; where there is no room just now, the keeper is not asked again at once."""
        import ray

        if time.monotonic() >= self._full_until:
            why, self._may_have_room = ray.get(self._keeper.hold.remote(self._worker, self._at, most))
            if why is None:
                return
            self._full_until, self._reason = time.monotonic() + (_PATIENCE if self._may_have_room else 0.0), why
        raise ModelError(self._reason, kind="budget")

    def has_room(self, most: Usage) -> bool:
        """Whether the call that was refused last could be made if nothing else were in flight anywhere."""
        return self._may_have_room

    def settle(self, most: Usage, used: Usage) -> None:
        """Tell the keeper."""
        self._keeper.settle.remote(self._worker, self._at, most, used)
        self.spent += used
