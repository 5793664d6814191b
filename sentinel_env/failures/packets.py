"""Evidence packets: the least of a run that shows a failure, for a language model to read.

Of a failed run the edit script in words, the dialogue around its critical step and what came out otherwise in the database; of a passed
run on a matched task its dialogue around the same call. What anybody said is cut short, and leaves here as JSON without angle brackets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.errors import TaskError
from sentinel_env.evaluation import calls, evaluate
from sentinel_env.trajectory import Trajectory

from .explain import difference_in_words, explain
from .memory import Memory
from .opportunities import Exposure
from .patterns import FailurePattern

SHOWN, PASSED = 6, 2
"""Runs that are shown of a pattern: those that show it, and passed ones on matched tasks."""
_TEXT, _LINES = 400, 8
"""Characters of a message, and entries of a list, that are shown."""
_MATCHES = 300
"""Passed runs that are kept to choose from, one a task."""
_AROUND = 2


@dataclass(frozen=True)
class Packet:
    """One run as it is shown, with what a model's claims about it are checked against."""

    id: str
    passed: bool
    length: int
    """Of the trajectory, in messages."""
    labels: Mapping[str, tuple[int, ...]]
    """The labels of the deterministic stage, with the steps at which they show."""
    features: frozenset[str]
    critical_step: int | None
    content: Mapping[str, Any]
    """What the model reads."""

    def is_near(self, label: str, step: int) -> bool:
        """Whether a step is within two messages of where the deterministic stage sees the label, or the run's critical step."""
        known = [*self.labels.get(label, ()), *([self.critical_step] if self.critical_step is not None else [])]
        return any(abs(step - each) <= _AROUND for each in known)


class Material:
    """The runs that are needed to show some patterns, taken from a stream of all of them."""

    def __init__(self, domain: Domain, patterns: Sequence[FailurePattern], trajectories: Iterable[Trajectory]) -> None:
        """Read the trajectories once, and keep those that are evidence and one passed run a task."""
        self.domain = domain
        wanted = {each.trajectory for pattern in patterns for each in pattern.evidence}
        self._evidence: dict[str, Trajectory] = {}
        self._passed: dict[str, Trajectory] = {}
        for trajectory in trajectories:
            if trajectory.id in wanted:
                self._evidence[trajectory.id] = trajectory
            elif trajectory.task.id not in self._passed and len(self._passed) < _MATCHES and _has_passed(domain, trajectory):
                self._passed[trajectory.task.id] = trajectory

    def packets(self, pattern: FailurePattern) -> tuple[Packet, ...]:
        """The runs that show a pattern, those of different tasks first, then passed ones on matched tasks."""
        found = [self._evidence[name] for name in dict.fromkeys(each.trajectory for each in pattern.evidence) if name in self._evidence]
        first = {trajectory.task.id: trajectory.id for trajectory in reversed(found)}
        shown = sorted(found, key=lambda trajectory: first[trajectory.task.id] != trajectory.id)[:SHOWN]
        matches = self._matches(pattern, [trajectory.task.id for trajectory in shown])
        return (*(_packet(self.domain, pattern, each) for each in shown), *(_packet(self.domain, pattern, each) for each in matches))

    def _matches(self, pattern: FailurePattern, tasks: Sequence[str]) -> list[Trajectory]:
        """Passed runs: on the same tasks, else on others that leave room for the same mistake."""
        found = [self._passed[task] for task in dict.fromkeys(tasks) if task in self._passed]
        for trajectory in self._passed.values() if len(found) < PASSED else ():
            if trajectory not in found and _leaves_room(self.domain, pattern, trajectory):
                found.append(trajectory)
                if len(found) >= PASSED:
                    break
        return found[:PASSED]


def _has_passed(domain: Domain, trajectory: Trajectory) -> bool:
    try:
        return evaluate(domain, trajectory).passed
    except TaskError:
        return False


def _leaves_room(domain: Domain, pattern: FailurePattern, trajectory: Trajectory) -> bool:
    if not pattern.is_cause:
        return not pattern.tools or any(call.name in pattern.tools for _, call, _ in calls(trajectory))
    return any(
        chance.label == pattern.label and (not pattern.tools or chance.tool in pattern.tools)
        for chance in Exposure(domain, trajectory.task).chances
    )


def _packet(domain: Domain, pattern: FailurePattern, trajectory: Trajectory) -> Packet:
    explanation = explain(domain, trajectory)
    attribution, exposure = explanation.attribution, Exposure(domain, trajectory.task)
    labels: dict[str, tuple[int, ...]] = {}
    features = set(exposure.common)
    for finding in attribution.findings:
        labels[finding.label] = (*labels.get(finding.label, ()), finding.evidence.step)
        if finding.label == pattern.label:
            features |= exposure.context(finding)
    step = attribution.critical_step if attribution.critical_step is not None else _step_of(pattern, trajectory)
    content = {
        "trajectory": trajectory.id,
        "passed": bool(attribution.passed),
        "messages": len(trajectory.messages),
        "labels": sorted(labels),
        "features": sorted(features),
        "critical_step": attribution.critical_step,
        "what_would_have_passed": [_cut(change) for change in explanation.changes[:_LINES]],
        "database": [_cut(difference_in_words(difference)) for difference in explanation.differences[:_LINES]],
        "dialogue": list(_dialogue(trajectory, step)),
    }
    return Packet(
        id=trajectory.id,
        passed=bool(attribution.passed),
        length=len(trajectory.messages),
        labels=labels,
        features=frozenset(features),
        critical_step=attribution.critical_step,
        content={name: value for name, value in content.items() if value not in ([], None)},
    )


def _step_of(pattern: FailurePattern, trajectory: Trajectory) -> int:
    """Where a passed run did what the pattern's runs got wrong: its last call of the tool, or its end."""
    steps = [at for at, call, _ in calls(trajectory) if call.name in pattern.tools]
    return steps[-1] if steps else len(trajectory.messages)


def _dialogue(trajectory: Trajectory, step: int) -> Iterator[dict[str, Any]]:
    """The messages from two turns before a step to two after it; a tool's answer belongs to the turn of its call."""
    messages = trajectory.messages
    turns = [at for at, message in enumerate(messages) if message.role != "tool"]
    before, after = [at for at in turns if at < step][-_AROUND:], [at for at in turns if at > step][: _AROUND + 1]
    first = before[0] if before else 0
    last = after[_AROUND] if len(after) > _AROUND else len(messages)
    for at in range(first, last):
        message = messages[at]
        calls_made = [{"tool": call.name, "arguments": _cut(json.dumps(call.arguments, ensure_ascii=False))} for call in message.tool_calls]
        said = {"step": at, "role": message.role, "text": _cut(message.content), "calls": calls_made}
        yield {name: value for name, value in said.items() if value not in ("", [])}


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]} [...]"


def table(patterns: Iterable[FailurePattern], memory: Memory) -> list[dict[str, Any]]:
    """The counts of the patterns, with what earlier rounds saw and tried."""
    rows = []
    for pattern in patterns:
        kept = ("label", "tools", "arguments", "feature", "kinds", "errors", "opportunities", "rate", "share", "contrast", "tasks", "state")
        row = {"pattern_id": pattern.id, **pattern.model_dump(mode="json", include=set(kept))}
        story = memory.story(pattern.id)
        if story:
            row["earlier_rounds"] = [
                {"round": number, "rate": seen.rate if seen else None, "tasks_made": tried.accepted if tried else 0}
                for number, seen, tried in story
            ]
        rows.append({name: value for name, value in row.items() if value not in ([], {}, None)})
    return rows
