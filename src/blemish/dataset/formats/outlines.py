"""Outlines and masks as annotation programs write them: turned rectangles, ellipses, holes, masks cut to bounds."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.export import ExportEntry
from blemish.dataset.frame import fall_back, fit_to_image
from blemish.dataset.ground_truth import clip_box
from blemish.errors import DataError
from blemish.geometry import Box, Ring, Rle, Shape, encode_mask, polygon_mask
from blemish.imaging.read import MAX_PIXELS

_ELLIPSE_POINTS = 72


def turned_rectangle(
    x: float, y: float, width: float, height: float, degrees: float, pivot: tuple[float, float]
) -> Ring:
    """Corners of a rectangle that is turned clockwise (as seen, with y down) about `pivot`; x and y before turning."""
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return turn(corners, degrees, pivot)


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> Ring:
    """Outline of an ellipse that is turned clockwise about its centre, of 72 points."""
    angles = [2 * math.pi * i / _ELLIPSE_POINTS for i in range(_ELLIPSE_POINTS)]
    return turn([(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles], degrees, (cx, cy))


def turn(points: Iterable[tuple[float, float]], degrees: float, pivot: tuple[float, float]) -> Ring:
    """Points turned clockwise, as seen with y down, about `pivot`."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    px, py = pivot
    return tuple((px + (x - px) * cos - (y - py) * sin, py + (x - px) * sin + (y - py) * cos) for x, y in points)


def fill_with_holes(
    exterior: Sequence[tuple[float, float]],
    holes: Iterable[Sequence[tuple[float, float]]],
    size: tuple[int, int],
    label: str,
) -> Rle:
    """Pixels in an image of `size` (height, width) that are inside an outline and in none of its holes."""
    mask = polygon_mask(exterior, *size)
    for hole in holes:
        mask &= ~polygon_mask(hole, *size)
    return encode_mask(mask, label)


def paste_mask(crop: Mask, left: int, top: int, size: tuple[int, int], label: str) -> Rle:
    """A mask (h, w) at a place in an image of `size` (height, width); ValueError where it reaches beyond."""
    height, width = crop.shape
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError(
            f"a mask of {width}×{height} at {left}, {top} does not fit into an image of {size[1]}×{size[0]}"
        )
    whole = np.zeros(size, np.bool_)
    whole[top : top + height, left : left + width] = crop
    return encode_mask(whole, label)


def merged_losses(entries: Iterable[ExportEntry]) -> list[str]:
    """A line about masks of many defects, for formats that write each shape as one defect."""
    many = sum(any(isinstance(item, Rle) and item.many for item in entry.items or ()) for entry in entries)
    return [f"masks of many defects become one shape each in {many} images"] if many else []


def place_item(item: Box | Shape, recorded: tuple[int, int], image: Path) -> Box | Shape:
    """A box or shape of an image of the `recorded` size (height, width), in the frame of the image as it is read.

    DataError where it covers no pixel, or the sizes do not go together, or the recorded one is none.
    """
    if min(recorded) < 1 or recorded[0] * recorded[1] > MAX_PIXELS:
        raise DataError(f"its image is said to have {recorded[1]}×{recorded[0]} pixels")
    if not isinstance(item, Box):
        fall_back(item, None, recorded, image)
    elif clip_box(item, recorded) is None:
        raise DataError(f"its box covers no pixel of {image}")
    return fit_to_image([item], recorded, image)[0]
