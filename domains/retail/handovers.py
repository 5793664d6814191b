"""What only a person can settle: matters that neither the tools nor the policy cover. The right answer is to hand over."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel_env.messages import ToolCall
from sentinel_env.operations import Request
from sentinel_env.tasks import Fact, Wish

from .db import CreditCard, Order
from .items import pick, returns
from .order_requests import cancellations, gift_cards
from .people import invent_email
from .shopper import MOST_ALTERNATIVES, Pointer, Shopper, call

TRANSFER = "transfer_to_human_agents"


def lost_parcel(shopper: Shopper) -> Request | None:
    """A parcel that was reported as delivered never arrived."""
    delivered = shopper.in_status("delivered")
    if not delivered:
        return None
    order = shopper.rng.choice(delivered)
    pointer = shopper.point_at(order)
    wordings = (
        "It says that {} was delivered, but it never arrived. What now?",
        "I never got {}, although you say that it was delivered. Please find it.",
        "Nobody ever brought me {}, and yet it is marked as delivered.",
    )
    text = shopper.rng.choice(wordings).format(pointer.phrase)
    summary = f"Order {order.order_id} is marked as delivered and never arrived."
    detours = returns(shopper, order, [line.item_id for line in order.items])
    return _on_an_order(shopper, pointer, text, summary, "lost parcel", detours=detours)


def double_charge(shopper: Shopper) -> Request | None:
    """A credit card was charged twice for an order, which no record of the shop shows."""
    orders = [order for order in shopper.orders if order.status != "cancelled" and len(order.payment_history) == 1]
    charged = [order for order in orders if isinstance(shopper.user.payment_methods.get(_payer(order)), CreditCard)]
    if not charged:
        return None
    order = shopper.rng.choice(charged)
    pointer = shopper.point_at(order)
    method = _payer(order)
    wordings = (
        "My bank statement shows two charges for {} on {}. I want one of them back.",
        "I was charged twice for {}, on {}. Please put that right.",
        "There are two payments for {} on my statement, both from {}. One is too many.",
    )
    text = shopper.rng.choice(wordings).format(pointer.phrase, shopper.say(method))
    summary = f"The customer's bank shows two charges for order {order.order_id} on {method}."
    detours: list[ToolCall] = []
    if order.status == "pending":
        detours = cancellations(order)
    elif order.status == "delivered":
        detours = returns(shopper, order, [line.item_id for line in order.items])
    return _on_an_order(shopper, pointer, text, summary, "double charge", facts=(shopper.payment_fact(method),), detours=detours)


def _payer(order: Order) -> str:
    return order.payment_history[0].payment_method_id


def compensation(shopper: Shopper) -> Request | None:
    """An item arrived in a bad state; the customer keeps it and wants money for that."""
    picked = pick(shopper, shopper.in_status("delivered"), lambda line: True)
    if picked is None:
        return None
    picked = picked.first(1)
    order = picked.order
    wordings = (
        "{} arrived damaged. I won't send anything back, but I want part of the price back.",
        "I had to repair {} on the first day. No return, please: I want compensation.",
        "{} came three weeks late. I keep everything, but I want compensation for the delay.",
    )
    said = shopper.rng.choice(wordings).format(picked.said)
    text = picked.place + said[:1].upper() + said[1:]
    summary = f"The customer wants compensation for an item of order {order.order_id} and keeps it."
    detours = returns(shopper, order, picked.item_ids)
    return _on_an_order(shopper, picked.pointer, text, summary, "compensation", facts=picked.facts[1:], detours=detours)


def new_email(shopper: Shopper) -> Request | None:
    """The customer has another e-mail address now."""
    rng, user = shopper.rng, shopper.user
    email = user.email
    while shopper.db.users.find("email", email):
        email = invent_email(rng, user.name.first_name, user.name.last_name, {user.email})
    wordings = (
        "Please change the e-mail address of my account to {}",
        "I have a new e-mail address. Please put it in my profile: {}",
        "I can't read my old mail any more. From now on my account should have {}",
    )
    text = rng.choice(wordings).format(email)
    return Request(
        wish=Wish(text=text, facts=(Fact(slot="new_email", text=email, value=email),), transfer=True),
        features=shopper.features(handed_over_because="e-mail address"),
        transfer=call(TRANSFER, summary=f"The customer's e-mail address is to be changed to {email}."),
    )


def _on_an_order(
    shopper: Shopper, pointer: Pointer, text: str, summary: str, because: str, *, facts: Sequence[Fact] = (), detours: Sequence[ToolCall]
) -> Request:
    order = pointer.order
    return Request(
        wish=Wish(text=text, facts=(pointer.fact, *facts), labels=shopper.labels(order), transfer=True),
        reads=pointer.reads,
        detours=tuple(detours[:MOST_ALTERNATIVES]),
        features=shopper.features(pointer, {line.product_id for line in order.items}, handed_over_because=because),
        transfer=call(TRANSFER, summary=summary),
        touches=frozenset((order.order_id, *gift_cards(shopper, order))),
    )
