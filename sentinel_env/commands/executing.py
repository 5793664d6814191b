"""`--executor`: where a verb's work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sentinel_env.errors import ConfigError

if TYPE_CHECKING:
    from sentinel_env.ray_cluster import Ray

Executor = Annotated[
    Literal["local", "ray"],
    typer.Option("--executor", help="Where the work is done: in this process, or by the workers of a Ray cluster (extra: ray)."),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", metavar="HOST:PORT", help="The Ray cluster's head; $RAY_ADDRESS, or a cluster of this machine alone."),
]


def choose_cluster(executor: Literal["local", "ray"], address: str | None) -> Ray | None:
    """The cluster that the options describe; None for this process.

    Raises:
        ConfigError: An address without `--executor ray`, or Ray is not installed.
    """
    if executor == "local":
        if address is not None:
            raise ConfigError("--ray-address goes with --executor ray")
        return None
    from sentinel_env.ray_cluster import Ray

    cluster = Ray(address)
    cluster.check()
    return cluster
