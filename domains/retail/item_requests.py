"""What customers ask about single items: return, exchange after delivery, change before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from sentinel_env.messages import ToolCall
from sentinel_env.operations import Request
from sentinel_env.tasks import Wish

from .db import OrderLine, Variant
from .items import (
    EXCHANGE,
    MODIFY,
    RETURN,
    Picked,
    choose_near,
    difference,
    distance,
    new_facts,
    pick,
    read_products,
    replacements,
    return_elsewhere,
    say_new,
)
from .order_requests import ASKS_AMOUNT, REASONS, TERSE, gift_cards
from .shopper import MOST_ALTERNATIVES, Shopper, call, is_single
from .wording import money, say_list

_MOST_WORDS, _MOST_SWAP_WORDS = 25, 15  # a small model has to read it


def return_items(shopper: Shopper) -> Request | None:
    """Return items of a delivered order, to the method that paid it or to a gift card."""
    delivered = shopper.in_status("delivered")
    picked = pick(shopper, delivered, lambda line: True)
    if picked is None:
        return None
    rng, order = shopper.rng, picked.order
    allowed = shopper.refundable_to(order)
    method = rng.choice(allowed)
    terse, asks = rng.random() < TERSE, rng.random() < ASKS_AMOUNT
    text = rng.choice(("I want to return {}.", "I'd like to send back {}.", "Can I return {}?")).format(picked.said)
    text = picked.place + text
    terse = terse or len(text.split()) > _MOST_WORDS - 9
    text += ("" if terse else f" Refund it to {shopper.say(method)}.") + (" How much will I get?" if asks else "")
    arguments = {"order_id": order.order_id, "item_ids": picked.item_ids, "payment_method_id": method}
    return Request(
        wish=Wish(
            text=text,
            call=call(RETURN, **arguments),
            facts=(*picked.facts, shopper.payment_fact(method)),
            provenance={"order_id": picked.pointer.provenance, "item_ids": "fact:item", "payment_method_id": "fact:payment"},
            labels=shopper.labels(order, method) | dict(zip(picked.item_ids, picked.names, strict=True)),
        ),
        reads=picked.pointer.reads,
        alternatives={
            "item_ids": other_items(picked)[:MOST_ALTERNATIVES],
            "payment_method_id": [other for other in allowed if other != method],
        },
        decoys=return_elsewhere(shopper, picked, method),
        detours=_exchange_instead(shopper, picked, method),
        communicate=(money(sum(line.price for line in picked.lines)),) if asks else (),
        features=shopper.features(picked.pointer, picked.products, terse=terse, n_items=len(picked.lines)),
        touches=frozenset((order.order_id,)),
    )


def other_items(picked: Picked) -> list[list[str]]:
    """Other choices of items from the order: one swapped (the same product first), one left out, one too many."""
    held = [line for line in picked.order.items if is_single(picked.order, line) and line.item_id not in picked.item_ids]
    found = []
    for at, line in enumerate(picked.lines):
        for other in sorted(held, key=lambda each: each.product_id != line.product_id)[:2]:
            found.append([*picked.item_ids[:at], other.item_id, *picked.item_ids[at + 1 :]])
    if len(picked.lines) > 1:
        found.insert(0, picked.item_ids[:-1])
        found.insert(1, picked.item_ids[1:])
    return found + [[*picked.item_ids, other.item_id] for other in held[:1]]


def _exchange_instead(shopper: Shopper, picked: Picked, method: str) -> tuple[ToolCall, ...]:
    new = []
    for line in picked.lines:
        available = replacements(shopper, line)
        if not available:
            return ()
        new.append(min(available, key=lambda variant: distance(variant, line)))
    able = shopper.able_to_pay(difference(picked.lines, new))
    if not able:
        return ()
    payer = method if method in able else able[0]
    ids = [variant.item_id for variant in new]
    return (call(EXCHANGE, order_id=picked.order.order_id, item_ids=picked.item_ids, new_item_ids=ids, payment_method_id=payer),)


def exchange_items(shopper: Shopper) -> Request | None:
    """Exchange items of a delivered order for other variants."""
    return _swap(shopper, EXCHANGE, "delivered", ("I want to exchange {}.", "Please exchange {}.", "Can I exchange {}?"))


def modify_items(shopper: Shopper) -> Request | None:
    """Change items of a pending order to other variants."""
    return _swap(shopper, MODIFY, "pending", ("Please change {}.", "I want to change {}.", "Can you change {}?"))


def _swap(shopper: Shopper, tool: str, status: str, wordings: Sequence[str]) -> Request | None:
    rng = shopper.rng
    picked = pick(shopper, shopper.in_status(status), lambda line: replacements(shopper, line))
    if picked is None:
        return None
    order = picked.order
    new = [choose_near(shopper, line, replacements(shopper, line)) for line in picked.lines]
    changes = [say_new(shopper, line, variant) for line, variant in zip(picked.lines, new, strict=True)]
    swaps = [f"the {name} {'to' if tool == MODIFY else 'for'} {change}" for name, change in zip(picked.names, changes, strict=True)]
    count = max(1, sum(words <= _MOST_SWAP_WORDS for words in accumulate(len(swap.split()) for swap in swaps)))
    picked, new, changes = picked.first(count), new[:count], changes[:count]
    owed = difference(picked.lines, new)
    able = shopper.able_to_pay(owed)
    if not able:
        return None
    method = rng.choice(able)
    terse, asks = rng.random() < TERSE, bool(owed) and rng.random() < ASKS_AMOUNT
    text = picked.place + rng.choice(wordings).format(say_list(swaps[:count]))
    terse = terse or len(text.split()) > _MOST_WORDS - 7
    text += "" if terse else f" Use {shopper.say(method)} for the difference."
    asks = asks and len(text.split()) <= _MOST_WORDS - 5
    text += " What is the price difference?" if asks else ""
    new_ids = [variant.item_id for variant in new]
    arguments = {"order_id": order.order_id, "item_ids": picked.item_ids, "new_item_ids": new_ids, "payment_method_id": method}
    near = _near_variants(shopper, picked, new, method)
    return Request(
        wish=Wish(
            text=text,
            call=call(tool, **arguments),
            facts=(*picked.facts, *new_facts(picked, changes, new_ids), shopper.payment_fact(method)),
            provenance={
                "order_id": picked.pointer.provenance,
                "item_ids": "fact:item",
                "new_item_ids": "fact:new_item",
                "payment_method_id": "fact:payment",
            },
            labels=shopper.labels(order, method)
            | dict(zip(picked.item_ids, picked.names, strict=True))
            | _new_labels(picked, new, changes),
        ),
        reads=picked.pointer.reads + read_products(picked),
        alternatives={
            "new_item_ids": near,
            "item_ids": near_lines(shopper, picked, new, method),
            "payment_method_id": [other for other in able if other != method],
        },
        decoys=swap_elsewhere(shopper, tool, picked, new, method),
        detours=_instead_of_swap(shopper, tool, picked, method),
        communicate=(money(abs(owed)),) if asks else (),
        features=shopper.features(
            picked.pointer,
            picked.products,
            terse=terse,
            n_items=len(new),
            near_duplicate_variants=count_near(shopper, picked, new),
            options_changed=sum(distance(variant, line) for line, variant in zip(picked.lines, new, strict=True)),
        ),
        touches=frozenset((order.order_id, *gift_cards(shopper, order, method))),
    )


def _new_labels(picked: Picked, new: Sequence[Variant], changes: Sequence[str]) -> dict[str, str]:
    pairs = zip(picked.lines, new, changes, strict=True)
    return {variant.item_id: f"{line.name.lower()}, {change}" for line, variant, change in pairs}


def _near_variants(shopper: Shopper, picked: Picked, new: Sequence[Variant], method: str) -> list[list[str]]:
    """The replacements with one of them mistaken for an available variant of its product, the most similar first."""
    able_to_pay = shopper.able_to_pay
    found: list[tuple[int, list[str]]] = []
    for at, (line, variant) in enumerate(zip(picked.lines, new, strict=True)):
        for other in replacements(shopper, line):
            mistaken = [*new[:at], other, *new[at + 1 :]]
            if other.item_id != variant.item_id and method in able_to_pay(difference(picked.lines, mistaken)):
                found.append((distance(other, variant), [each.item_id for each in mistaken]))
    found.sort(key=lambda pair: pair[0])
    return [ids for _, ids in found[:MOST_ALTERNATIVES]]


def near_lines(shopper: Shopper, picked: Picked, new: Sequence[Variant], method: str) -> list[list[str]]:
    """The items with one of them mistaken for another line of its product in the order."""
    found = []
    for at, (line, variant) in enumerate(zip(picked.lines, new, strict=True)):
        for other in picked.order.items:
            mistaken = [*picked.lines[:at], other, *picked.lines[at + 1 :]]
            near = other.product_id == line.product_id and other.item_id not in (line.item_id, variant.item_id)
            if near and method in shopper.able_to_pay(difference(mistaken, new)):
                found.append([each.item_id for each in mistaken])
    return found[:MOST_ALTERNATIVES]


def count_near(shopper: Shopper, picked: Picked, new: Sequence[Variant]) -> int:
    """How many available variants differ from what is wanted in one option."""
    pairs = zip(picked.lines, new, strict=True)
    return sum(distance(other, variant) == 1 for line, variant in pairs for other in replacements(shopper, line))


def swap_elsewhere(shopper: Shopper, tool: str, picked: Picked, new: Sequence[Variant], method: str) -> tuple[ToolCall, ...]:
    """The same replacements in other orders of the same status."""
    wanted = {line.product_id: variant for line, variant in zip(picked.lines, new, strict=True)}
    found = []
    for other in shopper.sharing(picked.order, picked.products, shopper.in_status(picked.order.status)):
        lines: dict[str, OrderLine] = {}
        for line in other.items:
            if line.product_id in wanted and line.item_id != wanted[line.product_id].item_id and is_single(other, line):
                lines.setdefault(line.product_id, line)
        swapped = [wanted[product] for product in lines]
        if lines and method in shopper.able_to_pay(difference(list(lines.values()), swapped)):
            ids, new_ids = [line.item_id for line in lines.values()], [variant.item_id for variant in swapped]
            found.append(call(tool, order_id=other.order_id, item_ids=ids, new_item_ids=new_ids, payment_method_id=method))
    return tuple(found[:MOST_ALTERNATIVES])


def _instead_of_swap(shopper: Shopper, tool: str, picked: Picked, method: str) -> tuple[ToolCall, ...]:
    order = picked.order
    if tool == MODIFY:
        return tuple(call("cancel_pending_order", order_id=order.order_id, reason=reason) for reason in REASONS)
    allowed = shopper.refundable_to(order)
    payee = method if method in allowed else allowed[0]
    return (call(RETURN, order_id=order.order_id, item_ids=picked.item_ids, payment_method_id=payee),)
