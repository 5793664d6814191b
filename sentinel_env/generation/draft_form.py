"""What a model may write of a task: its words, facts, plan and mistakes; and the proposal that is made of them.

The form is narrower than `TaskProposal`: no id, split, source or changes to the database, a mistake as a whole wrong plan, every text one
bounded line, every number finite. Whether the task works is for the gates to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Optional, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, create_model

from sentinel_env.certificates import Foil
from sentinel_env.domain import Domain
from sentinel_env.failures import FailurePattern
from sentinel_env.failures.findings import CAUSES
from sentinel_env.failures.patterns import GENERAL
from sentinel_env.knobs import MOST_WRITES, Reveal
from sentinel_env.messages import ToolCall
from sentinel_env.proposals import TaskProposal
from sentinel_env.tasks import Criteria, Fact, Scenario, Task, Wish

_LARGEST = 2**53
"""Of a number; beyond it JSON readers disagree."""
_DEEPEST, _LONGEST_VALUE, _MOST_VALUES = 6, 400, 200


def one_line(text: str) -> str:
    """The text on one line.

    Raises:
        ValueError: It holds what no speaker says: markup, control characters, or the marks by which users end a conversation.
    """
    text = " ".join(text.split())
    if not text.isprintable() or set(text) & set("<>`{}") or "###" in text:
        raise ValueError("must be one line of plain text, without markup")
    return text


def _bounded(value: Any) -> Any:
    """A JSON value that every reader understands alike and that is no larger than an argument ever is."""
    for count, (depth, part) in enumerate(_parts(value)):
        if count > _MOST_VALUES or depth > _DEEPEST:
            raise ValueError(f"must have at most {_MOST_VALUES} values, at most {_DEEPEST} deep")
        if isinstance(part, str) and (len(part) > _LONGEST_VALUE or not part.isprintable()):
            raise ValueError(f"must have texts of at most {_LONGEST_VALUE} printable characters")
        if isinstance(part, int | float) and not abs(part) <= _LARGEST:  # which is so of NaN, too
            raise ValueError("must have no number that is not finite or beyond 2**53")
    return value


def _parts(value: Any) -> Iterator[tuple[int, Any]]:
    queue = [(0, value)]
    while queue:
        depth, part = queue.pop()
        yield depth, part
        inner = [*part, *part.values()] if isinstance(part, dict) else part if isinstance(part, list) else ()
        queue.extend((depth + 1, each) for each in inner)


def line(most: int, *, least: int = 1) -> Any:
    """The type of one line of plain text of bounded length."""
    return Annotated[str, Field(min_length=least, max_length=most), AfterValidator(one_line)]


Value = Annotated[JsonValue, AfterValidator(_bounded)]
Slot = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}$")]
Argument = Annotated[str, Field(pattern=r"^\w{1,64}$")]
Source = Annotated[str, Field(pattern=r"^(fact|read|policy|derived):", max_length=160), AfterValidator(one_line)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class WrittenCall(_Data):
    """One tool call."""

    name: str
    arguments: Annotated[dict[str, Value], AfterValidator(_bounded)]


class WrittenFact(_Data):
    """One thing that the user knows and says when asked."""

    slot: Slot
    text: line(300)  # type: ignore[valid-type]
    value: Value


class WrittenWish(_Data):
    """One thing that the user wants."""

    text: line(600)  # type: ignore[valid-type]
    call: WrittenCall | None
    facts: tuple[WrittenFact, ...] = Field(max_length=20)
    provenance: dict[Argument, Source] = Field(max_length=20)


class WrittenFoil(_Data):
    """A whole wrong plan."""

    label: str
    plan: tuple[WrittenCall, ...] = Field(max_length=40)
    silent: bool


class WrittenDraft(_Data):
    """What a model answers when it is asked for a task."""

    goal: line(1500)  # type: ignore[valid-type]
    known: tuple[WrittenFact, ...] = Field(max_length=8)
    unknown: line(300) | None  # type: ignore[valid-type]
    wishes: tuple[WrittenWish, ...] = Field(min_length=1, max_length=MOST_WRITES)
    reveal: Reveal
    actions: tuple[WrittenCall, ...] = Field(min_length=1, max_length=40)
    communicate: tuple[line(80), ...] = Field(max_length=5)  # type: ignore[valid-type]
    foils: tuple[WrittenFoil, ...] = Field(min_length=1, max_length=8)
    rationale: line(400, least=0)  # type: ignore[valid-type]


def form(domain: Domain, pattern: FailurePattern) -> type[WrittenDraft]:
    """`WrittenDraft` with the tools of a domain and the labels of mistakes: an unknown one does not validate, and the schema lists them."""
    several, optional = cast(Any, tuple), cast(Any, Optional)
    tools: Any = Literal[tuple(domain.tools_by_name)]
    labels: Any = Literal[tuple(dict.fromkeys([*CAUSES, *([pattern.label] if pattern.label != GENERAL else [])]))]
    call = create_model("Call", __base__=WrittenCall, name=(tools, ...))
    calls: Any = several[call, ...]
    wish = create_model("Wish", __base__=WrittenWish, call=(optional[call], ...))
    foil = create_model("Foil", __base__=WrittenFoil, label=(labels, ...), plan=(calls, Field(max_length=40)))
    fields: dict[str, Any] = {
        "wishes": (several[wish, ...], Field(min_length=1, max_length=MOST_WRITES)),
        "actions": (calls, Field(min_length=1, max_length=40)),
        "foils": (several[foil, ...], Field(min_length=1, max_length=8)),
    }
    return create_model("Draft", __base__=WrittenDraft, **fields)


def why_not(domain: Domain, pattern: FailurePattern, written: WrittenDraft) -> str | None:
    """What is wrong with a draft that no gate looks at, because the program's own drafts never have it; None where nothing."""
    wanted = [wish.call for wish in written.wishes if wish.call is not None]
    for at, call in enumerate(written.actions):
        if domain.tools_by_name[call.name].writes and call not in wanted:
            return f"reference action {at} ({call.name}) is a write that no wish has as its call"
    for at, call in enumerate(wanted):
        if call not in written.actions:
            return f"the call of wish {at} ({call.name}) is not among the actions"
    for at, foil in enumerate(written.foils):
        if foil.plan == written.actions and not foil.silent:
            return f"foil {at} ({foil.label}) makes the same calls as the actions; it must be a mistake"
    if pattern.label in CAUSES and not any(foil.label == pattern.label for foil in written.foils):
        return f"no foil is labelled {pattern.label}, which is the mistake that the task is for"
    return None


