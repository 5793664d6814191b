"""Agents with known habits: the reference carried out in a real dialogue, except for what the habit changes.

A habit turns a `Conduct` (what the agent will call, in order, and how it speaks) into another one and writes down each mistake that it
puts in. A wrong write is proposed without details, so that the customer agrees to it; what a tool would refuse is not attempted, because
an agent would see that and correct itself, unless being refused is the habit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sentinel_env import Domain, Message, ScriptedAgent, Task, ToolCall
from sentinel_env.agents import propose, say

Slip = tuple[str, str | None, tuple[str, ...]]
"""Label, tool and arguments: what mining should find."""


@dataclass(frozen=True)
class Manner:
    """What the agent will do in one task."""

    domain: Domain
    task: Task
    plan: tuple[ToolCall, ...]
    told: tuple[str, ...]
    meant: dict[int, ToolCall] = field(default_factory=dict)
    """Id of a wrong call -> the reference's, which is what the agent says that it will do, in the customer's words."""
    unsaid: frozenset[int] = frozenset()
    """Ids of calls that it does not propose and that follow another one at once."""
    attempts: frozenset[int] = frozenset()
    """Ids of calls that are refused and made again, rightly, without a word in between."""
    unmade: frozenset[int] = frozenset()
    """Ids of calls that it says it made and did not make."""
    asks: Callable[[ToolCall], bool] = lambda call: True
    """Whether it asks before a write."""
    hands_over: int | None = None
    """Where in the plan it stops and hands over to a person."""
    remark: str = ""
    """What it writes beside its first call."""
    slips: tuple[Slip, ...] = ()

    @cached_property
    def db(self) -> Any:
        """The database as the task finds it."""
        return self.domain.start(self.task)

    def writes(self) -> list[int]:
        """Where in the plan the writes stand."""
        tools = self.domain.tools_by_name
        return [at for at, call in enumerate(self.plan) if call.name in tools and tools[call.name].writes]

    def works(self, plan: Sequence[ToolCall]) -> bool:
        """Whether tools accept the plan's writes and it leads elsewhere than the reference."""
        db = self.domain.start(self.task)
        tools = self.domain.tools_by_name
        made = [call for call in plan if id(call) not in self.unmade and call.name in tools and tools[call.name].writes]
        answers = [self.domain.execute(db, call) for call in made]
        return not any(answer.is_error for answer in answers) and db.changes() != self.domain.reference_changes(self.task)

    def instead(self, at: int, call: ToolCall, slip: Slip, *, reads: Sequence[ToolCall] = ()) -> Manner | None:
        """Another write in the place of one; None where a tool refuses it or nothing changes by it."""
        before = self.plan[:at]
        plan = (*before, *(read for read in reads if read not in before), call, *self.plan[at + 1 :])
        if not self.works(plan):
            return None
        return replace(
            self, plan=plan, meant={**self.meant, id(call): self.meant.get(id(self.plan[at]), self.plan[at])}, slips=(*self.slips, slip)
        )


Habit = Callable[[Manner], Manner]


@dataclass(frozen=True)
class HabitAgent(ScriptedAgent):
    """A scripted agent whose plan and words a habit has changed."""

    habit: Habit = lambda manner: manner
    manners: dict[str, Manner] = field(default_factory=dict, repr=False, compare=False)
    """What was decided for each task, with the slips that were put in."""

    def script(self, domain: Domain, task: Task) -> list[Message]:
        """Every message of the dialogue, in order."""
        manner = Manner(domain, task, tuple(call.model_copy() for call in task.criteria.actions), task.criteria.communicate)
        self.manners[task.id] = manner = self.habit(manner)
        return list(_script(manner))


