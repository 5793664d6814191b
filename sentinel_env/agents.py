"""Agents that need no model: `ScriptedAgent` holds the dialogue that carries out a plan, `HumanAgent` is a person.

A scripted agent knows the task (an oracle): it asks who the user is, looks things up, proposes each write, waits for the answer,
writes, reports. With another plan than the reference it shows what a mistake looks like from the outside; that is how foils and
demonstrations are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .domain import Domain
from .episode import AgentView
from .errors import TaskError
from .messages import Message, ToolCall, parse_action
from .tasks import Task

Plan = Callable[[Domain, Task], Sequence[ToolCall]]


def reference_plan(domain: Domain, task: Task) -> Sequence[ToolCall]:
    """The task's reference actions."""
    return task.criteria.actions


def say(text: str) -> Message:
    """An assistant's text."""
    return Message(role="assistant", content=text)


def propose(call: ToolCall) -> str:
    """A write in words, for the user to confirm: "cancel pending order: order id #W1, reason no longer needed"."""
    shown = [f"{name.replace('_', ' ')} {_spoken(value)}" for name, value in call.arguments.items()]
    return f"{call.name.replace('_', ' ')}: {', '.join(shown)}"


def _spoken(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@dataclass(frozen=True)
class ScriptedAgent:
    """Carries out a plan in dialogue. The same view always gives the same message."""

    tasks: Iterable[Task] = ()
    """Tasks beyond those of the domain, such as generated ones."""
    plan: Plan = reference_plan
    """(domain, task) -> the calls to make, reads and writes in order."""
    name: str = "scripted"
    proposes: bool = True
    """Whether it asks for confirmation before a write."""
    reports: bool = True
    """Whether it tells the user what the task's criteria want communicated."""
    _scripts: dict[str, tuple[Task, list[Message]]] = field(default_factory=dict, repr=False, compare=False)

    def act(self, view: AgentView) -> Message:
        """The next message of the script; after its end, an offer of more help. A write that was proposed needs a yes."""
        script = self._script(view)
        said = [message.role for message in view.messages].count("assistant") - (view.domain.greeting is not None)
        if said >= len(script):
            return say("Is there anything else I can help you with?")
        proposed = said > 0 and script[said - 1].content.startswith(_PROPOSAL)
        if proposed and script[said].tool_calls and not _YES.search(view.messages[-1].content):
            return say("Then I leave it as it is. Is there anything else I can help you with?")
        return script[said]

    def _script(self, view: AgentView) -> list[Message]:
        if view.task_id not in self._scripts:
            task = next((task for task in self.tasks if task.id == view.task_id), None) or view.domain.tasks_by_id.get(view.task_id)
            if task is None:
                raise TaskError(f"the scripted agent does not know task {view.task_id!r}; give it with ScriptedAgent(tasks=...)")
            self._scripts[view.task_id] = (task, self.script(view.domain, task))
        return self._scripts[view.task_id][1]

    def script(self, domain: Domain, task: Task) -> list[Message]:
        """Every message of the dialogue, in order."""
        plan = list(self.plan(domain, task))
        scenario = task.scenario
        asked = [fact.slot for fact in scenario.facts] or list(scenario.known)
        script = [say(f"May I have your {' and '.join(asked)}, please?")] if asked else []
        wanted = [wish.call for wish in scenario.wishes]
        telling = list(task.criteria.communicate) if self.reports else []
        for call in plan:
            tool = domain.tools_by_name.get(call.name)
            if tool is None or not tool.writes:
                script.append(Message(role="assistant", tool_calls=(call,)))
                continue
            while wanted and wanted[0] is None:  # a wish whose right answer is no, before this one
                script.append(say(_REFUSAL))
                wanted.pop(0)
            if self.proposes:
                script.append(say(f"{_PROPOSAL} {propose(call)}. Shall I go ahead (yes/no)?"))
            script.append(Message(role="assistant", tool_calls=(call,)))
            wanted = wanted[1:]
            last = not any(wanted)
            script.append(say(_report("That is done.", telling if last else [])))
            telling = [] if last else telling
        script.extend(say(_REFUSAL) for call in wanted if call is None)
        if telling:
            script.append(say(_report("Here is what I found.", telling)))
        return script


_PROPOSAL = "To confirm:"
_YES = re.compile(r"\byes\b", re.IGNORECASE)
_REFUSAL = "I am sorry, I cannot do that under our policy. Is there anything else I can help you with?"


def _report(opening: str, telling: Sequence[str]) -> str:
    told = f" For your information: {'; '.join(telling)}." if telling else ""
    return f"{opening}{told} Is there anything else I can help you with?"


@dataclass(frozen=True)
class HumanAgent:
    """A person at the terminal: text is said to the user, JSON such as {"name": ..., "arguments": {...}} calls a tool."""

    ask: Callable[[str], str] = input
    name: str = "human"

    def act(self, view: AgentView) -> Message:
        """Ask the person for a line."""
        return parse_action(self.ask("you (text or a JSON call) > "))
