"""What a customer's words can mean: a fact read as constraints, solved over the shop's records.

    meanings(db, scenario, wish, Fact(slot="item", text="the black desk lamp"))     # ['4821', '3310']: two lamps fit

This is how the Proposer's drafts are found out whose words fit more than one record, or another one than the reference takes. It reads
the words alone, never the fact's value, and shares nothing with `wording.py`, which says things: an error there shows here. It
understands those words in other cases and orders too, not free speech: what it cannot read is None, what fits nothing is an empty list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sentinel_env.tasks import Fact, Scenario, Wish

from .db import Address, CreditCard, GiftCard, Order, OrderLine, PaymentMethod, Paypal, RetailDB, User, Variant
from .descriptions import changes, described, names_a_product, words
from .identification import find_customers, is_called, lives_at, read_email

_MOST_TEXT = 500

_ORDER_ID = re.compile(r"#?\bW(\d+)\b", re.IGNORECASE)
_ORDER_WITH = re.compile(r"\border (?:with|containing|that (?:has|holds|contains))\b(.*)", re.IGNORECASE | re.DOTALL)
_FOR = re.compile(r"^for (?P<item>[^:]+): ?(?P<new>.+)$", re.IGNORECASE | re.DOTALL)
_SAME = re.compile(r"\bsame(?: one| item)?,? (?:but|except|only|just)(?: in| with)? (?P<change>.+)", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(
    r"(?P<address1>\d+ [^,]+), (?:(?P<address2>[^,]+), )?(?P<city>[^,]+), (?P<state>[A-Za-z]{2}),? (?P<zip>\d{5})(?:, (?P<country>[^,]+))?"
)
_DEFAULT = re.compile(r"\b(?:default|profile|account|home) address\b|\baddress (?:on|in|of) (?:my |the )?(?:file|profile|account)\b")
_SAME_ADDRESS = re.compile(r"\bsame address,? (?:but|except|only|just)(?: with)? (?P<line>(?:apt|suite|unit)\b.+)", re.IGNORECASE)
_SAID_OF_METHODS = "my the a paypal account credit gift card ending in with number visa mastercard original payment method that paid for it"
_METHOD_WORDS = frozenset(_SAID_OF_METHODS.split())


def meanings(db: RetailDB, scenario: Scenario, wish: Wish | None, fact: Fact) -> list[Any] | None:
    """Every value that a fact's words could mean, as the fact's value would have it.

    Args:
        db: The database as the task finds it.
        scenario: Who the customer is, by its own facts.
        wish: The wish that the fact belongs to; None for a fact about who the customer is.
        fact: What is said. Its value is not looked at.

    Returns:
        The values in the database's order, each once. None where the words are beyond this reader.
    """
    read = _READERS.get(fact.slot)
    return None if read is None or len(fact.text) > _MOST_TEXT else read(_Conversation(db, scenario, wish), fact.text)


@dataclass(frozen=True)
class _Conversation:
    """What the words are said in."""

    db: RetailDB
    scenario: Scenario
    wish: Wish | None

    @cached_property
    def customers(self) -> list[User]:
        """Who the customer can be, by the scenario's own words."""
        return find_customers(self.db, {fact.slot: fact.text for fact in self.scenario.facts})

    @cached_property
    def orders(self) -> list[Order]:
        """The customer's orders."""
        return [self.db.orders[each] for user in self.customers for each in user.orders if each in self.db.orders]

    @cached_property
    def scope(self) -> list[Order] | None:
        """The orders that the wish can be about; None where its words cannot be read."""
        told = self.told("order")
        if not told:
            return self.orders
        found: dict[str, Order] = {}
        for text in told:
            meant = _orders(self, text)
            if meant is None:
                return None
            found.update((each, self.db.orders[each]) for each in meant)
        return list(found.values())

    def told(self, slot: str) -> list[str]:
        """The wish's words for a slot."""
        return [fact.text for fact in self.wish.facts if fact.slot == slot] if self.wish is not None else []

    def lines(self, text: str) -> list[OrderLine] | None:
        """The lines that a description fits, in the orders that the wish can be about."""
        if self.scope is None:
            return None
        said = words(text)
        found = [line for _, line in described(said, self.scope)]
        return found if found or names_a_product(said, self.db.products.values()) else None

    @cached_property
    def picked(self) -> list[OrderLine] | None:
        """The lines that the wish's items can be."""
        found: list[OrderLine] = []
        for text in self.told("item"):
            lines = self.lines(text)
            if lines is None:
                return None
            found.extend(lines)
        return found


# who the customer is


def _emails(talk: _Conversation, text: str) -> list[str]:
    return [user.email for user in talk.customers if user.email.lower() == read_email(text).lower()]


def _new_emails(talk: _Conversation, text: str) -> list[str]:
    return [found] if "@" in (found := read_email(text)) else []


def _names(talk: _Conversation, text: str) -> list[dict[str, str]]:
    return _once(user.name.model_dump() for user in talk.customers if is_called(user, text))


def _zips(talk: _Conversation, text: str) -> list[str]:
    return _once(user.address.zip for user in talk.customers if lives_at(user, text))


