"""Access: who a domain's records belong to and which calls say who the caller is, for domains whose policy cares.

Nothing is enforced by it: the policy is the agent's to follow. The analysis of failures reads from it who looked at whose records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .messages import ToolCall


@dataclass(frozen=True)
class Access:
    """What a domain says about authentication."""

    identified_by: tuple[str, ...]
    """Tools whose accepted answer is the caller's id."""
    owner: Callable[[Any, ToolCall], str | None]
    """(database, call) -> whose record the call reads or changes, by the same id; None where it is nobody's, such as a product."""
