"""Write a dataset: as a CSV that reads back, in another layout, or as a hash."""

import hashlib
from dataclasses import fields
from pathlib import Path

from blemish.dataset.contents import content_hashes
from blemish.dataset.formats import csv_manifest
from blemish.dataset.read import FORMATS
from blemish.dataset.sample import Dataset, Sample
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
    """Hash of the samples, whatever their order: all that is known of them, and their files by name and content.

    Names are relative to the dataset's root where they are below it.
    """
    root = dataset.root.absolute()
    names = [field.name for field in fields(Sample) if field.compare]
    rows = [[getattr(sample, name) for name in names] for sample in dataset.samples]
    hashes = content_hashes(value for row in rows for value in row if isinstance(value, Path))

    def text(value: object) -> str:
        if isinstance(value, tuple):
            return f"({', '.join(map(text, value))})"
        if not isinstance(value, Path):
            return repr(value)
        path = value.absolute()
        name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        return f"{name} {hashes.get(value, '')}"

    lines = sorted("\t".join(map(text, row)) for row in rows)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
