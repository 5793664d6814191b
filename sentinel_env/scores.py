"""score(): what a set of trajectories is worth, by split: Pass^k with intervals, what failed, what was left out.

for split, score in score_by_split(domain, trajectories).items():
    print(split, score.pass_hat[0])         # 61.5 [53.1, 69.3]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from .domain import Domain
from .evaluation import Evaluation, evaluate
from .metrics import Estimate, group_by_task, largest_k, pass_hat_k
from .trajectory import Trajectory

ALL = "all"


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
    recorded: int = 0
    """Imported trajectories whose own benchmark recorded a reward ..."""
    agreed: int = 0
    """... and those of them where it is the reward given here."""


def score(domain: Domain, trajectories: Iterable[Trajectory]) -> Score:
    """Grade trajectories and sum up.

    Raises:
        TaskError: A trajectory is of another domain, or a tool refuses its task's reference.
    """
    return _summarise([(trajectory, evaluate(domain, trajectory)) for trajectory in trajectories])


def score_by_split(domain: Domain, trajectories: Iterable[Trajectory]) -> dict[str, Score]:
    """The score of each split, and of all trajectories under "all" when there is more than one split. Raises as `score` does."""
    graded = [(trajectory, evaluate(domain, trajectory)) for trajectory in trajectories]
    splits = sorted({trajectory.task.split for trajectory, _ in graded})
    scores = {split: _summarise([pair for pair in graded if pair[0].task.split == split]) for split in splits}
    return scores if len(splits) == 1 else {**scores, ALL: _summarise(graded)}


def _summarise(graded: Sequence[tuple[Trajectory, Evaluation]]) -> Score:
    results = group_by_task((evaluation.task_id, evaluation.reward) for _, evaluation in graded)
    counted = {task: outcomes for task, outcomes in results.items() if any(outcome is not None for outcome in outcomes)}
    failed = Counter(name for _, evaluation in graded for name in sorted({check.name for check in evaluation.checks if not check.passed}))
    endings = Counter(trajectory.ending or "none" for trajectory, evaluation in graded if evaluation.error is None)
    recorded = [(trajectory, evaluation) for trajectory, evaluation in graded if trajectory.recorded_reward is not None]
    return Score(
        tasks=len(results),
        trajectories=len(graded),
        passed=sum(evaluation.passed for _, evaluation in graded),
        excluded=sum(evaluation.error is not None for _, evaluation in graded),
        excluded_tasks=tuple(sorted(results.keys() - counted.keys())),
        pass_hat=tuple(pass_hat_k(counted, k) for k in range(1, largest_k(counted) + 1)),
        failed_checks=dict(failed.most_common()),
        endings=dict(endings.most_common()),
        not_judged=sum(any(note.name == "judge" for note in evaluation.notes) for _, evaluation in graded),
        recorded=len(recorded),
        agreed=sum(evaluation.reward == trajectory.recorded_reward for trajectory, evaluation in recorded),
    )
