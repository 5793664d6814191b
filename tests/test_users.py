"""The scripted customer: what it understands, says, refuses and never does."""

import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentinel_domains.library import domain as library
from sentinel_domains.retail.phrases import PHRASES

from sentinel_env import Database, Domain, Episode, Fact, Message, Scenario, Task, ToolCall, UserView, Wish, drive, load_domain, tool
from sentinel_env.agents import ScriptedAgent
from sentinel_env.failures import general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.understanding import identifiers, read
from sentinel_env.users import HumanUser, RememberingUser, ScriptedUser


@tool(writes=True)
def exchange_delivered_order_items(
    db: Database, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> str:
    """Exchange items.

    Args:
        order_id: The order.
        item_ids: The items.
        new_item_ids: What replaces them.
        payment_method_id: For the difference.
    """
    return "exchanged"


@tool(writes=True)
def cancel_pending_order(db: Database, order_id: str, reason: str) -> str:
    """Cancel an order.

    Args:
        order_id: The order.
        reason: Why.
    """
    return "cancelled"


SHOP = Domain(name="shop", policy="", tools=(exchange_delivered_order_items, cancel_pending_order), database=Database, phrases=PHRASES)
NAME, ZIP = Fact(slot="name", text="Yusuf Rossi", value=["Yusuf", "Rossi"]), Fact(slot="zip", text="19122", value="19122")
EMAIL = Fact(slot="email", text="yusuf@example.com", value="yusuf@example.com")
LAMP = Wish(
    text="exchange the desk lamp in order #W1234 for the white one",
    call=ToolCall(
        name="exchange_delivered_order_items",
        arguments={
            "order_id": "#W1234",
            "item_ids": ["1234567890"],
            "new_item_ids": ["2234567890"],
            "payment_method_id": "gift_card_12",
        },
    ),
    facts=(
        Fact(slot="order", text="order #W1234", value="#W1234"),
        Fact(slot="item", text="the black desk lamp", value=["1234567890"]),
        Fact(slot="new_item", text="the white one with 3 brightness levels", value=["2234567890"]),
        Fact(slot="payment", text="my gift card", value="gift_card_12"),
    ),
    labels={"1234567890": "the black desk lamp"},
)
CANCEL = Wish(
    text="cancel order #W99",
    call=ToolCall(name="cancel_pending_order", arguments={"order_id": "#W99", "reason": "no longer needed"}),
    facts=(
        Fact(slot="order", text="order #W99", value="#W99"),
        Fact(slot="reason", text="I no longer need it", value="no longer needed"),
    ),
)
REFUSED = Wish(text="return the headphones from order #W55", facts=(Fact(slot="order", text="order #W55", value="#W55"),))

RIGHT = "I will exchange item 1234567890 for 2234567890 in order #W1234 with gift_card_12. Do you confirm (yes/no)?"
DONE = "Your exchange has been submitted. Is there anything else I can help you with?"


def scenario(*wishes, facts=(NAME, ZIP), **more):
    return Scenario(goal="shop", facts=facts, wishes=wishes, **more)


def talk(told, *texts, domain=SHOP, seed=0):
    """The customer's replies to an agent that says these texts."""
    episode = Episode(domain, Task(id="t", domain=domain.name, scenario=told), seed=seed)
    user = ScriptedUser()
    replies = []
    for text in (None, *texts):
        if text is not None:
            if episode.awaiting != "agent":
                break
            episode.act(Message(role="assistant", content=text))
        if episode.awaiting == "user":
            episode.hear(user.reply(episode.user_view()))
            replies.append(episode.messages[-1].content)
    return replies


def last(told, *texts, **more):
    return talk(told, *texts, **more)[-1]


# What it says


def test_it_opens_with_its_wish_and_not_with_who_it_is():
    (opening,) = talk(scenario(LAMP, CANCEL))
    assert LAMP.text in opening
    assert CANCEL.text not in opening
    assert "Rossi" not in opening


def test_it_can_open_with_all_wishes():
    (opening,) = talk(scenario(LAMP, CANCEL, reveal="together"))
    assert LAMP.text in opening
    assert CANCEL.text in opening


def test_it_gives_its_email_where_it_has_one():
    reply = last(scenario(LAMP, facts=(EMAIL, NAME, ZIP)), "May I have your email, or your name and zip code?")
    assert "yusuf@example.com" in reply
    assert "Rossi" not in reply


def test_after_the_email_did_not_help_it_gives_name_and_zip_code():
    texts = ("What is your email?", "I cannot find it. Could you give me your email again, or your name and zip code?")
    assert "Rossi, 19122" in last(scenario(LAMP, facts=(EMAIL, NAME, ZIP)), *texts)


def test_it_says_that_it_does_not_know_what_it_does_not_know():
    reply = last(scenario(LAMP), "What is your email address?")
    assert "my e-mail address" in reply
    assert "don't" in reply
    assert "19122" not in reply


def test_it_answers_everything_that_is_asked_at_once():
    reply = last(
        scenario(LAMP),
        "Please share:\n- Your name and zip code\n- The order ID\n- Which item\n- Which variant you'd like\n- The payment method",
    )
    assert all(said in reply for said in ("Yusuf Rossi", "19122", "#W1234", "black desk lamp", "white one", "my gift card"))


def test_a_slot_of_the_domain_is_asked_by_its_phrase():
    domain = Domain(
        name="shop", policy="", tools=(), database=Database, phrases={"card": (r"\bcard number\b",), "say:card": ("my card's number",)}
    )
    knows = scenario(Wish(text="renew my card", facts=(Fact(slot="card", text="M7"),)))
    assert "M7" in last(knows, "What is your card number?", domain=domain)
    assert "my card's number" in last(scenario(Wish(text="renew my card")), "What is your card number?", domain=domain)


def test_an_open_question_is_answered_with_the_wish():
    assert LAMP.text in last(scenario(LAMP), "How would you like to proceed?")


# What it agrees to


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        "To confirm: exchange delivered order items: order id #W1234, item ids 1234567890, new item ids 2234567890, "
        "payment method id gift_card_12. Shall I go ahead (yes/no)?",
        "I'll exchange the black desk lamp for the white one, 3 brightness levels, in order #W1234, using your gift card. Is that OK?",
        '{"proposed_actions": [{"order_id": "#W1234", "from_item_id": "1234567890", "to_item_id": "2234567890",'
        ' "payment": "gift_card_12"}],'
        ' "confirmation_request": "Please reply yes to proceed."}',
        "The other order #W777 can't be changed.\n\nHere is the plan:\n- Order: #W1234\n- Item 1234567890 -> 2234567890\n"
        "- Refund to: gift card (gift_card_12)\n\nPlease reply YES to proceed.",
    ],
)
def test_it_agrees_to_what_it_wished_for(text):
    assert last(scenario(LAMP), text).startswith("Yes")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("I will exchange item 1234567890 for 2234567890 in order #W777 with gift_card_12. Shall I proceed?", "order #W1234"),
        ("I will exchange item 1234567890 for 9999999999 in order #W1234 with gift_card_12. Shall I proceed?", "the white one"),
        ("I will exchange item 1234567890 for 2234567890 in order #W1234 with gift_card_77. Shall I proceed?", "my gift card"),
        ("I will exchange the black desk lamp for the blue one in order #W1234. Shall I proceed?", "the white one"),
        ("I will exchange item 1234567890 for 2234567890 in order #W1234, paid with PayPal. Shall I proceed?", "my gift card"),
        ("I will cancel order #W1234. Shall I proceed?", LAMP.text),
        (
            "Here is the plan:\n1) Exchange item 1234567890 for 2234567890 in order #W1234 with gift_card_12\n2) Exchange item 5555555555\n"
            "Please reply yes to proceed.",
            "",
        ),
    ],
)
def test_it_refuses_what_contradicts_its_wish_and_says_what_is_right(wrong, right):
    reply = last(scenario(LAMP), wrong)
    assert reply.startswith("No")
    assert right in reply


