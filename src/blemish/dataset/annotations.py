"""What the formats with boxes and outlines share: careful reading, and what is lost in writing."""

import json
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from blemish.dataset.ground_truth import boxes_of, cut, has_boxes, label_from, shapes_of
from blemish.dataset.image_files import losses, unique_stems
from blemish.dataset.sample import AnnotationWarning, Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.geometry import Box, Polygon, Shape
from blemish.imaging.read import image_header

T = TypeVar("T")


def left_out(line: str, image: Path | None = None) -> None:
    """Tell of an annotation that cannot be used, and of which image, if there is one."""
    warnings.warn(AnnotationWarning(line, image), stacklevel=3)


def readable(read: Callable[..., T], file: Path, image: Path, *more: Any) -> T | None:
    """What `read` makes of an image's file of annotations; None for a file that it cannot read, which is left out."""
    try:
        return read(file, image, *more)
    except (DataError, ImageError) as error:
        left_out(str(error), image)
        return None


def lone_masks(masks: dict[str, Path], images: Iterable[Path]) -> None:
    """Tell of masks, as of `masks_in`, that are of none of the images."""
    own = {masks[image.stem] for image in images if image.stem in masks}
    for mask in sorted(set(masks.values()) - own):
        left_out(f"{mask}: its image does not exist")


def number(value: Any) -> float:
    """A finite number; ValueError otherwise."""
    found = float(value)
    if isinstance(value, bool) or not math.isfinite(found):
        raise ValueError(f"{value!r} is not a finite number")
    return found


def read_json(path: Path) -> Any:
    """DataError for a file that is no JSON in UTF-8."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable as JSON: {' '.join(str(error).split())}") from error


def read_text(path: Path) -> str:
    """DataError for a file that is no text in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text in UTF-8: {error}") from error


def read_xml(path: Path) -> ElementTree.Element:
    """DataError for a file that is no XML, or defines entities, which no annotation needs."""
    try:
        data = path.read_bytes()
        if b"<!ENTITY" in data:
            raise DataError(f"{path} defines XML entities; an annotation has no use for them")
        return ElementTree.fromstring(data)
    except (OSError, LookupError, ValueError, ElementTree.ParseError) as error:  # of an encoding, too
        raise DataError(f"{path} is not readable as XML: {error}") from error


def starts_with_key(path: Path, *keys: str) -> bool:
    """Whether the beginning of a JSON file holds one of the keys."""
    with path.open("rb") as file:
        head = file.read(65536)
    return any(f'"{key}"'.encode() in head for key in keys)


def text_of(value: float) -> str:
    """A coordinate, whole where it is, and otherwise with all its digits."""
    return str(int(value)) if value == int(value) else repr(float(value))


def known(boxes: Iterable[Box], shapes: Iterable[Shape]) -> dict[str, Any]:
    """`label`, `boxes` and `shapes` of a sample by its annotations: none at all is a good part."""
    found, outlines = tuple(boxes), tuple(shapes)
    label = label_from(item.label for item in (*found, *outlines))
    return {"label": label, "boxes": found or (None if outlines else ()), "shapes": outlines or None}


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample as it is to be written: its annotations, None where nothing is known of defects' places."""

    sample: Sample
    stem: str
    size: tuple[int, int]  # height, width
    items: tuple[Box | Shape, ...] | None


def entries(
    dataset: Dataset, holds: Callable[[Shape], bool], kept: Iterable[str] = ()
) -> tuple[list[Entry], list[str]]:
    """Samples to be written to a format of boxes and, where `holds` says so, shapes; and what is lost, a line each.

    Boxes are cut to the image. Mask files become run lengths; shapes that the format cannot hold become boxes.
    """
    found, boxed = [], 0
    for sample, stem in zip(dataset.samples, unique_stems(dataset.samples), strict=True):
        header = image_header(sample.image)
        size = (header.height, header.width)
        items: tuple[Box | Shape, ...] | None = None
        if has_boxes(sample):
            shapes = shapes_of(sample, size) if sample.shapes is not None or not sample.boxes else ()
            if all(holds(shape) for shape in shapes):
                boxes = (cut(box, size) for box in sample.boxes or ())
                items = (*(box for box in boxes if box is not None), *shapes)
            else:
                items, boxed = boxes_of(sample, size), boxed + 1
        found.append(Entry(sample, stem, size, items))
    lines = losses(dataset.samples, {"label", "mask", "boxes", "shapes", *kept})
    if boxed:
        lines.append(f"the outlines of {boxed} images are kept as boxes")
    both = sum(bool(s.boxes) and s.mask is not None for s in dataset.samples)
    if both:
        lines.append(f"mask of {both} images is not kept: their boxes are")
    told = (e.sample.label == (label_from(i.label for i in e.items) if e.items is not None else None) for e in found)
    unlike = sum(not same for same in told)
    if unlike and "label" not in set(kept):
        lines.append(f"label of {unlike} images is not kept: it does not follow from their annotations")
    return found, lines


def single_ring(shape: Shape) -> bool:
    return isinstance(shape, Polygon) and len(shape.rings) == 1


def any_shape(shape: Shape) -> bool:
    return True


def no_shape(shape: Shape) -> bool:
    return False


def all_split(samples: Sequence[Sample]) -> bool:
    return bool(samples) and all(s.split for s in samples)
