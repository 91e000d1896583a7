"""A CSV of one row an image: image and any of label, mask, boxes, template, split, group, product, roi, ignore."""

import csv
import warnings
from dataclasses import replace
from pathlib import Path

from blemish.dataset.boxes import BOX_READERS, read_boxes
from blemish.dataset.files import SPLIT_NAMES, class_label, losses
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError

SAYS = "a .csv with the column image and any of label, mask, boxes, template, split, group, product, roi, ignore"
COLUMNS = ("image", "label", "mask", "boxes", "template", "split", "group", "product", "roi", "ignore")
_FILES = ("mask", "template", "roi", "ignore")


def looks_like(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv"):
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = file.readline(4000)
    return "image" in [name.strip().strip('"').lower() for name in line.split(_delimiter(line))]


def read(path: Path, root: Path | None = None) -> list[Sample]:
    """Samples of a CSV; relative paths are looked up in `root`, or else in the CSV's folder."""
    base = root if root is not None else path.parent
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, delimiter=_delimiter(line))
            names = {name: name.strip().lower() for name in rows.fieldnames or ()}
            if "image" not in names.values():
                raise DataError(f"{path} has no column named image; it has: {', '.join(names) or 'none'}")
            unknown = [name for name in names.values() if name not in COLUMNS]
            if unknown:
                warnings.warn(
                    f"{path}: columns not understood are passed over: {', '.join(unknown)} "
                    f"(known: {', '.join(COLUMNS)})",
                    stacklevel=2,
                )
            table = [
                (rows.line_num, {names[k]: (v or "").strip() for k, v in row.items() if k is not None}) for row in rows
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    boxes = _box_files(path, base, table)
    samples = [_sample(path, number, row, base) for number, row in table]
    samples = [replace(s, boxes=read_boxes(file)) if file else s for s, file in zip(samples, boxes, strict=True)]
    _check_once(path, samples)
    return samples


def write(dataset: Dataset, out: Path, relative: bool = False) -> list[str]:
    """Write the dataset as a CSV with absolute paths, or relative to its root; returns what is not kept."""
    root = dataset.root.absolute()

    def text(path: Path | None) -> str:
        if path is None:
            return ""
        path = path.absolute()
        return (path.relative_to(root) if relative and path.is_relative_to(root) else path).as_posix()

    kept = [
        name
        for name in COLUMNS
        if name == "image" or (name != "boxes" and any(getattr(s, name) is not None for s in dataset.samples))
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(kept)
        for s in dataset.samples:
            writer.writerow(
                text(getattr(s, name)) if name == "image" or name in _FILES else getattr(s, name) or "" for name in kept
            )
    return losses(dataset.samples, kept)


def _sample(path: Path, number: int, row: dict[str, str], base: Path) -> Sample:
    if not row["image"]:
        raise DataError(f"{path}, line {number}: the image is missing")
    split = row.get("split", "").lower()
    if split and split not in SPLIT_NAMES:
        raise DataError(f"{path}, line {number}: split {row['split']!r} is not understood; take train, val or test")
    return Sample(
        image=base / _posix(row["image"]),
        label=class_label(row["label"]) if row.get("label") else None,
        split=SPLIT_NAMES[split] if split else None,
        group=row.get("group") or None,
        product=row.get("product") or None,
        mask=_place(base, row.get("mask")),
        template=_place(base, row.get("template")),
        roi=_place(base, row.get("roi")),
        ignore=_place(base, row.get("ignore")),
    )


def _box_files(path: Path, base: Path, table: list[tuple[int, dict[str, str]]]) -> list[Path | None]:
    """Annotation files whose format is understood; a warning for the others, since labels and masks still hold."""
    files = [_place(base, row.get("boxes")) for _, row in table]
    unknown = sorted({file.suffix.lower() for file in files if file and file.suffix.lower() not in BOX_READERS})
    if unknown:
        warnings.warn(f"{path}: boxes in {', '.join(unknown)} files cannot be read and are passed over", stacklevel=3)
    return [file if file and file.suffix.lower() in BOX_READERS else None for file in files]


def _place(base: Path, text: str | None) -> Path | None:
    return base / _posix(text) if text else None  # an absolute path stays itself


def _posix(text: str) -> str:
    return text.replace("\\", "/")


def _check_once(path: Path, samples: list[Sample]) -> None:
    seen: set[Path] = set()
    for s in samples:
        if s.image in seen:
            raise DataError(f"{path} lists {s.image} twice; one row an image")
        seen.add(s.image)


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)
