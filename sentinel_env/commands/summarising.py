"""`sentinel failures --summarise`: failure patterns in a model's words, beside those of the program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel_env.errors import ConfigError

from . import console, failure_text, options

if TYPE_CHECKING:
    from sentinel_env.domain import Domain
    from sentinel_env.failures import FailureReport
    from sentinel_env.failures.summary import Summaries
    from sentinel_env.llm import Model
    from sentinel_env.trajectory import Trajectory

Summarise = Annotated[bool, typer.Option("--summarise", help="Let a model put the patterns into words; its claims are checked.")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="How often the model is asked about a pattern; most must agree.")]


def choose_model(wanted: bool, name: str | None, base_url: str | None, max_cost: float | None, prices: str | None) -> Model | None:
    """The model that is to summarise, or None where that is not wanted.

    Raises:
        ConfigError: The options do not go together, or there is no such model.
    """
    if not wanted:
        given = [option for option, value in (("--model", name), ("--base-url", base_url), ("--max-cost", max_cost)) if value is not None]
        if given:
            raise ConfigError(f"{given[0]} goes with --summarise")
        return None
    if name is None:
        raise ConfigError("--summarise needs a model: --model NAME")
    return options.open_model(name, base_url, max_cost, prices)


def summarise(
    model: Model,
    samples: int,
    domain: Domain,
    report: FailureReport,
    trajectories: Iterable[Trajectory],
    memory: Path | None,
    *,
    show: bool,
) -> Summaries:
    """Ask the model about a report's patterns, with a progress bar on a terminal."""
    from sentinel_env.failures import Memory, summariser

    sampling = summariser.Sampling(samples=samples, needed=samples // 2 + 1)
    remembered = Memory.load(memory) if memory is not None else None
    total = len(summariser.choose(report.patterns))
    with console.progress(f"asking {model.name}", total, show=show) as update:
        return summariser.summarise(domain, report.patterns, trajectories, model, sampling=sampling, memory=remembered, on_finished=update)


def summary_lines(found: Summaries) -> Iterator[str]:
    """What a model said, for a terminal."""
    yield ""
    yield f"In the words of {found.model}, where {found.needed} of {found.samples} samples agree and the runs that they cite bear them out"
    for each in found.summaries:
        yield ""
        yield f"  {each.pattern_id}"
        yield from failure_text.indented(f"{each.title}: {each.mechanism}", 4, lines=6)
        cited = len({citation.trajectory for citation in each.evidence})
        context = f"goes with {', '.join(each.trigger_context)}; " if each.trigger_context else ""
        other = "" if each.agrees else f"; it calls this {each.parent_label}, against the program"
        yield from failure_text.indented(f"{context}{cited} runs cited, {each.support} of {each.samples} samples agree{other}", 4)
    if not found.summaries:
        yield "  nothing holds"
    lost = [rejected for rejected in found.rejected if rejected.sample is None]
    if lost:
        yield ""
        yield "Nothing is kept of"
    for rejected in lost:
        reasons = Counter(other.reason for other in found.rejected if other.pattern_id == rejected.pattern_id and other.sample is not None)
        often = f"; mostly: {reasons.most_common(1)[0][0]}" if reasons else ""
        yield from failure_text.indented(f"{rejected.pattern_id}: {rejected.reason}{often}", 2)
    usage, agreement = found.usage, found.agreement
    cost = "at unknown cost" if usage.cost is None else f"for ${usage.cost:.4f}"
    failed = f", {usage.failed} of them without an answer" if usage.failed else ""
    yield ""
    yield f"{usage.calls} calls{failed}, {usage.tokens:,} tokens {cost}"
    if agreement.drafts:
        yield (
            f"of {agreement.drafts} samples {agreement.same_label} name the program's label; "
            f"of {agreement.steps} steps cited {agreement.near_steps} lie within 2 messages of its own"
        )
    if found.out_of_budget:
        yield f"ended by the budget: {found.stopped}"
