"""Our own shop: a seeded database of any size, with the near-duplicates that make real requests easy to get wrong.

    db = generate()                                                       # tau2-bench's size: 500 users, 1,000 orders, 50 products
    db = generate(users=50_000, orders=100_000, products=5_000)           # a hundred times that
    db = generate(users=60, orders=120, products=8, variants=(3, 4), options=2, id_digits=4, order_digits=4)   # for a tiny model

Variants differ in one option, a user buys one product twice, has several ways to pay and several addresses. Proportions are
tau2-bench's: 42 % of the orders are pending, 37 % delivered; a fifth goes to another address than the user's; 64 % of the variants are
available. The same arguments give the same database in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from random import Random

from sentinel_env.errors import ConfigError

from .catalogue import Kind, kinds, product_name
from .db import (
    Address,
    CreditCard,
    Fulfillment,
    GiftCard,
    Name,
    Order,
    OrderLine,
    Payment,
    PaymentMethod,
    Paypal,
    Product,
    RetailDB,
    User,
    Variant,
)
from .people import FIRST_NAMES, LAST_NAMES, PEOPLE, invent_address, invent_email

_ORDERS_OF_A_USER = {0: 62, 1: 133, 2: 141, 3: 104, 4: 37, 5: 17, 6: 4, 7: 1, 9: 1}
_STATUSES = {"pending": 423, "delivered": 373, "processed": 102, "cancelled": 102}
_METHODS_OF_A_USER = {1: 337, 2: 136, 3: 22, 4: 5}
# each is how many of 500 users, 1,000 orders and 500 users of tau2-bench's data have it
_MOST_OF_A_SOURCE = {"credit_card": 2, "gift_card": 2, "paypal": 1}


class _Ids:
    """Numbers of a fixed length, none drawn twice."""

    def __init__(self, rng: Random, digits: int, option: str) -> None:
        self.rng, self.option = rng, option
        self.low, self.high = 10 ** (digits - 1), 10**digits - 1
        self.taken: set[int] = set()

    def draw(self) -> str:
        if len(self.taken) > 0.9 * (self.high - self.low):
            raise ConfigError(f"{len(self.taken):,} ids fill nearly all of {len(str(self.high))} digits; raise {self.option}")
        while (number := self.rng.randint(self.low, self.high)) in self.taken:
            pass
        self.taken.add(number)
        return str(number)


def generate(
    *,
    users: int = 500,
    orders: int = 1000,
    products: int = 50,
    seed: int = 0,
    variants: tuple[int, int] = (5, 20),
    options: int | None = None,
    lines: int = 5,
    id_digits: int = 10,
    order_digits: int = 7,
    user_digits: int = 4,
) -> RetailDB:
    """Make a database.

    Args:
        users: How many customers; about one in eight has no order.
        orders: How many orders.
        products: How many products; from 71 on, kinds return under the names of product lines.
        seed: Other seeds give other shops.
        variants: The fewest and the most variants of a product. One with fewer combinations of options has all of them.
        options: How many options a product has at most; None for all of its kind's (three).
        lines: The most lines of an order.
        id_digits: The length of product and item ids.
        order_digits: The length of the number in an order's and a payment method's id.
        user_digits: The length of the number at the end of a user id.

    Raises:
        ConfigError: A size is negative, orders have no user or product, or ids are too short for so many.
    """
    low, high = variants
    if (
        min(users, orders, products) < 0
        or not 1 <= low <= high
        or min(lines, id_digits, order_digits, user_digits, 1 if options is None else options) < 1
    ):
        raise ConfigError("sizes are at least 0, and digits, lines, options and variants at least 1, the fewest variants first")
    if orders and not (users and products):
        raise ConfigError(f"{orders} orders need at least one user and one product, found {users} and {products}")
    if users > PEOPLE // 2:
        raise ConfigError(f"at most {PEOPLE // 2:,} users can be told apart by name and zip code, found {users:,}")
    rng = Random(seed)
    shelf = _products(rng, products, variants, options, _Ids(rng, id_digits, "id_digits"))
    articles = [[make_line(product, variant) for variant in product.variants.values()] for product in shelf.values()]
    customers: dict[str, User] = {}
    bought: dict[str, Order] = {}
    people = _People(rng, order_digits, user_digits)
    order_ids = _Ids(rng, order_digits, "order_digits")
    for count in _order_counts(rng, users, orders):
        user = people.draw([f"#W{order_ids.draw()}" for _ in range(count)])
        customers[user.user_id] = user
        bought.update(_orders(rng, user, articles, lines))
    return RetailDB(products=shelf, users=customers, orders=bought)


def _products(rng: Random, count: int, variants: tuple[int, int], options: int | None, ids: _Ids) -> dict[str, Product]:
    numbers = rng.sample(range(len(kinds())), count) if count <= len(kinds()) else range(count)
    shelf = {}
    for number in numbers:
        name, kind = product_name(number)
        product_id = ids.draw()
        articles = _variants(rng, kind, rng.randint(*variants), options, ids)
        shelf[product_id] = Product(name=name, product_id=product_id, variants={article.item_id: article for article in articles})
    return shelf


def _variants(rng: Random, kind: Kind, count: int, options: int | None, ids: _Ids) -> list[Variant]:
    """Different variants, most of which differ from another one in a single option."""
    keys = list(kind.options)[:options]
    factors = {(key, value): rng.uniform(0.88, 1.16) for key in keys for value in kind.options[key]}
    every = list(combinations(*(kind.options[key] for key in keys)))
    chosen = [rng.choice(every)]
    left = set(every) - set(chosen)
    while left and len(chosen) < count:
        near = list(rng.choice(chosen) if rng.random() < 0.7 else rng.choice(every))
        at = rng.randrange(len(keys))
        near[at] = rng.choice(kind.options[keys[at]])
        if tuple(near) in left:
            left.remove(tuple(near))
            chosen.append(tuple(near))
    available = set(rng.sample(range(len(chosen)), max(1, round(len(chosen) * 0.64))))
    articles = []
    for at, values in enumerate(chosen):
        price = kind.price
        for pair in zip(keys, values, strict=True):
            price *= factors[pair]
        named = dict(zip(keys, values, strict=True))
        articles.append(Variant(item_id=ids.draw(), options=named, available=at in available, price=round(price, 2)))
    return articles


def make_line(product: Product, item: Variant) -> OrderLine:
    """A line of an order that buys a variant at its price."""
    return OrderLine(name=product.name, product_id=product.product_id, item_id=item.item_id, price=item.price, options=item.options)


def _order_counts(rng: Random, users: int, orders: int) -> list[int]:
    """How many orders each user has, in tau2-bench's proportions and with the given sum."""
    if not users:
        return []
    counts = rng.choices(list(_ORDERS_OF_A_USER), list(_ORDERS_OF_A_USER.values()), k=users)
    most = max(9, -(-2 * orders // users))
    surplus = sum(counts) - orders
    while surplus:
        at = rng.randrange(users)
        if surplus > 0 and counts[at] > 0:
            counts[at], surplus = counts[at] - 1, surplus - 1
        elif surplus < 0 and counts[at] < most:
            counts[at], surplus = counts[at] + 1, surplus + 1
    return counts


class _People:
    """Customers, no two with one id, one e-mail address, or one name and zip code."""

    def __init__(self, rng: Random, payment_digits: int, user_digits: int) -> None:
        self.rng, self.digits = rng, user_digits
        self.payment_ids = _Ids(rng, payment_digits, "order_digits")
        self.user_ids: set[str] = set()
        self.emails: set[str] = set()
        self.identities: set[tuple[str, str, str]] = set()

    def draw(self, orders: list[str]) -> User:
        rng = self.rng
        while True:
            first, last, address = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES), invent_address(rng)
            user_id = f"{first}_{last}_{rng.randrange(10**self.digits):0{self.digits}d}".lower()
            identity = (first, last, address.zip)
            if user_id not in self.user_ids and identity not in self.identities:
                break
            if len(self.user_ids) > 0.5 * len(FIRST_NAMES) * len(LAST_NAMES) * 10**self.digits:
                raise ConfigError(f"{len(self.user_ids):,} users fill half of the user ids; raise user_digits")
        self.user_ids.add(user_id)
        self.identities.add(identity)
        methods = self._payment_methods()
        email = invent_email(rng, first, last, self.emails)
        name = Name(first_name=first, last_name=last)
        return User(user_id=user_id, name=name, address=address, email=email, payment_methods=methods, orders=orders)

    def _payment_methods(self) -> dict[str, PaymentMethod]:
        rng = self.rng
        count = rng.choices(list(_METHODS_OF_A_USER), list(_METHODS_OF_A_USER.values()))[0]
        sources = [source for source, most in _MOST_OF_A_SOURCE.items() for _ in range(most)]
        rng.shuffle(sources)
        last_four = rng.sample(range(1000, 10_000), 2)
        methods: dict[str, PaymentMethod] = {}
        for at, source in enumerate(sources[:count]):
            method_id = f"{source}_{self.payment_ids.draw()}"
            if source == "credit_card":
                brand = rng.choice(("visa", "mastercard"))
                methods[method_id] = CreditCard(id=method_id, brand=brand, last_four=str(last_four[at % 2]))
            elif source == "gift_card":
                most = 100 if rng.random() < 0.7 else 900
                methods[method_id] = GiftCard(id=method_id, balance=float(rng.randint(0, most)))
            else:
                methods[method_id] = Paypal(id=method_id)
        return methods


def _orders(rng: Random, user: User, articles: Sequence[Sequence[OrderLine]], most: int) -> dict[str, Order]:
    """The user's orders; half of the later ones hold a product of an earlier one again, most of those in the same status."""
    found: dict[str, Order] = {}
    earlier: list[tuple[Sequence[OrderLine], str]] = []
    other: Address | None = None
    for order_id in user.orders:
        products = rng.sample(articles, min(len(articles), rng.randint(1, most)))
        status = rng.choices(list(_STATUSES), list(_STATUSES.values()))[0]
        if earlier and rng.random() < 0.5:
            again, its_status = rng.choice(earlier)
            products = [again, *(each for each in products if each is not again)][: len(products)]
            status = its_status if rng.random() < 0.6 else status
        items = [rng.choice(variants) for variants in products]
        if len(items) < most and rng.random() < 0.1:
            items.append(rng.choice(products[0]))  # the product twice in one order, now and then the very same item
        rng.shuffle(items)
        earlier.extend((product, status) for product in products)
        if rng.random() < 0.2:
            other = other or invent_address(rng)
            address = other
        else:
            address = user.address
        found[order_id] = make_order(rng, user, order_id, items, address, status)
    return found


def make_order(
    rng: Random, user: User, order_id: str, items: list[OrderLine], address: Address, status: str, *, method: str | None = None
) -> Order:
    """An order that nobody has acted on, with the payments and parcels of its status; paid by any of the user's methods for None."""
    method = method or rng.choice(list(user.payment_methods))
    total = round(sum(line.price for line in items), 2)
    history = [Payment(transaction_type="payment", amount=total, payment_method_id=method)]
    if status == "cancelled":
        history.append(Payment(transaction_type="refund", amount=total, payment_method_id=method))
    parcels = []
    if status != "pending":
        parcels.append(Fulfillment(tracking_id=[str(rng.randint(10**11, 10**12 - 1))], item_ids=[line.item_id for line in items]))
    return Order(
        order_id=order_id,
        user_id=user.user_id,
        address=address,
        items=items,
        status=status,  # type: ignore[arg-type]
        fulfillments=parcels,
        payment_history=history,
    )
