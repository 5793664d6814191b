"""Targeting with agents whose habits are known: does a pattern's mistake come out more often on tasks that were made for it?

For each pattern an agent that has the habit plays tasks made for the pattern, general tasks, and the placebo: tasks that were made for
patterns of other labels, under this pattern's name. One more agent errs at every opportunity alike: on whose tasks it fails by what says
what a set of tasks offers, whoever plays it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from random import Random
from typing import Any

import careless_habits as careless
import habits
import shop_habits as shop
from elicitation import Lift, Play, confusion, elicited, lift, per_opportunity, precision, table, watch, without_certificates
from pattern_tasks import make, pattern_of, retail
from uniform_errors import errs_uniformly

from sentinel_env import Domain, Episode, Task, Trajectory, drive
from sentinel_env.failures import CAUSES, CONDUCT, FailurePattern
from sentinel_env.metrics import Estimate
from sentinel_env.trajectory import record
from sentinel_env.users import RememberingUser
from sentinel_env.verification import KnownTasks

GENERAL = 3
"""How many times as many general tasks as targeted ones: their share is the denominator."""
CHANCE = 0.1
"""How often the uniformly erring agent takes an opportunity."""
TRIALS = 3
"""Attempts of the uniformly erring agent at each task."""
_LIMITS = {"max_steps": 40, "max_errors": 10}


@dataclass(frozen=True)
class Case:
    """A pattern and an agent that has its habit."""

    habit: habits.Habit
    label: str
    tool: str | None = None
    argument: str | None = None
    feature: str | None = None

    def pattern(self, domain: Domain) -> FailurePattern:
        """The pattern as the Controller would name it."""
        return pattern_of(domain, self.label, self.tool, *([self.argument] if self.argument else []), feature=self.feature)


takes_whatever_comes_first = habits.both(
    habits.pays_with_the_first_method, habits.takes_the_first_variant, shop.takes_the_first_line, shop.gives_one_reason
)
takes_whatever_comes_first.__name__ = "takes_whatever_comes_first"

_CANCEL, _ADDRESS, _PAYMENT = "cancel_pending_order", "modify_pending_order_address", "modify_pending_order_payment"
_MODIFY, _RETURN, _EXCHANGE = "modify_pending_order_items", "return_delivered_order_items", "exchange_delivered_order_items"
_PROFILE = "modify_user_address"

CASES = (
    Case(takes_whatever_comes_first, "wrong_argument"),
    *(
        Case(habits.pays_with_the_first_method, "wrong_argument", tool, "payment_method_id")
        for tool in (_PAYMENT, _MODIFY, _RETURN, _EXCHANGE)
    ),
    *(Case(habits.takes_the_first_variant, "wrong_argument", tool, "new_item_ids") for tool in (_MODIFY, _EXCHANGE)),
    *(Case(shop.takes_the_first_line, "wrong_argument", tool, "item_ids") for tool in (_MODIFY, _RETURN, _EXCHANGE)),
    Case(shop.takes_one_item_only, "wrong_argument", _RETURN, "item_ids"),
    Case(shop.gives_one_reason, "wrong_argument", _CANCEL, "reason"),
    *(Case(shop.leaves_out_the_apartment, "wrong_argument", tool, "address2") for tool in (_ADDRESS, _PROFILE)),
    Case(shop.ships_to_the_profile, "wrong_argument", _ADDRESS, "address1"),
    Case(habits.takes_the_first_record, "wrong_target_record"),
    Case(habits.takes_the_first_record, "wrong_target_record", feature="to_be_found"),
    *(Case(habits.takes_the_first_record, "wrong_target_record", tool) for tool in (_CANCEL, _ADDRESS, _PAYMENT, _RETURN)),
    Case(shop.undoes_instead_of_changing, "wrong_tool"),
    *(Case(shop.undoes_instead_of_changing, "wrong_tool", tool) for tool in (_MODIFY, _EXCHANGE)),
    Case(shop.works_in_the_customers_order, "order_dependency"),
    Case(shop.works_in_the_customers_order, "order_dependency", _ADDRESS),
    Case(habits.drops_the_last_write, "missing_write"),
    Case(habits.drops_the_last_write, "missing_write", feature="last_write"),
    *(Case(habits.drops_the_last_write, "missing_write", tool) for tool in (_CANCEL, _RETURN)),
    Case(shop.never_says_no, "extra_write"),
    Case(habits.forgets_to_say, "missing_communicate"),
    Case(shop.never_hands_over, "missing_transfer"),
    Case(habits.hands_over_in_doubt, "unneeded_transfer"),
    Case(habits.hands_over_in_doubt, "unneeded_transfer", feature="something_to_find"),
    Case(careless.reads_in_circles, "unfinished"),
    Case(careless.reads_in_circles, "unfinished", feature="something_to_find"),
    Case(careless.gives_up_when_refused, "tool_error"),
    Case(careless.gives_up_when_refused, "tool_error", feature="something_to_find"),
    Case(careless.writes_lists_as_text, "schema_error"),
    Case(careless.invents_a_tool, "unknown_tool"),
    Case(careless.makes_up_the_number, "hallucinated_id"),
    Case(careless.makes_up_the_number, "hallucinated_id", feature="something_to_find"),
    Case(careless.acts_on_the_first_words, "write_without_confirmation"),
    Case(careless.writes_blind, "blind_write"),
    Case(careless.writes_blind, "blind_write", feature="something_to_find"),
    Case(careless.writes_blind, "blind_write", _CANCEL),
    Case(careless.chooses_without_looking, "ungrounded_selection"),
    Case(shop.never_says_no, "other_users_record"),
    *(Case(habit, label) for label, habit in careless.PASSES.items()),
)
_LABELS = tuple(label for label in (*CAUSES, *CONDUCT) if label != "missing_action")
_tasks: dict[str, list[Task]] = {}
"""By pattern; filled before the processes that play are forked off."""


def attempts(domain: Domain, tasks: Sequence[Task], habit: habits.Habit, *, trial: int = 0) -> Iterator[Trajectory]:
    """An agent's attempt at each task, in the real episode."""
    agent = habits.HabitAgent(tasks=tasks, habit=habit)
    for task in tasks:
        episode = Episode(domain, task, **_LIMITS)
        yield record(drive(episode, agent, RememberingUser(episode.user_view())), trial=trial, agent=agent.name, user="scripted")


