"""Validity: what accepted tasks reward, tried anew in the real episode, and whether mutants of their references are punished.

The gates ran before, and here they are not believed: every accepted task is played again with the scripted user by the reference, by an
agent that does nothing and by one that only hands over; then by mutants, those of `sentinel_env.generation.mutations` and those of a
mutator of this benchmark, which knows nothing of it. A mutant that earns the reward *survives*. It is *equivalent* where its writes,
executed by themselves, leave the database as the reference leaves it, it hands over where the reference does, and it says what is to be
said: then nothing was done wrong, and it is shown and counted apart.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from random import Random
from typing import Any

from pattern_tasks import every_pattern, make, retail

from sentinel_env import Domain, Episode, Message, Record, Task, ToolCall, drive
from sentinel_env.agents import ScriptedAgent, say
from sentinel_env.certificates import Foil
from sentinel_env.evaluation import evaluate
from sentinel_env.generation.mutations import mutants
from sentinel_env.trajectory import record
from sentinel_env.users import RememberingUser
from sentinel_env.verification import KnownTasks

WANT = 30
"""Mutants of the package's own mutator that are asked for, of each task."""
RANDOM = 12
"""Mutants of the benchmark's mutator, of each task."""
_SHOWN = 12


@dataclass(frozen=True)
class Mutant:
    """A wrong plan, and how it was made."""

    source: str
    kind: str
    plan: tuple[ToolCall, ...]
    silent: bool = False


class _Reciting:
    """An agent that says what it was given, and then offers more help."""

    name = "reciting"

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = iter(messages)

    def act(self, view: Any) -> Message:
        return next(self._messages, say("Is there anything else I can help you with?"))


def earns(domain: Domain, task: Task, agent: Any) -> bool:
    """Whether an agent gets the reward in the real episode."""
    episode = Episode(domain, task, max_steps=80, max_errors=40)
    return evaluate(domain, record(drive(episode, agent, RememberingUser(episode.user_view())))).passed


def baselines(domain: Domain, task: Task) -> dict[str, bool]:
    """Who gets the reward: the reference, nobody else should."""
    transfer = domain.handover
    assert transfer is not None
    farewell = say("YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON.")
    return {
        "reference": earns(domain, task, ScriptedAgent(tasks=(task,))),
        "nothing": earns(domain, task, _Reciting([])),
        "refuses everything": earns(domain, task, _Reciting([say("I am sorry, I cannot do that under our policy.")] * 3)),
        "transfer only": earns(domain, task, _Reciting([Message(role="assistant", tool_calls=(transfer,)), farewell])),
    }


def survives(domain: Domain, task: Task, mutant: Mutant) -> bool:
    """Whether a mutant earns the reward.

    All of its calls are made one after the other, once the customer has said who it is: asked first, the customer would correct it, and
    told too early that all is done, it would leave before the last call.
    """
    opening = ScriptedAgent(plan=lambda *_: (), reports=False).script(domain, task)[:1]
    told = "" if mutant.silent else f" For your information: {'; '.join(task.criteria.communicate)}."
    made = [Message(role="assistant", tool_calls=(call,)) for call in mutant.plan]
    return earns(domain, task, _Reciting([*opening, *made, say(f"That is done.{told} Is there anything else I can help you with?")]))


# mutants of the benchmark's own


