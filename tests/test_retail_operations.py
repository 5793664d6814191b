"""Each request is executed: what it asks for, and every mistake that it offers."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from random import Random

import pytest
from sentinel_domains.retail.data import generate
from sentinel_domains.retail.db import RetailDB
from sentinel_domains.retail.operations import OPERATIONS
from sentinel_domains.retail.order_requests import REASONS
from sentinel_domains.retail.shopper import call as call_of
from sentinel_domains.retail.splits import split_of
from sentinel_domains.retail.tools import TOOLS
from sentinel_domains.retail.wording import describe

from sentinel_env import Criteria, Domain, Episode, Message, Scenario, ScriptedAgent, Task, ToolCall, drive, load_domain
from sentinel_env.agents import say
from sentinel_env.evaluation import evaluate
from sentinel_env.trajectory import record
from sentinel_env.users import RememberingUser
from sentinel_env.verification import KnownTasks

SHOPS = {
    "default": {},
    "small": {"users": 60, "orders": 120, "products": 8, "variants": (3, 4), "options": 2, "id_digits": 4, "order_digits": 4},
    "crowded": {"users": 40, "orders": 240, "products": 5, "variants": (6, 12), "seed": 2},
}
KINDS = {kind.name: kind for kind in OPERATIONS.kinds}
HANDED_OVER = [name for name, kind in KINDS.items() if kind.tool == "transfer_to_human_agents"]
ASKED = [name for name, kind in KINDS.items() if kind.question]
REFUSED = [name for name, kind in KINDS.items() if kind.refusal]
CONDITIONAL = [name for name, kind in KINDS.items() if kind.conditional]
FULFILLED = [name for name in KINDS if name not in (*HANDED_OVER, *ASKED, *REFUSED)]


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
@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind != "refuse_other_customer"])
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
        elif not kind.endswith("other_product"):
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
        if kind == "refuse_other_customer":
            (order,) = {fact.value for fact in request.wish.facts if fact.slot == "order"}
            assert order not in own
            own |= {order}
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
    assert max(len(text.split()) for text in texts) <= (48 if kind in CONDITIONAL else 27)
    assert len({text.removeprefix("Order ").lstrip("#W0123456789: ").split()[0] for text in texts}) > 1
    assert all(text == text.strip() and "{" not in text for text in texts)


def test_amounts_are_what_the_tools_say():
    world = domain("default")
    asked = [(kind, request) for kind in FULFILLED for _, request in requests(kind, world.base) if request.communicate]
    swaps, returns = {"modify_items", "exchange_items", "exchange_if_not_dearer"}, {"return_items", "return_if_dearer"}
    assert {kind for kind, _ in asked} == {"cancel_order", *swaps, *returns}
    for kind, request in asked:
        order_id = request.wish.call.arguments["order_id"]
        fork = world.base.fork()
        world.execute(fork, request.wish.call)
        before, after = world.base.orders[order_id], fork.orders[order_id]
        if kind in returns:
            amount = sum(line.price for line in before.items if line.item_id in after.return_items)
        else:
            amount = abs(after.exchange_price_difference) if "exchange" in kind else after.payment_history[-1].amount
        assert request.communicate == (f"{amount:.2f}",)


# Conditions


def variants_named(db, request):
    """(the item's line, the variants that the facts name, in order)."""
    (order_id,) = {fact.value for fact in request.wish.facts if fact.slot == "order"}
    (item_id,) = [fact.value for fact in request.wish.facts if fact.slot == "item"]
    line = next(line for line in db.orders[order_id].items if line.item_id == item_id)
    shelf = db.products[line.product_id].variants
    return line, [shelf[fact.value] for fact in request.wish.facts if fact.slot == "new_item"]


@pytest.mark.parametrize("kind", ["modify_items_or_else", "exchange_items_or_else"])
def test_the_second_variant_is_wanted_only_where_the_first_is_sold_out(kind):
    db = domain("default").base
    branches = set()
    for _, request in requests(kind, db):
        _, (first, second) = variants_named(db, request)
        assert second.available
        wanted = first if first.available else second
        assert request.wish.call.arguments["new_item_ids"] == [wanted.item_id]
        assert request.features["condition"] == ("first" if first.available else "otherwise")
        method, line = request.wish.call.arguments["payment_method_id"], variants_named(db, request)[0]
        if first.available and "gift" not in method and second.price <= line.price:
            assert request.alternatives["new_item_ids"][0] == [second.item_id], "the other branch is the most tempting mistake"
        branches.add(first.available)
    assert branches == {True, False}


@pytest.mark.parametrize(("kind", "available"), [("modify_or_cancel", True), ("cancel_unless_modified", False)])
def test_an_order_is_cancelled_only_where_the_variant_is_sold_out(kind, available):
    db = domain("default").base
    others = Counter()
    for _, request in requests(kind, db):
        _, (wanted,) = variants_named(db, request)
        assert wanted.available is available
        (reason,) = [fact.value for fact in request.wish.facts if fact.slot == "reason"]
        others[request.detours[0].name] += 1
        if available:
            assert request.detours[0].arguments["reason"] == reason
    assert set(others) == {"cancel_pending_order" if available else "modify_pending_order_items"}


@pytest.mark.parametrize(("kind", "dearer"), [("exchange_if_not_dearer", False), ("return_if_dearer", True)])
def test_an_item_is_returned_only_where_the_other_costs_more(kind, dearer):
    db = domain("default").base
    for _, request in requests(kind, db):
        line, (wanted,) = variants_named(db, request)
        assert wanted.available
        assert (wanted.price > line.price) is dearer
        assert request.detours[0].name == ("exchange_delivered_order_items" if dearer else "return_delivered_order_items")
        if dearer and "gift" not in request.detours[0].arguments["payment_method_id"]:
            assert request.detours[0].arguments["new_item_ids"] == [wanted.item_id]


# Questions and hand-overs


def answer_by_tools(world, kind, request):
    """The answer of a question, from what its look-ups show."""
    shown = [world.execute(world.base.fork(), call).content for call in request.reads]
    if kind == "ask_order_total":
        (order_id,) = [fact.value for fact in request.wish.facts]
        (order,) = [each for each in map(json.loads, shown) if each["order_id"] == order_id]
        return sum(line["price"] for line in order["items"])
    variants = [each for each in json.loads(shown[-1])["variants"].values() if each["available"]]
    if kind == "ask_available_variants":
        return len(variants)
    if kind == "ask_cheapest_variant":
        return min(each["price"] for each in variants)
    said = request.wish.facts[0].text.split()
    fits = max(variants, key=lambda each: sum(word in " ".join(each["options"].values()).split() for word in (w.strip(",") for w in said)))
    return fits["price"]


@pytest.mark.parametrize("kind", [kind for kind in ASKED if kind != "ask_gift_card_balance"])
def test_the_answer_of_a_question_is_what_the_tools_show(kind):
    world = domain("default")
    for _, request in requests(kind, world.base):
        assert request.wish.call is None
        assert request.wish.answers == request.communicate
        (answer,) = request.communicate
        assert float(answer) == pytest.approx(answer_by_tools(world, kind, request))


def test_the_balance_of_a_gift_card_is_the_one_in_the_profile():
    db = domain("default").base
    for subject, request in requests("ask_gift_card_balance", db):
        (card,) = [fact.value for fact in request.wish.facts]
        assert request.communicate == (f"{db.users[subject].payment_methods[card].balance:.2f}",)
        assert card in request.touches, "what others pay with it changes the answer"


@pytest.mark.parametrize("kind", HANDED_OVER)
def test_a_hand_over_changes_nothing_though_something_else_could_be_done(kind):
    world = domain("default")
    assert world.is_transfer(KINDS[kind].tool)
    for _, request in requests(kind, world.base):
        assert request.wish.call is None
        assert request.wish.transfer
        fork = world.base.fork()
        assert not world.execute(fork, request.transfer).is_error
        assert not fork.changes()
        for mistake in request.detours:
            assert changes_of(world, world.base, mistake)


@pytest.mark.parametrize("kind", [*REFUSED, *HANDED_OVER])
def test_the_policy_says_which_requests_are_refused_and_which_are_handed_over(kind):
    policy = load_domain("retail").policy
    assert "never transferred" in policy
    for _, request in requests(kind, domain("default").base, count=20):
        because = request.features.get("handed_over_because")
        assert (because is not None) is request.wish.transfer
        if because is not None:
            assert {"double charge": "wrong charge"}.get(because, because) in policy


def test_the_order_of_somebody_else_belongs_to_the_same_split():
    db = domain("default").base
    for subject, request in requests("refuse_other_customer", db):
        for call in request.detours:
            other = db.orders[call.arguments["order_id"]].user_id
            assert other != subject
            assert split_of(other) == split_of(subject)


# Whole conversations


def task_of(world, subject, asked, rng, *, together=False, order=None, number=0, slips=None):
    """A task of several requests; `order` is the one in which the reference carries them out."""
    facts, identification, _ = OPERATIONS.introduce(world.base, subject, rng)
    calls = list(identification)
    for request in (asked[at] for at in order or range(len(asked))):
        own = (*request.reads, *(call for call in (request.wish.call, request.transfer) if call is not None))
        calls += [call for call in own if call not in calls]
    wishes = tuple(request.wish.model_copy(update={"slip": (slips or {}).get(at)}) for at, request in enumerate(asked))
    basis = ("database", "communicate", "transfer") if any(request.transfer for request in asked) else ("database", "communicate")
    return Task(
        id=f"conversation-{number}",
        domain=world.name,
        scenario=Scenario(
            goal=" ".join(wish.slip or wish.text for wish in wishes),
            known={fact.slot: fact.text for fact in facts},
            facts=facts,
            wishes=wishes,
            reveal="together" if together else "one by one",
        ),
        criteria=Criteria(actions=tuple(calls), communicate=tuple(text for request in asked for text in request.communicate), basis=basis),
    )


def played(world, task, agent=None, seed=0):
    episode = Episode(world, task, max_steps=60, seed=seed)
    drive(episode, agent or ScriptedAgent(tasks=(task,)), RememberingUser(episode.user_view()))
    return episode


def reward(world, episode):
    return evaluate(world, record(episode)).reward


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_is_carried_out_in_a_conversation_beside_another_one(kind):
    world, rng = load_domain("retail"), Random(kind)
    done = 0
    for number, (subject, request) in enumerate(requests(kind, world.base, count=120)):
        beside = KINDS["ask_variant_price"].request(world.base, subject, rng)
        if beside is None:
            continue
        asked = [beside, request] if request.transfer or number % 2 else [request, beside]
        task = task_of(world, subject, asked, rng, together=number % 3 == 0, number=number)
        episode = played(world, task, seed=number)
        assert reward(world, episode) == 1, episode.messages
        assert episode.ending == ("transfer" if request.transfer else "user_stop")
        done += 1
    assert done > 5


def test_up_to_four_requests_of_any_kind_are_settled_in_any_order_of_the_writes():
    world, rng = load_domain("retail"), Random(0)
    subjects = OPERATIONS.subjects(world.base)
    settled = Counter()
    while settled.total() < 150:
        subject, db, asked = rng.choice(subjects), world.base.fork(), []
        for kind in rng.sample(OPERATIONS.kinds, 12):
            request = kind.request(db, subject, rng)
            touched = frozenset().union(*(other.touches for other in asked))
            if request is None or not request.touches.isdisjoint(touched) or (request.transfer and any(each.transfer for each in asked)):
                continue
            if request.wish.call is not None:
                world.execute(db, request.wish.call)
            asked.append(request)
        asked = sorted(asked[:4], key=lambda request: request.transfer is not None)
        if len(asked) < 2:
            continue
        together = rng.random() < 0.6
        order = list(range(len(asked)))
        if together:
            order = sorted(rng.sample(order, len(order)), key=lambda at: asked[at].transfer is not None)
        task = task_of(world, subject, asked, rng, together=together, order=order, number=settled.total())
        episode = played(world, task, seed=settled.total())
        assert reward(world, episode) == 1, episode.messages
        settled[len(asked)] += 1
    assert set(settled) == {2, 3, 4}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_question_is_answered_when_it_comes_up(place):
    world, rng = load_domain("retail"), Random(place)
    for number, (subject, question) in enumerate(requests("ask_cheapest_variant", world.base, count=40)):
        writes = [
            KINDS["change_default_address"].request(world.base, subject, rng),
            KINDS["refuse_other_customer"].request(world.base, subject, rng),
        ]
        asked = [*writes[:place], question, *writes[place:]]
        task = task_of(world, subject, asked, rng, number=number)
        episode = played(world, task)
        assert reward(world, episode) == 1
        texts = [message.content for message in episode.messages if message.role != "tool" and not message.tool_calls]
        asked_at = next(at for at, text in enumerate(texts) if question.wish.text in text)
        assert question.communicate[0] in texts[asked_at + (3 if place == 0 else 1)], texts


def test_a_question_alone_is_a_task_that_nothing_passes():
    world, rng = load_domain("retail"), Random(0)
    for kind in ASKED:
        subject, request = requests(kind, world.base, count=60)[0]
        task = task_of(world, subject, [request], rng)
        assert reward(world, played(world, task)) == 1
        silent = ScriptedAgent(tasks=(task,), reports=False)
        assert reward(world, played(world, task, silent)) == 0


def test_two_questions_with_one_answer_are_two_tasks():
    world, rng = load_domain("retail"), Random(0)
    asked = [(subject, request) for subject, request in requests("ask_available_variants", world.base) if request.communicate == ("5",)]
    (subject, first), (_, second) = asked[0], next(each for each in asked if each[1].reads != asked[0][1].reads)
    one, other = (task_of(world, subject, [request], rng, number=number) for number, request in enumerate((first, second)))
    known = KnownTasks(world, [one])
    assert known.same_as(other) is None
    assert known.same_as(one.model_copy(update={"id": "again"})) == one.id


class Hears:
    """An agent that cancels the order that was named last; it asks before, unless it is hasty."""

    name = "hears"

    def __init__(self, reads, *, hasty):
        self.script = [say("May I have your email, or your name and zip code?"), *reads]
        self.hasty = hasty

    def act(self, view):
        if self.script:
            return self.script.pop(0)
        heard = [message.content for message in view.messages if message.role == "user"]
        order_id = [number for text in heard for number in re.findall(r"#W\d+", text)][-1]
        reason = next(reason for reason, said in REASONS.items() if any(said in text for text in heard))
        if not self.hasty and not re.search(r"\byes\b", heard[-1].lower()):
            return say(f"I will cancel order {order_id}: {reason}. Shall I go ahead (yes/no)?")
        self.script = [say("The order has been cancelled. Anything else?")] * 2
        return Message(role="assistant", tool_calls=(call_of("cancel_pending_order", order_id=order_id, reason=reason),))


@pytest.mark.parametrize(("hasty", "expected"), [(False, 1), (True, 0)])
def test_who_asks_before_it_writes_is_told_of_a_slip(hasty, expected):
    world, rng = load_domain("retail"), Random(0)
    seen = 0
    for subject, request in requests("cancel_order", world.base):
        right = request.wish.call.arguments["order_id"]
        if not request.decoys or right not in request.wish.text or request.communicate or request.features["terse"]:
            continue
        slip = request.wish.text.replace(right, request.decoys[0].arguments["order_id"])
        task = task_of(world, subject, [request], rng, slips={0: slip}, number=seen)
        reads = [Message(role="assistant", tool_calls=(each,)) for each in task.criteria.actions[:-1]]
        assert reward(world, played(world, task, Hears(reads, hasty=hasty), seed=seen)) == expected
        assert reward(world, played(world, task, seed=seen)) == 1, "who knows what was meant and proposes it is agreed to at once"
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("kind", HANDED_OVER)
def test_refusing_what_is_to_be_handed_over_costs_the_reward(kind):
    world, rng = load_domain("retail"), Random(0)
    for subject, request in requests(kind, world.base, count=20):
        task = task_of(world, subject, [request], rng)
        refuses = ScriptedAgent(tasks=(task,), plan=lambda _, task: task.criteria.actions[:-1])
        assert reward(world, played(world, task)) == 1
        assert reward(world, played(world, task, refuses)) == 0


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
from sentinel_domains.retail.splits import split_of
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
