"""Shaping: a second reward of how an episode went, for groups whose outcomes are all alike.

    values = shape(domain, trajectory, config, max_steps=16)    # {"action_checks": 0.5, "format": 1.0}
    reward = shaped(values, config)                             # their average by weight

Nothing is judged here: the terms count what `evaluate` and the analysis of failures say. None of them is the goal, and each can be had
without it:

- action_checks: a write too much costs nothing, so whoever writes all that can be written has every one that was wanted; with a
  reference that writes nothing, whoever does nothing has it all. Writes that cannot be made again keep this in bounds, and the outcome.
- authentication: who touches nothing touched nothing too early.
- repeated_calls: who calls nothing repeats nothing; a call with a word changed is another one.
- format: plain text can always be read, so idle talk raises the share.
- length: giving up at once is the shortest episode of all.

Giving up at once is thus best by every term but action_checks. Where nobody in a group makes a write that was wanted, whoever tries least
wins whatever the weights are, and since groups are normalised, by however little: `length` and `authentication` are for a model that
succeeds now and then. What shows a model that gives up is logged by `sentinel_train/metrics.py`: tool calls, turns, needless hand-overs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from sentinel_env import Criteria, Domain, Message, ToolCall, Trajectory, evaluate
from sentinel_env.evaluation import calls
from sentinel_env.failures.conduct import check_conduct
from sentinel_env.failures.dialogue import Dialogue
from sentinel_env.failures.writes import run_calls

from .config import ShapingConfig

_TOO_EARLY = ("unauthenticated_read", "unauthenticated_write", "other_users_record")
_REPEATED = ("repeated_call", "repeated_error")


def shape(domain: Domain, trajectory: Trajectory, config: ShapingConfig, *, max_steps: int) -> dict[str, float]:
    """The value of each term that has a weight, in [0, 1], best is 1.

    A trajectory without calls repeats none, and one without turns has none that could not be read: both are 1. Another customer's records
    count as touched too early, since that customer is never identified; a domain that does not say whose its records are has none to
    touch too early. A call that was refused is repeated when it is refused again, whatever was written in between.

    Args:
        domain: The world.
        trajectory: An episode that ran to its end or to a limit.
        config: The weights.
        max_steps: How many turns the episode could take.

    Raises:
        ValueError: Infrastructure ended the episode: how it went is nobody's doing, and it has no reward of any kind.
    """
    if trajectory.error is not None:
        raise ValueError(
            f"trajectory {trajectory.id!r} was ended by infrastructure ({trajectory.error[:200]}): it has no reward at all; leave it out"
        )
    taken = turns(domain, trajectory)
    conduct = _conduct(domain, trajectory) if config.authentication or config.repeated_calls else Counter[str]()
    terms: dict[str, Callable[[], float]] = {
        "action_checks": lambda: _action_checks(domain, trajectory),
        "authentication": lambda: float(not any(conduct[label] for label in _TOO_EARLY)),
        "repeated_calls": lambda: 1 - _share(sum(conduct[label] for label in _REPEATED), len(calls(trajectory))),
        "format": lambda: 1 - _share(sum(map(is_unreadable, taken)), len(taken)),
        "length": lambda: max(0.0, 1 - len(taken) / max_steps),
    }
    return {name: term() for name, term in terms.items() if getattr(config, name)}


def shaped(values: Mapping[str, float], config: ShapingConfig) -> float:
    """The average of what `shape` found, by weight, in [0, 1].

    >>> shaped({"action_checks": 0.5, "format": 1.0}, ShapingConfig(action_checks=3, format=1))
    0.625
    """
    weights = {name: getattr(config, name) for name in values}
    return float(sum(weights[name] * value for name, value in values.items()) / sum(weights.values()))


def turns(domain: Domain, trajectory: Trajectory) -> list[Message]:
    """What the agent said and called, turn by turn; the domain's greeting is not its own."""
    spoken = enumerate(trajectory.messages)
    return [each for at, each in spoken if each.role == "assistant" and not (at == 0 and each.content == domain.greeting)]


def is_unreadable(turn: Message) -> bool:
    """Whether an episode takes a turn for neither words nor calls: a call that is none, or nothing at all."""
    return turn.problem is not None or not (turn.tool_calls or turn.content.strip())


def _action_checks(domain: Domain, trajectory: Trajectory) -> float:
    """As the basis `actions` has it: each write of the reference made and accepted, as often as the reference makes it, in any order.

    All arguments are compared, also on tau2-bench's tasks, whose own action checks may list fewer and take a refused call for made.
    """
    made = _writes(domain, (call for _, call, answer in calls(trajectory) if not answer.is_error))
    wanted = _wanted(domain, trajectory)
    if not wanted:
        return float(not made)
    task = trajectory.task.model_copy(update={"criteria": Criteria(actions=tuple(wanted), basis=("actions",))})
    checks = evaluate(domain, trajectory.model_copy(update={"task": task})).checks
    return sum(check.passed for check in checks if check.name == "actions") / len(wanted)


def _wanted(domain: Domain, trajectory: Trajectory) -> list[ToolCall]:
    """The reference's writes. tau2-bench's dialect skips what tools refuse of a reference; nobody can make such a write."""
    actions = trajectory.task.criteria.actions
    if domain.dialect == "tau2":
        _, refused = run_calls(domain, domain.start(trajectory.task), actions)
        actions = tuple(call for at, call in enumerate(actions) if at not in refused)
    return _writes(domain, actions)


def _writes(domain: Domain, made: Iterable[ToolCall]) -> list[ToolCall]:
    tools = domain.tools_by_name
    return [call for call in made if call.name in tools and tools[call.name].writes]


def _conduct(domain: Domain, trajectory: Trajectory) -> Counter[str]:
    """How often each thing that is wrong on the way happened."""
    found: Counter[str] = Counter()
    dialogue = Dialogue(domain, trajectory)
    check_conduct(dialogue, dialogue.start, lambda label, *_: found.update((label,)))
    return found


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0
