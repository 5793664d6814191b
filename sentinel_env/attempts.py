"""Attempts: one task and trial from the beginning to its record, the same in the runner's own process and in a worker elsewhere.

    trajectory = await play(domain, task, trial, agent, user, Rules(seed=5))

What decides an attempt besides its sides are its `Rules`; when and where it is played changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from .domain import Domain
from .episode import Agent, Episode, User, adrive
from .errors import ModelError
from .llm import ModelMessage
from .llm_budget import Usage
from .tasks import Task
from .trajectory import Trajectory, record


@dataclass(frozen=True)
class Rules:
    """What all attempts of a run have in common."""

    max_steps: int = 30
    """Assistant turns before an episode is truncated."""
    seed: int = 0
    """Every attempt has a seed of its own, made from this one, the task's id and the trial."""
    agent_seed: int | None = None
    """Takes the place of `seed` for what the agent draws; None for the same."""
    user_seed: int | None = None
    """The same for the user."""

    def episode(self, domain: Domain, task: Task, trial: int) -> Episode:
        """The beginning of an attempt."""
        own = trial_seed(self.seed, task.id, trial)
        agents, users = (None if seed is None else trial_seed(seed, task.id, trial) for seed in (self.agent_seed, self.user_seed))
        return Episode(domain, task, max_steps=self.max_steps, seed=own, agent_seed=agents, user_seed=users)


async def play(domain: Domain, task: Task, trial: int, agent: Agent, user: User, rules: Rules) -> Trajectory:
    """Make an attempt; one that infrastructure ended has its `error` set.

    A dialogue that has grown too long for the agent's model is no outage: it is truncated, as in training.

    Raises:
        ModelError: A budget is used up, which is neither an outage nor a result (budget).
        DomainError: A tool crashed.
    """
    episode, error = rules.episode(domain, task, trial), None
    try:
        await adrive(episode, agent, user)
    except ModelError as failure:
        if failure.kind == "budget":
            raise
        if failure.kind == "context" and episode.awaiting == "agent" and episode.steps > 0:
            episode.truncate()
        else:
            error = f"{type(failure).__name__}: {failure}"
    usage = usage_by_side(episode)
    episode.messages = [message.plain() if isinstance(message, ModelMessage) else message for message in episode.messages]
    return record(episode, trial=trial, agent=agent.name, user=user.name, error=error, usage=usage)


def usage_by_side(episode: Episode) -> dict[str, float]:
    """What the models of an episode took, by side; a request that ended it without an answer is not in it."""
    found: dict[str, float] = {}
    for side, role in (("agent", "assistant"), ("user", "user")):
        written = [message for message in episode.messages if isinstance(message, ModelMessage) and message.role == role]
        total = sum((message.usage for message in written), Usage())
        counts = total.model_dump(exclude_none=True) | {"repairs": sum(message.repairs for message in written)}
        found |= {f"{side}_{name}": value for name, value in counts.items() if value}
    return found


def trial_seed(seed: int, task_id: str, trial: int) -> int:
    """The seed of one attempt, in [0, 2**31); the same in every process and on every machine."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, task_id, trial]).encode()).digest()[:4]) >> 1
