"""Masks and boxes of a sample, whatever it bears: mask files, outlines, run lengths or boxes.

How flawed truth is handled: a box or outline that reaches beyond the image is cut to it, and one with nothing left is
dropped; so is a pixel value of a class mask that has no name. `blemish data audit` lists them all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.dataset.sample import DEFECT, GOOD, Sample
from blemish.errors import DataError, ImageError
from blemish.geometry import (
    Bounds,
    Box,
    Rle,
    Shape,
    connected_regions,
    encode_mask,
    mask_bounds,
    shape_bounds,
    shape_mask,
)
from blemish.imaging.read import image_header, read_image, read_mask

Bools = NDArray[np.bool_]


def has_mask(sample: Sample) -> bool:
    """Whether every pixel's truth is known: a mask, shapes (and no defect by its box alone), or a good part."""
    if sample.mask is not None or sample.defective is False:
        return True
    return sample.shapes is not None and not sample.boxes


def has_boxes(sample: Sample) -> bool:
    """Whether something tells every defect's place; `known_boxes` looks whether any of a defective image is left."""
    return bool(sample.boxes) or has_mask(sample)


def known_boxes(sample: Sample, size: tuple[int, int]) -> tuple[Box, ...] | None:
    """As `boxes_of`; None where no box is known, or a defective image has none with any area in it."""
    found = boxes_of(sample, size) if has_boxes(sample) else None
    return None if sample.defective and not found else found


def mask_of(sample: Sample, size: tuple[int, int]) -> Bools:
    """Defect pixels (H, W) of an image of `size` (height, width).

    DataError where they are not known; ImageError for a mask file that cannot be read or is of another size.
    """
    if sample.mask is not None and sample.mask_classes is None:
        return read_mask(sample.mask, size)
    found = np.zeros(size, np.bool_)
    for _, pixels in _layers(sample, size):
        found |= pixels
    return found


def class_masks(sample: Sample, classes: Sequence[str], size: tuple[int, int]) -> Bools:
    """Defect pixels (K, H, W) of each of K defect classes in an image of `size` (height, width).

    A mask of two values belongs to the image's label, or to DEFECT where there is none; where there is just one class,
    it is that one. DataError and ImageError as with `mask_of`.
    """
    layers = np.zeros((len(classes), *size), np.bool_)
    place = {name: i for i, name in enumerate(classes)}
    for name, pixels in _layers(sample, size):
        index = place.get(name, 0 if len(classes) == 1 else None)
        if index is not None:
            layers[index] |= pixels
    return layers


@dataclass(frozen=True, slots=True)
class Instance:
    """One defect: its class, the box of its pixels (x0 y0 x1 y1, whole, x1 and y1 exclusive) and its mask in there."""

    label: str
    box: tuple[int, int, int, int]
    mask: Bools


def instances_of(sample: Sample, size: tuple[int, int]) -> list[Instance]:
    """The defects of an image of `size` (height, width), one for each outline or 8-connected region of a mask.

    DataError and ImageError as with `mask_of`.
    """
    if not has_mask(sample):
        raise DataError(f"nothing tells which pixels of {sample.image} are defective")
    masks: list[tuple[str, Bools]] = []
    for shape in shapes_of(sample, size):
        pixels = shape_mask(shape, size)
        many = isinstance(shape, Rle) and shape.many
        masks += [(shape.label, part) for part in (connected_regions(pixels) if many else [pixels])]
    found = []
    for label, pixels in masks:
        bounds = mask_bounds(pixels)
        if bounds is not None:
            x0, y0, x1, y1 = bounds
            found.append(Instance(label, (x0, y0, x1, y1), pixels[y0:y1, x0:x1]))
    return found


def boxes_of(sample: Sample, size: tuple[int, int]) -> tuple[Box, ...]:
    """The defects' boxes, cut to an image of `size` (height, width); those of outlines and of mask regions included."""
    return tuple(box for found in _all_boxes(sample, size) if (box := cut(found, size)) is not None)


