"""Tool results in a tenth of the tokens, for small models: `Domain(..., render=render_compact)`.

An order is one line, a user is one line, a product is its available variants. An id stands behind what it is looked up by, since a small
model copies what follows: a line reads `desk lamp PRODUCT:ITEM black/warm $12.50`, a variant `black/warm = ITEM $12.50`. What the policy
and the tools need stays: ids, statuses, options, prices, who pays, addresses. What is left out: parcels, names and e-mail addresses (the
customer has just given them), whose order it is (the profile lists its orders), and sold out variants (a missing one is sold out).
"""

from __future__ import annotations

from typing import Any

from sentinel_env.tools import to_text

from .db import Address, CreditCard, GiftCard, Order, OrderLine, Payment, PaymentMethod, Product, User, Variant
from .wording import money, say_address


def render_compact(value: Any, *, addresses: bool = True) -> str:
    """A tool's result as short text; what is no order, user, product or variant as `to_text` has it.

    Args:
        value: What the tool returned.
        addresses: Whether orders and users show theirs. Without, "my default address" cannot be looked up.

    >>> render_compact(Variant(item_id="3412", options={"color": "black", "light": "warm"}, available=True, price=12.5))
    'black/warm = 3412 $12.50'
    """
    if isinstance(value, Order):
        return " | ".join(_order(value, addresses))
    if isinstance(value, User):
        methods = ", ".join(_method(method) for method in value.payment_methods.values())
        parts = [value.user_id, f"orders {' '.join(value.orders) or 'none'}", f"pays {methods}"]
        return " | ".join([*parts, f"at {_address(value.address)}"] if addresses else parts)
    if isinstance(value, Product):
        variants = [variant for variant in value.variants.values() if variant.available]
        keys = "/".join(variants[0].options) if variants else ""
        shown = "; ".join(_variant(variant) for variant in variants)
        return (
            f"{value.name.lower()} {value.product_id} ({keys}): {shown}"
            if variants
            else f"{value.name.lower()} {value.product_id}: sold out"
        )
    if isinstance(value, Variant):
        return _variant(value) + ("" if value.available else " sold out")
    return to_text(value)


def _variant(variant: Variant) -> str:
    return f"{'/'.join(variant.options.values())} = {variant.item_id} ${money(variant.price)}"


def _order(order: Order, addresses: bool) -> list[str]:
    status = f"{order.status} ({order.cancel_reason})" if order.cancel_reason else order.status
    parts = [f"{order.order_id} {status}", "; ".join(_line(line) for line in order.items)]
    parts.append(", ".join(_payment(payment) for payment in order.payment_history))
    if order.return_items is not None:
        parts.append(f"returning {' '.join(order.return_items)} to {order.return_payment_method_id}")
    if order.exchange_items is not None:
        pairs = zip(order.exchange_items, order.exchange_new_items or (), strict=False)
        owed = money(order.exchange_price_difference or 0)
        parts.append(f"exchanging {', '.join(f'{old} for {new}' for old, new in pairs)}, ${owed} by {order.exchange_payment_method_id}")
    if addresses:
        parts.append(f"to {_address(order.address)}")
    return parts


def _line(line: OrderLine) -> str:
    return f"{line.name.lower()} {line.product_id}:{line.item_id} {'/'.join(line.options.values())} ${money(line.price)}"


def _payment(payment: Payment) -> str:
    verb = "pays" if payment.transaction_type == "payment" else "refunded to"
    return f"{verb} {payment.payment_method_id} ${money(payment.amount)}"


def _method(method: PaymentMethod) -> str:
    if isinstance(method, GiftCard):
        return f"{method.id} ${money(method.balance)}"
    return f"{method.id} ending in {method.last_four}" if isinstance(method, CreditCard) else method.id


def _address(address: Address) -> str:
    return say_address(address) + ("" if address.country == "USA" else f", {address.country}")
