"""Make the tasks that ship with our data: `python -m sentinel_domains.retail.make_tasks` writes `tasks.jsonl` next to this file.

Every task comes out of the Proposer and has passed all its gates. Users are dealt to the splits by a hash of their id, so no two
splits share a user or an order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sentinel_env import Domain, Task, save_tasks
from sentinel_env.failures import FailurePattern, general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.verification import KnownTasks, verify_proposal

from . import make
from .splits import split_of

SIZES = {"train": 100, "dev": 40, "test": 100}
"""How many tasks each split gets."""
LABELS = ("general", "general", "wrong_argument", "wrong_target_record", "missing_write", "extra_write", "missing_communicate")
"""What the tasks invite, in turn."""


def make_tasks(domain: Domain, *, seed: int = 0) -> Iterator[Task]:
    """The tasks of all splits, in order; `domain` gives the database and the operations."""
    domain = replace(domain, tasks=tuple)
    known = KnownTasks(domain)
    for split, size in SIZES.items():
        drafts = {label: _accepted(domain, label, split, size, known, seed) for label in set(LABELS)}
        for number in range(size):
            task = next(drafts[LABELS[number % len(LABELS)]])
            yield task.model_copy(update={"id": f"{split}-{number:03d}", "source": "proposer"})


def _accepted(domain: Domain, label: str, split: str, size: int, known: KnownTasks, seed: int) -> Iterator[Task]:
    pattern = general_pattern(domain) if label == "general" else FailurePattern(id=label, domain=domain.name, label=label)  # type: ignore[arg-type]
    for proposal in propose_tasks(domain, pattern, n=3 * size, seed=seed, split=split, pool=lambda user_id: split_of(user_id) == split):
        verdict = verify_proposal(domain, proposal, known=known)
        if verdict.task is not None:
            known.add(verdict.task)
            yield verdict.task


if __name__ == "__main__":
    path = Path(__file__).with_name("tasks.jsonl")
    tasks = tuple(make_tasks(make(users=500)))
    save_tasks(path, tasks)
    print(f"{len(tasks)} tasks in {path.name}")
