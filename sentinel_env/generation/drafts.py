"""Drafts: a plan in words, with the mistakes that it must punish."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from random import Random

from sentinel_env.certificates import Foil
from sentinel_env.knobs import Voice
from sentinel_env.messages import ToolCall
from sentinel_env.operations import Operations
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Criteria, Scenario, Task, Wish

from .mistakes import own, tempting
from .mutations import mutants
from .plans import Miss, Plan
from .targets import UNPUNISHED, Target, slip_of
from .voices import PERSONAS, surround, word

FOILS = 7
"""How many foils a draft has, its own mistake included, where the plan and the database hold so many."""
_OTHERS = 3
"""How many other callers' requests are looked at for writes that nobody asked for."""
_TOGETHER = 0.3
"""The share of tasks with several wishes in which they are all raised at once, where nothing asks for either."""


def draft(operations: Operations, target: Target, plan: Plan, random: Random, *, split: str, seed: int) -> TaskProposal:
    """Word a plan, and add its foils.

    Raises:
        Miss: It cannot be worded as the pattern wants it.
    """
    domain, pattern = target.domain, target.pattern
    facts, identification, unknown = operations.introduce(plan.start, plan.subject, random)
    actions, ends = plan.actions(identification)
    wishes = [request.wish for request in plan.requests]
    together = plan.together if plan.together is not None else pattern.knobs.reveal == "together" if pattern.knobs.reveal else None
    if together is None:
        together = len(wishes) > 1 and random.random() < _TOGETHER
    voices = pattern.knobs.voices
    voice = voices[random.randrange(len(voices))] if len(voices) > 1 else voices[0]
    wishes = _voiced(target, plan, wishes, voice)
    opening, closing = surround(voice, random)
    basis = Criteria().basis
    task = Task(
        id="draft",
        domain=domain.name,
        scenario=Scenario(
            goal=" ".join(wish.slip or wish.text for wish in wishes),
            known={fact.slot: fact.text for fact in facts},
            unknown=unknown or None,
            instructions=_instructions(wishes),
            persona=PERSONAS.get(voice),
            opening=opening,
            closing=closing,
            facts=facts,
            wishes=tuple(wishes),
            reveal="together" if together else "one by one",
        ),
        criteria=Criteria(
            actions=tuple(actions),
            communicate=tuple(text for request in plan.requests for text in request.communicate),
            basis=basis if domain.handover is None else (*basis, "transfer"),
        ),
        changes=plan.changes,
        split=split,
        source=f"proposer:{pattern.id}",
    )
    digest = hashlib.sha256(task.model_dump_json().encode()).hexdigest()[:12]
    task = task.model_copy(update={"id": f"{pattern.label}-{digest}"})
    foils = _foils(operations, target, plan, task, ends)
    is_own = bool(foils) and foils[0].label == target.label
    return TaskProposal(
        pattern_id=pattern.id,
        draft=task,
        foils=tuple(foils),
        rationale=_rationale(target, plan),
        label=pattern.label,
        tools=pattern.tools,
        arguments=pattern.arguments,
        feature=pattern.feature,
        unpunished="" if is_own or target.is_general else UNPUNISHED.get(target.label, "this plan leaves no room for the mistake"),
        features=dict(plan.requests[plan.target].features),
        seed=seed,
    )


def _voiced(target: Target, plan: Plan, wishes: Sequence[Wish], voice: Voice) -> list[Wish]:
    """The wishes in a voice, the one with the opportunity with a slip where the pattern wants one.

    Raises:
        Miss: Every slip would name a record that another wish is about.
    """
    said = [wish.model_copy(update={"text": word(wish.text, voice)}) if voice == "brief" else wish for wish in wishes]
    if target.slips:
        others = frozenset[str]().union(*(request.touches for at, request in enumerate(plan.requests) if at != plan.target))
        slip = slip_of(plan.requests[plan.target], avoiding=others)
        if slip is None:
            raise Miss("every record that could be named by mistake is one that another wish is about")
        said[plan.target] = said[plan.target].model_copy(update={"slip": slip})
    return said


def _instructions(wishes: Sequence[Wish]) -> str | None:
    """What a model that plays the user must know beyond the goal."""
    slips = [wish for wish in wishes if wish.slip is not None]
    if not slips:
        return None
    return " ".join(
        f'You begin with "{wish.slip}", which is a mistake. When asked to confirm, you correct it: {wish.text}' for wish in slips
    )


def _foils(operations: Operations, target: Target, plan: Plan, task: Task, ends: Sequence[int]) -> list[Foil]:
    actions = task.criteria.actions
    found = tempting(target, plan, actions, ends[plan.target], task.criteria.communicate)
    mistake = own(target, plan, actions, ends)
    if mistake is not None:
        found = [mistake, *(foil for foil in found if foil.plan(actions) != mistake.plan(actions) or foil.silent)]
    random = Random(task.id)
    unasked = _unasked(operations, target, plan, random)
    more = mutants(target.domain, task, random, want=FOILS - len(found), beside=found, requests=plan.requests, unasked=unasked)
    return found + more


def _unasked(operations: Operations, target: Target, plan: Plan, random: Random) -> Iterator[ToolCall]:
    """What the same caller could have asked for besides, and then what others could."""
    db = plan.start.fork()
    for request in plan.requests:
        if request.wish.call is not None:
            target.domain.execute(db, request.wish.call)
    kinds = [kind for kind in operations.kinds if not (kind.refusal or kind.question)]
    for turn in range(1 + _OTHERS):
        subject = random.choice(operations.subjects(db)) if turn else plan.subject
        for kind in random.sample(kinds, len(kinds)):
            other = kind.request(db, subject, random)
            if other is not None and other.wish.call is not None:
                yield other.wish.call


def _rationale(target: Target, plan: Plan) -> str:
    request = plan.requests[plan.target]
    features = ", ".join(f"{name} {value}" for name, value in request.features.items())
    return f"{target.pattern.summary or target.label}: {plan.kind.tool}{f' with {features}' if features else ''}"
