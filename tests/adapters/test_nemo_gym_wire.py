"""Our NeMo Gym server over the wire: what is no request, other people's sessions, too much of anything, and clients that go away."""

import asyncio
import json
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("nemo_gym", reason="needs NeMo Gym, on Python 3.12 or later: make test-adapters")

from conformance import SEED
from nemo_gym.openai_utils import NeMoGymResponse
from nemo_gym_rig import BY_NAME, SAY, Client, Rig, response_of

from sentinel_env import Message, ModelError
from sentinel_env.adapters.nemo_gym import SentinelServer, SentinelServerConfig, read

pytestmark = pytest.mark.filterwarnings("default")
LIBRARY = {"domain": "conformance:library", "user": "conformance:customer"}


class Slow:
    """A user that takes its time over the second reply, until it is told to go on."""

    name = "slow"

    def __init__(self):
        self.asked, self.go_on = threading.Event(), threading.Event()

    async def reply(self, view):
        if len(view.messages) > 2:
            self.asked.set()
            while not self.go_on.is_set():
                await asyncio.sleep(0.005)
        return Message(role="user", content=f"Hello after {len(view.messages)}.")


slow = Slow()
SECRET = "what the customer wants"


class Telling:
    """A user whose failures tell of the scenario, by an error of whatever kind."""

    def __init__(self, failure):
        self.name, self.failure = "telling", failure

    def reply(self, view):
        if len(view.messages) < 2:
            return Message(role="user", content="Hello.")
        if isinstance(self.failure, Exception):
            raise self.failure
        return self.failure


telling = [
    Telling(RuntimeError(SECRET)),
    Telling(ModelError(f"a prompt that says: {SECRET}", kind="refused")),
    Telling(Message(role="assistant", content=SECRET)),
    Telling(SECRET),
]
first, second, third, fourth = telling


@pytest.fixture(scope="module")
def rig():
    rig = Rig()
    rig.serve("library", LIBRARY)
    yield rig
    rig.close()


@pytest.fixture
def port(rig):
    return rig.instances["library"]["resources_servers"]["any"]["port"]


def test_a_step_without_an_episode_or_after_its_end_says_so(port):
    assert Client(port).step(SAY) == (
        404,
        {"detail": "this session has no episode: it has ended, it was given up as idle, or /reset was not called"},
    )
    client, script = Client(port), BY_NAME["passes-in-the-library"]
    client.reset(task_id=script.name, seed=SEED)
    status, last = client.step(*script.turns)
    assert (status, last["reward"], last["terminated"]) == (200, 1.0, True)
    assert client.step(SAY)[0] == 404


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "name the task by its id or by its row"),
        ({"task_id": "no-such"}, "no task 'no-such'"),
        ({"task_id": ["a"]}, "no task"),
        ({"index": -1}, "no row -1"),
        ({"index": 10**9}, "no row"),
        ({"index": "0"}, "no row '0'"),
        ({"index": 0, "seed": "7"}, "seed"),
        ({"index": 0, "seed": 1.5}, "seed"),
    ],
)
def test_a_row_that_names_no_task_is_refused(port, row, says):
    status, body = Client(port).reset(**row)
    assert status == 422
    assert says in body["detail"]


NO_REQUESTS = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"7", b"[" * 100_000, b'{"responses_create_params": 7}']
NO_RESPONSE = b'{"responses_create_params": {"input": "x"}, "response": {"output": [7]}, "index": "x"}'


@pytest.mark.parametrize("raw", [*NO_REQUESTS, NO_RESPONSE])
@pytest.mark.parametrize("path", ["/reset", "/step"])
def test_what_is_no_request_is_refused_and_harms_nothing(port, path, raw):
    other, script = Client(port), BY_NAME["passes-in-the-library"]
    other.reset(task_id=script.name, seed=SEED)
    status, _ = Client(port).post(path, None, raw=raw)
    assert 400 <= status < 500
    assert other.step(*script.turns)[1]["reward"] == 1.0


