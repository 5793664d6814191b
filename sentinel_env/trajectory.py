"""Trajectory: the frozen record of an episode, one JSON line, enough to replay it and to grade it anywhere.

trajectory = record(episode, trial=0, agent="scripted", user="scripted")
replay(domain, trajectory)          # re-executes it: every tool output and the final changes must come out the same
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .database import Changes
from .domain import Domain
from .episode import Episode
from .errors import EpisodeError, TaskError, TrajectoryError
from .messages import Message, clean
from .records import first_error
from .tasks import Task


class Trajectory(BaseModel):
    """What happened in one episode."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Unique in a run: task, trial and seed."""
    task: Task
    trial: int = 0
    seed: int = 0
    agent: str = ""
    user: str = ""
    messages: tuple[Message, ...] = ()
    changes: Changes = {}
    """What the episode changed in the database."""
    terminated: bool = False
    """The conversation ended by its own rules."""
    truncated: bool = False
    """A limit cut it."""
    ending: str | None = None
    error: str | None = None
    """An infrastructure error that ended it; its reward is None then, never 0."""
    usage: dict[str, float] = {}
    """Tokens, cost and seconds by side, where models were involved."""
    recorded_reward: float | None = None
    """On an imported trajectory: the reward that its own benchmark recorded."""


def record(
    episode: Episode, *, trial: int = 0, agent: str = "", user: str = "", error: str | None = None, usage: dict[str, float] | None = None
) -> Trajectory:
    """The record of an episode, finished or stopped by an infrastructure error."""
    return Trajectory(
        id=f"{episode.task.id}/{trial}",
        task=episode.task,
        trial=trial,
        seed=episode.seed,
        agent=agent,
        user=user,
        messages=tuple(episode.messages),
        changes=episode.db.changes(),
        terminated=episode.terminated,
        truncated=episode.truncated,
        ending=episode.ending,
        error=None if error is None else clean(error),
        usage=usage or {},
    )


def replay(domain: Domain, trajectory: Trajectory) -> Episode:
    """Run the recorded messages through a new episode.

    Raises:
        TrajectoryError: A tool's answer, the ending or the final changes come out differently; the text names the message.
        TaskError: The task does not fit the domain.
    """
    if trajectory.task.domain != domain.name:
        raise TaskError(f"trajectory {trajectory.id!r} is of domain {trajectory.task.domain!r}, replayed in {domain.name!r}")
    no_limit = len(trajectory.messages) + 1
    episode = Episode(domain, trajectory.task, max_steps=no_limit, max_errors=no_limit, seed=trajectory.seed)
    answers: list[Message] = []
    for at, message in enumerate(trajectory.messages):
        where = f"trajectory {trajectory.id!r}, message {at}"
        if at == 0 and message.role == "assistant" and episode.messages and message.content == episode.messages[0].content:
            continue
        if message.role == "tool":
            if not answers:
                raise TrajectoryError(f"{where}: a tool's answer without a call before it")
            answer = answers.pop(0)
            if answer.content != message.content or answer.is_error != message.is_error:
                raise TrajectoryError(f"{where} ({message.name}): recorded {message.content[:200]!r}, replayed {answer.content[:200]!r}")
        elif answers:
            raise TrajectoryError(f"{where}: {answers[0].name or 'the message before it'} has no recorded answer")
        else:
            try:
                answers = _repeat(episode, message)
            except EpisodeError as error:
                raise TrajectoryError(f"{where}: {error}") from None
    if answers:
        raise TrajectoryError(f"trajectory {trajectory.id!r}: {answers[0].name or 'its last message'} has no recorded answer")
    changes = episode.db.changes()
    if changes != trajectory.changes:
        raise TrajectoryError(
            f"trajectory {trajectory.id!r}: recorded changes {str(trajectory.changes)[:300]}, replayed {str(changes)[:300]}"
        )
    _check_ending(episode, trajectory)
    return episode


def _repeat(episode: Episode, message: Message) -> list[Message]:
    if message.role == "assistant":
        return episode.act(message)
    episode.hear(message)
    return []


def _check_ending(episode: Episode, trajectory: Trajectory) -> None:
    """What ended the conversation is in its messages; that a limit or the agent did is not, and neither is it on imported trajectories."""
    ending, replayed = trajectory.ending, episode.ending
    unsaid = trajectory.recorded_reward is not None or ending not in ("user_stop", "transfer", "out_of_scope")
    if ending != replayed and not (replayed is None and unsaid):
        raise TrajectoryError(f"trajectory {trajectory.id!r}: recorded ending {ending!r}, replayed {replayed!r}")
    by_limit = ending in ("max_steps", "max_errors", "limit")
    if (trajectory.truncated and not by_limit) or (trajectory.terminated and (by_limit or ending is None)):
        flags = f"terminated={trajectory.terminated} and truncated={trajectory.truncated}"
        raise TrajectoryError(f"trajectory {trajectory.id!r}: {flags} do not go with ending {ending!r}")


def dump_line(trajectory: Trajectory) -> str:
    """The trajectory as one JSON line, fields at their default left out."""
    return trajectory.model_dump_json(exclude_defaults=True) + "\n"


def save_trajectories(path: str | Path, trajectories: Iterable[Trajectory]) -> None:
    """Write trajectories as JSON lines."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(dump_line(trajectory) for trajectory in trajectories)


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """Stream trajectories from a `.jsonl` file, or from the `trajectories.jsonl` of a run's folder. A torn last line is left out.

    Raises:
        TrajectoryError: No such file, or a line that is no trajectory (named with its number and field).
    """
    path = Path(path)
    if path.is_dir():
        path = path / "trajectories.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield Trajectory.model_validate_json(line)
                except ValidationError as error:
                    if not line.endswith("\n") and not _is_json(line):
                        return  # the process that wrote it was killed in the middle of the line
                    raise TrajectoryError(f"{path}, line {number}: {first_error(error)}{_hint(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(f"cannot read trajectories from {path}: {error}") from None


def scan_trajectories(path: str | Path, problems: list[str]) -> Iterator[Trajectory]:
    """Stream trajectories as `read_trajectories` does, but go on after a line that is none: what is wrong with it is added to `problems`.

    A torn last line is a problem too.

    Raises:
        TrajectoryError: The file cannot be read at all.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "trajectories.jsonl"
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield Trajectory.model_validate_json(line)
                except ValidationError as error:
                    torn = not line.endswith(b"\n") and not _is_json(line.decode(errors="replace"))
                    problems.append(f"{path}, line {number}: {'it breaks off in the middle' if torn else first_error(error)}{_hint(path)}")
    except OSError as error:
        raise TrajectoryError(f"cannot read trajectories from {path}: {error}") from None


def _hint(path: Path) -> str:
    """What to do with a file that is likely another program's."""
    return f"; sentinel import tau2 {path} reads tau2-bench's results" if path.suffix == ".json" else ""


def _is_json(line: str) -> bool:
    try:
        _: Any = json.loads(line)
    except ValueError:
        return False
    return True
