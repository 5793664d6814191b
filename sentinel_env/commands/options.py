"""The options that several verbs share, and what their values stand for."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel_env.errors import ConfigError

if TYPE_CHECKING:
    from sentinel_env.agents import ScriptedAgent
    from sentinel_env.domain import Domain
    from sentinel_env.episode import Agent, User
    from sentinel_env.llm import Model
    from sentinel_env.tasks import Task
    from sentinel_env.trajectory import Trajectory

DomainName = Annotated[str, typer.Argument(metavar="DOMAIN", help="An installed domain, module:attribute, or a path.")]
Data = Annotated[Path | None, typer.Option("--data", help="A folder in tau2-bench's format: db.json, tasks.json, policy.md.")]
Settings = Annotated[list[str] | None, typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the domain. Repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same results.")]
OfDomain = Annotated[
    str | None, typer.Option("--domain", metavar="DOMAIN", help="The domain, where it is not the one that the input names.")
]

KEY = "SENTINEL_API_KEY"
"""Where the key for a base URL is read from; a provider's own variable is never sent to one."""
ModelName = Annotated[str | None, typer.Option("--model", metavar="NAME", help="The model, such as openai/gpt-4o-mini (extra: llm).")]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help=f"An OpenAI-compatible server of the model; its key is ${KEY}, if any.")
]
MaxCost = Annotated[float | None, typer.Option("--max-cost", metavar="DOLLARS", help="Stop before the model costs more.")]
USER_KEY = "SENTINEL_USER_API_KEY"
"""The same for the user's base URL; the agent's key goes to it only where it is the same server."""
Prices = Annotated[
    str | None, typer.Option("--prices", metavar="IN,OUT", help="Dollars for a million tokens of prompt and answer, where unknown.")
]
Temperature = Annotated[float | None, typer.Option("--temperature", min=0, help="Of the model; 0 if not given.")]
UserModel = Annotated[str | None, typer.Option("--user-model", metavar="NAME", help="A model as the user; as --model, but for hf:PATH.")]
UserBaseUrl = Annotated[
    str | None, typer.Option("--user-base-url", metavar="URL", help=f"As --base-url, for the user's model; its key is ${USER_KEY}, if any.")
]
UserPrices = Annotated[str | None, typer.Option("--user-prices", metavar="IN,OUT", help="As --prices, for the user's model.")]
UserTemperature = Annotated[float | None, typer.Option("--user-temperature", min=0, help="As --temperature, for the user's model.")]
UserMaxTokens = Annotated[
    int | None, typer.Option("--user-max-tokens", min=1, help="Of one message of the user's model; 2048 if not given.")
]


def open_model(name: str, base_url: str | None, max_cost: float | None, prices: str | None) -> Model:
    """The model that the options describe, with its budget.

    Raises:
        ConfigError: There is no such model, or a price is no number.
    """
    from sentinel_env.llm import Model
    from sentinel_env.llm_budget import Budget

    key = os.environ.get(KEY) if base_url is not None else None
    return Model(name, base_url=base_url, api_key=key, prices=read_prices(prices), budget=Budget(max_cost=max_cost))


def read_prices(text: str | None, *, option: str = "--prices") -> tuple[float, float] | None:
    """IN,OUT as two prices.

    Raises:
        ConfigError: It is something else.
    """
    if text is None:
        return None
    try:
        asked, said = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} takes two numbers, such as 0.15,0.6; found {text!r}") from None
    if not (0 <= asked < float("inf") and 0 <= said < float("inf")):
        raise ConfigError(f"{option} takes two numbers of at least 0; found {text!r}")
    return asked, said


def open_domain(name: str, data: Path | None = None, settings: Sequence[str] | None = None) -> Domain:
    """The domain that the options describe.

    Raises:
        ConfigError: A setting is not NAME=VALUE.
        SentinelError: As `load_domain` raises.
    """
    from sentinel_env.domain import load_domain

    return load_domain(name, data=data, **read_settings(settings or ()))


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as keyword arguments; a value is JSON where it can be, otherwise text.

    Raises:
        ConfigError: A pair has no name or no "=".
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--option takes NAME=VALUE, found {setting!r}")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def choose_tasks(domain: Domain, file: Path | None, split: str | None) -> tuple[Task, ...]:
    """The domain's tasks, or those of a file, all or of one split.

    Raises:
        TaskError: The file cannot be read, or nothing is in that split.
    """
    from sentinel_env.tasks import load_tasks

    if file is not None:
        given = load_tasks(file)
        domain = replace(domain, tasks=lambda: given)
    tasks = domain.split(split)
    if not tasks:
        raise ConfigError(f"no tasks in {file or f'domain {domain.name}'}")
    return tasks