@lru_cache(maxsize=1)
def _general(count: int) -> list[Task]:
    domain = retail()
    return without_certificates(make(domain, pattern_of(domain, "general"), count=GENERAL * count, seed=11).tasks)


def _targeted(job: tuple[FailurePattern, int]) -> list[Task]:
    pattern, count = job
    known = KnownTasks(retail(), _general(count))
    return without_certificates(make(retail(), pattern, count=count, seed=12, seconds=20.0, known=known).tasks)


def _of_case(job: tuple[int, int]) -> dict[str, Any]:
    at, count = job
    domain, case = retail(), CASES[at]
    pattern, general = case.pattern(domain), _general(count)
    own = _tasks[pattern.id]
    others = [task for name, tasks in _tasks.items() if name.split("/")[0].split("@")[0] != case.label for task in tasks]
    placebo = Random(f"placebo/{pattern.id}").sample(others, min(count, len(others)))
    sets = {name: watch(domain, attempts(domain, tasks, case.habit)) for name, tasks in zip(_SETS, (own, general, placebo), strict=True)}
    shares = {name: elicited(plays, pattern) for name, plays in sets.items()}
    return {
        "pattern": pattern.id,
        "label": case.label,
        "habit": case.habit.__name__.replace("_", " "),
        "tasks": {name: len(plays) for name, plays in sets.items()},
        "elicited": shares,
        "lift": lift(shares["targeted"], shares["general"]),
        "placebo": lift(shares["placebo"], shares["general"]),
        "over placebo": lift(shares["targeted"], shares["placebo"]),
        "precision": [precision(sets[name], case.label) for name in ("targeted", "general")],
        "per opportunity": [per_opportunity(domain, sets[name], pattern) for name in ("targeted", "general")],
        "plays": sets["targeted"],
    }


_SETS = ("targeted", "general", "placebo")


def _of_uniform(job: tuple[str, int]) -> tuple[str, list[Play]]:
    label, count = job
    domain = retail()
    tasks = _general(count) if label == "general" else _tasks[label]
    runs = (attempts(domain, tasks, errs_uniformly(seed, CHANCE), trial=seed) for seed in range(TRIALS))
    return label, [play for run in runs for play in watch(domain, run)]


