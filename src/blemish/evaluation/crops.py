"""Masks in their boxes: the pixels of regions and defects without the rest of the image."""

import numpy as np

from blemish.arrays import Mask, PixelBox

Crop = tuple[PixelBox, Mask]  # a box, and a mask of its size


def make_crop(box: PixelBox, mask: Mask | None) -> Crop:
    """A mask of a box; None: all of its pixels."""
    return box, np.ones((box[3] - box[1], box[2] - box[0]), np.bool_) if mask is None else mask


def valid_crop(box: PixelBox, mask: Mask | None, valid: Mask | None) -> Crop | None:
    """As `make_crop`, of the valid pixels (H, W) only; None where there are none."""
    box, mask = make_crop(box, mask)
    x0, y0, x1, y1 = box
    own = mask if valid is None else mask & valid[y0:y1, x0:x1]
    return (box, own) if own.any() else None


def count_shared(a: Crop, b: Crop) -> int:
    """Pixels that two crops have in common."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a[0], b[0]
    x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
    if x0 >= x1 or y0 >= y1:
        return 0
    own, other = a[1][y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0], b[1][y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0]
    return int(np.count_nonzero(own & other))
