"""tau-bench v1's tools over tau2-bench's data: what it takes to replay runs that were recorded with it.

Its database is tau2-bench's but for fields that the agent's text leaves out. Where v1 behaves as tau2-bench does, quirks included, the
tools are those of `tau2.py`; modifying several items is right here. `README.md` lists the differences.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from sentinel_env import Domain, Record, Tool, ToolError, tool

from . import rules, tau2, tools
from .db import Order, RetailDB, User

_WORDING = replace(rules.MODIFY, same=None, no_variant="New item {} not found or available")
_OTHER_TEXTS = {
    "Payment method should be the original payment method": ("payment method should be either the original payment method or a gift card"),
}


@tool
def think(db: RetailDB, thought: str) -> str:
    """Note a thought. Nothing happens.

    Args:
        thought: The thought.
    """
    return ""


def modify_pending_order_items(db: RetailDB, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str) -> Order:
    """Give every modified line its own new item, one after the other."""
    order = rules.get_pending(db, order_id, unmodified=True)
    variants, difference = rules.find_replacements(db, order, item_ids, new_item_ids, _WORDING)
    lines = tau2.replace_in_turn(order.items, item_ids, new_item_ids, variants)
    return rules.modify_items(db, order, lines, payment_method_id, difference)


def exchange_delivered_order_items(
    db: RetailDB, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Order:
    """As tau2-bench does, in other words."""
    return tau2.exchange_unpaired(db, order_id, item_ids, new_item_ids, payment_method_id, _WORDING)


def _if_unmodified(ours: Tool) -> Callable[..., Order]:
    """The tool, refusing an order whose items have been modified."""

    @wraps(ours.function)
    def function(db: RetailDB, order_id: str, *arguments: Any, **named: Any) -> Order:
        rules.get_pending(db, order_id, unmodified=True)
        return ours.function(db, order_id, *arguments, **named)  # type: ignore[no-any-return]

    return function


def _in_lower_case(theirs: Tool) -> Tool:
    @wraps(theirs.function)
    def function(db: RetailDB, *arguments: Any, **named: Any) -> Any:
        try:
            return theirs.function(db, *arguments, **named)
        except ToolError as error:
            text = str(error)
            raise ToolError(_OTHER_TEXTS.get(text, text[:1].lower() + text[1:])) from None

    return Tool(function, writes=theirs.writes)


_CHANGED = (
    modify_pending_order_items,
    exchange_delivered_order_items,
    _if_unmodified(tools.modify_pending_order_address),
    _if_unmodified(tools.modify_pending_order_payment),
    tau2.cancel_pending_order,
    tau2.return_delivered_order_items,
)
TOOLS = tuple(_in_lower_case(each) for each in (*tau2.replace_tools("Tool", _CHANGED), think) if each.name != "get_item_details")
"""tau-bench v1's tools."""


def render(value: Any) -> str:
    """A result as v1's agents saw it, up to spelling: without the fields that are null, and a profile without its user id."""
    if isinstance(value, Record):
        return json.dumps(value.model_dump(mode="json", exclude_none=True, exclude={"user_id"} if isinstance(value, User) else None))
    return str(value)


def load(folder: str | Path) -> Domain:
    """The retail domain with v1's tools, from a folder in tau2-bench's format."""
    return tau2.load(folder, tools=TOOLS, render=render)
