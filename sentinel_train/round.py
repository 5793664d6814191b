"""One round of the loop.

    rounds/001/
      diagnosis.jsonl    tasks of other people than the held-out ones; run/ is the current model on them
      failures.jsonl     what went wrong there
      tasks.jsonl        verified tasks made from that; rejected.jsonl holds the drafts that failed a gate
      pilot/             the current model on those that it has to be tried on
      checkpoint/        the model trained on tasks of the pool; updates.jsonl in it has the rewards, logs/ is for TensorBoard
      training.jsonl     TRL's measurements of each update
      round.json         what was selected, made, drawn, counted, and which alarms were raised

What depends on chance draws from a generator of the seed, the round and what it is for, and every stage looks at the pool as it was
before that stage: so a stage that is done again comes out the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from sentinel_env import ConfigError, FailurePattern, Task, Trajectory, evaluate, general_pattern, load_tasks, read_trajectories, save_tasks
from sentinel_env.failures import GENERAL, Attempt, Memory, load_patterns, mine, save_patterns
from sentinel_env.metrics import group_by_task
from sentinel_env.verification import HeldOut, KnownTasks

from .accounting import updates_left
from .allocation import pairs, weigh
from .controller import select
from .draws import draw, room
from .files import make_folder, write, write_with
from .mixture import apportion, new_tasks
from .notes import Notes
from .pool import Snapshot
from .proposing import make_tasks
from .states import TrainingFolder
from .targeting import aim, aimed_at, diagnoses, mixture_of, pilots
from .trainer import train
from .updates import Update
from .watch import unneeded_transfers, watch_calls, watch_groups, watch_transfers, watch_variety

if TYPE_CHECKING:
    from .loop import Loop

MEMORY = "memory.jsonl"


class Round:
    """A round of a loop."""

    def __init__(self, loop: Loop, number: int) -> None:
        """Name the round, counted from 1."""
        self.loop, self.number = loop, number
        self.config, self.domain = loop.config, loop.domain
        self.place = f"rounds/{number:03d}"
        self.folder = loop.folder / self.place
        self.mixture = mixture_of(self.config.targeting, self.config.mixture)
        self.notes = Notes(self.folder / "round.json", lambda text: loop.report("alarm", 0, 0, f"{self.place}: {text}"))

    def run(self, model: str, held_out: Sequence[Task]) -> str:
        """Diagnose, make tasks, try them, train; returns the checkpoint. Raises as `run_loop`."""
        make_folder(self.folder)
        patterns = self._targets(model, held_out)
        self._make(patterns, held_out)
        self._try(model)
        rows, updates = self._draw(patterns)
        return self._train(model, rows, updates)

    # what tasks are made for

    def _targets(self, model: str, held_out: Sequence[Task]) -> tuple[FailurePattern, ...]:
        """The patterns among which the round's tasks are divided."""
        targeting, now = self.config.targeting, tuple[FailurePattern, ...]()
        if diagnoses(targeting, self.number):
            now = self._diagnose(model, held_out)
        first = now if self.number == 1 else self._selected(self.loop.folder / "rounds/001/failures.jsonl")
        patterns = aimed_at(targeting, now, first)
        self.notes.add(targeting=targeting, selected=[pattern.id for pattern in patterns])
        return patterns

    def _diagnose(self, model: str, held_out: Sequence[Task]) -> tuple[FailurePattern, ...]:
        """Let the model play general tasks, and find what goes wrong."""
        config, file = self.config, self.folder / "failures.jsonl"
        apart = held_out if config.test_split is not None else ()  # generated ones are about other people anyway
        tasks = self.loop.general("train", config.diagnosis_tasks, self.folder / "diagnosis.jsonl", held_out=apart)
        name, seed = f"{self.place}/run", config.seed + 100 * self.number
        found = self.loop.play(name, tasks, model, config.diagnosis_trials, seed=seed, number=self.number, purpose="diagnosis")
        if not file.exists():
            memory = self._memory()
            patterns = memory.observe(self.number, mine(self.domain, found, known=memory.known).patterns)
            memory.save(self.loop.folder / MEMORY)
            self.notes.watched(watch_calls(found), watch_transfers(self._transfers_before(), unneeded_transfers(self.domain, found)))
            write_with(file, lambda path: save_patterns(path, patterns))
        return self._selected(file)

    def _selected(self, file: Path) -> tuple[FailurePattern, ...]:
        return select(load_patterns(file, self.domain), min_support=self.config.tasks.min_support) if file.exists() else ()

    def _transfers_before(self) -> Mapping[str, Sequence[bool]]:
        run = self.loop.folder / f"rounds/{self.number - 1:03d}/run"
        return unneeded_transfers(self.domain, read_trajectories(run)) if run.exists() else {}

    # the tasks

    def _make(self, patterns: Sequence[FailurePattern], held_out: Sequence[Task]) -> None:
        """Fill the pool with what the round makes."""
        file = self.folder / "tasks.jsonl"
        if file.exists():
            return
        config, before = self.config, self.loop.pool.before(self.number, "propose")
        weights = weigh(config.allocation, patterns, pairs(before), self._random("propose"))
        wanted = new_tasks(weights, config.tasks.count, sum(before.stock().values()), self.mixture)
        general, memory = general_pattern(self.domain, config.knobs), self._memory()
        batches = aim(config.targeting, patterns, wanted.counts, general=general, random=self._random("aim"), others=memory.known)
        known = [*held_out, *self._diagnosed(), *(entry.task for entry in before.entries)]
        total, stage = sum(batch.count for batch in batches), f"{self.place}/propose"
        with self.loop.stage(stage):
            made = make_tasks(
                self.domain,
                config,
                batches,
                KnownTasks(self.domain, known, held_out=HeldOut(self.domain, known, of_other_splits=True)),
                number=self.number,
                report=lambda done, note: self.loop.report(stage, done, total, note),
            )
        write(self.folder / "rejected.jsonl", "".join(each.model_dump_json(exclude_defaults=True) + "\n" for each in made.rejected))
        if not made.entries and not before.stock():
            raise ConfigError(f"no proposal passed the gates in round {self.number}; see {self.folder / 'rejected.jsonl'}")
        counts = {name: attempt.model_dump(exclude={"trained"}) for name, attempt in made.attempts.items()}
        self.notes.add(weights=_rounded(weights), patterns=counts, rejected_by_gate=made.gates(), accepted=len(made.entries))
        memory.tried(self.number, made.attempts)
        memory.save(self.loop.folder / MEMORY)
        self.loop.pool.add(*made.entries)
        write_with(file, lambda path: save_tasks(path, [entry.task for entry in made.entries]))

    def _diagnosed(self) -> Iterable[Task]:
        """The tasks of all diagnoses up to this round's."""
        files = [self.loop.folder / f"rounds/{number:03d}/diagnosis.jsonl" for number in range(1, self.number + 1)]
        return [task for file in files if file.exists() for task in load_tasks(file)]

    def _try(self, model: str) -> None:
        """Let the model play what it was never tried on, and what was put off long enough ago."""
        trials = self.config.tasks.pilot_trials
        entries = self.loop.pool.before(self.number, "pilot").to_pilot()
        if not (trials and entries and pilots(self.config.targeting)):
            return
        name, seed = f"{self.place}/pilot", self.config.seed + 100 * self.number + 50
        tasks = [entry.task for entry in entries]
        found = self.loop.play(name, tasks, model, trials, seed=seed, number=self.number, purpose="pilot")
        self.loop.pool.saw_rewards(self.number, "pilot", self._rewards(found).items())

    def _rewards(self, trajectories: Iterable[Trajectory]) -> dict[str, list[float | None]]:
        return group_by_task((each.task.id, evaluate(self.domain, each).reward) for each in trajectories)

    # training

    def _draw(self, patterns: Sequence[FailurePattern]) -> tuple[list[Task], int]:
        """The tasks of the round's updates, and how many updates there are.

        Raises:
            ConfigError: There is no task to train on, or no rollout left to train with.
        """
        config, ready, updates = self.config.train, self.loop.pool.before(self.number, "training"), self._updates()
        weights = weigh(self.config.allocation, patterns, pairs(ready), self._random("draw"))
        mixture = apportion(weights, updates * config.prompts_per_step, self.mixture, room=room(ready))
        rows = draw(ready, mixture.counts, group_size=config.group_size, random=self._random("rows"))
        self.notes.add(pool=ready.states(), mixture=mixture.counts, gave_way=mixture.gave_way, updates=updates)
        if not rows:
            raise ConfigError(self._nothing_to_train_on(ready))
        tasks = list({task.id: task for task in rows}.values())
        general = list(self._diagnosed()) or [entry.task for entry in ready.entries if entry.arm == GENERAL]
        self.notes.watched(watch_variety(self.domain, tasks, general, random=self._random("variety")))
        return rows, updates

    def _updates(self) -> int:
        """How many updates the round makes. Raises as `updates_left`."""
        config = self.config
        if config.budget is None:
            return config.train.steps
        return updates_left(self.loop.ledger, config.plan(), config.budget, config.rounds, self.number)

    def _nothing_to_train_on(self, ready: Snapshot) -> str:
        states = ", ".join(f"{count} {state}" for state, count in ready.states().items() if count)
        return (
            f"no task of round {self.number} can be trained on ({states}): the model passes none of them now and then; start from a better "
            "model or one trained on demonstrations (warm_start), make easier tasks (knobs, operations), or set tasks.pilot_trials to 0"
        )

    def _train(self, model: str, rows: Sequence[Task], updates: int) -> str:
        """Make the updates, and take note of what came of them; returns the checkpoint."""
        folder, stage = TrainingFolder(self.folder / "checkpoint"), f"{self.place}/train"
        if folder.finished() is None and not self.loop.elsewhere(stage):
            with self.loop.stage(stage):
                self._update(model, rows, updates, stage)
        self.loop.reached(stage)
        ended = folder.finished()
        assert ended is not None
        self._learned(folder.updates())
        self.loop.ledger.count(self.number, "training", ended.rollouts)
        self.notes.add(rollouts=self.loop.ledger.rounds()[self.number].model_dump(), trained=ended.model_dump())
        if ended.stopped:
            self.loop.report("alarm", 0, 0, f"{stage}: {ended.stopped}")
        return str(folder.path)

    def _update(self, model: str, rows: Sequence[Task], updates: int, stage: str) -> None:
        """Train in this process."""
        config, log = self.config, self.folder / "training.jsonl"
        per_update = config.train.group_size * config.train.prompts_per_step
        states = self.loop.pool.before(self.number, "training").states()

        def progress(logs: dict[str, float]) -> None:
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            kept = [line for line in lines if json.loads(line)["step"] < logs["step"]]  # others are of updates that a kill undid
            write(log, "".join(f"{line}\n" for line in [*kept, json.dumps(logs)]))
            self.loop.report(stage, int(logs["step"]), updates, f"reward {logs['rewards/outcome/mean']:.2f}")

        def on_update(update: Update) -> None:
            for alarm in update.alarms:
                self.loop.report("alarm", 0, 0, f"{stage}, update {update.step}: {alarm}")

        train(
            config.train.model_copy(update={"model": model, "steps": updates, "seed": config.seed + self.number}),
            self.domain,
            rows,
            self.loop.user,
            out=self.folder / "checkpoint",
            progress=progress,
            on_update=on_update,
            most_rollouts=updates * per_update if config.budget is not None else None,
            constants={f"pool/{state}": float(count) for state, count in states.items()},
        )

    def _learned(self, updates: Sequence[Update]) -> None:
        """Take note of what the model made of the tasks that it was trained on."""
        rewards: dict[str, list[float | None]] = {}
        for update in updates:
            for group in update.groups:
                rewards.setdefault(group.task, []).extend(group.rewards)
        self.loop.pool.saw_rewards(self.number, "training", rewards.items())
        self.notes.watched(watch_groups(group.rewards for update in updates for group in update.groups))
        trained = Counter(self.loop.pool[task].pattern for task in rewards)
        memory, attempts = self._memory(), self.notes.read()["patterns"]
        named = dict.fromkeys([*attempts, *trained])
        memory.tried(self.number, {name: Attempt(**attempts.get(name, {}), trained=trained[name]) for name in named})
        memory.save(self.loop.folder / MEMORY)

    # notes

    def _memory(self) -> Memory:
        return Memory.load(self.loop.folder / MEMORY)

    def _random(self, what: str) -> Random:
        return Random(f"{self.config.seed}/{self.number}/{what}")


def _rounded(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: round(weight, 6) for name, weight in weights.items()}
