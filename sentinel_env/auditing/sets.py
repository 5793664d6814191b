"""Tasks beside each other: the same task twice, contradictions, and what a split gives away about another.

A task is remembered by digests and record ids only, so that memory grows by little with the number of tasks.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .issues import Issue
from .text import Said
from .walk import Walk

GRAM = 8
"""Words in a row that are compared."""
SIMILAR = 0.5
"""The share of a task's word rows that stand in one task of another split, from which on its words are nearly the same."""
LEAST = 10
"""So many rows of words at least, so that a short phrase in common is none."""
BOILERPLATE = 100
"""A row of words that stands in more tasks of a split than this says nothing about any two of them."""
_SHOWN = 5


@dataclass(frozen=True)
class Memory:
    """What is kept of a task to compare it with others."""

    id: str
    split: str
    text: str
    target: str | None
    """A digest of the state that its reference leads to; None where that is the start."""
    demands: str
    """A digest of everything that decides the reward."""
    customers: frozenset[str]
    records: frozenset[tuple[str, str]]
    grams: array[int]
    """Digests of the rows of words that it begins with, each once; what the user says later to a question is phrases."""


@dataclass
class TaskSet:
    """The tasks of an audit, as far as they are compared."""

    memories: list[Memory] = field(default_factory=list)
    played_in_prose: list[bool] = field(default_factory=list)
    """Of each task without structured wishes whether the scripted agent and user pass it."""
    judged: list[bool] = field(default_factory=list)
    """Of each task whose reward a judge model decides too whether there is anything for it to judge."""

    def add(self, walk: Walk, said: Said, customers: Iterable[str]) -> None:
        """Remember a task, with whoever its words can identify."""
        task = walk.task
        criteria = task.criteria
        target = _digest([task.changes, walk.changes])
        hands_over = any(walk.domain.is_transfer(call.name) for call in criteria.actions)
        judged = criteria.tau2.nl_assertions if criteria.tau2 else ()
        words = re.findall(r"[^\W_]+", said.lower)
        scenario = task.scenario
        opening = re.findall(r"[^\W_]+", "\n".join([scenario.goal, *scenario.known.values(), scenario.instructions or ""]).lower())
        owners, records = _records(walk)
        if criteria.tau2 is not None and "NL_ASSERTION" in criteria.tau2.reward_basis:
            self.judged.append(bool(criteria.tau2.nl_assertions))
        memory = Memory(
            id=task.id,
            split=task.split,
            text=_digest([words, task.changes]),
            target=target if walk.changes else None,
            demands=_digest([target, sorted(criteria.communicate), criteria.basis, judged, hands_over]),
            customers=frozenset({*owners, *customers}),
            records=frozenset(records),
            grams=array("Q", sorted({_gram(opening[at : at + GRAM]) for at in range(len(opening) - GRAM + 1)})),
        )
        self.memories.append(memory)

    def issues(self) -> Iterator[Issue]:
        """What the tasks have in common that they should not."""
        yield from self._same()
        yield from self._counted()
        splits = list(dict.fromkeys(memory.split for memory in self.memories))
        sizes = {split: sum(memory.split == split for memory in self.memories) for split in splits}
        ranked = sorted(splits, key=lambda split: (split != "train", -sizes[split], split))
        for at, split in enumerate(ranked):
            for other in ranked[at + 1 :]:
                yield from self._shared(split, other)

    def _same(self) -> Iterator[Issue]:
        texts: dict[str, Memory] = {}
        targets: dict[str, Memory] = {}
        for memory in self.memories:
            twin = texts.setdefault(memory.text, memory)
            if twin is not memory:
                if twin.demands == memory.demands:
                    yield _about(memory, twin, "same_task", "suspect", "the same words and the same target; drop one")
                else:
                    yield _about(memory, twin, "contradicts", "broken", "the same words and another target, so one of them is wrong")
            if memory.target is None:
                continue
            twin = targets.setdefault(memory.target, memory)
            if twin is not memory and twin.text != memory.text:
                across = memory.split != twin.split
                yield _about(memory, twin, "same_target", "suspect" if across else "note", "the same target in other words")

    def _counted(self) -> Iterator[Issue]:
        """What is known by the number only."""
        if len(self.judged) > sum(self.judged):
            free = len(self.judged) - sum(self.judged)
            reason = f"{free} of {len(self.judged)} tasks with NL_ASSERTION in their basis give a judge nothing to judge: that part is free"
            yield Issue(task=None, kind="needs_judge", severity="note", reason=reason, evidence={"free": free, "tasks": len(self.judged)})
        if self.played_in_prose:
            passed, played = sum(self.played_in_prose), len(self.played_in_prose)
            reason = f"{passed} of {played} tasks without structured wishes pass with the scripted agent and user"
            yield Issue(task=None, kind="round_trip", severity="note", reason=reason, evidence={"passed": passed, "tasks": played})

    def _shared(self, split: str, other: str) -> Iterator[Issue]:
        """What the tasks of one split share with those of another, which the agent may have learned from."""
        mine = [memory for memory in self.memories if memory.split == other]
        theirs = [memory for memory in self.memories if memory.split == split]
        users: dict[object, list[str]] = defaultdict(list)
        for memory in theirs:
            for used in (*memory.customers, *memory.records):
                users[used].append(memory.id)
        closest = _most_similar(mine, theirs)
        counts: Counter[str] = Counter()
        for at, memory in enumerate(mine):
            customers = sorted(customer for customer in memory.customers if customer in users)
            records = sorted(record for record in memory.records if record in users)
            counts.update({"customer": bool(customers), **dict.fromkeys({table for table, _ in records}, 1)})
            if customers or records:
                ids = list(dict.fromkeys(id for used in (*customers, *records) for id in users[used]))
                shown = ", ".join([*customers, *(key for _, key in records)][:_SHOWN])
                reason = f"shares {shown} with {len(ids)} tasks of {split}, such as {ids[0]!r}; give the splits records of their own"
                evidence = {"customers": customers, "records": [list(record) for record in records], "tasks": ids}
                yield Issue(task=memory.id, kind="shared_records", severity="suspect", reason=reason, evidence=evidence)
            share, twin = closest[at]
            if share >= SIMILAR:
                counts["similar"] += 1
                reason = f"{100 * share:.0f} % of its rows of {GRAM} words stand in task {twin!r} of {split}; reword one of them"
                evidence = {"task": twin, "share": round(share, 3)}
                yield Issue(task=memory.id, kind="similar_text", severity="suspect", reason=reason, evidence=evidence)
        if counts.total():
            tables = sorted(table for table in counts if table not in ("customer", "similar"))
            shared = [f"{counts['customer']} share a customer with {split}"] if counts["customer"] else []
            shared += [f"{counts[table]} share {table}" for table in tables]
            shared += [f"{counts['similar']} have nearly the words of one"] if counts["similar"] else []
            reason = f"of {len(mine)} tasks of {other}, {', '.join(shared)}; a score on {other} is no score on unseen records"
            evidence = {"split": split, "other": other, "tasks": len(mine), "shared": dict(sorted((+counts).items()))}
            yield Issue(task=None, kind="shared_records", severity="suspect", reason=reason, evidence=evidence)


