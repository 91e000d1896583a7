"""Defects drawn into pictures: shapes of known geometry, and how each looks on a surface.

A shape is a field of coverage (H, W) from 0 to 1, smooth at its edge; its mask is where the coverage is at least one
half, so that length and width are known to a fraction of a pixel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A shape of one defect: coverage (H, W), mask (H, W), and its true length and width in px."""

    coverage: Floats
    mask: NDArray[np.bool_]
    length: float
    width: float


def scratch(rng: np.random.Generator, size: int) -> Drawn:
    """A gently bent line with round ends."""
    width = rng.uniform(2.5, 5) * size / 256
    start, end = _ends(rng, size, rng.uniform(0.2, 0.55) * size)
    middle = (start + end) / 2 + _across(end - start) * rng.uniform(-0.15, 0.15)
    t = np.linspace(0, 1, 64)[:, None]
    line = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    return _stroke([line], width, size)


def crack(rng: np.random.Generator, size: int) -> Drawn:
    """A jagged line with one or two short branches."""
    width = rng.uniform(2.5, 3.5) * size / 256
    start, end = _ends(rng, size, rng.uniform(0.3, 0.5) * size)
    count = int(rng.integers(6, 10))
    t = np.linspace(0, 1, count)[:, None]
    jag = rng.uniform(-0.03, 0.03, (count, 1)) * size
    line = start + t * (end - start) + _across((end - start) / np.hypot(*(end - start))) * jag
    lines = [line]
    for place in rng.choice(np.arange(2, count - 2), size=int(rng.integers(1, 3)), replace=False):
        way = line[place + 1] - line[place]
        side = rng.choice([-1, 1]) * math.radians(rng.uniform(35, 60))
        turned = np.array([[math.cos(side), -math.sin(side)], [math.sin(side), math.cos(side)]]) @ way
        lines.append(np.stack([line[place], line[place] + turned / np.hypot(*turned) * 0.06 * size]))
    return _stroke(lines, width, size)


def pit(rng: np.random.Generator, size: int) -> Drawn:
    """A small round hole."""
    radius = rng.uniform(0.015, 0.04) * size
    return _ellipse(rng, size, radius, radius)


def stain(rng: np.random.Generator, size: int) -> Drawn:
    """A large oval."""
    long = rng.uniform(0.07, 0.14) * size
    return _ellipse(rng, size, long, long * rng.uniform(0.5, 0.8))


def blob(rng: np.random.Generator, size: int) -> Drawn:
    """A lump with a wavy outline; its length is its largest extent, its width the area over that."""
    radius = rng.uniform(0.04, 0.08) * size
    center = rng.uniform(0.2, 0.8, 2) * size
    angles = np.linspace(0, 2 * math.pi, 181)[:-1]
    waves = sum(rng.uniform(0, 0.15 / k) * np.cos(k * angles + rng.uniform(0, 7)) for k in (2, 3, 4))
    outline = center + radius * (1 + np.asarray(waves))[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    fine = np.zeros((size * 8, size * 8), np.uint8)
    cv2.fillPoly(fine, [np.round((outline + 0.5) * 8 - 0.5).astype(np.int32)], 255)
    coverage = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    mask = coverage >= 0.5
    extent = float(np.hypot(*(outline[:, None] - outline[None]).transpose(2, 0, 1)).max())
    return Drawn(coverage, mask, extent, float(mask.sum()) / extent)


SHAPES: dict[str, Callable[[np.random.Generator, int], Drawn]] = {
    "scratch": scratch, "pit": pit, "crack": crack, "stain": stain, "blob": blob,
}  # fmt: skip


def shade(kind: str, image: Floats, drawn: Drawn, strength: float, rng: np.random.Generator) -> Floats:
    """The image (H, W) in [0, 1] with a defect on it; light comes from the upper left."""
    cover = drawn.coverage
    if kind in ("scratch", "pit"):
        lip = np.clip(_moved(cover, 1.5) - cover, 0, 1)
        shaded = image * (1 - strength * cover) + 0.6 * strength * lip
    elif kind == "crack":
        shaded = image * (1 - min(1.0, 1.3 * strength) * cover)
    elif kind == "stain":
        cloud: Floats = cv2.GaussianBlur(rng.normal(size=image.shape).astype(np.float32), (0, 0), image.shape[0] / 40)
        cloud /= max(float(np.abs(cloud).max()), 1e-6)
        shaded = image * (1 - strength * cover * (0.75 + 0.25 * cloud))
    else:
        dome: Floats = cv2.GaussianBlur(cover, (0, 0), max(1.0, drawn.width / 6))
        light = np.clip(dome - _moved(dome, -drawn.width / 6), -1, 1)
        lump = image * (1 + 0.4 * strength) + (0.5 + light) * strength
        shaded = image * (1 - cover) + cover * lump
    clipped: Floats = np.clip(shaded, 0, 1)
    return clipped


def _ends(rng: np.random.Generator, size: int, length: float) -> tuple[Points, Points]:
    """Two points at that distance, away from the picture's edge."""
    angle = rng.uniform(0, math.pi)
    half = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    room = 0.08 * size + np.abs(half)
    center = rng.uniform(room, size - room)
    return center - half, center + half


def _across(way: Points) -> Points:
    return np.array([-way[1], way[0]])


def _stroke(lines: list[Points], width: float, size: int) -> Drawn:
    """Lines of one width; the first is the longest way, so its length and the round ends are the length."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    distance = np.full((size, size), np.inf)
    for line in lines:
        for (x0, y0), (x1, y1) in pairwise(line):
            squared = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-12)
            t = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / squared, 0, 1)
            distance = np.minimum(distance, np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)))
    length = float(np.hypot(*np.diff(lines[0], axis=0).T).sum()) + width
    return Drawn(np.clip(width / 2 - distance + 0.5, 0, 1).astype(np.float32), distance <= width / 2, length, width)


def _ellipse(rng: np.random.Generator, size: int, long: float, short: float) -> Drawn:
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    cx, cy = rng.uniform(1.5 * long, size - 1.5 * long, 2)
    angle = rng.uniform(0, math.pi)
    u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
    v = -(x - cx) * math.sin(angle) + (y - cy) * math.cos(angle)
    radius = np.hypot(u / long, v / short)
    # Distance to the outline, to first order: enough for an edge of one pixel.
    slope = np.hypot(u / long**2, v / short**2) / np.maximum(radius, 1e-9)
    distance = (radius - 1) / np.maximum(slope, 1e-9)
    coverage = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    return Drawn(coverage, radius <= 1, 2 * long, 2 * short)


def _moved(field: Floats, by: float) -> Floats:
    """The field moved right and down."""
    matrix = np.array([[1, 0, by], [0, 1, by]], np.float32)
    moved: Floats = cv2.warpAffine(field, matrix, field.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    return moved
