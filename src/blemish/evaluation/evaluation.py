"""The result of an evaluation as a table, plain data, a data frame or a plot."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.arrays import Flags, Scores
from blemish.errors import MissingExtraError
from blemish.evaluation.box_metrics import BoxMetrics
from blemish.evaluation.class_metrics import ClassMetrics
from blemish.evaluation.defect_recall import SizeRecall
from blemish.evaluation.geometry_metrics import GeometryMetrics
from blemish.evaluation.image_metrics import ImageMetrics
from blemish.evaluation.label_metrics import LabelMetrics
from blemish.evaluation.mask_metrics import MaskMetrics
from blemish.evaluation.pixel_metrics import PixelMetrics
from blemish.evaluation.ranking import is_ranked, threshold_counts
from blemish.evaluation.speed import Speed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The metrics of a table, by group and field (or field of a field), with their names.
METRIC_LABELS = {
    "image": {
        "auroc": "AUROC",
        "ap": "average precision",
        "f1": "F1",
        "escape_rate": "escape rate",
        "overkill_rate": "overkill rate",
        "review_rate": "review rate",
        "escape_at_1_percent": "escape rate at 1 % false alarms",
        "escape_at_5_percent": "escape rate at 5 % false alarms",
    },
    "pixel": {
        "auroc": "AUROC",
        "ap": "average precision",
        "best_f1": "F1 at the best threshold",
        "aupro": "AUPRO (FPR 0.3)",
        "aupro_at_5_percent": "AUPRO (FPR 0.05)",
        "spro_at_5_percent": "sPRO (FPR 0.05)",
        "aupimo": "AUPIMO",
        "iou": "IoU",
    },
    "masks": {
        "iou": "IoU of regions",
        "dice": "Dice of regions",
        "miou": "mean IoU of classes",
        "instance_ap50": "AP50 of instances",
        "defects_found": "defects found",
    },
    "geometry": {
        "image_iou": "IoU, mean of images",
        "defect_iou": "IoU, mean of defects",
        "defect_iou_found": "IoU, mean of defects found",
        "length.error": "median error of length",
        "mean_width.error": "median error of width",
        "area.error": "median error of area",
        "length.covered": "lengths within their uncertainty",
        "mean_width.covered": "widths within their uncertainty",
        "area.covered": "areas within their uncertainty",
    },
    "boxes": {
        "map": "mAP",
        "map50": "mAP50",
        "map75": "mAP75",
        "recall_at_1_fp_per_image": "recall at 1 false box an image",
    },
    "classes": {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
        "ece": "calibration error",
    },
    "labels": {
        "exact": "all classes right",
        "micro_f1": "micro F1",
        "macro_f1": "macro F1",
        "macro_ap": "mean average precision",
        "ece": "calibration error",
    },
}


@dataclass(frozen=True)
class MetricSet:
    """Metrics of one set of images; None where there is no annotation for them or no such output."""

    image: ImageMetrics | None
    pixel: PixelMetrics | None
    classes: ClassMetrics | None
    masks: MaskMetrics | None
    boxes: BoxMetrics | None
    sizes: list[SizeRecall] | None = None  # recall of defects by their size
    labels: LabelMetrics | None = None  # where images have several defect classes at once
    geometry: GeometryMetrics | None = None


@dataclass(frozen=True)
class MetricRow:
    """One metric of a table: its group (`image`, `pixel`, ...), its name, and its 95 % interval where it has one."""

    group: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    products: dict[str, float | None] = field(default_factory=dict)  # the metric of each product


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a bundle on a set of images: `str()` gives a table, `to_dict` what `evaluate --json` writes."""

    metrics: MetricSet
    products: dict[str, MetricSet]
    speed: Speed | None
    bundle: dict[str, Any]
    data: dict[str, Any]
    scores: Scores = field(default_factory=lambda: np.empty(0), repr=False, compare=False)  # of annotated images
    defective: Flags = field(default_factory=lambda: np.empty(0, np.bool_), repr=False, compare=False)  # of the same

    def rows(self) -> list[MetricRow]:
        """All metrics that the evaluation has, in the order of a table."""
        return [row for group in METRIC_LABELS for row in self._group_rows(group)]

    def to_dict(self) -> dict[str, Any]:
        """The metrics as plain data; those that could not be measured are absent."""
        data: dict[str, Any] = {
            **asdict(self.metrics),
            "products": {name: asdict(own) for name, own in self.products.items()},
            "speed": None if self.speed is None else asdict(self.speed),
            "bundle": self.bundle,
            "data": self.data,
        }
        return {key: _without_missing(value) for key, value in data.items() if value is not None and value != {}}

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row a metric: group, metric, value, low, high, n, and a column a product.

        Raises MissingExtraError where pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ModuleNotFoundError as error:
            raise MissingExtraError("pandas is not installed; pip install 'blemish[pandas]'") from error
        rows = [asdict(row) for row in self.rows()]
        return pandas.DataFrame([row | row.pop("products") for row in rows])

    def plot(self) -> "Figure":
        """A matplotlib figure: every metric with its interval and, where good and defective images are known, the ROC.

        Raises MissingExtraError where matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise MissingExtraError("matplotlib is not installed; pip install 'blemish[report]'") from error
        rows, both = self.rows(), len(np.unique(self.defective[is_ranked(self.scores)])) == 2
        figure = Figure(figsize=(11 if both else 7, 1.2 + 0.3 * len(rows)), layout="constrained")
        axes = figure.add_subplot(1, 1 + both, 1)
        axes.set_yticks(range(len(rows)), [f"{row.group}: {row.metric}" for row in rows])
        for y, row in enumerate(rows):
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [y, y], color="#0e6ba8", linewidth=2)
            axes.plot(row.value, y, "o", color="#0e6ba8")
        largest = max(1.02, *(1.02 * row.value for row in rows))  # errors of measurements may be above 1
        axes.set(xlim=(-0.02, largest), ylim=(len(rows) - 0.5, -0.5), xlabel="value, with its 95 % interval")
        if both:
            known = is_ranked(self.scores)
            _, hits, alarms = threshold_counts(self.scores[known], self.defective[known])
            axes = figure.add_subplot(1, 2, 2)
            axes.plot([0, *alarms / alarms[-1]], [0, *hits / hits[-1]], color="#dc2626")
            axes.plot([0, 1], [0, 1], ":", color="grey")
            axes.set(xlabel="false-positive rate", ylabel="true-positive rate", title="ROC of images")
        return figure

    def table(self) -> list[tuple[str, ...]]:
        """The cells of a table, its header first: group, metric, value, 95 % interval, n, and each product's value."""
        lines = [("", "metric", "value", "95 % interval", "n", *self.products)]
        group = ""
        for row in self.rows():
            interval = "" if row.low is None else f"{row.low:.4f} – {row.high:.4f}"
            count = "" if row.n is None else str(row.n)
            own = ("" if value is None else f"{value:.4f}" for value in row.products.values())
            shown, group = "" if row.group == group else row.group, row.group
            lines.append((shown, row.metric, f"{row.value:.4f}", interval, count, *own))
        return lines

    def __str__(self) -> str:
        """The table as text."""
        lines = self.table()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def _group_rows(self, group: str) -> Iterator[MetricRow]:
        for key, name in METRIC_LABELS[group].items():
            found = _find(self.metrics, f"{group}.{key}")
            if found is None:
                continue
            bounds = {} if isinstance(found, float) else {"low": found.low, "high": found.high, "n": found.n}
            own = {p: _value(_find(each, f"{group}.{key}")) for p, each in self.products.items()}
            yield MetricRow(group, name, _value(found) or 0.0, **bounds, products=own)


def _find(metrics: Any, path: str) -> Any:
    """The metric of a path such as `image.auroc`; None where there is none."""
    for name in path.split("."):
        metrics = getattr(metrics, name, None)
    return metrics


def _value(metric: Any) -> float | None:
    return None if metric is None else float(getattr(metric, "value", metric))


def _without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_missing(v) for key, v in value.items() if v is not None and v != {}}
    return value