def _most_similar(mine: Sequence[Memory], theirs: Iterable[Memory]) -> list[tuple[float, str]]:
    """For each of mine the largest share of its rows of words that stands in one of theirs, and which one."""
    places: dict[int, list[int]] = defaultdict(list)
    for at, memory in enumerate(mine):
        for gram in memory.grams:
            places[gram].append(at)
    best: list[tuple[float, str]] = [(0.0, "")] * len(mine)
    for memory in theirs:
        hits = Counter(at for gram in memory.grams for at in places.get(gram, ()) if len(places[gram]) <= BOILERPLATE)
        for at, count in hits.items():
            share = count / len(mine[at].grams)
            if count >= LEAST and share > best[at][0]:
                best[at] = (share, memory.id)
    return best


def _records(walk: Walk) -> tuple[set[str], set[tuple[str, str]]]:
    """Whose records a reference uses and which: those that somebody owns, or, where nobody says, those that it changes."""
    access = walk.domain.access
    if access is None:
        return set(), {(table, key) for table, rows in walk.changes.items() for key in rows}
    customers, records = set(), set()
    for step in walk.steps:
        owner = None if step.answer.is_error else access.owner(step.before, step.call)
        if owner is None:
            continue
        customers.add(owner)
        for value in step.call.arguments.values():
            if isinstance(value, str) and value != owner:
                records |= {(name, value) for name, table in step.before.tables.items() if value in table}
    return customers, records


def _about(memory: Memory, twin: Memory, kind: str, severity: str, what: str) -> Issue:
    splits = f" (of {twin.split}, this one of {memory.split})" if twin.split != memory.split else ""
    return Issue(
        task=memory.id,
        kind=kind,
        severity=severity,  # type: ignore[arg-type]
        reason=f"task {twin.id!r}{splits} has {what}",
        evidence={"task": twin.id},
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _gram(words: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode("utf-8", "replace"), digest_size=8).digest())
