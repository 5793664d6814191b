"""Every adapter against its real framework, each in a virtual environment of its own, since they cannot share one.

    make test-adapters                              # all of them
    make test-adapters ADAPTERS="openenv skyrl"     # some
    python tests/adapters/run_all.py --strict mcp   # one that was not run counts as failed

For each: the wheel is built, an environment is made by the install line of `docs/NAME.md` with the wheel in the package's place, the
recipe's code is run there as printed, outside the repository, and then `tests/adapters/test_NAME*.py`. A framework that cannot be installed
is reported as not run. The environments stay in `.venvs/`, so that a second run is quick; TRL's is the development environment.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from recipes import Recipe, RecipeError
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

REPOSITORY = Path(__file__).resolve().parents[2]
HERE, VENVS, DOCS = REPOSITORY / "tests" / "adapters", REPOSITORY / ".venvs", REPOSITORY / "docs"
TESTED_WITH = ("pytest", "hypothesis")
INSTALL_SECONDS, TEST_SECONDS = 1800, 1200


@dataclass(frozen=True)
class Adapter:
    """One framework."""

    name: str
    """Also of its recipe, `docs/NAME.md`."""
    module: str
    """What must be importable for it to count as installed."""
    tests: str = ""
    """Which of the files beside this one; `test_NAME*.py` for none."""
    pins: tuple[str, ...] = ()
    """The versions that the adapter was written for."""
    python: tuple[int, int] = (3, 11)
    development: bool = False
    """Whether it is run in the environment that runs this, and its recipe's install line is not."""
    recipe: str = ""
    """Of which adapter, for another version of the same framework."""

    @property
    def files(self) -> list[Path]:
        """Its test files."""
        return sorted(HERE.glob(self.tests or f"test_{self.name}*.py"))


ADAPTERS = (
    Adapter("run_episode", "aiohttp", tests="test_endpoint.py"),
    Adapter("gymnasium", "gymnasium"),
    Adapter("openenv", "openenv", pins=("openenv==0.10.0",)),
    Adapter("skyrl", "skyrl_gym", pins=("skyrl-gym==0.4.0",)),
    Adapter("mcp", "mcp", pins=("mcp>=2,<3",)),
    Adapter("mcp_1", "mcp", tests="test_mcp*.py", pins=("mcp<2",), recipe="mcp"),
    Adapter("trl", "trl", development=True),
    Adapter("verifiers", "verifiers", pins=("verifiers==0.4.0",)),
    Adapter("nemo_gym", "nemo_gym", pins=("nemo-gym==0.4.0",), python=(3, 12)),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one adapter."""

    adapter: Adapter
    verdict: str
    """"passed", "FAILED" or "NOT RUN"."""
    versions: str = ""
    recipe: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why: str = ""


class NotRunError(Exception):
    """The framework is not there and cannot be had."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *(each.name for each in ADAPTERS)], metavar="NAME", help="all of them for none")
    parser.add_argument("--strict", action="store_true", help="an adapter that was not run counts as failed")
    parser.add_argument("--fresh", action="store_true", help="make the environments anew")
    given = parser.parse_args()
    chosen = [each for each in ADAPTERS if not given.names or each.name in given.names]
    VENVS.mkdir(exist_ok=True)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        for adapter in chosen:
            print(f"\n== {adapter.name}", flush=True)
            outcomes.append(outcome := run(adapter, wheel, fresh=given.fresh))
            print(f"{outcome.verdict}{': ' if outcome.why else ''}{outcome.why}", flush=True)
    show(outcomes)
    bad = ("FAILED", "NOT RUN") if given.strict else ("FAILED",)
    return int(any(outcome.verdict in bad for outcome in outcomes))


def build_wheel(out: Path) -> Path:
    """The wheel of the working tree, built from a copy so that nothing of an earlier build gets into it."""
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, check=True).stdout.decode().split("\0")
    with tempfile.TemporaryDirectory() as copy:
        for name in filter(None, names):
            source, target = REPOSITORY / name, Path(copy) / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        done = call([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), copy], seconds=INSTALL_SECONDS)
        if done.returncode:
            sys.exit(f"the wheel cannot be built:\n{done.stdout[-3000:]}")
    (wheel,) = out.glob("*.whl")
    return wheel


def run(adapter: Adapter, wheel: Path, *, fresh: bool) -> Outcome:
    """Everything for one adapter."""
    if not adapter.files:
        return Outcome(adapter, "NOT RUN", why=f"there is no tests/adapters/{adapter.tests or f'test_{adapter.name}*.py'}")
    try:
        recipe = Recipe.read(DOCS / f"{adapter.recipe or adapter.name}.md")
        python = Path(sys.executable) if adapter.development else environment(adapter, recipe, wheel, fresh=fresh)
        found = versions(adapter, python)
    except NotRunError as reason:
        return Outcome(adapter, "NOT RUN", why=str(reason))
    except RecipeError as problem:
        return Outcome(adapter, "FAILED", recipe="broken", why=str(problem))
    said, why = "runs as printed", ""
    try:
        with tempfile.TemporaryDirectory() as folder:
            recipe.run(python, Path(folder))
    except RecipeError as problem:
        said, why = "FAILS", str(problem)
    passed, failed, skipped, first = tested(adapter, python)
    verdict = "passed" if passed and not failed and not why else "FAILED"
    return Outcome(adapter, verdict, found, said, passed, failed, skipped, why or first)


