"""What goes wrong around a run, as whoever types the command meets it: one clear line, and nothing that was finished is lost."""

import asyncio
import json
import logging
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from scripted_models import scripted
from typer.testing import CliRunner

from sentinel_env import ConfigError, ModelError, load_domain
from sentinel_env.cassette import Cassette
from sentinel_env.cli import app
from sentinel_env.line_file import LineFile
from sentinel_env.llm_http import Endpoint
from sentinel_env.model_server import ModelServer, Reply

pytest.importorskip("aiohttp", reason="aiohttp (extra: llm) is not installed")
KEY = "sk-canary-4f1d9a7e2b"
NOBODY = "http://127.0.0.1:9/v1"
DEV = ("run", "retail", "--split", "dev")


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    """The command in an empty folder; it has to end in one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(*arguments, code=1):
        result = CliRunner().invoke(app, [*map(str, arguments)], prog_name="sentinel")
        assert result.exit_code == code, (result.output, result.exception)
        assert code != 1 or (result.stderr.count("\n"), result.stderr[:10]) == (1, "sentinel: ")
        return result.stderr if code else result.stdout

    return run


def in_process(*arguments, cwd, largest=None, **settings):
    """The command in a process of its own, which may write files of so many bytes."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest, largest)) if largest is not None else None
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "sentinel_env", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, preexec_fn=limit, env=environment, **settings)


