"""Faults to plant in good tasks, one function a kind: what an audit must find, and call by its name.

Each takes a domain's task and a generator and returns the tasks to audit, the faulty one last; None where the task gives no opportunity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from sentinel_env import Criteria, Domain, Scenario, Task, ToolCall
from sentinel_env.tasks import Tau2Criteria

Plant = Callable[[Domain, Task, Random], "list[Task] | None"]
PLANTS: list[tuple[str, str, Plant]] = []
"""Kind, severity and how it is planted, for the shop's tasks."""

HAND_OVER = ToolCall(name="transfer_to_human_agents", arguments={"summary": "The customer wants a person."})


def plants(kind: str, severity: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        PLANTS.append((kind, severity, plant))
        return plant

    return register


def with_criteria(task: Task, **fields: object) -> Task:
    return task.model_copy(update={"criteria": Criteria(**{**dict(task.criteria), **fields})})


def with_actions(task: Task, *actions: ToolCall) -> Task:
    return with_criteria(task, actions=actions)


def with_scenario(task: Task, **fields: object) -> Task:
    return task.model_copy(update={"scenario": Scenario(**{**dict(task.scenario), **fields})})


def in_prose(task: Task, without: tuple[str, ...] = (), hide: str = "(?!)") -> Task:
    """The same task in words only; `without` names slots that are left out, `hide` sentences of the requests."""
    told = []
    for wish in task.scenario.wishes:
        sentences = [sentence for sentence in re.split(r"(?<=[.?!]) ", wish.text) if not re.search(hide, sentence, re.IGNORECASE)]
        told += [*sentences, *(f"The {fact.slot}: {fact.text}." for fact in wish.facts if fact.slot not in without)]
    scenario = Scenario(goal=" ".join(told), known=task.scenario.known, unknown=task.scenario.unknown)
    return task.model_copy(update={"scenario": scenario})


def writes_of(domain: Domain, task: Task) -> list[int]:
    return [at for at, call in enumerate(task.criteria.actions) if domain.tools_by_name[call.name].writes]


def changed(task: Task, at: int, **arguments: object) -> Task:
    """With other arguments in one action; those of None are left out."""
    call = task.criteria.actions[at]
    kept = {name: value for name, value in {**call.arguments, **arguments}.items() if value is not None}
    return with_actions(
        task, *(call.model_copy(update={"arguments": kept}) if other == at else each for other, each in enumerate(task.criteria.actions))
    )


def reads_of(domain: Domain, task: Task) -> list[ToolCall]:
    return [call for call in task.criteria.actions if not domain.tools_by_name[call.name].writes and not domain.is_transfer(call.name)]


def customer_of(domain: Domain, task: Task) -> str | None:
    found = {owner for call in task.criteria.actions if (owner := domain.access.owner(domain.base, call))}
    return min(found) if found else None


def strangers_order(domain: Domain, task: Task, random: Random, status: str = "pending") -> str:
    own = customer_of(domain, task)
    return random.choice([key for key, order in domain.base.orders.items() if order.status == status and order.user_id != own])


def address_of(domain: Domain, customer: str) -> dict[str, str]:
    return domain.base.users[customer].address.model_dump()


def as_tau2(task: Task, basis: tuple[str, ...], **fields: object) -> Task:
    tau2 = Tau2Criteria(reward_basis=basis, **{name: fields.pop(name) for name in ("nl_assertions", "compare_arguments") if name in fields})
    return with_criteria(in_prose(task), basis=("tau2",), tau2=tau2, **fields)


# references


@plants("unknown_tool", "broken")
def misspelt_tool(domain, task, random):
    at = random.randrange(len(task.criteria.actions))
    actions = list(task.criteria.actions)
    actions[at] = actions[at].model_copy(update={"name": f"{actions[at].name}s"})
    return [with_actions(task, *actions)]


@plants("bad_arguments", "broken")
def argument_left_out(domain, task, random):
    at = random.choice(writes_of(domain, task) or [0])
    return [changed(task, at, **{random.choice(list(task.criteria.actions[at].arguments)): None})]


@plants("bad_arguments", "broken")
def argument_of_another_type(domain, task, random):
    at = random.choice(writes_of(domain, task) or [0])
    return [changed(task, at, **{random.choice(list(task.criteria.actions[at].arguments)): 17})]


@plants("refused_write", "broken")
def order_that_does_not_exist(domain, task, random):
    places = [at for at in writes_of(domain, task) if "order_id" in task.criteria.actions[at].arguments]
    return [changed(task, random.choice(places), order_id=f"#W{random.randrange(100):07d}")] if places else None


@plants("refused_write", "broken")
def the_same_write_twice(domain, task, random):
    places = [at for at in writes_of(domain, task) if re.search("cancel|return|exchange", task.criteria.actions[at].name)]
    return [with_actions(task, *task.criteria.actions, task.criteria.actions[places[0]])] if places else None


@plants("refused_read", "broken")
def product_that_does_not_exist(domain, task, random):
    read = ToolCall(name="get_product_details", arguments={"product_id": f"{random.randrange(10**6):010d}"})
    return [with_actions(task, read, *task.criteria.actions)]


@plants("no_effect", "suspect")
def change_to_what_is_there(domain, task, random):
    customer = customer_of(domain, task)
    if customer is None:
        return None
    write = ToolCall(name="modify_user_address", arguments={"user_id": customer, **address_of(domain, customer)})
    return [with_actions(in_prose(task), *reads_of(domain, task), write)]


@plants("needless_write", "suspect")
def write_that_changes_nothing(domain, task, random):
    customer, places = customer_of(domain, task), writes_of(domain, task)
    if customer is None or not places or any(task.criteria.actions[at].name == "modify_user_address" for at in places):
        return None
    write = ToolCall(name="modify_user_address", arguments={"user_id": customer, **address_of(domain, customer)})
    return [with_actions(task, *task.criteria.actions, write)]


@plants("needless_write", "suspect")
def write_that_is_overridden(domain, task, random):
    places = [at for at in writes_of(domain, task) if "address1" in task.criteria.actions[at].arguments]
    if not places:
        return None
    first = task.criteria.actions[places[0]]
    elsewhere = first.model_copy(update={"arguments": {**first.arguments, "address1": f"{random.randrange(100)} Harbour Road"}})
    return [with_actions(task, *task.criteria.actions[: places[0]], elsewhere, *task.criteria.actions[places[0] :])]


# rewards


@plants("pays_for_nothing", "broken")
def nothing_is_graded(domain, task, random):
    return [with_criteria(task, basis=())]


@plants("pays_for_nothing", "broken")
def reference_without_its_writes(domain, task, random):
    return [with_criteria(in_prose(task), actions=tuple(reads_of(domain, task)), communicate=(), basis=("database", "communicate"))]


@plants("pays_for_transfer", "broken")
def only_the_hand_over_is_graded(domain, task, random):
    return [with_criteria(task, actions=(*task.criteria.actions, HAND_OVER), basis=("transfer",))] if writes_of(domain, task) else None


@plants("pays_for_reading", "suspect")
def only_reads_are_graded(domain, task, random):
    return [with_criteria(in_prose(task), actions=tuple(reads_of(domain, task)), communicate=(), basis=("actions",))]


@plants("pays_for_words", "broken")
def only_words_are_graded(domain, task, random):
    return [with_criteria(task, communicate=("42.50",), basis=("communicate",))] if writes_of(domain, task) else None


@plants("pays_for_empty_calls", "broken")
def arguments_are_not_graded(domain, task, random):
    actions = tuple(task.criteria.actions[at] for at in writes_of(domain, task))
    return [as_tau2(task, ("ACTION",), actions=actions)] if actions else None


@plants("pays_for_silence", "suspect")
def words_are_not_graded(domain, task, random):
    return [with_criteria(task, communicate=("42.50",), basis=("database",))] if writes_of(domain, task) else None


@plants("transfer_not_graded", "suspect")
def hand_over_is_not_graded(domain, task, random):
    basis = ("database", "communicate")
    if not writes_of(domain, task) or any(domain.is_transfer(call.name) for call in task.criteria.actions):
        return None
    return [with_criteria(task, actions=(*task.criteria.actions, HAND_OVER), basis=basis)]


# criteria


@plants("never_matches", "broken")
def comma_in_what_must_be_told(domain, task, random):
    return [as_tau2(task, ("DB", "COMMUNICATE"), communicate=(f"{random.randrange(1, 9)},{random.randrange(100, 999)}.50",))]


@plants("reference_fails", "broken")
def what_must_be_told_cannot_be(domain, task, random):
    return comma_in_what_must_be_told(domain, task, random)


@plants("matches_too_much", "suspect")
def part_of_a_longer_number(domain, task, random):
    orders = [call.arguments["order_id"] for call in task.criteria.actions if "order_id" in call.arguments]
    return [as_tau2(task, ("DB", "COMMUNICATE"), communicate=(str(int(orders[0][2:5])),))] if orders else None


@plants("compares_nothing", "suspect")
def name_only(domain, task, random):
    places = writes_of(domain, task)
    return [as_tau2(task, ("DB", "ACTION"), compare_arguments={places[0]: ()})] if places else None


@plants("compares_nothing", "suspect")
def compares_an_argument_that_is_not_there(domain, task, random):
    places = writes_of(domain, task)
    return [as_tau2(task, ("DB", "ACTION"), compare_arguments={places[0]: ("colour",)})] if places else None


@plants("assertion_not_graded", "suspect")
def statement_that_nobody_reads(domain, task, random):
    return [as_tau2(task, ("DB",), nl_assertions=("The agent is polite.",))]


@plants("needs_judge", "note")
def statement_for_a_judge(domain, task, random):
    return [as_tau2(task, ("DB", "NL_ASSERTION"), nl_assertions=("The agent is polite.",))]


@plants("ungradable", "broken")
def basis_that_does_not_exist(domain, task, random):
    return [as_tau2(task, ("DB", "VIBES"))]


# knowledge


@plants("unreachable_argument", "suspect")
def order_of_a_stranger(domain, task, random):
    write = ToolCall(
        name="cancel_pending_order", arguments={"order_id": strangers_order(domain, task, random), "reason": "no longer needed"}
    )
    return [with_actions(in_prose(task), *reads_of(domain, task), write)]


@plants("unreachable_argument", "suspect")
def address_that_nobody_tells(domain, task, random):
    places = [at for at in writes_of(domain, task) if "address1" in task.criteria.actions[at].arguments]
    return [changed(in_prose(task), places[0], address1=f"{random.randrange(1000, 9999)} Zanzibar Esplanade")] if places else None


@plants("cannot_identify", "suspect")
def user_without_a_name(domain, task, random):
    return [with_scenario(task, known={}, facts=())] if customer_of(domain, task) else None


@plants("cannot_identify", "suspect")
def user_who_is_somebody_else(domain, task, random):
    own = customer_of(domain, task)
    other = domain.base.users[random.choice([key for key in domain.base.users if key != own])]
    return [with_scenario(task, known={"email": other.email}, facts=())] if own else None


@plants("several_customers", "broken")
def record_of_a_second_customer(domain, task, random):
    if not writes_of(domain, task):
        return None
    arguments = {"order_id": strangers_order(domain, task, random), "reason": "no longer needed"}
    return [with_actions(task, *task.criteria.actions, ToolCall(name="cancel_pending_order", arguments=arguments))]


# words


@plants("ambiguous_description", "suspect")
def payment_left_open(domain, task, random):
    for at in writes_of(domain, task):
        call = task.criteria.actions[at]
        if call.name not in ("exchange_delivered_order_items", "modify_pending_order_items"):
            continue
        methods = domain.base.users[domain.base.orders[call.arguments["order_id"]].user_id].payment_methods
        if any(method.source != "gift_card" for key, method in methods.items() if key != call.arguments["payment_method_id"]):
            return [in_prose(task, without=("payment",), hide="card|paypal|pay |refund|visa|original")]
    return None


@plants("ambiguous_description", "suspect")
def reason_left_open(domain, task, random):
    if not any(call.name == "cancel_pending_order" for call in task.criteria.actions):
        return None
    return [in_prose(task, without=("reason",), hide="need|mistake|because|since")]


@plants("ambiguous_description", "suspect")
def variant_left_open(domain, task, random):
    places = [at for at in writes_of(domain, task) if "new_item_ids" in task.criteria.actions[at].arguments]
    if len(writes_of(domain, task)) != 1 or not places:
        return None
    wish = task.scenario.wishes[-1]
    items = " and ".join(fact.text for fact in wish.facts if fact.slot == "item")
    orders = " ".join(fact.text for fact in wish.facts if fact.slot in ("order", "payment"))
    return [with_scenario(task, goal=f"Please replace {items}. {orders}", wishes=(), facts=(), reveal="together")]


@plants("wrong_description", "broken")
def words_for_another_order(domain, task, random):
    wishes, done = [], False
    for wish in task.scenario.wishes:
        facts = []
        for fact in wish.facts:
            if fact.slot == "order" and not done:
                fact, done = fact.model_copy(update={"text": strangers_order(domain, task, random)}), True
            facts.append(fact)
        wishes.append(wish.model_copy(update={"facts": tuple(facts)}))
    return [with_scenario(task, wishes=tuple(wishes))] if done else None


def other_methods(domain: Domain, task: Task, at: int) -> list[str]:
    """The kinds of the customer's other payment methods with which a write works too, none of them the kind that it takes."""
    call, found = task.criteria.actions[at], []
    user = domain.base.users[domain.base.orders[call.arguments["order_id"]].user_id]
    own = user.payment_methods[call.arguments["payment_method_id"]].source
    for key, method in user.payment_methods.items():
        db = domain.start(task)
        for earlier in task.criteria.actions[:at]:
            domain.execute(db, earlier)
        arguments = {**call.arguments, "payment_method_id": key}
        if method.source != own and not domain.execute(db, call.model_copy(update={"arguments": arguments})).is_error:
            found.append(method.source.replace("_", " "))
    return found


@plants("wrong_description", "suspect")
def words_for_another_payment_method(domain, task, random):
    for at in writes_of(domain, task):
        if "payment_method_id" in task.criteria.actions[at].arguments and len(writes_of(domain, task)) == 1:
            others = other_methods(domain, task, at)
            if others:
                bare = in_prose(task, without=("payment",), hide="card|paypal|pay |refund|visa|original|except|all|other|first|every")
                return [with_scenario(bare, goal=f"{bare.scenario.goal} Please use my {random.choice(others)}.")]
    return None


@plants("wrong_description", "suspect")
def reason_for_which_another_constant_stands(domain, task, random):
    places = [at for at in writes_of(domain, task) if task.criteria.actions[at].name == "cancel_pending_order"]
    if len(places) != 1 or task.criteria.actions[places[0]].arguments["reason"] != "no longer needed":
        return None
    bare = in_prose(task, without=("reason",), hide="need|mistake|because|since")
    return [with_scenario(bare, goal=f"{bare.scenario.goal} I made the mistake on Monday.")]


@plants("unasked_write", "suspect")
def write_that_no_wish_asks_for(domain, task, random):
    customer = customer_of(domain, task)
    if customer is None:
        return None
    elsewhere = {**address_of(domain, customer), "address1": f"{random.randrange(1000)} Harbour Road"}
    return [with_actions(task, *task.criteria.actions, ToolCall(name="modify_user_address", arguments={"user_id": customer, **elsewhere}))]


@plants("unmet_wish", "suspect")
def wish_that_the_reference_forgets(domain, task, random):
    places = writes_of(domain, task)
    left_out = random.choice(places) if len(places) > 1 else -1
    return [with_actions(task, *(call for at, call in enumerate(task.criteria.actions) if at != left_out))] if left_out >= 0 else None


@plants("round_trip", "broken")
def wish_for_something_else(domain, task, random):
    for at, wish in enumerate(task.scenario.wishes):
        if wish.call is not None and "reason" in wish.call.arguments:
            other = {"no longer needed": "ordered by mistake"}.get(wish.call.arguments["reason"], "no longer needed")
            call = wish.call.model_copy(update={"arguments": {**wish.call.arguments, "reason": other}})
            facts = tuple(fact.model_copy(update={"value": other, "text": other}) if fact.slot == "reason" else fact for fact in wish.facts)
            wishes = list(task.scenario.wishes)
            wishes[at] = wish.model_copy(update={"call": call, "facts": facts, "text": "I want to cancel the order."})
            return [with_scenario(task, wishes=tuple(wishes))]
    return None


@plants("no_goal", "broken")
def nothing_to_ask_for(domain, task, random):
    return [with_scenario(task, goal=" ", wishes=())]


# the start, and tasks beside each other


@plants("bad_start", "broken")
def changes_of_a_table_that_does_not_exist(domain, task, random):
    return [task.model_copy(update={"changes": {"parcels": {"P1": {"status": "lost"}}}})]


@plants("same_id", "broken")
def one_id_for_two_tasks(domain, task, random):
    return [task, with_criteria(in_prose(task), communicate=("42.50",))]


@plants("same_task", "suspect")
def the_task_again(domain, task, random):
    return [task, task.model_copy(update={"id": f"{task.id}-again"})]


@plants("contradicts", "broken")
def the_same_words_for_another_target(domain, task, random):
    customer = customer_of(domain, task)
    if customer is None:
        return None
    elsewhere = {**address_of(domain, customer), "address1": f"{random.randrange(1000)} Harbour Road"}
    write = ToolCall(name="modify_user_address", arguments={"user_id": customer, **elsewhere})
    return [task, with_actions(task, *task.criteria.actions, write).model_copy(update={"id": f"{task.id}-other"})]


@plants("same_target", "note")
def the_target_in_other_words(domain, task, random):
    return [task, in_prose(task).model_copy(update={"id": f"{task.id}-reworded"})] if writes_of(domain, task) else None


@plants("shared_records", "suspect")
def the_records_in_another_split(domain, task, random):
    other = with_scenario(task, goal="Something else altogether.", wishes=())
    return [task, other.model_copy(update={"id": f"{task.id}-leak", "split": "held out"})] if customer_of(domain, task) else None


@plants("similar_text", "suspect")
def nearly_the_same_words_in_another_split(domain, task, random):
    longer = f"{task.scenario.goal} I would be glad if you could do all of this for me today, before I leave for my holiday."
    first = with_scenario(task, goal=longer)
    return [first, with_scenario(task, goal=f"Hello! {longer}").model_copy(update={"id": f"{task.id}-like", "split": "held out"})]
