"""Other words for tasks by a model, over a real local server: what says all and only the same is kept, the original otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_env import ConfigError, Domain, Task, load_domain
from sentinel_env.database import Database
from sentinel_env.failures import FailurePattern, general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.generation.inquiry import Asking
from sentinel_env.generation.paraphrasing import Rewordings, paraphrase
from sentinel_env.generation.slot_check import slots_of, why_not
from sentinel_env.knobs import Knobs
from sentinel_env.llm import Model
from sentinel_env.llm_budget import Budget
from sentinel_env.messages import ToolCall
from sentinel_env.model_server import ModelServer, Reply
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Criteria, Fact, Scenario, Wish
from sentinel_env.verification import verify_all, verify_proposal

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")

ONCE = Asking(repairs=0, concurrency=1)


@cache
def retail() -> Domain:
    return load_domain("retail")


@cache
def accepted(n: int = 4) -> tuple[TaskProposal, ...]:
    """Cancellations in plain words that pass every gate."""
    pattern = FailurePattern(
        id="reasons",
        domain="retail",
        label="wrong_argument",
        tools=("cancel_pending_order",),
        arguments=("reason",),
        knobs=Knobs(voices=("plain",)),
    )
    verdicts = verify_all(retail(), propose_tasks(retail(), pattern, n=2 * n))
    found = [verdict.proposal for verdict in verdicts if verdict.task is not None]
    return tuple(found[:n])


def texts(request: Mapping[str, Any]) -> dict[str, str]:
    """What the model is asked to reword."""
    shown = request["messages"][1]["content"].removeprefix("<data>\n").removesuffix("\n</data>")
    found: dict[str, str] = json.loads(shown)["texts"]
    return found


def saying(change: Callable[[str], str]) -> Callable[[Mapping[str, Any]], str]:
    """A model that changes the texts of wishes, and leaves those of facts."""
    return lambda request: json.dumps({name: text if "fact" in name else change(text) for name, text in texts(request).items()})


def politely(text: str) -> str:
    return f"Hello! I hope you are well. {text} Thank you so much."


polite = saying(politely)


def ask(
    script: Any,
    items: Sequence[Task | TaskProposal] | None = None,
    *,
    world: Domain | None = None,
    model: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[Rewordings, list[dict[str, Any]]]:
    """(outcome, requests) under a scripted server."""
    with ModelServer(script) as server:
        asked = Model("tiny", base_url=server.url, **{"attempts": 1, **(model or {})})
        return paraphrase(world or retail(), accepted(1) if items is None else items, asked, **options), server.requests


# what is kept


def test_words_that_say_the_same_are_kept_and_the_task_passes_every_gate_in_them() -> None:
    found, _ = ask(polite, accepted())
    assert (found.reworded, found.counts, found.stopped) == (4, {}, None)
    for before, after in zip(accepted(), found.kept, strict=True):
        assert isinstance(after, TaskProposal)
        was, now = before.draft.scenario.wishes, after.draft.scenario.wishes
        assert [wish.text for wish in now] == [politely(wish.text) for wish in was]
        assert after.draft.scenario.goal == " ".join(wish.text for wish in now)
        assert (after.draft.criteria, after.foils) == (before.draft.criteria, before.foils)
        assert (after.model, after.draft.source) == ("tiny", before.draft.source)
        assert after.draft.id.rpartition("-")[0] == before.draft.id.rpartition("-")[0]
        assert after.draft.id != before.draft.id
        assert verify_proposal(retail(), after).task is not None


def test_the_model_is_shown_the_texts_and_a_voice_and_nothing_of_the_reference() -> None:
    _, requests = ask(polite, accepted(), voices=("upset",), asking=ONCE)
    for request, proposal in zip(requests, accepted(), strict=True):
        rules, data = (message["content"] for message in request["messages"])
        assert "Speak in this voice: upset\n" in rules
        assert set(request["response_format"]["json_schema"]["schema"]["properties"]) == set(texts(request))
        assert texts(request)["wish_0"] == proposal.draft.scenario.wishes[0].text
        call = proposal.draft.scenario.wishes[0].call
        assert call is not None
        assert call.name not in data


def test_a_task_comes_back_as_a_task_with_a_certificate_that_names_the_model() -> None:
    task = verify_proposal(retail(), accepted(1)[0]).task
    assert task is not None
    found, _ = ask(polite, [task])
    (after,) = found.kept
    assert isinstance(after, Task)
    assert after.scenario.goal != task.scenario.goal
    assert after.criteria == task.criteria


def test_same_seed_same_voices_and_each_voice_is_heard() -> None:
    def voices(seed: int) -> list[str]:
        _, requests = ask(polite, accepted(), seed=seed, asking=ONCE)
        return [request["messages"][0]["content"].partition("Speak in this voice: ")[2].split("\n")[0] for request in requests]

    assert voices(1) == voices(1)
    assert len({voice for seed in range(4) for voice in voices(seed)}) > 2


def test_other_words_for_a_fact_are_kept_where_they_have_its_form() -> None:
    def script(request: Mapping[str, Any]) -> str:
        said = {name: text.replace("I ordered it by mistake", "I just ordered it by mistake") for name, text in texts(request).items()}
        return json.dumps(said | {"wish_0": politely(texts(request)["wish_0"])})

    found, _ = ask(script, accepted(8), asking=ONCE)
    assert found.reworded >= 1


# what is refused


def refused(script: Any, items: Sequence[Task | TaskProposal] | None = None, **options: Any) -> tuple[str, str]:
    """(gate, reason) of the one answer; the original is kept."""
    items = accepted(1) if items is None else items
    found, _ = ask(script, items, asking=ONCE, **options)
    assert (found.reworded, found.kept) == (0, tuple(items))
    (refusal,) = found.refused
    assert found.counts == {refusal.gate: 1}
    return refusal.gate, refusal.reason


@pytest.mark.parametrize(
    ("script", "gate", "reason"),
    [
        ("I'd say it like this: please cancel it.", "answer", "Invalid JSON"),
        (lambda request: polite(request)[:60], "answer", "Invalid JSON: EOF while parsing"),
        ("{}", "answer", "Field required"),
        (lambda request: json.dumps({**texts(request), "wish_7": "And a pony."}), "answer", "wish_7: Extra inputs are not permitted"),
        (lambda request: json.dumps(dict.fromkeys(texts(request), 7)), "answer", "Input should be a valid string"),
        (saying(lambda text: text + " ###STOP###"), "answer", "must be one line of plain text"),
        (saying(lambda text: "x" * 900), "answer", "should have at most 800 characters"),
        (saying(lambda text: text), "slots", "it changes nothing"),
        (saying(lambda text: text + " My order number is #W7654321."), "slots", "it adds '#w7654321', a number or identifier"),
        (saying(lambda text: text + " I found it cheaper elsewhere."), "slots", "it adds 'cheaper'"),
        (saying(lambda text: text + " It is because my sister has one."), "slots", "it gives a reason that the original does not give"),
        (saying(lambda text: text + " And put it on my gift card."), "slots", "gift"),
        (saying(lambda text: "Please don't do it. " + text), "slots", "a negation or limit"),
    ],
)
def test_an_answer_that_does_not_hold_leaves_the_original(script: Any, gate: str, reason: str) -> None:
    found = refused(script if callable(script) else [script])
    assert found[0] == gate
    assert reason in found[1]
    assert "\n" not in found[1]


def test_a_refused_rewording_gets_one_repair_with_the_reason() -> None:
    turn = iter(range(9))
    found, requests = ask(lambda request: (saying(lambda text: text + " Do it twice, 2 times.") if next(turn) == 0 else polite)(request))
    assert (found.reworded, found.counts, len(requests)) == (1, {}, 2)
    (refusal,) = found.refused
    assert refusal.reason in requests[1]["messages"][3]["content"]


def test_after_one_repair_the_original_is_kept() -> None:
    found, requests = ask(["no"])
    assert (found.reworded, found.counts, found.kept, len(requests)) == (0, {"answer": 1}, accepted(1), 2)


def reading(meaning: Callable[[Fact], Sequence[Any] | None]) -> Domain:
    """Retail that reads the words of facts in this way."""

    def meanings(db: Database, scenario: Scenario, wish: Wish | None, fact: Fact) -> Sequence[Any] | None:
        is_new = any(each.text.startswith("Hello!") for each in scenario.wishes)
        return meaning(fact) if is_new else [fact.value]

    return replace(retail(), meanings=meanings)


@pytest.mark.parametrize(
    ("found", "reason"), [(None, "nothing that can be read"), ([], "could mean 0 things"), (["#W1", "#W2"], "could mean 2 things")]
)
def test_words_of_which_the_domain_reads_something_else_are_refused(found: Sequence[Any] | None, reason: str) -> None:
    gate, said = refused(polite, world=reading(lambda fact: found))
    assert gate == "meaning"
    assert reason in said


def test_words_of_which_the_domain_reads_the_value_are_kept() -> None:
    assert ask(polite, world=reading(lambda fact: [fact.value]))[0].reworded == 1


def test_a_task_that_does_not_pass_the_gates_is_not_better_in_other_words() -> None:
    proposal = accepted(1)[0].model_copy(update={"foils": ()})
    assert refused(polite, [proposal])[0] == "foil"
    broken = proposal.model_copy(update={"draft": proposal.draft.model_copy(update={"changes": {"moon": {}}})})
    assert refused(polite, [broken])[0] == "schema"


def test_a_domain_without_wishes_or_certificates_has_its_goal_reworded_or_says_why_not() -> None:
    library = load_domain("library")
    task = library.split("train")[0]
    assert refused(saying(lambda text: f"Hello! {text}"), [task], world=library)[0] == "foil"
    (proposal,) = propose_tasks(library, general_pattern(library), n=1)
    found, _ = ask(saying(lambda text: f"Good evening! {text} Cheers."), [proposal], world=library)
    assert found.reworded == 1


def test_no_voice_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no voice is given"):
        ask(polite, voices=())


# faults and budget


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("later", status=429), "rate"),
        (Reply("boom", status=500), "server"),
        (Reply(fault="hang"), "timeout"),
        (Reply(fault="cut"), "malformed"),
    ],
)
def test_one_lost_answer_leaves_one_original(reply: Reply, kind: str) -> None:
    turn = iter(range(99))
    found, _ = ask(
        lambda request: reply if next(turn) == 0 else polite(request),
        accepted(),
        model={"timeout": 3.0 if kind == "timeout" else 60.0},
        asking=ONCE,
    )
    assert (found.reworded, found.counts, found.stopped) == (3, {"model": 1}, None)
    assert found.kept[0] == accepted()[0]


def test_what_is_reworded_is_kept_when_the_budget_is_spent() -> None:
    found, requests = ask(polite, accepted(), model={"budget": Budget(max_tokens=6_000)}, asking=ONCE)
    assert found.out_of_budget
    assert 0 < found.reworded == len(requests) < 4
    assert found.kept[found.reworded :] == accepted()[found.reworded :]
    assert found.usage.tokens <= 6_000


def test_a_model_that_is_not_there_leaves_all_originals() -> None:
    found, requests = ask([Reply("no", status=401)], accepted(), asking=ONCE)
    assert (found.kept, len(requests)) == (accepted(), 3)
    assert found.stopped is not None
    assert "HTTP 401" in found.stopped


# the slot check by itself

LAMP = Task(
    id="lamp",
    domain="retail",
    scenario=Scenario(
        goal="",
        wishes=(
            Wish(
                text="",
                facts=(
                    Fact(slot="order", text="I don't have the number; it is the order with the winter hat", value="#W1"),
                    Fact(slot="new_item", text="the same but white, 2 m", value="77"),
                    Fact(slot="payment", text="my gift card", value="gift_card_12"),
                    Fact(slot="reason", text="I ordered it by mistake", value="ordered by mistake"),
                    Fact(slot="address", text="9 Oak Road, Boston", value={"address1": "9 Oak Road", "city": "Boston"}),
                ),
            ),
        ),
    ),
    criteria=Criteria(
        actions=(ToolCall(name="x", arguments={"colors": ["black", "white", "blue"], "methods": ["PayPal", "credit card", "desk lamp"]}),)
    ),
)


@cache
def check() -> Callable[[str, str], str | None]:
    slots = slots_of(retail(), retail().base, LAMP)
    return lambda original, reworded: why_not(slots, original, reworded)


@pytest.mark.parametrize(
    ("original", "reworded"),
    [
        ("Please cancel order #W12.", "Hi! Could you cancel order #W12 for me, please? Thanks a lot."),
        ("I want to cancel order #W12. I no longer need it.", "Cancel order #W12, I no longer need it."),
        ("I want to cancel order #W12. I no longer need it.", "I would like to cancel order #W12, because I no longer need it."),
        ("I want to exchange the black desk lamp for a white one.", "I'd love to exchange the black desk lamp; a white one, please."),
        ("Order #W12: I want to return the desk lamp.", "It's about order #W12. I'd like to return the desk lamp, if possible."),
        ("Ship it to 9 Oak Road, Boston.", "Could it go to 9 Oak Road, Boston? That's all, thank you!"),
        ("Cancel it. How much do I get back?", "Please cancel it, and how much do I get back?"),
        ("Use my PayPal. Nothing else will do.", "My PayPal, please; nothing else will do."),
        ("Please cancel order #W12.", "Look, I’m not happy. Cancel order #W12."),
    ],
)
def test_the_same_in_other_words_passes(original: str, reworded: str) -> None:
    assert check()(original, reworded) is None


@pytest.mark.parametrize(
    ("original", "reworded", "reason"),
    [
        ("Please cancel order #W12.", "Please cancel order #W12." + " Thank you." * 30, "say no more than that does"),
        ("Please cancel order #W12.", "Please cancel my order.", "it lacks '#w12', a number or identifier"),
        ("Please cancel order #W12.", "Please cancel order #W21.", "it lacks '#w12'"),
        ("Please cancel order #W12.", "Cancel #W12, yes, #W12!", "it adds '#w12'"),
        ("Please cancel order #W12.", "Please cancel order #W12 right now, it cost $5.", "it adds '$5'"),
        ("I want the lamp in black.", "I want the lamp in white.", "it lacks 'black', a value from the records"),
        ("I want the lamp in black.", "I want the lamp in black or blue.", "it adds 'blue'"),
        ("I want the desk lamp.", "I want the lamp.", "it lacks 'desk lamp'"),
        ("Refund it to my PayPal.", "Refund it to my credit card.", "it lacks 'paypal'"),
        ("Ship it to 9 Oak Road, Boston.", "Ship it to 9 Oak Road.", "it lacks 'boston'"),
        ("Ship it to me.", "Ship it to me in Denver.", "it names 'Denver'"),
        ("Please cancel order #W12.", "Please return order #W12.", "it lacks 'cancel', an action"),
        ("Please cancel order #W12.", "Please cancel order #W12 and cancel the others.", "it adds 'cancel', an action"),
        ("Please cancel order #W12.", "Please don't cancel order #W12.", "it adds 'a negation or limit"),
        ("Use my PayPal. Nothing else will do.", "Use my PayPal.", "it lacks 'a negation or limit"),
        ("If it is sold out, cancel it.", "It is sold out, cancel it.", "it lacks 'a condition"),
        ("Please cancel it.", "Please cancel it if it has not shipped.", "it adds 'a"),
        ("Please cancel it.", "Please cancel it. How much do I get?", "it adds 'a question for an amount'"),
        ("Return both lamps.", "Return the lamps.", "it lacks 'both', a quantity"),
        ("Please cancel it.", "Please cancel it and give me a discount.", "it adds 'discount', something to demand"),
        ("Please cancel it. I ordered it by mistake.", "Please cancel it.", "it lacks"),
        ("Please cancel it.", "Please cancel it, it was ordered by mistake.", "it adds"),
        ("Please cancel it.", "Please cancel it as it arrived damaged.", "it gives a reason"),
        ("Please cancel it.", "Please cancel it since it takes ages to come.", "it gives a reason"),
        ("I want to pay another way.", "I want to pay another way, with my gift card.", "it adds 'payment: gift_card'"),
        ("Please cancel my order.", "Please cancel my order, the one with the winter hat.", "which the original leaves out"),
        ("Please change the lamp in black.", "Please change the lamp in blаck.", "it lacks 'black'"),  # with a Cyrillic letter
    ],
)
def test_what_loses_or_adds_something_is_refused_with_what_it_is(original: str, reworded: str, reason: str) -> None:
    found = check()(original, reworded)
    assert found is not None
    assert reason in found


WORDS = (
    "please",
    "cancel",
    "return",
    "the",
    "black",
    "white",
    "desk lamp",
    "to my PayPal",
    "not",
    "if",
    "both",
    "#W12",
    "$5",
    "I",
    "because",
)
spoken = st.lists(st.sampled_from(WORDS), min_size=1)


@settings(derandomize=True, deadline=None)
@given(spoken, spoken)
def test_whatever_the_words_are_the_check_answers_and_a_text_says_what_it_says(one: list[str], other: list[str]) -> None:
    first, second = " ".join(one), " ".join(other)
    assert check()(first, first) is None
    found = check()(first, second)
    assert found is None or "\n" not in found
    if sorted(word for word in one if any(map(str.isdigit, word))) != sorted(word for word in other if any(map(str.isdigit, word))):
        assert found is not None
