"""Knowledge: whether everything in the reference can be known to somebody who hears the user and reads with the tools.

Each value that a call takes must stand in what the user can say, in what an earlier call answered, or among the constants that the tool
documents; what the draft declares about it (`Wish.provenance`) must be true as well. Where the reference does not look something up
itself, `lookups` searches for the reads that would.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sentinel_env.tasks import Wish
from sentinel_env.tools import Tool

from .case import Case, Finding
from .lookups import Lookups
from .texts import Answer, Words, leaves

Derivation = Callable[[Words, "list[Answer]", Any], bool]
"""(what the user says, what tools answered, value) -> whether the value follows from them."""
DERIVATIONS: Mapping[str, Derivation] = {}
"""What `derived:NAME` may name."""


def knowledge(case: Case) -> Finding:
    """Every argument of every reference call can be derived, and its declared provenance is true."""
    known = _Known(case)
    wishes = {id(wish): wish for wish in case.task.scenario.wishes if wish.call is not None}
    for at, call in enumerate(case.actions):
        wish = next((wish for wish in wishes.values() if wish.call == call), None)
        if wish is not None:
            del wishes[id(wish)]
        tool = case.domain.tools_by_name[call.name]
        for name, value in call.arguments.items() if not case.domain.is_transfer(call.name) else ():  # its summary is anybody's
            missing = [leaf for leaf in leaves(value) if not known.has(leaf, tool, name, wish, at)]
            if missing:
                return f"argument {name} of action {at} ({call.name}), {missing[0]!r:.80}: the user cannot say it and no read shows it"
            declared = wish.provenance.get(name) if wish is not None else None
            if wish is not None and declared is not None and (lie := known.contradicts(declared, value, tool, name, wish, at)):
                return f"argument {name} of action {at} ({call.name}) is declared as {declared[:80]!r}, but {lie}"
        if wish is not None and (unknown := sorted(wish.provenance.keys() - call.arguments.keys())):
            return f"the provenance of {unknown[0][:80]!r} is declared, which action {at} ({call.name}) does not have"
    return None


class _Known:
    """What can be known at each action."""

    def __init__(self, case: Case) -> None:
        self._case = case
        scenario = case.task.scenario
        wishes = scenario.wishes
        facts = [*scenario.facts, *(fact for wish in wishes for fact in wish.facts)]
        prose = () if wishes else (scenario.goal, scenario.instructions or "")
        spoken = [*prose, *(wish.text for wish in wishes), *(fact.text for fact in facts), *scenario.known.values()]
        self._words = Words(spoken)
        self._facts = facts
        self._answers = [Answer(call.name, answer.content) for call, answer in zip(case.actions, case.reference.answers, strict=True)]
        self._lookups: Lookups | None = None
        self._spoken = spoken

    def has(self, leaf: Any, tool: Tool, name: str, wish: Wish | None, at: int) -> bool:
        """Whether a value can be known before an action."""
        if leaf is None or leaf == "" or leaf in self._words:
            return True
        if any(leaf in answer for answer in self._answers[:at]) or self._is_constant(leaf, tool, name, wish):
            return True
        if not tool.writes and isinstance(leaf, str) and self._is_sum(leaf, at):
            return True
        if self._lookups is None:
            self._lookups = Lookups(self._case.domain, self._case.reference.before[0], self._spoken, self._facts, self._case.task.scenario)
        return self._lookups.show(leaf)

    def _is_constant(self, leaf: Any, tool: Tool, name: str, wish: Wish | None) -> bool:
        """Whether a tool documents the value; where the user has wishes a fact must give it too, or any could have been chosen."""
        documented = _documented(tool, name)
        if leaf == documented.default:
            return True
        scenario = self._case.task.scenario
        if leaf in documented and (not tool.writes or not scenario.wishes):
            return True
        facts = self._facts if wish is None else (*wish.facts, *scenario.facts)
        return (leaf in documented or documented.has_example(leaf)) and any(leaf in leaves(fact.value) for fact in facts)

    def _is_sum(self, text: str, at: int) -> bool:
        """Whether a read is given an expression of numbers that are known, as a calculator is."""
        plain = text.replace("(", " ").replace(")", " ")
        for operator in "+-*/":
            plain = plain.replace(operator, " ")
        parts = plain.split()
        if len(parts) < 2 or any(part.strip("0123456789.") for part in parts):
            return False
        numbers = [float(part) for part in parts if part.count(".") <= 1 and part != "."]
        shown = self._answers[:at]
        return len(numbers) == len(parts) and all(number in self._words or any(number in each for each in shown) for number in numbers)

    # what the draft declares

    def contradicts(self, declared: str, value: Any, tool: Tool, name: str, wish: Wish, at: int) -> str | None:
        """What is wrong with a declared provenance, or None."""
        kind, _, origin = declared.partition(":")
        wanted = [leaf for leaf in leaves(value) if leaf is not None]
        if kind == "fact":
            facts = [fact for fact in (*wish.facts, *self._case.task.scenario.facts) if fact.slot == origin]
            given = Words([fact.text for fact in facts])
            held = [value for fact in facts for value in (fact.value, *leaves(fact.value))]
            if value in held or all(leaf in held or leaf in given for leaf in wanted):
                return None
            return f"no fact {origin[:80]!r} of the wish gives it" if facts else f"the wish has no fact {origin[:80]!r}"
        if kind == "read":
            return self._misread(origin, wanted, tool, name, wish, at)
        if kind == "policy":
            documented = _documented(tool, name)
            if origin not in documented and origin not in Words((self._case.domain.policy,)):
                return "neither the policy nor the tool has it"
            return None if all(leaf in Words((origin,)) for leaf in wanted) else "that is another value"
        if kind == "derived":
            derive = DERIVATIONS.get(origin)
            if derive is None:
                return "no function of that name derives it"
            return None if derive(self._words, self._answers[:at], value) else "the function derives something else"
        return "a provenance is fact:SLOT, read:TOOL.PATH, policy:TEXT or derived:NAME"

    def _misread(self, origin: str, wanted: list[Any], tool: Tool, name: str, wish: Wish, at: int) -> str | None:
        source, _, path = origin.partition(".")
        answers = [answer for answer in self._answers[:at] if answer.tool == source]
        if not answers:
            return f"no earlier action calls {source[:80]!r}"
        for leaf in wanted:
            if any(leaf in (answer.at(path) if answer.is_json else answer) for answer in answers):
                continue
            if not any(answer.is_json for answer in answers) and (leaf == "" or self._is_constant(leaf, tool, name, wish)):
                continue  # a plain text leaves out what goes without saying
            return f"{source} did not answer {leaf!r:.80} at {path[:80]!r}"
        return None


@dataclass(frozen=True)
class _Documented:
    """What a tool's schema says of the values of one argument."""

    values: frozenset[Any]
    text: str
    examples: str
    default: Any

    def __contains__(self, value: object) -> bool:
        """Whether it lists a value, or quotes it in the argument's description."""
        if isinstance(value, str):
            return value in self.values or f'"{value}"' in self.text
        return isinstance(value, int | float) and value in self.values

    def has_example(self, value: object) -> bool:
        """Whether the description quotes a value as one of many."""
        return f'"{value}"' in self.examples


