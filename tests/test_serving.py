"""`sentinel serve` without any framework, and what an MCP session can do before the SDK is around it."""

import asyncio
import json
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sentinel_env import Message, ModelError, ScriptedUser, load_domain, tool
from sentinel_env.adapters.mcp_lines import INVALID_REQUEST, MAX_FRAME, PARSE_ERROR, FrameError, read_frame
from sentinel_env.adapters.mcp_visit import BROKEN, CLOSED, MAX_WAITING, TOO_EARLY, InternalError, Visit
from sentinel_env.adapters.source import Source
from sentinel_env.cli import app


def sentinel(*arguments, code):
    result = CliRunner().invoke(app, ["serve", *arguments], prog_name="sentinel")
    assert result.exit_code == code, (result.output, result.exception)
    return result


# the verb


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    found = sentinel("mcp", "library", code=1)
    assert found.stderr == "sentinel: this needs mcp, which is not installed; pip install 'sentinel-env[mcp]'\n"


def test_both_kinds_of_server_take_the_same_options():
    shared = ["--split", "--tasks", "--user", "--data", "--option", "--max-steps", "--host", "--port", "--max-sessions", "--idle-seconds"]
    for kind in ("openenv", "mcp"):
        shown = sentinel(kind, "--help", code=0).stdout
        assert [option for option in shared if f"{option} " not in shown] == []


@pytest.mark.parametrize("arguments", [("--port", "70000"), ("--max-sessions", "0"), ("--idle-seconds", "0"), ("--max-steps", "0")])
def test_limits_that_make_no_sense_are_wrong_usage(arguments):
    sentinel("mcp", "library", *arguments, code=2)


