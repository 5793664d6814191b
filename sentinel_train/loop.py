"""The loop: run, find failures, make tasks from them, train, run again.

    out/
      loop.json                     the configuration
      warm_start/                   the model after its demonstrations, where they are configured
      test.jsonl                    the held-out tasks; before/ and after/ are runs on them
      rounds/001/                   see `sentinel_train.round`
      memory.jsonl                  every pattern in every round: its rate and state, what was tried against it
      pool.jsonl                    every task that was made, and what the model made of it
      rollouts.jsonl                how many rollouts each round took, and for what
      summary.json

A file that is complete is not made again, so the same command goes on where it was stopped, by whatever, and ends as if it never had
been: on a CPU with the same bytes, but for the times in it. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Protocol

from sentinel_env import ConfigError, ScriptedUser, Task, Trajectory, general_pattern, load_tasks, propose_tasks, save_tasks, verify_all

from .accounting import Ledger, Purpose
from .evaluate import run_into
from .files import read_json, write, write_json, write_with
from .loop_config import LoopConfig, pool
from .pool import TaskPool
from .round import Round


class Reporter(Protocol):
    """Who is told how far the loop is."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """`done` of `total` of a stage are finished; the stage "alarm" has only a note."""
        ...


def _quiet(stage: str, done: int, total: int, note: str = "", /) -> None:
    pass


def run_loop(config: LoopConfig, out: str | Path, *, report: Reporter = _quiet) -> Path:
    """Run the loop, or go on with it, and return its folder.

    Raises:
        ConfigError: The folder holds another configuration, no task passes the gates or can be trained on, or the budget is too small.
        DomainError: A tool crashed.
        ModelError: Infrastructure failed most rollouts of an update.
        TrainingError: No memory is left, or the loss is no number.
    """
    loop = Loop(config, Path(out), report)
    loop.open()
    tasks = loop.held_out()
    model = config.train.model
    loop.play("before", tasks, model, config.trials, seed=config.seed, number=0, purpose="evaluation")
    for number in range(1, config.rounds + 1):
        model = Round(loop, number).run(model, tasks)
    loop.play("after", tasks, model, config.trials, seed=config.seed + 1, number=config.rounds + 1, purpose="evaluation")
    return loop.folder


@dataclass
class Loop:
    """A run of the loop in its folder."""

    config: LoopConfig
    folder: Path
    report: Reporter = _quiet
    seconds: dict[str, float] = field(default_factory=dict)

    def open(self) -> None:
        """Create the folder, or check that it is this loop's."""
        self.domain = self.config.world()
        self.user = ScriptedUser()
        file = self.folder / "loop.json"
        text = self.config.model_dump_json(indent=2) + "\n"
        if file.exists() and not _same(LoopConfig.model_validate_json(file.read_text(encoding="utf-8")), self.config):
            raise ConfigError(f"{self.folder} holds a loop of another configuration; use a new folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write(file, text)
        times = self.folder / "seconds.json"
        self.seconds = read_json(times) if times.exists() else {}
        self.pool = TaskPool(self.folder / "pool.jsonl")
        self.ledger = Ledger(self.folder / "rollouts.jsonl")

    def held_out(self) -> tuple[Task, ...]:
        """The test tasks, about people that no other task is about."""
        return self.general("test", self.config.test_tasks, self.folder / "test.jsonl")

    def general(self, split: str, count: int, file: Path) -> tuple[Task, ...]:
        """Tasks of every kind about the people of a split, made once and kept in a file.

        Raises:
            ConfigError: The domain is too small for so many.
        """
        if not file.exists():
            drafts = propose_tasks(
                self.domain,
                general_pattern(self.domain, self.config.knobs),
                n=2 * count,
                seed=self._seed(file),
                split=split,
                pool=pool(split),
            )
            found = [verdict.task for verdict in verify_all(self.domain, drafts) if verdict.task is not None][:count]
            if len(found) < count:
                raise ConfigError(f"only {len(found)} of {count} {split} tasks could be made; raise the domain's size or ask for fewer")
            write_with(file, lambda path: save_tasks(path, found))
        return load_tasks(file)

    def play(
        self, name: str, tasks: Sequence[Task], model: str, trials: int, *, seed: int, number: int, purpose: Purpose
    ) -> list[Trajectory]:
        """Let a model play tasks into a run's folder, and count it for a round."""
        with self.stage(name):
            total = len(tasks) * trials

            def on_result(done: int, passed: int) -> None:
                self.report(name, done, total, f"{100 * passed / done:.0f} % passed")

            found = run_into(
                self.folder / name,
                self.domain,
                tasks,
                model,
                self.user,
                trials=trials,
                seed=seed,
                sampling=self.config.train.sampling,
                device=self.config.train.device,
                precision=self.config.train.weights,
                threads=self.config.train.threads,
                agent=self._name(model),
                on_result=on_result,
            )
        self.ledger.count(number, purpose, total)
        return found

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; what an earlier, interrupted attempt took is kept."""
        start = monotonic()
        self.report(name, 0, 0)
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + monotonic() - start, 1)
            write_json(self.folder / "seconds.json", self.seconds)

    def _name(self, model: str) -> str:
        """A model as results name it: a checkpoint of this loop by its place in the folder, which may be moved."""
        return Path(model).relative_to(self.folder).as_posix() if Path(model).is_relative_to(self.folder) else model

    def _seed(self, file: Path) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.config.seed}/{file.relative_to(self.folder)}".encode()).digest()[:4])


def _same(one: LoopConfig, other: LoopConfig) -> bool:
    """Whether two loops differ at most in what may change between two starts: how memory is spared and where is logged."""
    free = {"train": {"rows_per_pass", "save_every", "threads", "report_to"}}
    return one.model_dump(exclude=free) == other.model_dump(exclude=free)
