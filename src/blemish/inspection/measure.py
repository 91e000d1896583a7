"""Measure one region: its length, width, area and other geometry, in pixels and in millimetres.

Length is the longest path through the region. For a convex region it is the long side of the minimum-area rectangle,
for a bent or branched one the longest path along the skeleton, smoothed against the steps of the pixel grid and
extended at both ends to the region's border. For a closed ring, whose hole is at least half as wide as its wall and
takes more than a tenth of it, it is the length of the centre line: the mean of outer and inner perimeter; of a net with
several such holes, that of the outer loop. Mean width is area divided by the length of the centre line with all
branches and loops; maximum width is twice the largest distance from a pixel to the border, and for a convex region,
whose holes count as filled there, at most its smallest Feret diameter.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Image, Mask, Points
from blemish.inspection.manifest import Scale
from blemish.inspection.result import Measurements
from blemish.inspection.skeleton import longest_path, thin

MIN_SOLIDITY = 0.9  # share of its convex hull that a region fills at least to be measured as convex
MAX_HALF_WIDTH = 16.0  # px; thicker regions are thinned at a smaller size
MIN_RESAMPLED = 48  # px; shorter sides are resampled to square pixels at a finer grid
RING_PX = 5  # width of the ring around a region that its contrast is measured against


@dataclass(frozen=True)
class RegionGeometry:
    """Measurements in one unit of length."""

    area: float
    perimeter: float
    length: float
    mean_width: float
    max_width: float
    feret_max: float
    feret_min: float
    rectangle_length: float
    rectangle_width: float


def measure(
    mask: Mask, offset: tuple[int, int] = (0, 0), image: Image | None = None, scale: Scale | None = None
) -> Measurements:
    """Measure a region's mask (h, w) whose upper left pixel is at `offset` (x, y) of the image (H, W, C).

    At least one pixel is set. With a `scale`, in millimetres too; the mask is first resampled to square pixels where
    they are not, and angle and circularity are those on the part. Without an image, contrast is 0.
    """
    geometry = square = measure_geometry(mask)
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    millimetres, aspect = {}, 1.0
    if scale is not None:
        unit = max(scale.x, scale.y)
        if not math.isclose(scale.x, scale.y, rel_tol=1e-6):
            aspect = scale.x / scale.y
            finer, square_mask = _with_square_pixels(mask, unit / scale.x, unit / scale.y)
            square, unit = measure_geometry(square_mask), unit * finer
        millimetres = {f"{name}_mm": value / unit for name, value in vars(square).items() if name != "area"}
        millimetres["area_mm2"] = geometry.area / (scale.x * scale.y)
    return Measurements(
        **{f"{name}_px": value for name, value in vars(geometry).items()},
        **millimetres,
        centroid_x=offset[0] + moments["m10"] / moments["m00"],
        centroid_y=offset[1] + moments["m01"] / moments["m00"],
        orientation_deg=_orientation(moments, aspect),
        circularity=min(1.0, 4 * math.pi * square.area / square.perimeter**2),
        contrast=0.0 if image is None else contrast(mask, offset, image),
    )


def measure_geometry(mask: Mask) -> RegionGeometry:
    """All measurements that depend on the unit of length, for square pixels."""
    area = float(np.count_nonzero(mask))
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = _side_centres(np.concatenate(contours).reshape(-1, 2).astype(np.float32))
    hull = cv2.convexHull(outline).reshape(-1, 2)
    sides = _rectangle_sides(hull) if area > 1 else (1.0, 1.0)
    feret_min, feret_max = _feret(hull.astype(np.float64))
    # Pixel steps make a convex shape smaller than its hull by about a quarter of a pixel all around.
    if area >= MIN_SOLIDITY * cv2.contourArea(hull) - 0.25 * cv2.arcLength(hull, closed=True):
        length = centre_line = max(sides)
        filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, cv2.FILLED) > 0
        max_width = min(feret_min, 2 * _half_width(filled) + 0.5)
    else:
        length, centre_line, max_width = _measure_centre_line(mask, max(sides))
    return RegionGeometry(
        area=area,
        perimeter=perimeter(mask),
        length=length,
        mean_width=area / max(centre_line, 1.0),
        max_width=max_width,
        feret_max=feret_max,
        feret_min=feret_min,
        rectangle_length=max(sides),
        rectangle_width=min(sides),
    )


def perimeter(mask: Mask) -> float:
    """Length of the border, holes included, from how often lines in four directions cross it (Crofton)."""
    m = np.pad(mask, 1)
    along_axes = np.count_nonzero(m[:, 1:] != m[:, :-1]) + np.count_nonzero(m[1:] != m[:-1])
    diagonal = np.count_nonzero(m[1:, 1:] != m[:-1, :-1]) + np.count_nonzero(m[1:, :-1] != m[:-1, 1:])
    return float(math.pi / 8 * (along_axes + diagonal / math.sqrt(2)))


def contrast(mask: Mask, offset: tuple[int, int], image: Image) -> float:
    """Mean grey of the region minus that of a ring around it, as a share of full scale; 0 where there is no ring."""
    x, y = offset
    height, width = mask.shape
    y0, x0 = max(0, y - RING_PX), max(0, x - RING_PX)
    window = image[y0 : y + height + RING_PX, x0 : x + width + RING_PX]
    inside = np.zeros(window.shape[:2], np.uint8)
    inside[y - y0 : y - y0 + height, x - x0 : x - x0 + width] = mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RING_PX + 1, 2 * RING_PX + 1))
    around = cv2.dilate(inside, kernel) - inside
    if not around.any():
        return 0.0
    full = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0
    return (_mean_grey(window, inside) - _mean_grey(window, around)) / full


def _mean_grey(image: Image, mask: Image) -> float:
    """Mean over the pixels of a mask and over all channels."""
    layers = [image] if image.ndim == 2 else [image[..., at : at + 4] for at in range(0, image.shape[2], 4)]
    # OpenCV is ten times faster than NumPy here, but supports at most four channels at a time.
    sums = [sum(cv2.mean(np.ascontiguousarray(layer), mask)) for layer in layers]
    return sum(sums) / (1 if image.ndim == 2 else image.shape[2])


def _half_width(mask: Mask) -> float:
    """Largest distance from a pixel's centre to the nearest pixel outside."""
    inside = np.pad(mask, 1).astype(np.uint8)
    return float(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())


