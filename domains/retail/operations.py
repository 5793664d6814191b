"""All that can be asked of the shop's agent: requests to fulfil, requests to refuse, and how a customer says who they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

from sentinel_env.database import Database
from sentinel_env.messages import ToolCall
from sentinel_env.operations import Operation, Operations, Request
from sentinel_env.tasks import Fact

from . import conditional_requests, handovers, item_requests, order_requests, questions, refusals
from .augment import AUGMENTS
from .db import RetailDB
from .items import EXCHANGE, MODIFY, RETURN
from .shopper import Shopper, call


def _operation(name: str, tool: str, make: Callable[[Shopper], Request | None], **more: Any) -> Operation:
    def request(db: Database, subject: str, rng: Random) -> Request | None:
        shop = cast(RetailDB, db)
        return make(Shopper(shop, shop.users[subject], rng))

    return Operation(name, tool, request, **{"augment": AUGMENTS.get(name), **more})


def subjects(db: Database) -> Sequence[str]:
    """The ids of all users, in the table's order."""
    return list(cast(RetailDB, db).users)


def entities(db: Database, subject: str) -> frozenset[str]:
    """A user and their orders."""
    return frozenset((subject, *cast(RetailDB, db).users[subject].orders))


def introduce(db: Database, subject: str, rng: Random) -> tuple[tuple[Fact, ...], tuple[ToolCall, ...], str]:
    """Who the customer is: by e-mail, by name and zip code, or by either; the user id is never known."""
    user = cast(RetailDB, db).users[subject]
    name, place = user.name.model_dump(), user.address.zip
    known = rng.choice(("both", "email", "name"))
    facts = [Fact(slot="name", text=f"{user.name.first_name} {user.name.last_name}", value=name)]
    if known != "email":
        facts.append(Fact(slot="zip", text=place, value=place))
    if known != "name":
        facts.append(Fact(slot="email", text=user.email, value=user.email))
    if known == "name":
        identify, unknown = call("find_user_id_by_name_zip", **name, zip=place), "Your e-mail address on file and your user id."
    else:
        identify = call("find_user_id_by_email", email=user.email)
        unknown = "Your user id." if known == "both" else "The zip code on file and your user id."
    return tuple(facts), (identify, call("get_user_details", user_id=subject)), unknown


_CANCEL, _ADDRESS, _PAYMENT = "cancel_pending_order", "modify_pending_order_address", "modify_pending_order_payment"
_PRODUCT = "get_product_details"

OPERATIONS = Operations(
    kinds=(
        _operation("cancel_order", _CANCEL, order_requests.cancel, alone=True),
        _operation("change_order_address", _ADDRESS, order_requests.change_order_address),
        _operation("change_order_payment", _PAYMENT, order_requests.change_payment),
        _operation("change_default_address", "modify_user_address", order_requests.change_default_address),
        _operation("modify_items", MODIFY, item_requests.modify_items),
        _operation("return_items", RETURN, item_requests.return_items),
        _operation("exchange_items", EXCHANGE, item_requests.exchange_items),
        _operation("refuse_cancel_shipped", _CANCEL, refusals.cancel_shipped, refusal=True),
        _operation("refuse_cancel_reason", _CANCEL, refusals.cancel_for_other_reason, refusal=True),
        _operation("refuse_remove_item", _CANCEL, refusals.remove_item, refusal=True),
        _operation("refuse_redirect_shipped", _ADDRESS, refusals.redirect_shipped, refusal=True),
        _operation("refuse_small_gift_card", _PAYMENT, refusals.pay_with_too_small_gift_card, refusal=True),
        _operation("refuse_modify_sold_out", MODIFY, refusals.modify_to_unavailable, refusal=True),
        _operation("refuse_return_undelivered", RETURN, refusals.return_undelivered, refusal=True),
        _operation("refuse_return_payment", RETURN, refusals.return_to_other_method, refusal=True),
        _operation("refuse_exchange_sold_out", EXCHANGE, refusals.exchange_for_unavailable, refusal=True),
        _operation("refuse_modify_other_product", MODIFY, refusals.modify_to_another_product, refusal=True),
        _operation("refuse_exchange_other_product", EXCHANGE, refusals.exchange_for_another_product, refusal=True),
        _operation("refuse_other_customer", _CANCEL, refusals.cancel_for_a_friend, refusal=True),
        _operation("modify_items_or_else", MODIFY, conditional_requests.modify_items_or_else, conditional=True),
        _operation("exchange_items_or_else", EXCHANGE, conditional_requests.exchange_items_or_else, conditional=True),
        _operation("modify_or_cancel", MODIFY, conditional_requests.modify_or_cancel, conditional=True),
        _operation("cancel_unless_modified", _CANCEL, conditional_requests.cancel_unless_modified, conditional=True, alone=True),
        _operation("exchange_if_not_dearer", EXCHANGE, conditional_requests.exchange_if_not_dearer, conditional=True),
        _operation("return_if_dearer", RETURN, conditional_requests.return_if_dearer, conditional=True),
        _operation("ask_available_variants", _PRODUCT, questions.available_variants, question=True),
        _operation("ask_cheapest_variant", _PRODUCT, questions.cheapest_variant, question=True),
        _operation("ask_variant_price", _PRODUCT, questions.variant_price, question=True),
        _operation("ask_order_total", "get_order_details", questions.order_total, question=True),
        _operation("ask_gift_card_balance", "get_user_details", questions.gift_card_balance, question=True),
        _operation("hand_over_lost_parcel", handovers.TRANSFER, handovers.lost_parcel),
        _operation("hand_over_double_charge", handovers.TRANSFER, handovers.double_charge),
        _operation("hand_over_compensation", handovers.TRANSFER, handovers.compensation),
        _operation("hand_over_new_email", handovers.TRANSFER, handovers.new_email),
    ),
    subjects=subjects,
    entities=entities,
    introduce=introduce,
)
"""What the Proposer composes tasks from."""
