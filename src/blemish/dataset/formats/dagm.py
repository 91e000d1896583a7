"""DAGM 2007: Class<n>/{Train,Test} of images, with Label/Labels.txt and masks Label/<stem>_label.PNG."""

import re
from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import read_lines, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import file_exists, find_folder, index_masks, list_folders, list_images, list_subsets
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import DEFECT, GOOD, Sample

_CLASS = re.compile(r"^class\d+$", re.IGNORECASE)
_TAIL = "_label"


def looks_like(path: Path) -> bool:
    return _is_class(path) or bool(_classes(path))


def read(source: DataSource) -> list[Sample]:
    """Samples with the label that Labels.txt states, and a rough mask, an ellipse, for each defect.

    Set aside with a warning: lines that are not understood, images that Labels.txt does not list, defects without a
    mask, and masks without an image.
    """
    if _is_class(source.path):
        return _read_class(source.path)
    return [replace(s, product=folder.name) for folder in _classes(source.path) for s in _read_class(folder)]


def _classes(path: Path) -> list[Path]:
    return [folder for folder in list_folders(path) if _CLASS.match(folder.name) and _is_class(folder)]


def _is_class(path: Path) -> bool:
    return any(split and _masks_folder(subset) for split, subset in list_subsets(path))


def _masks_folder(subset: Path) -> Path | None:
    folder = find_folder(subset, ["label"])
    return (
        folder if folder and (_list_file(folder) or any(f.stem.endswith(_TAIL) for f in list_images(folder))) else None
    )


def _list_file(folder: Path) -> Path | None:
    return next((file for file in sorted(folder.glob("*.txt")) if file.name.lower() == "labels.txt"), None)


def _read_class(path: Path) -> list[Sample]:
    samples = []
    for split, subset in list_subsets(path):
        folder = _masks_folder(subset) if split else None
        file = _list_file(folder) if folder else None
        images = list_images(subset)
        stated = _read_list(file, subset) if file else {}
        masks = index_masks((mask.stem.removesuffix(_TAIL), mask) for mask in list_images(folder)) if folder else {}
        for image in images:
            defective = stated.get(image.stem)
            mask = masks.pop(image.stem, None)
            if defective is None:
                warn_skipped(f"{image} is not in {file or subset / 'Label' / 'Labels.txt'}", image)
            elif defective and mask is None:
                warn_skipped(f"{image}: its mask {image.stem}{_TAIL}.PNG does not exist", image)
            label = None if defective is None else DEFECT if defective else GOOD
            evidence = None if label is None else LabelEvidence.COLUMN
            samples.append(Sample(image, label=label, split=split, mask=mask, evidence=evidence))
        for mask in masks.values():
            warn_skipped(f"{mask}: its image does not exist", folder=subset)
    return samples


def _read_list(file: Path, images: Path) -> dict[str, bool]:
    """Whether an image is defective, by its stem, from lines of number, 0 or 1, image, 0 or 1, mask or 0."""
    stated: dict[str, bool] = {}
    for at, line in read_lines(file):
        words = line.split()
        if at == 1 and len(words) < 3:
            continue  # the number of lines or of the class stands first in some
        name = words[2] if len(words) > 2 else ""
        image = images / name
        stem = Path(name).stem
        if len(words) < 3 or words[1] not in ("0", "1") or (len(words) > 3 and words[3] != words[1]):
            warn_skipped(f"{file}, line {at}: it is not understood", image if name else None, None if name else images)
            stated.pop(stem, None)
        elif not file_exists(image):
            warn_skipped(f"{file}, line {at}: image {name} does not exist")
        elif stated.setdefault(stem, words[1] == "1") != (words[1] == "1"):
            warn_skipped(f"{file}, line {at}: {name} is good and defective", image)
    return stated


FORMAT = Format(
    "Class<n>/Train and Test of DAGM 2007, with Label/Labels.txt and Label/<stem>_label.PNG",
    looks_like, read, convention=Convention("mask", empty_is_good=False),
    refused="images that Labels.txt does not list or lists twice, defects without a mask, masks of no image",
)  # fmt: skip