def test_an_interrupted_openenv_server_says_so_as_other_verbs_do():
    pytest.importorskip("openenv", reason="the extra `openenv` is not installed")
    command = [sys.executable, "-m", "sentinel_env", "serve", "openenv", "library", "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        warned, ready = server.stderr.readline(), server.stderr.readline()
        server.send_signal(signal.SIGINT)
        last = server.communicate(timeout=30)[1]
    assert warned == "sentinel: warning: 0.0.0.0 can be reached from other machines, and nobody is asked for a password\n"
    assert " is served at http://0.0.0.0:" in ready
    assert (server.returncode, last) == (130, "sentinel: stopped\n")


# frames


def refusal(raw):
    with pytest.raises(FrameError) as caught:
        read_frame(raw)
    return caught.value.code, str(caught.value), caught.value.identifier


@pytest.mark.parametrize(
    ("raw", "code", "says"),
    [
        (b"{nonsense", PARSE_ERROR, "not valid JSON"),
        (b'{"a": "\xff"}', PARSE_ERROR, "not valid JSON"),
        (b"", PARSE_ERROR, "not valid JSON"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"a": NaN}}', PARSE_ERROR, "not a JSON number"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"a": 1e999}}', PARSE_ERROR, "not a JSON number"),
        (b'{"jsonrpc": "2.0", "id": ' + b"9" * 5000 + b"}", PARSE_ERROR, "not valid JSON"),
        (b"[" * 100_000, INVALID_REQUEST, "nested deeper"),
        (b'{"a": ' * 60 + b"1" + b"}" * 60, INVALID_REQUEST, "nested deeper"),
        (b"[]", INVALID_REQUEST, "found list"),
        (b"7", INVALID_REQUEST, "found int"),
        (b'{"id": 1, "method": "x"}', INVALID_REQUEST, "jsonrpc"),
        (b'{"jsonrpc": "2.0", "id": [1], "method": "x"}', INVALID_REQUEST, "id"),
        (b'{"jsonrpc": "2.0", "id": true, "method": "x"}', INVALID_REQUEST, "id"),
        (b'{"jsonrpc": "2.0", "id": null, "method": "x"}', INVALID_REQUEST, "id"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', INVALID_REQUEST, "method"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": [1]}', INVALID_REQUEST, "params"),
        (b'{"jsonrpc": "2.0", "id": 1}', INVALID_REQUEST, "has a method"),
        (b'"' + b"x" * MAX_FRAME + b'"', INVALID_REQUEST, "more than"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
def test_what_is_no_message_is_refused_with_the_reason(raw, code, says):
    found, text, _ = refusal(raw)
    assert (found, says in text) == (code, True), text


def test_a_refusal_names_the_request_where_it_can_be_read():
    assert refusal(b'{"jsonrpc": "2.0", "id": "seven", "method": 5}')[2] == "seven"


def test_lone_surrogates_do_not_pass():
    frame = read_frame(b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"a": "\\ud800"}}')
    assert frame["params"] == {"a": "?"}


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_whatever_comes_is_a_message_or_a_refusal(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    try:
        frame = read_frame(raw)
    except FrameError as error:
        frame = json.loads(error.to_wire())
    assert frame["jsonrpc"] == "2.0"


# a session


LIBRARY = load_domain("library")


class WaitingUser:
    """Says who it talks to at the same time, and answers when it is let."""

    name = "waiting"

    def __init__(self):
        self.heard, self.at_once, self.most = [], 0, 0
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def reply(self, view):
        self.heard.append(view.messages[-1].content)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if len(view.messages) > 1:
            self.asked.set()
            await self.may_answer.wait()
        self.at_once -= 1
        return Message(role="user", content=f"answer to: {view.messages[-1].content}")


class OutOfOrder:
    name = "out of order"

    def reply(self, view):
        raise ModelError("key sk-123 was refused at https://models.internal", kind="refused")


def visiting(use, *, user=ScriptedUser, task=None, domain=LIBRARY, record=None):
    """What `use(visit, source)` returns."""

    async def run():
        source = Source.open(domain, user=user())
        visit = Visit(source, task, record)
        try:
            return await use(visit, source)
        finally:
            await visit.close()

    return asyncio.run(run())


def test_calls_of_one_session_are_carried_out_in_order_and_never_at_once():
    async def use(visit, source):
        user = source.user
        await visit.call("begin", {"row": 0})
        calls = [asyncio.create_task(visit.call("message_user", {"message": f"number {at}"})) for at in range(5)]
        await user.asked.wait()
        user.may_answer.set()
        answers = await asyncio.gather(*calls)
        return user, answers

    user, answers = visiting(use, user=WaitingUser)
    assert user.most == 1
    assert [answer.texts[0] for answer in answers] == [f"answer to: number {at}" for at in range(5)]


def test_a_call_whose_client_runs_away_is_carried_out_and_the_next_one_works():
    async def use(visit, source):
        user = source.user
        await visit.call("begin", {"row": 0})
        call = asyncio.create_task(visit.call("message_user", {"message": "hello"}))
        await user.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        user.may_answer.set()
        return await visit.call("find_loans", {"member_id": "M7"})

    answer = visiting(use, user=WaitingUser)
    assert not answer.is_error
    assert "Dune" in answer.texts[0]


def test_a_session_that_is_closed_in_the_middle_of_a_call_is_recorded_as_cut():
    seats = []

    async def use(visit, source):
        await visit.call("begin", {"row": 0})
        call = asyncio.create_task(visit.call("message_user", {"message": "hello"}))
        await source.user.asked.wait()
        await visit.close()
        with pytest.raises(asyncio.CancelledError):
            await call
        return await visit.call("find_loans", {"member_id": "M7"})

    answer = visiting(use, user=WaitingUser, record=seats.append)
    assert answer.is_error
    assert [(seat.episode.ending, seat.reward) for seat in seats] == [("limit", 0.0)]


def test_too_many_calls_at_once_are_refused_and_the_others_answered():
    async def use(visit, source):
        user = source.user
        await visit.call("begin", {"row": 0})
        calls = [asyncio.create_task(visit.call("message_user", {"message": "hello"})) for _ in range(MAX_WAITING + 3)]
        await user.asked.wait()
        user.may_answer.set()
        return await asyncio.gather(*calls)

    refused = [answer for answer in visiting(use, user=WaitingUser) if "wait already" in answer.texts[0]]
    assert len(refused) == 3


def test_a_fault_of_infrastructure_is_no_reward_and_its_words_stay_here():
    async def use(visit, _):
        return await visit.call("begin", {"row": 0}), await visit.call("find_loans", {"member_id": "M7"}), await visit.call("finish", {})

    begun, after, verdict = visiting(use, user=OutOfOrder)
    assert begun.is_error
    assert after.is_error
    assert verdict.data == {"passed": None, "reward": None, "ending": None, "failed": [], "error": "refused"}
    assert "No reward" in verdict.texts[0]
    assert "sk-123" not in str((begun, after, verdict))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "by its id or by its row"),
        ({"row": 0, "task": "renew-dune"}, "by its id or by its row"),
        ({"row": 1}, "no row 1"),
        ({"row": True}, "must be a valid integer"),
        ({"row": "0"}, "must be a valid integer"),
        ({"row": -1}, "no row -1"),
        ({"task": "renew-dun"}, "did you mean 'renew-dune'"),
        ({"rows": 0}, "unknown argument 'rows'"),
        ({"row": 0, "seed": 1.5}, "must be a valid integer"),
    ],
)
def test_a_task_that_cannot_be_begun_is_refused_and_another_one_can(arguments, says):
    async def use(visit, _):
        return await visit.call("begin", arguments), await visit.call("begin", {"row": 0}), await visit.call("begin", {"row": 0})

    refused, begun, again = visiting(use)
    assert refused.is_error
    assert says in refused.texts[0]
    assert begun.texts == ("Renew Dune for me.",)
    assert again.is_error


