"""Where in this very image the part is: a drawn shape, a blob, a closed edge or a mark, as a crop of it.

A drawn rectangle limits where a blob, an edge or a mark is looked for; polygons, drawn on the image, limit what counts.
"""

import base64
import binascii
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from blemish.errors import ImageError
from blemish.geometry import mask_bounds, polygon_mask
from blemish.imaging.blob import Side, find_blob, grey_of
from blemish.imaging.contour import find_contour
from blemish.imaging.pattern_match import check_mark, find_mark
from blemish.imaging.roi import Bools, Box, RoiShape, locate
from blemish.imaging.rotated_crop import Turned

Counts = Literal["box", "hull", "outline"]
MAX_MARK_BYTES = 2 * 2**20


class Locator(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Patch(Locator):
    """What is made of a patch of pixels that was found."""

    least_area: float = Field(default=0.01, gt=0, le=1)  # of the patch, in parts of the picture
    margin: int = Field(default=0, ge=0, le=4096)  # px added around its box
    upright: bool = False  # turn the crop by less than 45 degrees, to lie as the patch's smallest rectangle
    counts: Counts = "box"  # the pixels that count: all of the box, or only those in the patch's hull or outline


class Blob(Patch):
    """The largest patch brighter, or darker, than a level."""

    level: float | Literal["otsu"] = "otsu"  # in parts of full scale
    side: Side = "bright"


class Contour(Patch):
    """What the largest closed edge encloses."""

    strength: float | None = Field(default=None, gt=0, le=1)  # least step of grey, in parts of full scale; None: Otsu's
    smooth: float = Field(default=1.5, ge=0, le=20)  # sigma of a Gaussian before, in px
    bridge: int = Field(default=5, ge=1, le=99)  # gaps in the edge that are closed, in px


class Mark(Locator):
    """A picture that is looked for, shifted and turned."""

    png: str  # the picture: grey PNG, base64
    degrees: float = Field(default=0.0, ge=0, le=180)  # it may be turned by as much, both ways
    least_score: float = Field(default=0.6, gt=0, le=1)  # least normalised correlation
    part: tuple[float, float, float, float] | None = None  # the crop x0 y0 x1 y1 in px of the mark; None: the mark

    @field_validator("png")
    @classmethod
    def _is_picture(cls, text: str) -> str:
        try:
            check_mark(read_mark(text))
        except ImageError as error:
            raise ValueError(str(error)) from error
        return text

    @field_validator("part")
    @classmethod
    def _is_box(cls, part: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if part is not None and not (part[2] - part[0] >= 1 and part[3] - part[1] >= 1):
            raise ValueError("part is x0 y0 x1 y1 with x1 above x0 and y1 above y0")
        return part


class PartShape(RoiShape, Protocol):
    """What `find_part` needs to know; see `blemish.inspection.manifest.Roi`."""

    @property
    def blob(self) -> Blob | None: ...
    @property
    def contour(self) -> Contour | None: ...
    @property
    def mark(self) -> Mark | None: ...


@dataclass(frozen=True)
class Place:
    """Where the part is: its upright box in the image with the pixels (y1 - y0, x1 - x0) in it that count, or a turned
    crop with the pixels (height, width) of it that count."""

    box: Box
    inside: Bools
    turned: Turned | None = None


def find_part(image: NDArray[Any], roi: PartShape | None) -> Place:
    """The part's place in an image (H, W, C); raises ImageError where it is not found, or nothing of it counts."""
    box, inside = locate(image, roi)
    if roi is None or (roi.blob is None and roi.contour is None and roi.mark is None):
        return Place(box, inside)
    counts = np.zeros(image.shape[:2], bool)
    counts[box[1] : box[3], box[0] : box[2]] = inside
    place = _by_mark(image, box, roi.mark, counts) if roi.mark is not None else _by_patch(image, box, roi, counts)
    if not place.inside.any():
        raise ImageError("a part was found, but no pixel of it counts; check the region of interest")
    return place


def encode_mark(grey: NDArray[np.float32]) -> str:
    """A grey picture (h, w) in [0, 1] as a base64 PNG; ImageError where it is no use as a mark."""
    check_mark(grey)
    content = cv2.imencode(".png", np.round(grey * 255).astype(np.uint8))[1].tobytes()
    if len(content) > MAX_MARK_BYTES:
        raise ImageError(f"a mark of {grey.shape[1]}×{grey.shape[0]} px is too large; cut out a smaller piece")
    return base64.b64encode(content).decode()


@lru_cache(maxsize=4)
def read_mark(text: str) -> NDArray[np.float32]:
    """The picture (h, w) in [0, 1] from its base64 PNG, read-only."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("the mark's picture is damaged: it is no base64") from error
    if len(content) > MAX_MARK_BYTES or not content.startswith(b"\x89PNG"):
        raise ImageError("the mark's picture is damaged: it is no small PNG")
    if int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big") > 2**24:
        raise ImageError("the mark's picture has more than 16 million pixels")
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if found is None:
        raise ImageError("the mark's picture is damaged")
    grey = np.asarray(found, np.float32) / np.float32(255)
    grey.flags.writeable = False
    return grey


def _by_patch(image: NDArray[Any], box: Box, roi: PartShape, counts: Bools) -> Place:
    x0, y0, x1, y1 = box
    seen = image[y0:y1, x0:x1]
    how: Patch
    if roi.blob is not None:
        how = roi.blob
        patch = find_blob(seen, roi.blob.level, roi.blob.side, roi.blob.least_area)
    else:
        assert roi.contour is not None
        how, edge = roi.contour, roi.contour
        patch = find_contour(seen, edge.strength, edge.smooth, edge.bridge, edge.least_area)
    whole = np.zeros(counts.shape, bool)
    whole[y0:y1, x0:x1] = patch
    outline = cv2.findContours(whole.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
    if how.counts == "outline":
        counts = counts & whole
    elif how.counts == "hull":
        hull = cv2.fillPoly(np.zeros(whole.shape, np.uint8), [cv2.convexHull(outline)], 1)
        counts = counts & (hull > 0)
    if how.upright:
        return _turned(_smallest_rectangle(outline, how.margin), counts)
    bounds, m = mask_bounds(whole), how.margin
    assert bounds is not None
    left, right = max(x0, bounds[0] - m), min(x1, bounds[2] + m)
    top, bottom = max(y0, bounds[1] - m), min(y1, bounds[3] + m)
    return Place((left, top, right, bottom), counts[top:bottom, left:right])


def _smallest_rectangle(outline: NDArray[Any], margin: int) -> Turned:
    """The smallest rectangle around an outline's pixels, turned by at most 45 degrees."""
    (x, y), (width, height), clockwise = cv2.minAreaRect(outline)
    while not -45 < clockwise <= 45:  # which side OpenCV calls the width has changed with its versions
        clockwise, width, height = clockwise - math.copysign(90, clockwise), height, width
    # The outline goes through pixel centres; the pixels reach half a pixel further.
    sides = (max(1, round(side + 1 + 2 * margin)) for side in (height, width))
    return Turned((x + 0.5, y + 0.5), -float(clockwise), *sides)


def _by_mark(image: NDArray[Any], box: Box, mark: Mark, counts: Bools) -> Place:
    x0, y0, x1, y1 = box
    picture = read_mark(mark.png)
    height, width = picture.shape
    match = find_mark(grey_of(image[y0:y1, x0:x1]), picture, mark.degrees, mark.least_score)
    centre = (match.centre[0] + x0, match.centre[1] + y0)
    part = mark.part or (0.0, 0.0, float(width), float(height))
    crop_height, crop_width = max(1, round(part[3] - part[1])), max(1, round(part[2] - part[0]))
    of_mark = Turned(centre, match.degrees, height, width)
    middle = of_mark.to_image(np.array([(part[0] + part[2]) / 2, (part[1] + part[3]) / 2]))
    if mark.degrees > 0:
        return _turned(Turned((float(middle[0]), float(middle[1])), match.degrees, crop_height, crop_width), counts)
    left, top = round(float(middle[0]) - crop_width / 2), round(float(middle[1]) - crop_height / 2)
    right, bottom = min(counts.shape[1], left + crop_width), min(counts.shape[0], top + crop_height)
    left, top = max(0, left), max(0, top)
    if left >= right or top >= bottom:
        raise ImageError("the mark was found, but the part that goes with it lies outside the image")
    return Place((left, top, right, bottom), counts[top:bottom, left:right])


def _turned(crop: Turned, counts: Bools) -> Place:
    """A turned crop, whose box is the upright one around it in the image."""
    height, width = counts.shape
    corners = crop.corners()
    x0, y0 = (max(0, int(v)) for v in np.floor(corners.min(axis=0)))
    x1, y1 = (int(v) for v in np.minimum(np.ceil(corners.max(axis=0)), (width, height)))
    return Place((x0, y0, max(x1, x0), max(y1, y0)), crop.crop_mask(counts), crop)


def counting(place: Place, size: tuple[int, int]) -> Bools:
    """Pixels (H, W) of the image that count, for an image of `size`."""
    whole = np.zeros(size, bool)
    if place.turned is None:
        x0, y0, x1, y1 = place.box
        whole[y0:y1, x0:x1] = place.inside
        return whole
    # Nearest pixel of the crop, for those inside it.
    inside = polygon_mask([(float(x), float(y)) for x, y in place.turned.corners()], *size)
    if not place.inside.all():
        inside &= place.turned.map_back(place.inside.astype(np.float32), size) >= 0.5
    return inside
