"""A model's server that says the scripts' turns, our server and NeMo Gym's agents: real HTTP servers on one event loop in a thread."""

import asyncio
import http.client
import json
import threading

import uvicorn
from conformance import MAX_STEPS, SCRIPTS, calls_of
from fastapi import FastAPI, Request
from nemo_gym import server_utils
from nemo_gym.config_types import BaseServerConfig, ModelServerRef, ResourcesServerRef
from omegaconf import OmegaConf
from pydantic import Field
from responses_api_agents.gymnasium_agent.app import GymnasiumAgentConfig

from sentinel_env.adapters.nemo_gym import SentinelServer, SentinelServerConfig

BY_NAME = {script.name: script for script in SCRIPTS}
SAY = {"role": "assistant", "content": "May I have your card number, please?"}


class Watched(SentinelServer):
    """Our server, which remembers the episodes that it lets go."""

    seats: dict = Field(default_factory=dict)

    async def close_session(self, session_id):
        self.seats[self.session_state[session_id].seat.episode.task.id] = self.session_state[session_id].seat
        await super().close_session(session_id)


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
    """The event loop with the servers."""

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
