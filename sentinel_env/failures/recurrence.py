"""Which patterns recur: tests of habits against uniform erring, family by family.

A *family* is a label and its arguments over all tools, for a habit seldom stops at one tool. Families are tested against the pool of
everything else, the strongest first; one that stands out is a habit and leaves the pool, so that a second habit is not measured against
the first. Within a family that stands out each tool is tested by itself. Under uniform erring no family stands out, in 95 % of runs, and
so nothing else does (the gatekeeping of hierarchical tests, Meinshausen 2008).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from .kinds import Counts, Kind
from .selection import ALPHA, Cell, exceeds, holm

Place = tuple[Kind, str | None]
"""A kind and the context that it goes with."""


def corrected_p_values(counts: Counts, places: Sequence[Place]) -> dict[Place, float]:
    """For each pattern the p-value of "it is no more frequent than twice the rest", corrected for all that were looked at."""
    families: dict[tuple[str, tuple[str, ...]], list[Place]] = defaultdict(list)
    for place in places:
        families[place[0].label, place[0].arguments].append(place)
    cells = {place: (counts.cell(place[0]), counts.cell(*place)) for place in places}
    found: dict[Place, float] = {}
    for causes in (True, False):
        open_ = {name: members for name, members in families.items() if members[0][0].is_cause == causes}
        found |= _step_down(counts, open_, cells, counts.pools[causes])
    return found


def _step_down(
    counts: Counts, open_: dict[tuple[str, tuple[str, ...]], list[Place]], cells: Mapping[Place, tuple[Cell, Cell]], pool: Cell
) -> dict[Place, float]:
    found: dict[Place, float] = {}
    hypotheses = max(counts.hypotheses, len(open_))
    reached = 0.0
    while open_:
        tested = {name: _test(counts, members, cells, pool) for name, members in open_.items()}
        name = min(tested, key=lambda name: (tested[name][0], name))
        p_value, by_tool = tested[name]
        reached = max(reached, min(1.0, p_value * hypotheses))
        if reached >= ALPHA:
            for other, members in open_.items():
                of_family = min(1.0, max(reached, tested[other][0] * hypotheses))
                found |= {place: max(of_family, tested[other][1][place]) for place in members}
            return found
        found |= {place: max(reached, by_tool[place]) for place in open_.pop(name)}
        hypotheses = max(1, hypotheses - 1)
        pool -= _sum([cells[place][0] for place in by_tool])
    return found


def _test(
    counts: Counts, members: Sequence[Place], cells: Mapping[Place, tuple[Cell, Cell]], pool: Cell
) -> tuple[float, dict[Place, float]]:
    """The p-value of a family, and of each of its tools."""
    whole = _sum([cells[place][0] for place in members])
    rest = pool - whole
    raw = {}
    for place in members:
        plain, inside = cells[place]
        contexts = len(counts.features(place[0]))
        raw[place] = min(2 * exceeds(plain, rest), 2 * contexts * exceeds(inside, rest) if place[1] else 1.0, 1.0)
    by_tool = holm(raw, len(members))
    return min(1.0, 2 * exceeds(whole, rest), 2 * min(by_tool.values())), by_tool


def _sum(cells: Sequence[Cell]) -> Cell:
    total = cells[0]
    for cell in cells[1:]:
        total += cell
    return total
