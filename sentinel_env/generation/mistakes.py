"""Mistakes: the pattern's own one on a plan, and what else the request with the opportunity tempts to, as foils."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from sentinel_env.certificates import Foil
from sentinel_env.domain import Domain
from sentinel_env.failures.opportunities import ID_NAME
from sentinel_env.messages import ToolCall
from sentinel_env.operations import Request

from .plans import Plan
from .targets import Target

_JOINT_TRIES = 24
_ENDLESS = 12
"""How often an agent that does not come to an end repeats itself."""


def tempting(target: Target, plan: Plan, actions: Sequence[ToolCall], target_end: int, communicate: Sequence[str]) -> list[Foil]:
    """What the request with the opportunity tempts to, one of each kind, the pattern's own label first."""
    request = _possible(target, plan, actions)
    call = request.wish.call
    found: list[Foil] = []
    if call is not None:
        named = target.pattern.arguments if target.label == "wrong_argument" and target.pattern.arguments else request.alternatives
        for name in named:
            for value in list(request.alternatives.get(name, ()))[:1]:
                found.append(_instead(actions, call, "wrong_argument", _with(call, {name: value})))
        found.extend(_instead(actions, call, "wrong_target_record", decoy) for decoy in request.decoys[:1])
        found.extend(_instead(actions, call, "wrong_tool", detour) for detour in request.detours[:1])
        found.append(_instead(actions, call, "missing_write"))
    else:
        tools = target.pattern.tools
        unwanted = sorted((*request.detours, *request.decoys), key=lambda each: bool(tools) and each.name not in tools)
        found.extend(Foil(label="extra_write", at=target_end, calls=(each,)) for each in unwanted[:1])
    if communicate:
        found.append(Foil(label="missing_communicate", silent=True))
    return sorted(found, key=lambda foil: foil.label != target.label)


def own(target: Target, plan: Plan, actions: Sequence[ToolCall], ends: Sequence[int]) -> Foil | None:
    """The pattern's own mistake, where `tempting` does not make it; None where that has it or nothing can show it."""
    request = _possible(target, plan, actions)
    call, end = request.wish.call, ends[plan.target]
    domain = target.domain
    match target.label:
        case "wrong_argument" if len(target.pattern.arguments) > 1 and call is not None:
            return next(_joint(domain, plan, request, call, actions, target.pattern.arguments), None)
        case "order_dependency" if call is not None:
            reverse = [at for at in range(len(actions)) if _is_write(domain, actions[at])]
            swapped = list(actions)
            for at, calls in zip(reverse, reversed([actions[at] for at in reverse]), strict=True):
                swapped[at] = calls
            return Foil.between("order_dependency", actions, swapped)
        case "unneeded_transfer" if (transfer := domain.handover) is not None:
            first = next((at for at, each in enumerate(actions) if _is_write(domain, each)), end)
            return Foil(label="unneeded_transfer", at=first, drop=len(actions) - first, calls=(transfer,))
        case "missing_transfer":
            at = next(at for at, each in enumerate(actions) if domain.is_transfer(each.name))
            return Foil(label="missing_transfer", at=at, drop=1)
        case "unfinished":
            first = next((at for at, each in enumerate(actions) if _is_write(domain, each)), 0)
            again = tuple(actions[first - 1] for _ in range(_ENDLESS)) if first else ()
            return Foil(label="unfinished", at=first, drop=len(actions) - first, calls=again)
        case "other_users_record":
            assert domain.access is not None
            others = [
                each for each in (*request.detours, *request.decoys) if domain.access.owner(plan.start, each) not in (None, plan.subject)
            ]
            return Foil(label="other_users_record", at=end, calls=(others[0],))
        case "write_without_confirmation" if request.decoys and call is not None:
            return _instead(actions, call, "write_without_confirmation", request.decoys[0])
        case "blind_write" if request.decoys and call is not None:
            return _hasty(actions, request, call, "blind_write", request.decoys[0])
        case "ungrounded_selection" if call is not None:
            name = next(name for name, values in request.alternatives.items() if ID_NAME.search(name) and values)
            return _hasty(actions, request, call, "ungrounded_selection", _with(call, {name: request.alternatives[name][0]}))
        case "hallucinated_id" | "tool_error" | "schema_error" | "unknown_tool":
            return _refused(target, actions, end)
    return None


