"""An agent without habits: it takes each opportunity for each kind of mistake with the same chance.

Each reference write can be left out, made on another record, with another tool or with each argument wrong; what has to be told can be kept
quiet; a run can hold an extra write, a wrong order or a needless hand-over; each tool that is called can be called in every wrong way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from habits import Habit, Manner, Slip, changes_items_before_the_address, on_other_records

from sentinel_env import ToolCall


def errs_uniformly(seed: int, chance: float) -> Habit:
    """Each opportunity for each kind of mistake is taken with the same chance."""

    def habit(manner: Manner) -> Manner:
        random = Random(f"{seed}/{manner.task.id}")
        return _with_conduct(_with_causes(manner, random, chance), random, chance)

    return habit


def _with_causes(manner: Manner, random: Random, chance: float) -> Manner:
    one_of_all: list[Habit] = [lambda each: _extra_write(each, random), changes_items_before_the_address]
    for habit in one_of_all:
        if random.random() < chance:
            manner = habit(manner)
    for call in [manner.plan[at] for at in manner.writes()]:
        for wrong, slip in _wrong_calls(manner.db, call, random):
            if random.random() < chance and any(each is call for each in manner.plan):
                at = next(at for at, each in enumerate(manner.plan) if each is call)
                manner = manner.instead(at, wrong, slip) or manner
        if random.random() < chance and any(each is call for each in manner.plan):
            manner = replace(manner, unmade=manner.unmade | {id(call)}, slips=(*manner.slips, ("missing_write", call.name, ())))
    kept = tuple(text for text in manner.told if random.random() >= chance)
    manner = replace(manner, told=kept)
    if random.random() < chance and manner.writes() and "transfer_to_human_agents" in manner.domain.tools_by_name:
        manner = replace(manner, hands_over=manner.writes()[0])
    return manner


def _wrong_calls(db: Any, call: ToolCall, random: Random) -> Iterator[tuple[ToolCall, Slip]]:
    """One way to get each argument wrong, one wrong record and one wrong tool; whether tools accept it is seen later."""
    for name, value in call.arguments.items():
        if (other := _other_value(db, call, name, value, random)) is not None:
            yield call.model_copy(update={"arguments": {**call.arguments, name: other}}), ("wrong_argument", call.name, (name,))
    key = next(iter(call.arguments))
    records = [wrong for wrong, _ in on_other_records(db, call) if wrong.arguments[key] != call.arguments[key]]
    if records:
        yield random.choice(records), ("wrong_target_record", call.name, (key,))
    if "order_id" in call.arguments:
        order_id, tool = call.arguments["order_id"], "cancel_pending_order"
        if call.name != tool and db.orders[order_id].status == "pending":
            yield ToolCall(name=tool, arguments={"order_id": order_id, "reason": "no longer needed"}), ("wrong_tool", call.name, ())


def _other_value(db: Any, call: ToolCall, name: str, value: object, random: Random) -> object:
    if name in ("address1", "address2", "city", "state", "zip"):
        others = [getattr(user.address, name) for user in random.sample(list(db.users.values()), 3)]
        return next((other for other in others if other != value), None)
    if name == "reason":
        return {"no longer needed": "ordered by mistake", "ordered by mistake": "no longer needed"}[str(value)]
    if "order_id" not in call.arguments:
        return None
    order = db.orders[call.arguments["order_id"]]
    if name == "payment_method_id":
        methods = [method for method in db.users[order.user_id].payment_methods if method != value]
        return random.choice(methods) if methods else None
    if name == "item_ids" and isinstance(value, list | tuple):
        others = [line.item_id for line in order.items if line.item_id not in value]
        return [random.choice(others), *value[1:]] if others else None
    if name == "new_item_ids" and isinstance(value, list | tuple):
        variants = db.products[next(line.product_id for line in order.items if line.item_id == call.arguments["item_ids"][0])].variants
        others = [key for key, each in variants.items() if each.available and key not in value and key not in call.arguments["item_ids"]]
        return [random.choice(others), *value[1:]] if others else None
    return None


def _extra_write(manner: Manner, random: Random) -> Manner:
    """Something that nobody asked for, at the end."""
    db, call = manner.db, manner.task.criteria.actions[0]
    reads = [each for each in manner.plan if each.name in ("get_user_details", "find_loans")]
    if not reads:
        return manner
    if call.name == "find_loans":
        choices = [ToolCall(name="renew_loan", arguments={"loan_id": key}) for key in db.loans.where(member_id=call.arguments["member_id"])]
    else:
        orders = db.users[reads[0].arguments["user_id"]].orders
        choices = [ToolCall(name="cancel_pending_order", arguments={"order_id": key, "reason": "no longer needed"}) for key in orders]
    for extra in random.sample(choices, len(choices)):
        writes = manner.writes()
        at = writes[-1] + 1 if writes else len(manner.plan)
        plan = (*manner.plan[:at], extra, *manner.plan[at:])
        if manner.works(plan):
            return replace(manner, plan=plan, unsaid=manner.unsaid | {id(extra)}, slips=(*manner.slips, ("extra_write", extra.name, ())))
    return manner


def _with_conduct(manner: Manner, random: Random, chance: float) -> Manner:
    """Each tool that is called: unread, repeated, with a made-up id, with wrong arguments, without a yes; and words beside a call."""
    unasked = {name for name in dict.fromkeys(call.name for call in manner.plan) if random.random() < chance}
    unread = {name for name in ("get_order_details", "get_product_details") if random.random() < chance}
    kept = tuple(call for call in manner.plan if call.name not in unread)
    manner = replace(manner, plan=kept) if manner.writes() else manner
    plan, attempts = list(manner.plan), set()
    for name in dict.fromkeys(call.name for call in manner.plan):
        at = next(at for at, call in enumerate(plan) if call.name == name)
        call, before = plan[at], []
        writes = manner.domain.tools_by_name[name].writes
        if random.random() < chance:
            before.append(call.model_copy(update={"arguments": {**call.arguments, "note": "please"}}))
        if before and random.random() < chance:
            before.append(before[0].model_copy())
        if random.random() < chance:
            key, value = next(iter(call.arguments.items()), ("", None))
            if key.endswith("_id") and isinstance(value, str):
                before.append(
                    call.model_copy(update={"arguments": {**call.arguments, key: f"{value[:2]}{random.randrange(10**8, 10**9)}"}})
                )
        if random.random() < chance and call.arguments:
            before.append(_refused(call))
        if not writes and random.random() < chance:
            before.append(call)
        plan[at:at] = before
        attempts |= {id(each) for each in before if writes}
    if random.random() < chance:
        plan.insert(0, ToolCall(name="look_up_customer", arguments={}))
    remark = "Let me see." if random.random() < chance else ""
    asks = manner.asks
    return replace(
        manner,
        plan=tuple(plan),
        asks=lambda call: asks(call) and call.name not in unasked,
        attempts=frozenset(attempts),
        remark=remark,
    )


def _refused(call: ToolCall) -> ToolCall:
    """The call about somebody or something that does not exist; without a digit it is no identifier that was made up."""
    key = next(iter(call.arguments))
    return call.model_copy(update={"arguments": {**call.arguments, key: "nobody@example.com" if key == "email" else "Nobody"}})
