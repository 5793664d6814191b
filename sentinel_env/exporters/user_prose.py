"""A scenario as prose for a language model that plays the user: tau2-bench's `user_scenario.instructions`.

Requests and details are quoted as the user would say them. Nothing but what the user knows is in it: of a fact its words, never the
value that a tool takes.
"""

from __future__ import annotations

from sentinel_env.domain import Domain
from sentinel_env.tasks import Fact, Task, Wish

_PROSE = "about yourself"
"""Under this name the importer keeps tau2-bench's own `known_info`."""


def instructions(domain: Domain, task: Task) -> dict[str, str | None]:
    """The fields of tau2-bench's instructions, but for the domain's name."""
    scenario = task.scenario
    return {
        "reason_for_call": _reason(scenario.wishes) if scenario.wishes else scenario.goal,
        "known_info": "\n".join(_known(domain, task)) or None,
        "unknown_info": scenario.unknown,
        "task_instructions": "\n".join(_behaviour(domain, task)),
    }


def _reason(wishes: tuple[Wish, ...]) -> str:
    said = [f'"{wish.slip or wish.text}"' for wish in wishes]
    if len(said) == 1:
        return f"What you want, as you would say it: {said[0]}"
    return "\n".join(["What you want, in this order, as you would say it:", *(f"{at}. {text}" for at, text in enumerate(said, 1))])


def _known(domain: Domain, task: Task) -> list[str]:
    """Who the user is, and for each wish the details that its words do not give."""
    scenario = task.scenario
    lines = [text if name == _PROSE else f"Your {name}: {text}" for name, text in scenario.known.items()]
    told = set(scenario.known.values())
    lines += [f"Your {_noun(domain, fact)}: {fact.text}" for fact in scenario.facts if fact.text not in told]
    for at, wish in enumerate(scenario.wishes, 1):
        details = [fact for fact in wish.facts if fact.text.lower() not in wish.text.lower()]
        if details:
            lines.append(f"When asked about {'your request' if len(scenario.wishes) == 1 else f'request {at}'}:")
            lines += [f'- {_noun(domain, fact)}: "{fact.text}"' for fact in details]
    return lines


def _noun(domain: Domain, fact: Fact) -> str:
    return domain.phrases.get(f"say:{fact.slot}", (fact.slot.replace("_", " "),))[0]


def _behaviour(domain: Domain, task: Task) -> list[str]:
    scenario = task.scenario
    lines = [scenario.instructions] if scenario.instructions else []
    if not scenario.wishes:
        return lines
    several = len(scenario.wishes) > 1
    if several and scenario.reveal == "together":
        lines.append("Name everything that you want in your first message.")
    elif several:
        lines.append("Raise one request at a time, the next when the one before is done, answered or refused.")
    for at, wish in enumerate(scenario.wishes, 1):
        which = f"Request {at}" if several else "Your request"
        if wish.slip is not None and wish.slip not in (scenario.instructions or ""):
            lines.append(f'{which} is worded with a mistake at first. When the agent asks you to confirm, correct it: "{wish.text}"')
        if wish.transfer:
            lines.append(f"{which}: if the agent says that a person has to settle it, agree to be transferred.")
        elif wish.answers:
            lines.append(f"{which} is a question: be satisfied when the agent has answered it.")
        elif wish.call is None:
            lines.append(f"{which}: if the agent says that it cannot be done, accept that and decline alternatives.")
    if any(domain.is_transfer(call.name) for call in task.criteria.actions):
        lines.append("Agree to be transferred to a person for what the agent cannot settle, and for nothing else.")
    else:
        lines.append("Decline to be transferred to a person.")
    lines.append("Give details only when the agent asks for them. What is not written here you do not know.")
    lines.append("Say yes when the agent proposes exactly what you asked for, correct it where it differs, and agree to nothing else.")
    lines.append("You are finished when every request is done, answered or refused, and every amount that you asked for was told.")
    return lines
