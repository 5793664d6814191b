"""Each request is executed: what it asks for, and every mistake that it offers."""

import os
import subprocess
import sys
from functools import cache
from random import Random

import pytest
from sentinel_domains.retail.data import generate
from sentinel_domains.retail.db import RetailDB
from sentinel_domains.retail.operations import OPERATIONS
from sentinel_domains.retail.tools import TOOLS
from sentinel_domains.retail.wording import describe

from sentinel_env import Domain, ToolCall

SHOPS = {
    "default": {},
    "small": {"users": 60, "orders": 120, "products": 8, "variants": (3, 4), "options": 2, "id_digits": 4, "order_digits": 4},
    "crowded": {"users": 40, "orders": 240, "products": 5, "variants": (6, 12), "seed": 2},
}
KINDS = {kind.name: kind for kind in OPERATIONS.kinds}
FULFILLED = [name for name, kind in KINDS.items() if not kind.refusal]
REFUSED = [name for name, kind in KINDS.items() if kind.refusal]


@cache
def domain(shop):
    return Domain(name="retail", policy="", tools=TOOLS, database=lambda: generate(**SHOPS[shop]))


def requests(kind, db, count=300):
    """(subject, request) for as many random subjects as can make one."""
    rng = Random(f"{kind}/{len(db.users)}")
    subjects = OPERATIONS.subjects(db)
    asked = ((subject, KINDS[kind].request(db, subject, rng)) for subject in rng.sample(subjects, min(count, len(subjects))))
    return [(subject, request) for subject, request in asked if request is not None]


def changes_of(world, db, call):
    fork = db.fork()
    answer = world.execute(fork, call)
    assert not answer.is_error, (call, answer.content)
    return fork.changes()


def altered(request):
    call = request.wish.call
    return [
        ToolCall(name=call.name, arguments={**call.arguments, name: value})
        for name, values in request.alternatives.items()
        for value in values
    ]


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("kind", FULFILLED)
def test_a_request_executes_and_each_mistake_it_offers_ends_elsewhere(kind, shop):
    world = domain(shop)
    found = requests(kind, world.base)
    assert found
    for _, request in found:
        assert request.wish.call.name == KINDS[kind].tool
        right = changes_of(world, world.base, request.wish.call)
        assert right
        for call in request.reads:
            assert not world.execute(world.base.fork(), call).is_error
        for mistake in (*altered(request), *request.decoys, *request.detours):
            wrong = changes_of(world, world.base, mistake)
            assert wrong, mistake
            assert wrong != right, mistake


@pytest.mark.parametrize("kind", FULFILLED)
def test_each_argument_says_where_it_comes_from(kind):
    for _, request in requests(kind, domain("default").base):
        wish = request.wish
        assert set(wish.provenance) == set(wish.call.arguments)
        facts = {fact.slot for fact in wish.facts}
        opened = {call.name for call in request.reads} | {"get_user_details"}
        for source in wish.provenance.values():
            how, _, place = source.partition(":")
            assert place in facts if how == "fact" else place.split(".")[0] in opened, source


def flat(arguments):
    for value in arguments.values():
        yield from value if isinstance(value, list) else [value]


@pytest.mark.parametrize("kind", ["modify_items", "return_items", "exchange_items"])
def test_the_facts_hold_the_values_of_the_call(kind):
    slots = {"order_id": "order", "item_ids": "item", "new_item_ids": "new_item", "payment_method_id": "payment"}
    for _, request in requests(kind, domain("default").base):
        for name, value in request.wish.call.arguments.items():
            told = [fact.value for fact in request.wish.facts if fact.slot == slots[name]]
            assert told == (value if isinstance(value, list) else [value])
        assert all(identifier in request.wish.labels for identifier in flat(request.wish.call.arguments))


