"""An estimate as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from .estimate import Estimate, Stage


def show(estimate: Estimate) -> None:
    """Print an estimate."""
    console = Console(highlight=False, soft_wrap=True)
    size, dialogues = estimate.size, estimate.dialogues
    adapters = f", of which {size.adapters:,} in adapters are trained" if size.adapters else ""
    console.print(f"{estimate.model}: {size.parameters + size.adapters:,} parameters{adapters}")
    console.print(_memory(estimate))
    console.print(
        f"key-value cache: {volume(estimate.cache)} with every rollout of an update at its longest "
        f"({volume(estimate.cache // max(1, estimate.most_tokens) * 1000)} per 1,000 tokens)"
    )
    about = "" if dialogues.counted else "about "
    console.print(
        f"an update: {estimate.rollouts} rollouts, at most {estimate.most_tokens:,} tokens; {about}{estimate.tokens:,} "
        f"like references ({about}{dialogues.tokens:,} each: {dialogues.prompt_tokens:,} prompt, {dialogues.written:,} written)"
    )
    console.print(
        f"environment: {estimate.environment_seconds:.2g} s an update, measured; the model's arithmetic {estimate.model_seconds:.0f} s "
        f"at an assumed speed: the environment's share is about {estimate.environment_share:.2%}"
    )
    for name, stage in _merged(estimate.stages):
        updates = f", {stage.updates} updates" if stage.updates else ""
        console.print(f"  {name}: {stage.rollouts:,} rollouts{updates}")
    if len(estimate.stages) > 1:
        console.print(f"  together: {sum(stage.rollouts for stage in estimate.stages):,} rollouts")
    for note in estimate.notes:
        console.print(f"note: {note}", markup=False)


def _merged(stages: Sequence[Stage]) -> Iterator[tuple[str, Stage]]:
    """The stages with their names; rounds that are alike are shown once."""
    rounds: dict[str, list[Stage]] = {}
    for stage in stages:
        rounds.setdefault(stage.name.partition(":")[0], []).append(stage)
    names = list(rounds)
    at = 0
    while at < len(names):
        figures = [(stage.rollouts, stage.updates) for stage in rounds[names[at]]]
        last = at
        while last + 1 < len(names) and [(stage.rollouts, stage.updates) for stage in rounds[names[last + 1]]] == figures:
            last += 1
        alike = names[at] if at == last else f"each of {names[at].replace('round', 'rounds')} to {names[last].removeprefix('round ')}"
        yield from ((alike + "".join(stage.name.partition(":")[1:]), stage) for stage in rounds[names[at]])
        at = last + 1


def _memory(estimate: Estimate) -> Table:
    table = Table(title="memory of training on one device (*: this run; a pass: its activations)", title_justify="left", box=None)
    for column in ("", "weights", "gradients", "Adam", "reference", "a pass", "together"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for way in estimate.memory:
        held = (way.weights, way.gradients, way.optimizer, way.reference, way.activations, way.total)
        table.add_row(("* " if way.chosen else "  ") + way.name, *map(volume, held))
    return table


def volume(amount: int) -> str:
    """Bytes in the largest unit that leaves a digit before the point."""
    size = float(amount)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
