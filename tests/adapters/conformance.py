"""Scripted episodes that come out the same through every adapter: same reward, same changes, same ending.

    for script in SCRIPTS:
        seat = source(script.domain).seat(task_id=script.name, seed=SEED)
        ... play script.turns ...
        assert (seat.reward, seat.episode.ending, seat.episode.db.changes()) == script.expected

A turn is an OpenAI assistant message, since each framework writes calls in its own way: `in_text` has it as a model without tool calls
would write it, `calls_of` as (id, name, arguments as the model's text). The domains are `conformance:retail` and `conformance:library`,
and the user is `conformance:customer`, so that they can be named in any framework's configuration; a task is called after its script.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sentinel_env import Criteria, Domain, Episode, Message, ModelError, ScriptedAgent, ScriptedUser, Task, ToolCall, load_domain
from sentinel_env.adapters.seat import Seat
from sentinel_env.adapters.source import Source
from sentinel_env.episode import TRANSFER, UserView

SEED = 7
"""Of every episode here."""
MAX_STEPS = 30
FAULT, LEAVES = "(the line breaks)", "(asks for a person)"
"""What the scenario's persona says where the customer is to be trouble."""


class Customer:
    """The scripted user; where the scenario says so, its model is out of order at the second reply, or it leaves for a person."""

    name = "customer"

    def reply(self, view: UserView) -> Message:
        spoken = sum(message.role == "user" for message in view.messages)
        if spoken and view.scenario.persona == FAULT:
            raise ModelError("the user's model is out of order", kind="server")
        if spoken and view.scenario.persona == LEAVES:
            return Message(role="user", content=f"Let me talk to a person. {TRANSFER}")
        return ScriptedUser().reply(view)


customer = Customer()


@dataclass(frozen=True)
class Script:
    """One episode."""

    name: str
    """And the id of its task."""
    domain: str
    """`conformance:retail` or `conformance:library`."""
    task: Task
    turns: tuple[Mapping[str, Any], ...]
    """The agent's, as OpenAI assistant messages."""
    reward: float | None
    ending: str | None
    changes: Mapping[str, Any] = field(repr=False)
    label: str | None = None
    """What failure analysis calls it."""

    @property
    def expected(self) -> tuple[float | None, str | None, Mapping[str, Any]]:
        """Reward, ending and changes."""
        return self.reward, self.ending, self.changes


def calls_of(turn: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(id, name, arguments as text) of a turn's calls."""
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in turn.get("tool_calls", ())]


def in_text(turn: Mapping[str, Any]) -> str:
    """A turn as a model without tool calls writes it."""
    calls = [f'{{"name": {json.dumps(name)}, "arguments": {arguments}}}' for _, name, arguments in calls_of(turn)]
    blocks = [f"<tool_call>\n{call}\n</tool_call>" for call in calls]
    return "\n".join([*([turn["content"]] if turn["content"] else []), *blocks])


# how the scripts are made: agents with plans, played in a plain episode


def with_ids(turn: Mapping[str, Any], at: int) -> dict[str, Any]:
    """A turn whose calls have identifiers that no other turn's have."""
    calls = [call | {"id": f"call_{at}_{number}"} for number, call in enumerate(turn.get("tool_calls", ()))]
    return dict(turn) | ({"tool_calls": calls} if calls else {})


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def called(name: str, arguments: str | Mapping[str, Any], text: str = "") -> dict[str, Any]:
    spelled = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "role": "assistant",
        "content": text,
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": name, "arguments": spelled}}],
    }


def played(domain: Domain, task: Task, agent: ScriptedAgent) -> list[dict[str, Any]]:
    """What an agent does, as turns."""
    episode = Episode(domain, task, max_steps=MAX_STEPS, seed=SEED)
    turns = []
    while episode.awaiting is not None:
        if episode.awaiting == "user":
            try:
                episode.hear(customer.reply(episode.user_view()))
            except ModelError:
                break
        else:
            message = agent.act(episode.agent_view())
            turns.append(message.to_openai())
            episode.act(message)
    return turns


def finished(name: str, domain: Domain, task: Task, turns: Sequence[Mapping[str, Any]], label: str | None) -> Script:
    """A script with what comes of it."""
    seat = Seat(domain, task, customer, seed=SEED, max_steps=MAX_STEPS)
    seat.open_now()
    needed = []
    for at, turn in enumerate(turns):
        if not seat.done:
            needed.append(with_ids(turn, at))
            seat.act_now(Message.from_openai(turn))
    assert seat.done, name
    episode = seat.episode
    return Script(name, f"conformance:{domain.name}", task, tuple(needed), seat.reward, episode.ending, episode.db.changes(), label)


