"""`sentinel verify`: proposals through the gates, and certified tasks through them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel_env.errors import ConfigError

from . import console, executing, options

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.proposals import TaskProposal, Verdict
    from sentinel_env.ray_cluster import Ray
    from sentinel_env.tasks import Task
    from sentinel_env.verification import Examination, Recheck

_LIMIT = 15


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Proposals, or tasks with certificates.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where to write the tasks that pass.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Rehearse the pattern's own mistake alone, not every foil.")] = False,
    oracle: Annotated[str | None, typer.Option("--oracle", metavar="AGENT", help="A strong agent that must pass at least once.")] = None,
    pilot: Annotated[
        str | None, typer.Option("--pilot", metavar="AGENT", help="The agent to be trained; what it never passes is deferred.")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Attempts of the pilot.")] = 16,
    deferred: Annotated[Path | None, typer.Option("--deferred", help="Where to write the proposals that the pilot defers.")] = None,
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    executor: executing.Executor = "local",
    ray_address: executing.RayAddress = None,
    as_json: options.AsJson = False,
) -> None:
    """Put proposals through the gates and keep what passes, or tasks through them again.

    For tasks the exit code is 1 when a certificate does not hold any more.
    """
    from sentinel_env.proposals import load_proposals_or_tasks
    from sentinel_env.tasks import Task
    from sentinel_env.verification import Examination

    loaded = load_proposals_or_tasks(file)
    if not loaded:
        raise ConfigError(f"{file} holds no proposal")
    tasks = [each for each in loaded if isinstance(each, Task)]
    proposals = [each for each in loaded if not isinstance(each, Task)]
    drafts = tasks or [proposal.draft for proposal in proposals]
    if deferred is not None and pilot is None:
        raise ConfigError("--deferred goes with --pilot")
    cluster = executing.choose_cluster(executor, ray_address)
    examination = Examination(
        rehearse="mistake" if quick else "all",
        oracle=options.choose_agent(oracle, drafts) if oracle else None,
        pilot=options.choose_agent(pilot, drafts) if pilot else None,
        pilot_trials=trials,
    )
    world = options.open_domain(domain or (tasks[0].domain if tasks else proposals[0].draft.domain), data, option)
    if tasks:
        _verify_tasks(world, tasks, examination, cluster, out, as_json)
    else:
        _verify_proposals(world, proposals, examination, cluster, out, deferred, as_json)


def _verdicts(world: Domain, proposals: Sequence[TaskProposal], examination: Examination, cluster: Ray | None) -> Iterator[Verdict]:
    if cluster is not None:
        from sentinel_env.ray_parts import verify_in_parts

        return verify_in_parts(cluster, world, proposals, examination)
    from sentinel_env.verification import verify_all

    return verify_all(world, proposals, known=world.tasks_by_id.values(), examination=examination)


def _rechecks(world: Domain, tasks: Sequence[Task], examination: Examination, cluster: Ray | None) -> Iterator[Recheck]:
    if cluster is not None:
        from sentinel_env.ray_parts import recheck_in_parts

        return recheck_in_parts(cluster, world, tasks, examination)
    from sentinel_env.verification import verify_certificates

    return verify_certificates(world, tasks, examination=examination)


def _verify_proposals(
    world: Domain,
    proposals: Sequence[TaskProposal],
    examination: Examination,
    cluster: Ray | None,
    out: Path | None,
    deferred: Path | None,
    as_json: bool,
) -> None:
    from sentinel_env.proposals import save_proposals

    from .files import write

    verdicts: list[Verdict] = []
    with console.progress("verifying", len(proposals), show=not as_json) as show:
        for verdict in _verdicts(world, proposals, examination, cluster):
            verdicts.append(verdict)
            show(len(verdicts))
    accepted = [verdict.task for verdict in verdicts if verdict.task is not None]
    later = [verdict.proposal for verdict in verdicts if verdict.deferred]
    _save(out, accepted)
    if deferred is not None:
        write(deferred, lambda: save_proposals(deferred, later))
    if as_json:
        rows = [
            {"id": verdict.proposal.draft.id, "accepted": verdict.task is not None, "gates": [gate.model_dump() for gate in verdict.gates]}
            for verdict in verdicts
        ]
        console.echo_json({"accepted": len(accepted), "deferred": len(later), **_by_gate(verdicts), "verdicts": rows})
        return
    _echo_gates(verdicts)
    refused = [(verdict.proposal.draft.id, gate) for verdict in verdicts if (gate := verdict.rejected_by) is not None]
    for name, gate in refused[:_LIMIT]:
        console.echo(f"refused {name}, {gate.name}: {gate.reason}")
    _echo_rest(len(refused))
    if later:
        console.echo(f"{len(later)} deferred, which the pilot never passed{f', in {deferred}' if deferred else ''}")
    console.echo(f"{len(accepted)} of {len(verdicts)} accepted{f', in {out}' if out else ''}")


def _verify_tasks(
    world: Domain, tasks: Sequence[Task], examination: Examination, cluster: Ray | None, out: Path | None, as_json: bool
) -> None:
    rechecks: list[Recheck] = []
    with console.progress("verifying", len(tasks), show=not as_json) as show:
        for recheck in _rechecks(world, tasks, examination, cluster):
            rechecks.append(recheck)
            show(len(rechecks))
    states = Counter(recheck.state for recheck in rechecks)
    counts = {state: states[state] for state in ("holds", "changed", "fails", "uncertified")}
    verdicts = [recheck.verdict for recheck in rechecks if recheck.verdict is not None]
    _save(out, [recheck.task for recheck in rechecks if recheck.state in ("holds", "changed")])
    if as_json:
        rows = [{"id": recheck.task.id, "state": recheck.state, "reason": recheck.reason} for recheck in rechecks]
        console.echo_json({**counts, **_by_gate(verdicts), "tasks": rows})
    else:
        _echo_gates(verdicts)
        shown = [recheck for recheck in rechecks if recheck.state != "holds"]
        for recheck in shown[:_LIMIT]:
            console.echo(f"{recheck.state} {recheck.task.id}: {recheck.reason}")
        _echo_rest(len(shown))
        console.echo(f"{len(rechecks)} tasks: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    if states["changed"] or states["fails"]:
        raise typer.Exit(1)


def _by_gate(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """How many proposals each gate refused, and how many it had nothing to check with."""
    refused, unchecked = _count(verdicts)
    return {"refused": dict(refused), "unchecked": dict(unchecked)}


def _count(verdicts: Iterable[Verdict]) -> tuple[Counter[str], Counter[str]]:
    refused: Counter[str] = Counter()
    unchecked: Counter[str] = Counter()
    for verdict in verdicts:
        if verdict.rejected_by is not None:
            refused[verdict.rejected_by.name] += 1
        unchecked.update(gate.name for gate in verdict.gates if not gate.checked)
    return refused, unchecked


def _echo_gates(verdicts: Sequence[Verdict]) -> None:
    from sentinel_env.verification import GATES

    refused, unchecked = _count(verdicts)
    console.echo_table(["gate", "refused", "unchecked"], [[gate, refused[gate], unchecked[gate]] for gate in GATES])


def _echo_rest(count: int) -> None:
    if count > _LIMIT:
        console.echo(f"and {count - _LIMIT} more; --json lists all")


def _save(out: Path | None, tasks: Sequence[Task]) -> None:
    from sentinel_env.tasks import save_tasks

    from .files import write

    if out is not None:
        write(out, lambda: save_tasks(out, tasks))