def _measure_centre_line(mask: Mask, min_length: float) -> tuple[float, float, float]:
    """(length, length of the centre line with all branches, maximum width) of a region that is not convex."""
    padded = np.pad(mask, 1)
    half_width = _half_width(mask)
    # From pixel centre to pixel centre: a line of 2 k + 1 pixels has k + 1, one of 2 k pixels k.
    max_width = 2 * half_width - 0.5
    filled, ring = _fill_small_holes(padded, half_width)
    if ring is not None:
        return *ring, max_width
    factor = min(1.0, MAX_HALF_WIDTH / half_width)
    small = filled if factor == 1 else _rescale(filled, factor, factor, cv2.INTER_AREA, 3)
    line, line_length, total = longest_path(thin(small))
    line = _smooth(_centre(_smooth(line), small, half_width * factor))
    extended = _extend(line, small)
    length = max(_length(extended) / factor, min_length)
    return length, length * total / max(line_length, 1.0), max_width


def _fill_small_holes(mask: Mask, half_width: float) -> tuple[Mask, tuple[float, float] | None]:
    """The mask with small holes filled; and where large ones make it a ring or a net, the lengths of the centre line:
    of the loop around the largest, and of all loops."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    outside = labels[0, 0]
    filled = labels != outside
    large: list[tuple[int, float]] = []  # area and perimeter
    for index in range(1, count):
        x, y, width, height, area = stats[index].tolist()
        if index == outside or min(width, height) < half_width / 2:
            continue
        box = np.s_[y : y + height, x : x + width]
        hole = labels[box] == index
        if _half_width(hole) >= half_width / 2:
            filled[box] &= ~hole
            large.append((area, perimeter(hole)))
    if not large:
        return filled, None
    outer = perimeter(labels != outside)
    return filled, ((outer + max(large)[1]) / 2, (outer + sum(length for _, length in large)) / 2)


def _smooth(line: Points) -> Points:
    """Running mean over seven points that keeps both ends: pixel steps would make an oblique line too long."""
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(line, axis=0)])
    place = np.arange(len(line))
    near = np.minimum(np.minimum(place, place[::-1]), 3)
    return np.asarray((sums[place + near + 1] - sums[place - near]) / (2 * near + 1)[:, None])


def _centre(line: Points, mask: Mask, half_width: float) -> Points:
    """Move each point (n, 2) to the middle between the borders to its left and right, by at most a pixel.

    Thinning removes pixels from one side first, and smoothing cuts bends; both shift the line off the centre.
    """
    if len(line) < 5:
        return line
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    reach = np.arange(0.0, half_width + 1.5, 0.25)
    sides = []
    for sign in (1, -1):
        x, y = (line[:, None] + sign * normal[:, None] * reach[None, :, None]).round().astype(int).transpose(2, 0, 1)
        inside = mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]
        sides.append(0.25 * np.where(inside.all(axis=1), len(reach), inside.argmin(axis=1)))
    shift = ((sides[0] - sides[1]) / 2).clip(-1, 1)
    return np.asarray(line + normal * shift[:, None])


def _extend(line: Points, mask: Mask) -> Points:
    """Extend a centre line (n, 2) at both ends to the border of the mask.

    A skeleton forks into the corners of a blunt end, so the line is first cut back by half the width and then continued
    in its own direction and with its own curvature.
    """
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    x, y = line.round().astype(int).T  # centring may have moved a point slightly beyond the edge
    half = float(np.median(distance[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]))
    arm = max(6.0, 1.5 * half)
    for _ in range(2):  # one end, then the other
        travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        if travelled[-1] >= half + 2:
            start, middle, back = (
                min(int(np.searchsorted(travelled, half + k * arm)), len(line) - 1) for k in range(3)
            )
            line = np.concatenate([[_border(line[start], line[middle], line[back], mask)], line[start:]])
        line = line[::-1]
    return line


def _border(start: Points, middle: Points, back: Points, mask: Mask) -> Points:
    """Where a line through three points (x, y), the last of them `start`, leaves the mask with constant curvature."""
    first, last = middle - back, start - middle
    lengths = float(np.hypot(*first)), float(np.hypot(*last))
    if lengths[1] < 1:
        return start
    turn = 0.0
    if lengths[0] >= 1:
        angle = math.atan2(first[0] * last[1] - first[1] * last[0], float(first @ last))
        turn = 2 * angle / sum(lengths)
    reach = np.arange(0, 4 + sum(mask.shape), 0.25)
    heading = math.atan2(last[1], last[0]) + turn * (lengths[1] / 2 + reach)
    steps = 0.25 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    way = start + np.concatenate([[[0.0, 0.0]], np.cumsum(steps, axis=0)])
    x, y = way.round().astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    inside[inside] = mask[y[inside], x[inside]]
    end: Points = way[int(np.argmin(inside))] if not inside.all() else start
    return end


def _length(line: Points) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum()) if len(line) > 1 else 1.0


def _side_centres(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middles of the four sides of each pixel, given its centre: their hull is half a pixel larger on each side for
    an upright shape, and right on average for an oblique one."""
    steps = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]], np.float32)
    return (points[:, None] + steps[None]).reshape(-1, 2)


