"""Agents that need no model: `ScriptedAgent` holds the dialogue that carries out a plan, `HumanAgent` is a person.

A scripted agent knows the task (an oracle): it asks who the user is, looks things up, proposes each write, waits for the answer,
writes, reports. With another plan than the reference it shows what a mistake looks like from the outside; that is how foils and
demonstrations are made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .domain import Domain
from .episode import AgentView
from .errors import TaskError
from .messages import Message, ToolCall, parse_action
from .tasks import Task, Wish

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
        asked = [fact.slot for fact in task.scenario.facts] or list(task.scenario.known)
        script = [say(f"May I have your {' and '.join(asked)}, please?")] if asked else []
        wishes = _Wishes(task)
        telling = list(wishes.telling) if self.reports else []
        for at, call in enumerate(plan):
            if domain.is_transfer(call.name):
                due = wishes.due()
                if any(wish.transfer for wish in due):  # otherwise it drops the rest
                    script.extend(self._without_a_write(wish) for wish in due if not wish.transfer)
                return [*script, Message(role="assistant", tool_calls=(call,)), say(TRANSFERRED)]
            tool = domain.tools_by_name.get(call.name)
            if tool is None or not tool.writes:
                script.append(Message(role="assistant", tool_calls=(call,)))
                continue
            wish = wishes.meant(call, plan[at + 1 :])
            script.extend(map(self._without_a_write, wishes.due(before=wish)))
            if self.proposes:
                script.append(say(f"{_PROPOSAL} {propose(call)}. Shall I go ahead (yes/no)?"))
            script.append(Message(role="assistant", tool_calls=(call,)))
            wishes.settle(wish)
            if not task.scenario.wishes and self._has_write(domain, plan[at + 1 :]):
                continue  # who only has a goal in prose takes the first report for the end
            last = not wishes.left_to_write()
            script.append(say(_report("That is done.", telling if last else [])))
            telling = [] if last else telling
        script.extend(map(self._without_a_write, wishes.left()))
        if telling:
            script.append(say(_report("Here is what I found.", telling)))
        return script

    def _has_write(self, domain: Domain, calls: Iterable[ToolCall]) -> bool:
        return any(tool is not None and tool.writes for tool in (domain.tools_by_name.get(call.name) for call in calls))

    def _without_a_write(self, wish: Wish) -> Message:
        """The answer to a wish that only wants to be told something, or the refusal of one that must not be fulfilled."""
        return say(_report("Here is what I found.", wish.answers) if wish.answers and self.reports else _REFUSAL)


class _Wishes:
    """Which of a task's wishes are open while a plan is carried out."""

    def __init__(self, task: Task) -> None:
        self._wishes = task.scenario.wishes
        self._open = list(range(len(self._wishes)))
        answers = Counter(text for wish in self._wishes if wish.call is None for text in wish.answers)
        self.telling: list[str] = []
        """What has to be told that is no wish's answer: an amount that goes with a write."""
        for text in task.criteria.communicate:
            if answers[text] > 0:
                answers[text] -= 1
            else:
                self.telling.append(text)

    def meant(self, call: ToolCall, later: Sequence[ToolCall]) -> int | None:
        """The open wish that a write is for: the one that it fulfils, else one of its tool, the next one with a write, or one to refuse."""
        writes = [(at, wanted) for at in self._open if (wanted := self._wishes[at].call) is not None and wanted not in later]
        same = [at for at, wanted in writes if wanted == call]
        alike = [at for at, wanted in writes if wanted.name == call.name]
        return next(iter((*same, *alike, *(at for at, _ in writes), *(at for at in self._open if self._is_refused(at)))), None)

    def _is_refused(self, at: int) -> bool:
        wish = self._wishes[at]
        return not (wish.call or wish.answers or wish.transfer)

    def due(self, *, before: int | None = None) -> list[Wish]:
        """The wishes without a write whose turn has come, those raised before a certain one only; they are settled by this."""
        found = []
        for at in tuple(self._open):
            if self._wishes[at].call is not None or at == before:
                break
            found.append(self._wishes[at])
            self.settle(at)
        return found

    def settle(self, at: int | None) -> None:
        """Take a wish off the list."""
        if at is not None:
            self._open.remove(at)

    def left_to_write(self) -> bool:
        """Whether a write is still wanted."""
        return any(self._wishes[at].call is not None for at in self._open)

    def left(self) -> list[Wish]:
        """The open wishes without a write."""
        return [self._wishes[at] for at in self._open if self._wishes[at].call is None]


TRANSFERRED = "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."
"""What is said after a hand-over, word for word."""
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
