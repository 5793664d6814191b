"""What customers ask for on a condition: another variant if the first is sold out, cancel if there is none, return what would cost more.

Which branch it comes to is to be found out in the shop's records. The call is what it comes to; the other branch stands first among the
mistakes that the request invites, wherever a tool accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sentinel_env.operations import Request
from sentinel_env.tasks import Fact

from .conditions import condition_features, mistaken, nearest, pick_for_one, returns_to, swaps, wish_for
from .db import OrderLine, Variant
from .item_requests import near_lines, other_items, swap_elsewhere
from .items import (
    EXCHANGE,
    MODIFY,
    RETURN,
    Picked,
    choose_near,
    difference,
    new_facts,
    pick,
    read_products,
    replacements,
    return_elsewhere,
    say_new,
    sold_out,
)
from .order_requests import ASKS_AMOUNT, REASONS, TERSE, cancellations, gift_cards
from .shopper import MOST_ALTERNATIVES, Shopper, call
from .wording import money


def exchange_items_or_else(shopper: Shopper) -> Request | None:
    """Exchange an item for one variant or, where that is sold out, for another."""
    wordings = (
        "I want to exchange {} for {}; if that is not available, for {}.",
        "Please exchange {} for {}, or if that is sold out, for {}.",
        "Can I exchange {} for {}? If you don't have that, for {}.",
    )
    return _or_else(shopper, EXCHANGE, "delivered", wordings)


def modify_items_or_else(shopper: Shopper) -> Request | None:
    """Change an item to one variant or, where that is sold out, to another."""
    wordings = (
        "Please change {} to {}; if that is not available, to {}.",
        "I want to change {} to {}, or if that is sold out, to {}.",
        "Can you change {} to {}? If you don't have that, to {}.",
    )
    return _or_else(shopper, MODIFY, "pending", wordings)


def _or_else(shopper: Shopper, tool: str, status: str, wordings: Sequence[str]) -> Request | None:
    def branches(line: OrderLine) -> list[bool]:
        """Whether the first choice is available, as far as the shop has both."""
        available = len(replacements(shopper, line))
        return [True] * (available > 1) + [False] * (available > 0 and bool(sold_out(shopper, line)))

    picked = pick(shopper, shopper.in_status(status), branches)
    if picked is None:
        return None
    rng, picked = shopper.rng, picked.first(1)
    (line,), order = picked.lines, picked.order
    has_first = rng.choice(branches(line))
    first = choose_near(shopper, line, replacements(shopper, line) if has_first else sold_out(shopper, line))
    others = [variant for variant in replacements(shopper, line) if variant is not first]
    second = choose_near(shopper, line, [each for each in others if not _is_more_of(line, first, each)] or others)
    wanted, other = (first, second) if has_first else (second, first)
    able = shopper.able_to_pay(difference([line], [wanted]))
    if not able:
        return None
    method, terse = rng.choice(able), rng.random() < TERSE
    changes = [say_new(shopper, line, variant) for variant in (first, second)]
    text = picked.place + rng.choice(wordings).format(picked.said, *changes)
    text += "" if terse else f" Use {shopper.say(method)} for the difference."
    otherwise = Fact(slot="new_item", text=f"if that is not available, {changes[1]}", value=second.item_id)
    return Request(
        wish=wish_for(
            shopper,
            picked,
            text,
            call(tool, order_id=order.order_id, item_ids=picked.item_ids, new_item_ids=[wanted.item_id], payment_method_id=method),
            facts=(*new_facts(picked, changes[:1], [first.item_id]), otherwise, shopper.payment_fact(method)),
            variants=zip((first, second), changes, strict=True),
            method=method,
        ),
        reads=picked.pointer.reads + read_products(picked),
        alternatives={
            "new_item_ids": mistaken(shopper, line, wanted, first=other if has_first else None, like=first, method=method),
            "item_ids": near_lines(shopper, picked, [wanted], method),
            "payment_method_id": [each for each in able if each != method],
        },
        decoys=swap_elsewhere(shopper, tool, picked, [wanted], method),
        detours=tuple(cancellations(order) if tool == MODIFY else returns_to(shopper, picked, method)),
        features=condition_features(shopper, picked, wanted, terse=terse, branch="first" if has_first else "otherwise"),
        touches=frozenset((order.order_id, *gift_cards(shopper, order, method))),
    )


def _is_more_of(line: OrderLine, one: Variant, other: Variant) -> bool:
    """Whether one of two variants changes what the other does and more: "red, or else red and large" is no choice."""
    changed, changes = one.options.items() - line.options.items(), other.options.items() - line.options.items()
    return changed <= changes or changes <= changed


def modify_or_cancel(shopper: Shopper) -> Request | None:
    """Change an item to a variant, which is available, or else cancel the order."""
    found = pick_for_one(shopper, "pending", replacements)
    if found is None:
        return None
    picked, line, wanted = found
    rng, order = shopper.rng, picked.order
    able = shopper.able_to_pay(difference([line], [wanted]))
    if not able:
        return None
    method, reason = rng.choice(able), rng.choice(list(REASONS))
    text, facts, terse = _change_or_cancel(shopper, picked, wanted, method, reason)
    return Request(
        wish=wish_for(
            shopper,
            picked,
            text,
            call(MODIFY, order_id=order.order_id, item_ids=picked.item_ids, new_item_ids=[wanted.item_id], payment_method_id=method),
            facts=facts,
            variants=[(wanted, facts[0].text)],
            method=method,
        ),
        reads=picked.pointer.reads + read_products(picked),
        alternatives={
            "new_item_ids": mistaken(shopper, line, wanted, like=wanted, method=method),
            "item_ids": near_lines(shopper, picked, [wanted], method),
            "payment_method_id": [each for each in able if each != method],
        },
        decoys=swap_elsewhere(shopper, MODIFY, picked, [wanted], method),
        detours=tuple(cancellations(order, reason)),
        features=condition_features(shopper, picked, wanted, terse=terse, branch="first"),
        touches=frozenset((order.order_id, *gift_cards(shopper, order, method))),
    )


def cancel_unless_modified(shopper: Shopper) -> Request | None:
    """Change an item to a variant, which is sold out, or else cancel the order."""
    found = pick_for_one(shopper, "pending", sold_out)
    if found is None:
        return None
    picked, line, wanted = found
    rng, order = shopper.rng, picked.order
    method, reason = rng.choice(shopper.methods).id, rng.choice(list(REASONS))
    text, facts, terse = _change_or_cancel(shopper, picked, wanted, method, reason)
    decoys = [each.order_id for each in shopper.sharing(order, picked.products, shopper.in_status("pending"))]
    return Request(
        wish=wish_for(
            shopper,
            picked,
            text,
            call("cancel_pending_order", order_id=order.order_id, reason=reason),
            facts=facts,
            variants=[(wanted, facts[0].text)],
            method=method,
        ),
        reads=picked.pointer.reads + read_products(picked),
        alternatives={"reason": [other for other in REASONS if other != reason]},
        decoys=tuple(call("cancel_pending_order", order_id=other, reason=reason) for other in decoys[:MOST_ALTERNATIVES]),
        detours=tuple(swaps(shopper, MODIFY, picked, nearest(replacements(shopper, line), wanted), method)),
        features=condition_features(shopper, picked, wanted, terse=terse, branch="otherwise"),
        touches=frozenset((order.order_id, *gift_cards(shopper, order, method))),
    )


def _change_or_cancel(shopper: Shopper, picked: Picked, wanted: Variant, method: str, reason: str) -> tuple[str, tuple[Fact, ...], bool]:
    """(text, facts about what is wanted, the new item first, whether the text leaves the payment method out)."""
    rng = shopper.rng
    terse = rng.random() < TERSE
    change = say_new(shopper, picked.lines[0], wanted)
    wordings = (
        "Please change {} to {}; if that is not available, cancel the whole order.",
        "I want to change {} to {}. If you don't have that, cancel the order.",
        "Can you change {} to {}? If that is sold out, cancel the order altogether.",
    )
    text = picked.place + rng.choice(wordings).format(picked.said, change) + f" {REASONS[reason]}."
    text += "" if terse else f" Use {shopper.say(method)} for a difference."
    reasoned = Fact(slot="reason", text=REASONS[reason], value=reason)
    return text, (*new_facts(picked, [change], [wanted.item_id]), shopper.payment_fact(method), reasoned), terse


def exchange_if_not_dearer(shopper: Shopper) -> Request | None:
    """Exchange an item for a variant that must not, and does not, cost more than was paid, or else return it."""
    return _unless_dearer(shopper, EXCHANGE, lambda variant, line: variant.price <= line.price)


def return_if_dearer(shopper: Shopper) -> Request | None:
    """Exchange an item for a variant that must not cost more than was paid, but does, or else return it."""
    return _unless_dearer(shopper, RETURN, lambda variant, line: variant.price > line.price)


def _unless_dearer(shopper: Shopper, tool: str, fits: Callable[[Variant, OrderLine], bool]) -> Request | None:
    found = pick_for_one(
        shopper, "delivered", lambda shopper, line: [variant for variant in replacements(shopper, line) if fits(variant, line)]
    )
    if found is None:
        return None
    picked, line, wanted = found
    rng, order = shopper.rng, picked.order
    refundable = shopper.refundable_to(order)
    method, owed = rng.choice(refundable), difference([line], [wanted])
    able = shopper.able_to_pay(owed)
    asks = bool(owed) and rng.random() < ASKS_AMOUNT
    change = say_new(shopper, line, wanted)
    wordings = (
        "I want to exchange {} for {}, but only if that costs no more than I paid. Otherwise I return mine.",
        "Please exchange {} for {} if that is not dearer than what I paid; if it is, take mine back.",
        "Can I exchange {} for {}? If that costs more than I paid, I return mine instead.",
    )
    text = picked.place + rng.choice(wordings).format(picked.said, change) + f" Either way, use {shopper.say(method)}."
    text += " How much do I get back?" if asks else ""
    swap = call(EXCHANGE, order_id=order.order_id, item_ids=picked.item_ids, new_item_ids=[wanted.item_id], payment_method_id=method)
    if tool == EXCHANGE:
        wrong = returns_to(shopper, picked, method)
        alternatives: dict[str, Sequence[Any]] = {
            "new_item_ids": mistaken(shopper, line, wanted, like=wanted, method=method),
            "item_ids": near_lines(shopper, picked, [wanted], method),
            "payment_method_id": [each for each in able if each != method],
        }
        decoys = swap_elsewhere(shopper, EXCHANGE, picked, [wanted], method)
    else:
        wrong = swaps(shopper, EXCHANGE, picked, nearest(replacements(shopper, line), wanted), method)
        alternatives = {
            "item_ids": other_items(picked)[:MOST_ALTERNATIVES],
            "payment_method_id": [each for each in refundable if each != method],
        }
        decoys = return_elsewhere(shopper, picked, method)
    back = call(RETURN, order_id=order.order_id, item_ids=picked.item_ids, payment_method_id=method)
    return Request(
        wish=wish_for(
            shopper,
            picked,
            text,
            swap if tool == EXCHANGE else back,
            facts=(*new_facts(picked, [change], [wanted.item_id]), shopper.payment_fact(method)),
            variants=[(wanted, change)],
            method=method,
        ),
        reads=picked.pointer.reads + read_products(picked),
        alternatives=alternatives,
        decoys=decoys,
        detours=tuple(wrong),
        communicate=(money(-owed if tool == EXCHANGE else line.price),) if asks else (),
        features=condition_features(shopper, picked, wanted, branch="first" if tool == EXCHANGE else "otherwise"),
        touches=frozenset((order.order_id, *gift_cards(shopper, order, method))),
    )
