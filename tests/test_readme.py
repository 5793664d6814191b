"""What the README shows, runs."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel_env.cli import app

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_readme_has_its_parts():
    assert len(blocks("python")) == 3
    assert TEXT.index("make demo") < TEXT.index("make test") < TEXT.index("```python")


@pytest.mark.parametrize("at", range(len(blocks("python"))))
def test_python_blocks_run(tmp_path, at):
    result = subprocess.run([sys.executable, "-W", "error", "-c", blocks("python")[at]], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    if at == 0:
        assert re.fullmatch(r"missing_write/\w+: \d+ of \d+\n\d+ new tasks that stress it, such as: .+\n", result.stdout), result.stdout


def test_the_pipeline_runs_up_to_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line, comments=True)[1:] for line in blocks("sh")[1].splitlines()]
    assert [command[0] for command in commands] == ["run", "failures", "propose", "verify", "train"]
    for command in commands[:-1]:
        result = CliRunner().invoke(app, command, prog_name="sentinel")
        assert result.exit_code == 0, result.output
    assert (tmp_path / commands[-1][commands[-1].index("--tasks") + 1]).stat().st_size > 0


def test_the_domain_passes_its_checks_and_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (source,) = [block for block in blocks("python") if block.startswith("# my_library.py")]
    (tmp_path / "my_library.py").write_text(source)
    for command in ("check", "run"):
        result = subprocess.run(
            [sys.executable, "-m", "sentinel_env", command, "my_library:domain"], capture_output=True, text=True, cwd=tmp_path
        )
        assert result.returncode == 0, result.stderr
    assert "Pass^1 %" in result.stdout


def test_the_files_in_the_table_exist():
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \|$", TEXT, re.MULTILINE)
    assert len(rows) >= 14
    for row in rows:
        paths = re.findall(r"`([^`]+)`", row)
        folder = Path(paths[0]).parent
        for path in paths:
            found = REPOSITORY / path.replace("NAME/", "library/") if "/" in path else REPOSITORY / folder / path
            assert found.exists(), path


def test_the_settings_of_the_loop_are_settings():
    pytest.importorskip("torch", reason="the train extra is not installed")
    from sentinel_train.loop_config import LoopConfig

    (settings,) = blocks("toml")
    config = LoopConfig.of(tomllib.loads(settings))
    config.check_budget()
    assert (config.targeting, config.train.steps) == ("closed_loop", 12)


def test_version_and_changelog_agree():
    from sentinel_env import __version__

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
