"""Pictures of a recorded inspection."""

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.imaging.read import encode, read_image
from blemish.inspection.inspector import Inspector
from blemish.inspection.manifest import Decision
from blemish.inspection.result import Floats
from blemish.report.overlay import as_picture, draw_overlay, heat_image, heat_range
from blemish.station.image_store import NotKeptError, kept_image
from blemish.station.models import InspectionRow
from blemish.station.repository import as_inspection, decode_mask
from blemish.station.settings import Settings


def picture_png(row: InspectionRow, settings: Settings, side: int | None = None) -> bytes:
    """The kept image as a browser shows it; `side` bounds its longer side."""
    return _png(as_picture(read_image(kept_image(row, settings.images), settings.max_pixels)), side)


def overlay_png(row: InspectionRow, settings: Settings, side: int | None = None) -> bytes:
    """The kept image with the regions and the verdict that were recorded."""
    image = read_image(kept_image(row, settings.images), settings.max_pixels)
    return _png(draw_overlay(image, as_inspection(row)), side)


def mask_png(row: InspectionRow, side: int | None = None) -> bytes:
    """The defect pixels, 255, by the latest review that drew some, else as they were found."""
    drawn = [review.mask for review in row.reviews if review.mask is not None]
    mask = np.zeros((row.height or 1, row.width or 1), bool)
    if drawn:
        mask = decode_mask(drawn[-1])
    for region in [] if drawn else row.regions:
        if region.mask is not None:
            mask[region.y0 : region.y1, region.x0 : region.x1] |= decode_mask(region.mask)
    return _png((mask * np.uint8(255)).astype(np.uint8), side)


def heat_map(row: InspectionRow, settings: Settings, inspector: Inspector) -> Floats:
    """The heat map (H, W), found again by the recorded recipe; raises NotKeptError where the recipe gives none."""
    found = inspector.inspect(kept_image(row, settings.images)).heat_map
    if found is None:
        raise NotKeptError(f"the recipe of inspection {row.id} gives no heat map")
    return found


def heat_png(heat: Floats, side: int | None = None) -> tuple[bytes, float, float]:
    """A heat map as an 8 bit PNG, and the heat of its black and of its white."""
    low, high = float(heat.min()), float(heat.max())
    scaled = (heat - low) / max(high - low, 1e-12) * 255
    return _png(scaled.astype(np.uint8), side), low, high


def heat_in_colours(heat: Floats, decision: Decision, side: int | None = None) -> bytes:
    """A heat map as people like to see it, from the heat of no defect to that of a certain one."""
    low, high = heat_range(decision) or (float(heat.min()), float(heat.max()))
    return _png(heat_image(heat, low, high), side)


def _png(picture: NDArray[np.uint8], side: int | None) -> bytes:
    longest = max(picture.shape[:2])
    if side is not None and longest > side:
        height, width = (max(1, round(length * side / longest)) for length in picture.shape[:2])
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return encode(picture, ".png")