def cut(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of a box inside an image of `size` (height, width), None where nothing is."""
    x0, y0, x1, y1 = max(0.0, box.x0), max(0.0, box.y0), min(float(size[1]), box.x1), min(float(size[0]), box.y1)
    return replace(box, x0=x0, y0=y0, x1=x1, y1=y1) if x1 > x0 and y1 > y0 else None


def shapes_of(sample: Sample, size: tuple[int, int]) -> tuple[Shape, ...]:
    """The sample's shapes; a mask file as run lengths of each of its classes."""
    if sample.mask is None or sample.shapes is not None:
        return sample.shapes or ()
    return tuple(encode_mask(pixels, name, many=True) for name, pixels in _layers(sample, size) if pixels.any())


def label_from(labels: Iterable[str]) -> str | None:
    """An image's label by those of its defects: GOOD without any, theirs where all are of one class, else None."""
    names = set(labels)
    return GOOD if not names else names.pop() if len(names) == 1 else None


def classes_shown(sample: Sample) -> frozenset[str] | None:
    """All defect classes that an image shows, by its label, boxes, outlines and mask; None where nothing tells.

    Raises ImageError for a mask of several classes that cannot be read.
    """
    if sample.defective is None:
        return None
    found = {item.label for item in (*(sample.boxes or ()), *(sample.shapes or ()))} | set(sample.labels or ())
    if sample.label is not None:
        found.add(sample.label)
    elif sample.mask is not None and sample.mask_classes is not None:
        values = np.unique(read_class_mask(sample.mask)).tolist()
        found |= {name for number, name in enumerate(sample.mask_classes, 1) if number in values}
    return frozenset(found - {GOOD}) if found or sample.defective is False else None


def read_class_mask(path: Path) -> NDArray[np.int64]:
    """Pixel values (H, W) of a grey or palette image; ImageError for colours, or what `read_image` refuses."""
    image_header(path)  # size and content are checked here, so that Pillow opens nothing else
    try:
        with Image.open(path) as picture:
            if picture.mode == "P":
                return np.asarray(picture).astype(np.int64)
    except (OSError, Image.DecompressionBombError):
        pass  # of a kind that only `read_image` knows
    values = read_image(path)
    if values.shape[2] != 1:
        raise ImageError(f"class mask {path} holds colours; save it with one value a pixel, grey or with a palette")
    return values[..., 0].astype(np.int64)


def _all_boxes(sample: Sample, size: tuple[int, int]) -> Iterable[Box]:
    yield from sample.boxes or ()
    for shape in shapes_of(sample, size) if sample.shapes is not None or not sample.boxes else ():
        found: list[Bounds | None] = [shape_bounds(shape)]
        if isinstance(shape, Rle) and shape.many:
            found = [mask_bounds(region) for region in connected_regions(shape_mask(shape, size))]
        for x0, y0, x1, y1 in filter(None, found):
            yield Box(float(x0), float(y0), float(x1), float(y1), shape.label)


def _layers(sample: Sample, size: tuple[int, int]) -> Iterable[tuple[str, Bools]]:
    """(class, its pixels), several times the same class perhaps."""
    if sample.mask is not None and sample.mask_classes is None:
        if sample.label != GOOD:
            yield sample.label or DEFECT, read_mask(sample.mask, size)
    elif sample.mask is not None:
        values = read_class_mask(sample.mask)
        if values.shape != size:
            raise ImageError(
                f"mask {sample.mask} has {values.shape[1]}×{values.shape[0]} pixels, its image {size[1]}×{size[0]}; "
                "make them the same size"
            )
        for number, name in enumerate(sample.mask_classes or (), 1):
            yield name, values == number
    elif not has_mask(sample):
        raise DataError(f"nothing tells which pixels of {sample.image} are defective")
    for shape in sample.shapes or ():
        yield shape.label, shape_mask(shape, size)
