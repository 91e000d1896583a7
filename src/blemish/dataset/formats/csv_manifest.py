"""A CSV of one row an image: image and any of label, mask, boxes, template, split, group, product, roi, ignore.

`label` is a class, or several with | between them for an image that shows defects of several. `boxes` names a file of
annotations, or holds [[x0, y0, x1, y1, label], …] itself; `shapes` holds [{"label": …, "rings": [[[x, y], …], …]},
{"label": …, "size": [height, width], "counts": …}, …], run lengths in COCO's short form; `mask_classes` holds the names
["…", …] of the mask's pixel values 1, 2, …. `sources` marks a synthetic image, which is for learning alone: it holds
["…", …], the images whose surface and defects it shows.
"""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.dataset.annotations import left_out
from blemish.dataset.annotations import number as finite
from blemish.dataset.box_files import BOX_READERS, read_boxes
from blemish.dataset.ground_truth import label_from
from blemish.dataset.image_files import SPLIT_NAMES, class_label, losses
from blemish.dataset.sample import GOOD, Dataset, Sample
from blemish.errors import DataError
from blemish.geometry import Box, Polygon, Rle, Shape, runs_from_text, runs_to_text

SAYS = "a .csv with the column image and any of label, mask, boxes, template, split, group, product, roi, ignore"
COLUMNS = (
    "image", "label", "mask", "mask_classes", "boxes", "shapes", "template", "split", "group", "product", "roi",
    "ignore", "sources",
)  # fmt: skip
_FILES = ("mask", "template", "roi", "ignore")
_JSON = ("boxes", "shapes", "mask_classes", "sources")


