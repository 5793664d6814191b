"""What runs the adapters' recipes and tests: it must not take a recipe that fails, or a test that was skipped, for one that passed."""

import socket
import sys
from pathlib import Path

import pytest
import run_all
from recipes import Recipe, RecipeError
from run_all import ADAPTERS, Adapter, NotRunError, newest, run

WHEEL = Path("/somewhere/sentinel_env-0-py3-none-any.whl")


def page(folder, *blocks):
    path = folder / "some.md"
    path.write_text("# Some\n\n" + "\n\n".join(f"```{language}\n{text}\n```" for language, text in blocks))
    return path


def recipe(folder, *blocks):
    return Recipe.read(page(folder, ("sh", 'pip install "sentinel-env[some]"'), *blocks))


def do(folder, *blocks):
    recipe(folder, *blocks, ("python", "pass")).run(Path(sys.executable), folder)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_every_adapter_has_tests_and_a_recipe_that_installs_us(adapter):
    assert adapter.files
    found = Recipe.read(run_all.DOCS / f"{adapter.recipe or adapter.name}.md")
    assert any(word.startswith(str(WHEEL)) for word in found.arguments(WHEEL))


def test_the_wheel_takes_the_packages_place_with_its_extra_and_all_else_stays(tmp_path):
    assert recipe(tmp_path, ("python", "")).arguments(WHEEL) == [f"{WHEEL}[some]"]
    other = Recipe.read(page(tmp_path, ("sh", "pip install sentinel-env 'some>=1,<2'  # both"), ("python", "")))
    assert other.arguments(WHEEL) == [str(WHEEL), "some>=1,<2"]


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        ((("python", "pass"),), "does not begin with an install line"),
        ((("sh", "sentinel domains"), ("python", "pass")), "does not begin with an install line"),
        ((("sh", "pip install sentinel-env"),), "no block marked python"),
    ],
)
def test_a_page_without_a_recipe_is_refused(tmp_path, blocks, match):
    with pytest.raises(RecipeError, match=match):
        Recipe.read(page(tmp_path, *blocks))
    with pytest.raises(RecipeError, match=r"there is no recipe docs/none\.md"):
        Recipe.read(tmp_path / "none.md")


def test_blocks_run_in_order_in_the_folder_with_the_environments_own_commands(tmp_path):
    do(
        tmp_path,
        ("sh", "echo 1 > a \\\n  && echo 2 >> a\n# nothing\npip install nothing"),
        ("python", "assert open('a').read() == '1\\n2\\n'"),
    )
    do(tmp_path, ("sh", f'test "$(command -v python)" = {Path(sys.executable).parent}/python'), ("text", "exit 1"))


@pytest.mark.parametrize(
    ("block", "match"),
    [
        (("python", "raise ValueError('no')"), "docs/some.md, block 2: ValueError: no"),
        (("sh", "false"), "block 2: nothing was said"),
        (("sh", "echo so >&2; exit 3"), "block 2: so"),
        (("sh", "sentinel serve nothing --port 1"), "does not answer on port 1: "),
        (("sh", "sentinel serve nothing"), "names a port"),
    ],
)
def test_what_does_not_work_as_printed_is_said(tmp_path, block, match):
    with pytest.raises(RecipeError, match=match):
        do(tmp_path, block)


def test_another_servers_port_is_not_taken_for_ours(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(RecipeError, match="something else listens"):
        do(tmp_path, ("sh", f"sentinel serve nothing --port {other.getsockname()[1]}"))


TESTS = {
    "passes": ("def test_it(): pass", "passed"),
    "fails": ("def test_it(): assert 0", "FAILED"),
    "is skipped": ("import pytest\npytest.importorskip('no_such_module', reason='needs it')\ndef test_it(): pass", "FAILED"),
    "is broken": ("import no_such_module", "FAILED"),
    "is empty": ("", "FAILED"),
}


@pytest.mark.parametrize("name", TESTS)
def test_only_tests_that_ran_and_passed_count(name, tmp_path, monkeypatch):
    text, verdict = TESTS[name]
    (tmp_path / "test_some.py").write_text(text)
    page(tmp_path, ("sh", "pip install sentinel-env"), ("python", "pass"))
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    monkeypatch.setattr(run_all, "DOCS", tmp_path)
    assert run(Adapter("some", "pytest", development=True), WHEEL, fresh=False).verdict == verdict


def test_what_cannot_be_had_is_not_run_and_not_passed():
    with pytest.raises(NotRunError, match=r"it needs Python 9\.9, and there is none"):
        newest((9, 9))
    assert run(Adapter("none", "none"), WHEEL, fresh=False).verdict == "NOT RUN"
