"""The part as a blob: the largest region that is brighter, or darker, than a level."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import GreyImage, Mask
from blemish.errors import ImageError
from blemish.imaging.prepare import to_unit

Polarity = Literal["bright", "dark"]
_MIN_CONTRAST = 0.02  # between the two sides of Otsu's threshold, as a share of full scale: less is noise
_MAX_CANDIDATES = 8  # contours whose pixels are counted: the area of a contour is not that of its pixels


def to_grey(image: NDArray[Any]) -> GreyImage:
    """Image (H, W, C) of any depth as the mean of its channels (H, W), full scale 1."""
    return np.asarray(to_unit(image).mean(axis=2), np.float32)


def find_blob(
    image: NDArray[Any], level: float | Literal["otsu"] = "otsu", side: Polarity = "bright", min_area: float = 0.01
) -> Mask:
    """Mask (H, W) of the largest connected region of an image (H, W, C) on one side of a level, its holes filled.

    `level` is a share of full scale; Otsu 1979 puts it between the two modes of the histogram. `min_area` is the
    region's smallest area as a share of the image. Raises ImageError where there is no such region.
    """
    grey = to_grey(image)
    threshold = otsu_threshold(grey) if level == "otsu" else level
    mask = grey > threshold if side == "bright" else grey < threshold
    return largest_region(mask, min_area, f"no {side} part (level {threshold:.3f})")


def otsu_level(values: NDArray[np.uint8] | NDArray[np.uint16]) -> float:
    """Otsu's level of whole numbers: the last value of the lower mode."""
    return float(cv2.threshold(values, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0])


def otsu_threshold(grey: GreyImage) -> float:
    """The level between the two modes of a grey image in [0, 1]; ImageError where it has only one."""
    # 16 bits: a dark image of a deep camera keeps its steps.
    threshold = (otsu_level((grey * 65535).astype(np.uint16)) + 0.5) / 65535
    bright = grey > threshold
    if not bright.any() or bright.all() or grey[bright].mean() - grey[~bright].mean() < _MIN_CONTRAST:
        raise ImageError("no part was found: the image is of one grey; check camera and light, or give a level")
    return threshold


def largest_region(mask: Mask, min_area: float, what: str) -> Mask:
    """The largest 8-connected region of a mask, holes filled; `what` begins the error where none is large enough."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    candidates = (  # one at a time: each is as large as the image
        cv2.drawContours(np.zeros(mask.shape, np.uint8), [contour], -1, 1, cv2.FILLED)
        for contour in sorted(contours, key=cv2.contourArea, reverse=True)[:_MAX_CANDIDATES]
    )
    largest = np.asarray(max(candidates, key=np.sum, default=np.zeros(mask.shape, np.uint8)) > 0)
    share = largest.mean()
    if share == 0 or share < min_area:
        raise ImageError(f"no part was found: {what} covers {min_area:.2%} of the image; the largest has {share:.2%}")
    return largest
