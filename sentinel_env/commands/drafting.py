"""`sentinel propose --model`: drafts by a language model, or the program's own in its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel_env.errors import ConfigError

from . import console, options
from .files import write

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.failures import FailurePattern
    from sentinel_env.generation.drafting import Drafts
    from sentinel_env.generation.paraphrasing import Rewordings
    from sentinel_env.llm import Model
    from sentinel_env.proposals import TaskProposal
    from sentinel_env.ray_cluster import Ray
    from sentinel_env.tasks import Task

_LIMIT = 15
_WIDTH = 160

Paraphrase = Annotated[bool, typer.Option("--paraphrase", help="Let the model reword the program's drafts instead of writing its own.")]


def choose_model(name: str | None, base_url: str | None, max_cost: float | None, prices: str | None, paraphrase: bool) -> Model | None:
    """The model that is to write, or None where the program does.

    Raises:
        ConfigError: The options do not go together, or there is no such model.
    """
    if name is not None:
        return options.open_model(name, base_url, max_cost, prices)
    values = {"--base-url": base_url, "--max-cost": max_cost, "--prices": prices, "--paraphrase": paraphrase or None}
    if given := [option for option, value in values.items() if value is not None]:
        raise ConfigError(f"{given[0]} needs a model: --model NAME")
    return None


def program_drafts(
    world: Domain, patterns: Sequence[FailurePattern], *, n: int, seed: int, split: str, cluster: Ray | None
) -> Iterator[tuple[list[TaskProposal], Counter[str]]]:
    """The program's own drafts for each pattern, and why tries came to nothing."""
    if cluster is not None:
        from sentinel_env.ray_parts import propose_in_parts

        yield from propose_in_parts(cluster, world, patterns, n=n, seed=seed, split=split)
        return
    from sentinel_env.generation import propose_tasks

    for pattern in patterns:
        misses: Counter[str] = Counter()
        yield propose_tasks(world, pattern, n=n, seed=seed, split=split, misses=misses), misses


def propose(
    model: Model,
    world: Domain,
    patterns: Sequence[FailurePattern],
    out: Path,
    *,
    n: int,
    seed: int,
    split: str,
    paraphrase: bool,
    as_json: bool,
) -> None:
    """Ask the model about each pattern, write what passes the gates, and say what became of the rest.

    Raises:
        typer.Exit: With 1 where the model could not be asked.
        KeyboardInterrupt: After what there was by then was written.
    """
    from sentinel_env.proposals import save_proposals

    work = _reword if paraphrase else _draft
    found: list[Drafts | Rewordings] = []
    proposals: list[TaskProposal] = []
    counts: dict[str, int] = {}
    with console.progress(f"asking {model.name}", n * len(patterns), show=not as_json) as show:
        for at, pattern in enumerate(patterns):
            known = [*world.tasks_by_id.values(), *(proposal.draft for proposal in proposals)]
            one, made = work(model, world, pattern, known, n=n, seed=seed, split=split, on_finished=_after(at * n, show))
            found.append(one)
            counts[pattern.id] = counts.get(pattern.id, 0) + len(made)
            proposals.extend(made)
            if one.stopped is not None:
                break
    write(out, lambda: save_proposals(out, proposals))
    if as_json:
        asked = [each.model_dump(mode="json", include=_SUMMARY) for each in found]
        console.echo_json({"out": str(out), "proposals": len(proposals), "by_pattern": counts, "asked": asked})
    else:
        console.echo_table(["failure pattern", "proposals"], list(counts.items()))
        for line in _lines(found):
            console.echo(line)
        console.echo(f"{len(proposals)} proposals in {out}")
    _end(found[-1])


_SUMMARY = {"model", "counts", "refused", "usage", "stopped", "out_of_budget"}


def _after(before: int, show: Callable[..., None]) -> Callable[[int], None]:
    return lambda finished: show(before + finished)


def _draft(
    model: Model,
    world: Domain,
    pattern: FailurePattern,
    known: Sequence[Task],
    *,
    n: int,
    seed: int,
    split: str,
    on_finished: Callable[[int], None],
) -> tuple[Drafts, Sequence[TaskProposal]]:
    from sentinel_env.generation.drafting import draft_tasks

    found = draft_tasks(world, pattern, model, n=n, seed=seed, split=split, known=known, on_finished=on_finished)
    return found, found.proposals


def _reword(
    model: Model,
    world: Domain,
    pattern: FailurePattern,
    known: Sequence[Task],
    *,
    n: int,
    seed: int,
    split: str,
    on_finished: Callable[[int], None],
) -> tuple[Rewordings, Sequence[TaskProposal]]:
    """The program's drafts, composed in plain words for the model to speak in the voices that the pattern allows."""
    from sentinel_env.generation import propose_tasks
    from sentinel_env.generation.paraphrasing import paraphrase
    from sentinel_env.proposals import TaskProposal

    plainly = pattern.model_copy(update={"knobs": pattern.knobs.model_copy(update={"voices": ("plain",)})})
    made = propose_tasks(world, plainly, n=n, seed=seed, split=split)
    found = paraphrase(world, made, model, seed=seed, voices=pattern.knobs.voices, known=known, on_finished=on_finished)
    return found, [each for each in found.kept if isinstance(each, TaskProposal)]


def _lines(found: Sequence[Drafts | Rewordings]) -> Iterator[str]:
    """What was refused and why, and what the model took."""
    counts = sum((Counter(each.counts) for each in found), Counter[str]())
    if counts:
        yield f"refused for good: {', '.join(f'{times} {gate}' for gate, times in counts.most_common())}"
    reasons = Counter(f"{refusal.gate}: {refusal.reason}" for each in found for refusal in each.refused)
    for reason, times in reasons.most_common(_LIMIT):
        yield f"  {times} x {reason[:_WIDTH]}"
    usage = sum((each.usage for each in found), type(found[0].usage)())
    cost = "at unknown cost" if usage.cost is None else f"for ${usage.cost:.4f}"
    failed = f", {usage.failed} of them without an answer" if usage.failed else ""
    yield f"{usage.calls} calls{failed}, {usage.tokens:,} tokens {cost}"
    if found[-1].out_of_budget:
        yield f"ended by the budget: {found[-1].stopped}"


def _end(last: Drafts | Rewordings) -> None:
    from sentinel_env.generation.inquiry import INTERRUPTED

    if last.stopped == INTERRUPTED:
        raise KeyboardInterrupt
    if last.stopped is not None and not last.out_of_budget:
        typer.echo(f"not all were asked for: {last.stopped}", err=True)
        raise typer.Exit(1)
