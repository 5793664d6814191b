"""What is claimed of a draft against what the domain says: the opportunity it gives, the policy, and what the user's words mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.failures.findings import CAUSES, CONDUCT
from sentinel_env.failures.opportunities import Chance, ConductChances, Exposure
from sentinel_env.failures.writes import target_of
from sentinel_env.tasks import Fact, Wish

from .case import Case, Finding, Unchecked, is_write


def opportunity(case: Case) -> Finding:
    """The draft leaves room for the mistake that it is to stress, at the tool, argument and in the context that the pattern names."""
    label = case.proposal.label
    if label in CAUSES:
        return _cause(case)
    if label in CONDUCT:
        return _conduct(case)
    if label in ("general", "unconfirmed"):
        return Unchecked(f"the label {label} says nothing of a mistake")
    return f"there is no failure with the label {label!r:.80}"


def _cause(case: Case) -> str | None:
    proposal = case.proposal
    label, tools, arguments, feature = proposal.label, proposal.tools, proposal.arguments, proposal.feature
    chances = [chance for chance in _chances(case) if chance.is_of(label, tools, arguments)]
    place = f"{f' with {_listed(tools)}' if tools else ''}{f' in {_listed(arguments)}' if arguments else ''}"
    if not chances:
        return f"the reference leaves no room for {label}{place}"
    if feature is not None and not any(feature in chance.features for chance in chances):
        return f"the reference leaves room for {label}{place}, but not in the context {feature!r:.80}"
    return None


def _chances(case: Case) -> Iterable[Chance]:
    """The opportunities of the draft, as `Exposure` has them. Where no context is claimed, the frequent ones are seen without working
    out the contexts, which takes ten times as long."""
    label = case.proposal.label
    if case.proposal.feature is not None or label not in _SEEN_AT_ONCE:
        return Exposure(case.domain, case.task).chances
    if label == "missing_communicate":
        return [Chance(label) for _ in case.task.criteria.communicate]
    if label not in ("missing_write", "wrong_argument", "wrong_target_record"):
        return [Chance(label)]
    found = []
    for at, call in enumerate(case.actions):
        if is_write(case.domain, call):
            targets = dict(target_of(case.reference.before[at], call))
            if label == "missing_write" or (label == "wrong_target_record" and targets):
                found.append(Chance(label, call.name))
            elif label == "wrong_argument":
                found.extend(Chance(label, call.name, name) for name in call.arguments if name not in targets)
    return found


_SEEN_AT_ONCE = frozenset(("missing_write", "wrong_argument", "wrong_target_record", "missing_communicate", "extra_write", "unfinished"))


def _conduct(case: Case) -> str | None:
    label, tools = case.proposal.label, case.proposal.tools
    called = {call.name: None for call in case.actions if not tools or call.name in tools}
    counted = "tool_error" if label == "repeated_error" else label  # what was refused once can be refused again
    if called and _conduct_chances(case.domain).of_run(called)[counted]:
        return None
    return f"the reference leaves no room for {label}{f' with {_listed(tools)}' if tools else ''}"


@lru_cache(maxsize=8)
def _conduct_chances(domain: Domain) -> ConductChances:
    return ConductChances(domain)


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(name[:80] for name in names[:5])


def policy(case: Case) -> Finding:
    """No write of the reference is forbidden, and all of it is about one person."""
    domain, states = case.domain, case.reference.before
    if domain.forbids is None and domain.access is None:
        return Unchecked("the domain says neither what its policy forbids nor whose its records are")
    people: dict[str, int] = {}
    for at, call in enumerate(case.actions):
        if domain.forbids is not None and is_write(domain, call) and (why := domain.forbids(states[at], call)) is not None:
            return f"action {at} ({call.name}) is forbidden: {why}"
        owner = domain.access.owner(states[at], call) if domain.access is not None else None
        if owner is not None:
            people.setdefault(owner, at)
        if len(people) > 1:
            (first, *_), then = people, owner
            return f"action {at} ({call.name}) is about {then!r}, action {people[first]} about {first!r}; a task is about one person"
    return None


def uniqueness(case: Case) -> Finding:
    """The words of every fact mean its value and nothing else in the database."""
    domain, scenario = case.domain, case.task.scenario
    if domain.meanings is None:
        return Unchecked("the domain does not say what words mean")
    start, read = case.reference.before[0], 0
    for wish, fact in _facts(case):
        found = domain.meanings(start, scenario, wish, fact)
        if found is None:
            continue
        read += 1
        meant = list(found)
        others = [each for each in meant if not _same(each, fact.value)]
        said = f"{fact.slot[:80]} {fact.text!r:.120}"
        if len(others) == len(meant):
            return f"{said} does not mean {fact.value!r:.80}{f', but {others[0]!r:.80}' if others else ''}"
        if len(meant) > 1:
            return f"{said} means {fact.value!r:.80}, but also {(others or meant)[0]!r:.80}"
    return None if read else Unchecked("the domain cannot read the words of any fact")


def _facts(case: Case) -> Iterator[tuple[Wish | None, Fact]]:
    """Every fact that stands for a value, with its wish."""
    scenario = case.task.scenario
    yield from ((None, fact) for fact in scenario.facts if fact.value is not None)
    yield from ((wish, fact) for wish in scenario.wishes for fact in wish.facts if fact.value is not None)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON, where a tuple is a list."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
