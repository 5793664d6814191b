"""The loop: run, find failures, make tasks from them, train, run again.

    out/
      loop.json                     the configuration
      test.jsonl                    the held-out tasks; before/ and after/ are runs on them
      rounds/001/diagnosis.jsonl    tasks of other people than the held-out ones; run/ is the current model on them
      rounds/001/failures.jsonl     what went wrong there
      rounds/001/tasks.jsonl        verified tasks made from that; rejected.jsonl holds the drafts that failed a gate
      rounds/001/pilot/             the current model on those, where the configuration asks for pilot trials
      rounds/001/checkpoint/        the model trained on them
      rounds/001/round.json         what was selected, counted and how long each stage took
      memory.jsonl                  every pattern in every round: its rate and state, what was tried against it
      summary.json

A file that is complete is not made again, so the same command goes on where it was stopped. A file appears under its name only when it
is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sentinel_env import (
    ConfigError,
    FailurePattern,
    ScriptedUser,
    Task,
    Trajectory,
    Verdict,
    general_pattern,
    load_tasks,
    propose_tasks,
    read_trajectories,
    save_tasks,
    verify_all,
)
from sentinel_env.failures import Attempt, Memory, load_patterns, mine, save_patterns
from sentinel_env.knobs import Knobs
from sentinel_env.verification import HeldOut, KnownTasks

from .controller import select, sort_by_pass_rate
from .evaluate import run_into
from .loop_config import LoopConfig, pool
from .trainer import train

MEMORY = "memory.jsonl"


class Reporter(Protocol):
    """Who is told how far the loop is."""

    def __call__(self, stage: str, done: int, total: int, note: str = "", /) -> None:
        """`done` of `total` of a stage are finished."""
        ...


def _quiet(stage: str, done: int, total: int, note: str = "", /) -> None:
    pass


def run_loop(config: LoopConfig, out: str | Path, *, report: Reporter = _quiet) -> Path:
    """Run the loop, or go on with it, and return its folder.

    Raises:
        ConfigError: The folder holds another configuration, or no task passes the gates.
        DomainError: A tool crashed.
    """
    loop = Loop(config, Path(out), report)
    loop.open()
    tasks = loop.held_out()
    model = config.train.model
    loop.play("before", tasks, model, config.trials, seed=config.seed)
    for number in range(1, config.rounds + 1):
        model = loop.round(number, model, tasks)
    loop.play("after", tasks, model, config.trials, seed=config.seed + 1)
    return loop.folder


@dataclass
class Loop:
    """A run of the loop in its folder."""

    config: LoopConfig
    folder: Path
    report: Reporter
    seconds: dict[str, float] = field(default_factory=dict)

    def open(self) -> None:
        """Create the folder, or check that it is this loop's."""
        self.domain = self.config.world()
        self.user = ScriptedUser()
        file = self.folder / "loop.json"
        text = self.config.model_dump_json(indent=2) + "\n"
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{self.folder} holds a loop of another configuration; use a new folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _write(file, text)
        times = self.folder / "seconds.json"
        self.seconds = json.loads(times.read_text(encoding="utf-8")) if times.exists() else {}

    def held_out(self) -> tuple[Task, ...]:
        """The test tasks, about people that no other task is about."""
        return self._general("test", self.config.test_tasks, self.folder / "test.jsonl")

    def _general(self, split: str, count: int, file: Path) -> tuple[Task, ...]:
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
            _write_with(file, lambda path: save_tasks(path, found))
        return load_tasks(file)

    def play(self, name: str, tasks: Sequence[Task], model: str, trials: int, *, seed: int) -> list[Trajectory]:
        """Let a model play tasks into a run's folder."""
        with self.stage(name):
            total = len(tasks) * trials

            def on_result(done: int, passed: int) -> None:
                self.report(name, done, total, f"{100 * passed / done:.0f} % passed")

            return run_into(
                self.folder / name,
                self.domain,
                tasks,
                model,
                self.user,
                trials=trials,
                seed=seed,
                sampling=self.config.train.sampling,
                threads=self.config.train.threads,
                agent=self._name(model),
                on_result=on_result,
            )

    def round(self, number: int, model: str, known: Sequence[Task]) -> str:
        """One round; returns the checkpoint."""
        place = f"rounds/{number:03d}"
        folder = self.folder / place
        folder.mkdir(parents=True, exist_ok=True)
        diagnosis = self._general("train", self.config.diagnosis_tasks, folder / "diagnosis.jsonl")
        self.play(f"{place}/run", diagnosis, model, self.config.diagnosis_trials, seed=self.config.seed + 100 * number)
        patterns = self._failures(folder, number)
        tasks = self._tasks(folder, place, patterns, [*known, *diagnosis], number)
        if self.config.targeting.pilot_trials:
            tasks = self._pilot(folder, place, tasks, model, number)
        checkpoint = folder / "checkpoint"
        if not checkpoint.exists():
            with self.stage(f"{place}/train"):
                self._train(model, tasks, checkpoint, number, f"{place}/train")
        self._remember(number, json.loads((folder / "round.json").read_text(encoding="utf-8"))["patterns"], tasks)
        return str(checkpoint)

    def _failures(self, folder: Path, number: int) -> tuple[FailurePattern, ...]:
        file = folder / "failures.jsonl"
        if not file.exists():
            memory = self.memory()
            found = memory.observe(number, mine(self.domain, read_trajectories(folder / "run"), known=memory.known).patterns)
            memory.save(self.folder / MEMORY)
            _write_with(file, lambda path: save_patterns(path, found))
        return load_patterns(file, self.domain)

    def memory(self) -> Memory:
        """What earlier rounds showed, tried and led to."""
        return Memory.load(self.folder / MEMORY)

    def _remember(self, number: int, counts: Mapping[str, Mapping[str, int]], trained_on: Sequence[Task]) -> None:
        memory = self.memory()
        trained = Counter(task.source.removeprefix("proposer:") for task in trained_on)
        rows = {
            name: Attempt(wanted=row["wanted"], proposed=row["proposed"], accepted=row["kept"], trained=trained[name])
            for name, row in counts.items()
        }
        memory.tried(number, rows)
        memory.save(self.folder / MEMORY)

    def _tasks(self, folder: Path, place: str, patterns: Sequence[FailurePattern], known: Sequence[Task], number: int) -> tuple[Task, ...]:
        file = folder / "tasks.jsonl"
        if not file.exists():
            with self.stage(f"{place}/propose"):
                self._make_tasks(folder, f"{place}/propose", patterns, known, number)
        return load_tasks(file)

    def _make_tasks(self, folder: Path, stage: str, patterns: Sequence[FailurePattern], known: Sequence[Task], number: int) -> None:
        targeting = self.config.targeting
        wanted = select(patterns, targeting, self.memory().shares(before=number))
        by_id = {pattern.id: pattern for pattern in patterns}
        plan = [(by_id[name], count) for name, count in wanted.items()]
        seen = KnownTasks(self.domain, known, held_out=HeldOut(self.domain, known, of_other_splits=True))
        accepted: list[Task] = []
        rejected: list[Verdict] = []
        counts: dict[str, dict[str, int]] = {}
        for pattern, count in [*plan, (general_pattern(self.domain), 0)]:
            pattern = pattern.model_copy(update={"knobs": self._knobs(pattern)})
            count = count or targeting.tasks - len(accepted)
            drafts = propose_tasks(
                self.domain, pattern, n=max(1, int(count * targeting.drafts)), seed=self.config.seed + number, pool=pool("train")
            )
            kept = 0
            for verdict in verify_all(self.domain, drafts, known=seen):
                if verdict.task is None:
                    rejected.append(verdict)
                elif kept < count:
                    kept += 1
                    accepted.append(verdict.task)
            counts[pattern.id] = {"wanted": count, "proposed": len(drafts), "kept": kept}
            self.report(stage, len(accepted), targeting.tasks, pattern.id)
        if not accepted:
            raise ConfigError("no proposal passed the gates; see rejected.jsonl")
        gates: dict[str, int] = {}
        for verdict in rejected:
            gate = verdict.rejected_by.name if verdict.rejected_by else "surplus"
            gates[gate] = gates.get(gate, 0) + 1
        lines = "".join(verdict.model_dump_json(exclude_defaults=True) + "\n" for verdict in rejected)
        _write(folder / "rejected.jsonl", lines)
        _write(
            folder / "round.json", json.dumps({"patterns": counts, "rejected_by_gate": gates, "accepted": len(accepted)}, indent=2) + "\n"
        )
        self._remember(number, counts, ())
        _write_with(folder / "tasks.jsonl", lambda path: save_tasks(path, accepted))

    def _knobs(self, pattern: FailurePattern) -> Knobs:
        """The pattern's own, in the voices and within the length that are configured."""
        return (
            self.config.knobs
            if pattern.label == "general"
            else pattern.knobs.model_copy(update={"voices": self.config.knobs.voices, "most_writes": self.config.knobs.most_writes})
        )

    def _pilot(self, folder: Path, place: str, tasks: tuple[Task, ...], model: str, number: int) -> tuple[Task, ...]:
        """Those tasks that the model passes now and then; all of them where there are none."""
        trials = self.config.targeting.pilot_trials
        pilot = sort_by_pass_rate(
            self.domain, tasks, self.play(f"{place}/pilot", tasks, model, trials, seed=self.config.seed + 100 * number + 50)
        )
        counts = {"learnable": len(pilot.learnable), "solved": len(pilot.solved), "deferred": len(pilot.deferred)}
        _write(folder / "pilot.json", json.dumps(counts, indent=2) + "\n")
        return pilot.learnable or tasks

    def _train(self, model: str, tasks: Sequence[Task], checkpoint: Path, number: int, stage: str) -> None:
        partial = checkpoint.with_name("checkpoint.partial")
        shutil.rmtree(partial, ignore_errors=True)
        (checkpoint.parent / "training.jsonl").unlink(missing_ok=True)  # of an attempt that was interrupted
        config = self.config.train.model_copy(update={"model": model, "seed": self.config.seed + number})

        def progress(logs: dict[str, float]) -> None:
            with (checkpoint.parent / "training.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(logs) + "\n")
            self.report(stage, int(logs["step"]), config.steps, f"reward {logs['reward']:.2f}")

        train(config, self.domain, tasks, self.user, out=partial, progress=progress)
        partial.rename(checkpoint)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; what an earlier, interrupted attempt took is kept."""
        start = time.monotonic()
        self.report(name, 0, 0)
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 1)
            _write(self.folder / "seconds.json", json.dumps(self.seconds, indent=2) + "\n")

    def _name(self, model: str) -> str:
        """A model as results name it: a checkpoint of this loop by its place in the folder, which may be moved."""
        return Path(model).relative_to(self.folder).as_posix() if Path(model).is_relative_to(self.folder) else model

    def _seed(self, file: Path) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.config.seed}/{file.relative_to(self.folder)}".encode()).digest()[:4])


def _write(file: Path, text: str) -> None:
    _write_with(file, lambda path: path.write_text(text, encoding="utf-8"))


def _write_with(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file that gets its name only when it is complete."""
    partial = file.with_name(f".{file.name}.partial")
    write(partial)
    partial.replace(file)
