"""A customer who is about to ask for something: what belongs to them, and how they point at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Fact

from .db import GiftCard, Order, OrderLine, PaymentMethod, RetailDB, User
from .wording import describe, say_payment

MOST_ALTERNATIVES = 4
"""How many wrong values, records or tools a request names of each sort."""


def call(name: str, **arguments: Any) -> ToolCall:
    """A tool call."""
    return ToolCall(name=name, arguments=arguments)


@dataclass(frozen=True)
class Pointer:
    """How the customer points at an order."""

    order: Order
    phrase: str
    """"order #W12", or "the order with the desk lamp"."""
    fact: Fact
    by_id: bool
    reads: tuple[ToolCall, ...]
    """The orders that an agent opens until it has found the one that is meant."""

    @property
    def provenance(self) -> str:
        """Where the order id of a call comes from."""
        return "fact:order" if self.by_id else "read:get_order_details.order_id"


@dataclass(frozen=True)
class Shopper:
    """A customer in a state of the shop, with the randomness of one request."""

    db: RetailDB
    user: User
    rng: Random

    @cached_property
    def orders(self) -> list[Order]:
        """The customer's orders, in the profile's order."""
        return [self.db.orders[order_id] for order_id in self.user.orders]

    @cached_property
    def methods(self) -> list[PaymentMethod]:
        """The customer's payment methods."""
        return list(self.user.payment_methods.values())

    def in_status(self, *statuses: str) -> list[Order]:
        """The orders in one of these statuses."""
        return [order for order in self.orders if order.status in statuses]

    # pointing at orders, items and methods

    def point_at(self, order: Order, anchors: Sequence[OrderLine] | None = None) -> Pointer:
        """Point at an order by its id, or by an item that none of the customer's other orders holds.

        Args:
            order: The order.
            anchors: The items to point with; any of the order's for None.
        """
        held = [line for line in (order.items if anchors is None else anchors) if is_single(order, line)]
        if held and self.rng.random() < 0.5:
            line = self.rng.choice(held)
            said = describe(line, (rival for other in self.orders for rival in other.items if rival is not line or other is not order))
            if said is not None:
                return self._point_by(order, said)
        order_id = order.order_id
        fact = Fact(slot="order", text=order_id, value=order_id)
        return Pointer(order, f"order {order_id}", fact, True, (call("get_order_details", order_id=order_id),))

    def _point_by(self, order: Order, said: str) -> Pointer:
        fact = Fact(slot="order", text=f"I don't have the number; it is the order with the {said}", value=order.order_id)
        opened = self.user.orders[: self.user.orders.index(order.order_id) + 1]
        return Pointer(order, f"the order with the {said}", fact, False, tuple(call("get_order_details", order_id=each) for each in opened))

    def name_lines(self, order: Order, lines: Sequence[OrderLine], *, anywhere: bool) -> list[str] | None:
        """A name for each line that fits no other line of the order, the first one's no other line of any order if `anywhere`."""
        found = []
        for at, line in enumerate(lines):
            orders = self.orders if anywhere and at == 0 else [order]
            said = describe(line, (rival for other in orders for rival in other.items if rival is not line or other is not order))
            if said is None or not is_single(order, line):
                return None
            found.append(said)
        return found

    def say(self, method_id: str) -> str:
        """A payment method in the customer's words."""
        return say_payment(self.user.payment_methods[method_id], self.methods)

    def payment_fact(self, method_id: str) -> Fact:
        """The customer's choice of a payment method."""
        return Fact(slot="payment", text=self.say(method_id), value=method_id)

    # who can pay what

    def able_to_pay(self, amount: float) -> list[str]:
        """The ids of the methods that cover an amount: gift cards hold only so much."""
        return [method.id for method in self.methods if not isinstance(method, GiftCard) or method.balance >= amount]

    def refundable_to(self, order: Order) -> list[str]:
        """The ids of the methods that a return of the order can be refunded to: the one that paid it first, then gift cards."""
        original = order.payment_history[0].payment_method_id
        return [original, *(method.id for method in self.methods if isinstance(method, GiftCard) and method.id != original)]

    # near-duplicates

    def sharing(self, order: Order, products: Iterable[str], others: Iterable[Order]) -> list[Order]:
        """Other orders, those first that share most of these products, and only then in the profile's order."""
        wanted = set(products)
        shared = [(len(wanted & {line.product_id for line in other.items}), other) for other in others if other is not order]
        return [other for _, other in sorted(shared, key=lambda pair: -pair[0])]

    def count_sharing(self, order: Order, products: Iterable[str]) -> int:
        """How many other orders hold one of these products."""
        wanted = set(products)
        return sum(other is not order and not wanted.isdisjoint([line.product_id for line in other.items]) for other in self.orders)

    # what all requests say about themselves

    def labels(self, order: Order, *methods: str) -> dict[str, str]:
        """The spoken names of an order and of payment methods."""
        return {order.order_id: f"the order with the {order.items[0].name.lower()}", **{method: self.say(method) for method in methods}}

    def features(self, pointer: Pointer | None = None, products: Iterable[str] = (), **more: Any) -> dict[str, Any]:
        """What makes a request hard, as flat JSON values.

        Args:
            pointer: The order that it is about, if any, and how the customer points at it.
            products: What the request is about: how many other orders hold one of them is counted.
            **more: What only some kinds of request have.
        """
        found: dict[str, Any] = {"n_orders": len(self.orders), "n_payment_methods": len(self.methods), **more}
        if pointer is not None:
            found["status"] = pointer.order.status
            found["n_lines"] = len(pointer.order.items)
            found["order_by"] = "id" if pointer.by_id else "item"
            found["orders_sharing_product"] = self.count_sharing(pointer.order, products)
        return found


def is_single(order: Order, line: OrderLine) -> bool:
    """Whether the order holds the item once."""
    return [other.item_id for other in order.items].count(line.item_id) == 1
