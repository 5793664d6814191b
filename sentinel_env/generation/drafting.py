"""Whole drafts by a language model: untrusted data, through the same gates as the program's own.

    async with Model("openai/gpt-4o-mini", budget=Budget(max_cost=0.5)) as model:
        found = await adraft_tasks(domain, pattern, model, n=20, known=domain.tasks_by_id.values())
    found.tasks, found.counts, found.usage, found.stopped

The model is shown the failure spec, the domain's rules and tools, a slice of the database about one subject, and an example. What it
answers is held to a narrow form, made a proposal, and examined; a draft that is refused goes back with the gate's reason a few times.
Nothing that it writes is executed but calls of the domain's tools, on a fork.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict

from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError, TaskError
from sentinel_env.failures import FailurePattern, check_pattern
from sentinel_env.llm import Model
from sentinel_env.llm_budget import Usage
from sentinel_env.proposals import TaskProposal, Verdict
from sentinel_env.tasks import Task
from sentinel_env.verification import KnownTasks, verify_proposal

from .draft_form import WrittenDraft, as_written, form, proposal_of, why_not
from .inquiry import ANSWER, INTERRUPTED, Asking, Inquiry, Question, Refusal, final_reasons, prompt
from .mutations import mutants
from .slices import Subject, draw, leaves, named_by, subjects

_EXAMPLES = 2
_FOILS = 6
"""How many mistakes every draft comes with, the model's own included."""
_LONGEST_POLICY = 20_000
ASKING = Asking()


class Drafts(BaseModel):
    """What came of asking a model for tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern_id: str
    model: str
    wanted: int
    verdicts: tuple[Verdict, ...] = ()
    """Of each draft that had the form of one, its last version, in the order in which they were asked for."""
    refused: tuple[Refusal, ...] = ()
    """Every answer that was refused, repairs included, and every call without an answer."""
    repaired: int = 0
    """Accepted drafts that were refused at first."""
    counts: dict[str, int] = {}
    """What refused the drafts for good: a gate's name, "answer" where the answer had not the form of a draft, "model" where there was
    none. With the accepted ones it makes up all that were asked for before the work ended."""
    usage: Usage = Usage()
    stopped: str | None = None
    """Why not all of them were asked for: the budget, a model that cannot be asked, an interruption."""
    out_of_budget: bool = False
    """Whether it was the budget."""

    @property
    def proposals(self) -> tuple[TaskProposal, ...]:
        """The accepted drafts with their foils."""
        return tuple(verdict.proposal for verdict in self.verdicts if verdict.task is not None)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The accepted tasks with their certificates."""
        return tuple(verdict.task for verdict in self.verdicts if verdict.task is not None)


def draft_tasks(
    domain: Domain,
    pattern: FailurePattern,
    model: Model,
    *,
    n: int,
    seed: int = 0,
    split: str = "train",
    known: KnownTasks | Iterable[Task] = (),
    asking: Asking = ASKING,
    on_finished: Callable[[int], None] | None = None,
) -> Drafts:
    """`adraft_tasks` for callers without an event loop; the model's connections are closed afterwards.

    Interrupted from the keyboard, it returns what it has.
    """
    drafting = _Drafting(domain, pattern, model, n, seed, split, known, asking, on_finished)

    async def whole() -> None:
        async with model:
            await drafting.inquiry.run()

    try:
        asyncio.run(whole())
    except KeyboardInterrupt:
        drafting.inquiry.examine_rest()
        return drafting.result(INTERRUPTED)
    return drafting.result()


async def adraft_tasks(
    domain: Domain,
    pattern: FailurePattern,
    model: Model,
    *,
    n: int,
    seed: int = 0,
    split: str = "train",
    known: KnownTasks | Iterable[Task] = (),
    asking: Asking = ASKING,
    on_finished: Callable[[int], None] | None = None,
) -> Drafts:
    """Let a model write tasks that stress a failure pattern, and keep those that pass every gate.

    Args:
        domain: The world.
        pattern: What to stress. Its words may be a model's own; they are shown as data.
        model: Asked once for each draft and once for each repair. Its budget ends the work cleanly: what is finished is kept.
        n: How many drafts are asked for.
        seed: Same seed, same questions.
        split: The split that the tasks are for. No subject is drawn that shares a record with a task of another split.
        known: Tasks that the new ones must differ from, such as those of the domain; each accepted one is known to those that follow.
            `KnownTasks` also say what is held out.
        asking: How the model is asked.
        on_finished: Called with the number of drafts that are through.

    Raises:
        ConfigError: The pattern is about another domain, or names a tool or argument that it does not have; or n is not above 0.
        DomainError: A tool crashed.
    """
    drafting = _Drafting(domain, pattern, model, n, seed, split, known, asking, on_finished)
    await drafting.inquiry.run()
    return drafting.result()