def direct_call(kind, request):
    """The call that a refused customer asks for, read from the facts."""
    told = {}
    for fact in request.wish.facts:
        told.setdefault(fact.slot, []).append(fact.value)
    arguments = {"order_id": told["order"][0]}
    if "item" in told:
        arguments["item_ids"] = told["item"]
    if "new_item" in told:
        arguments["new_item_ids"] = told["new_item"]
    if "payment" in told:
        arguments["payment_method_id"] = told["payment"][0]
    if "reason" in told:
        arguments["reason"] = told["reason"][0]
    if "address" in told:
        arguments.update(told["address"][0])
    return ToolCall(name=KINDS[kind].tool, arguments=arguments)


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("kind", REFUSED)
def test_what_must_be_refused_cannot_be_done_but_something_else_can(kind, shop):
    world = domain(shop)
    found = requests(kind, world.base)
    assert found
    for _, request in found:
        assert request.wish.call is None
        assert request.decoys or request.detours
        if kind == "refuse_remove_item":
            (order,) = {fact.value for fact in request.wish.facts if fact.slot == "order"}
            assert len(world.base.orders[order].items) > sum(fact.slot == "item" for fact in request.wish.facts)
        else:
            refused = world.execute(world.base.fork(), direct_call(kind, request))
            assert refused.is_error
            assert "takes" not in refused.content, "refused for its form, not by a rule of the shop"
        for call in request.reads:
            assert not world.execute(world.base.fork(), call).is_error
        for mistake in (*request.decoys, *request.detours):
            assert changes_of(world, world.base, mistake), mistake


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_stays_with_its_subject(kind):
    db = domain("default").base
    for subject, request in requests(kind, db):
        own = OPERATIONS.entities(db, subject) | set(db.users[subject].payment_methods)
        assert request.touches <= own
        for call in (*([request.wish.call] if request.wish.call else []), *request.decoys, *request.detours):
            assert {call.arguments[name] for name in ("order_id", "user_id") if name in call.arguments} <= own


