"""Make the tasks that ship with our data: `python -m sentinel_domains.retail.make_tasks` writes `tasks.jsonl` next to this file.

Every task comes out of the Proposer and has passed all its gates. Users are dealt to the splits by a hash of their id, so no two
splits share a user or an order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sentinel_env import ConfigError, Domain, Task, TaskProposal, save_tasks
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
        drafts = {label: _drafts(domain, label, split, size, seed) for label in dict.fromkeys(LABELS)}
        for number in range(size):
            yield _next(domain, drafts[LABELS[number % len(LABELS)]], f"{split}-{number:03d}", known)


def _drafts(domain: Domain, label: str, split: str, size: int, seed: int) -> Iterator[TaskProposal]:
    pattern = general_pattern(domain) if label == "general" else FailurePattern(id=label, domain=domain.name, label=label)  # type: ignore[arg-type]
    return iter(propose_tasks(domain, pattern, n=3 * size, seed=seed, split=split, pool=lambda user_id: split_of(user_id) == split))


def _next(domain: Domain, drafts: Iterator[TaskProposal], name: str, known: KnownTasks) -> Task:
    """The next draft that passes the gates, under its own name, which its certificate speaks of."""
    for proposal in drafts:
        named = proposal.draft.model_copy(update={"id": name, "source": "proposer"})
        verdict = verify_proposal(domain, proposal.model_copy(update={"draft": named}), known=known)
        if verdict.task is not None:
            known.add(verdict.task)
            return verdict.task
    raise ConfigError(f"no draft is left for task {name}; raise the domain's size")


if __name__ == "__main__":
    path = Path(__file__).with_name("tasks.jsonl")
    tasks = tuple(make_tasks(make(users=500)))
    save_tasks(path, tasks)
    print(f"{len(tasks)} tasks in {path.name}")
