"""The edit script as findings: each edit with its label, its kind and its step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sentinel_env.database import Changes, Database
from sentinel_env.messages import ToolCall
from sentinel_env.understanding import read

from .dialogue import Dialogue
from .edits import Edit, Script, different_arguments
from .findings import Cause, Evidence, Finding, Sublabel
from .requests import is_voiced
from .writes import Write, target_of

_ALL_DONE = re.compile(
    r"\b(?:all|both|everything)\b(?: \w+){0,4} (?:are|is|have|has|been)?(?: \w+){0,3} ?(?:complete|done|processed|updated|set|made)"
)


def outcome_findings(dialogue: Dialogue, start: Database, script: Script, wanted: Sequence[Write]) -> Iterator[Finding]:
    """One finding for each edit, and one where the order is wrong."""
    naming = _Naming(dialogue, start, wanted)
    locked = script.order[0] if script.order else None
    for edit in script.edits:
        if edit is locked and script.order is not None:
            lock = script.order[1]
            assert edit.wanted is not None
            detail = f"{edit.wanted.call.name} is refused after {lock.call.name}"
            yield naming.finding("order_dependency", "locked_out", lock.step, detail, made=None, wanted=edit.wanted)
        else:
            yield naming.of_edit(edit)
    if script.reordered is not None:
        write = script.reordered
        detail = f"{write.call.name} has another result at this place"
        yield naming.finding("order_dependency", "different_result", write.step, detail, made=write, wanted=write)


class _Naming:
    """Labels and kinds of edits."""

    def __init__(self, dialogue: Dialogue, start: Database, wanted: Sequence[Write]) -> None:
        self.dialogue, self.start, self.wanted = dialogue, start, wanted
        self.end = dialogue.end

    def finding(
        self,
        label: Cause,
        sublabel: Sublabel | None,
        step: int,
        detail: str,
        *,
        made: Write | None,
        wanted: Write | None,
        arguments: tuple[str, ...] = (),
    ) -> Finding:
        both = made is not None and wanted is not None and made is not wanted and made.call.name == wanted.call.name
        about = wanted or made
        assert about is not None
        features = self.dialogue.domain.features
        return Finding(
            label=label,
            sublabel=sublabel,
            tool=about.call.name,
            arguments=arguments,
            fields=_other_fields(made.changed, wanted.changed) if both and made and wanted else (),
            features=features(self.start, made.call, wanted.call) if features and both and made and wanted else (),
            executed=made.call if made else None,
            wanted=wanted.call if wanted else None,
            evidence=Evidence(trajectory=self.dialogue.trajectory.id, step=step, detail=detail),
        )

    def of_edit(self, edit: Edit) -> Finding:
        made, wanted = edit.made, edit.wanted
        if made is None:
            assert wanted is not None
            detail = f"never done: {wanted.call.name} {wanted.call.arguments}"
            return self.finding("missing_write", self._how_missing(wanted.call), self.end, detail, made=None, wanted=wanted)
        if wanted is None:
            detail = f"not wanted: {made.call.name} {made.call.arguments}"
            return self.finding("extra_write", self._where_extra(made), made.step, detail, made=made, wanted=None)
        if made.call.name != wanted.call.name:
            detail = f"{made.call.name} instead of {wanted.call.name}"
            return self.finding("wrong_tool", None, made.step, detail, made=made, wanted=wanted)
        if made.target != wanted.target:
            names = tuple(sorted({name for name, _ in set(made.target) ^ set(wanted.target)}))
            detail = f"{dict(made.target)} instead of {dict(wanted.target)}"
            return self.finding("wrong_target_record", None, made.step, detail, made=made, wanted=wanted, arguments=names)
        names = different_arguments(made.call, wanted.call)
        detail = "; ".join(f"{name}: {made.call.arguments.get(name)!r} instead of {wanted.call.arguments.get(name)!r}" for name in names)
        return self.finding(
            "wrong_argument", self._how_wrong(made, wanted, names), made.step, detail, made=made, wanted=wanted, arguments=names
        )

    def _how_missing(self, call: ToolCall) -> Sublabel:
        keys = [key for _, key in target_of(self.start, call)]
        if any(
            tried.name == call.name and tried.arguments.keys() & call.arguments.keys() and _about(tried, keys)
            for _, tried in self.dialogue.refused()
        ):
            return "attempt_rejected"
        if claim_of(self.dialogue, keys) is not None:
            return "claimed_done"
        if not is_voiced(self.dialogue, call):
            return "not_voiced_by_user"
        opened = any(self.dialogue.is_opened(key, self.end) for key in keys)
        return "opened_not_executed" if opened else "record_never_opened"

    def _where_extra(self, made: Write) -> Sublabel:
        if not self.wanted:
            return "refusal_expected"
        targets = {value for write in self.wanted for _, value in write.target}
        return "on_reference_target" if targets & {value for _, value in made.target} else "off_target"

    def _how_wrong(self, made: Write, wanted: Write, names: Sequence[str]) -> Sublabel:
        kinds = {self._kind(made.call.arguments.get(name), wanted.call.arguments.get(name)) for name in names}
        order: tuple[Sublabel, ...] = ("incomplete_set", "surplus_set", "other_record", "sibling", "other_set", "other_value")
        return next(kind for kind in order if kind in kinds)

    def _kind(self, value: Any, right: Any) -> Sublabel:
        if isinstance(value, list | tuple) and isinstance(right, list | tuple):
            has, needs = Counter(map(repr, value)), Counter(map(repr, right))
            if has != needs and has <= needs:
                return "incomplete_set"
            if has != needs and needs <= has:
                return "surplus_set"
            pairs = [(one, other) for one, other in zip(value, right, strict=False) if one != other]
            return "sibling" if len(value) == len(right) and all(self.dialogue.names.are_siblings(*pair) for pair in pairs) else "other_set"
        if isinstance(value, str) and any(value in table for table in self.start.tables.values()):
            return "other_record"
        return "sibling" if self.dialogue.names.are_siblings(value, right) else "other_value"


def _about(call: ToolCall, keys: Sequence[str]) -> bool:
    return not keys or any(key in call.arguments.values() for key in keys)


def _other_fields(one: Changes, other: Changes) -> tuple[str, ...]:
    """`table.field` of what the two writes changed to something else."""
    found = set()
    for table in {*one, *other}:
        fields, others = (_fields(changes.get(table, {})) for changes in (one, other))
        found |= {f"{table}.{name}" for name in {*fields, *others} if fields.get(name) != others.get(name)}
    return tuple(sorted(found))


def _fields(rows: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key in sorted(rows):
        for name, value in (rows[key] or {"": None}).items():
            found.setdefault(name, []).append(value)
    return found


def claim_of(dialogue: Dialogue, keys: Sequence[str]) -> int | None:
    """The message in which the agent says that a thing is done which is not: it names its record, or says that all is done."""
    for at, text in reversed(dialogue.spoken):
        understood = read(dialogue.messages[at].content, dialogue.domain.phrases)
        if "done" not in understood.tells:
            continue
        if _ALL_DONE.search(text):
            return at
        done = [each.text for each in understood.segments if "done" in read(each.text, dialogue.domain.phrases).tells]
        accepted = {
            value for _, call, answer in dialogue.calls if _writes(dialogue, call) and not answer.is_error for value in _texts(call)
        }
        if any(key.lower() in each and key not in accepted for key in keys for each in done):
            return at
    return None


def _writes(dialogue: Dialogue, call: ToolCall) -> bool:
    tool = dialogue.domain.tools_by_name.get(call.name)
    return tool is not None and tool.writes


def _texts(call: ToolCall) -> Iterator[str]:
    return (value for value in call.arguments.values() if isinstance(value, str))


def claim_step(dialogue: Dialogue, start: Database, finding: Finding) -> int:
    """Where a write that is missing was given up: a refused write on its record, a false claim, or the agent's last words."""
    assert finding.wanted is not None
    keys = [key for _, key in target_of(start, finding.wanted)]
    tried = next((step for step, call in dialogue.refused() if keys and _about(call, keys)), None)
    if tried is not None:
        return tried
    if finding.sublabel == "claimed_done" and (claimed := claim_of(dialogue, keys)) is not None:
        return claimed
    return dialogue.spoken[-1][0] if dialogue.spoken else max(0, dialogue.end - 1)
