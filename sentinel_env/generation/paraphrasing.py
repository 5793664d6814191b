"""Other words for accepted tasks, by a language model: a customer's wishes in a voice, checked to say all and only what they said.

    found = paraphrase(domain, proposals, Model("openai/gpt-4o-mini"), voices=("chatty", "upset"))
    found.kept              # each that was given, reworded where the words held, as it was where not

Only words change: the facts' values, the plan and the criteria stay. Every text is compared with its original (`slot_check`), the domain
reads what the words of a fact mean where it can, and then the task goes through every gate again. What fails goes back once with the
reason; then the original words are kept.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from sentinel_env.database import Database
from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError, TaskError
from sentinel_env.knobs import VOICES, Voice
from sentinel_env.llm import Model
from sentinel_env.llm_budget import Usage
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Scenario, Task
from sentinel_env.verification import KnownTasks, as_proposal, verify_proposal

from .draft_form import digest, line
from .inquiry import INTERRUPTED, Asking, Inquiry, Question, Refusal, final_reasons, prompt
from .slot_check import Slots, slots_of, why_not
from .spoken import in_form, other_form, texts_of, with_texts

ASKING = Asking(repairs=1, max_tokens=1500)
_LONGEST = 800

Given = Task | TaskProposal


class Rewordings(BaseModel):
    """What came of asking a model for other words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    kept: tuple[TaskProposal | Task, ...] = ()
    """Each that was given, in its order: reworded where the words held, as it was where not."""
    reworded: int = 0
    refused: tuple[Refusal, ...] = ()
    """Every answer that was refused, repairs included, and every call without an answer."""
    counts: dict[str, int] = {}
    """Why the originals were kept: "slots" and "meaning" for what the words say, a gate's name, "answer", or "model"."""
    usage: Usage = Usage()
    stopped: str | None = None
    """Why not all of them were asked for: the budget, a model that cannot be asked, an interruption."""
    out_of_budget: bool = False
    """Whether it was the budget."""


def paraphrase(
    domain: Domain,
    given: Sequence[Given],
    model: Model,
    *,
    seed: int = 0,
    voices: Sequence[Voice] = VOICES,
    known: KnownTasks | Iterable[Task] = (),
    asking: Asking = ASKING,
    on_finished: Callable[[int], None] | None = None,
) -> Rewordings:
    """`aparaphrase` for callers without an event loop; the model's connections are closed afterwards.

    Interrupted from the keyboard, it returns what it has.
    """
    rewording = _Rewording(domain, given, model, seed, voices, known, asking, on_finished)

    async def whole() -> None:
        async with model:
            await rewording.inquiry.run()

    try:
        asyncio.run(whole())
    except KeyboardInterrupt:
        rewording.inquiry.examine_rest()
        return rewording.result(INTERRUPTED)
    return rewording.result()


async def aparaphrase(
    domain: Domain,
    given: Sequence[Given],
    model: Model,
    *,
    seed: int = 0,
    voices: Sequence[Voice] = VOICES,
    known: KnownTasks | Iterable[Task] = (),
    asking: Asking = ASKING,
    on_finished: Callable[[int], None] | None = None,
) -> Rewordings:
    """Let a model put tasks into other words, and keep what says the same.

    Args:
        domain: The world.
        given: Tasks with their certificates, or proposals. Those that do not pass the gates as they are do not pass them reworded.
        model: Asked once for each, and once more where the words do not hold. Its budget ends the work cleanly.
        seed: Same seed, same voices and questions.
        voices: One of them is drawn for each.
        known: Tasks that they must differ from, as in verification. Those given are left out; `KnownTasks` must not hold them.
        asking: How the model is asked.
        on_finished: Called with the number of tasks that are through.

    Raises:
        ConfigError: No voice is given.
        DomainError: A tool crashed.
    """
    rewording = _Rewording(domain, given, model, seed, voices, known, asking, on_finished)
    await rewording.inquiry.run()
    return rewording.result()


@dataclass(frozen=True)
class _Item:
    """One task that is to be reworded."""

    given: Given
    proposal: TaskProposal
    db: Database | None
    """As the task finds it; None where its changes do not fit."""
    slots: Slots
    texts: Mapping[str, str]


