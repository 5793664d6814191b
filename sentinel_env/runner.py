"""run_tasks(): an agent and a user over tasks and trials, concurrently in one thread, into a folder that can be resumed.

    trajectories = run_tasks(domain, domain.split("test"), ScriptedAgent(), ScriptedUser(), trials=4, out="runs/first")

Running the same command again goes on where it stopped. A `ModelError` ends one attempt and is kept apart, because an outage says
nothing about the agent; every other error is a bug and stops the run, with what is finished safe in the folder. A dialogue that has grown
too long for the agent's model is no outage: it is truncated, as in training. A run may have `limits`; see `run_limits`.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import platform
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from .domain import Domain, load_domain
from .episode import Agent, Episode, User, adrive
from .errors import ConfigError, ModelError, TaskError
from .llm import ModelMessage
from .llm_budget import Usage
from .run_folder import RunFolder
from .run_limits import Limits, StoppedError, Watch
from .scores import score
from .tasks import Task
from .trajectory import Trajectory, record

OnResult = Callable[[Trajectory], None]
Job = tuple[Task, int]
"""A task and the number of the trial."""
_SYNC_EVERY = 0.5
"""Seconds."""


def run_tasks(
    domain: Domain | str,
    tasks: Iterable[Task],
    agent: Agent,
    user: User,
    *,
    trials: int = 1,
    seed: int = 0,
    concurrency: int = 8,
    max_steps: int = 30,
    out: str | Path | None = None,
    on_result: OnResult | None = None,
    limits: Limits | None = None,
) -> list[Trajectory]:
    """Let an agent attempt each task several times.

    Args:
        domain: The world, or its name.
        tasks: The problems, with ids of their own.
        agent: Who is tested; its `act` may be asynchronous. A mapping `settings`, where it has one, becomes part of the configuration, and
            an asynchronous `close` is awaited at the end.
        user: Who plays the customer; its `reply` may be asynchronous, and the same holds for it.
        trials: Attempts at each task.
        seed: Every attempt has a seed of its own, made from this one, the task's id and the trial.
        concurrency: How many episodes are live at once. It never changes the results of agents and users that keep no state.
        max_steps: Assistant turns before an episode is truncated.
        out: A folder for the results. If it holds a part of this run, only the rest is done.
        on_result: Called with each trajectory after it was written; first with those that were found finished.
        limits: What ends the run early; None for nothing but a model's own budget.

    Returns:
        All trajectories by task, in the order given, and trial; those with an `error` too.

    Raises:
        ConfigError: A number below 1, a folder of another configuration, or a call from inside an event loop.
        TaskError: An id occurs twice, a task is of another domain, or a tool refuses a reference; found before the first episode.
        DomainError: A tool crashed.
        StoppedError: A limit was reached; it holds what is finished.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise ConfigError("run_tasks() was called inside an event loop; there, write: await arun_tasks(...)")
    settings: dict[str, Any] = {"trials": trials, "seed": seed, "concurrency": concurrency, "max_steps": max_steps}

    async def whole() -> list[Trajectory]:
        try:
            return await arun_tasks(domain, tasks, agent, user, **settings, out=out, on_result=on_result, limits=limits)
        finally:
            for side in (agent, user):
                if inspect.iscoroutinefunction(close := getattr(side, "close", None)):
                    await close()

    return asyncio.run(whole())