GOODBYE = (said("That is done: your order goes to the new address."), said("Is there anything else?"))


def is_write(call: ToolCall) -> bool:
    return retail_base().tools_by_name[call.name].writes


def with_arguments(call: ToolCall, **arguments: Any) -> ToolCall:
    return ToolCall(name=call.name, arguments=call.arguments | arguments)


@cache
def retail_base() -> Domain:
    return load_domain("retail")


@cache
def library_base() -> Domain:
    return load_domain("library")


def writes_of(task: Task) -> list[ToolCall]:
    return [call for call in task.criteria.actions if is_write(call)]


def instead(*calls: ToolCall) -> Callable[[Domain, Task], list[ToolCall]]:
    """A plan: the reference's look-ups, then these."""
    return lambda _, task: [*(call for call in task.criteria.actions if not is_write(call)), *calls]


def named(task: Task, name: str, **scenario: Any) -> Task:
    """The task under a script's name, with no certificate, which would not be true of it."""
    return task.model_copy(update={"id": name, "certificate": None, "scenario": task.scenario.model_copy(update=scenario)})


def hasty(*calls: ToolCall) -> ScriptedAgent:
    """Makes other writes than it should, and asks nobody."""
    return ScriptedAgent(plan=instead(*calls), proposes=False)


def retail_scripts() -> list[Script]:
    base = retail_base()
    by_id = base.tasks_by_id
    found: list[Script] = []

    def add(
        name: str,
        task: Task,
        agent: ScriptedAgent | None = None,
        label: str | None = None,
        *,
        bad: Sequence[Mapping[str, Any]] = (),
        **scenario: Any,
    ) -> None:
        task = named(task, name, **scenario)
        world = base.with_tasks([task])
        turns = played(world, task, agent or ScriptedAgent())
        found.append(finished(name, world, task, [turns[0], *bad, *turns[1:]], label))

    cancel, address, exchange = by_id["train-029"], by_id["train-037"], by_id["train-009"]
    cancelling, addressing, exchanging = writes_of(cancel)[0], writes_of(address)[0], writes_of(exchange)[0]
    order = ToolCall(name="get_order_details", arguments={"order_id": cancelling.arguments["order_id"]})

    # passes
    add("passes-a-cancellation-and-tells-the-amount", cancel)
    add("passes-two-requests", by_id["train-007"])
    add("passes-an-exchange", exchange)
    add("passes-a-return", by_id["train-005"])

    # failures of every cause
    add("fails-wrong-argument", cancel, hasty(with_arguments(cancelling, reason="ordered by mistake")), "wrong_argument")
    add("fails-wrong-record", cancel, hasty(other_order(base, cancel)), "wrong_target_record")
    add("fails-wrong-tool", exchange, hasty(as_return(exchanging)), "wrong_tool")
    add("fails-missing-write", address, ScriptedAgent(plan=instead()), "missing_write")
    add("fails-extra-write", address, hasty(own_address(base, address), addressing), "extra_write")
    add("fails-to-tell-the-amount", cancel, ScriptedAgent(reports=False), "missing_communicate")
    add("fails-by-handing-over", address, ScriptedAgent(plan=lambda domain, task: [domain.handover]), "unneeded_transfer")
    found.append(in_wrong_order(base, address))
    add("fails-missing-action", *without_an_action(cancel, order))
    found.append(without_a_transfer(base, address))

    # cut off
    add("cut-by-max-steps", cancel, ScriptedAgent(plan=lambda *_: [order] * (MAX_STEPS + 5)), "unfinished")
    add("cut-by-max-errors", cancel, ScriptedAgent(plan=lambda *_: [with_arguments(order, order_id="#W0")] * 12), "unfinished")

    # actions that cannot be read or run, and then the right ones
    bad = [
        called("get_order_details", '{"order_id": '),
        called("get_order_details", "[1, 2]"),
        called("get_order_details", {}),
        called("get_order_details", {"order_id": ["#W1"], "size": float(2**70)}),
        called("delete_everything", {"really": True}),
        called("calculate", {"expression": "__import__('os').system('true')"}),
        called("find_user_id_by_email", {"email": "zo\u00eb\U0001f600\u202e@\u0000example.com"}),
    ]
    add("passes-after-malformed-actions", cancel, bad=bad)
    add("passes-with-text-beside-a-call", cancel, bad=[called(order.name, order.arguments, "Let me look. \u00e9\u4f60")])

    # the customer leaves, or its model fails
    add("the-customer-asks-for-a-person", cancel, None, "missing_write", persona=LEAVES)
    add("infrastructure-fails", cancel, persona=FAULT)
    return found


