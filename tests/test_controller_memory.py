"""What the Controller remembers over rounds, and where that says a pattern stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sentinel_env import ConfigError
from sentinel_env.failures import Attempt, FailurePattern, Memory
from sentinel_env.metrics import rate


def pattern(errors: int, opportunities: int = 100) -> FailurePattern:
    found = rate([1] * errors + [0] * (opportunities - errors), [1] * opportunities)
    return FailurePattern(
        id="missing_write/renew_loan",
        domain="library",
        label="missing_write",
        tools=("renew_loan",),
        errors=errors,
        opportunities=opportunities,
        rate=found.value,
        rate_interval=(found.low, found.high),
        share=found.value,
    )


@pytest.mark.parametrize(
    ("errors", "states"),
    [
        ([40], ["emerging"]),
        ([40, 42, 38], ["emerging", "persistent", "persistent"]),
        ([60, 40], ["emerging", "shrinking"]),
        ([60, 10], ["emerging", "resolved"]),
        ([60, 0, 2], ["emerging", "resolved", "resolved"]),
        ([60, 5, 45], ["emerging", "resolved", "forgotten"]),
        ([60, 5, 45, 58], ["emerging", "resolved", "forgotten", "persistent"]),
    ],
)
def test_the_state_follows_from_the_rates(errors: Sequence[int], states: Sequence[str]) -> None:
    memory = Memory()
    assert [memory.observe(number, [pattern(count)])[0].state for number, count in enumerate(errors, 1)] == states


def test_few_opportunities_resolve_nothing() -> None:
    memory = Memory()
    memory.observe(1, [pattern(60)])
    assert memory.observe(2, [pattern(0, opportunities=4)])[0].state != "resolved"


def test_a_pattern_that_never_happened_is_not_remembered() -> None:
    memory = Memory()
    assert memory.observe(1, [pattern(0)]) == ()
    assert memory.known == ()


def test_what_was_tried_stands_between_what_was_seen_before_and_after() -> None:
    memory = Memory()
    name = memory.observe(1, [pattern(60)])[0].id
    memory.tried(1, {name: Attempt(wanted=20, proposed=32, accepted=20)})
    memory.tried(1, {name: Attempt(wanted=20, proposed=32, accepted=20, trained=12)})
    memory.observe(2, [pattern(10)])
    (first, seen, tried), (second, then, nothing) = memory.story(name)
    assert (first, second, nothing) == (1, 2, None)
    assert seen is not None
    assert then is not None
    assert tried is not None
    assert (seen.rate, tried.trained, then.state) == (0.6, 12, "resolved")


def test_a_round_that_is_made_again_replaces_itself() -> None:
    memory = Memory()
    for _ in range(3):
        (again,) = memory.observe(1, [pattern(60)])
    assert again.state == "emerging"
    assert len(memory.rounds) == 1


def test_memory_survives_its_file(tmp_path: Path) -> None:
    memory = Memory()
    memory.observe(1, [pattern(60)])
    memory.tried(1, {"general": Attempt(wanted=5)})
    memory.save(tmp_path / "memory.jsonl")
    loaded = Memory.load(tmp_path / "memory.jsonl")
    assert loaded.rounds == memory.rounds
    assert loaded.known == memory.known
    assert Memory.load(tmp_path / "missing.jsonl").rounds == ()


def test_a_broken_memory_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "memory.jsonl").write_text('{"number": 1, "patterns": 3}\n')
    with pytest.raises(ConfigError, match=r"memory.jsonl, line 1: patterns: Input should be"):
        Memory.load(tmp_path / "memory.jsonl")
