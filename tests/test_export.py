"""What `sentinel export tau2` writes: that it loads as tau2-bench's own data does, grades as there, and what is left out."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel_env import Certificate, ConfigError, Criteria, Foil, Message, Scenario, Task, TaskError, ToolCall, load_domain, save_tasks
from sentinel_env.cli import app
from sentinel_env.episode import STOP, Episode
from sentinel_env.evaluation import evaluate
from sentinel_env.exporters.tau2 import FILES, communicate_info, export_tau2
from sentinel_env.tasks import Fact, Tau2Criteria, Wish
from sentinel_env.trajectory import record

RETAIL = load_domain("retail")
DB = RETAIL.base
ADDRESS = {"address1": "12 Oak Street", "address2": "", "city": "Austin", "country": "USA", "state": "TX", "zip": "78701"}


def call(name, **arguments):
    return ToolCall(name=name, arguments=arguments)


def variants_for(line):
    product = DB.products[line.product_id]
    return [variant for variant in product.variants.values() if variant.available and variant.item_id != line.item_id]


def find_order(status, lines=1, payment=""):
    """The first order of so many lines, each of which could become another variant, that was paid so."""
    for order in DB.orders.values():
        paid = order.payment_history[0].payment_method_id
        different = len({line.product_id for line in order.items}) == len(order.items)
        fits = order.status == status and len(order.items) == lines and paid.startswith(payment) and len(order.payment_history) == 1
        if fits and different and all(variants_for(line) for line in order.items):
            return order
    raise LookupError(status)


PENDING = find_order("pending")
CANCEL = call("cancel_pending_order", order_id=PENDING.order_id, reason="no longer needed")
TRANSFER = call("transfer_to_human_agents", summary="needs a person")


def task(task_id="t1", *, actions=(CANCEL,), **fields):
    criteria = {name: fields.pop(name) for name in ("communicate", "basis", "nothing_passes") if name in fields}
    fields = {"scenario": Scenario(goal="Please cancel it."), **fields}
    return Task(id=task_id, domain="retail", criteria=Criteria(actions=tuple(actions), **criteria), **fields)


def swap(name, order, count, **fields):
    """A call that replaces the first lines of an order by their first variants."""
    lines = order.items[:count]
    new = fields.pop("new", [variants_for(line)[0].item_id for line in lines])
    method = fields.pop("method", order.payment_history[0].payment_method_id)
    items = [line.item_id for line in lines]
    return call(name, order_id=order.order_id, item_ids=items, new_item_ids=new, payment_method_id=method)


@pytest.fixture
def export(tmp_path):
    def run(*tasks, force=False):
        return export_tau2(RETAIL, tasks, tmp_path / "out", force=force)

    return run


def rows(exported):
    return {row["id"]: row for row in json.loads((exported.folder / "tasks.json").read_text())}


def reload(exported):
    return load_domain("retail", data=exported.folder)


def reason(export, *tasks):
    """Why the last of several tasks is left out; the others are there so that something is written."""
    return export(task("other"), *tasks).left_out[tasks[-1].id]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return export_tau2(RETAIL, RETAIL.split(), tmp_path_factory.mktemp("own") / "out")


# the folder


def test_our_tasks_load_as_tau2_benchs_own_with_nothing_to_warn_of(own):
    there = reload(own)
    assert (there.dialect, there.warnings, there.policy) == ("tau2", (), RETAIL.policy)
    assert there.base.digest() == DB.digest()
    assert tuple(there.tasks_by_id) == own.tasks
    assert len(own.tasks) > 0.95 * len(RETAIL.split())


def test_every_reference_leads_to_the_same_state_unless_there_is_a_warning(own):
    there = reload(own)

    def cents(value):
        if isinstance(value, dict):
            return {key: cents(each) for key, each in value.items()}
        return [cents(each) for each in value] if isinstance(value, list) else round(value, 2) if isinstance(value, float) else value

    for id, twin in there.tasks_by_id.items():
        same = cents(RETAIL.reference_changes(RETAIL.tasks_by_id[id])) == cents(there.reference_changes(twin))
        assert same != any("another state than ours" in text for text in own.warnings.get(id, ())), id


def test_splits_are_kept_and_base_names_all(own):
    splits = json.loads((own.folder / "split_tasks.json").read_text())
    assert splits["base"] == list(own.tasks)
    assert {twin.id: twin.split for twin in reload(own).tasks_by_id.values()} == {id: RETAIL.tasks_by_id[id].split for id in own.tasks}


def test_carrying_out_the_reference_and_telling_passes_and_doing_nothing_fails(own):
    there = reload(own)
    for twin in there.tasks_by_id.values():
        for calls, words, reward in ((twin.criteria.actions, twin.criteria.communicate, 1), ((), (), 0)):
            episode = Episode(there, twin, max_steps=60)
            episode.hear(Message(role="user", content="Hello."))
            for made in calls:
                episode.act(Message(role="assistant", tool_calls=(made,)))
            episode.act(Message(role="assistant", content=f"Done. {' and '.join(words)}"))
            episode.hear(Message(role="user", content=STOP))
            assert evaluate(there, record(episode)).reward == reward, twin.id


def test_the_same_tasks_give_the_same_bytes_in_any_process(own, tmp_path):
    save_tasks(tmp_path / "tasks.jsonl", RETAIL.split())
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "sentinel_env", "export", "tau2", str(tmp_path / "tasks.jsonl"), str(tmp_path / seed)]
        subprocess.run(command, env={"PYTHONHASHSEED": seed, "PATH": ""}, check=True, capture_output=True)
        assert all((tmp_path / seed / file).read_bytes() == (own.folder / file).read_bytes() for file in FILES)


def test_tau2_benchs_own_tasks_come_out_as_they_came_in(shared, tmp_path):
    theirs = load_domain("retail", data=shared / "data" / "tau2_retail")
    exported = export_tau2(theirs, theirs.split(), tmp_path / "out")
    again = load_domain("retail", data=tmp_path / "out")
    assert set(exported.left_out) == {"105"}  # the write that tau2-bench's own tool refuses
    for id, twin in again.tasks_by_id.items():
        assert twin == theirs.tasks_by_id[id], id


# the database before the start


def test_changed_and_added_records_are_there_at_the_start(export):
    user = DB.users[PENDING.user_id]
    added = {**DB.orders[PENDING.order_id].model_dump(mode="json"), "order_id": "#W0000001"}
    card = {"source": "gift_card", "id": "gift_card_1", "balance": 12.5}
    methods = {**user.model_dump(mode="json")["payment_methods"], "gift_card_1": card}
    changes = {
        "orders": {"#W0000001": added, PENDING.order_id: {"status": "processed"}},
        "users": {user.user_id: {"orders": [*user.orders, "#W0000001"], "payment_methods": methods}},
    }
    made = task(changes=changes, actions=[CANCEL.model_copy(update={"arguments": {"order_id": "#W0000001", "reason": "no longer needed"}})])
    exported = export(made)
    there = reload(exported)
    assert there.start(there.tasks_by_id["t1"]).digest() == RETAIL.start(made).digest()
    assert rows(exported)["t1"]["initial_state"] == {"initialization_data": {"agent_data": changes, "user_data": None}}


def test_what_the_start_lacks_cannot_be_said_in_tau2_benchs_format(export):
    other = find_order("delivered")
    removed = task(changes={"orders": {other.order_id: None}})
    assert reason(export, removed) == f"changes: orders[{other.order_id!r}] is removed, which tau2-bench's initial state cannot do"


def test_a_field_of_which_something_is_taken_away_is_not_merged(export):
    user = DB.users[PENDING.user_id]
    fewer = task(
        changes={"users": {user.user_id: {"payment_methods": {}}}}, actions=[call("modify_user_address", user_id=user.user_id, **ADDRESS)]
    )
    assert "comes out otherwise, because tau2-bench merges field by field" in reason(export, fewer)


# what tau2-bench's tools do otherwise


def test_a_modification_of_several_items_is_left_out_because_their_order_decides(export):
    order = find_order("pending", lines=2, payment="credit")
    several = task(actions=[swap("modify_pending_order_items", order, 2)])
    assert reason(export, several).startswith("modify_pending_order_items with its items in another order is as right, but does not pass")
    exported = export(task(actions=[swap("modify_pending_order_items", order, 1)]), force=True)
    assert (exported.left_out, exported.warnings) == ({}, {})


def test_where_calls_are_graded_the_order_of_items_decides_here_too(export):
    order = find_order("delivered", lines=2, payment="credit")
    items = [line.item_id for line in order.items]
    method = order.payment_history[0].payment_method_id
    returned = call("return_delivered_order_items", order_id=order.order_id, item_ids=items, payment_method_id=method)
    assert export(task(actions=[returned], basis=("actions",))).tasks == ("t1",)


def test_an_exchange_that_loses_its_pairs_is_warned_of_also_in_the_task(export):
    order = find_order("delivered", lines=2, payment="credit")
    by_item = sorted(order.items, key=lambda line: line.item_id)
    pairs = [(one.item_id, other.item_id) for one, other in product(*map(variants_for, by_item)) if one.item_id > other.item_id]
    method = order.payment_history[0].payment_method_id
    items = [line.item_id for line in by_item]
    arguments = {"order_id": order.order_id, "item_ids": items, "new_item_ids": list(pairs[0]), "payment_method_id": method}
    made = call("exchange_delivered_order_items", **arguments)
    exported = export(task(actions=[made]))
    warning = f"tau2-bench's tools lead to another state than ours: orders[{order.order_id!r}].exchange_new_items."
    assert exported.warnings == {"t1": (warning,)}
    assert rows(exported)["t1"]["description"]["notes"] == warning


def test_a_reference_that_only_tau2_benchs_tool_refuses_is_left_out(export):
    """A gift card that holds the difference to the cent, of which tau2-bench's unrounded sum is a little more."""
    for order in DB.orders.values():
        line = order.items[0]
        if order.status != "pending" or len(order.items) > 1:
            continue
        for variant in variants_for(line):
            difference = variant.price - line.price
            if 0 < round(difference, 2) < difference:
                card = {"source": "gift_card", "id": "gift_card_1", "balance": round(difference, 2)}
                methods = {**DB.users[order.user_id].model_dump(mode="json")["payment_methods"], "gift_card_1": card}
                changes = {"users": {order.user_id: {"payment_methods": methods}}}
                exact = task(
                    changes=changes,
                    actions=[swap("modify_pending_order_items", order, 1, new=[variant.item_id], method="gift_card_1")],
                )
                expected = "reference action 0 (modify_pending_order_items): tau2-bench's tool refuses it: Insufficient gift card balance"
                assert reason(export, exact).startswith(expected)
                return
    raise AssertionError("no such difference")


