"""Targeting: what a round's tasks are made for. One word switches between the loop and its controls; all else stays the same.

closed_loop           the patterns of this round's diagnosis
one_shot              those of the first round, in every round
placebo               closed_loop's counts and knobs, with the patterns exchanged for others
learnability_general  general tasks, filtered by a pilot just as closed_loop's are
general               general tasks as they come

    patterns = aimed_at(targeting, now, first)                            # among which the round's tasks are divided
    counts = new_tasks(weigh(allocation, patterns, known, random), 160, active, mixture).counts
    for batch in aim(targeting, patterns, counts, general=general_pattern(domain), random=random):
        propose_tasks(domain, batch.pattern, n=batch.count)               # these count for batch.arm
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sentinel_env.failures import GENERAL, LABELS, FailurePattern
from sentinel_env.generation.targets import NOT_STRESSED

from .mixture import EXPLORE, MixtureConfig

Targeting = Literal["closed_loop", "one_shot", "placebo", "learnability_general", "general"]

EXPLORED = tuple(label for label in LABELS if label not in NOT_STRESSED)
"""Every label that tasks can be made for, whether or not it was ever seen."""


class Batch(BaseModel):
    """Tasks to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    """What they count for: a pattern's id, "general" or "explore"."""
    pattern: FailurePattern
    """What they are made from."""
    count: int
    filtered: bool = True
    """Whether a pilot decides which of them are trained on: those that are passed now and then."""


def diagnoses(targeting: Targeting, number: int) -> bool:
    """Whether a round has to find failures; what is not used is not paid for."""
    return targeting in ("closed_loop", "placebo") or (targeting == "one_shot" and number == 1)


def pilots(targeting: Targeting) -> bool:
    """Whether a round tries its tasks before training."""
    return targeting != "general"


def aimed_at(targeting: Targeting, now: Sequence[FailurePattern], first: Sequence[FailurePattern]) -> tuple[FailurePattern, ...]:
    """The patterns among which a round's tasks are divided.

    Args:
        targeting: The arm of the experiment.
        now: The patterns that this round's diagnosis selects.
        first: Those that the first round's selected.
    """
    if targeting in ("closed_loop", "placebo"):
        return tuple(now)
    return tuple(first) if targeting == "one_shot" else ()


def mixture_of(targeting: Targeting, mixture: MixtureConfig) -> MixtureConfig:
    """What of the mixture goes with an arm: without targets nothing is explored, and without a filter nothing counts as solved."""
    if targeting == "general":
        return mixture.model_copy(update={"explore": 0.0, "replay": 0.0})
    return mixture.model_copy(update={"explore": 0.0}) if targeting == "learnability_general" else mixture


def aim(
    targeting: Targeting,
    patterns: Sequence[FailurePattern],
    counts: Mapping[str, int],
    *,
    general: FailurePattern,
    random: Random,
    others: Sequence[FailurePattern] = (),
) -> tuple[Batch, ...]:
    """What a round's new tasks are made from. The counts add up to the same in all arms of the experiment.

    Args:
        targeting: The arm of the experiment.
        patterns: What `aimed_at` says.
        counts: Tasks by arm, from `new_tasks`.
        general: The pattern of no failure, with the knobs that all tasks have.
        random: Of this round; the same one gives the same batches.
        others: For the placebo: patterns that are not among `patterns`. Where few are given, it can only exchange patterns among
            themselves, so that the same tasks are made in other numbers.
    """
    if targeting in ("learnability_general", "general"):
        whole = sum(counts.values())
        return (Batch(arm=GENERAL, pattern=general, count=whole, filtered=pilots(targeting)),) if whole else ()
    made_from = {pattern.id: pattern for pattern in patterns}
    if targeting == "placebo":
        made_from = _exchanged(patterns, others, general, random)
    batches = [Batch(arm=name, pattern=pattern, count=counts.get(name, 0)) for name, pattern in made_from.items()]
    batches.append(Batch(arm=GENERAL, pattern=general, count=counts.get(GENERAL, 0)))
    for label, count in explored(counts.get(EXPLORE, 0), random).items():
        sought = general.model_copy(update={"id": f"{EXPLORE}/{label}", "label": label, "summary": ""})
        batches.append(Batch(arm=EXPLORE, pattern=sought, count=count))
    return tuple(batch for batch in batches if batch.count)


def explored(count: int, random: Random, labels: Sequence[str] = EXPLORED) -> dict[str, int]:
    """So many labels, each as likely as any other, and none a second time before all have come once."""
    drawn: list[str] = []
    while len(drawn) < count:
        drawn.extend(random.sample(labels, min(len(labels), count - len(drawn))))
    return dict(Counter(drawn))


def _exchanged(
    patterns: Sequence[FailurePattern], others: Sequence[FailurePattern], general: FailurePattern, random: Random
) -> dict[str, FailurePattern]:
    """For each pattern another one in its place, no two the same, with the knobs of the one that it replaces.

    The others come first; patterns for which none is left take each other's place in a circle. A single pattern without any other
    becomes general tasks.
    """
    known = {pattern.id for pattern in patterns}
    strangers = list({other.id: other for other in others if other.id not in known}.values())
    order = random.sample(patterns, len(patterns))
    images = random.sample(strangers, min(len(strangers), len(order)))
    circle = [*order[1:], *order[:1]] if len(order) > 1 else [general] * len(order)
    taken = zip(order, [*images, *circle[len(images) :]], strict=True)
    return {pattern.id: _with_knobs(image, pattern) for pattern, image in taken}


def _with_knobs(image: FailurePattern, original: FailurePattern) -> FailurePattern:
    """The operation stays the image's own: it belongs to the mistake."""
    return image.model_copy(update={"knobs": original.knobs.model_copy(update={"operation": image.knobs.operation})})
