"""What holds in a shop before anyone has acted: of the databases that `data.generate` makes, and of tau2-bench's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator

from .db import GiftCard, Order, Product, RetailDB, User


def check_invariants(db: RetailDB) -> list[str]:
    """What is wrong with a database, one line each; nothing for a sound one."""
    return [*_identifiers(db), *_products(db), *_users(db), *_orders(db)]


def _identifiers(db: RetailDB) -> Iterator[str]:
    users = db.users.values()
    yield from _twice("item id", (item_id for product in db.products.values() for item_id in product.variants))
    yield from _twice("product name", (product.name for product in db.products.values()))
    yield from _twice("e-mail", (user.email.lower() for user in users))
    yield from _twice("name and zip", ((user.name.first_name.lower(), user.name.last_name.lower(), user.address.zip) for user in users))
    yield from _twice("payment method id", (method_id for user in users for method_id in user.payment_methods))
    yield from _twice("order of a user", (order_id for user in users for order_id in user.orders))


def _twice(what: str, values: Iterable[Hashable]) -> Iterator[str]:
    return (f"{what} {value!r} occurs {count} times" for value, count in Counter(values).items() if count > 1)


def _products(db: RetailDB) -> Iterator[str]:
    for key, product in db.products.items():
        yield from (f"product {key}: {wrong}" for wrong in _product(key, product))


def _product(key: str, product: Product) -> Iterator[str]:
    variants = product.variants
    if key != product.product_id or any(item_id != variant.item_id for item_id, variant in variants.items()):
        yield "a key is not the record's id"
    if not variants:
        yield "has no variant"
    if len({frozenset(variant.options) for variant in variants.values()}) > 1:
        yield "its variants have different options"
    if len({frozenset(variant.options.items()) for variant in variants.values()}) < len(variants):
        yield "two variants have the same values"
    yield from (f"item {item.item_id} costs {item.price}" for item in variants.values() if item.price <= 0 or not _is_money(item.price))


def _users(db: RetailDB) -> Iterator[str]:
    for key, user in db.users.items():
        yield from (f"user {key}: {wrong}" for wrong in _user(db, key, user))


def _user(db: RetailDB, key: str, user: User) -> Iterator[str]:
    if key != user.user_id:
        yield "the key is not the record's id"
    if not user.payment_methods:
        yield "has no payment method"
    if any(method_id != method.id for method_id, method in user.payment_methods.items()):
        yield "a payment method's key is not its id"
    for method in user.payment_methods.values():
        if isinstance(method, GiftCard) and (method.balance < 0 or not _is_money(method.balance)):
            yield f"{method.id} holds {method.balance}"
    for order_id in user.orders:
        order = db.orders.get(order_id)
        if order is None or order.user_id != key:
            yield f"order {order_id} is missing or another user's"


def _orders(db: RetailDB) -> Iterator[str]:
    for key, order in db.orders.items():
        yield from (f"order {key}: {wrong}" for wrong in _order(db, key, order))


def _order(db: RetailDB, key: str, order: Order) -> Iterator[str]:
    if key != order.order_id:
        yield "the key is not the record's id"
    user = db.users.get(order.user_id)
    if user is None or key not in user.orders:
        yield f"user {order.user_id} does not list it"
    for line in order.items:
        product = db.products.get(line.product_id)
        variant = product.variants.get(line.item_id) if product else None
        if product is None or variant is None or (line.name, line.price, line.options) != (product.name, variant.price, variant.options):
            yield f"its line {line.item_id} is not as in the catalogue"
    if not order.items:
        yield "is empty"
    yield from _payments(order, user)
    shipped = [item_id for parcel in order.fulfillments for item_id in parcel.item_ids]
    if sorted(shipped) != ([] if order.status == "pending" else sorted(line.item_id for line in order.items)):
        yield f"is {order.status} and its parcels hold {shipped}"
    if any(getattr(order, name) is not None for name in ("cancel_reason", "exchange_items", "return_items")):
        yield "carries the trace of an action"


def _payments(order: Order, user: User | None) -> Iterator[str]:
    total = round(sum(line.price for line in order.items), 2)
    kinds = [payment.transaction_type for payment in order.payment_history]
    if kinds != (["payment", "refund"] if order.status == "cancelled" else ["payment"]):
        yield f"is {order.status} and its payment history is {kinds}"
    if {payment.amount for payment in order.payment_history} != {total}:
        yield f"its lines cost {total} and its payments are {[payment.amount for payment in order.payment_history]}"
    methods = {payment.payment_method_id for payment in order.payment_history}
    if len(methods) != 1 or (user is not None and not methods <= set(user.payment_methods)):
        yield f"it is paid by {sorted(methods)}"


def _is_money(amount: float) -> bool:
    return round(amount, 2) == amount
