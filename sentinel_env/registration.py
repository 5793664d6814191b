"""Every installed domain as a Gymnasium id, without importing the domain.

`sentinel/Retail-v0` is the domain that is installed under the name `retail`; `sentinel/Tool-v0` takes any as `domain=`. A plug-in
that is broken is found when its environment is made, not when `sentinel_env` is imported.
"""

from __future__ import annotations

import re

import gymnasium

from .domain import list_domains

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_.][A-Za-z0-9]+)*")


def env_id(domain: str) -> str:
    """The Gymnasium id of an installed domain.

    >>> env_id("retail"), env_id("my-lending_library")
    ('sentinel/Retail-v0', 'sentinel/MyLendingLibrary-v0')
    """
    return f"sentinel/{''.join(part[:1].upper() + part[1:] for part in re.split('[-_.]', domain))}-v0"


def register_domains() -> None:
    """Register all installed domains and the generic id; ids that are taken stay as they are.

    A domain whose name makes no id is left out; `sentinel/Tool-v0` plays it all the same.
    """
    _register("sentinel/Tool-v0", {})
    for name in list_domains():
        if _NAME.fullmatch(name):
            _register(env_id(name), {"domain": name})


def _register(name: str, kwargs: dict[str, str]) -> None:
    if name not in gymnasium.registry:
        gymnasium.register(
            id=name,
            entry_point="sentinel_env.env:ToolEnv",
            vector_entry_point="sentinel_env.env:ToolVectorEnv",
            kwargs=kwargs,
        )
