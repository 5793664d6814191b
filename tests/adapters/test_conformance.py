"""The scripts themselves: what they cover, and that they come out as they are meant to."""

import json

import pytest
from conformance import SCRIPTS, SEED, calls_of, in_text, source

from sentinel_env import Message, evaluate, parse_action
from sentinel_env.failures import attribute

BY_NAME = {script.name: script for script in SCRIPTS}
named = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def play(script, read):
    seat = source(script.domain).seat(task_id=script.name, seed=SEED)
    seat.open_now()
    for turn in script.turns:
        seat.act_now(read(turn))
    return seat


def test_passes_failures_of_every_cause_cuts_and_a_fault_are_there():
    assert len(SCRIPTS) >= 20
    assert {script.reward for script in SCRIPTS} == {1.0, 0.0, None}
    assert {script.ending for script in SCRIPTS} >= {"user_stop", "transfer", "max_steps", "max_errors", None}
    assert [script.name for script in SCRIPTS if script.reward is None] == ["infrastructure-fails"]


@named
def test_the_name_says_how_it_ends(script):
    if script.name.startswith("passes"):
        assert script.reward == 1.0
    elif script.name.startswith(("fails", "cut")):
        assert script.reward == 0.0


@named
def test_failure_analysis_finds_the_mistake_that_was_scripted(script):
    if script.label is None:
        return
    seat = play(script, Message.from_openai)
    found = attribute(seat.episode.domain, seat.trajectory())
    assert script.label in {finding.label for finding in found.findings}


@named
def test_a_turn_written_as_text_comes_out_the_same(script):
    seat = play(script, lambda turn: parse_action(in_text(turn)))
    assert (seat.reward, seat.episode.ending, seat.episode.db.changes()) == script.expected


@named
def test_the_record_is_graded_the_same(script):
    seat = play(script, Message.from_openai)
    assert evaluate(seat.episode.domain, seat.trajectory()).reward == script.reward


def test_arguments_stay_the_models_own_text():
    turns = [turn for turn in BY_NAME["passes-after-malformed-actions"].turns if calls_of(turn)]
    assert '{"order_id": ' in [arguments for turn in turns for _, _, arguments in calls_of(turn)]
    assert all(json.dumps(turn) for turn in turns)
