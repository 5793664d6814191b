"""A shop's customer service: tau2-bench's retail domain, written anew, over our own data or tau2-bench's.

domain = make()                                         # our data, our tools: right where tau2-bench is wrong
domain = make(users=5000, orders=10_000)                # as much data as wanted; the tasks that ship are for the default
domain = make("tau2-bench/data/tau2/domains/retail")    # its data and its tools, bit for bit
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from sentinel_env import ConfigError, Domain, load_tasks
from sentinel_env.tools import to_text

from .compact import render_compact
from .db import RetailDB
from .diagnosis import ACCESS, contexts, features
from .meanings import meanings
from .phrases import PHRASES
from .policy_rules import forbids
from .tools import TOOLS

Mode = Literal["sentinel", "tau2", "v1"]

DATA_VARIABLE = "SENTINEL_TAU2_DATA"
"""The environment variable that names the folder to use when no other data is asked for."""


def make(data: str | Path | None = None, *, mode: Mode | None = None, compact: bool = False, **options: Any) -> Domain:
    """Make the retail domain.

    Args:
        data: A folder in tau2-bench's format. None: the one that `SENTINEL_TAU2_DATA` names; without it, or with options, our own data.
        mode: Which tools: ours ("sentinel", the default with our data), tau2-bench's with its quirks ("tau2", the default with its
            data), or those of tau-bench v1 ("v1", to replay runs that were recorded with it).
        compact: Whether tools answer in short text instead of JSON, for small models.
        **options: Of `data.generate`, for our own data: `users`, `orders`, `products`, `seed` and the like.

    Raises:
        ConfigError: An option or the mode is unknown or does not go with the data, or the folder lacks a file.
        DatabaseError: The folder's `db.json` is malformed.
        TaskError: The folder's `tasks.json` or `split_tasks.json` is malformed.
    """
    if mode is not None and mode not in get_args(Mode):
        raise ConfigError(f"retail has no mode {mode!r}; its modes: {', '.join(get_args(Mode))}")
    folder = data if data is not None or options else os.environ.get(DATA_VARIABLE)
    if not folder:
        return _generated(mode or "sentinel", compact, options)
    if options:
        raise ConfigError(f"retail: option {next(iter(options))!r} is for generated data and does not go with data={str(folder)!r}")
    if compact:
        raise ConfigError("retail: compact answers are for generated data; tau2-bench's tools answer in JSON")
    return _loaded(Path(folder), mode or "tau2")


def _loaded(folder: Path, mode: Mode) -> Domain:
    from . import tau2, v1

    load = {"sentinel": lambda folder: tau2.load(folder, tools=TOOLS, dialect="sentinel"), "tau2": tau2.load, "v1": v1.load}[mode]
    domain: Domain = load(folder)
    origin = ("retail", {"data": str(folder.resolve()), "mode": mode})
    hooks: dict[str, Any] = {"features": features, "contexts": contexts, "forbids": forbids, "meanings": meanings}
    return dataclasses.replace(domain, phrases=PHRASES, access=ACCESS, origin=origin, **hooks)


def _generated(mode: Mode, compact: bool, options: dict[str, Any]) -> Domain:
    from .data import generate
    from .operations import OPERATIONS

    if mode != "sentinel":
        raise ConfigError(f"retail: mode {mode!r} is for tau2-bench's data; give its folder as data=, or in {DATA_VARIABLE}")
    known = list(inspect.signature(generate).parameters)
    if unknown := [name for name in options if name not in known]:
        raise ConfigError(f"retail has no option {unknown[0]!r}; its options: data, mode, compact, {', '.join(known)}")
    folder = resources.files(__name__)
    return Domain(
        name="retail",
        policy=(folder / "policy.md").read_text(encoding="utf-8"),
        tools=TOOLS,
        database=lambda: _generate(tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items())),
        tasks=(lambda: load_tasks((folder / "tasks.jsonl").read_text(encoding="utf-8").split("\n"))) if not options else tuple,
        operations=OPERATIONS,
        phrases=PHRASES,
        access=ACCESS,
        features=features,
        contexts=contexts,
        forbids=forbids,
        meanings=meanings,
        render=render_compact if compact else to_text,
        origin=("retail", {"compact": compact, **options}),
    )


@lru_cache(maxsize=4)
def _generate(options: tuple[tuple[str, Any], ...]) -> RetailDB:
    """The domains made with the same options share one frozen database."""
    from .data import generate

    return generate(**dict(options))
