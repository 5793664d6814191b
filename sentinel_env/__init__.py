"""SENTINEL: an environment, failure analysis and task synthesis for tool-using language-model agents."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .certificates import Certificate, Foil, Gate
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
    TrainingError,
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
    from .adapters.endpoint import EpisodeResult, arun_episode, run_episode
    from .agents import HumanAgent, ScriptedAgent
    from .checks import check_domain
    from .env import ToolEnv
    from .evaluation import Check, Evaluation, evaluate
    from .failures import FailurePattern, find_failures, general_pattern
    from .generation import propose_tasks
    from .llm import Model
    from .llm_agent import LLMAgent
    from .llm_user import LLMUser
    from .metrics import Estimate, paired_difference, pass_hat_k
    from .proposals import TaskProposal, Verdict
    from .run_limits import Limits, StoppedError
    from .runner import run_tasks
    from .trajectory import Trajectory, read_trajectories, record, replay, save_trajectories
    from .users import HumanUser, ScriptedUser
    from .verification import verify_all, verify_proposal

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentView",
    "Certificate",
    "Check",
    "ConfigError",
    "Criteria",
    "Database",
    "DatabaseError",
    "Domain",
    "DomainError",
    "Episode",
    "EpisodeError",
    "EpisodeResult",
    "Estimate",
    "Evaluation",
    "Fact",
    "FailurePattern",
    "Foil",
    "FrozenError",
    "Gate",
    "HumanAgent",
    "HumanUser",
    "LLMAgent",
    "LLMUser",
    "Limits",
    "Message",
    "Model",
    "ModelError",
    "Operation",
    "Operations",
    "Record",
    "Request",
    "Scenario",
    "ScriptedAgent",
    "ScriptedUser",
    "SentinelError",
    "StoppedError",
    "Table",
    "Task",
    "TaskError",
    "TaskProposal",
    "Tool",
    "ToolCall",
    "ToolEnv",
    "ToolError",
    "TrainingError",
    "Trajectory",
    "TrajectoryError",
    "UnknownDomainError",
    "User",
    "UserView",
    "Verdict",
    "Wish",
    "adrive",
    "arun_episode",
    "check_domain",
    "drive",
    "evaluate",
    "find_failures",
    "general_pattern",
    "indexed",
    "list_domains",
    "load_domain",
    "load_tasks",
    "paired_difference",
    "parse_action",
    "pass_hat_k",
    "propose_tasks",
    "read_trajectories",
    "record",
    "replay",
    "run_episode",
    "run_tasks",
    "save_tasks",
    "save_trajectories",
    "tool",
    "verify_all",
    "verify_proposal",
]

# imported at their first use, so that `import sentinel_env` stays quick
_LATER = {
    "EpisodeResult": "adapters.endpoint",
    "arun_episode": "adapters.endpoint",
    "run_episode": "adapters.endpoint",
    "HumanAgent": "agents",
    "ScriptedAgent": "agents",
    "check_domain": "checks",
    "ToolEnv": "env",
    "Check": "evaluation",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "FailurePattern": "failures",
    "find_failures": "failures",
    "general_pattern": "failures",
    "propose_tasks": "generation",
    "Model": "llm",
    "LLMAgent": "llm_agent",
    "LLMUser": "llm_user",
    "Estimate": "metrics",
    "paired_difference": "metrics",
    "pass_hat_k": "metrics",
    "TaskProposal": "proposals",
    "Verdict": "proposals",
    "Limits": "run_limits",
    "StoppedError": "run_limits",
    "run_tasks": "runner",
    "Trajectory": "trajectory",
    "read_trajectories": "trajectory",
    "record": "trajectory",
    "replay": "trajectory",
    "save_trajectories": "trajectory",
    "HumanUser": "users",
    "ScriptedUser": "users",
    "verify_all": "verification",
    "verify_proposal": "verification",
}


def __getattr__(name: str) -> Any:
    """The names that are imported at their first use."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
    return value


register_domains()
