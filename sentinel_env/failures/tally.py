"""Tally: a run of any length as counts. A trajectory is attributed, counted and forgotten.

What stays is, for each task, its opportunities (equal ones are one object), and how often each set of slips came out of it. Evidence is
a sample: of each pattern-to-be the entries whose hash with the seed is smallest, which does not depend on their order.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Container, Iterable
from hashlib import blake2b
from typing import NamedTuple, get_args

from sentinel_env.domain import Domain
from sentinel_env.errors import DomainError, SentinelError
from sentinel_env.evaluation import calls
from sentinel_env.trajectory import Trajectory

from .attribution import attribute
from .findings import Attribution, Evidence, Finding, Side
from .opportunities import Chance, Exposure

EVIDENCE = 20
"""How much of it a pattern keeps."""
_WORLD = 500
"""A domain remembers the references that it executed; after so many tasks it is exchanged for a copy that remembers none."""

Outcome = Side | None
"""Whose fault a failed trajectory was; None for a passed one."""
ANY: frozenset[Outcome] = frozenset((None, *get_args(Side)))


class Slip(NamedTuple):
    """One error of one trajectory, as far as patterns tell errors apart."""

    label: str
    tool: str | None
    arguments: tuple[str, ...]
    features: frozenset[str]


class Shape(NamedTuple):
    """What trajectories of one task with the same errors have in common."""

    task: str
    outcome: Outcome
    slips: tuple[Slip, ...]
    called: frozenset[str]
    """The tools that were called."""


class Tally:
    """The counts of a run."""

    def __init__(self, domain: Domain, *, seed: int = 0) -> None:
        """Start with nothing.

        Args:
            domain: The world of the run.
            seed: For which evidence is kept.
        """
        self.domain = domain
        self.seed = seed
        self.shapes: Counter[Shape] = Counter()
        self.chances: dict[str, tuple[Chance, ...]] = {}
        """The opportunities of each task."""
        self.faults: Counter[Side] = Counter()
        """Failed trajectories by whose fault it was."""
        self.excluded = 0
        """Trajectories that infrastructure ended."""
        self.unconfirmed = 0
        """Failed trajectories whose edit script does not lead to the reference's state when it is executed."""
        self.problems: list[str] = []
        """What could not be analysed, one line each."""
        self.kinds: dict[tuple[str, str | None], Counter[tuple[tuple[str, ...], frozenset[str], str]]] = {}
        self._evidence: dict[tuple[str, str | None], list[tuple[int, int, Evidence, Slip, Outcome]]] = {}
        self._known: dict[Chance, Chance] = {}
        self._shared: dict[frozenset[str], frozenset[str]] = {}
        self._exposure: Exposure | None = None
        self._world, self._in_world, self._seen = domain, 0, 0

    @property
    def passed(self) -> int:
        """How many trajectories passed."""
        return sum(count for shape, count in self.shapes.items() if shape.outcome is None)

    @property
    def failed(self) -> int:
        """How many failed, whoever's fault it was."""
        return self.faults.total()

    @property
    def trajectories(self) -> int:
        """How many were read, those with problems left out."""
        return self.passed + self.failed + self.excluded

    def add_all(self, trajectories: Iterable[Trajectory]) -> Tally:
        """Count trajectories, one at a time."""
        for trajectory in trajectories:
            self.add(trajectory)
        return self

    def add(self, trajectory: Trajectory) -> None:
        """Count a trajectory; one that cannot be analysed becomes a problem.

        Raises:
            DomainError: A tool crashed.
        """
        if trajectory.error is not None:
            self.excluded += 1
            return
        problem = _unfit(self.domain, trajectory)
        if problem is None:
            try:
                self._count(trajectory)
            except DomainError:
                raise
            except SentinelError as error:
                problem = " ".join(str(error).split())[:300]
        if problem is not None:
            self.problems.append(f"{trajectory.id}: {problem}")

    def _count(self, trajectory: Trajectory) -> None:
        exposure = self._expose(trajectory)
        attribution = attribute(self._world, trajectory)
        outcome: Outcome = None if attribution.passed else attribution.fault.side if attribution.fault else "undetermined"
        if outcome is not None:
            self.faults[outcome] += 1
            self.unconfirmed += attribution.confirmed is False
        if any(finding.sublabel == "not_reproduced" for finding in attribution.findings):
            self.problems.append(f"{trajectory.id}: its calls do not lead to its recorded changes here; was it made with another database?")
        slips = []
        for finding in relevant(attribution):
            tool = (
                finding.tool
                if finding.tool in self.domain.tools_by_name and finding.label not in ("text_and_call", "unknown_tool")
                else None
            )
            context = exposure.context(finding) if finding.is_cause else exposure.common
            slip = Slip(finding.label, tool, finding.arguments, self._share(context))
            if slip in slips and finding.label != "missing_communicate" and finding.wanted is None:
                continue  # conduct counts once a trajectory and tool
            slips.append(slip)
            if outcome is not None or not finding.is_cause:
                self._keep(finding, slip, outcome)
        called = self._share(frozenset(call.name for _, call, _ in calls(trajectory) if call.name in self.domain.tools_by_name))
        self.shapes[Shape(trajectory.task.id, outcome, tuple(slips), called)] += 1

    def _expose(self, trajectory: Trajectory) -> Exposure:
        task = trajectory.task
        if self._exposure is None or self._exposure.task != task:
            self._in_world += 1
            if self._in_world > _WORLD:
                self._world, self._in_world = self.domain.with_tasks(()), 0
            self._exposure = Exposure(self._world, task)
        if task.id not in self.chances:
            self.chances[task.id] = tuple(self._known.setdefault(chance, chance) for chance in self._exposure.chances)
        return self._exposure

    def _share(self, features: frozenset[str]) -> frozenset[str]:
        return self._shared.setdefault(features, features)

    def _keep(self, finding: Finding, slip: Slip, outcome: Outcome) -> None:
        self._seen += 1
        evidence = finding.evidence
        for kind in (*([finding.sublabel] if finding.sublabel else []), *finding.features):
            self.kinds.setdefault(slip[:2], Counter())[slip.arguments, slip.features, kind] += 1
        key = f"{self.seed}/{evidence.trajectory}/{evidence.step}/{slip.arguments}"
        rank = -int.from_bytes(blake2b(key.encode(), digest_size=7).digest())
        kept = self._evidence.setdefault((slip.label, slip.tool), [])
        entry = (rank, -self._seen, evidence, slip, outcome)
        of_slip = [each for each in kept if each[3] == slip]
        if len(of_slip) < EVIDENCE:
            heapq.heappush(kept, entry)
        elif (worst := min(of_slip)) < entry:
            kept[kept.index(worst)] = entry
            heapq.heapify(kept)

    def evidence(self, kind: Callable[[Slip], bool], label: str, tool: str | None, outcomes: Container[Outcome]) -> tuple[Evidence, ...]:
        """The sample of slips of a kind, in the order in which they were counted; at most `EVIDENCE`."""
        found = [entry for entry in self._evidence.get((label, tool), ()) if kind(entry[3]) and entry[4] in outcomes]
        lowest = sorted(found, reverse=True)[:EVIDENCE]
        return tuple(evidence for _, _, evidence, _, _ in sorted(lowest, key=lambda entry: -entry[1]))


