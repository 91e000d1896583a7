"""Compare the advisor's ranking with the measurements. Nothing is trained here.

    python benchmarks/advisor.py --data DIR [--rows benchmarks/rows] [--sets 'bottle; wood; ...']

DIR holds the sets and splits/, as for the other benchmarks, whose --json files in --rows are the measurements: files
named after the script, perhaps with -anything after it. A method's metric is the mean of its seeds with its default
options; where it was measured with others alone, with the first of those, and a star. Of the methods that a set has
metrics of, those that the advisor ranks are shown in its order. `better of two`: whether the first of them measured
better than the second. `pairs`: how many of all pairs of them are in the measured order. Metrics that agree to three
digits are equal, and count for neither side. A set with fewer than two such methods decides nothing.
"""

import argparse
import tempfile
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import classification
import unsupervised
from rich.console import Console
from rich.table import Table
from runs import append
from table import Row, read_rows

from blemish import BlemishError, read_dataset
from blemish.training.advice.plan import Advice, advise

HERE = Path(__file__).parent
COLUMNS = ("set", "figure", "plan names", "the advisor's order", "measured", "better of two", "pairs", "best measured")


@dataclass(frozen=True)
class Case:
    """A set and its measurements: the script, the name of the set there, the metric."""

    script: str
    rows_set: str | None  # None: the script knows one set
    metric: str
    folder: str | None = None  # of a set with a list in splits/; None: the script knows where its set lies


CASES = {
    "bottle": Case("unsupervised", "bottle", "image AUROC"),
    "wood": Case("unsupervised", "wood", "image AUROC"),
    "magnetic tile, good images": Case("unsupervised", "magnetic_tile", "image AUROC"),
    "magnetic tile, masks": Case("segmentation", None, "IoU", "magnetic_tile_supervised"),
    "NEU-DET, boxes": Case("detection", "neu_det", "mAP50", "neu_det"),
    "DeepPCB, boxes": Case("detection", "deeppcb", "mAP50", "deeppcb"),
    "elpv, good mono cells": Case("unsupervised", "elpv", "image AUROC"),
    "elpv, labels": Case("classification", "elpv", "macro F1"),
    "NEU-DET, classes": Case("classification", "neu", "macro F1"),
    "magnetic tile, classes": Case("classification", "magnetic_tile", "macro F1"),
}


def get_advice(case: Case, data: Path) -> Advice:
    """The advice for the same images that were measured on."""
    with tempfile.TemporaryDirectory() as folder:
        if case.folder is not None:
            root: str | None = str(data / case.folder.removesuffix("_supervised"))
            path = str(data / "splits" / f"{case.folder}.csv")
        else:
            script: Any = {"unsupervised": unsupervised, "classification": classification}[case.script]
            path, root = script.source(case.rows_set, data, Path(folder))
        return advise(read_dataset(path, root=root))


def measured(case: Case, rows: Path) -> dict[str, tuple[float, str]]:
    """The metric of each method, with a star where its options are not the defaults."""
    paths = sorted({*rows.glob(f"{case.script}.jsonl"), *rows.glob(f"{case.script}-*.jsonl")})
    by_method: dict[str, dict[str, dict[Any, float]]] = {}  # method -> options -> seed and device -> metric
    for row in (row for path in paths for row in read_rows(path)):
        if case.rows_set is not None and row.get("set") != case.rows_set:
            continue
        if isinstance(row.get(case.metric), int | float):
            own = by_method.setdefault(row["method"], {}).setdefault(row.get("options") or "", {})
            own[row.get("seed"), row.get("device")] = float(row[case.metric])
    metrics = {}
    for method, by_options in by_method.items():
        options = "" if "" in by_options else next(iter(by_options))
        metrics[method] = (round(mean(by_options[options].values()), 3), "" if options == "" else "*")
    return metrics


def compared(name: str, case: Case, advice: Advice, metrics: dict[str, tuple[float, str]]) -> Row:
    order = [(r.method, r.points) for r in advice.ranking if r.method in metrics]
    values = [metrics[method][0] for method, _ in order]
    pairs = [(a > b) - (a < b) for a, b in combinations(values, 2)]
    decided = [pair for pair in pairs if pair]
    best = max(metrics, key=lambda method: metrics[method][0], default=None)
    return {
        "set": name,
        "figure": case.metric,
        "plan names": advice.method,
        "the advisor's order": ", ".join(f"{method} {points}" for method, points in order),
        "measured": ", ".join(f"{metrics[method][0]:.3f}{metrics[method][1]}" for method, _ in order),
        "better of two": "" if len(order) < 2 else {1: "yes", 0: "equal", -1: "no"}[pairs[0]],
        "pairs": f"{decided.count(1)} of {len(decided)}" if decided else "",
        "best measured": "not measured yet" if best is None else f"{best} {metrics[best][0]:.3f}{metrics[best][1]}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=Path, default=HERE / "rows")
    parser.add_argument("--sets", help=f"separated by semicolons, of: {'; '.join(CASES)} [default: all]")
    parser.add_argument("--json", type=Path, help="append each row to this file as it comes")
    arguments = parser.parse_args()
    names = [name.strip() for name in arguments.sets.split(";")] if arguments.sets else list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"there is no set {unknown[0]!r}; there are {'; '.join(CASES)}")
    table, rows = Table(*COLUMNS), []
    for name in names:
        case = CASES[name]
        try:
            row = compared(name, case, get_advice(case, arguments.data), measured(case, arguments.rows))
        except BlemishError as error:
            table.add_row(name, case.metric, f"not here: {error}")
            continue
        rows.append(row)
        table.add_row(*(str(row[column]) for column in COLUMNS))
        append(arguments.json, row)
    Console(width=180).print(table)
    answers = [row["better of two"] for row in rows if row["better of two"]]
    print(
        f"The plan names the better of its first two measured methods on {answers.count('yes')} of {len(answers)} sets"
        f" ({answers.count('equal')} equal); without metrics of two methods: {len(names) - len(answers)}."
    )


if __name__ == "__main__":
    main()
