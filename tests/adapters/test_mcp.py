"""The MCP server as its clients see it: real processes, the SDK's own client over HTTP and stdio, and raw bytes."""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

mcp = pytest.importorskip("mcp", reason="the extra `mcp` is not installed; `make test-adapters` runs this")

from conformance import MAX_STEPS, SCRIPTS, SEED, calls_of  # noqa: E402
from mcp.client import streamable_http  # noqa: E402
from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: E402

from sentinel_env import evaluate, load_domain, read_trajectories  # noqa: E402
from sentinel_env.adapters.mcp_lines import MAX_FRAME  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of the SDK's own
HERE = Path(__file__).resolve().parent
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
SERVE = (sys.executable, "-m", "sentinel_env", "serve", "mcp")
OPTIONS = ("--user", "conformance:customer", "--max-steps", str(MAX_STEPS))
BY_NAME = {script.name: script for script in SCRIPTS}
over_http = getattr(streamable_http, "streamable_http_client", None) or streamable_http.streamablehttp_client
TWO = pytest.mark.skipif(not hasattr(mcp, "Client"), reason="mcp 1.x has no protocol without sessions")


class Served:
    """A server process over HTTP."""

    def __init__(self, *arguments, cwd=None):
        command = [*SERVE, *arguments, "--http", "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=cwd)
        self.said = []
        while " is served at " not in (line := self.process.stderr.readline()):
            assert line, f"the server did not start: {self.said}"
            self.said.append(line)
        self.url = line.split(" at ")[1].split(";")[0]
        self.address = urlsplit(self.url).hostname, urlsplit(self.url).port

    def stop(self):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            self.said += self.process.communicate(timeout=30)[1].splitlines(keepends=True)
        return self.process.returncode

    def ask(self, method, path="/mcp", body=None, **headers):
        """(status, headers, JSON or text) of one raw request."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            given = {"Accept": "application/json", "Content-Type": "application/json"} | {
                name.replace("_", "-").title(): value for name, value in headers.items()
            }
            raw = json.dumps(body).encode() if isinstance(body, dict | list) else body
            connection.request(method, path, raw, given)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, dict(answer.getheaders()), json.loads(text) if text[:1] in ("{", "[") else text
        finally:
            connection.close()

    def open(self):
        """A session by raw requests; its id."""
        status, headers, _ = self.ask("POST", body=INITIALIZE)
        assert status == 200
        session = {name.lower(): value for name, value in headers.items()}["mcp-session-id"]
        assert self.ask("POST", body={"jsonrpc": "2.0", "method": "notifications/initialized"}, mcp_session_id=session)[0] == 202
        return session

    def call(self, session, name, arguments):
        return self.ask("POST", body=a_call(name, arguments), mcp_session_id=session)

    def sessions(self):
        return self.ask("GET", "/health")[2]["sessions"]

    def wait_for_sessions(self, number):
        deadline = time.monotonic() + 20
        while self.sessions() != number:
            assert time.monotonic() < deadline, f"{self.sessions()} sessions"
            time.sleep(0.05)


def a_call(name, arguments, identifier=2):
    return {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}},
}


@contextmanager
def serving(*arguments, cwd=None):
    served = Served(*arguments, cwd=cwd)
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture(scope="module")
def library():
    with serving("library") as served:
        yield served


@asynccontextmanager
async def session_at(url):
    async with over_http(url) as streams, mcp.ClientSession(*streams[:2]) as session:
        await session.initialize()
        yield session


@asynccontextmanager
async def session_of(*arguments, cwd=None):
    parameters = StdioServerParameters(command=SERVE[0], args=[*SERVE[1:], *arguments], env=ENVIRONMENT, cwd=cwd)
    async with stdio_client(parameters) as streams, mcp.ClientSession(*streams) as session:
        await session.initialize()
        yield session


async def called(session, name, arguments):
    """A call's result as it was on the wire."""
    return (await session.call_tool(name, arguments)).model_dump(by_alias=True, exclude_none=True)


def texts(result):
    return [part["text"] for part in result["content"]]


# the scripted episodes


async def play(session, script):
    """Carry out a script's turns one call at a time, and return the verdict with everything that was on the wire."""
    wire = [await called(session, "begin", {"task": script.name, "seed": SEED})]
    for turn in script.turns:
        if not turn.get("tool_calls"):
            wire.append(await called(session, "message_user", {"message": turn["content"]}))
        for _, name, written in calls_of(turn):
            if (arguments := as_object(written)) is not None:
                wire.append(await called(session, name, arguments))
    wire.append(await called(session, "finish", {}))
    return wire[-1]["structuredContent"], wire


def as_object(written):
    """A call's arguments; None where a client cannot even send them, since they are no JSON object."""
    try:
        found = json.loads(written)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Both of the scripts' domains, and where they record."""
    folder, found = tmp_path_factory.mktemp("played"), {}
    for domain in sorted({script.domain for script in SCRIPTS}):
        out = folder / f"{domain.partition(':')[2]}.jsonl"
        found[domain] = (Served(domain, *OPTIONS, "--out", str(out)), out)
    yield found
    for served, _ in found.values():
        served.stop()


def check(script, verdict, wire, out):
    """The verdict and the record against what the script comes to, and nothing of the reference on the wire."""
    recorded = [each for each in read_trajectories(out) if each.task.id == script.name][-1]
    evaluation = evaluate(load_domain(script.domain), recorded)
    assert (verdict["reward"], verdict["ending"], recorded.changes) == script.expected
    assert (evaluation.reward, recorded.ending) == script.expected[:2]
    assert verdict["passed"] is (None if script.reward is None else script.reward == 1.0)
    shown = json.dumps(wire)
    assert "reference" not in shown
    assert not any(check.detail in shown for check in evaluation.checks if not check.passed)
    assert "infrastructure" in json.dumps(wire[:-1]) or script.reward is not None


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_scripted_episode_over_http(script, servers):
    served, out = servers[script.domain]

    async def run():
        async with session_at(served.url) as session:
            return await play(session, script)

    check(script, *asyncio.run(run()), out)


STDIO = ("passes-in-the-library", "fails-with-two-calls-in-one-turn", "infrastructure-fails", "cut-by-max-errors")


@pytest.mark.parametrize("name", STDIO)
def test_a_scripted_episode_over_stdio(name, tmp_path):
    script, out = BY_NAME[name], tmp_path / "played.jsonl"

    async def run():
        async with session_of(script.domain, *OPTIONS, "--out", str(out)) as session:
            return await play(session, script)

    check(script, *asyncio.run(run()), out)


def test_what_a_client_cannot_send_is_no_turn_and_an_error_of_the_protocol(library):
    """Of the malformed actions: arguments that are no object. The scripts' others arrive as they are."""
    session = library.open()
    status, _, answer = library.call(session, "find_loans", [1, 2])
    assert (status, answer["error"]["code"]) in ((200, -32602), (400, -32602))
    assert library.call(session, "find_loans", {"member_id": "M7"})[2]["result"]["isError"] is False


# what a client sees


def test_schemas_and_refusals_arrive_as_they_are(library):
    domain = load_domain("library")

    async def run():
        async with session_at(library.url) as session:
            tools = (await session.list_tools()).model_dump(by_alias=True, exclude_none=True)["tools"]
            return tools, await called(session, "renew_loan", {"loan_id": 7, "weeks": 2})

    tools, refused = asyncio.run(run())
    schemas = {each["name"]: each["inputSchema"] for each in tools}
    assert list(schemas) == ["find_loans", "renew_loan", "begin", "message_user", "finish"]
    assert {name: schemas[name] for name in domain.tools_by_name} == {
        each.name: each.schema["function"]["parameters"] for each in domain.tools
    }
    hints = {each["name"]: each["annotations"]["readOnlyHint"] for each in tools}
    assert hints == {"find_loans": True, "renew_loan": False, "begin": False, "message_user": False, "finish": False}
    expected = "Error: argument 'loan_id' must be a valid string, found 7; unknown argument 'weeks'; renew_loan takes loan_id: string"
    assert (texts(refused), refused["isError"]) == ([expected], True)


def test_the_policy_is_a_prompt_and_a_resource(library):
    policy = load_domain("library").policy

    async def run():
        async with session_at(library.url) as session:
            prompt = await session.get_prompt("policy")
            (resource,) = (await session.list_resources()).resources
            read = await session.read_resource(resource.uri)
            with pytest.raises(Exception, match="no prompt 'rules'; there is 'policy'"):
                await session.get_prompt("rules")
            return prompt.messages[0].content.text, read.contents[0].text

    prompt, resource = asyncio.run(run())
    assert prompt.startswith(policy)
    assert resource == policy


def test_each_session_has_a_database_of_its_own(library):
    async def run():
        async with session_at(library.url) as one, session_at(library.url) as other:
            await called(one, "renew_loan", {"loan_id": "L1"})
            return texts(await called(other, "find_loans", {"member_id": "M7"}))

    assert '"on loan"' in asyncio.run(run())[0]


def test_the_row_and_the_split_choose_the_task():
    async def run(url):
        async with session_at(url) as session:
            return await called(session, "begin", {"row": 1}), await called(session, "begin", {"row": 10**6})

    with serving("retail", "--split", "test") as served:
        opening, refused = asyncio.run(run(served.url))
    assert not opening["isError"]
    assert refused["isError"]


def test_a_server_for_one_task_takes_no_other():
    async def run(url):
        async with session_at(url) as session:
            early = await called(session, "find_loans", {"member_id": "M7"})
            return early, await called(session, "begin", {"task": "renew-dune"}), await called(session, "begin", {})

    with serving("library", "--task", "renew-dune") as served:
        early, refused, begun = asyncio.run(run(served.url))
    assert "Call begin first" in texts(early)[0]
    assert "unknown argument 'task'" in texts(refused)[0]
    assert texts(begun) == ["Renew Dune for me."]


@TWO
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_of_the_protocol_without_sessions_gets_one_all_the_same(library, mode):
    async def run():
        async with mcp.Client(library.url, mode=mode) as client:
            await client.call_tool("renew_loan", {"loan_id": "L1"})
            return (await client.call_tool("find_loans", {"member_id": "M7"})).content[0].text

    assert '"renewed"' in asyncio.run(run())


@TWO
def test_the_protocol_without_sessions_has_one_on_stdio():
    async def run():
        parameters = StdioServerParameters(command=SERVE[0], args=[*SERVE[1:], "library"], env=ENVIRONMENT)
        async with mcp.Client(stdio_client(parameters), mode="2026-07-28") as client:
            await client.call_tool("begin", {"row": 0})
            await client.call_tool("renew_loan", {"loan_id": "L1"})
            return (await client.call_tool("finish", {})).structured_content

    assert asyncio.run(run())["failed"] == ["communicate"]


# crashes, collisions, faults


BROKEN = '''
from dataclasses import replace
from sentinel_env import Message, load_domain, tool

@tool
def break_down(db: object) -> str:
    """Crash."""
    raise ZeroDivisionError("a secret of the database")

@tool
def chatter(db: object) -> str:
    """Print."""
    print("{}" * 50)
    return "done"

@tool
def finish(db: object) -> str:
    """Take our name."""
    return "mine"

class Slow:
    name = "slow"
    async def reply(self, view):
        import asyncio
        from pathlib import Path
        spoken = len(view.messages)
        if spoken > 1:
            Path("asked").touch()
            while not Path("may_answer").exists():
                await asyncio.sleep(0.02)
        return Message(role="user", content=f"answer {spoken}")

library = load_domain("library")
domain = replace(library, tools=(*library.tools, break_down, chatter))
taken = replace(library, tools=(*library.tools, finish))
slow = Slow()
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    return tmp_path


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_crash_is_an_internal_error_to_the_client_and_a_trace_in_the_log(folder):
    with serving("broken:domain", cwd=folder) as served:
        session, other = served.open(), served.open()
        _, _, answer = served.call(session, "break_down", {})
        assert answer["error"] == {"code": -32603, "message": "internal error; the server's log has it"}
        assert served.call(session, "find_loans", {"member_id": "M7"})[2]["result"]["isError"] is True
        assert served.call(other, "find_loans", {"member_id": "M7"})[2]["result"]["isError"] is False
        assert served.stop() == 130
    log = "".join(served.said)
    assert "Traceback" in log
    assert "ZeroDivisionError: a secret of the database" in log


def test_a_domain_that_has_our_tools_names_is_not_served(folder):
    found = subprocess.run([*SERVE, "broken:taken"], capture_output=True, text=True, env=ENVIRONMENT, cwd=folder, stdin=subprocess.DEVNULL)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "sentinel: domain library: a tool is called 'finish', which the MCP server needs; rename it\n"


def test_a_task_that_is_not_there_and_a_port_that_is_taken_are_one_line(library):
    for arguments, says in (
        (("--task", "renew-dun"), "did you mean 'renew-dune'"),
        (("--http", "--port", str(library.address[1])), "cannot listen on 127.0.0.1"),
    ):
        found = subprocess.run([*SERVE, "library", *arguments], capture_output=True, text=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL)
        assert found.returncode == 1
        assert found.stderr.count("\n") == 1
        assert says in found.stderr


def test_a_server_for_other_machines_says_so_once():
    with serving("library", "--host", "0.0.0.0") as served:
        session = served.open()
        assert served.call(session, "find_loans", {"member_id": "M7"})[0] == 200
    assert [line for line in served.said if "warning" in line] == [
        "sentinel: warning: 0.0.0.0 can be reached from other machines, and nobody is asked for a password\n"
    ]


# raw HTTP


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{nonsense", 400, -32700),
        (b"\xff\xfe", 400, -32700),
        (b'{"a": NaN}', 400, -32700),
        (b"[" * 100_000, 400, -32600),
        ([INITIALIZE], 400, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 7}, 400, -32600),
        ({"jsonrpc": "2.0", "id": {}, "method": "initialize"}, 400, -32600),
        (a_call("find_loans", {}), 400, -32600),
        ({"jsonrpc": "2.0", "method": "initialize"}, 400, -32600),
        (b"x" * (MAX_FRAME + 1), 413, -32600),
        (b"x" * 8 * MAX_FRAME, 413, -32600),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_message_opens_no_session(library, body, status, code):
    before = library.sessions()
    found, _, answer = library.ask("POST", body=body)
    assert (found, answer["error"]["code"], "Traceback" in str(answer)) == (status, code, False)
    assert library.sessions() == before


def test_an_opening_that_the_sdk_refuses_leaves_nothing(library):
    before = library.sessions()
    for body in ({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}, INITIALIZE | {"params": {"protocolVersion": 5}}):
        assert "error" in library.ask("POST", body=body)[2]
    assert library.ask("POST", body=INITIALIZE, accept="text/html")[0] == 406
    assert library.ask("POST", body=INITIALIZE, content_type="text/plain")[0] in (400, 415)
    assert library.sessions() == before


@pytest.mark.parametrize("session", ["0" * 32, "", "../../etc/passwd", "é", "x" * 5000])
def test_a_session_that_never_was_is_not_found(library, session):
    for method in ("POST", "DELETE"):
        status, _, answer = library.ask(method, body=a_call("find_loans", {}), mcp_session_id=session.encode("utf-8"))
        assert (status, answer["error"]["message"]) == (404, "no such session; it was closed, or never was")


def test_a_session_that_its_client_closes_is_gone_and_the_others_stay(library):
    session, other = library.open(), library.open()
    before = library.sessions()
    assert library.ask("DELETE", mcp_session_id=session)[0] == 200
    assert library.sessions() == before - 1
    assert library.call(session, "find_loans", {"member_id": "M7"})[0] == 404
    assert library.ask("DELETE", mcp_session_id=session)[0] == 404
    assert library.call(other, "find_loans", {"member_id": "M7"})[0] == 200


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"name": "no_such_tool", "arguments": {}}, "there is no tool 'no_such_tool'"),
        ({"name": "", "arguments": {}}, "no name"),
        ({"name": "find_loans", "arguments": {}}, "argument 'member_id' is missing"),
        ({"name": "find_loans"}, "argument 'member_id' is missing"),
        ({"name": "find_loans", "arguments": {"member_id": None}}, "must be a valid string, found null"),
        ({"name": "find_loans", "arguments": {"member_id": {"$ne": 1}}}, "must be a valid string"),
        ({"name": "find_loans", "arguments": {"member_id": "M7", "x" * 3000: 1}}, "unknown argument"),
        ({"name": "find_loans", "arguments": {"member_id": json.loads("[" * 40 + "]" * 40)}}, "nested deeper than 32"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_agents_mistakes_are_results_and_not_errors_of_the_protocol(library, params, says):
    session = library.open()
    body = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params}
    status, _, answer = library.ask("POST", body=body, mcp_session_id=session)
    assert (status, answer["result"]["isError"]) == (200, True)
    assert says in texts(answer["result"])[0]


@pytest.mark.parametrize(
    "body",
    [
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": 7}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "find_loans", "arguments": "M7"}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call"},
        {"jsonrpc": "2.0", "id": 3, "method": "no/such/method", "params": {}},
        {"jsonrpc": "2.0", "id": 3, "method": "prompts/get", "params": {"name": "policy", "arguments": 5}},
        {"jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": {"uri": "file:///etc/passwd"}},
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_the_protocol_does_not_have_is_its_error_and_the_session_goes_on(library, body):
    session = library.open()
    _, _, answer = library.ask("POST", body=body, mcp_session_id=session)
    assert answer["error"]["code"] in (-32600, -32601, -32602)
    assert "Traceback" not in str(answer)
    assert library.call(session, "find_loans", {"member_id": "M7"})[2]["result"]["isError"] is False


def test_other_methods_and_paths_are_refused(library):
    assert library.ask("GET")[0] == 405
    assert library.ask("GET")[1]["allow"] == "POST, DELETE"
    assert library.ask("PUT", body=INITIALIZE)[0] == 405
    assert library.ask("POST", "/", body=INITIALIZE)[0] == 404
    assert library.ask("DELETE")[0] == 400


def test_a_page_in_a_browser_that_took_our_address_is_refused(library):
    assert library.ask("POST", body=INITIALIZE, host="evil.example")[0] in (403, 421)
    assert library.ask("POST", body=INITIALIZE, origin="http://evil.example")[0] in (400, 403)


CHUNKED = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


def test_a_body_without_a_length_is_bounded_too(library):
    with socket.create_connection(library.address, timeout=30) as raw:
        raw.sendall(CHUNKED + 32 * PIECE + b"0\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_an_end_is_cut_off(library):
    def send():
        with socket.create_connection(library.address, timeout=30) as raw:
            raw.sendall(CHUNKED)
            for _ in range(2000):
                raw.sendall(PIECE)

    with pytest.raises(ConnectionError):
        send()
    assert library.sessions() >= 0


def test_no_more_sessions_than_allowed_and_room_again_after_one_is_closed():
    with serving("library", "--max-sessions", "2") as served:
        first, _ = served.open(), served.open()
        status, _, answer = served.ask("POST", body=INITIALIZE)
        assert (status, answer["id"], "2 sessions are open" in answer["error"]["message"]) == (503, 1, True)
        served.ask("DELETE", mcp_session_id=first)
        assert served.open()


def test_idle_sessions_are_closed_and_recorded_as_cut(tmp_path):
    out = tmp_path / "played.jsonl"
    with serving("library", "--idle-seconds", "0.3", "--out", str(out)) as served:
        session = served.open()
        served.call(session, "begin", {"row": 0})
        served.open()
        served.wait_for_sessions(0)
        assert served.call(session, "finish", {})[0] == 404
    (recorded,) = read_trajectories(out)
    assert (recorded.ending, recorded.truncated) == ("limit", True)


def test_a_client_that_vanishes_in_the_middle_leaves_the_others_alone(folder):
    with serving("broken:domain", "--user", "broken:slow", "--idle-seconds", "0.5", cwd=folder) as served:
        session = served.open()
        served.call(session, "begin", {"row": 0})
        body = json.dumps(a_call("message_user", {"message": "hello"}))
        head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        head += f"Mcp-Session-Id: {session}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(served.address) as whole, socket.create_connection(served.address) as half:
            whole.sendall(f"{head}{body}".encode())
            half.sendall(f"{head}{body[:20]}".encode())
            wait_for(folder / "asked")
        other = served.open()
        assert served.call(other, "find_loans", {"member_id": "M7"})[2]["result"]["isError"] is False
        (folder / "may_answer").touch()
        served.wait_for_sessions(0)


def test_calls_of_one_session_wait_for_each_other(folder):
    async def run(url):
        async with session_at(url) as session:
            await called(session, "begin", {"row": 0})
            calls = [asyncio.create_task(called(session, "message_user", {"message": f"number {at}"})) for at in range(4)]
            while not (folder / "asked").exists():
                await asyncio.sleep(0.02)
            (folder / "may_answer").touch()
            return sorted(texts(result)[0] for result in await asyncio.gather(*calls))

    with serving("broken:domain", "--user", "broken:slow", cwd=folder) as served:
        assert asyncio.run(run(served.url)) == ["answer 3", "answer 5", "answer 7", "answer 9"]


@pytest.mark.parametrize("identifier", [7, "7"])
def test_two_requests_with_one_id_at_once_are_told_apart(folder, identifier):
    with serving("broken:domain", "--user", "broken:slow", "--idle-seconds", "1", cwd=folder) as served:
        session = served.open()
        served.call(session, "begin", {"row": 0})
        with ThreadPoolExecutor() as threads:
            body = a_call("message_user", {"message": "hello"}, 7)
            first = threads.submit(served.ask, "POST", body=body, mcp_session_id=session)
            wait_for(folder / "asked")
            body = a_call("find_loans", {"member_id": "M7"}, identifier)
            status, _, second = served.ask("POST", body=body, mcp_session_id=session)
            (folder / "may_answer").touch()
            assert (status, second["error"]["code"]) == (400, -32600)
            assert texts(first.result()[2]["result"]) == ["answer 3"]
        served.wait_for_sessions(0)


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_a_call_that_its_client_gives_up_is_answered_and_leaves_nothing(folder, how):
    with serving("broken:domain", "--user", "broken:slow", "--idle-seconds", "1", cwd=folder) as served:
        session = served.open()
        served.call(session, "begin", {"row": 0})
        with ThreadPoolExecutor() as threads:
            call = threads.submit(served.call, session, "message_user", {"message": "hello"})
            wait_for(folder / "asked")
            if how == "closed":
                assert served.ask("DELETE", mcp_session_id=session)[0] == 200
            else:
                body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
                assert served.ask("POST", body=body, mcp_session_id=session)[0] == 202
            assert "error" in call.result()[2]
            (folder / "may_answer").touch()
        if how == "cancelled":
            assert served.call(session, "find_loans", {"member_id": "M7"})[2]["result"]["isError"] is False
        served.wait_for_sessions(0)


# raw stdio


@contextmanager
def piped(*arguments, cwd=None):
    process = subprocess.Popen(
        [*SERVE, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=cwd
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):
                stream.close()


OPENING = json.dumps(INITIALIZE).encode() + b'\n{"jsonrpc": "2.0", "method": "notifications/initialized"}\n'


def line(body):
    return json.dumps(body).encode() + b"\n"


def answers_of(process, sent):
    out, err = process.communicate(OPENING + sent, timeout=60)
    assert process.returncode == 0, err
    return [json.loads(each) for each in out.splitlines()]


def test_bad_lines_are_answered_and_the_good_ones_after_them_too():
    bad = [b"{nonsense", b"[]", b"\xff", b"x" * (3 * MAX_FRAME), b'{"jsonrpc": "2.0", "id": 8, "method": 5}', b"[" * 100_000]
    sent = b"".join(each + b"\n" for each in bad) + b"\n\n" + line(a_call("find_loans", {"member_id": "M7"}, "last"))
    with piped("library") as process:
        found = answers_of(process, sent)
    codes = [each["error"]["code"] for each in found if "error" in each]
    assert codes == [-32700, -32600, -32700, -32600, -32600, -32600]
    assert [each["id"] for each in found if "error" in each] == [None, None, None, None, 8, None]
    (last,) = [each for each in found if each.get("id") == "last"]
    assert "Dune" in texts(last["result"])[0]


def test_everything_that_was_asked_is_answered_after_the_end_of_the_input_even_without_a_last_newline():
    sent = b"".join(line(a_call("find_loans", {"member_id": "M7"}, at)) for at in range(100, 300))
    with piped("library") as process:
        found = answers_of(process, sent.rstrip())
    assert sorted(each["id"] for each in found) == [1, *range(100, 300)]


def test_what_a_tool_prints_does_not_disturb(folder):
    with piped("broken:domain", cwd=folder) as process:
        found = answers_of(process, line(a_call("chatter", {})))
    assert texts(found[-1]["result"]) == ["done"]


@pytest.mark.parametrize("closes", [True, False])
def test_a_stdio_server_ends_when_its_client_is_gone_in_the_middle_of_a_call(folder, closes):
    """Its input ends and nobody reads its output, or only that it is interrupted."""
    with piped("broken:domain", "--user", "broken:slow", cwd=folder) as process:
        process.stdin.write(OPENING + line(a_call("begin", {"row": 0}, 2)) + line(a_call("message_user", {"message": "hello"}, 3)))
        process.stdin.flush()
        wait_for(folder / "asked")
        if closes:
            process.stdin.close()
            process.stdout.close()
            assert process.wait(timeout=20) == 0
        else:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130


def test_an_interrupt_ends_both_with_130_and_one_line():
    with serving("library") as served:
        served.open()
        assert served.stop() == 130
    assert "".join(served.said) == "sentinel: stopped\n"
    with piped("library") as process:
        process.stdin.write(OPENING)
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == b"sentinel: stopped\n"


# the recipe


def test_the_recipe_runs_as_printed(tmp_path):
    text = (HERE.parent.parent / "docs" / "mcp.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    bin_folder = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": os.pathsep.join([bin_folder, os.environ["PATH"]])}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("Not passed.")
