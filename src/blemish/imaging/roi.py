"""The region of interest: shapes drawn on an image of a stated size, and the ways to locate the part in each image.

Points and boxes are given at pixel edges: x goes from 0 to the image's width, and a pixel belongs to a polygon when
its centre does.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from blemish.arrays import Mask, PixelBox
from blemish.errors import ImageError
from blemish.files import FrozenModel
from blemish.geometry import Ring, mask_bounds, polygon_mask
from blemish.imaging.blob import Polarity, find_blob
from blemish.imaging.contour import find_contour
from blemish.imaging.pattern_match import check_pattern, decode_pattern

ValidArea = Literal["box", "hull", "outline"]


class RegionLocator(FrozenModel):
    """Options for the crop around a connected region of pixels."""

    min_area: float = Field(default=0.01, gt=0, le=1)  # of the region, as a share of the image
    margin: int = Field(default=0, ge=0, le=4096)  # px added around its box
    upright: bool = False  # rotate the crop by less than 45 degrees, to the region's smallest rectangle
    valid: ValidArea = "box"  # the pixels that are inspected: all of the box, or only the region's hull or outline

    @abstractmethod
    def find(self, image: NDArray[Any]) -> Mask:
        """Mask (H, W) of the region in an image (H, W, C); ImageError where there is none."""


class BlobLocator(RegionLocator):
    """The largest region brighter, or darker, than a level."""

    level: float | Literal["otsu"] = "otsu"  # as a share of full scale
    side: Polarity = "bright"

    def find(self, image: NDArray[Any]) -> Mask:
        return find_blob(image, self.level, self.side, self.min_area)


class ContourLocator(RegionLocator):
    """The area that the largest closed edge encloses."""

    strength: float | None = Field(default=None, gt=0, le=1)  # smallest step of grey, of full scale; None: Otsu's
    smooth: float = Field(default=1.5, ge=0, le=20)  # sigma of a Gaussian before, in px
    bridge: int = Field(default=5, ge=1, le=99)  # gaps in the edge that are closed, in px

    def find(self, image: NDArray[Any]) -> Mask:
        return find_contour(image, self.strength, self.smooth, self.bridge, self.min_area)


class PatternLocator(FrozenModel):
    """A pattern that is searched for, shifted and rotated."""

    png: str  # the pattern: grey PNG, base64
    degrees: float = Field(default=0.0, ge=0, le=180)  # it may be rotated by as much, both ways
    min_score: float = Field(default=0.6, gt=0, le=1)  # smallest normalised correlation
    crop: tuple[float, float, float, float] | None = None  # x0 y0 x1 y1 in px of the pattern; None: the pattern itself

    @field_validator("png")
    @classmethod
    def _usable(cls, text: str) -> str:
        try:
            check_pattern(decode_pattern(text))
        except ImageError as error:
            raise ValueError(str(error)) from error
        return text

    @field_validator("crop")
    @classmethod
    def _has_area(cls, crop: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if crop is not None and not (crop[2] - crop[0] >= 1 and crop[3] - crop[1] >= 1):
            raise ValueError("crop is x0 y0 x1 y1 with x1 above x0 and y1 above y0")
        return crop


class Roi(FrozenModel):
    """The inspected area: shapes drawn on an image of the stated size, which are scaled to others, and
    perhaps one way to locate the part in each image (blob, contour or pattern)."""

    image_height: int | None = Field(default=None, ge=1)
    image_width: int | None = Field(default=None, ge=1)
    rectangle: PixelBox | None = None  # x0 y0 x1 y1; the part is searched for in it
    polygon: list[tuple[float, float]] | None = None
    ignore: list[list[tuple[float, float]]] = Field(default_factory=list)  # polygons that are not inspected
    blob: BlobLocator | None = None
    contour: ContourLocator | None = None
    pattern: PatternLocator | None = None

    @property
    def locator(self) -> RegionLocator | PatternLocator | None:
        """The locator of the part, if there is one."""
        return self.blob or self.contour or self.pattern

    @property
    def limits_pixels(self) -> bool:
        """Whether some pixels of the crop may not be valid."""
        region = self.blob or self.contour
        return (
            self.polygon is not None
            or bool(self.ignore)
            or (self.pattern is not None and self.pattern.degrees > 0)
            or (region is not None and (region.upright or region.valid != "box"))
        )

    @model_validator(mode="after")
    def _complete(self) -> "Roi":
        drawn = self.rectangle is not None or self.polygon is not None or bool(self.ignore)
        if (self.image_height is None or self.image_width is None) and (drawn or self.locator is None):
            raise ValueError("give image_height and image_width, the size of the image that the shapes are drawn on")
        if sum(locator is not None for locator in (self.blob, self.contour, self.pattern)) > 1:
            raise ValueError("give one of blob, contour and pattern")
        return self


def locate_roi(image: NDArray[Any], roi: Roi | None) -> tuple[PixelBox, Mask]:
    """The box of the drawn shapes in an image (H, W, C), and its valid pixels (y1 - y0, x1 - x0), read-only.

    The shapes are scaled from the stated size to that of the image. Raises ImageError where nothing of them is left
    inside the image.
    """
    size = (image.shape[0], image.shape[1])
    if roi is None or roi.image_height is None or roi.image_width is None:  # nothing is drawn
        return _drawn_area(size, size, None, None, ())
    polygon = None if roi.polygon is None else _ring(roi.polygon)
    ignore = tuple(map(_ring, roi.ignore))
    return _drawn_area(size, (roi.image_height, roi.image_width), roi.rectangle, polygon, ignore)


@lru_cache(maxsize=8)
def _drawn_area(
    size: tuple[int, int],
    drawn_size: tuple[int, int],
    rectangle: PixelBox | None,
    polygon: Ring | None,
    ignore: tuple[Ring, ...],
) -> tuple[PixelBox, Mask]:
    height, width = size
    scale_x, scale_y = width / drawn_size[1], height / drawn_size[0]

    def scaled_mask(ring: Ring) -> Mask:
        return polygon_mask([(x * scale_x, y * scale_y) for x, y in ring], height, width)

    boxes: list[PixelBox | None] = [(0, 0, width, height)]
    if rectangle is not None:
        left, top, right, bottom = rectangle
        boxes.append((round(left * scale_x), round(top * scale_y), round(right * scale_x), round(bottom * scale_y)))
    whole = np.ones(size, bool)
    if polygon is not None:
        whole = scaled_mask(polygon)
        boxes.append(mask_bounds(whole))
    edges = np.array([(0, 0, 0, 0) if box is None else box for box in boxes])
    (x0, y0), (x1, y1) = edges[:, :2].max(axis=0).tolist(), edges[:, 2:].min(axis=0).tolist()
    if x0 >= x1 or y0 >= y1:
        raise ImageError(f"nothing of the region of interest lies inside the image of {width}×{height} pixels")
    valid = whole[y0:y1, x0:x1].copy()
    for ring in ignore:
        valid &= ~scaled_mask(ring)[y0:y1, x0:x1]
    if not valid.any():
        raise ImageError("the ignored polygons cover the whole region of interest; leave some of it")
    valid.flags.writeable = False
    return (x0, y0, x1, y1), valid


def _ring(points: Sequence[tuple[float, float]]) -> Ring:
    if len(points) < 3:
        raise ImageError(f"a polygon of the region of interest has {len(points)} points; it takes three")
    return tuple((float(x), float(y)) for x, y in points)
