"""Figures of the regions that an inspection gives, as they ship: thresholds, smallest area and all, against masks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.ground_truth import Instance
from blemish.evaluation.detections import Detections, average_precision, rank
from blemish.evaluation.intervals import Estimate, share
from blemish.inspection.result import Region

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Pixels of one class in truth and regions both, and in either."""

    both: int
    either: int


@dataclass(frozen=True)
class Overlap:
    """Counts of one image: pixels in truth and regions both, in either; defects of the truth, and those touched."""

    both: int
    either: int
    defects: int
    touched: int
    pixels: int = 0  # that count
    classes: dict[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskClass:
    iou: float
    dice: float


@dataclass(frozen=True)
class MaskFigures:
    """Over all pixels of all images; `iou` and `dice` take all defect classes together."""

    iou: float
    dice: float
    defects_found: Estimate  # 8-connected regions of the truth with at least one pixel in a region found
    images: int
    miou: float | None = None  # mean of the defect classes that occur in truth or regions
    miou_with_good: float | None = None  # the good class among them
    per_class: dict[str, MaskClass] = field(default_factory=dict)
    instance_ap50: float | None = None  # COCO's average precision at IoU 0.5 of whole defects, mean of the classes


def overlap(
    regions: Sequence[Region], mask: Bools, valid: Bools | None = None, layers: dict[str, Bools] | None = None
) -> Overlap:
    """Compare the regions with the truth (H, W) on the pixels that count; a region without a mask fills its box.

    `layers` is the truth (H, W) of each class; regions of other classes count for none of them.
    """
    found = painted(regions, mask.shape)
    if valid is not None:
        mask, found = mask & valid, found & valid
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    both = mask & found
    return Overlap(
        both=int(both.sum()),
        either=int((mask | found).sum()),
        defects=count - 1,
        touched=len(np.unique(labels[both])),
        pixels=mask.size if valid is None else int(valid.sum()),
        classes={name: _counts(regions, name, layer, valid) for name, layer in (layers or {}).items()},
    )


def painted(regions: Sequence[Region], size: tuple[int, ...]) -> Bools:
    """The pixels (H, W) of all regions."""
    found = np.zeros(size, np.bool_)
    for region in regions:
        x0, y0, x1, y1 = region.box
        found[y0:y1, x0:x1] |= True if region.mask is None else region.mask
    return found


def compare_masks(regions: Sequence[Region], truth: Sequence[Instance], valid: Bools | None = None) -> Detections:
    """Regions of an image against its true defects, one by one; on the pixels that count."""
    true = [(t.label, part) for t in truth if (part := _inside(t.box, t.mask, valid)) is not None]
    own = [(r, part) for r in regions if (part := _inside(r.box, _filled(r), valid)) is not None]
    iou = np.array([[_iou(a, b) for _, b in true] for _, a in own], np.float64).reshape(len(own), len(true))
    scores = np.array([r.score for r, _ in own], np.float64)
    return Detections(scores, [r.label for r, _ in own], [label for label, _ in true], iou)


def mask_figures(images: Sequence[Overlap], instances: Sequence[Detections] = ()) -> MaskFigures | None:
    """None where no image has a defect."""
    defects = sum(image.defects for image in images)
    if not defects:
        return None
    both, either = sum(image.both for image in images), sum(image.either for image in images)
    touched = sum(image.touched for image in images)
    per_class = _per_class(images)
    ious = [c.iou for c in per_class.values()]
    pixels = sum(image.pixels for image in images)
    good = (pixels - either) / (pixels - both) if pixels > both else 1.0
    labels = sorted({name for image in instances for name in image.truth})
    found = (average_precision(rank(instances, label, np.array([0.5]))) for label in labels)
    precisions = [float(ap[0]) for ap in found if ap is not None]
    return MaskFigures(
        iou=both / either,
        dice=2 * both / (both + either),
        defects_found=share(touched, defects),
        images=len(images),
        miou=float(np.mean(ious)) if ious else None,
        miou_with_good=float(np.mean([good, *ious])) if ious and pixels else None,
        per_class=per_class,
        instance_ap50=float(np.mean(precisions)) if precisions else None,
    )


def _per_class(images: Sequence[Overlap]) -> dict[str, MaskClass]:
    totals: dict[str, list[int]] = {}
    for image in images:
        for name, counts in image.classes.items():
            total = totals.setdefault(name, [0, 0])
            total[0] += counts.both
            total[1] += counts.either
    return {
        name: MaskClass(both / either, 2 * both / (both + either)) for name, (both, either) in totals.items() if either
    }


def _counts(regions: Sequence[Region], name: str, layer: Bools, valid: Bools | None) -> Counts:
    found = painted([r for r in regions if r.label == name], layer.shape)
    if valid is not None:
        layer, found = layer & valid, found & valid
    return Counts(int((layer & found).sum()), int((layer | found).sum()))


Piece = tuple[tuple[int, int, int, int], Bools]  # a box, and a mask of its size


def _filled(region: Region) -> Bools:
    x0, y0, x1, y1 = region.box
    return np.ones((y1 - y0, x1 - x0), np.bool_) if region.mask is None else region.mask


def _inside(box: tuple[int, int, int, int], mask: Bools, valid: Bools | None) -> Piece | None:
    """The part of a mask on pixels that count; None where nothing of it is left."""
    x0, y0, x1, y1 = box
    own = mask if valid is None else mask & valid[y0:y1, x0:x1]
    return (box, own) if own.any() else None


def _iou(a: Piece, b: Piece) -> float:
    """Intersection over union of two masks in their boxes."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a[0], b[0]
    x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
    if x0 >= x1 or y0 >= y1:
        return 0.0
    shared = a[1][y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0] & b[1][y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0]
    both = int(shared.sum())
    return both / (int(a[1].sum()) + int(b[1].sum()) - both)
