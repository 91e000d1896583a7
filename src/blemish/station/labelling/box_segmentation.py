"""The defect inside a box that a person drew, by GrabCut."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Mask, PixelBox
from blemish.errors import DataError
from blemish.report.overlay import as_picture

ITERATIONS = 5
MIN_BOX_PX = 3
MAX_SIDE = 512  # px; a larger surrounding is made smaller, because GrabCut takes seconds for each megapixel


def segment_box(image: NDArray[Any], box: PixelBox) -> Mask:
    """Mask (H, W) of what differs from its surroundings inside a box of an image (H, W) or (H, W, C).

    GrabCut (Rother, Kolmogorov and Blake 2004): the colours outside the box, up to its own size away from it, are
    background. Raises DataError for a box that is too small, or all of the image, or that holds nothing.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    if min(x1 - x0, y1 - y0) < MIN_BOX_PX:
        raise DataError(f"draw a box of at least {MIN_BOX_PX} pixels around the defect")
    margin_x, margin_y = max(8, x1 - x0), max(8, y1 - y0)
    left, top = max(0, x0 - margin_x), max(0, y0 - margin_y)
    right, bottom = min(width, x1 + margin_x), min(height, y1 + margin_y)
    crop = as_picture(image[top:bottom, left:right])
    scale = min(1.0, MAX_SIDE / max(crop.shape[:2]))
    small = crop if scale == 1 else cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    outer = (round((x0 - left) * scale), round((y0 - top) * scale))
    inner = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    if inner[0] >= small.shape[1] and inner[1] >= small.shape[0]:
        raise DataError("draw a box that leaves some of the image outside")
    state = np.zeros(small.shape[:2], np.uint8)
    cv2.setRNGSeed(0)  # the same box gives the same pixels
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(np.ascontiguousarray(small), state, (*outer, *inner), *models, ITERATIONS, cv2.GC_INIT_WITH_RECT)
    except cv2.error as error:
        raise DataError("nothing inside this box differs from what is around it") from error
    inside = ((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)).astype(np.uint8)
    if not inside.any():
        raise DataError("nothing inside this box differs from what is around it")
    whole = cv2.resize(inside, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST) > 0
    mask = np.zeros((height, width), np.bool_)
    mask[top:bottom, left:right] = whole
    mask[:y0] = mask[y1:] = False
    mask[:, :x0] = mask[:, x1:] = False
    return mask
