"""What the user's words say against the user: where they leave the scenario, by rules on text and on structured facts.

Each rule returns the message and what it saw, or None, and looks only at what was said before the step that it is asked about: what is
said afterwards misleads nobody. They are meant to be silent in doubt, since a fault that is the user's teaches an agent nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.episode import OUT_OF_SCOPE, STOP, TRANSFER
from sentinel_env.judgement import judge
from sentinel_env.messages import ToolCall
from sentinel_env.segments import normalise
from sentinel_env.tasks import Scenario
from sentinel_env.understanding import identifiers, read, values_named

from .conduct import is_yes
from .dialogue import Dialogue, plain
from .findings import Finding
from .names import stem, words

Testimony = tuple[int, str]
"""The message, and what it shows."""

_WITHDRAWN = re.compile(
    r"\b(?:let's (?:just )?leave|leave (?:it|that|them|the [\w -]{1,30}) (?:as|for now|alone)|never ?mind|forget (?:it|about)|no need to"
    r"|without making any changes|(?:don't|do not) (?:want|need) to (?:change|return|exchange|cancel|modify|replace) \w+ any ?more"
    r")\b"
)
_MAY_GIVE_UP = re.compile(r"\b(?:forget (?:it|about)|leave (?:it|that|them)|never ?mind|regret|(?:do not|don't) do anything|give up)\b")
_WANTS_A_PERSON = re.compile(
    r"\btransfer me\b|\b(?:speak|talk|connect me|transferred) (?:to|with) (?:an? |another )?(?:human|person|real|live|manager|supervisor)"
)
_A_PERSON = re.compile(r"\btransfer|\bhuman\b|\bmanager\b|\bsupervisor\b")
_WHOLE = re.compile(
    r"\b(?:everything|entire|whole|every (?:item|order|one)|all (?!this\b|these\b|that\b)(?:of |the |your |my |them\b|\w+s\b))"
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_STOPS = (STOP, TRANSFER, OUT_OF_SCOPE)


def scenario_text(scenario: Scenario) -> str:
    """All prose of a scenario, as the user reads it."""
    parts = [scenario.goal, *scenario.known.values(), scenario.unknown or "", scenario.instructions or ""]
    parts += [fact.text for fact in scenario.facts]
    for wish in scenario.wishes:
        parts += [wish.text, *(fact.text for fact in wish.facts)]
    return "\n".join(parts)


def leaves(value: Any) -> list[str]:
    """The texts and numbers in an argument, as texts."""
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in leaves(each)]
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    return [] if value is None or value == "" else [str(value)]


def wrong_values(finding: Finding) -> list[tuple[str, list[str]]]:
    """(value that was used, values that belong there), for every value of an executed write that the wanted one does not have."""
    if finding.executed is None or finding.wanted is None:
        return []
    found = []
    for name in finding.arguments or tuple(finding.executed.arguments):
        right = leaves(finding.wanted.arguments.get(name))
        found += [(value, right) for value in leaves(finding.executed.arguments.get(name)) if value not in right]
    return found


def says(text: str, value: str) -> bool:
    """Whether a text has a value as whole words; short ones, such as "US", with their capitals."""
    pattern = rf"(?<![\w-]){re.escape(value.lstrip('#'))}(?![\w-])"
    return re.search(pattern, text, 0 if len(value) < 4 else re.IGNORECASE) is not None


def stated_otherwise(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """A value that the user gave, that its scenario does not have, and that the call then used in place of the right one."""
    scenario = scenario_text(dialogue.trajectory.task.scenario)
    for value, right in wrong_values(finding):
        for at, message in enumerate(dialogue.messages[:before]):
            if message.role == "assistant" and says(message.content, value) and not any(says(message.content, each) for each in right):
                break  # the agent brought it up alone
            if message.role == "user" and says(message.content, value):
                later = (text for step, text in _raw_user(dialogue) if at <= step < before)
                if not says(scenario, value) and not any(says(text, each) for text in later for each in right):
                    return at, f"says {value!r}, which the scenario does not"
                break
    return _named_otherwise(dialogue, finding, before, scenario)


def _raw_user(dialogue: Dialogue) -> Iterator[tuple[int, str]]:
    return ((at, message.content) for at, message in enumerate(dialogue.messages) if message.role == "user")


def _named_otherwise(dialogue: Dialogue, finding: Finding, before: int, scenario: str) -> Testimony | None:
    """The same for values that the domain's phrases name, such as a gift card: the user names only what the scenario does not."""
    phrases = dialogue.domain.phrases
    for slot in sorted({key.split(":")[0] for key in phrases if ":" in key} - {"tells", "say"}):
        wanted = values_named(normalise(scenario), slot, phrases)
        for value, right in wrong_values(finding):
            used = values_named(_spaced(value), slot, phrases)
            proper = frozenset[str]().union(*(values_named(_spaced(each), slot, phrases) for each in right))
            if not used or not proper or used & proper or used & wanted:
                continue
            for at, message in enumerate(dialogue.messages[:before]):
                named = values_named(normalise(message.content), slot, phrases) if message.role in ("user", "assistant") else frozenset()
                if message.role == "assistant" and named and named <= used and not proper & wanted:
                    break  # the agent brought it up alone
                if message.role == "user" and named and named <= used:
                    later = (text for step, text in dialogue.user if at < step < before)
                    if not any(proper & values_named(normalise(text), slot, phrases) for text in later):
                        return at, f"names {'/'.join(sorted(used))}, which the scenario does not"
                    break
    return None


