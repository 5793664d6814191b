"""Whether the Controller finds the habits that agents are known to have, and nothing in an agent that has none.

    python benchmarks/known_truth.py                          # every habit on 300 tasks, 100 uniformly erring agents: six minutes
    python benchmarks/known_truth.py --json --tasks 300 --seeds 100
    python benchmarks/known_truth.py --only retail --habit "first variant"

The agents of `habits.py` hold real episodes with the scripted user; each writes down the mistakes that it puts in. Truth is every label,
tool and argument that it put into at least five tasks (a pattern needs as many); found is every pattern with `selected`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from habit_worlds import library_world, retail_world
from habits import (
    Habit,
    HabitAgent,
    Slip,
    both,
    calls_with_a_made_up_id,
    changes_items_before_the_address,
    drops_the_last_write,
    forgets_to_say,
    hands_over_in_doubt,
    pays_with_the_first_method,
    takes_the_first_record,
    takes_the_first_variant,
    writes_without_confirmation,
)
from uniform_errors import errs_uniformly

from sentinel_env import Domain, Episode, ScriptedUser, drive
from sentinel_env.failures import FailureReport, mine
from sentinel_env.failures.selection import MIN_TASKS
from sentinel_env.trajectory import Trajectory, record

HABITS: dict[str, dict[str, Habit]] = {
    "retail": {
        "first variant": takes_the_first_variant,
        "first payment method": pays_with_the_first_method,
        "items before address": changes_items_before_the_address,
        "drops the last write": drops_the_last_write,
        "first order that matches": takes_the_first_record,
        "hands over in doubt": hands_over_in_doubt,
        "forgets to say the amount": forgets_to_say,
        "writes without confirmation": writes_without_confirmation,
        "a made-up id": calls_with_a_made_up_id,
        "variant + payment": both(takes_the_first_variant, pays_with_the_first_method),
        "last write + amount": both(drops_the_last_write, forgets_to_say),
        "made-up id + no confirmation": both(calls_with_a_made_up_id, writes_without_confirmation),
        "order + hands over": both(takes_the_first_record, hands_over_in_doubt),
        "items first + payment + amount": both(changes_items_before_the_address, pays_with_the_first_method, forgets_to_say),
    },
    "library": {
        "drops the last write": drops_the_last_write,
        "first loan that works": takes_the_first_record,
        "forgets to say": forgets_to_say,
        "a made-up id": calls_with_a_made_up_id,
        "last write + made-up id": both(drops_the_last_write, calls_with_a_made_up_id),
    },
}
WORLDS = {"retail": retail_world, "library": library_world}
CHANCE = 0.05
"""How often the uniformly erring agent takes an opportunity."""
NOISE = 0.03
"""How often an agent with a habit errs everywhere else, in the second row of each habit."""


def play(world: Domain, agent: HabitAgent) -> Iterator[Trajectory]:
    user = ScriptedUser()
    for task in world.split():
        yield record(drive(Episode(world, task, max_steps=80, max_errors=40), agent, user), agent=agent.name, user=user.name)


def examine(world: Domain, habit: Habit, noise: Habit | None = None) -> tuple[set[Slip], FailureReport]:
    """What the habit put in often enough to be a pattern, and what was found, with other errors on top of it."""
    agent = HabitAgent(tasks=world.split(), habit=habit)
    played = HabitAgent(tasks=world.split(), habit=both(habit, noise)) if noise else agent
    report = mine(world, play(world, played))
    for task in world.split() if noise else ():
        agent.script(world, task)
    tasks: dict[Slip, set[str]] = defaultdict(set)
    for task, manner in agent.manners.items():
        for slip in manner.slips if manner.hands_over is None else [slip for slip in manner.slips if slip[0] == "unneeded_transfer"]:
            tasks[slip].add(task)
    return {slip for slip, where in tasks.items() if len(where) >= MIN_TASKS}, report


def row(world: str, name: str, truth: set[Slip], report: FailureReport, *, noise: float = 0.0) -> dict[str, Any]:
    selected = [pattern for pattern in report.patterns if pattern.selected]
    found = {(pattern.label, pattern.tools[0] if pattern.tools else None, pattern.arguments) for pattern in selected}
    return {
        "world": world,
        "habit": name,
        "noise": noise,
        "failed": report.failed,
        "truth": len(truth),
        "found": len(truth & found),
        "wrong": len(found - truth),
        "contexts": dict(Counter(pattern.feature or "-" for pattern in selected).most_common()),
        "missed": sorted("/".join(map(str, slip)) for slip in truth - found),
        "surplus": sorted(
            pattern.id for pattern in selected if (pattern.label, (pattern.tools or (None,))[0], pattern.arguments) not in truth
        ),
        "problems": list(report.problems),
    }


def wilson(hits: int, of: int) -> tuple[float, float]:
    if not of:
        return 0.0, 1.0
    z, share = 1.96, hits / of
    centre, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (centre - half) / (1 + z * z / of), (centre + half) / (1 + z * z / of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--only", choices=list(WORLDS))
    parser.add_argument("--habit")
    parser.add_argument("--chance", type=float, default=CHANCE)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    start, rows, uniform = time.monotonic(), [], []
    for name, make in WORLDS.items():
        if options.only not in (None, name):
            continue
        world = make(options.tasks)
        for habit_name, habit in HABITS[name].items():
            if options.habit in (None, habit_name):
                rows.append(row(name, habit_name, *examine(world, habit)))
                if not options.json:
                    show(rows[-1])
                with_noise = examine(world, habit, errs_uniformly(0, NOISE))
                rows.append(row(name, habit_name, *with_noise, noise=NOISE))
                if not options.json:
                    show(rows[-1])
        for seed in range(options.seeds if options.habit is None else 0):
            _, report = examine(world, errs_uniformly(seed, options.chance))
            picked = [pattern.id for pattern in report.patterns if pattern.selected]
            uniform.append({"world": name, "seed": seed, "failed": report.failed, "selected": picked})
            if picked and not options.json:
                print(f"    uniform, seed {seed}: {', '.join(picked)}", flush=True)
    summary = summarise(rows, uniform) | {"tasks": options.tasks, "chance": options.chance, "seconds": round(time.monotonic() - start)}
    print(json.dumps({"habits": rows, "uniform": uniform, "summary": summary}, indent=2) if options.json else text(summary))


def summarise(rows: list[dict[str, Any]], uniform: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for noise in dict.fromkeys(each["noise"] for each in rows):
        truth, found, wrong = (sum(each[name] for each in rows if each["noise"] == noise) for name in ("truth", "found", "wrong"))
        among = f", {100 * noise:.0f} % other errors" if noise else ""
        summary[f"recall{among}"] = [found, truth, *wilson(found, truth)]
        summary[f"precision{among}"] = [found, found + wrong, *wilson(found, found + wrong)]
    for world in dict.fromkeys(each["world"] for each in uniform):
        clean = [not each["selected"] for each in uniform if each["world"] == world]
        summary[f"uniform, {world}: nothing selected"] = [sum(clean), len(clean), *wilson(sum(clean), len(clean))]
    return summary


def show(each: dict[str, Any]) -> None:
    contexts = ", ".join(f"{name} {count}" for name, count in each["contexts"].items())
    noise = f", {100 * each['noise']:.0f} % other errors" if each["noise"] else ""
    counts = f"truth {each['truth']:2}  found {each['found']:2}  wrong {each['wrong']:2}"
    print(f"{each['world']:8} {each['habit'] + noise:50} {each['failed']:4} failed  {counts}  {contexts}", flush=True)
    for what in ("missed", "surplus", "problems"):
        for name in each[what][:12]:
            print(f"    {what}: {name}")


def text(summary: dict[str, Any]) -> str:
    lines = []
    for name, value in summary.items():
        if isinstance(value, list):
            hits, of, low, high = value
            lines.append(f"{name}: {hits} of {of} = {hits / of if of else 0:.3f} [{low:.3f}, {high:.3f}]")
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
