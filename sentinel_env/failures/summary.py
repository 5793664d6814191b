"""What a language model may say about a failure pattern, and what is kept of it.

A `Draft` is untrusted: every choice in it is one of a closed list, and the only free text, title and mechanism, is short and one line
each. The lists that depend on the domain are filled in by `answer_type`, which also gives the JSON schema that the model is held to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from sentinel_env import knobs
from sentinel_env.llm_budget import Usage

from .findings import Cause, Conduct
from .patterns import FailurePattern

TITLE, MECHANISM = 80, 400
"""The longest texts, in characters."""
ANY = "any"
"""The template of no particular operation."""


def _plain(text: str) -> str:
    text = " ".join(text.split())
    if not text.isprintable() or set(text) & set("<>`{}"):
        raise ValueError("must be one line of plain text, without markup")
    return text


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Citation(_Data):
    """A message that shows the mistake."""

    trajectory: str
    step: int = Field(ge=0)
    """Index into the trajectory's messages; its length where something is missing at the end."""


class Knobs(_Data):
    """How hard a task should be, for the Proposer."""

    siblings: int = Field(ge=0, le=5)
    """Neighbouring values that are easily mistaken for the wanted one."""
    other_records: int = Field(ge=0, le=5)
    """Other records of the caller that could be meant."""
    writes: int = Field(ge=1, le=4)
    reveal: Literal["together", "one by one"]
    distractor: Literal["none", "sibling", "other_record", "refusal", "question"]
    """What else the task should hold to lead the agent astray."""


class Generator(_Data):
    """Which tasks would provoke the mistake."""

    template: str
    """The name of one of the domain's operations, or "any"."""
    knobs: Knobs


class Draft(_Data):
    """One sample of a model, as far as its form can be checked."""

    pattern_id: str
    parent_label: Literal[Cause, Conduct]
    title: Annotated[str, Field(min_length=3, max_length=TITLE), AfterValidator(_plain)]
    mechanism: Annotated[str, Field(min_length=3, max_length=MECHANISM), AfterValidator(_plain)]
    trigger_context: tuple[str, ...] = Field(max_length=8)
    evidence: tuple[Citation, ...] = Field(max_length=20)
    counter_evidence: tuple[str, ...] = Field(max_length=20)
    generator: Generator
    expected_foil: Cause
    confidence: float = Field(ge=0, le=1)


class Answer(_Data):
    """What a model answers; None where it sees no common mistake."""

    pattern: Draft | None


def answer_type(pattern_id: str, features: Iterable[str], templates: Iterable[str]) -> type[Answer]:
    """`Answer` with the names that may stand in it: an unknown one does not validate, and its JSON schema lists the known ones."""

    def one_of(names: Iterable[str]) -> Any:
        return Literal[tuple(dict.fromkeys(names))]

    generator = create_model("Generator", __base__=Generator, template=(one_of((*templates, ANY)), ...))
    several: Any = tuple
    contexts: Any = (several[one_of(features), ...], Field(max_length=8))
    fields: dict[str, Any] = {"pattern_id": (one_of([pattern_id]), ...), "trigger_context": contexts, "generator": (generator, ...)}
    draft: Any = create_model("Draft", __base__=Draft, **fields)
    whole: Any = (draft | None, ...)
    return create_model("Answer", __base__=Answer, pattern=whole)


class Summary(_Data):
    """What several samples agree on about a pattern. Its title and mechanism are a model's words: show them as text, never obey them."""

    pattern_id: str
    parent_label: Literal[Cause, Conduct]
    title: str
    mechanism: str
    trigger_context: tuple[str, ...]
    evidence: tuple[Citation, ...]
    """Exists, and is labelled with the parent label by the deterministic stage."""
    counter_evidence: tuple[str, ...]
    """Trajectories that passed."""
    generator: Generator
    expected_foil: Cause
    confidence: float
    """The mean of the samples' own; nothing says that it is calibrated."""
    support: int
    """Samples that agree."""
    samples: int
    """Samples that were asked for."""
    agrees: bool
    """Whether the parent label is the one that the deterministic stage gave the pattern."""


class Rejected(_Data):
    """A sample, or a pattern, of which nothing is kept."""

    pattern_id: str
    sample: int | None = None
    """From 0; None where it is about the pattern as a whole."""
    reason: str


class Agreement(_Data):
    """How far well-formed samples, kept or not, say what the deterministic stage says. The model is shown those labels, so a high figure
    is no independent confirmation; a low one is a warning."""

    drafts: int = 0
    same_label: int = 0
    """Drafts whose parent label is the pattern's."""
    steps: int = 0
    """Citations of trajectories that were shown."""
    near_steps: int = 0
    """Of these, within two messages of a step that the deterministic stage names."""

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(**{name: getattr(self, name) + getattr(other, name) for name in Agreement.model_fields})

    @property
    def rate(self) -> float | None:
        """The share of drafts with the pattern's own label."""
        return self.same_label / self.drafts if self.drafts else None


class Summaries(_Data):
    """The outcome for all patterns that were looked at."""

    model: str
    samples: int
    needed: int
    """Samples that had to agree."""
    temperature: float
    seed: int
    summaries: tuple[Summary, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    """Samples and patterns of which nothing was kept, with the reason."""
    agreement: Agreement = Agreement()
    usage: Usage = Usage()
    stopped: str | None = None
    """Why not every pattern was asked about: the budget, or a model that cannot be asked."""
    out_of_budget: bool = False
    """Whether it was the budget."""

    def applied(self, patterns: Sequence[FailurePattern]) -> tuple[FailurePattern, ...]:
        """The patterns with the title, mechanism and knobs of their summaries in the place of the program's; nothing else changes."""
        found = {
            each.pattern_id: {"summary": f"{each.title}: {each.mechanism}", "knobs": _as_knobs(each.generator)} for each in self.summaries
        }
        return tuple(pattern.model_copy(update=found.get(pattern.id, {})) for pattern in patterns)


def _as_knobs(generator: Generator) -> knobs.Knobs:
    """What a model asks of the tasks, as the Proposer takes it."""
    wanted = generator.knobs
    return knobs.Knobs(
        operation=None if generator.template == ANY else generator.template,
        writes=wanted.writes,
        siblings=max(wanted.siblings, wanted.distractor == "sibling"),
        other_records=max(wanted.other_records, wanted.distractor == "other_record"),
        reveal=wanted.reveal,
        refusal=True if wanted.distractor == "refusal" else None,
        question=True if wanted.distractor == "question" else None,
    )
