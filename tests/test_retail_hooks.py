"""What the Proposer's gates ask of the shop: the policy as predicates, and what a customer's words can mean."""

from importlib import resources
from itertools import pairwise
from random import Random

import pytest
import sentinel_domains.retail
from hypothesis import given
from hypothesis import strategies as st
from sentinel_domains.retail import make, tau2
from sentinel_domains.retail.db import RetailDB
from sentinel_domains.retail.meanings import meanings
from sentinel_domains.retail.operations import OPERATIONS
from sentinel_domains.retail.policy_rules import RULES, forbids
from sentinel_domains.retail.tools import TOOLS

from sentinel_env import Domain, Scenario, ToolCall
from sentinel_env.failures import general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.tasks import Fact, Wish

SHOPS = {
    "default": {},
    "small": {"users": 60, "orders": 120, "products": 8, "variants": (3, 4), "options": 2, "id_digits": 4, "order_digits": 4},
}
POLICY = (resources.files(sentinel_domains.retail) / "policy.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=SHOPS)
def world(request):
    return make(**SHOPS[request.param]) if SHOPS[request.param] else make(users=500)


def requests(db, random, count=200):
    """(subject, kind, request) of all kinds, for some subjects."""
    for subject in OPERATIONS.subjects(db)[:count]:
        for kind in OPERATIONS.kinds:
            request = kind.request(db, subject, random)
            if request is not None:
                yield subject, kind, request


def call(name, **arguments):
    return ToolCall(name=name, arguments=arguments)


# policy


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_quoted_from_the_policy(rule):
    assert rule in " ".join(POLICY.replace("**", "").split())


def mistaken(db, wanted, random):
    """A call with one argument taken from elsewhere in the shop."""
    arguments = dict(wanted.arguments)
    name = random.choice(list(arguments))
    methods = [method for user in db.users.values() for method in user.payment_methods]
    pools = {"order_id": list(db.orders), "payment_method_id": methods, "reason": ["it is late"], "user_id": ["nobody"]}
    if name in pools:
        arguments[name] = random.choice(pools[name])
    elif name in ("item_ids", "new_item_ids"):
        order = db.orders[arguments["order_id"]]
        items = [item for line in order.items for item in db.products[line.product_id].variants]
        arguments[name] = [random.choice(items) for _ in arguments[name]]
    return ToolCall(name=wanted.name, arguments=arguments)


def test_our_tools_refuse_what_the_policy_forbids_and_nothing_else(world):
    random, refused = Random(1), 0
    for _, _, request in requests(world.base, random):
        calls = [*([request.wish.call] if request.wish.call else []), *request.decoys, *request.detours]
        for each in (*calls, *(mistaken(world.base, one, random) for one in calls)):
            answer = world.execute(world.base.fork(), each)
            assert answer.is_error == (forbids(world.base, each) is not None), (each, answer.content, forbids(world.base, each))
            refused += answer.is_error
    assert refused > 20


def test_the_shipped_tasks_keep_to_the_policy():
    domain = make()
    for task in domain.tasks():
        db = domain.start(task)
        for each in task.criteria.actions:
            assert domain.forbids(db, each) is None
            domain.execute(db, each)


def test_what_tau2_benchs_tools_let_pass_is_still_forbidden(world):
    quirky = Domain(name="retail", policy="", tools=tau2.TOOLS, database=lambda: world.base, dialect="tau2")
    kinds = {kind.name: kind for kind in OPERATIONS.kinds}
    random = Random(0)
    items = next(found for user in world.base.users if (found := kinds["modify_items"].request(world.base, user, random)))
    db = quirky.base.fork()
    assert not quirky.execute(db, items.wish.call).is_error
    order = db.orders[items.wish.call.arguments["order_id"]]
    moved = call("modify_pending_order_address", order_id=order.order_id, **order.address.model_dump())
    assert "from then on nothing in it can be modified" in forbids(db, moved)
    assert not quirky.execute(db, moved).is_error


def test_a_write_on_records_of_two_customers_is_forbidden(world):
    db = world.base
    order = next(each for each in db.orders.values() if each.status == "pending")
    other = next(user for user in db.users.values() if user.user_id != order.user_id)
    pay = call("modify_pending_order_payment", order_id=order.order_id, payment_method_id=next(iter(other.payment_methods)))
    assert "no payment method of the customer" in forbids(db, pay)


@pytest.mark.parametrize("junk", [None, 7, [], {}, [[]], "nothing", ["nothing", {}]])
def test_whatever_a_call_holds_gets_a_reason(world, junk):
    names = ("order_id", "item_ids", "new_item_ids", "payment_method_id", "user_id", "reason")
    order = next(each for each in world.base.orders.values() if each.status == "delivered")
    for tool in (each.name for each in TOOLS if each.writes):
        for known in ({}, {"order_id": order.order_id}, {"order_id": order.order_id, "item_ids": [order.items[0].item_id]}):
            assert "\n" not in forbids(world.base, ToolCall(name=tool, arguments=dict.fromkeys(names, junk) | known))


def test_reads_are_nothing_to_the_policy(world):
    assert forbids(world.base, call("get_order_details", order_id="#W0")) is None
    assert forbids(world.base, call("no_such_tool")) is None


def test_both_data_sets_have_the_hooks(shared):
    for domain in (make(), make(shared / "data" / "tau2_retail"), make(shared / "data" / "tau2_retail", mode="v1")):
        assert domain.forbids is forbids
        assert domain.meanings is meanings


# meanings


def facts_of(scenario):
    """(wish or None, fact) for every fact of a scenario."""
    yield from ((None, fact) for fact in scenario.facts)
    yield from ((wish, fact) for wish in scenario.wishes for fact in wish.facts)


def assert_that_words_mean_their_values(domain):
    several, count = [], 0
    for proposal in propose_tasks(domain, general_pattern(domain), n=300, seed=3):
        scenario, db = proposal.draft.scenario, domain.start(proposal.draft)
        for wish, fact in facts_of(scenario):
            if fact.value is None:  # said of no record, such as a product that is only asked about
                continue
            meant = meanings(db, scenario, wish, fact)
            assert meant is not None, fact
            assert fact.value in meant, (fact, meant)
            count += 1
            several += [fact] if len(meant) > 1 else []
    assert count > 1500
    assert len(several) < 0.01 * count, several


def test_the_words_of_drafts_mean_the_values_of_the_reference(world):
    assert_that_words_mean_their_values(world)


def test_words_about_tau2_benchs_records_are_read_too(shared):
    data = RetailDB.load(shared / "data" / "tau2_retail" / "db.json")
    world = Domain(name="retail", policy="", tools=TOOLS, database=lambda: data, operations=OPERATIONS)
    assert_that_words_mean_their_values(world)


def test_the_value_of_a_fact_is_not_looked_at(world):
    for proposal in propose_tasks(world, general_pattern(world), n=100):
        scenario = proposal.draft.scenario
        for wish, fact in facts_of(scenario):
            blind = fact.model_copy(update={"value": None})
            assert meanings(world.base, scenario, wish, blind) == meanings(world.base, scenario, wish, fact)


def test_words_about_another_record_do_not_mean_this_one(world):
    checked = 0
    for proposal in propose_tasks(world, general_pattern(world), n=600):
        scenario = proposal.draft.scenario
        for wish in scenario.wishes:
            items = [fact for fact in wish.facts if fact.slot == "item"]
            for one, other in pairwise(items):
                checked += 1
                swapped = one.model_copy(update={"text": other.text})
                assert one.value not in meanings(world.base, scenario, wish, swapped)
    assert checked > 15


def variant(item, color, light, available=True):
    return {"item_id": item, "options": {"color": color, "light": light}, "available": available, "price": 10.0}


LAMPS = {"b1": variant("b1", "black", "warm"), "b2": variant("b2", "black", "cool"), "w1": variant("w1", "white", "warm")}
LAMPS |= {"w2": variant("w2", "white", "cool", available=False), "r1": variant("r1", "red", "large")}
HOME = {"address1": "1 Oak Street", "address2": "", "city": "Denver", "country": "USA", "state": "CO", "zip": "80201"}
AWAY = {**HOME, "address1": "7 Elm Road", "address2": "Apt 3", "city": "Boulder", "zip": "80302"}


def order(order_id, address, *held):
    items = [{"name": name, "product_id": name, "item_id": item, "price": 10.0, "options": OPTIONS[item]} for name, item in held]
    payment = {"transaction_type": "payment", "amount": 10.0 * len(held), "payment_method_id": "credit_card_1"}
    return {
        "order_id": order_id,
        "user_id": "ann",
        "address": address,
        "items": items,
        "status": "pending",
        "fulfillments": [],
        "payment_history": [payment],
    }


MUGS = {"m1": {"item_id": "m1", "options": {"color": "black"}, "available": True, "price": 10.0}}
OPTIONS = {item: each["options"] for item, each in (LAMPS | MUGS).items()}
SHOP = RetailDB(
    products={
        "Desk Lamp": {"name": "Desk Lamp", "product_id": "Desk Lamp", "variants": LAMPS},
        "Mug": {"name": "Mug", "product_id": "Mug", "variants": MUGS},
    },
    users={
        "ann": {
            "user_id": "ann",
            "name": {"first_name": "Ann", "last_name": "Lee"},
            "address": HOME,
            "email": "ann.lee@example.com",
            "payment_methods": {
                "credit_card_1": {"source": "credit_card", "id": "credit_card_1", "brand": "visa", "last_four": "1234"},
                "credit_card_2": {"source": "credit_card", "id": "credit_card_2", "brand": "mastercard", "last_four": "5678"},
                "gift_card_3": {"source": "gift_card", "id": "gift_card_3", "balance": 5.0},
            },
            "orders": ["#W1", "#W2"],
        }
    },
    orders={
        "#W1": order("#W1", HOME, ("Desk Lamp", "b1"), ("Mug", "m1")),
        "#W2": order("#W2", AWAY, ("Desk Lamp", "b2"), ("Desk Lamp", "w1")),
    },
)
ANN = Scenario(goal="", facts=(Fact(slot="name", text="Ann Lee"), Fact(slot="email", text="Ann.Lee@example.com")))


def mean(slot, text, *others, call=None):
    """What a fact of a wish means beside other facts (slot, text) of it."""
    facts = tuple(Fact(slot=slot, text=text) for slot, text in ((slot, text), *others))
    return meanings(SHOP, ANN, Wish(text="", facts=facts, call=call), facts[0])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("#W2", ["#W2"]),
        ("order number w2, please", ["#W2"]),
        ("#W9", []),
        ("I don't have the number; it is the order with the mug", ["#W1"]),
        ("the order with the desk lamp", ["#W1", "#W2"]),
        ("The order containing a white lamp", ["#W2"]),
        ("the order with the desk lamp and the mug", ["#W1"]),
        ("the order with the red desk lamp", []),
        ("the order with the sofa", None),
        ("the big one", None),
    ],
)
def test_an_order_is_meant_by_its_number_or_by_what_is_in_it(text, meant):
    assert mean("order", text) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("the black desk lamp", ["b2"]),
        ("Desk lamp, BLACK", ["b2"]),
        ("a lamp with cool light", ["b2"]),
        ("the color white lamp", ["w1"]),
        ("the desk lamp", ["b2", "w1"]),
        ("the mug", []),
        ("the light white desk lamp", []),
        ("the cosy thing", None),
        ("black " * 60, None),
    ],
)
def test_an_item_is_meant_within_the_order_by_words_that_all_fit_it(text, meant):
    assert mean("item", text, ("order", "#W2")) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("the same but cool", ["b2"]),
        ("the same but white", ["w1"]),
        ("the same but in white, cool light", ["w2"]),
        ("for the black desk lamp: the same but white", ["w1"]),
        ("the white one", ["w1"]),
        ("the same but green", None),
    ],
)
def test_what_replaces_an_item_keeps_its_other_options(text, meant):
    assert mean("new_item", text, ("order", "#W1"), ("item", "the lamp"), call=call("modify_pending_order_items")) == meant


