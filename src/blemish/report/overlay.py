"""Pictures of an inspection: the image with its heat map, its regions and its verdict drawn in."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap, Mask
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Region, Verdict

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]  # RGB
Box = tuple[int, int, int, int]
LEAST_SIDE = 400  # a picture whose longer side is shorter is enlarged
HOTTEST = 225  # of the 255 steps of the colour map, whose last ones are too dark to show
NAMED = 12  # regions with words; the others are only outlined
COLOURS = {Verdict.PASS: (22, 163, 74), Verdict.REVIEW: (234, 145, 8), Verdict.REJECT: (220, 38, 38)}  # RGB
TRUTH = (14, 165, 233)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def as_picture(image: NDArray[Any]) -> Picture:
    """Any image (H, W, C) as RGB uint8; deeper ones are stretched to what they hold, other channels than three
    show the first as grey."""
    if image.dtype != np.uint8:
        top = max(float(image.max()), 1e-12)
        image = (image.astype(np.float32) * (255 / top)).clip(0, 255).astype(np.uint8)
    if image.shape[2] != 3:
        image = np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image)


def draw_overlay(image: NDArray[Any], inspection: Inspection, heat_range: tuple[float, float] | None = None) -> Picture:
    """The image (H, W, C) with heat map, regions and verdict as RGB uint8.

    It has the image's size, or a whole multiple of it where that is too small for words. `heat_range` is the heat that
    shows as nothing and the one that shows in full (see `heat_range`); by default the map's own range.
    """
    picture = as_picture(image)
    if inspection.heat_map is not None:
        picture = blend_heat(picture, inspection.heat_map, heat_range)
    zoom = zoom_for(picture)
    picture = enlarge(picture, zoom)
    colour = COLOURS[inspection.verdict]
    regions = sorted(inspection.regions, key=lambda region: -region.score)
    for region in regions:
        _draw_region(picture, region, zoom, colour)
    taken = [_draw_verdict(picture, inspection, colour)]
    for region in regions[:NAMED]:
        _name_region(picture, region, zoom, colour, taken)
    return picture


def heat_range(decision: Decision) -> tuple[float, float] | None:
    """One scale for all images of a decision: the map begins to show where regions may grow to."""
    low, high = decision.map_low, decision.map_high
    if low is None or high is None or not low < high:
        return None
    return low - 2 * (high - low), low + 2 * (high - low)


def heat_image(heat_map: FloatMap, low: float, high: float) -> Picture:
    """A map (H, W) as colours from `low` to `high`; RGB uint8."""
    shares = ((heat_map - low) / max(high - low, 1e-12)).clip(0, 1)
    return np.ascontiguousarray(cv2.applyColorMap((shares * HOTTEST).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1])


def blend_heat(picture: Picture, heat_map: FloatMap, heat_range: tuple[float, float] | None = None) -> Picture:
    """Lay a heat map (H, W) over a picture; the cooler half of its range stays clear."""
    low, high = heat_range or (float(heat_map.min()), float(heat_map.max()))
    shares = ((heat_map - low) / max(high - low, 1e-12)).clip(0, 1)
    weight = (shares - 0.5).clip(0, 1)[..., None].astype(np.float32)
    return np.asarray(picture * (1 - weight) + heat_image(heat_map, low, high) * weight).astype(np.uint8)


def zoom_for(picture: Picture) -> int:
    """How many times a picture is enlarged so that words on it can be read."""
    height, width = _size(picture)
    return max(1, math.ceil(LEAST_SIDE / max(height, width)))


def enlarge(picture: Picture, zoom: int) -> Picture:
    return np.ascontiguousarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1) if zoom > 1 else picture)


def outline(picture: Picture, mask: Mask, colour: Colour = TRUTH) -> Picture:
    """Draw the outline of a mask (H, W) into the picture, in place, and return it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, line_width(picture))
    return picture


