"""RunFolder: where a run keeps what it is and what came out, so that nothing is lost when it is killed.

    run.json              the configuration, and the versions that it began with
    trajectories.jsonl    one finished episode a line, appended by a single write before the episode is acknowledged
    errors.jsonl          the attempts that infrastructure ended; they are tried again when the run is resumed
    summary.json          the score, once every attempt was made

A line is handed to the operating system at once, so it outlives a killed process; within a second it is on the disk, so that little is lost
with the machine. Opening the folder of an interrupted run drops a torn last line and hands back what is finished. When all is
done the lines are put in the order of the plan, so that a run has the same bytes whatever its concurrency and however often it was
interrupted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import ConfigError, TrajectoryError
from .line_file import LineFile
from .trajectory import Trajectory, dump_line, read_trajectories

_RESUME = "to resume, run the same command again"
TRAJECTORIES, ERRORS, CONFIGURATION, SUMMARY = "trajectories.jsonl", "errors.jsonl", "run.json", "summary.json"


class RunFolder:
    """One run's folder, held by one process at a time."""

    def __init__(self, path: str | Path, configuration: Mapping[str, Any], *, made_with: Mapping[str, Any] | None = None) -> None:
        """Create the folder, or open it again to resume.

        Args:
            path: The folder.
            configuration: What decides the results, as JSON values. A folder of another configuration is refused.
            made_with: Versions and the like, noted when the folder is created.

        Raises:
            ConfigError: The folder holds another configuration or is in use, or cannot be written.
            TrajectoryError: A line other than a torn last one cannot be read.
        """
        self.path = Path(path)
        self.finished: dict[str, Trajectory] = {}
        """What was found finished, by id."""
        self._files: dict[str, LineFile] = {}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.path)
        except OSError as error:
            raise ConfigError(f"cannot keep a run in {self.path}: {_why(self.path, error)}") from None
        try:
            self._open(json.loads(json.dumps(configuration)), made_with or {})
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise ConfigError(f"cannot keep a run in {self.path}: {error.filename}: {error.strerror or error}") from None
            raise

    def _open(self, configuration: dict[str, Any], made_with: Mapping[str, Any]) -> None:
        self._check(configuration, made_with)
        _drop_torn_line(self.path / TRAJECTORIES)
        try:
            for trajectory in read_trajectories(self.path) if (self.path / TRAJECTORIES).exists() else ():
                if trajectory.id in self.finished:
                    raise TrajectoryError(f"{self.path / TRAJECTORIES}: id {trajectory.id!r} occurs twice")
                self.finished[trajectory.id] = trajectory
        except TrajectoryError as error:
            raise TrajectoryError(f"{error}{self._version(made_with)}; it is left as it is, use a new folder") from None
        (self.path / ERRORS).unlink(missing_ok=True)

    def _check(self, configuration: dict[str, Any], made_with: Mapping[str, Any]) -> None:
        file = self.path / CONFIGURATION
        if file.exists():
            try:
                found = read_configuration(self.path)
            except ConfigError as error:
                raise ConfigError(f"{error}; it is left as it is, use a new folder") from None
            if differing := _differences(found, configuration):
                what = f"{'; '.join(differing)}{self._version(made_with)}"
                raise ConfigError(f"{self.path} holds another run ({what}); use a new folder to start anew")
        elif (self.path / TRAJECTORIES).exists():
            raise ConfigError(f"{self.path} holds {TRAJECTORIES} but no {CONFIGURATION}, so it cannot be resumed; use a new folder")
        else:
            _replace(file, json.dumps({"configuration": configuration, "made_with": dict(made_with)}, indent=2) + "\n")

    def _version(self, made_with: Mapping[str, Any]) -> str:
        """The version that began the run, as the end of a sentence, where it is another one."""
        try:
            begun = json.loads((self.path / CONFIGURATION).read_text(encoding="utf-8"))["made_with"]["sentinel_env"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return "" if begun == made_with.get("sentinel_env", begun) else f"; it was begun with version {begun}"

    def add(self, trajectory: Trajectory) -> None:
        """Append a result; when this returns, the whole line has been handed to the operating system.

        Raises:
            ConfigError: It could not be written, such as on a full disk.
        """
        name = TRAJECTORIES if trajectory.error is None else ERRORS
        if name not in self._files:
            self._files[name] = self._append_to(self.path / name)
        self._files[name].add(dump_line(trajectory).encode())

    def _append_to(self, file: Path) -> LineFile:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.fsync(self._lock)  # the file's name
        except OSError as error:
            raise ConfigError(f"cannot write to {file}: {error.strerror or error}; {_RESUME}") from None
        return LineFile(descriptor, file, advice=_RESUME)

    def sync(self) -> None:
        """Have what was added on the disk now; may be called from another thread than `add`.

        Raises:
            ConfigError: The disk did not take it.
        """
        for file in tuple(self._files.values()):
            file.sync()

    def complete(self, results: Iterable[Trajectory], summary: Mapping[str, Any]) -> None:
        """Put the finished lines in this order and write the summary.

        Raises:
            ConfigError: A file could not be written; the results stay as they were.
        """
        try:
            _replace(self.path / TRAJECTORIES, "".join(dump_line(result) for result in results if result.error is None))
            _replace(self.path / SUMMARY, json.dumps(summary, indent=2) + "\n")
        except OSError as error:
            raise ConfigError(f"cannot write to {error.filename}: {error.strerror or error}; {_RESUME}") from None

    def close(self) -> None:
        """Let another process have the folder, once what was added is on the disk."""
        for file in self._files.values():
            with suppress(ConfigError, OSError):
                file.close()
        with suppress(OSError):
            os.close(self._lock)
        self._files = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_configuration(path: str | Path) -> dict[str, Any]:
    """The configuration of a run's folder.

    Raises:
        ConfigError: There is no readable `run.json`.
    """
    file = Path(path) / CONFIGURATION
    try:
        configuration = json.loads(file.read_text(encoding="utf-8"))["configuration"]
        if not isinstance(configuration, dict):
            raise TypeError("configuration is not an object")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}") from None
    except KeyError as error:
        raise ConfigError(f"{file} is not a run's configuration: it has no {error}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{file} is not a run's configuration: {error}") from None
    return configuration


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    rows: list[str] = []
    for name in sorted({*found, *wanted}):
        old, new = found.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            rows.extend(_differences(old, new, f"{prefix}{name}."))
        elif old != new:
            rows.append(f"{prefix}{name}: it has {json.dumps(old)}, now {json.dumps(new)}")
    return rows


def _why(path: Path, error: OSError) -> str:
    """Why a folder cannot be made or opened; that something is in its place says little, so it says what."""
    if isinstance(error, FileExistsError):
        try:
            path.stat()
        except OSError as reason:
            error = reason
        else:
            return "it is a file; a run needs a folder"
    return error.strerror or str(error)


def _lock(folder: Path) -> int:
    """Hold the folder itself, so that the lock goes with the process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(f"another process is writing to {folder}; wait for it, or use a new folder") from None
    return descriptor


def _drop_torn_line(file: Path) -> None:
    """Cut what stands after the last newline: the process that wrote it was killed before the episode was acknowledged."""
    if file.exists():
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(file, whole)


def _replace(file: Path, text: str) -> None:
    """Write a file so that a reader, or a kill at any moment, finds either the old content or all of the new.

    Raises:
        OSError: With the file's name.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OSError(error.errno, error.strerror, str(file)) from None
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