async def arun_tasks(
    domain: Domain | str,
    tasks: Iterable[Task],
    agent: Agent,
    user: User,
    *,
    trials: int = 1,
    seed: int = 0,
    concurrency: int = 8,
    max_steps: int = 30,
    out: str | Path | None = None,
    on_result: OnResult | None = None,
    limits: Limits | None = None,
) -> list[Trajectory]:
    """`run_tasks` for callers that have an event loop of their own; it leaves closing the agent and the user to them."""
    for name, value in (("trials", trials), ("concurrency", concurrency), ("max_steps", max_steps)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, found {value}")
    domain = load_domain(domain)
    tasks = tuple(tasks)
    _check_tasks(domain, tasks)
    settings = {"agent": agent.name, "user": user.name, "trials": trials, "seed": seed, "max_steps": max_steps}
    settings |= {f"{name}_settings": dict(side.settings) for name, side in (("agent", agent), ("user", user)) if hasattr(side, "settings")}
    with RunFolder(out, configuration(domain, tasks, **settings), made_with=made_with()) if out is not None else nullcontext() as folder:
        results = dict(folder.finished) if folder else {}
        limits = limits or Limits()
        watch = Watch(limits)
        for found in results.values() if on_result else ():
            on_result(found)  # type: ignore[misc]

        async def attempt(job: Job) -> None:
            task, trial = job
            episode = Episode(domain, task, max_steps=max_steps, seed=trial_seed(seed, task.id, trial))
            error = None
            try:
                await adrive(episode, agent, user)
            except ModelError as failure:
                if failure.kind == "budget":  # neither an outage nor a result: when there is more, the attempt is made
                    watch.spent = str(failure)
                    return
                if failure.kind == "context" and episode.awaiting == "agent" and episode.steps > 0:
                    episode.truncate()
                else:
                    error = f"{type(failure).__name__}: {failure}"
            usage = usage_by_side(episode)
            episode.messages = [message.plain() if isinstance(message, ModelMessage) else message for message in episode.messages]
            trajectory = record(episode, trial=trial, agent=agent.name, user=user.name, error=error, usage=usage)
            if folder:
                folder.add(trajectory)
            results[trajectory.id] = trajectory
            if on_result:
                on_result(trajectory)
            watch.saw(error)

        # every task's first trial comes before any second one, so that a run that is cut short is a fair sample
        whole = [(task, trial) for trial in range(trials) for task in tasks]
        plan = takewhile(lambda _: watch.spent is None, (job for job in whole if _id(job) not in results))
        stopped: StoppedError | None = None
        async with _synced(folder) if folder else nullcontext():
            try:
                async with asyncio.timeout(limits.max_minutes and 60 * limits.max_minutes) as time:
                    await _in_parallel(concurrency, attempt, plan)
            except StoppedError as error:
                stopped = error
            except TimeoutError:
                if not time.expired():
                    raise
                stopped = StoppedError(f"{limits.max_minutes:g} minutes are over")
        ordered = [results[_id((task, trial))] for task in tasks for trial in range(trials) if _id((task, trial)) in results]
        if stopped is None and watch.spent is not None and len(ordered) < len(whole):
            stopped = StoppedError(watch.spent)
        if stopped is not None:
            raise StoppedError(stopped.why, ordered, len(whole))
        if folder:
            folder.complete(ordered, score(domain, ordered).model_dump())
    return ordered


def _id(job: Job) -> str:
    """As its trajectory will have it."""
    return f"{job[0].id}/{job[1]}"


@asynccontextmanager
async def _synced(folder: RunFolder) -> AsyncIterator[None]:
    """Have the folder's files on the disk at most a second after each line, without a wait of the episodes for it."""
    over = asyncio.Event()

    async def keep() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _SYNC_EVERY)
            await asyncio.to_thread(folder.sync)

    keeper = asyncio.create_task(keep())
    try:
        yield
    finally:
        over.set()
        await keeper


def usage_by_side(episode: Episode) -> dict[str, float]:
    """What the models of an episode took, by side; a request that ended it without an answer is not in it."""
    found: dict[str, float] = {}
    for side, role in (("agent", "assistant"), ("user", "user")):
        written = [message for message in episode.messages if isinstance(message, ModelMessage) and message.role == role]
        total = sum((message.usage for message in written), Usage())
        counts = total.model_dump(exclude_none=True) | {"repairs": sum(message.repairs for message in written)}
        found |= {f"{side}_{name}": value for name, value in counts.items() if value}
    return found


async def _in_parallel(concurrency: int, run: Callable[[Job], Awaitable[None]], jobs: Iterator[Job]) -> None:
    """Run jobs from one shared iterator; the first error cancels the others and is raised as it is."""

    async def work() -> None:
        for job in jobs:
            await run(job)
            await asyncio.sleep(0)  # sides that never wait would keep an interrupt from being seen

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def trial_seed(seed: int, task_id: str, trial: int) -> int:
    """The seed of one attempt, in [0, 2**31); the same in every process and on every machine."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, task_id, trial]).encode()).digest()[:4]) >> 1


def configuration(domain: Domain, tasks: Sequence[Task], **settings: Any) -> dict[str, Any]:
    """What decides a run's results, as JSON: resuming a folder asks for the same."""
    lines = "".join(task.model_dump_json(exclude_defaults=True) + "\n" for task in tasks)
    name, options = domain.origin or (domain.name, {})
    return {
        "domain": {"name": name, "options": dict(options), "database": domain.base.digest()[:16]},
        "tasks": {"count": len(tasks), "digest": hashlib.sha256(lines.encode()).hexdigest()[:16]},
        **settings,
    }


def made_with() -> dict[str, Any]:
    """The versions that a run begins with."""
    from . import __version__

    return {"sentinel_env": __version__, "python": platform.python_version(), "git": _git_revision()}


def _git_revision() -> str | None:
    """The revision of the caller's project with "-dirty" where files have changed; None outside of one."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _check_tasks(domain: Domain, tasks: Sequence[Task]) -> None:
    if not tasks:
        raise ConfigError("no tasks to run")
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen:
            raise TaskError(f"task id {task.id!r} occurs twice; ids are how a run tells attempts apart")
        seen.add(task.id)
        if task.domain != domain.name:
            raise TaskError(f"task {task.id!r} is for domain {task.domain!r}, run in {domain.name!r}")
        domain.reference_changes(task)
