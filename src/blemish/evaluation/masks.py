"""Figures of the regions that an inspection gives, as they ship: thresholds, smallest area and all, against masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.intervals import Estimate, share
from blemish.inspection.result import Region

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Counts of one image: pixels in truth and regions both, in either; defects of the truth, and those touched."""

    both: int
    either: int
    defects: int
    touched: int


@dataclass(frozen=True)
class MaskFigures:
    """All defect classes taken together; over all pixels of all images."""

    iou: float
    dice: float
    defects_found: Estimate  # 8-connected regions of the truth with at least one pixel in a region found
    images: int


def overlap(regions: Sequence[Region], mask: Bools, valid: Bools | None = None) -> Overlap:
    """Compare the regions with the truth (H, W) on the pixels that count; a region without a mask fills its box."""
    found = np.zeros(mask.shape, np.bool_)
    for region in regions:
        x0, y0, x1, y1 = region.box
        found[y0:y1, x0:x1] |= True if region.mask is None else region.mask
    if valid is not None:
        mask, found = mask & valid, found & valid
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    both = mask & found
    return Overlap(
        both=int(both.sum()),
        either=int((mask | found).sum()),
        defects=count - 1,
        touched=len(np.unique(labels[both])),
    )


def mask_figures(images: Sequence[Overlap]) -> MaskFigures | None:
    """None where no image has a defect."""
    defects = sum(image.defects for image in images)
    if not defects:
        return None
    both, either = sum(image.both for image in images), sum(image.either for image in images)
    touched = sum(image.touched for image in images)
    return MaskFigures(both / either, 2 * both / (both + either), share(touched, defects), len(images))
