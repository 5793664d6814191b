"""Diversity and leakage of accepted tasks: how different they are from each other, and what they share with tasks that are held out.

- *Vendi score* (Friedman and Dieng 2023): exp of the entropy of the eigenvalues of K/n, a number of effectively different plans. K is the
  cosine between plan signatures: tools, which arguments come from where, products, how many entries, what has no write; no record ids.
- *Self-BLEU-4* (Zhu et al. 2018): the mean BLEU-4 of each text against all others; 1 where all are alike.
- *Entropy* of users and products, as exp(H): the number of equally frequent ones that would be as uncertain.
- *Leakage*: users and orders shared with the domain's tasks of other splits, and the largest share of a text's word 8-grams that stand in
  one of their texts.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations_with_replacement, pairwise
from multiprocessing import get_context
from random import Random
from typing import Any

import numpy as np
from pattern_tasks import make, pattern_of, retail

from sentinel_env import Domain, Task
from sentinel_env.failures import CAUSES, CONDUCT
from sentinel_env.verification import KnownTasks

SAMPLE = 400
"""Tasks of a set that the Vendi score and self-BLEU are worked out on."""
_GRAM = 8
_WORD = re.compile(r"[^\W_]+")


def signature(domain: Domain, task: Task) -> Counter[str]:
    """What a plan is like, without its record ids."""
    found: Counter[str] = Counter()
    db, tools = domain.start(task), domain.tools_by_name
    for call in task.criteria.actions:
        found[f"call {call.name}"] += 1
        if not tools[call.name].writes:
            continue
        found.update(f"entries {name} {len(value)}" for name, value in call.arguments.items() if isinstance(value, list))
        found.update(f"product {name}" for name in _products(db, call.arguments))
        found.update(f"choice {value}" for name, value in call.arguments.items() if name == "reason")
        found.update(f"paid by {value.rsplit('_', 1)[0]}" for name, value in call.arguments.items() if name == "payment_method_id")
    for wish in task.scenario.wishes:
        found.update(f"from {name} {origin}" for name, origin in wish.provenance.items())
        found[f"wish {wish.call.name if wish.call else 'without a write'}"] += 1
        found["slip"] += wish.slip is not None
    found[f"told {len(task.criteria.communicate)}"] += 1
    found[f"raised {task.scenario.reveal if len(task.scenario.wishes) > 1 else 'alone'}"] += 1
    return +found


def _products(db: Any, arguments: dict[str, Any]) -> Iterator[str]:
    order = db.orders.get(arguments.get("order_id", ""))
    for line in order.items if order is not None else ():
        if "item_ids" not in arguments or line.item_id in arguments["item_ids"]:
            yield line.name


def vendi(signatures: Sequence[Counter[str]]) -> float:
    """The Vendi score with the cosine kernel."""
    names = {name: at for at, name in enumerate(sorted({name for each in signatures for name in each}))}
    matrix = np.zeros((len(signatures), len(names)))
    for row, each in enumerate(signatures):
        for name, count in each.items():
            matrix[row, names[name]] = count
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(matrix @ matrix.T / len(signatures))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def self_bleu(texts: Sequence[str], order: int = 4) -> float:
    """The mean BLEU of each text against all others, by corpus counts of every n-gram's two largest frequencies."""
    words = [_WORD.findall(text.lower()) for text in texts]
    grams = [[Counter(tuple(each[at : at + n]) for at in range(len(each) - n + 1)) for n in range(1, order + 1)] for each in words]
    largest: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for each in grams:
        for counts in each:
            for gram, count in counts.items():
                largest[gram] = sorted((*largest[gram], count))[-2:]
    scores = []
    for at, each in enumerate(grams):
        precisions = []
        for counts in each:
            total = counts.total()
            clipped = sum(min(count, largest[gram][0 if largest[gram][1] == count else 1]) for gram, count in counts.items())
            precisions.append(max(clipped, 0.1) / total if total else 1.0)  # smoothed as NLTK's first method does
        nearest = min((abs(len(other) - len(words[at])), len(other)) for place, other in enumerate(words) if place != at)[1]
        brevity = 1.0 if len(words[at]) > nearest else math.exp(1 - nearest / max(1, len(words[at])))
        scores.append(brevity * math.exp(sum(map(math.log, precisions)) / order))
    return sum(scores) / len(scores)


def effective(counts: Counter[str]) -> float:
    """exp of the entropy."""
    total = counts.total()
    return math.exp(-sum(count / total * math.log(count / total) for count in counts.values())) if total else 0.0


