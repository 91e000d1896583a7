"""Change of brightness by a defect: relief by Lambert's law, and tone; pixels without coverage do not change."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatImage, FloatMap

ELEVATION = math.radians(40)  # of the lamp above the surface
AMBIENT = 0.35  # so that defects show on dark parts too
LIGHT_STAIN = 0.6  # of a dark one: bright surfaces are soon white


def relief(height: NDArray[Any], light: float) -> FloatMap:
    """Brightness of a height field (h, w), in px, relative to a flat surface, minus 1; light comes from `light`."""
    dy, dx = np.gradient(height)
    lamp = (math.cos(light) * math.cos(ELEVATION), math.sin(light) * math.cos(ELEVATION), math.sin(ELEVATION))
    lit = (-dx * lamp[0] - dy * lamp[1] + lamp[2]) / np.sqrt(dx * dx + dy * dy + 1)
    return np.asarray(np.clip(lit, 0, None) / lamp[2] - 1, np.float32)


def bowl_depth(cover: FloatMap) -> FloatMap:
    """Depth from 0 at the outline to -1 at the middle of a shape, round like a bowl: (h, w)."""
    distance = cv2.distanceTransform((cover >= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    share = distance / max(float(distance.max()), 1e-6)
    return np.asarray(-np.sqrt(np.clip(1 - (1 - share) ** 2, 0, 1)), np.float32)


def hollow_depth(cover: FloatMap) -> FloatMap:
    """Like `bowl_depth`, but level at the outline and at the middle."""
    distance = cv2.distanceTransform((cover >= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    share = _smooth(distance, 0.5) / max(float(distance.max()), 1e-6)
    return np.asarray(-0.5 * (1 - np.cos(math.pi * np.clip(share, 0, 1))), np.float32)


def brightness_change(kind: str, cover: FloatMap, light: float, strength: float, tone: float) -> FloatMap:
    """The change (h, w) of brightness by a defect of that kind, for `add_change`.

    `strength` is about the largest change, as a share of the surface's brightness; `tone` is -1 for dark, 1 for light.
    """
    added: NDArray[Any]
    if kind == "scratch":
        groove = relief(-_smooth(cover, 0.7) * 1.5, light)
        added = strength * (0.75 * tone * cover + 0.4 * groove)
    elif kind == "crack":
        added = strength * (tone * cover + 0.15 * relief(-_smooth(cover, 0.7), light))
    elif kind == "pit":
        deep = bowl_depth(cover)
        reach = math.sqrt(float((cover >= 0.5).sum()) / math.pi)
        added = strength * (0.8 * tone * -deep + 0.5 * relief(_smooth(deep, 0.8) * 0.5 * reach, light))
    elif kind == "dent":
        # A hollow that begins and ends without a step, so that only its slopes show.
        reach = math.sqrt(float((cover >= 0.5).sum()) / math.pi)
        slope = relief(hollow_depth(cover) * 0.3 * reach, light)
        added = strength * slope / max(float(np.abs(slope).max()), 0.2)
    elif tone > 0:
        added = LIGHT_STAIN * strength * cover
    else:
        added = strength * tone * cover
    return np.asarray(np.clip(added, -1, 1), np.float32)


def add_change(image: FloatImage, added: FloatMap, cover: FloatMap, tint: NDArray[np.float32]) -> FloatImage:
    """Image (h, w, C) with a change (h, w) added, weighted by `tint` (C,), only where there is coverage."""
    reach = np.clip(2 * cover, 0, 1)[..., None]
    base = AMBIENT + (1 - AMBIENT) * image
    return np.asarray(np.clip(image + reach * added[..., None] * tint * base, 0, 1), np.float32)


def _smooth(field: NDArray[Any], sigma: float) -> FloatMap:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)
