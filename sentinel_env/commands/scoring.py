"""`sentinel score`: what a run is worth, and the table that `run` prints as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel_env.errors import ConfigError, ModelError

from . import console, options

if TYPE_CHECKING:
    from sentinel_env.judgements import Judgements
    from sentinel_env.llm import Model
    from sentinel_env.metrics import Estimate
    from sentinel_env.scores import Score, Side, Spent
    from sentinel_env.trajectory import Trajectory

JudgeName = Annotated[
    str | None,
    typer.Option("--judge", metavar="MODEL", help="A model that judges natural-language assertions, in columns of its own (extra: llm)."),
]
JudgeBaseUrl = Annotated[
    str | None,
    typer.Option("--judge-base-url", metavar="URL", help=f"As --base-url of run, for the judge; its key is ${options.KEY}."),
]
JudgePrices = Annotated[str | None, typer.Option("--judge-prices", metavar="IN,OUT", help="As --prices of run, for the judge.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", metavar="DOLLARS", help="Stop before the judge costs more.")]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Questions to the judge at once.")]

_SHOWN = 4
"""Pass^1 to Pass^4 are shown, then powers of two and the largest."""


def score(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a trajectories.jsonl.")],
    domain: options.OfDomain = None,
    data: options.Data = None,
    option: options.Settings = None,
    judge: JudgeName = None,
    judge_base_url: JudgeBaseUrl = None,
    judge_prices: JudgePrices = None,
    max_cost: MaxCost = None,
    concurrency: Concurrency = 8,
    as_json: options.AsJson = False,
) -> None:
    """Print Pass^k by split, with 95 % intervals, what failed, and what it took.

    A judge's verdicts are kept beside the run, so that the same command again asks only what is open.
    """
    from sentinel_env.scores import score_by_split

    model = _open_judge(judge, judge_base_url, judge_prices, max_cost)
    ((_, world, trajectories),) = options.open_runs([run], domain, data, option)
    judgements = None if model is None else _judge(run, trajectories, model, concurrency, show=not as_json)
    usage = None if model is None else {"judge": {"model": model.name, **model.spent.model_dump(), "left_out": sorted(model.left_out)}}
    show_scores(score_by_split(world, trajectories, judgements), run, usage, as_json=as_json)
    if judgements is not None:
        _after_trouble(judgements)


def _open_judge(name: str | None, base_url: str | None, prices: str | None, max_cost: float | None) -> Model | None:
    if name is None:
        given = {"--judge-base-url": base_url, "--judge-prices": prices, "--max-cost": max_cost}
        if (first := next((option for option, value in given.items() if value is not None), None)) is not None:
            raise ConfigError(f"{first} goes with --judge MODEL")
        return None
    options.read_prices(prices, option="--judge-prices")
    try:
        return options.open_model(name, base_url, max_cost, prices)
    except ConfigError as error:
        if "no price is known" in str(error):
            hint = "give --judge-prices IN,OUT, such as 0,0 where it costs nothing"
            raise ConfigError(f"--max-cost needs a price, and none is known for model {name!r}; {hint}") from None
        raise


def _judge(run: Path, trajectories: Sequence[Trajectory], model: Model, concurrency: int, *, show: bool) -> Judgements:
    from sentinel_env.judge import judge, questions
    from sentinel_env.judgements import JudgementFile, judgements_beside

    total = sum(1 for _ in questions(trajectories))
    if not total:
        raise ConfigError(f"no task of {run} has natural-language assertions in its reward basis; score it without --judge")
    with JudgementFile(judgements_beside(run)) as file, console.progress(f"asking {model.name}", total, show=show) as update:
        return judge(trajectories, model, file, concurrency=concurrency, on_judged=update)


def _after_trouble(judgements: Judgements) -> None:
    """Do nothing where every question was answered, or never will be.

    Raises:
        ModelError: Some were not, and may be if they are asked again.
    """
    from sentinel_env.judgements import FINAL

    lost = [row for row in judgements.rows.values() if row.not_judged is not None and row.not_judged not in FINAL]
    if not lost:
        return
    ((kind, times),) = Counter(row.not_judged for row in lost).most_common(1)
    reason = judgements.stopped or next(row.reason for row in lost if row.not_judged == kind)
    found = f"{len(lost)} questions to the judge got no answer, {times} of them by trouble of the kind {kind!r}"
    stopped = "; no more were asked" if judgements.stopped else ""
    raise ModelError(f"{found}: {reason}{stopped}; the same command again asks what is open")


def show_scores(scores: Mapping[str, Score], run: Path, usage: Mapping[str, Mapping[str, Any]] | None = None, *, as_json: bool) -> None:
    """Print the scores of a run's splits, and what models took just now."""
    if as_json:
        found = {"run": str(run), "splits": {split: score.model_dump() for split, score in scores.items()}}
        console.echo_json({**found, "usage": usage} if usage else found)
        return
    console.echo_table(["", *scores], score_rows(list(scores.values())), title=str(run))
    if usage and any(used["calls"] for used in usage.values()):
        show_usage(usage)