def test_a_task_whose_own_mistake_passes_there_is_left_out(export):
    """tau2-bench's tools take a new address after an item modification, so that the order of the two does not matter there."""
    order = find_order("pending", payment="credit")
    actions = [call("modify_pending_order_address", order_id=order.order_id, **ADDRESS), swap("modify_pending_order_items", order, 1)]
    mistake = Foil.between("order_dependency", actions, actions[::-1])
    certificate = Certificate(pattern="p", label="order_dependency", version="0", foils=(mistake,))
    expected = "the mistake that it was made for (order_dependency) passes under tau2-bench's tools"
    assert reason(export, task(actions=actions, certificate=certificate)) == expected
    other = certificate.model_copy(
        update={"label": "missing_write", "unpunished": "-", "foils": (mistake, Foil(label="missing_write", drop=1))}
    )
    exported = export(task(actions=actions, certificate=other), force=True)
    assert exported.warnings["t1"] == ("Under tau2-bench's tools a wrong plan passes too: order_dependency.",)
    assert rows(exported)["t1"]["description"] == {
        "purpose": "Made for failure pattern 'p' (missing_write). 0 gates passed. Wrong plans that fail it: 1 (missing_write).",
        "relevant_policies": None,
        "notes": "Under tau2-bench's tools a wrong plan passes too: order_dependency. "
        "It gives the opportunity for the pattern's mistake, which does not fail it: -.",
    }


