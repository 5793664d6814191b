"""tau2-bench compatibility: the tools that behave differently there, exact to the last bit, and the loader of its data.

Rewards, tool outputs and database hashes equal tau2-bench's. Everything that is right there is ours (`tools.py`); the five tools below
are made of the same checks and writes (`rules.py`). `README.md` lists the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from pathlib import Path
from types import FunctionType
from typing import Any, cast

from sentinel_env import Domain, Tool
from sentinel_env.importers.tau2 import load_folder

from . import rules
from .db import Address, Order, OrderLine, RetailDB, Variant
from .tools import TOOLS as OUR_TOOLS


def cancel_pending_order(db: RetailDB, order_id: str, reason: str) -> Order:
    """Refund every row of the payment history, earlier refunds included."""
    order = rules.get_cancellable(db, order_id, reason)
    refunds = [row.replace(transaction_type="refund") for row in order.payment_history]
    return rules.refund(db, order, refunds, reason)


def modify_pending_order_address(
    db: RetailDB, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> Order:
    """Accept an order whose items were modified."""
    rules.get_pending(db, order_id)
    address = Address(address1=address1, address2=address2, city=city, country=country, state=state, zip=zip)
    return db.orders.update(order_id, address=address)


def modify_pending_order_items(db: RetailDB, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str) -> Order:
    """Give every modified line the price and the options of the last new item; the difference is not rounded."""
    order = rules.get_pending(db, order_id, unmodified=True)
    variants, difference = rules.find_replacements(db, order, item_ids, new_item_ids, rules.MODIFY)
    lines = replace_in_turn(order.items, item_ids, new_item_ids, variants[-1:] * len(variants))
    return rules.modify_items(db, order, lines, payment_method_id, difference)


def replace_in_turn(
    lines: Sequence[OrderLine], item_ids: Sequence[str], new_item_ids: Sequence[str], variants: Sequence[Variant]
) -> list[OrderLine]:
    """Replace one item after the other, each in the first line that holds it by then, even if a replacement put it there."""
    changed = list(lines)
    for item_id, new_item_id, variant in zip(item_ids, new_item_ids, variants, strict=True):
        at = next(at for at, line in enumerate(changed) if line.item_id == item_id)
        changed[at] = rules.with_variant(changed[at], new_item_id, variant)
    return changed


def return_delivered_order_items(db: RetailDB, order_id: str, item_ids: list[str], payment_method_id: str) -> Order:
    """Accept an empty list."""
    order = rules.get_delivered(db, order_id, "returned")
    return rules.request_return(db, order, item_ids, payment_method_id)


def exchange_delivered_order_items(
    db: RetailDB, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Order:
    """Accept an empty list and an item for itself."""
    return exchange_unpaired(db, order_id, item_ids, new_item_ids, payment_method_id, rules.TAU2_EXCHANGE)


def exchange_unpaired(
    db: RetailDB, order_id: str, item_ids: Sequence[str], new_item_ids: Sequence[str], payment_method_id: str, wording: rules.Wording
) -> Order:
    """Sort both lists on their own, so that what replaces what is lost."""
    order = rules.get_delivered(db, order_id, "exchanged")
    _, difference = rules.find_replacements(db, order, item_ids, new_item_ids, wording)
    return rules.request_exchange(db, order, sorted(item_ids), sorted(new_item_ids), payment_method_id, round(difference, 2))


def method_of(owner: str, tool: Tool, function: Callable[..., Any] | None = None) -> Tool:
    """The tool, or another function in its place, as if it were a method of a class: Python's texts on wrong arguments name it so."""
    body = cast(FunctionType, function or tool.function)
    copy = FunctionType(body.__code__, body.__globals__, tool.name, body.__defaults__, body.__closure__)
    update_wrapper(copy, body)
    copy.__doc__ = tool.function.__doc__
    copy.__name__, copy.__qualname__ = tool.name, f"{owner}.{tool.name}"
    return Tool(copy, writes=tool.writes)


def replace_tools(owner: str, functions: Iterable[Callable[..., Any]]) -> tuple[Tool, ...]:
    """Our tools as methods of a class, with functions of the same name in the place of some."""
    others = {function.__name__: function for function in functions}
    return tuple(method_of(owner, tool, others.get(tool.name)) for tool in OUR_TOOLS)


TOOLS = replace_tools(
    "RetailTools",
    (
        cancel_pending_order,
        modify_pending_order_address,
        modify_pending_order_items,
        return_delivered_order_items,
        exchange_delivered_order_items,
    ),
)
"""tau2-bench's sixteen tools, quirks included."""


def load(folder: str | Path, *, tools: tuple[Tool, ...] = TOOLS, **fields: Any) -> Domain:
    """The retail domain from a folder in tau2-bench's format; `sentinel_env.importers.tau2.load_folder` says what it raises."""
    return load_folder(folder, name="retail", database=RetailDB, tools=tools, **fields)
