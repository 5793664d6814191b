"""What makes a request possible, or easy to get wrong, where a customer has too little for it: each operation's `augment`.

    augment = orders("pending", swaps=True)        # for a request about items of a pending order
    augment(fork, "ada_stein_1234", Random(0), "other_records")     # True: two pending orders hold such an item now

A further kind of request about an order needs one more line in `AUGMENTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import cast

from sentinel_env.database import Database

from .additions import About, Additions, Methods
from .db import GiftCard, Order, PaymentMethod, RetailDB

Augment = Callable[[Database, str, Random, str], bool]
"""As `Operation.augment` has it."""


def _is_other(method: PaymentMethod, order: Order) -> bool:
    return method.id != order.payment_history[0].payment_method_id


OTHERS = Methods(
    lambda method, order: _is_other(method, order) and _covers(method, order), ("credit_card", "paypal", "gift_card"), pays_all=True
)
"""Another one that could pay the whole order."""
ANY = Methods(lambda method, order: not isinstance(method, GiftCard), ("credit_card", "paypal"))
"""One that can pay any difference."""
GIFT_CARDS = Methods(lambda method, order: isinstance(method, GiftCard) and _is_other(method, order), ("gift_card",), request=0, siblings=1)
"""Another one that a return can be refunded to."""
NOT_REFUNDABLE = Methods(lambda method, order: not isinstance(method, GiftCard) and _is_other(method, order), ("credit_card", "paypal"))
"""One that a return cannot be refunded to."""
TOO_SMALL = Methods(
    lambda method, order: isinstance(method, GiftCard) and _is_other(method, order) and not _covers(method, order),
    ("gift_card",),
    covers=False,
)
"""A gift card that does not hold what the order costs."""


def _covers(method: PaymentMethod, order: Order) -> bool:
    return not isinstance(method, GiftCard) or method.balance >= order.payment_history[0].amount


def orders(
    *statuses: str,
    elsewhere: str | None = None,
    swaps: bool = False,
    sold_out: bool = False,
    lines: int = 1,
    methods: Methods | None = None,
    writes: bool = True,
) -> Augment:
    """What helps a kind of request about an order, or about some of its items.

    Args:
        *statuses: In which an order must be for the request; what is added is in one of them.
        elsewhere: The status of other orders that it could be mistaken for. For None the same, and without a write none at all.
        swaps: Whether it replaces items by other variants.
        sold_out: Whether by variants that are sold out.
        lines: How many lines the order must have at least.
        methods: The payment methods that it needs.
        writes: Whether a write fulfils it. Otherwise there is no argument that could be mistaken.
    """
    about = About(statuses, elsewhere or (statuses[0] if writes else None), swaps, sold_out, lines, methods, writes)

    def augment(db: Database, subject: str, rng: Random, need: str) -> bool:
        shop = cast(RetailDB, db)
        additions = Additions(shop, shop.users[subject], rng)
        return _add(additions, about, need) and additions.save()

    return augment


def _add(additions: Additions, about: About, need: str) -> bool:
    """Add what is needed; every need includes that the request can be made at all."""
    match need:
        case "request":
            target = additions.new_order(about)
        case "other_records" | "product_in_two_orders" if about.elsewhere is not None:
            target = additions.find_order(about) or additions.new_order(about)
            if target is None or not additions.mirror(target, about):
                return False
        case "siblings" if about.writes:
            target = additions.new_order(about, rich=True)
        case "near_duplicate_variant" if about.swaps and about.writes:
            target = additions.new_order(about, rich=True)
        case "several_payment_methods" if about.methods is not None and about.writes:
            target = additions.find_order(about) or additions.new_order(about)
        case _:
            return False
    if target is None:
        return False
    if about.methods is not None and not additions.add_methods(target, about.methods, siblings=need == "siblings"):
        return False
    return (
        need != "several_payment_methods"
        or len(additions.methods) > 1
        or additions.add_method(("credit_card", "paypal", "gift_card"), target)
    )


def _gift_card(db: Database, subject: str, rng: Random, need: str) -> bool:
    """Give the customer a gift card that holds something."""
    shop = cast(RetailDB, db)
    additions = Additions(shop, shop.users[subject], rng)
    return need == "request" and additions.add_method(("gift_card",)) and additions.save()


AUGMENTS: dict[str, Augment] = {
    "cancel_order": orders("pending"),
    "change_order_address": orders("pending"),
    "change_order_payment": orders("pending", methods=OTHERS),
    "change_default_address": orders("pending"),
    "modify_items": orders("pending", swaps=True, methods=ANY),
    "return_items": orders("delivered", methods=GIFT_CARDS),
    "exchange_items": orders("delivered", swaps=True, methods=ANY),
    "refuse_cancel_shipped": orders("delivered", elsewhere="pending", writes=False),
    "refuse_cancel_reason": orders("pending", writes=False),
    "refuse_remove_item": orders("pending", lines=3, writes=False),
    "refuse_redirect_shipped": orders("processed", "delivered", elsewhere="pending", writes=False),
    "refuse_small_gift_card": orders("pending", methods=TOO_SMALL, writes=False),
    "refuse_modify_sold_out": orders("pending", swaps=True, sold_out=True, methods=ANY, writes=False),
    "refuse_return_undelivered": orders("pending", elsewhere="delivered", writes=False),
    "refuse_return_payment": orders("delivered", methods=NOT_REFUNDABLE, writes=False),
    "refuse_exchange_sold_out": orders("delivered", swaps=True, sold_out=True, methods=ANY, writes=False),
    "refuse_modify_other_product": orders("pending", swaps=True, methods=ANY, writes=False),
    "refuse_exchange_other_product": orders("delivered", swaps=True, methods=ANY, writes=False),
    "modify_items_or_else": orders("pending", swaps=True, methods=ANY),
    "exchange_items_or_else": orders("delivered", swaps=True, methods=ANY),
    "modify_or_cancel": orders("pending", swaps=True, methods=ANY),
    "cancel_unless_modified": orders("pending", swaps=True, sold_out=True),
    "exchange_if_not_dearer": orders("delivered", swaps=True, methods=ANY),
    "return_if_dearer": orders("delivered", swaps=True, methods=GIFT_CARDS),
    "ask_order_total": orders("pending", "processed", "delivered", writes=False),
    "ask_gift_card_balance": _gift_card,
    "hand_over_lost_parcel": orders("delivered", writes=False),
    "hand_over_compensation": orders("delivered", writes=False),
}
"""Operation -> what helps it."""
