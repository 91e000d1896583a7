"""Images with masks of several classes: pixel value k is the class of line k of classes.txt, 0 is good."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.annotations import read_lines, warn_skipped
from blemish.dataset.export import copy_image, image_name, write_masked
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.ground_truth import VOID, read_label_map
from blemish.dataset.image_files import (
    MaskTree,
    find_folder,
    first_existing,
    list_images,
    list_subsets,
    split_step,
)
from blemish.dataset.labels import is_background_name, is_good_name, is_ignore_name
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.files import write_atomic
from blemish.imaging.read import write_image

MAX_CLASSES = 255
_MASKS = ("masks", "labels", "annotations")


def looks_like(path: Path) -> bool:
    return path.is_dir() and _names_file(path) is not None and any(True for _ in _subsets(path))


def read(source: DataSource) -> list[Sample]:
    """Samples with class masks, grey or with a palette.

    Without classes.txt, classes are called by their pixel value. A list that begins with the background names the value
    0 first. Pixels of a class called ignore or void, and those of value 255 beside others, are not inspected; other
    values without a name set their mask aside.
    """
    file = _names_file(source.path)
    listed = read_class_list(file) if file else ()
    samples = []
    for split, images, masks in _subsets(source.path):
        tree = MaskTree(masks)
        for image in list_images(images, deep=True):
            found = tree.find(image, image.parent.relative_to(images))
            if "shapes" in found:
                warn_skipped(f"{image}: several class masks in a folder of its name cannot be joined", image)
                found = {}
            samples.append(Sample(image, split=split or split_step(image, images)[0], **found))
        tree.warn_unmatched(images)
    names = listed or tuple(map(str, range(1, max((_largest_value(s.mask) for s in samples if s.mask), default=0) + 1)))
    return [s if s.mask is None else replace(s, mask_classes=names) for s in samples]


def read_class_list(file: Path) -> tuple[str, ...]:
    """Names of the pixel values 1, 2, …; DataError where the file does not say which value its first line names.

    A list may begin with the background, which is value 0, and before that with what LabelMe saves as 255.
    """
    names = [line.strip() for _, line in read_lines(file)]
    if len(names) > 1 and is_ignore_name(names[0]) and is_background_name(names[1]):
        names = names[1:]
    if names and (is_ignore_name(names[0]) or is_good_name(names[0])):
        raise DataError(f"{file} begins with {names[0]!r}; begin it with the background, or with the class of value 1")
    return tuple(names[1:] if names and is_background_name(names[0]) else names)


def _largest_value(mask: Path) -> int:
    try:
        values = np.unique(read_label_map(mask))
    except ImageError:  # set aside, with the reason, where labels are resolved
        return 0
    return int(max((v for v in values if v != VOID), default=0))


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write masks of all classes; where classes overlap, the later one wins. Returns a line for each loss."""
    classes = dataset.defect_classes
    if len(classes) > MAX_CLASSES:
        raise DataError(f"a mask of bytes holds {MAX_CLASSES} classes; there are {len(classes)}")
    overlaps = 0

    def write_sample(sample: Sample, stem: str, subset: Path, layers: Mask) -> list[str]:
        nonlocal overlaps
        values = np.zeros(layers.shape[1:], np.uint8)
        for value, layer in enumerate(layers, 1):
            values[layer] = value
        overlaps += bool((layers.sum(axis=0) > 1).any())
        copy_image(sample.image, out / subset / "images" / image_name(sample, stem))
        write_image(out / subset / "masks" / f"{stem}.png", values)
        return [classes[v - 1] for v in np.unique(values).tolist() if v]

    lost = write_masked(dataset, out, write_sample, True, "defects of one class that touch become one")
    write_atomic(out / "classes.txt", "".join(f"{name}\n" for name in classes))
    if overlaps:
        lost.append(f"classes overlap in {overlaps} images: the later one wins")
    return lost


def _names_file(path: Path) -> Path | None:
    return first_existing([path / "classes.txt", path / "labels.txt"])


def _subsets(path: Path) -> Iterator[tuple[str | None, Path, Path]]:
    """(split, folder of images, folder of masks)."""
    for split, subset in list_subsets(path):
        images, masks = find_folder(subset, ("images",)), find_folder(subset, _MASKS)
        if images and masks and list_images(masks, deep=True):
            yield split, images, masks


FORMAT = Format(
    "images/*.png with masks/*.png whose pixel value k is line k of classes.txt (0 is good), split folders above",
    looks_like, read, write, convention=Convention("mask"),
    refused="pixel values without a name, masks in colours or of no image",
)  # fmt: skip
