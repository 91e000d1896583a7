"""A CSV of one row an image: image and any of label, mask, boxes, template, split, group, view, product, roi, ignore.

`label` is a class, or several with | between them, or as ["…", …], for an image with defects of several. `boxes` names
a file of annotations, or holds [[x0, y0, x1, y1, label], …] itself; `shapes` and `ignore_shapes` hold
[{"label": …, "rings": [[[x, y], …], …]}, {"label": …, "size": [height, width], "counts": …}, …], run lengths in COCO's
short form; `mask_classes` holds the names ["…", …] of the mask's pixel values 1, 2, …. `sources` marks a synthetic
image, which is for training alone: it holds ["…", …], the images whose surface and defects it was made of.
"""

import csv
import io
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.dataset.annotations import (
    finite_number,
    first_line,
    guess_delimiter,
    read_csv,
    read_or_skip,
    read_text,
    warn_skipped,
)
from blemish.dataset.export import list_losses
from blemish.dataset.formats import deeppcb, labelme, voc, yolo
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.image_files import SPLIT_NAMES, file_exists, find_recorded
from blemish.dataset.labels import LabelEvidence, normalize_label
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Rle, Shape, runs_from_text, runs_to_text

COLUMNS = (
    "image", "label", "mask", "mask_classes", "boxes", "shapes", "template", "split", "group", "view", "product",
    "roi", "ignore", "ignore_shapes", "sources",
)  # fmt: skip

PATH_COLUMNS = ("image", "mask", "template", "roi", "ignore", "sources")

# By suffix; each takes an image's annotation file and the image, and returns the boxes in pixels of the image.
BOX_READERS: dict[str, Callable[[Path, Path], tuple[Box, ...]]] = {
    ".xml": voc.read_boxes,
    ".json": labelme.read_boxes,
    ".txt": lambda path, image: (deeppcb if _in_pixels(path) else yolo).read_boxes(path, image),
}


