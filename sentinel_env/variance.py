"""Where the variance of outcomes comes from: the task, the agent's side, the user's side, both together, or chance.

    split_variance({(task, agent, user): [1.0, 0.0, ...], ...})

    sides = Sides()                                 # or from recorded runs
    for trajectory in read_trajectories("runs/first"):
        sides.add(domain, trajectory, read_configuration("runs/first"))
    split_variance(sides.outcomes())

It takes runs that cross at least two agents with at least two users over the same tasks; whether they are models or seeds of one model
does not matter. A single run cannot tell the sides apart; runs with `--agent-seed 1`, `2` crossed with `--user-seed 1`, `2` can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from .domain import Domain
from .errors import TaskError
from .evaluation import evaluate
from .metrics import Estimate, Values
from .trajectory import Trajectory

Outcomes = Mapping[tuple[str, str, str], Sequence[bool | float | None]]
"""(task, agent, user) -> outcomes of its trials; None for an infrastructure error."""

PARTS = ("task", "agent", "user", "both", "chance")
_RESAMPLES = 500
_AT_ONCE = 500_000
"""Numbers in one array of samples."""
_NAMED = 4


class VarianceSplit(BaseModel):
    """Shares of the variance of a single trial's outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: int = 0
    """Those with a trial in every combination."""
    agents: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    trials: int = 0
    """The fewest of a combination."""
    left_out: int = 0
    """Tasks without a trial in some combination."""
    total: float = 0.0
    """The variance that is split."""
    shares: dict[str, Estimate] = {}
    """ "task": some tasks are harder. "agent": agents differ, overall or by task. "user": the same for users. "both": it depends on who
    meets whom. "chance": trials of the same task, agent and user differ; with one trial each, what depends on all three is in it."""
    why_not: str | None = None
    """Why these runs allow no split, and what would."""


