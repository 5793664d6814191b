"""Tasks: what the simulated user wants, and what makes an episode a success.

Only the user sees the scenario; only the evaluation sees the criteria; the agent sees neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .certificates import Certificate
from .errors import TaskError
from .messages import ToolCall
from .records import first_error

Basis = Literal["database", "communicate", "actions", "transfer", "tau2"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fact(_Data):
    """One thing that the user knows and says when asked for it."""

    slot: str
    """What kind of thing: "email", "name", "zip", "order", "item", "new_item", "payment", "reason", "address", or a domain's own."""
    text: str
    """How the user says it."""
    value: Any = None
    """The value that a tool argument takes, where the fact is one."""


class Wish(_Data):
    """One thing that the user wants done, as structured facts: what a scripted user checks an agent's proposal against."""

    text: str
    """The request in the user's words."""
    call: ToolCall | None = None
    """The write that fulfils it; None where the right answer is information, or no."""
    facts: tuple[Fact, ...] = ()
    provenance: dict[str, str] = {}
    """Where each argument of the call comes from: `fact:SLOT`, `read:TOOL.PATH`, `policy:TEXT` or `derived:TEXT`."""
    slip: str | None = None
    """What the user says at first instead of `text`, with a mistake in it that it corrects when asked to confirm."""
    answers: tuple[str, ...] = ()
    """What has to be told, where the right answer is information; the criteria's `communicate` has it too."""
    transfer: bool = False
    """Whether the right answer is to hand over to a person."""
    labels: dict[str, str] = {}
    """Spoken names of identifiers in the call, such as an item id's "the black lamp"."""


class Scenario(_Data):
    """What the simulated user wants and knows."""

    goal: str
    """The request in prose; an LLM user reads it, a scripted user opens with it when there are no wishes."""
    known: dict[str, str] = {}
    """What the user knows and tells when asked, by name: {"card number": "M7"}."""
    unknown: str | None = None
    """What the user does not know or remember, in prose."""
    instructions: str | None = None
    """How to behave, in prose."""
    persona: str | None = None
    opening: str | None = None
    """What a scripted user says before its first words, and after its first message: nothing that matters to the task."""
    closing: str | None = None
    facts: tuple[Fact, ...] = ()
    """Structured facts that hold for the whole conversation, such as who the user is."""
    wishes: tuple[Wish, ...] = ()
    """The goal as structured wishes, in the order in which the user raises them."""
    reveal: Literal["together", "one by one"] = "one by one"
    """Whether the user opens with all wishes or raises each after the one before is settled."""


class Tau2Criteria(_Data):
    """What tau2-bench's evaluation needs beyond the reference actions."""

    reward_basis: tuple[str, ...] = ("DB", "COMMUNICATE")
    nl_assertions: tuple[str, ...] = ()
    """Statements for a judge model; never scored without one, and the evaluation says so."""
    compare_arguments: dict[int, tuple[str, ...]] = {}
    """Action index -> the arguments to compare; all of the call's own where an action is not listed."""


class Criteria(_Data):
    """What makes an episode of the task a success."""

    actions: tuple[ToolCall, ...] = ()
    """A reference solution, used for the state that it leads to."""
    communicate: tuple[str, ...] = ()
    """What the agent must tell the user: numbers, amounts, words."""
    basis: tuple[Basis, ...] = ("database", "communicate")
    """The checks whose product is the reward. `transfer`: the agent hands over to a person if, and only if, the reference does."""
    nothing_passes: str | None = None
    """Why an agent that does nothing passes, where that is intended; otherwise `check_domain` refuses such a task."""
    tau2: Tau2Criteria | None = None


class Task(_Data):
    """One problem with its criteria."""

    id: str = Field(min_length=1)
    domain: str
    scenario: Scenario
    criteria: Criteria = Criteria()
    changes: dict[str, dict[str, Any]] = {}
    """Changes to the database before the start, in the form of `Database.changes()`."""
    split: str = "train"
    source: str = "author"
    """Where it comes from: "author", "tau2", or the proposer with its pattern."""
    certificate: Certificate | None = None
    """Of a generated task: what it was made for and what was checked of it."""


def save_tasks(path: str | Path, tasks: Iterable[Task]) -> None:
    """Write tasks as JSON lines; fields that hold their default are left out."""
    text = "".join(task.model_dump_json(exclude_defaults=True) + "\n" for task in tasks)
    Path(path).write_text(text, encoding="utf-8")


def load_tasks(source: str | Path | Iterable[str | Mapping[str, Any]]) -> tuple[Task, ...]:
    """Read tasks from a `.jsonl` file, or from its lines.

    Raises:
        TaskError: A line is not JSON or no task (named with its number and field), or an id occurs twice.
    """
    name = "tasks"
    if isinstance(source, str | Path):
        name = str(source)
        try:
            source = Path(source).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"cannot read tasks from {name}: {error}") from None
    tasks: dict[str, Task] = {}
    for number, line in enumerate(source, 1):
        if isinstance(line, str) and not line.strip():
            continue
        try:
            task = Task.model_validate_json(line) if isinstance(line, str) else Task.model_validate(line)
        except ValidationError as error:
            raise TaskError(f"{name}, line {number}: {first_error(error)}") from None
        if task.id in tasks:
            raise TaskError(f"{name}, line {number}: task id {task.id!r} occurs twice")
        tasks[task.id] = task
    return tuple(tasks.values())
