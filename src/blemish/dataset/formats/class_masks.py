"""Images with masks of several classes: pixel value k is the class of line k of classes.txt, 0 is good."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.annotations import read_lines, warn_skipped
from blemish.dataset.export import copy_image, image_name, write_masked
from blemish.dataset.formats.base import DataSource, Format
from blemish.dataset.ground_truth import derive_label, read_label_map
from blemish.dataset.image_files import (
    MaskTree,
    first_existing,
    has_images,
    list_images,
    list_subsets,
    normalize_label,
)
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.files import write_atomic
from blemish.imaging.read import write_image

MAX_CLASSES = 255
_MASKS = ("masks", "labels", "annotations")


def looks_like(path: Path) -> bool:
    return path.is_dir() and _names_file(path) is not None and any(True for _ in _subsets(path))


def read(source: DataSource) -> list[Sample]:
    """Samples with class masks, grey or with a palette; the label is that of the mask's only class, or good.

    Without classes.txt, classes are called by their pixel value. An image without a mask has no annotation. Pixel
    values without a name count as good where others have one, and are named in a warning; an image with nothing else
    has no annotation.
    """
    file = _names_file(source.path)
    listed = tuple(normalize_label(line) for _, line in read_lines(file)) if file else ()
    samples = []
    for split, images, masks in _subsets(source.path):
        tree = MaskTree(masks)
        for image in list_images(images, deep=True):
            mask = tree.find(image.stem, image.parent.relative_to(images))
            if mask is None:
                samples.append(Sample(image, split=split))
                continue
            values = np.unique(read_label_map(mask))
            values = values[values > 0].tolist()
            names = listed or tuple(str(v) for v in range(1, max(values, default=0) + 1))
            unknown = [str(v) for v in values if v > len(names)]
            if unknown:
                warn_skipped(f"{mask}: pixel values without a name: {', '.join(unknown[:5])}", image)
            label = derive_label(names[v - 1] for v in values if v <= len(names))
            samples.append(Sample(image, label=label, split=split, mask=mask, mask_classes=names))
        tree.warn_unmatched(images)
    if not listed:
        longest = max((s.mask_classes or () for s in samples), key=len, default=())
        samples = [s if s.mask is None else replace(s, mask_classes=longest) for s in samples]
    return samples


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
        masks = next((subset / name for name in _MASKS if has_images(subset / name)), None)
        if masks and (subset / "images").is_dir():
            yield split, subset / "images", masks


FORMAT = Format(
    "images/*.png with masks/*.png whose pixel value k is line k of classes.txt (0 is good), split folders above",
    looks_like, read, write,
)  # fmt: skip
