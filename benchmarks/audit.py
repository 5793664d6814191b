"""What the auditor finds: known faults, planted faults, and what it says of good tasks.

    python benchmarks/audit.py                                  # our data; two minutes
    python benchmarks/audit.py --tau2 ../shared/data/tau2_retail

Planted faults are those of `tests/planted_faults.py`, one in each task of the train split that gives an opportunity for it. Good tasks are
those that ship, the same in prose, and newly proposed ones that passed verification.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from sentinel_env import Domain, Task, load_domain
from sentinel_env.auditing import Issue, audit
from sentinel_env.failures import general_pattern
from sentinel_env.generation import propose_tasks
from sentinel_env.verification import verify_all

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from planted_faults import PLANTS, changed, in_prose, writes_of

# What the specification of tau2-bench's retail domain lists, as far as it concerns the 74 train tasks.
KNOWN: dict[str, set[str]] = {
    "reference leaves the database as it was": {"10", "24", "25", "50", "57", "67", "105"},
    "of these, paid for doing nothing without a judge": {"10", "25", "50", "57"},
    "reference calls that a tool refuses": {"2", "3", "4", "35", "37", "46", "47", "54", "67", "105"},
    "of these, writes": {"105"},
    "target depends on the order of the items": {"20", "21", "37"},
    "same target as another task": {"84"},
    "must be told and never graded, without a judge either": {"30", "31"},
    "arguments not compared (compare_args empty)": {"10", "50"},
}
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "reference leaves the database as it was": ("pays_for_nothing", ("broken", "suspect")),
    "of these, paid for doing nothing without a judge": ("pays_for_nothing", ("broken",)),
    "reference calls that a tool refuses": ("refused_", ("broken", "suspect", "note")),
    "of these, writes": ("refused_write", ("broken",)),
    "target depends on the order of the items": ("list_order", ("suspect",)),
    "same target as another task": ("same_target", ("note",)),
    "must be told and never graded, without a judge either": ("pays_for_silence", ("suspect",)),
    "arguments not compared (compare_args empty)": ("compares_nothing", ("note",)),
}
# Each "suspect" and "broken" on the 74 tasks, read by one of us: whether the author of the task should change something.
DOUBTFUL = {
    ("22", "needless_write"): "meant so: the customer changes the address and takes it back, which no final state shows",
    ("54", "ambiguous_description"): "the reason is not said, but a financial issue suggests it",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tau2", metavar="FOLDER", help="tau2-bench's retail data")
    parser.add_argument("--proposed", type=int, default=300)
    options = parser.parse_args()
    retail = load_domain("retail")
    if options.tau2:
        report_tau2(load_domain("retail", data=options.tau2))
    report_good(retail, options.proposed)
    report_planted(retail)
    report_swapped(retail)


def report_tau2(domain: Domain) -> None:
    found, seconds = timed(domain, domain.tasks())
    print(f"\ntau2-bench's retail tasks: {len(domain.tasks())}; CPU per task {spread(seconds)}\n")
    print("| known to be broken | tasks | found |\n|---|---|---|")
    for name, tasks in KNOWN.items():
        kind, severities = KINDS[name]
        named = {str(issue.task) for issue in found if issue.kind.startswith(kind) and issue.severity in severities}
        print(f"| {name} | {len(tasks)} | {len(tasks & named)}{f', and {sorted(named - tasks)}' if named - tasks else ''} |")
    print("\n| kind | broken | suspect | note | read: right | doubtful |\n|---|---|---|---|---|---|")
    counts = Counter((issue.kind, issue.severity) for issue in found)
    for kind in dict.fromkeys(issue.kind for issue in found):
        doubted = sum(name == kind for _, name in DOUBTFUL)
        right = counts[kind, "broken"] + counts[kind, "suspect"] - doubted
        print(f"| {kind} | {counts[kind, 'broken']} | {counts[kind, 'suspect']} | {counts[kind, 'note']} | {right} | {doubted} |")
    for issue in found:
        if issue.severity != "note":
            print(issue.line)


def report_good(domain: Domain, proposed: int) -> None:
    drafts = propose_tasks(domain, general_pattern(domain), n=proposed)
    groups = {
        "shipped": list(domain.tasks()),
        "shipped, in prose": [in_prose(task) for task in domain.tasks()],
        "library": list(load_domain("library").tasks()),
        "newly proposed and verified": [verdict.task for verdict in verify_all(domain, drafts) if verdict.task is not None],
    }
    print("\n| good tasks | tasks | broken | suspect | note | CPU per task |\n|---|---|---|---|---|---|")
    for name, tasks in groups.items():
        found, seconds = timed(load_domain("library") if name == "library" else domain, tasks)
        counts = Counter(issue.severity for issue in found)
        print(f"| {name} | {len(tasks)} | {counts['broken']} | {counts['suspect']} | {counts['note']} | {spread(seconds)} |")


def report_planted(domain: Domain) -> None:
    print("\n| kind | planted as | found and named | had it before |\n|---|---|---|---|")
    for kind, severity, plant in PLANTS:
        random, planted, found, before = Random(plant.__name__), 0, 0, 0
        for task in domain.split("train"):
            faulty = plant(domain, task, random)
            if faulty is not None:
                planted += 1
                before += any(issue.kind == kind for issue in audit(domain, [task]))
                named = {(issue.kind, issue.severity) for issue in audit(domain, faulty) if issue.task == faulty[-1].id}
                found += (kind, severity) in named
        print(f"| {kind} | {plant.__name__.replace('_', ' ')} | {found} of {planted} | {before} |", flush=True)


def report_swapped(domain: Domain) -> None:
    """References that take another value, one on which the write works too: the words, or the wishes, speak for the first."""
    named: dict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
    random = Random(0)
    for task in domain.tasks():
        for at in writes_of(domain, task):
            for sort, choices in sorted(others_that_work(domain, task, at).items()):
                for form, base in (("structured", task), ("in prose", in_prose(task))):
                    found = audit(domain, [changed(base, at, **random.choice(choices))])
                    named[sort, form][any(issue.severity != "note" for issue in found)] += 1
    print("\n| another ... in the reference | structured | in prose |\n|---|---|---|")
    for sort in sorted({sort for sort, _ in named}):
        shown = [f"{named[sort, form][True]} of {named[sort, form].total()}" for form in ("structured", "in prose")]
        print(f"| {sort} | {' | '.join(shown)} |")


def others_that_work(domain: Domain, task: Task, at: int) -> dict[str, list[dict[str, object]]]:
    """Other arguments of a write that its tool accepts, by what differs."""
    call, db = task.criteria.actions[at], domain.start(task)
    for earlier in task.criteria.actions[:at]:
        domain.execute(db, earlier)
    order = db.orders.get(call.arguments.get("order_id", ""))
    if order is None:
        return {}
    tried: list[tuple[str, dict[str, object]]] = []
    customer = db.users[order.user_id]
    if "item_ids" not in call.arguments:
        tried += [("order", {"order_id": key}) for key in customer.orders if key != order.order_id]
    elif "new_item_ids" in call.arguments:
        first, *rest = call.arguments["new_item_ids"]
        variants = next(product.variants for product in db.products.values() if first in product.variants)
        tried += [("variant", {"new_item_ids": [key, *rest]}) for key in variants if key != first]
    else:
        _, *rest = call.arguments["item_ids"]
        lines = [line.item_id for line in order.items if line.item_id not in call.arguments["item_ids"]]
        tried += [("item", {"item_ids": [key, *rest]}) for key in lines]
    if "payment_method_id" in call.arguments:
        methods = [key for key in customer.payment_methods if key != call.arguments["payment_method_id"]]
        tried += [("payment method", {"payment_method_id": key}) for key in methods]
    works: dict[str, list[dict[str, object]]] = defaultdict(list)
    for sort, arguments in tried:
        if not domain.execute(db.fork(), call.model_copy(update={"arguments": {**call.arguments, **arguments}})).is_error:
            works[sort].append(arguments)
    return works


def timed(domain: Domain, tasks: Sequence[Task]) -> tuple[tuple[Issue, ...], list[float]]:
    """The findings, and the CPU seconds of each task but the first, which includes learning the domain's tools."""
    audit(domain, tasks[:1])
    gc.collect()
    gc.freeze()  # the database is not searched for garbage in the middle of a task
    stamps: list[float] = []
    found = audit(domain, tasks, on_task=lambda finished: stamps.append(time.process_time()))
    return found, [after - before for before, after in pairwise(stamps)] or [0.0]


def spread(seconds: Sequence[float]) -> str:
    ordered = sorted(1e3 * each for each in seconds)
    return f"median {statistics.median(ordered):.1f} ms, 95 % {ordered[int(0.95 * (len(ordered) - 1))]:.1f}, most {ordered[-1]:.0f}"


if __name__ == "__main__":
    main()
