"""How well the scripted user understands what recorded agents ask: precision and recall for each label of `tests/data/user_asks.jsonl`.

    python benchmarks/user_accuracy.py                 # the development messages: both old halves together, and each
    python benchmarks/user_accuracy.py --half final    # the measurement
    python benchmarks/user_accuracy.py --json          # the same as one JSON object

The recorded messages lie in the shared data's `trajectories/` folder; SENTINEL_SHARED overrides `../shared` beside the repository.
The rules were tuned on `dev` and `test`. `final` is read only when it is asked for: rules that are tuned on it need new messages.
"""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

from sentinel_domains.retail.phrases import PHRASES

from sentinel_env.understanding import read

ROOT = Path(__file__).resolve().parents[1]
LABELS = ROOT / "tests" / "data" / "user_asks.jsonl"
ASKS = ("identity", "order", "item", "new_item", "payment", "reason", "address", "confirm", "choice", "anything_else")
TELLS = ("transfer", "refusal", "done", "inform")
DEVELOPMENT = ("dev", "test")


def load_examples(halves: tuple[str, ...]) -> list[dict]:
    """The labels of some halves, with what the scripted user understands."""
    folder = Path(os.environ.get("SENTINEL_SHARED", ROOT.parent / "shared")) / "data" / "trajectories"
    if not folder.is_dir():
        sys.exit(f"no recorded messages in {folder}; set SENTINEL_SHARED to the folder that holds data/trajectories")
    recorded: dict[str, list] = {}
    examples = []
    for line in LABELS.read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        if label["half"] not in halves:
            continue
        if label["file"] not in recorded:
            raw = json.loads((folder / f"{label['file']}.json").read_text(encoding="utf-8"))
            recorded[label["file"]] = raw if isinstance(raw, list) else raw["simulations"]
        run = recorded[label["file"]][label["run"]]
        text = run["traj" if "traj" in run else "messages"][label["message"]]["content"]
        found = read(text, PHRASES)
        examples.append(label | {"text": text, "found_asks": found.asks & set(ASKS), "found_tells": found.tells})
    return examples


def measure(examples: list[dict]) -> dict:
    """Counts and rates over some examples."""
    result: dict = {"messages": len(examples), "labels": {}}
    for kind, labels in (("asks", ASKS), ("tells", TELLS)):
        pooled: Counter = Counter()
        for label in labels:
            counts: Counter = Counter()
            for example in examples:
                wanted, found = label in example[kind], label in example[f"found_{kind}"]
                counts["true_positive" if wanted and found else "missed" if wanted else "false_alarm" if found else "true_negative"] += 1
            pooled += counts
            result["labels"][label] = rates(counts)
        result[kind] = rates(pooled)
        exact = sum(set(example[kind]) == set(example[f"found_{kind}"]) for example in examples)
        result[f"exact_{kind}"] = {"count": exact, "rate": exact / len(examples)}
    return result


def rates(counts: Counter) -> dict:
    hit, missed, wrong = counts["true_positive"], counts["missed"], counts["false_alarm"]
    return {
        "true_positive": hit,
        "missed": missed,
        "false_alarm": wrong,
        "precision": hit / (hit + wrong) if hit + wrong else None,
        "recall": hit / (hit + missed) if hit + missed else None,
        "f1": 2 * hit / (2 * hit + missed + wrong) if hit + missed + wrong else None,
    }


def show(name: str, result: dict) -> None:
    print(
        f"\n{name}: {result['messages']} messages; exact set of asks {result['exact_asks']['count']} ({result['exact_asks']['rate']:.3f})"
    )
    print(f"{'label':15}{'hit':>5}{'miss':>6}{'false':>7}{'precision':>11}{'recall':>8}{'F1':>7}")
    for label, row in [*result["labels"].items(), ("asks, pooled", result["asks"]), ("tells, pooled", result["tells"])]:
        figures = "".join(
            f"{row[key]:>{width}.3f}" if row[key] is not None else f"{'-':>{width}}"
            for key, width in (("precision", 11), ("recall", 8), ("f1", 7))
        )
        print(f"{label:15}{row['true_positive']:>5}{row['missed']:>6}{row['false_alarm']:>7}{figures}")


def groups_of(examples: list[dict], halves: tuple[str, ...]) -> dict[str, list[dict]]:
    """Named parts of the examples: everything, each half, each file of it."""
    groups = {"development": examples} if len(halves) > 1 else {}
    for half in halves:
        groups[half] = [example for example in examples if example["half"] == half]
        for file in sorted({example["file"] for example in groups[half]}):
            groups[f"{half}, {file}"] = [example for example in groups[half] if example["file"] == file]
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--half", choices=[*DEVELOPMENT, "final"], help="only this half; without it, those of development")
    arguments = parser.parse_args()
    halves = (arguments.half,) if arguments.half else DEVELOPMENT
    results = {name: measure(group) for name, group in groups_of(load_examples(halves), halves).items()}
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        for name, result in results.items():
            show(name, result)


if __name__ == "__main__":
    main()
