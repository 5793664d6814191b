"""Failure patterns: failures with one cause, and their JSON, the *failure spec* that the Proposer takes.

A person writes one by hand with three fields; everything else is what mining measured:

    {"id": "wrong-card", "domain": "retail", "label": "wrong_argument", "arguments": ["payment_method_id"]}
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError
from sentinel_env.knobs import Knobs
from sentinel_env.records import first_error

from .findings import CAUSES, Evidence, Label, Side

State = Literal["emerging", "persistent", "shrinking", "resolved", "forgotten"]
Interval = tuple[float, float]
"""The ends of a 95 % interval, from resampling or linearising by task."""


class FailurePattern(BaseModel):
    """Failures with one cause: a label, and where it says more, the tool, the arguments and the context that it goes with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    domain: str
    label: Literal[Label, "general"]
    """What goes wrong. `general` is no failure: the Proposer then samples whatever the domain offers."""
    tools: tuple[str, ...] = ()
    """The tools that it is about; any for none."""
    arguments: tuple[str, ...] = ()
    """The arguments that come out wrong."""
    feature: str | None = None
    """The context that it goes with, such as "last_write" or a name of the domain's own; None where it goes with all alike."""
    knobs: Knobs = Knobs()
    """How the tasks that stress it should be made."""
    summary: str = ""
    evidence: tuple[Evidence, ...] = ()
    """Where it shows: a sample of at most 20."""
    kinds: dict[str, int] = {}
    """How it shows, most often first: sublabels, and the domain's own names for kinds of mistakes."""
    errors: int = 0
    """Opportunities at which it happened."""
    opportunities: int = 0
    """Places in the tasks' references where it could have happened, such as writes with the tool; of conduct, runs that call the tool."""
    rate: float = 0.0
    """Errors per opportunity."""
    rate_interval: Interval | None = None
    tasks: int = 0
    """Distinct tasks in which it happened."""
    failures: int = 0
    """Failed trajectories that show it."""
    share: float = 0.0
    """Of the failed trajectories that were mined."""
    share_interval: Interval | None = None
    contrast: float = 0.0
    """Its share of the failed trajectories minus its share of the passed ones; without a passed one, its share of the failed."""
    contrast_interval: Interval | None = None
    """None where no trajectory passed, or none failed."""
    fault: Side = "undetermined"
    """Whose fault the failures are that it was mined from."""
    elsewhere: dict[Side, int] = {}
    """Failed trajectories that show the same and are another side's fault; they are not in any other count."""
    p_value: float | None = None
    """Of the test against twice the rate of everything else, corrected for how many patterns were looked at; None where not tested."""
    selected: bool = False
    """Whether it recurs: more often than errors of all kinds alike would give, in several tasks, and more in failed than in passed runs."""
    state: State = "emerging"
    """Where it stands over the rounds of the Controller's memory."""

    @property
    def is_cause(self) -> bool:
        """Whether it explains why runs failed; conduct is wrong whether or not the run passes."""
        return self.label in CAUSES


GENERAL = "general"


def general_pattern(domain: Domain, knobs: Knobs | None = None) -> FailurePattern:
    """The pattern of no failure: tasks of every kind that the domain offers."""
    return FailurePattern(id=GENERAL, domain=domain.name, label="general", summary="tasks of every kind", knobs=knobs or Knobs())


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
        lines = Path(path).read_text(encoding="utf-8").split("\n")
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
            close = difflib.get_close_matches(name, domain.tools_by_name, n=1)
            hint = f"did you mean {close[0]!r}? Its" if close else "its"
            raise ConfigError(
                f"failure pattern {pattern.id!r}: {domain.name} has no tool {name!r}; {hint} tools: {', '.join(domain.tools_by_name)}"
            )
    operations = [kind.name for kind in domain.operations.kinds] if domain.operations else []
    if pattern.knobs.operation is not None and pattern.knobs.operation not in operations:
        wanted, known_names = pattern.knobs.operation, ", ".join(operations) or "none"
        raise ConfigError(f"failure pattern {pattern.id!r}: {domain.name} has no operation {wanted!r}; its operations: {known_names}")
    tools = [domain.tools_by_name[name] for name in pattern.tools or domain.tools_by_name]
    known = {argument for tool in tools for argument in tool.schema["function"]["parameters"]["properties"]}
    for argument in pattern.arguments:
        if argument not in known:
            raise ConfigError(f"failure pattern {pattern.id!r}: no tool of it takes {argument!r}; known: {', '.join(sorted(known))}")
