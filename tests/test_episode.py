"""Episode, drivers, trajectories and evaluation: who may speak when, what ends it, and what it is worth."""

import asyncio
import dataclasses
import json

import pytest

from sentinel_env import (
    Criteria,
    Database,
    Domain,
    DomainError,
    Episode,
    EpisodeError,
    Message,
    Record,
    Scenario,
    Table,
    Task,
    TaskError,
    ToolCall,
    ToolError,
    TrajectoryError,
    adrive,
    drive,
    load_domain,
    parse_action,
    tool,
)
from sentinel_env.agents import ScriptedAgent
from sentinel_env.evaluation import evaluate, is_said
from sentinel_env.tasks import Tau2Criteria
from sentinel_env.trajectory import Trajectory, dump_line, read_trajectories, record, replay, save_trajectories
from sentinel_env.users import ScriptedUser


class Account(Record):
    owner: str
    balance: float


class Bank(Database):
    accounts: Table[Account]


@tool
def get_balance(db: Bank, account: str) -> float:
    """Read a balance.

    Args:
        account: Which account.
    """
    if account not in db.accounts:
        raise ToolError(f"no account {account!r}")
    return db.accounts[account].balance


@tool(writes=True)
def pay_in(db: Bank, account: str, amount: float) -> Account:
    """Put money into an account.

    Args:
        account: Which account.
        amount: How much.
    """
    if amount <= 0:
        raise ToolError("the amount must be positive")
    return db.accounts.update(account, balance=db.accounts[account].balance + amount)


@tool
def crash(db: Bank) -> str:
    """Break."""
    raise KeyError("x")


BANK = Domain(
    name="bank",
    policy="Be careful.",
    tools=(get_balance, pay_in, crash),
    database=lambda: Bank(accounts={"a": Account(owner="Ann", balance=10), "b": Account(owner="Bo", balance=0)}),
)
PAY = ToolCall(name="pay_in", arguments={"account": "a", "amount": 5.0})
LOOK = ToolCall(name="get_balance", arguments={"account": "a"})


def task(**criteria):
    criteria = {"actions": (PAY,), "communicate": ("15",), **criteria}
    return Task(id="t", domain="bank", scenario=Scenario(goal="Pay in 5 euros."), criteria=Criteria(**criteria))


def say(text):
    return Message(role="assistant", content=text)


def calls(*made):
    return Message(role="assistant", tool_calls=made)


def user(text):
    return Message(role="user", content=text)


def played(*messages, of=None, domain=BANK, **limits):
    """An episode in which both sides said these messages."""
    episode = Episode(domain, of or task(), **limits)
    for message in (user("Hi, pay in 5."), *messages):
        episode.act(message) if message.role == "assistant" else episode.hear(message)
    return episode


GOOD = (calls(PAY), say("You now have $15.00."), user("Thanks ###STOP###"))


# turns


def test_the_user_opens_and_the_agent_answers():
    episode = Episode(BANK, task())
    assert (episode.awaiting, [message.content for message in episode.messages]) == ("user", ["Hi! How can I help you today?"])
    episode.hear(user("Hi"))
    assert episode.awaiting == "agent"
    assert episode.act(say("Yes?")) == []
    assert episode.awaiting == "user"


def test_calls_are_answered_at_once_and_the_agent_goes_on():
    episode = played()
    answers = episode.act(calls(LOOK, PAY, LOOK))
    assert [answer.content for answer in answers] == ["10.0", '{"owner": "Ann", "balance": 15.0}', "15.0"]
    assert [answer.name for answer in answers] == ["get_balance", "pay_in", "get_balance"]
    assert episode.awaiting == "agent"
    assert episode.messages[-3:] == answers


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Episode(BANK, task()).act(say("Hi")), "the episode waits for the user; it cannot take an agent's turn"),
        (lambda: played().hear(user("again")), "the episode waits for the agent; it cannot take a user's turn"),
        (lambda: played(*GOOD).act(say("Bye")), r"the episode ended \(user_stop\); it cannot take an agent's turn"),
        (lambda: played(*GOOD).hear(user("Bye")), r"the episode ended \(user_stop\); it cannot take a user's turn"),
        (lambda: played(*GOOD).stop(), r"the episode ended \(user_stop\) already"),
        (lambda: played().act(user("x")), "an agent's message has the role assistant, found user"),
        (lambda: Episode(BANK, task()).hear(say("x")), "a user's message has the role user, found assistant"),
    ],
)
def test_out_of_turn_is_the_drivers_mistake(act, message):
    with pytest.raises(EpisodeError, match=message):
        act()


