"""The policy as predicates, held against the text of the policy and against the tools."""

from importlib import resources
from random import Random

import pytest
import sentinel_domains.retail
from sentinel_domains.retail import make, tau2
from sentinel_domains.retail.operations import OPERATIONS
from sentinel_domains.retail.policy_rules import RULES, forbids
from sentinel_domains.retail.tools import TOOLS

from sentinel_env import Domain, ToolCall

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
