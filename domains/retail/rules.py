"""The checks and the writes that the tools are made of: ours (`tools.py`) and tau2-bench's (`tau2.py`) share them.

A check raises `ToolError` with the text that the agent sees. Every check of a tool comes before its first write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sentinel_env import ToolError

from .db import GiftCard, Order, OrderLine, Payment, PaymentMethod, RetailDB, User, Variant

CANCEL_REASONS = frozenset(("no longer needed", "ordered by mistake"))


def get_order(db: RetailDB, order_id: str) -> Order:
    """The order.

    Raises:
        ToolError: There is none of that id.
    """
    order: Order | None = db.orders.get(order_id)
    if order is None:
        raise ToolError("Order not found")
    return order


def get_user(db: RetailDB, user_id: str) -> User:
    """The user.

    Raises:
        ToolError: There is none of that id.
    """
    user: User | None = db.users.get(user_id)
    if user is None:
        raise ToolError("User not found")
    return user


def get_payment_method(db: RetailDB, user_id: str, payment_method_id: str) -> PaymentMethod:
    """One of the user's payment methods.

    Raises:
        ToolError: The user has none of that id.
    """
    method: PaymentMethod | None = get_user(db, user_id).payment_methods.get(payment_method_id)
    if method is None:
        raise ToolError("Payment method not found")
    return method


def get_cancellable(db: RetailDB, order_id: str, reason: str) -> Order:
    """The order, checked to be pending and unmodified, and the reason to be one of the two."""
    order = get_order(db, order_id)
    if order.status != "pending":
        raise ToolError("Non-pending order cannot be cancelled")
    if reason not in CANCEL_REASONS:
        raise ToolError("Invalid reason")
    return order


def get_pending(db: RetailDB, order_id: str, *, unmodified: bool = False) -> Order:
    """The order, checked to be pending; its items may have been modified unless that is ruled out."""
    order = get_order(db, order_id)
    if order.status != "pending" and (unmodified or "pending" not in order.status):
        raise ToolError("Non-pending order cannot be modified")
    return order


def get_delivered(db: RetailDB, order_id: str, done: str) -> Order:
    """The order, checked to be delivered; `done` is what it cannot be otherwise."""
    order = get_order(db, order_id)
    if order.status != "delivered":
        raise ToolError(f"Non-delivered order cannot be {done}")
    return order


def require_items(item_ids: Sequence[str]) -> None:
    """Check that a list of items is not empty."""
    if not item_ids:
        raise ToolError("The list of items is empty; name at least one item")


def require_lines(order: Order, item_ids: Sequence[str], refusal: str) -> None:
    """Check that the order holds each item as often as it is listed.

    Args:
        order: The order.
        item_ids: What is asked for; an item is listed once for each line that is meant.
        refusal: What the agent sees otherwise; `{}` stands for the item.
    """
    held = [line.item_id for line in order.items]
    for item_id in item_ids:
        if item_ids.count(item_id) > held.count(item_id):
            raise ToolError(refusal.replace("{}", str(item_id)))


@dataclass(frozen=True)
class Wording:
    """How a tool that replaces items words its refusals; `{}` stands for the item, and None means that it does not refuse."""

    too_few: str
    uneven: str
    same: str | None = "The new item id should be different from the old item id"
    no_variant: str = "Variant not found"


MODIFY = Wording(too_few="{} not found", uneven="The number of items to be exchanged should match")
EXCHANGE = Wording(too_few="Number of {} not found.", uneven="The number of items to be exchanged should match.")
TAU2_EXCHANGE = replace(EXCHANGE, same=None)


def find_replacements(
    db: RetailDB, order: Order, item_ids: Sequence[str], new_item_ids: Sequence[str], wording: Wording
) -> tuple[list[Variant], float]:
    """The available variants that are to replace items of an order, and what they cost more, as a plain sum of floats.

    Raises:
        ToolError: The order does not hold the items, the lists differ in length, or a new item is no available variant of the
            product that it is to replace.
    """
    require_lines(order, item_ids, wording.too_few)
    if len(item_ids) != len(new_item_ids):
        raise ToolError(wording.uneven)
    variants: list[Variant] = []
    difference: float = 0
    for item_id, new_item_id in zip(item_ids, new_item_ids, strict=True):
        if item_id == new_item_id and wording.same is not None:
            raise ToolError(wording.same)
        line = next(line for line in order.items if line.item_id == item_id)
        product = db.products.get(line.product_id)
        if product is None:
            raise ToolError("Product not found")
        variant = product.variants.get(new_item_id)
        if variant is None:
            raise ToolError(wording.no_variant.replace("{}", str(new_item_id)))
        if not variant.available:
            raise ToolError(f"New item {new_item_id} not found or available")
        variants.append(variant)
        difference += variant.price - line.price  # sum() would compensate rounding errors, which tau2-bench keeps
    return variants, difference


def require_balance(method: PaymentMethod, amount: float, what: str) -> None:
    """Check that a gift card covers an amount; other methods cover any."""
    if isinstance(method, GiftCard) and method.balance < amount:
        raise ToolError(f"Insufficient gift card balance to pay for the {what}")


def charge(db: RetailDB, user_id: str, payment_method_id: str, amount: float) -> None:
    """Take an amount from a gift card, or give it back where it is negative; other methods keep no balance."""
    user = get_user(db, user_id)
    method = get_payment_method(db, user_id, payment_method_id)
    if isinstance(method, GiftCard):
        new = method.replace(balance=round(method.balance - amount, 2))
        db.users.update(user_id, payment_methods={**user.payment_methods, payment_method_id: new})


def with_variant(line: OrderLine, item_id: str, variant: Variant) -> OrderLine:
    """The line with another item, at the price and with the options of a variant."""
    return OrderLine(name=line.name, product_id=line.product_id, item_id=item_id, price=variant.price, options=variant.options)


def refund(db: RetailDB, order: Order, refunds: list[Payment], reason: str) -> Order:
    """Write a cancellation with its refunds; gift cards are credited at once."""
    for each in refunds:
        charge(db, order.user_id, each.payment_method_id, -each.amount)
    history = [*order.payment_history, *refunds]
    return db.orders.update(order.order_id, status="cancelled", cancel_reason=reason, payment_history=history)


def modify_items(db: RetailDB, order: Order, lines: list[OrderLine], payment_method_id: str, difference: float) -> Order:
    """Check that the price difference can be paid; then write the lines, its payment or refund, and the status."""
    require_balance(get_payment_method(db, order.user_id, payment_method_id), difference, "new item")
    charge(db, order.user_id, payment_method_id, difference)
    kind: Literal["payment", "refund"] = "payment" if difference > 0 else "refund"
    paid = Payment(transaction_type=kind, amount=abs(difference), payment_method_id=payment_method_id)
    history = [*order.payment_history, paid]
    return db.orders.update(order.order_id, items=lines, payment_history=history, status="pending (item modified)")


def request_return(db: RetailDB, order: Order, item_ids: Sequence[str], payment_method_id: str) -> Order:
    """Check where the refund goes and that the order holds the items; then write the request."""
    method = get_payment_method(db, order.user_id, payment_method_id)
    if not isinstance(method, GiftCard) and payment_method_id != order.payment_history[0].payment_method_id:
        raise ToolError("Payment method should be the original payment method")
    require_lines(order, item_ids, "Some item not found")
    returned = sorted(item_ids)
    return db.orders.update(order.order_id, status="return requested", return_items=returned, return_payment_method_id=payment_method_id)


def request_exchange(
    db: RetailDB, order: Order, item_ids: list[str], new_item_ids: list[str], payment_method_id: str, difference: float
) -> Order:
    """Check that the price difference can be paid; then write the request. Nothing is charged before the items are sent back."""
    require_balance(get_payment_method(db, order.user_id, payment_method_id), difference, "price difference")
    return db.orders.update(
        order.order_id,
        status="exchange requested",
        exchange_items=item_ids,
        exchange_new_items=new_item_ids,
        exchange_payment_method_id=payment_method_id,
        exchange_price_difference=difference,
    )