def test_a_task_that_is_passed_by_doing_nothing_is_left_out_unless_that_is_intended(export):
    look = call("get_order_details", order_id=PENDING.order_id)
    assert reason(export, task(actions=[look])) == "an agent that does nothing passes under tau2-bench's rules"
    exported = export(task(actions=[look], nothing_passes="there is nothing to do"), force=True)
    assert exported.warnings["t1"] == ("An agent that does nothing passes: there is nothing to do.",)


def test_a_reference_that_our_tools_refuse_is_left_out_with_their_words(export):
    twice = task(actions=[CANCEL, CANCEL])
    assert reason(export, twice) == "reference action 1 (cancel_pending_order): Non-pending order cannot be cancelled"


# checks


def test_a_hand_over_becomes_an_action_that_is_compared_by_name(export):
    look = call("get_order_details", order_id=PENDING.order_id)
    exported = export(task(actions=[look, CANCEL, TRANSFER], basis=("database", "communicate", "transfer")))
    criteria = rows(exported)["t1"]["evaluation_criteria"]
    assert [(action["name"], action["compare_args"]) for action in criteria["actions"]] == [(CANCEL.name, []), (TRANSFER.name, [])]
    assert criteria["reward_basis"] == ["DB", "COMMUNICATE", "ACTION"]
    assert exported.warnings == {}


