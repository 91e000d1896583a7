"""Which pixels of a mask file are marked: one rule for defect masks, regions of interest and ignore masks.

| values of the file                                   | marked                                                       |
|------------------------------------------------------|--------------------------------------------------------------|
| 0 and 1                                              | 1                                                            |
| 0 and above half of full scale                       | above half; full scale is 255, or of 10, 12, 14 or 16 bits   |
| shades between 0 and such values (soft edges, JPEG)  | above half, if the shades are edges or noise, not regions    |
| anything else: class or instance numbers, dark shades | refused: to take them for unmarked would make a part good    |
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Mask

_FULL_SCALES = (255, 1023, 4095, 16383, 65535)
_MIN_SHADES = (
    5  # different values from which on a mask may be shaded; class masks of so many are recognised by flat regions
)
_MIN_FLAT_ISLAND = 4  # px of one dark shade, away from all marked pixels, that are a region rather than noise ...
_NOISE = 1 / 8  # ... unless it is as dark as this share of full scale, as JPEG's ripples are
_MAX_LISTED = 8


def marked_pixels(values: NDArray[Any]) -> Mask:
    """The marked pixels of a mask file's values (H, W), by the rule above; ValueError where that is ambiguous."""
    levels = _as_levels(values)
    top = int(levels.max(initial=0))
    if top <= 1:
        return np.asarray(levels > 0)
    full = next((scale for scale in _FULL_SCALES if top <= scale), None)
    if full is None:
        raise ValueError(_refusal(values))
    marked = levels > full // 2
    dark = (levels > 0) & ~marked
    if dark.any() and not (marked.any() and _is_shading(levels, marked, dark, _NOISE * full)):
        raise ValueError(_refusal(values))
    return np.asarray(marked)


def _as_levels(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers from 0; floats up to 1 become shares of 16 bits."""
    if values.dtype.kind != "f":
        return np.asarray(values)
    if not np.isfinite(values).all() or (values.size and values.min() < 0):
        raise ValueError(_refusal(values))
    if values.max(initial=0) <= 1 and not np.isin(values, (0, 1)).all():
        values = np.ceil(values * np.float32(65535))
    whole = np.rint(values)
    if (whole != values).any():
        raise ValueError(_refusal(values))
    return np.asarray(whole, np.int64)


def _is_shading(levels: NDArray[Any], marked: Mask, dark: Mask, noise: float) -> bool:
    """Whether dark pixels are soft edges and the noise of a compression, not regions of a value of their own."""
    levels = levels.astype(np.float32)
    block = np.ones((3, 3), np.uint8)
    inside = cv2.erode(levels, block) == cv2.dilate(levels, block)
    inside[[0, -1]], inside[:, [0, -1]] = False, False  # there, blocks are smaller
    if (inside & dark).any():
        return False
    count, places = cv2.connectedComponents((marked | dark).astype(np.uint8), connectivity=8)
    islands = np.ones(count, np.bool_)
    islands[0] = False
    islands[places[marked]] = False
    if not islands.any():
        return True
    if len(np.unique(levels)) - 1 < _MIN_SHADES:
        return False
    alone = islands[places]
    lowest, highest = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(lowest, places[alone], levels[alone])
    np.maximum.at(highest, places[alone], levels[alone])
    flat = (lowest == highest) & (lowest > noise) & (np.bincount(places.ravel(), minlength=count) >= _MIN_FLAT_ISLAND)
    return not (islands & flat).any()


def _refusal(values: NDArray[Any]) -> str:
    found = np.unique(values)
    listed = ", ".join(f"{value:g}" for value in found[:_MAX_LISTED])
    more = f", … {found[-1]:g}" if len(found) > _MAX_LISTED else ""
    return (
        f"its values {listed}{more} do not say what is marked; save marked pixels as 255 and all others as 0, or, if "
        "they are class numbers, name the classes in classes.txt, a line each from value 1 on"
    )
