"""Masks, boxes and classes of a sample, whatever its annotations are: mask files, outlines, run lengths or boxes.

How flawed annotations are handled: a box or outline that reaches beyond the image is clipped to it, and one with
nothing left is dropped. `blemish data audit` lists them all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.arrays import Labels, Mask, PixelBox
from blemish.dataset.sample import DEFECT, GOOD, IGNORE, Sample
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
from blemish.imaging.read import check_mask_size, image_header, read_image, read_mask, turn_like_image

VOID = 255  # value of a class mask for pixels that are not inspected, unless that many classes have names


def has_mask(sample: Sample) -> bool:
    """Whether every pixel's annotation is known: a mask, shapes (and no defect by its box alone), or a good part."""
    if sample.mask is not None or sample.defective is False:
        return True
    return sample.shapes is not None and not sample.boxes


def has_boxes(sample: Sample) -> bool:
    """Whether every defect's location is annotated; `known_boxes` checks whether any of a defective image is left."""
    return bool(sample.boxes) or has_mask(sample)


def known_boxes(sample: Sample, size: tuple[int, int]) -> tuple[Box, ...] | None:
    """Like `defect_boxes`; None where no box is known, or a defective image has none with any area in it."""
    boxes = defect_boxes(sample, size) if has_boxes(sample) else None
    return None if sample.defective and not boxes else boxes


def read_defect_mask(sample: Sample, size: tuple[int, int]) -> Mask:
    """Defect pixels (H, W) of an image of `size` (height, width).

    DataError where they are not known; ImageError for a mask file that cannot be read or is of another size.
    """
    if sample.mask is not None and sample.mask_classes is None:
        return read_mask(sample.mask, size, sample.image)
    mask = np.zeros(size, np.bool_)
    for _, pixels in _class_layers(sample, size):
        mask |= pixels
    return mask


def read_class_masks(sample: Sample, classes: Sequence[str], size: tuple[int, int]) -> Mask:
    """Defect pixels (K, H, W) of each of K defect classes in an image of `size` (height, width).

    A mask of two values belongs to the image's label, or to DEFECT where there is none; where there is only one class,
    it is that one. DataError and ImageError as with `read_defect_mask`.
    """
    layers = np.zeros((len(classes), *size), np.bool_)
    for name, pixels in _class_layers(sample, size):
        if name in classes or len(classes) == 1:
            layers[classes.index(name) if name in classes else 0] |= pixels
    return layers


@dataclass(frozen=True, slots=True)
class Instance:
    """One defect: its class, the box of its pixels and its mask in there."""

    label: str
    box: PixelBox
    mask: Mask


def defect_instances(sample: Sample, size: tuple[int, int]) -> list[Instance]:
    """The defects of an image of `size` (height, width), one for each outline or 8-connected region of a mask.

    DataError and ImageError as with `read_defect_mask`.
    """
    if not has_mask(sample):
        raise DataError(f"no annotation says which pixels of {sample.image} are defective")
    instances = []
    for shape in defect_shapes(sample, size):
        mask = shape_mask(shape, size)
        for pixels in connected_regions(mask) if isinstance(shape, Rle) and shape.many else [mask]:
            bounds = mask_bounds(pixels)
            if bounds is not None:
                x0, y0, x1, y1 = bounds
                instances.append(Instance(shape.label, bounds, pixels[y0:y1, x0:x1]))
    return instances


def defect_boxes(sample: Sample, size: tuple[int, int]) -> tuple[Box, ...]:
    """The defects' boxes, clipped to an image of `size` (height, width), with those of outlines and mask regions."""
    boxes = list(sample.boxes or ())
    for shape in defect_shapes(sample, size) if sample.shapes is not None or not boxes else ():
        found: list[Bounds | None] = [shape_bounds(shape)]
        if isinstance(shape, Rle) and shape.many:
            found = [mask_bounds(region) for region in connected_regions(shape_mask(shape, size))]
        for x0, y0, x1, y1 in filter(None, found):
            boxes.append(Box(float(x0), float(y0), float(x1), float(y1), shape.label))
    return tuple(filter(None, (clip_box(box, size) for box in boxes)))


