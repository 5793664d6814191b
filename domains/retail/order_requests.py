"""What customers ask about an order as a whole or about their profile: cancel, ship elsewhere, pay otherwise, move."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel_env.messages import ToolCall
from sentinel_env.operations import Request
from sentinel_env.tasks import Fact, Wish

from .db import GiftCard, Order
from .destinations import destination, near_addresses
from .shopper import MOST_ALTERNATIVES, Shopper, call
from .wording import money

REASONS = {"no longer needed": "I no longer need it", "ordered by mistake": "I ordered it by mistake"}
"""The reasons that the shop accepts, and how a customer gives them."""
TERSE = 0.35
"""The share of requests that leave a detail out until the agent asks for it."""
ASKS_AMOUNT = 0.25
"""The share of requests, where money moves, in which the customer asks how much."""


def cancel(shopper: Shopper) -> Request | None:
    """Cancel a pending order, for one of the two accepted reasons."""
    pending = shopper.in_status("pending")
    if not pending:
        return None
    rng = shopper.rng
    order = rng.choice(pending)
    pointer = shopper.point_at(order)
    reason = rng.choice(list(REASONS))
    terse, asks = rng.random() < TERSE, rng.random() < ASKS_AMOUNT
    text = rng.choice(("Please cancel {}.", "I want to cancel {}.", "Can you cancel {} for me?")).format(pointer.phrase)
    text += ("" if terse else f" {REASONS[reason]}.") + (" How much do I get back?" if asks else "")
    products = {line.product_id for line in order.items}
    decoys = [each.order_id for each in shopper.sharing(order, products, pending)[:MOST_ALTERNATIVES]]
    return Request(
        wish=Wish(
            text=text,
            call=call("cancel_pending_order", order_id=order.order_id, reason=reason),
            facts=(pointer.fact, Fact(slot="reason", text=REASONS[reason], value=reason)),
            provenance={"order_id": pointer.provenance, "reason": "fact:reason"},
            labels=shopper.labels(order),
        ),
        reads=pointer.reads,
        alternatives={"reason": [other for other in REASONS if other != reason]},
        decoys=tuple(call("cancel_pending_order", order_id=other, reason=reason) for other in decoys),
        communicate=(money(paid(order)),) if asks else (),
        features=shopper.features(pointer, products, terse=terse),
        touches=frozenset((order.order_id, *gift_cards(shopper, order))),
    )


def cancellations(order: Order, first: str | None = None) -> list[ToolCall]:
    """Cancelling an order, for a certain reason first."""
    reasons = sorted(REASONS, key=lambda each: each != first)
    return [call("cancel_pending_order", order_id=order.order_id, reason=reason) for reason in reasons]


def paid(order: Order) -> float:
    """What the shop holds for an order."""
    return round(sum(row.amount if row.transaction_type == "payment" else -row.amount for row in order.payment_history), 2)


def gift_cards(shopper: Shopper, order: Order, *methods: str) -> list[str]:
    """The gift cards among some methods and those that paid an order: their balance changes, or decides what can be paid."""
    used = (*methods, *(row.payment_method_id for row in order.payment_history))
    return [each for each in used if isinstance(shopper.user.payment_methods.get(each), GiftCard)]


def change_payment(shopper: Shopper) -> Request | None:
    """Pay a pending order with another method that covers it."""
    payable = [(order, able) for order in shopper.in_status("pending") if (able := other_methods(shopper, order))]
    if not payable:
        return None
    rng = shopper.rng
    order, able = rng.choice(payable)
    pointer = shopper.point_at(order)
    method = rng.choice(able)
    terse = rng.random() < TERSE
    wordings: Sequence[str] = ("Please charge {} to {} instead.", "I want to pay {} with {} instead.", "Can you put {} on {}?")
    if terse:
        wordings = ("I want to pay {} another way.", "Can I change how I pay {}?")
    products = {line.product_id for line in order.items}
    decoys = [each for each in shopper.sharing(order, products, (each for each, able in payable if method in able))]
    tool = "modify_pending_order_payment"
    return Request(
        wish=Wish(
            text=rng.choice(wordings).format(pointer.phrase, shopper.say(method)),
            call=call(tool, order_id=order.order_id, payment_method_id=method),
            facts=(pointer.fact, shopper.payment_fact(method)),
            provenance={"order_id": pointer.provenance, "payment_method_id": "fact:payment"},
            labels=shopper.labels(order, method),
        ),
        reads=pointer.reads,
        alternatives={"payment_method_id": [other for other in able if other != method]},
        decoys=tuple(call(tool, order_id=each.order_id, payment_method_id=method) for each in decoys[:MOST_ALTERNATIVES]),
        detours=tuple(call("cancel_pending_order", order_id=order.order_id, reason=reason) for reason in REASONS),
        features=shopper.features(pointer, products, terse=terse),
        touches=frozenset((order.order_id, *gift_cards(shopper, order, method))),
    )


def other_methods(shopper: Shopper, order: Order) -> list[str]:
    """The methods that an order's payment could be changed to: none when it was changed before."""
    if len(order.payment_history) != 1:
        return []
    current = order.payment_history[0]
    return [method for method in shopper.able_to_pay(current.amount) if method != current.payment_method_id]


