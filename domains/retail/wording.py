"""How a customer says things: items by as few options as tell them apart, payment methods, addresses, amounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from .db import Address, CreditCard, GiftCard, OrderLine, PaymentMethod, Paypal

Options = Mapping[str, str]
_NEEDS_KEY = frozenset(("yes", "no", "none", "standard", "small", "medium", "large"))


def say_values(options: Options, keys: Iterable[str], pool: Iterable[Options] = ()) -> str:
    """Some of an item's values: "black, size L".

    Args:
        options: The item's options.
        keys: Which to say.
        pool: The options of what it may be confused with: a value that another option has there too is said with its key.
    """
    others = [options, *pool]
    return ", ".join(_say(key, options[key], others) for key in keys)


def _say(key: str, value: str, pool: Sequence[Options]) -> str:
    bare = len(value) > 2 and not value.isdigit() and value.lower() not in _NEEDS_KEY
    if bare and not any(value == other and key != name for options in pool for name, other in options.items()):
        return value
    return f"{key} {value}"


def describe(line: OrderLine, rivals: Iterable[OrderLine]) -> str | None:
    """The shortest description that fits a line and none of its rivals, or None where a rival is the same item.

    >>> lamp = OrderLine(name="Desk Lamp", product_id="1", item_id="2", price=9.5, options={"color": "black", "light": "warm"})
    >>> describe(lamp, [])
    'desk lamp'
    >>> describe(lamp, [lamp.replace(item_id="3", options={"color": "black", "light": "cool"})])
    'warm desk lamp'
    """
    name = line.name.lower()
    pool = [rival.options for rival in rivals if name in rival.name.lower()]  # the "Nordic Desk Lamp" is a desk lamp too
    if not pool:
        return name
    for size in range(1, len(line.options) + 1):
        for keys in combinations(line.options, size):
            if not any(all(options.get(key) == line.options[key] for key in keys) for options in pool):
                return f"{say_values(line.options, keys, pool)} {name}"
    return None


def say_change(old: Options, new: Options, pool: Iterable[Options]) -> str:
    """A variant by how it differs from another one: "the same but white"."""
    return f"the same but {say_values(new, [key for key in new if new[key] != old.get(key)], pool)}"


def say_payment(method: PaymentMethod, methods: Iterable[PaymentMethod]) -> str:
    """A payment method as its owner calls it: by its kind, or by its digits where the owner has two of the kind."""
    alone = sum(other.source == method.source for other in methods) == 1
    if isinstance(method, Paypal):
        return "my PayPal" if alone else f"my PayPal {method.id}"
    if isinstance(method, GiftCard):
        return "my gift card" if alone else f"my gift card {method.id.removeprefix('gift_card_')}"
    assert isinstance(method, CreditCard)
    return "my credit card" if alone else f"my credit card ending in {method.last_four}"


def say_address(address: Address) -> str:
    """An address in one line."""
    parts = (address.address1, address.address2, address.city, f"{address.state} {address.zip}")
    return ", ".join(part for part in parts if part)


def say_list(items: Sequence[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def money(amount: float) -> str:
    """An amount with cents: "12.50"."""
    return f"{amount:.2f}"
