"""Bring annotations into the frame of their image: turned upright by EXIF, and of the size of the file."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from blemish.dataset.annotations import note_adapted
from blemish.dataset.ground_truth import clip_box
from blemish.errors import DataError
from blemish.geometry import Box, Polygon, Rle, Shape, decode_runs, encode_mask, shape_mask
from blemish.imaging.read import MAX_PIXELS, ImageHeader, image_header

BoxOrShape = TypeVar("BoxOrShape", Box, Shape, Box | Shape)


def fit_to_image(items: Iterable[BoxOrShape], recorded: tuple[int, int] | None, image: Path) -> list[BoxOrShape]:
    """Annotations made on an image of the `recorded` size (height, width), in the frame of the image as it is read.

    Where the recorded size is that of the file before EXIF turns it, the annotations are turned likewise; where it is
    the image's by one ratio, they are scaled. Both are noted. DataError where it is neither, ImageError for an image
    that cannot be read. None, or a size of 0, stands for a size that is not recorded.
    """
    items = list(items)
    if not items:
        return items
    header = image_header(image)
    height, width = recorded or (0, 0)
    if height <= 0 or width <= 0 or (height, width) == header.size:
        if header.orientation != 1 and (header.stored_size == header.size or height <= 0 or width <= 0):
            note_adapted("annotations are taken to be made on the picture as EXIF turns it", image)
        return items
    turned = header.stored_size != header.size and _is_scaled((height, width), header.stored_size)
    if not turned and not _is_scaled((height, width), header.size):
        raise DataError(
            f"{image} has {header.width}×{header.height} pixels, but its annotations were made on {width}×{height}"
        )
    target = header.stored_size if turned else header.size
    if target != (height, width):
        note_adapted("annotations are scaled to the size of the picture", image)
        items = [_scale(item, (height, width), target) for item in items]
    if turned:
        note_adapted("annotations are turned with the picture by its EXIF orientation", image)
        items = [_turn(item, header) for item in items]
    return items


def fall_back(shape: Shape, box: Box | None, size: tuple[int, int], image: Path) -> Box | Shape:
    """A shape in an image of `size` (height, width); where it covers no pixel there, its box, which is noted.

    DataError where there is no box with any area either.
    """
    if min(size) < 1:  # not recorded
        size = image_header(image).size
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"annotations of {image} were made on {size[1]}×{size[0]}, more than {MAX_PIXELS} pixels")
    if shape_mask(shape, size).any():
        return shape
    if box is None or clip_box(box, size) is None:
        raise DataError(f"its outline covers no pixel of {image}")
    note_adapted("outlines that cover no pixel are replaced with their boxes", image)
    return box


def _is_scaled(recorded: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a size is a recorded one times one number, but for rounding to whole pixels."""
    lowest = max((new - 1) / old for new, old in zip(size, recorded, strict=True))
    highest = min((new + 1) / old for new, old in zip(size, recorded, strict=True))
    return lowest < highest or size == recorded


def _scale(item: BoxOrShape, old: tuple[int, int], new: tuple[int, int]) -> BoxOrShape:
    fy, fx = new[0] / old[0], new[1] / old[1]
    if isinstance(item, Box):
        return replace(item, x0=item.x0 * fx, y0=item.y0 * fy, x1=item.x1 * fx, y1=item.y1 * fy)
    if isinstance(item, Polygon):
        return replace(item, rings=tuple(tuple((x * fx, y * fy) for x, y in ring) for ring in item.rings))
    assert isinstance(item, Rle)
    if (item.height, item.width) != old:
        return item  # it has a size of its own
    mask = decode_runs(item.counts, old).astype(np.uint8)
    scaled = cv2.resize(mask, new[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.bool_)
    return encode_mask(scaled, item.label, item.many)


def _turn(item: BoxOrShape, header: ImageHeader) -> BoxOrShape:
    if isinstance(item, Box):
        corners = header.to_upright(np.array([[item.x0, item.y0], [item.x1, item.y1]]))
        (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return replace(item, x0=x0, y0=y0, x1=x1, y1=y1)
    if isinstance(item, Polygon):
        rings = (header.to_upright(np.array(ring, np.float64).reshape(-1, 2)).tolist() for ring in item.rings)
        return replace(item, rings=tuple(tuple((x, y) for x, y in ring) for ring in rings))
    assert isinstance(item, Rle)
    if (item.height, item.width) != header.stored_size:
        return item
    rows, columns = np.nonzero(decode_runs(item.counts, header.stored_size))
    centres = header.to_upright(np.stack([columns, rows], axis=-1) + 0.5).astype(np.int64)
    mask = np.zeros(header.size, np.bool_)
    mask[centres[:, 1], centres[:, 0]] = True
    return encode_mask(mask, item.label, item.many)
