"""Defects without a sharp edge of their own: an area of the part is speckled, warped or smeared, and all of it counts.

Real contamination, crumbled edges and faulty imprints are annotated as areas in which only some pixels look wrong.
"""

import math

import cv2
import numpy as np

from blemish.arrays import FloatImage, FloatMap, Mask
from blemish.synthesis.noise import fractal_noise
from blemish.synthesis.scene import find_free_position
from blemish.synthesis.shapes import IRREGULAR_SHAPES

DIFFUSE_KINDS = ("speckle", "warp", "speckle", "smear")  # in turn
LENGTH = (0.06, 0.4)  # of the part's extent
MIN_CHANGE = 0.02  # mean change inside the mask, share of full scale
MAX_TRIES = 6


def add_diffuse_defect(
    image: FloatImage, part: Mask, kind: str, rng: np.random.Generator
) -> tuple[FloatImage, Mask] | None:
    """The image (H, W, C) in [0, 1] with one such defect on the part (H, W), and its mask; None where none fits."""
    rows, columns = np.nonzero(part)
    if not len(rows):
        return None
    extent = float(min(np.ptp(rows), np.ptp(columns)) + 1)
    for _ in range(MAX_TRIES):
        length = max(8.0, math.exp(rng.uniform(*np.log(LENGTH))) * extent)
        shape = IRREGULAR_SHAPES["pit"](rng, length, length * rng.uniform(0.35, 1.0))
        at = find_free_position(rng, shape.mask, part)
        if at is None:
            continue
        window = np.s_[at[0] : at[0] + shape.mask.shape[0], at[1] : at[1] + shape.mask.shape[1]]
        own = shape.mask & part[window]
        changed = image.copy()
        changed[window] = np.where(own[..., None], _change(image[window], own, kind, length, rng), image[window])
        mask = np.zeros(part.shape, np.bool_)
        mask[window] = own
        if float(np.abs(changed - image).mean(axis=2)[mask].mean()) >= MIN_CHANGE:
            return changed, mask
    return None


def _change(patch: FloatImage, mask: Mask, kind: str, length: float, rng: np.random.Generator) -> FloatImage:
    height, width, channels = patch.shape
    if kind == "speckle":
        grain: FloatMap = fractal_noise(rng, height, width, 0.9, int(2 ** rng.integers(2, 5)))
        marks = grain > np.quantile(grain[mask], rng.uniform(0.5, 0.85))
        shift = rng.choice([-1, 1]) * rng.uniform(0.15, 0.6) * (1 + 0.4 * rng.uniform(-1, 1, channels))
        return np.asarray(np.clip(patch + marks[..., None] * shift, 0, 1), np.float32)
    if kind == "warp":
        reach, smooth = rng.uniform(0.05, 0.2) * length, max(1.5, rng.uniform(0.06, 0.2) * length)
        shifts = [cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), smooth) for _ in "xy"]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        dx, dy = (np.float32(reach) * shift / max(float(shift.std()), 1e-6) for shift in shifts)
        warped = cv2.remap(patch, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(warped, np.float32).reshape(patch.shape)
    blurred = cv2.GaussianBlur(patch, (0, 0), max(1.5, rng.uniform(0.03, 0.12) * length)).reshape(patch.shape)
    return np.asarray(np.clip(blurred * rng.uniform(0.85, 1.15), 0, 1), np.float32)
