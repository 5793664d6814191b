"""Demonstrations to teach a model by: verified tasks, played by the scripted demonstrator, in the model's own tokens.

What could not be sampled later on is not taught: a dialogue, a turn or a number of turns beyond the limits of `SamplingConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

from sentinel_env import (
    ConfigError,
    Domain,
    Episode,
    ScriptedUser,
    TaskProposal,
    evaluate,
    general_pattern,
    propose_tasks,
    record,
    verify_all,
)
from sentinel_env.knobs import Knobs

from .chat import Chat
from .config import SamplingConfig
from .demonstrator import demonstrator
from .rollout import Rollout
from .solver import demonstrate

DRAFTS = 1.25
"""How many drafts are made for each task; some do not pass verification."""
MOST_STEPS = 100
"""Of a dialogue that is played; how long one may be that is kept is the caller's to say."""


def propose(domain: Domain, count: int, *, knobs: Knobs, seed: int, subjects: Callable[[str], bool]) -> list[TaskProposal]:
    """The verified tasks to demonstrate, with their mistakes; fewer where the domain has fewer.

    Raises:
        ConfigError: There is none.
    """
    drafts = propose_tasks(domain, general_pattern(domain, knobs), n=math.ceil(count * DRAFTS), seed=seed, pool=subjects)
    found = [verdict.proposal for verdict in verify_all(domain, drafts) if verdict.task is not None][:count]
    if not found:
        raise ConfigError(
            f"no task to demonstrate could be made of {domain.name}: {len(drafts)} drafts, none of which passed verification; raise the "
            "domain's size (options), or ask for less (knobs, operations)"
        )
    return found


@dataclass(frozen=True)
class Demonstrations:
    """Dialogues to learn from."""

    rollouts: tuple[Rollout, ...]
    mistakes: int
    """How many of them make a mistake."""
    too_long: int
    """Left out: the model could not sample them."""
    failed: int
    """Left out: no mistake was meant, and yet they earn no reward or the user did not want what was done."""

    def counts(self) -> dict[str, int]:
        """What there is to say of them, in numbers."""
        lengths = [rollout.length for rollout in self.rollouts]
        counts = {"demonstrations": len(lengths), "mistakes": self.mistakes, "too_long": self.too_long, "failed": self.failed}
        return {**counts, "median_tokens": int(median(lengths)), "most_tokens": max(lengths)}


def demonstrations(
    domain: Domain, tasks: Sequence[TaskProposal], chat: Chat, sampling: SamplingConfig, *, sloppy: float, seed: int
) -> Demonstrations:
    """Play the tasks, some of them with a mistake, and keep what a model could learn to write.

    Raises:
        ConfigError: Nothing is left; the text names what to set.
    """
    random, user = Random(f"{seed}/demonstrations"), ScriptedUser()
    found: list[Rollout] = []
    too_long: list[Rollout] = []
    failed = mistakes = 0
    for at, task in enumerate(tasks):
        agent = demonstrator(domain, task, random, sloppy=sloppy, careful=True)
        episode = Episode(domain, task.draft, max_steps=max(MOST_STEPS, sampling.max_steps), seed=at)
        rollout = demonstrate(episode, agent, user, chat)
        if agent.mistake is None and (agent.overruled or evaluate(domain, record(episode)).reward != 1):
            failed += 1
        elif not could_be_sampled(rollout, sampling):
            too_long.append(rollout)
        else:
            found.append(rollout)
            mistakes += agent.mistake is not None
    if not found:
        raise ConfigError(_none_left(too_long, failed, sampling))
    return Demonstrations(tuple(found), mistakes, len(too_long), failed)


def could_be_sampled(rollout: Rollout, sampling: SamplingConfig) -> bool:
    """Whether a model could have written this dialogue within the limits, as `rollout.roll_out` keeps them."""
    turns = list(_turns(rollout))
    starts = all(len(rollout.prompt_ids) + start + sampling.max_turn_tokens <= sampling.max_episode_tokens for start, _ in turns)
    return starts and len(turns) <= sampling.max_steps and all(length <= sampling.max_turn_tokens for _, length in turns)


def _turns(rollout: Rollout) -> Iterator[tuple[int, int]]:
    """(where it begins in the completion, its length) of each of the model's turns, which the world's words keep apart."""
    start = None
    for at, ours in enumerate([*rollout.mask, 0]):
        if ours and start is None:
            start = at
        elif not ours and start is not None:
            yield start, at - start
            start = None


def _none_left(too_long: Sequence[Rollout], failed: int, sampling: SamplingConfig) -> str:
    if not too_long:
        return f"none of {failed} demonstrations earns its reward; the scripted demonstrator cannot solve this domain's tasks"
    shortest = min(too_long, key=lambda rollout: rollout.length)
    turns = list(_turns(shortest))
    needs = {
        "max_turn_tokens": (max(length for _, length in turns), sampling.max_turn_tokens),
        "max_steps": (len(turns), sampling.max_steps),
    }
    begins = len(shortest.prompt_ids) + turns[-1][0]
    needs["max_episode_tokens"] = (begins + max(sampling.max_turn_tokens, needs["max_turn_tokens"][0]), sampling.max_episode_tokens)
    raised = [f"{name} is {limit}, at least {need} are needed" for name, (need, limit) in needs.items() if need > limit]
    return f"all {len(too_long)} demonstrations are too long to be sampled: raise train.sampling.* ({'; '.join(raised)} for the shortest)"
