"""The split of variance recovers what was put in, and says when a design does not allow one."""

import numpy as np
import pytest

from sentinel_env.variance import PARTS, split_variance

PART = dict.fromkeys(PARTS, 0.0)


def crossed(random, tasks, agents, users, trials, *, task=0.0, agent=0.0, user=0.0, both=0.0, seeds=False):
    """(outcomes, shares that are put in): pass rates of 1/2 plus independent effects of +-size, so that every variance is known.

    With `seeds`, an agent's level means something else in each task.
    """

    assert task + agent + user + both <= 0.5, "rates would leave [0, 1]"

    def effect(size, *shape):
        return size * random.choice([-1.0, 1.0], size=shape)

    of_agent = effect(agent, tasks, agents, 1) if seeds else effect(agent, 1, agents, 1)
    of_user = effect(user, tasks, 1, users) if seeds else effect(user, 1, 1, users)
    rates = 0.5 + effect(task, tasks, 1, 1) + of_agent + of_user + effect(both, tasks, agents, users)
    drawn = random.random((tasks, agents, users, trials)) < rates[..., None]
    outcomes = {(str(t), f"a{a}", f"u{u}"): drawn[t, a, u].tolist() for t in range(tasks) for a in range(agents) for u in range(users)}
    put_in = {"task": task**2, "agent": agent**2, "user": user**2, "both": both**2}
    put_in["chance"] = 0.25 - sum(put_in.values())
    return outcomes, {name: value / 0.25 for name, value in put_in.items()}


@pytest.mark.parametrize(
    "sizes",
    [
        {"task": 0.3},
        {"task": 0.15, "agent": 0.3},
        {"task": 0.15, "user": 0.3},
        {"task": 0.2, "agent": 0.1, "user": 0.12, "both": 0.08},
        {},
    ],
)
@pytest.mark.parametrize("seeds", [True, False])
def test_known_shares_are_recovered(sizes, seeds):
    """Levels that mean the same in each task are many here, because so few draws of an effect vary by chance."""
    random = np.random.default_rng(5)
    levels = (4, 4, 2) if seeds else (16, 16, 2)
    outcomes, put_in = crossed(random, 300 if seeds else 60, *levels, **sizes, seeds=seeds)
    found = split_variance(outcomes)
    assert found.why_not is None
    assert found.total == pytest.approx(0.25, abs=0.02)
    for name in PARTS:
        assert found.shares[name].value == pytest.approx(put_in[name], abs=0.035), name


def test_two_agents_and_two_users_are_enough_on_average():
    """Two levels of seeds, 40 tasks, 2 trials: the mean of 150 estimates is what was put in."""
    random = np.random.default_rng(6)
    sizes = {"task": 0.2, "agent": 0.12, "user": 0.18}
    means = dict(PART)
    for _ in range(150):
        outcomes, put_in = crossed(random, 40, 2, 2, 2, **sizes, seeds=True)
        shares = split_variance(outcomes).shares
        means = {name: means[name] + shares[name].value / 150 for name in PARTS}
    for name in ("task", "agent", "user"):
        assert means[name] == pytest.approx(put_in[name], abs=0.03), name


def test_an_agents_share_and_a_users_are_not_mixed_up():
    random = np.random.default_rng(7)
    outcomes, _ = crossed(random, 100, 3, 3, 2, task=0.1, agent=0.35, seeds=True)
    one = split_variance(outcomes).shares
    turned = split_variance({(task, user, agent): found for (task, agent, user), found in outcomes.items()}).shares
    assert one["agent"].low > one["user"].high
    assert turned["user"].value == pytest.approx(one["agent"].value)
    assert turned["agent"].value == pytest.approx(one["user"].value)


def test_one_trial_each_puts_what_depends_on_all_three_into_chance():
    random = np.random.default_rng(8)
    outcomes, put_in = crossed(random, 400, 3, 3, 1, task=0.15, agent=0.2, both=0.15, seeds=True)
    shares = split_variance(outcomes).shares
    assert shares["agent"].value == pytest.approx(put_in["agent"], abs=0.04)
    assert shares["chance"].value == pytest.approx(put_in["chance"] + put_in["both"], abs=0.04)


def test_unequal_numbers_of_trials_and_lost_ones_do_not_bias_it():
    random = np.random.default_rng(9)
    outcomes, put_in = crossed(random, 400, 3, 3, 6, task=0.15, agent=0.2, user=0.1, both=0.05, seeds=True)
    thinned = {key: [*found[: 2 + at % 5], None] for at, (key, found) in enumerate(outcomes.items())}
    for name, share in split_variance(thinned).shares.items():
        assert share.value == pytest.approx(put_in[name], abs=0.04), name


def test_the_interval_holds_the_share_nine_times_in_ten():
    random = np.random.default_rng(10)
    held = dict(PART)
    for at in range(150):
        outcomes, put_in = crossed(random, 60, 3, 3, 2, task=0.15, agent=0.2, user=0.15, seeds=True)
        shares = split_variance(outcomes, seed=at).shares
        held = {name: held[name] + (shares[name].low <= put_in[name] <= shares[name].high) / 150 for name in PARTS}
    assert min(held[name] for name in ("task", "agent", "user")) > 0.88, held


def test_the_same_seed_gives_the_same_bytes():
    outcomes, _ = crossed(np.random.default_rng(11), 20, 2, 2, 2, task=0.2)
    backwards = dict(reversed(outcomes.items()))
    assert split_variance(outcomes).model_dump_json() == split_variance(backwards).model_dump_json()


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([("a", "u")], "only one agent (a) and one user (u)"),
        ([("a", "u"), ("b", "u")], "only one user (u), so nothing tells the sides apart"),
        ([("a", "u"), ("a", "v")], "only one agent (a)"),
        ([("a", "u"), ("b", "v")], "agents and users are not crossed; run a with v, b with u as well"),
    ],
)
def test_a_design_that_allows_no_split_says_what_would(keys, why):
    found = split_variance({(str(task), *key): [True, False] for task in range(5) for key in keys})
    assert why in found.why_not
    assert found.shares == {}


def test_tasks_that_are_not_in_every_combination_are_left_out_and_counted():
    outcomes, _ = crossed(np.random.default_rng(12), 20, 2, 2, 2, task=0.2)
    outcomes["3", "a0", "u1"] = [None, None]
    outcomes["new", "a0", "u0"] = [True]
    found = split_variance(outcomes)
    assert (found.tasks, found.left_out) == (19, 2)
    lost = {key: trials if key[0] == "1" else [None] for key, trials in outcomes.items()}
    lost |= {("1", agent, user): [True] for agent in ("a0", "a1") for user in ("u0", "u1")}
    assert "agents and users are not crossed" not in split_variance(lost).why_not
    assert "1 tasks have a trial in every combination" in split_variance(lost).why_not


def test_outcomes_that_never_differ_have_no_variance():
    same = {(str(task), agent, user): [True] for task in range(5) for agent in "ab" for user in "uv"}
    assert split_variance(same).why_not == "every trial came out the same, so there is no variance to split"
    assert "nothing" in split_variance({}).why_not
