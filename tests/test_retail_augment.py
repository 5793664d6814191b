"""What is added to the shop for a customer: it makes the request possible or easy to get wrong, and the shop stays sound."""

import os
import subprocess
import sys
from functools import cache
from random import Random

import pytest
from sentinel_domains.retail.augment import AUGMENTS
from sentinel_domains.retail.data import generate
from sentinel_domains.retail.db import RetailDB
from sentinel_domains.retail.diagnosis import contexts
from sentinel_domains.retail.invariants import check_invariants
from sentinel_domains.retail.operations import OPERATIONS
from sentinel_domains.retail.tools import TOOLS

from sentinel_env import Criteria, Domain, Scenario, Task

SHOPS = {
    "default": {},
    "small": {"users": 60, "orders": 120, "products": 8, "variants": (3, 4), "options": 2, "id_digits": 4, "order_digits": 4},
}
KINDS = {kind.name: kind for kind in OPERATIONS.kinds if kind.name in AUGMENTS}
WRITES = {tool.name for tool in TOOLS if tool.writes}
FULFILLED = [name for name, kind in KINDS.items() if not kind.refusal and kind.tool in WRITES]
CONFUSED = [name for name in FULFILLED if name != "change_default_address"]
CONFUSED += ["refuse_cancel_shipped", "refuse_redirect_shipped", "refuse_return_undelivered"]
SWAPS = ["modify_items", "exchange_items", "modify_items_or_else", "exchange_items_or_else", "modify_or_cancel", "exchange_if_not_dearer"]
PAID = ["change_order_payment", "return_items", "return_if_dearer", *SWAPS]
HOPELESS = {
    "other_records": [name for name in KINDS if name not in (*CONFUSED, "change_default_address")],
    "siblings": [name for name in KINDS if name not in FULFILLED],
    "near_duplicate_variant": [name for name in KINDS if name not in (*SWAPS, "cancel_unless_modified", "return_if_dearer")],
    "several_payment_methods": [name for name in KINDS if name not in PAID],
    "a friend": list(KINDS),
}
TRIES = 50


@cache
def domain(shop):
    return Domain(name="retail", policy="", tools=TOOLS, database=lambda: generate(**SHOPS[shop]), operations=OPERATIONS)


def helped(world, kind, need):
    """(database of a task with the changes, its request or None) for customers without any order."""
    random = Random(f"{kind}/{need}")
    idle = [key for key, user in world.base.users.items() if not user.orders]
    for at in range(TRIES):
        subject, fork = idle[at % len(idle)], world.base.fork()
        if not KINDS[kind].augment(fork, subject, random, need):
            continue
        task = Task(id="helped", domain="retail", scenario=Scenario(goal=""), criteria=Criteria(), changes=fork.changes())
        start = world.start(Task.model_validate_json(task.model_dump_json()))
        assert start.digest() == fork.digest()
        if at < 2:
            assert check_invariants(start) == []
        yield start, KINDS[kind].request(start, subject, random)


def count(world, kind, need, has):
    """In how many tries the request is there and has what was needed."""
    return sum(request is not None and bool(has(start, request)) for start, request in helped(world, kind, need))


def test_every_kind_of_request_can_be_helped():
    assert set(AUGMENTS) <= {kind.name for kind in OPERATIONS.kinds}
    assert all(kind.augment is not None for kind in KINDS.values())


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_customer_without_orders_gets_what_the_request_is_about(kind, shop):
    least = 0.5 if kind in ("exchange_if_not_dearer", "return_if_dearer") else 0.8  # whose price is left to chance
    assert count(domain(shop), kind, "request", lambda start, request: True) > least * TRIES


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("kind", CONFUSED)
def test_there_is_another_record_to_mistake_it_for(kind, shop):
    assert count(domain(shop), kind, "other_records", lambda start, request: request.decoys) > 0.5 * TRIES


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("kind", FULFILLED)
def test_there_are_other_values_to_mistake_an_argument_for(kind, shop):
    assert count(domain(shop), kind, "siblings", lambda start, request: any(request.alternatives.values())) > 0.8 * TRIES