def score_rows(scores: Sequence[Score]) -> list[list[object]]:
    """The table's rows: a name, then a cell for each score."""
    rows: list[list[object]] = [[name, *(getattr(score, name) for score in scores)] for name in ("tasks", "trajectories", "passed")]
    rows += _pass_rows("Pass^K %", [score.pass_hat for score in scores])
    if any(score.user_faults for score in scores):
        rows.append(["user at fault", *(score.user_faults for score in scores)])
        # where a split has none of them, leaving them out changes nothing
        left = [score.without_user_faults if score.user_faults else score.pass_hat for score in scores]
        rows += _pass_rows("Pass^K % without these", left)
        rows.append(["tasks without these", *(found[0].tasks if found else 0 for found in left)])
    rows += _judged_rows(scores)
    for what, counts in (("failed", "failed_checks"), ("ended by", "endings")):
        for name in dict.fromkeys(name for score in scores for name in getattr(score, counts)):
            rows.append([f"{what} {name}", *(getattr(score, counts).get(name, 0) for score in scores)])
    rows += _count_rows(scores, "excluded", "left out (infrastructure)")
    if not any(score.judged for score in scores):
        rows += _count_rows(scores, "not_judged", "without the judge model")
    rows += _count_rows(scores, "recorded", "with a recorded reward")
    rows += _count_rows(scores, "agreed", "where it is the same")
    return rows + _usage_rows(scores)


def _count_rows(scores: Sequence[Score], name: str, what: str) -> list[list[object]]:
    counts = [getattr(score, name) for score in scores]
    return [[what, *counts]] if any(counts) else []


def _pass_rows(name: str, found: Sequence[Sequence[Estimate]]) -> list[list[object]]:
    largest = max(map(len, found), default=0)
    shown = (k for k in range(1, largest + 1) if k <= _SHOWN or k.bit_count() == 1 or k == largest)
    return [[name.replace("^K", f"^{k}", 1), *(str(each[k - 1]) if k <= len(each) else "-" for each in found)] for k in shown]


def _judged_rows(scores: Sequence[Score]) -> list[list[object]]:
    judged = [score.judged for score in scores if score.judged is not None]
    if len(judged) < len(scores) or not judged:
        return []
    rows: list[list[object]] = [
        ["assertions met", *(each.met for each in judged)],
        ["assertions not met", *(each.unmet for each in judged)],
    ]
    for reason in dict.fromkeys(reason for each in judged for reason in each.not_judged):
        rows.append([f"not judged ({reason})", *(each.not_judged.get(reason, 0) for each in judged)])
    if any(each.left_out for each in judged):
        rows.append(["left out (not judged)", *(each.left_out for each in judged)])
    return rows + _pass_rows(f"Pass^K % judged by {judged[0].model}", [each.pass_hat for each in judged])


def _usage_rows(scores: Sequence[Score]) -> list[list[object]]:
    rows: list[list[object]] = []
    shown: dict[str, Callable[[Spent], object]] = {
        "calls": lambda spent: spent.calls,
        "prompt tokens": lambda spent: spent.prompt_tokens,
        "answer tokens": lambda spent: spent.completion_tokens,
        "cost": _cost,
    }
    sides: tuple[Side, ...] = ("agent", "user")
    for side in sides:
        spent = [score.usage.get(side) for score in scores]
        if any(spent):
            rows += [[f"{side}'s {name}", *("-" if each is None else cell(each) for each in spent)] for name, cell in shown.items()]
    return rows


def _cost(spent: Spent) -> str:
    if spent.cost is None:
        return "-"
    partly = f" (known of {spent.with_cost} of {spent.trajectories})" if spent.with_cost < spent.trajectories else ""
    return f"{dollars(spent.cost)}{partly}"


def dollars(cost: float) -> str:
    """A cost in words."""
    return "under $0.0001" if 0 < cost < 0.0001 else f"${cost:.4f}"


def show_usage(usage: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what models took just now, by side."""
    rows = []
    for side, used in usage.items():
        counts = (used[name] for name in ("calls", "failed", "prompt_tokens", "completion_tokens"))
        option = {"agent": "--prices"}.get(side, f"--{side}-prices")
        rows.append([side, used["model"], *counts, f"unknown; give {option}" if used["cost"] is None else dollars(used["cost"])])
    console.echo()
    console.echo_table(["", "model", "calls", "without an answer", "prompt tokens", "answer tokens", "cost"], rows, title="asked now")
    for side, used in usage.items():
        if used["left_out"]:
            console.echo(f"the {side}'s server does not take {', '.join(used['left_out'])}; it was asked without")