@lru_cache(maxsize=1)
def _values(domain: Domain) -> dict[str, list[Any]]:
    """Every text of the database by its shape: digits as 9, letters as a."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for table in domain.base.tables.values():
        for key in table:
            for text in (key, *_texts(table[key])):
                found[_shape(text)][text] = None
    return {shape: list(texts) for shape, texts in found.items()}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Record):
        for each in value.__dict__.values():
            yield from _texts(each)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


@lru_cache(maxsize=100_000)
def _shape(text: str) -> str:
    """What values of one sort have in common.

    >>> _shape("#W1234567"), _shape("credit_card_12"), _shape("12 Oak Street")
    ('#a9999999', 'credit_card_9', '9 a a')
    """
    if "_" in text:
        return re.sub(r"\d+", "9", text)
    digits = re.sub(r"\d", "9", text) if not re.search(r"\s", text) else re.sub(r"\d+", "9", text)
    return re.sub(r"[^\W\d_]+", "a", digits)


def random_mutants(domain: Domain, task: Task, others: Sequence[ToolCall], random: Random, want: int) -> Iterator[Mutant]:
    """Blind changes of a reference: another value of the same shape, a write less, twice, more or elsewhere, silence, a late hand-over.

    Args:
        domain: The world.
        task: The task.
        others: Writes of other tasks, for extra ones and for values that no record holds, such as a reason.
        random: Which.
        want: How many.
    """
    actions = list(task.criteria.actions)
    at = [place for place, call in enumerate(actions) if domain.tools_by_name[call.name].writes]
    seen = {repr(actions)}
    if task.criteria.communicate:
        yield Mutant("random", "silent", tuple(actions), silent=True)
    if not any(domain.is_transfer(call.name) for call in actions) and (transfer := domain.handover) is not None:
        yield Mutant("random", "hands over when all is done", (*actions, transfer))
    for _ in range(6 * want):
        if want <= 0:
            return
        kind = random.choice(("value", "value", "value", "value", "dropped", "twice", "extra", "swapped", "no list order"))
        plan = list(actions)
        if kind == "extra" or not at:
            kind = "extra"
            plan.insert(random.choice([*(place + 1 for place in at), len(actions)]), random.choice(others))
        elif kind == "dropped":
            del plan[random.choice(at)]
        elif kind == "twice":
            place = random.choice(at)
            plan.insert(place, plan[place])
        elif kind == "swapped":
            one, other = random.choice(at), random.choice(at)
            plan[one], plan[other] = plan[other], plan[one]
        else:
            place = random.choice(at)
            changed = _changed(domain, plan[place], others, random, shuffled=kind == "no list order")
            if changed is None:
                continue
            plan[place] = changed
        if repr(plan) not in seen:
            seen.add(repr(plan))
            want -= 1
            yield Mutant("random", kind, tuple(plan))


def _changed(domain: Domain, call: ToolCall, others: Sequence[ToolCall], random: Random, *, shuffled: bool) -> ToolCall | None:
    name = random.choice(list(call.arguments))
    value = call.arguments[name]
    new: Any
    if shuffled:
        lists = [key for key, each in call.arguments.items() if isinstance(each, list) and len(each) > 1]
        if not lists:
            return None
        order = list(range(len(call.arguments[lists[0]])))
        random.shuffle(order)
        rows = {key: [call.arguments[key][place] for place in order] for key in lists if len(call.arguments[key]) == len(order)}
        return call.model_copy(update={"arguments": {**call.arguments, **rows}})
    if isinstance(value, list) and value:
        place = random.randrange(len(value))
        new = [*value[:place], _other(domain, str(value[place]), [], random), *value[place + 1 :]]
        if random.random() < 0.3:
            new = value[:place] + value[place + 1 :] if random.random() < 0.5 else [*value, value[place]]
    else:
        same = [each.arguments[name] for each in others if each.name == call.name and name in each.arguments]
        new = _other(domain, str(value), same, random)
    return None if new == value or new is None else call.model_copy(update={"arguments": {**call.arguments, name: new}})


def _other(domain: Domain, value: str, same: Sequence[Any], random: Random) -> Any:
    found = [each for each in (*_values(domain).get(_shape(value), ()), *same) if each != value] if value else list(same)
    return random.choice(found) if found else None


# equivalence, worked out without the grader


def final(domain: Domain, task: Task, plan: Sequence[ToolCall]) -> tuple[str, bool, int]:
    """(the records as they end, whether it is handed over, how many writes are refused) when a plan's calls are made in a row."""
    db = domain.start(task)
    refused = 0
    for call in plan:
        tool = domain.tools_by_name.get(call.name)
        if tool is None or not tool.writes:
            continue
        refused += domain.execute(db, call).is_error
    handed_over = any(domain.is_transfer(call.name) for call in plan)
    changed = sorted({(name, key) for name, rows in (*db.changes().items(), *domain.reference_changes(task).items()) for key in rows})
    return repr([db.tables[name].get(key) for name, key in changed]), handed_over, refused


def why_equivalent(domain: Domain, task: Task, mutant: Mutant) -> str | None:
    """Why a mutant does nothing wrong; None where it does."""
    wanted, handed_over, _ = final(domain, task, task.criteria.actions)
    found, hands_over, refused = final(domain, task, mutant.plan)
    if found != wanted or (hands_over != handed_over) or (mutant.silent and task.criteria.communicate):
        return None
    if refused:
        return "a tool refuses what is added or repeated"
    calls = sorted(repr(call) for call in mutant.plan)
    if calls == sorted(repr(call) for call in task.criteria.actions):
        return "the same calls in an order that does not matter"
    return "other calls that leave the same records"


# the measurement


