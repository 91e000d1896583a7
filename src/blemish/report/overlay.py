"""Pictures of an inspection: the image with its heat map, its regions and its verdict drawn in."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.inspection.result import Bools, Floats, Inspection, Region, Verdict

Picture = NDArray[np.uint8]
COLOURS = {Verdict.PASS: (22, 163, 74), Verdict.REVIEW: (234, 145, 8), Verdict.REJECT: (220, 38, 38)}  # RGB
TRUTH = (14, 165, 233)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def as_picture(image: NDArray[Any]) -> Picture:
    """Any image (H, W, C) as RGB uint8; one with other than three channels shows its first as grey."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (image * 255).clip(0, 255).astype(np.uint8)
    if image.shape[2] != 3:
        image = np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image)


def draw_overlay(image: NDArray[Any], inspection: Inspection, heat_range: tuple[float, float] | None = None) -> Picture:
    """The image (H, W, C) with heat map, regions and verdict; RGB uint8 of the same size.

    `heat_range` is the heat that shows as nothing and the one that shows in full; by default the map's own range.
    """
    picture = as_picture(image)
    if inspection.heat_map is not None:
        picture = blend_heat(picture, inspection.heat_map, heat_range)
    picture = np.ascontiguousarray(picture)
    colour = COLOURS[inspection.verdict]
    for region in inspection.regions:
        _draw_region(picture, region, colour)
    _draw_verdict(picture, inspection, colour)
    return picture


def blend_heat(picture: Picture, heat_map: Floats, heat_range: tuple[float, float] | None = None) -> Picture:
    """Lay a heat map (H, W) over a picture; the cooler half of its range stays clear."""
    low, high = heat_range or (float(heat_map.min()), float(heat_map.max()))
    share = ((heat_map - low) / max(high - low, 1e-12)).clip(0, 1)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    weight = (share - 0.5).clip(0, 1)[..., None].astype(np.float32)
    return (picture * (1 - weight) + colours * weight).astype(np.uint8)


def outline(picture: Picture, mask: Bools, colour: tuple[int, int, int] = TRUTH) -> Picture:
    """Draw the outline of a mask (H, W) into the picture, in place, and return it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, line_width(picture))
    return picture


def line_width(picture: Picture) -> int:
    """Line width that suits the size of the picture."""
    return max(1, round(min(picture.shape[:2]) / 300))


def _draw_region(picture: Picture, region: Region, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = region.box
    width = line_width(picture)
    if region.mask is None:
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, width)
    else:
        contours, _ = cv2.findContours(
            region.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(x0, y0)
        )
        cv2.drawContours(picture, contours, -1, colour, width)
    _write(picture, describe(region), (x0, y0 - 4), colour)


def describe(region: Region) -> str:
    """A region in a few words: class, score, length, in mm where the scale is known."""
    words = f"{region.label} {region.score:.3g}"
    found = region.measurements
    if found is not None:
        length = f"{found.length_px:.0f} px" if found.length_mm is None else f"{found.length_mm:.2f} mm"
        words += f", {length}"
    return words


def _draw_verdict(picture: Picture, inspection: Inspection, colour: tuple[int, int, int]) -> None:
    width = 2 * line_width(picture)
    cv2.rectangle(picture, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), colour, width)
    _write(
        picture,
        f"{inspection.verdict.upper()} {inspection.score:.3g}",
        (width + 2, picture.shape[0] - width - 4),
        colour,
    )


def _write(picture: Picture, text: str, corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """White text on a bar of the colour, its lower left at the corner, moved into the picture."""
    scale = max(0.35, min(picture.shape[:2]) / 900)
    weight = max(1, round(scale * 1.6))
    (width, height), base = cv2.getTextSize(text, _FONT, scale, weight)
    x = int(np.clip(corner[0], 0, max(0, picture.shape[1] - width - 4)))
    y = int(np.clip(corner[1], height + 4, picture.shape[0] - base))
    cv2.rectangle(picture, (x, y - height - 3), (x + width + 4, y + base), colour, -1)
    cv2.putText(picture, text, (x + 2, y), _FONT, scale, (255, 255, 255), weight, cv2.LINE_AA)