def _script(manner: Manner) -> Iterator[Message]:
    domain, scenario = manner.domain, manner.task.scenario
    asked = [fact.slot for fact in scenario.facts] or list(scenario.known)
    yield say(f"May I have your {' and '.join(asked)}, please?")
    db, writes = domain.start(manner.task), manner.writes()
    last = max((at for at in writes), default=-1)
    remark = manner.remark
    for at, call in enumerate(manner.plan):
        if at == manner.hands_over:
            yield Message(role="assistant", tool_calls=(ToolCall(name="transfer_to_human_agents", arguments={"summary": "not sure"}),))
            yield say("YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON.")
            return
        spoken = at in writes and id(call) not in manner.attempts
        asks = spoken and id(call) not in manner.unsaid and manner.asks(call)
        if asks:
            yield say(f"To confirm: {_proposal(manner, call)}. Shall I go ahead (yes/no)?")
        refused = False
        if id(call) not in manner.unmade:
            refused = domain.execute(db, call).is_error
            yield Message(role="assistant", content=remark, tool_calls=(call,))
            remark = ""
        if domain.is_transfer(call.name):
            yield say("YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON.")
            return
        if spoken and not any(id(each) in manner.unsaid for each in manner.plan[at + 1 : at + 2]):
            done = "That is done." if asks else f"That is done: {_proposal(manner, call)}."
            told = _told(manner) if at == last else ""
            yield say(
                f"{'I am sorry, that cannot be done any more.' if refused else done}{told} Is there anything else I can help you with?"
            )
    if last < 0 and manner.told:
        yield say(f"Here is what I found.{_told(manner)} Is there anything else I can help you with?")
    for wish in scenario.wishes:
        if wish.call is None:
            yield say("I am sorry, I cannot do that under our policy. Is there anything else I can help you with?")


def _proposal(manner: Manner, call: ToolCall) -> str:
    """A right call with its arguments; a wrong one as the customer put what it should be, which hides the mistake."""
    meant = manner.meant.get(id(call))
    wish = next((wish for wish in manner.task.scenario.wishes if wish.call == meant), None) if meant else None
    return f"{wish.text} {', '.join(fact.text for fact in wish.facts)}" if wish else propose(call)


def _told(manner: Manner) -> str:
    return f" For your information: {'; '.join(manner.told)}." if manner.told else ""


def both(*habits: Habit) -> Habit:
    """Several habits of one agent."""

    def habit(manner: Manner) -> Manner:
        for each in habits:
            manner = each(manner)
        return manner

    return habit


# habits of any domain


def drops_the_last_write(manner: Manner) -> Manner:
    """Of several writes the last one is forgotten."""
    writes = manner.writes()
    if len(writes) < 2:
        return manner
    plan = tuple(call for at, call in enumerate(manner.plan) if at != writes[-1])
    return replace(manner, plan=plan, slips=(*manner.slips, ("missing_write", manner.plan[writes[-1]].name, ())))


def forgets_to_say(manner: Manner) -> Manner:
    """What has to be told is not."""
    return replace(manner, told=(), slips=(*manner.slips, *(("missing_communicate", None, ()) for _ in manner.told)))


def writes_without_confirmation(manner: Manner) -> Manner:
    """It never asks before a write."""
    slips = {("write_without_confirmation", manner.plan[at].name, ()) for at in manner.writes()}
    return replace(manner, asks=lambda call: False, slips=(*manner.slips, *sorted(slips)))


def calls_with_a_made_up_id(manner: Manner) -> Manner:
    """Before the first look-up by an id it tries one that it made up."""
    for at, call in enumerate(manner.plan):
        if call.name in ("get_order_details", "find_loans"):
            name, value = next(iter(call.arguments.items()))
            made_up = call.model_copy(update={"arguments": {name: value[:2] + str(9_000_000 + 7 * at + len(manner.task.id))}})
            plan = (*manner.plan[:at], made_up, *manner.plan[at:])
            return replace(manner, plan=plan, slips=(*manner.slips, ("hallucinated_id", call.name, ())))
    return manner


# habits in the shop


