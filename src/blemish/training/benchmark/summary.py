"""What the rows of a benchmark show: mean and standard deviation over the seeds, as a table, CSV and LaTeX."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from blemish.evaluation.comparison import METRIC_NAMES, RankedMethod, list_notes, pareto_front, rank_repeated
from blemish.evaluation.predictions import Prediction
from blemish.training.benchmark.job import file_name, read_predictions
from blemish.training.benchmark.rows import METRIC_PATHS, PROTOCOL, BenchmarkRow, describe_variant

log = logging.getLogger(__name__)
COSTS = ("training_s", "training_cpu_s", "latency_ms", "network_ms", "size_mb")
# Metrics of a table, by what the methods answer; a set's main metric is the first that its rows have.
MAIN_METRICS = ("image AUROC", "macro F1", "mAP50", "region IoU")
LATEX_METRICS = ("image AUROC", "escape at 5 %", "pixel AP", "AUPRO", "macro F1", "mAP50", "region IoU")
LOWER_IS_BETTER = ("escape at 1 %", "escape at 5 %", "length error", "width error", "area error", "ECE", "escape",
                   "overkill", "review")  # fmt: skip
_TEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "%_#&${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
RANKED_BY = {name: key for key, name in METRIC_NAMES.items()} | {"region IoU": "iou"}


@dataclass(frozen=True)
class Spread:
    """Mean over the seeds, and the standard deviation where there are several."""

    mean: float
    sd: float | None = None

    def text(self, digits: int = 3) -> str:
        return f"{self.mean:.{digits}f}" + ("" if self.sd is None else f" ± {self.sd:.{digits}f}")


@dataclass(frozen=True)
class SummaryRow:
    """A method on a set, over all its seeds."""

    set: str
    variant: str
    method: str
    preset: str
    seeds: tuple[int, ...]
    calibration: str
    images: dict[str, int]
    metrics: dict[str, Spread]
    types: dict[str, dict[str, Spread]]
    cost: dict[str, Spread]
    files: tuple[str, ...]  # predictions, one file a seed, below OUT/images/SET
    intervals: dict[str, list[float]] = field(default_factory=dict)  # of a single seed


@dataclass(frozen=True)
class BenchmarkSummary:
    rows: list[SummaryRow]
    shared: tuple[str, ...] = ()  # what all methods have in common and is not the default, left out of their names

    @property
    def sets(self) -> list[str]:
        return list(dict.fromkeys(row.set for row in self.rows))

    @property
    def variants(self) -> list[str]:
        return list(dict.fromkeys(row.variant for row in self.rows))

    def metric_names(self, rows: Sequence[SummaryRow] | None = None) -> list[str]:
        """The metrics that at least one of the rows has, in their own order."""
        given = self.rows if rows is None else rows
        return [name for name in METRIC_PATHS if any(name in row.metrics for row in given)]

    def main_metric(self, rows: Sequence[SummaryRow] | None = None) -> str:
        """The metric by which methods are ranked."""
        names = self.metric_names(rows)
        return next((name for name in MAIN_METRICS if name in names), names[0])


def summarize_rows(rows: Sequence[BenchmarkRow]) -> BenchmarkSummary:
    """One row for each set and variant of a method, in the order in which the sets and variants first occur."""
    several = len({row.variant for row in rows}) > 1
    shared = [word for word in rows[0].words if all(word in row.words for row in rows)] if several else []
    groups: dict[tuple[str, str], list[BenchmarkRow]] = {}
    for row in rows:
        groups.setdefault((row.set, row.variant), []).append(row)
    order = list(dict.fromkeys(row.set for row in rows))
    found = [_summarize(sorted(own, key=lambda row: row.seed), shared) for own in groups.values()]
    return BenchmarkSummary(sorted(found, key=lambda row: order.index(row.set)), tuple(shared))


def _summarize(rows: Sequence[BenchmarkRow], shared: Sequence[str]) -> SummaryRow:
    first = rows[0]
    return SummaryRow(
        set=first.set,
        variant=describe_variant(first.method, [word for word in first.words if word not in shared]),
        method=first.method,
        preset=first.preset,
        seeds=tuple(row.seed for row in rows),
        calibration=first.calibration,
        images=first.images,
        metrics=_spread([row.metrics for row in rows]),
        types={name: _spread([row.types.get(name, {}) for row in rows]) for name in first.types},
        cost=_spread([{k: v for k, v in row.cost.items() if k in COSTS} for row in rows]),
        files=tuple(row.predictions for row in rows),
        intervals=first.intervals if len(rows) == 1 else {},
    )


def _spread(found: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """The spread of each value that all of them have."""
    names = [name for name in found[0] if all(name in own for own in found)]
    values = {name: [own[name] for own in found] for name in names}
    return {name: Spread(mean(own), stdev(own) if len(own) > 1 else None) for name, own in values.items()}


def csv_table(summary: BenchmarkSummary) -> str:
    """A line for each set and variant; metrics and costs with a column for the mean and one for the deviation."""
    metrics, stream = summary.metric_names(), io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    values = [*metrics, *COSTS]
    heads = [f"{name}{end}" for name in values for end in ("", " sd")]
    writer.writerow(["protocol", "set", "method", "preset", "variant", "seeds", *heads])
    for row in summary.rows:
        cells: list[Any] = [PROTOCOL, row.set, row.method, row.preset, row.variant, len(row.seeds)]
        for name in values:
            own = row.metrics.get(name) or row.cost.get(name)
            cells += ["", ""] if own is None else [own.mean, "" if own.sd is None else own.sd]
        writer.writerow(cells)
    return stream.getvalue()


def latex_tables(summary: BenchmarkSummary) -> str:
    """For each main metric a table of the package booktabs: a line a method, a column a set, the mean of the sets."""
    cells = {(row.set, row.variant): row for row in summary.rows}
    names = [name for name in LATEX_METRICS if name in summary.metric_names()]
    parts = [f"% blemish benchmark, protocol {PROTOCOL}; mean and standard deviation over the seeds"]
    parts += [f"% all methods: {', '.join(summary.shared)}"] if summary.shared else []
    for name in names:
        several = len(summary.sets) > 1
        head = " & ".join(["method", *map(_tex, summary.sets), *(["mean"] if several else [])])
        lines = [r"\begin{tabular}{l" + "r" * (len(summary.sets) + several) + "}", r"\toprule", f"{head} \\\\"]
        lines += [r"\midrule"]
        for variant in summary.variants:
            own = [cells.get((one, variant)) for one in summary.sets]
            found = [None if row is None else row.metrics.get(name) for row in own]
            means = [value.mean for value in found if value is not None]
            texts = ["--" if value is None else value.text().replace("±", r"$\pm$") for value in found]
            if several:
                texts.append(f"{mean(means):.3f}" if len(means) == len(found) else "--")
            lines.append(" & ".join([_tex(variant), *texts]) + r" \\")
        parts.append("\n".join([f"% {name}", *lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _tex(text: str) -> str:
    return text.translate(_TEX)


def rank_set(rows: Sequence[SummaryRow], folder: Path, metric: str) -> list[RankedMethod]:
    """The variants on one set by a metric, with intervals and paired differences over its images or parts.

    Variants whose predictions are gone are left out, with a warning.
    """
    if metric not in RANKED_BY:
        return []
    predictions: dict[str, list[list[Prediction]]] = {}
    for row in rows:
        paths = [folder / "images" / file_name(row.set) / name for name in row.files]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            log.warning(f"{row.set}: {row.variant} has no intervals, since '{missing[0]}' is gone")
            continue
        predictions[row.variant] = [read_predictions(path) for path in paths]
    return rank_repeated(predictions, RANKED_BY[metric])


def page_content(summary: BenchmarkSummary, folder: Path) -> dict[str, Any]:
    """Everything that the page shows, as plain data."""
    sets = []
    for name in summary.sets:
        rows = [row for row in summary.rows if row.set == name]
        metric = summary.main_metric(rows)
        ranked = rank_set(rows, folder, metric)
        quality = {row.variant: row.metrics[metric].mean for row in rows if metric in row.metrics}
        fronts = {}
        for key in ("latency_ms", "size_mb"):
            cost = {row.variant: row.cost[key].mean for row in rows if key in row.cost and row.variant in quality}
            known = {variant: value for variant, value in quality.items() if variant in cost}
            merits = {variant: _merit(metric, value) for variant, value in known.items()}
            fronts[key] = {"quality": known, "cost": cost, "front": pareto_front(merits, cost)}
        by_value = sorted(rows, key=lambda row: -_merit(metric, quality.get(row.variant)))
        sets.append(
            {
                "name": name,
                "metric": metric,
                "metrics": summary.metric_names(rows),
                "rows": by_value,
                "ranking": ranked,
                "notes": list_notes(ranked),
                "fronts": fronts,
                "types": sorted({label for row in rows for label in row.types}),
            }
        )
    return {"protocol": PROTOCOL, "shared": summary.shared, "sets": sets, "overview": _overview(summary)}


def _merit(metric: str, value: float | None) -> float:
    """The value as a number that is higher for the better; the lowest where there is none."""
    if value is None:
        return -math.inf
    return -value if metric in LOWER_IS_BETTER else value


def _overview(summary: BenchmarkSummary) -> list[dict[str, Any]]:
    """For each variant its main metric on every set, and their mean where it has all and they are one metric."""
    cells = {(row.set, row.variant): row for row in summary.rows}
    main = {name: summary.main_metric([row for row in summary.rows if row.set == name]) for name in summary.sets}
    lines = []
    for variant in summary.variants:
        own = [cells.get((name, variant)) for name in summary.sets]
        values = [None if row is None else row.metrics.get(main[row.set]) for row in own]
        known = [value.mean for value in values if value is not None]
        complete = len(known) == len(values) and len(set(main.values())) == 1
        lines.append({"variant": variant, "values": values, "mean": mean(known) if complete else None})
    return sorted(lines, key=lambda line: -_merit(main[summary.sets[0]], line["mean"]))
