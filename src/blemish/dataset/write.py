"""Writing a dataset: as a CSV that reads back, in another layout, or as a hash."""

import hashlib
from pathlib import Path

from blemish.dataset.formats import csv_manifest
from blemish.dataset.read import FORMATS
from blemish.dataset.sample import Dataset
from blemish.errors import DataError


def write_csv(dataset: Dataset, path: str | Path, relative: bool = False) -> None:
    """Write the dataset as a CSV that `read_dataset` reads back, boxes and outlines included.

    Paths are absolute, or relative to the dataset's root where they are below it: then read with `root=dataset.root`.
    """
    csv_manifest.write(dataset, Path(path), relative)


def convert(dataset: Dataset, format: str, out: str | Path) -> list[str]:
    """Write the dataset in another layout (files are copied); returns what that layout could not keep, a line each.

    A CSV lists the files where they are, by absolute paths.
    """
    known = FORMATS.get(format)
    if known is None or known.write is None:
        able = ", ".join(name for name, f in FORMATS.items() if f.write is not None)
        raise DataError(f"cannot write the layout {format!r}; take one of: {able}")
    if format == "csv":
        target = Path(out)
        if target.suffix.lower() != ".csv":
            raise DataError(f"{target} is to be a CSV file; give a name that ends in .csv")
        if target.exists():
            raise DataError(f"{target} already exists; give another name")
        return csv_manifest.write(dataset, target)
    return known.write(dataset, Path(out))


def write_whole(path: Path, text: str) -> None:
    """Writes a text file at once: whoever reads meanwhile finds the old one or the new one, never a half."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def sha256_of(dataset: Dataset) -> str:
    """Hash of the list of files, whatever their order: relative path, size in bytes, label, split, boxes and shapes."""
    lines = sorted(
        f"{_relative(s.image, dataset.root)}\t{s.image.stat().st_size}"
        f"\t{s.label or '|'.join(s.labels or ())}\t{s.split or ''}"
        + (f"\t{s.boxes or ()}\t{s.shapes or ()}" if s.boxes or s.shapes else "")
        for s in dataset.samples
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _relative(path: Path, root: Path) -> str:
    path, root = path.absolute(), root.absolute()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