def test_sold_out_variants_are_meant_too_where_the_answer_is_no():
    assert mean("new_item", "the white one", ("order", "#W1"), ("item", "the lamp")) == ["w1", "w2"]


def test_what_replaces_one_of_two_items_is_ambiguous_where_both_would_do():
    assert mean("new_item", "the same but cool", ("order", "#W2"), ("item", "the desk lamp")) == ["w2"]
    assert mean("new_item", "the same but red, light large", ("order", "#W2"), ("item", "the desk lamp")) == ["r1"]
    assert mean("new_item", "the black one", ("order", "#W2"), ("item", "the desk lamp")) == ["b1", "b2"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("my credit card ending in 5678", ["credit_card_2"]),
        ("my credit card", ["credit_card_1", "credit_card_2"]),
        ("my Visa", ["credit_card_1"]),
        ("credit_card_2", ["credit_card_2"]),
        ("my gift card 3", ["gift_card_3"]),
        ("my card", ["credit_card_1", "credit_card_2", "gift_card_3"]),
        ("the original payment method", ["credit_card_1"]),
        ("my PayPal", []),
        ("not my gift card", None),
        ("whatever", None),
    ],
)
def test_a_payment_method_is_meant_by_its_kind_and_digits(text, meant):
    assert mean("payment", text, ("order", "#W1")) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7 Elm Road, Apt 3, Boulder, CO 80302", [AWAY]),
        ("1 Oak Street, Denver, co 80201", [HOME]),
        ("my default address", [HOME]),
        ("the address of order #W2", [AWAY]),
        ("the address of the order with the mug", [HOME]),
        ("the same address but Apt 9", [{**AWAY, "address2": "Apt 9"}]),
        ("my sister's place", None),
    ],
)
def test_an_address_is_written_out_or_one_that_the_shop_knows(text, meant):
    assert mean("address", text, ("order", "#W2")) == meant