class Sides:
    """The outcomes of runs by task, agent and user."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, tuple[str, str], tuple[str, str]], list[float | None]] = {}

    def add(self, domain: Domain, trajectory: Trajectory, configuration: Mapping[str, Any] | None = None) -> None:
        """Count a trajectory; one that cannot be graded is passed over.

        Args:
            domain: The world of its run.
            trajectory: What happened.
            configuration: Of its run: a side with other settings, such as another temperature, is another one.
        """
        try:
            reward = evaluate(domain, trajectory).reward
        except TaskError:
            return
        agent, user = (
            (name, json.dumps({key: value for key, value in (configuration or {}).items() if key.startswith(f"{side}_")}, sort_keys=True))
            for side, name in (("agent", trajectory.agent), ("user", trajectory.user))
        )
        self._outcomes.setdefault((trajectory.task.id, agent, user), []).append(reward)

    def outcomes(self) -> dict[tuple[str, str, str], list[float | None]]:
        """All of them; a side is called by its name, with its settings where two of one name differ in them."""
        agents, users = _labels({agent for _, agent, _ in self._outcomes}), _labels({user for _, _, user in self._outcomes})
        return {(task, agents[agent], users[user]): found for (task, agent, user), found in self._outcomes.items()}


def _labels(sides: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    names = [name for name, _ in sides]
    return {(name, settings): name if names.count(name) == 1 else f"{name} {settings}" for name, settings in sides}


def split_variance(outcomes: Outcomes, *, seed: int = 0) -> VarianceSplit:
    """Split the variance of outcomes.

    The estimator is the analysis of variance of the fully crossed random design task x agent x user, on the means of the combinations:
    each component is solved from the expected mean squares (Searle, Casella and McCulloch 1992, *Variance Components*, chapter 4; in
    measurement theory the p x i x o design, Brennan 2001, *Generalizability Theory*, chapter 3). Combinations may have unequal numbers of
    trials: their own variance is taken off as the mean of s^2/n (Yates' unweighted means). The agent's side is its main effect plus its
    interaction with the task, and so is the user's; that is why levels that mean nothing across tasks, such as seeds, are taken too.

    Each component is unbiased, so small ones may come out below 0; shares are of the components with these set to 0. The intervals
    resample tasks; they hold for the agents and users at hand, and say nothing about others.

    Args:
        outcomes: Of every combination.
        seed: For the resampling.
    """
    agents, users = (sorted({key[at] for key in outcomes}) for at in (1, 2))
    cells = {key: [float(each) >= 1.0 for each in found if each is not None] for key, found in outcomes.items()}
    names = sorted({task for task, _, _ in cells})
    complete = [task for task in names if all(cells.get((task, *pair)) for pair in product(agents, users))]
    design = VarianceSplit(tasks=len(complete), agents=tuple(agents), users=tuple(users), left_out=len(names) - len(complete))
    if (why := _why_not(agents, users, cells, complete)) is not None:
        return design.model_copy(update={"why_not": why})
    shape = (len(complete), len(agents), len(users))
    found = [cells[key] for key in product(complete, agents, users)]
    means = np.array([np.mean(trials) for trials in found]).reshape(shape)
    least = min(map(len, found))
    within = np.array([np.var(trials, ddof=1) if least > 1 else 0.0 for trials in found]).reshape(shape)
    of_means = within / np.array([len(trials) for trials in found]).reshape(shape)
    parts = _components(means, within, of_means)
    total = float(parts.sum())
    if total == 0.0:
        return design.model_copy(update={"why_not": "every trial came out the same, so there is no variance to split"})
    low, high = np.quantile(_resampled(means, within, of_means, seed), [0.025, 0.975], axis=0)
    trials = sum(map(len, found))
    shares = {
        name: Estimate(value=float(parts[at] / total), low=float(low[at]), high=float(high[at]), tasks=shape[0], trials=trials)
        for at, name in enumerate(PARTS)
    }
    return design.model_copy(update={"trials": least, "total": total, "shares": shares})


def _components(means: Values, within: Values, of_means: Values) -> Values:
    """The variance of each of `PARTS`, at least 0, for any number of samples at once.  # (..., parts)

    Args:
        means: Of each combination.  # (..., tasks, agents, users)
        within: The variance of its trials; 0 where a combination has one trial.
        of_means: The same over its number of trials.
    """
    tasks, agents, users = means.shape[-3:]
    by_task, by_agent, by_user = (means.mean(axis=axes, keepdims=True) for axes in ((-2, -1), (-3, -1), (-3, -2)))
    grand = by_task.mean(axis=-3, keepdims=True)
    task, agent, user = by_task - grand, by_agent - grand, by_user - grand
    task_agent = means.mean(axis=-1, keepdims=True) - grand - task - agent
    task_user = means.mean(axis=-2, keepdims=True) - grand - task - user
    agent_user = means.mean(axis=-3, keepdims=True) - grand - agent - user
    rest = means - grand - task - agent - user - task_agent - task_user - agent_user

    def mean_square(effect: Values, *levels: int) -> Values:
        """Its sum of squares over all combinations, divided by its degrees of freedom."""
        times = tasks * agents * users / np.prod(effect.shape[-3:])
        squares: Values = (effect**2).sum(axis=(-3, -2, -1)) * times / np.prod([level - 1 for level in levels])
        return squares

    t, a, u = mean_square(task, tasks), mean_square(agent, agents), mean_square(user, users)
    ta, tu = mean_square(task_agent, tasks, agents), mean_square(task_user, tasks, users)
    au, tau = mean_square(agent_user, agents, users), mean_square(rest, tasks, agents, users)
    of_task = (t - ta - tu + tau) / (agents * users)
    of_agent = (a - ta - au + tau) / (tasks * users) + (ta - tau) / users
    of_user = (u - tu - au + tau) / (tasks * agents) + (tu - tau) / agents
    if within.any():
        chance = within.mean(axis=(-3, -2, -1))
        both = (au - tau) / tasks + tau - of_means.mean(axis=(-3, -2, -1))
    else:
        chance, both = tau, (au - tau) / tasks
    parts: Values = np.stack([of_task, of_agent, of_user, both, chance], axis=-1)
    return np.maximum(parts, 0.0)


def _resampled(means: Values, within: Values, of_means: Values, seed: int) -> Values:
    """The shares in samples of the tasks.  # (samples, parts)"""
    random = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // means.size)
    drawn = []
    for first in range(0, _RESAMPLES, at_once):
        chosen = random.integers(0, len(means), size=(min(at_once, _RESAMPLES - first), len(means)))
        parts = _components(means[chosen], within[chosen], of_means[chosen])
        total = parts.sum(axis=-1, keepdims=True)
        drawn.append(np.divide(parts, total, out=np.zeros_like(parts), where=total > 0))
    return np.concatenate(drawn)


def _why_not(
    agents: Sequence[str], users: Sequence[str], cells: Mapping[tuple[str, str, str], list[bool]], complete: Sequence[str]
) -> str | None:
    if len(agents) < 2 or len(users) < 2:
        sides = ("agent", agents), ("user", users)
        found = " and ".join(f"one {side} ({names[0]})" for side, names in sides if len(names) == 1)
        return f"there is only {found or 'nothing'}, so nothing tells the sides apart; it takes two agents, each with the same two users"
    present = {(agent, user) for (_, agent, user), trials in cells.items() if trials}
    missing = [pair for pair in product(agents, users) if pair not in present]
    if missing:
        shown = ", ".join(f"{agent} with {user}" for agent, user in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        return f"agents and users are not crossed; run {shown}{more} as well"
    if len(complete) < 2:
        return f"{len(complete)} tasks have a trial in every combination of agent and user; it takes at least 2"
    return None
