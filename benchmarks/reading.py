"""A task in words, for a person to read: what the customer wants and knows, what the reference does, and which mistakes it must punish."""

from __future__ import annotations

from collections.abc import Iterator

from sentinel_env import Domain, Task, ToolCall


def as_text(domain: Domain, task: Task) -> str:
    """Everything that a reader needs to say whether the task is sound."""
    return "\n".join(_lines(domain, task))


def _lines(domain: Domain, task: Task) -> Iterator[str]:
    scenario, certificate = task.scenario, task.certificate
    yield f"## {task.id} ({task.source})"
    yield f"goal ({scenario.reveal}): {scenario.goal}"
    asides = (scenario.persona, scenario.instructions)
    yield f"knows {scenario.known}; does not know: {scenario.unknown} {' '.join(each for each in asides if each)}"
    for wish in scenario.wishes:
        yield f"wish: {wish.text}{f' (says at first: {wish.slip})' if wish.slip else ''}"
        yield from (f"    {fact.slot}: {fact.text}  ->  {fact.value}" for fact in wish.facts)
        yield f"    {', '.join(f'{name} from {origin}' for name, origin in wish.provenance.items())}"
    yield f"changes to the database: {task.changes or 'none'}"
    db = domain.start(task)
    for call in task.criteria.actions:
        answer = domain.execute(db, call)
        writes = domain.tools_by_name[call.name].writes
        yield f"{'WRITE' if writes else 'read '} {_call(call)}{'' if writes else f'  ->  {answer.content[:1500]}'}"
    yield f"to be told: {task.criteria.communicate or 'nothing'}; basis: {task.criteria.basis}"
    for foil in certificate.foils if certificate else ():
        made = "; ".join(map(_call, foil.calls))
        yield f"foil {foil.label}{' (mutant)' if foil.mutant else ''}: at {foil.at} drops {foil.drop}, makes {made or 'nothing'}"
    if certificate and certificate.unpunished:
        yield f"unpunished: {certificate.unpunished}"


def _call(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
