"""What a judge model said about trajectories, and the file beside a run that keeps it: one JSON line for each answer.

    runs/first/judgements.jsonl                 beside the run's trajectories.jsonl
    results.judgements.jsonl                    beside any other results.jsonl

A line is found again by trajectory, assertion, judge and a digest of what the judge was shown, so nothing is asked twice, and nothing
stale is used after a dialogue or the judge's rules have changed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import ConfigError, ModelTrouble
from .line_file import LineFile
from .llm_budget import Usage
from .records import first_error
from .run_folder import TRAJECTORIES
from .trajectory import Trajectory

JUDGEMENTS = "judgements.jsonl"

NotJudged = Literal["unreadable", "declined"] | ModelTrouble
"""`unreadable`: an answer that is none of the two. `declined`: the model or its provider's filter would not answer."""
FINAL: tuple[NotJudged, ...] = ("unreadable", "declined", "context")
"""What the same question would meet again; it is kept, and not asked again."""


class Judgement(BaseModel):
    """What became of one question: is this assertion true of this trajectory?"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trajectory: str
    assertion: str
    model: str
    shown: str
    """A digest of everything that the judge was shown."""
    met: bool | None = None
    """None where it was not judged: neither passed nor failed."""
    reason: str = ""
    """In the judge's words; where it was not judged, what went wrong."""
    not_judged: NotJudged | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """How it is found again."""
        return self.trajectory, self.assertion, self.model, self.shown


@dataclass
class Judgements:
    """What one judge said about a set of trajectories."""

    model: str
    rows: dict[tuple[str, str], Judgement] = field(default_factory=dict)
    """(trajectory id, assertion) -> what became of it."""
    usage: Usage = field(default_factory=Usage)
    """What was asked just now; earlier judgements cost nothing again."""
    stopped: str | None = None
    """Why asking came to an end before its time."""

    def of(self, trajectory: Trajectory) -> tuple[bool | None, ...]:
        """The verdict on each of a trajectory's assertions; None where there is none."""
        found = (self.rows.get((trajectory.id, assertion)) for assertion in assertions_of(trajectory))
        return tuple(row.met if row is not None else None for row in found)

    def not_judged(self, trajectories: Iterable[Trajectory]) -> Counter[str]:
        """Why assertions of these trajectories have no verdict."""
        reasons: Counter[str] = Counter()
        for trajectory in trajectories:
            for assertion in assertions_of(trajectory):
                row = self.rows.get((trajectory.id, assertion))
                if row is None or row.met is None:
                    reasons[row.not_judged or "not asked" if row is not None else "not asked"] += 1
        return reasons


def assertions_of(trajectory: Trajectory) -> tuple[str, ...]:
    """The natural-language assertions that a trajectory's benchmark has a model judge for its reward."""
    criteria = trajectory.task.criteria
    if trajectory.error is not None or "tau2" not in criteria.basis or criteria.tau2 is None:
        return ()
    return tuple(dict.fromkeys(criteria.tau2.nl_assertions)) if "NL_ASSERTION" in criteria.tau2.reward_basis else ()


def judgements_beside(run: str | Path) -> Path:
    """Where the judgements of a run's folder, or of a file of trajectories, are kept."""
    run = Path(run)
    if run.is_dir():
        return run / JUDGEMENTS
    return run.with_name(JUDGEMENTS) if run.name == TRAJECTORIES else run.with_name(f"{run.stem}.{JUDGEMENTS}")


class JudgementFile:
    """The kept judgements, open to add more; a context manager, held by one process at a time."""

    def __init__(self, path: str | Path) -> None:
        """Read what is kept, without a last line that a killed process left unfinished.

        Raises:
            ConfigError: The file cannot be read or written, holds something else, or another process is judging.
        """
        self.path = Path(path)
        self.kept: dict[tuple[str, str, str, str], Judgement] = {}
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise ConfigError(f"cannot keep judgements in {self.path}: {error.strerror or error}") from None
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
            self._added = LineFile(self._file, self.path, advice="what was judged before is kept, run the same command again")
        except BlockingIOError:
            os.close(self._file)
            raise ConfigError(f"another process is writing to {self.path}; wait for it") from None
        except BaseException:
            os.close(self._file)
            raise

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._file, whole)
        for number, line in enumerate(content[:whole].split(b"\n"), 1):
            if line.strip():
                try:
                    row = Judgement.model_validate_json(line)
                except ValidationError as error:
                    found = f"{self.path}, line {number}: {first_error(error)}"
                    raise ConfigError(f"{found}; expected a judgement; move the file away to judge anew") from None
                self.kept[row.key] = row

    def add(self, row: Judgement) -> None:
        """Append one; when this returns, the whole line has been handed to the operating system.

        Raises:
            ConfigError: It could not be written, such as on a full disk.
        """
        self._added.add((row.model_dump_json(exclude_defaults=True) + "\n").encode())
        self.kept[row.key] = row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._added.close()


def kept_for(kept: Mapping[tuple[str, str, str, str], Judgement], key: tuple[str, str, str, str]) -> Judgement | None:
    """A judgement that need not be asked for again."""
    row = kept.get(key)
    return row if row is not None and (row.met is not None or row.not_judged in FINAL) else None
