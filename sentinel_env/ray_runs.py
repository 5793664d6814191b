"""A run's attempts played by Ray's workers: one actor for each CPU, each with its part of the live episodes on one event loop.

    async with workers(Ray(), domain, agent, user, Rules(), concurrency=256) as play:
        trajectory = await play(task, trial)

Which attempts are made, and what becomes of their results, stays with the runner; so limits, errors, resuming and the single writer are
those of every run. An attempt goes out as a task's id and a trial and comes back as its record's line. Those whose worker or machine is
lost are played again by others, and a new worker takes the lost one's place as soon as the cluster has room for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import count
from typing import Any

from .attempts import Rules, play
from .domain import Domain
from .episode import Agent, User
from .errors import ConfigError
from .llm import Model
from .llm_budget import Budget, Usage
from .ray_cluster import LOSSES, Ray, World, own_path, said, take_path
from .ray_sides import Keeper, Packed, pack
from .run_limits import StoppedError
from .tasks import Task
from .trajectory import Trajectory, dump_line

Play = Callable[[Task, int], Awaitable[Trajectory]]
Spent = list[tuple[Usage, set[str]]]
"""By model: what it took since it was asked last, and what its server does not take."""
_START = 90.0
"""Seconds in which the first worker has to be there."""


def workers(cluster: Ray, domain: Domain, agent: Agent, user: User, rules: Rules, *, concurrency: int) -> AbstractAsyncContextManager[Play]:
    """Workers that are started and ended by the block, which has what plays an attempt; what is wrong with its arguments is said at once.

    Args:
        cluster: Where.
        domain: Made by `load_domain`, so that it can be made again.
        agent: Who is tested, and
        user: who plays the customer; they cross by pickle, their models by what they were made of.
        rules: Of the attempts.
        concurrency: How many attempts will be asked for at once.

    Raises:
        ConfigError: Ray is not installed, or the domain or a side cannot cross.
    """
    cluster.check()
    packed, models = pack(agent, user)
    return _working(cluster, domain, World.of(domain), packed, models, rules, concurrency)


@asynccontextmanager
async def _working(
    cluster: Ray, domain: Domain, world: World, packed: Packed, models: Sequence[Model], rules: Rules, concurrency: int
) -> AsyncIterator[Play]:
    with cluster.connected():
        crew = _Crew(domain, world, packed, models, rules, concurrency)
        try:
            await crew.start()
            yield crew.play
        finally:
            await crew.end()


class Worker:
    """Plays attempts; an actor."""

    async def open(
        self, path: Sequence[str], world: World, packed: Packed, rules: Rules, share: tuple[int, int], worker: int, keeper: Any
    ) -> None:
        """Make ready what all attempts share."""
        take_path(path)
        self._domain, self._rules = world.open(), rules
        self._agent, self._user, self._models = packed.open(share, worker, keeper)
        self._told = [Usage()] * len(self._models)

    async def play(self, wanted: Task | str, trial: int) -> tuple[str, Spent]:
        """Make an attempt at a task, or at the domain's own of that id: its record's line, and what the models took lately."""
        task = self._domain.tasks_by_id[wanted] if isinstance(wanted, str) else wanted
        trajectory = await play(self._domain, task, trial, self._agent, self._user, self._rules)
        spent = [(model.spent - told, model.left_out) for model, told in zip(self._models, self._told, strict=True)]
        self._told = [model.spent for model in self._models]
        return dump_line(trajectory), spent


class _Seat:
    """A worker's place, taken by another one when it is lost."""

    def __init__(self, number: int) -> None:
        self.number, self.live = number, 0
        self.actor: Any = None
        self.worker = -1
        """How the keeper of budgets knows the actor."""
        self.ready: asyncio.Task[None]