def test_words_beside_a_call_are_kept_but_the_user_does_not_hear_them():
    episode = played(Message(role="assistant", content="One moment.", tool_calls=(LOOK,)))
    assert episode.messages[-2].content == "One moment."
    assert [message.content for message in episode.user_view().messages] == ["Hi! How can I help you today?", "Hi, pay in 5."]


def test_views_hide_what_the_other_side_knows():
    episode = played(calls(LOOK), say("You have 10."))
    assert "Pay in 5 euros." not in str([message for message in episode.agent_view().messages])
    assert not hasattr(episode.agent_view(), "scenario")
    assert all(message.role in ("assistant", "user") and not message.tool_calls for message in episode.user_view().messages)


@pytest.mark.parametrize("action", ["", "  ", '{"name": "get_balance", "arguments": {', None, '{"name": 3}'])
def test_an_unreadable_message_is_answered_by_what_was_wrong_with_it(action):
    episode = played()
    (answer,) = episode.act(parse_action(action))
    assert answer.is_error
    assert answer.content.startswith("Error: ")
    assert (episode.errors, episode.awaiting, len(episode.spoken)) == (1, "agent", 2)


def test_a_crash_leaves_the_episode():
    with pytest.raises(DomainError, match=r"domain bank: tool crash crashed on \{\}: KeyError: 'x'"):
        played(calls(ToolCall(name="crash")))


def test_episodes_do_not_see_each_others_writes():
    one, other = played(calls(PAY)), played(calls(LOOK))
    assert one.db.changes() == {"accounts": {"a": {"balance": 15.0}}}
    assert other.messages[-1].content == "10.0"
    assert BANK.base.accounts["a"].balance == 10


def test_a_task_may_change_the_world_before_it_starts():
    changed = task(communicate=("6",)).model_copy(update={"changes": {"accounts": {"a": {"balance": 1.0}}}})
    episode = played(calls(PAY), say("That makes 6."), user("###STOP###"), of=changed)
    assert episode.db.changes() == {"accounts": {"a": {"balance": 6.0}}}
    assert evaluate(BANK, record(episode)).passed
    wrong = changed.model_copy(update={"changes": {"accounts": {"a": {"colour": 1}}}})
    with pytest.raises(TaskError, match=r"task 't', changes: accounts\['a'\]\.colour"):
        Episode(BANK, wrong)


# endings


@pytest.mark.parametrize(
    ("words", "ending"),
    [("Bye ###STOP###", "user_stop"), ("###TRANSFER###", "transfer"), ("###OUT-OF-SCOPE### sorry", "out_of_scope")],
)
def test_a_users_stop_token_terminates(words, ending):
    episode = played(say("Anything else?"), user(words))
    assert (episode.ending, episode.terminated, episode.truncated, episode.awaiting) == (ending, True, False, None)


def test_a_stop_token_of_the_agent_is_only_words():
    assert played(say("###STOP###")).ending is None


def test_an_agent_may_stop():
    episode = played(*GOOD[:-1])
    episode.stop()
    assert (episode.ending, episode.terminated) == ("agent_stop", True)
    assert evaluate(BANK, record(episode)).passed


def test_too_many_steps_truncate_after_the_last_ones_consequences():
    episode = played(calls(LOOK), calls(PAY), max_steps=2)
    assert (episode.ending, episode.terminated, episode.truncated) == ("max_steps", False, True)
    assert episode.messages[-1].name == "pay_in"
    episode = played(say("Hm?"), max_steps=1)
    assert (episode.awaiting, episode.ending) == ("user", None)
    episode.hear(user("What?"))
    assert episode.ending == "max_steps"


def test_a_stop_in_answer_to_the_last_step_terminates():
    assert played(calls(PAY), say("15"), user("###STOP###"), max_steps=2).ending == "user_stop"


def test_too_many_errors_truncate():
    wrong = calls(ToolCall(name="get_balance", arguments={"account": "z"}))
    episode = played(wrong, parse_action(""), calls(LOOK), wrong, max_errors=3)
    assert (episode.ending, episode.truncated, episode.errors) == ("max_errors", True, 3)
    assert played(calls(*[ToolCall(name="none")] * 12)).ending == "max_errors"


# drivers


