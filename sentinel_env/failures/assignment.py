"""The cheapest way to pair two small lists when either side may stay unpaired: the Hungarian method, O((n + m)^3), always optimal."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf


def assign(costs: Sequence[Sequence[float]], *, alone_left: float, alone_right: float) -> list[tuple[int, int]]:
    """The pairs of the cheapest matching, by row.

    Args:
        costs: Of pairing row i with column j; `math.inf` where they must not be paired. Every row has the same length.
        alone_left: What an unpaired row costs.
        alone_right: What an unpaired column costs.

    >>> assign([[1.0, 5.0], [1.0, 1.5]], alone_left=3.0, alone_right=3.0)
    [(0, 0), (1, 1)]
    >>> assign([[9.0]], alone_left=3.0, alone_right=3.0)
    []
    """
    rows = len(costs)
    columns = len(costs[0]) if rows else 0
    if not rows or not columns:
        return []
    # every row may take a dummy column of its own, every column a dummy row; dummies pair with each other for nothing
    size = rows + columns
    finite = [cost for row in costs for cost in row if cost != inf]
    forbidden = 1.0 + size * (max([alone_left, alone_right, *finite]) + 1.0)  # dearer than any matching without it
    table = [[min(cost, forbidden) for cost in row] + [alone_left] * rows for row in costs]
    table += [[alone_right] * columns + [0.0] * rows for _ in range(columns)]
    row_of = _hungarian(table, size)
    return sorted((row, column) for column, row in enumerate(row_of[:columns]) if row < rows and costs[row][column] != inf)


def _hungarian(table: list[list[float]], size: int) -> list[int]:
    """The row of each column in a cheapest perfect matching of a square table, by shortest augmenting paths with potentials."""
    of_row, of_column = [0.0] * (size + 1), [0.0] * (size + 1)
    row_of = [size] * (size + 1)  # `size` is no row; the last column starts the paths
    for row in range(size):
        row_of[size] = row
        at = size
        least, previous, used = [inf] * size, [size] * size, [False] * (size + 1)
        while row_of[at] != size:
            used[at] = True
            current, step, nearest = row_of[at], inf, size
            for column in range(size):
                if used[column]:
                    continue
                reduced = table[current][column] - of_row[current] - of_column[column]
                if reduced < least[column]:
                    least[column], previous[column] = reduced, at
                if least[column] < step:
                    step, nearest = least[column], column
            for column in range(size + 1):
                if used[column]:
                    of_row[row_of[column]] += step
                    of_column[column] -= step
                elif column < size:
                    least[column] -= step
            at = nearest
        while at != size:
            row_of[at] = row_of[previous[at]]
            at = previous[at]
    return row_of
