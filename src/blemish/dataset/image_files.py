"""What the formats share: listing image files, and the names that people give to folders."""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sized
from pathlib import Path

from blemish.dataset.ground_truth import has_mask, mask_of
from blemish.dataset.sample import DEFECT, GOOD, Sample
from blemish.errors import DataError
from blemish.imaging.read import IMAGE_SUFFIXES, image_header, read_mask, write_image

GOOD_NAMES = {
    "good", "ok", "normal", "pass", "flawless", "intact", "defect-free", "defectfree", "no-defect", "nodefect",
    "non-defective",
}  # fmt: skip
DEFECT_NAMES = {
    "defect", "defects", "defective", "bad", "ng", "nok", "abnormal", "anomaly", "anomalous", "anomalies", "fail",
    "faulty",
}  # fmt: skip
MASK_NAMES = {
    "mask", "masks", "ground_truth", "groundtruth", "gt", "label", "labels", "annotation", "annotations",
}  # fmt: skip
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_MASK_TAIL = re.compile(r"_(mask|gt|label)$", re.IGNORECASE)
WHOLE_SET_MASKS = ("roi", "ignore")  # files of these names beside the images hold for all of them


def images_in(folder: Path, deep: bool = False) -> list[Path]:
    """Image files of a folder by their suffix, sorted; hidden ones and the set's own ROI and ignore masks left out."""
    found = folder.rglob("*") if deep else folder.iterdir() if folder.is_dir() else ()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.stem.lower() not in WHOLE_SET_MASKS
    )


def folders_in(folder: Path) -> list[Path]:
    """Sub-folders, sorted, hidden ones left out."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def has_images(folder: Path) -> bool:
    """Whether there is an image right in the folder; looks no further than the first."""
    return folder.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." for p in folder.iterdir())


def split_folders(path: Path) -> dict[str, list[Path]]:
    """Sub-folders that are named like splits, by split."""
    found: dict[str, list[Path]] = {}
    for folder in folders_in(path):
        if folder.name.lower() in SPLIT_NAMES:
            found.setdefault(SPLIT_NAMES[folder.name.lower()], []).append(folder)
    return found


def parts_by_split(path: Path) -> list[tuple[str | None, Path]]:
    """(split, folder) for each split's folder, or (None, path) where the data are not split."""
    split = split_folders(path)
    return [(name, folder) for name, folders in split.items() for folder in folders] or [(None, path)]


def is_good_name(name: str) -> bool:
    return re.sub(r"[\s_]+", "-", name.strip().casefold()) in GOOD_NAMES


def is_defect_name(name: str) -> bool:
    return name.strip().casefold() in DEFECT_NAMES


def class_label(name: str) -> str:
    """Class name as it is, but GOOD for every usual word for it."""
    return GOOD if is_good_name(name) else name.strip()


def is_file(path: Path) -> bool:
    """Whether there is such a file; not one of a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def first_existing(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if is_file(path)), None)


def masks_in(folder: Path) -> dict[str, Path]:
    """Masks of a folder by the stem of their image: the same name, or with _mask, _gt or _label after it."""
    files = images_in(folder)
    return {_MASK_TAIL.sub("", path.stem): path for path in files} | {path.stem: path for path in files}


def new_folder(out: Path, written: Sized, truth: str = "a file") -> Path:
    """The folder, made; DataError where there already is something in it, or no image with the `truth` to write."""
    if not written:
        raise DataError(f"none of the images has {truth}, and the layout holds no others; take another layout")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} already exists and is not an empty folder; give another place to write to")
    out.mkdir(parents=True, exist_ok=True)
    return out


def unique_stems(samples: Iterable[Sample]) -> list[str]:
    """A file stem for every sample: its own where no other has it, otherwise with a number before it."""
    stems = [s.image.stem for s in samples]
    often = Counter(stem.casefold() for stem in stems)
    return [f"{i:06d}_{stem}" if often[stem.casefold()] > 1 else stem for i, stem in enumerate(stems)]


def copy_image(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def copy_mask(sample: Sample, target: Path) -> None:
    """The defect pixels, where a mask or outlines tell them, as a PNG of 0 and 255."""
    if sample.mask is not None and sample.mask_classes is None:
        write_image(target, read_mask(sample.mask))
    elif sample.mask is not None or (sample.shapes and has_mask(sample)):
        header = image_header(sample.image)
        write_image(target, mask_of(sample, (header.height, header.width)))


def label_or_kind(sample: Sample) -> str | None:
    """The label, or "defect" and GOOD where only boxes or a mask tell; None where nothing does."""
    if sample.label is not None or sample.defective is None:
        return sample.label
    return DEFECT if sample.defective else GOOD


def losses(samples: Iterable[Sample], kept: Iterable[str]) -> list[str]:
    """One line for each kind of knowledge in the samples that is not in `kept`."""
    samples, kept = list(samples), set(kept)
    lines = []
    outlined = sum(bool(s.shapes) for s in samples)
    if outlined and "shapes" not in kept:
        masks = "are kept as one mask each" if "mask" in kept else "are not kept"
        lines.append(f"outlines of {outlined} images {masks}")
    layered = sum(s.mask_classes is not None for s in samples)
    if layered and "mask" in kept and "shapes" not in kept:
        lines.append(f"classes in the masks of {layered} images are not kept")
    for kind in (
        "label", "labels", "split", "mask", "boxes", "template", "roi", "ignore", "group", "product", "sources",
    ):  # fmt: skip
        count = sum(getattr(s, kind) is not None for s in samples)
        if count and kind not in kept:
            lines.append(f"{kind} of {count} images is not kept")
    return lines


def keep_labelled(samples: Iterable[Sample]) -> tuple[list[tuple[Sample, str]], list[str]]:
    """Samples with their label, and a line about those that have none and so are left out."""
    samples = list(samples)
    pairs = [(s, label) for s in samples if (label := label_or_kind(s)) is not None]
    left = len(samples) - len(pairs)
    lines = [f"{left} images without a label are left out"] if left else []
    several = sum(s.label is None and bool(s.boxes or s.shapes or s.mask_classes) for s, _ in pairs)
    if several:
        lines.append(f"{several} images with defects of several classes are labelled {DEFECT}")
    return pairs, lines