def test_a_request_that_is_too_long_is_refused_whether_or_not_it_says_its_length(rig):
    port = rig.serve("small", {"domain": "library"}, max_body_bytes=10_000)
    assert Client(port).reset(index=0, padding="x" * 9000)[0] == 200
    assert Client(port).reset(index=0, padding="x" * 10_000) == (413, {"detail": "a request has at most 10,000 bytes"})
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        stream.sendall(b"POST /reset HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            stream.sendall(b"1388\r\n" + b" " * 5000 + b"\r\n")
        assert b" 413 " in stream.recv(4096).partition(b"\r\n")[0]


def test_arguments_and_texts_that_are_too_long_are_answered_and_count(port):
    client = Client(port)
    client.reset(index=0, seed=SEED)
    long = {"role": "assistant", "content": "x" * 200_000}
    status, body = client.step(long)
    assert (status, body["observation"]) == (200, "Error: the message has 200,000 characters; at most 100,000 are read")
    calls = [{"id": f"c{at}", "function": {"name": "find_loans", "arguments": "[" * 40_000}} for at in range(3)]
    _, body = client.step({"role": "assistant", "content": "", "tool_calls": calls})
    assert [each["call_id"] for each in body["info"]["tool_outputs"]] == ["c0_0", "c1_0", "c2_0"]
    assert all("at most 100,000" in each["output"] for each in body["info"]["tool_outputs"])


def test_an_empty_response_is_answered(port):
    client = Client(port)
    client.reset(index=0, seed=SEED)
    status, body = client.post("/step", {"responses_create_params": {"input": []}, "response": {**response_of(SAY), "output": []}})
    assert status == 200
    assert body["observation"].startswith("Error: the message is empty")


def test_sessions_do_not_see_each_other(port):
    script = BY_NAME["passes-in-the-library"]
    clients = [Client(port) for _ in range(16)]

    def play(client):
        client.reset(task_id=script.name, seed=SEED)
        return client.step(*script.turns)[1]

    with ThreadPoolExecutor(16) as pool:
        assert [each["reward"] for each in pool.map(play, clients)] == [1.0] * 16
    assert len({client.cookie for client in clients}) == 16


@pytest.mark.parametrize("cookie", ["Watched___library=x", "Watched___library=eyJzZXNzaW9uX2lkIjogIngifQ==.aSHxyw.forged"])
def test_a_forged_session_is_a_session_of_its_own(port, cookie):
    owner, script = Client(port), BY_NAME["passes-in-the-library"]
    owner.reset(task_id=script.name, seed=SEED)
    assert Client(port, cookie).step(SAY)[0] == 404
    assert owner.step(*script.turns)[1]["reward"] == 1.0


def test_two_steps_at_once_of_one_session_and_a_client_that_goes_away(rig):
    slow.asked.clear(), slow.go_on.clear()
    port = rig.serve("slow", {"domain": "library", "user": f"{__name__}:slow"})
    client, other = Client(port), Client(port)
    for each in (client, other):
        assert each.reset(index=0)[0] == 200
    body = json.dumps({"responses_create_params": {"input": []}, "response": response_of(SAY)})
    fields = {"Host": "x", "Content-Type": "application/json", "Cookie": client.cookie, "Content-Length": len(body)}
    head = "\r\n".join(["POST /step HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""])
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall((head + body).encode())
        assert slow.asked.wait(60)
        status, answer = client.step(SAY)
        assert (status, "waits for the user" in answer["detail"]) == (409, True)
    slow.go_on.set()
    assert other.step(SAY)[1]["observation"] == "Hello after 3."


def test_idle_episodes_are_given_up_and_their_number_is_limited(rig):
    port = rig.serve("few", {"domain": "library"}, max_sessions=3, idle_seconds=0.5)
    server, clients = rig.servers["few"], [Client(port) for _ in range(4)]
    assert [client.reset(index=0)[0] for client in clients[:3]] == [200] * 3
    assert clients[3].reset(index=0) == (503, {"detail": "3 episodes are open, which is the limit (max_sessions); try again later"})
    assert clients[0].reset(index=0)[0] == 200, "a session that begins again takes no second place"

    async def until_empty():
        while server.session_state:
            await asyncio.sleep(0.01)

    rig.run(asyncio.wait_for(until_empty(), 60))
    assert clients[0].step(SAY)[0] == 404
    assert clients[3].reset(index=0)[0] == 200


def test_a_thousand_episodes_that_nobody_ends_leave_nothing_behind(rig):
    port = rig.serve("many", {"domain": "library"}, idle_seconds=1)
    server = rig.servers["many"]
    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(lambda _: Client(port).reset(index=0)[0], range(1000))) == {200: 1000}

    async def until_empty():
        while server.session_state:
            await asyncio.sleep(0.01)

    rig.run(asyncio.wait_for(until_empty(), 60))


@pytest.mark.parametrize(
    ("user", "status", "detail"),
    [
        ("first", 500, "the environment failed (RuntimeError), which is no fault of the agent's; its log says how"),
        ("second", 503, {"sentinel_lost": "refused", "error": "ModelError"}),
        ("third", 500, "the environment failed (EpisodeError), which is no fault of the agent's; its log says how"),
        ("fourth", 500, "the environment failed (EpisodeError), which is no fault of the agent's; its log says how"),
    ],
)
def test_why_an_episode_failed_is_for_the_log_alone(rig, caplog, user, status, detail):
    port = rig.serve(user, {"domain": "library", "user": f"{__name__}:{user}"})
    one, other = Client(port), Client(port)
    assert (one.reset(index=0)[0], other.reset(index=0)[0]) == (200, 200)
    assert one.step(SAY) == (status, {"detail": detail})
    assert SECRET in caplog.text or user in ("third", "fourth")
    assert one.step(SAY)[0] == 404, "it is over"
    assert len(rig.servers[user].session_state) == 1, "the other one goes on"


def test_several_workers_are_refused(rig):
    with pytest.raises(ValueError, match="num_workers is 1 here, found 2"):
        SentinelServer(
            config=SentinelServerConfig(host="127.0.0.1", port=1, entrypoint="app.py", name="x", num_workers=2), server_client=rig.client
        )


def test_refusals_and_easy_messages_are_texts():
    refused = response_of(SAY)
    refused["output"][1]["content"] = [{"type": "refusal", "refusal": "I cannot do that."}]
    assert read(NeMoGymResponse.model_validate(refused)).content == "I cannot do that."
    easy = response_of(SAY)
    easy["output"][1:] = [{"role": role, "content": f"I am the {role}", "type": "message"} for role in ("assistant", "user")]
    assert read(NeMoGymResponse.model_validate(easy)).content == "I am the assistant"


def test_a_thought_that_the_models_server_leaves_in_the_text_is_not_heard():
    told = response_of(SAY)
    told["output"][1]["content"][0]["text"] = "They want Dune.</think>Your card number?"
    assert read(NeMoGymResponse.model_validate(told)).content == "Your card number?"
    told["output"][1]["content"][0]["text"] = "<think>They want"
    assert "before </think>" in read(NeMoGymResponse.model_validate(told)).problem