def test_a_wrong_reason_is_refused():
    reply = last(scenario(CANCEL), "I will cancel order #W99 because it was ordered by mistake. Is that right?")
    assert reply.startswith("No")
    assert "I no longer need it" in reply


def test_one_wrong_action_of_two_refuses_both():
    both = (
        "I'll do the following:\n- Exchange item 1234567890 for 2234567890 in order #W1234 (gift_card_12)\n"
        "- Cancel order #W99, reason: {}\nReply yes to proceed."
    )
    told = scenario(LAMP, CANCEL, reveal="together")
    assert last(told, both.format("no longer needed")).startswith("Yes")
    assert last(told, both.format("ordered by mistake")).startswith("No")


def test_what_a_proposal_leaves_open_is_said_with_the_yes():
    reply = last(scenario(CANCEL), "Shall I cancel it?")
    assert reply.startswith("Yes")
    assert "#W99" in reply


def test_a_yes_that_comes_with_a_choice_gives_both():
    reply = last(
        scenario(LAMP), "I'll exchange 1234567890 for 2234567890 in #W1234. Reply yes to proceed, and tell me which payment method to use."
    )
    assert reply.startswith("Yes")
    assert "gift card" in reply


def test_an_announced_confirmation_is_not_agreed_to():
    reply = last(scenario(LAMP), "Please share the order ID. I'll then summarize everything and ask for your explicit confirmation.")
    assert "Yes" not in reply
    assert "#W1234" in reply


