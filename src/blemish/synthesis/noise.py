"""Random fields in NumPy: Perlin noise, fractal noise, and the irregular masks that are cut out of them."""

import math

import cv2
import numpy as np

from blemish.arrays import FloatMap, Mask

PERLIN_THRESHOLD = 0.5
MAX_LATTICE_LOG2 = 5  # a Perlin lattice has at most 2^5 cells along a side


def perlin_noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> FloatMap:
    """Gradient noise (Perlin 1985) on a lattice of `cells` down and across: (height, width), about -1 to 1."""
    y, x = np.arange(height) * (cells[0] / height), np.arange(width) * (cells[1] / width)
    top, left = y.astype(int), x.astype(int)
    dy, dx = (y - top)[:, None], (x - left)[None]
    angle = rng.uniform(0, 2 * math.pi, (cells[0] + 1, cells[1] + 1))

    def corner(down: int, right: int) -> FloatMap:
        at = angle[(top + down)[:, None], (left + right)[None]]
        return np.asarray(np.cos(at) * (dx - right) + np.sin(at) * (dy - down))

    fade_y, fade_x = _fade(dy), _fade(dx)
    upper = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    lower = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    return np.asarray(math.sqrt(2) * (upper + fade_y * (lower - upper)), np.float32)


def perlin_mask(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Random patches, as in DRAEM (Zavrtanik et al. 2021): (height, width); sometimes empty.

    Cells of a random number along each axis, the noise turned by a random angle, cut off at one half.
    """
    finest = max(0, min(MAX_LATTICE_LOG2, min(height, width).bit_length() - 2))
    cells = (2 ** int(rng.integers(finest + 1)), 2 ** int(rng.integers(finest + 1)))
    noise = perlin_noise(rng, height, width, cells)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(rng.uniform(0, 180)), 1.0)
    return np.asarray(cv2.warpAffine(noise, turn, (width, height)) > PERLIN_THRESHOLD)


def free_form_mask(rng: np.random.Generator, height: int, width: int) -> Mask:
    """Strokes of a brush that turns at random (after the free-form masks of Yu et al. 2019): (height, width)."""
    mask = np.zeros((height, width), np.uint8)
    side = min(height, width)
    for _ in range(int(rng.integers(1, 4))):
        point = rng.uniform((0, 0), (width, height))
        heading = rng.uniform(0, 2 * math.pi)
        brush = max(1, round(rng.uniform(0.01, 0.06) * side))
        for _ in range(int(rng.integers(2, 8))):
            heading += rng.uniform(-1.2, 1.2)
            end = point + rng.uniform(0.03, 0.15) * side * np.array([math.cos(heading), math.sin(heading)])
            start_px, end_px = (tuple(int(v) for v in np.round(p)) for p in (point, end))
            cv2.line(mask, start_px, end_px, 1, brush)
            point = end
    return mask > 0


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, roughness: float = 0.6, coarsest: int = 2
) -> FloatMap:
    """Smooth noise of several octaves, each `roughness` times the last: (height, width), from 0 to 1."""
    total = np.zeros((height, width), np.float32)
    cells, weight = coarsest, 1.0
    while cells <= max(2, min(height, width) // 2):
        grid = rng.random((cells + 1, cells + 1), np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = 2 * cells, weight * roughness
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), np.float32)


def _fade(t: FloatMap) -> FloatMap:
    """Smooth step from 0 to 1 with neither slope nor curvature at its ends."""
    return np.asarray(t * t * t * (t * (6 * t - 15) + 10))