def test_a_needless_hand_over_goes_unpunished_there(export):
    exported = export(task(basis=("database", "transfer")))
    assert exported.warnings["t1"] == ("tau2-bench does not punish a hand-over that is not needed.",)
    assert rows(exported)["t1"]["evaluation_criteria"]["reward_basis"] == ["DB"]


def test_actions_are_compared_by_all_their_arguments(export):
    exported = export(task(actions=[CANCEL, TRANSFER], basis=("actions",)))
    criteria = rows(exported)["t1"]["evaluation_criteria"]
    assert [action["compare_args"] for action in criteria["actions"]] == [["order_id", "reason"], []]
    assert criteria["reward_basis"] == ["ACTION"]


@pytest.mark.parametrize(
    ("said", "info"),
    [
        ("1,234.50", "1234.5"),
        ("$99.00", "99"),
        ("0.07", "0.07"),
        ("SUV, black", "SUV black"),
        ("02134", "02134"),
        ("1000", "1000"),
        (",", ""),
    ],
)
def test_what_must_be_said_is_found_by_tau2_benchs_rule_in_whatever_passes_ours(said, info):
    assert communicate_info(Criteria(communicate=(said,))) == ([info] if info else [])
    assert info.lower() in f"That is {said}.".lower().replace(",", "")


def test_criteria_from_tau2_bench_are_kept_as_they_are():
    assert communicate_info(Criteria(communicate=("1,234.50",), basis=("tau2",), tau2=Tau2Criteria())) == ["1,234.50"]


def test_a_short_number_is_warned_of(export):
    exported = export(task(communicate=("7", "8.50", "1,000")))
    assert exported.warnings["t1"] == ("'7' is also found as a part of longer numbers.", "'8.5' is also found as a part of longer numbers.")


# the user


def test_the_user_is_told_what_it_knows_in_words_and_no_value_of_a_tool(export):
    wishes = (
        Wish(
            text="Please cancel the order with the lamp. How much do I get back?",
            call=CANCEL,
            facts=(
                Fact(slot="order", text="the order with the lamp", value=PENDING.order_id),
                Fact(slot="reason", text="I no longer need it", value="no longer needed"),
            ),
            slip="Please cancel the order with the vase.",
        ),
        Wish(text="Can I return the rug?", labels={"item_1": "the rug"}),
        Wish(text="How many rugs are there?", answers=("12",)),
        Wish(text="I want to talk about the invoice.", transfer=True),
    )
    known = {"name": "Ann Lee", "zip": "12345"}
    scenario = Scenario(goal="-", known=known, unknown="Your user id.", wishes=wishes, persona="You are in a hurry.", reveal="together")
    exported = export(task(scenario=scenario), task("t2", scenario=scenario.model_copy(update={"reveal": "one by one"})))
    user = rows(exported)["t1"]["user_scenario"]
    told = user["instructions"]
    assert (user["persona"], told["domain"], told["unknown_info"]) == ("You are in a hurry.", "retail", "Your user id.")
    assert told["reason_for_call"].splitlines()[:3] == [
        "What you want, in this order, as you would say it:",
        '1. "Please cancel the order with the vase."',
        '2. "Can I return the rug?"',
    ]
    assert told["known_info"] == 'Your name: Ann Lee\nYour zip: 12345\nWhen asked about request 1:\n- a reason: "I no longer need it"'
    lines = told["task_instructions"].splitlines()
    assert lines[0] == "Name everything that you want in your first message."
    assert lines[1].startswith("Request 1 is worded with a mistake at first.")
    assert lines[1].endswith('"Please cancel the order with the lamp. How much do I get back?"')
    assert lines[2] == "Request 2: if the agent says that it cannot be done, accept that and decline alternatives."
    assert lines[3] == "Request 3 is a question: be satisfied when the agent has answered it."
    assert lines[4] == "Request 4: if the agent says that a person has to settle it, agree to be transferred."
    assert "Raise one request at a time" in rows(exported)["t2"]["user_scenario"]["instructions"]["task_instructions"]
    assert not {PENDING.order_id, "no longer needed", "item_1"} & set(json.dumps(told).replace('"', " ").split())


