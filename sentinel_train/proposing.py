"""The tasks that a round makes: proposed for each batch, verified, and entered for the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil

from sentinel_env import Domain, FailurePattern, Verdict, propose_tasks, verify_all
from sentinel_env.failures import GENERAL, Attempt
from sentinel_env.knobs import Knobs
from sentinel_env.verification import KnownTasks

from .loop_config import LoopConfig, pool
from .seeds import seed_of
from .standing import Entry
from .targeting import Batch

TRIES = 3
"""How often drafts are made for a batch that is not full."""


@dataclass
class Made:
    """What a round's proposals came to."""

    entries: list[Entry] = field(default_factory=list)
    rejected: list[Verdict] = field(default_factory=list)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    """By the pattern that tasks were made from."""

    def gates(self) -> dict[str, int]:
        """How many drafts each gate refused."""
        return dict(Counter(verdict.rejected_by.name for verdict in self.rejected if verdict.rejected_by))


def make_tasks(
    domain: Domain, config: LoopConfig, batches: Sequence[Batch], known: KnownTasks, *, number: int, report: Callable[[int, str], None]
) -> Made:
    """Make a round's tasks. What cannot be made for a pattern is made up for by general tasks, where there is a batch of those.

    Args:
        domain: The world.
        config: The loop.
        batches: What to make.
        known: What the tasks must differ from; it grows by what is accepted.
        number: Of the round.
        report: Told how many tasks there are, and what they are made for.
    """
    made, lacking = Made(), 0
    targeted = [batch for batch in batches if batch.arm != GENERAL]
    for batch in [*targeted, *(batch for batch in batches if batch.arm == GENERAL)]:
        extra = lacking if batch.arm == GENERAL else 0
        lacking += batch.count - _fill(made, domain, config, batch.model_copy(update={"count": batch.count + extra}), known, number)
        report(len(made.entries), batch.pattern.id)
    return made


def _fill(made: Made, domain: Domain, config: LoopConfig, batch: Batch, known: KnownTasks, number: int) -> int:
    """Make a batch's tasks, as far as they can be made; returns how many."""
    pattern = batch.pattern.model_copy(update={"knobs": _knobs(batch.pattern, config)})
    kept = proposed = 0
    for attempt in range(TRIES):
        drafts = propose_tasks(
            domain,
            pattern,
            n=ceil((batch.count - kept) * config.tasks.drafts),
            seed=seed_of(config.seed, number, batch.arm, pattern.id, attempt),
            pool=pool("train"),
        )
        for verdict in verify_all(domain, drafts, known=known):
            proposed += 1
            if verdict.task is None:
                made.rejected.append(verdict)
                continue
            filtered = batch.filtered and config.tasks.pilot_trials > 0
            made.entries.append(Entry(task=verdict.task, arm=batch.arm, pattern=pattern.id, born=number, filtered=filtered))
            kept += 1
            if kept == batch.count:
                break
        if kept == batch.count or not drafts:
            break
    made.attempts[pattern.id] = Attempt(wanted=batch.count, proposed=proposed, accepted=kept)
    return kept


def _knobs(pattern: FailurePattern, config: LoopConfig) -> Knobs:
    """The pattern's own, in the voices and within the length that are configured."""
    common = {"voices": config.knobs.voices, "most_writes": config.knobs.most_writes}
    return config.knobs if pattern.label == GENERAL else pattern.knobs.model_copy(update=common)
