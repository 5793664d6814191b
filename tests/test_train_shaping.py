"""Each term says what it is meant to say of real episodes, and stays in [0, 1] whatever was recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_env import (
    Criteria,
    Domain,
    Episode,
    Message,
    Scenario,
    ScriptedAgent,
    ScriptedUser,
    Task,
    ToolCall,
    Trajectory,
    drive,
    general_pattern,
    load_domain,
    propose_tasks,
    record,
)
from sentinel_train.config import ShapingConfig
from sentinel_train.shaping import is_unreadable, shape, shaped, turns

ALL = ShapingConfig(action_checks=1, authentication=1, repeated_calls=1, format=1, length=1)
TERMS = {"action_checks", "authentication", "repeated_calls", "format", "length"}

FIND, OTHER = (ToolCall(name="find_loans", arguments={"member_id": member}) for member in ("M7", "M8"))
DUNE, EMMA = (ToolCall(name="renew_loan", arguments={"loan_id": loan}) for loan in ("L1", "L2"))
ABSENT = ToolCall(name="renew_loan", arguments={"loan_id": "L9"})


@pytest.fixture(scope="module")
def retail() -> Domain:
    return load_domain("retail", users=40, orders=80)


@pytest.fixture(scope="module")
def tasks(retail) -> tuple[Task, ...]:
    return tuple(proposal.draft for proposal in propose_tasks(retail, general_pattern(retail), n=20))


@pytest.fixture(scope="module")
def library() -> Domain:
    return load_domain("library")


def wanting(*calls: ToolCall) -> Task:
    """A task of the library with these calls as its reference."""
    return Task(id="wanting", domain="library", scenario=Scenario(goal="Help me."), criteria=Criteria(actions=calls))


def played(domain: Domain, task: Task, *said: ToolCall | str, problem: str | None = None) -> Trajectory:
    """An episode in which the agent calls and says these things, and then perhaps something that cannot be read."""
    episode = Episode(domain, task)
    messages = [Message(role="assistant", **({"content": each} if isinstance(each, str) else {"tool_calls": (each,)})) for each in said]
    for message in [*messages, *([Message(role="assistant", content="{", problem=problem)] if problem else [])]:
        if episode.awaiting == "user":
            episode.hear(Message(role="user", content="Go on."))
        episode.act(message)
    return record(episode)


def carried_out(domain: Domain, task: Task, plan: Iterable[ToolCall] | None = None) -> Trajectory:
    """What the scripted agent and the scripted user make of a plan; of the reference without one."""
    agent = ScriptedAgent([task]) if plan is None else ScriptedAgent([task], plan=lambda *_: tuple(plan))
    return record(drive(Episode(domain, task), agent, ScriptedUser()))


def address_change(tasks: Iterable[Task]) -> tuple[Task, ToolCall]:
    """A task that wants but one write, which can be made again and again, and the write."""
    task, call = next((task, call) for task in tasks for call in task.criteria.actions if call.name == "modify_user_address")
    return task.model_copy(update={"criteria": task.criteria.model_copy(update={"actions": (call,)})}), call


def value(domain: Domain, trajectory: Trajectory, term: str, *, max_steps: int = 30) -> float:
    (found,) = shape(domain, trajectory, ShapingConfig(**{term: 1.0}), max_steps=max_steps).items()
    assert found[0] == term
    return found[1]


# as a whole


def test_a_reference_that_is_carried_out_has_every_term_but_length_in_full(retail, tasks):
    for task in tasks:
        trajectory = carried_out(retail, task)
        values = shape(retail, trajectory, ALL, max_steps=30)
        assert 0 < values.pop("length") < 1
        assert values == dict.fromkeys(TERMS - {"length"}, 1.0), task.id


def test_giving_up_at_once_is_best_by_all_terms_but_the_writes_as_the_module_says(retail, tasks):
    task = next(each for each in tasks if each.scenario.wishes[0].call is not None)
    least, most = played(retail, task, "Goodbye."), carried_out(retail, task)
    idle, done = (shape(retail, each, ALL, max_steps=30) for each in (least, most))
    assert idle.pop("action_checks") < done.pop("action_checks")
    assert all(idle[term] >= done[term] for term in idle)


def test_only_terms_with_a_weight_have_a_value(library):
    trajectory = played(library, wanting(DUNE), DUNE)
    assert set(shape(library, trajectory, ShapingConfig(format=0.1, length=2), max_steps=8)) == {"format", "length"}
    assert set(shape(library, trajectory, ALL, max_steps=8)) == TERMS


def test_terms_are_averaged_by_their_weights():
    config = ShapingConfig(action_checks=3, length=1)
    assert shaped({"action_checks": 1.0, "length": 0.0}, config) == 0.75
    assert shaped({"action_checks": 0.0, "length": 1.0}, config) == 0.25
    assert shaped({"length": 0.25}, ShapingConfig(length=7)) == 0.25


def test_what_infrastructure_ended_has_no_shaping(library):
    trajectory = played(library, wanting(DUNE), DUNE).model_copy(update={"error": "ModelError: no answer in 60 s"})
    with pytest.raises(ValueError, match=r"'wanting/0' was ended by infrastructure \(ModelError: no answer in 60 s\).*leave it out"):
        shape(library, trajectory, ALL, max_steps=8)


def test_shaping_leaves_the_cached_reference_as_it_is(library):
    task = wanting(DUNE, EMMA)
    trajectory = played(library, task, DUNE, EMMA)
    before = library.reference_changes(task)
    shape(library, trajectory, ALL, max_steps=8)
    assert library.reference_changes(task) is before


# action checks


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ((), 0.0),
        ((FIND,), 0.0),
        ((DUNE,), 0.5),
        ((EMMA, FIND, DUNE), 1.0),
        ((DUNE, DUNE), 0.5),  # the second is refused, and would be no other write
        ((ABSENT, EMMA), 0.5),
    ],
)
def test_the_share_of_the_references_writes_that_were_made(library, made, expected):
    assert value(library, played(library, wanting(FIND, DUNE, EMMA), *made), "action_checks") == expected


def test_a_write_that_is_wanted_twice_has_to_be_made_twice(retail, tasks):
    task, call = address_change(tasks)
    twice = task.model_copy(update={"criteria": task.criteria.model_copy(update={"actions": (call, call)})})
    once, both = played(retail, twice, call), played(retail, twice, call, call)
    assert not any(message.is_error for message in both.messages)
    assert value(retail, once, "action_checks") == 0.5
    assert value(retail, both, "action_checks") == 1.0


def test_another_argument_is_another_write(retail, tasks):
    task, call = address_change(tasks)
    wrong = call.model_copy(update={"arguments": call.arguments | {"city": "Elsewhere"}})
    trajectory = played(retail, task, wrong)
    assert trajectory.changes
    assert value(retail, trajectory, "action_checks") == 0.0
    assert value(retail, played(retail, task, call.model_copy(update={"id": "call_7"})), "action_checks") == 1.0


def test_a_write_too_much_costs_nothing_as_the_module_says(library):
    assert value(library, played(library, wanting(DUNE), DUNE, EMMA), "action_checks") == 1.0


def test_where_nothing_is_to_be_written_nothing_must_be(library):
    task = wanting(FIND)
    assert value(library, played(library, task), "action_checks") == 1.0
    assert value(library, played(library, task, ABSENT), "action_checks") == 1.0
    assert value(library, played(library, task, DUNE), "action_checks") == 0.0


def test_a_write_that_tau2_benchs_dialect_skips_is_wanted_of_nobody(library):
    lenient = replace(library, dialect="tau2")
    assert value(lenient, played(lenient, wanting(ABSENT, DUNE), DUNE), "action_checks") == 1.0
    assert value(lenient, played(lenient, wanting(ABSENT), FIND), "action_checks") == 1.0
    assert value(lenient, played(lenient, wanting(ABSENT), DUNE), "action_checks") == 0.0


# authentication


def test_records_before_their_customer_is_identified_cost_the_authentication(retail, tasks):
    task = tasks[0]
    actions = task.criteria.actions
    identified = next(at for at, call in enumerate(actions) if call.name in retail.access.identified_by)
    rest = [call for at, call in enumerate(actions) if at != identified]
    assert value(retail, carried_out(retail, task), "authentication") == 1.0
    assert value(retail, carried_out(retail, task, rest), "authentication") == 0.0
    assert value(retail, carried_out(retail, task, [*rest, actions[identified]]), "authentication") == 0.0


def test_another_customers_record_costs_the_authentication(retail, tasks):
    task = tasks[0]
    actions = task.criteria.actions
    caller = next(call.arguments["user_id"] for call in actions if "user_id" in call.arguments)
    other = next(key for key in retail.base.users if key != caller)
    curious = ToolCall(name="get_user_details", arguments={"user_id": other})
    assert value(retail, carried_out(retail, task, [*actions[:1], curious]), "authentication") == 0.0


def test_a_refused_or_impersonal_look_up_is_no_access(retail, tasks):
    nobody = ToolCall(name="get_user_details", arguments={"user_id": "nobody_1"})
    products = ToolCall(name="list_all_product_types", arguments={})
    assert value(retail, played(retail, tasks[0], nobody, products), "authentication") == 1.0


def test_where_nobody_is_to_be_identified_nothing_is_too_early(library):
    assert value(library, played(library, wanting(DUNE), EMMA, OTHER), "authentication") == 1.0


# repeated calls


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ((), 1.0),
        ((FIND, OTHER), 1.0),
        ((FIND, FIND, OTHER, FIND), 0.5),
        ((FIND, DUNE, FIND), 1.0),  # something was written in between
        ((FIND, DUNE, FIND, FIND), 0.75),
        ((DUNE, DUNE, DUNE), pytest.approx(1 / 3)),  # made, and refused, and refused again, with nothing else written
        ((ABSENT, DUNE, ABSENT, EMMA), 0.75),  # what was refused before is refused again
    ],
)
def test_the_share_of_calls_that_say_something_new(library, made, expected):
    assert value(library, played(library, wanting(DUNE), *made), "repeated_calls") == expected


# format


def test_the_share_of_turns_that_could_be_read(library):
    task = wanting(DUNE)
    assert value(library, played(library, task), "format") == 1.0
    assert value(library, played(library, task, FIND, DUNE), "format") == 1.0
    assert value(library, played(library, task, FIND, DUNE, "Done.", problem="no JSON"), "format") == 0.75
    assert value(library, played(library, task, problem="no JSON"), "format") == 0.0


def test_an_empty_turn_cannot_be_read_either(library):
    trajectory = played(library, wanting(DUNE), FIND, " ")
    assert trajectory.messages[-1].is_error, "the episode takes it for an error too"
    assert value(library, trajectory, "format") == 0.5


def test_a_refused_call_could_be_read(library):
    assert value(library, played(library, wanting(DUNE), ToolCall(name="nothing_of_the_sort", arguments={"x": 1})), "format") == 1.0


# length


def test_length_is_the_room_that_was_left(library):
    trajectory = played(library, wanting(DUNE), FIND, DUNE, "Done.")
    assert value(library, trajectory, "length", max_steps=12) == 0.75
    assert value(library, trajectory, "length", max_steps=3) == 0.0
    assert value(library, trajectory, "length", max_steps=2) == 0.0
    assert value(library, played(library, wanting(DUNE)), "length", max_steps=12) == 1.0


def test_turns_are_the_steps_that_the_episode_counted(retail, library, tasks):
    for domain, task in [(retail, tasks[0]), (library, library.split()[0])]:
        episode = drive(Episode(domain, task), ScriptedAgent(tasks), ScriptedUser())
        assert len(turns(domain, record(episode))) == episode.steps


def test_saying_the_greeting_again_is_a_turn(library):
    assert len(turns(library, played(library, wanting(DUNE), library.greeting, FIND))) == 2


# whatever was recorded

TEXTS = st.text(st.characters(codec="ascii"), max_size=12)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
NAMES = st.sampled_from(["find_loans", "renew_loan", "get_user_details", "cancel_pending_order", "find_user_id_by_email", "nonsense"])
CALLS = st.sampled_from([FIND, DUNE, EMMA]) | st.builds(
    ToolCall,
    name=NAMES,
    arguments=st.dictionaries(st.sampled_from(["member_id", "loan_id", "order_id", "user_id"]), VALUES | st.just("L1"), max_size=2),
)
TURNS = st.builds(
    Message, role=st.just("assistant"), content=TEXTS, tool_calls=st.lists(CALLS, max_size=3).map(tuple), problem=st.none() | TEXTS
)
RECORDED = st.lists(
    TURNS
    | st.builds(Message, role=st.just("user"), content=TEXTS)
    | st.builds(Message, role=st.just("tool"), content=TEXTS, is_error=st.booleans()),
    max_size=14,
)
WANTED = st.lists(st.sampled_from([FIND, DUNE, EMMA]), max_size=3)
WEIGHTS = st.floats(0.01, 100)


@given(RECORDED, WANTED, st.integers(1, 20))
def test_every_value_is_a_share_whatever_was_recorded(messages, wanted, max_steps):
    trajectory = Trajectory(id="recorded", task=wanting(*wanted), messages=tuple(messages))
    values = shape(load_domain("library"), trajectory, ALL, max_steps=max_steps)
    assert set(values) == TERMS
    assert all(0 <= each <= 1 for each in values.values()), values


@settings(max_examples=60)
@given(st.data())
def test_every_value_is_a_share_whatever_a_model_does(retail, tasks, data):
    episode = Episode(retail, data.draw(st.sampled_from(tasks)), max_steps=8, max_errors=4)
    calls = st.sampled_from(episode.task.criteria.actions) | CALLS
    turn = TURNS | st.builds(Message, role=st.just("assistant"), tool_calls=st.lists(calls, min_size=1, max_size=2).map(tuple))
    while episode.awaiting is not None:
        if episode.awaiting == "user":
            episode.hear(Message(role="user", content=data.draw(st.sampled_from(["Go on.", "No.", "###STOP###"]))))
        else:
            episode.act(data.draw(turn))
    trajectory = record(episode)
    values = shape(retail, trajectory, ALL, max_steps=8)
    assert all(0 <= each <= 1 for each in values.values()), values
    assert len(turns(retail, trajectory)) == episode.steps
    assert (values["format"] == 1) == (not any(map(is_unreadable, turns(retail, trajectory))))


@given(st.dictionaries(st.sampled_from(sorted(TERMS)), st.floats(0, 1), min_size=1), st.lists(WEIGHTS, min_size=5, max_size=5))
def test_the_average_lies_between_the_values(values, weights):
    config = ShapingConfig(**dict(zip(sorted(TERMS), weights, strict=True)))
    assert min(values.values()) - 1e-9 <= shaped(values, config) <= max(values.values()) + 1e-9