def test_reasons_are_the_accepted_ones_or_as_they_are_worded():
    assert mean("reason", "I do not need it any more") == ["no longer needed"]
    assert mean("reason", "ordered by mistake, and I no longer need it") == ["no longer needed", "ordered by mistake"]
    assert mean("reason", "it takes too long to arrive; that is the only reason") == ["it takes too long to arrive"]


def test_who_nobody_is_has_no_meaning():
    stranger = Scenario(goal="", facts=(Fact(slot="name", text="Bob Ray"), Fact(slot="email", text="ann.lee@example.com")))
    assert [meanings(SHOP, stranger, None, fact) for fact in stranger.facts] == [[], []]
    assert meanings(SHOP, stranger, Wish(text=""), Fact(slot="item", text="the mug")) is None
    assert meanings(SHOP, ANN, None, Fact(slot="shoe size", text="7")) is None


SLOTS = ("email", "name", "zip", "order", "item", "new_item", "payment", "reason", "address")
VOCABULARY = "the black lamp desk order with #W1 same but for address of my card 1234 light cool : , @ Apt"
WORDS = st.lists(st.sampled_from(VOCABULARY.split()), max_size=30)


@given(slot=st.sampled_from(SLOTS), text=st.text(max_size=60) | WORDS.map(" ".join), other=st.sampled_from(SLOTS))
def test_any_words_are_read_or_not_but_never_break_the_reader(slot, text, other):
    found = mean(slot, text, (other, text))
    assert found is None or isinstance(found, list)
