"""Items of an order that a customer asks about: choosing them, naming them, and what could replace them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Fact

from .db import Order, OrderLine, Variant
from .shopper import MOST_ALTERNATIVES, Pointer, Shopper, call, is_single
from .wording import say_change, say_list

RETURN, EXCHANGE, MODIFY = "return_delivered_order_items", "exchange_delivered_order_items", "modify_pending_order_items"
MOST_ITEMS = 3


@dataclass(frozen=True)
class Picked:
    """Items of one order, and how the customer names them."""

    order: Order
    lines: list[OrderLine]
    pointer: Pointer
    names: list[str]

    @property
    def item_ids(self) -> list[str]:
        """The items in the order in which the customer names them."""
        return [line.item_id for line in self.lines]

    @property
    def products(self) -> set[str]:
        """What they are variants of."""
        return {line.product_id for line in self.lines}

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The order and the items."""
        items = (Fact(slot="item", text=f"the {name}", value=line.item_id) for name, line in zip(self.names, self.lines, strict=True))
        return (self.pointer.fact, *items)

    @property
    def said(self) -> str:
        """ "the desk lamp and the mug"."""
        return say_list([f"the {name}" for name in self.names])

    def first(self, count: int) -> Picked:
        """Only the first of the items."""
        return Picked(self.order, self.lines[:count], self.pointer, self.names[:count])

    @property
    def place(self) -> str:
        """ "Order #W12: "; nothing where the items themselves say which order is meant."""
        return f"Order {self.order.order_id}: " if self.pointer.by_id else ""


def pick(shopper: Shopper, orders: Sequence[Order], fits: Callable[[OrderLine], object]) -> Picked | None:
    """Choose an order and one to three items in it, of different products, that fit and can be told apart from the others."""
    rng = shopper.rng
    open_to_it = [(order, lines) for order in orders if (lines := [line for line in order.items if is_single(order, line) and fits(line)])]
    if not open_to_it:
        return None
    order, lines = rng.choice(open_to_it)
    by_product = {line.product_id: line for line in rng.sample(lines, len(lines))}
    count = rng.choices(range(1, MOST_ITEMS + 1), (6, 3, 1))[0]
    chosen = list(by_product.values())[:count]
    pointer = shopper.point_at(order, chosen[:1])
    names = shopper.name_lines(order, chosen, anywhere=not pointer.by_id)
    return None if names is None else Picked(order, chosen, pointer, names)


def replacements(shopper: Shopper, line: OrderLine) -> list[Variant]:
    """The available variants that could replace an item."""
    product = shopper.db.products[line.product_id]
    return [variant for item_id, variant in product.variants.items() if variant.available and item_id != line.item_id]


def sold_out(shopper: Shopper, line: OrderLine) -> list[Variant]:
    """The variants of an item's product that cannot replace it, because they are sold out."""
    variants = shopper.db.products[line.product_id].variants.values()
    return [variant for variant in variants if not variant.available and variant.item_id != line.item_id]


def difference(lines: Sequence[OrderLine], new: Sequence[Variant]) -> float:
    """What the customer owes for replacing lines; negative where money comes back."""
    return round(sum(variant.price - line.price for line, variant in zip(lines, new, strict=True)), 2)


def distance(one: Variant | OrderLine, other: Variant | OrderLine) -> int:
    """In how many options two variants of a product differ."""
    return len(one.options.items() - other.options.items())


def choose_near(shopper: Shopper, line: OrderLine, variants: Sequence[Variant]) -> Variant:
    """A variant that differs from the item in few options, three times in four in as few as any."""
    least = min(distance(variant, line) for variant in variants)
    nearest = [variant for variant in variants if distance(variant, line) == least]
    return shopper.rng.choice(nearest if shopper.rng.random() < 0.75 else variants)


def say_new(shopper: Shopper, line: OrderLine, variant: Variant) -> str:
    """The variant as the customer describes it, by what differs from the item they have."""
    product = shopper.db.products[line.product_id]
    return say_change(line.options, variant.options, (other.options for other in product.variants.values()))


def new_facts(picked: Picked, changes: Sequence[str], new_ids: Sequence[str]) -> tuple[Fact, ...]:
    """What replaces each item, in the order in which the items are named."""
    texts = changes if len(changes) == 1 else [f"for the {name}: {change}" for name, change in zip(picked.names, changes, strict=True)]
    return tuple(Fact(slot="new_item", text=text, value=new_id) for text, new_id in zip(texts, new_ids, strict=True))


def read_products(picked: Picked) -> tuple[ToolCall, ...]:
    """The look-ups of the items' products, each once."""
    return tuple(call("get_product_details", product_id=each) for each in dict.fromkeys(line.product_id for line in picked.lines))


def returns(shopper: Shopper, order: Order, item_ids: Sequence[str]) -> list[ToolCall]:
    """The returns of some items, to the method that paid for them first, then to gift cards."""
    allowed = shopper.refundable_to(order)
    return [call(RETURN, order_id=order.order_id, item_ids=list(item_ids), payment_method_id=each) for each in allowed]


def return_elsewhere(shopper: Shopper, picked: Picked, method: str) -> tuple[ToolCall, ...]:
    """The same products, returned from other delivered orders."""
    found = []
    for other in shopper.sharing(picked.order, picked.products, shopper.in_status("delivered")):
        items = [line.item_id for line in other.items if line.product_id in picked.products and is_single(other, line)][: len(picked.lines)]
        if items:
            allowed = shopper.refundable_to(other)
            payee = method if method in allowed else allowed[0]
            found.append(call(RETURN, order_id=other.order_id, item_ids=items, payment_method_id=payee))
    return tuple(found[:MOST_ALTERNATIVES])
