"""Listing image files and masks, and the names that people give to folders."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.annotations import file_key, fold_name, warn_skipped
from blemish.dataset.ground_truth import read_label_map
from blemish.dataset.sample import DEFECT
from blemish.errors import DataError, ImageError
from blemish.geometry import encode_mask
from blemish.imaging.read import IMAGE_SUFFIXES, check_mask_size, image_header, read_mask, turn_like_image

IMAGE_FOLDER_NAMES = ("images", "imgs", "image", "img")
MASK_NAMES = (
    "annotation", "annotations", "ground_truth", "groundtruth", "gt", "label", "labels", "mask", "masks",
)  # fmt: skip
SPLIT_NAMES = {
    "train": "train", "training": "train", "tuning": "tuning",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_MASK_TAIL = re.compile(r"_(mask|gt|label)$", re.IGNORECASE)
WHOLE_SET_MASKS = ("roi", "ignore")  # files of these names beside the images hold for all of them


def list_images(folder: Path, deep: bool = False) -> list[Path]:
    """Image files of a folder by their suffix, sorted, without hidden ones and the set's own ROI and ignore masks."""
    files = list_files(folder, IMAGE_SUFFIXES, deep)
    return [path for path in files if path.stem.lower() not in WHOLE_SET_MASKS]


def list_files(folder: Path, suffixes: Collection[str] = (), deep: bool = False) -> list[Path]:
    """Files of a folder with one of these suffixes in whatever case (all, where none is given), sorted; no hidden ones.

    `deep` looks into folders below, links to folders elsewhere included.
    """
    places = walk_folders(folder) if deep else [folder] if folder.is_dir() else []
    return sorted(
        path
        for place in places
        for path in place.iterdir()
        if not path.name.startswith(".") and (not suffixes or path.suffix.lower() in suffixes) and not path.is_dir()
    )


def walk_folders(folder: Path) -> Iterator[Path]:
    """A folder and all below it, without hidden ones. Links are followed, but not to a folder that holds them."""
    if folder.is_dir():
        yield from _walk(folder, frozenset())


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    own = os.path.realpath(folder)
    if own in above:
        return
    yield folder
    for child in list_folders(folder):
        yield from _walk(child, above | {own})


def list_folders(folder: Path) -> list[Path]:
    """Sub-folders, sorted, without hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def find_folder(parent: Path, names: Iterable[str]) -> Path | None:
    """The sub-folder with the first of these names that there is, in whatever case."""
    by_name = {folder.name.lower(): folder for folder in list_folders(parent)}
    return next((by_name[name] for name in names if name in by_name), None)


def has_images(folder: Path) -> bool:
    """Whether an image is in the folder itself; stops at the first one."""
    return folder.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." for p in folder.iterdir())


def list_subsets(path: Path) -> list[tuple[str | None, Path]]:
    """(split, folder) for each sub-folder named like a split, or (None, path) where the data are not split."""
    named = [(SPLIT_NAMES.get(folder.name.lower()), folder) for folder in list_folders(path)]
    subsets: list[tuple[str | None, Path]] = [(split, folder) for split, folder in named if split]
    order = list(dict.fromkeys(split for split, _ in subsets))
    return sorted(subsets, key=lambda subset: order.index(subset[0])) or [(None, path)]


def split_step(image: Path, folder: Path) -> tuple[str | None, Path]:
    """The split that the first step from the folder to an image names, if any, and the folders after it."""
    below = image.parent.relative_to(folder)
    split = SPLIT_NAMES.get(below.parts[0].lower()) if below.parts else None
    return (split, Path(*below.parts[1:])) if split else (None, below)


def mask_stem(stem: str) -> str:
    """A stem without the ending that marks it as a mask's; without one, the stem."""
    return _MASK_TAIL.sub("", stem)