_SUCH_AS = re.compile(r"\b(?:such as|e\.g\.|for example|for instance|like)", re.IGNORECASE)


@lru_cache(maxsize=1024)
def _documented(tool: Tool, name: str) -> _Documented:
    parameters = tool.schema["function"]["parameters"]
    schema = parameters["properties"].get(name, {})
    values = frozenset(_listed(schema, parameters.get("$defs", {}), set()))
    text, *examples = _SUCH_AS.split(str(schema.get("description", "")), maxsplit=1)
    return _Documented(values, text, "".join(examples), schema.get("default"))


def _listed(schema: Any, definitions: Mapping[str, Any], seen: set[str]) -> Iterator[Any]:
    """The values that a schema enumerates, wherever in it."""
    if isinstance(schema, list):
        for each in schema:
            yield from _listed(each, definitions, seen)
    elif isinstance(schema, dict):
        yield from (each for each in (*schema.get("enum", ()), schema.get("const")) if isinstance(each, str | int | float))
        if schema.get("type") == "boolean":
            yield from (True, False)
        reference = str(schema.get("$ref", "")).rpartition("/")[2]
        if reference in definitions and reference not in seen:
            seen.add(reference)
            yield from _listed(definitions[reference], definitions, seen)
        parts = [*(schema.get(key) for key in ("anyOf", "allOf", "oneOf", "items", "prefixItems", "additionalProperties"))]
        yield from _listed([*parts, *schema.get("properties", {}).values()], definitions, seen)