# the command


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tasks("tasks.jsonl", [task(), task("t2", actions=[call("list_all_product_types")])])

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["export", "tau2", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    return run


def test_the_command_says_what_was_written_and_what_was_not(sentinel):
    result = sentinel("tasks.jsonl", "out")
    assert result.stdout == "1 of 2 tasks in out\n"
    assert result.stderr == "left out: task 't2': an agent that does nothing passes under tau2-bench's rules\n"
    told = json.loads(sentinel("tasks.jsonl", "out", "--force", "--json").stdout)
    assert (told["tasks"], list(told["left_out"]), told["warnings"]) == (["t1"], ["t2"], {})
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(FILES)


def test_an_earlier_export_is_not_overwritten_without_force(sentinel):
    sentinel("tasks.jsonl", "out")
    text = sentinel("tasks.jsonl", "out", code=1).stderr
    assert text == (
        "sentinel: out holds db.json, tasks.json, split_tasks.json, policy.md already; name another folder, or overwrite with --force\n"
    )


def test_bad_input_is_one_line(sentinel):
    Path("empty.jsonl").write_text("\n")
    Path("file").write_text("")
    save_tasks("nothing.jsonl", [task("t2", actions=[call("list_all_product_types")])])
    save_tasks("foreign.jsonl", [task(), task("t3").model_copy(update={"domain": "library"})])
    library = load_domain("library")
    save_tasks("library.jsonl", library.split())
    expected = {
        ("empty.jsonl", "out"): "empty.jsonl holds no task",
        ("absent.jsonl", "out"): "cannot read tasks from absent.jsonl",
        ("tasks.jsonl", "file/out"): "cannot write file/out: Not a directory",
        ("tasks.jsonl", "out", "--domain", "retial"): "no domain 'retial'; did you mean 'retail'?",
        ("foreign.jsonl", "out"): "task 't3' is for domain 'library', found in 'retail'",
        ("nothing.jsonl", "out"): "none of 1 tasks can be exported, such as 't2': an agent that does nothing passes",
        (
            "library.jsonl",
            "out",
        ): "domain 'library' cannot be exported: tau2-bench runs its own domains only, and none has the tables loans",
    }
    for arguments, text in expected.items():
        error = sentinel(*arguments, code=1).stderr
        assert error.startswith(f"sentinel: {text}"), error
        assert error.count("\n") == 1
        assert not Path("out").exists()


def test_an_id_that_occurs_twice_and_no_tasks_at_all_are_refused(export):
    with pytest.raises(TaskError, match="task id 't1' occurs twice"):
        export(task(), task())
    with pytest.raises(TaskError, match="no tasks to export"):
        export()


def test_a_database_of_the_right_tables_with_other_records_is_refused(tmp_path):
    from sentinel_env import Database, Domain, Record, Table

    class Thing(Record):
        name: str

    class Shop(Database):
        users: Table[Thing]
        orders: Table[Thing]
        products: Table[Thing]

    shop = Domain(name="retail", policy="-", tools=RETAIL.tools, database=lambda: Shop(users={"u": Thing(name="Ann")}))
    with pytest.raises(ConfigError, match=r"the database does not fit tau2-bench's retail: .*users\['u'\]"):
        export_tau2(shop, [task()], tmp_path / "out")
