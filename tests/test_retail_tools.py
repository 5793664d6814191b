"""What our retail tools do right where tau2-bench's do not, and that its compatibility keeps the difference."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentinel_domains.retail import tau2
from sentinel_domains.retail.calculator import evaluate
from sentinel_domains.retail.db import RetailDB
from sentinel_domains.retail.tools import TOOLS

from sentinel_env import Domain, ToolCall, ToolError

ADDRESS = {"address1": "1 Oak Street", "address2": "", "city": "Denver", "country": "USA", "state": "CO", "zip": "80201"}
PRICES = {"lamp-red": 10.1, "lamp-blue": 20.35, "lamp-green": 30.2, "lamp-gone": 5.0, "mug-small": 4.05, "mug-large": 6.15}


def variant(item_id):
    return {"item_id": item_id, "options": {"kind": item_id}, "available": item_id != "lamp-gone", "price": PRICES[item_id]}


def line(item_id):
    product = item_id.partition("-")[0]
    return {"name": product.title(), "product_id": product, "item_id": item_id, "price": PRICES[item_id], "options": {"kind": item_id}}


def order(order_id, status, *item_ids):
    paid = round(sum(PRICES[item_id] for item_id in item_ids), 2)
    payment = {"transaction_type": "payment", "amount": paid, "payment_method_id": "card"}
    lines = [line(item_id) for item_id in item_ids]
    shared = {"order_id": order_id, "user_id": "ann", "address": ADDRESS, "status": status, "fulfillments": []}
    return {**shared, "items": lines, "payment_history": [payment]}


DATABASE = RetailDB(
    products={
        product: {
            "name": product.title(),
            "product_id": product,
            "variants": {key: variant(key) for key in PRICES if key.startswith(product)},
        }
        for product in ("lamp", "mug")
    },
    users={
        "ann": {
            "user_id": "ann",
            "name": {"first_name": "Ann", "last_name": "Lee"},
            "address": ADDRESS,
            "email": "Ann.Lee@example.com",
            "payment_methods": {
                "card": {"source": "credit_card", "id": "card", "brand": "visa", "last_four": "1234"},
                "gift": {"source": "gift_card", "id": "gift", "balance": 60.0},
            },
            "orders": ["#W1", "#W2", "#W3"],
        }
    },
    orders={
        "#W1": order("#W1", "pending", "lamp-red", "mug-small", "lamp-blue"),
        "#W2": order("#W2", "delivered", "lamp-red", "lamp-red", "mug-small"),
        "#W3": order("#W3", "pending", "lamp-red", "lamp-red"),
    },
)
OURS = Domain(name="retail", policy="", tools=TOOLS, database=lambda: DATABASE)
TAU2 = Domain(name="retail", policy="", tools=tau2.TOOLS, database=lambda: DATABASE, dialect="tau2")


def run(domain, *calls):
    """The database after calls that must all succeed."""
    db = domain.base.fork()
    for name, arguments in calls:
        answer = domain.execute(db, ToolCall(name=name, arguments=arguments))
        assert not answer.is_error, answer.content
    return db


def refusal(domain, name, **arguments):
    """The text of a refused call, which must leave no trace."""
    db = domain.base.fork()
    answer = domain.execute(db, ToolCall(name=name, arguments=arguments))
    assert answer.is_error
    assert db.changes() == {}
    return answer.content


def modify(order_id, items, new_items, method="card"):
    return "modify_pending_order_items", {"order_id": order_id, "item_ids": items, "new_item_ids": new_items, "payment_method_id": method}


def exchange(items, new_items, method="card"):
    return "exchange_delivered_order_items", {"order_id": "#W2", "item_ids": items, "new_item_ids": new_items, "payment_method_id": method}


def held(db, order_id):
    return [(each.item_id, each.price, each.options["kind"]) for each in db.orders[order_id].items]


def test_each_modified_line_takes_the_price_and_options_of_its_own_new_item():
    call = modify("#W1", ["lamp-red", "mug-small"], ["lamp-green", "mug-large"])
    assert held(run(OURS, call), "#W1") == [
        ("lamp-green", 30.2, "lamp-green"),
        ("mug-large", 6.15, "mug-large"),
        ("lamp-blue", 20.35, "lamp-blue"),
    ]
    assert held(run(TAU2, call), "#W1")[0] == ("lamp-green", 6.15, "mug-large")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            modify("#W1", ["lamp-red", "mug-small"], ["lamp-green", "mug-large"]),
            modify("#W1", ["mug-small", "lamp-red"], ["mug-large", "lamp-green"]),
        ),
        (modify("#W3", ["lamp-red"] * 2, ["lamp-green", "lamp-blue"]), modify("#W3", ["lamp-red"] * 2, ["lamp-blue", "lamp-green"])),
        (
            exchange(["lamp-red", "mug-small"], ["lamp-green", "mug-large"]),
            exchange(["mug-small", "lamp-red"], ["mug-large", "lamp-green"]),
        ),
        (exchange(["lamp-red"] * 2, ["lamp-green", "lamp-blue"]), exchange(["lamp-red"] * 2, ["lamp-blue", "lamp-green"])),
    ],
)
def test_the_order_in_which_items_are_listed_does_not_matter(one, other):
    assert run(OURS, one).changes() == run(OURS, other).changes()


def test_a_line_that_was_just_replaced_is_not_replaced_again():
    call = modify("#W1", ["lamp-red", "lamp-blue"], ["lamp-blue", "lamp-green"])
    assert [item for item, _, _ in held(run(OURS, call), "#W1")] == ["lamp-blue", "mug-small", "lamp-green"]
    assert [item for item, _, _ in held(run(TAU2, call), "#W1")] == ["lamp-green", "mug-small", "lamp-blue"]


def test_an_order_whose_items_were_modified_is_closed_to_a_new_address():
    modified, moved = (
        modify("#W1", ["lamp-red"], ["lamp-green"]),
        ("modify_pending_order_address", {**ADDRESS, "order_id": "#W1", "zip": "80202"}),
    )
    assert run(OURS, moved, modified).orders["#W1"].address.zip == "80202"
    answer = OURS.execute(run(OURS, modified), ToolCall(name=moved[0], arguments=moved[1]))
    assert answer.content == "Error: Non-pending order cannot be modified"
    assert run(TAU2, modified, moved).orders["#W1"].address.zip == "80202"


def test_an_exchange_keeps_what_replaces_what():
    call = exchange(["mug-small", "lamp-red"], ["mug-large", "lamp-blue"])
    exchanged = run(OURS, call).orders["#W2"]
    assert list(zip(exchanged.exchange_items, exchanged.exchange_new_items, strict=True)) == [
        ("lamp-red", "lamp-blue"),
        ("mug-small", "mug-large"),
    ]


def test_an_order_paid_anew_is_refunded_once_when_it_is_cancelled():
    calls = (
        ("modify_pending_order_payment", {"order_id": "#W3", "payment_method_id": "gift"}),
        ("cancel_pending_order", {"order_id": "#W3", "reason": "no longer needed"}),
    )
    db = run(OURS, *calls)
    refunds = [(row.payment_method_id, row.amount) for row in db.orders["#W3"].payment_history if row.transaction_type == "refund"]
    assert refunds == [("card", 20.2), ("gift", 20.2)]
    assert db.users["ann"].payment_methods["gift"].balance == 60.0
    assert len(run(TAU2, *calls).orders["#W3"].payment_history) == 6


def test_a_price_difference_has_two_decimals():
    call = modify("#W1", ["mug-small"], ["mug-large"])
    assert run(OURS, call).orders["#W1"].payment_history[-1].amount == 2.1
    assert run(TAU2, call).orders["#W1"].payment_history[-1].amount != 2.1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        modify("#W1", [], []),
        exchange([], []),
        ("return_delivered_order_items", {"order_id": "#W2", "item_ids": [], "payment_method_id": "card"}),
    ],
)
def test_an_empty_list_of_items_is_refused(name, arguments):
    assert refusal(OURS, name, **arguments) == "Error: The list of items is empty; name at least one item"
    assert run(TAU2, (name, arguments)).changes()


def test_an_item_cannot_be_exchanged_for_itself():
    name, arguments = exchange(["lamp-red"], ["lamp-red"])
    assert "different from the old item" in refusal(OURS, name, **arguments)
    assert run(TAU2, (name, arguments)).changes()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (exchange(["lamp-red"], ["lamp-gone"]), "New item lamp-gone not found or available"),
        (exchange(["lamp-red"], ["mug-large"]), "Variant not found"),
        (exchange(["lamp-red"] * 3, ["lamp-blue"] * 3), "Number of lamp-red not found."),
        (exchange(["lamp-red"] * 2, ["lamp-blue"]), "The number of items to be exchanged should match."),
        (modify("#W1", ["lamp-red"], ["lamp-green"], "paypal"), "Payment method not found"),
        (modify("#W2", ["lamp-red"], ["lamp-green"]), "Non-pending order cannot be modified"),
    ],
)
@pytest.mark.parametrize("domain", [OURS, TAU2], ids=["ours", "tau2"])
def test_both_refuse_what_the_shop_does_not_allow_in_the_same_words(domain, call, text):
    name, arguments = call
    assert refusal(domain, name, **arguments) == f"Error: {text}"


def test_wrong_arguments_are_explained_by_ours_and_pythons_words_are_kept_for_tau2():
    assert refusal(OURS, "get_order_details") == "Error: argument 'order_id' is missing; get_order_details takes order_id: string"
    assert refusal(TAU2, "get_order_details").startswith("Error: RetailTools.get_order_details() missing 1 required positional argument")


def test_email_and_name_are_found_in_any_case():
    db = DATABASE.fork()
    for name, arguments in (
        ("find_user_id_by_email", {"email": "ANN.LEE@EXAMPLE.COM"}),
        ("find_user_id_by_name_zip", {"first_name": "ann", "last_name": "LEE", "zip": "80201"}),
    ):
        assert OURS.execute(db, ToolCall(name=name, arguments=arguments)).content == "ann"


def test_a_moved_customer_is_found_by_the_new_zip_code_only():
    db = run(OURS, ("modify_user_address", {**ADDRESS, "zip": "80202", "user_id": "ann"}))
    look_up = {"first_name": "Ann", "last_name": "Lee"}
    assert OURS.execute(db, ToolCall(name="find_user_id_by_name_zip", arguments={**look_up, "zip": "80202"})).content == "ann"
    assert OURS.execute(db, ToolCall(name="find_user_id_by_name_zip", arguments={**look_up, "zip": "80201"})).is_error


numbers = st.one_of(st.integers(0, 999).map(str), st.decimals(0, 99, places=2).map(str))
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(st.tuples(inner, st.sampled_from(["+", " - ", "*", "/", "//"]), inner).map("".join), inner.map("({})".format)),
    max_leaves=8,
)


@given(expressions)
def test_the_calculator_agrees_with_python(expression):
    try:
        expected = str(round(float(eval(expression)), 2))
    except ZeroDivisionError as error:
        with pytest.raises(ToolError, match=str(error)):
            evaluate(expression)
    else:
        assert evaluate(expression) == expected


@given(st.text("0123456789+-*/(). ", max_size=60))
def test_the_calculator_answers_or_refuses_whatever_it_is_given(expression):
    with contextlib.suppress(ToolError):
        float(evaluate(expression))


@pytest.mark.parametrize("expression", ["9**9**9", "2**99999999", "(" * 900, "-" * 1999 + "1", "1" * 5000, "__import__('os')", "1e9"])
def test_the_calculator_refuses_what_would_hang_or_run(expression):
    with pytest.raises(ToolError):
        evaluate(expression)