def test_what_was_changed_while_looking_around_is_not_in_the_episode():
    async def use(visit, _):
        renewed = await visit.call("renew_loan", {"loan_id": "L1"})
        await visit.call("begin", {"row": 0})
        return renewed, await visit.call("find_loans", {"member_id": "M7"})

    renewed, found = visiting(use)
    assert '"renewed"' in renewed.texts[0]
    assert '"on loan"' in found.texts[0]


def test_where_there_is_one_task_nothing_can_be_done_before_it_begins():
    async def use(visit, _):
        early = [await visit.call(name, {}) for name in ("find_loans", "message_user", "finish")]
        return early, await visit.call("begin", {"row": 0}), await visit.call("begin", {"seed": 3})

    early, refused, begun = visiting(use, task="renew-dune")
    assert [answer.texts for answer in early] == [(TOO_EARLY,)] * 3
    assert "unknown argument 'row'; begin takes seed" in refused.texts[0]
    assert begun.texts == ("Renew Dune for me.",)


def test_the_verdict_says_what_kind_of_check_failed_and_stays_the_same_and_ends_the_session():
    async def use(visit, _):
        await visit.call("begin", {"row": 0})
        return [await visit.call(name, {}) for name in ("finish", "finish", "find_loans", "begin", "message_user", "no_such_tool")]

    first, again, *others = visiting(use)
    assert first.data == {"passed": False, "reward": 0.0, "ending": "agent_stop", "failed": ["communicate", "database"], "error": None}
    assert again == first
    assert [answer.texts for answer in others] == [(CLOSED,)] * 4
    assert not any(word in first.texts[0] for word in ("renew_loan", "L1", "two weeks"))


def test_arguments_that_finish_does_not_take_do_not_end_the_session():
    async def use(visit, _):
        await visit.call("begin", {"row": 0})
        return await visit.call("finish", {"now": True}), await visit.call("find_loans", {"member_id": "M7"})

    refused, found = visiting(use)
    assert "unknown argument 'now'" in refused.texts[0]
    assert not found.is_error


def test_a_message_that_is_no_text_counts_as_the_agents_mistake():
    async def use(visit, _):
        await visit.call("begin", {"row": 0})
        answers = [await visit.call("message_user", {"message": 5}) for _ in range(10)]
        return answers, await visit.call("finish", {})

    answers, verdict = visiting(use)
    assert all(answer.is_error for answer in answers)
    assert answers[-1].texts[-1].startswith("The conversation is over (max_errors)")
    assert verdict.data["ending"] == "max_errors"


@tool
def break_down(db: object) -> str:
    """Crash."""
    raise ZeroDivisionError("a secret of the database")


def test_a_crash_is_told_to_nobody_but_the_log_and_ends_the_session(caplog):
    from dataclasses import replace

    domain = replace(LIBRARY, tools=(*LIBRARY.tools, break_down))
    seats = []

    async def use(visit, _):
        await visit.call("begin", {"row": 0})
        with pytest.raises(InternalError) as caught:
            await visit.call("break_down", {})
        return caught.value, await visit.call("finish", {})

    crash, after = visiting(use, domain=domain, record=seats.append)
    assert str(crash) == ""
    assert after.texts == (BROKEN,)
    assert "a secret of the database" in caplog.text
    assert "Traceback" in caplog.text
    assert seats == []


def test_sessions_share_nothing_but_the_database_they_began_with():
    async def use(visit, source):
        other = Visit(source)
        await visit.call("renew_loan", {"loan_id": "L1"})
        return await other.call("find_loans", {"member_id": "M7"})

    assert '"on loan"' in visiting(use).texts[0]