class _Rewording:
    """One job: what is asked, and what has come of it so far."""

    def __init__(
        self,
        domain: Domain,
        given: Sequence[Given],
        model: Model,
        seed: int,
        voices: Sequence[Voice],
        known: KnownTasks | Iterable[Task],
        asking: Asking,
        on_finished: Callable[[int], None] | None,
    ) -> None:
        if not voices:
            raise ConfigError("no voice is given; name at least one, such as plain")
        self.domain, self.given, self.model, self.voices, self.seed = domain, tuple(given), model, tuple(voices), seed
        own = {each.id if isinstance(each, Task) else each.draft.id for each in given}
        self._known = known if isinstance(known, KnownTasks) else KnownTasks(domain, [task for task in known if task.id not in own])
        self._items: dict[int, _Item] = {}
        self._reworded: dict[int, Given] = {}
        self.inquiry = Inquiry(model, len(self.given), self._question, self._examine, asking=asking, on_finished=on_finished)

    def _question(self, item: int) -> Question:
        prepared = self._items[item] = self._prepare(self.given[item])
        random = Random(f"{self.seed}/{prepared.proposal.draft.id}")
        voice = self.voices[random.randrange(len(self.voices))]
        fields: Any = {name: (line(_LONGEST), ...) for name in prepared.texts}
        expected = create_model("Texts", __config__=ConfigDict(extra="forbid", strict=True), **fields)
        rules = prompt("reword_task", voice=voice, schema=json.dumps(expected.model_json_schema()))
        return Question(rules, {"texts": dict(prepared.texts)}, expected, random.randrange(2**31))

    def _prepare(self, given: Given) -> _Item:
        proposal = (as_proposal(given) or TaskProposal(pattern_id="general", draft=given)) if isinstance(given, Task) else given
        db: Database | None = None  # where a gate says what is wrong
        with suppress(TaskError):
            db = self.domain.start(proposal.draft)
        slots = slots_of(self.domain, db or self.domain.base, proposal.draft)
        return _Item(given, proposal, db, slots, dict(texts_of(proposal.draft.scenario)))

    def _examine(self, item: int, answer: BaseModel) -> tuple[str, str] | None:
        prepared = self._items[item]
        texts = {name: in_form(prepared.texts[name], text) if "fact" in name else text for name, text in answer.model_dump().items()}
        if all(texts[name] == prepared.texts[name] for name in texts):
            return "slots", "it changes nothing"
        for name, original in prepared.texts.items():
            reason = why_not(prepared.slots, original, texts[name])
            if reason is None and "fact" in name:
                reason = other_form(original, texts[name])
            if reason is not None:
                return "slots", f"{name}: {reason}"
        before, after = prepared.proposal.draft.scenario, with_texts(prepared.proposal.draft.scenario, texts)
        if (reason := _other_meaning(self.domain, prepared.db, before, after)) is not None:
            return "meaning", reason
        proposal = _reworded(prepared.proposal, after, self.model.name)
        verdict = verify_proposal(self.domain, proposal, known=self._known)
        if verdict.task is None:
            gate = verdict.rejected_by
            return (gate.name, gate.reason) if gate is not None else ("verification", "it was not accepted")
        self._known.add(verdict.task)
        self._reworded[item] = verdict.task if isinstance(prepared.given, Task) else verdict.proposal
        return None

    def result(self, stopped: str | None = None) -> Rewordings:
        """What there is by now."""
        inquiry = self.inquiry
        if stopped is None and inquiry.stopped is not None:
            stopped = str(inquiry.stopped)
        return Rewordings(
            model=self.model.name,
            kept=tuple(self._reworded.get(at, each) for at, each in enumerate(self.given)),
            reworded=len(self._reworded),
            refused=tuple(inquiry.refused),
            counts=dict(Counter(refusal.gate for refusal in final_reasons(inquiry.refused, self._reworded).values())),
            usage=inquiry.usage,
            stopped=stopped,
            out_of_budget=inquiry.stopped is not None and inquiry.stopped.kind == "budget",
        )


def _other_meaning(domain: Domain, db: Database | None, before: Scenario, after: Scenario) -> str | None:
    """Whether the domain reads anything but the fact's value in its other words, or cannot read them any more."""
    if domain.meanings is None or db is None:
        return None
    for was, now in zip(before.wishes, after.wishes, strict=True):
        for old, new in zip(was.facts, now.facts, strict=True):
            if new.value is None:
                continue
            found = domain.meanings(db, after, now, new)
            if found is None and domain.meanings(db, before, was, old) is None:
                continue
            if found is None or list(found) != [new.value]:
                read = "nothing that can be read" if found is None else f"{len(found)} things"
                return f"{new.slot}: in other words, {new.text!r} could mean {read}; it must mean exactly what it did"
    return None


_DIGEST = re.compile(r"-[0-9a-f]{12}$")


def _reworded(proposal: TaskProposal, scenario: Scenario, model: str) -> TaskProposal:
    draft = proposal.draft.model_copy(update={"scenario": scenario})
    draft = draft.model_copy(update={"id": f"{_DIGEST.sub('', draft.id)}-{digest(draft)}"})
    names = dict.fromkeys([*([proposal.model] if proposal.model else []), model])
    return proposal.model_copy(update={"draft": draft, "model": ", ".join(names)})
