"""Shapes of parametric defects: fields of coverage (h, w) from 0 to 1, drawn finely and shrunk.

Every one takes lengths in px and returns a patch just large enough for it. `mask_of` says which pixels are the shape.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.synthesis.noise import fractal

Floats = NDArray[Any]
Bools = NDArray[np.bool_]
Points = NDArray[np.float64]
FINE = 4  # drawn so many times larger
MARGIN = 3  # px around the shape
LINES = ("scratch", "crack")  # whose width is a length of its own, not a share of theirs
FAINT = 0.25  # coverage of a line's middle, from which on it is seen as part of the line


def scratch(rng: np.random.Generator, length: float, width: float) -> Floats:
    """A thin bent line that tapers, its width a little uneven."""
    t = np.linspace(0, 1, 48)
    bend = rng.uniform(-0.12, 0.12) * length * 4 * t * (1 - t)
    line = _turned(np.stack([t * length, bend + _wobble(rng, len(t), 0.004 * length)], axis=1), rng)
    taper = np.clip(np.minimum(t, 1 - t) / rng.uniform(0.05, 0.4), 0.15, 1)
    return _ribbons([(line, width * taper * (1 + _wobble(rng, len(t), 0.25)))])


def crack(rng: np.random.Generator, length: float, width: float) -> Floats:
    """A jagged line, wider in its middle, with finer branches."""
    line = _turned(_jagged(rng, length, 0.14), rng)
    t = np.linspace(0, 1, len(line))
    widths = width * (0.35 + 0.65 * np.sin(math.pi * np.clip(t, 0.05, 0.95))) * (1 + _wobble(rng, len(t), 0.3))
    ribbons = [(line, widths)]
    for _ in range(int(rng.integers(0, 4))):
        start = int(rng.integers(len(line) // 6, 5 * len(line) // 6))
        branch = _jagged(rng, length * rng.uniform(0.12, 0.35), 0.18)
        way = line[start + 1] - line[start - 1]
        angle = math.atan2(way[1], way[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        branch = branch @ _rotation(angle) + line[start]
        ribbons.append((branch, widths[start] * np.linspace(0.8, 0.25, len(branch))))
    return _ribbons(ribbons)


def pit(rng: np.random.Generator, length: float, width: float) -> Floats:
    """A small irregular hole; `width` over `length` is how flat it is."""
    return _blob(rng, length, width, waves=0.18)


def stain(rng: np.random.Generator, length: float, width: float) -> Floats:
    """A cloud with a ragged outline and an uneven inside, its edge soft."""
    cover = _blob(rng, length, width, waves=0.3)
    cloud = fractal(rng, *cover.shape, roughness=0.7)
    soft: Floats = cv2.GaussianBlur(cover, (0, 0), max(0.8, 0.03 * length))
    return np.asarray(np.clip(soft * (0.75 + 0.5 * cloud), 0, 1) * (cover > 0), np.float32)


def dent(rng: np.random.Generator, length: float, width: float) -> Floats:
    """An oval outline."""
    return _blob(rng, length, width, waves=0.05)


def mask_of(kind: str, cover: Floats) -> Bools:
    """Where coverage is one half, or, of lines, half of the most among a pixel and its neighbours.

    A line thinner than a pixel covers none by half, where it lies between two; its mask would fall apart.
    """
    if kind not in LINES:
        return np.asarray(cover >= 0.5)
    return np.asarray(cover >= 0.5 * np.maximum(cv2.dilate(cover, np.ones((3, 3), np.uint8)), FAINT))


def _blob(rng: np.random.Generator, length: float, width: float, waves: float) -> Floats:
    angles = np.linspace(0, 2 * math.pi, 97)[:-1]
    radius = np.ones_like(angles)
    for k in range(2, 7):
        radius += rng.uniform(-waves, waves) / (k - 1) * np.cos(k * angles + rng.uniform(0, 2 * math.pi))
    outline = np.stack([np.cos(angles) * length / 2, np.sin(angles) * width / 2], axis=1) * radius.clip(0.3)[:, None]
    return _filled([_turned(outline, rng)])


def _jagged(rng: np.random.Generator, length: float, rough: float) -> Points:
    """A line along x by midpoint displacement: points (33, 2), starting at the origin."""
    heights = np.zeros(2)
    for level in range(5):
        middle = (heights[1:] + heights[:-1]) / 2 + rng.normal(0, rough * length * 0.55**level / 2, len(heights) - 1)
        heights = np.insert(heights, np.arange(1, len(heights)), middle)
    return np.stack([np.linspace(0, length, len(heights)), heights], axis=1)


def _wobble(rng: np.random.Generator, count: int, size: float) -> Points:
    """A smooth random curve of that standard deviation, more or less."""
    return np.asarray(np.convolve(rng.normal(0, 1.7 * size, count + 6), np.full(7, 1 / 7), "valid"))


def _ribbons(lines: list[tuple[Points, Points]]) -> Floats:
    """Lines (n, 2) with a width (n,) at each point."""
    outlines = []
    for line, widths in lines:
        way = np.gradient(line, axis=0)
        normal = np.stack([-way[:, 1], way[:, 0]], axis=1) / np.maximum(np.hypot(*way.T), 1e-9)[:, None]
        half = normal * np.maximum(widths, 0.5)[:, None] / 2
        # One quadrilateral a piece: a single outline would cross itself in sharp bends.
        for i in range(len(line) - 1):
            outlines.append(
                np.stack([line[i] + half[i], line[i + 1] + half[i + 1], line[i + 1] - half[i + 1], line[i] - half[i]])
            )
    return _filled(outlines)


def _filled(outlines: list[Points]) -> Floats:
    every = np.concatenate(outlines)
    low = np.floor(every.min(axis=0)) - MARGIN
    width, height = (np.ceil(every.max(axis=0)) + MARGIN - low).astype(int)
    fine = np.zeros((height * FINE, width * FINE), np.uint8)
    for outline in outlines:
        cv2.fillPoly(fine, [np.round((outline - low) * FINE - 0.5).astype(np.int32)], 255)
    return np.asarray(cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA), np.float32) / 255


def _turned(points: Points, rng: np.random.Generator) -> Points:
    return np.asarray(points @ _rotation(rng.uniform(0, 2 * math.pi)))


def _rotation(angle: float) -> Points:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
