"""What the Proposer makes on the default retail domain: how much, whether it hits what it aims at, whether it holds, how varied it is.

    python benchmarks/synthesis.py                                        # everything: about 45 minutes of two cores
    python benchmarks/synthesis.py --only yield --count 1000 --processes 2
    python benchmarks/synthesis.py --only validity --read tasks.md        # fifty accepted tasks to be read by eye
    python benchmarks/synthesis.py --json

Four sections, each in a file of its own: `yields`, `targeting` (with `solver_targeting`, which needs the `train` extra), `validity` and
`diversity`. No language model takes part but the shipped tiny Solver. Seeds are fixed; the same seed gives the same tasks and figures, but
for times.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: on shared cores spinning threads cost five times as long

import argparse
import dataclasses
import json
import time
from importlib.util import find_spec
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import diversity
import targeting
import validity
import yields
from pattern_tasks import every_pattern, retail, sample
from reading import as_text

from sentinel_env import load_domain
from sentinel_env.failures import FailurePattern

SECTIONS = ("yield", "targeting", "validity", "diversity")
TARGETED = 200
"""Tasks of each pattern for the agents with habits."""
SOLVED = 150
"""Tasks of each pattern for the tiny Solver."""
TRIALS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be given several times")
    parser.add_argument("--count", type=int, default=1000, help="accepted tasks of each pattern, and tasks for validity; the rest scales")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40.0, help="CPU seconds after which a pattern gets no further proposals")
    parser.add_argument("--no-solver", action="store_true", help="leave the tiny Solver out")
    parser.add_argument("--read", type=Path, help="write fifty accepted tasks of all patterns here, to be read")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if options.read is not None:
        options.read.write_text(to_be_read(50), encoding="utf-8")
    for section in options.only or SECTIONS:
        start = time.monotonic()
        result, text = SECTION[section](options)
        found[section] = result
        if not options.json:
            print(f"## {section}, {time.monotonic() - start:.0f} s\n\n{text}\n", flush=True)
    if options.json:
        print(json.dumps(found, indent=2, default=plain))


def plain(value: Any) -> Any:
    """Results as JSON."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value.model_dump()


def scaled(count: int, options: argparse.Namespace) -> int:
    """A number of tasks that goes with `--count 1000`."""
    return max(4, count * int(options.count) // 1000)


def of_yield(options: argparse.Namespace) -> tuple[Any, str]:
    rows = yields.measure(options.count, processes=options.processes, seconds=options.seconds)
    return rows, yields.text(rows, options.count)


def of_targeting(options: argparse.Namespace) -> tuple[Any, str]:
    found = targeting.measure(scaled(TARGETED, options), processes=options.processes)
    text = targeting.text(found)
    if not options.no_solver and find_spec("torch") is not None:
        import solver_targeting

        found["solver"] = solver_targeting.measure(scaled(SOLVED, options), trials=TRIALS, threads=options.processes)
        text += f"\n\n{solver_targeting.text(found['solver'])}"
    return found, text


def of_validity(options: argparse.Namespace) -> tuple[Any, str]:
    found = validity.measure(options.count, processes=options.processes)
    return found, validity.text(found)


def of_diversity(options: argparse.Namespace) -> tuple[Any, str]:
    rows = diversity.measure(options.count, processes=options.processes)
    return rows, diversity.text(rows)


SECTION = {"yield": of_yield, "targeting": of_targeting, "validity": of_validity, "diversity": of_diversity}


def to_be_read(count: int) -> str:
    """Accepted tasks in words: as many of each label, of different tools where the label has some."""
    by_label: dict[str, list[FailurePattern]] = {}
    for pattern in every_pattern(retail()):
        by_label.setdefault(pattern.label, []).append(pattern)
    turns = zip_longest(*(own[1:] + own[:1] for own in by_label.values()))
    chosen = [pattern for turn in turns for pattern in turn if pattern is not None]
    tasks = islice(sample(retail(), chosen, 1, seed=41), count)
    brief = load_domain("retail", compact=True)
    return "\n\n".join(as_text(brief, task) for task in tasks) + "\n"


if __name__ == "__main__":
    main()