def change_order_address(shopper: Shopper) -> Request | None:
    """Ship a pending order to another address."""
    pending = shopper.in_status("pending")
    if not pending:
        return None
    rng = shopper.rng
    order = rng.choice(pending)
    pointer = shopper.point_at(order)
    goal = destination(shopper, order.address, "get_order_details", order=order)
    terse = rng.random() < TERSE
    wordings: Sequence[str] = ("Please ship {} to {}.", "I want {} to go to {}.", "Change the address of {} to {}.")
    if terse:
        wordings = ("The shipping address of {} is wrong.", "I want {} to go to another address.")
    arguments = goal.address.model_dump()
    products = {line.product_id for line in order.items}
    decoys = [each for each in shopper.sharing(order, products, pending) if each.address != goal.address]
    tool = "modify_pending_order_address"
    return Request(
        wish=Wish(
            text=rng.choice(wordings).format(pointer.phrase, goal.said),
            call=call(tool, order_id=order.order_id, **arguments),
            facts=(pointer.fact, goal.fact),
            provenance={"order_id": pointer.provenance, **goal.provenance},
            labels=shopper.labels(order),
        ),
        reads=pointer.reads + tuple(read for read in goal.reads if read not in pointer.reads),
        alternatives=near_addresses(shopper, goal.address, order.address),
        decoys=tuple(call(tool, order_id=each.order_id, **arguments) for each in decoys[:MOST_ALTERNATIVES]),
        detours=() if goal.address == shopper.user.address else (call("modify_user_address", user_id=shopper.user.user_id, **arguments),),
        features=shopper.features(pointer, products, terse=terse, address_source=goal.source),
        touches=frozenset((order.order_id, *goal.touches)),
    )


def change_default_address(shopper: Shopper) -> Request | None:
    """Change the address of the profile, and of no order."""
    rng, user = shopper.rng, shopper.user
    goal = destination(shopper, user.address, "get_user_details", order=None)
    terse = rng.random() < TERSE
    wordings: Sequence[str] = (
        "Please change my default address to {}.",
        "I moved. My default address is now {}.",
        "Set my default address to {}.",
    )
    if terse:
        wordings = ("I moved and need a new default address.", "Please update the default address of my account.")
    arguments = goal.address.model_dump()
    wrong = [order.order_id for order in shopper.in_status("pending") if order.address != goal.address]
    return Request(
        wish=Wish(
            text=rng.choice(wordings).format(goal.said),
            call=call("modify_user_address", user_id=user.user_id, **arguments),
            facts=(goal.fact,),
            provenance={"user_id": "read:get_user_details.user_id", **goal.provenance},
            labels={user.user_id: "me"},
        ),
        reads=goal.reads,
        alternatives=near_addresses(shopper, goal.address, user.address),
        detours=tuple(call("modify_pending_order_address", order_id=each, **arguments) for each in wrong[:MOST_ALTERNATIVES]),
        features=shopper.features(terse=terse, address_source=goal.source),
        touches=frozenset((user.user_id, *goal.touches)),
    )