def measure(count: int, *, processes: int) -> dict[str, Any]:
    """Rows for the habits, for the uniformly erring agent, and what an agent without a habit fails by."""
    domain = retail()
    patterns = {
        pattern.id: pattern for pattern in (*(case.pattern(domain) for case in CASES), *(pattern_of(domain, each) for each in _LABELS))
    }
    _general(count)

    def shared(work: Callable[[Any], Any], jobs: Sequence[Any]) -> list[Any]:
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as workers:
            return list(workers.map(work, jobs))

    _tasks.update(zip(patterns, shared(_targeted, [(pattern, count) for pattern in patterns.values()]), strict=True))
    cases = shared(_of_case, [(at, count) for at in range(len(CASES))])
    uniform = dict(shared(_of_uniform, [("general", count), *((label, count) for label in _LABELS)]))
    everything = [*_general(count), *(task for tasks in _tasks.values() for task in tasks[: max(1, count // 10)])]
    faultless = watch(domain, attempts(domain, everything, lambda manner: manner))
    return {
        "habits": cases,
        "uniform": [_uniform_row(domain, label, uniform) for label in _LABELS],
        "of habits": confusion((row["label"], row.pop("plays")) for row in cases),
        "of uniform": confusion((label, uniform[label]) for label in ("general", *_LABELS)),
        "without a habit": {"attempts": len(faultless), "failed": sum(not play.passed for play in faultless)},
    }


def _uniform_row(domain: Domain, label: str, plays: dict[str, list[Play]]) -> dict[str, Any]:
    pattern = pattern_of(domain, label)
    shares = [elicited(plays[name], pattern) for name in (label, "general")]
    others = [play for name, own in plays.items() if name not in (label, "general") for play in own]
    return {
        "pattern": label,
        "elicited": shares,
        "lift": lift(*shares),
        "placebo": lift(elicited(others, pattern), shares[1]),
        "per opportunity": [per_opportunity(domain, plays[name], pattern) for name in (label, "general")],
    }


def percent(estimate: Estimate | None) -> str:
    """A share in per cent with its interval."""
    return "–" if estimate is None else f"{100 * estimate.value:.0f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"


def verdict(own: Lift, tasks: int) -> str:
    """Whether a generator is accepted, and why not."""
    if own.is_accepted:
        return "yes"
    if not tasks:
        return "no: no task"
    return "no: never elicited" if math.isnan(own.value) else "no"


def text(found: dict[str, Any]) -> str:
    """The tables."""
    rows = found["habits"]
    lines = [
        "| pattern | habit | tasks | elicited, targeted | general | lift | placebo | over placebo | accepted | precision (general) "
        "| per opportunity (general) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares, (on_own, on_general), tasks = row["elicited"], row["per opportunity"], row["tasks"]["targeted"]
        precise = f"{_brief(row['precision'][0])} ({_brief(row['precision'][1])})" if row["label"] in CAUSES else "–"
        lines.append(
            f"| {row['pattern']} | {row['habit']} | {tasks} | {percent(shares['targeted'])} | {percent(shares['general'])} "
            f"| {row['lift']} | {row['placebo']} | {row['over placebo']} | {verdict(row['lift'], tasks)} | {precise} "
            f"| {_brief(on_own)} ({_brief(on_general)}) |"
        )
    accepted = [row for row in rows if row["lift"].is_accepted]
    known = [row for row in rows if not math.isnan(row["placebo"].value) and not math.isnan(row["lift"].value)]
    placebo = [row["placebo"] for row in known]
    lines += [
        "",
        f"accepted: {len(accepted)} of {len(rows)} pairs of a pattern and a habit; of these, "
        f"{sum(row['over placebo'].is_accepted for row in accepted)} also lie above the placebo",
        f"where general tasks or the placebo elicit it at all ({len(known)} patterns): median lift "
        f"{_middle(row['lift'].value for row in known)}, of the placebo {_middle(each.value for each in placebo)}; "
        f"the placebo's interval lies above 1 for {sum(each.low > 1 for each in placebo)} and below 1 for "
        f"{sum(each.high < 1 for each in placebo)}",
        f"an agent without a habit: {found['without a habit']}",
        "",
        f"An agent that errs at {100 * CHANCE:.0f} % of its opportunities, {TRIALS} attempts a task:",
        "| label | elicited, targeted | general | lift | placebo | per opportunity (general) |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["uniform"]:
        (own, general), (on_own, on_general) = row["elicited"], row["per opportunity"]
        lines.append(
            f"| {row['pattern']} | {percent(own)} | {percent(general)} | {row['lift']} | {row['placebo']} "
            f"| {percent(on_own)} ({percent(on_general)}) |"
        )
    lines += ["", "primary causes, each agent on the tasks for its habit, %:", table(found["of habits"])]
    lines += ["", "primary causes of the uniformly erring agent, %:", table(found["of uniform"])]
    return "\n".join(lines)


def _middle(values: Iterable[float]) -> str:
    return f"{statistics.median(values):.2f}"


def _brief(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{100 * estimate.value:.0f}"
