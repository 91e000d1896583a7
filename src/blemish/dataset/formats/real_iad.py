"""Real-IAD: realiad_<size>/<object> of images in several views, and realiad_jsons of splits, classes and masks."""

from pathlib import Path
from typing import Any

from blemish.dataset.annotations import read_json, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import SPLIT_NAMES, file_exists, list_folders
from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import GOOD, Sample
from blemish.errors import DataError

_LISTS = "realiad_jsons"
_CLASSES = {
    "AK": "pit", "BX": "deformation", "CH": "abrasion", "HS": "scratch", "PS": "damage", "QS": "missing_parts",
    "YW": "foreign_objects", "ZW": "contamination",
}  # fmt: skip


def looks_like(path: Path) -> bool:
    return (path / _LISTS).is_dir() and any(_image_folders(path)) and bool(_lists(path, _LISTS))


def read(source: DataSource) -> list[Sample]:
    """Samples of all objects; the views of a sample are one group. "real-iad:realiad_jsons_sv" takes other splits.

    Set aside with a warning: entries of a class that the paper does not know, of a file that is missing or given
    twice, and defects whose mask is missing.
    """
    lists = _lists(source.path, source.option or _LISTS)
    if not lists:
        raise DataError(f"{source.path / _LISTS} holds no folder {source.option or _LISTS} of .json files")
    folders = [folder for folder in _image_folders(source.path) if folder.is_dir()]
    samples: dict[Path, Sample] = {}
    for file in lists:
        content = read_json(file)
        try:
            meta = content["meta"]
            prefix, good = str(meta.get("prefix") or file.stem), str(meta.get("normal_class") or "OK")
            rows = [(name, row) for name in ("train", "val", "test") for row in content.get(name) or ()]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file} is no list of Real-IAD: it lacks {error}") from error
        base = next((folder / prefix for folder in folders if (folder / prefix).is_dir()), None)
        if base is None:
            warn_skipped(f"{file}: images of {prefix} do not exist")
            continue
        for split, row in rows:
            sample = _read_row(row, split, base, good, file)
            if sample is not None and sample.image in samples:
                warn_skipped(f"{file}: {sample.image} is listed twice", sample.image)
            elif sample is not None:
                samples[sample.image] = sample
    return list(samples.values())


def _image_folders(path: Path) -> list[Path]:
    return [folder for folder in list_folders(path) if folder.name.startswith("realiad_") and folder.name[8:].isdigit()]


def _lists(path: Path, name: str) -> list[Path]:
    """The .json files of objects in realiad_jsons/<name>, or in realiad_jsons itself."""
    for folder in (path / _LISTS / name, *((path / _LISTS,) if name == _LISTS else ())):
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        if files:
            return files
    return []


def _read_row(row: Any, split: str, base: Path, good: str, file: Path) -> Sample | None:
    try:
        image, kind = base / str(row["image_path"]), str(row["anomaly_class"])
        mask = base / str(row["mask_path"]) if row.get("mask_path") else None
    except (KeyError, TypeError, AttributeError) as error:
        warn_skipped(f"{file}: an entry of {split} lacks {error}", folder=base)
        return None
    if not file_exists(image):
        warn_skipped(f"{file}: image {image} does not exist")
        return None
    group = f"{base.name}/{image.parent.relative_to(base).as_posix()}"
    common: dict[str, Any] = {"split": SPLIT_NAMES[split], "product": base.name, "group": group}
    label = GOOD if kind == good else _CLASSES.get(kind)
    if label is None:
        warn_skipped(f"{file}: {image.name} is of class {kind}, which is none of the set's", image)
        return Sample(image, **common)
    if label != GOOD and (mask is None or not file_exists(mask)):
        warn_skipped(f"{file}: mask {mask or '(none)'} of {image.name} does not exist", image)
        mask = None
    return Sample(image, label=label, mask=mask, evidence=LabelEvidence.ANNOTATION, **common)


FORMAT = Format(
    "realiad_<size>/<object> of Real-IAD, and realiad_jsons/ of splits",
    looks_like, read, has_option=True, convention=Convention("entry of the split file", empty_is_good=False),
    refused="entries of an unknown class or listed twice, defects without a mask",
)  # fmt: skip