class _Drafting:
    """One job: what is asked, and what has come of it so far."""

    def __init__(
        self,
        domain: Domain,
        pattern: FailurePattern,
        model: Model,
        n: int,
        seed: int,
        split: str,
        known: KnownTasks | Iterable[Task],
        asking: Asking,
        on_finished: Callable[[int], None] | None,
    ) -> None:
        check_pattern(domain, pattern)
        if n < 1:
            raise ConfigError(f"ask for at least one draft, found n={n}")
        self.domain, self.pattern, self.model, self.split = domain, pattern, model, split
        self._seed = f"{seed}/{pattern.id}/{split}"
        self._known = known if isinstance(known, KnownTasks) else KnownTasks(domain, known)
        self._pool = subjects(domain, split)
        self._form = form(domain, pattern)
        self._rules = prompt(
            "draft_task",
            label=pattern.label if pattern.label != "general" else "missing_write",
            schema=json.dumps(self._form.model_json_schema()),
        )
        self._verdicts: dict[int, Verdict] = {}
        self._keys: dict[int, frozenset[str]] = {}
        self._wanted = n
        items = n if self._pool else 0
        self.inquiry = Inquiry(model, items, self._question, self._examine, asking=asking, on_finished=on_finished)

    def _question(self, item: int) -> Question:
        random = Random(f"{self._seed}/{item}")
        subject, records = draw(self.domain, self._pool, random)
        self._keys[item] = frozenset(key for table in records.values() for key in table)
        shown = ("label", "tools", "arguments", "feature", "knobs", "kinds", "summary")
        data = {
            "mistake": self.pattern.model_dump(mode="json", include=set(shown), exclude_defaults=True),
            "policy": self.domain.policy[:_LONGEST_POLICY],
            "tools": [tool.schema["function"] | {"writes": tool.writes} for tool in self.domain.tools],
            "examples": self._examples(subject, random),
            "subject": subject.name,
            "records": records,
        }
        return Question(self._rules, data, self._form, random.randrange(2**31))

    def _examples(self, subject: Subject, random: Random) -> list[dict[str, Any]]:
        """Tasks of the split in the form that is wanted, those first that use the pattern's tools; none that is about the subject."""
        own = {key for _, key in subject.places}
        tasks = [
            task
            for task in self.domain.tasks_by_id.values()
            if task.split == self.split
            and own.isdisjoint(text for call in task.criteria.actions for _, text in leaves(call.arguments))
            and all(call.name in self.domain.tools_by_name for call in task.criteria.actions)
        ]
        random.shuffle(tasks)
        tools = set(self.pattern.tools)
        tasks.sort(key=lambda task: tools.isdisjoint(call.name for call in task.criteria.actions))
        return [as_written(self.domain, task) for task in tasks[:_EXAMPLES]]

    def _examine(self, item: int, written: WrittenDraft) -> tuple[str, str] | None:
        lack = why_not(self.domain, self.pattern, written) or self._elsewhere(item, written)
        if lack is not None:
            return ANSWER, lack
        proposal = self._with_mutants(proposal_of(self.domain, self.pattern, written, model=self.model.name, split=self.split))
        verdict = self._verdicts[item] = verify_proposal(self.domain, proposal, known=self._known)
        if verdict.task is not None:
            self._known.add(verdict.task)
            return None
        gate = verdict.rejected_by
        return (gate.name, gate.reason) if gate is not None else ("verification", "it was not accepted")

    def _with_mutants(self, proposal: TaskProposal) -> TaskProposal:
        """The proposal with as many mistakes as the program's own have, made from the plan, where the plan can be carried out."""
        task, foils = proposal.draft, proposal.foils
        try:
            self.domain.reference_changes(task)
        except TaskError:
            return proposal  # whose gate says why
        more = mutants(self.domain, task, Random(task.id), want=_FOILS - len(foils), beside=foils)
        return proposal.model_copy(update={"foils": (*foils, *more)})

    def _elsewhere(self, item: int, written: WrittenDraft) -> str | None:
        """Whether the plan uses a record that was not shown: it may belong to a task of another split."""
        for at, call in enumerate(written.actions):
            for _, text in leaves(call.arguments):
                if text not in self._keys[item] and named_by(self.domain.base, text):
                    return f"reference action {at} ({call.name}) uses {text!r}, which is not among the records"
        return None

    def result(self, stopped: str | None = None) -> Drafts:
        """What there is by now."""
        inquiry = self.inquiry
        accepted = {item: verdict for item, verdict in self._verdicts.items() if verdict.task is not None}
        if not self._pool:
            stopped = f"no subject of domain {self.domain.name} shares no record with a task of another split than {self.split!r}"
        elif stopped is None and inquiry.stopped is not None:
            stopped = str(inquiry.stopped)
        refused_once = {refusal.item for refusal in inquiry.refused}
        return Drafts(
            pattern_id=self.pattern.id,
            model=self.model.name,
            wanted=self._wanted,
            verdicts=tuple(verdict for _, verdict in sorted(self._verdicts.items())),
            refused=tuple(inquiry.refused),
            repaired=len(refused_once & accepted.keys()),
            counts=dict(Counter(refusal.gate for refusal in final_reasons(inquiry.refused, accepted).values())),
            usage=inquiry.usage,
            stopped=stopped,
            out_of_budget=inquiry.stopped is not None and inquiry.stopped.kind == "budget",
        )
