"""Pictures of an inspection: the image with its heat map, its regions and its verdict drawn in."""

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap, Mask, Picture, PixelBox
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Inspection, Region, Verdict
from blemish.report.measurement_text import format_size
from blemish.report.text import Colour, draw_text, place_bar, text_size
from blemish.translation import ENGLISH, Translate, translator

MIN_SIDE = 400  # a picture whose longer side is shorter is enlarged
MAX_HEAT_STEP = 225  # of the 255 steps of the colour map, whose last ones are too dark to be seen
MAX_NAMED = 12  # regions with words; the others are only outlined
COLOURS = {Verdict.PASS: (22, 163, 74), Verdict.REVIEW: (234, 145, 8), Verdict.REJECT: (220, 38, 38)}  # RGB
ANNOTATION = (14, 165, 233)

HeatRange = tuple[float, float]  # the heat that is drawn as nothing, and the one drawn in full


def as_picture(image: NDArray[Any]) -> Picture:
    """Any image (H, W, C) as RGB uint8.

    Deeper images are stretched to their maximum; of other than three channels the first is drawn as grey.
    """
    if image.dtype != np.uint8:
        top = max(float(image.max()), 1e-12)
        image = (image.astype(np.float32) * (255 / top)).clip(0, 255).astype(np.uint8)
    if image.shape[2] != 3:
        image = np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image)


def draw_overlay(
    image: NDArray[Any], inspection: Inspection, heat_range: HeatRange | None = None, language: str = ENGLISH
) -> Picture:
    """The image (H, W, C) with heat map, regions and verdict as RGB uint8, with words in `language`.

    It has the image's size, or a whole multiple of it where that is too small for words. `heat_range` is that of the
    decision (see `heat_range`); by default the map's own range.
    """
    picture = as_picture(image).copy()  # which may be the image itself
    if inspection.heat_map is not None:
        picture = blend_heat(picture, inspection.heat_map, heat_range)
    zoom = choose_zoom(picture)
    picture = enlarge(picture, zoom)
    colour, translate = COLOURS[inspection.verdict], translator(language)
    regions = sorted(inspection.regions, key=lambda region: -region.score)
    for region in regions:
        _draw_region(picture, region, zoom, colour)
    taken = [_draw_verdict(picture, inspection, colour, translate)]
    for region in regions[:MAX_NAMED]:
        _name_region(picture, region, zoom, colour, taken, translate)
    return picture


def heat_range(decision: Decision) -> HeatRange | None:
    """One scale for all images of a decision: heat is visible from where regions may grow to."""
    low, high = decision.map_low, decision.map_high
    if low is None or high is None or not low < high:
        return None
    return low - 2 * (high - low), low + 2 * (high - low)


def heat_image(heat_map: FloatMap, low: float, high: float) -> Picture:
    """A map (H, W) as colours from `low` to `high`; RGB uint8."""
    shares = ((heat_map - low) / max(high - low, 1e-12)).clip(0, 1)
    steps = (shares * MAX_HEAT_STEP).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(steps, cv2.COLORMAP_TURBO)[..., ::-1])


def blend_heat(picture: Picture, heat_map: FloatMap, heat_range: HeatRange | None = None) -> Picture:
    """Lay a heat map (H, W) over a picture; the cooler half of its range stays clear."""
    low, high = heat_range or (float(heat_map.min()), float(heat_map.max()))
    shares = ((heat_map - low) / max(high - low, 1e-12)).clip(0, 1)
    weight = (shares - 0.5).clip(0, 1)[..., None].astype(np.float32)
    return np.asarray(picture * (1 - weight) + heat_image(heat_map, low, high) * weight).astype(np.uint8)


def choose_zoom(picture: Picture) -> int:
    """The factor by which a picture is enlarged so that text on it can be read."""
    return max(1, math.ceil(MIN_SIDE / max(_size(picture))))


def enlarge(picture: Picture, zoom: int) -> Picture:
    return np.ascontiguousarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1) if zoom > 1 else picture)


def draw_outline(picture: Picture, mask: Mask, colour: Colour = ANNOTATION) -> Picture:
    """Draw the outline of a mask (H, W) into the picture, in place, and return it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, line_width(picture))
    return picture


def draw_boxes(picture: Picture, boxes: Iterable[PixelBox], colour: Colour = ANNOTATION) -> Picture:
    """Draw boxes into the picture, in place, and return it."""
    for x0, y0, x1, y1 in boxes:
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, line_width(picture))
    return picture


def line_width(picture: Picture) -> int:
    """Line width that suits the size of the picture."""
    return max(1, round(min(_size(picture)) / 300))


def describe_region(region: Region, translate: Translate | None = None) -> str:
    """A region in a few words: class, score, length and mean width, each with its uncertainty, in mm where known."""
    label = translate(region.label) if translate is not None else region.label
    words, own = f"{label} {region.score:.3g}", region.measurements
    return words if own is None else f"{words}, {format_size(own, in_picture=True)}"


def _draw_region(picture: Picture, region: Region, zoom: int, colour: Colour) -> None:
    x0, y0, x1, y1 = (zoom * edge for edge in region.box)
    if region.mask is None:
        draw_boxes(picture, [(x0, y0, x1, y1)], colour)
        return
    mask = enlarge(region.mask.astype(np.uint8), zoom)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x0, y0))
    cv2.drawContours(picture, contours, -1, colour, line_width(picture))


def _name_region(
    picture: Picture, region: Region, zoom: int, colour: Colour, taken: list[PixelBox], translate: Translate
) -> None:
    """Write a region's name above it or below it, unless both positions are taken."""
    x0, y0, _, y1 = (zoom * edge for edge in region.box)
    text, height = describe_region(region, translate), _text_height(picture)
    for top in (y0 - text_size(text, height)[1] - 2, y1 + 2):
        bar = place_bar(picture, text, height, (x0, top))
        if not any(_overlap(bar, other) for other in taken):
            taken.append(draw_text(picture, text, height, (x0, top), colour))
            return


def _draw_verdict(picture: Picture, inspection: Inspection, colour: Colour, translate: Translate) -> PixelBox:
    right, bottom = picture.shape[1] - 1, picture.shape[0] - 1
    cv2.rectangle(picture, (0, 0), (right, bottom), colour, 2 * line_width(picture))
    text = f"{translate(str(inspection.verdict)).upper()} {inspection.score:.4g}"
    return draw_text(picture, text, round(1.2 * _text_height(picture)), (0, bottom + 1), colour)


def _text_height(picture: Picture) -> int:
    return max(12, round(min(_size(picture)) / 40))


def _overlap(a: PixelBox, b: PixelBox) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _size(picture: Picture) -> tuple[int, int]:
    """Height and width."""
    return int(picture.shape[0]), int(picture.shape[1])
