"""The shop's records: users with payment methods, products with variants, orders with lines.

The order of the fields is the order in the text that the agent sees; it is tau2-bench's, so that recorded tool outputs compare as text.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from sentinel_env import Database, Record, Table, indexed

CancelReason = Literal["no longer needed", "ordered by mistake"]
OrderStatus = Literal[
    "processed",
    "pending",
    "pending (item modified)",
    "delivered",
    "cancelled",
    "exchange requested",
    "return requested",
]


class Name(Record):
    """A person's name."""

    first_name: str
    last_name: str


class Address(Record):
    """Where parcels go."""

    model_config = ConfigDict(title="UserAddress")  # tau2-bench's name, which its agents see in a refusal

    address1: str
    address2: str
    """The suite or apartment; empty where there is none."""
    city: str
    country: str
    state: str
    zip: str


class CreditCard(Record):
    """A card, charged and refunded outside of the shop."""

    source: Literal["credit_card"] = "credit_card"
    id: str
    brand: str
    last_four: str


class GiftCard(Record):
    """The shop's own card: it holds a balance that pays and is refunded at once."""

    source: Literal["gift_card"] = "gift_card"
    id: str
    balance: float
    """In dollars, with two decimals."""


class Paypal(Record):
    """A PayPal account."""

    source: Literal["paypal"] = "paypal"
    id: str


PaymentMethod = Annotated[CreditCard | GiftCard | Paypal, Field(discriminator="source")]


class User(Record):
    """A customer's profile."""

    user_id: str
    name: Name
    address: Address
    """The default address; an order keeps its own."""
    email: str
    payment_methods: dict[str, PaymentMethod]
    """By the method's id."""
    orders: list[str]
    """Order ids, oldest first."""


class Variant(Record):
    """One article of a product, with a value for each of the product's options."""

    item_id: str
    """Unique over all products, and unrelated to the product's id."""
    options: dict[str, str]
    available: bool
    price: float


class Product(Record):
    """A type of product with its variants."""

    name: str
    product_id: str
    variants: dict[str, Variant]
    """By item id."""


class OrderLine(Record):
    """One article of an order, at the price that was agreed."""

    name: str
    product_id: str
    item_id: str
    price: float
    options: dict[str, str]


class Fulfillment(Record):
    """A parcel."""

    tracking_id: list[str]
    item_ids: list[str]


class Payment(Record):
    """Money that moved: a payment to the shop or a refund to the customer."""

    transaction_type: Literal["payment", "refund"]
    amount: float
    """In dollars, never negative."""
    payment_method_id: str


class Order(Record):
    """An order; the fields from `cancel_reason` on are null until an action sets them."""

    order_id: str
    """`#W` and seven digits."""
    user_id: str
    address: Address
    items: list[OrderLine]
    status: OrderStatus
    fulfillments: list[Fulfillment]
    """None while the order is pending."""
    payment_history: list[Payment]
    """Oldest first."""
    cancel_reason: CancelReason | None = None
    exchange_items: list[str] | None = None
    exchange_new_items: list[str] | None = None
    """By our tools: what replaces the item at the same place in `exchange_items`."""
    exchange_payment_method_id: str | None = None
    exchange_price_difference: int | float | None = None
    """What the customer still owes, or gets back where it is negative. The integer 0 is tau2-bench's sum over an empty list."""
    return_items: list[str] | None = None
    return_payment_method_id: str | None = None


class RetailDB(Database):
    """The shop, with an index for each look-up that a tool makes."""

    products: Table[Product] = indexed(item_id=lambda product: list(product.variants))
    users: Table[User] = indexed(
        email=lambda user: user.email.lower(),
        name_zip=lambda user: (user.name.first_name.lower(), user.name.last_name.lower(), user.address.zip),
        payment_method=lambda user: list(user.payment_methods),
    )
    orders: Table[Order] = indexed("user_id")
