"""What the user's words say against the user: where they leave the scenario, by rules on text and on structured facts.

Each rule returns the message and what it saw, or None, and looks only at what was said before the step that it is asked about: what is
said afterwards misleads nobody. They are meant to be silent in doubt, since a fault that is the user's teaches an agent nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sentinel_env.domain import Domain
from sentinel_env.judgement import judge
from sentinel_env.segments import normalise
from sentinel_env.tasks import Scenario
from sentinel_env.understanding import identifiers, read, values_named

from .conduct import is_yes
from .dialogue import Dialogue
from .findings import Finding
from .names import stem

Testimony = tuple[int, str]
"""The message, and what it shows."""

SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def scenario_text(scenario: Scenario) -> str:
    """All prose of a scenario, as the user reads it."""
    parts = [scenario.goal, *scenario.known.values(), scenario.unknown or "", scenario.instructions or ""]
    parts += [fact.text for fact in scenario.facts]
    for wish in scenario.wishes:
        parts += [wish.text, *([wish.slip] if wish.slip else []), *(fact.text for fact in wish.facts)]
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
    """The user asked, in a sentence, for this action on a record, where the scenario names such records and has no sentence that does."""
    if finding.executed is None or finding.label not in ("wrong_target_record", "extra_write", "wrong_tool"):
        return None
    verb = stem(finding.executed.name.split("_")[0])
    keys = [value for value in leaves(list(finding.executed.arguments.values())) if any(letter.isdigit() for letter in value)]
    scenario = SENTENCE.split(scenario_text(dialogue.trajectory.task.scenario))
    known = {_shape(word) for sentence in scenario for word in identifiers(normalise(sentence))}
    for key in keys:
        if _shape(key.lower().lstrip("#")) not in known or any(says(each, key) and verb in each.lower() for each in scenario):
            continue  # a user that knows no identifiers has them from the agent
        for at, message in enumerate(dialogue.messages[:before]):
            together = any(says(sentence, key) and verb in sentence.lower() for sentence in SENTENCE.split(message.content))
            if together and message.role == "assistant":
                break  # the agent proposed it
            if together and message.role == "user":
                return at, f"asks to {finding.executed.name.split('_')[0]} {key}, which the scenario does not"
    return None


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