class _Crew:
    """The workers of a run, as its own process sees them."""

    def __init__(self, domain: Domain, world: World, packed: Packed, models: Sequence[Model], rules: Rules, concurrency: int) -> None:
        import ray
        from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, RpcError, WorkerCrashedError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._lost = (RayActorError, NodeDiedError, ObjectLostError, OutOfMemoryError, RpcError, WorkerCrashedError)
        self._domain, self._models = domain, models
        self._budgets = list({id(model.budget): model.budget for model in models}.values())
        own = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._keeper: Any = None
        if any(map(_is_limited, self._budgets)):
            limits = [(budget.max_cost, budget.max_tokens, budget.spent) for budget in self._budgets]
            self._keeper = ray.remote(Keeper).options(num_cpus=0, scheduling_strategy=own).remote(limits)
        free = int(ray.available_resources().get("CPU", 0))
        self._seats = [_Seat(number) for number in range(packed.most_workers(max(1, min(free, concurrency))))]
        self._worker = ray.remote(Worker).options(num_cpus=1, max_concurrency=max(2, concurrency), scheduling_strategy="SPREAD")
        self._common = (own_path(), ray.put(world), packed, rules)
        self._numbers = count()

    async def start(self) -> None:
        """Wait for the workers; with those that take too long nothing is waited for.

        Raises:
            ConfigError: None came.
        """
        for seat in self._seats:
            seat.ready = asyncio.create_task(self._open(seat))
        done, _ = await asyncio.wait([seat.ready for seat in self._seats], timeout=_START, return_when=asyncio.FIRST_EXCEPTION)
        for each in done:
            each.result()
        if not done:
            raise ConfigError(f"Ray started no worker within {_START:g} s; is a CPU of its cluster free?")

    async def _open(self, seat: _Seat) -> None:
        from ray.exceptions import RayTaskError

        for _ in range(LOSSES):
            seat.actor, seat.worker = self._worker.remote(), next(self._numbers)
            try:
                await seat.actor.open.remote(*self._common, (seat.number, len(self._seats)), seat.worker, self._keeper)
                return
            except RayTaskError as failed:
                raise failed.cause from failed
            except self._lost as error:
                why = said(error)
        raise StoppedError(f"{LOSSES} workers of Ray ended before they were ready: {why}")

    async def play(self, task: Task, trial: int) -> Trajectory:
        """Have an attempt made by the worker that has the fewest.

        Raises:
            StoppedError: One worker after the other was lost over it.
            Exception: What it raised, as it is.
        """
        from ray.exceptions import RayTaskError

        wanted = task.id if self._domain.tasks_by_id.get(task.id) == task else task
        for _ in range(LOSSES):
            seat = await self._free()
            actor = seat.actor
            seat.live += 1
            try:
                line, spent = await actor.play.remote(wanted, trial)
            except RayTaskError as failed:
                raise failed.cause from failed
            except self._lost as error:
                why = said(error)
                self._replace(seat, actor)
            else:
                self._count(spent)
                return Trajectory.model_validate_json(line)
            finally:
                seat.live -= 1
        raise StoppedError(f"attempt {task.id}/{trial} lost its worker {LOSSES} times: {why}")

    async def _free(self) -> _Seat:
        """The ready worker with the fewest attempts.

        Raises:
            StoppedError: All are lost, and no other one comes.
        """
        while True:
            ready = [seat for seat in self._seats if seat.ready.done()]
            for seat in ready:
                seat.ready.result()
            if ready:
                return min(ready, key=lambda seat: seat.live)
            waited = [seat.ready for seat in self._seats]
            done, _ = await asyncio.wait(waited, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise StoppedError(f"all of Ray's workers were lost, and its cluster had room for no other one in {_START:g} s")

    def _replace(self, seat: _Seat, lost: Any) -> None:
        """Begin a worker in the place of a lost one, once for all the attempts that it had."""
        if seat.actor is lost and seat.ready.done():
            self._give_up(seat)
            seat.ready = asyncio.create_task(self._open(seat))

    def _give_up(self, seat: _Seat) -> None:
        """End a worker, if it has not ended; what it had in flight counts as spent."""
        import ray

        if seat.actor is not None:
            ray.kill(seat.actor)
            if self._keeper is not None:
                self._keeper.lost.remote(seat.worker)

    def _count(self, spent: Spent) -> None:
        """Take over what the models took, and learnt of their servers."""
        for model, (used, left_out) in zip(self._models, spent, strict=True):
            model.spent += used
            model.left_out.update(left_out)
            if not _is_limited(model.budget):
                model.budget.spent += used

    async def end(self) -> None:
        """Give up what is live, and learn what was spent in all."""
        import ray
        from ray.exceptions import RayError

        for seat in self._seats:
            seat.ready.cancel()
        await asyncio.gather(*(seat.ready for seat in self._seats), return_exceptions=True)
        for seat in self._seats:
            self._give_up(seat)
        if self._keeper is not None:
            with suppress(RayError):
                for budget, spent in zip(self._budgets, await self._keeper.spent.remote(), strict=True):
                    budget.spent = spent if _is_limited(budget) else budget.spent
            ray.kill(self._keeper)


def _is_limited(budget: Budget) -> bool:
    return budget.max_cost is not None or budget.max_tokens is not None