@dataclasses.dataclass
class Recited:
    """Says its lines in turn, at once or later."""

    lines: tuple
    later: bool = False
    name: str = "recited"

    def line(self, view):
        mine = sum(message.role == self.lines[0].role for message in view.messages) - (self.lines[0].role == "assistant")
        return self.lines[min(mine, len(self.lines) - 1)]

    def act(self, view):
        async def soon():
            await asyncio.sleep(0)
            return self.line(view)

        return soon() if self.later else self.line(view)

    reply = act


AGENT = (calls(PAY), say("You now have 15."))
USER = (user("Hi, pay in 5."), user("###STOP###"))


def test_both_drivers_make_the_same_episode():
    at_once = drive(Episode(BANK, task()), Recited(AGENT), Recited(USER))
    for agent_later in (False, True):
        for user_later in (False, True):
            sides = Recited(AGENT, agent_later), Recited(USER, user_later)
            later = asyncio.run(adrive(Episode(BANK, task()), *sides))
            assert later.messages == at_once.messages
            assert record(later) == record(at_once)
    assert at_once.ending == "user_stop"


def test_an_asynchronous_side_needs_the_asynchronous_driver():
    with pytest.raises(EpisodeError, match=r"recited answers asynchronously; use adrive\(\)"):
        drive(Episode(BANK, task()), Recited(AGENT, later=True), Recited(USER))


def test_the_scripted_agent_and_user_reach_the_reward():
    episode = drive(Episode(BANK, task()), ScriptedAgent(tasks=(task(),)), ScriptedUser())
    assert evaluate(BANK, record(episode)).passed


# trajectories


def test_a_trajectory_survives_its_file_and_replays(tmp_path):
    episodes = [
        played(*GOOD),
        played(calls(LOOK, PAY), max_steps=1),
        played(parse_action("é 🙂"), user("?"), parse_action('{"name": '), calls(ToolCall(name="none")), max_errors=2),
        played(say("Hello")),
    ]
    trajectories = [record(episode, trial=at, agent="me", usage={"seconds": 0.5}) for at, episode in enumerate(episodes)]
    save_trajectories(tmp_path / "trajectories.jsonl", trajectories)
    assert list(read_trajectories(tmp_path)) == trajectories
    for trajectory, episode in zip(read_trajectories(tmp_path), episodes, strict=True):
        again = replay(BANK, trajectory)
        assert again.messages == episode.messages
        assert again.db.changes() == trajectory.changes


def edited(**fields):
    return record(played(*GOOD)).model_copy(update=fields)


def with_message(at, **fields):
    messages = list(record(played(*GOOD)).messages)
    messages[at] = messages[at].model_copy(update=fields)
    return edited(messages=tuple(messages))


def without_message(at):
    messages = list(record(played(*GOOD)).messages)
    del messages[at]
    return edited(messages=tuple(messages))


@pytest.mark.parametrize(
    ("tampered", "message"),
    [
        (with_message(3, content='{"owner": "Ann", "balance": 99.0}'), r"message 3 \(pay_in\): recorded .*99.0.* replayed .*15.0"),
        (with_message(3, is_error=True), r"message 3 \(pay_in\): recorded"),
        (with_message(2, tool_calls=(PAY.model_copy(update={"arguments": {"account": "b", "amount": 5.0}}),)), r"message 3 \(pay_in\)"),
        (with_message(2, tool_calls=(PAY, PAY)), "message 4: pay_in has no recorded answer"),
        (with_message(2, tool_calls=()), "message 3: a tool's answer without a call before it|no recorded answer|replayed"),
        (without_message(3), "message 3: pay_in has no recorded answer"),
        (without_message(2), "message 2: a tool's answer without a call before it"),
        (without_message(1), "message 1: the episode waits for the user"),
        (edited(messages=record(played(*GOOD)).messages[:3]), "pay_in has no recorded answer"),
        (edited(messages=(*record(played(*GOOD)).messages, say("more"))), r"message 6: the episode ended \(user_stop\)"),
        (edited(changes={}), "recorded changes {}, replayed {'accounts'"),
        (edited(changes={"accounts": {"a": {"balance": 15}, "b": {"balance": 1.0}}}), "recorded changes"),
        (edited(ending="transfer"), "recorded ending 'transfer', replayed 'user_stop'"),
        (edited(ending="max_steps", terminated=False, truncated=True), "recorded ending 'max_steps', replayed 'user_stop'"),
        (edited(messages=record(played(*GOOD)).messages[:-1]), "recorded ending 'user_stop', replayed None"),
        (edited(truncated=True), "truncated=True do not go with ending 'user_stop'"),
        (record(played(calls(LOOK), max_steps=1)).model_copy(update={"terminated": True}), "do not go with ending 'max_steps'"),
        (record(played(say("Hi"))).model_copy(update={"terminated": True}), "do not go with ending None"),
    ],
)
def test_a_tampered_trajectory_is_refused(tampered, message):
    with pytest.raises(TrajectoryError, match=message):
        replay(BANK, tampered)