def relevant(attribution: Attribution) -> list[Finding]:
    """The findings that are errors of their own: consequences of others, and the caveat `unconfirmed`, are left out.

    What is missing after a needless hand-over is missing because of it; a call with a made-up id is refused for that, and one that another
    write has locked out is refused for that.
    """
    findings = [finding for finding in attribution.findings if finding.label != "unconfirmed"]
    if any(finding.label == "unneeded_transfer" for finding in findings):
        findings = [finding for finding in findings if finding.label not in ("missing_write", "missing_communicate", "missing_action")]
    explained = {
        (finding.evidence.step, finding.tool)
        for finding in findings
        if finding.label in ("hallucinated_id", "unknown_tool", "schema_error", "repeated_error")
    }
    locked = {finding.tool for finding in findings if finding.label == "order_dependency"}
    return [
        finding
        for finding in findings
        if finding.label != "tool_error" or not ((finding.evidence.step, finding.tool) in explained or finding.tool in locked)
    ]


def _unfit(domain: Domain, trajectory: Trajectory) -> str | None:
    """Why a trajectory cannot be attributed here, in words."""
    task = trajectory.task
    if task.domain != domain.name:
        return f"it is of domain {task.domain!r}, not {domain.name!r}"
    criteria = task.criteria
    if not (criteria.actions or criteria.communicate or criteria.nothing_passes or criteria.tau2 or task.scenario.wishes):
        return "its task has no reference (no actions and nothing to tell), so nothing can be compared with it"
    unknown = [call.name for call in criteria.actions if call.name not in domain.tools_by_name]
    if unknown:
        return f"its reference calls {unknown[0]}, which {domain.name} does not have"
    return None
