"""Outlines and run lengths as pixels, and back."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.sample import Polygon, Ring, Rle, Shape
from blemish.errors import DataError

Bools = NDArray[np.bool_]
Bounds = tuple[float, float, float, float]  # x0 y0 x1 y1


def pixels_of(shape: Shape, size: tuple[int, int]) -> Bools:
    """The shape's pixels in an image of `size` (height, width); DataError for run lengths of another size."""
    if isinstance(shape, Polygon):
        filled = np.zeros(size, np.bool_)
        for ring in shape.rings:
            filled |= fill(ring, size)
        return filled
    if (shape.height, shape.width) != size:
        raise DataError(
            f"run lengths of {shape.label} are of an image of {shape.width}×{shape.height}, not {size[1]}×{size[0]}"
        )
    return decode_runs(shape.counts, size)


def fill(ring: Ring, size: tuple[int, int]) -> Bools:
    """Pixels of (height, width) whose centre is inside the ring, by the even-odd rule."""
    height, width = size
    turns = np.zeros((height, width + 1), np.int32)  # edges crossed at each pixel, counted from the left
    for (xa, ya), (xb, yb) in pairwise((*ring, ring[0])) if ring else ():
        if ya == yb:
            continue
        (x0, y0), (x1, y1) = ((xa, ya), (xb, yb)) if ya < yb else ((xb, yb), (xa, ya))
        rows = np.arange(max(0, int(np.ceil(y0 - 0.5))), min(height, int(np.ceil(y1 - 0.5))))
        across = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        np.add.at(turns, (rows, np.clip(np.ceil(across - 0.5), 0, width).astype(np.intp)), 1)
    inside: Bools = np.cumsum(turns[:, :width], axis=1) % 2 == 1
    return inside


def bounds_of(shape: Shape) -> Bounds | None:
    """The smallest box around the shape; None where it has no extent."""
    if isinstance(shape, Polygon):
        points = np.array([point for ring in shape.rings for point in ring], np.float64).reshape(-1, 2)
        if not len(points):
            return None
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return (float(x0), float(y0), float(x1), float(y1)) if x1 > x0 and y1 > y0 else None
    return bounds_of_mask(decode_runs(shape.counts, (shape.height, shape.width)))


def bounds_of_mask(mask: Bools) -> Bounds | None:
    """The smallest box around the pixels of a mask (H, W); None where there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def regions_of(mask: Bools) -> list[Bools]:
    """The 8-connected regions of a mask (H, W), each as a mask of its own."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [labels == index for index in range(1, count)]


def decode_runs(counts: tuple[int, ...], size: tuple[int, int]) -> Bools:
    """Mask (H, W) of run lengths down its columns, background first; DataError where they do not fill it exactly."""
    if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
        raise DataError(f"run lengths of {sum(counts)} pixels do not fill an image of {size[1]}×{size[0]}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, counts).reshape(size, order="F"))


def encode_mask(mask: Bools, label: str, many: bool = False) -> Rle:
    """A mask (H, W) as run lengths."""
    flat = mask.ravel(order="F")
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    lengths = np.diff(ends).tolist()
    counts = (0, *lengths) if flat.size and flat[0] else tuple(lengths)
    return Rle(tuple(int(c) for c in counts), mask.shape[0], mask.shape[1], label, many)


def runs_to_text(counts: tuple[int, ...]) -> str:
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
