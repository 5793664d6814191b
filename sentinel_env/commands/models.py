"""The models of a run as its options describe them: who plays which side, what they took, and what to say when they did not answer."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.llm_answers import is_too_long

from . import options

if TYPE_CHECKING:
    from sentinel_env.cassette import Cassette
    from sentinel_env.episode import Agent, User
    from sentinel_env.llm import Model
    from sentinel_env.llm_pace import Pace
    from sentinel_env.tasks import Task
    from sentinel_env.trajectory import Trajectory


_DEADLINE, _ATTEMPTS = 600.0, 5
"""Seconds of a turn, and how many requests that take their whole time fit into it."""


@dataclass(frozen=True)
class ModelOptions:
    """How one side's model is named and asked."""

    prefix: str
    """Of its options: "" for the agent's, "user-" for the user's."""
    name: str | None
    base_url: str | None
    prices: str | None
    temperature: float | None
    max_tokens: int | None = None
    """Of one message; None for the side's own."""

    def check(self) -> None:
        """Refuse what goes without a model.

        Raises:
            ConfigError: An option describes a model that is not named, or a checkpoint is to play the user.
        """
        if self.name is None and (option := self.first_given()) is not None:
            raise ConfigError(f"{option} is for a model; name it with --{self.prefix}model")
        if self.prefix and self.name is not None and self.name.startswith("hf:"):
            raise ConfigError(f"{self.name} cannot be the user; serve the checkpoint, such as with vLLM, and give --user-base-url")

    def first_given(self, *, but: str | None = None) -> str | None:
        """The first option besides the name, and besides this one, that was given."""
        given = {"base-url": self.base_url, "prices": self.prices, "temperature": self.temperature, "max-tokens": self.max_tokens}
        return next((f"--{self.prefix}{name}" for name, value in given.items() if value is not None and name != but), None)


@dataclass(frozen=True)
class AgentOptions:
    """Who the agent is."""

    spec: str | None
    """What `--agent` says."""
    model: ModelOptions
    max_tokens: int | None
    tools_in_text: bool

    @property
    def name(self) -> str:
        """How the run is called after it.

        Raises:
            ConfigError: Both an agent and a model are named.
        """
        if self.spec is not None and self.model.name is not None:
            raise ConfigError(f"--agent {self.spec} and --model {self.model.name} both say who the agent is; give one of them")
        return self.model.name or self.spec or "scripted"

    def check(self, *, plays_here: bool) -> None:
        """Refuse options that would not be heeded.

        Args:
            plays_here: Whether the model is loaded by this process, as `hf:PATH` is.

        Raises:
            ConfigError: There is one.
        """
        own = "--max-tokens" if self.max_tokens is not None else "--tools-in-text" if self.tools_in_text else None
        option = self.model.first_given(but="temperature" if plays_here else None) or own
        if option is None:
            return
        if plays_here:
            raise ConfigError(f"{option} is for a model behind a server; {self.name} is played with training's own settings")
        if self.model.name is None:
            raise ConfigError(f"{option} is for a model; name it with --model")


@dataclass(frozen=True)
class Asking:
    """How the models of both sides are asked."""

    max_cost: float | None = None
    """US dollars, of both together."""
    max_in_flight: int | None = None
    """Requests at once, for each model."""
    max_per_minute: float | None = None
    timeout: float | None = None
    """Seconds for one request; None for the model's own."""
    record: Path | None = None
    """A cassette that is played from and added to."""
    replay: Path | None = None
    """A cassette that is played from alone."""

    def first_given(self) -> str | None:
        """The first of its options that was given."""
        given = ((f"--{name.replace('_', '-')}", getattr(self, name)) for name in self.__dataclass_fields__)
        return next((option for option, value in given if value is not None), None)

    def cassette(self) -> Cassette | None:
        """The cassette, open.

        Raises:
            ConfigError: It cannot be opened, or two are named.
        """
        if self.record is not None and self.replay is not None:
            raise ConfigError("--record asks for what is not on the cassette and --replay asks nobody; give one of them")
        path = self.record or self.replay
        if path is None:
            return None
        from sentinel_env.cassette import Cassette

        return Cassette(path, replay=self.replay is not None)


