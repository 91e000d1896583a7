"""Precision against recall of each class: of boxes or masks of whole defects, and of images by their class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.sample import Sample
from blemish.evaluation.detections import Detections, average_precision, curve, rank
from blemish.evaluation.image import average_precision as image_average_precision
from blemish.evaluation.image import curve as image_curve
from blemish.inspection.result import Inspection
from blemish.report.plots import _legend_above, _svg

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats, float]  # recall, precision, average precision
MOST_POINTS = 400  # of a curve: more cannot be seen


def detection_curves(images: Sequence[Detections], iou: float = 0.5) -> dict[str, Curve]:
    """By class: recall and precision after each detection, the best first, and COCO's average precision."""
    found = {}
    for name in sorted({label for image in images for label in image.truth}):
        ranked = rank(images, name, np.array([iou]))
        value = average_precision(ranked)
        recall, precision = curve(ranked)
        if value is not None:
            found[name] = (recall[0], precision[0], float(value[0]))
    return found


def class_curves(seen: Sequence[tuple[Sample, Inspection]]) -> dict[str, Curve]:
    """By class: images of it against all others, by its probability."""
    known = [(s.label, f.class_scores) for s, f in seen if s.label is not None and f.class_scores]
    found = {}
    for name in sorted({label for label, _ in known}):
        own = np.array([label == name for label, _ in known], np.bool_)
        scores = np.array([given.get(name, 0.0) for _, given in known], np.float64)
        if own.all():
            continue
        _, hits, alarms = image_curve(scores, own)
        found[name] = (hits / hits[-1], hits / (hits + alarms), image_average_precision(scores, own))
    return found


def draw_curves(name: str, curves: dict[str, Curve]) -> str:
    """One line a class, as inline SVG; its average precision stands in the legend."""

    def draw(axes: Any) -> None:
        for label, (recall, precision, value) in curves.items():
            keep = np.unique(np.linspace(0, len(recall) - 1, MOST_POINTS).astype(int)) if len(recall) else slice(0)
            axes.plot(
                [0, *recall[keep]], [*precision[:1], *precision[keep]] if len(recall) else [0], linewidth=1.6,
                label=f"{label} {value:.3f}", clip_on=False,
            )  # fmt: skip
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.005))
        _legend_above(axes)

    return _svg(name, (10.8, 4.2), draw)
