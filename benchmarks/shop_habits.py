"""Further habits of agents in the shop that lead to a wrong outcome, one for each cause that `habits.py` has none for.

Each is a behaviour that can show in any task, such as never saying no: none looks at what a task was made for. What a tool would refuse
is not attempted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from habits import Manner

from sentinel_env import ToolCall
from sentinel_env.tasks import Fact, Wish


def with_arguments(call: ToolCall, **arguments: Any) -> ToolCall:
    return call.model_copy(update={"arguments": {**call.arguments, **arguments}})


# wrong values, records and tools


def gives_one_reason(manner: Manner) -> Manner:
    """Every cancellation is for the first reason that the policy allows."""
    for at in manner.writes():
        call = manner.plan[at]
        if call.arguments.get("reason", "no longer needed") != "no longer needed":
            wrong = with_arguments(call, reason="no longer needed")
            manner = manner.instead(at, wrong, ("wrong_argument", call.name, ("reason",))) or manner
    return manner


def leaves_out_the_apartment(manner: Manner) -> Manner:
    """An address is written without its second line."""
    for at in manner.writes():
        call = manner.plan[at]
        if call.arguments.get("address2"):
            manner = manner.instead(at, with_arguments(call, address2=""), ("wrong_argument", call.name, ("address2",))) or manner
    return manner


def ships_to_the_profile(manner: Manner) -> Manner:
    """An order goes to the customer's default address, whatever other one is named."""
    for at in manner.writes():
        call = manner.plan[at]
        if call.name == "modify_pending_order_address":
            owner = manner.db.users[manner.db.orders[call.arguments["order_id"]].user_id]
            wrong = with_arguments(call, **owner.address.model_dump())
            manner = manner.instead(at, wrong, ("wrong_argument", call.name, ("address1",))) or manner
    return manner


def takes_one_item_only(manner: Manner) -> Manner:
    """Of several items in one request only the first is dealt with."""
    for at in manner.writes():
        call = manner.plan[at]
        lists = {name: value[:1] for name, value in call.arguments.items() if isinstance(value, list | tuple)}
        if lists:
            manner = manner.instead(at, with_arguments(call, **lists), ("wrong_argument", call.name, tuple(sorted(lists)))) or manner
    return manner


def takes_the_first_line(manner: Manner) -> Manner:
    """Of several lines of a product in one order it takes the first, whichever was described."""
    for at in manner.writes():
        call = manner.plan[at]
        if "item_ids" not in call.arguments:
            continue
        lines = manner.db.orders[call.arguments["order_id"]].items
        product = {line.item_id: line.product_id for line in lines}
        first = [next(line.item_id for line in lines if line.product_id == product[item]) for item in call.arguments["item_ids"]]
        if first != list(call.arguments["item_ids"]):
            slip = ("wrong_argument", call.name, ("item_ids",))
            manner = manner.instead(at, with_arguments(call, item_ids=first), slip) or manner
    return manner


def undoes_instead_of_changing(manner: Manner) -> Manner:
    """A pending order that is to be changed is cancelled, and what is to be exchanged is returned."""
    for at in manner.writes():
        call = manner.plan[at]
        if call.name == "exchange_delivered_order_items":
            order = manner.db.orders[call.arguments["order_id"]]
            arguments = {name: call.arguments[name] for name in ("order_id", "item_ids")}
            payee = order.payment_history[0].payment_method_id
            wrong = ToolCall(name="return_delivered_order_items", arguments={**arguments, "payment_method_id": payee})
        elif call.name.startswith("modify_pending_order"):
            arguments = {"order_id": call.arguments["order_id"], "reason": "no longer needed"}
            wrong = ToolCall(name="cancel_pending_order", arguments=arguments)
        else:
            continue
        manner = manner.instead(at, wrong, ("wrong_tool", call.name, ())) or manner
    return manner