def proposal_of(domain: Domain, pattern: FailurePattern, written: WrittenDraft, *, model: str, split: str) -> TaskProposal:
    """The proposal that a written draft makes; its id is a digest of its content."""
    actions = tuple(_call(call) for call in written.actions)
    task = Task(
        id="draft",
        domain=domain.name,
        scenario=Scenario(
            goal=written.goal,
            known={fact.slot.replace("_", " "): fact.text for fact in written.known},
            unknown=written.unknown,
            facts=tuple(_fact(fact) for fact in written.known),
            wishes=tuple(
                Wish(
                    text=wish.text,
                    call=None if wish.call is None else _call(wish.call),
                    facts=tuple(_fact(fact) for fact in wish.facts),
                    provenance=dict(wish.provenance),
                )
                for wish in written.wishes
            ),
            reveal=written.reveal,
        ),
        criteria=Criteria(actions=actions, communicate=written.communicate),
        split=split,
        source=f"model:{model}",
    )
    foils = [Foil.between(foil.label, actions, [_call(call) for call in foil.plan], silent=foil.silent) for foil in written.foils]
    is_shown = pattern.label == GENERAL or any(foil.label == pattern.label for foil in foils)
    return TaskProposal(
        pattern_id=pattern.id,
        draft=task.model_copy(update={"id": f"{pattern.label}-{digest(task)}"}),
        foils=tuple(sorted(foils, key=lambda foil: foil.label != pattern.label)),
        rationale=written.rationale,
        label=pattern.label,
        tools=pattern.tools,
        arguments=pattern.arguments,
        feature=pattern.feature,
        unpunished="" if is_shown else f"the draft has no foil that shows {pattern.label}",
        model=model,
    )


def digest(task: Task) -> str:
    """Twelve characters that stand for a task's content."""
    return hashlib.sha256(task.model_dump_json().encode()).hexdigest()[:12]


def _call(call: WrittenCall) -> ToolCall:
    return ToolCall(name=call.name, arguments=dict(call.arguments))


def _fact(fact: WrittenFact) -> Fact:
    return Fact(slot=fact.slot, text=fact.text, value=fact.value)


def as_written(domain: Domain, task: Task) -> dict[str, Any]:
    """A task as a model would have written it, for an example; without foils of its own the mistake is to forget the last write."""
    actions, certificate = task.criteria.actions, task.certificate
    foils = certificate.foils if certificate is not None else ()
    if not foils:
        last = max((at for at, call in enumerate(actions) if domain.tools_by_name[call.name].writes), default=None)
        foils = (Foil(label="missing_write", at=last, drop=1) if last is not None else Foil(label="missing_communicate", silent=True),)
    shown = [foil for foil in foils if foil.label in CAUSES and not foil.mutant]
    scenario = task.scenario
    return {
        "goal": scenario.goal,
        "known": [fact.model_dump() for fact in scenario.facts],
        "unknown": scenario.unknown,
        "wishes": [
            {**wish.model_dump(include={"text", "facts", "provenance"}), "call": None if wish.call is None else _shown(wish.call)}
            for wish in scenario.wishes
        ],
        "reveal": scenario.reveal,
        "actions": [_shown(call) for call in actions],
        "communicate": list(task.criteria.communicate),
        "foils": [
            {"label": foil.label, "plan": [_shown(call) for call in foil.plan(actions)], "silent": foil.silent} for foil in shown[:2]
        ],
        "rationale": "",
    }


def _shown(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}
