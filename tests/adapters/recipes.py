"""A recipe, `docs/NAME.md`, done as printed: what a stranger types into an empty environment.

Blocks marked `sh` and `python` are run, in order, in an empty folder; others are not. The first line is the install line. A line that
begins with `sentinel serve` runs on in the background until the end of the recipe; what follows waits until its port answers. A server
over stdio is started with nothing to read, and has to end.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "sentinel-env"
BLOCK_SECONDS, SERVER_SECONDS = 600, 120


class RecipeError(Exception):
    """A recipe that does not work as printed."""


@dataclass(frozen=True)
class Recipe:
    """One page's blocks."""

    name: str
    blocks: tuple[tuple[str, str], ...]
    """(language, text)"""

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """The recipe of a page.

        Raises:
            RecipeError: There is none, or it does not begin with an install line.
        """
        if not path.is_file():
            raise RecipeError(f"there is no recipe docs/{path.name}")
        found = re.findall(r"^```(sh|python)\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        if not found or not found[0][1].startswith("pip install "):
            raise RecipeError(f"docs/{path.name} does not begin with an install line, a block marked sh with pip install")
        if not any(language == "python" for language, _ in found):
            raise RecipeError(f"docs/{path.name} has no block marked python")
        return cls(path.stem, tuple(found))

    @property
    def install(self) -> str:
        """The install line."""
        return self.blocks[0][1].splitlines()[0]

    def arguments(self, wheel: Path) -> list[str]:
        """What follows `pip install`, with the wheel in the package's place.

        Raises:
            RecipeError: The line does not name the package.
        """
        words = shlex.split(self.install, comments=True)[2:]
        named = re.compile(rf"{PACKAGE}(\[[\w,-]+\])?")
        if not any(named.fullmatch(word) for word in words):
            raise RecipeError(f"the install line `{self.install}` does not name {PACKAGE}")
        return [f"{wheel}{match[1] or ''}" if (match := named.fullmatch(word)) else word for word in words]

    def run(self, python: Path, folder: Path) -> None:
        """Do everything but the install line.

        Raises:
            RecipeError: Something does not work; the text says which block, and what was said.
        """
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
        with ExitStack() as stack:
            for at, (language, text) in enumerate(self.blocks):
                if language == "python":
                    self._call([str(python), "-c", text], folder, environment, at)
                    continue
                for line in _lines(text):
                    if line.startswith("pip install "):
                        continue
                    if line.startswith("sentinel serve") and (not line.startswith("sentinel serve mcp") or "--http" in line):
                        self._serve(line, folder, environment, at, stack)
                    else:
                        self._call(["bash", "-euo", "pipefail", "-c", line], folder, environment, at)

    def _call(self, command: list[str], folder: Path, environment: dict[str, str], at: int) -> None:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BLOCK_SECONDS,
                cwd=folder,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RecipeError(f"docs/{self.name}.md, block {at + 1}: not done within {BLOCK_SECONDS} s") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
            raise RecipeError(f"docs/{self.name}.md, block {at + 1}: {said[-1][:300]}")

    def _serve(self, line: str, folder: Path, environment: dict[str, str], at: int, stack: ExitStack) -> None:
        port = self._port(line, at)
        if _answers(port):
            raise RecipeError(f"docs/{self.name}.md, block {at + 1}: something else listens on port {port}; end it and try again")
        log = stack.enter_context((folder / f"server-{at}.log").open("w+"))
        server = subprocess.Popen(["bash", "-c", f"exec {line.removesuffix('&')}"], cwd=folder, env=environment, stdout=log, stderr=log)
        stack.callback(server.wait)
        stack.callback(server.terminate)
        until = time.monotonic() + SERVER_SECONDS
        while time.monotonic() < until and server.poll() is None:
            if _answers(port):
                return
            time.sleep(0.1)
        log.seek(0)
        said = log.read().strip().splitlines() or ["nothing was said"]
        raise RecipeError(f"docs/{self.name}.md, block {at + 1}: `{line}` does not answer on port {port}: {said[-1][:300]}")

    def _port(self, line: str, at: int) -> int:
        """Where a server will listen: as its line says, or else as what comes after it asks."""
        later = "".join(text for _, text in self.blocks[at:])
        found = re.search(r"--port[ =](\d+)", line) or re.search(r"(?:127\.0\.0\.1|localhost):(\d+)", later)
        if found is None:
            raise RecipeError(f"docs/{self.name}.md, block {at + 1}: neither `{line}` nor what follows names a port")
        return int(found[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _lines(text: str) -> list[str]:
    """The commands of a block, those over several lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
