"""What customers only want to know: counts, prices and amounts, each with one right answer that the tools show.

A number is asked for, so that what was said can be compared; the answer of a question about an order or a gift card depends on its record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentinel_env.messages import ToolCall
from sentinel_env.operations import Request
from sentinel_env.tasks import Fact, Wish

from .data import make_line
from .db import GiftCard, Product, Variant
from .order_requests import gift_cards, paid
from .shopper import Shopper, call
from .wording import describe, money

_FEWEST = 3
"""A smaller count is said by chance."""


def available_variants(shopper: Shopper) -> Request | None:
    """How many variants of a product can be bought now."""
    product = _any_product(shopper, _FEWEST)
    if product is None:
        return None
    count = len(_available(product))
    wordings = (
        "How many variants of the {} are available right now? The number will do.",
        "How many different {} variants can I buy at the moment? Just the number, please.",
        "I'd like to know how many variants of the {} are in stock now, as a number.",
    )
    return _about_a_product(shopper, product, wordings, str(count), n_variants=len(product.variants), n_available=count)


def cheapest_variant(shopper: Shopper) -> Request | None:
    """What the cheapest variant of a product costs that can be bought now."""
    product = _any_product(shopper, 2)
    if product is None:
        return None
    price = min(variant.price for variant in _available(product))
    cheaper = any(variant.price < price for variant in product.variants.values())
    wordings = (
        "What is the lowest price among the {} variants that are available right now?",
        "How much do you charge for the cheapest {} variant that you have in stock?",
        "I'd like to know the price of the cheapest {} variant that I can buy now.",
    )
    return _about_a_product(shopper, product, wordings, money(price), n_variants=len(product.variants), cheaper_sold_out=cheaper)


def variant_price(shopper: Shopper) -> Request | None:
    """What a certain variant costs that can be bought now."""
    product = _any_product(shopper, 1)
    if product is None:
        return None
    variant = shopper.rng.choice(_available(product))
    lines = [make_line(product, each) for each in product.variants.values() if each is not variant]
    said = describe(make_line(product, variant), lines)
    if said is None:
        return None
    wordings = ("What is the price of the {}?", "How much do you charge for the {}?", "I'd like to know the price of the {}.")
    return _about_a_product(shopper, product, wordings, money(variant.price), said=said, n_variants=len(product.variants))


def _any_product(shopper: Shopper, fewest: int) -> Product | None:
    """A product with at least so many available variants, every other time one that the customer bought."""
    rng, products = shopper.rng, shopper.db.products
    bought = list(dict.fromkeys(line.product_id for order in shopper.orders for line in order.items))
    known = bought if bought and rng.random() < 0.5 else list(products)
    fitting = [key for key in known if len(_available(products[key])) >= fewest]
    return products[rng.choice(fitting)] if fitting else None


def _available(product: Product) -> list[Variant]:
    return [variant for variant in product.variants.values() if variant.available]


def _about_a_product(
    shopper: Shopper, product: Product, wordings: Sequence[str], answer: str, *, said: str | None = None, **features: Any
) -> Request:
    name = said or product.name.lower()
    text = shopper.rng.choice(wordings).format(name)
    reads = (call("list_all_product_types"), call("get_product_details", product_id=product.product_id))
    return _question(text, (Fact(slot="item", text=f"the {name}"),), answer, reads, shopper.features(**features))


def order_total(shopper: Shopper) -> Request | None:
    """What was paid for an order."""
    orders = [order for order in shopper.orders if order.status != "cancelled" and len(order.payment_history) == 1]
    if not orders:
        return None
    order = shopper.rng.choice(orders)
    pointer = shopper.point_at(order)
    wordings = ("How much did I pay for {}?", "What did {} cost me in total?", "I'd like to know the total of {}.")
    features = shopper.features(pointer, {line.product_id for line in order.items})
    text = shopper.rng.choice(wordings).format(pointer.phrase)
    touches = (order.order_id, *gift_cards(shopper, order))
    return _question(text, (pointer.fact,), money(paid(order)), pointer.reads, features, touches=touches)


def gift_card_balance(shopper: Shopper) -> Request | None:
    """How much a gift card holds."""
    cards = [method for method in shopper.methods if isinstance(method, GiftCard) and method.balance > 0]
    if not cards:
        return None
    card = shopper.rng.choice(cards)
    wordings = ("How much is left on {}?", "What is the balance of {}?", "I'd like to know how much {} still holds.")
    text = shopper.rng.choice(wordings).format(shopper.say(card.id))
    return _question(text, (shopper.payment_fact(card.id),), money(card.balance), (), shopper.features(), touches=(card.id,))


def _question(
    text: str, facts: tuple[Fact, ...], answer: str, reads: tuple[ToolCall, ...], features: dict[str, Any], *, touches: Sequence[str] = ()
) -> Request:
    wish = Wish(text=text, facts=facts, answers=(answer,))
    return Request(wish=wish, reads=reads, communicate=(answer,), features=features, touches=frozenset(touches))
