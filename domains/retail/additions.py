"""What is added to the shop for one customer: orders of products that it sells, made as `data.py` makes them, and payment methods.

Nothing is written before all of it is known. What is added stands anywhere among what was there, so that its place gives nothing away,
and is as long, and has ids of as many digits, as what the shop holds already; the shop stays sound (`invariants.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from random import Random

from .data import make_line, make_order
from .db import CreditCard, GiftCard, Order, OrderLine, PaymentMethod, Paypal, Product, RetailDB, User
from .people import invent_address

_TRIES = 40
_SEEN = 24
"""How many orders are looked at for how long orders are in this shop."""
_CANDIDATES = 3
"""How many products are looked at for the one with the most near-duplicates."""
_MOST_MIRRORED = 3
_MOST_OF_A_SOURCE = {"credit_card": 2, "gift_card": 2, "paypal": 1}


@dataclass(frozen=True)
class Methods:
    """Payment methods that a request needs, beyond the one that paid."""

    fits: Callable[[PaymentMethod, Order], bool]
    sources: tuple[str, ...]
    """What can be added where there are too few."""
    request: int = 1
    siblings: int = 2
    """How many must fit for a request, and for one that can be mistaken."""
    pays_all: bool = False
    """Whether it pays the whole order."""
    covers: bool = True
    """Whether an added gift card holds what the order costs."""


@dataclass(frozen=True)
class About:
    """What a kind of request is about."""

    statuses: tuple[str, ...]
    """Of its order."""
    elsewhere: str | None
    """Of other orders that it could be mistaken for; None where there is no such thing."""
    swaps: bool
    """Whether it replaces items."""
    sold_out: bool
    """Whether by variants that are sold out."""
    lines: int
    """How many lines its order has at least."""
    methods: Methods | None
    writes: bool
    """Whether a write fulfils it."""

    def suits(self, product: Product, item_id: str) -> bool:
        """Whether it could be about this item."""
        others = [variant.available for key, variant in product.variants.items() if key != item_id] if self.swaps else []
        return not self.swaps or (any(others) and not (self.sold_out and all(others)))


@dataclass
class Additions:
    """What is being added for one customer; nothing is written before all of it is known."""

    db: RetailDB
    user: User
    rng: Random
    added: list[Order] = field(default_factory=list)
    methods: dict[str, PaymentMethod] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.methods = dict(self.user.payment_methods)
        seen = list(islice(self.db.orders.values(), _SEEN))
        self.most_lines = max((len(order.items) for order in seen), default=3)
        self.digits = len(seen[0].order_id) - len("#W") if seen else 7

    @cached_property
    def products(self) -> list[str]:
        """The ids of all products."""
        return list(self.db.products)

    def save(self) -> bool:
        """Write it; the orders at any place among the customer's."""
        ids = list(self.user.orders)
        for order in self.added:
            self.db.orders.add(order.order_id, order)
            ids.insert(self.rng.randint(0, len(ids)), order.order_id)
        changed = {"orders": ids} if self.added else {}
        if len(self.methods) > len(self.user.payment_methods):
            changed["payment_methods"] = self.methods  # type: ignore[assignment]
        if changed:
            self.db.users.update(self.user.user_id, **changed)
        return True

    # orders

    def find_order(self, about: About) -> Order | None:
        """One of the customer's orders that the request could be about."""
        own = [self.db.orders[each] for each in self.user.orders]
        found = [order for order in own if order.status in about.statuses and self._suits(order, about)]
        return self.rng.choice(found) if found else None

    def _suits(self, order: Order, about: About) -> bool:
        return len(order.items) >= about.lines and any(about.suits(self.db.products[line.product_id], line.item_id) for line in order.items)

    def new_order(self, about: About, *, rich: bool = False) -> Order | None:
        """An order that the request could be about.

        Args:
            about: What the request is about.
            rich: Whether it holds one product in two variants, of which there are many that are nearly the same.
        """
        rng = self.rng
        first = self._choose(about, _CANDIDATES if rich and about.swaps else 1)
        if first is None:
            return None
        lines = [first]
        count = min(max(about.lines, rng.randint(1, self.most_lines)), self.most_lines)
        if rich and self.most_lines > 1 and (second := self._other_variant(first, about, {first.item_id})) is not None:
            lines.append(second)
        for _ in range(_TRIES):
            if len(lines) >= count:
                break
            product = self._any_product()
            if all(line.product_id != product.product_id for line in lines):
                lines.append(make_line(product, rng.choice(list(product.variants.values()))))
        rng.shuffle(lines)
        return self._order(rng.choice(about.statuses), lines)

    def _order(self, status: str, lines: list[OrderLine], method: str | None = None) -> Order | None:
        rng, order_id = self.rng, self._fresh("#W", self.db.orders)
        if order_id is None:
            return None
        address = self.user.address
        if rng.random() < 0.2:  # as in data.py, where all that goes elsewhere goes to one place
            known = (self.db.orders[each].address for each in self.user.orders)
            address = next((other for other in known if other != address), None) or invent_address(rng)
        order = make_order(rng, self.user, order_id, lines, address, status, method=method)
        self.added.append(order)
        return order

    def _fresh(self, prefix: str, taken: Collection[str]) -> str | None:
        for _ in range(_TRIES):
            drawn = f"{prefix}{self.rng.randrange(10 ** (self.digits - 1), 10**self.digits)}"
            if drawn not in taken and all(order.order_id != drawn for order in self.added):
                return drawn
        return None

    def _any_product(self) -> Product:
        return self.db.products[self.rng.choice(self.products)]

    def _choose(self, about: About, candidates: int) -> OrderLine | None:
        """An item that the request could be about: the one with the most near-duplicates among some."""
        found: list[tuple[int, OrderLine]] = []
        for _ in range(_TRIES if self.products else 0):
            product = self._any_product()
            variant = self.rng.choice(list(product.variants.values()))
            if about.suits(product, variant.item_id):
                found.append((near_duplicates(product, variant.item_id) if candidates > 1 else 0, make_line(product, variant)))
                if len(found) == candidates:
                    break
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def _other_variant(self, line: OrderLine, about: About, but: Collection[str]) -> OrderLine | None:
        product = self.db.products[line.product_id]
        others = [variant for key, variant in product.variants.items() if key not in but and about.suits(product, key)]
        if about.swaps and self.rng.random() < 0.5:  # what is sold out cannot be what the customer wants instead
            others = [variant for variant in others if not variant.available] or others
        return make_line(product, self.rng.choice(others)) if others else None

    def mirror(self, target: Order, about: About) -> bool:
        """Add orders of the same products in other variants, on which the same write could be made."""
        held = {line.item_id for line in target.items}
        products = {line.product_id: line for line in target.items}
        own = [line for line in products.values() if about.suits(self.db.products[line.product_id], line.item_id)]
        for _ in range(self.rng.choices((1, 2, 3), (7, 2, 1))[0]):
            lines = [other for line in own if (other := self._other_variant(line, about, held)) is not None]
            if about.methods is not None and about.methods.pays_all:  # a gift card that covers the one has to cover the other
                lines = sorted(lines, key=lambda line: line.price)[:1]
            lines = self.rng.sample(lines, min(len(lines), self.most_lines, _MOST_MIRRORED))
            if not lines:
                return False
            if self._order(about.elsewhere or target.status, lines, target.payment_history[0].payment_method_id) is None:
                return False
        return True

    # payment methods

    def add_methods(self, order: Order, wanted: Methods, *, siblings: bool) -> bool:
        """Add payment methods until enough of them fit."""
        for _ in range(wanted.siblings if siblings else wanted.request):
            fitting = sum(wanted.fits(method, order) for method in self.methods.values())
            if fitting >= (wanted.siblings if siblings else wanted.request):
                break
            if not self.add_method(wanted.sources, order, covers=wanted.covers):
                return False
        return True

    def add_method(self, sources: Sequence[str], order: Order | None = None, *, covers: bool = True) -> bool:
        """Add a payment method of one of these sources, as far as people have so many; a gift card covers the order, or does not."""
        rng = self.rng
        counts = Counter(method.source for method in self.methods.values())
        free = [source for source in sources if counts[source] < _MOST_OF_A_SOURCE[source]]
        source = rng.choice(free) if free else ""
        method_id = self._fresh_method(source) if free else None
        if method_id is None:
            return False
        if source == "gift_card":
            cost = int(order.payment_history[0].amount) if order is not None else 0
            balance = rng.randint(cost + 1, cost + 100) if covers else rng.randrange(max(cost, 1))
            self.methods[method_id] = GiftCard(id=method_id, balance=float(balance))
        elif source == "credit_card":
            taken = {method.last_four for method in self.methods.values() if isinstance(method, CreditCard)}
            last_four = next(each for each in (str(rng.randint(1000, 9999)) for _ in range(_TRIES)) if each not in taken)
            self.methods[method_id] = CreditCard(id=method_id, brand=rng.choice(("visa", "mastercard")), last_four=last_four)
        else:
            self.methods[method_id] = Paypal(id=method_id)
        return True

    def _fresh_method(self, source: str) -> str | None:
        for _ in range(_TRIES):
            drawn = self._fresh(f"{source}_", self.methods)
            if drawn is not None and not self.db.users.find("payment_method", drawn):
                return drawn
        return None


def near_duplicates(product: Product, item_id: str) -> int:
    """How many of the available variants that could replace an item differ from another one of them in a single option."""
    others = [tuple(sorted(variant.options.items())) for key, variant in product.variants.items() if variant.available and key != item_id]
    alike = Counter((at, values[:at] + values[at + 1 :]) for values in others for at in range(len(values)))
    return sum(any(alike[at, values[:at] + values[at + 1 :]] > 1 for at in range(len(values))) for values in others)
