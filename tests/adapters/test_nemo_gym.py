"""NeMo Gym's own collection and gymnasium_agent play the scripts against our server, over HTTP, with a model that says their turns."""

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("nemo_gym", reason="needs NeMo Gym, on Python 3.12 or later: make test-adapters")

import uvicorn
from conformance import MAX_STEPS, SCRIPTS, SEED, calls_of, source
from fastapi import FastAPI, Request
from nemo_gym import rollout_collection, server_utils
from nemo_gym.config_types import BaseServerConfig, ModelServerRef, ResourcesServerRef
from nemo_gym.openai_utils import NeMoGymResponse
from omegaconf import OmegaConf
from pydantic import Field
from responses_api_agents.gymnasium_agent.app import GymnasiumAgent, GymnasiumAgentConfig

from sentinel_env import Message
from sentinel_env.adapters.nemo_gym import SentinelAgent, SentinelServer, SentinelServerConfig, read
from sentinel_env.adapters.nemo_gym_files import nemo_gym_rows, write_files

pytestmark = pytest.mark.filterwarnings("default")
BY_NAME = {script.name: script for script in SCRIPTS}
GRADED = [script for script in SCRIPTS if script.reward is not None]
(FAULT,) = [script for script in SCRIPTS if script.reward is None]
DOMAINS = ("retail", "library")
CONFORMING = {name: {"domain": f"conformance:{name}", "user": "conformance:customer", "max_steps": MAX_STEPS} for name in DOMAINS}


class Watched(SentinelServer):
    """Our server, which remembers the episodes that it lets go."""

    seats: dict = Field(default_factory=dict)

    async def close_session(self, session_id):
        self.seats[self.session_state[session_id].seat.episode.task.id] = self.session_state[session_id].seat
        await super().close_session(session_id)


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


def response_of(turn, *, at=0):
    """A turn as a response of OpenAI's Responses API."""
    output = [{"type": "reasoning", "id": f"rs_{at}", "summary": [{"type": "summary_text", "text": "Let me think."}]}]
    if turn["content"] or not calls_of(turn):
        text = {"type": "output_text", "text": turn["content"], "annotations": []}
        output.append({"type": "message", "id": f"msg_{at}", "role": "assistant", "status": "completed", "content": [text]})
    for call, name, arguments in calls_of(turn):
        output.append({"type": "function_call", "call_id": f"{call}_{at}", "name": name, "arguments": arguments})
    fixed = {"object": "response", "created_at": 0.0, "model": "script", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return {"id": f"resp_{at}", "output": output, **fixed}


def model_server():
    """A model that says the turns of the script that a request's metadata names; a rollout is told by the cookie that it brings back."""
    app = FastAPI()

    @app.post("/v1/responses")
    async def responses(request: Request):
        body = await request.json()
        said = sum(item.get("type") == "reasoning" for item in body["input"])
        return response_of(BY_NAME[body["metadata"]["script"]].turns[said], at=said)

    return app


class Rig:
    """A model's server, ours for each domain, and agents: real HTTP servers on one event loop in a thread."""

    def __init__(self, **settings):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.instances, self.listening, self.servers = {}, [], {}
        self.client = server_utils.ServerClient(
            head_server_config=BaseServerConfig(host="127.0.0.1", port=1), global_config_dict=OmegaConf.create({})
        )
        self.settings = settings

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)

    def listen(self, name, kind, app):
        """Serve an app under a name; its port."""
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1))
        server.install_signal_handlers = lambda: None

        async def start():
            server.task = asyncio.ensure_future(server.serve())
            while not server.started:
                await asyncio.sleep(0.005)

        self.run(start())
        port = server.servers[0].sockets[0].getsockname()[1]
        self.listening.append(server)
        self.instances[name] = {kind: {"any": {"entrypoint": "app.py", "host": "127.0.0.1", "port": port}}}
        self.client.global_config_dict = OmegaConf.create(self.instances)
        return port

    def serve(self, name, episodes, **settings):
        """Our server over some episodes."""
        config = SentinelServerConfig(host="127.0.0.1", port=1, entrypoint="app.py", name=name, episodes=episodes, **settings)
        server = Watched(config=config, server_client=self.client)
        app = server.setup_webserver()
        server.setup_exception_middleware(app)
        self.servers[name] = server
        return self.listen(name, "resources_servers", app)

    def agent(self, kind, name, server):
        config = GymnasiumAgentConfig(
            host="127.0.0.1",
            port=1,
            entrypoint="app.py",
            name=name,
            resources_server=ResourcesServerRef(type="resources_servers", name=server),
            model_server=ModelServerRef(type="responses_api_models", name="policy_model"),
            max_steps=MAX_STEPS,
        )
        agent = kind(config=config, server_client=self.client)
        app = agent.setup_webserver()
        agent.setup_exception_middleware(app)
        self.listen(name, "responses_api_agents", app)

    def close(self):
        async def end():
            for server in self.listening:
                server.should_exit = True
            await asyncio.gather(*(server.task for server in self.listening))
            await asyncio.sleep(0)  # their connections' last callbacks

        self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def rig():
    rig = Rig()

    async def connect():
        server_utils.set_global_aiohttp_client(server_utils.GlobalAIOHTTPAsyncClientConfig())

    rig.run(connect())
    rig.listen("policy_model", "responses_api_models", model_server())
    for name, episodes in CONFORMING.items():
        rig.serve(name, episodes)
        rig.agent(SentinelAgent, f"{name}_agent", name)
        rig.agent(GymnasiumAgent, f"{name}_plain", name)
    yield rig

    async def disconnect():
        await server_utils._GLOBAL_AIOHTTP_CLIENT.close()
        server_utils._GLOBAL_AIOHTTP_CLIENT = None

    rig.run(disconnect())
    rig.close()