def _of_patterns(job: tuple[Sequence[int], int]) -> dict[str, Any]:
    places, each = job
    domain, patterns = retail(), every_pattern(retail())
    known = KnownTasks(domain)
    tasks = [task for at in places for task in make(domain, patterns[at], count=each, seed=21, seconds=4.0, known=known).tasks]
    writes = [call for task in tasks for call in task.criteria.actions if domain.tools_by_name[call.name].writes]
    earned: Counter[str] = Counter()
    broken: list[str] = []
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors: list[dict[str, Any]] = []
    for task in tasks:
        found = baselines(domain, task)
        earned.update(name for name, rewarded in found.items() if rewarded)
        broken += [f"{task.id}: {name}" for name, rewarded in found.items() if rewarded != (name == "reference")]
        own = [Mutant("mutations.py", foil.label, foil.plan(task.criteria.actions), foil.silent) for foil in _own(domain, task)]
        for mutant in (*own, *random_mutants(domain, task, writes, Random(f"mutants/{task.id}"), RANDOM)):
            kind = f"{mutant.source}: {mutant.kind}"
            counts[kind]["made"] += 1
            if survives(domain, task, mutant):
                reason = why_equivalent(domain, task, mutant)
                counts[kind]["equivalent" if reason else "survived"] += 1
                counts["reasons"][f"{kind}: {reason or 'SURVIVED'}"] += 1
                survivors.append(_shown(domain, task, mutant, reason))
    return {"tasks": len(tasks), "earned": earned, "broken": broken, "counts": dict(counts), "survivors": survivors}


def _own(domain: Domain, task: Task) -> list[Foil]:
    return mutants(domain, task, Random(f"own/{task.id}"), want=WANT)


def _shown(domain: Domain, task: Task, mutant: Mutant, reason: str | None) -> dict[str, Any]:
    reference = [call for call in task.criteria.actions if domain.tools_by_name[call.name].writes]
    made = [call for call in mutant.plan if call.name in domain.tools_by_name and domain.tools_by_name[call.name].writes]
    differs = [f"{call.name} {call.arguments}" for call in made if call not in reference] or ["the same writes"]
    return {"task": task.id, "source": mutant.source, "kind": mutant.kind, "why": reason or "", "calls": "; ".join(differs)[:300]}


def measure(count: int, *, processes: int) -> dict[str, Any]:
    """Over at least `count` tasks of all patterns."""
    places = range(len(every_pattern(retail())))
    each = -(-count // (len(places) - 20))  # some patterns have none
    jobs = [(places[start::processes], each) for start in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as workers:
        parts = list(workers.map(_of_patterns, jobs))
    total: dict[str, Any] = {"tasks": 0, "earned": Counter(), "broken": [], "counts": defaultdict(Counter), "survivors": []}
    for part in parts:
        total["tasks"] += part["tasks"]
        total["earned"] += part["earned"]
        total["broken"] += part["broken"]
        total["survivors"] += part["survivors"]
        for name, counts in part["counts"].items():
            total["counts"][name] += counts
    return total


def text(found: dict[str, Any]) -> str:
    """The tables."""
    tasks, counts = found["tasks"], found["counts"]
    names = ("reference", "nothing", "refuses everything", "transfer only")
    lines = ["| who plays | rewarded |", "|---|---|"]
    lines += [f"| {name} | {found['earned'][name]:,} of {tasks:,} |" for name in names]
    lines += [f"- wrong: {line}" for line in found["broken"][:_SHOWN]]
    lines += ["", "| mutants | made | equivalent | survived | killed, of those that are not equivalent |", "|---|---|---|---|---|"]
    reasons = counts.get("reasons", Counter())
    kinds = {kind: own for kind, own in sorted(counts.items()) if kind != "reasons"}
    for source in ("mutations.py", "random"):
        kinds[f"{source}, all"] = sum((own for kind, own in kinds.items() if kind.startswith(f"{source}:")), Counter())
    kinds["all"] = kinds["mutations.py, all"] + kinds["random, all"]
    for kind, own in kinds.items():
        made, same, alive = (own[name] for name in ("made", "equivalent", "survived"))
        lines.append(f"| {kind} | {made:,} | {same:,} | {alive:,} | {100 * (made - same - alive) / max(1, made - same):.2f} % |")
    lines += ["", "that earned the reward:"]
    lines += [f"- {count:,} {reason}" for reason, count in reasons.most_common()]
    shown: Counter[str] = Counter()
    for each in sorted(found["survivors"], key=lambda each: bool(each["why"])):
        reason = each["why"] or "SURVIVED"
        shown[reason] += 1
        if shown[reason] <= (_SHOWN if not each["why"] else 3):
            lines.append(f"  {reason}: {each['task']}, {each['source']}, {each['kind']}: {each['calls']}")
    return "\n".join(lines)