# What must not be done


def test_it_accepts_that_something_cannot_be_done_and_goes_on():
    replies = talk(scenario(REFUSED, CANCEL), "I am sorry, I cannot do that under our policy. Is there anything else?")
    assert CANCEL.text in replies[-1]


def test_it_agrees_to_no_alternative_that_it_did_not_want():
    offer = "Unfortunately I cannot return them. I can cancel order #W55 instead. Would you like me to proceed?"
    assert last(scenario(REFUSED), offer).startswith("No")


def test_a_refusal_of_what_can_be_done_is_questioned_once():
    replies = talk(scenario(CANCEL), *["Unfortunately, that is not possible."] * 2)
    assert CANCEL.text in replies[1]
    assert "###STOP###" in replies[2]


def test_only_a_real_transfer_ends_the_conversation():
    offered = "Would you like me to transfer you to a human agent?"
    assert "###" not in last(scenario(LAMP), offered)
    assert "transfer me" in last(scenario(REFUSED), offered)
    assert "###TRANSFER###" in last(scenario(LAMP), "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON.")


# Slips, conditions, questions and hand-overs

SLIPPED = CANCEL.model_copy(update={"text": "Please cancel order #W99.", "slip": "Please cancel order #W12."})
FALLBACK = LAMP.model_copy(
    update={
        "text": "I want to exchange the desk lamp in order #W1234 for the white one; if that is not available, for the red one.",
        "facts": (*LAMP.facts, Fact(slot="new_item", text="if that is not available, the red one", value="3334567890")),
    }
)
OR_CANCEL = LAMP.model_copy(
    update={"text": "I want to exchange the desk lamp in order #W1234 for the white one if it costs no more; otherwise cancel it."}
)
COUNT = Wish(text="How many desk lamps are there?", answers=("6",))
PRICE = Wish(text="What does the lamp in order #W1234 cost?", facts=(LAMP.facts[0],), answers=("12.50",))
LOST = Wish(text="Order #W55 never arrived.", facts=(Fact(slot="order", text="order #W55", value="#W55"),), transfer=True)


def test_a_slip_is_said_at_first_and_corrected_when_the_agent_asks_to_confirm():
    replies = talk(
        scenario(SLIPPED), "Shall I cancel order #W12 (no longer needed)?", "Then I cancel order #W99, no longer needed. Is that right?"
    )
    assert "#W12" in replies[0]
    assert replies[1].startswith("No")
    assert "it is order #W99" in replies[1]
    assert replies[2].startswith("Yes")


