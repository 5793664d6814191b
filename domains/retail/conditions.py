"""What requests on a condition have in common: an item, the variants that are named for it, and what either branch can be mistaken for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Fact, Wish

from .db import OrderLine, Variant
from .item_requests import count_near
from .items import Picked, choose_near, difference, distance, pick, replacements, returns
from .shopper import MOST_ALTERNATIVES, Shopper, call

_SAID = {"item_ids": "fact:item", "new_item_ids": "fact:new_item", "payment_method_id": "fact:payment", "reason": "fact:reason"}
"""Where arguments come from, but for the order's id. Which of several facts of a slot it is depends on what is read."""


def pick_for_one(
    shopper: Shopper, status: str, variants: Callable[[Shopper, OrderLine], Sequence[Variant]]
) -> tuple[Picked, OrderLine, Variant] | None:
    """One item of an order, and a variant that is wanted instead of it."""
    picked = pick(shopper, shopper.in_status(status), lambda line: variants(shopper, line))
    if picked is None:
        return None
    picked = picked.first(1)
    (line,) = picked.lines
    return picked, line, choose_near(shopper, line, variants(shopper, line))


def wish_for(
    shopper: Shopper,
    picked: Picked,
    text: str,
    write: ToolCall,
    *,
    facts: Sequence[Fact],
    variants: Iterable[tuple[Variant, str]],
    method: str,
) -> Wish:
    """The wish with what it comes to; `facts` are those beside the order and the item, `variants` those that it names and how."""
    (line,), (name,) = picked.lines, picked.names
    labels = shopper.labels(picked.order, method) | {line.item_id: name}
    return Wish(
        text=text,
        call=write,
        facts=(*picked.facts, *facts),
        provenance={key: _SAID.get(key, picked.pointer.provenance) for key in write.arguments},
        labels=labels | {variant.item_id: f"{line.name.lower()}, {change}" for variant, change in variants},
    )


def condition_features(shopper: Shopper, picked: Picked, wanted: Variant, *, branch: str, terse: bool = False) -> dict[str, Any]:
    """What makes it hard; `branch` is what it comes to, "first" or "otherwise"."""
    near = count_near(shopper, picked, [wanted])
    more = {"terse": terse, "n_items": 1, "near_duplicate_variants": near, "condition": branch}
    return shopper.features(picked.pointer, picked.products, **more)


def nearest(variants: Iterable[Variant], wanted: Variant) -> list[Variant]:
    """The most similar ones first."""
    return sorted(variants, key=lambda each: distance(each, wanted))


def mistaken(
    shopper: Shopper, line: OrderLine, wanted: Variant, *, first: Variant | None = None, like: Variant, method: str
) -> list[list[str]]:
    """What can be taken for the wanted variant: the other branch first, if any, then what is most like the one that was named."""
    tempting = [*([first] if first is not None else []), *nearest(replacements(shopper, line), like)]
    payable = [each.item_id for each in tempting if method in shopper.able_to_pay(difference([line], [each]))]
    return [[item_id] for item_id in dict.fromkeys(payable) if item_id != wanted.item_id][:MOST_ALTERNATIVES]


def returns_to(shopper: Shopper, picked: Picked, method: str) -> list[ToolCall]:
    """Returning the item, to a certain method first."""
    found = returns(shopper, picked.order, picked.item_ids)
    return sorted(found, key=lambda each: each.arguments["payment_method_id"] != method)[:1]


def swaps(shopper: Shopper, tool: str, picked: Picked, variants: Sequence[Variant], method: str) -> list[ToolCall]:
    """Replacing the item by one of several variants, each paid with the method or with another one that can."""
    found = []
    for variant in variants:
        able = shopper.able_to_pay(difference(picked.lines, [variant]))
        if able:
            payer = method if method in able else able[0]
            arguments = {"order_id": picked.order.order_id, "item_ids": picked.item_ids, "new_item_ids": [variant.item_id]}
            found.append(call(tool, **arguments, payment_method_id=payer))
    return found[:MOST_ALTERNATIVES]
