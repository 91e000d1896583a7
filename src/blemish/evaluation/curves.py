"""Precision-recall curves of each class: of boxes or masks of whole defects, and of images by their class."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blemish.arrays import Scores
from blemish.dataset.sample import Sample
from blemish.evaluation.detections import IOU_50, Detections, detection_precision, precision_recall, rank_detections
from blemish.evaluation.evaluate import EvaluatedImage
from blemish.evaluation.ranking import average_precision, threshold_counts
from blemish.inspection.result import Inspection


class PrecisionRecallCurve(NamedTuple):
    recall: Scores
    precision: Scores
    average_precision: float


Curves = dict[str, PrecisionRecallCurve]  # by class


def detection_curves(images: Sequence[Detections]) -> Curves:
    """Recall and precision of each class at IoU 0.5 after each detection, best first, and COCO's average precision."""
    curves = {}
    for name in sorted({label for image in images for label in image.true_labels}):
        ranked = rank_detections(images, name, IOU_50)
        value = detection_precision(ranked)
        if value is not None:
            recall, precision = precision_recall(ranked)
            curves[name] = PrecisionRecallCurve(recall[0], precision[0], float(value[0]))
    return curves


def class_curves(inspections: Sequence[tuple[Sample, Inspection]]) -> Curves:
    """Precision-recall curve of each class: its images against all others, by its probability."""
    known = [(sample.label, i.class_scores) for sample, i in inspections if sample.label is not None and i.class_scores]
    curves = {}
    for name in sorted({label for label, _ in known}):
        own = np.array([label == name for label, _ in known], np.bool_)
        if own.all():
            continue
        scores = np.array([given.get(name, 0.0) for _, given in known], np.float64)
        _, hits, alarms = threshold_counts(scores, own)
        curves[name] = PrecisionRecallCurve(hits / hits[-1], hits / (hits + alarms), average_precision(scores, own))
    return curves


def curves_by_class(
    inspections: Sequence[tuple[Sample, Inspection]], images: Sequence[EvaluatedImage]
) -> list[tuple[str, Curves]]:
    """Captions and curves of whatever the bundle gives: boxes, masks of whole defects, classes of images."""
    curves = [
        ("Boxes, IoU 0.5", detection_curves([i.boxes for i in images if i.boxes is not None])),
        ("Masks of whole defects, IoU 0.5", detection_curves([i.instances for i in images if i.instances is not None])),
        ("Images of a class against all others", class_curves(inspections)),
    ]
    return [(caption, own) for caption, own in curves if own]