def test_a_slip_is_corrected_also_where_the_agent_does_not_say_what_it_will_do():
    replies = talk(scenario(SLIPPED), "Shall I go ahead?", "Shall I go ahead?")
    assert "#W99" in replies[1]
    assert replies[1].startswith("No")
    assert replies[2].startswith("Yes")


def test_nothing_is_corrected_where_the_right_thing_is_proposed_at_once():
    assert last(scenario(SLIPPED), "Shall I cancel order #W99 (no longer needed)?").startswith("Yes")


def test_what_a_slip_gets_wrong_is_told_right_when_asked_for():
    replies = talk(scenario(SLIPPED), "What is the order number?", "Shall I cancel it, as no longer needed?", "Shall I cancel order #W12?")
    assert "#W99" in replies[1]
    assert replies[2].startswith("Yes")
    assert replies[3].startswith("No")


@pytest.mark.parametrize(
    ("text", "agrees"),
    [
        ("I will cancel order #W99 and leave order #W12 as it is. Shall I proceed?", True),
        ("I will cancel order #W99, not #W12. Shall I proceed?", True),
        ("I will do the following:\n- cancel order #W99\n- cancel order #W12\nShall I proceed?", False),
        ("I will cancel order #W12. Shall I proceed?", False),
    ],
)
def test_after_a_correction_only_what_is_right_is_agreed_to(text, agrees):
    reply = last(scenario(SLIPPED), "Shall I cancel order #W12?", text)
    assert reply.startswith("Yes" if agrees else "No")


def test_a_slip_that_cannot_be_done_is_noticed():
    reply = last(scenario(SLIPPED), "Unfortunately order #W12 was delivered and cannot be cancelled.")
    assert "it is order #W99" in reply
    assert "###" not in reply


def test_a_slip_of_one_wish_is_not_taken_for_another_wish():
    told = scenario(LAMP, SLIPPED, reveal="together")
    replies = talk(told, "Shall I cancel order #W12 (no longer needed)?", RIGHT, DONE, "Shall I cancel order #W99 (no longer needed)?")
    assert "it is order #W99" in replies[1]
    assert replies[2].startswith("Yes")
    assert replies[4].startswith("Yes")


@pytest.mark.parametrize(("item", "agrees"), [("2234567890", True), ("3334567890", False), ("4444567890", False)])
def test_of_a_condition_only_what_it_comes_to_is_agreed_to(item, agrees):
    reply = last(scenario(FALLBACK), f"I will exchange item 1234567890 for {item} in order #W1234 with gift_card_12. Is that right?")
    assert reply.startswith("Yes" if agrees else "No")
    assert agrees or "the white one with 3 brightness levels, if that is not available, the red one" in reply


def test_the_other_action_of_a_condition_is_answered_with_the_whole_wish():
    reply = last(scenario(OR_CANCEL), "I will cancel order #W1234, refund to gift_card_12. Shall I proceed?")
    assert reply.startswith("No")
    assert OR_CANCEL.text in reply
    assert last(scenario(OR_CANCEL), RIGHT).startswith("Yes")


def test_both_variants_of_a_condition_are_told_when_asked_for():
    reply = last(scenario(FALLBACK), "Which variant would you like?")
    assert "the white one with 3 brightness levels, if that is not available, the red one" in reply


def test_a_question_is_settled_by_a_number_and_not_by_a_look_at_an_order():
    replies = talk(scenario(PRICE, CANCEL), "Let me have a look at order #W1234.", "It costs $12.50. Anything else?")
    assert "###" not in replies[1]
    assert CANCEL.text not in replies[1]
    assert CANCEL.text in replies[2]


def test_that_a_question_is_not_answered_is_questioned_once():
    replies = talk(scenario(COUNT), *["I am sorry, I cannot tell you that."] * 2)
    assert COUNT.text in replies[1]
    assert "###STOP###" in replies[2]


