"""The sixteen tools of the shop. Names, arguments, checks and error texts are those of tau2-bench's retail domain.

Where tau2-bench is wrong these are right: each item gets its own variant, each payment is refunded once, the order in which
items are listed does not matter, nothing is accepted that changes nothing, an order whose items were modified takes no new address,
and money has two decimals. `README.md` lists every difference; `tau2.py` brings them back for tau2-bench's data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sentinel_env import ToolError, tool

from . import calculator, rules
from .db import Address, Order, Payment, Product, RetailDB, User, Variant


@tool
def calculate(db: RetailDB, expression: str) -> str:
    """Work out an arithmetic expression, rounded to two decimals.

    Args:
        expression: Numbers, + - * /, parentheses and spaces, such as "(3.50 + 1.25) * 2".
    """
    return calculator.evaluate(expression)


@tool
def transfer_to_human_agents(db: RetailDB, summary: str) -> str:
    """Hand the customer over to a human colleague. Only for requests that no other tool and no rule of the policy can settle.

    Args:
        summary: What the customer wants and what has been done, for the colleague.
    """
    return "Transfer successful"


@tool
def find_user_id_by_email(db: RetailDB, email: str) -> str:
    """Look up a customer's user id by e-mail address.

    Args:
        email: The address, such as "ann.lee@example.com"; upper and lower case are the same.
    """
    return _only_user(db.users.find("email", email.lower()))


@tool
def find_user_id_by_name_zip(db: RetailDB, first_name: str, last_name: str, zip: str) -> str:
    """Look up a customer's user id by name and zip code, for a customer who cannot give an e-mail address.

    Args:
        first_name: The first name, such as "Ann".
        last_name: The last name, such as "Lee".
        zip: The zip code of the default address, such as "12345".
    """
    place = zip if isinstance(zip, str) else None  # unchecked under tau2 compatibility, where anything else matches nobody
    return _only_user(db.users.find("name_zip", (first_name.lower(), last_name.lower(), place)))


def _only_user(found: Sequence[str]) -> str:
    if not found:
        raise ToolError("User not found")
    return found[0]


@tool
def get_user_details(db: RetailDB, user_id: str) -> User:
    """Read a customer's profile: name, address, e-mail, payment methods and order ids.

    Args:
        user_id: The user id, such as "ann_lee_1234".
    """
    return rules.get_user(db, user_id)


@tool
def get_order_details(db: RetailDB, order_id: str) -> Order:
    """Read an order: its lines, address, status, parcels and payments.

    Args:
        order_id: The order id with its "#", such as "#W0000000".
    """
    return rules.get_order(db, order_id)


@tool
def get_product_details(db: RetailDB, product_id: str) -> Product:
    """Read a product with all of its variants, their options, prices and availability.

    Args:
        product_id: The product id, such as "6086499569". It is no item id.
    """
    product: Product | None = db.products.get(product_id)
    if product is None:
        raise ToolError("Product not found")
    return product


@tool
def get_item_details(db: RetailDB, item_id: str) -> Variant:
    """Read one variant of a product: its options, price and availability.

    Args:
        item_id: The item id, such as "8008214860". It is no product id.
    """
    found = db.products.find("item_id", item_id)
    if not found:
        raise ToolError("Item not found")
    return db.products[found[0]].variants[item_id]


@tool
def list_all_product_types(db: RetailDB) -> str:
    """List the names of all products with their product ids."""
    return json.dumps({product.name: product.product_id for product in db.products.values()}, sort_keys=True)


@tool(writes=True)
def cancel_pending_order(db: RetailDB, order_id: str, reason: str) -> Order:
    """Cancel a pending order and refund what was paid: a gift card at once, other methods in 5 to 7 business days.

    Explain this to the customer and obtain an explicit yes first.

    Args:
        order_id: The order id with its "#", such as "#W0000000".
        reason: Either "no longer needed" or "ordered by mistake".
    """
    order = rules.get_cancellable(db, order_id, reason)
    paid: dict[str, float] = {}
    for row in order.payment_history:
        amount = row.amount if row.transaction_type == "payment" else -row.amount
        paid[row.payment_method_id] = round(paid.get(row.payment_method_id, 0.0) + amount, 2)
    refunds = [Payment(transaction_type="refund", amount=left, payment_method_id=method) for method, left in paid.items() if left > 0]
    return rules.refund(db, order, refunds, reason)


@tool(writes=True)
def modify_pending_order_address(
    db: RetailDB, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> Order:
    """Change where a pending order is shipped. The customer's default address stays as it is.

    Explain the change to the customer and obtain an explicit yes first.

    Args:
        order_id: The order id with its "#", such as "#W0000000".
        address1: Street and number, such as "12 Oak Street".
        address2: Suite or apartment, such as "Suite 5"; empty where there is none.
        city: The city, such as "Denver".
        state: The state's two letters, such as "CO".
        country: The country, such as "USA".
        zip: The zip code, such as "12345".
    """
    rules.get_pending(db, order_id, unmodified=True)
    address = Address(address1=address1, address2=address2, city=city, country=country, state=state, zip=zip)
    return db.orders.update(order_id, address=address)


@tool(writes=True)
def modify_pending_order_payment(db: RetailDB, order_id: str, payment_method_id: str) -> Order:
    """Pay a pending order with another of the customer's payment methods; the original one is refunded.

    Explain the change to the customer and obtain an explicit yes first.

    Args:
        order_id: The order id with its "#", such as "#W0000000".
        payment_method_id: The method that is to pay, as the customer's profile names it, such as "gift_card_0000000".
    """
    order = rules.get_pending(db, order_id)
    method = rules.get_payment_method(db, order.user_id, payment_method_id)
    if len(order.payment_history) != 1 or order.payment_history[0].transaction_type != "payment":
        raise ToolError("There should be exactly one payment for a pending order")
    (paid,) = order.payment_history
    if paid.payment_method_id == payment_method_id:
        raise ToolError("The new payment method should be different from the current one")
    rules.require_balance(method, paid.amount, "order")
    rules.charge(db, order.user_id, payment_method_id, paid.amount)
    rules.charge(db, order.user_id, paid.payment_method_id, -paid.amount)
    moved = [paid.replace(payment_method_id=payment_method_id), paid.replace(transaction_type="refund")]
    return db.orders.update(order_id, payment_history=[paid, *moved])


@tool(writes=True)
def modify_pending_order_items(db: RetailDB, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str) -> Order:
    """Replace items of a pending order by other variants of the same products. An order takes this once, so collect all items first.

    Explain the change and the price difference to the customer and obtain an explicit yes first.

    Args:
        order_id: The order id with its "#", such as "#W0000000".
        item_ids: The items to replace, each listed once for every line that is meant.
        new_item_ids: What replaces each of them, in the same order.
        payment_method_id: The customer's method that pays the difference or is refunded, such as "credit_card_0000000".
    """
    order = rules.get_pending(db, order_id, unmodified=True)
    rules.require_items(item_ids)
    variants, difference = rules.find_replacements(db, order, item_ids, new_item_ids, rules.MODIFY)
    pairs = _in_canonical_order(item_ids, variants)
    lines = []
    for line in order.items:
        at = next((at for at, (item_id, _) in enumerate(pairs) if item_id == line.item_id), None)
        if at is not None:
            variant = pairs.pop(at)[1]
            line = rules.with_variant(line, variant.item_id, variant)
        lines.append(line)
    return rules.modify_items(db, order, lines, payment_method_id, _cents(difference))


def _cents(amount: float) -> float:
    """With two decimals, and never the negative zero that a sum in another order can leave."""
    return round(amount, 2) + 0.0


def _in_canonical_order(item_ids: Sequence[str], variants: Sequence[Variant]) -> list[tuple[str, Variant]]:
    """Item and replacement in an order that does not depend on how the agent listed them."""
    return sorted(zip(item_ids, variants, strict=True), key=lambda pair: (pair[0], pair[1].item_id))


@tool(writes=True)
def modify_user_address(db: RetailDB, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str) -> User:
    """Change a customer's default address. Orders keep the address that they have.

    Explain the change to the customer and obtain an explicit yes first.

    Args:
        user_id: The user id, such as "ann_lee_1234".
        address1: Street and number, such as "12 Oak Street".
        address2: Suite or apartment, such as "Suite 5"; empty where there is none.
        city: The city, such as "Denver".
        state: The state's two letters, such as "CO".
        country: The country, such as "USA".
        zip: The zip code, such as "12345".
    """
    rules.get_user(db, user_id)
    address = Address(address1=address1, address2=address2, city=city, country=country, state=state, zip=zip)
    return db.users.update(user_id, address=address)


@tool(writes=True)
def return_delivered_order_items(db: RetailDB, order_id: str, item_ids: list[str], payment_method_id: str) -> Order:
    """Request the return of items of a delivered order. The customer gets an e-mail that says how to send them back.

    Explain the return to the customer and obtain an explicit yes first.

    Args:
        order_id: The order id with its "#", such as "#W0000000".
        item_ids: The items to return, each listed once for every line that is meant.
        payment_method_id: Where the refund goes: the method that paid the order, or a gift card of the customer.
    """
    order = rules.get_delivered(db, order_id, "returned")
    rules.require_items(item_ids)
    return rules.request_return(db, order, item_ids, payment_method_id)


@tool(writes=True)
def exchange_delivered_order_items(
    db: RetailDB, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Order:
    """Request the exchange of items of a delivered order for other variants of the same products. An order takes this once.

    Explain the exchange and the price difference to the customer and obtain an explicit yes first.

    Args:
        order_id: The order id with its "#", such as "#W0000000".
        item_ids: The items to exchange, each listed once for every line that is meant.
        new_item_ids: What replaces each of them, in the same order.
        payment_method_id: The customer's method that pays the difference or is refunded, such as "credit_card_0000000".
    """
    order = rules.get_delivered(db, order_id, "exchanged")
    rules.require_items(item_ids)
    variants, difference = rules.find_replacements(db, order, item_ids, new_item_ids, rules.EXCHANGE)
    pairs = _in_canonical_order(item_ids, variants)
    items, new_items = [item_id for item_id, _ in pairs], [variant.item_id for _, variant in pairs]
    return rules.request_exchange(db, order, items, new_items, payment_method_id, _cents(difference))


TOOLS = (
    calculate,
    transfer_to_human_agents,
    find_user_id_by_email,
    find_user_id_by_name_zip,
    get_user_details,
    get_order_details,
    get_product_details,
    get_item_details,
    list_all_product_types,
    cancel_pending_order,
    modify_pending_order_address,
    modify_pending_order_payment,
    modify_pending_order_items,
    modify_user_address,
    return_delivered_order_items,
    exchange_delivered_order_items,
)
"""All of them, in the order in which the agent sees them."""
