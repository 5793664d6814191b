"""Metrics: what is logged of one update, under the names that TRL's `report_to` shows, and the alarms that it raises at once.

    metrics = measure(domain, trajectories, rewards, group_size=8)    # {"pass_rate": 0.5, "episode/tool_calls": 3.2, ...}
    for line in alarms(metrics): print(line)

What needs more than one update, such as a rise of needless hand-overs from round to round, is in `sentinel_train/watch.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from sentinel_env import Domain, Trajectory
from sentinel_env.episode import Ending
from sentinel_env.evaluation import calls

from .rollout import MOST_LOST
from .shaping import is_unreadable, turns
from .watch import kind_of, unneeded_transfers, watch_groups


def measure(domain: Domain, trajectories: Sequence[Trajectory], rewards: Sequence[float | None], *, group_size: int) -> dict[str, float]:
    """What one update shows, by name; a name with nothing to average over is left out.

    - `pass_rate`, `pass_rate/PATTERN`: the share with reward 1; by the pattern that the task was made from, else its source.
    - `groups/without_variance`: the share of groups whose rewards are all alike; those with fewer than two rewards are left out.
    - `episode/tool_calls`, `episode/turns`: the mean number of calls that were run, and of the model's turns.
    - `episode/refused_calls`, `episode/unreadable`: the share of calls that were refused, and of turns that could not be read.
    - `episode/truncated`, `episode/ended/ENDING`: the share that a limit cut, and that ended in each of the ways there are.
    - `episode/transferred`: the share that handed over to a person where the reference does not, of tasks where it does not.
    - `episode/lost`: the share that infrastructure ended. They have no reward, and everything else leaves them out.

    Args:
        domain: The world.
        trajectories: The update's rollouts, group after group.
        rewards: The outcome of each; None for one that infrastructure ended.
        group_size: Rollouts per group, which are all of one task.

    Raises:
        ValueError: There is not one reward for each trajectory, the groups are not whole or not of one task each, or a rollout that
            infrastructure ended has a reward.
    """
    groups = _groups(trajectories, rewards, group_size)
    graded = [(each, reward) for each, reward in zip(trajectories, rewards, strict=True) if reward is not None]
    kept = [each for each, _ in graded]
    taken = [turns(domain, each) for each in kept]
    made = [calls(each) for each in kept]
    values: dict[str, list[float]] = {"pass_rate": [reward == 1 for _, reward in graded]}
    for group, outcomes in groups:
        pattern, _, _ = kind_of(domain, group[0].task)
        values.setdefault(f"pass_rate/{pattern}", []).extend(reward == 1 for reward in outcomes if reward is not None)
    values |= {
        "episode/tool_calls": [len(each) for each in made],
        "episode/turns": [len(each) for each in taken],
        "episode/refused_calls": [answer.is_error for each in made for _, _, answer in each],
        "episode/unreadable": [is_unreadable(turn) for each in taken for turn in each],
        "episode/truncated": [each.truncated for each in kept],
        "episode/lost": [reward is None for reward in rewards],
        "episode/transferred": [over for attempts in unneeded_transfers(domain, kept).values() for over in attempts],
    }
    # an ending that did not happen is logged as 0: left out, a mean over several updates would be over those in which it did
    values |= {f"episode/ended/{ending}": [each.ending == ending for each in kept] for ending in get_args(Ending)}
    metrics = {name: sum(found) / len(found) for name, found in values.items() if found}
    flat = watch_groups(outcomes for _, outcomes in groups).value
    return metrics if flat is None else metrics | {"groups/without_variance": flat}


def alarms(metrics: Mapping[str, float]) -> list[str]:
    """A line for each thing in an update from which nothing can be learned, or nothing that is wanted."""
    lines = []
    if metrics.get("episode/tool_calls") == 0:
        lines.append("no tool call in the whole update: the model only talks, or writes calls that cannot be read (episode/unreadable)")
    if metrics.get("episode/truncated") == 1:
        lines.append(
            "every rollout was truncated: the limits are too tight, or the model never comes to an end; "
            "see episode/ended and raise max_steps, max_errors or max_episode_tokens"
        )
    if (lost := metrics.get("episode/lost", 0.0)) > MOST_LOST:
        lines.append(f"infrastructure ended {lost:.0%} of the rollouts (the limit is {MOST_LOST:.0%}): see what the user's model answers")
    return lines


def _groups(
    trajectories: Sequence[Trajectory], rewards: Sequence[float | None], size: int
) -> list[tuple[Sequence[Trajectory], Sequence[float | None]]]:
    if len(trajectories) != len(rewards):
        raise ValueError(f"found {len(trajectories)} trajectories and {len(rewards)} rewards; each trajectory has one, or None")
    if len(trajectories) % size:
        raise ValueError(f"found {len(trajectories)} trajectories, which do not make whole groups of {size}")
    for each, reward in zip(trajectories, rewards, strict=True):
        if each.error is not None and reward is not None:
            raise ValueError(f"trajectory {each.id!r} was ended by infrastructure ({each.error[:200]}), but has reward {reward}; give None")
    groups = [(trajectories[at : at + size], rewards[at : at + size]) for at in range(0, len(trajectories), size)]
    for group, _ in groups:
        if len(tasks := {each.task.id for each in group}) > 1:
            raise ValueError(f"a group of {size} is of tasks {', '.join(map(repr, sorted(tasks)))}; its rollouts are all of one task")
    return groups