def test_a_question_that_is_answered_beside_a_report_is_not_asked_again():
    told = scenario(CANCEL, COUNT, LAMP, reveal="together")
    replies = talk(
        told, "Shall I cancel order #W99 (no longer needed)?", "It has been cancelled, and there are 6 desk lamps. Anything else?"
    )
    assert COUNT.text not in replies[-1]
    assert LAMP.text in replies[-1]


def test_no_alternative_is_taken_for_the_answer_of_a_question():
    reply = last(scenario(COUNT), "Shall I cancel order #W99 instead?")
    assert reply.startswith("No")
    assert COUNT.text in reply


def test_a_refusal_is_about_the_wish_that_it_names():
    told = scenario(CANCEL, REFUSED, reveal="together")
    replies = talk(told, "I am sorry, order #W55 cannot be returned.", "Order #W99 cannot be cancelled, I am sorry.")
    assert "Are you sure" not in replies[1]
    assert CANCEL.text in replies[2]


def test_a_transfer_is_wanted_after_the_rest():
    told = scenario(CANCEL, LOST, reveal="together")
    offer = "Would you like me to transfer you to a human agent?"
    first, *_ = talk(told, offer)[1:]
    assert CANCEL.text in first
    assert "transfer" not in first
    replies = talk(told, "Shall I cancel order #W99 (no longer needed)?", "It has been cancelled.", offer)
    assert "transfer me" in replies[3]


def test_being_told_what_is_known_does_not_settle_what_a_person_has_to():
    replies = talk(scenario(LOST), "Let me look at order #W55.", "Order #W55 is delivered.", "Order #W55 is delivered, I say.")
    assert "###" not in replies[1]
    assert LOST.text in replies[2]
    assert "###STOP###" in replies[3]


def test_a_wish_in_a_sentence_is_repeated_as_a_sentence():
    reply = last(
        scenario(CANCEL.model_copy(update={"text": "Please cancel order #W99."})), "I will exchange item 1234567890. Shall I proceed?"
    )
    assert reply.startswith("No")
    assert "to Please" not in reply


# How it ends


def test_the_next_wish_comes_when_one_is_done_and_a_stop_after_the_last():
    replies = talk(scenario(LAMP, CANCEL), RIGHT, DONE, "Shall I cancel order #W99 (no longer needed)?", "Order #W99 has been cancelled.")
    assert CANCEL.text in replies[2]
    assert replies[3].startswith("Yes")
    assert "###STOP###" in replies[4]


def test_it_asks_for_an_amount_that_it_wanted_to_hear():
    told = scenario(CANCEL.model_copy(update={"text": "cancel order #W99 and hear how much I get back"}))
    replies = talk(
        told, "Shall I cancel order #W99 (no longer needed)?", "It has been cancelled.", "You get $12.50 back. It has been cancelled."
    )
    assert "###" not in replies[2]
    assert "###STOP###" in replies[3]


@pytest.mark.parametrize(
    ("text", "end"), [("Which order is it?", "###STOP###"), ("What is your email?", "###OUT-OF-SCOPE###"), ("Lorem ipsum.", "###STOP###")]
)
def test_it_gives_up_on_an_agent_that_loops(text, end):
    replies = talk(scenario(LAMP), *[text] * 10)
    assert len(replies) == 4
    assert end in replies[-1]