def test_a_trajectory_of_another_domain_is_refused():
    other = dataclasses.replace(BANK, name="other")
    with pytest.raises(TaskError, match="is of domain 'bank', replayed in 'other'"):
        replay(other, edited())
    with pytest.raises(TaskError, match="is of domain 'bank', graded in 'other'"):
        evaluate(other, edited())


def test_a_torn_last_line_is_left_out_and_a_bad_line_is_named(tmp_path):
    line = dump_line(edited())
    file = tmp_path / "trajectories.jsonl"
    file.write_text(line + line[: len(line) // 2])
    assert list(read_trajectories(file)) == [edited()]
    file.write_text(line + '{"id": 3}\n' + line)
    with pytest.raises(TrajectoryError, match=r"trajectories\.jsonl, line 2: "):
        list(read_trajectories(file))
    with pytest.raises(TrajectoryError, match="cannot read trajectories from "):
        list(read_trajectories(tmp_path / "none.jsonl"))


# evaluation


def grade(*messages, domain=BANK, **criteria):
    return evaluate(domain, record(played(*messages, of=task(**criteria), domain=domain)))


def verdicts(evaluation):
    return [(check.name, check.passed) for check in evaluation.checks]


def test_a_good_episode_passes_every_check():
    evaluation = grade(*GOOD)
    assert verdicts(evaluation) == [("ended", True), ("database", True), ("communicate", True)]
    assert (evaluation.reward, evaluation.passed) == (1.0, True)


def test_an_episode_that_did_not_end_by_itself_fails():
    assert verdicts(evaluate(BANK, record(played(*GOOD[:-1])))) == [("ended", False), ("database", True), ("communicate", True)]
    assert evaluate(BANK, record(played(*GOOD[:-1], user("go on"), max_steps=2))).reward == 0.0


@pytest.mark.parametrize(
    "made",
    [
        (),
        (PAY, PAY),
        (PAY.model_copy(update={"arguments": {"account": "b", "amount": 5.0}}),),
        (PAY.model_copy(update={"arguments": {"account": "a", "amount": 5.01}}),),
        (PAY, PAY.model_copy(update={"arguments": {"account": "b", "amount": 1.0}})),
    ],
)
def test_another_state_than_the_references_fails_the_database_check(made):
    messages = [calls(*made)] if made else []
    evaluation = grade(*messages, *GOOD[1:])
    assert verdicts(evaluation)[1] == ("database", False)
    assert evaluation.reward == 0.0


def test_another_way_to_the_same_state_passes():
    parts = [PAY.model_copy(update={"arguments": {"account": "a", "amount": amount}}) for amount in (2.0, 3.0)]
    assert grade(calls(LOOK), calls(parts[0]), calls(parts[1]), *GOOD[1:]).passed


def test_what_must_be_said_counts_only_when_the_user_hears_it():
    beside_a_call = Message(role="assistant", content="You now have 15.", tool_calls=(PAY,))
    assert verdicts(grade(beside_a_call, say("Done."), user("###STOP###")))[2] == ("communicate", False)
    assert verdicts(grade(calls(PAY), user_free("15")))[2] == ("communicate", False)


def user_free(text):
    return parse_action('{"name": "' + text)


@pytest.mark.parametrize(
    ("wanted", "text", "said"),
    [
        ("10", "It costs 100 dollars", False),
        ("10", "It costs 10 dollars", True),
        ("10", "It costs $10.00.", True),
        ("1,200", "You get $1200.00 back", True),
        ("1200.5", "a total of $1,200.50", True),
        ("$54.04", "54.04", True),
        ("54.04", "54.4", False),
        ("54.04", "154.04", False),
        ("-5", "the difference is -$5.00", True),
        ("5", "the difference is -5", False),
        ("5", "items 3-5", True),
        ("10", "10%", False),
        ("10%", "you save 10%", True),
        ("two weeks", "renewed for TWO  weeks.", True),
        ("two weeks", "renewed for two week", False),
        ("two weeks", "two fine weeks", False),
        ("Ann's", "Ann’s book", True),
        ("no", "nothing", False),
        ("", "anything", True),
        ("007", "7", True),
        ("0", "0.00", True),
        ("###", "a ### b", True),
    ],
)
def test_numbers_are_normalised_and_compared_as_whole_tokens(wanted, text, said):
    assert is_said(wanted, ["Hello.", text]) is said


def test_the_actions_check_wants_each_reference_call_accepted_as_often():
    twice = {"basis": ("actions",), "actions": (PAY, PAY, LOOK)}
    assert grade(calls(PAY), calls(LOOK), calls(PAY), *GOOD[1:], **twice).passed
    assert verdicts(grade(calls(PAY), calls(LOOK), *GOOD[1:], **twice))[1:] == [("actions", True), ("actions", False), ("actions", True)]
    refused = PAY.model_copy(update={"arguments": {"account": "a", "amount": -1.0}})
    assert not grade(calls(refused), *GOOD[1:], basis=("actions",), actions=(refused,)).passed


def test_a_reference_that_a_tool_refuses_is_an_error_that_names_it():
    refused = PAY.model_copy(update={"arguments": {"account": "a", "amount": -1.0}})
    with pytest.raises(TaskError, match=r"task 't', reference action 1 \(pay_in\): the amount must be positive"):
        grade(*GOOD, actions=(PAY, refused))


def test_an_infrastructure_error_has_no_reward():
    evaluation = evaluate(BANK, record(played(*GOOD[:1]), error="the model timed out"))
    assert (evaluation.reward, evaluation.passed, evaluation.error) == (None, False, "the model timed out")


def test_the_reference_runs_once_for_a_task_and_again_for_another_with_its_id():
    assert BANK.reference_changes(task()) is BANK.reference_changes(task())
    more = task(actions=(PAY, PAY))
    assert BANK.reference_changes(more) == {"accounts": {"a": {"balance": 20.0}}}


def test_grading_changes_nothing():
    trajectory = edited()
    before = dump_line(trajectory)
    assert evaluate(BANK, trajectory) == evaluate(BANK, trajectory)
    assert dump_line(trajectory) == before


# tau2-bench's rules

TAU2 = dataclasses.replace(BANK, dialect="tau2")


def tau2(*messages, reward_basis=("DB", "ACTION", "COMMUNICATE"), assertions=(), compare=None, **criteria):
    rules = Tau2Criteria(reward_basis=reward_basis, nl_assertions=assertions, compare_arguments=compare or {})
    return grade(*messages, domain=TAU2, basis=("tau2",), tau2=rules, **criteria)


def test_tau2_a_good_episode_passes():
    assert tau2(*GOOD).passed


def test_tau2_only_the_named_components_decide_the_others_are_notes():
    evaluation = tau2(calls(PAY), say("Done."), user("###STOP###"), reward_basis=("DB",))
    assert evaluation.passed
    assert verdicts(evaluation) == [("ended", True), ("database", True)]
    assert [(note.name, note.passed) for note in evaluation.notes] == [("actions", True), ("communicate", False)]


def test_tau2_the_judge_is_left_out_and_said_so():
    evaluation = tau2(*GOOD, reward_basis=("DB", "NL_ASSERTION"), assertions=("The agent is kind.",))
    assert evaluation.passed
    assert "not judged (no model asked): The agent is kind." in [note.detail for note in evaluation.notes]


def test_tau2_an_unknown_component_is_refused():
    with pytest.raises(TaskError, match="reward basis 'ENV_ASSERTION' is not supported"):
        tau2(*GOOD, reward_basis=("DB", "ENV_ASSERTION"))


@pytest.mark.parametrize(
    ("arguments", "compare", "passed"),
    [
        ({"account": "a", "amount": 5.0}, None, True),
        ({"account": "a", "amount": 6.0}, None, False),
        ({"account": "a"}, None, True),
        ({}, None, True),
        ({"account": "a", "amount": 5.0, "extra": 1}, None, False),
        ({"account": "b", "amount": 9.0}, (), True),
        ({"account": "a", "amount": 9.0}, ("account",), True),
        ({"amount": 5.0}, ("account",), False),
        ({"amount": 5.0}, ("colour",), True),
    ],
)
def test_tau2_compares_the_predicted_calls_own_arguments_unless_some_are_listed(arguments, compare, passed):
    made = calls(ToolCall(name="pay_in", arguments=arguments))
    evaluation = tau2(made, say("15"), user("###STOP###"), reward_basis=("ACTION",), compare=None if compare is None else {0: compare})
    assert verdicts(evaluation)[1] == ("actions", passed)


def test_tau2_ignores_order_multiplicity_and_refusals_of_calls():
    two = (LOOK, PAY)
    assert tau2(calls(PAY), calls(PAY), calls(LOOK), *GOOD[1:], reward_basis=("ACTION",), actions=two).passed
    refused = ToolCall(name="pay_in", arguments={"account": "nobody", "amount": 1.0})
    assert tau2(calls(refused), *GOOD[1:], reward_basis=("ACTION",), actions=(refused,)).passed
    assert tau2(say("15"), user("###STOP###"), reward_basis=("ACTION",), actions=()).passed


@pytest.mark.parametrize(
    ("wanted", "text", "said"),
    [
        ("10", "It is 100.", True),
        ("1,200", "It is 1,200.", False),
        ("1200", "It is $1,200.", True),
        ("Blue", "the BLUE one", True),
        ("54.0", "54.04", True),
    ],
)
def test_tau2_communication_is_a_substring_of_the_text_without_its_commas(wanted, text, said):
    evaluation = tau2(calls(PAY), say(text), user("###STOP###"), reward_basis=("COMMUNICATE",), communicate=(wanted,))
    assert verdicts(evaluation)[1] == ("communicate", said)


def test_tau2_words_beside_a_call_count_as_said():
    beside = Message(role="assistant", content="You will have 15.", tool_calls=(PAY,))
    assert tau2(beside, say("Done."), user("###STOP###"), reward_basis=("COMMUNICATE",)).passed


def test_tau2_a_reference_that_is_refused_is_skipped():
    refused = ToolCall(name="pay_in", arguments={"account": "nobody", "amount": 1.0})
    assert tau2(*GOOD, reward_basis=("DB",), actions=(refused, PAY)).passed


def test_tau2_arguments_are_not_validated_and_every_exception_is_text():
    episode = played(calls(ToolCall(name="pay_in", arguments={"amount": "5"})), calls(ToolCall(name="fly")), domain=TAU2)
    missing, unknown = (message for message in episode.messages if message.role == "tool")
    assert missing.content == "Error: pay_in() missing 1 required positional argument: 'account'"
    assert unknown.content == "Error: Tool 'fly' not found."


@pytest.mark.parametrize("ending", ["max_steps", "max_errors"])
def test_tau2_a_truncated_episode_gets_nothing(ending):
    limits = {"max_steps": 1} if ending == "max_steps" else {"max_errors": 1}
    last = calls(PAY) if ending == "max_steps" else calls(PAY, ToolCall(name="fly"))
    rules = task(basis=("tau2",), tau2=Tau2Criteria(reward_basis=("DB",)), communicate=())
    trajectory = record(played(last, of=rules, domain=TAU2, **limits))
    assert trajectory.ending == ending
    assert evaluate(TAU2, trajectory).reward == 0.0


def test_details_of_checks_name_what_was_expected():
    evaluation = grade(say("Done."), user("###STOP###"))
    assert "expected changes {'accounts': {'a': {'balance': 15.0}}}, found {}" in evaluation.checks[1].detail
    assert evaluation.checks[2].detail == "never said to the user: 15"
    assert Trajectory.model_validate(json.loads(dump_line(edited()))) == edited()


@pytest.mark.parametrize("answer", [None, "Yes.", {"role": "assistant", "content": "Yes."}])
def test_an_agent_that_gives_back_something_else_is_named(answer):
    class Odd:
        name = "odd"

        def act(self, view):
            return answer

    class Late(Odd):
        async def act(self, view):
            return answer

    domain = load_domain("library")
    with pytest.raises(EpisodeError, match=f"^odd answered with a {type(answer).__name__}, .*gives back a Message$"):
        drive(Episode(domain, domain.split()[0]), Odd(), ScriptedUser())
    for agent in (Odd(), Late()):
        with pytest.raises(EpisodeError, match=r"^odd answered with a "):
            asyncio.run(adrive(Episode(domain, domain.split()[0]), agent, ScriptedUser()))
