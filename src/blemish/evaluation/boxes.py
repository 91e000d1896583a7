"""Figures of a detector's boxes: all that it gave, ranked by raw score, against the true ones (Lin et al. 2014)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.sample import Box
from blemish.evaluation.detections import Detections, average_precision, rank, recall_at
from blemish.inspection.result import Bools, Candidates

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BoxClass:
    map: float
    map50: float
    defects: int


@dataclass(frozen=True)
class BoxFigures:
    """Mean average precision over the classes that occur: at IoU 0.5 to 0.95, at 0.5 and at 0.75."""

    map: float
    map50: float
    map75: float
    per_class: dict[str, BoxClass]
    recall_at_1_fp_per_image: float  # share of defects found, IoU 0.5, with one false box an image, all classes
    images: int


def compare(found: Candidates, truth: Sequence[Box], valid: Bools | None = None) -> Detections:
    """Detections of an image against its true boxes; those that lie mostly on pixels that do not count are left out."""
    true = corners_of(truth)
    names = [box.label for box in truth]
    if valid is not None:
        kept = [i for i, box in enumerate(true) if mostly_valid(box, valid)]
        true, names = true[kept], [names[i] for i in kept]
    return Detections(found.scores.astype(np.float64), found.labels, names, box_iou(found.corners, true))


def box_figures(images: Sequence[Detections]) -> BoxFigures | None:
    """Figures of several images; None where none has a defect."""
    labels = sorted({name for image in images for name in image.truth})
    found = {label: average_precision(rank(images, label)) for label in labels}
    values = np.array([ap for ap in found.values() if ap is not None])
    if not len(values):
        return None
    counts = {label: sum(image.truth.count(label) for image in images) for label in labels}
    return BoxFigures(
        map=float(values.mean()),
        map50=float(values[:, 0].mean()),
        map75=float(values[:, 5].mean()),
        per_class={
            label: BoxClass(float(ap.mean()), float(ap[0]), counts[label])
            for label, ap in found.items()
            if ap is not None
        },
        recall_at_1_fp_per_image=recall_at(images, _all_labels(images), 1.0) or 0.0,
        images=len(images),
    )


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4); 0 for boxes without area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    either = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, either, out=np.zeros_like(shared), where=either > 0), np.float64)


def _all_labels(images: Sequence[Detections]) -> list[str]:
    """Classes of the truth and of false alarms."""
    return sorted({name for image in images for name in (*image.truth, *image.labels)})


def corners_of(boxes: Sequence[Box]) -> Floats:
    """(N, 4) x0 y0 x1 y1."""
    return np.array([(b.x0, b.y0, b.x1, b.y1) for b in boxes], np.float64).reshape(-1, 4)


def mostly_valid(box: Floats, valid: Bools) -> bool:
    """Whether half of a box, or more, lies on pixels that count."""
    x0, y0, x1, y1 = box.round().astype(int).clip(0)
    part = valid[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return bool(part.size and part.mean() >= 0.5)