def looks_like(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv"):
        return False
    line = first_line(path)
    return "image" in [name.strip().strip('"').lower() for name in line.split(guess_delimiter(line))]


def read(source: DataSource) -> list[Sample]:
    """Samples of a CSV; relative paths are looked up in the root, or else in the CSV's folder."""
    path, base = source.path, source.root or source.path.parent
    columns, rows = read_csv(path, PATH_COLUMNS)
    names = {name: name.strip().lower() for name in columns}
    if "image" not in names.values():
        raise DataError(f"{path} has no column named image; it has: {', '.join(names) or 'none'}")
    unknown = [name for name in names.values() if name not in COLUMNS]
    if unknown:
        warnings.warn(
            f"{path}: columns not understood are passed over: {', '.join(unknown)} (known: {', '.join(COLUMNS)})",
            stacklevel=2,
        )
    table = [(f"{path}, line {number}", {name: row.get(k, "") for k, name in names.items()}) for number, row in rows]
    boxes = _box_files(path, base, [row for _, row in table])
    samples = [_read_row(where, row, base) for where, row in table]
    images = set[Path]()
    for s in samples:
        if s.image in images:
            raise DataError(f"{path} lists {s.image} twice; one row an image")
        images.add(s.image)
    return _with_boxes(samples, boxes)


def write(dataset: Dataset, out: Path, relative: bool = False) -> list[str]:
    """Write the dataset as a CSV with absolute paths, or relative to its root; returns a line for each loss."""
    root = dataset.root.absolute()

    def path_text(path: Path) -> str:
        path = path.absolute()
        return (path.relative_to(root) if relative and path.is_relative_to(root) else path).as_posix()

    def cell(sample: Sample, name: str) -> str:
        if name == "label":
            return _join_labels(sample.labels or (() if sample.label is None else (sample.label,)))
        value = getattr(sample, name)
        if isinstance(value, Path):
            return path_text(value)
        return _to_json(value, path_text) if isinstance(value, tuple) else value or ""

    kept = [name for name in COLUMNS if name == "image" or any(getattr(s, name) is not None for s in dataset.samples)]
    if "label" not in kept and any(s.labels for s in dataset.samples):
        kept.insert(1, "label")
    rows = [[cell(s, name) for name in kept] for s in dataset.samples]
    # A carriage return in a name would end the row: before Python 3.13 the writer does not quote it by itself.
    quote = any("\r" in value for row in rows for value in row)
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows([kept, *rows])  # type: ignore[arg-type]
    write_atomic(out, text.getvalue().encode("utf-8", "surrogateescape"))
    return list_losses(dataset.samples, {*kept, "labels"})


def write_new(dataset: Dataset, out: Path) -> list[str]:
    """As `write`; DataError for a name of another kind, or a file that is there."""
    if out.suffix.lower() != ".csv":
        raise DataError(f"{out} is to be a CSV file; give a name that ends in .csv")
    if out.exists():
        raise DataError(f"{out} already exists; give another name")
    return write(dataset, out)


def read_boxes(path: Path, image: Path) -> tuple[Box, ...] | None:
    """Boxes of the annotation file of an image; None with a warning for a file that is damaged.

    A .txt is YOLO's where it has numbers with a point or a name for the class first, otherwise DeepPCB's.
    """
    return read_or_skip(BOX_READERS[path.suffix.lower()], path, image)


def _in_pixels(path: Path) -> bool:
    """Whether coordinates are pixels rather than shares of the image's size."""
    return all(word.lstrip("-").isdigit() for word in read_text(path).replace(",", " ").split())


def _read_row(where: str, row: dict[str, str], base: Path) -> Sample:
    image = _resolve_path(base, row["image"])
    if image is None:
        raise DataError(f"{where}: the image is missing")
    split = row.get("split", "").lower()
    if split and split not in SPLIT_NAMES:
        raise DataError(f"{where}: split {row['split']!r} is not understood; take train, tuning, val or test")
    names = tuple(dict.fromkeys(map(normalize_label, _split_label(row.get("label", "")))))
    if len(names) > 1 and GOOD in names:
        raise DataError(f"{where}: label {row['label']!r}: an image is good or shows defects, not both")
    return Sample(
        image=image,
        label=names[0] if len(names) == 1 else None,
        labels=names if len(names) > 1 else None,
        evidence=LabelEvidence.COLUMN if names else None,
        split=SPLIT_NAMES[split] if split else None,
        group=row.get("group") or None,
        view=row.get("view") or None,
        product=row.get("product") or None,
        mask=_resolve_other(base, row.get("mask"), image),
        template=_resolve_other(base, row.get("template"), image),
        roi=_resolve_other(base, row.get("roi"), image),
        ignore=_resolve_other(base, row.get("ignore"), image),
        **_read_json_cells(where, row, base),
    )


def _box_files(path: Path, base: Path, rows: list[dict[str, str]]) -> list[Path | None]:
    """Annotation files whose format is understood; a warning for the others, since labels and masks still hold."""
    cells = [row.get("boxes", "") for row in rows]
    files = [None if text.startswith("[") else _resolve_path(base, text) for text in cells]
    unknown = sorted({file.suffix.lower() for file in files if file and file.suffix.lower() not in BOX_READERS})
    if unknown:
        warnings.warn(f"{path}: boxes in {', '.join(unknown)} files cannot be read and are passed over", stacklevel=3)
    return [file if file and file.suffix.lower() in BOX_READERS else None for file in files]


def _read_json_cells(where: str, row: dict[str, str], base: Path) -> dict[str, Any]:
    """Boxes, shapes, mask classes and sources that are written in the cells themselves."""
    readers: dict[str, Callable[[Any], Any]] = {
        "boxes": _parse_box,
        "shapes": _parse_shape,
        "mask_classes": str,
        "ignore_shapes": _parse_shape,
        "sources": lambda text: _resolve_path(base, str(text)),
    }
    fields: dict[str, Any] = {}
    for name, parse in readers.items():
        if row.get(name, "").lstrip().startswith("["):
            try:
                fields[name] = tuple(parse(item) for item in json.loads(row[name]))
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise DataError(f"{where}: {name} is not understood: {error}") from error
    return fields


def _parse_box(item: Any) -> Box:
    *corners, label = item
    x0, y0, x1, y1 = map(finite_number, corners)
    return Box(x0, y0, x1, y1, str(label))


def _parse_shape(item: dict[str, Any]) -> Shape:
    label = item["label"]
    if not isinstance(label, str):
        raise TypeError(f"the label {label!r} is no text")
    if "rings" in item:
        rings = (tuple((finite_number(x), finite_number(y)) for x, y in ring) for ring in item["rings"])
        return Polygon(tuple(rings), label)
    height, width = item["size"]
    return Rle(runs_from_text(item["counts"]), int(height), int(width), label, bool(item.get("many")))


def _to_json(values: tuple[Any, ...], path_text: Callable[[Path], str]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, Box):
            return [*value.bounds, value.label]
        if isinstance(value, Polygon):
            return {"label": value.label, "rings": value.rings}
        if isinstance(value, Rle):
            counts = runs_to_text(value.counts)
            return {"label": value.label, "size": [value.height, value.width], "counts": counts, "many": value.many}
        return path_text(value) if isinstance(value, Path) else value

    return json.dumps([plain(value) for value in values], ensure_ascii=False, separators=(",", ":"))


def _with_boxes(samples: list[Sample], files: list[Path | None]) -> list[Sample]:
    """The samples with the boxes of their files; one whose file does not exist is left out, all of them a DataError."""
    found, missing = [], []
    for sample, file in zip(samples, files, strict=True):
        if file is None or not sample.image.is_file():  # the caller warns of missing images
            found.append(sample)
        elif file.is_file():
            found.append(replace(sample, boxes=read_boxes(file, sample.image)))
        else:
            missing.append(f"boxes of {sample.image} are to be in {file}, which does not exist")
    if missing and not found:
        raise DataError("; ".join(missing[:3]))
    for line in missing:
        warn_skipped(line)
    return found


def _resolve_path(base: Path, text: str | None) -> Path | None:
    """The file of a cell: of exactly this name, or else without blanks around it, and with slashes for backslashes, or
    else without its first folders.

    An absolute path stays itself.
    """
    if not text or not (text.strip() or file_exists(base / text)):
        return None
    plain = base / _posix(text.strip())
    exact = next(filter(file_exists, (base / text, plain)), None)
    return exact or find_recorded(text, [base]) or plain


def _resolve_other(base: Path, text: str | None, image: Path) -> Path | None:
    """As `_resolve_path`, but the image itself only where the cell names it: masks/1.png without folders is 1.png."""
    found = _resolve_path(base, text)
    if text is None or found != image:
        return found
    plain = base / _posix(text.strip())
    return image if image in (base / text, plain) else plain


def _join_labels(labels: tuple[str, ...]) -> str:
    """As `_split_label` reads it."""
    plain = "|".join(labels)
    return plain if _split_label(plain) == labels else json.dumps(labels, ensure_ascii=False)


def _split_label(text: str) -> tuple[str, ...]:
    """The classes of a cell: with | between them, or as a JSON list, which a name with | in it needs."""
    if text.startswith('["'):
        with suppress(ValueError):
            return tuple(map(str, json.loads(text)))
    return tuple(name.strip() for name in text.split("|") if name.strip())


def _posix(text: str) -> str:
    return text.replace("\\", "/")


FORMAT = Format(
    "a .csv with the column image and any of label, mask, boxes, template, split, group, view, product, roi, ignore",
    looks_like, read, write_new, has_root=True, convention=Convention("boxes or shapes"),
    refused="rows without an image, listed twice, of an unknown split, or good and defective at once (refused)",
)  # fmt: skip