def environment(adapter: Adapter, recipe: Recipe, wheel: Path, *, fresh: bool) -> Path:
    """The Python of an environment with the framework, our wheel and pytest; the one of an earlier run if its recipe was the same.

    Raises:
        NotRunError: No Python that is new enough, or something cannot be installed.
        RecipeError: The recipe's install line does not bring the framework.
    """
    venv, made_from = VENVS / adapter.name, f"{recipe.install} {adapter.pins} {adapter.python}"
    note, python = venv / "made_from.txt", venv / "bin" / "python"
    if fresh or not note.is_file() or note.read_text() != made_from:
        shutil.rmtree(venv, ignore_errors=True)
        made = call([str(newest(adapter.python)), "-m", "venv", str(venv)], seconds=300)
        if made.returncode:
            raise NotRunError(f"no virtual environment: {last_line(made.stdout)}")
        pins = venv / "pins.txt"
        pins.write_text("\n".join(adapter.pins))
        for arguments in ([*recipe.arguments(wheel), "--constraint", str(pins)], list(TESTED_WITH)):
            pip(python, *arguments)
        note.write_text(made_from)
    pip(python, "--no-deps", "--force-reinstall", str(wheel))
    if call([str(python), "-c", f"import {adapter.module}"], seconds=300, cwd=VENVS).returncode:
        note.unlink()
        raise RecipeError(f"the install line `{recipe.install}` does not bring {adapter.module}")
    return python


def pip(python: Path, *arguments: str) -> None:
    done = call([str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *arguments], seconds=INSTALL_SECONDS)
    if done.returncode:
        raise NotRunError(f"pip install {' '.join(arguments[:2])} ...: {last_line(done.stdout)}")


def newest(least: tuple[int, int]) -> Path:
    """A Python of at least that version: this one, or what stands on the path or in pyenv.

    Raises:
        NotRunError: There is none.
    """
    if sys.version_info >= least:
        return Path(sys.executable)
    for python in candidates(least):
        asked = call([str(python), "-c", f"import sys, venv; sys.exit(sys.version_info < {least})"], seconds=60)
        if asked.returncode == 0:
            return python
    raise NotRunError(f"it needs Python {'.'.join(map(str, least))}, and there is none; ADAPTERS_PYTHON names one")


def candidates(least: tuple[int, int]) -> Iterator[Path]:
    if given := os.environ.get("ADAPTERS_PYTHON"):
        yield Path(given)
    names = [f"{least[0]}.{minor}" for minor in range(least[1], least[1] + 4)]
    yield from (Path(found) for name in names if (found := shutil.which(f"python{name}")))
    if pyenv := shutil.which("pyenv"):
        root = Path(call([pyenv, "root"], seconds=30).stdout.strip())
        yield from (python for name in names for python in sorted(root.glob(f"versions/{name}.*/bin/python")))


def versions(adapter: Adapter, python: Path) -> str:
    """What is installed of the framework, for the table."""
    names = [re.split("[<=>]", pin)[0] for pin in adapter.pins] or [adapter.module]
    code = f"import sys; from importlib.metadata import version as v; print(*(n + ' ' + v(n) for n in {names}), sep=', ')"
    return call([str(python), "-c", code], seconds=60, cwd=VENVS).stdout.strip()


def tested(adapter: Adapter, python: Path) -> tuple[int, int, int, str]:
    """How many tests passed, failed and were skipped, and the first that did not pass."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["--config-file", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(REPOSITORY), "-p", "no:cacheprovider"]
        command = [str(python), "-m", "pytest", "-rs", *options, f"--junitxml={report}", *map(str, adapter.files)]
        done = call(command, seconds=TEST_SECONDS, cwd=Path(folder), shown=True)
        if not report.is_file():
            return 0, 1, 0, last_line(done.stdout)
        cases = list(ElementTree.parse(report).iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    first = next((str(case.get("name")) for case in bad), "")
    if skipped and not first:
        mark = skipped[0].find("skipped")
        whole = re.search(r"Skipped: (.*?)['\")]*$", mark.text or "")  # a file that skips itself says why in the text alone
        first = f"skipped: {whole[1] if whole else mark.get('message', '')}"
    return len(cases) - len(bad) - len(skipped), len(bad), len(skipped), first


def call(command: list[str], *, seconds: float, cwd: Path | None = None, shown: bool = False) -> subprocess.CompletedProcess[str]:
    """Run something outside of the environment that runs this; both streams as one text."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, cwd=cwd, env=clean, check=False
        )
    except subprocess.TimeoutExpired as late:
        text = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        done = subprocess.CompletedProcess(command, 124, f"{text}\nnot done within {seconds:.0f} s")
    except OSError as error:
        done = subprocess.CompletedProcess(command, 127, str(error))
    if shown:
        print(done.stdout, end="", flush=True)
    return done


def last_line(text: str) -> str:
    """What a program said last; for pip the line that says why."""
    lines = [line for line in text.strip().splitlines() if line.strip()] or ["nothing was said"]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])[:300]


def show(outcomes: list[Outcome]) -> None:
    table = Table("adapter", "framework", "recipe", "tests", "", Column("why", overflow="fold"))
    for each in outcomes:
        counts = f"{each.passed} passed, {each.failed} failed" + (f", {each.skipped} skipped" if each.skipped else "")
        table.add_row(each.adapter.name, each.versions, each.recipe, counts if each.recipe else "", each.verdict, escape(each.why))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    sys.exit(main())