def clip_box(box: Box, size: tuple[int, int]) -> Box | None:
    """A box clipped to an image of `size` (height, width); None where nothing is left."""
    x0, y0, x1, y1 = max(0.0, box.x0), max(0.0, box.y0), min(float(size[1]), box.x1), min(float(size[0]), box.y1)
    return replace(box, x0=x0, y0=y0, x1=x1, y1=y1) if x1 > x0 and y1 > y0 else None


def defect_shapes(sample: Sample, size: tuple[int, int]) -> tuple[Shape, ...]:
    """The sample's shapes; a mask file as run lengths of each of its classes."""
    if sample.mask is None or sample.shapes is not None:
        return sample.shapes or ()
    return tuple(encode_mask(pixels, name, many=True) for name, pixels in _class_layers(sample, size) if pixels.any())


def find_defect_classes(sample: Sample) -> frozenset[str] | None:
    """All defect classes in an image, by its label, boxes, outlines and mask; None where there is no annotation.

    Raises ImageError for a mask of several classes that cannot be read.
    """
    if sample.defective is None:
        return None
    names = {item.label for item in (*(sample.boxes or ()), *(sample.shapes or ()))} | set(sample.labels or ())
    if sample.label is not None:
        names.add(sample.label)
    elif sample.mask is not None and sample.mask_classes is not None:
        values = np.unique(read_label_map(sample.mask)).tolist()
        names |= {name for value, name in enumerate(sample.mask_classes, 1) if value in values}
    return frozenset(names - {GOOD, IGNORE}) if names or sample.defective is False else None


def named_classes(sample: Sample) -> frozenset[str]:
    """The classes that masks, outlines and boxes of a sample give to defects; those of a class mask may not occur."""
    names = {item.label for item in (*(sample.boxes or ()), *(sample.shapes or ()))}
    if sample.mask is not None:
        names |= set(sample.mask_classes) if sample.mask_classes is not None else {sample.label or DEFECT}
    return frozenset(names - {GOOD, IGNORE})


def read_label_map(path: Path) -> Labels:
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


def _fitting_label_map(mask: Path, size: tuple[int, int], image: Path) -> Labels:
    """Pixel values (H, W) of a class mask, turned with its image if need be; ImageError where its size is another."""
    values = turn_like_image(read_label_map(mask), size, image, mask)
    check_mask_size(mask, values.shape, size)
    return values


def read_ignored_pixels(sample: Sample, size: tuple[int, int]) -> Mask | None:
    """Pixels (H, W) that outlines and class masks say are to be ignored; None where none says so."""
    mask = np.zeros(size, np.bool_)
    for shape in sample.ignore_shapes or ():
        mask |= shape_mask(shape, size)
    if sample.mask is not None and sample.mask_classes is not None:
        values = _fitting_label_map(sample.mask, size, sample.image)
        numbers = [value for value, name in enumerate(sample.mask_classes, 1) if name == IGNORE]
        if len(sample.mask_classes) < VOID:
            numbers.append(VOID)
        mask |= np.isin(values, numbers)
    return mask if mask.any() else None


def _class_layers(sample: Sample, size: tuple[int, int]) -> Iterable[tuple[str, Mask]]:
    """(class, its pixels), several times the same class perhaps."""
    if sample.mask is not None and sample.mask_classes is None:
        if sample.label != GOOD:
            yield sample.label or DEFECT, read_mask(sample.mask, size, sample.image)
    elif sample.mask is not None:
        values = _fitting_label_map(sample.mask, size, sample.image)
        for value, name in enumerate(sample.mask_classes or (), 1):
            if name not in (GOOD, IGNORE):
                yield name, values == value
    elif not has_mask(sample):
        raise DataError(f"no annotation says which pixels of {sample.image} are defective")
    for shape in sample.shapes or ():
        yield shape.label, shape_mask(shape, size)
