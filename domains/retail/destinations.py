"""Where customers want parcels to go: a new address, a corrected one, or one that the shop knows."""

from __future__ import annotations

from dataclasses import dataclass

from sentinel_env.messages import ToolCall
from sentinel_env.tasks import Fact

from .db import Address, Order
from .people import invent_address
from .shopper import MOST_ALTERNATIVES, Shopper, call
from .wording import say_address

_LINES = ("address1", "address2", "city", "state", "zip")


@dataclass(frozen=True)
class Destination:
    """An address that the customer wants, and where each part of it is found."""

    address: Address
    said: str
    source: str
    """"new", "part" (only one line changes), "profile" or "order"."""
    provenance: dict[str, str]
    reads: tuple[ToolCall, ...] = ()
    touches: tuple[str, ...] = ()

    @property
    def fact(self) -> Fact:
        """The address as the customer gives it."""
        return Fact(slot="address", text=self.said, value=self.address.model_dump())


def destination(shopper: Shopper, current: Address, read: str, *, order: Order | None) -> Destination:
    """An address other than the current one: a new one, or one that the shop knows.

    Args:
        shopper: Who moves.
        current: What the record holds now.
        read: The tool that shows it.
        order: The order that is to be shipped elsewhere; None where the profile's address is to change.
    """
    rng, user = shopper.rng, shopper.user
    fields = list(Address.model_fields)
    draw = rng.random()
    if order is not None and user.address != current and draw < 0.5:
        provenance = {field: f"read:get_user_details.address.{field}" for field in fields}
        return Destination(user.address, "my default address", "profile", provenance, touches=(user.user_id,))
    elsewhere = [each for each in shopper.orders if each is not order and each.address != current]
    if elsewhere and draw < 0.5:
        other = rng.choice(elsewhere)
        provenance = {field: f"read:get_order_details.address.{field}" for field in fields}
        reads = (call("get_order_details", order_id=other.order_id),)
        return Destination(other.address, f"the address of order {other.order_id}", "order", provenance, reads, (other.order_id,))
    if draw > 0.75:
        new = f"Apt {rng.randint(1, 999)}"
        if new != current.address2:
            provenance = {field: "fact:address" if field == "address2" else f"read:{read}.address.{field}" for field in fields}
            return Destination(current.replace(address2=new), f"the same address but {new}", "part", provenance)
    new_address = invent_address(rng)
    while new_address == current:
        new_address = invent_address(rng)
    return Destination(new_address, say_address(new_address), "new", dict.fromkeys(fields, "fact:address"))


def near_addresses(shopper: Shopper, target: Address, current: Address) -> dict[str, list[str]]:
    """For each line of an address, what it is elsewhere in the customer's records, and a slip of the pen."""
    known = [current, shopper.user.address, *(order.address for order in shopper.orders)]
    slips = {"zip": target.zip[:-2] + target.zip[:-3:-1], "address2": "", "address1": target.address1.lstrip("0123456789").strip()}
    moved = [field for field in _LINES if getattr(target, field) != getattr(current, field)]
    found = {}
    for field in _LINES:
        values = dict.fromkeys([*(getattr(each, field) for each in known), *([slips[field]] if field in slips else [])])
        values.pop(getattr(target, field), None)
        if moved in ([], [field]):
            values.pop(getattr(current, field), None)  # would change nothing at all
        if values:
            found[field] = list(values)[:MOST_ALTERNATIVES]
    return found
