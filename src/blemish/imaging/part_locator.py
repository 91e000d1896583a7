"""Locate the part (fixed ROI, blob, contour or pattern match) and return its crop.

A drawn rectangle limits where a blob, a contour or a pattern is searched for; drawn polygons limit the valid pixels.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Mask, PixelBox
from blemish.errors import ImageError
from blemish.geometry import mask_bounds, polygon_mask
from blemish.imaging.blob import to_grey
from blemish.imaging.pattern_match import decode_pattern, match_pattern
from blemish.imaging.roi import PatternLocator, RegionLocator, Roi, locate_roi
from blemish.imaging.rotated_crop import RotatedCrop


@dataclass(frozen=True)
class PartLocation:
    """Location of the part: its upright box in the image with the valid pixels (y1 - y0, x1 - x0) of it, or a rotated
    crop with the valid pixels (height, width) of that."""

    box: PixelBox
    valid: Mask
    rotated: RotatedCrop | None = None

    def valid_pixels(self, size: tuple[int, int]) -> Mask:
        """The valid pixels (H, W) of the image, whose size is given."""
        whole = np.zeros(size, bool)
        if self.rotated is None:
            x0, y0, x1, y1 = self.box
            whole[y0:y1, x0:x1] = self.valid
            return whole
        # Nearest pixel of the crop, for those inside it.
        whole = polygon_mask([(float(x), float(y)) for x, y in self.rotated.corners()], *size)
        if not self.valid.all():
            whole &= self.rotated.map_to_image(self.valid.astype(np.float32), size) >= 0.5
        return whole


def locate_part(image: NDArray[Any], roi: Roi | None) -> PartLocation:
    """Locate the part in an image (H, W, C); raises ImageError where it is not found, or no pixel of it is valid."""
    box, inside = locate_roi(image, roi)
    locator = None if roi is None else roi.locator
    if locator is None:
        return PartLocation(box, inside)
    valid = np.zeros(image.shape[:2], bool)
    valid[box[1] : box[3], box[0] : box[2]] = inside
    if isinstance(locator, PatternLocator):
        location = _locate_pattern(image, box, locator, valid)
    else:
        location = _locate_region(image, box, locator, valid)
    if not location.valid.any():
        raise ImageError("a part was found, but no pixel of it is valid; check the region of interest")
    return location


def _locate_region(image: NDArray[Any], box: PixelBox, locator: RegionLocator, valid: Mask) -> PartLocation:
    x0, y0, x1, y1 = box
    region = np.zeros(valid.shape, bool)
    region[y0:y1, x0:x1] = locator.find(image[y0:y1, x0:x1])
    outline = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
    if locator.valid == "outline":
        valid = valid & region
    elif locator.valid == "hull":
        valid = valid & (cv2.fillPoly(np.zeros(region.shape, np.uint8), [cv2.convexHull(outline)], 1) > 0)
    margin = locator.margin
    if locator.upright:
        return _rotated_location(_smallest_rectangle(outline, margin), valid)
    bounds = mask_bounds(region)
    assert bounds is not None
    left, top, right, bottom = bounds
    return _upright_location((left - margin, top - margin, right + margin, bottom + margin), box, valid)


def _smallest_rectangle(outline: NDArray[Any], margin: int) -> RotatedCrop:
    """The smallest rectangle around an outline's pixels, rotated by at most 45 degrees."""
    (x, y), (width, height), clockwise = cv2.minAreaRect(outline)
    while not -45 < clockwise <= 45:  # which side OpenCV calls the width has changed with its versions
        clockwise, width, height = clockwise - math.copysign(90, clockwise), height, width
    # The outline goes through pixel centres; the pixels reach half a pixel further.
    sides = (max(1, round(side + 1 + 2 * margin)) for side in (height, width))
    return RotatedCrop((x + 0.5, y + 0.5), -float(clockwise), *sides)


def _locate_pattern(image: NDArray[Any], box: PixelBox, locator: PatternLocator, valid: Mask) -> PartLocation:
    x0, y0, x1, y1 = box
    pattern = decode_pattern(locator.png)
    height, width = pattern.shape
    match = match_pattern(to_grey(image[y0:y1, x0:x1]), pattern, locator.degrees, locator.min_score)
    found = RotatedCrop((match.centre[0] + x0, match.centre[1] + y0), match.degrees, height, width)
    left, top, right, bottom = locator.crop or (0.0, 0.0, float(width), float(height))
    crop_height, crop_width = max(1, round(bottom - top)), max(1, round(right - left))
    x, y = found.to_image(np.array([(left + right) / 2, (top + bottom) / 2])).tolist()
    if locator.degrees > 0:
        return _rotated_location(RotatedCrop((x, y), match.degrees, crop_height, crop_width), valid)
    crop_x, crop_y = round(x - crop_width / 2), round(y - crop_height / 2)
    image_box = (0, 0, valid.shape[1], valid.shape[0])
    return _upright_location((crop_x, crop_y, crop_x + crop_width, crop_y + crop_height), image_box, valid)


def _upright_location(crop: PixelBox, limits: PixelBox, valid: Mask) -> PartLocation:
    """An upright crop, cut to a box of the image."""
    left, top = max(limits[0], crop[0]), max(limits[1], crop[1])
    right, bottom = min(limits[2], crop[2]), min(limits[3], crop[3])
    if left >= right or top >= bottom:
        raise ImageError("the pattern was found, but the part that goes with it lies outside the image")
    return PartLocation((left, top, right, bottom), valid[top:bottom, left:right])


def _rotated_location(crop: RotatedCrop, valid: Mask) -> PartLocation:
    """A rotated crop, whose box is the upright one around it in the image."""
    height, width = valid.shape
    corners = crop.corners()
    x0, y0 = (max(0, int(v)) for v in np.floor(corners.min(axis=0)))
    x1, y1 = (int(v) for v in np.minimum(np.ceil(corners.max(axis=0)), (width, height)))
    return PartLocation((x0, y0, max(x1, x0), max(y1, y0)), crop.crop_mask(valid), crop)