def works_in_the_customers_order(manner: Manner) -> Manner:
    """Writes come in the order in which the customer raised the wishes, whatever one of them makes impossible."""
    raised = [wish.call for wish in manner.task.scenario.wishes]
    at = manner.writes()
    writes = sorted((manner.plan[each] for each in at), key=lambda call: raised.index(call) if call in raised else len(raised))
    if not writes or writes == [manner.plan[each] for each in at]:
        return manner
    others = [call for each, call in enumerate(manner.plan) if each not in at]
    handed_over = [call for call in others if manner.domain.is_transfer(call.name)]
    reads = [call for call in others if call not in handed_over]
    slips = (("order_dependency", call.name, ()) for call in writes[1:])
    return replace(manner, plan=(*reads, *writes, *handed_over), slips=(*manner.slips, *slips))


# what is done that should not be, or the other way round


def never_says_no(manner: Manner) -> Manner:
    """Where a wish has to be refused, it does with that order what comes nearest to the wish and is accepted by a tool."""
    for wish in manner.task.scenario.wishes:
        if wish.call is not None:
            continue
        for call in _nearest(manner, wish):
            last = manner.plan[-1:] if manner.plan and manner.domain.is_transfer(manner.plan[-1].name) else ()
            plan = (*manner.plan[: len(manner.plan) - len(last)], call, *last)
            if manner.works(plan):
                slips = (*manner.slips, ("extra_write", call.name, ()))
                manner = replace(manner, plan=plan, unsaid=manner.unsaid | {id(call)}, slips=slips)
                break
    return manner


def _nearest(manner: Manner, wish: Wish) -> Iterator[ToolCall]:
    """Writes on the order that a wish is about, what it asks for first."""
    facts: dict[str, list[Fact]] = {}
    for fact in wish.facts:
        facts.setdefault(fact.slot, []).append(fact)
    order = manner.db.orders.get(facts["order"][0].value) if "order" in facts else None
    if order is None:
        return
    user, about = manner.db.users[order.user_id], {"order_id": order.order_id}
    items = [fact.value for fact in facts.get("item", ())] or [line.item_id for line in order.items]
    wanted = [fact.value for fact in facts.get("payment", ())]
    methods = [*wanted, order.payment_history[0].payment_method_id, *user.payment_methods]
    if "address" in facts:
        address = facts["address"][0].value
        yield ToolCall(name="modify_pending_order_address", arguments={**about, **address})
        yield ToolCall(name="modify_user_address", arguments={"user_id": user.user_id, **address})
    if "new_item" in facts:
        for tool in ("modify_pending_order_items", "exchange_delivered_order_items"):
            for new in _near_variants(manner, order, items, [fact.value for fact in facts["new_item"]]):
                for method in methods:
                    yield ToolCall(name=tool, arguments={**about, "item_ids": items, "new_item_ids": new, "payment_method_id": method})
    elif "item" in facts:
        for method in methods:
            yield ToolCall(name="return_delivered_order_items", arguments={**about, "item_ids": items, "payment_method_id": method})
    elif wanted:
        for method in methods:
            yield ToolCall(name="modify_pending_order_payment", arguments={**about, "payment_method_id": method})
    yield ToolCall(name="cancel_pending_order", arguments={**about, "reason": "no longer needed"})
    for method in methods:
        yield ToolCall(name="return_delivered_order_items", arguments={**about, "item_ids": items, "payment_method_id": method})


def _near_variants(manner: Manner, order: Any, items: Sequence[str], wanted: Sequence[str]) -> Iterator[list[str]]:
    """The items wanted, with one that cannot be had exchanged for the available one that differs least."""
    lines = {line.item_id: line.product_id for line in order.items}
    if len(items) != len(wanted) or not all(item in lines for item in items):
        return
    new = []
    for item, key in zip(items, wanted, strict=True):
        variants = manner.db.products[lines[item]].variants
        options = variants[key].options.items() if key in variants else set()
        open_to = [each for each in variants if variants[each].available and each != item]
        new.append(key if key in open_to else max(open_to, key=lambda each: len(variants[each].options.items() & options), default=""))
    yield new


def never_hands_over(manner: Manner) -> Manner:
    """What only a person could settle is refused."""
    plan = tuple(call for call in manner.plan if not manner.domain.is_transfer(call.name))
    slips = (("missing_transfer", call.name, ()) for call in manner.plan if call not in plan)
    return replace(manner, plan=plan, slips=(*manner.slips, *slips))