def other_order(domain: Domain, task: Task) -> ToolCall:
    """The cancellation of another pending order of the same customer."""
    (write,) = writes_of(task)
    orders = domain.base.orders
    meant = write.arguments["order_id"]
    customer_id = orders.get(meant).user_id
    pending = (key for key, each in orders.items() if each.user_id == customer_id and each.status == "pending" and key != meant)
    return with_arguments(write, order_id=next(pending))


def as_return(exchange: ToolCall) -> ToolCall:
    """The items sent back instead of exchanged."""
    arguments = {name: value for name, value in exchange.arguments.items() if name != "new_item_ids"}
    return ToolCall(name="return_delivered_order_items", arguments=arguments)


def own_address(domain: Domain, task: Task, **other: str) -> ToolCall:
    """The customer's own address changed where an order's was meant."""
    (write,) = writes_of(task)
    address = {name: value for name, value in write.arguments.items() if name != "order_id"}
    customer_id = domain.base.orders.get(write.arguments["order_id"]).user_id
    return ToolCall(name="modify_user_address", arguments={"user_id": customer_id, **address, **other})


def in_wrong_order(domain: Domain, task: Task) -> Script:
    """Two writes of the same fields, of which the last counts."""
    first, second = own_address(domain, task), own_address(domain, task, address1="1 Last Street")
    looked = [call for call in task.criteria.actions if not is_write(call)]
    task = named(task, "fails-order-of-two-writes")
    task = task.model_copy(update={"criteria": Criteria(actions=(*looked, first, second))})
    calls = [called(call.name, call.arguments) for call in (*looked, second, first)]
    return finished(task.id, domain.with_tasks([task]), task, [*calls, *GOODBYE], "order_dependency")


def without_an_action(task: Task, order: ToolCall) -> tuple[Task, ScriptedAgent, str]:
    """A task that wants a look-up, which the agent leaves out."""
    wanted = with_arguments(order, order_id=other_order(retail_base(), task).arguments["order_id"])
    actions = (*task.criteria.actions[:-1], wanted, task.criteria.actions[-1])
    criteria = Criteria(actions=actions, basis=("database", "actions"))
    agent = ScriptedAgent(plan=lambda _, task: [call for call in task.criteria.actions if call != wanted])
    return task.model_copy(update={"criteria": criteria}), agent, "missing_action"


def without_a_transfer(domain: Domain, task: Task) -> Script:
    """A task that must be handed over, and the agent says that it is done."""
    task = named(task, "fails-missing-transfer")
    task = task.model_copy(update={"criteria": Criteria(actions=(domain.handover,), basis=("database", "transfer"))})
    return finished(task.id, domain.with_tasks([task]), task, GOODBYE, "missing_transfer")


def library_scripts() -> list[Script]:
    base = library_base()
    (loan,) = base.split()
    turns = [
        said("May I have your card number, please?"),
        called("find_loans", {"member_id": "M7"}),
        said("I will renew loan L1. Shall I go ahead (yes/no)?"),
        called("renew_loan", {"loan_id": "L1"}),
        said("That is done: it is yours for two weeks."),
    ]
    task = named(loan, "passes-in-the-library")
    found = [finished(task.id, base.with_tasks([task]), task, turns, None)]
    two = {"role": "assistant", "content": "", "tool_calls": []}
    for at, loan_id in enumerate(("L1", "L2")):
        function = {"name": "renew_loan", "arguments": json.dumps({"loan_id": loan_id})}
        two["tool_calls"].append({"id": f"call_{at}", "type": "function", "function": function})
    task = named(loan, "fails-with-two-calls-in-one-turn")
    turns = [said("May I have your card number, please?"), two, said("That is done, for two weeks.")]
    found.append(finished(task.id, base.with_tasks([task]), task, turns, "extra_write"))
    changed = named(loan, "passes-on-a-changed-database")
    changed = changed.model_copy(update={"changes": {"loans": {"L1": {"title": "Emma", "member_id": "M7"}}}})
    found.append(finished(changed.id, base.with_tasks([changed]), changed, found[0].turns, None))
    return found


SCRIPTS: tuple[Script, ...] = (*retail_scripts(), *library_scripts())


@cache
def retail() -> Domain:
    """The retail domain with the scripts' tasks."""
    return retail_base().with_tasks([script.task for script in SCRIPTS if script.task.domain == "retail"])


@cache
def library() -> Domain:
    """The library with the scripts' tasks."""
    return library_base().with_tasks([script.task for script in SCRIPTS if script.task.domain == "library"])


@cache
def source(domain: str) -> Source:
    """The episodes of one of the two domains."""
    return Source.open(domain, user="conformance:customer", max_steps=MAX_STEPS)