def _feret(hull: NDArray[np.float64]) -> tuple[float, float]:
    """Smallest and largest distance between parallel lines that enclose the hull."""
    differences = hull[:, None] - hull[None]
    largest = float(np.sqrt((differences**2).sum(axis=2)).max())
    edges = np.roll(hull, -1, axis=0) - hull
    lengths = np.hypot(*edges.T)
    edges = edges[lengths > 1e-9] / lengths[lengths > 1e-9, None]
    across = hull @ np.stack([-edges[:, 1], edges[:, 0]])
    return float((across.max(axis=0) - across.min(axis=0)).min()), largest


def _rectangle_sides(hull: NDArray[Any]) -> tuple[float, float]:
    """Sides of the rectangle of minimum area around a hull; of several, the upright one."""
    _, sides, _ = cv2.minAreaRect(hull)
    upright = np.ptp(hull, axis=0).tolist()
    width, height = upright if math.prod(upright) <= math.prod(sides) * 1.001 else sides
    return float(width), float(height)


def _orientation(moments: dict[str, float], aspect: float = 1.0) -> float:
    """Direction of the long axis in degrees, anticlockwise from the x axis as seen on screen, in (-90, 90].

    `aspect` is the height of a pixel as a multiple of its width.
    """
    across, down = moments["mu20"], moments["mu02"] * aspect**2
    angle = -0.5 * math.degrees(math.atan2(2 * moments["mu11"] * aspect, across - down))
    return angle + 180 if angle <= -90 else angle


def _with_square_pixels(mask: Mask, x: float, y: float) -> tuple[int, Mask]:
    """A multiple, and the mask with its sides multiplied by it and by x and y, large enough for rounding."""
    finer = max(1, math.ceil(MIN_RESAMPLED / min(mask.shape[1] * x, mask.shape[0] * y)))
    found = _rescale(mask, x * finer, y * finer, cv2.INTER_LINEAR, 1)
    return finer, found if found.any() else np.ones((finer, finer), np.bool_)


def _rescale(mask: Mask, x: float, y: float, interpolation: int, min_side: int) -> Mask:
    height, width = mask.shape
    size = max(min_side, round(width * x)), max(min_side, round(height * y))
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=interpolation) >= 0.5)
