"""SENTINEL: an environment, failure analysis and task synthesis for tool-using language-model agents."""

from typing import TYPE_CHECKING, Any

from .database import Database
from .domain import Domain, list_domains, load_domain
from .episode import Agent, AgentView, Episode, User, UserView, adrive, drive
from .errors import (
    ConfigError,
    DatabaseError,
    DomainError,
    EpisodeError,
    FrozenError,
    ModelError,
    SentinelError,
    TaskError,
    ToolError,
    TrajectoryError,
    UnknownDomainError,
)
from .messages import Message, ToolCall, parse_action
from .operations import Operation, Operations, Request
from .records import Record
from .registration import register_domains
from .tables import Table, indexed
from .tasks import Criteria, Fact, Scenario, Task, Wish, load_tasks, save_tasks
from .tools import Tool, tool

if TYPE_CHECKING:
    from .env import ToolEnv

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentView",
    "ConfigError",
    "Criteria",
    "Database",
    "DatabaseError",
    "Domain",
    "DomainError",
    "Episode",
    "EpisodeError",
    "Fact",
    "FrozenError",
    "Message",
    "ModelError",
    "Operation",
    "Operations",
    "Record",
    "Request",
    "Scenario",
    "SentinelError",
    "Table",
    "Task",
    "TaskError",
    "Tool",
    "ToolCall",
    "ToolEnv",
    "ToolError",
    "TrajectoryError",
    "UnknownDomainError",
    "User",
    "UserView",
    "Wish",
    "adrive",
    "drive",
    "indexed",
    "list_domains",
    "load_domain",
    "load_tasks",
    "parse_action",
    "save_tasks",
    "tool",
]


def __getattr__(name: str) -> Any:
    """`ToolEnv`, imported at its first use."""
    if name == "ToolEnv":
        from .env import ToolEnv

        return ToolEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_domains()