def choose_agent(spec: str, tasks: Sequence[Task]) -> Agent:
    """The agent that `--agent` names: scripted (carries out the reference), nothing, or module:attribute.

    Raises:
        ConfigError: There is no such agent.
    """
    from sentinel_env.agents import ScriptedAgent

    if spec == "scripted":
        return ScriptedAgent(tasks=tasks)
    if spec == "nothing":
        return nothing(tasks)
    agent: Agent = _from_module("agent", spec, "scripted, nothing or module:attribute; a model is named with --model", "act")
    return agent


def nothing(tasks: Sequence[Task]) -> ScriptedAgent:
    """An agent that talks and never calls a tool."""
    from sentinel_env.agents import ScriptedAgent

    return ScriptedAgent(tasks=tasks, plan=lambda *_: (), reports=False, name="nothing")


def choose_user(spec: str) -> User:
    """The user that `--user` names: scripted, or module:attribute.

    Raises:
        ConfigError: There is no such user.
    """
    from sentinel_env.users import ScriptedUser

    if spec == "scripted":
        return ScriptedUser()
    user: User = _from_module("user", spec, "scripted or module:attribute", "reply")
    return user


def _from_module(kind: str, spec: str, choices: str, method: str) -> Any:
    module_name, colon, attribute = spec.partition(":")
    if not colon or not attribute:
        raise ConfigError(f"no {kind} {spec!r}; expected {choices}")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"no {kind} {spec!r}: {error}") from None
    if isinstance(found, type) or not hasattr(found, method):
        found = found() if isinstance(found, Callable) else found  # type: ignore[arg-type]
    if not hasattr(found, method) or not isinstance(getattr(found, "name", None), str):
        raise ConfigError(f"{kind} {spec!r} is a {type(found).__name__}; expected an object with a name and the method {method}(view)")
    return found


def open_runs(
    runs: Sequence[Path], name: str | None, data: Path | None, settings: Sequence[str] | None
) -> list[tuple[Path, Domain, list[Trajectory]]]:
    """Each run with its domain: the one that `--domain` and `--data` say, or else the one that the run's folder or trajectories name.

    Raises:
        TrajectoryError: A run cannot be read, or holds no trajectory.
    """
    from sentinel_env.domain import load_domain
    from sentinel_env.errors import TrajectoryError
    from sentinel_env.run_folder import CONFIGURATION, ERRORS, read_configuration
    from sentinel_env.trajectory import read_trajectories

    opened = []
    for run in runs:
        trajectories = list(read_trajectories(run))
        if (run / ERRORS).exists():
            trajectories += read_trajectories(run / ERRORS)
        if not trajectories:
            raise TrajectoryError(f"{run} holds no trajectory yet")
        if name is None and data is None and not settings and (run / CONFIGURATION).exists():
            origin = read_configuration(run)["domain"]
            domain = load_domain(origin["name"], **origin["options"])
        else:
            domain = open_domain(name or trajectories[0].task.domain, data, settings)
        opened.append((run, domain, trajectories))
    return opened


@dataclass(frozen=True)
class OpenRun:
    """A run that is read while it is worked on."""

    path: Path
    domain: Domain
    problems: list[str]
    """Lines that could not be read; complete when the trajectories have been read to the end."""

    def trajectories(self) -> Iterator[Trajectory]:
        """All of them, those that infrastructure ended last; none is kept."""
        from sentinel_env.run_folder import ERRORS
        from sentinel_env.trajectory import scan_trajectories

        self.problems.clear()
        yield from scan_trajectories(self.path, self.problems)
        if (self.path / ERRORS).exists():
            yield from scan_trajectories(self.path / ERRORS, self.problems)


def stream_run(run: Path, name: str | None, data: Path | None, settings: Sequence[str] | None) -> OpenRun:
    """Open a run of any length with its domain, which is found as `open_runs` finds it.

    Raises:
        TrajectoryError: It cannot be read, or holds no trajectory.
    """
    from sentinel_env.domain import load_domain
    from sentinel_env.errors import TrajectoryError
    from sentinel_env.run_folder import CONFIGURATION, ERRORS, read_configuration
    from sentinel_env.trajectory import scan_trajectories

    problems: list[str] = []
    first = next(scan_trajectories(run, problems), None)
    if first is None and (run / ERRORS).exists():
        first = next(scan_trajectories(run / ERRORS, problems), None)
    if first is None:
        raise TrajectoryError(problems[0] if problems else f"{run} holds no trajectory yet")
    if name is None and data is None and not settings and (run / CONFIGURATION).exists():
        origin = read_configuration(run)["domain"]
        return OpenRun(run, load_domain(origin["name"], **origin["options"]), problems)
    return OpenRun(run, open_domain(name or first.task.domain, data, settings), problems)