def file_exists(path: Path) -> bool:
    """Whether there is such a file; False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def path_tails(text: str) -> Iterator[Path]:
    """A path as it is recorded, in whatever system's way, and without its first folders, one after the other.

    Lists of files often begin with folders of the computer where they were written.
    """
    steps = PurePosixPath(text.strip().replace("\\", "/")).parts
    yield Path(*steps)
    relative = [step for step in steps if step not in ("/", "..") and not re.fullmatch("[A-Za-z]:", step)]
    for start in range(len(relative)):
        yield Path(*relative[start:])


def find_recorded(text: str, bases: Sequence[Path]) -> Path | None:
    """The file of a recorded path below one of these folders: the one that agrees with the most of its folders.

    DataError where several agree as well, so that it is not known which one is meant.
    """
    for tail in path_tails(text):
        found = list(dict.fromkeys(base / tail for base in bases if file_exists(base / tail)))
        if len({path.resolve() for path in found}) > 1:
            raise DataError(f"{text} may be any of: {', '.join(map(str, found))}")
        if found:
            return found[0]
    return None


def first_existing(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if file_exists(path)), None)


class MaskTree:
    """The masks in a folder and all folders below it, and which of them have been found to be an image's.

    `names` are those of the pixel values, where the set gives any; otherwise a mask has two values.
    """

    def __init__(self, root: Path | None, names: Mapping[int, str] | None = None) -> None:
        self._names = names or {}
        self._files: defaultdict[str, list[Path]] = defaultdict(list)
        self._tailed: defaultdict[str, list[Path]] = defaultdict(list)
        self._below: defaultdict[str, list[Path]] = defaultdict(list)
        for key, file in ((file_key(f, root), f) for f in list_images(root, deep=True)) if root else ():
            self._files[key].append(file)
            self._tailed[mask_stem(key)].append(file)
            self._below[Path(key).parent.as_posix()].append(file)
        self._used: defaultdict[Path, list[Path]] = defaultdict(list)  # mask -> its images
        self._folded = [_fold(table) for table in (self._files, self._tailed, self._below)]

    def find(self, image: Path, *folders: Path) -> dict[str, Any]:
        """`mask` of an image, in the first of these folders below the root that has one; or `shapes`, where a folder
        of the image's name holds several masks, or pixel values have names. Nothing where there is none; an ambiguous
        one is set aside.

        Masks have the image's name, with or without its suffix, or with _mask, _gt or _label after it.
        """
        keys = [(folder / image.stem).as_posix() for folder in folders]
        whole = [(folder / image.name).as_posix() for folder in folders]
        for files, tailed, below in ((self._files, self._tailed, self._below), self._folded):
            fold = str if files is self._files else fold_name
            for key, name in zip(map(fold, keys), map(fold, whole), strict=True):
                for table in (files, tailed):
                    found = table.get(name) or table.get(key) or []
                    for mask in found:
                        self._used[mask].append(image)
                    if len(found) > 1:  # of several suffixes: that of the image, if any
                        found = [file for file in found if file.suffix == image.suffix] or found
                    if len(found) > 1:
                        names = ", ".join(map(str, found))
                        warn_skipped(f"{names}: several masks have the name of {image}", image)
                        return {}
                    if found:
                        return _join_masks(found, image, self._names)
                if key in below:
                    for mask in below[key]:
                        self._used[mask].append(image)
                    return _join_masks(below[key], image, self._names)
        return {}

    def warn_unmatched(self, images: Path) -> None:
        """Set aside the masks of no image below the folder `images`, and those of images in several folders."""
        for mask in sorted({file for files in self._files.values() for file in files}):
            owners = self._used.get(mask, [])
            if not owners:
                warn_skipped(f"{mask}: its image does not exist", folder=images)
            if len({image.parent for image in owners}) > 1:
                for image in owners:
                    warn_skipped(f"{mask}: images in several folders have its name, such as {image}", image)


def _fold(table: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    folded: defaultdict[str, list[Path]] = defaultdict(list)
    for key, files in table.items():
        folded[fold_name(key)] += files
    return dict(folded)


def _join_masks(masks: Sequence[Path], image: Path, names: Mapping[int, str]) -> dict[str, Any]:
    """Several masks of one image, or one whose pixel values have names, as run lengths of one mask each."""
    try:
        if len(masks) == 1 and not names:
            return {"mask": masks[0]}
        size = image_header(image).size
        pixels = [layer for mask in masks for layer in _read_layers(mask, size, image, names)]
        return {"shapes": tuple(encode_mask(mask, name, many=True) for name, mask in pixels if mask.any())}
    except ImageError as error:
        warn_skipped(str(error), image)
        return {}


def _read_layers(
    mask: Path, size: tuple[int, int], image: Path, names: Mapping[int, str]
) -> Iterator[tuple[str, Mask]]:
    """(class, its pixels) of a mask; ImageError for a pixel value that is not among the names, if there are any."""
    if not names:
        yield DEFECT, read_mask(mask, size, image)
        return
    values = turn_like_image(read_label_map(mask), size, image, mask)
    check_mask_size(mask, values.shape, size)
    for value in np.unique(values[values != 0]).tolist():
        if value not in names:
            raise ImageError(f"{mask}: pixel value without a name: {value}")
        yield names[value], values == value
