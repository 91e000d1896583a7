"""The layout of Severstal steel: train.csv of ImageId, ClassId, EncodedPixels, and train_images/."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.annotations import annotation_fields, first_line, fold_name, read_csv, warn_skipped
from blemish.dataset.export import copy_image, image_name, write_masked
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import list_images
from blemish.dataset.labels import normalize_label
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.files import write_atomic
from blemish.geometry import Rle, decode_runs, encode_mask, encode_runs
from blemish.imaging.read import image_header

_COLUMNS = ("ImageId", "ClassId", "EncodedPixels")


def looks_like(path: Path) -> bool:
    file = _csv_file(path)
    head = "" if file is None else first_line(file)
    return "EncodedPixels" in head and "ImageId" in head


def read(source: DataSource) -> list[Sample]:
    """Samples with a mask of run lengths for each row; images without a row, or with an empty one, are good.

    Set aside: run lengths that do not fit their image, rows without all cells, and rows of images that do not exist;
    any image without a row may then be the one that is meant, and is unknown.
    """
    file = _csv_file(source.path)
    if file is None:
        raise DataError(f"{source.path} holds no train.csv")
    folder = file.parent / "train_images"
    folder = folder if folder.is_dir() else file.parent
    images = {image.name: image for image in list_images(folder)}
    folded = {fold_name(name): name for name in images} | {
        fold_name(image.stem): name for name, image in images.items()
    }
    listed, missing, damaged = set[str](), list[str](), list[str]()
    runs: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    columns, rows = read_csv(file)
    if "EncodedPixels" not in columns or not ({"ImageId", "ClassId"} <= {*columns} or "ImageId_ClassId" in columns):
        raise DataError(f"{file} lacks the columns {', '.join(_COLUMNS)}; it has: {', '.join(columns)[:200] or 'none'}")
    for _, row in rows:
        name, _, kind = row.get("ImageId_ClassId", "").rpartition("_")
        if "ImageId" in row and "ClassId" in row:
            name, kind = row["ImageId"], row["ClassId"]
        if "EncodedPixels" not in row:
            damaged.append(name)
            continue
        if name not in images:  # in another case, or of another suffix
            name = folded.get(fold_name(name)) or folded.get(fold_name(Path(name).stem)) or name
        listed.add(name)
        if name not in images:
            missing.append(name or "(none)")
        elif row["EncodedPixels"]:
            runs[name].append((normalize_label(kind), row["EncodedPixels"]))
    for name in damaged:
        warn_skipped(f"{file}: the row {name[:80]!r} is cut off or damaged", folder=folder)
    if damaged:  # what is missing of that row may be the run lengths of another one, which seems to have none
        listed &= runs.keys()
    for name in missing:  # an empty row too: a damaged one may have lost its run lengths
        warn_skipped(f"{file}: image {name} does not exist", folder=folder)
    return [
        Sample(image, **(annotation_fields((), _read_masks(file, image, runs[name])) if name in listed else {}))
        for name, image in images.items()
    ]


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write masks as run lengths, one row an image and class; returns a line for each loss."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)

    def write_sample(sample: Sample, stem: str, subset: Path, layers: Mask) -> list[str]:
        name = image_name(sample, stem)
        copy_image(sample.image, out / "train_images" / name)
        shown = [(label, layer) for label, layer in zip(dataset.defect_classes, layers, strict=True) if layer.any()]
        rows.writerows([name, label, _format_runs(layer)] for label, layer in shown)
        return [label for label, _ in shown]

    lost = write_masked(dataset, out, write_sample, False, "defects of one class in one image become one mask")
    write_atomic(out / "train.csv", text.getvalue())
    return lost


def _csv_file(path: Path) -> Path | None:
    file = path / "train.csv" if path.is_dir() else path
    return file if file.is_file() and file.suffix.lower() == ".csv" else None


def _read_masks(file: Path, image: Path, runs: list[tuple[str, str]]) -> Iterator[Rle]:
    for label, text in runs:
        try:
            yield _parse_runs(text, image_header(image).size, label)
        except (ValueError, OverflowError, DataError, ImageError) as error:
            # Where it is no list of numbers, a line break may be damaged, and the next row of another image lost in it.
            whole = set(text) <= set("0123456789- ")
            warn_skipped(f"{file}: {image.name}, class {label}: {error}", image, None if whole else image.parent)


def _parse_runs(text: str, size: tuple[int, int], label: str) -> Rle:
    """Pairs of a start, from 1 on, and a length, down the columns."""
    pairs = np.array([int(word) for word in text.split()], np.int64)
    if len(pairs) % 2:
        raise ValueError("run lengths are pairs of start and length; there is an odd number")
    starts, lengths = pairs[::2] - 1, pairs[1::2]
    ends = starts + lengths
    if (lengths < 0).any() or (starts < np.concatenate([[0], ends[:-1]])).any() or ends[-1] > size[0] * size[1]:
        raise ValueError(f"run lengths do not fit an image of {size[1]}×{size[0]}")
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=size[0] * size[1])
    return encode_mask(decode_runs(counts.tolist(), size), label, many=True)


def _format_runs(mask: Mask) -> str:
    counts = encode_runs(mask)
    starts = np.cumsum([1, *counts])[1::2].tolist()
    return " ".join(f"{start} {length}" for start, length in zip(starts, counts[1::2], strict=False))


FORMAT = Format(
    "train.csv of ImageId, ClassId, EncodedPixels (or ImageId_ClassId, EncodedPixels), and train_images/",
    looks_like, read, write, convention=Convention("row of run lengths", absent_is_good=True),
    refused="rows of images that do not exist, and run lengths that do not fit",
)  # fmt: skip
