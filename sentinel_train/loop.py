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
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from sentinel_env import (
    ConfigError,
    ScriptedUser,
    Task,
    Trajectory,
    User,
    general_pattern,
    load_tasks,
    propose_tasks,
    read_trajectories,
    save_tasks,
    verify_all,
)
from sentinel_env.run_folder import SUMMARY
from sentinel_env.verification import HeldOut, KnownTasks

from .accounting import Ledger, Purpose
from .asking import close
from .evaluate import run_into
from .files import is_first_process, make_folder, read_json, write, write_json, write_with
from .loop_config import LoopConfig, pool
from .pool import TaskPool
from .processes import start_stage
from .round import Round
from .warm_start import warm_start


class StageDone(Exception):
    """Raised in a process that was started for one stage, when that is done."""


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
    try:
        loop.run()
    finally:
        close(loop.user)
    return loop.folder


@dataclass
class Loop:
    """A run of the loop in its folder."""

    config: LoopConfig
    folder: Path
    report: Reporter = _quiet
    only: str | None = None
    """The stage that this process was started for; see `sentinel_train.stage`."""
    seconds: dict[str, float] = field(default_factory=dict)

    def open(self) -> None:
        """Create the folder, or check that it is this loop's."""
        self.config.check_budget()
        self.domain = self.config.world()
        self.user: User = self.config.user.open() if self.config.user else ScriptedUser()
        file = self.folder / "loop.json"
        text = self.config.model_dump_json(indent=2) + "\n"
        if file.exists() and not _same(LoopConfig.model_validate_json(file.read_text(encoding="utf-8")), self.config):
            raise ConfigError(f"{self.folder} holds a loop of another configuration; use a new folder")
        make_folder(self.folder)
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # what may change between two starts, stages elsewhere read here
            write(file, text)
        times = self.folder / "seconds.json"
        self.seconds = read_json(times) if times.exists() else {}
        self.pool = TaskPool(self.folder / "pool.jsonl")
        self.ledger = Ledger(self.folder / "rollouts.jsonl")

    def run(self) -> None:
        """Do what is not done yet; raises as `run_loop` does."""
        config, tasks = self.config, self.held_out()
        model = self._warm_started(config.train.model)
        self.play("before", tasks, model, config.trials, seed=config.seed, number=0, purpose="evaluation")
        for number in range(1, config.rounds + 1):
            model = Round(self, number).run(model, tasks)
        self.play("after", tasks, model, config.trials, seed=config.seed + 1, number=config.rounds + 1, purpose="evaluation")

    def held_out(self) -> tuple[Task, ...]:
        """The test tasks, about people that no other task is about."""
        file = self.folder / "test.jsonl"
        if self.config.test_split is not None and not file.exists():
            tasks = self.domain.split(self.config.test_split)
            write_with(file, lambda path: save_tasks(path, tasks))
        return self.general("test", self.config.test_tasks, file)

    def _warm_started(self, model: str) -> str:
        """The model after its demonstrations, where there are any."""
        if (config := self.config.warm_start) is None:
            return model
        checkpoint, stage = self.folder / "warm_start", "warm_start"
        if not checkpoint.exists() and not self.elsewhere(stage):
            partial = checkpoint.with_name("warm_start.partial")
            if is_first_process():
                shutil.rmtree(partial, ignore_errors=True)

            def report(logs: dict[str, float]) -> None:
                self.report(stage, int(logs["step"]), config.steps, f"loss {logs['loss']:.2f}")

            with self.stage(stage):
                warm_start(
                    config,
                    self.config.train,
                    self.domain,
                    partial,
                    knobs=self.config.knobs,
                    seed=self.config.seed,
                    subjects=pool("train"),
                    report=report,
                )
            if is_first_process():
                partial.rename(checkpoint)
        self.reached(stage)
        return str(checkpoint)

    def general(self, split: str, count: int, file: Path, *, held_out: Sequence[Task] = ()) -> tuple[Task, ...]:
        """Tasks of every kind about the people of a split, made once and kept in a file, with nothing of those that are held out.

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
            known = KnownTasks(self.domain, held_out, held_out=HeldOut(self.domain, held_out, of_other_splits=True))
            found = [verdict.task for verdict in verify_all(self.domain, drafts, known=known) if verdict.task is not None][:count]
            if len(found) < count:
                raise ConfigError(f"only {len(found)} of {count} {split} tasks could be made; raise the domain's size or ask for fewer")
            write_with(file, lambda path: save_tasks(path, found))
        return load_tasks(file)

    def play(
        self, name: str, tasks: Sequence[Task], model: str, trials: int, *, seed: int, number: int, purpose: Purpose
    ) -> list[Trajectory]:
        """Let a model play tasks into a run's folder, and count it for a round. A run that is complete stays as it is."""
        folder, train = self.folder / name, self.config.train
        if not (folder / SUMMARY).exists() and not self.elsewhere(name):
            with self.stage(name):
                total = len(tasks) * trials

                def on_result(done: int, passed: int) -> None:
                    self.report(name, done, total, f"{100 * passed / done:.0f} % passed")

                run_into(
                    folder,
                    self.domain,
                    tasks,
                    model,
                    self.user,
                    trials=trials,
                    seed=seed,
                    sampling=train.sampling,
                    device=train.device,
                    precision=train.weights,
                    threads=train.threads,
                    vllm=train if train.trl.get("use_vllm") else None,
                    agent=self._name(model),
                    on_result=on_result,
                )
        self.reached(name)
        self.ledger.count(number, purpose, len(tasks) * trials)
        return list(read_trajectories(folder))

    def elsewhere(self, stage: str) -> bool:
        """Let a process of its own do a stage, where that is configured; whether it did.

        Raises:
            ConfigError: It cannot be started.
            TrainingError: It failed; it has said why.
        """
        config = self.config
        if self.only is not None or not (config.launch or config.train.trl.get("use_vllm")):
            return False
        spread = config.launch and stage.endswith(("train", "warm_start"))
        with self.stage(stage):
            start_stage(self.folder, stage, config.launch if spread else (sys.executable,))
        return True

    def reached(self, stage: str) -> None:
        """End a process that was started for one stage, and has done it.

        Raises:
            StageDone: It has.
        """
        if self.only == stage:
            raise StageDone

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
    free: Any = {"train": {"rows_per_pass", "save_every", "threads", "report_to"}, "launch": True}
    return one.model_dump(exclude=free) == other.model_dump(exclude=free)
