"""Summaries of failure patterns by a language model: a title, a mechanism, and which tasks would provoke it. Optional, and checked.

    async with Model("openai/gpt-4o-mini", budget=Budget(max_cost=0.5)) as model:
        found = await asummarise(domain, report.patterns, trajectories, model)
    found.summaries, found.rejected, found.agreement

The deterministic stage stays in charge: the model is shown its patterns, and a sample counts only if it cites at least three runs
that were shown to it and that carry the label it claims. Of several samples those are kept that enough others agree with. Dialogues are
data that may hold instructions; whatever a model makes of them, only names of closed lists and two short texts come out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from string import Template

from pydantic import ValidationError

from sentinel_env.domain import Domain
from sentinel_env.errors import ConfigError, ModelError
from sentinel_env.llm import Model
from sentinel_env.llm_answers import json_in
from sentinel_env.messages import Message
from sentinel_env.prompt_texts import as_data
from sentinel_env.records import first_error
from sentinel_env.trajectory import Trajectory

from .consensus import SUPPORT, agreement, largest_group, summary_of, why_not
from .memory import Memory
from .opportunities import FEATURES
from .packets import Material, Packet, table
from .patterns import FailurePattern
from .summary import MECHANISM, TITLE, Agreement, Answer, Draft, Rejected, Summaries, Summary, answer_type

MOST = 6
"""Patterns that are asked about."""
_TABLE = 20
"""Patterns of the table that are shown."""
_LONGEST_ANSWER = 20_000


@dataclass(frozen=True)
class Sampling:
    """How often and how a model is asked about a pattern."""

    samples: int = 5
    needed: int = 3
    """Samples that must agree on the label."""
    temperature: float = 0.7
    seed: int = 0
    """The first sample's; each further one has the next."""
    max_tokens: int = 1500
    """Of one answer."""
    deadline: float = 300.0
    """Seconds for one sample."""

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.samples:
            raise ConfigError(f"of {self.samples} samples {self.needed} should agree; expected at least 1 and at most all of them")


def summarise(
    domain: Domain,
    patterns: Sequence[FailurePattern],
    trajectories: Iterable[Trajectory],
    model: Model,
    *,
    sampling: Sampling = Sampling(),
    memory: Memory | None = None,
    most: int = MOST,
    on_finished: Callable[[int], None] | None = None,
) -> Summaries:
    """`asummarise` for callers without an event loop; the model's connections are closed afterwards."""

    async def whole() -> Summaries:
        async with model:
            return await asummarise(
                domain, patterns, trajectories, model, sampling=sampling, memory=memory, most=most, on_finished=on_finished
            )

    return asyncio.run(whole())


async def asummarise(
    domain: Domain,
    patterns: Sequence[FailurePattern],
    trajectories: Iterable[Trajectory],
    model: Model,
    *,
    sampling: Sampling = Sampling(),
    memory: Memory | None = None,
    most: int = MOST,
    on_finished: Callable[[int], None] | None = None,
) -> Summaries:
    """Let a model put failure patterns into words, and keep what holds.

    Args:
        domain: The world of the run.
        patterns: What was mined; `choose` says which of them are asked about.
        trajectories: Those that were mined; read once.
        model: Asked once for each sample and pattern. Its budget ends the work cleanly: what is finished is kept.
        sampling: How often and how.
        memory: What earlier rounds saw and tried, for the model to read.
        most: How many patterns are asked about at most.
        on_finished: Called with the number of patterns that are through.

    Raises:
        DomainError: A tool crashed.
    """
    chosen = choose(patterns, most)
    material = Material(domain, chosen, trajectories)
    rows = table(sorted(patterns, key=lambda pattern: pattern not in chosen)[:_TABLE], memory or Memory())
    before = model.budget.spent
    round_ = _Round(domain, model, sampling, rows)
    for at, pattern in enumerate(chosen, 1):
        await round_.ask_about(pattern, material.packets(pattern))
        if on_finished:
            on_finished(at)
    spent = model.budget.spent
    return Summaries(
        model=model.name,
        samples=sampling.samples,
        needed=sampling.needed,
        temperature=sampling.temperature,
        seed=sampling.seed,
        summaries=tuple(round_.summaries),
        rejected=tuple(round_.rejected),
        agreement=round_.agreement,
        usage=spent - before,
        stopped=str(round_.stopped) if round_.stopped else None,
        out_of_budget=round_.stopped is not None and round_.stopped.kind == "budget",
    )