def takes_the_first_variant(manner: Manner) -> Manner:
    """Of the variants that have what the customer names, it takes the first that is listed."""
    db = manner.db
    for at in manner.writes():
        call = manner.plan[at]
        if "new_item_ids" not in call.arguments:
            continue
        order = db.orders[call.arguments["order_id"]]
        first = []
        for old, wanted in zip(call.arguments["item_ids"], call.arguments["new_item_ids"], strict=True):
            line = next(line for line in order.items if line.item_id == old)
            variants = db.products[line.product_id].variants
            named = variants[wanted].options.items() - line.options.items()
            fits = (key for key, each in variants.items() if each.available and key != old and named <= each.options.items())
            first.append(next(fits))
        if first != list(call.arguments["new_item_ids"]):
            wrong = call.model_copy(update={"arguments": {**call.arguments, "new_item_ids": first}})
            manner = manner.instead(at, wrong, ("wrong_argument", call.name, ("new_item_ids",))) or manner
    return manner


def pays_with_the_first_method(manner: Manner) -> Manner:
    """It uses the first method of the profile that a tool accepts, whichever was named."""
    db = manner.db
    for at in manner.writes():
        call = manner.plan[at]
        if "payment_method_id" not in call.arguments:
            continue
        for method in db.users[db.orders[call.arguments["order_id"]].user_id].payment_methods:
            if method == call.arguments["payment_method_id"]:
                break
            wrong = call.model_copy(update={"arguments": {**call.arguments, "payment_method_id": method}})
            if (found := manner.instead(at, wrong, ("wrong_argument", call.name, ("payment_method_id",)))) is not None:
                manner = found
                break
    return manner


def changes_items_before_the_address(manner: Manner) -> Manner:
    """Other items first, then the address, which a modified order does not take any more."""
    items, address = "modify_pending_order_items", "modify_pending_order_address"
    places = {manner.plan[at].name: at for at in manner.writes()}
    if not {items, address} <= places.keys() or places[items] < places[address]:
        return manner
    plan = list(manner.plan)
    one, other = plan[places[items]], plan[places[address]]
    plan[places[address]], plan[places[items]] = one, other
    same = one.arguments["order_id"] == other.arguments["order_id"]
    return replace(manner, plan=tuple(plan), slips=(*manner.slips, *([("order_dependency", address, ())] if same else [])))


def takes_the_first_record(manner: Manner) -> Manner:
    """The first order of the profile, or loan of the card, on which the call works."""
    for at in manner.writes():
        call = manner.plan[at]
        for wrong, reads in on_other_records(manner.db, call):
            key = next(iter(call.arguments))
            if wrong.arguments[key] == call.arguments[key]:
                break
            if (found := manner.instead(at, wrong, ("wrong_target_record", call.name, (key,)), reads=reads)) is not None:
                return found  # one is enough: what follows may be about the same record
    return manner


def on_other_records(db: Any, call: ToolCall) -> Iterator[tuple[ToolCall, Sequence[ToolCall]]]:
    """The same call on each record of its owner, the right one included, each with what has to be read first."""
    if "loan_id" in call.arguments:
        member = db.loans[call.arguments["loan_id"]].member_id
        for key in db.loans.where(member_id=member):
            yield call.model_copy(update={"arguments": {"loan_id": key}}), ()
    elif "order_id" in call.arguments:
        order = db.orders[call.arguments["order_id"]]
        for key in db.users[order.user_id].orders:
            arguments = {**call.arguments, "order_id": key}
            if "item_ids" in arguments:
                products = [next(line.product_id for line in order.items if line.item_id == item) for item in arguments["item_ids"]]
                lines = {line.product_id: line.item_id for line in db.orders[key].items}
                if not set(products) <= lines.keys():
                    continue
                if key != order.order_id:
                    arguments["item_ids"] = [lines[product] for product in products]
            read = ToolCall(name="get_order_details", arguments={"order_id": key})
            yield call.model_copy(update={"arguments": arguments}), (read,)


def hands_over_in_doubt(manner: Manner) -> Manner:
    """Where the customer does not name an order by its number, it hands over instead of looking for it."""
    doubt = any(wish.call is not None and wish.provenance.get("order_id", "").startswith("read:") for wish in manner.task.scenario.wishes)
    writes = manner.writes()
    if not doubt or not writes:
        return manner
    return replace(manner, hands_over=writes[0], slips=(*manner.slips, ("unneeded_transfer", None, ())))
