"""DAGM 2007: Class<n>/{Train,Test} of images, with Label/Labels.txt and masks Label/<stem>_label.PNG."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from blemish.dataset.annotations import fold_name, match_files, read_lines, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import find_folder, list_files, list_folders, list_images, list_subsets
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import DEFECT, GOOD, Sample

_CLASS = re.compile(r"^class\d+$", re.IGNORECASE)
_TAIL = "_label"
_TAILED = re.compile(_TAIL + "$", re.IGNORECASE)


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
    if folder and (_list_file(folder) or any(_TAILED.search(file.stem) for file in list_images(folder))):
        return folder
    return None


def _list_file(folder: Path) -> Path | None:
    return next((file for file in list_files(folder, (".txt",)) if file.name.lower() == "labels.txt"), None)


def _read_class(path: Path) -> list[Sample]:
    samples = []
    for split, subset in list_subsets(path):
        folder = _masks_folder(subset) if split else None
        file = _list_file(folder) if folder else None
        images = list_images(subset)
        stated = _read_list(file, images, subset) if file else {}
        masks = [(_TAILED.sub("", mask.stem), mask) for mask in (list_images(folder) if folder else ())]
        for image, mask in match_files([(image.stem, image) for image in images], masks, subset):
            defective = stated.get(image)
            if defective is None:
                warn_skipped(f"{image} is not in {file or subset / 'Label' / 'Labels.txt'}", image)
            elif defective and mask is None:
                warn_skipped(f"{image}: its mask {image.stem}{_TAIL}.PNG does not exist", image)
            label = None if defective is None else DEFECT if defective else GOOD
            evidence = None if label is None else LabelEvidence.COLUMN
            samples.append(Sample(image, label=label, split=split, mask=mask, evidence=evidence))
    return samples


def _read_list(file: Path, images: list[Path], folder: Path) -> dict[Path, bool]:
    """Whether an image is defective, from lines of number, 0 or 1, image, 0 or 1, mask or 0."""
    stated: dict[Path, bool] = {}
    exact = {image.name: [image] for image in images}
    folded: defaultdict[str, list[Path]] = defaultdict(list)
    for image in images:
        folded[fold_name(image.name)].append(image)
    for at, line in read_lines(file):
        words = line.split()
        if at == 1 and len(words) < 3:
            continue  # the number of lines or of the class stands first in some
        name = words[2] if len(words) > 2 else ""
        found = exact.get(name) or folded.get(fold_name(name)) or []
        if len(words) < 3 or words[1] not in ("0", "1") or (len(words) > 3 and words[3] != words[1]):
            for own in found:
                warn_skipped(f"{file}, line {at}: it is not understood", own)
            if not found:
                warn_skipped(f"{file}, line {at}: it is not understood", folder=folder)
        elif not found:
            warn_skipped(f"{file}, line {at}: image {name} does not exist")
        elif len(found) > 1:
            for own in found:
                warn_skipped(f"{file}, line {at}: {name} may be any of: {', '.join(map(str, found))}", own)
        elif stated.setdefault(found[0], words[1] == "1") != (words[1] == "1"):
            warn_skipped(f"{file}, line {at}: {name} is good and defective", found[0])
    return stated


FORMAT = Format(
    "Class<n>/Train and Test of DAGM 2007, with Label/Labels.txt and Label/<stem>_label.PNG",
    looks_like, read, convention=Convention("mask", empty_is_good=False),
    refused="images that Labels.txt does not list or lists twice, defects without a mask, masks of no image",
)  # fmt: skip
