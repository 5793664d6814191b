"""Trials: what agents make of a task. An oracle shows that it can be solved, a pilot how often the agent in training solves it.

An outage says nothing about a task: where no attempt could be finished, the gate was not checked.
"""

from __future__ import annotations

from sentinel_env.episode import Agent
from sentinel_env.evaluation import evaluate
from sentinel_env.runner import run_tasks
from sentinel_env.users import ScriptedUser

from .case import Case, Finding, Unchecked


def oracle(case: Case) -> Finding:
    """A strong agent passes at least once."""
    agent = case.examination.oracle
    if agent is None:
        return Unchecked("no oracle was given")
    passed, outage = _attempts(case, agent, case.examination.oracle_trials)
    if not passed:
        return Unchecked(f"no attempt of {agent.name} could be finished: {outage}")
    return None if any(passed) else f"{agent.name} passes none of {len(passed)} attempts"


def pilot(case: Case) -> Finding:
    """The agent in training passes at least once; a task that is too hard for it now is deferred."""
    agent = case.examination.pilot
    if agent is None:
        return Unchecked("no agent for a pilot was given")
    passed, outage = _attempts(case, agent, case.examination.pilot_trials)
    if not passed:
        return Unchecked(f"no attempt of {agent.name} could be finished: {outage}")
    case.trials, case.pass_rate = len(passed), sum(passed) / len(passed)
    return None if any(passed) else f"{agent.name} passes none of {len(passed)} attempts: deferred"


def _attempts(case: Case, agent: Agent, trials: int) -> tuple[list[bool], str]:
    """(whether each finished attempt passed, why the others were not finished)."""
    examination = case.examination
    trajectories = run_tasks(
        case.domain, (case.task,), agent, examination.user or ScriptedUser(), trials=trials, seed=examination.seed, max_steps=60
    )
    rewards = [evaluate(case.domain, trajectory).reward for trajectory in trajectories]
    outages = [trajectory.error for trajectory in trajectories if trajectory.error is not None]
    return [reward == 1.0 for reward in rewards if reward is not None], outages[0] if outages else ""
