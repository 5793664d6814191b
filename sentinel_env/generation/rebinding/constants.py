"""What a task tells in so many words, such as a new address: it is of no record, but looks as if it were, so it can be another's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from random import Random

from .shape import Shape
from .subjects import Subjects
from .world import Kind, Path, World

_LEAST = 3
"""Values that must stand together to be taken for the fields of a record."""
Values = dict[str, str]
"""Field -> value."""


class Constants:
    """The told blocks of a task: values under the names of all fields of a nested record, none of which is the subject's own."""

    def __init__(self, shape: Shape) -> None:
        """Find them."""
        self._blocks: list[tuple[Values, list[Values]]] = []
        """What is told, and what others have there."""
        if not shape.task.scenario.wishes:
            return  # in prose it may have been said of it how it differs from what there is
        for block, kind, prefix in _told(shape):
            others = _others(shape.world, kind, prefix)
            alike = [
                other for other in others if other != block and {n for n, v in other.items() if v} == {n for n, v in block.items() if v}
            ]
            if alike and block not in [known for known, _ in self._blocks]:
                self._blocks.append((block, alike))

    def draw(self, random: Random) -> dict[tuple[str, str], str]:
        """Other values for all of them, by field and old value."""
        found: dict[tuple[str, str], str] = {}
        for block, others in self._blocks:
            other = others[random.randrange(len(others))]
            found.update({(name, value): other.get(name, "") for name, value in block.items()})
        return found


def _told(shape: Shape) -> Iterator[tuple[Values, Kind, Path]]:
    fields = _nested_fields(shape.world, shape.subjects)
    for group in shape.groups.values():
        told = {name: value for name, value in group.values if (name, value) not in group.refs}
        if not group.is_binding:
            continue
        for (kind, prefix), names in fields.items():
            if len(names) >= _LEAST and set(names) <= told.keys():
                yield {name: told[name] for name in names}, kind, prefix
                break


def _nested_fields(world: World, subjects: Subjects) -> dict[tuple[Kind, Path], list[str]]:
    """The fields of the records that are nested in private records, such as an address."""
    found: dict[tuple[Kind, Path], dict[str, None]] = defaultdict(dict)
    for kind, parts in world.by_kind.items():
        for part in parts[:1]:
            if len(kind) == 1 and subjects.of(part) is not None:
                for path in part.leaves:
                    if len(path) == 2 and path[0] not in part.open:
                        found[kind, path[:1]][path[-1]] = None
    return {place: list(names) for place, names in found.items()}


def _others(world: World, kind: Kind, prefix: Path) -> list[Values]:
    """What the records have in these fields."""
    rows = []
    for part in world.by_kind[kind]:
        rows.append({path[-1]: value for path, value in part.leaves.items() if path[:-1] == prefix and isinstance(value, str)})
    return rows
