"""score(): what a set of trajectories is worth, by split: Pass^k with intervals, what failed, what was left out.

for split, score in score_by_split(domain, trajectories).items():
    print(split, score.pass_hat[0])         # 61.5 [53.1, 69.3]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from .domain import Domain
from .evaluation import Evaluation, evaluate
from .judgements import Judgements
from .metrics import Estimate, group_by_task, largest_k, pass_hat_k
from .trajectory import Trajectory

ALL = "all"
Side = Literal["agent", "user"]


class Judged(BaseModel):
    """What a judge model adds: kept apart, because a model's word is not a check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    trajectories: int
    """Those with assertions to judge."""
    met: int
    """Assertions found true ..."""
    unmet: int
    """... and false."""
    not_judged: dict[str, int] = {}
    """Why the others have no verdict -> how many of them."""
    left_out: int = 0
    """Trajectories with an assertion that is not judged; they are in none of the figures below."""
    pass_hat: tuple[Estimate, ...] = ()
    """Pass^k where a trajectory also needs all its assertions met."""


class Spent(BaseModel):
    """What one side's model took for these trajectories; requests that ended one without an answer are not in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trajectories: int
    """Those in which a model played this side."""
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    """US dollars, over the trajectories that have a cost; None where none has."""
    with_cost: int = 0
    """How many have one. A model that is known to cost nothing, and one whose price is unknown, have none."""


class Score(BaseModel):
    """The figures of one set of trajectories."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: int
    trajectories: int
    passed: int
    excluded: int
    """Attempts that infrastructure ended; they count neither as passed nor as failed."""
    excluded_tasks: tuple[str, ...] = ()
    """Tasks of which no attempt is left, so that no Pass^k has them."""
    pass_hat: tuple[Estimate, ...] = ()
    """Pass^1, Pass^2, ... up to the fewest attempts that a task has."""
    failed_checks: dict[str, int] = {}
    """Check -> how many trajectories failed it, most often first; a trajectory can fail several."""
    endings: dict[str, int] = {}
    """How the episodes ended, most often first."""
    not_judged: int = 0
    """Trajectories whose benchmark also asks a judge model, which is not asked here."""
    user_faults: int = 0
    """Trajectories with a message of the user that its guards marked as wrong; see `user_complaints`."""
    without_user_faults: tuple[Estimate, ...] = ()
    """Pass^k without these trajectories, whether they passed or failed; empty where there are none of them, or nothing else."""
    judged: Judged | None = None
    """Where a judge model was asked."""
    usage: dict[Side, Spent] = {}
    recorded: int = 0
    """Imported trajectories whose own benchmark recorded a reward ..."""
    agreed: int = 0
    """... and those of them where it is the reward given here."""


def score(domain: Domain, trajectories: Iterable[Trajectory], judgements: Judgements | None = None) -> Score:
    """Grade trajectories and sum up.

    Args:
        domain: Their world.
        trajectories: What to grade.
        judgements: What a judge model said about them; it never changes the other figures.

    Raises:
        TaskError: A trajectory is of another domain, or a tool refuses its task's reference.
    """
    return _summarise([(trajectory, evaluate(domain, trajectory)) for trajectory in trajectories], judgements)


def score_by_split(domain: Domain, trajectories: Iterable[Trajectory], judgements: Judgements | None = None) -> dict[str, Score]:
    """The score of each split, and of all trajectories under "all" when there is more than one split. Raises as `score` does."""
    graded = [(trajectory, evaluate(domain, trajectory)) for trajectory in trajectories]
    splits = sorted({trajectory.task.split for trajectory, _ in graded})
    scores = {split: _summarise([pair for pair in graded if pair[0].task.split == split], judgements) for split in splits}
    return scores if len(splits) == 1 else {**scores, ALL: _summarise(graded, judgements)}