def grams(text: str) -> set[tuple[str, ...]]:
    """The word 8-grams of a text; a shorter text is one."""
    words = _WORD.findall(text.lower())
    return {tuple(words[at : at + _GRAM]) for at in range(max(1, len(words) - _GRAM + 1))}


def records_of(domain: Domain, tasks: Iterable[Task]) -> tuple[set[str], set[str]]:
    """The users that tasks are about, and the orders that they name."""
    users: set[str] = set()
    orders: set[str] = set()
    for task in tasks:
        db: Any = domain.start(task)
        for call in task.criteria.actions:
            named = [value for value in call.arguments.values() if isinstance(value, str)]
            users.update(value for value in named if value in db.users)
            own = [value for value in named if value in db.orders]
            orders.update(own)
            users.update(db.orders[order].user_id for order in own)
    return users, orders


def describe(domain: Domain, name: str, tasks: Sequence[Task]) -> dict[str, Any]:
    """One row."""
    tools = domain.tools_by_name
    writes = [sorted(repr(call) for call in task.criteria.actions if tools[call.name].writes) for task in tasks]
    used = [sorted(call.name for call in task.criteria.actions if tools[call.name].writes) for task in tasks]
    pairs = {pair for each in used for pair in pairwise(each)}
    possible = list(combinations_with_replacement(sorted(tool.name for tool in domain.tools if tool.writes), 2))
    chosen = Random(f"sample/{name}").sample(list(tasks), min(SAMPLE, len(tasks)))
    users: Counter[str] = Counter()
    products: Counter[str] = Counter()
    for task in tasks:
        users.update(records_of(domain, [task])[0])
        products.update(each.removeprefix("product ") for each in signature(domain, task) if each.startswith("product "))
    held_out = [task for task in domain.split() if task.split != "train"]
    shared = [own & other for own, other in zip(records_of(domain, tasks), records_of(domain, held_out), strict=True)]
    others = [grams(task.scenario.goal) for task in held_out]
    overlap = sorted(max(len(own & each) / len(own) for each in others) for own in (grams(task.scenario.goal) for task in tasks))
    return {
        "set": name,
        "tasks": len(tasks),
        "writes": len({repr(each) for each in writes}),
        "plans": len({repr((each, sorted(task.criteria.communicate))) for each, task in zip(writes, tasks, strict=True)}),
        "tool pairs": [len(pairs), len(possible)],
        "vendi": vendi([signature(domain, task) for task in chosen]),
        "self-bleu": self_bleu([task.scenario.goal for task in chosen]),
        "users": [effective(users), len(users)],
        "products": [effective(products), len(products)],
        "sampled": len(chosen),
        "shared users": len(shared[0]),
        "shared orders": len(shared[1]),
        "overlap": [overlap[-1], overlap[len(overlap) * 99 // 100], sum(overlap) / len(overlap)],
    }


def _made(job: tuple[str, int]) -> tuple[str, list[Task]]:
    label, count = job
    domain = retail()
    return label, make(domain, pattern_of(domain, label), count=count, seed=31, seconds=30.0).tasks


def measure(count: int, *, processes: int) -> list[dict[str, Any]]:
    """Rows for general tasks, each label, all of them together, and the tasks that ship."""
    domain = retail()
    labels = ["general", *(label for label in (*CAUSES, *CONDUCT) if label != "missing_action")]
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as workers:
        sets = {label: tasks for label, tasks in workers.map(_made, [(label, count) for label in labels]) if tasks}
    known = KnownTasks(domain)
    together = []
    for task in (task for own in zip(*(tasks[: count // 10] for tasks in sets.values()), strict=False) for task in own):
        if known.same_as(task) is None:
            known.add(task)
            together.append(task)
    sets["all labels, as many of each"] = together
    sets["shipped: train"] = list(domain.split("train"))
    return [describe(domain, name, tasks) for name, tasks in sets.items() if len(tasks) > 1]


def text(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "| tasks | n | distinct writes (with what is told) | tool pairs | Vendi, of sample | self-BLEU-4 | users | products "
        "| shared users, orders | 8-grams in a held-out text: most, 99 %, mean |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        users, products, overlap = row["users"], row["products"], row["overlap"]
        lines.append(
            f"| {row['set']} | {row['tasks']} | {row['writes']} ({row['plans']}) | {row['tool pairs'][0]} of {row['tool pairs'][1]} "
            f"| {row['vendi']:.1f} of {row['sampled']} | {row['self-bleu']:.2f} | {users[0]:.0f} of {users[1]} "
            f"| {products[0]:.0f} of {products[1]} | {row['shared users']}, {row['shared orders']} "
            f"| {overlap[0]:.2f}, {overlap[1]:.2f}, {overlap[2]:.3f} |"
        )
    return "\n".join(lines)
