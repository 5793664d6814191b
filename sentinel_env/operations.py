"""Operations: what a domain says can be asked of its agent, for the Proposer to compose into new tasks.

A domain author describes each request once, by executing nothing: which write fulfils it, how a user words it, and which plausible
mistakes it invites. The Proposer composes, executes, mutates and verifies; nothing here is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from .database import Database
from .messages import ToolCall
from .tasks import Fact, Wish


@dataclass(frozen=True)
class Request:
    """One thing that a user asks for, with the mistakes that it invites."""

    wish: Wish
    """The request and the write that fulfils it, with the provenance of each argument."""
    reads: tuple[ToolCall, ...] = ()
    """What an agent has to look up first, in order."""
    alternatives: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Argument -> plausible wrong values for it, the most tempting first."""
    decoys: tuple[ToolCall, ...] = ()
    """The same request carried out on a wrong record, the most tempting first."""
    detours: tuple[ToolCall, ...] = ()
    """Wrong tools on the right record."""
    communicate: tuple[str, ...] = ()
    """What the agent must say, such as an amount that the user asks for."""
    features: Mapping[str, Any] = field(default_factory=dict)
    """Structural facts about it, such as {"near_duplicate_variants": 3}: what a failure pattern's opportunities are counted from."""
    transfer: ToolCall | None = None
    """The call that hands over to a person, where nothing else is the right answer; the wish has no call then."""
    touches: frozenset[str] = frozenset()
    """The records that it changes or depends on; requests of one task may not share one."""


@dataclass(frozen=True)
class Operation:
    """One kind of request: at most one way to ask for it per call."""

    name: str
    tool: str
    """The tool whose write fulfils it; for a refusal, the tool that must not be called."""
    request: Callable[[Database, str, Random], Request | None]
    """(database, subject, random) -> a request that this subject could make now, or None."""
    refusal: bool = False
    """Whether the right answer is no: the wish has no call, and `detours` hold what must not be done."""
    question: bool = False
    """Whether the right answer is information: the wish has no call, and `communicate` holds what must be said."""
    conditional: bool = False
    """Whether the request has a condition, such as "if that is not available, then ..."."""
    alone: bool = False
    """Whether nobody who asks this asks anything else of the same record, such as of an order that is to be cancelled."""
    augment: Callable[[Database, str, Random, str], bool] | None = None
    """(fork of the database, subject, random, need) -> whether it could be helped, by writing to the fork: `need` is "request" where the
    subject has nothing to ask this about, "other_records" or "siblings" where there is nothing to mistake it for, or a context's name. What
    it writes becomes the task's `changes`."""


@dataclass(frozen=True)
class Operations:
    """All that can be asked in a domain, and by whom."""

    kinds: tuple[Operation, ...]
    subjects: Callable[[Database], Sequence[str]]
    """Whoever can ask, such as the ids of users, in a fixed order."""
    entities: Callable[[Database, str], frozenset[str]]
    """All records that belong to a subject, itself included: tasks of different splits share none."""
    introduce: Callable[[Database, str, Random], tuple[tuple[Fact, ...], tuple[ToolCall, ...], str]]
    """(database, subject, random) -> who the subject is: the facts it tells, the calls that identify it, and what it does not know."""
