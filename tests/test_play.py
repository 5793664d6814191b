"""`sentinel play`: a person is the user or the agent, against scripts and models, with piped input and on a terminal."""

import os
import pty
import select
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from scripted_models import scripted
from typer.testing import CliRunner

from sentinel_env import load_domain
from sentinel_env.cli import app
from sentinel_env.model_server import ModelServer, Reply

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")

TALK = "I want to renew Dune.\nM7\nyes\nThanks! /stop\n"


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0, typed=""):
        result = CliRunner().invoke(app, ["play", *map(str, arguments)], prog_name="sentinel", input=typed)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def library():
    return load_domain("library")


def agent_script(domain, replies=None):
    """A model that plays the scripted agent, after these replies."""
    script, left = scripted(domain, domain.split()), list(replies or ())
    return lambda request: left.pop(0) if left and len(request["messages"]) > 1 and "tools" in request else script(request)


# the user


def test_a_person_is_the_user_of_a_scripted_agent(sentinel):
    shown = sentinel("library", "--as", "user", typed=TALK).stdout
    assert "card number: M7" in shown.split("agent>")[0]
    assert "agent> May I have your card number, please?\nyou> M7" in shown
    assert "The conversation ended (user_stop). The agent passed." in shown


def test_the_user_never_sees_calls_the_reference_or_the_rules(sentinel, library):
    shown = sentinel("library", "--as", "user", typed=TALK).stdout
    talk = shown.split("The conversation ended")[0]
    assert "renew_loan" not in talk
    assert '{"title"' not in talk
    assert library.policy.splitlines()[0] not in talk
    assert "two weeks" not in talk.split("agent> That is done")[0]


def test_commands_are_explained_and_are_not_said(sentinel):
    shown = sentinel("library", "--as", "user", typed="/fly away\n/scenario\n\n" + TALK).stdout
    assert "there is no /fly; /stop, /transfer, /out, /scenario or /quit" in shown
    assert shown.count("card number: M7") == 2
    assert "The agent passed." in shown


ENDS = [("/stop", "user_stop"), ("/transfer", "transfer"), ("I don't know. /out", "out_of_scope"), ("Bye ###STOP###", "user_stop")]


@pytest.mark.parametrize(("typed", "ending"), ENDS)
def test_the_user_can_end_it_in_each_way(sentinel, typed, ending):
    shown = sentinel("library", "--as", "user", typed=f"{typed}\n").stdout
    assert f"The conversation ended ({ending}). The agent did not pass:" in shown


@pytest.mark.parametrize("typed", ["", "/quit\n", "Renew Dune.\n/quit\n", "Renew Dune."])
def test_the_user_can_leave(sentinel, typed):
    assert "The conversation ended (user_stop). The agent did not pass:" in sentinel("library", "--as", "user", typed=typed).stdout


def test_a_model_is_the_agent_and_what_it_took_is_said(sentinel, library):
    with ModelServer(agent_script(library), models=["tiny"]) as server:
        shown = sentinel("library", "--as", "user", "--model", "tiny", "--base-url", server.url, "--prices", "1,1", typed=TALK).stdout
    assert "the agent is tiny" in shown
    assert "The agent passed." in shown
    assert "asked now" in shown
    assert "agent  tiny" in shown


def test_an_outage_is_said_and_the_model_is_asked_again_when_the_person_wants_it(sentinel, library):
    down = [Reply("no such deployment", status=404)]
    with ModelServer(agent_script(library, down), models=["tiny"]) as server:
        arguments = ("library", "--as", "user", "--model", "tiny", "--base-url", server.url)
        shown = sentinel(*arguments, typed=TALK.replace("\n", "\n\n", 1)).stdout
    assert "no answer: model tiny: HTTP 404: no such deployment" in shown
    assert "Enter asks again, /quit leaves" in shown
    assert "The agent passed." in shown
    with ModelServer(agent_script(library, down), models=["tiny"]) as server:
        shown = sentinel("library", "--as", "user", "--model", "tiny", "--base-url", server.url, typed="Hi\n/quit\n").stdout
    assert "The conversation ended (agent_stop)." in shown


def test_a_dialogue_that_is_too_long_for_the_model_is_cut(sentinel, library):
    long = [Reply("This model's maximum context length is 8 tokens", status=400)]
    with ModelServer(agent_script(library, long), models=["tiny"]) as server:
        shown = sentinel("library", "--as", "user", "--model", "tiny", "--base-url", server.url, typed=TALK).stdout
    assert "The conversation ended (limit)." in shown


# the agent


def test_a_model_is_the_user_of_a_person(sentinel, library):
    lines = ["May I have your card number, please?", "/renew_loan loan_id=L1", "That is done: two weeks. Anything else?", "/quit"]
    with ModelServer(scripted(library, library.split()), models=["tiny"]) as server:
        shown = sentinel("library", "--user-model", "tiny", "--user-base-url", server.url, typed="\n".join(lines) + "\n").stdout
    assert "user> Renew Dune for me." in shown
    assert "user> It's M7." in shown or "M7" in shown
    assert "Passed." in shown
    assert "user  tiny" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent", "scripted"], "you are the agent; --agent and --model are for --as user"),
        (["--model", "m"], "you are the agent; --agent and --model are for --as user"),
        (["--as", "user", "--user", "scripted"], "you are the user; --user and --user-model are for --as agent"),
        (["--as", "user", "--user-model", "m"], "you are the user; --user and --user-model are for --as agent"),
        (["--as", "user", "--base-url", "http://127.0.0.1:9/v1"], "--base-url is for a model; name it with --model"),
        (["--as", "user", "--model", "hf:here"], "hf:here cannot be played with; serve the checkpoint"),
        (["--as", "user", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"], "connection refused"),
        (["--as", "user", "--task", "none"], "domain library has no task 'none'; such as renew-dune"),
    ],
)
def test_wrong_options_are_one_line(sentinel, arguments, message):
    result = sentinel("library", *arguments, code=1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_part_that_there_is_not_is_wrong_usage(sentinel):
    assert "'agent', 'user'" in sentinel("library", "--as", "judge", code=2).stderr


# a terminal


def read_until(terminal, wanted, seen="", seconds=60):
    """What a terminal shows up to the wanted words."""
    until = time.monotonic() + seconds
    while wanted not in seen:
        assert time.monotonic() < until, seen
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 4096).decode().replace("\r\n", "\n")
            except OSError:
                break  # the other end is closed
    return seen


def test_on_a_terminal_each_line_is_answered_as_it_is_typed(tmp_path):
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "sentinel_env", "play", "library", "--as", "user"]
    process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, cwd=tmp_path, env={**os.environ, "TERM": "dumb"})
    os.close(other)
    prompts = ("How can I help you today?", "card number, please?", "(yes/no)?", "anything else")
    for typed, prompt in zip(TALK.splitlines(), prompts, strict=True):
        assert "you> " in read_until(terminal, "you> ", read_until(terminal, prompt).partition(prompt)[2])
        os.write(terminal, f"{typed}\n".encode())
    assert "The agent passed." in read_until(terminal, "The agent passed.")
    assert process.wait(timeout=60) == 0
    os.close(terminal)


def test_an_interrupt_ends_it_with_130(tmp_path):
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "sentinel_env", "play", "library", "--as", "user"]
    process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, cwd=tmp_path, start_new_session=True)
    os.close(other)
    read_until(terminal, "you> ")
    for _ in range(60):  # one that comes between the prompt and the read that waits is only seen after it: a person presses again
        process.send_signal(2)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
            break
    assert process.wait(timeout=60) == 130
    os.close(terminal)
