"""Turns by vLLM's server: TRL's own client and its server mode, against a local server that answers as vLLM does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("trl", reason="the train extra is not installed")

from sentinel_train.config import TrainConfig
from sentinel_train.grpo_settings import grpo_config
from sentinel_train.served import ServedTurns

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


class Handler(BaseHTTPRequestHandler):
    """Answers every prompt with its last id and the end of the turn."""

    def do_GET(self):
        self.answer({"data": [{"id": "solver"}]} if self.path == "/v1/models" else {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        self.answer({"choices": [self.choice(prompt) for prompt in asked["prompt"]]})

    def choice(self, prompt):
        ids, chances = [prompt[-1], 1], [-0.5, -0.25]
        names = [f"token_id:{token}" for token in ids]
        tops = [{name: chance} for name, chance in zip(names, chances, strict=True)]
        logprobs = {"tokens": names, "token_logprobs": chances, "top_logprobs": tops}
        return {"prompt_token_ids": prompt, "token_ids": ids, "logprobs": logprobs}

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def generation(server, tmp_path, monkeypatch):
    """TRL's own, but for the link by which weights go to the server's GPU: vLLM's, which is not installed."""
    from accelerate import Accelerator
    from trl.generation import vllm_client, vllm_generation

    monkeypatch.setattr(vllm_client, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_client.VLLMClient, "init_communicator", lambda self, device: None)
    url = f"http://127.0.0.1:{server.server_port}"
    settings = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": url, "vllm_server_timeout": 5}
    sampling = {"temperature": 0.7, "max_turn_tokens": 32, "max_episode_tokens": 500}
    args = grpo_config(TrainConfig.of({"model": "tiny", "trl": settings, "sampling": sampling, "device": "cpu"}), tmp_path)
    made = vllm_generation.VLLMGeneration(
        model=None,
        accelerator=Accelerator(cpu=True),
        processing_class=None,
        mode=args.vllm_mode,
        server_base_url=args.vllm_server_base_url,
        server_timeout=args.vllm_server_timeout,
        temperature=args.temperature,
        max_completion_length=args.max_completion_length,
        generation_kwargs=args.generation_kwargs,
    )
    yield made
    made.vllm_client.session.close()


def test_a_dialogue_goes_to_the_server_whole_and_its_next_turn_comes_back(server, generation):
    turns = ServedTurns(generation)
    first = turns.take({0: [5, 6], 1: [7]})
    assert {row: (turn.ids, turn.logprobs) for row, turn in first.items()} == {0: ([6, 1], [-0.5, -0.25]), 1: ([7, 1], [-0.5, -0.25])}
    assert turns.take({1: [8]})[1].ids == [8, 1]
    assert [asked["prompt"] for asked in server.asked] == [[[5, 6], [7]], [[7, 7, 1, 8]]]


def test_the_server_is_asked_for_one_turn_at_our_temperature(server, generation):
    ServedTurns(generation).take({0: [5, 6]})
    (asked,) = server.asked
    assert (asked["model"], asked["n"], asked["temperature"], asked["max_tokens"]) == ("solver", 1, 0.7, 32)
    assert (asked["top_p"], asked["top_k"], asked["min_p"], asked["repetition_penalty"]) == (1.0, 0, 0.0, 1.0)
