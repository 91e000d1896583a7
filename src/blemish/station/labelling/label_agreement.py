"""How far two people agree who labelled the same images: Cohen's kappa of their classes, and IoU of their pixels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Mask
from blemish.geometry import shape_mask
from blemish.qualify.kappa import Kappa, cohen_interval
from blemish.station.labelling.journal import ImageLabel


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Of the images that both labelled; IoU of those where both drew defects."""

    images: int
    agreed: int  # images with the same classes from both
    kappa: Kappa
    ious: dict[str, float]  # by image
    different: list[str]  # images with different classes

    @property
    def mean_iou(self) -> float | None:
        return float(np.mean(list(self.ious.values()))) if self.ious else None


def compare_people(labels: Mapping[str, Mapping[str, ImageLabel]], first: str, second: str) -> LabelAgreement:
    """`labels` by image and person. An image of several classes counts as a category of its own."""
    pairs = {
        image: (given[first], given[second])
        for image, given in labels.items()
        if first in given and second in given and given[first].labels and given[second].labels
    }
    if not pairs:
        return LabelAgreement(0, 0, Kappa(None, None, None, 0), {}, [])
    names = sorted({_category(label) for pair in pairs.values() for label in pair})
    numbers = np.array([[names.index(_category(label)) for label in pair] for pair in pairs.values()], np.int64)
    ious = {image: iou for image, pair in pairs.items() if (iou := drawn_iou(*pair)) is not None}
    different = [image for image, (a, b) in pairs.items() if _category(a) != _category(b)]
    kappa = cohen_interval(numbers[:, :1], numbers[:, 1:])
    return LabelAgreement(len(pairs), len(pairs) - len(different), kappa, ious, different)


def drawn_iou(first: ImageLabel, second: ImageLabel) -> float | None:
    """Intersection over union of all defect pixels; None unless both drew some on an image of one size."""
    a, b = _pixels(first), _pixels(second)
    if a is None or b is None or a.shape != b.shape:
        return None
    return float((a & b).sum() / (a | b).sum())


def _category(label: ImageLabel) -> str:
    return "\0".join(sorted(label.labels))


def _pixels(label: ImageLabel) -> Mask | None:
    if not label.drawn:
        return None
    shapes = [drawn.shape() for drawn in label.drawn]
    size = shapes[0].height, shapes[0].width
    return np.asarray(np.any([shape_mask(shape, size) for shape in shapes], axis=0))
