"""Synthetic defects to judge by what was taught on the others: no shape, no shading and no texture is shared with
`apply`'s steps.

Their masks are exact: of a soft spot, the pixels that change by at least half as much as its middle.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from blemish.arrays import FloatImage, FloatMap, Mask, Points

MAX_TRIES = 12  # attempts at a defect that lies on the part and can be seen
MIN_CHANGE = 0.05  # smallest mean change of the pixels of a defect that change at all, share of full scale
MIN_CHANGED = 0.1  # share of a defect's pixels that change at all
MIN_PIXELS = 8
MIN_ON_PART = 0.9  # share of a defect's pixels that lie on the part
SIZES = {
    "line": (0.08, 0.6),
    "spot": (0.02, 0.12),
    "patch": (0.04, 0.2),
    "large": (0.25, 0.7),
    "dots": (0.08, 0.35),
}  # of the part's extent

Filled = tuple[FloatMap, FloatImage]  # coverage (H, W) in [0, 1], and the pixels (H, W, C) under it


def add_judging_defect(
    image: FloatImage, part: Mask, kind: str, rng: np.random.Generator, other: FloatImage | None = None
) -> tuple[FloatImage, Mask] | None:
    """The image (H, W, C) in [0, 1] with one defect of a kind of `JUDGING_KINDS`, and its mask (H, W).

    `part` (H, W) is where it may lie, `other` an image to take surface from, by default the image itself. None where no
    defect fits on the part and can be seen.
    """
    rows, columns = np.nonzero(part)
    if not len(rows):
        return None
    extent = float(min(np.ptp(rows), np.ptp(columns)) + 1)
    for attempt in range(MAX_TRIES):
        low, high = np.log(SIZES[kind])
        length = math.exp(rng.uniform(low, high)) * extent * 0.9**attempt
        index = int(rng.integers(len(rows)))
        center = np.array([columns[index], rows[index]], np.float64)
        cover, filling = JUDGING_KINDS[kind](image, image if other is None else other, center, length, rng)
        mask = cover >= 0.5
        if mask.sum() < MIN_PIXELS or (mask & part).sum() < MIN_ON_PART * mask.sum():
            continue
        cover = np.where(part, cover, np.float32(0))
        changed = image + cover[..., None] * (filling - image)
        changed = np.asarray(np.clip(changed, 0, 1), np.float32)
        mask = mask & part
        change = np.abs(changed - image).mean(axis=2)[mask]
        if (change > 0).mean() >= MIN_CHANGED and float(change[change > 0].mean()) >= MIN_CHANGE:
            return changed, mask
    return None


def _line(image: FloatImage, other: FloatImage, center: Points, length: float, rng: np.random.Generator) -> Filled:
    """An arc of a circle, of one width, with flat ends: dark, light, or with a bright side beside a dark one."""
    turn = rng.uniform(-1.5, 1.5)
    t = np.linspace(-0.5, 0.5, 49)
    heading = rng.uniform(0, 2 * math.pi) + turn * t
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / len(t)
    points = np.cumsum(steps, axis=0)
    points += center - points.mean(axis=0)
    width = max(1.5, rng.uniform(0.003, 0.012) * min(image.shape[:2]))
    normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * width / 2
    cover = _fill(np.concatenate([points + normal, (points - normal)[::-1]]), image.shape[:2])
    return cover, _recolour(image, rng)


def _spot(image: FloatImage, other: FloatImage, center: Points, length: float, rng: np.random.Generator) -> Filled:
    """A soft oval: darker, lighter or of another colour, most in its middle."""
    angle, flat = rng.uniform(0, math.pi), rng.uniform(0.4, 1.0)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.float32)
    u = (x - center[0]) * math.cos(angle) + (y - center[1]) * math.sin(angle)
    v = (y - center[1]) * math.cos(angle) - (x - center[0]) * math.sin(angle)
    radius = 2 / length * np.hypot(u, v / flat)
    cover = 1 / (1 + radius ** rng.uniform(6, 16))  # one half at the radius of 1
    return np.where(cover < 0.02, 0, cover).astype(np.float32), _recolour(image, rng)


def _patch(image: FloatImage, other: FloatImage, center: Points, length: float, rng: np.random.Generator) -> Filled:
    """A polygon with straight sides, of surface from elsewhere or of another colour."""
    cover = _fill(_polygon(center, length, rng), image.shape[:2])
    return cover, _elsewhere(other, rng) if rng.random() < 0.5 else _recolour(image, rng)


def _large(image: FloatImage, other: FloatImage, center: Points, length: float, rng: np.random.Generator) -> Filled:
    """A large polygon where the part is broken off, smeared, soiled or made of other surface."""
    cover = _fill(_polygon(center, length, rng), image.shape[:2])
    way = int(rng.integers(4))
    if way == 0:  # what the picture's border shows, as if a piece were missing
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        grain = 0.02 * rng.normal(size=image.shape).astype(np.float32)
        return cover, np.median(border, axis=0) + grain
    if way == 1:
        return cover, np.atleast_3d(cv2.GaussianBlur(_elsewhere(other, rng), (0, 0), max(1.0, 0.03 * length)))
    return cover, _recolour(image, rng) if way == 2 else _elsewhere(other, rng)


def _dots(image: FloatImage, other: FloatImage, center: Points, length: float, rng: np.random.Generator) -> Filled:
    """A polygon full of dots of another colour, between which the surface is as it was: all of the polygon counts."""
    cover = _fill(_polygon(center, length, rng), image.shape[:2])
    dots = np.zeros(image.shape[:2], np.uint8)
    radius = max(1, round(length * rng.uniform(0.02, 0.06)))
    for _ in range(int(rng.integers(15, 60))):
        x, y = (center + rng.uniform(-0.5, 0.5, 2) * length).round().astype(int).tolist()
        cv2.circle(dots, (x, y), radius, 1, -1)
    return cover, np.where(dots[..., None] > 0, _recolour(image, rng), image)


JUDGING_KINDS: dict[str, Callable[[FloatImage, FloatImage, Points, float, np.random.Generator], Filled]] = {
    "line": _line, "spot": _spot, "patch": _patch, "large": _large, "dots": _dots,
}  # fmt: skip


def _polygon(center: Points, length: float, rng: np.random.Generator) -> Points:
    """A star-shaped polygon with few corners, its largest extent about `length`."""
    count = int(rng.integers(4, 9))
    angles = np.sort((np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * math.pi / count)
    corners = np.stack([np.cos(angles), rng.uniform(0.5, 1.0) * np.sin(angles)], axis=1)
    corners *= rng.uniform(0.6, 1.0, (count, 1)) * length / 2
    turn = rng.uniform(0, 2 * math.pi)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return np.asarray(center + corners @ rotation)


def _recolour(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    """The image by a gamma and a gain of each channel, and with a little grain: the surface shows through."""
    channels = image.shape[2]
    gamma = math.exp(rng.choice([-1, 1]) * rng.uniform(0.25, 1.4))
    gain = 1 + rng.uniform(0, 0.25) * rng.uniform(-1, 1, channels)
    seen = np.power(np.clip(image, 1e-3, 1), gamma) * gain
    flat = rng.uniform(0, 0.6)  # how much of the surface's own contrast is gone
    level = seen.mean(axis=(0, 1))
    return np.asarray(level * flat + seen * (1 - flat) + 0.01 * rng.normal(size=image.shape), np.float32)


def _elsewhere(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    """The image shifted by at least a quarter of its sides, and a quarter turn where it is square."""
    height, width = image.shape[:2]
    shift = (int(rng.integers(height // 4, 3 * height // 4)), int(rng.integers(width // 4, 3 * width // 4)))
    moved = np.roll(image, shift, axis=(0, 1))
    if height == width and rng.random() < 0.5:
        moved = np.rot90(moved)
    return np.asarray(np.clip(moved * rng.uniform(0.75, 1.25), 0, 1), np.float32)


def _fill(outline: Points, size: tuple[int, ...]) -> FloatMap:
    """Coverage (H, W) of a polygon, its edge one pixel soft."""
    shift = 6
    cover = np.zeros(size[:2], np.uint8)
    cv2.fillPoly(cover, [np.round(outline * 2**shift).astype(np.int32)], 255, cv2.LINE_AA, shift)
    return (cover / np.float32(255)).astype(np.float32)
