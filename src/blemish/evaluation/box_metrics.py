"""Metrics of a detector's boxes: every detection, ranked by raw score, against the true boxes (Lin et al. 2014)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Boxes, Mask
from blemish.evaluation.detections import Detections, detection_precision, rank_detections, recall_at
from blemish.geometry import Box, box_array, box_iou
from blemish.inspection.result import Candidates


@dataclass(frozen=True)
class BoxClassMetrics:
    map: float
    map50: float
    defects: int


@dataclass(frozen=True)
class BoxMetrics:
    """Mean average precision over the classes that occur: at IoU 0.5 to 0.95, at 0.5 and at 0.75."""

    map: float
    map50: float
    map75: float
    per_class: dict[str, BoxClassMetrics]
    recall_at_1_fp_per_image: float  # share of defects detected, IoU 0.5, with one false box an image, all classes
    images: int


def match_boxes(candidates: Candidates, annotated: Sequence[Box], valid: Mask | None = None) -> Detections:
    """Detections of an image against its true boxes; true boxes that lie mostly on invalid pixels are left out."""
    corners, names = box_array(annotated), [box.label for box in annotated]
    if valid is not None:
        kept = [i for i, box in enumerate(corners) if is_mostly_valid(box, valid)]
        corners, names = corners[kept], [names[i] for i in kept]
    iou = box_iou(candidates.corners, corners)
    return Detections(candidates.scores.astype(np.float64), candidates.labels, names, iou)


def box_metrics(images: Sequence[Detections]) -> BoxMetrics | None:
    """Metrics of several images; None where none has a defect."""
    labels = sorted({name for image in images for name in image.true_labels})
    precision = {label: detection_precision(rank_detections(images, label)) for label in labels}
    values = np.array([ap for ap in precision.values() if ap is not None])
    if not len(values):
        return None
    every = sorted({name for image in images for name in (*image.true_labels, *image.labels)})
    return BoxMetrics(
        map=float(values.mean()),
        map50=float(values[:, 0].mean()),
        map75=float(values[:, 5].mean()),
        per_class={
            label: BoxClassMetrics(
                float(ap.mean()), float(ap[0]), sum(image.true_labels.count(label) for image in images)
            )
            for label, ap in precision.items()
            if ap is not None
        },
        recall_at_1_fp_per_image=recall_at(images, every, 1.0) or 0.0,
        images=len(images),
    )


def is_mostly_valid(box: Boxes, valid: Mask) -> bool:
    """Whether at least half of a box (4,) lies on valid pixels (H, W)."""
    x0, y0, x1, y1 = box.round().astype(int).clip(0)
    inside = valid[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return bool(inside.size and inside.mean() >= 0.5)
