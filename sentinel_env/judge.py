"""A model as the judge of tau2-bench's natural-language assertions, for those who ask for one; `evaluate` never does.

    with JudgementFile(judgements_beside("runs/first")) as file:
        judgements = judge(trajectories, Model("openai/gpt-4o-mini", budget=Budget(max_cost=1.0)), file)
    score_by_split(domain, trajectories, judgements)["all"].judged

The judge sees the dialogue with its tool calls and their answers, and the assertion; not the scenario, the policy or the reference. The
dialogue is data: it goes in as JSON without angle brackets, so nothing that was said in it can close the tags around it, and only a JSON
object with a `reason` and a true or false `met` counts as an answer. Everything else is "not judged", with the reason: never a pass,
never a failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictBool, ValidationError

from .errors import ConfigError, ModelError
from .judgements import FINAL, Judgement, JudgementFile, Judgements, NotJudged, assertions_of, kept_for
from .llm import Model
from .llm_answers import json_in
from .messages import Message
from .prompt_texts import as_data, fill
from .records import first_error
from .trajectory import Trajectory

_LONGEST_ANSWER = 20_000
_LONGEST_REASON = 1000
_MAX_TOKENS = 2048
_IN_A_ROW = 12
"""So many questions without an answer, one after the other, and the judge is taken to be down."""
_DECLINED = re.compile(r"declined to answer|ContentPolicy|content[ _](?:filter|management|policy)", re.I)
_FROM = {"assistant": "agent", "user": "customer", "tool": "tool", "system": "system"}


class Answer(BaseModel):
    """The only form of answer that counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    met: StrictBool


def judge(
    trajectories: Iterable[Trajectory],
    model: Model,
    file: JudgementFile | None = None,
    *,
    concurrency: int = 8,
    on_judged: Callable[[int], None] | None = None,
) -> Judgements:
    """`ajudge` for callers without an event loop; it asks the server whether it is there first, and closes the connections afterwards."""

    async def whole() -> Judgements:
        async with model:
            wanted = list(trajectories)
            if any(True for _ in _open(wanted, model.name, file)):
                await model.check()
            return await ajudge(wanted, model, file, concurrency=concurrency, on_judged=on_judged)

    return asyncio.run(whole())


async def ajudge(
    trajectories: Iterable[Trajectory],
    model: Model,
    file: JudgementFile | None = None,
    *,
    concurrency: int = 8,
    on_judged: Callable[[int], None] | None = None,
) -> Judgements:
    """Ask a model about each natural-language assertion of each trajectory, one question each.

    Args:
        trajectories: Those that infrastructure ended, or without assertions, are passed over.
        model: The judge. Its budget, or a refusal such as of its key, ends the asking; what is judged by then is kept.
        file: What was judged before is taken from here, and every verdict is added at once; None keeps nothing.
        concurrency: Questions in flight.
        on_judged: Called with the number of questions that are through, earlier ones included.

    Raises:
        ConfigError: A concurrency below 1, or a file that cannot be written.
    """
    if concurrency < 1:
        raise ConfigError(f"concurrency must be at least 1, found {concurrency}")
    wanted = list(trajectories)
    found = Judgements(model.name)
    for trajectory, assertion in questions(wanted):
        row = kept_for(file.kept, _key(trajectory, assertion, model.name)) if file is not None else None
        if row is not None:
            found.rows[trajectory.id, assertion] = row
    before, in_a_row = model.spent, 0
    still_open = iter(list(_open(wanted, model.name, file)))

    async def work() -> None:
        nonlocal in_a_row
        for trajectory, assertion in still_open:
            if found.stopped is not None:
                return
            row, error = await _ask(trajectory, assertion, model)
            found.rows[trajectory.id, assertion] = row
            in_a_row = in_a_row + 1 if error is not None else 0
            if error is not None and (error.kind in ("budget", "refused") or in_a_row >= _IN_A_ROW):
                found.stopped = found.stopped or str(error)
            if file is not None and (row.met is not None or row.not_judged in FINAL):
                file.add(row)
            if on_judged:
                on_judged(len(found.rows))

    if on_judged and found.rows:
        on_judged(len(found.rows))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    found.usage = model.spent - before
    return found


def questions(trajectories: Iterable[Trajectory]) -> Iterator[tuple[Trajectory, str]]:
    """What there is to ask."""
    return ((trajectory, assertion) for trajectory in trajectories for assertion in assertions_of(trajectory))


def _open(trajectories: Sequence[Trajectory], model: str, file: JudgementFile | None) -> Iterator[tuple[Trajectory, str]]:
    kept = file.kept if file is not None else {}
    return (each for each in questions(trajectories) if kept_for(kept, _key(*each, model)) is None)


async def _ask(trajectory: Trajectory, assertion: str, model: Model) -> tuple[Judgement, ModelError | None]:
    """What became of a question, with the trouble where asking again may help."""
    name, text, key, shown = _key(trajectory, assertion, model.name)
    row = Judgement(trajectory=name, assertion=text, model=key, shown=shown)

    def without(why: NotJudged, reason: str) -> Judgement:
        return row.model_copy(update={"not_judged": why, "reason": reason[:_LONGEST_REASON]})

    try:
        messages = shown_to_judge(trajectory, assertion)
        completion = await model.complete(
            messages, schema=Answer.model_json_schema(), temperature=0.0, seed=0, max_tokens=_MAX_TOKENS, may_be_empty=True
        )
    except ModelError as error:
        declined = error.kind == "refused" and _DECLINED.search(str(error)) is not None
        kind: NotJudged = "declined" if declined else error.kind
        return without(kind, str(error)), None if kind in FINAL else error
    try:
        answer = Answer.model_validate_json(json_in(completion.text[:_LONGEST_ANSWER]))
    except ValidationError as error:
        cut = "; it was cut at max_tokens" if completion.finish == "length" else ""
        said = f"the answer does not fit the schema: {first_error(error)}{cut}: {completion.text[:200]!r}"
        return without("unreadable", said), None
    return row.model_copy(update={"met": answer.met, "reason": answer.reason[:_LONGEST_REASON]}), None


def _key(trajectory: Trajectory, assertion: str, model: str) -> tuple[str, str, str, str]:
    shown = json.dumps([message.content for message in shown_to_judge(trajectory, assertion)])
    return trajectory.id, assertion, model, hashlib.sha256(shown.encode()).hexdigest()[:16]


def shown_to_judge(trajectory: Trajectory, assertion: str) -> tuple[Message, Message]:
    """Everything that the judge reads."""
    rules = fill("judge", schema=json.dumps(Answer.model_json_schema()))
    dialogue, statement = as_data([_row(message) for message in trajectory.messages]), as_data(assertion)
    content = f"<dialogue>\n{dialogue}\n</dialogue>\n<statement>\n{statement}\n</statement>"
    return Message(role="system", content=rules), Message(role="user", content=content)


def _row(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"from": _FROM[message.role]}
    if message.role == "tool":
        row |= {"tool": message.name, "answer": message.content}
        return row | {"refused": True} if message.is_error else row
    if message.content:
        row["text"] = message.content
    if message.tool_calls:
        row["calls"] = [{"tool": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return row
