"""Neighbours: the records that a call is about, and those that these name in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .database import Database
from .messages import ToolCall
from .records import Record


def neighbours(db: Database, call: ToolCall, *, steps: int, most: int) -> list[Record]:
    """The records that a call names, those that they name, and so on: an order, its customer and products, the other orders.

    Args:
        db: Where to look.
        call: Its arguments are the beginning.
        steps: How often names are followed.
        most: No more records than this are found.
    """
    found: dict[str, Record] = {}
    edge: list[Any] = [call.arguments]
    for _ in range(steps):
        step: list[Record] = []
        for leaf in (leaf for value in edge for leaf in leaves(value)):
            for table in db.tables.values():
                if leaf not in found and len(found) < most and (record := table.get(leaf)) is not None:
                    found[leaf] = record
                    step.append(record)
        edge = step
    return list(found.values())


def leaves(value: Any) -> Iterator[str]:
    """The texts in a value, records included, without the keys of mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Record):
        for each in value.__dict__.values():
            yield from leaves(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
