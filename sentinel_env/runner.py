"""run_tasks(): an agent and a user over tasks and trials, concurrently in one thread, into a folder that can be resumed.

    trajectories = run_tasks(domain, domain.split("test"), ScriptedAgent(), ScriptedUser(), trials=4, out="runs/first")

Running the same command again goes on where it stopped. A `ModelError` ends one attempt and is kept apart, because an outage says
nothing about the agent; every other error is a bug and stops the run, with what is finished safe in the folder. A run may have `limits`;
see `run_limits`. With `executor="ray"` the attempts are played by other processes and machines; all else stays here, see `ray_runs`.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import platform
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .attempts import Rules, play, trial_seed, usage_by_side
from .domain import Domain, load_domain
from .episode import Agent, User
from .errors import ConfigError, ModelError, TaskError
from .llm import Model
from .outages import Outages
from .run_folder import RunFolder
from .run_limits import Limits, StoppedError, Watch
from .scores import score
from .tasks import Task
from .trajectory import Trajectory

if TYPE_CHECKING:
    from .ray_cluster import Ray

__all__ = ["Job", "OnResult", "arun_tasks", "configuration", "made_with", "run_tasks", "trial_seed", "usage_by_side"]

OnResult = Callable[[Trajectory], None]
Job = tuple[Task, int]
"""A task and the number of the trial."""
Play = Callable[[Task, int], Awaitable[Trajectory]]
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
    on_wait: Callable[[str], None] | None = None,
    limits: Limits | None = None,
    agent_seed: int | None = None,
    user_seed: int | None = None,
    executor: Literal["local", "ray"] | Ray = "local",
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
        on_wait: Called with a line when the run begins to wait for a server, see `Limits.wait_for_server`, and when it goes on.
        limits: What ends the run early; None for nothing but a model's own budget.
        agent_seed: Takes the place of `seed` for what the agent draws. Runs that cross two of them with two of the user's tell how much of
            the variance of outcomes is due to each side; see `variance`.
        user_seed: The same for the user.
        executor: Who plays the attempts: this process, or the workers of a Ray cluster (extra: ray), `Ray("10.0.0.5:6379")` for one of many
            machines. It never changes the results of agents and users that keep no state, so a run may go on with another one.

    Returns:
        All trajectories by task, in the order given, and trial; those with an `error` too.

    Raises:
        ConfigError: A number below 1, a folder of another configuration, a call from inside an event loop, or something that cannot cross
            to Ray's workers.
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
    settings |= {"agent_seed": agent_seed, "user_seed": user_seed, "executor": executor}

    async def whole() -> list[Trajectory]:
        try:
            return await arun_tasks(domain, tasks, agent, user, **settings, out=out, on_result=on_result, on_wait=on_wait, limits=limits)
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
    on_wait: Callable[[str], None] | None = None,
    limits: Limits | None = None,
    agent_seed: int | None = None,
    user_seed: int | None = None,
    executor: Literal["local", "ray"] | Ray = "local",
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
    settings |= {name: value for name, value in (("agent_seed", agent_seed), ("user_seed", user_seed)) if value is not None}
    rules = Rules(max_steps=max_steps, seed=seed, agent_seed=agent_seed, user_seed=user_seed)
    players = _players(executor, domain, agent, user, rules, min(concurrency, len(tasks) * trials))
    with RunFolder(out, configuration(domain, tasks, **settings), made_with=made_with()) if out is not None else nullcontext() as folder:
        results = dict(folder.finished) if folder else {}
        limits = limits or Limits()
        watch = Watch(limits)
        models = [model for side in (agent, user) if isinstance(model := getattr(side, "model", None), Model)]
        outages = Outages(models, minutes=limits.wait_for_server, tell=on_wait)
        for found in results.values() if on_result else ():
            on_result(found)  # type: ignore[misc]

        async def attempt(play: Play, job: Job) -> None:
            try:
                trajectory = await play(*job)
            except ModelError as failure:  # of a budget, neither an outage nor a result: when there is more, the attempt is made
                watch.spent = str(failure)
                return
            if folder:
                folder.add(trajectory)
            results[trajectory.id] = trajectory
            if on_result:
                on_result(trajectory)
            watch.saw(trajectory.error)

        # every task's first trial comes before any second one, so that a run that is cut short is a fair sample
        whole = [(task, trial) for trial in range(trials) for task in tasks]
        left = [job for job in whole if _id(job) not in results]
        plan = takewhile(lambda _: watch.spent is None, iter(left))
        stopped: StoppedError | None = None
        async with _synced(folder) if folder else nullcontext():
            try:
                async with asyncio.timeout(limits.max_minutes and 60 * limits.max_minutes) as time:
                    if left:
                        async with players as play:
                            await _in_parallel(concurrency, partial(attempt, outages.around(play)), plan)
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


def _players(
    executor: Literal["local", "ray"] | Ray, domain: Domain, agent: Agent, user: User, rules: Rules, concurrency: int
) -> AbstractAsyncContextManager[Play]:
    """What plays an attempt, for as long as the block."""
    if executor == "local":

        async def here(task: Task, trial: int) -> Trajectory:
            return await play(domain, task, trial, agent, user, rules)

        return nullcontext(here)
    from .ray_cluster import Ray
    from .ray_runs import workers

    if isinstance(executor, str) and executor != "ray":
        raise ConfigError(f"there is no executor {executor!r}; it is 'local' or 'ray'")
    return workers(Ray() if isinstance(executor, str) else executor, domain, agent, user, rules, concurrency=concurrency)


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
