"""The advisor's points, from measured rows; and how it ranks on a set whose rows it has not seen.

    python benchmarks/advisor.py                              # writes src/blemish/training/advice/measured_points.py
    python benchmarks/advisor.py --data DIR --json FILE       # the table of docs/benchmarks.md: leaving one set out

A metric is taken as the sum of a level of the set, by one protocol, and a strength of the method, fitted by least
squares on the logarithm of what is missing to 1: methods need not be measured on the same sets, and 0.73 for 0.90
weighs more than 0.94 for 0.95. Of a method's rows of a set those of the newest protocol count. Methods with few rows
are drawn to the mean, as by PRIOR rows of it. Points are the strengths, between the limits of the rule. Only default
options count, by the mean of the seeds.

Left out, a set's rows change nothing of its own ranking: its points come from all other sets. `better of two` says
whether the first of its two best-ranked measured methods measured better than the second; `pairs` how many of all
pairs are in the measured order. Nothing is trained here.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import mean

import numpy as np
from rich.console import Console
from rich.table import Table
from runs import append
from table import Row, read_rows

from blemish import BlemishError, Dataset, read_dataset
from blemish.dataset.split import ensure_splits
from blemish.methods.catalogue import METHODS
from blemish.training.advice.plan import Advice, advise_fingerprint, fingerprint
from blemish.training.advice.rules import RULES, AdviceRule

HERE = Path(__file__).parent
TARGET = HERE.parent / "src" / "blemish" / "training" / "advice" / "measured_points.py"
COLUMNS = ("set", "figure", "plan names", "the advisor's order", "measured", "better of two", "pairs", "best measured")


@dataclass(frozen=True)
class PointRule:
    """A rule whose points are measured: the rows, the metric, and the points of the weakest and the strongest."""

    rows: str  # of benchmarks/rows: files of this name, and of this name with -anything after it
    metric: str
    low: int  # also of methods without a row
    high: int
    methods: tuple[str, ...]  # that the rule is about
    fixed: Mapping[str, int] = field(default_factory=dict)  # points of methods that it also names, and no row gives


POINT_RULES = {
    "good images": PointRule(
        "unsupervised",
        "image AUROC",
        1,
        50,
        ("patchcore", "subspace", "padim", "dfm", "stfpm", "reverse-distillation", "efficientad", "spade", "siamese",
         "fcdd", "patch-svdd", "fastflow", "supersimplenet", "draem", "inpainting", "denoising-autoencoder",
         "autoencoder", "vae", "aae", "ganomaly", "f-anogan"),
    ),
    "masks of defects": PointRule(
        "segmentation",
        "pixel AP",  # where and how much is what a segmenter is asked for
        60,
        100,
        ("deeplabv3plus", "fpn", "unet", "multitask", "fcn", "segan"),
        {"patchcore": 20},
    ),
    "boxes of defects": PointRule(
        "detection", "mAP50", 60, 100, ("faster-rcnn", "yolo", "retinanet", "ssd", "fcos")
    ),
    "labels only": PointRule("classification", "macro F1", 60, 90, ("classifier", "feature-classifier", "cascade")),
}  # fmt: skip
# Set as its rows name it -> path below DIR, and root of the paths in a list.
PLACES = {
    "bottle": ("mvtec_ad/bottle", None),
    "wood": ("wood_anomaly", None),
    "tile by tile": ("splits/magnetic_tile_anomaly_by_tile.csv", "magnetic_tile"),
    "pill": ("mvtec_ad/pill", None),
    "metal plate": ("mpdd_metal_plate", None),
    "neu_det": ("splits/neu_det.csv", "neu_det"),
    "deeppcb": ("splits/deeppcb.csv", "deeppcb"),
    "neu": ("splits/neu_det.csv", "neu_det"),
}
PRIOR = 2.0  # rows
NEAR_ONE = 0.02  # added to what is missing, so that a metric of 1 is no infinite strength
Measured = dict[tuple[str, int], dict[str, float]]  # set and protocol -> method -> metric


def measured_metrics(rows: Iterable[Row], metric: str) -> Measured:
    """The mean metric of each method's seeds with default options, by set and protocol; the newest of each method."""
    counted = [row for row in rows if isinstance(row.get(metric), int | float) and not row.get("options")]
    newest: dict[tuple[str, str], int] = {}
    for row in counted:
        key = str(row.get("set")), str(row["method"])
        newest[key] = max(newest.get(key, 1), protocol_of(row))
    values: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in counted:
        name, method = str(row.get("set")), str(row["method"])
        if protocol_of(row) == newest[name, method]:
            values.setdefault((name, protocol_of(row)), {}).setdefault(method, []).append(float(row[metric]))
    return {key: {method: round(mean(own), 3) for method, own in table.items()} for key, table in values.items()}


def protocol_of(row: Row) -> int:
    return int(row.get("protocol") or 1)


