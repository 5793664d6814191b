"""What the user asked for against what its scenario wants: a part of it, more than it, nothing, or no longer.

The rules are as those in `testimony`, and like them silent in doubt. They say nothing of a thing unless the user, or the agent, spoke of
that very thing: by its name in the records, by its identifier, or by the tool's word for what is done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sentinel_env.episode import STOP
from sentinel_env.messages import ToolCall
from sentinel_env.understanding import read

from .conduct import id_values, is_yes
from .dialogue import Dialogue, plain
from .findings import Finding
from .names import stem, words
from .testimony import SENTENCE, Testimony, leaves, scenario_text

_WITHDRAWN = re.compile(
    r"\b(?:let's (?:just )?leave|leave (?:it|that|them|this|the [\w -]{1,30}) (?:as|for now|alone)|never ?mind|forget (?:it|about)"
    r"|(?:no need|(?:don't|do not) (?:want|need)) to (?:change|return|exchange|cancel|modify|replace|update|do)"
    r"|without making any changes)\b"
)
_MAY_GIVE_UP = re.compile(r"\b(?:forget (?:it|about)|leave (?:it|that|them)|never ?mind|regret|(?:do not|don't) do anything|give up)\b")
_POINTS = re.compile(r"\b(?:it|that|them|this|these|those|any changes|never ?mind)\b")
_WANTS_A_PERSON = re.compile(
    r"\btransfer me\b|\b(?:speak|talk|connect me|transferred) (?:to|with) (?:an? |another )?(?:human|person|real|live|manager|supervisor)"
)
_A_PERSON = re.compile(r"\btransfer|\bhuman\b|\bmanager\b|\bsupervisor\b")
_WHOLE = re.compile(
    r"\b(?:everything|entire|whole|every (?:item|order|one)|all (?!this\b|these\b|that\b)(?:of |the |your |my |them\b|\w+s\b))"
)
_COMMON = {"order", "pending", "delivered", "user", "get", "set"}


def asked_for_less(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """The scenario wants all of something, the user never says so nor what is lacking, and a list came out short."""
    if finding.sublabel != "incomplete_set" or not _WHOLE.search(plain(_scenario(dialogue))):
        return None
    said = [(at, text) for at, text in dialogue.user if at < before]
    if not said or any(_WHOLE.search(text) for _, text in said):
        return None
    lacking, _ = _lacking(finding)
    if any(_mentions(text, dialogue.names.of(lacking), lacking) for _, text in said):
        return None
    return _request(said), "asks for a part, where the scenario wants all of it"


def never_named(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """What is lacking in a list has a name in the scenario, and the user did not say it."""
    if finding.sublabel != "incomplete_set":
        return None
    lacking, present = _lacking(finding)
    telling = {name for name in dialogue.names.of(lacking) - dialogue.names.of(present) if name in _squeezed(_scenario(dialogue))}
    said = [(at, text) for at, text in dialogue.user if at < before]
    if not telling or not said or any(_WHOLE.search(text) or _mentions(text, telling, lacking) for _, text in said):
        return None
    return _request(said), f"never says {'/'.join(sorted(telling))}, which the scenario does"


def asked_for_more(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """What is too much in a write has a name that the scenario does not have, and the user was the first to say it."""
    if finding.executed is None or (finding.label != "extra_write" and finding.sublabel not in ("surplus_set", "other_set")):
        return None
    wanted = [value for _, value in id_values(finding.wanted)] if finding.wanted else []
    surplus = [value for _, value in id_values(finding.executed) if value not in wanted]
    names = dialogue.names.of(surplus)
    if not names or any(name in _squeezed(_scenario(dialogue)) for name in names):
        return None
    names -= dialogue.names.of(wanted)
    for at, message in enumerate(dialogue.messages[:before]):
        if message.role in ("user", "assistant") and _mentions(message.content.lower(), names, surplus):
            found = "/".join(sorted(names))
            return (at, f"asks for {found}, of which the scenario knows nothing") if message.role == "user" else None
    return None


def withdrew(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """The user gave up, in a sentence about it, what the scenario does not let it give up and what is now missing."""
    if finding.wanted is None or (finding.label != "missing_write" and finding.sublabel != "incomplete_set"):
        return None
    if _MAY_GIVE_UP.search(plain(_scenario(dialogue))):
        return None
    lacking = _lacking(finding)[0] if finding.executed else leaves([value for _, value in id_values(finding.wanted)])
    names = dialogue.names.of(lacking)
    for at, text in dialogue.user:
        if at >= before:
            break
        for sentence in SENTENCE.split(text):
            given_up = _WITHDRAWN.search(sentence)
            if given_up is None:
                continue
            proposed = dialogue.spoken_before(at)
            pointed = _POINTS.search(sentence) and proposed is not None and _is_about(proposed[1], finding.wanted, names, lacking)
            if _mentions(sentence, names, lacking) or (pointed and not re.search(r"#?\w*\d{3,}", sentence)):
                return at, f"gives a wish up: {given_up.group()!r}"
    return None


def stopped_in_a_yes(dialogue: Dialogue, finding: Finding) -> Testimony | None:
    """The user agreed to a proposal and ended the conversation in one message, so that the write could not be made any more."""
    if finding.label != "missing_write" or not dialogue.user:
        return None
    at, text = dialogue.user[-1]
    if at != dialogue.end - 1 or STOP not in dialogue.messages[at].content or not is_yes(text):
        return None
    return (at, "agrees and ends the conversation in one message, before the write") if _is_asked(dialogue, at) else None


def wanted_a_person(dialogue: Dialogue, finding: Finding) -> Testimony | None:
    """The user asked to be handed over, which the scenario does not want: instead of answering a proposal, or until the agent did it."""
    if finding.label not in ("unneeded_transfer", "missing_write") or dialogue.trajectory.ending != "transfer":
        return None
    if _A_PERSON.search(plain(_scenario(dialogue))):
        return None
    before = finding.evidence.step + 1 if finding.label == "unneeded_transfer" else dialogue.end
    found = [at for at, text in dialogue.user if at < before and _WANTS_A_PERSON.search(text)]
    if not found or (finding.label == "missing_write" and not _is_asked(dialogue, found[-1])):
        return None
    return found[-1], "asks for a person, which the scenario does not"


def never_voiced(dialogue: Dialogue, finding: Finding) -> Testimony | None:
    """The user ended the conversation without having said the wish."""
    if finding.label == "missing_write" and finding.sublabel == "not_voiced_by_user" and dialogue.trajectory.ending == "user_stop":
        return dialogue.user[-1][0], "ends the conversation and never said what is missing"
    return None


def is_voiced(dialogue: Dialogue, call: ToolCall) -> bool:
    """Whether the user said anything of a wanted call that the scenario has words for; True where it has none, or nobody spoke."""
    if not dialogue.user:
        return True
    text = " ".join(text for _, text in dialogue.user)
    said, known = _squeezed(text), _squeezed(_scenario(dialogue))
    values = leaves(list(call.arguments.values()))
    names = {name for name in dialogue.names.of(values) if name in known}
    if names and not dialogue.trajectory.task.scenario.wishes:
        return any(name in said for name in names) or _mentions(text, set(), values) or _WHOLE.search(text) is not None
    of_call = words(call.name.replace("_", " ")) | words(" ".join(values))
    telling = {name for word in of_call - _COMMON if (name := stem(word)) in known}
    return not telling or any(name in said for name in telling)


def _scenario(dialogue: Dialogue) -> str:
    return scenario_text(dialogue.trajectory.task.scenario)


def _lacking(finding: Finding) -> tuple[list[str], list[str]]:
    """(what belongs in the lists and is not there, what is there)."""
    executed: dict[str, Any] = finding.executed.arguments if finding.executed else {}
    wanted: dict[str, Any] = finding.wanted.arguments if finding.wanted else {}
    present = leaves([executed.get(name) for name in finding.arguments])
    return [value for name in finding.arguments for value in leaves(wanted.get(name)) if value not in present], present


def _mentions(text: str, names: set[str], identifiers: Sequence[str]) -> bool:
    squeezed = _squeezed(text)
    return any(name in squeezed for name in names) or any(each.lower().lstrip("#") in text.lower() for each in identifiers if len(each) > 1)


def _squeezed(text: str) -> str:
    """Letters and digits alone, so that "t-shirt" and "smartwatch" are found as "tshirt" and "smart watch"."""
    return re.sub(r"[\W_]+", "", text.lower())


def _is_about(text: str, call: ToolCall, names: set[str], identifiers: Sequence[str]) -> bool:
    """Whether the agent's words put a call forward: its verb, with the thing's name or identifier where it has one."""
    verb = stem(call.name.split("_")[0])
    return verb in text and (not names or _mentions(text, names, identifiers))


def _is_asked(dialogue: Dialogue, at: int) -> bool:
    """Whether the agent's words before a message ask for a yes to a change."""
    proposed = dialogue.spoken_before(at)
    return proposed is not None and "confirm" in read(dialogue.messages[proposed[0]].content, dialogue.domain.phrases).asks


def _request(said: Sequence[Testimony]) -> int:
    """The last message that is more than a yes."""
    return next((at for at, text in reversed(said) if len(words(text)) > 8), said[-1][0])