UTTERANCES = st.sampled_from(
    [
        RIGHT,
        DONE,
        "What is your email?",
        "Which order, which item, and which payment method?",
        "Shall I cancel order #W99 (no longer needed)?",
        "Shall I cancel order #W99 (ordered by mistake)?",
        "Everything is done. Please confirm. Anything else?",
        "Unfortunately I can't. Would you like me to cancel order #W55 instead?",
        "Done! Reply yes to proceed with cancelling order #W99.",
        "Would you like me to transfer you to a human agent?",
        "Is there anything else?",
        "One moment.",
        "The total is $12.50.",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(UTTERANCES | st.text(max_size=40), max_size=12), st.sampled_from(["together", "one by one"]), st.integers(0, 5))
def test_it_never_stops_in_the_turn_in_which_it_agrees(texts, reveal, seed):
    for reply in talk(scenario(LAMP, CANCEL, REFUSED, reveal=reveal), *texts, seed=seed):
        assert not (reply.startswith("Yes") and "###" in reply)
        assert reply.strip()


# Tasks without structured wishes


def test_the_library_task_reaches_its_end():
    (task,) = library.tasks()
    texts = ("What is your card number?", "Shall I renew Dune (L1)?", "Dune has been renewed for two weeks. Anything else?")
    replies = talk(task.scenario, *texts, domain=library)
    assert replies[0] == "Renew Dune for me."
    assert "M7" in replies[1]
    assert replies[2].startswith("Yes")
    assert "###STOP###" in replies[3]
    assert drive(Episode(library, task), ScriptedAgent(), ScriptedUser()).ending == "user_stop"


def test_a_tau2_scenario_in_prose_is_spoken_in_the_first_person():
    told = Scenario(
        goal="You want to return the lamp of order #W1.",
        known={"known_info": "You are Yusuf Rossi, your zip code is 19122."},
        unknown="You do not remember your email address.",
    )
    replies = talk(told, "What is your email?", "Your name and zip code, please?", RIGHT, DONE)
    assert replies[0] == "I want to return the lamp of order #W1."
    assert "e-mail" in replies[1]
    assert "Yusuf Rossi, 19122" in replies[2]
    assert replies[3].startswith("Yes")
    assert "###STOP###" in replies[4]


# How it is made


def test_replies_depend_on_nothing_but_scenario_messages_and_seed():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_users as t\n"
        "print([t.talk(t.scenario(t.LAMP, t.CANCEL), 'Your name and order?', t.RIGHT, t.DONE, seed=s) for s in range(5)])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script, os.path.dirname(__file__)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_seeds_change_the_words():
    assert len({last(scenario(LAMP), RIGHT, seed=seed) for seed in range(20)}) > 1


def test_a_pickled_user_says_the_same():
    episode = Episode(SHOP, Task(id="t", domain="shop", scenario=scenario(LAMP)))
    user = ScriptedUser()
    assert pickle.loads(pickle.dumps(user)).reply(episode.user_view()) == user.reply(episode.user_view())


def test_the_user_that_remembers_says_what_the_scripted_user_says():
    retail = load_domain("retail")

    def messages(task, user, **agent):
        return drive(Episode(retail, task, max_steps=60), ScriptedAgent(tasks=(task,), **agent), user).messages

    drafts = [proposal.draft for proposal in propose_tasks(retail, general_pattern(retail), n=60, seed=3)]
    for task in (*drafts, *retail.split()[:20]):
        for agent in ({}, {"proposes": False}, {"reports": False}):
            remembers = RememberingUser(Episode(retail, task).user_view())
            assert messages(task, remembers, **agent) == messages(task, ScriptedUser(), **agent)


def test_a_human_is_asked_until_there_is_a_line_and_may_hang_up():
    lines = iter(["", "hello"])
    view = UserView(scenario(), SHOP, (Message(role="assistant", content="Hi"),), 0)
    assert HumanUser(ask=lambda prompt: next(lines)).reply(view).content == "hello"

    def hang_up(prompt):
        raise EOFError

    assert "###STOP###" in HumanUser(ask=hang_up).reply(view).content


# Understanding


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Please hold while I look.", set()),
        ("The email on file is x@example.com. The refund will go to your PayPal account.", set()),
        ("Your order was cancelled.\n- Reason: no longer needed\n- Refund to: PayPal", set()),
        ('{"message": "Thanks.", "price_difference_payment": "Which payment method should I use?"}', {"payment"}),
        ('{"questions": ["Order ID", "Reason for the cancellation"]}', {"order", "reason"}),
        ("Would you like to proceed with modifying the order? If so, please let me know the new option.", {"choice", "new_item"}),
        ("Once you confirm, I will submit it. Please confirm if you'd like to proceed.", {"confirm"}),
        ("The e-mail will specify what to include. I can't provide the order ID.", set()),
        ("Which order is it? If you would rather cancel it, tell me the reason.", {"order"}),
        ("Is the refund to go to the gift card or to PayPal?", {"payment"}),
        ("Shall I cancel the items, with the refund to your original payment method?", {"confirm"}),
        ("Please reply yes to proceed, and tell me which payment method to use.", {"confirm", "payment"}),
        ("Do you know the order ID? Which items? Please confirm your e-mail.", {"order", "item", "email", "identity"}),
        ("What is your e-mail? I'll need the order number. Does that work for you?", {"email", "identity", "order"}),
        ("Your order is on its way. If you'd like to change anything later, let me know.", {"anything_else"}),
    ],
)
def test_what_a_message_asks(text, asks):
    assert read(text, PHRASES).asks == asks