def _possible(target: Target, plan: Plan, actions: Sequence[ToolCall]) -> Request:
    """The request with the opportunity, without decoys and detours that tools refuse by the time that its turn comes."""
    request = plan.requests[plan.target]
    if target.is_general or len(plan.requests) == 1:
        return request
    db, domain = plan.start.fork(), target.domain
    for call in actions:
        if call == request.wish.call:
            break
        if _is_write(domain, call):
            domain.execute(db, call)
    decoys, detours = (
        tuple(call for call in calls if not domain.execute(db.fork(), call).is_error) for calls in (request.decoys, request.detours)
    )
    return replace(request, decoys=decoys, detours=detours)


def _with(call: ToolCall, arguments: dict[str, Any]) -> ToolCall:
    return call.model_copy(update={"arguments": {**call.arguments, **arguments}})


def _instead(actions: Sequence[ToolCall], call: ToolCall, label: str, *calls: ToolCall) -> Foil:
    """Other calls in the place of one."""
    return Foil(label=label, at=next(at for at, each in enumerate(actions) if each == call), drop=1, calls=calls)


def _hasty(actions: Sequence[ToolCall], request: Request, call: ToolCall, label: str, wrong: ToolCall) -> Foil:
    """A wrong write without what has to be looked up for it."""
    plan = [wrong if each == call else each for each in actions if each not in request.reads]
    return Foil.between(label, actions, plan)


def _is_write(domain: Domain, call: ToolCall) -> bool:
    return domain.tools_by_name[call.name].writes


def _joint(
    domain: Domain, plan: Plan, request: Request, call: ToolCall, actions: Sequence[ToolCall], names: Sequence[str]
) -> Iterator[Foil]:
    """Several arguments wrong at once: entries left out of all lists alike, or other values that a tool accepts together."""
    lists = [call.arguments[name] for name in names]
    if all(isinstance(value, list) and len(value) == len(lists[0]) > 1 for value in lists):
        yield _instead(actions, call, "wrong_argument", _with(call, {name: call.arguments[name][:-1] for name in names}))
    before = plan.start.fork()
    for each in actions[: next(at for at, each in enumerate(actions) if each == call)]:
        if _is_write(domain, each):
            domain.execute(before, each)
    for values in islice(product(*(request.alternatives.get(name, ()) for name in names)), _JOINT_TRIES):
        wrong = _with(call, dict(zip(names, values, strict=True)))
        if not domain.execute(before.fork(), wrong).is_error:
            yield _instead(actions, call, "wrong_argument", wrong)


def _refused(target: Target, actions: Sequence[ToolCall], end: int) -> Foil | None:
    """A call that cannot work, after which the rest of the request is left undone."""
    domain, tools = target.domain, target.pattern.tools
    for at, each in enumerate(actions[:end]):
        if (each.name in tools if tools else _is_write(domain, each)) and (wrong := _broken(target.label, each)) is not None:
            return Foil(label=target.label, at=at, drop=len(actions) - at, calls=(wrong,))
    return None


def _broken(label: str, call: ToolCall) -> ToolCall | None:
    if label == "unknown_tool":
        return call.model_copy(update={"name": f"do_{call.name}"})
    if label == "schema_error":
        return (
            call.model_copy(update={"arguments": {name: {"value": value} for name, value in call.arguments.items()}})
            if call.arguments
            else None
        )
    for name, value in call.arguments.items():
        if isinstance(value, str) and (ID_NAME.search(name) or label == "tool_error") and any(map(str.isdecimal, value)):
            return _with(call, {name: "".join(str((int(letter) + 5) % 10) if letter.isdecimal() else letter for letter in value)})
    return None