class Players:
    """The two sides of a run, with the models that play them and what these may cost together."""

    def __init__(self, asking: Asking) -> None:
        """Begin with nobody.

        Raises:
            ConfigError: A limit is not above 0.
        """
        from sentinel_env.llm_budget import Budget

        self._asking = asking
        self._budget = Budget(max_cost=asking.max_cost)
        self._cassette: Cassette | None = None
        self._models: dict[str, Model] = {}
        self._uses_tools = False
        """Whether the agent's model is to call tools by its server's own means."""
        self._paces: dict[tuple[str, str | None], Pace] = {}

    def agent(self, wanted: AgentOptions, tasks: Sequence[Task]) -> Agent:
        """The agent that the options describe.

        Raises:
            ConfigError: There is no such agent or model.
        """
        if wanted.model.name is None:
            return options.choose_agent(wanted.name, tasks)
        from sentinel_env.llm_agent import LLMAgent

        model = self._open("agent", wanted.model, os.environ.get(options.KEY))
        limits = self._limits(wanted.max_tokens)
        self._uses_tools = not wanted.tools_in_text
        return LLMAgent(model, temperature=wanted.model.temperature or 0.0, tools_in_text=wanted.tools_in_text, **limits)

    def user(self, spec: str | None, wanted: ModelOptions, agent: ModelOptions) -> User:
        """The user that the options describe; the agent's key is sent to the user's model only at the same base URL.

        Raises:
            ConfigError: There is no such user or model, or both are named.
        """
        if wanted.name is None:
            return options.choose_user(spec or "scripted")
        if spec is not None:
            raise ConfigError(f"--user {spec} and --user-model {wanted.name} both say who the user is; give one of them")
        from sentinel_env.llm_user import LLMUser

        shared = os.environ.get(options.KEY) if wanted.base_url == agent.base_url else None
        model = self._open("user", wanted, os.environ.get(options.USER_KEY) or shared)
        return LLMUser(model, temperature=wanted.temperature or 0.0, **self._limits(wanted.max_tokens))

    def _limits(self, max_tokens: int | None) -> dict[str, Any]:
        """Of one turn of a side; its deadline leaves room for every attempt, and none is shorter than usual."""
        limits: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        timeout = self._asking.timeout
        return limits if timeout is None else limits | {"deadline": max(_DEADLINE, _ATTEMPTS * timeout)}

    def _open(self, side: str, wanted: ModelOptions, key: str | None) -> Model:
        from sentinel_env.llm import Model
        from sentinel_env.llm_pace import Pace

        assert wanted.name is not None
        self._cassette = self._cassette or self._asking.cassette()
        where = wanted.name, wanted.base_url
        if where not in self._paces:  # both sides may ask the same model
            self._paces[where] = Pace(in_flight=self._asking.max_in_flight, per_minute=self._asking.max_per_minute)
        shared: dict[str, Any] = {"budget": self._budget, "pace": self._paces[where], "cassette": self._cassette}
        shared |= {} if self._asking.timeout is None else {"timeout": self._asking.timeout}
        key = key if wanted.base_url is not None else None
        prices = options.read_prices(wanted.prices, option=f"--{wanted.prefix}prices")
        try:
            model = Model(wanted.name, base_url=wanted.base_url, api_key=key, prices=prices, **shared)
        except ConfigError as error:
            if "no price is known" in str(error):
                option = f"--{wanted.prefix}prices IN,OUT, such as 0,0 where it costs nothing"
                raise ConfigError(f"--max-cost needs a price, and none is known for model {wanted.name!r}; give {option}") from None
            raise
        self._models[side] = model
        return model

    def check(self, *, plays: bool = True) -> None:
        """Ask the servers whether they are there and serve the models, and the agent's whether it shows its model the tools.

        Args:
            plays: False where no attempt is left; then tools do not matter.

        Raises:
            ConfigError: Options are for models, and none plays.
            ModelError: One cannot be reached or refuses the key.
            ConfigError: One does not serve the model, or leaves the tools out.
        """

        async def whole() -> None:
            for side, model in self._models.items():
                async with model:
                    try:
                        await model.check()
                    except ModelError as error:
                        key = options.KEY if side == "agent" else options.USER_KEY
                        hint = f"; its key is read from {key}" if "HTTP 401" in str(error) or "HTTP 403" in str(error) else ""
                        raise ModelError(f"{error}{hint}", kind=error.kind) from None
                    if plays and side == "agent" and self._uses_tools and await model.shows_tools() is False:
                        raise ConfigError(
                            f"the server of model {model.name} leaves tools out of its prompt, as where its chat template has none; "
                            "put them there with --tools-in-text, or serve it with another template"
                        )

        if self._models:
            asyncio.run(whole())
        elif (option := self._asking.first_given()) is not None:
            raise ConfigError(f"{option} is for models that are asked; name one with --model or --user-model")

    def close(self) -> None:
        """Close the models' connections, and the cassette."""

        async def whole() -> None:
            for model in self._models.values():
                await model.close()

        if self._models:
            asyncio.run(whole())
        if self._cassette is not None:
            self._cassette.close()

    def usage(self) -> dict[str, dict[str, Any]]:
        """What the models took, by side."""
        return {
            side: {"model": model.name, **model.spent.model_dump(), "left_out": sorted(model.left_out)}
            for side, model in sorted(self._models.items())
        }


def after_errors(results: Sequence[Trajectory], players: Players) -> None:
    """Do nothing where every attempt came to an end of its own.

    Raises:
        ModelError: Infrastructure ended some; the text says how many, why most of them, and what to do.
    """
    errors = [result.error.removeprefix("ModelError: ") for result in results if result.error is not None]
    if not errors:
        return
    alike = Counter(_NUMBER.sub("#", error) for error in errors)
    ((most, times),) = alike.most_common(1)
    shown = next(error for error in errors if _NUMBER.sub("#", error) == most)
    long = sum(map(is_too_long, errors))
    advice = [f"{_count(long, len(errors))} never fit: choose a model with a longer context, or fewer --max-tokens"] if long else []
    if long < len(errors):
        advice.append("the same command again tries the others again" if long else "the same command again tries them again")
    found = f"{len(errors)} of {len(results)} attempts were ended by infrastructure and do not count"
    raise ModelError("; ".join([found, f"{times} by: {shown}", *advice]))


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
"""What tells errors of one cause apart, such as times and counts of tokens."""


def _count(some: int, whole: int) -> str:
    return "they" if some == whole else f"{some} of them"
