"""Failure patterns: failures with one cause, and their JSON, the *failure spec* that the Proposer takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError
from sentinel_env.records import first_error

from .findings import Evidence, Label, Side


class FailurePattern(BaseModel):
    """Failures with one cause; its JSON is the failure spec that the Proposer takes, and a person may write it by hand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    domain: str
    label: Literal[Label, "general"]
    """`general` is no failure: the Proposer then samples whatever the domain offers."""
    tools: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    summary: str = ""
    evidence: tuple[Evidence, ...] = ()
    errors: int = 0
    """Failed trajectories that show it."""
    opportunities: int = 0
    """Trajectories in which it could have happened: whose reference calls the tool, or needs something said."""
    share: float = 0.0
    """Of all failed trajectories."""
    contrast: float = 0.0
    """Its share of the failed trajectories minus its share of the passed ones."""
    fault: Side = "undetermined"
    """Whose fault: the agent's where the user is scripted, otherwise not determined."""
    state: Literal["emerging", "persistent", "shrinking", "resolved", "forgotten"] = "emerging"


GENERAL = "general"


def general_pattern(domain: Domain) -> FailurePattern:
    """The pattern of no failure: tasks of every kind that the domain offers."""
    return FailurePattern(id=GENERAL, domain=domain.name, label="general", summary="tasks of every kind")


def save_patterns(path: str | Path, patterns: Iterable[FailurePattern]) -> None:
    """Write patterns as JSON lines."""
    Path(path).write_text("".join(pattern.model_dump_json() + "\n" for pattern in patterns), encoding="utf-8")


def load_patterns(path: str | Path, domain: Domain | None = None) -> tuple[FailurePattern, ...]:
    """Read failure specs from JSON lines.

    Raises:
        ConfigError: No such file, a line that is no failure spec (named with its number and field), or, with a domain given, a spec
            of another domain or about a tool or argument that it does not have.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read failure patterns from {path}: {error}") from None
    patterns = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            pattern = FailurePattern.model_validate_json(line)
        except ValidationError as error:
            raise ConfigError(f"{path}, line {number}: {first_error(error)}") from None
        if domain is not None:
            check_pattern(domain, pattern)
        patterns.append(pattern)
    return tuple(patterns)


def check_pattern(domain: Domain, pattern: FailurePattern) -> None:
    """Refuse a failure spec that is not about this domain.

    Raises:
        ConfigError: It names another domain, or a tool or argument that the domain does not have.
    """
    if pattern.domain != domain.name:
        raise ConfigError(f"failure pattern {pattern.id!r} is about domain {pattern.domain!r}, not {domain.name!r}")
    for name in pattern.tools:
        if name not in domain.tools_by_name:
            raise ConfigError(
                f"failure pattern {pattern.id!r}: {domain.name} has no tool {name!r}; its tools: {', '.join(domain.tools_by_name)}"
            )
    tools = [domain.tools_by_name[name] for name in pattern.tools or domain.tools_by_name]
    known = {argument for tool in tools for argument in tool.schema["function"]["parameters"]["properties"]}
    for argument in pattern.arguments:
        if argument not in known:
            raise ConfigError(f"failure pattern {pattern.id!r}: no tool of it takes {argument!r}; known: {', '.join(sorted(known))}")
