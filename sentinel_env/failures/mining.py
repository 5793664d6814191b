"""From a run to its failure patterns: findings grouped by cause and counted against the opportunities there were."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sentinel_env.domain import Domain
from sentinel_env.trajectory import Trajectory

from .attribution import attribute
from .findings import CAUSES, Evidence, Label
from .patterns import FailurePattern

_MINED = frozenset((*CAUSES, "tool_error"))
"""Conduct other than refused calls is seen in passed runs as often as in failed ones, and would flood the table."""


def find_failures(domain: Domain, trajectories: Iterable[Trajectory], *, min_support: int = 1) -> list[FailurePattern]:
    """Group the failures of a run by cause, the most frequent first.

    Args:
        domain: The world of the run.
        trajectories: Passed and failed ones; streamed, none is kept.
        min_support: How many failed trajectories must show a cause.

    Raises:
        TaskError: A trajectory is of another domain, or a tool refuses its reference.
    """
    evidence: dict[tuple[Label, str | None, tuple[str, ...]], list[Evidence]] = defaultdict(list)
    errors: dict[tuple[Label, str | None, tuple[str, ...]], int] = defaultdict(int)
    in_passed: dict[tuple[Label, str | None, tuple[str, ...]], int] = defaultdict(int)
    calls_of: dict[str, int] = defaultdict(int)
    telling = failed = passed = 0
    scripted = True
    for trajectory in trajectories:
        if trajectory.error is not None:
            continue
        attribution = attribute(domain, trajectory)
        findings = [finding for finding in attribution.findings if finding.label in _MINED]
        good = attribution.passed is True
        passed, failed = passed + good, failed + (not good)
        scripted = scripted and trajectory.user.startswith("scripted")
        telling += bool(trajectory.task.criteria.communicate)
        for called in {call.name for call in trajectory.task.criteria.actions} | {finding.tool for finding in findings if finding.tool}:
            calls_of[called] += 1
        for key in {(finding.label, finding.tool, finding.arguments) for finding in findings}:
            (in_passed if good else errors)[key] += 1
        if not good:
            for finding in findings:
                evidence[finding.label, finding.tool, finding.arguments].append(finding.evidence)
    patterns = []
    for key, count in errors.items():
        label, tool, arguments = key
        if count < min_support:
            continue
        opportunities = telling if label == "missing_communicate" else calls_of[tool] if tool else passed + failed
        patterns.append(
            FailurePattern(
                id="/".join([label, *([tool] if tool else []), *(["+".join(arguments)] if arguments else [])]),
                domain=domain.name,
                label=label,
                tools=(tool,) if tool else (),
                arguments=arguments,
                summary=_summary(label, tool, arguments),
                evidence=tuple(evidence[key]),
                errors=count,
                opportunities=opportunities,
                share=round(count / failed, 4),
                contrast=round(count / failed - (in_passed[key] / passed if passed else 0.0), 4),
                fault="agent" if scripted else "undetermined",
            )
        )
    return sorted(patterns, key=lambda pattern: (-pattern.errors, pattern.id))


_SUMMARIES: Mapping[str, str] = {
    "wrong_argument": "calls {tool} on the right record with a wrong {arguments}",
    "wrong_target_record": "calls {tool} on the wrong record",
    "wrong_tool": "changes the right record with another tool than {tool}",
    "missing_write": "never gets {tool} done",
    "extra_write": "calls {tool} where nothing or something else was wanted",
    "order_dependency": "does {tool} and the rest in an order that does not work",
    "missing_action": "never makes the call of {tool} that is asked for",
    "missing_transfer": "does not hand over to a person what only a person can do",
    "missing_communicate": "does not tell the user what was asked for",
    "unneeded_transfer": "hands over to a person what it could have done",
    "unfinished": "does not come to an end within the limits",
    "tool_error": "has calls of {tool} refused on the way",
}


def _summary(label: str, tool: str | None, arguments: Sequence[str]) -> str:
    return _SUMMARIES[label].format(tool=tool, arguments=" and ".join(re.sub("_", " ", name) for name in arguments))