def results(folder):
    return {name: (Path(folder) / name).read_bytes() for name in ("trajectories.jsonl", "summary.json")}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run that nothing stood in the way of."""
    folder = tmp_path_factory.mktemp("reference")
    assert in_process(*DEV, "--out", "run", cwd=folder).returncode == 0
    return results(folder / "run")


# addresses


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("127.0.0.1:8000/v1", "a base URL looks like http://127.0.0.1:8000/v1, found '127.0.0.1:8000/v1'"),
        ("", "found ''"),
        ("ftp://127.0.0.1/v1", "found 'ftp://127.0.0.1/v1'"),
        ("http://127.0.0.1:99999/v1", "which is no address"),
        ("http://127.0.0.1:port/v1", "which is no address"),
        ("http://127.0.0.1:0/v1", "which is no address"),
        ("http://[::1/v1", "which is no address"),
        ("http://a..b/v1", "which is no address"),
        ("http://127.0.0.1:8000/v1 ", "which holds a blank or a line break"),
        (f"http://me:{KEY}@127.0.0.1:8000/v1", "'http://127.0.0.1:8000/v1' with a user or a password; a key is never part of it"),
        (f"http://me:{KEY}@[::1/v1", "which is no address"),
        (f"http://127.0.0.1:8000/v1?key={KEY}", "'http://127.0.0.1:8000/v1' with more after its path; a key is never part of it"),
        (f"http://127.0.0.1:8000/v1#{KEY}", "with more after its path"),
        ("http://127.0.0.1:8000/v1/chat/completions/", "leave /chat/completions away"),
        (NOBODY, "cannot reach http://127.0.0.1:9/v1/models: connection refused"),
        ("http://nobody.invalid/v1", "cannot reach http://nobody.invalid/v1/models"),
    ],
)
def test_a_wrong_address_is_one_line(sentinel, tmp_path, url, says):
    said = sentinel("run", "library", "--model", "tiny", "--base-url", url)
    assert says in said
    assert KEY not in said
    assert list(tmp_path.iterdir()) == []


@contextmanager
def service(answer):
    """Another service: it sends these bytes to whoever connects, and hangs up."""

    def serve():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    connection.recv(65_536)
                    connection.sendall(answer)
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def http(status, body=b"", *headers):
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "\r\n"]).encode() + body


PAGE = b"<html><body>Welcome</body></html>"


@pytest.mark.parametrize(
    ("answer", "scheme", "path", "says"),
    [
        (http("200 OK", PAGE), "http", "/v1", "the answer is no JSON: '<html><body>Welcome</body></html>'; is a server of models at"),
        (http("200 OK"), "http", "/v1", "the answer is no JSON: ''; is a server of models at"),
        (http("404 Not Found", PAGE), "http", "", "its base URL? It usually ends in /v1"),
        (http("404 Not Found"), "http", "/v1", "HTTP 404; is a server of models at"),
        (http("405 Method Not Allowed"), "http", "/v1", "HTTP 405; is a server of models at"),
        (http("501 Unsupported method"), "http", "/v1", "HTTP 501; is a server of models at"),
        (http("308 Moved", b"", f"Location: https://me:{KEY}@example.com/v1?key={KEY}"), "http", "/v1", "to https://example.com/v1; is"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "http", "/v1", "sends is no HTTP: b'SSH-2.0-OpenSSH_9.6'"),
        (b"\x00\xff" * 5000, "http", "/v1", "sends is no HTTP"),
        (b"", "http", "/v1", "closed the connection without an answer; is it https that it speaks, or another service?"),
        (http("200 OK", PAGE), "https", "/v1", "it does not speak TLS"),
    ],
)
def test_what_is_no_server_of_models_is_one_line_before_anything_is_begun(sentinel, tmp_path, answer, scheme, path, says):
    with service(answer) as address:
        said = sentinel("run", "library", "--model", "tiny", "--base-url", f"{scheme}://{address}{path}")
    assert says in said
    assert KEY not in said
    assert len(said) < 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("around", [b"%b\r\n", http("200 OK", b"%b").replace(b"Length: 2", b"Length: 6000")])
def test_half_a_key_is_not_shown_either(around):
    for padding in (*range(25, 65, 3), *range(960, 1001, 5)):
        sent = around.replace(b"%b", (b"-" * padding + KEY.encode()).ljust(6000, b"-"))
        with service(sent) as address, pytest.raises(ModelError) as caught:
            asyncio.run(asked(Endpoint(f"http://{address}/v1", KEY)))
        assert "sk-" not in str(caught.value)


async def asked(endpoint):
    try:
        return await endpoint.send({"model": "tiny", "messages": []})
    finally:
        await endpoint.close()


def test_a_model_that_is_not_there_is_one_line(sentinel):
    with ModelServer(["Good day"], models=("large",)) as server:
        said = sentinel("run", "library", "--model", "tiny", "--base-url", server.url)
    assert "The model `tiny` does not exist.; the server has 'large'" in said
    assert "a model needs a name" in sentinel("run", "library", "--model", " ", "--base-url", NOBODY)


@pytest.mark.slow  # importing litellm takes seconds
def test_a_server_that_leaves_tools_out_is_one_line_and_never_a_pass_rate_of_zero(sentinel, tmp_path):
    library = load_domain("library")
    script = scripted(library, library.split())

    def deaf(request):
        reply = script({name: value for name, value in request.items() if name != "tools"})
        return replace(reply, usage=(sum(len(row["content"].split()) for row in request["messages"]), 1))

    with ModelServer(deaf, models=("tiny",)) as server:
        asked = ("run", "library", "--model", "tiny", "--base-url", server.url, "--record", "night.jsonl", "--out", "run")
        said = sentinel(*asked)
        assert "leaves tools out of its prompt, as where its chat template has none; put them there with --tools-in-text" in said
        assert not (tmp_path / "run").exists()
        assert len(server.requests) == 2
        sentinel(*asked, "--tools-in-text", code=0)
        before = len(server.requests)
        sentinel(*asked, "--tools-in-text", code=0)  # nothing is left to do
        assert len(server.requests) == before
    sentinel("run", "library", "--model", "tiny", "--tools-in-text", "--replay", "night.jsonl", "--out", "again", code=0)
    assert results(tmp_path / "run") == results(tmp_path / "again")


def test_a_run_with_nothing_left_asks_no_server_about_tools(sentinel):
    library = load_domain("library")
    with ModelServer(scripted(library, library.split()), models=("tiny",)) as server:
        asked = ("run", "library", "--model", "tiny", "--base-url", server.url, "--out", "run")
        sentinel(*asked, code=0)
        before = len(server.requests)
        sentinel(*asked, code=0)
        assert len(server.requests) == before


def test_a_provider_without_a_key_and_a_model_without_a_provider_are_one_line(sentinel):
    pytest.importorskip("litellm", reason="litellm (extra: llm) is not installed")
    assert "needs a key; set OPENAI_API_KEY in the environment" in sentinel("run", "library", "--model", "openai/gpt-4o-mini")
    assert "write provider/model, such as openai/tiny, or give a base URL" in sentinel("run", "library", "--model", "tiny")


# folders


def folders():
    """(what is wrong, how it comes about, what the line says)"""

    def linked(path):
        path.symlink_to(path)

    def with_file(name, text):
        def make(path):
            path.mkdir()
            (path / name).write_text(text)

        return make

    yield "a file", lambda path: path.write_text(""), "cannot keep a run in run: it is a file; a run needs a folder"
    yield "tau2's results", lambda path: path.write_text('{"simulations": []}'), "it is a file; a run needs a folder"
    yield "a loop", linked, "cannot keep a run in run: Too many levels of symbolic links"
    yield "a folder for run.json", lambda path: (path / "run.json").mkdir(parents=True), "cannot read run/run.json: Is a directory"
    yield "half a run.json", with_file("run.json", '{"configuration": {"agent"'), "is not a run's configuration: Expecting ':'"
    yield "an empty run.json", with_file("run.json", ""), "is not a run's configuration"
    yield "a list", with_file("run.json", "[" * 100_000), "is not a run's configuration: maximum recursion"
    yield "another's run.json", with_file("run.json", '{"name": "mine"}'), "is not a run's configuration: it has no 'configuration'"
    yield "no run.json", with_file("trajectories.jsonl", "{}\n"), "holds trajectories.jsonl but no run.json"


@pytest.mark.parametrize(("make", "says"), [each[1:] for each in folders()], ids=[each[0] for each in folders()])
def test_a_folder_that_cannot_hold_the_run_is_one_line_and_is_left_as_it_is(sentinel, tmp_path, make, says):
    make(tmp_path / "run")
    before = sorted((path.name, path.lstat().st_size, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))
    said = sentinel("run", "library", "--out", "run")
    assert says in said
    assert sorted((path.name, path.lstat().st_size, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["errors.jsonl", "summary.json"])
def test_a_folder_in_the_place_of_a_file_is_named(sentinel, tmp_path, name):
    (tmp_path / "run" / name).mkdir(parents=True)
    assert f"run/{name}: Is a directory" in sentinel("run", "library", "--out", "run")
    (tmp_path / "run" / name).rmdir()
    sentinel("run", "library", "--out", "run", code=0)


def newer(folder, text, name="trajectories.jsonl"):
    file = folder / name
    file.write_text(file.read_text().replace("{", text, 1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda run: newer(run, '{"mood": 1,'),
            "run/trajectories.jsonl, line 1: mood: Extra inputs are not permitted (found 1); it is left",
        ),
        (lambda run: newer(run, '{"mood": {'[:9]), "trajectories.jsonl, line 1: Invalid JSON"),
        (lambda run: (run / "trajectories.jsonl").write_bytes(b"\xff\xfe\n"), "cannot read trajectories from run/trajectories.jsonl"),
        (
            lambda run: (run / "run.json").write_text((run / "run.json").read_text().replace('"trials": 1', '"trials": 1, "mood": "new"')),
            'run holds another run (mood: it has "new", now null); use a new folder to start anew',
        ),
        (
            lambda run: (run / "run.json").write_text(
                (run / "run.json").read_text().replace('"trials": 1', '"trials": 2').replace('"sentinel_env": "', '"sentinel_env": "9.')
            ),
            "it was begun with version 9.",
        ),
    ],
)
def test_a_run_of_another_version_is_one_line_and_is_left_as_it_is(sentinel, tmp_path, change, says):
    sentinel("run", "library", "--out", "run", code=0)
    change(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert says in sentinel("run", "library", "--out", "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_run_that_goes_on_says_nothing_about_versions(sentinel, tmp_path):
    sentinel("run", "library", "--out", "run", code=0)
    text = (tmp_path / "run" / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(text.replace('"sentinel_env": "', '"sentinel_env": "9.'))
    sentinel("run", "library", "--out", "run", code=0)


HOLDS = """
import sys, time
from sentinel_env.run_folder import RunFolder
with RunFolder(sys.argv[1], {}):
    print("holds", flush=True)
    time.sleep(600)
