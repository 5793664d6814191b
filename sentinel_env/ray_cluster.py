"""Ray: more processes and machines than this one. Joining a cluster, sending a domain there, and having work done in order.

    with Ray().connected():                                         # a cluster of this machine's own, for as long as the block
        for result in in_order(work, shared, parts): ...            # work(shared, part) for every part, wherever there is room

A domain crosses by what makes it again (`Domain.origin`), and is checked to be the same there. Parts whose worker or machine is lost are
worked on again. Ray itself is imported when it is first used (extra: ray); its dashboard, its usage statistics and its workers' output
stay off.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from .domain import Domain, load_domain
from .errors import ConfigError
from .tasks import Task

S = TypeVar("S")
P = TypeVar("P")
R = TypeVar("R")

ADDRESS = "RAY_ADDRESS"
"""Where a cluster is named in the environment."""
LOSSES = 5
"""A piece of work that has lost its worker so often may be what ends them."""
_PATIENCE = 5.0
"""Seconds in which a cluster's head takes a connection."""
_STORE = 100_000_000
"""Bytes of the object store of a cluster of our own; what crosses is small."""


@dataclass(frozen=True)
class Ray:
    """Which cluster."""

    address: str | None = None
    """Of its head, such as `10.0.0.5:6379`, from a machine that belongs to it. None: what RAY_ADDRESS says, and without that a cluster on
    this machine alone, which begins and ends with the work."""

    def check(self) -> None:
        """Find out what can be known without joining; Ray itself waits for minutes where nobody is.

        Raises:
            ConfigError: Ray is not installed, the address is of another kind, or nothing listens there.
        """
        if find_spec("ray") is None:
            raise ConfigError("the executor ray needs ray, which is not installed; pip install 'sentinel-env[ray]'")
        if self._where.startswith("ray://"):
            raise ConfigError(
                f"{self._where} is for Ray's client; give the head's own address, such as 10.0.0.5:6379, on a machine of its cluster"
            )
        if self._where == "local":
            _lock()
        host, _, port = self._where.rpartition(":")
        if port.isdigit():
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
            except (OSError, OverflowError) as error:
                raise ConfigError(f"cannot reach the Ray cluster at {self._where}: {said(error)}") from None

    @property
    def _where(self) -> str:
        return self.address or os.environ.get(ADDRESS) or "local"

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Belong to the cluster; where this process does already, nothing is begun or ended.

        Raises:
            ConfigError: As of `check`, or there is no such cluster.
        """
        self.check()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise it warns of a default of its own
        import ray

        if ray.is_initialized():
            yield
            return
        address = self._where
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE} if address == "local" else {}
        with _unheard():
            try:
                ray.init(address, **quiet, **own)
            except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
                what = "Ray does not start" if own else f"cannot reach the Ray cluster at {address}"
                raise ConfigError(f"{what}: {said(error)}") from None
            try:
                yield
            finally:
                ray.shutdown()


def _lock() -> None:
    """Have a cluster of our own ask for a token that only its processes know: Ray listens on every network of the machine, and whoever may
    talk to it may run code. It reads this once, so a process that had Ray before keeps what it had."""
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)}


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what a cluster tells its drivers, such as that a machine was lost, from standard output, where results go; no option does."""
    from ray._private import worker

    tell = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = tell


@dataclass(frozen=True)
class World:
    """A domain as it crosses to another process."""

    name: str
    options: Mapping[str, Any]
    digest: str
    """Of what it must be there."""
    tasks: tuple[Task, ...] | None = None
    """Its tasks, where they are not those that it is made with."""

    @classmethod
    def of(cls, domain: Domain) -> World:
        """What makes this domain again.

        Raises:
            ConfigError: Nothing does: it was made or changed by code of the caller's.
        """
        if domain.origin is None:
            raise ConfigError(f"domain {domain.name!r} {_UNKNOWN}")
        name, options = domain.origin
        again, digest = load_domain(name, **options), _digest(domain)
        if _digest(again) != digest:
            raise ConfigError(f"domain {domain.name!r} is not what load_domain({name!r}) makes, so it {_UNKNOWN}")
        own = again.tasks_by_id == domain.tasks_by_id
        return cls(name, dict(options), digest, None if own else tuple(domain.tasks_by_id.values()))

    def open(self) -> Domain:
        """The domain, in this process made once.

        Raises:
            ConfigError: It is another one here.
        """
        key = json.dumps([self.name, self.options, self.digest], default=repr, sort_keys=True)
        if key not in _opened:
            found = load_domain(self.name, **self.options)
            if _digest(found) != self.digest:
                raise ConfigError(f"domain {self.name!r} is another one on a worker's machine; every machine needs the same code and data")
            _opened[key] = found
        return _opened[key] if self.tasks is None else _opened[key].with_tasks(self.tasks)