def _spaced(value: str) -> str:
    return re.sub(r"_?\d+$", "", value).replace("_", " ").lower()


def asked_for_another(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """The user asked, in a sentence of its own, for this action on a record of which no sentence of the scenario says so."""
    if finding.executed is None or finding.label not in ("wrong_target_record", "extra_write", "wrong_tool"):
        return None
    verb = stem(finding.executed.name.split("_")[0])
    keys = [value for value in leaves(list(finding.executed.arguments.values())) if any(letter.isdigit() for letter in value)]
    scenario = _SENTENCE.split(scenario_text(dialogue.trajectory.task.scenario))
    for key in keys:
        if any(says(sentence, key) and verb in sentence.lower() for sentence in scenario):
            continue
        for at, message in enumerate(dialogue.messages[:before]):
            together = any(says(sentence, key) and verb in sentence.lower() for sentence in _SENTENCE.split(message.content))
            if together and message.role == "assistant":
                break  # the agent proposed it
            if together and message.role == "user":
                return at, f"asks to {finding.executed.name.split('_')[0]} {key}, which the scenario does not"
    return None


def asked_for_less(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """The scenario wants all of something, the user never says so, and a list came out short."""
    if finding.sublabel != "incomplete_set" or not _WHOLE.search(plain(scenario_text(dialogue.trajectory.task.scenario))):
        return None
    said = [(at, text) for at, text in dialogue.user if at < before]
    if any(_WHOLE.search(text) for _, text in said):
        return None
    return (_request(said), "asks for a part, where the scenario wants all of it") if said else None


def never_named(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """What is missing in a list has a name in the scenario, and the user did not say it."""
    if finding.sublabel != "incomplete_set" or finding.executed is None or finding.wanted is None:
        return None
    present = leaves([finding.executed.arguments.get(name) for name in finding.arguments])
    lacking = [value for name in finding.arguments for value in leaves(finding.wanted.arguments.get(name)) if value not in present]
    scenario = {stem(word) for word in words(scenario_text(dialogue.trajectory.task.scenario))}
    telling = (dialogue.names.of(lacking) - dialogue.names.of(present)) & scenario
    said = [(at, text) for at, text in dialogue.user if at < before]
    heard = {stem(word) for _, text in said for word in words(text)}
    if not telling or telling & heard or any(_WHOLE.search(text) for _, text in said) or not said:
        return None
    return _request(said), f"never says {'/'.join(sorted(telling))}, which the scenario does"


def asked_for_more(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """What is too much in a write has a name that the scenario does not have, and the user was the first to say it."""
    if finding.executed is None or (finding.label != "extra_write" and finding.sublabel not in ("surplus_set", "other_set")):
        return None
    wanted = leaves([finding.wanted.arguments.get(name) for name in finding.arguments]) if finding.wanted else []
    values = leaves([value for name, value in finding.executed.arguments.items() if name in finding.arguments or not finding.wanted])
    scenario = {stem(word) for word in words(scenario_text(dialogue.trajectory.task.scenario))}
    telling = dialogue.names.of([value for value in values if value not in wanted]) - dialogue.names.of(wanted) - scenario
    for at, message in enumerate(dialogue.messages[:before]):
        if message.role not in ("user", "assistant"):
            continue
        named = telling & {stem(word) for word in words(message.content)}
        if message.role == "assistant":
            telling -= named  # the agent brought it up
        elif named:
            return at, f"asks for {'/'.join(sorted(named))}, of which the scenario knows nothing"
    return None


def _request(said: Sequence[Testimony]) -> int:
    """The last message that is more than a yes."""
    return next((at for at, text in reversed(said) if len(words(text)) > 8), said[-1][0])


def withdrew(dialogue: Dialogue, finding: Finding, before: int) -> Testimony | None:
    """The user gave a wish up that the scenario does not let it give up, and what is missing is missing."""
    if finding.label != "missing_write" and finding.sublabel != "incomplete_set":
        return None
    may_change = _MAY_GIVE_UP.search(plain(scenario_text(dialogue.trajectory.task.scenario))) is not None
    for at, text in dialogue.user:
        if at < before and (found := _WITHDRAWN.search(text)) and not may_change:
            return at, f"gives a wish up: {found.group()!r}"
    return None


def stopped_in_a_yes(dialogue: Dialogue, finding: Finding) -> Testimony | None:
    """The user agreed and ended the conversation in one message, so that the write could not be made any more."""
    if finding.label != "missing_write" or not dialogue.user:
        return None
    at, _ = dialogue.user[-1]
    text = dialogue.messages[at].content
    if at != dialogue.end - 1 or not any(token in text for token in _STOPS):
        return None
    proposed = dialogue.spoken_before(at)
    if proposed is None or not re.search(r"\?|\bconfirm|\breply\b|\bproceed\b", proposed[1]) or not is_yes(plain(text)):
        return None
    closing = "confirm" in read(dialogue.messages[proposed[0]].content, dialogue.domain.phrases).asks
    return (at, "agrees and ends the conversation in one message, before the write") if closing else None


def wanted_a_person(dialogue: Dialogue, finding: Finding) -> Testimony | None:
    """The user asked to be handed over, which the scenario does not want."""
    if finding.label not in ("unneeded_transfer", "missing_write"):
        return None
    if _A_PERSON.search(plain(scenario_text(dialogue.trajectory.task.scenario))) or dialogue.trajectory.ending != "transfer":
        return None
    before = finding.evidence.step + 1 if finding.label == "unneeded_transfer" else dialogue.end
    found = [at for at, text in dialogue.user if at < before and _WANTS_A_PERSON.search(text)]
    return (found[-1], "asks for a person, which the scenario does not") if found else None


def never_voiced(dialogue: Dialogue, finding: Finding) -> Testimony | None:
    """The user ended the conversation without having said the wish."""
    if finding.label == "missing_write" and finding.sublabel == "not_voiced_by_user" and dialogue.trajectory.ending == "user_stop":
        return dialogue.user[-1][0], "ends the conversation and never said what is missing"
    return None


def is_voiced(dialogue: Dialogue, call: ToolCall) -> bool:
    """Whether the user said anything of a wanted call that the scenario has words for; True where it has none, or nobody spoke."""
    if not dialogue.user:
        return True
    said = words(" ".join(text for _, text in dialogue.user))
    stems = {stem(word) for word in said}
    scenario = scenario_text(dialogue.trajectory.task.scenario)
    known = {stem(word) for word in words(scenario)}
    if not dialogue.trajectory.task.scenario.wishes and (named := dialogue.names.of(leaves(list(call.arguments.values()))) & known):
        return bool(named & stems) or _WHOLE.search(" ".join(text for _, text in dialogue.user)) is not None
    of_call = words(call.name.replace("_", " ")) | words(" ".join(leaves(list(call.arguments.values()))))
    others = {"order", "pending", "delivered", "user", "get", "set"}
    telling = {stem(word) for word in of_call - others} & known
    return not telling or bool(telling & stems)


# structured scenarios


def contradicted_facts(dialogue: Dialogue, before: int) -> Testimony | None:
    """An identifier, or a value of a slot, that the user gave and that its structured facts do not have."""
    scenario, phrases = dialogue.trajectory.task.scenario, dialogue.domain.phrases
    facts = [*scenario.facts, *(fact for wish in scenario.wishes for fact in wish.facts)]
    known = set(identifiers(normalise(scenario_text(scenario)))) | {
        leaf.lower().lstrip("#") for fact in facts for leaf in leaves(fact.value)
    }
    shapes = {_shape(word) for word in known if len(word) > 3}
    heard: set[str] = set()
    for at, message in enumerate(dialogue.messages[:before]):
        if message.role != "user":
            heard |= set(identifiers(normalise(message.content)))
            continue
        text = normalise(message.content)
        for word in identifiers(text):
            if word not in known and word not in heard and _shape(word) in shapes:
                return at, f"says {word!r}, which none of its facts has"
        for slot in {fact.slot for fact in facts}:
            own = frozenset[str]().union(*(values_named(normalise(f"{f.text} {f.value}"), slot, phrases) for f in facts if f.slot == slot))
            named = values_named(text, slot, phrases)
            if own and named and not named & own and not re.search(r"\b(?:not|no|don't|instead of)\b", text):
                return at, f"names {'/'.join(sorted(named))} where its facts have {'/'.join(sorted(own))}"
    return None


def _shape(word: str) -> str:
    return f"{len(word)} digits" if word.isdigit() else re.sub(r"\d+", "9", word)


def agreed_to_another(dialogue: Dialogue, finding: Finding) -> Testimony | None:
    """The user said yes to a proposal that its structured wishes refute, and the write followed."""
    scenario, domain = dialogue.trajectory.task.scenario, dialogue.domain
    if finding.executed is None or not any(wish.call for wish in scenario.wishes):
        return None
    step = finding.evidence.step
    said, proposed = dialogue.user_before(step), dialogue.spoken_before(step)
    if said is None or proposed is None or proposed[0] > said[0] or not is_yes(said[1]):
        return None
    correction = _correction(domain, scenario, dialogue.messages[proposed[0]].content)
    return (said[0], f"agrees to a proposal that is not what it wants: {correction}") if correction else None


def _correction(domain: Domain, scenario: Scenario, proposal: str) -> str | None:
    open_: Sequence[int] = [at for at, wish in enumerate(scenario.wishes) if wish.call is not None]
    understood = read(proposal, domain.phrases)
    return judge(understood, scenario, open_, domain).correction if "confirm" in understood.asks else None
