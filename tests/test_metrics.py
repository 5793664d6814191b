"""Pass^k is what its paper says, and its intervals cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from sentinel_env import ConfigError
from sentinel_env.metrics import largest_k, paired_difference, pass_hat_k, rate


def test_tau_bench_airline_file_gives_its_published_pass_hat_k() -> None:
    """50 tasks x 4 trials of tau-bench v1: how many tasks passed c of 4 trials gives .420/.273/.220/.200."""
    tasks_by_passes = {4: 10, 3: 4, 2: 10, 1: 12, 0: 14}
    assert sum(tasks_by_passes.values()) == 50
    results = {f"{c}-{at}": [True] * c + [False] * (4 - c) for c, count in tasks_by_passes.items() for at in range(count)}
    assert [round(pass_hat_k(results, k).value, 3) for k in (1, 2, 3, 4)] == [0.42, 0.273, 0.22, 0.2]


def test_infrastructure_errors_are_left_out_and_counted() -> None:
    estimate = pass_hat_k({"a": [1.0, None, 0.0], "b": [1.0, 1.0]}, 1)
    assert (estimate.value, estimate.trials, estimate.excluded) == (0.75, 4, 1)


def test_too_few_trials_are_an_error_that_names_the_task() -> None:
    with pytest.raises(ConfigError, match=r"Pass\^3 needs at least 3 trials of each task; task 'b' has 2 \(1 left out"):
        pass_hat_k({"a": [True] * 3, "b": [True, None, False]}, 3)


@pytest.mark.parametrize(("results", "k", "message"), [({}, 1, "no results"), ({"a": [True]}, 0, "k >= 1")])
def test_nothing_to_score_is_an_error(results: dict[str, list[bool]], k: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pass_hat_k(results, k)


def test_a_perfect_score_still_has_an_interval() -> None:
    estimate = pass_hat_k({str(at): [True] * 4 for at in range(20)}, 4)
    assert estimate.value == estimate.high == 1.0
    assert 0.8 < estimate.low < 0.9


def test_largest_k_is_the_fewest_trials_of_any_task() -> None:
    assert largest_k({"a": [True, True, None], "b": [True] * 5}) == 2


def test_order_of_tasks_does_not_matter() -> None:
    results = {str(at): [at % 2 == 0, at % 3 == 0] for at in range(12)}
    backwards = dict(reversed(results.items()))
    assert paired_difference(results, backwards).value == 0.0
    assert pass_hat_k(results, 2) == pass_hat_k(backwards, 2)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(
    ("tasks", "trials", "k", "mean"),
    [(40, 4, 1, 0.0), (40, 4, 4, 0.0), (114, 4, 1, 0.5), (50, 4, 4, -1.0), (300, 4, 4, -1.0), (100, 8, 4, 1.5)],
)
def test_the_interval_of_pass_hat_k_covers_the_truth_in_93_to_97_percent(tasks: int, trials: int, k: int, mean: float) -> None:
    random = np.random.default_rng(20261122)
    truth = (sigmoid(random.normal(mean, 1.5, 1_000_000)) ** k).mean()
    covered = 0
    repeats = 3000
    for _ in range(repeats):
        passes = random.binomial(trials, sigmoid(random.normal(mean, 1.5, tasks)))
        estimate = pass_hat_k({str(at): [True] * c + [False] * (trials - c) for at, c in enumerate(passes)}, k)
        covered += estimate.low <= truth <= estimate.high
    assert 0.93 <= covered / repeats <= 0.97


@pytest.mark.parametrize(("tasks", "k", "mean"), [(40, 1, 0.0), (80, 1, 0.5), (80, 2, -1.0)])
def test_the_interval_of_a_paired_difference_covers_the_truth_in_93_to_97_percent(tasks: int, k: int, mean: float) -> None:
    random = np.random.default_rng(20261123)

    def run(logits: np.ndarray) -> dict[str, list[bool]]:
        return {str(at): [True] * c + [False] * (4 - c) for at, c in enumerate(random.binomial(4, sigmoid(logits)))}

    logits = random.normal(mean, 1.5, 1_000_000)
    truth = (sigmoid(logits + 0.5 + random.normal(0, 0.5, logits.size)) ** k).mean() - (sigmoid(logits) ** k).mean()
    covered = 0
    repeats = 1500
    for repeat in range(repeats):
        logits = random.normal(mean, 1.5, tasks)
        estimate = paired_difference(run(logits), run(logits + 0.5 + random.normal(0, 0.5, tasks)), k, seed=repeat)
        covered += estimate.low <= truth <= estimate.high
    assert 0.93 <= covered / repeats <= 0.97


def test_the_interval_of_a_rate_is_wider_when_errors_cluster_in_tasks() -> None:
    spread = rate([1] * 10 + [0] * 10, [2] * 20)
    clustered = rate([2] * 5 + [0] * 15, [2] * 20)
    assert spread.value == clustered.value == 0.25
    assert clustered.high - clustered.low > spread.high - spread.low
    assert clustered.tasks == 20


def test_tasks_without_an_opportunity_do_not_count_and_none_at_all_is_an_error() -> None:
    assert rate([1, 0], [2, 0]).tasks == 1
    with pytest.raises(ConfigError, match="no opportunity"):
        rate([0], [0])


@pytest.mark.parametrize("mean", [0.03, 0.2, 0.7])
def test_the_interval_of_a_rate_holds_the_truth_nine_times_in_ten_or_more(mean: float) -> None:
    """120 tasks of one to four opportunities, whose own rates vary as a beta distribution does."""
    random = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        chances = random.integers(1, 5, size=120)
        found = rate(random.binomial(chances, random.beta(4 * mean, 4 * (1 - mean), size=120)), chances)
        held += found.low <= mean <= found.high
    assert held / 400 > 0.92