@pytest.mark.parametrize(
    ("need", "kind"),
    [
        *(("product_in_two_orders", kind) for kind in CONFUSED if kind in FULFILLED),
        *(("near_duplicate_variant", kind) for kind in SWAPS),
        *(("several_payment_methods", kind) for kind in PAID),
    ],
)
def test_a_context_can_be_brought_about(need, kind):
    found = count(domain("default"), kind, need, lambda start, request: need in contexts(start, request.wish.call))
    assert found > 0.7 * TRIES


@pytest.mark.parametrize("kind", ["change_order_payment", "return_items", *SWAPS])
def test_another_way_to_pay_is_among_the_other_values(kind):
    found = count(domain("default"), kind, "siblings", lambda start, request: request.alternatives["payment_method_id"])
    assert found > 0.8 * TRIES


@pytest.mark.parametrize("need", HOPELESS)
def test_what_cannot_be_helped_is_left_alone(need):
    base = domain("default").base
    for name in HOPELESS[need]:
        fork = base.fork()
        assert not KINDS[name].augment(fork, next(iter(base.users)), Random(0), need), name
        assert fork.changes() == {}


@pytest.mark.parametrize("shop", SHOPS)
def test_only_the_customers_own_records_are_written(shop):
    base = domain(shop).base
    length = len(next(iter(base.orders)))
    for subject in list(base.users)[:40]:
        fork = base.fork()
        assert KINDS["exchange_items"].augment(fork, subject, Random(subject), "other_records")
        changes = fork.changes()
        assert set(changes) == {"orders", "users"}
        assert set(changes["users"]) == {subject}
        assert all(key not in base.orders and len(key) == length for key in changes["orders"])
        assert set(fork.users[subject].orders) == {*base.users[subject].orders, *changes["orders"]}
        assert [key for key in fork.users[subject].orders if key in base.orders] == base.users[subject].orders
        assert check_invariants(fork) == []


def test_what_is_added_stands_at_any_place():
    base, random = domain("default").base, Random(0)
    subject = max(base.users, key=lambda key: len(base.users[key].orders))
    places = set()
    for _ in range(60):
        fork = base.fork()
        KINDS["cancel_order"].augment(fork, subject, random, "request")
        (added,) = fork.changes()["orders"]
        places.add(fork.users[subject].orders.index(added))
    assert places == set(range(len(base.users[subject].orders) + 1))


def test_a_shop_without_free_numbers_or_products_cannot_be_added_to():
    full = generate(users=3, orders=7, products=4, order_digits=1).fork()
    random, subject = Random(0), next(iter(full.users))
    answers = [KINDS["cancel_order"].augment(full, subject, random, "request") for _ in range(20)]
    assert not answers[-1]
    assert len(full.orders) <= 9
    assert check_invariants(full) == []
    empty = generate(users=3, orders=0, products=0)
    assert not KINDS["cancel_order"].augment(empty.fork(), next(iter(empty.users)), random, "other_records")


def test_tau2_benchs_shop_can_be_added_to(shared):
    base = RetailDB.load(shared / "data" / "tau2_retail" / "db.json")
    random = Random(0)
    for name, kind in KINDS.items():
        fork = base.fork()
        for need in ("request", "other_records", "siblings"):
            kind.augment(fork, random.choice(list(base.users)), random, need)
        assert check_invariants(fork) == [], name


PROGRAM = """
from random import Random
from sentinel_domains.retail.augment import AUGMENTS
from sentinel_domains.retail.data import generate
base = generate(users=60, orders=100)
for name, augment in AUGMENTS.items():
    for need in ("request", "other_records", "siblings", "near_duplicate_variant"):
        fork = base.fork()
        print(augment(fork, list(base.users)[7], Random(name), need), fork.changes())
"""


def test_one_seed_adds_the_same_in_every_process():
    texts = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert texts[0].count("True") > 30
