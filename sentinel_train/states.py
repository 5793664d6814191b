"""The states that a training run which was stopped goes on from, and how to tell that it is finished.

out/train.json          what the run depends on; another run is refused
out/states/             TRL's checkpoints: weights, optimiser, random numbers; gone when the run is finished
out/updates.jsonl       what each update was made from
out/trained.json        written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel_env import ConfigError, Domain, Task

from .config import TrainConfig
from .files import make_folder, write
from .journal import Journal
from .updates import Update

UPDATES, STATES = "updates.jsonl", "states"
_FREE = {"rows_per_pass", "save_every", "threads", "report_to"}
"""Settings that change how a run is carried out, and not what it is: they may be changed to go on after running out of memory."""


class Trained(BaseModel):
    """How a training run ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    updates: int
    rollouts: int
    """Replaced ones too."""
    stopped: str | None = None
    """Why it ended before its last update; None where it did not."""


class TrainingFolder:
    """The folder of one training run."""

    def __init__(self, path: str | Path) -> None:
        """Name the folder."""
        self.path = Path(path)
        self.states = self.path / STATES
        self._journal = Journal(self.path / UPDATES)

    def open(self, config: TrainConfig, domain: Domain, tasks: Sequence[Task]) -> None:
        """Create it, or check that it is this run's.

        Raises:
            ConfigError: It holds another run, or something else.
        """
        digest = hashlib.sha256("\n".join(task.model_dump_json(exclude_defaults=True) for task in tasks).encode()).hexdigest()
        settings = config.model_dump(mode="json", exclude=_FREE) | {"model": _named(config.model, self.path)}
        text = json.dumps({"domain": domain.name, "database": domain.base.digest(), "tasks": digest, "train": settings}, indent=2) + "\n"
        file = self.path / "train.json"
        if file.exists():
            if file.read_text(encoding="utf-8") != text:
                raise ConfigError(f"{self.path} holds a training of other settings or tasks; use a new folder")
            return
        begun = (STATES, f".{file.name}.partial")  # what a kill at this very place leaves
        if self.path.is_dir() and any(each.name not in begun for each in self.path.iterdir()):
            raise ConfigError(f"{self.path} holds something else than a training; use a new folder")
        make_folder(self.states)
        write(file, text)

    def finished(self) -> Trained | None:
        """How the run ended; None where it has not."""
        file = self.path / "trained.json"
        return Trained.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else None

    def finish(self, trained: Trained) -> None:
        """Say that the run is finished, and drop its states."""
        file = self.path / "trained.json"
        write(file, trained.model_dump_json() + "\n")
        shutil.rmtree(self.states, ignore_errors=True)

    def last_state(self) -> Path | None:
        """The last state that was written whole."""
        found = sorted(self.states.glob("checkpoint-*"), key=_step_of, reverse=True)
        return next((state for state in found if _is_whole(state)), None)

    def updates(self) -> list[Update]:
        """What the updates so far were made from.

        Raises:
            ConfigError: A whole line is no update's.
        """
        try:
            return [Update.model_validate_json(line) for line in self._journal.read()]
        except ValidationError as error:
            raise ConfigError(f"cannot read {self._journal.path}: {error.errors()[0]['msg']}") from None

    def go_back(self, state: Path | None) -> list[Update]:
        """Forget the updates that came after a state, and torn states; returns what is left. They will be made again."""
        step = _step_of(state) if state else 0
        for other in self.states.glob("checkpoint-*"):
            if _step_of(other) > step:
                shutil.rmtree(other)
        kept = [update for update in self.updates() if update.step <= step]
        write(self._journal.path, "".join(update.model_dump_json(exclude_defaults=True) + "\n" for update in kept))
        return kept

    def add(self, update: Update) -> None:
        """Take note of an update.

        Raises:
            ConfigError: The file cannot be written.
        """
        self._journal.append([update.model_dump_json(exclude_defaults=True)])


def _named(model: str, out: Path) -> str:
    """A model as it can be named from the run's folder, so that both may be moved together."""
    return os.path.relpath(model, out) if Path(model).is_dir() else model


def _step_of(state: Path) -> int:
    _, _, step = state.name.partition("-")
    return int(step) if step.isdigit() else -1


def _is_whole(state: Path) -> bool:
    """Whether the file that the trainer writes last is there and can be read."""
    try:
        return isinstance(json.loads((state / "trainer_state.json").read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
