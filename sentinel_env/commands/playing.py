"""`sentinel play`: be one side of a conversation yourself."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel_env.errors import ConfigError, ModelError

from . import console, options, scoring

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.episode import Agent, Episode, User
    from sentinel_env.messages import Message

    from .models import AgentOptions, ModelOptions


class Part(StrEnum):
    """Who the person is."""

    AGENT = "agent"
    USER = "user"


def play(
    domain: options.DomainName,
    part: Annotated[Part, typer.Option("--as", help="Which side you are.")] = Part.AGENT,
    task: Annotated[str | None, typer.Option("--task", help="Which task; the first one otherwise.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="scripted (the default), or module:attribute.")] = None,
    user_model: options.UserModel = None,
    user_base_url: options.UserBaseUrl = None,
    user_prices: options.UserPrices = None,
    user_temperature: options.UserTemperature = None,
    user_max_tokens: options.UserMaxTokens = None,
    agent: Annotated[str | None, typer.Option("--agent", help="scripted (the default), nothing, or module:attribute.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="A model as the agent, where you are the user.")] = None,
    base_url: options.BaseUrl = None,
    prices: options.Prices = None,
    temperature: options.Temperature = None,
    tools_in_text: Annotated[bool, typer.Option("--tools-in-text", help="For a model or server without tool calls.")] = False,
    max_cost: options.MaxCost = None,
    data: options.Data = None,
    option: options.Settings = None,
    seed: options.Seed = 0,
) -> None:
    """Be the agent yourself, against a simulated user, or the user, against a scripted agent or a model."""
    from sentinel_env.episode import Episode
    from sentinel_env.errors import TaskError

    from .models import AgentOptions, Asking, ModelOptions, Players

    named = AgentOptions(agent, ModelOptions("", model, base_url, prices, temperature), None, tools_in_text)
    talking = ModelOptions("user-", user_model, user_base_url, user_prices, user_temperature, user_max_tokens)
    _check(part, named, user, talking)
    world = options.open_domain(domain, data, option)
    tasks = world.tasks_by_id
    if not tasks:
        raise TaskError(f"domain {world.name} has no tasks")
    if task is not None and task not in tasks:
        raise TaskError(f"domain {world.name} has no task {task!r}; such as {', '.join(list(tasks)[:5])}")
    episode = Episode(world, tasks[task or next(iter(tasks))], seed=seed)
    players = Players(Asking(max_cost=max_cost))
    with suppress(ImportError):
        import readline  # noqa: F401  # lines can be edited
    if part is Part.USER:
        other = players.agent(named, [episode.task])
        players.check()
        _be_the_user(episode, other)
    else:
        customer = players.user(user, talking, named.model)
        players.check()
        _be_the_agent(episode, customer)
    _conclude(episode, part)
    if usage := players.usage():
        scoring.show_usage(usage)


def _check(part: Part, agent: AgentOptions, user: str | None, talking: ModelOptions) -> None:
    """Refuse options that would not be heeded."""
    agent.check(plays_here=False)
    talking.check()
    if part is Part.AGENT and (agent.spec or agent.model.name):
        raise ConfigError("you are the agent; --agent and --model are for --as user")
    if part is Part.USER and (user or talking.name):
        raise ConfigError("you are the user; --user and --user-model are for --as agent")
    if (agent.model.name or "").startswith("hf:"):
        raise ConfigError(f"{agent.model.name} cannot be played with; serve the checkpoint, such as with vLLM, and give --base-url")


def _be_the_agent(episode: Episode, user: User) -> None:
    from sentinel_env.agents import HumanAgent

    console.echo(f"You are the agent of {episode.domain.name}, on task {episode.task.id}. Type what you say to the customer, or a call:")
    console.echo(_example(episode.domain))
    console.echo("/policy shows the rules, /tools the tools, /quit ends it.\n")

    def ask(_: str) -> str:
        while True:
            line = _line()
            if line == "/policy":
                console.echo(episode.domain.policy)
            elif line == "/tools":
                for tool in episode.domain.tools:
                    console.echo(f"  {tool.usage}\n      {tool.description.splitlines()[0] if tool.description else ''}")
            elif line.startswith("/"):
                call, problem = _read_call(episode.domain, line[1:])
                if call is not None:
                    return call
                console.echo(f"  {problem}")
            elif line:
                return line

    agent = HumanAgent(ask=ask)
    if episode.messages:
        console.echo(f"you> {episode.messages[0].content}")
    with _Other(user) as other, suppress(EOFError):
        while episode.awaiting is not None:
            if episode.awaiting == "user":
                message = other.answer(lambda: user.reply(episode.user_view()))
                console.echo(f"user> {message.content}")
                episode.hear(message)
            else:
                for answer in episode.act(agent.act(episode.agent_view())):
                    console.echo(f"{answer.name or 'tool'}> {answer.content}")
    if episode.ending is None:
        episode.stop()


_ENDS = {"/stop": "STOP", "/transfer": "TRANSFER", "/out": "OUT_OF_SCOPE"}


def _be_the_user(episode: Episode, agent: Agent) -> None:
    from sentinel_env import episode as episodes
    from sentinel_env.llm_user import scenario_text
    from sentinel_env.messages import Message

    scenario = scenario_text(episode.task.scenario, episode.domain).replace("\t", "  ")
    console.echo(f"You are the customer of {episode.domain.name}, on task {episode.task.id}; the agent is {agent.name}.")
    console.echo("This is all that you want and know:\n")
    console.echo(scenario)
    console.echo("\nType what you say, and end it with /stop when you have what you want, /transfer when the agent hands you over,")
    console.echo("or /out when it cannot go on without what you do not know; /scenario shows the above again, /quit leaves.\n")

    def ask() -> Message:
        while True:
            line = _line()
            words, _, last = line.rpartition(" ")
            if last in _ENDS:
                return Message(role="user", content=f"{words} {getattr(episodes, _ENDS[last])}".strip())
            if line == "/scenario":
                console.echo(scenario)
            elif line.startswith("/"):
                console.echo(f"  there is no {line.split()[0]}; /stop, /transfer, /out, /scenario or /quit")
            elif line:
                return Message(role="user", content=line)

    for greeting in episode.spoken:
        console.echo(f"agent> {greeting.content}")
    with _Other(agent) as other, suppress(EOFError):
        while episode.awaiting is not None:
            if episode.awaiting == "user":
                episode.hear(ask())
                continue
            try:
                message = other.answer(lambda: agent.act(episode.agent_view()))
            except ModelError as error:
                console.echo(f"  {error}")
                episode.truncate()  # the dialogue has grown too long for the model, as in a run
                continue
            episode.act(message)
            if episode.spoken[-1:] == [message]:
                console.echo(f"agent> {message.content}")
    if episode.ending is None and episode.awaiting == "user":
        episode.hear(Message(role="user", content=episodes.STOP))
    elif episode.ending is None:
        episode.stop()


class _Other:
    """The other side's answers; a model's are awaited here, and it is asked again where the person wants it."""

    def __init__(self, side: Agent | User) -> None:
        self._side = side
        self._runner = asyncio.Runner()

    def __enter__(self) -> _Other:
        return self

    def __exit__(self, *_: object) -> None:
        if inspect.iscoroutinefunction(close := getattr(self._side, "close", None)):
            self._runner.run(close())
        self._runner.close()

    def answer(self, ask: Callable[[], Message | Awaitable[Message]]) -> Message:
        """What the other side says.

        Raises:
            ModelError: The dialogue is too long for the model.
            EOFError: It did not answer, and the person leaves.
        """
        while True:
            try:
                found = ask()
                return self._runner.run(_awaited(found)) if isinstance(found, Awaitable) else found
            except ModelError as error:
                if error.kind == "context":
                    raise
                console.echo(f"  no answer: {error}")
                console.echo("  Enter asks again, /quit leaves")
                _line()


async def _awaited(found: Awaitable[Message]) -> Message:
    return await found


def _line() -> str:
    """What the person types, without blanks around it; piped input is repeated, so that the talk can be read.

    Raises:
        EOFError: It is /quit, or the end of input.
    """
    line = input("you> ").strip()
    if not sys.stdin.isatty():
        console.echo(line)
    if line == "/quit":
        raise EOFError
    return line


def _example(world: Domain) -> str:
    tool = world.tools[0]
    arguments = " ".join(f"{name}=..." for name in tool.arguments.model_fields)
    return f"    /{tool.name} {arguments}".rstrip()


def _read_call(domain: Domain, line: str) -> tuple[str | None, str]:
    """`tool name=value ...` as the JSON of a call, or what is wrong with it. Values are JSON, or text, in quotes where it has spaces."""
    import shlex

    try:
        name, *pairs = shlex.split(line)
    except ValueError as error:
        return None, f"not understood: {error}"
    tool = domain.tools_by_name.get(name)
    if tool is None:
        return None, f"there is no {name!r}; /tools, /policy, /quit, or one of {', '.join(domain.tools_by_name)}"
    properties = tool.schema["function"]["parameters"]["properties"]
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            return None, f"{pair!r} is no name=value; {tool.usage}"
        try:
            arguments[key] = text if properties.get(key, {}).get("type") == "string" else json.loads(text)
        except ValueError:
            arguments[key] = text
    return json.dumps({"name": name, "arguments": arguments}), ""


def _conclude(episode: Episode, part: Part) -> None:
    from sentinel_env.evaluation import evaluate
    from sentinel_env.trajectory import record

    evaluation = evaluate(episode.domain, record(episode))
    outcome = {Part.AGENT: ("Passed.", "Not passed:"), Part.USER: ("The agent passed.", "The agent did not pass:")}[part]
    console.echo(f"\nThe conversation ended ({episode.ending}). {outcome[not evaluation.passed]}")
    for check in evaluation.checks:
        if not check.passed:
            console.echo(f"  {check.name}: {check.detail}")
