"""Layer 3, the point of no return: the first executed write after which the reference's state is out of reach.

Out of reach means that no selection of the reference's writes, in no order, leads there from the state at hand. The records that a
reference changes fall into groups that share no write; each group is searched by itself, which keeps the search small, and what was
found out about a state is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from sentinel_env.database import Database
from sentinel_env.domain import Domain

from .writes import Place, Write, places_of

_MOST_WRITES = 7
"""Of a larger group only the reference's own order is tried, from every point of it: 7 writes have 13,700 arrangements."""


def point_of_no_return(domain: Domain, start: Database, made: Sequence[Write], wanted: Sequence[Write]) -> Write | None:
    """The executed write that decided the run; None where the state after the last one can still be led to the reference's.

    A write that puts out of reach what a later one brings back is not the point: the last time counts.
    """
    reach = _Reach(domain, wanted[-1].after if wanted else start, made, wanted)
    decisive = None
    for write in reversed(made):
        if reach.is_possible(write.after):
            return decisive
        decisive = write
    return decisive


class _Reach:
    """Whether the goal can be reached from a state."""

    def __init__(self, domain: Domain, goal: Database, made: Sequence[Write], wanted: Sequence[Write]) -> None:
        self.domain, self.goal = domain, goal
        self.groups = _groups(wanted)
        covered = frozenset(place for places, _ in self.groups for place in places)
        self.untouchable = sorted(places_of(made) - covered)
        """Records that no reference write changes: they must be as in the goal already."""
        self.known: dict[tuple[object, ...], bool] = {}

    def is_possible(self, state: Database) -> bool:
        if not _equal(state, self.goal, self.untouchable):
            return False
        return all(self._reaches(state, places, writes) for places, writes in self.groups)

    def _reaches(self, state: Database, places: tuple[Place, ...], writes: tuple[Write, ...]) -> bool:
        if _equal(state, self.goal, places):
            return True
        if not writes:
            return False
        key = (_content(state, places), tuple(map(id, writes)))
        if (known := self.known.get(key)) is not None:
            return known
        self.known[key] = found = self._search(state, places, writes)
        return found

    def _search(self, state: Database, places: tuple[Place, ...], writes: tuple[Write, ...]) -> bool:
        too_many = len(writes) > _MOST_WRITES
        for at, write in enumerate(writes):
            after = state.fork()
            if self.domain.execute(after, write.call).is_error:
                continue
            rest = writes[at + 1 :] if too_many else (*writes[:at], *writes[at + 1 :])
            if self._reaches(after, places, rest):
                return True
        return False


def _groups(wanted: Sequence[Write]) -> list[tuple[tuple[Place, ...], tuple[Write, ...]]]:
    """The reference's writes, those together that change a common record; with the records of each group."""
    groups: list[tuple[set[Place], list[Write]]] = []
    for write in wanted:
        places, writes = set(write.places), [write]
        for group in [group for group in groups if group[0] & places]:
            groups.remove(group)
            places |= group[0]
            writes = group[1] + writes
        groups.append((places, writes))
    order = {id(write): at for at, write in enumerate(wanted)}
    return [(tuple(sorted(places)), tuple(sorted(writes, key=lambda write: order[id(write)]))) for places, writes in groups]


def _equal(one: Database, other: Database, places: Sequence[Place]) -> bool:
    return all(one.tables[table].get(key) == other.tables[table].get(key) for table, key in places)


def _content(state: Database, places: Sequence[Place]) -> tuple[str | None, ...]:
    records = [state.tables[table].get(key) for table, key in places]
    return tuple(None if record is None else record.json_text for record in records)