def strengths(measured: Measured) -> dict[str, float]:
    """The strength of each method that was measured beside others, from 0, the weakest, to 1."""
    cells = [(key, name, value) for key, own in measured.items() if len(own) > 1 for name, value in own.items()]
    sets, methods = sorted({key for key, _, _ in cells}), sorted({name for _, name, _ in cells})
    if not methods:
        return {}
    design = np.zeros((len(cells), len(methods) + len(sets)))
    for row, (key, name, _) in zip(design, cells, strict=True):
        row[[methods.index(name), len(methods) + sets.index(key)]] = 1
    levels = -np.log(1 + NEAR_ONE - np.array([value for _, _, value in cells]))
    prior = np.diag([PRIOR] * len(methods) + [1e-6] * len(sets))
    found = np.linalg.solve(design.T @ design + prior, design.T @ levels)[: len(methods)]
    return dict(zip(methods, ((found - found.min()) / max(np.ptp(found), 1e-9)).tolist(), strict=True))


def points_from(rows: Iterable[Row], rule: PointRule, left_out: str | None = None) -> dict[str, int]:
    """Points of the rule's methods, the most first, without the rows of the set left out."""
    found = strengths(measured_metrics((row for row in rows if row.get("set") != left_out), rule.metric))
    points = {name: round(rule.low + found.get(name, 0.0) * (rule.high - rule.low)) for name in rule.methods}
    points |= rule.fixed
    return dict(sorted(points.items(), key=lambda own: (-own[1], list(METHODS).index(own[0]))))


def rules_without(name: str, rows: Mapping[str, Sequence[Row]]) -> list[AdviceRule]:
    """The advisor's rules with the points that they would have without the rows of one set."""
    return [
        replace(rule, points=points_from(rows[rule.name], POINT_RULES[rule.name], name))
        if rule.name in POINT_RULES
        else rule
        for rule in RULES
    ]


def rows_of(rule: PointRule, folder: Path = HERE / "rows") -> list[Row]:
    paths = sorted({*folder.glob(f"{rule.rows}.jsonl"), *folder.glob(f"{rule.rows}-*.jsonl")})
    return [row for path in paths for row in read_rows(path)]


def source_text(points: Mapping[str, Mapping[str, int]]) -> str:
    """The Python file of the points."""
    lines = [
        '"""Points of methods by rule, made from measured rows by benchmarks/advisor.py; not edited by hand."""',
        "",
    ]
    lines.append("POINTS: dict[str, dict[str, int]] = {")
    for rule, own in points.items():
        lines.append(f'    "{rule}": {{')
        lines += [f'        "{method}": {value},' for method, value in own.items()]
        lines.append("    },")
    return "\n".join([*lines, "}", ""])


def compare(name: str, metric: str, advice: Advice, metrics: Mapping[str, float]) -> Row:
    """The advice for a set beside what was measured on it."""
    order = [(ranked.method, ranked.points) for ranked in advice.ranking if ranked.method in metrics]
    values = [metrics[method] for method, _ in order]
    pairs = [(a > b) - (a < b) for a, b in combinations(values, 2)]
    decided = [pair for pair in pairs if pair]
    best = max(metrics, key=lambda method: metrics[method])
    return {
        "set": name,
        "figure": metric,
        "plan names": advice.method,
        "the advisor's order": ", ".join(f"{method} {points}" for method, points in order),
        "measured": ", ".join(f"{value:.3f}" for value in values),
        "better of two": "" if len(order) < 2 else {1: "yes", 0: "equal", -1: "no"}[pairs[0]],
        "pairs": f"{decided.count(1)} of {len(decided)}" if decided else "",
        "best measured": f"{best} {metrics[best]:.3f}",
    }


def read_set(name: str, data: Path) -> Dataset:
    if name == "elpv":
        return ensure_splits(read_dataset("elpv").where(lambda sample: sample.product == "mono"), seed=0)
    path, root = PLACES[name]
    return read_dataset(data / path, root=None if root is None else data / root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the sets; without it the points are written")
    parser.add_argument("--json", type=Path, help="append each row of the table to this file")
    arguments = parser.parse_args()
    rows = {name: rows_of(rule) for name, rule in POINT_RULES.items()}
    if arguments.data is None:
        TARGET.write_text(source_text({name: points_from(rows[name], rule) for name, rule in POINT_RULES.items()}))
        print(f"{TARGET} is written")
        return
    table, answers = Table(*COLUMNS), []
    for rule_name, rule in POINT_RULES.items():
        measured = measured_metrics(rows[rule_name], rule.metric)
        for name in dict.fromkeys(name for name, _ in measured):
            newest = max(protocol for own, protocol in measured if own == name)
            try:
                seen = fingerprint(read_set(name, arguments.data), lambda done: None, 0)
                advice = advise_fingerprint(seen, rules_without(name, rows))
            except (BlemishError, KeyError) as error:
                print(f"{name}: not here: {error}", file=sys.stderr)
                continue
            row = compare(f"{name}, {rule_name}", rule.metric, advice, measured[name, newest])
            answers.append(row["better of two"])
            table.add_row(*(str(row[column]) for column in COLUMNS))
            append(arguments.json, row)
    Console(width=180).print(table)
    print(f"the better of two on {answers.count('yes')} of {len([a for a in answers if a])} sets")


if __name__ == "__main__":
    main()
