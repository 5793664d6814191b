"""What holds of a model's samples about a pattern, and what enough of them agree on; no model is asked here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .packets import Packet
from .patterns import FailurePattern
from .summary import Agreement, Draft, Summary

SUPPORT = 3
"""Runs that a summary must cite."""


def why_not(draft: Draft, packets: Sequence[Packet]) -> str | None:
    """Why a draft does not hold against the runs that were shown; None where it does."""
    shown = {packet.id: packet for packet in packets}
    label, cited = draft.parent_label, {each.trajectory for each in draft.evidence}
    for each in draft.evidence:
        packet = shown.get(each.trajectory)
        if packet is None:
            return f"it cites {each.trajectory[:80]!r}, which is none of the runs that were shown"
        if each.step > packet.length:
            return f"it cites message {each.step} of {packet.id!r}, which has {packet.length}"
        if label not in packet.labels:
            return f"it cites {packet.id!r} for {label}, which shows: {', '.join(sorted(packet.labels)) or 'nothing'}"
    if len(cited) < SUPPORT:
        return f"it cites {len(cited)} runs; {SUPPORT} are needed"
    for name in draft.counter_evidence:
        if name not in shown or not shown[name].passed or label in shown[name].labels:
            return f"it cites {name[:80]!r} as counter evidence, which is no passed run without {label} that was shown"
    for feature in draft.trigger_context:
        holds = sum(feature in shown[name].features for name in cited)
        if holds < SUPPORT:
            return f"it names the context {feature}, which {holds} of the runs that it cites have; {SUPPORT} are needed"
    return None


def agreement(pattern: FailurePattern, draft: Draft, packets: Sequence[Packet]) -> Agreement:
    """How far a draft says what the deterministic stage says."""
    shown = {packet.id: packet for packet in packets}
    cited = [each for each in draft.evidence if each.trajectory in shown]
    near = sum(shown[each.trajectory].is_near(draft.parent_label, each.step) for each in cited)
    return Agreement(drafts=1, same_label=int(draft.parent_label == pattern.label), steps=len(cited), near_steps=near)


def largest_group(drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts with the most frequent label; of equally frequent ones the first."""
    counts = Counter(draft.parent_label for draft in drafts)
    return [draft for draft in drafts if draft.parent_label == counts.most_common(1)[0][0]]


def summary_of(pattern: FailurePattern, drafts: Sequence[Draft], *, needed: int, samples: int) -> Summary:
    """What the drafts have in common, in the words of the one that is most like the others."""
    often = Counter(name for draft in drafts for name in set(draft.trigger_context))
    foils = Counter(draft.expected_foil for draft in drafts)
    middle = max(drafts, key=lambda draft: sum(_likeness(draft, other) for other in drafts))  # the first of equals
    cited = Counter(each for draft in drafts for each in set(draft.evidence))
    counter = Counter(name for draft in drafts for name in set(draft.counter_evidence))
    return Summary(
        pattern_id=pattern.id,
        parent_label=middle.parent_label,
        title=middle.title,
        mechanism=middle.mechanism,
        trigger_context=tuple(sorted(name for name, count in often.items() if count >= needed)),
        evidence=tuple(sorted(cited, key=lambda each: (-cited[each], each.trajectory, each.step))),
        counter_evidence=tuple(sorted(counter, key=lambda name: (-counter[name], name))),
        generator=middle.generator,
        expected_foil=foils.most_common(1)[0][0],
        confidence=round(sum(draft.confidence for draft in drafts) / len(drafts), 3),
        support=len(drafts),
        samples=samples,
        agrees=middle.parent_label == pattern.label,
    )


def _likeness(one: Draft, other: Draft) -> float:
    mine, theirs = set(one.trigger_context), set(other.trigger_context)
    shared = len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0
    return shared + (one.expected_foil == other.expected_foil) + (one.generator.template == other.generator.template)
