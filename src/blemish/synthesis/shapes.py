"""Shapes of defects: coverage from 0 to 1 by pixel, smooth at the edge, with mask, length and width.

Lines and outlines are rasterised here for all synthetic defects. The irregular shapes below are those of defect
specifications: each takes a length and a width in px and fills a patch that is only as large as it needs to be.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatMap, Mask, Points
from blemish.synthesis.noise import fractal_noise

SUPERSAMPLING = 8  # outlines are filled so many times larger and then shrunk
MARGIN = 3  # px around the shape in its patch
MIN_WIDTH = 1.0  # px; a thinner line would fall apart where it passes between pixels
MIN_LINE_COVERAGE = 0.25  # coverage at which the middle of a thin line still belongs to its mask


@dataclass(frozen=True)
class DefectShape:
    """The shape of one defect: coverage (H, W), mask (H, W), and its length and width in px."""

    coverage: FloatMap
    mask: Mask
    length: float
    width: float


def line_depth(lines: Sequence[tuple[Points, Points]], size: tuple[int, int]) -> NDArray[np.float64]:
    """Depth of each pixel centre (H, W) within lines with round ends, in px; -inf far away from all of them.

    Each line has points (n, 2) as x y and a width (n,) at each point. Coverage is `depth + 0.5`, clipped to [0, 1].
    """
    height, width = size
    depth = np.full(size, -np.inf)
    for points, widths in lines:
        for (x0, y0), (x1, y1), start, end in zip(points, points[1:], widths / 2, widths[1:] / 2, strict=False):
            reach = max(start, end) + 1
            left, top = (max(0, math.floor(min(pair) - reach)) for pair in ((x0, x1), (y0, y1)))
            right = min(width, math.ceil(max(x0, x1) + reach) + 1)
            bottom = min(height, math.ceil(max(y0, y1) + reach) + 1)
            y, x = np.mgrid[top : max(top, bottom), left : max(left, right)].astype(np.float64)
            squared = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-12)
            t = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / squared, 0, 1)
            distance = np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0))
            window = depth[top:bottom, left:right]
            np.maximum(window, start + t * (end - start) - distance, out=window)
    return depth


def line_coverage(depth: NDArray[np.float64]) -> FloatMap:
    """Coverage (H, W) of lines from `line_depth`."""
    return np.clip(depth + 0.5, 0, 1).astype(np.float32)


def line_length(points: Points) -> float:
    """Length of a line (n, 2) along its points."""
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def fill_outline(outline: Points, size: tuple[int, int]) -> FloatMap:
    """Coverage (H, W) of a closed outline (n, 2) of x y at pixel centres."""
    height, width = size
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    cv2.fillPoly(fine, [np.round((outline + 0.5) * SUPERSAMPLING - 0.5).astype(np.int32)], 255)
    cover = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cover, np.float32) / np.float32(255)


def outline_extent(outline: Points) -> float:
    """The largest distance between two points (n, 2) of an outline."""
    return float(np.hypot(*(outline[:, None] - outline[None]).transpose(2, 0, 1)).max())


def scratch(rng: np.random.Generator, length: float, width: float) -> DefectShape:
    """A thin bent line that tapers, its width a little uneven."""
    t = np.linspace(0, 1, 48)
    bend = rng.uniform(-0.12, 0.12) * length * 4 * t * (1 - t)
    line = _turn(np.stack([t * length, bend + _wobble(rng, len(t), 0.004 * length)], axis=1), rng)
    taper = np.clip(np.minimum(t, 1 - t) / rng.uniform(0.05, 0.4), 0.15, 1)
    return _shape_lines([(line, width * taper * (1 + _wobble(rng, len(t), 0.25)))])


def crack(rng: np.random.Generator, length: float, width: float) -> DefectShape:
    """A jagged line, wider in its middle, with finer branches."""
    line = _turn(_jagged(rng, length, 0.14), rng)
    t = np.linspace(0, 1, len(line))
    widths = width * (0.35 + 0.65 * np.sin(math.pi * np.clip(t, 0.05, 0.95))) * (1 + _wobble(rng, len(t), 0.3))
    lines = [(line, widths)]
    for _ in range(int(rng.integers(0, 4))):
        start = int(rng.integers(len(line) // 6, 5 * len(line) // 6))
        branch = _jagged(rng, length * rng.uniform(0.12, 0.35), 0.18)
        way = line[start + 1] - line[start - 1]
        angle = math.atan2(way[1], way[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        lines.append((branch @ _rotation(angle) + line[start], widths[start] * np.linspace(0.8, 0.25, len(branch))))
    return _shape_lines(lines)


def pit(rng: np.random.Generator, length: float, width: float) -> DefectShape:
    """A small irregular hole; `width` over `length` says how flat it is."""
    return _shape_outline(rng, length, width, waves=0.18)


def stain(rng: np.random.Generator, length: float, width: float) -> DefectShape:
    """A cloud with a ragged outline and an uneven inside, its edge soft."""
    shape = _shape_outline(rng, length, width, waves=0.3)
    height, width_px = shape.coverage.shape
    cloud = fractal_noise(rng, height, width_px, roughness=0.7)
    soft = cv2.GaussianBlur(shape.coverage, (0, 0), max(0.8, 0.03 * length))
    cover = np.clip(soft * (0.75 + 0.5 * cloud), 0, 1) * (shape.coverage > 0)
    return shape_of_length(cover.astype(np.float32), shape.length)


def dent(rng: np.random.Generator, length: float, width: float) -> DefectShape:
    """An oval outline."""
    return _shape_outline(rng, length, width, waves=0.05)


# The kinds by name; the width of lines is a length of its own, that of the others a share of their length.
LINES: dict[str, Callable[[np.random.Generator, float, float], DefectShape]] = {"scratch": scratch, "crack": crack}
IRREGULAR_SHAPES = {**LINES, "pit": pit, "stain": stain, "dent": dent}


def _shape_lines(lines: list[tuple[Points, Points]]) -> DefectShape:
    """Lines in a patch of their own; the first one is the longest way through the shape."""
    lines = [(points, np.maximum(widths, MIN_WIDTH)) for points, widths in lines]
    low, size = _patch(np.concatenate([points for points, _ in lines]), max(float(w.max()) for _, w in lines) / 2)
    cover = line_coverage(line_depth([(points - low, widths) for points, widths in lines], size))
    # A line thinner than a pixel covers none by half where it lies between two; its mask would fall apart.
    mask = cover >= 0.5 * np.maximum(cv2.dilate(cover, np.ones((3, 3), np.uint8)), MIN_LINE_COVERAGE)
    points, widths = lines[0]
    return DefectShape(cover, mask, line_length(points) + float(widths[0] + widths[-1]) / 2, float(widths.mean()))


def _shape_outline(rng: np.random.Generator, length: float, width: float, waves: float) -> DefectShape:
    """A turned ellipse whose outline has waves, in a patch of its own."""
    angles = np.linspace(0, 2 * math.pi, 97)[:-1]
    radius = np.ones_like(angles)
    for k in range(2, 7):
        radius += rng.uniform(-waves, waves) / (k - 1) * np.cos(k * angles + rng.uniform(0, 2 * math.pi))
    outline = np.stack([np.cos(angles) * length / 2, np.sin(angles) * width / 2], axis=1) * radius.clip(0.3)[:, None]
    outline = _turn(outline, rng)
    low, size = _patch(outline)
    return shape_of_length(fill_outline(outline - low, size), outline_extent(outline))


def shape_of_length(cover: FloatMap, length: float) -> DefectShape:
    """A shape of known coverage (H, W) and length; its width is the mean width, area over length."""
    mask = cover >= 0.5
    return DefectShape(cover, mask, length, float(mask.sum()) / length)


def _patch(points: Points, reach: float = 0.0) -> tuple[Points, tuple[int, int]]:
    """Upper left corner x y and size (height, width) of a patch around points, with `reach` px and a margin."""
    low = np.floor(points.min(axis=0) - reach) - MARGIN
    width, height = (np.ceil(points.max(axis=0) + reach) + MARGIN - low).astype(int)
    return low, (int(height), int(width))


def _jagged(rng: np.random.Generator, length: float, rough: float) -> Points:
    """A line along x by midpoint displacement: points (33, 2), starting at the origin."""
    heights = np.zeros(2)
    for level in range(5):
        middle = (heights[1:] + heights[:-1]) / 2 + rng.normal(0, rough * length * 0.55**level / 2, len(heights) - 1)
        heights = np.insert(heights, np.arange(1, len(heights)), middle)
    return np.stack([np.linspace(0, length, len(heights)), heights], axis=1)


def _wobble(rng: np.random.Generator, count: int, size: float) -> Points:
    """A smooth random curve (count,) with a standard deviation of about `size`."""
    return np.convolve(rng.normal(0, 1.7 * size, count + 6), np.full(7, 1 / 7), "valid")


def _turn(points: Points, rng: np.random.Generator) -> Points:
    return points @ _rotation(rng.uniform(0, 2 * math.pi))


def _rotation(angle: float) -> Points:
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