"""


def test_a_second_run_on_a_folder_is_refused_at_once_and_a_killed_one_leaves_it(sentinel, tmp_path):
    (tmp_path / "run").mkdir()
    first = subprocess.Popen([sys.executable, "-c", HOLDS, "run"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "holds\n"
        said = sentinel("run", "library", "--out", "run")
        assert said == "sentinel: another process is writing to run; wait for it, or use a new folder\n"
    finally:
        first.kill()
        first.wait()
        first.stdout.close()
    (tmp_path / "run" / "run.json").unlink()
    sentinel("run", "library", "--out", "run", code=0)


# disks


@pytest.mark.parametrize("largest", [0, 20_000])
def test_a_disk_that_is_full_is_one_line_and_the_same_command_ends_with_the_same_bytes(tmp_path, reference, largest):
    """By the system's limit on the size of a file; the real thing follows."""
    full = in_process(*DEV, "--out", "run", cwd=tmp_path, largest=largest)
    assert (full.returncode, full.stdout, full.stderr.count("\n")) == (1, "", 1)
    assert full.stderr.startswith(
        ("sentinel: cannot write to run/trajectories.jsonl: File too large", "sentinel: cannot keep a run in run: ")
    )
    kept = tmp_path / "run" / "trajectories.jsonl"
    whole = kept.read_bytes() if kept.exists() else b""
    assert whole == b"" or whole.endswith(b"\n")
    assert not list(tmp_path.rglob(".*partial"))
    assert in_process(*DEV, "--out", "run", cwd=tmp_path).returncode == 0
    assert results(tmp_path / "run") == reference


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec")
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=$1 tmpfs disk
cd disk
set +e
shift; out=$1; shift
"$@"; echo "rc $?" >&2
"$@"; echo "rc $?" >&2
mount -o remount,size=64m tmpfs ../disk
"$@"; echo "rc $?" >&2
cp -r . $out
"""


def needs_namespaces():
    found = shutil.which("unshare") and subprocess.run([*NAMESPACE, "mount -t tmpfs tmpfs /mnt"], capture_output=True).returncode == 0
    return pytest.mark.skipif(not found, reason="this system lets nobody mount a small disk of their own")


small_disk = needs_namespaces()


@small_disk
@pytest.mark.parametrize("size", ["16k", "512k"])
def test_a_real_full_disk_is_one_line_twice_and_with_room_the_run_ends_with_the_same_bytes(tmp_path, reference, size):
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-m", "sentinel_env", *DEV, "--out", "run"]
    script = [*NAMESPACE, ON_A_SMALL_DISK, "sh", size, str(tmp_path / "copy"), *command]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("rc")] == ["rc 1", "rc 1", "rc 0"], done.stderr
    assert [line for line in lines if "No space left on device" in line] == lines[0:4:2], done.stderr
    assert results(tmp_path / "copy" / "run") == reference


@small_disk
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o ro tmpfs disk; exec "$@"'
    for out in ("disk", "disk/run"):
        command = [sys.executable, "-m", "sentinel_env", "run", "library", "--out", out]
        done = subprocess.run([*NAMESPACE, script, "sh", *command], cwd=tmp_path, capture_output=True, text=True)
        where = "disk: disk/run.json" if out == "disk" else out
        assert (done.returncode, done.stderr) == (1, f"sentinel: cannot keep a run in {where}: Read-only file system\n")


def test_a_full_disk_stops_what_keeps_outages_too(tmp_path):
    with ModelServer(lambda request: Reply("boom " * 60, status=403) if request["max_tokens"] > 1 else "ok") as server:
        asked = ("--model", "tiny", "--base-url", server.url)
        full = in_process(*DEV, *asked, "--out", "run", cwd=tmp_path, largest=4000)
        assert (full.returncode, full.stderr.count("\n")) == (1, 1)
        assert full.stderr.startswith("sentinel: cannot write to run/errors.jsonl: File too large; to resume, run the same command again")
    assert (tmp_path / "run" / "errors.jsonl").read_bytes().endswith(b"\n")


@pytest.mark.parametrize("verb", [("domains",), ("domains", "--json"), ("run", "library", "--out", "run")])
def test_output_that_finds_no_room_is_one_line(tmp_path, verb):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "sentinel_env", *verb], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "sentinel: cannot write the output: No space left on device\n")
    assert verb[0] != "run" or (tmp_path / "run" / "summary.json").exists()


def test_another_programs_results_are_not_a_run_and_how_to_read_them_is_said(sentinel, tmp_path):
    (tmp_path / "results.json").write_text('{\n  "simulations": []\n}\n')
    assert "sentinel import tau2 results.json reads tau2-bench's results" in sentinel("score", "results.json")


def test_a_cassette_on_a_full_disk_keeps_what_was_answered_and_goes_on(tmp_path):
    domain = load_domain("library")
    with ModelServer(scripted(domain, domain.split()), models=("tiny",)) as server:
        asked = ("run", "library", "--trials", 30, "--model", "tiny", "--base-url", server.url)
        full = in_process(*asked, "--record", "night.jsonl", "--out", "run", cwd=tmp_path, largest=20_000)
        assert (full.returncode, full.stderr.count("\n")) == (1, 1)
        assert "cannot write to night.jsonl: File too large; what was answered before is on it, run the same command again" in full.stderr
        kept = (tmp_path / "night.jsonl").read_bytes()
        assert kept.endswith(b"\n")
        before = len(server.requests)
        assert in_process(*asked, "--record", "night.jsonl", "--out", "run", cwd=tmp_path).returncode == 0
        assert (tmp_path / "night.jsonl").read_bytes().startswith(kept)
        again = len(server.requests) - before
        assert in_process(*asked, "--record", "whole.jsonl", "--out", "whole", cwd=tmp_path).returncode == 0
        assert again < len(server.requests) - before - again
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert sorted((tmp_path / "night.jsonl").read_bytes().splitlines()) == sorted((tmp_path / "whole.jsonl").read_bytes().splitlines())


def test_a_line_that_does_not_fit_is_taken_back_and_a_shorter_one_is_whole(tmp_path):
    """In a process of its own, whose files may have 100 bytes."""
    code = (
        "import os, resource; from pathlib import Path\n"
        "from sentinel_env import ConfigError; from sentinel_env.line_file import LineFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "file = LineFile(os.open('lines', os.O_WRONLY | os.O_CREAT | os.O_APPEND), Path('lines'), advice='make room')\n"
        "file.add(b'a' * 60 + b'\\n')\n"
        "try: file.add(b'b' * 60 + b'\\n')\n"
        "except ConfigError as error: print(error)\n"
        "file.add(b'c' * 30 + b'\\n'); file.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("cannot write to lines: File too large; make room\n", "")
    assert (tmp_path / "lines").read_bytes() == b"a" * 60 + b"\n" + b"c" * 30 + b"\n"


def test_a_disk_that_loses_lines_is_said_at_the_next_one_and_at_the_end(tmp_path, monkeypatch):
    def failing(file):
        raise OSError(5, "Input/output error")

    path = tmp_path / "lines"
    file = LineFile(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), path, advice="make room")
    file.add(b"a\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(ConfigError, match="lines: Input/output error; make room"):
            file.sync()
    for again in (partial(file.add, b"b\n"), file.sync, file.close):
        with pytest.raises(ConfigError, match="Input/output error"):
            again()


def test_lines_are_on_the_disk_in_time_though_none_comes_after_them(tmp_path, monkeypatch):
    synced = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda file: synced.set())
    path = tmp_path / "lines"
    file = LineFile(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), path, advice="make room")
    file.add(b"a\n")
    assert synced.wait(60)
    file.close()


# cassettes


def cassettes(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep").write_text("[" * 100_000 + "\n")
    (tmp_path / "list").write_text("[]\n")
    (tmp_path / "null").symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder", "cannot open cassette folder: it is no file"),
        ("loop", "cannot open cassette loop: Too many levels of symbolic links"),
        ("file/night", "cannot open cassette file/night: "),
        ("pipe", "cannot open cassette pipe: it is no file"),
        ("null", "cannot open cassette null: it is no file"),
        ("x" * 300, "File name too long"),
        ("deep", "deep, line 1 is no line of a cassette: maximum recursion"),
        ("list", "list, line 1 is no line of a cassette"),
    ],
)
@pytest.mark.parametrize("option", ["--record", "--replay"])
def test_what_cannot_be_a_cassette_is_one_line(sentinel, tmp_path, option, name, says):
    cassettes(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert says in sentinel("run", "library", "--model", "tiny", "--base-url", NOBODY, option, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_answer_of_another_version_is_one_line(sentinel, tmp_path):
    domain = load_domain("library")
    with ModelServer(scripted(domain, domain.split()), models=("tiny",)) as server:
        sentinel("run", "library", "--model", "tiny", "--base-url", server.url, "--record", "night.jsonl", "--out", "run", code=0)
    lines = [json.loads(line) for line in (tmp_path / "night.jsonl").read_text().splitlines()]
    for change in ({"completion": {"mood": 1}}, {"completion": None, "error": {"kind": "rate"}}):
        texts = [{name: value for name, value in {**line, **change}.items() if value is not None} for line in lines]
        (tmp_path / "night.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
        said = sentinel("run", "library", "--model", "tiny", "--replay", "night.jsonl", "--out", "again")
        assert "night.jsonl holds an answer that this version cannot read" in said


def test_a_word_that_is_given_in_the_place_of_a_key_is_no_secret(tmp_path, monkeypatch, sentinel):
    """Servers without keys are given anything; taking it out of what is recorded would tear the record apart."""
    domain = load_domain("library")
    with ModelServer(scripted(domain, domain.split()), models=("tiny",)) as server:
        for key in ("role", "x", "1", "EMPTY"):
            monkeypatch.setenv("SENTINEL_API_KEY", key)
            asked = ("run", "library", "--model", "tiny", "--base-url", server.url)
            sentinel(*asked, "--record", f"{key}.jsonl", "--out", key, code=0)
            monkeypatch.delenv("SENTINEL_API_KEY")
            sentinel("run", "library", "--model", "tiny", "--replay", f"{key}.jsonl", "--out", f"{key}-again", code=0)
            assert results(tmp_path / key) == results(tmp_path / f"{key}-again")


# keys


LEAKY = {
    "a refused key": [Reply(f"Incorrect API key provided: {KEY}", status=401)],
    "a ban": [Reply(f"{KEY} is banned; {KEY[:12]}", status=403)],
    "a crash": [Reply(f"Traceback: headers={{'Authorization': 'Bearer {KEY}'}}", status=500)],
    "no room": [Reply(f"{KEY} is over its limit", status=429, retry_after=0.01)],
    "a redirect": [Reply(fault="redirect")],
    "a page": [Reply(body=f"<html>{KEY}</html>".encode(), headers={"X-Key": KEY})],
    "a filter": [Reply(f"no {KEY}", finish="content_filter")],
    "an answer": [Reply(f"You gave me {KEY}.", reasoning=f"They gave me {KEY}.")],
    "a call": [Reply(calls=({"id": KEY, "type": "function", "function": {"name": "renew_loan", "arguments": json.dumps({KEY: [KEY]})}},))],
    "an unreadable call": [Reply(calls=({"id": "1", "function": {"name": "renew_loan", "arguments": f'{{"{KEY}'}},))],
    "other names": [Reply(body=json.dumps({"model": KEY, "choices": [{"message": {"content": ""}, "finish_reason": KEY}]}).encode())],
}


@pytest.mark.parametrize("name", LEAKY)
@pytest.mark.parametrize("listed", [("tiny",), None], ids=["in the run", "at the check"])
def test_a_key_that_a_server_repeats_reaches_no_file_and_no_output(tmp_path, monkeypatch, caplog, capfd, name, listed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTINEL_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with ModelServer(LEAKY[name], models=listed) as server:
        command = ("run", "library", "--model", "tiny", "--base-url", server.url, "--record", "night.jsonl", "--max-steps", "3")
        command += ("--wait-for-server", "0.001")
        done = CliRunner().invoke(app, [*command, "--out", "run"], prog_name="sentinel")
    assert isinstance(done.exception, SystemExit | None)
    found = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    found |= {"output": done.output, "logs": caplog.text, "errors": "".join(capfd.readouterr()), "raised": repr(done.exc_info)}
    assert {where for where, text in found.items() if "canary" in text} == set()
    assert listed is None or {"run.json", "night.jsonl"} <= found.keys()


def test_a_key_of_a_replayed_and_of_a_resumed_run_is_in_no_configuration(tmp_path, monkeypatch, sentinel):
    domain = load_domain("library")
    monkeypatch.setenv("SENTINEL_API_KEY", KEY)
    with ModelServer(scripted(domain, domain.split()), key=KEY, models=("tiny",)) as server, Cassette(tmp_path / "other") as cassette:
        assert cassette.path.exists()
        for _ in range(2):
            shown = sentinel("run", "library", "--model", "tiny", "--base-url", server.url, "--out", "run", "--json", code=0)
            assert KEY not in shown
    assert all(KEY not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
