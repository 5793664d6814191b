import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentinel_domains.retail.catalogue import kinds, product_name
from sentinel_domains.retail.compact import render_compact
from sentinel_domains.retail.data import generate
from sentinel_domains.retail.db import RetailDB
from sentinel_domains.retail.invariants import check_invariants

from sentinel_env.errors import ConfigError

SMALL = {"users": 60, "orders": 120, "products": 8, "variants": (3, 4), "options": 2, "id_digits": 4, "order_digits": 4}


@pytest.fixture(scope="module")
def shop():
    return generate()


@pytest.mark.parametrize("seed", range(4))
def test_the_default_shop_is_sound_at_any_seed(seed):
    db = generate(seed=seed)
    assert check_invariants(db) == []
    assert (len(db.users), len(db.orders), len(db.products)) == (500, 1000, 50)


@settings(max_examples=40, deadline=None)
@given(
    users=st.integers(1, 80),
    orders=st.integers(0, 200),
    products=st.integers(1, 160),
    low=st.integers(1, 6),
    more=st.integers(0, 40),
    options=st.none() | st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_a_shop_of_any_size_is_sound(users, orders, products, low, more, options, seed):
    db = generate(users=users, orders=orders, products=products, variants=(low, low + more), options=options, seed=seed)
    assert check_invariants(db) == []
    assert (len(db.users), len(db.orders), len(db.products)) == (users, orders, products)


def test_a_small_shop_has_short_ids():
    db = generate(**SMALL)
    assert check_invariants(db) == []
    assert {len(item_id) for product in db.products.values() for item_id in product.variants} == {4}
    assert {len(order_id) for order_id in db.orders} == {len("#W") + 4}
    assert {len(variant.options) for product in db.products.values() for variant in product.variants.values()} == {2}


def test_the_proportions_are_those_of_tau2_bench(shop):
    def share(values):
        found = list(values)
        return sum(found) / len(found)

    orders = shop.orders.values()
    assert share(order.status == "pending" for order in orders) == pytest.approx(0.42, abs=0.06)
    assert share(order.status == "delivered" for order in orders) == pytest.approx(0.37, abs=0.06)
    assert share(order.address != shop.users[order.user_id].address for order in orders) == pytest.approx(0.2, abs=0.05)
    assert share(item.available for product in shop.products.values() for item in product.variants.values()) == pytest.approx(
        0.64, abs=0.03
    )
    assert share(not user.orders for user in shop.users.values()) == pytest.approx(0.12, abs=0.05)
    assert max(len(user.orders) for user in shop.users.values()) <= 9


def test_near_duplicates_abound(shop):
    def near(product):
        items = list(product.variants.values())
        return any(len(one.options.items() - other.options.items()) == 1 for one in items for other in items)

    assert all(near(product) for product in shop.products.values())
    bought = [[{line.product_id for line in shop.orders[order].items} for order in user.orders] for user in shop.users.values()]
    twice = sum(any(one & other for at, one in enumerate(sets) for other in sets[:at]) for sets in bought)
    assert twice > 100
    assert sum(len(user.payment_methods) > 1 for user in shop.users.values()) > 100


def _digest_in_a_process(hash_seed):
    program = f"from sentinel_domains.retail.data import generate; print(generate().digest(), generate(seed=3, **{SMALL}).digest())"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout


def test_one_seed_is_one_shop_in_every_process(shop):
    first, second = _digest_in_a_process("1"), _digest_in_a_process("2")
    assert first == second
    assert first.split() == [shop.digest(), generate(seed=3, **SMALL).digest()]
    assert generate(seed=1).digest() != shop.digest()


def test_a_shop_survives_json(shop):
    assert RetailDB.load(shop.dump()).digest() == shop.digest()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"orders": -1}, "sizes are at least 0"),
        ({"variants": (4, 3)}, "fewest variants first"),
        ({"options": 0}, "at least 1"),
        ({"users": 0}, "need at least one user"),
        ({"id_digits": 2}, "raise id_digits"),
        ({"orders": 1000, "order_digits": 3}, "raise order_digits"),
        ({"users": 10**9}, "told apart by name and zip"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_to_do(arguments, message):
    with pytest.raises(ConfigError, match=message):
        generate(**arguments)


def test_the_catalogue_is_unambiguous():
    assert len({kind.name for kind in kinds()}) == len(kinds()) >= 50
    for kind in kinds():
        values = [value for values in kind.options.values() for value in values]
        assert len(values) == len(set(values)), kind.name
        assert kind.combinations >= 36, kind.name
    assert len({product_name(number)[0] for number in range(10_000)}) == 10_000


def test_violations_are_found(shop):
    db = shop.fork()
    order = next(order for order in db.orders.values() if order.status == "pending")
    db.orders.update(order.order_id, status="cancelled", items=order.items[:1], cancel_reason="no longer needed")
    found = "\n".join(check_invariants(db))
    assert "is cancelled and its payment history is ['payment']" in found
    assert "carries the trace of an action" in found


def test_tau2_bench_data_is_sound_too(shared):
    assert check_invariants(RetailDB.load(shared / "data" / "tau2_retail" / "db.json")) == []


def test_compact_texts_keep_what_calls_are_made_of(shop):
    for order in shop.orders.values():
        text = render_compact(order)
        needed = {order.order_id, order.status, order.address.zip, order.payment_history[0].payment_method_id}
        needed |= {value for line in order.items for value in (line.item_id, line.product_id, *line.options.values())}
        assert all(value in text for value in needed), text
        assert len(text) < len(order.json_text) / 2
    for user in shop.users.values():
        assert all(value in render_compact(user) for value in (user.user_id, *user.orders, *user.payment_methods))
    for product in shop.products.values():
        text = render_compact(product)
        assert all((item_id in text) == item.available for item_id, item in product.variants.items())


def test_compact_texts_show_what_was_done(shop):
    order = next(order for order in shop.orders.values() if order.status == "delivered")
    requested = order.replace(
        status="exchange requested",
        exchange_items=["1"],
        exchange_new_items=["2"],
        exchange_payment_method_id="paypal_1",
        exchange_price_difference=-3.5,
    )
    assert "exchanging 1 for 2, $-3.50 by paypal_1" in render_compact(requested)
    returned = order.replace(status="return requested", return_items=["1", "2"], return_payment_method_id="paypal_1")
    assert "returning 1 2 to paypal_1" in render_compact(returned)
    cancelled = order.replace(status="cancelled", cancel_reason="no longer needed")
    assert f"{order.order_id} cancelled (no longer needed)" in render_compact(cancelled)
    assert render_compact("Transfer successful") == "Transfer successful"
