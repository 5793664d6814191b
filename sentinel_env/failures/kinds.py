"""Kinds of mistakes: label, tool and arguments; with the counts of each by task, whole and by context.

Arguments that go wrong together, such as the lines of an address, make one kind; arguments that go wrong apart make several, also where
one call got two of them wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sentinel_env.metrics import Values

from .findings import CAUSES, Side
from .opportunities import Chance, ConductChances
from .selection import MIN_TASKS, Cell
from .tally import Outcome, Shape, Slip, Tally

OF_RUNS = ("extra_write", "unfinished", "unneeded_transfer")
"""Causes of which each run is one opportunity, whatever it calls."""
Row = tuple[str, int, frozenset[str]]
"""Task, how often, and in what context."""
_APART = 0.1
"""An argument that goes wrong without another in at most this share of its errors belongs to the other's kind."""


@dataclass(frozen=True, order=True)
class Kind:
    """What patterns tell apart, but for the context."""

    label: str
    tool: str | None = None
    arguments: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`label/tool/argument+argument`."""
        return "/".join([self.label, *([self.tool] if self.tool else []), *(["+".join(self.arguments)] if self.arguments else [])])

    @property
    def is_cause(self) -> bool:
        """Whether it explains why a run failed."""
        return self.label in CAUSES

    def has(self, slip: Slip) -> bool:
        """Whether a slip is of this kind."""
        if slip.label != self.label or slip.tool != self.tool:
            return False
        if self.label == "wrong_argument":
            return not set(self.arguments).isdisjoint(slip.arguments)
        return slip.arguments == self.arguments


class Counts:
    """The counts of a tally for those trajectories whose failures are mined."""

    def __init__(self, tally: Tally, sides: Iterable[Side], tasks: Iterable[str] | None = None) -> None:
        """Choose the trajectories: those that passed, and those whose failure is one of these sides' fault.

        Args:
            tally: The counts.
            sides: "agent", and "undetermined" where nothing is known.
            tasks: The order of tasks; those of the tally, sorted, for None.
        """
        self.conduct = ConductChances(tally.domain)
        self.sides = tuple(sides)
        self.outcomes: set[Outcome] = {None, *self.sides}
        self.tasks = sorted(tally.chances) if tasks is None else list(tasks)
        self.at = {task: at for at, task in enumerate(self.tasks)}
        self.chances = tally.chances
        self.graded = [(shape, count) for shape, count in tally.shapes.items() if shape.task in self.at]
        """All of them, for conduct: it is the agent's own, whoever's fault a failure was."""
        self._cells: dict[Kind, tuple[list[Row], list[Row]]] = {}
        self.mined = [(shape, count) for shape, count in self.graded if shape.outcome in self.outcomes]

    def _by_task(self, rows: Iterable[tuple[str, float]]) -> Values:
        found = np.zeros(len(self.tasks))
        for task, count in rows:
            found[self.at[task]] += count
        return found

    def runs(self, *, is_cause: bool) -> list[tuple[Shape, int]]:
        """The trajectories that count for causes, or for conduct."""
        return self.mined if is_cause else self.graded

    @cached_property
    def trials(self) -> dict[str, int]:
        """Mined trajectories of each task."""
        counts: Counter[str] = Counter()
        for shape, count in self.mined:
            counts[shape.task] += count
        return counts

    @cached_property
    def failed(self) -> Values:
        """Failed trajectories of each task that are mined."""
        return self._by_task((shape.task, count) for shape, count in self.mined if shape.outcome is not None)

    @cached_property
    def passed(self) -> Values:
        """Passed trajectories of each task."""
        return self._by_task((shape.task, count) for shape, count in self.mined if shape.outcome is None)

    # kinds

    @cached_property
    def kinds(self) -> list[Kind]:
        """Every kind that happened, sorted."""
        found: set[Kind] = set()
        wrong: dict[str | None, Counter[tuple[str, ...]]] = defaultdict(Counter)
        for runs, causes in ((self.mined, True), (self.graded, False)):
            for slip, count in ((slip, count) for shape, count in runs for slip in shape.slips if (slip.label in CAUSES) == causes):
                if slip.label == "wrong_argument":
                    wrong[slip.tool][slip.arguments] += count
                else:
                    found.add(Kind(slip.label, slip.tool, slip.arguments))
        return sorted(found | {Kind("wrong_argument", tool, group) for tool, sets in wrong.items() for group in _groups(sets)}, key=str)

    @cached_property
    def hypotheses(self) -> int:
        """How many families could have been selected: labels with their arguments that have opportunities in enough tasks."""
        open_to: dict[tuple[str, str | None], set[str]] = defaultdict(set)
        for task in self.trials:
            for chance in self.chances[task]:
                open_to[chance.label, chance.argument].add(task)
        for shape, _ in self.graded:
            for label in self.conduct.of_run(shape.called):
                open_to[label, None].add(shape.task)
        return sum(len(tasks) >= MIN_TASKS for tasks in open_to.values())

    @cached_property
    def pools(self) -> dict[bool, Cell]:
        """All errors and opportunities together: of causes (True), and of conduct (False)."""
        found = {}
        for causes in (True, False):
            errors = self._by_task(
                (shape.task, count * sum((slip.label in CAUSES) == causes for slip in shape.slips))
                for shape, count in self.runs(is_cause=causes)
            )
            if causes:
                chances = self._by_task((task, trials * len(self.chances[task])) for task, trials in self.trials.items())
            else:
                chances = self._by_task(
                    (shape.task, count * sum(self.conduct.of_run(shape.called).values())) for shape, count in self.graded
                )
            found[causes] = Cell(errors, chances)
        return found

    # counts

    @cached_property
    def _slips(self) -> dict[tuple[str, str | None], list[tuple[Shape, int, Slip]]]:
        """Every slip that counts, by label and tool."""
        found: dict[tuple[str, str | None], list[tuple[Shape, int, Slip]]] = defaultdict(list)
        for shape, count in self.graded:
            for slip in shape.slips:
                if slip.label not in CAUSES or shape.outcome in self.outcomes:
                    found[slip.label, slip.tool].append((shape, count, slip))
        return found

    @cached_property
    def _open(self) -> dict[tuple[str, str | None, str | None], list[Row]]:
        """Every opportunity for a cause, by label, tool and argument: (task, how often, context)."""
        found: dict[tuple[str, str | None, str | None], list[Row]] = defaultdict(list)
        for task, trials in self.trials.items():
            for label, tool, argument, features in self.chances[task]:
                found[label, tool, argument].append((task, trials, features))
        return found

    def _slips_of(self, kind: Kind) -> list[tuple[Shape, int, Slip]]:
        return [row for row in self._slips[kind.label, kind.tool] if kind.has(row[2])]

    def _opportunities(self, kind: Kind) -> Iterator[Row]:
        if kind.is_cause:
            tool = None if kind.label in OF_RUNS else kind.tool
            yield from self._open[kind.label, tool, kind.arguments[0] if kind.label == "wrong_argument" and kind.arguments else None]
            return
        for shape, count in self.graded:
            if kind.tool is None or kind.tool in shape.called:
                yield shape.task, count, _common(self.chances[shape.task])

    def cell(self, kind: Kind, feature: str | None = None, *, inside: bool = True) -> Cell:
        """Errors and opportunities of a kind by task; with a feature those inside, or outside, that context."""
        if kind not in self._cells:
            slips = [(shape.task, count, slip.features) for shape, count, slip in self._slips_of(kind)]
            self._cells[kind] = slips, list(self._opportunities(kind))

        def fits(features: frozenset[str]) -> bool:
            return feature is None or (feature in features) == inside

        errors, chances = (self._by_task((task, count) for task, count, features in rows if fits(features)) for rows in self._cells[kind])
        return Cell(errors, np.maximum(chances, errors))

    def features(self, kind: Kind) -> list[str]:
        """The contexts in which a kind happened, sorted."""
        return sorted({name for _, _, slip in self._slips_of(kind) for name in slip.features})

    def shown(self, kind: Kind, feature: str | None) -> tuple[Values, Values]:
        """The failed and the passed trajectories of each task that show a kind."""
        rows = self._shapes([kind], feature)
        failed = self._by_task((shape.task, count) for shape, count in rows if shape.outcome is not None)
        return failed, self._by_task((shape.task, count) for shape, count in rows if shape.outcome is None)

    def _shapes(self, kinds: Iterable[Kind], feature: str | None) -> list[tuple[Shape, int]]:
        """The mined trajectories that show any of the kinds, each once."""
        rows = {
            shape: count
            for kind in kinds
            for shape, count, slip in self._slips_of(kind)
            if shape.outcome in self.outcomes and (feature is None or feature in slip.features)
        }
        return list(rows.items())

    def family_share(self, kind: Kind) -> float:
        """The share of failed trajectories that show a kind with any tool: that a habit goes through seven tools makes it no rarer."""
        family = [other for other in self.kinds if (other.label, other.arguments) == (kind.label, kind.arguments)]
        shown = sum(count for shape, count in self._shapes(family, None) if shape.outcome is not None)
        return shown / float(self.failed.sum()) if self.failed.any() else 0.0


def _common(chances: tuple[Chance, ...]) -> frozenset[str]:
    """What holds for the task as a whole."""
    return next((chance.features for chance in chances if chance.label == "unfinished"), frozenset())


def _groups(sets: Counter[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Arguments that go wrong together as one tuple each; of a group those that are in at least half of its errors."""
    names = sorted({name for arguments in sets for name in arguments})
    count = {name: sum(times for arguments, times in sets.items() if name in arguments) for name in names}
    group = {name: {name} for name in names}
    for one in names:
        for other in names:
            both = sum(times for arguments, times in sets.items() if one in arguments and other in arguments)
            if one != other and count[one] - both <= _APART * count[one]:  # `one` hardly ever goes wrong without `other`
                merged = group[one] | group[other]
                for name in merged:
                    group[name] = merged
    for members in {frozenset(members) for members in group.values()}:
        total = sum(times for arguments, times in sets.items() if members.intersection(arguments))
        often = [name for name in members if 2 * count[name] >= total] or [max(sorted(members), key=lambda name: count[name])]
        yield tuple(sorted(often))
