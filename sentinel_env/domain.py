"""A domain: a world with its policy, tools, database and tasks, and the one place where a call becomes what the agent sees."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from .access import Access
from .database import Changes, Database
from .errors import DomainError, SentinelError, TaskError, ToolError, UnknownDomainError
from .messages import Message, ToolCall
from .operations import Operations
from .tasks import Fact, Scenario, Task, Wish
from .tools import Tool, to_text

GROUP = "sentinel_env.domains"
_CACHED_REFERENCES = 10_000
_TRANSFER = re.compile(r"transfer|escalat|hand_?over|human")


@dataclass(frozen=True, eq=False)
class Domain:
    """A world that an agent works in.

    `database` and `tasks` are called once, at first use; every episode forks the database that the first call made.
    """

    name: str
    policy: str
    """The rules that the agent must follow, in Markdown. The agent sees them."""
    tools: tuple[Tool, ...]
    database: Callable[[], Database]
    tasks: Callable[[], Sequence[Task]] = tuple
    operations: Operations | None = None
    """What can be asked of the agent, for the Proposer; without it, new tasks are made by rebinding existing ones."""
    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Slot -> regular expressions by which an agent's text asks for it, beyond those that every domain shares; see `ScriptedUser`."""
    greeting: str | None = "Hi! How can I help you today?"
    """The agent's fixed first message."""
    dialect: Literal["sentinel", "tau2"] = "sentinel"
    """`tau2`: calls are run as tau2-bench runs them: no validation, and every exception is text for the agent."""
    render: Callable[[Any], str] = to_text
    """How a tool's result becomes text."""
    access: Access | None = None
    """Who the records belong to, for the analysis of failures; without it nobody's access is checked."""
    features: Callable[[Any, ToolCall, ToolCall], tuple[str, ...]] | None = None
    """(database, call made, call wanted) -> the domain's own names for the kind of mistake, such as "near_duplicate"."""
    contexts: Callable[[Any, ToolCall], tuple[str, ...]] | None = None
    """(database, reference write) -> the domain's own names for what makes it easy to get wrong, such as "several_payment_methods"."""
    forbids: Callable[[Any, ToolCall], str | None] | None = None
    """(database, write about to be made) -> why the policy forbids it, whether or not a tool would refuse it; None where it is allowed."""
    meanings: Callable[[Any, Scenario, Wish | None, Fact], Sequence[Any] | None] | None = None
    """(database, scenario, wish, fact) -> every value that the fact's *words* could mean, read without looking at its value; None where
    they cannot be read. The wish is None for a fact about who the user is. A task whose words mean something else as well is refused."""
    warnings: tuple[str, ...] = ()
    """What the loader found broken in the data and kept all the same, such as a reference that a tool refuses."""
    origin: tuple[str, Mapping[str, Any]] | None = None
    """The arguments of `load_domain` that make this domain again in another process."""

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        if twice := {name for name in names if names.count(name) > 1}:
            raise DomainError(f"domain {self.name}: tool {sorted(twice)[0]!r} occurs twice")
        for tool in self.tools:
            _ = tool.schema  # a bad signature is found here, not in the middle of a run

    @cached_property
    def tools_by_name(self) -> dict[str, Tool]:
        """The tools by name."""
        return {tool.name: tool for tool in self.tools}

    def is_transfer(self, name: str) -> bool:
        """Whether a tool hands the conversation over to a person: known by its name, and it writes nothing."""
        tool = self.tools_by_name.get(name)
        return tool is not None and not tool.writes and _TRANSFER.search(name) is not None

    @cached_property
    def handover(self) -> ToolCall | None:
        """A call that hands over to a person, its texts made up; None where no tool does, or where it takes more than texts."""
        for tool in self.tools:
            if self.is_transfer(tool.name):
                parameters = tool.schema["function"]["parameters"]
                required = parameters.get("required", ())
                if all(parameters["properties"][name].get("type") == "string" for name in required):
                    return ToolCall(name=tool.name, arguments=dict.fromkeys(required, "The customer asks for a person."))
        return None

    @cached_property
    def schemas(self) -> list[dict[str, Any]]:
        """The tools in OpenAI's function format."""
        return [tool.schema for tool in self.tools]

    @cached_property
    def base(self) -> Database:
        """The database that every episode forks."""
        return self.database()

    @cached_property
    def tasks_by_id(self) -> dict[str, Task]:
        """The tasks by id.

        Raises:
            TaskError: An id occurs twice, or a task names another domain.
        """
        found: dict[str, Task] = {}
        for task in self.tasks():
            if task.id in found:
                raise TaskError(f"domain {self.name}: task id {task.id!r} occurs twice")
            if task.domain != self.name:
                raise TaskError(f"task {task.id!r} is for domain {task.domain!r}, found in {self.name!r}")
            found[task.id] = task
        return found

    def split(self, name: str | None = None) -> tuple[Task, ...]:
        """The tasks of one split, in order; all of them for None.

        Raises:
            TaskError: No task is in that split.
        """
        tasks = tuple(task for task in self.tasks_by_id.values() if name is None or task.split == name)
        if not tasks and name is not None:
            known = sorted({task.split for task in self.tasks_by_id.values()})
            raise TaskError(f"domain {self.name} has no split {name!r}; its splits: {', '.join(known) or 'none'}")
        return tasks

    def with_tasks(self, tasks: Iterable[Task]) -> Domain:
        """The same world, sharing its database, with other tasks."""
        base, kept = self.base, tuple(tasks)
        return replace(self, database=lambda: base, tasks=lambda: kept)

    def start(self, task: Task) -> Database:
        """A fork of the database as the task finds it; its `changes()` start empty.

        Raises:
            TaskError: The task's changes do not fit the database.
        """
        if not task.changes:
            return self.base.fork()
        db = self.base.fork()
        try:
            db.apply(task.changes)
        except SentinelError as error:
            raise TaskError(f"task {task.id!r}, changes: {error}") from None
        return db.fork()

    def execute(self, db: Database, call: ToolCall) -> Message:
        """Run one call and return the tool message that the agent sees; a refused call leaves the database as it was.

        Raises:
            DomainError: The tool crashed: a bug of the domain, never the agent's mistake.
        """
        if self.dialect == "tau2":
            return _execute_as_tau2(self, db, call)
        tool = self.tools_by_name.get(call.name)
        if tool is None:
            close = difflib.get_close_matches(call.name[:100], self.tools_by_name, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the tools are {', '.join(self.tools_by_name)}"
            return _refused(call, f"there is no tool {call.name[:100]!r}; {hint}")
        try:
            return Message(role="tool", content=self._run(tool, db, call), tool_call_id=call.id, name=call.name)
        except ToolError as error:
            return _refused(call, str(error))
        except Exception as error:
            message = f"domain {self.name}: tool {call.name} crashed on {str(call.arguments)[:300]}: {type(error).__name__}: {error}"
            raise DomainError(message) from error

    def _run(self, tool: Tool, db: Database, call: ToolCall) -> str:
        if tool.writes:
            with db.atomic():
                return self.render(tool.run(db, call.arguments))
        db._reading.append(tool.name)
        try:
            return self.render(tool.run(db, call.arguments))
        finally:
            db._reading.pop()

    @cached_property
    def _references(self) -> dict[str, tuple[Task, Changes]]:
        return {}

    def reference_changes(self, task: Task) -> Changes:
        """The changes that the task's reference actions make; executed once per task and process.

        Raises:
            TaskError: A tool refuses a reference action. Under the tau2 dialect it is skipped, as tau2-bench does.
        """
        cached = self._references.get(task.id)
        if cached is not None and (cached[0] is task or cached[0] == task):
            return cached[1]
        db = self.start(task)
        for at, call in enumerate(task.criteria.actions):
            answer = self.execute(db, call)
            if answer.is_error and self.dialect != "tau2":
                raise TaskError(f"task {task.id!r}, reference action {at} ({call.name}): {answer.content.removeprefix('Error: ')}")
        changes = db.changes()
        self.remember_reference(task, changes)
        return changes

    def remember_reference(self, task: Task, changes: Changes) -> None:
        """Take over the changes of a reference that was executed already, so that grading need not."""
        if len(self._references) >= _CACHED_REFERENCES:
            self._references.clear()
        self._references[task.id] = (task, changes)


def _refused(call: ToolCall, text: str) -> Message:
    return Message(role="tool", content=f"Error: {text}", tool_call_id=call.id, name=call.name, is_error=True)


def _execute_as_tau2(domain: Domain, db: Database, call: ToolCall) -> Message:
    """Run a call as tau2-bench does: arguments unchecked, every exception shown as text."""
    tool = domain.tools_by_name.get(call.name)
    if tool is None:
        return _refused(call, f"Tool '{call.name}' not found.")
    try:
        with db.atomic():
            content = domain.render(tool.function(db, **call.arguments))
    except Exception as error:
        return _refused(call, str(error))
    return Message(role="tool", content=content, tool_call_id=call.id, name=call.name)


def list_domains() -> dict[str, EntryPoint]:
    """The installed domains by name, none of them imported yet."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def load_domain(name: str | Path | Domain, *, data: str | Path | None = None, **options: Any) -> Domain:
    """Find a domain by the name of an installed one, as `module:attribute`, or as a path: `folder/my_library.py` or `folder:attribute`.

    Args:
        name: Which domain. In a path or module without `:attribute` the attribute is `domain`. A `Domain` is returned as it is.
        data: A folder in tau2-bench's format (`db.json`, `tasks.json`, `policy.md`), where the domain supports it.
        **options: Passed to a domain that is a function, such as retail's `users=5000`.

    Raises:
        UnknownDomainError: Nothing of that name; the text names the closest.
        DomainError: It exists but is no domain, fails to import or takes no such option.
    """
    if isinstance(name, Domain):
        return name
    text = str(name)
    installed = list_domains()
    if data is not None:
        options["data"] = str(data)
    try:
        if text in installed:
            target = installed[text].load()
        elif ":" in text or text.endswith(".py") or Path(text).is_dir():
            target = _from_module(text)
        else:
            close = difflib.get_close_matches(text, installed, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"installed: {', '.join(installed) or 'none'}"
            raise UnknownDomainError(f"no domain {text!r}; {hint} A domain of your own is 'module:attribute' or a path to its file")
    except SentinelError:
        raise
    except Exception as error:
        raise DomainError(f"domain {text!r} cannot be imported: {type(error).__name__}: {error}") from error
    if isinstance(target, Domain):
        if options:
            raise DomainError(f"domain {text!r} takes no options, found {', '.join(options)}; make it a function that returns a Domain")
        domain = target
    elif callable(target):
        domain = _call(text, target, options)
    else:
        raise DomainError(f"{text!r} is a {type(target).__name__}; expected a Domain or a function that returns one")
    if domain.origin is None:
        object.__setattr__(domain, "origin", (text, dict(options)))
    return domain


def _call(text: str, target: Callable[..., Any], options: dict[str, Any]) -> Domain:
    try:
        domain = target(**options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise DomainError(f"domain {text!r}: {error}") from error
    if not isinstance(domain, Domain):
        raise DomainError(f"{text!r} returned a {type(domain).__name__}; expected a Domain")
    return domain


def _from_module(text: str) -> Any:
    module_name, _, attribute = text.rpartition(":") if ":" in text else (text, "", "")
    attribute = attribute or "domain"
    path = Path(module_name)
    if path.is_dir():
        path = path / "__init__.py"
    if path.suffix == ".py" or path.exists():
        if not path.exists():
            raise UnknownDomainError(f"no domain file {module_name!r}")
        module = _import_file(path.resolve())
    else:
        if str(Path.cwd()) not in sys.path and "" not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # `sentinel check my_library:domain` in the folder of my_library.py
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UnknownDomainError(f"no module {module_name!r} for domain {text!r}: {error}") from error
    if not hasattr(module, attribute):
        raise UnknownDomainError(f"{module_name!r} has no {attribute!r} for domain {text!r}")
    return getattr(module, attribute)


def _import_file(path: Path) -> Any:
    is_package = path.name == "__init__.py"
    name = path.parent.name if is_package else path.stem
    existing = sys.modules.get(name)
    if existing is not None and getattr(existing, "__file__", None) == str(path):
        return existing
    search = [str(path.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(
        name if existing is None else f"{name}_{zlib.crc32(str(path).encode())}", path, submodule_search_locations=search
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return module
