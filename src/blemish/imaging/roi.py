"""Where in the picture the part is: the region of interest as a box, and which pixels in it count.

Points and boxes are given at pixel edges: x goes from 0 to the image's width, and a pixel belongs to a polygon when
its centre does.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError
from blemish.geometry import mask_bounds, polygon_mask

Bools = NDArray[np.bool_]
Box = tuple[int, int, int, int]  # x0 y0 x1 y1, x1 and y1 exclusive
Polygon = tuple[tuple[float, float], ...]


class RoiShape(Protocol):
    """What `locate` needs to know; see `blemish.inspection.manifest.Roi`."""

    @property
    def image_height(self) -> int | None: ...
    @property
    def image_width(self) -> int | None: ...
    @property
    def rectangle(self) -> tuple[int, int, int, int] | None: ...
    @property
    def polygon(self) -> Sequence[tuple[float, float]] | None: ...
    @property
    def ignore(self) -> Sequence[Sequence[tuple[float, float]]]: ...


def locate(image: NDArray[Any], roi: RoiShape | None) -> tuple[Box, Bools]:
    """The box of the part in an image (H, W, C), and which pixels in the box count, (y1 - y0, x1 - x0), read-only.

    The shape is drawn on an image of a stated size and is scaled to this one. Raises ImageError where nothing of it
    is left inside the image.
    """
    height, width = image.shape[:2]
    if roi is None or roi.image_height is None or roi.image_width is None:  # nothing is drawn
        return (0, 0, width, height), _whole(height, width)
    polygon = None if roi.polygon is None else _points(roi.polygon)
    ignore = tuple(_points(points) for points in roi.ignore)
    return _drawn(height, width, roi.image_height, roi.image_width, roi.rectangle, polygon, ignore)


@lru_cache(maxsize=4)
def _whole(height: int, width: int) -> Bools:
    return _read_only(np.ones((height, width), bool))


@lru_cache(maxsize=4)
def _drawn(
    height: int,
    width: int,
    stated_height: int,
    stated_width: int,
    rectangle: Box | None,
    polygon: Polygon | None,
    ignore: tuple[Polygon, ...],
) -> tuple[Box, Bools]:
    scale_x, scale_y = width / stated_width, height / stated_height
    x0, y0, x1, y1 = (0, 0, width, height) if rectangle is None else _scaled_box(rectangle, scale_x, scale_y)
    inside = None
    if polygon is not None:
        inside = polygon_mask(_scaled(polygon, scale_x, scale_y), height, width)
        bounds = mask_bounds(inside)
        if bounds is None:
            raise _outside(width, height)
        x0, y0, x1, y1 = max(x0, bounds[0]), max(y0, bounds[1]), min(x1, bounds[2]), min(y1, bounds[3])
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if x0 >= x1 or y0 >= y1:
        raise _outside(width, height)
    valid = np.ones((y1 - y0, x1 - x0), bool) if inside is None else inside[y0:y1, x0:x1].copy()
    for points in ignore:
        valid &= ~polygon_mask(_scaled(points, scale_x, scale_y), height, width)[y0:y1, x0:x1]
    if not valid.any():
        raise ImageError("the ignored polygons cover the whole region of interest; leave some of it")
    return (x0, y0, x1, y1), _read_only(valid)


def _points(points: Iterable[tuple[float, float]]) -> Polygon:
    found = tuple((float(x), float(y)) for x, y in points)
    if len(found) < 3:
        raise ImageError(f"a polygon of the region of interest has {len(found)} points; it takes three")
    return found


def _scaled(points: Polygon, scale_x: float, scale_y: float) -> Polygon:
    return tuple((x * scale_x, y * scale_y) for x, y in points)


def _scaled_box(box: Box, scale_x: float, scale_y: float) -> Box:
    return round(box[0] * scale_x), round(box[1] * scale_y), round(box[2] * scale_x), round(box[3] * scale_y)


def _outside(width: int, height: int) -> ImageError:
    return ImageError(f"nothing of the region of interest lies inside the image of {width}×{height} pixels")


def _read_only(mask: Bools) -> Bools:
    mask.flags.writeable = False
    return mask
