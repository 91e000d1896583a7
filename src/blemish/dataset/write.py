"""Write a dataset: as a CSV that reads back, in another layout, or as a hash."""

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
    layout = FORMATS.get(format)
    if layout is None or layout.write is None:
        writable = ", ".join(name for name, f in FORMATS.items() if f.write is not None)
        raise DataError(f"cannot write the layout {format!r}; take one of: {writable}")
    return layout.write(dataset, Path(out))


def dataset_sha256(dataset: Dataset) -> str:
    """Hash of the list of files, whatever their order: relative path, size in bytes, label, split, boxes and shapes."""
    root = dataset.root.absolute()
    lines = []
    for s in dataset.samples:
        path = s.image.absolute()
        name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        line = f"{name}\t{s.image.stat().st_size}\t{s.label or '|'.join(s.labels or ())}\t{s.split or ''}"
        lines.append(line + (f"\t{s.boxes or ()}\t{s.shapes or ()}" if s.boxes or s.shapes else ""))
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()