def is_users_fault(trajectory: Trajectory) -> bool:
    """Whether the guards of a model that played the user marked one of its messages; a look at the outcome is not taken."""
    return any(message.role == "user" and message.problem is not None for message in trajectory.messages)


Graded = Sequence[tuple[Trajectory, Evaluation]]


def _summarise(graded: Graded, judgements: Judgements | None) -> Score:
    results = group_by_task((evaluation.task_id, evaluation.reward) for _, evaluation in graded)
    counted = _counted(results)
    failed = Counter(name for _, evaluation in graded for name in sorted({check.name for check in evaluation.checks if not check.passed}))
    endings = Counter(trajectory.ending or "none" for trajectory, evaluation in graded if evaluation.error is None)
    recorded = [(trajectory, evaluation) for trajectory, evaluation in graded if trajectory.recorded_reward is not None]
    faultless = [(evaluation.task_id, evaluation.reward) for trajectory, evaluation in graded if not is_users_fault(trajectory)]
    faults = len(graded) - len(faultless)
    return Score(
        tasks=len(results),
        trajectories=len(graded),
        passed=sum(evaluation.passed for _, evaluation in graded),
        excluded=sum(evaluation.error is not None for _, evaluation in graded),
        excluded_tasks=tuple(sorted(results.keys() - counted.keys())),
        pass_hat=_pass_hats(results),
        failed_checks=dict(failed.most_common()),
        endings=dict(endings.most_common()),
        not_judged=sum(any(note.name == "judge" for note in evaluation.notes) for _, evaluation in graded),
        user_faults=faults,
        without_user_faults=_pass_hats(group_by_task(faultless)) if faults else (),
        judged=_judged(graded, judgements) if judgements is not None else None,
        usage=_usage([trajectory for trajectory, _ in graded]),
        recorded=len(recorded),
        agreed=sum(evaluation.reward == trajectory.recorded_reward for trajectory, evaluation in recorded),
    )


def _counted(results: Mapping[str, Sequence[float | None]]) -> dict[str, Sequence[float | None]]:
    """The tasks of which an attempt is left."""
    return {task: outcomes for task, outcomes in results.items() if any(outcome is not None for outcome in outcomes)}


def _pass_hats(results: Mapping[str, Sequence[float | None]]) -> tuple[Estimate, ...]:
    counted = _counted(results)
    return tuple(pass_hat_k(counted, k) for k in range(1, largest_k(counted) + 1))


def _judged(graded: Graded, judgements: Judgements) -> Judged:
    rewards: list[tuple[str, float | None]] = []
    verdicts: Counter[bool | None] = Counter()
    asked, left_out = 0, 0
    for trajectory, evaluation in graded:
        found = judgements.of(trajectory)
        verdicts.update(found)
        asked += bool(found)
        left_out += None in found
        reward = evaluation.reward
        rewards.append((evaluation.task_id, None if reward is None or None in found else reward * all(found)))
    return Judged(
        model=judgements.model,
        trajectories=asked,
        met=verdicts[True],
        unmet=verdicts[False],
        not_judged=dict(judgements.not_judged(trajectory for trajectory, _ in graded).most_common()),
        left_out=left_out,
        pass_hat=_pass_hats(group_by_task(rewards)),
    )


def _usage(trajectories: Sequence[Trajectory]) -> dict[Side, Spent]:
    found: dict[Side, Spent] = {}
    sides: tuple[Side, ...] = ("agent", "user")
    for side in sides:
        used = [trajectory.usage for trajectory in trajectories if any(name.startswith(f"{side}_") for name in trajectory.usage)]
        if used:
            costs = [each[f"{side}_cost"] for each in used if f"{side}_cost" in each]
            counts = {name: int(sum(each.get(f"{side}_{name}", 0) for each in used)) for name in _COUNTS}
            found[side] = Spent(trajectories=len(used), **counts, cost=sum(costs) if costs else None, with_cost=len(costs))
    return found


_COUNTS = ("calls", "prompt_tokens", "completion_tokens")
