"""LoopConfig: everything that a loop depends on, in one frozen object that a TOML file can hold, and the world that it describes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from sentinel_env import ConfigError, Domain, load_domain
from sentinel_env.knobs import Knobs

from .allocation import Allocation
from .config import Settings, TrainConfig, read_toml
from .mixture import MixtureConfig
from .targeting import Targeting

TEST_SHARE = 64
"""Of 256 subjects, how many only the held-out tasks may use."""


class TaskConfig(Settings):
    """The tasks that a round makes and tries."""

    count: int = Field(default=160, ge=1)
    """Active tasks that a round wants to train on. It makes what is missing, and some new ones; see `MixtureConfig.most_new`."""
    min_support: int = Field(default=2, ge=1)
    """How many failed trajectories must show a pattern that tasks are made for."""
    drafts: float = Field(default=1.6, ge=1)
    """Proposals for each task that is wanted: some fail a gate."""
    pilot_trials: int = Field(default=4, ge=0)
    """Attempts of the current model at each new task: trained on is what it passes now and then. 0 trains on all of them."""


class LoopConfig(Settings):
    """One run of the loop."""

    domain: str
    """An installed domain, `module:attribute`, or a path."""
    options: Mapping[str, Any] = {}
    """The domain's options."""
    operations: tuple[str, ...] = ()
    """Which of the domain's operations tasks are made of; all of them for none."""
    render: Mapping[str, Any] = {}
    """Keyword arguments of the domain's rendering of results, such as {"addresses": False}."""
    rounds: int = Field(default=1, ge=1)
    seed: int = 0
    targeting: Targeting = "closed_loop"
    """What tasks are made for; see `sentinel_train.targeting` for the controls of an experiment."""
    allocation: Allocation = "thompson"
    """How many tasks each pattern gets; see `sentinel_train.allocation`."""
    budget: int | None = Field(default=None, ge=1)
    """Rollouts of the model that the whole run may take: diagnosis, pilot and training. Each round makes as many updates as its equal part
    of it allows, in place of train.steps. Runs with the same budget cost the same, whatever their targeting."""
    test_tasks: int = Field(default=90, ge=2)
    """Held-out tasks."""
    trials: int = Field(default=4, ge=1)
    """Attempts at each held-out task."""
    diagnosis_tasks: int = Field(default=60, ge=1)
    diagnosis_trials: int = Field(default=2, ge=1)
    tasks: TaskConfig = TaskConfig()
    mixture: MixtureConfig = MixtureConfig()
    """What a round's tasks are made up of."""
    knobs: Knobs = Knobs()
    """How all tasks are made, such as in which voices the user speaks."""
    train: TrainConfig

    def world(self) -> Domain:
        """The domain with the operations and the rendering that are configured.

        Raises:
            ConfigError: It has no such operation.
        """
        domain = narrowed(load_domain(self.domain, **self.options), self.operations)
        return replace(domain, render=partial(domain.render, **self.render)) if self.render else domain


def read_recipe(path: str | Path) -> tuple[TrainConfig, LoopConfig | None]:
    """Read the training settings of a file, which are all of it or, in a loop's file, the table `train`.

    Raises:
        ConfigError: The file cannot be read, or holds settings that do not fit.
    """
    values = read_toml(path)
    if isinstance(values.get("train"), dict):
        loop = LoopConfig.of(values)
        return loop.train, loop
    return TrainConfig.of(values), None


def narrowed(domain: Domain, operations: Sequence[str]) -> Domain:
    """The domain with some of its operations only.

    Raises:
        ConfigError: It has no such operation.
    """
    if not operations:
        return domain
    kinds = {kind.name: kind for kind in domain.operations.kinds} if domain.operations else {}
    for name in operations:
        if name not in kinds:
            raise ConfigError(f"domain {domain.name} has no operation {name!r}; its operations: {', '.join(kinds) or 'none'}")
    assert domain.operations is not None
    return replace(domain, operations=replace(domain.operations, kinds=tuple(kinds[name] for name in operations)))


def pool(split: str) -> Callable[[str], bool]:
    """Which subjects a split's tasks may be about: a quarter is the test's alone, by a hash of the subject's id."""
    return lambda subject: (hashlib.sha256(subject.encode()).digest()[0] < TEST_SHARE) == (split == "test")
