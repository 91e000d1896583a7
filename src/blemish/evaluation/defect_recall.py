"""Which defects the regions find as they ship, thresholds and all: how small a defect may be and still be found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.dataset.ground_truth import Instance
from blemish.dataset.sample import Box
from blemish.evaluation.boxes import box_iou, corners_of, mostly_valid
from blemish.evaluation.intervals import Estimate, share
from blemish.evaluation.masks import painted
from blemish.inspection.result import Bools, Region

SAME = 0.5  # intersection over union from which on a box has found a defect, whatever it is called
BESIDE = 0.1  # below it a box lies beside a defect


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one image: the true defects' sides (root of the area, px), whether each is found, and the false regions."""

    sides: list[float]
    found: list[bool]
    false: list[float]  # scores of regions that lie on no defect


@dataclass(frozen=True)
class SizeShare:
    """Share found of the defects whose side (root of the area) is from `low` to below `high` px."""

    low: float
    high: float
    found: Estimate


def outcome_of_masks(
    regions: Sequence[Region], truth: Sequence[Instance], valid: Bools | None, size: tuple[int, int]
) -> Outcome:
    """A defect is found if one of its pixels that count is in a region; a region without any such is false."""
    seen, known = painted(regions, size), np.zeros(size, np.bool_)
    if valid is not None:
        seen &= valid
    sides, found = [], []
    for defect in truth:
        x0, y0, x1, y1 = defect.box
        mask = defect.mask if valid is None else defect.mask & valid[y0:y1, x0:x1]
        known[y0:y1, x0:x1] |= mask
        if mask.any():
            sides.append(float(np.sqrt(mask.sum())))
            found.append(bool((seen[y0:y1, x0:x1] & mask).any()))
    false = []
    for region in regions:
        x0, y0, x1, y1 = region.box
        touched = known[y0:y1, x0:x1] if region.mask is None else known[y0:y1, x0:x1] & region.mask
        if not touched.any():
            false.append(region.score)
    return Outcome(sides, found, false)


def outcome_of_boxes(regions: Sequence[Region], truth: Sequence[Box], valid: Bools | None) -> Outcome:
    """A defect is found if a region's box shares SAME with its own; a region that shares BESIDE with none is false."""
    true = corners_of(truth)
    if valid is not None:
        true = true[[mostly_valid(box, valid) for box in true]]
    iou = box_iou(np.array([region.box for region in regions], np.float64).reshape(-1, 4), true)
    sides = np.sqrt((true[:, 2:] - true[:, :2]).prod(axis=1))
    best = iou.max(axis=1, initial=0.0)
    return Outcome(
        sides.tolist(),
        (iou.max(axis=0, initial=0.0) >= SAME).tolist(),
        [region.score for region, own in zip(regions, best, strict=True) if own < BESIDE],
    )


def found_by_size(outcomes: Iterable[Outcome]) -> list[SizeShare]:
    """By doubling sides, from the smallest defect's on; sizes without a defect are left out."""
    images = list(outcomes)
    sides = np.array([side for image in images for side in image.sides], np.float64)
    found = np.array([hit for image in images for hit in image.found], np.bool_)
    steps = np.floor(np.log2(np.maximum(sides, 1e-9))).astype(int)
    return [
        SizeShare(2.0**step, 2.0 ** (step + 1), share(int(found[steps == step].sum()), int((steps == step).sum())))
        for step in np.unique(steps).tolist()
    ]