def test_a_heading_rules_the_lines_below_it_and_the_headings_right_below_it():
    text = "What I need for each request:\n\nFor the return:\n- The order ID\n- Which items\n\nNotes:\n- The reason is on file."
    assert read(text, PHRASES).asks == {"order", "item"}


def test_the_lines_of_a_plan_ask_only_where_they_clearly_do():
    plan = "Please confirm:\n- Payment method: PayPal\n- Order #W1234\n- {}\nReply yes to proceed."
    assert read(plan.format("Reason: no longer needed"), PHRASES).asks == {"confirm"}
    assert read(plan.format("Which new lamp variant you want"), PHRASES).asks == {"confirm", "new_item"}


def test_json_is_read_by_depth():
    text = '{"needed_from_you": {"return": ["Order ID", "Item IDs"]}, "on_file": {"payment": ["Payment method: PayPal"]}}'
    assert read(text, PHRASES).asks == {"order", "item"}


@pytest.mark.parametrize("phrases", [PHRASES, library.phrases])
@pytest.mark.parametrize(
    "text",
    [
        "It is renewed for two weeks.",
        "Your order has been cancelled.",
        "Done. Anything else?",
        "The refund is on its way.",
        "That's taken care of.",
        "I've extended your loan until May.",
        "Your seat has now been changed to 12A.",
        "Your booking is moved to Friday, as you wished.",
        "All done!",
        "Renewal complete.",
        "I went ahead and renewed it.",
    ],
)
def test_a_report_is_understood_in_every_domain(text, phrases):
    assert "done" in read(text, phrases).tells


@pytest.mark.parametrize(
    "text",
    [
        "It has not been renewed.",
        "Once it is renewed, you have two weeks.",
        "It will be renewed.",
        "I've found your account, and I've checked the loan.",
        "You have requested a return.",
        "Has it been renewed?",
        "Your order is delivered.",
        "The refund will be issued once the return is processed.",
    ],
)
def test_what_is_planned_looked_up_or_a_state_is_no_report(text):
    assert "done" not in read(text, PHRASES).tells


@settings(max_examples=500, deadline=None)
@given(
    st.text()
    | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    | st.text(alphabet='{}[]":,\\please confirm? \n-', max_size=300)
)
def test_no_text_is_too_strange_to_read(text):
    read(text, PHRASES)
    view = UserView(scenario(LAMP), SHOP, (Message(role="user", content="hi"), Message.model_construct(role="assistant", content=text)), 0)
    assert ScriptedUser().reply(view).content


@pytest.mark.parametrize(
    "unit", ["a", " ", "?", "\n- x:", "[", '{"a":', "please confirm ", "would you like ", "which a-a ", "reply yes ", "1 ", "😀", "\x00"]
)
def test_long_hostile_texts_are_read(unit):
    read(unit * (100_000 // len(unit)), PHRASES)


def test_amounts_are_no_identifiers():
    assert identifiers("item 123 in #w77 for $12.50 and 3.99, gift_card_9") == ["123", "w77", "gift_card_9"]
