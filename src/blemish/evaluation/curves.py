"""Precision against recall of each class: of boxes or masks of whole defects, and of images by their class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.dataset.sample import Sample
from blemish.evaluation.detections import Detections, average_precision, curve, rank
from blemish.evaluation.evaluate import Seen
from blemish.evaluation.image import average_precision as image_average_precision
from blemish.evaluation.image import curve as image_curve
from blemish.inspection.result import Inspection

Floats = NDArray[np.float64]
Curve = tuple[Floats, Floats, float]  # recall, precision, average precision


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


def curves_by_class(
    seen: Sequence[tuple[Sample, Inspection]], judged: Sequence[Seen]
) -> list[tuple[str, dict[str, Curve]]]:
    """Captions and curves of whatever the bundle gives: boxes, masks of whole defects, classes of images."""
    found = [
        ("Boxes, IoU 0.5", detection_curves([j.boxes for j in judged if j.boxes is not None])),
        ("Masks of whole defects, IoU 0.5", detection_curves([j.instances for j in judged if j.instances is not None])),
        ("Images of a class against all others", class_curves(seen)),
    ]
    return [(caption, curves) for caption, curves in found if curves]
