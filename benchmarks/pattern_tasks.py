"""What the benchmark of synthesis works on: every pattern that the Controller could hand over, and verified tasks for each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from sentinel_env import Domain, Task, load_domain
from sentinel_env.failures import CAUSES, CONDUCT, FailurePattern, general_pattern
from sentinel_env.failures.kinds import Kind
from sentinel_env.failures.opportunities import ConductChances, Exposure
from sentinel_env.generation import propose_tasks
from sentinel_env.knobs import Knobs
from sentinel_env.verification import Examination, KnownTasks, verify_proposal

ROUND = 250
"""Proposals asked for at a time."""
_FEW = 20
"""Never fewer than this, or a round in which nothing is accepted says little."""
_SEEN = 40
"""Drafts of each label that are looked at for opportunities, beside the domain's own tasks."""
_BARREN = 0.02
"""The share of accepted proposals below which a round brings nothing new; two such rounds in a row end it."""

Rehearse = Literal["all", "mistake"]


@lru_cache(maxsize=2)
def retail() -> Domain:
    """The default retail domain, one for each process."""
    return load_domain("retail")


def pattern_of(domain: Domain, label: str, tool: str | None = None, *arguments: str, feature: str | None = None) -> FailurePattern:
    """A pattern as the Controller would name it."""
    if label == "general":
        return general_pattern(domain)
    name = Kind(label, tool, arguments).id + (f"@{feature}" if feature else "")
    return FailurePattern(
        id=name,
        domain=domain.name,
        label=label,  # type: ignore[arg-type]
        tools=(tool,) if tool else (),
        arguments=arguments,
        feature=feature,
    )


@lru_cache(maxsize=2)
def every_pattern(domain: Domain) -> tuple[FailurePattern, ...]:
    """General tasks, every label that the domain leaves room for, and every one with a tool, and an argument, that opportunities count.

    What is counted is what the references of the domain's own tasks and of some drafts of each label leave room for, and for conduct what
    the tools that they call leave room for.
    """
    tasks = list(domain.split())
    for label in (*CAUSES, *CONDUCT):
        tasks += [proposal.draft for proposal in propose_tasks(domain, pattern_of(domain, label), n=_SEEN)]
    found: dict[Kind, None] = {}
    for chance in (chance for task in tasks for chance in Exposure(domain, task).chances):
        found[Kind(chance.label)] = None
        found[Kind(chance.label, chance.tool, (chance.argument,) if chance.argument else ())] = None
    conduct = ConductChances(domain)
    for label in CONDUCT:
        found[Kind(label)] = None
    for tool in sorted({call.name for task in tasks for call in task.criteria.actions}):
        for label in conduct.of_run([tool]) - conduct.of_run([]):
            found[Kind(label, tool)] = None
    order = [*CAUSES, *CONDUCT]
    kinds = sorted(found, key=lambda kind: (order.index(kind.label), kind.id))
    return general_pattern(domain), *(pattern_of(domain, kind.label, kind.tool, *kind.arguments) for kind in kinds)


@dataclass
class Made:
    """What became of the proposals for one pattern."""

    pattern: FailurePattern
    tasks: list[Task] = field(default_factory=list)
    """Accepted."""
    proposals: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By gate."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of the gates that refused, with the gate."""
    misses: Counter[str] = field(default_factory=Counter)
    """Tries that came to no proposal."""
    rounds: int = 0
    proposing: float = 0.0
    """CPU seconds."""
    verifying: float = 0.0
    ended: str = "reached"
    """Why it stopped: `reached`, `nothing new`, `no proposal` or `time`."""

    @property
    def milliseconds(self) -> float | None:
        """CPU of an accepted task: proposing and gates, those of refused ones included."""
        return 1000 * (self.proposing + self.verifying) / len(self.tasks) if self.tasks else None

    @property
    def why(self) -> str:
        """Why there are no more, in one line."""
        misses = self.misses.most_common(2)
        miss = ", ".join(f"{text} ({100 * count // self.misses.total()} % of misses)" for text, count in misses)
        gate = next((f"{text} ({100 * count // self.proposals} % of proposals)" for text, count in self.reasons.most_common(1)), "")
        return {"reached": "", "no proposal": miss, "time": f"time; {gate or miss}"}.get(self.ended, gate or miss)


def make(
    domain: Domain,
    pattern: FailurePattern,
    *,
    count: int,
    seed: int = 0,
    seconds: float = 60.0,
    rehearse: Rehearse = "all",
    known: KnownTasks | None = None,
    **how: Any,
) -> Made:
    """Propose and verify until so many are accepted, or nothing new comes, or the CPU time is spent.

    Args:
        domain: The world.
        pattern: What to stress.
        count: How many tasks.
        seed: Of the first round; each round has a seed of its own.
        seconds: CPU seconds after which no further round is begun.
        rehearse: What the last gate plays, as in `Examination`.
        known: What a task must differ from; the accepted ones are added.
        **how: For `propose_tasks`, such as its pool.
    """
    made, known = Made(pattern), known or KnownTasks(domain)
    examination = Examination(rehearse=rehearse)
    barren = 0
    while len(made.tasks) < count:
        before = made.proposals, len(made.tasks)
        start = time.process_time()
        wanted = min(ROUND, max(_FEW, count - len(made.tasks)))
        drafts = propose_tasks(domain, pattern, n=wanted, seed=1000 * seed + made.rounds, misses=made.misses, **how)
        made.proposing += time.process_time() - start
        start = time.process_time()
        for proposal in drafts:
            if len(made.tasks) >= count:
                break
            made.proposals += 1
            verdict = verify_proposal(domain, proposal, known=known, examination=examination)
            if verdict.task is not None:
                known.add(verdict.task)
                made.tasks.append(verdict.task)
            elif (gate := verdict.rejected_by) is not None:
                made.refused[gate.name] += 1
                made.reasons[f"{gate.name}: {_general(gate.reason)}"] += 1
        made.verifying += time.process_time() - start
        made.rounds += 1
        fresh = len(made.tasks) - before[1]
        barren = barren + 1 if fresh <= _BARREN * wanted else 0
        if barren >= 2 and len(made.tasks) < count:
            made.ended = "nothing new" if made.proposals else "no proposal"
            break
        if made.proposing + made.verifying > seconds:
            made.ended = "time" if len(made.tasks) < count else "reached"
            break
    return made


def _general(reason: str) -> str:
    """A gate's reason without what differs from task to task, so that equal ones are counted together."""
    words = reason.split()
    return " ".join("..." if any(map(str.isdigit, word)) or len(word) > 30 else word for word in words)[:110]


def sample(domain: Domain, patterns: Sequence[FailurePattern], each: int, *, seed: int, knobs: Knobs | None = None) -> Iterator[Task]:
    """Verified tasks of many patterns, so many of each; no two do the same."""
    known = KnownTasks(domain)
    for pattern in patterns:
        if knobs is not None:
            pattern = pattern.model_copy(update={"knobs": knobs})
        yield from make(domain, pattern, count=each, seed=seed, seconds=5.0, known=known).tasks
