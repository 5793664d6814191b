"""What the Proposer hands to verification: a draft task with the mistakes that it must punish, and the verdict on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .certificates import Foil, Gate
from .errors import TaskError
from .records import first_error
from .tasks import Task, load_tasks


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskProposal(_Data):
    """A draft that stresses a failure pattern; untrusted until its gates have passed."""

    pattern_id: str
    draft: Task
    foils: tuple[Foil, ...] = ()
    """The pattern's own mistake first, where the reward can punish it; then what else the request tempts to; then mutants of the plan."""
    rationale: str = ""
    label: str = "general"
    """The pattern's label, tools, arguments and context: what the draft must give an opportunity for."""
    tools: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    feature: str | None = None
    unpunished: str = ""
    """Why the pattern's own mistake is not among the foils, such as conduct that no state of the database shows."""
    features: dict[str, Any] = {}
    """Structural facts about the request that carries the opportunity."""
    seed: int | None = None
    model: str | None = None
    """The language model that wrote or reworded it; None for the program."""


class Verdict(_Data):
    """What the gates said; `task` is set, with its certificate, when all of them passed."""

    proposal: TaskProposal
    task: Task | None = None
    gates: tuple[Gate, ...] = ()
    deferred: bool = False
    """Whether only the pilot speaks against it, because the model never passed: such a task is kept for later, not thrown away."""

    @property
    def rejected_by(self) -> Gate | None:
        """The gate that refused it, or None; to be deferred is not to be refused."""
        return None if self.deferred else next((gate for gate in self.gates if not gate.passed), None)


def save_proposals(path: str | Path, proposals: Iterable[TaskProposal]) -> None:
    """Write proposals as JSON lines."""
    Path(path).write_text("".join(proposal.model_dump_json(exclude_defaults=True) + "\n" for proposal in proposals), encoding="utf-8")


def load_proposals(path: str | Path) -> tuple[TaskProposal, ...]:
    """Read proposals from JSON lines.

    Raises:
        TaskError: No such file, or a line that is no proposal (named with its number and field).
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read proposals from {path}: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(TaskProposal.model_validate_json(line))
            except ValidationError as error:
                raise TaskError(f"{path}, line {number}: {first_error(error)}") from None
    return tuple(found)


def load_proposals_or_tasks(path: str | Path) -> tuple[TaskProposal, ...] | tuple[Task, ...]:
    """Read a file that holds either, which its lines tell: a task has a scenario, a proposal has a draft.

    Raises:
        TaskError: It cannot be read, or holds both (named with the first line that is of another kind than those before it).
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read proposals from {path}: {error}") from None
    kinds = [(number, kind) for number, line in enumerate(lines, 1) if (kind := _kind(line)) is not None]
    for number, kind in kinds:
        if kind != kinds[0][1]:
            raise TaskError(f"{path}, line {number}: a {kind} among {kinds[0][1]}s; keep them in files of their own")
    return load_tasks(path) if kinds and kinds[0][1] == "task" else load_proposals(path)


def _kind(line: str) -> str | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return "proposal" if "draft" in value else "task" if "scenario" in value else None
