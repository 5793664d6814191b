"""Cassette: every answer of a run's models in one file, so that the run can be repeated offline, or resumed without paying twice.

    Model("openai/gpt-4o-mini", cassette=Cassette("night.jsonl"))                     # asks for what is not there, and adds it
    Model("openai/gpt-4o-mini", cassette=Cassette("night.jsonl", replay=True))        # asks nobody; needs no key, no server

One mechanism for recording, replaying and caching. An answer is found by what was asked for: the model's name, messages, tools, sampling,
seed, and how often the very same was asked before in this process; never by when, so concurrency changes nothing. What a server does
not take is part of it too: trials that differ in their seed alone stay apart. A line a request:

    {"asked": {"model": "tiny", "seed": 7, "max_tokens": 512}, "follows": "8a1f...", "messages": [...], "completion": {"text": "Hello"}}

`messages` are those that no earlier line had behind the same beginning; `follows` says which beginning. An outage is on the cassette as
an `error`: replayed where the attempt was never repeated, asked again when recording goes on. Keys are taken out of all of it. A line is
on the disk within a second.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .cassette_request import Request, difference, without_keys_in
from .errors import ConfigError
from .line_file import LineFile

Digest = str
_KEPT = "what was answered before is on it, run the same command again"


@dataclass(frozen=True)
class Place:
    """Where an answer stands on the cassette, or will."""

    request: Request
    beginnings: tuple[Digest, ...]
    """Of the tools alone, and of them with ever more messages."""
    key: Digest
    nth: int
    """How often the very same was asked before."""


_ATTEMPT: ContextVar[list[tuple[Cassette, Place]] | None] = ContextVar("attempt", default=None)


@contextmanager
def attempt() -> Iterator[Callable[[], None]]:
    """A block whose requests belong to one attempt. What it gives makes them count as not asked, so that the attempt, made once more, finds
    its own answers and puts others in the place of outages."""
    asked: list[tuple[Cassette, Place]] = []
    token = _ATTEMPT.set(asked)

    def undo() -> None:
        for cassette, place in asked:
            cassette.give_back(place)

    try:
        yield undo
    finally:
        _ATTEMPT.reset(token)


class Cassette:
    """The file; shared by the models of a run, and written by one process at a time."""

    def __init__(self, path: str | Path, *, replay: bool = False) -> None:
        """Open it.

        Args:
            path: The file, created where it is not there.
            replay: Answer from it alone.

        Raises:
            ConfigError: It cannot be read or written, is none, or another process writes to it.
        """
        self.path, self.replay = Path(path), replay
        self._asked: Counter[Digest] = Counter()
        self._given_back: defaultdict[Digest, list[int]] = defaultdict(list)
        self._lines: dict[tuple[Digest, int], tuple[int, int]] = {}  # where in the file
        self._known: set[Digest] = set()
        self._end = 0
        try:
            if not replay:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise ConfigError(f"cannot open cassette {self.path}: it is no file")
            self._file = os.open(self.path, os.O_RDONLY if replay else os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except FileExistsError as error:  # of its folder
            raise ConfigError(f"cannot open cassette {self.path}: {error.filename} is a file") from None
        except OSError as error:
            raise ConfigError(f"cannot open cassette {self.path}: {error.strerror or error}") from None
        try:
            if not replay:
                self._lock()
            self._read()
            self._added = None if replay else LineFile(self._file, self.path, advice=_KEPT)
        except OSError as error:
            os.close(self._file)
            raise ConfigError(f"cannot read cassette {self.path}: {error.strerror or error}") from None
        except BaseException:
            os.close(self._file)
            raise

    def place(self, request: Request, secrets: Iterable[str | None] = ()) -> Place:
        """Where the answer to a request stands; asking again for the same gives the next place."""
        request = request.without_keys(secrets)
        beginnings = _beginnings(_digest(request.tools), request.messages)
        key = _key(request.asked, beginnings[-1])
        if given_back := self._given_back[key]:
            given_back.sort()
            nth = given_back.pop(0)
        else:
            nth = self._asked[key]
            self._asked[key] += 1
        place = Place(request, tuple(beginnings), key, nth)
        if (attempt := _ATTEMPT.get()) is not None:
            attempt.append((self, place))
        return place

    def give_back(self, place: Place) -> None:
        """Let the next request for the very same have this place."""
        self._given_back[place.key].append(place.nth)

    def find(self, place: Place) -> dict[str, Any] | None:
        """What is there: {"completion": ...}, or when replaying {"error": ...}; None for what has to be asked.

        Raises:
            ConfigError: When replaying, there is nothing; the text says what comes nearest.
        """
        where = self._lines.get((place.key, place.nth))
        if where is not None:
            line: dict[str, Any] = json.loads(os.pread(self._file, where[1], where[0]))
            if self.replay or "completion" in line:
                return line
        if not self.replay:
            return None
        nearest = difference(self.requests(), place.request, place.nth)
        raise ConfigError(f"{self.path} has no answer to a request of model {place.request.asked.get('model')!r}: {nearest}")

    def keep(self, place: Place, outcome: Mapping[str, Any], secrets: Iterable[str | None] = ()) -> None:
        """Add what came of a request, {"completion": ...} or {"error": ...}; it counts once its whole line is written.

        Raises:
            ConfigError: It could not be written.
        """
        request, beginnings = place.request, place.beginnings
        shared = max((at for at, each in enumerate(beginnings) if each in self._known), default=None)
        line: dict[str, Any] = {"asked": request.asked}
        line |= {"nth": place.nth} if place.nth else {}
        line |= {"tools": request.tools} if shared is None else {"follows": beginnings[shared]}
        text = json.dumps({**line, "messages": request.messages[shared or 0 :], **outcome}, ensure_ascii=False)
        raw = without_keys_in(text, secrets).encode() + b"\n"
        assert self._added is not None, "a cassette that replays is not written"
        self._added.add(raw)
        self._known.update(beginnings)
        self._lines[place.key, place.nth] = self._end, len(raw)
        self._end += len(raw)

    def requests(self) -> Iterable[tuple[Request, int]]:
        """All that was asked, with its number among the same."""
        chains: dict[Digest, tuple[Sequence[Any], list[Any], int]] = {}
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            for raw in file.read(self._end).splitlines():
                line = json.loads(raw)
                tools, before, length = chains[line["follows"]] if "follows" in line else (line["tools"], [], 0)
                messages = [*before[:length], *line["messages"]]
                chains |= {each: (tools, messages, at) for at, each in enumerate(_beginnings(_digest(tools), messages))}
                yield Request(line["asked"], tools, messages), line.get("nth", 0)

    def _lock(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process is writing to cassette {self.path}; wait for it, or use another file") from None

    def _read(self) -> None:
        """Find where every answer is; a torn last line is dropped."""
        with open(self._file, "rb", closefd=False) as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                try:
                    line = json.loads(raw)
                    begun = line["follows"] if "follows" in line else _digest(line["tools"])
                    if "follows" in line and begun not in self._known:
                        raise ValueError(f"it follows {begun!r}, which no line before it has")
                    beginnings = _beginnings(begun, line["messages"])
                    key, nth = _key(line["asked"], beginnings[-1]), int(line.get("nth", 0))
                    if not ({"completion", "error"} & line.keys()):
                        raise ValueError("it holds neither a completion nor an error")
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    raise ConfigError(f"{self.path}, line {number} is no line of a cassette: {error}") from None
                self._known.update(beginnings)
                self._lines[key, nth] = self._end, len(raw)
                self._end += len(raw)
        if not self.replay and os.fstat(self._file).st_size > self._end:
            os.ftruncate(self._file, self._end)

    def close(self) -> None:
        """Have all of it on the disk, and let another process write to it.

        Raises:
            ConfigError: The disk did not take it.
        """
        if self._file >= 0:
            file, self._file = self._file, -1
            if self._added is not None:
                self._added.close()
            else:
                os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _digest(*values: Any) -> Digest:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


def _beginnings(begun: Digest, messages: Iterable[Any]) -> list[Digest]:
    found = [begun]
    for message in messages:
        found.append(_digest(found[-1], message))
    return found


def _key(asked: Mapping[str, Any], beginning: Digest) -> Digest:
    return _digest(asked, beginning)
