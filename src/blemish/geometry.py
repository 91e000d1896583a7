"""Shapes in pixels: boxes, polygons, run lengths and masks, and the ways between them.

Points and boxes are given at pixel edges: (0, 0) is the image's upper left corner, x runs to the image's width, and a
pixel belongs to a polygon when its centre does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Boxes, Mask, PixelBox
from blemish.errors import DataError

Ring = tuple[tuple[float, float], ...]  # the points x y of a closed outline, in pixels
Bounds = tuple[float, float, float, float]  # x0 y0 x1 y1


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled box in pixels; x1 and y1 are exclusive."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str

    @property
    def bounds(self) -> Bounds:
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True, slots=True)
class Polygon:
    """One labelled defect by its outline; several rings are pieces of the same defect, all of them filled."""

    rings: tuple[Ring, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Rle:
    """A labelled mask (height, width) as run lengths down its columns, background first, as in COCO."""

    counts: tuple[int, ...]
    height: int
    width: int
    label: str
    many: bool = False  # all defects of the class in one mask, not only one defect


Shape = Polygon | Rle


def polygon_mask(points: Sequence[tuple[float, float]], height: int, width: int) -> Mask:
    """Pixels (height, width) whose centre is inside a closed polygon, by the even-odd rule."""
    crossings = np.zeros((height, width + 1), np.uint8)  # parity of the edges that a row crosses at each pixel
    for (xa, ya), (xb, yb) in pairwise((*points, points[0])) if points else ():
        if ya == yb:
            continue
        (x0, y0), (x1, y1) = ((xa, ya), (xb, yb)) if ya < yb else ((xb, yb), (xa, ya))
        rows = np.arange(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5))))
        x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)] ^= 1
    return np.bitwise_xor.accumulate(crossings, axis=1)[:, :width].astype(np.bool_)


def mask_bounds(mask: Mask) -> PixelBox | None:
    """The smallest box around the pixels of a mask (H, W); None where there are none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def connected_regions(mask: Mask) -> list[Mask]:
    """The 8-connected regions of a mask (H, W), each as a mask of its own."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [labels == index for index in range(1, count)]


def shape_mask(shape: Shape, size: tuple[int, int]) -> Mask:
    """The shape's pixels in an image of `size` (height, width); DataError for run lengths of another size."""
    if isinstance(shape, Polygon):
        filled = np.zeros(size, np.bool_)
        for ring in shape.rings:
            filled |= polygon_mask(ring, *size)
        return filled
    if (shape.height, shape.width) != size:
        raise DataError(
            f"run lengths of {shape.label} are of an image of {shape.width}×{shape.height}, not {size[1]}×{size[0]}"
        )
    return decode_runs(shape.counts, size)


def shape_bounds(shape: Shape) -> Bounds | None:
    """The smallest box around the shape; None where it has no extent."""
    if isinstance(shape, Rle):
        return mask_bounds(decode_runs(shape.counts, (shape.height, shape.width)))
    points = np.array([point for ring in shape.rings for point in ring], np.float64).reshape(-1, 2)
    if not len(points):
        return None
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return (float(x0), float(y0), float(x1), float(y1)) if x1 > x0 and y1 > y0 else None


def decode_runs(counts: Sequence[int], size: tuple[int, int]) -> Mask:
    """Mask (H, W) of run lengths down its columns, background first; DataError where they do not fill it exactly."""
    if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
        raise DataError(f"run lengths of {sum(counts)} pixels do not fill an image of {size[1]}×{size[0]}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, counts).reshape(size, order="F"))


def encode_runs(mask: Mask) -> list[int]:
    """COCO's run lengths of a mask (H, W), down its columns, background first."""
    flat = mask.ravel(order="F")
    lengths: list[int] = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def encode_mask(mask: Mask, label: str, many: bool = False) -> Rle:
    """A mask (H, W) as labelled run lengths."""
    return Rle(tuple(encode_runs(mask)), mask.shape[0], mask.shape[1], label, many)


def runs_to_text(counts: Sequence[int]) -> str:
    """COCO's short form: differences to the run before the last, five bits a character from '0' on."""
    letters = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr((bits | 32 if more else bits) + 48))
    return "".join(letters)


def runs_from_text(text: str) -> tuple[int, ...]:
    """Run lengths of COCO's short form; DataError where the text ends too early or holds other characters."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise DataError(f"run lengths hold the character {letter!r}, which COCO's short form does not know")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise DataError("run lengths end in the middle of a number")
    return tuple(counts)


def box_array(boxes: Sequence[Box]) -> Boxes:
    """Labelled boxes as an array (N, 4) of x0 y0 x1 y1."""
    return np.array([box.bounds for box in boxes], np.float64).reshape(-1, 4)


def box_areas(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Areas (N,) of boxes (N, 4); 0 where a box is turned inside out."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1), np.float64)


def box_intersections(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Areas (N, M) that boxes (N, 4) and (M, 4) share; 0 where either is turned inside out."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.asarray((high - low).clip(min=0).prod(axis=2), np.float64)


def box_iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4); 0 for boxes without area."""
    shared = box_intersections(a, b)
    union = box_areas(a)[:, None] + box_areas(b)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
