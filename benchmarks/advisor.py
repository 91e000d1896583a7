"""Whether the advisor is right: its ranking beside what was measured. Nothing is trained here.

    python benchmarks/advisor.py --data DIR [--rows benchmarks/rows] [--sets 'bottle; wood; ...']

DIR holds the sets and splits/, as for the other benchmarks, whose --json files in --rows are the measurements: files
named after the script, perhaps with -anything behind it. A method's figure is the mean of its seeds with its default
options; where it was measured with others alone, with the first of those, and a star. Of the methods that a set has
figures of, those that the advisor ranks are shown in its order. `better of two`: whether the first of them measured
better than the second. `pairs`: how many of all pairs of them stand in the measured order. Figures that agree to three
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
    """A set, and the measurements of it: of which script, under which name, by which figure."""

    script: str
    rows_set: str | None  # None: the script knows one set
    figure: str
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


def advice_for(case: Case, data: Path) -> Advice:
    """What the advisor says of the very images that were measured on."""
    with tempfile.TemporaryDirectory() as folder:
        if case.folder is not None:
            root: str | None = str(data / case.folder.removesuffix("_supervised"))
            path = str(data / "splits" / f"{case.folder}.csv")
        else:
            script: Any = {"unsupervised": unsupervised, "classification": classification}[case.script]
            path, root = script.source(case.rows_set, data, Path(folder))
        return advise(read_dataset(path, root=root))


def measured(case: Case, rows: Path) -> dict[str, tuple[float, str]]:
    """The figure of each method, and a star where it is not of the default options."""
    paths = sorted({*rows.glob(f"{case.script}.jsonl"), *rows.glob(f"{case.script}-*.jsonl")})
    found: dict[str, dict[str, dict[Any, float]]] = {}  # method -> options -> seed and device -> figure
    for row in (row for path in paths for row in read_rows(path)):
        if case.rows_set is not None and row.get("set") != case.rows_set:
            continue
        if isinstance(row.get(case.figure), int | float):
            own = found.setdefault(row["method"], {}).setdefault(row.get("options") or "", {})
            own[row.get("seed"), row.get("device")] = float(row[case.figure])
    figures = {}
    for method, by_options in found.items():
        options = "" if "" in by_options else next(iter(by_options))
        figures[method] = (round(mean(by_options[options].values()), 3), "" if options == "" else "*")
    return figures


def compared(name: str, case: Case, advice: Advice, figures: dict[str, tuple[float, str]]) -> Row:
    order = [(r.method, r.points) for r in advice.ranking if r.method in figures]
    values = [figures[method][0] for method, _ in order]
    pairs = [(a > b) - (a < b) for a, b in combinations(values, 2)]
    told = [pair for pair in pairs if pair]
    best = max(figures, key=lambda method: figures[method][0], default=None)
    return {
        "set": name,
        "figure": case.figure,
        "plan names": advice.method,
        "the advisor's order": ", ".join(f"{method} {points}" for method, points in order),
        "measured": ", ".join(f"{figures[method][0]:.3f}{figures[method][1]}" for method, _ in order),
        "better of two": "" if len(order) < 2 else {1: "yes", 0: "equal", -1: "no"}[pairs[0]],
        "pairs": f"{told.count(1)} of {len(told)}" if told else "",
        "best measured": "not measured yet" if best is None else f"{best} {figures[best][0]:.3f}{figures[best][1]}",
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
    table, found = Table(*COLUMNS), []
    for name in names:
        case = CASES[name]
        try:
            row = compared(name, case, advice_for(case, arguments.data), measured(case, arguments.rows))
        except BlemishError as error:
            table.add_row(name, case.figure, f"not here: {error}")
            continue
        found.append(row)
        table.add_row(*(str(row[column]) for column in COLUMNS))
        append(arguments.json, row)
    Console(width=180).print(table)
    answers = [row["better of two"] for row in found if row["better of two"]]
    print(
        f"The plan names the better of its first two measured methods on {answers.count('yes')} of {len(answers)} sets"
        f" ({answers.count('equal')} equal); without figures of two methods: {len(names) - len(answers)}."
    )


if __name__ == "__main__":
    main()
