"""Tallies of the parts of a run, made anywhere, as the tally of the whole run: the same counts, the same evidence, in the same order."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .tally import EVIDENCE, Tally


@dataclass(frozen=True)
class Part:
    """What a tally counted, without its domain and what it counted with."""

    shapes: Counter[Any]
    chances: dict[str, tuple[Any, ...]]
    faults: Counter[Any]
    excluded: int
    unconfirmed: int
    problems: list[str]
    kinds: dict[Any, Counter[Any]]
    evidence: dict[Any, list[Any]]
    seen: int
    """How many findings could have been evidence."""

    @classmethod
    def of(cls, tally: Tally) -> Part:
        """Of a tally that is not used any more."""
        return cls(
            tally.shapes,
            tally.chances,
            tally.faults,
            tally.excluded,
            tally.unconfirmed,
            tally.problems,
            tally.kinds,
            tally._evidence,
            tally._seen,
        )


def add_part(whole: Tally, part: Part) -> None:
    """Count what a part counted, after all that was counted so far; both with the same domain and seed."""
    whole.shapes.update(part.shapes)  # in the order of first sight, as counting one by one would
    for task, chances in part.chances.items():
        whole.chances.setdefault(task, tuple(whole._known.setdefault(chance, chance) for chance in chances))
    whole.faults.update(part.faults)
    whole.excluded += part.excluded
    whole.unconfirmed += part.unconfirmed
    whole.problems.extend(part.problems)
    for place, kinds in part.kinds.items():
        whole.kinds.setdefault(place, Counter()).update(kinds)
    for place, entries in part.evidence.items():
        kept = whole._evidence.setdefault(place, [])
        for rank, at, evidence, slip, outcome in entries:
            kept.append((rank, at - whole._seen, evidence, slip, outcome))
        for slip in {entry[3] for entry in entries}:  # of each kind of error what has the lowest hash, wherever it was counted
            of_slip = heapq.nlargest(EVIDENCE, (entry for entry in kept if entry[3] == slip), key=lambda entry: entry[:2])
            kept[:] = [entry for entry in kept if entry[3] != slip] + of_slip
        heapq.heapify(kept)
    whole._seen += part.seen
