"""The part as a blob: the largest patch that is brighter, or darker, than a level."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.imaging.prepare import to_unit

Bools = NDArray[np.bool_]
Side = Literal["bright", "dark"]
_LEAST_CONTRAST = 0.02  # between the two sides of Otsu's level, in parts of full scale: less is noise


def grey_of(image: NDArray[Any]) -> NDArray[np.float32]:
    """Image (H, W, C) of any depth as the mean of its channels (H, W), full scale 1."""
    return np.asarray(to_unit(image).mean(axis=2), np.float32)


def find_blob(
    image: NDArray[Any], level: float | Literal["otsu"] = "otsu", side: Side = "bright", least_area: float = 0.01
) -> Bools:
    """Mask (H, W) of the largest connected patch of an image (H, W, C) on one side of a level, its holes filled.

    `level` is in parts of full scale; Otsu 1979 puts it between the two heaps of the histogram. `least_area` is the
    patch's smallest area in parts of the image. Raises ImageError where there is no such patch.
    """
    grey = grey_of(image)
    if level == "otsu":
        level = otsu_level(grey)
    mask = grey > level if side == "bright" else grey < level
    return largest(mask, least_area, f"no {side} part (level {level:.3f})")


def otsu_level(grey: NDArray[np.float32]) -> float:
    """The level between the two heaps of a grey image in [0, 1]; ImageError where it has but one."""
    # 16 bit: a dark picture of a deep camera keeps its steps.
    found, _ = cv2.threshold((grey * 65535).astype(np.uint16), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    level = (float(found) + 0.5) / 65535
    bright = grey > level
    if not bright.any() or bright.all() or grey[bright].mean() - grey[~bright].mean() < _LEAST_CONTRAST:
        raise ImageError("no part was found: the picture is of one grey; check camera and light, or give a level")
    return level


def largest(mask: Bools, least_area: float, what: str) -> Bools:
    """The largest 8-connected patch of a mask with its holes filled; `what` begins the error where none is large."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    best = 0
    for contour in sorted(contours, key=cv2.contourArea, reverse=True)[:8]:  # a contour's area is not that of pixels
        own = np.zeros(mask.shape, np.uint8)
        cv2.drawContours(own, [contour], -1, 1, cv2.FILLED)
        if (area := int(own.sum())) > best:
            filled, best = own, area
    if best == 0 or best < least_area * mask.size:
        raise ImageError(
            f"no part was found: {what} covers {least_area:.2%} of the picture; the largest has {best / mask.size:.2%}"
        )
    return np.asarray(filled > 0)