def rows_of(scripts, suffix="agent"):
    found = []
    for script in scripts:
        name = script.domain.partition(":")[2]
        (row,) = [row for row in nemo_gym_rows(source(script.domain), agent=f"{name}_{suffix}", seed=SEED) if row["task_id"] == script.name]
        found.append(json.loads(json.dumps(row)))
        found[-1]["responses_create_params"]["metadata"] = {"script": script.name}
    return found


class Collection(rollout_collection.RolloutCollectionHelper):
    """NeMo Gym's collection of rollouts, which is told where the servers are by the rig and not by a head server."""

    rig: object

    def setup_server_client(self, head_server_config=None):
        return self.rig.client


def collect(rig, folder, rows, *, resume=False):
    """NeMo Gym's collection; its rollouts, its failures and its metrics."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = rollout_collection.RolloutCollectionConfig(
        input_jsonl_fpath=str(folder / "rows.jsonl"),
        output_jsonl_fpath=str(folder / "rollouts.jsonl"),
        upload_rollouts_to_wandb=False,
        resume_from_cache=resume,
    )
    rig.run(Collection(rig=rig).run_from_config(config))
    rollouts, failures = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()] for name in ("rollouts.jsonl", "rollouts_failures.jsonl")
    )
    return rollouts, failures, json.loads((folder / "rollouts_aggregate_metrics.json").read_text())


@pytest.fixture(scope="module")
def collected(rig, tmp_path_factory):
    return collect(rig, tmp_path_factory.mktemp("collected"), rows_of(SCRIPTS))


@pytest.mark.parametrize("script", GRADED, ids=lambda script: script.name)
def test_a_script_comes_out_as_everywhere(rig, collected, script):
    (rollout,) = [each for each in collected[0] if each["info"]["task_id"] == script.name]
    episode = rig.servers[script.domain.partition(":")[2]].seats[script.name].episode
    assert (rollout["reward"], rollout["info"]["ending"], episode.db.changes()) == script.expected
    assert (rollout["terminated"], rollout["truncated"]) == (episode.terminated, episode.truncated)
    assert rollout["info"]["passed"] == bool(script.reward)
    assert (rollout["info"]["steps"], rollout["info"]["refused_calls"]) == (episode.steps, episode.errors)


def test_every_call_has_its_output_and_the_user_is_a_user(rig, collected):
    for rollout in collected[0]:
        items = rollout["response"]["output"]
        called = [item["call_id"] for item in items if item["type"] == "function_call"]
        answered = [item["call_id"] for item in items if item["type"] == "function_call_output"]
        assert called[: len(answered)] == answered
        assert len(called) - len(answered) <= 2, "only those of the last turn have none"
        opening = rollout["responses_create_params"]["input"]
        assert [item["role"] for item in opening] == ["system", "assistant", "user"]


def test_an_infrastructure_fault_is_a_failure_without_a_reward_and_no_rollout(rig, collected):
    rollouts, failures, metrics = collected
    assert FAULT.name not in {each["info"]["task_id"] for each in rollouts}
    (failure,) = failures
    assert failure["reward"] is None
    assert (failure["_ng_failure_class"], failure["_ng_failure_terminal"], failure["info"]) == ("transient", False, {"error": "server"})
    means = {each["agent_ref"]["name"]: each["agent_metrics"]["mean/reward"] for each in metrics}
    for name in DOMAINS:
        rewards = [script.reward for script in GRADED if script.domain == f"conformance:{name}"]
        assert means[f"{name}_agent"] == pytest.approx(sum(rewards) / len(rewards)), "the fault is not in the mean"


def test_a_failure_is_run_again_on_resume(rig, tmp_path):
    rows = rows_of([GRADED[0], FAULT])
    collect(rig, tmp_path, rows)
    rollouts, failures, _ = collect(rig, tmp_path, rows, resume=True)
    assert (len(rollouts), len(failures)) == (1, 2)


def test_with_nemo_gyms_own_agent_graded_scripts_are_the_same_and_a_fault_stops_the_collection(rig, tmp_path):
    rollouts, failures, _ = collect(rig, tmp_path, rows_of(GRADED[:6], "plain"))
    assert {each["info"]["task_id"]: each["reward"] for each in rollouts} == {script.name: script.reward for script in GRADED[:6]}
    assert not failures
    with pytest.raises(Exception, match="500"):
        collect(rig, tmp_path, rows_of([FAULT], "plain"))
    assert (tmp_path / "rollouts.jsonl").read_text() == ""


def test_no_session_is_left(rig, collected):
    assert all(not server.session_state for server in rig.servers.values())


# over the wire


class Client:
    """One session, by hand."""

    def __init__(self, port, cookie=None):
        self.port, self.cookie = port, cookie

    def post(self, path, body, *, raw=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = raw if raw is not None else json.dumps(body)
        connection.request("POST", path, data, {"Content-Type": "application/json", **({"Cookie": self.cookie} if self.cookie else {})})
        answer = connection.getresponse()
        if (given := answer.headers.get("set-cookie")) is not None:
            self.cookie = given.partition(";")[0]
        text = answer.read().decode()
        connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def reset(self, **row):
        return self.post("/reset", {"responses_create_params": {"input": []}, **row})

    def step(self, *turns, **row):
        answers = [
            self.post("/step", {"responses_create_params": {"input": []}, "response": response_of(turn, at=at), **row})
            for at, turn in enumerate(turns)
        ]
        return answers[-1]


SAY = {"role": "assistant", "content": "May I have your card number, please?"}


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


def test_neither_the_scenario_nor_the_reference_leaves_the_server(rig, collected):
    script = BY_NAME["fails-wrong-argument"]
    client = Client(rig.instances["retail"]["resources_servers"]["any"]["port"])
    said = [client.reset(task_id=script.name, seed=SEED), *(client.step(turn) for turn in script.turns)]
    shown = json.dumps([said, collected[0], nemo_gym_rows(source(script.domain), agent="a")])
    for secret in ("criteria", "scenario", "expected", "reference"):
        assert f'"{secret}"' not in shown
    assert script.task.scenario.goal not in json.dumps(nemo_gym_rows(source(script.domain), agent="a"))


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


# the files


def test_the_files_are_what_nemo_gym_reads(tmp_path):
    config, rows = write_files(tmp_path, "library", options=None)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == [
        "resources_servers/sentinel/app.py",
        "resources_servers/sentinel/configs/library.yaml",
        "resources_servers/sentinel/data/library_all.jsonl",
        "resources_servers/sentinel/requirements.txt",
        "responses_api_agents/sentinel_agent/app.py",
        "responses_api_agents/sentinel_agent/requirements.txt",
    ]
    found = OmegaConf.to_container(OmegaConf.load(config))
    server = found["sentinel_library"]["resources_servers"]["sentinel"]
    assert server["episodes"]["domain"] == "library"
    (row,) = map(json.loads, rows.read_text().splitlines())
    assert row["agent_ref"]["name"] in found
    assert [tool["name"] for tool in row["responses_create_params"]["tools"]] == ["find_loans", "renew_loan"]


def test_tasks_of_the_callers_own_are_copied_beside_the_rows(rig, tmp_path):
    script = BY_NAME["passes-on-a-changed-database"]
    (tmp_path / "mine.jsonl").write_text(script.task.model_dump_json() + "\n")
    config, rows = write_files(tmp_path / "gym", "library", tasks=tmp_path / "mine.jsonl", seed=SEED)
    (tmp_path / "mine.jsonl").unlink()
    found = OmegaConf.to_container(OmegaConf.load(config))
    client = Client(rig.serve("mine", found["sentinel_library"]["resources_servers"]["sentinel"]["episodes"]))
    (row,) = map(json.loads, rows.read_text().splitlines())
    assert "criteria" not in row
    client.reset(**row)
    assert client.step(*script.turns)[1]["reward"] == script.reward


def test_the_command_writes_them_and_says_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "sentinel_env.adapters.nemo_gym_files"]
    done = subprocess.run([*command, "library", "--out", "gym"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "gym/resources_servers/sentinel/configs/library.yaml",
        "gym/resources_servers/sentinel/data/library_all.jsonl",
    ]
    done = subprocess.run([*command, "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