def choose(patterns: Sequence[FailurePattern], most: int = MOST) -> list[FailurePattern]:
    """The patterns that are asked about: those that recur first, then the others, as long as three runs show them."""
    shown = [pattern for pattern in patterns if len({each.trajectory for each in pattern.evidence}) >= SUPPORT]
    return sorted(shown, key=lambda pattern: not pattern.selected)[:most]


@dataclass
class _Round:
    """What has come of the patterns so far."""

    domain: Domain
    model: Model
    sampling: Sampling
    rows: Sequence[Mapping[str, object]]
    summaries: list[Summary] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    agreement: Agreement = field(default_factory=Agreement)
    stopped: ModelError | None = None

    async def ask_about(self, pattern: FailurePattern, packets: Sequence[Packet]) -> None:
        if self.stopped is not None:
            self._reject(pattern, f"not asked: {self.stopped}")
            return
        if sum(pattern.label in packet.labels for packet in packets) < SUPPORT:
            self._reject(pattern, f"fewer than {SUPPORT} of the runs that show it are at hand")
            return
        features = sorted({*FEATURES, *(name for packet in packets for name in packet.features)})
        templates = [kind.name for kind in self.domain.operations.kinds] if self.domain.operations else []
        expected = answer_type(pattern.id, features, templates)
        messages = _messages(pattern, self.rows, packets, expected, features)
        results = await asyncio.gather(*(self._sample(messages, expected, at) for at in range(self.sampling.samples)))
        self.stopped = _fatal(results)
        drafts: list[Draft] = []
        for at, result in enumerate(results):
            reason: object = result
            if isinstance(result, Draft):
                self.agreement += agreement(pattern, result, packets)
                reason = why_not(result, packets)
                if reason is None:
                    drafts.append(result)
            elif isinstance(result, ModelError):
                reason = f"{result.kind}: {result}"
            if reason is not None:
                self._reject(pattern, str(reason), at)
        agreed = largest_group(drafts)
        if len(agreed) >= self.sampling.needed:
            self.summaries.append(summary_of(pattern, agreed, needed=self.sampling.needed, samples=self.sampling.samples))
        else:
            kept = f"{len(agreed)} of {self.sampling.samples} samples hold and agree"
            self._reject(pattern, f"{kept}; {self.sampling.needed} are needed")

    def _reject(self, pattern: FailurePattern, reason: str, sample: int | None = None) -> None:
        self.rejected.append(Rejected(pattern_id=pattern.id, sample=sample, reason=reason))

    async def _sample(self, messages: Sequence[Message], expected: type[Answer], at: int) -> Draft | ModelError | str:
        """One sample: a draft, the model's trouble, or why the answer is none."""
        sampling = self.sampling
        try:
            completion = await self.model.complete(
                messages,
                schema=expected.model_json_schema(),
                temperature=sampling.temperature,
                seed=sampling.seed + at,
                max_tokens=sampling.max_tokens,
                deadline=sampling.deadline,
            )
        except ModelError as error:
            return error
        try:
            answer = expected.model_validate_json(json_in(completion.text[:_LONGEST_ANSWER]))
        except ValidationError as error:
            cut = "; it was cut at max_tokens" if completion.finish == "length" else ""
            return f"the answer does not fit the schema: {first_error(error)}{cut}"
        return answer.pattern or "it sees no common mistake"


def _fatal(results: Sequence[object]) -> ModelError | None:
    """Why asking on makes no sense: the budget is spent, the model refuses, or not one sample was answered."""
    errors = [result for result in results if isinstance(result, ModelError)]
    found = next((error for error in errors if error.kind in ("budget", "refused")), None)
    return found or (errors[0] if len(errors) == len(results) and errors[0].kind != "context" else None)


# asking


def _messages(
    pattern: FailurePattern,
    rows: Sequence[Mapping[str, object]],
    packets: Sequence[Packet],
    expected: type[Answer],
    features: Iterable[str],
) -> tuple[Message, Message]:
    template = Template(files("sentinel_env").joinpath("prompts", "summarise_pattern.md").read_text(encoding="utf-8"))
    rules = template.substitute(
        support=SUPPORT,
        title=TITLE,
        mechanism=MECHANISM,
        features="\n".join(f"- {name}: {FEATURES.get(name, 'a feature of this domain')}" for name in features),
        schema=json.dumps(expected.model_json_schema()),
    )
    data = {"pattern_id": pattern.id, "table": rows, "runs": [packet.content for packet in packets]}
    return Message(role="system", content=rules), Message(role="user", content=f"<data>\n{as_data(data)}\n</data>")