@pytest.mark.parametrize("shop", ["default", "crowded"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_order_without_a_number_is_found_by_its_item(kind, shop):
    db = domain(shop).base
    for subject, request in requests(kind, db):
        for fact in request.wish.facts:
            if fact.slot != "order" or fact.text == fact.value:
                continue
            said = fact.text.partition("the order with the ")[2]
            orders = [db.orders[each] for each in db.users[subject].orders]
            everything = [(order, line) for order in orders for line in order.items]
            fits = {
                order.order_id
                for order, line in everything
                if describe(line, [other for _, other in everything if other is not line]) == said
            }
            assert fits == {fact.value}
            opened = [call.arguments["order_id"] for call in request.reads if call.name == "get_order_details"]
            assert fact.value in opened


@pytest.mark.parametrize("kind", ["modify_items", "exchange_items"])
def test_what_replaces_an_item_is_the_only_variant_that_fits_its_description(kind):
    db = domain("default").base
    for _, request in requests(kind, db):
        order = db.orders[request.wish.call.arguments["order_id"]]
        pairs = zip(request.wish.call.arguments["item_ids"], request.wish.call.arguments["new_item_ids"], strict=True)
        texts = [fact.text for fact in request.wish.facts if fact.slot == "new_item"]
        for (old_id, new_id), text in zip(pairs, texts, strict=True):
            old = next(line for line in order.items if line.item_id == old_id)
            variants = db.products[old.product_id].variants
            said = text.partition("the same but ")[2].split(", ")
            changed = {}
            for value in said:
                keys = [key for key in old.options if value in (variants[new_id].options[key], f"{key} {variants[new_id].options[key]}")]
                assert len(keys) == 1
                changed[keys[0]] = variants[new_id].options[keys[0]]
            assert [item for item, variant in variants.items() if variant.options == {**old.options, **changed}] == [new_id]


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_short_and_vary(kind):
    texts = [request.wish.text for _, request in requests(kind, domain("default").base)]
    assert max(len(text.split()) for text in texts) <= 27
    assert len({text.removeprefix("Order ").lstrip("#W0123456789: ").split()[0] for text in texts}) > 1
    assert all(text == text.strip() and "{" not in text for text in texts)


def test_amounts_are_what_the_tools_say():
    world = domain("default")
    asked = [(kind, request) for kind in FULFILLED for _, request in requests(kind, world.base) if request.communicate]
    assert {kind for kind, _ in asked} == {"cancel_order", "modify_items", "return_items", "exchange_items"}
    for kind, request in asked:
        order_id = request.wish.call.arguments["order_id"]
        fork = world.base.fork()
        world.execute(fork, request.wish.call)
        before, after = world.base.orders[order_id], fork.orders[order_id]
        if kind == "return_items":
            amount = sum(line.price for line in before.items if line.item_id in after.return_items)
        else:
            amount = abs(after.exchange_price_difference) if kind == "exchange_items" else after.payment_history[-1].amount
        assert request.communicate == (f"{amount:.2f}",)


def test_requests_can_be_composed():
    world, rng = domain("default"), Random(0)
    composed = 0
    for subject in OPERATIONS.subjects(world.base)[:300]:
        db, touched = world.base.fork(), set()
        for kind in rng.sample(OPERATIONS.kinds, 5):
            request = kind.request(db, subject, rng)
            if request is None or not touched.isdisjoint(request.touches):
                continue
            touched |= request.touches
            composed += 1
            if request.wish.call is not None:
                assert not world.execute(db, request.wish.call).is_error
    assert composed > 200


def test_customers_introduce_themselves_with_what_finds_them():
    world, rng = domain("default"), Random(0)
    known = set()
    for subject in OPERATIONS.subjects(world.base)[:300]:
        facts, calls, unknown = OPERATIONS.introduce(world.base, subject, rng)
        told = {fact.slot: fact.value for fact in facts}
        known.add(tuple(told))
        identify, details = calls
        assert world.execute(world.base.fork(), identify).content == subject
        assert details == ToolCall(name="get_user_details", arguments={"user_id": subject})
        said = {*told.values()} if "name" not in told else {*told["name"].values(), *(told[slot] for slot in told if slot != "name")}
        assert set(identify.arguments.values()) <= said
        assert ("e-mail" in unknown) == ("email" not in told)
        assert ("zip" in unknown) == ("zip" not in told)
    assert known == {("name", "zip"), ("name", "email"), ("name", "zip", "email")}


def test_subjects_and_their_records_are_disjoint():
    db = domain("default").base
    subjects = OPERATIONS.subjects(db)
    owned = [OPERATIONS.entities(db, subject) for subject in subjects]
    assert list(subjects) == list(db.users)
    assert sum(map(len, owned)) == len(frozenset().union(*owned)) == len(db.users) + len(db.orders)


def _texts_in_a_process(hash_seed):
    program = """
from random import Random
from sentinel_domains.retail.data import generate
from sentinel_domains.retail.operations import OPERATIONS
db = generate()
for subject in OPERATIONS.subjects(db)[:60]:
    for kind in OPERATIONS.kinds:
        request = kind.request(db, subject, Random(subject))
        print(request and (request.wish.model_dump_json(), request.reads, dict(request.alternatives), request.decoys, request.detours,
                           dict(request.features), sorted(request.touches)))
"""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout


def test_one_seed_is_one_request_in_every_process():
    assert _texts_in_a_process("1") == _texts_in_a_process("2")


@pytest.mark.parametrize("kind", KINDS)
def test_requests_can_be_made_on_tau2_bench_data_too(kind, shared):
    world = Domain(name="retail", policy="", tools=TOOLS, database=lambda: RetailDB.load(shared / "data" / "tau2_retail" / "db.json"))
    found = requests(kind, world.base)
    assert found
    for _, request in found:
        for call in (*([request.wish.call] if request.wish.call else []), *request.decoys, *request.detours):
            assert changes_of(world, world.base, call)