def line_width(picture: Picture) -> int:
    """Line width that suits the size of the picture."""
    height, width = _size(picture)
    return max(1, round(min(height, width) / 300))


def boxed(picture: Picture, regions: list[Region], colour: Colour = TRUTH) -> Picture:
    """Draw the regions' boxes into the picture, in place, and return it."""
    for region in regions:
        x0, y0, x1, y1 = region.box
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, line_width(picture))
    return picture


def describe(region: Region) -> str:
    """A region in a few words: class, score, length and mean width, in mm where the scale is known."""
    words = f"{region.label} {region.score:.3g}"
    found = region.measurements
    if found is None:
        return words
    if found.length_mm is None or found.mean_width_mm is None:
        return f"{words}, {found.length_px:.0f} x {found.mean_width_px:.0f} px"
    return f"{words}, {found.length_mm:.2f} x {found.mean_width_mm:.2f} mm"


def _draw_region(picture: Picture, region: Region, zoom: int, colour: Colour) -> None:
    x0, y0, x1, y1 = (zoom * edge for edge in region.box)
    width = line_width(picture)
    if region.mask is None:
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, width)
        return
    mask = enlarge(region.mask.astype(np.uint8), zoom)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x0, y0))
    cv2.drawContours(picture, contours, -1, colour, width)


def _name_region(picture: Picture, region: Region, zoom: int, colour: Colour, taken: list[Box]) -> None:
    """Write a region's name above it or below it, unless both places are taken."""
    x0, y0, _, y1 = (zoom * edge for edge in region.box)
    text, scale = describe(region), _text_scale(picture)
    height = _text_size(text, scale)[1]
    for top in (y0 - height - 2, y1 + 2):
        place = _place(picture, text, scale, (x0, top))
        if not any(_overlap(place, other) for other in taken):
            taken.append(_write(picture, text, scale, (x0, top), colour))
            return


def _draw_verdict(picture: Picture, inspection: Inspection, colour: Colour) -> Box:
    width = 2 * line_width(picture)
    right, bottom = picture.shape[1] - 1, picture.shape[0] - 1
    cv2.rectangle(picture, (0, 0), (right, bottom), colour, width)
    text = f"{inspection.verdict.upper()} {inspection.score:.4g}"
    scale = 1.2 * _text_scale(picture)
    return _write(picture, text, scale, (0, bottom + 1), colour)


def _size(picture: Picture) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return int(height), int(width)


def _text_scale(picture: Picture) -> float:
    height, width = _size(picture)
    return max(0.4, min(height, width) / 1100)


def _text_size(text: str, scale: float) -> tuple[int, int]:
    """Width and height of the bar behind a text."""
    (width, height), base = cv2.getTextSize(text, _FONT, scale, _weight(scale))
    return int(width + 10 * scale), int(height + base + 4 * scale)


def _weight(scale: float) -> int:
    return max(1, round(scale * 1.6))


def _place(picture: Picture, text: str, scale: float, corner: tuple[int, int]) -> Box:
    """The bar of a text, its upper left at the corner or as near to it as fits into the picture."""
    width, height = _text_size(text, scale)
    x = max(0, min(corner[0], picture.shape[1] - width))
    y = max(0, min(corner[1], picture.shape[0] - height))
    return x, y, x + width, y + height


def _write(picture: Picture, text: str, scale: float, corner: tuple[int, int], colour: Colour) -> Box:
    """White text on a bar of the colour."""
    scale = min(scale, scale * picture.shape[1] / _text_size(text, scale)[0])
    x0, y0, x1, y1 = place = _place(picture, text, scale, corner)
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, -1)
    base = cv2.getTextSize(text, _FONT, scale, _weight(scale))[1]
    at = (int(x0 + 5 * scale), int(y1 - base - 1))
    cv2.putText(picture, text, at, _FONT, scale, (255, 255, 255), _weight(scale), cv2.LINE_AA)
    return place


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
