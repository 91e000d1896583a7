"""Defects of exactly known length and width, for the synthetic set: their shapes, and how they look on a surface.

A shape's mask is where its coverage is at least one half, so that length and width are known to a fraction of a pixel.
"""

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import GreyImage, Points
from blemish.synthesis.shapes import (
    DefectShape,
    fill_outline,
    line_coverage,
    line_depth,
    line_length,
    outline_extent,
    shape_of_length,
)


def scratch(rng: np.random.Generator, size: int) -> DefectShape:
    """A gently bent line with round ends, in a square picture of side `size`."""
    width = rng.uniform(2.5, 5) * size / 256
    start, end = _ends(rng, size, rng.uniform(0.2, 0.55) * size)
    middle = (start + end) / 2 + _normal(end - start) * rng.uniform(-0.15, 0.15)
    t = np.linspace(0, 1, 64)[:, None]
    line = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    return _stroke([line], width, size)


def crack(rng: np.random.Generator, size: int) -> DefectShape:
    """A jagged line with one or two short branches."""
    width = rng.uniform(2.5, 3.5) * size / 256
    start, end = _ends(rng, size, rng.uniform(0.3, 0.5) * size)
    count = int(rng.integers(6, 10))
    t = np.linspace(0, 1, count)[:, None]
    jag = rng.uniform(-0.03, 0.03, (count, 1)) * size
    line = start + t * (end - start) + _normal((end - start) / np.hypot(*(end - start))) * jag
    lines = [line]
    for index in rng.choice(np.arange(2, count - 2), size=int(rng.integers(1, 3)), replace=False):
        way = line[index + 1] - line[index]
        side = rng.choice([-1, 1]) * math.radians(rng.uniform(35, 60))
        turned = np.array([[math.cos(side), -math.sin(side)], [math.sin(side), math.cos(side)]]) @ way
        lines.append(np.stack([line[index], line[index] + turned / np.hypot(*turned) * 0.06 * size]))
    return _stroke(lines, width, size)


def pit(rng: np.random.Generator, size: int) -> DefectShape:
    """A small round hole."""
    radius = rng.uniform(0.015, 0.04) * size
    return _ellipse(rng, size, radius, radius)


def stain(rng: np.random.Generator, size: int) -> DefectShape:
    """A large oval."""
    long = rng.uniform(0.07, 0.14) * size
    return _ellipse(rng, size, long, long * rng.uniform(0.5, 0.8))


def blob(rng: np.random.Generator, size: int) -> DefectShape:
    """A lump with a wavy outline; its length is its largest extent, its width the area over that."""
    radius = rng.uniform(0.04, 0.08) * size
    center = rng.uniform(0.2, 0.8, 2) * size
    angles = np.linspace(0, 2 * math.pi, 181)[:-1]
    waves = sum(rng.uniform(0, 0.15 / k) * np.cos(k * angles + rng.uniform(0, 7)) for k in (2, 3, 4))
    outline = center + radius * (1 + np.asarray(waves))[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return shape_of_length(fill_outline(outline, (size, size)), outline_extent(outline))


EXACT_SHAPES: dict[str, Callable[[np.random.Generator, int], DefectShape]] = {
    "scratch": scratch, "pit": pit, "crack": crack, "stain": stain, "blob": blob,
}  # fmt: skip


def shade(kind: str, image: GreyImage, shape: DefectShape, strength: float, rng: np.random.Generator) -> GreyImage:
    """The image (H, W) in [0, 1] with a defect on it; light comes from the upper left."""
    cover = shape.coverage
    if kind in ("scratch", "pit"):
        lip = np.clip(_shift(cover, 1.5) - cover, 0, 1)
        shaded = image * (1 - strength * cover) + 0.6 * strength * lip
    elif kind == "crack":
        shaded = image * (1 - min(1.0, 1.3 * strength) * cover)
    elif kind == "stain":
        cloud: NDArray[Any] = cv2.GaussianBlur(
            rng.normal(size=image.shape).astype(np.float32), (0, 0), image.shape[0] / 40
        )
        cloud /= max(float(np.abs(cloud).max()), 1e-6)
        shaded = image * (1 - strength * cover * (0.75 + 0.25 * cloud))
    else:
        dome = cv2.GaussianBlur(cover, (0, 0), max(1.0, shape.width / 6))
        light = np.clip(dome - _shift(dome, -shape.width / 6), -1, 1)
        lump = image * (1 + 0.4 * strength) + (0.5 + light) * strength
        shaded = image * (1 - cover) + cover * lump
    return np.clip(shaded, 0, 1)


def _ends(rng: np.random.Generator, size: int, length: float) -> tuple[Points, Points]:
    """Two points at that distance, away from the picture's border."""
    angle = rng.uniform(0, math.pi)
    half = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    room = 0.08 * size + np.abs(half)
    center = rng.uniform(room, size - room)
    return center - half, center + half


def _normal(way: Points) -> Points:
    return np.array([-way[1], way[0]])


def _stroke(lines: list[Points], width: float, size: int) -> DefectShape:
    """Lines of one width; the first one is the longest way, so it and the round ends are the length."""
    depth = line_depth([(line, np.full(len(line), width)) for line in lines], (size, size))
    return DefectShape(line_coverage(depth), depth >= 0, line_length(lines[0]) + width, width)


def _ellipse(rng: np.random.Generator, size: int, long: float, short: float) -> DefectShape:
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
    return DefectShape(coverage, radius <= 1, 2 * long, 2 * short)


def _shift(field: NDArray[Any], distance: float) -> NDArray[Any]:
    """The field moved right and down by `distance` px."""
    matrix = np.array([[1, 0, distance], [0, 1, distance]], np.float32)
    return cv2.warpAffine(field, matrix, field.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
