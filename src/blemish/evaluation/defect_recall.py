"""Recall of defects by their size, from the regions at the shipped thresholds: how small a detected defect may be."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.ground_truth import Instance
from blemish.evaluation.box_metrics import is_mostly_valid
from blemish.evaluation.intervals import RateEstimate
from blemish.evaluation.units import Units, estimate_share, select_units
from blemish.geometry import Box, box_areas, box_array, box_iou
from blemish.inspection.regions import region_mask
from blemish.inspection.result import Region

MIN_MATCH_IOU = 0.5  # from which a box has detected a defect, whatever its class
MIN_TOUCH_IOU = 0.1  # below it a box is a false region


@dataclass(frozen=True, slots=True)
class DefectMatches:
    """Which defects of one image are detected, and which of its regions are false."""

    sides: list[float]  # of each true defect: the square root of its area, px
    detected: list[bool]  # of each true defect
    false_scores: list[float]  # of regions on no defect


@dataclass(frozen=True)
class SizeRecall:
    """Recall of the defects whose side (square root of the area) is from `low` to below `high` px."""

    low: float
    high: float
    found: RateEstimate


def match_regions_to_masks(
    regions: Sequence[Region], annotated: Sequence[Instance], valid: Mask | None, size: tuple[int, int]
) -> DefectMatches:
    """A defect is detected if one of its valid pixels is in a region; a region that touches no defect is false."""
    inside, defects = region_mask(regions, size), np.zeros(size, np.bool_)
    if valid is not None:
        inside &= valid
    sides, detected = [], []
    for defect in annotated:
        x0, y0, x1, y1 = defect.box
        mask = defect.mask if valid is None else defect.mask & valid[y0:y1, x0:x1]
        defects[y0:y1, x0:x1] |= mask
        if mask.any():
            sides.append(float(np.sqrt(mask.sum())))
            detected.append(bool((inside[y0:y1, x0:x1] & mask).any()))
    false_scores = []
    for region in regions:
        x0, y0, x1, y1 = region.box
        if not (defects[y0:y1, x0:x1] & (True if region.mask is None else region.mask)).any():
            false_scores.append(region.score)
    return DefectMatches(sides, detected, false_scores)


def match_regions_to_boxes(regions: Sequence[Region], annotated: Sequence[Box], valid: Mask | None) -> DefectMatches:
    """A defect is detected if a region's box has IoU 0.5 with its own; a region below IoU 0.1 with all is false."""
    true = box_array(annotated)
    if valid is not None:
        true = true[[is_mostly_valid(box, valid) for box in true]]
    iou = box_iou(np.array([region.box for region in regions], np.float64).reshape(-1, 4), true)
    best = iou.max(axis=1, initial=0.0)
    return DefectMatches(
        np.sqrt(box_areas(true)).tolist(),
        (iou.max(axis=0, initial=0.0) >= MIN_MATCH_IOU).tolist(),
        [region.score for region, own in zip(regions, best, strict=True) if own < MIN_TOUCH_IOU],
    )


def recall_by_size(images: Sequence[DefectMatches], units: Units | None = None) -> list[SizeRecall]:
    """Recall by doubling sides, from the smallest defect's; sizes without a defect are left out.

    Defects of images of one unit are one, see `blemish.evaluation.units`; in an image alone, each is its own.
    """
    units = [None] * len(images) if units is None else units
    own = [unit for image, unit in zip(images, units, strict=True) for _ in image.sides]
    sides = np.array([side for image in images for side in image.sides], np.float64)
    detected = np.array([flag for image in images for flag in image.detected], np.bool_)
    steps = np.floor(np.log2(np.maximum(sides, 1e-9))).astype(int)
    return [
        SizeRecall(
            2.0**step, 2.0 ** (step + 1), estimate_share(detected[steps == step], select_units(own, steps == step))
        )
        for step in np.unique(steps).tolist()
    ]
