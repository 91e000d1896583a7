"""VisA: split_csv/1cls.csv of object, split, label, image and mask; masks of class numbers; image_anno.csv of names."""

from pathlib import Path

import numpy as np

from blemish.dataset.annotations import first_line, read_csv, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.ground_truth import read_label_map
from blemish.dataset.image_files import SPLIT_NAMES, file_exists, list_folders
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import DEFECT, GOOD, Sample
from blemish.errors import DataError, ImageError

_LIST = Path("split_csv") / "1cls.csv"
_COLUMNS = {"object", "split", "label", "image", "mask"}
_LABELS = {"normal": GOOD, "anomaly": DEFECT}
_MAX_CLASS = 50  # a mask of larger values is one of two values


def looks_like(path: Path) -> bool:
    file = path / _LIST
    return file.is_file() and set(first_line(file).strip().lower().split(",")) >= _COLUMNS


def read(source: DataSource) -> list[Sample]:
    """Samples with the label of the split file; its defect class where image_anno.csv names it.

    The pixel values of a mask are numbers of defect classes, whose names the set does not list: all are defects. Set
    aside with a warning: rows with another label or split, and masks that are missing.
    """
    file = source.path / _LIST
    names = _read_names(source.path)
    samples = []
    for line, row in read_csv(file)[1]:
        if not row.get("image"):
            warn_skipped(f"{file}, line {line}: it names no image")
            continue
        image = source.path / row["image"]
        label, split = _LABELS.get(row.get("label", "")), SPLIT_NAMES.get(row.get("split", ""))
        if label is None or split is None:
            warn_skipped(f"{file}, line {line}: label {row.get('label')!r} or split {row.get('split')!r}", image)
            samples.append(Sample(image, split=split))
            continue
        mask = source.path / row["mask"] if row.get("mask") else None
        if label == DEFECT and (mask is None or not file_exists(mask)):
            warn_skipped(f"{file}, line {line}: mask {row.get('mask') or '(none)'} of {image} does not exist", image)
            mask = None
        kinds = names.get(row["image"], ())
        if (kinds == (GOOD,)) != (label == GOOD) and kinds:
            warn_skipped(f"{image}: {label} in {file}, but {', '.join(kinds)} in its image_anno.csv", image)
            samples.append(Sample(image, split=split))
            continue
        several = kinds if len(kinds) > 1 else None
        samples.append(
            Sample(
                image,
                label=None if several else (kinds or (label,))[0],
                labels=several,
                split=split,
                mask=mask,
                mask_classes=_classes(mask) if mask else None,
                product=row.get("object") or None,
                evidence=LabelEvidence.COLUMN,
            )
        )
    return samples


def _read_names(root: Path) -> dict[str, tuple[str, ...]]:
    """Defect classes of an image, by its path, from the lists of all objects."""
    names = {}
    for folder in list_folders(root):
        file = folder / "image_anno.csv"
        for _, row in read_csv(file)[1] if file.is_file() else ():
            given = [name.strip() for name in row.get("label", "").split(",") if name.strip()]
            if row.get("image") and given:
                names[row["image"]] = tuple(dict.fromkeys(_LABELS.get(name, name) for name in given))
    return names


def _classes(mask: Path) -> tuple[str, ...] | None:
    """DEFECT for every class number of a mask; None for a mask of two values, or one that cannot be read."""
    try:
        top = int(np.max(read_label_map(mask)))
    except (DataError, ImageError):
        return None  # named when the labels are resolved
    return (DEFECT,) * top if 1 < top <= _MAX_CLASS else None


FORMAT = Format(
    "split_csv/1cls.csv of VisA, and <object>/Data/Images and Masks",
    looks_like, read, convention=Convention("row of the split file", empty_is_good=False),
    refused="rows of another label or split, labels that image_anno.csv contradicts, defects without a mask",
)  # fmt: skip