def looks_like(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv"):
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = file.readline(4000)
    return "image" in [name.strip().strip('"').lower() for name in line.split(_delimiter(line))]


def read(path: Path, root: Path | None = None) -> list[Sample]:
    """Samples of a CSV; relative paths are looked up in `root`, or else in the CSV's folder."""
    base = root if root is not None else path.parent
    csv.field_size_limit(1 << 30)  # run lengths are long
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
    _check_once(path, samples)
    return [_labelled(s) for s in _with_boxes(samples, boxes)]


def write(dataset: Dataset, out: Path, relative: bool = False) -> list[str]:
    """Write the dataset as a CSV with absolute paths, or relative to its root; returns what is not kept."""
    root = dataset.root.absolute()

    def text(path: Path | None) -> str:
        if path is None:
            return ""
        path = path.absolute()
        return (path.relative_to(root) if relative and path.is_relative_to(root) else path).as_posix()

    def cell(sample: Sample, name: str) -> str:
        if name == "label" and sample.labels:
            return "|".join(sample.labels)
        value = getattr(sample, name)
        if name == "sources" and value is not None:
            value = tuple(text(path) for path in value)
        if name == "image" or name in _FILES:
            return text(value)
        return (_as_json(value) if name in _JSON and value is not None else value) or ""

    kept = [name for name in COLUMNS if name == "image" or any(getattr(s, name) is not None for s in dataset.samples)]
    if "label" not in kept and any(s.labels for s in dataset.samples):
        kept.insert(1, "label")
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(kept)
        for s in dataset.samples:
            writer.writerow(cell(s, name) for name in kept)
    return losses(dataset.samples, {*kept, "labels"})


def _sample(path: Path, number: int, row: dict[str, str], base: Path) -> Sample:
    if not row["image"]:
        raise DataError(f"{path}, line {number}: the image is missing")
    split = row.get("split", "").lower()
    if split and split not in SPLIT_NAMES:
        raise DataError(f"{path}, line {number}: split {row['split']!r} is not understood; take train, val or test")
    names = tuple(dict.fromkeys(class_label(name) for name in row.get("label", "").split("|") if name.strip()))
    if len(names) > 1 and GOOD in names:
        raise DataError(f"{path}, line {number}: label {row['label']!r}: an image is good or shows defects, not both")
    return Sample(
        image=base / _posix(row["image"]),
        label=names[0] if len(names) == 1 else None,
        labels=names if len(names) > 1 else None,
        split=SPLIT_NAMES[split] if split else None,
        group=row.get("group") or None,
        product=row.get("product") or None,
        mask=_place(base, row.get("mask")),
        **_inline(path, number, row, base),
        template=_place(base, row.get("template")),
        roi=_place(base, row.get("roi")),
        ignore=_place(base, row.get("ignore")),
    )


def _box_files(path: Path, base: Path, table: list[tuple[int, dict[str, str]]]) -> list[Path | None]:
    """Annotation files whose format is understood; a warning for the others, since labels and masks still hold."""
    files = [_place(base, text) if not (text := row.get("boxes", "")).startswith("[") else None for _, row in table]
    unknown = sorted({file.suffix.lower() for file in files if file and file.suffix.lower() not in BOX_READERS})
    if unknown:
        warnings.warn(f"{path}: boxes in {', '.join(unknown)} files cannot be read and are passed over", stacklevel=3)
    return [file if file and file.suffix.lower() in BOX_READERS else None for file in files]


def _inline(path: Path, number: int, row: dict[str, str], base: Path) -> dict[str, Any]:
    """Boxes, shapes, mask classes and sources that stand in the cells themselves."""
    found: dict[str, Any] = {}
    for name in _JSON:
        if not row.get(name, "").startswith("["):
            continue
        try:
            content = json.loads(row[name])
            if name == "mask_classes":
                found[name] = tuple(str(value) for value in content)
            elif name == "sources":
                found[name] = tuple(base / _posix(str(value)) for value in content)
            elif name == "boxes":
                found[name] = tuple(
                    Box(finite(x0), finite(y0), finite(x1), finite(y1), str(label)) for x0, y0, x1, y1, label in content
                )
            else:
                found[name] = tuple(_shape(item) for item in content)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(f"{path}, line {number}: {name} is not understood: {error}") from error
    return found


def _shape(item: dict[str, Any]) -> Shape:
    if not isinstance(item["label"], str):
        raise TypeError(f"the label {item['label']!r} is no text")
    if "rings" in item:
        return Polygon(tuple(tuple((finite(x), finite(y)) for x, y in ring) for ring in item["rings"]), item["label"])
    height, width = item["size"]
    return Rle(runs_from_text(item["counts"]), int(height), int(width), item["label"], bool(item.get("many")))


def _as_json(values: tuple[Any, ...]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, Box):
            return [value.x0, value.y0, value.x1, value.y1, value.label]
        if isinstance(value, Polygon):
            return {"label": value.label, "rings": value.rings}
        if isinstance(value, Rle):
            counts = runs_to_text(value.counts)
            return {"label": value.label, "size": [value.height, value.width], "counts": counts, "many": value.many}
        return value

    return json.dumps([plain(value) for value in values], ensure_ascii=False, separators=(",", ":"))


def _with_boxes(samples: list[Sample], files: list[Path | None]) -> list[Sample]:
    """The samples with the boxes of their files; one whose file does not exist is left out, all of them a DataError."""
    found, missing = [], []
    for sample, file in zip(samples, files, strict=True):
        if file is None or not sample.image.is_file():  # of missing images the caller tells
            found.append(sample)
        elif file.is_file():
            found.append(replace(sample, boxes=read_boxes(file, sample.image)))
        else:
            missing.append(f"boxes of {sample.image} are to be in {file}, which does not exist")
    if missing and not found:
        raise DataError("; ".join(missing[:3]))
    for line in missing:
        left_out(line)
    return found


def _labelled(sample: Sample) -> Sample:
    """Where the row gives no label, that which the boxes or shapes give."""
    if sample.label is not None or sample.labels or (sample.boxes is None and sample.shapes is None):
        return sample
    return replace(sample, label=label_from(item.label for item in (*(sample.boxes or ()), *(sample.shapes or ()))))


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