def _once(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


# orders, items and what replaces them


def _orders(talk: _Conversation, text: str) -> list[str] | None:
    """By number, whoever's it is; or by what is in it, among the customer's own."""
    if numbers := _ORDER_ID.findall(text):
        return [order_id for order_id in dict.fromkeys(f"#W{number}" for number in numbers) if order_id in talk.db.orders]
    held = _ORDER_WITH.search(text)
    if held is None or not talk.customers:
        return None
    whole = words(held[1])
    several = [words(part) for part in re.split(r"\band\b", held[1], flags=re.IGNORECASE)]
    for parts in ([whole], several):
        fitting = [{order.order_id for order, _ in described(said, talk.orders)} for said in parts]
        if found := [order.order_id for order in talk.orders if all(order.order_id in each for each in fitting)]:
            return found
    return [] if names_a_product(whole, talk.db.products.values()) else None


def _items(talk: _Conversation, text: str) -> list[str] | None:
    if not talk.customers or (talk.wish is not None and talk.wish.answers and not talk.told("order")):
        return None  # who only asks may mean anything that the shop sells
    lines = talk.lines(text)
    return None if lines is None else _once(line.item_id for line in lines)


def _new_items(talk: _Conversation, text: str) -> list[str] | None:
    """The variants that differ from a picked item as the words say, and in nothing else where it is to be "the same but ..."."""
    base, wanted = talk.picked, text
    if named := _FOR.match(text):
        lines, wanted = talk.lines(named["item"]), named["new"]
        base = lines and ([line for line in lines if line in (talk.picked or ())] or lines)
    if not base or not talk.customers:
        return None
    same = _SAME.search(wanted)
    said = words(same["change"] if same else wanted)
    found: dict[str, Variant] = {}
    read = False
    for line in base:
        product = talk.db.products.get(line.product_id)
        for given in changes(said, product) if product is not None else ():
            read = True
            options = {**line.options, **given} if same else given
            found.update((key, each) for key, each in product.variants.items() if options.items() <= each.options.items())
            found.pop(line.item_id, None)
    if not read:
        return None
    open_to_it = [item_id for item_id, variant in found.items() if variant.available]
    return list(found) if talk.wish is not None and talk.wish.call is None else open_to_it or list(found)


# money, reasons and addresses


def _methods(talk: _Conversation, text: str) -> list[str] | None:
    """By kind, brand and digits among the customer's methods, or the one that paid."""
    said = words(text.replace("_", " "))
    digits = {word for word in said if word.isdigit()}
    kinds = _kinds(said)
    original = "original" in said or "paid" in said
    if not (kinds or original) or not digits | _METHOD_WORDS >= set(said) or not talk.customers:
        return None
    paid: set[str] = set()
    if original:
        if talk.scope is None:
            return None
        paid = {row.payment_method_id for order in talk.scope for row in order.payment_history[:1]}
    brands = {"visa", "mastercard"} & set(said)
    return [
        method.id
        for user in talk.customers
        for method in user.payment_methods.values()
        if (not kinds or isinstance(method, kinds))
        and (not original or method.id in paid)
        and (not brands or (isinstance(method, CreditCard) and method.brand in brands))
        and all(_has_number(method, number, text.lower()) for number in digits)
    ]


def _kinds(said: Sequence[str]) -> tuple[type, ...]:
    if "paypal" in said:
        return (Paypal,)
    if "gift" in said:
        return (GiftCard,)
    if {"credit", "visa", "mastercard"} & set(said):
        return (CreditCard,)
    return (CreditCard, GiftCard) if "card" in said else ()


def _has_number(method: PaymentMethod, number: str, text: str) -> bool:
    """Whether it is called by these digits: a credit card by its last four, any other by its id."""
    if isinstance(method, CreditCard):
        return number == method.last_four or (method.id in text and method.id.endswith(f"_{number}"))
    return method.id.endswith(f"_{number}") or ("ending" in text and method.id.endswith(number))


def _reasons(talk: _Conversation, text: str) -> list[str]:
    """The accepted reasons that are given; where none is, the reason as it is worded."""
    said = text.lower()
    found = ["no longer needed"] if re.search(r"\b(?:no longer need|(?:do not|don't) need)", said) else []
    found += ["ordered by mistake"] if re.search(r"\bmistake|\baccident", said) else []
    return found or [text.partition(";")[0].strip()]


def _addresses(talk: _Conversation, text: str) -> list[dict[str, str]] | None:
    if written := _ADDRESS.fullmatch(text.strip(" .")):
        parts = {name: value or "" for name, value in written.groupdict().items()}
        return [Address(**{**parts, "state": parts["state"].upper(), "country": parts["country"] or "USA"}).model_dump()]
    if not talk.customers:
        return None
    if changed := _SAME_ADDRESS.search(text):
        line = changed["line"].strip(" .")
        return None if "," in line else _dumped(each.replace(address2=line) for each in _current(talk))
    if _DEFAULT.search(text.lower()):
        return _dumped(user.address for user in talk.customers)
    if re.search(r"\baddress (?:of|on|from) (?:my |the )?order\b", text.lower()):
        orders = _orders(talk, text)
        return None if orders is None else _dumped(talk.db.orders[each].address for each in orders)
    return None


def _current(talk: _Conversation) -> list[Address]:
    """The address that a wish changes: its order's, or the customer's own."""
    if talk.wish is not None and any(fact.slot == "order" for fact in talk.wish.facts):
        return [order.address for order in talk.scope or ()]
    return [user.address for user in talk.customers]


def _dumped(addresses: Iterable[Address]) -> list[dict[str, str]]:
    return _once(address.model_dump() for address in addresses)


_READERS: dict[str, Callable[[_Conversation, str], list[Any] | None]] = {
    "email": _emails,
    "new_email": _new_emails,
    "name": _names,
    "zip": _zips,
    "order": _orders,
    "item": _items,
    "new_item": _new_items,
    "payment": _methods,
    "reason": _reasons,
    "address": _addresses,
}
