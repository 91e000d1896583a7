"""PNG pictures of a recorded inspection; `side` bounds their longer side in px."""

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap, Mask, Picture
from blemish.imaging.read import encode, read_image
from blemish.inspection.manifest import Decision
from blemish.report.overlay import as_picture, draw_overlay, heat_image, heat_range
from blemish.station.image_store import ImageNotStoredError, stored_image
from blemish.station.models import InspectionRow
from blemish.station.recipe_views import PartInspector
from blemish.station.repository import decode_mask, to_inspection
from blemish.station.settings import Settings
from blemish.translation import ENGLISH


def render_image(row: InspectionRow, settings: Settings, side: int | None = None) -> bytes:
    """The stored image as 8 bit RGB."""
    return _png(as_picture(read_image(stored_image(row, settings.images), settings.max_pixels)), side)


def render_overlay(row: InspectionRow, settings: Settings, side: int | None = None, language: str = ENGLISH) -> bytes:
    """The stored image with the recorded regions and verdict."""
    image = read_image(stored_image(row, settings.images), settings.max_pixels)
    return _png(draw_overlay(image, to_inspection(row), language=language), side)


def render_mask(row: InspectionRow, side: int | None = None) -> bytes:
    """The defect pixels, 255: the mask of the latest review that has one, or else the inspected regions."""
    painted = [review.mask for review in row.reviews if review.mask is not None]
    mask: Mask = np.zeros((row.height or 1, row.width or 1), bool)
    if painted:
        mask = decode_mask(painted[-1])
    for region in [] if painted else row.regions:
        if region.mask is not None:
            mask[region.y0 : region.y1, region.x0 : region.x1] |= decode_mask(region.mask)
    return _png((mask * np.uint8(255)).astype(np.uint8), side)


def compute_heat_map(row: InspectionRow, settings: Settings, inspector: PartInspector) -> FloatMap:
    """The heat map (H, W), computed again by the recorded recipe; ImageNotStoredError where the recipe has none."""
    heat = inspector.inspect(stored_image(row, settings.images)).heat_map
    if heat is None:
        raise ImageNotStoredError(f"the recipe of inspection {row.id} gives no heat map")
    return heat


def render_heat(heat: FloatMap, side: int | None = None) -> tuple[bytes, float, float]:
    """A heat map in 8 bit grey, and the heat of black and of white."""
    low, high = float(heat.min()), float(heat.max())
    scaled = (heat - low) / max(high - low, 1e-12) * 255
    return _png(scaled.astype(np.uint8), side), low, high


def render_colour_heat(heat: FloatMap, decision: Decision, side: int | None = None) -> bytes:
    """A heat map in colour, from the heat of no defect to that of a certain one."""
    low, high = heat_range(decision) or (float(heat.min()), float(heat.max()))
    return _png(heat_image(heat, low, high), side)


def _png(picture: Picture, side: int | None) -> bytes:
    longest = max(picture.shape[:2])
    if side is not None and longest > side:
        height, width = (max(1, round(length * side / longest)) for length in picture.shape[:2])
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return encode(picture, ".png")


def render_density(picture: Picture, density: NDArray[np.float64]) -> bytes:
    """A JPEG of a part with the density of defects over it: nothing where it is 0, dark red where it is highest."""
    height, width = picture.shape[:2]
    share = (density / max(float(density.max()), 1e-12)).astype(np.float32)
    smooth = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    pale, deep = (np.array(colour, np.float32) for colour in ((253, 186, 116), (153, 27, 27)))
    colour = pale + (deep - pale) * smooth
    alpha = 0.75 * np.sqrt(smooth)
    return encode((picture * (1 - alpha) + colour * alpha).astype(np.uint8), ".jpg")
