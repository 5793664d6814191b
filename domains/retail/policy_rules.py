"""The policy's rules about writes, as predicates: what a write must not do, whether or not a tool would refuse it.

    forbids(db, ToolCall(name="cancel_pending_order", arguments={"order_id": "#W1", "reason": "too slow"}))
    # the reason is 'too slow'; the policy: "Only two reasons are accepted: ..."

They are read off `policy.md`, not off the tools: the two are independent, so that each can find what the other lets pass. What only a
whole conversation shows (who the customer is, whether the customer said yes) is not here. A call is untrusted: anything may be in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sentinel_env import ToolCall

from .db import GiftCard, Order, OrderLine, PaymentMethod, RetailDB, Variant

ONE_CUSTOMER = "refuse whatever concerns another customer's profile or orders"
PENDING = 'the status must be exactly "pending"'
CLOSED = 'The order\'s status becomes "pending (item modified)": from then on nothing in it can be modified, and it cannot be cancelled.'
REASONS = 'Only two reasons are accepted: "no longer needed" and "ordered by mistake".'
ONE_METHOD = "The order is paid by one method of the customer's profile, and it must be another than the one that paid."
WHOLE_AMOUNT = "A gift card must hold the whole amount."
REPLACED = "Each item can be replaced by an available variant of the same product with other options."
EXCHANGED = (
    "Each item can be exchanged for an available variant of the same product with other options, "
    "never for another product and never for the same variant."
)
DIFFERENCE = "a gift card must hold the difference if there is something to pay"
DELIVERED = 'The status must be "delivered".'
RETURNED = "The customer confirms the order and the items to return."
REFUND = "The refund goes to the payment method that paid the order, or to a gift card that is already in the customer's profile."
RULES = (ONE_CUSTOMER, PENDING, CLOSED, REASONS, ONE_METHOD, WHOLE_AMOUNT, REPLACED, EXCHANGED, DIFFERENCE, DELIVERED, RETURNED, REFUND)
"""Every rule that a reason can quote, in the words of `policy.md`."""

_ACCEPTED = ("no longer needed", "ordered by mistake")
_Arguments = Mapping[str, Any]
_Broken = Iterator[tuple[str, str]]
"""(what was found, the rule against it), lazily: what is looked at later relies on what was not found before."""


def forbids(db: RetailDB, call: ToolCall) -> str | None:
    """Why the policy forbids a write that is about to be made, in one line that quotes it; None where it is allowed, and for a read."""
    found = next(_broken(db, call.name, call.arguments), None)
    return None if found is None else f'{found[0]}; the policy: "{found[1]}"'


def _broken(db: RetailDB, tool: str, arguments: _Arguments) -> _Broken:
    if tool == "modify_user_address":
        user_id = arguments.get("user_id")
        if not isinstance(user_id, str) or user_id not in db.users:
            yield f"there is no user {user_id!r:.60}", ONE_CUSTOMER
    elif tool in _RULES:
        order_id = arguments.get("order_id")
        order = db.orders.get(order_id) if isinstance(order_id, str) else None
        if order is None:
            yield f"there is no order {order_id!r:.60}", ONE_CUSTOMER
        else:
            yield from _RULES[tool](db, order, arguments)


def _cancel(db: RetailDB, order: Order, arguments: _Arguments) -> _Broken:
    yield from _not_pending(order)
    if arguments.get("reason") not in _ACCEPTED:
        yield f"the reason is {arguments.get('reason')!r:.80}", REASONS


def _change_address(db: RetailDB, order: Order, arguments: _Arguments) -> _Broken:
    yield from _not_pending(order)


def _change_payment(db: RetailDB, order: Order, arguments: _Arguments) -> _Broken:
    yield from _not_pending(order)
    method = _method(db, order, arguments)
    if method is None:
        yield _no_method(order, arguments, ONE_METHOD)
        return
    held = _held(order)
    if held.get(method.id, 0.0) > 0:
        yield f"{method.id} is what pays order {order.order_id} already", ONE_METHOD
    amount = round(sum(held.values()), 2)
    if isinstance(method, GiftCard) and method.balance < amount:
        yield f"{method.id} holds {method.balance:.2f} and order {order.order_id} costs {amount:.2f}", WHOLE_AMOUNT


def _modify(db: RetailDB, order: Order, arguments: _Arguments) -> _Broken:
    yield from _not_pending(order)
    yield from _swap(db, order, arguments, REPLACED)


def _exchange(db: RetailDB, order: Order, arguments: _Arguments) -> _Broken:
    yield from _not_delivered(order)
    yield from _swap(db, order, arguments, EXCHANGED)


def _return(db: RetailDB, order: Order, arguments: _Arguments) -> _Broken:
    yield from _not_delivered(order)
    yield from _not_held(order, arguments.get("item_ids"), RETURNED)
    method = _method(db, order, arguments)
    if method is None:
        yield _no_method(order, arguments, REFUND)
    elif not isinstance(method, GiftCard) and _held(order).get(method.id, 0.0) <= 0:
        yield f"{method.id} did not pay order {order.order_id} and is no gift card", REFUND


_RULES: dict[str, Callable[[RetailDB, Order, _Arguments], _Broken]] = {
    "cancel_pending_order": _cancel,
    "modify_pending_order_address": _change_address,
    "modify_pending_order_payment": _change_payment,
    "modify_pending_order_items": _modify,
    "return_delivered_order_items": _return,
    "exchange_delivered_order_items": _exchange,
}


def _not_pending(order: Order) -> _Broken:
    if order.status != "pending":
        yield f"order {order.order_id} is {order.status}", CLOSED if order.status.startswith("pending") else PENDING


def _not_delivered(order: Order) -> _Broken:
    if order.status != "delivered":
        yield f"order {order.order_id} is {order.status}", DELIVERED


def _method(db: RetailDB, order: Order, arguments: _Arguments) -> PaymentMethod | None:
    """The payment method of the call, if it belongs to whom the order belongs to."""
    method_id, user = arguments.get("payment_method_id"), db.users.get(order.user_id)
    return user.payment_methods.get(method_id) if user is not None and isinstance(method_id, str) else None


def _no_method(order: Order, arguments: _Arguments, rule: str) -> tuple[str, str]:
    return f"{arguments.get('payment_method_id')!r:.60} is no payment method of the customer of order {order.order_id}", rule


def _held(order: Order) -> dict[str, float]:
    """What each method has paid and not got back."""
    held: dict[str, float] = {}
    for row in order.payment_history:
        amount = row.amount if row.transaction_type == "payment" else -row.amount
        held[row.payment_method_id] = round(held.get(row.payment_method_id, 0.0) + amount, 2)
    return held


def _not_held(order: Order, item_ids: Any, rule: str) -> _Broken:
    """What is wrong with a list of items of an order."""
    if not isinstance(item_ids, list | tuple) or not item_ids:
        yield f"the items are {item_ids!r:.60}", rule
        return
    held = [line.item_id for line in order.items]
    for item_id in item_ids:
        if (count := item_ids.count(item_id)) > held.count(item_id):
            yield f"order {order.order_id} does not hold item {item_id!r:.60}{f' {count} times' if count > 1 else ''}", rule


def _swap(db: RetailDB, order: Order, arguments: _Arguments, rule: str) -> _Broken:
    """What is wrong with replacing items, before delivery or after it."""
    item_ids, new_ids = arguments.get("item_ids"), arguments.get("new_item_ids")
    yield from _not_held(order, item_ids, rule)
    assert item_ids
    if not isinstance(new_ids, list | tuple) or len(new_ids) != len(item_ids):
        yield f"{len(item_ids)} items are to be replaced by {new_ids!r:.60}", rule
        return
    lines = {line.item_id: line for line in order.items}
    owed = 0.0
    for item_id, new_id in zip(item_ids, new_ids, strict=True):
        yield from _no_replacement(db, lines[item_id], new_id, rule)
        owed += db.products[lines[item_id].product_id].variants[new_id].price - lines[item_id].price
    method = _method(db, order, arguments)
    if method is None:
        yield _no_method(order, arguments, ONE_CUSTOMER)
    elif isinstance(method, GiftCard) and method.balance < round(owed, 2):
        yield f"{method.id} holds {method.balance:.2f} and the difference is {owed:.2f}", DIFFERENCE


def _no_replacement(db: RetailDB, line: OrderLine, new_id: Any, rule: str) -> _Broken:
    product = db.products.get(line.product_id)
    variant: Variant | None = product.variants.get(new_id) if product is not None and isinstance(new_id, str) else None
    if variant is None:
        yield f"{new_id!r:.60} is no variant of {line.name!r}, which item {line.item_id} is", rule
    elif new_id == line.item_id or variant.options == line.options:
        yield f"item {line.item_id} is to be replaced by itself", rule
    elif not variant.available:
        yield f"variant {new_id} of {line.name!r} is not available", rule
