"""What the analysis of failures needs to know of the shop: whose records are whose, and names for the kinds of mistakes."""

from __future__ import annotations

from sentinel_env import ToolCall
from sentinel_env.access import Access

from .db import RetailDB, Variant


def owner(db: RetailDB, call: ToolCall) -> str | None:
    """The customer whose profile or order a call is about; products are nobody's."""
    order = db.orders.get(call.arguments.get("order_id", ""))
    if order is not None:
        return order.user_id
    user_id = call.arguments.get("user_id", "")
    return user_id if user_id in db.users else None


ACCESS = Access(identified_by=("find_user_id_by_email", "find_user_id_by_name_zip"), owner=owner)


def features(db: RetailDB, made: ToolCall, wanted: ToolCall) -> tuple[str, ...]:
    """Names for how a call differs from the one wanted: "item_set", "variant", with it "near_duplicate", "payment_method" and so on."""
    differing = {name for name, value in wanted.arguments.items() if made.arguments.get(name) != value}
    names = []
    if "item_ids" in differing and sorted(made.arguments.get("item_ids", ())) != sorted(wanted.arguments["item_ids"]):
        names.append("item_set")
    elif "new_item_ids" in differing:
        names.append("variant")
        if _are_near_duplicates(db, made.arguments.get("new_item_ids", ()), wanted.arguments["new_item_ids"]):
            names.append("near_duplicate")
    if "payment_method_id" in differing:
        names.append("payment_method")
    if "reason" in differing:
        names.append("reason")
    names += sorted(f"address.{name}" for name in differing & {"address1", "address2", "city", "state", "country", "zip"})
    return tuple(names)


def _are_near_duplicates(db: RetailDB, made: list[str], wanted: list[str]) -> bool:
    """Whether every item that differs is the wanted one but for a single option."""
    pairs = [(one, other) for one, other in zip(made, wanted, strict=False) if one != other]
    variants = [(_variant(db, one), _variant(db, other)) for one, other in pairs]
    return bool(variants) and all(one is not None and other is not None and _distance(one, other) == 1 for one, other in variants)


def _variant(db: RetailDB, item_id: str) -> Variant | None:
    products = db.products.find("item_id", item_id)
    return db.products[products[0]].variants[item_id] if products else None


def _distance(one: Variant, other: Variant) -> int:
    if one.options.keys() != other.options.keys():
        return len(one.options)
    return sum(one.options[name] != value for name, value in other.options.items())


def contexts(db: RetailDB, call: ToolCall) -> tuple[str, ...]:
    """What makes a write easy to get wrong: a near-duplicate of the wanted variant, one product in two orders, several ways to pay."""
    order = db.orders.get(call.arguments.get("order_id", ""))
    if order is None:
        return ()
    user, names = db.users[order.user_id], []
    if any(_has_near_duplicate(db, item_id) for item_id in call.arguments.get("new_item_ids", ())):
        names.append("near_duplicate_variant")
    lines = [line.product_id for line in order.items if line.item_id in call.arguments.get("item_ids", (line.item_id,))]
    others = {line.product_id for other in user.orders if other != order.order_id for line in db.orders[other].items}
    if others.intersection(lines):
        names.append("product_in_two_orders")
    if "payment_method_id" in call.arguments and len(user.payment_methods) > 1:
        names.append("several_payment_methods")
    return tuple(names)


def _has_near_duplicate(db: RetailDB, item_id: str) -> bool:
    """Whether another available variant of its product differs in one option."""
    wanted = _variant(db, item_id)
    if wanted is None:
        return False
    variants = db.products[db.products.find("item_id", item_id)[0]].variants.values()
    return any(other.available and other.item_id != item_id and _distance(other, wanted) == 1 for other in variants)
