"""LoopConfig: everything that a loop depends on, in one frozen object that a TOML file can hold, and the world that it describes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sentinel_env import ConfigError, Domain, User, load_domain
from sentinel_env.knobs import Knobs

from .accounting import RoundPlan, affordable_updates, estimate
from .allocation import Allocation
from .config import Settings, TrainConfig, read_toml
from .mixture import MixtureConfig
from .targeting import Targeting
from .warm_start import WarmStart

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


class UserConfig(Settings):
    """A language model as the customer."""

    model: str
    """Such as openai/gpt-4.1-mini, by litellm; or as the server at `base_url` names it."""
    base_url: str | None = None
    """An OpenAI-compatible server; its key is $SENTINEL_API_KEY, if any."""
    temperature: float = Field(default=0.0, ge=0)
    max_cost: float | None = Field(default=None, gt=0)
    """US dollars for one start of the loop; then no more is asked, and the training stops."""
    prices: tuple[float, float] | None = None
    """Dollars for a million tokens of prompt and answer, where they are not known."""

    def open(self) -> User:
        """The customer; nothing is sent yet.

        Raises:
            ConfigError: There is no such model, its key is missing, or the extra `llm` is not installed.
        """
        from sentinel_env.llm import Model
        from sentinel_env.llm_budget import Budget
        from sentinel_env.llm_user import LLMUser

        key = os.environ.get("SENTINEL_API_KEY") if self.base_url is not None else None
        model = Model(self.model, base_url=self.base_url, api_key=key, prices=self.prices, budget=Budget(max_cost=self.max_cost))
        return LLMUser(model, temperature=self.temperature)


class LoopConfig(Settings):
    """One run of the loop."""

    domain: str
    """An installed domain, `module:attribute`, or a path."""
    options: Mapping[str, Any] = {}
    """The domain's options."""
    operations: tuple[str, ...] = ()
    """Which of the domain's operations tasks are made of; all of them for none."""
    tools: tuple[str, ...] = ()
    """Which of the domain's tools the model has; all of them for none. Fewer make a shorter prompt; tasks that need others fail a gate."""
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
    user: UserConfig | None = None
    """Who plays the customer; the scripted user for None, who costs nothing and does what the task says."""
    warm_start: WarmStart | None = None
    """Demonstrations before the first round, for a model that calls no tools yet."""
    launch: tuple[str, ...] = ()
    """How a process of its own is started for the training of each round, such as ["accelerate", "launch", "--num_processes", "8"]; runs
    then have one too. All is done in this process for none, unless vLLM is used, which gives its memory back only with its process."""
    test_split: str | None = None
    """The domain's own tasks of this split are held out, in place of generated ones; `test_tasks` is not used then."""
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
        """The domain with the operations, tools and rendering that are configured.

        Raises:
            ConfigError: It has no such operation or tool.
        """
        domain = with_tools(narrowed(load_domain(self.domain, **self.options), self.operations), self.tools)
        return replace(domain, render=partial(domain.render, **self.render)) if self.render else domain

    def plan(self) -> RoundPlan:
        """What a round is going to do at most, without regard to the budget."""
        return RoundPlan(
            targeting=self.targeting,
            diagnosis_tasks=self.diagnosis_tasks,
            diagnosis_trials=self.diagnosis_trials,
            pilot_tasks=self.tasks.count,
            pilot_trials=self.tasks.pilot_trials,
            updates=self.train.steps,
            prompts_per_update=self.train.prompts_per_step,
            group_size=self.train.group_size,
        )

    def check_budget(self) -> None:
        """Refuse a budget that the first round's diagnosis and pilot would use up.

        Raises:
            ConfigError: It is one.
        """
        if self.budget is None:
            return
        plan, part = self.plan(), self.budget // self.rounds
        if not affordable_updates(plan, 1, part):
            cost = estimate(plan, 1)
            raise ConfigError(
                f"the budget of {self.budget} rollouts gives a round {part}; its diagnosis takes {cost.diagnosis}, its pilot up to "
                f"{cost.pilot} and an update {plan.rollouts_per_update}: raise budget, or lower diagnosis_tasks, tasks.count or "
                "tasks.pilot_trials"
            )

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what a small run does not have, as `TrainConfig` does."""
        return {name: value for name, value in dump(self).items() if value is not None and (value or name not in ("launch", "tools"))}


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


def with_tools(domain: Domain, names: Sequence[str]) -> Domain:
    """The domain with some of its tools only.

    Raises:
        ConfigError: It has no such tool.
    """
    for name in names:
        if name not in domain.tools_by_name:
            raise ConfigError(f"domain {domain.name} has no tool {name!r}; its tools: {', '.join(domain.tools_by_name)}")
    return replace(domain, tools=tuple(tool for tool in domain.tools if tool.name in names)) if names else domain


def pool(split: str) -> Callable[[str], bool]:
    """Which subjects a split's tasks may be about: a quarter is the test's alone, by a hash of the subject's id."""
    return lambda subject: (hashlib.sha256(subject.encode()).digest()[0] < TEST_SHARE) == (split == "test")
