"""Listing image files and masks, and the names that people give to folders."""

import re
from collections.abc import Iterable
from pathlib import Path

from blemish.dataset.annotations import warn_skipped
from blemish.dataset.sample import DEFECT, GOOD
from blemish.errors import DataError, ImageError
from blemish.imaging.read import IMAGE_SUFFIXES, read_mask

GOOD_NAMES = {
    "good", "ok", "normal", "pass", "flawless", "intact", "defect-free", "defectfree", "no-defect", "nodefect",
    "non-defective",
}  # fmt: skip
DEFECT_NAMES = {
    "defect", "defects", "defective", "bad", "ng", "nok", "abnormal", "anomaly", "anomalous", "anomalies", "fail",
    "faulty",
}  # fmt: skip
IMAGE_FOLDER_NAMES = ("images", "imgs", "image", "img")
MASK_NAMES = (
    "annotation", "annotations", "ground_truth", "groundtruth", "gt", "label", "labels", "mask", "masks",
)  # fmt: skip
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_MASK_TAIL = re.compile(r"_(mask|gt|label)$", re.IGNORECASE)
WHOLE_SET_MASKS = ("roi", "ignore")  # files of these names beside the images hold for all of them


def list_images(folder: Path, deep: bool = False) -> list[Path]:
    """Image files of a folder by their suffix, sorted, without hidden ones and the set's own ROI and ignore masks."""
    found = folder.rglob("*") if deep else folder.iterdir() if folder.is_dir() else ()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(step.startswith(".") for step in path.relative_to(folder).parts)
        and path.stem.lower() not in WHOLE_SET_MASKS
    )


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


def is_good_name(name: str) -> bool:
    return re.sub(r"[\s_]+", "-", name.strip().casefold()) in GOOD_NAMES


def is_defect_name(name: str) -> bool:
    return name.strip().casefold() in DEFECT_NAMES


def normalize_label(name: str) -> str:
    """Class name as it is, but GOOD for every usual word for it."""
    return GOOD if is_good_name(name) else name.strip()


def file_exists(path: Path) -> bool:
    """Whether there is such a file; False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def first_existing(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if file_exists(path)), None)


def list_masks(folder: Path) -> dict[str, Path]:
    """Masks of a folder by the stem of their image: the same name, or with _mask, _gt or _label after it."""
    files = list_images(folder)
    return {_MASK_TAIL.sub("", path.stem): path for path in files} | {path.stem: path for path in files}


def warn_unmatched_masks(masks: dict[str, Path], images: Iterable[Path]) -> None:
    """Warn of masks, as `list_masks` gives them, that belong to none of the images."""
    matched = {masks[image.stem] for image in images if image.stem in masks}
    for mask in sorted(set(masks.values()) - matched):
        warn_skipped(f"{mask}: its image does not exist")


class MaskTree:
    """The masks in a folder and all folders below it."""

    def __init__(self, root: Path | None) -> None:
        folders = [root, *root.rglob("*")] if root else []
        self._masks = {folder.relative_to(root): list_masks(folder) for folder in folders if root and folder.is_dir()}

    def find(self, stem: str, *folders: Path) -> Path | None:
        """The mask of an image in the first of these folders, relative to the root, that has one."""
        found = (self._masks.get(folder, {}).get(stem) for folder in folders)
        return next(filter(None, found), None)

    def warn_unmatched(self, images: Path | list[Path]) -> None:
        """Warn of masks without an image in the same folder below `images`, or among these images."""
        for folder, masks in self._masks.items():
            warn_unmatched_masks(masks, list_images(images / folder) if isinstance(images, Path) else images)


def label_from_mask(mask: Path) -> str:
    """DEFECT where a mask has pixels, else GOOD; DataError for one that cannot be read."""
    try:
        return DEFECT if read_mask(mask).any() else GOOD
    except ImageError as error:
        raise DataError(f"the label follows from the mask, but: {error}") from error