_UNKNOWN = "cannot be made again in other processes; let a function make it and load it by name, as load_domain('my_module:my_function')"
_opened: dict[str, Domain] = {}


def _digest(domain: Domain) -> str:
    """Of all that decides what happens in a domain, functions by their names; tasks left out."""
    functions = [tool.function for tool in domain.tools]
    functions += [getattr(domain, hook) for hook in ("render", "features", "contexts", "forbids", "meanings")]
    names = [f"{getattr(each, '__module__', '')}.{getattr(each, '__qualname__', type(each).__name__)}" for each in functions]
    phrases = {slot: list(patterns) for slot, patterns in domain.phrases.items()}
    texts = [domain.name, domain.policy, domain.greeting, domain.dialect, domain.schemas, phrases]
    return hashlib.sha256(json.dumps([*texts, names, domain.base.digest()], sort_keys=True).encode()).hexdigest()


def processors() -> int:
    """The CPUs of the connected cluster, at least 1."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def in_order(work: Callable[[S, P], R], shared: S, parts: Iterable[P]) -> Iterator[R]:
    """What `work` makes of each part, in the order of the parts, by the tasks of a connected cluster.

    Args:
        work: A function of a module; it must not keep anything.
        shared: What it takes along with each part; it is sent to each machine once.
        parts: Read as they are needed, a few ahead of what is worked on.

    Raises:
        ConfigError: Something cannot be pickled, or a part lost its worker too often.
        Exception: What `work` raises, as it is.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    remote = ray.remote(_work).options(num_cpus=1, max_retries=LOSSES, scheduling_strategy="SPREAD")
    ahead = 2 * processors()
    left, sent = iter(parts), deque[Any]()
    put = ray.put((own_path(), pickled((work, shared), "this")))
    try:
        while True:
            while len(sent) < ahead and (part := next(left, _END)) is not _END:
                sent.append(remote.remote(put, part))
            if not sent:
                return
            yield ray.get(sent.popleft())
    except RayTaskError as failed:
        raise failed.cause from failed
    except RayError as error:
        raise ConfigError(f"Ray lost the worker of the same part {LOSSES + 1} times: {said(error)}") from None
    finally:
        for each in sent:
            ray.cancel(each, force=True)


_END: Any = object()


def _work(sent: tuple[Sequence[str], bytes], part: Any) -> Any:
    from ray import cloudpickle

    path, packed = sent
    take_path(path)
    work, shared = cloudpickle.loads(packed)
    return work(shared, part)


def own_path() -> tuple[str, ...]:
    """Where this process finds modules, for those that are to find them too."""
    return tuple(str(Path(folder).resolve()) for folder in sys.path)


def take_path(path: Sequence[str]) -> None:
    """Find modules where another process does, after one's own places."""
    sys.path.extend(folder for folder in path if folder not in sys.path)


def pickled(value: Any, what: str) -> bytes:
    """A value as bytes for other processes.

    Raises:
        ConfigError: It cannot be pickled; the text begins with `what` it is.
    """
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:  # whatever an object's own methods raise
        raise ConfigError(unpicklable(what, error)) from None


def unpicklable(what: str, error: Exception) -> str:
    """What to say of an object that cannot cross."""
    why = " ".join(str(error).split())[:200]
    return f"{what} cannot be sent to other processes ({type(error).__name__}: {why}); make open files, locks and connections at first use"


def said(error: Exception) -> str:
    """The first words of an error of Ray's, which may have many lines."""
    return " ".join(str(error).split())[:200]
