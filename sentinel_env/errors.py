"""Every error this project raises on purpose; `StoppedError`, which brings results along, is in `run_limits`.

A message says what was found, what was expected and what to do. Three kinds of trouble are kept apart: the agent's mistakes
(`ToolError`, shown to the agent and never raised out of an episode), our or a domain author's bugs (`DomainError`, which always
propagate) and infrastructure (`ModelError`, which ends one trajectory without a reward).
"""

from typing import Literal

ModelTrouble = Literal["rate", "timeout", "server", "refused", "context", "malformed", "budget"]


class SentinelError(Exception):
    """The root of all of them; the command line prints it as one line."""


class ToolError(SentinelError):
    """The agent's mistake: a refused call. Raised by tools, shown to the agent as an observation."""


class DomainError(SentinelError, RuntimeError):
    """A tool or a domain crashed: a bug in the domain, never the agent's fault."""


class DatabaseError(SentinelError, ValueError):
    """Data that does not fit the tables: an unknown table or field, a record that fails validation, a key that is taken or missing."""


class FrozenError(SentinelError, TypeError):
    """Something that was read is being changed in place; use `table.update(key, field=value)`."""


class UnknownDomainError(SentinelError, LookupError):
    """No domain of that name, `module:attribute` or path."""


class TaskError(SentinelError, ValueError):
    """A task that cannot work: a reference that a tool refuses, changes that do not fit the database, a duplicate id."""


class EpisodeError(SentinelError, RuntimeError):
    """A driver's mistake: acting out of turn, or on an episode that has ended."""


class TrajectoryError(SentinelError, ValueError):
    """A recorded trajectory that cannot be read or does not replay."""


class ModelError(SentinelError, RuntimeError):
    """A model could not answer (an outage, a timeout, a limit): infrastructure, never a reward of 0."""

    def __init__(self, message: str, *, kind: ModelTrouble = "server", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind: ModelTrouble = kind
        """`rate`: asked to slow down. `timeout`: no answer in time. `server`: unreachable or broken. `refused`: no key, no such model, a
        filter; asking again does not help. `context`: too long for the model. `malformed`: an answer that cannot be read, cut or empty.
        `budget`: the caller's own limit."""
        self.retry_after = retry_after
        """Seconds that the provider asked to wait, where it said so."""


class ConfigError(SentinelError, ValueError):
    """A setting that is unknown, impossible or missing."""


class TrainingError(SentinelError, RuntimeError):
    """Training that cannot go on: no memory left, or a loss that is no number. What was reached before is kept."""
