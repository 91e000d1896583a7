"""Label Studio: a JSON export of tasks, with rectangles, outlines, ellipses, brush masks and choices of an image."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from blemish.arrays import Mask
from blemish.dataset.annotations import annotation_fields, finite_number, read_json, warn_skipped
from blemish.dataset.export import ExportEntry, any_shape, copy_image, prepare_entries
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.formats.outlines import ellipse, merged_losses, place_item, turned_rectangle
from blemish.dataset.formats.recorded import find_exports, match_recorded, read_start, require_exports, state_label
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError, ImageError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Shape, encode_mask, shape_mask
from blemish.imaging.read import IMAGE_SUFFIXES, MAX_PIXELS

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the name of a file that it takes in
_REGIONS = ("rectangle", "polygon", "ellipse", "brush")
_KINDS = {**{kind: kind for kind in _REGIONS}, **{f"{kind}labels": kind for kind in _REGIONS}}
_WORD_BITS, _RUN_BITS = 8, (3, 4, 8, 16)  # of the run lengths that are written
_CONTROL = "label"


def looks_like(path: Path) -> bool:
    return bool(find_exports(path, ".json", _is_export))


def read(source: DataSource) -> list[Sample]:
    """Samples with boxes and shapes, and a label where choices were made.

    A task that was submitted without a region is an empty annotation; one that was never annotated, or skipped, has
    none. Set aside with a warning: tasks with several annotations that differ (unless one is marked as ground truth),
    turned images, key points and other kinds of regions, regions without a class, and tasks whose image is missing.
    """
    samples = []
    for file in require_exports(source.path, ".json", _is_export, "export of Label Studio"):
        tasks = read_json(file)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise DataError(f"{file} is no Label Studio export: it is no list of tasks")
        root = source.root or file.parent
        tasks = [task for task in tasks if not _is_of_several(task, file)]
        found = match_recorded([_names(task) for task in tasks], root, file)
        for task, image in zip(tasks, found.images, strict=True):
            if image is not None:
                samples.append(_read_task(task, file, image))
        samples += [Sample(image) for image in found.doubtful]
    return samples


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write tasks.json and images/; returns a line for each loss."""
    entries, lost = prepare_entries(dataset, out, any_shape, subsets=False)
    tasks = []
    for number, entry in enumerate(entries, 1):
        copy_image(entry.sample.image, out / "images" / entry.file_name)
        task: dict[str, Any] = {"id": number, "data": {"image": f"images/{entry.file_name}"}, "annotations": []}
        if entry.items is not None:
            task["annotations"].append({"was_cancelled": False, "result": [*_format_regions(entry)]})
        tasks.append(task)
    write_atomic(out / "tasks.json", json.dumps(tasks, ensure_ascii=False))
    return [*lost, *merged_losses(entries)]


def decode_brush(data: Sequence[int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes (N,) of a brush mask, RGBA pixel by pixel; ValueError where the run lengths are damaged.

    A bit stream: 32 bits N, 5 bits word size - 1, four times 4 bits length of a counter - 1; then for each run one bit
    (1: all words are the same), 2 bits which of the four counters, the counter, number of words - 1, and the words.
    """
    stream = _Bits(data)
    count, word = stream.take(32), stream.take(5) + 1
    counters = [stream.take(4) + 1 for _ in range(4)]
    if word > 8:
        raise ValueError(f"its brush mask has words of {word} bits")
    pieces = []
    left = count
    while left > 0:
        same = stream.take(1)
        length = 1 + stream.take(counters[stream.take(2)])
        if length > left:
            raise ValueError("the run lengths of its brush mask hold too many pixels")
        if same:
            pieces.append(np.full(length, stream.take(word), np.uint8))
        else:
            pieces.append(np.array([stream.take(word) for _ in range(length)], np.uint8))
        left -= length
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)


def encode_brush(mask: Mask) -> list[int]:
    """Run lengths of a mask (H, W) as Label Studio writes them: white and opaque, or nothing."""
    values = np.repeat(mask.ravel(), 4)
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), values.size]
    bits = [f"{values.size:032b}{_WORD_BITS - 1:05b}", *(f"{n - 1:04b}" for n in _RUN_BITS)]
    for start, end in pairwise(edges):
        while start < end:
            length = min(end - start, 1 << _RUN_BITS[3])
            which = next(i for i, n in enumerate(_RUN_BITS) if length <= 1 << n)
            bits.append(f"1{which:02b}{length - 1:0{_RUN_BITS[which]}b}{255 * bool(values[start]):08b}")
            start += length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


class _Bits:
    """A stream of bits from bytes, the highest first."""

    def __init__(self, data: Sequence[int]) -> None:
        self._text = "".join(f"{byte:08b}" for byte in bytes(data))
        self._at = 0

    def take(self, count: int) -> int:
        bits = self._text[self._at : self._at + count]
        if len(bits) < count:
            raise ValueError("the run lengths of its brush mask are cut off")
        self._at += count
        return int(bits, 2)


def _is_export(file: Path) -> bool:
    """A list of objects with data and annotations; the list of results of a detector has neither."""
    start = read_start(file)
    return (
        start.startswith("[")
        and '"data"' in start
        and any(f'"{key}"' in start for key in ("annotations", "completions", "file_upload"))
    )


def _names(task: dict[str, Any]) -> list[str]:
    """Paths of the task's image, the likeliest first."""
    names = [*_images(task).values(), _image_names(str(task.get("file_upload") or ""))]
    return list(dict.fromkeys(name for found in names for name in found))


def _images(task: dict[str, Any]) -> dict[str, list[str]]:
    """The possible paths of each image of the task by its name there: of the annotated ones, where it has several."""
    data = task.get("data")
    values = {key: v for key, v in data.items() if isinstance(v, str)} if isinstance(data, dict) else {}
    found = {key: names for key, value in values.items() if (names := _image_names(value))}
    rows = [row for a in _annotations(task) for row in a.get("result") or () if isinstance(row, dict)]
    annotated = {row.get("to_name") for row in rows} & found.keys()
    return {key: names for key, names in found.items() if key in annotated} if annotated else found


def _is_of_several(task: dict[str, Any], file: Path) -> bool:
    """Whether it is unknown which of the task's images was annotated, which is said."""
    images = _images(task)
    if len({names[0] for names in images.values()}) < 2:
        return False
    listed = ", ".join(images)
    warn_skipped(f"{_task_name(task, file)} names several images ({listed}); which one was annotated is not known")
    return True


def _image_names(value: str) -> list[str]:
    address = urlsplit(value)
    names = []
    for text in (*parse_qs(address.query).get("d", ()), unquote(address.path), value):
        if Path(text).suffix.lower() in IMAGE_SUFFIXES:
            folder, _, name = text.replace("\\", "/").rpartition("/")
            names += [text, f"{folder}/{_UPLOADED.sub('', name)}"]
    return names


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    return [a for a in _given(task) if isinstance(a, dict)]


def _given(task: dict[str, Any]) -> list[Any]:
    return task.get("annotations", task.get("completions")) or []


def _task_name(task: dict[str, Any], file: Path) -> str:
    return f"{file}: task {task.get('id', '(none)')}"


def _read_task(task: dict[str, Any], file: Path, image: Path) -> Sample:
    rows = [a for a in _annotations(task) if not a.get("was_cancelled")]
    marked = [a for a in rows if a.get("ground_truth")]
    results = [a.get("result") for a in (marked if len(marked) == 1 else rows)]
    name = _task_name(task, file)
    if len(rows) != len(_given(task)) or not all(isinstance(result, list) for result in results):
        warn_skipped(f"{name}: it was skipped by its annotator, or is damaged", image)
        return Sample(image)
    if not results:
        return Sample(image)
    read = [_read_result(result, name, image) for result in results if result is not None]
    if any(other != read[0] for other in read[1:]):
        warn_skipped(f"{name}: its {len(read)} annotations differ; mark one as ground truth", image)
        return Sample(image)
    boxes, shapes, choices = read[0]
    if not choices:
        return Sample(image, **annotation_fields(boxes, shapes))
    if len({control for control, _ in choices}) > 1:
        controls = ", ".join(sorted({control for control, _ in choices}))
        warn_skipped(
            f"{name}: choices are made of {controls}; which one is the class of the image, is not known", image
        )
        return Sample(image, **annotation_fields(boxes, shapes))
    known = annotation_fields(boxes, shapes) if boxes or shapes else {}
    return Sample(image, **state_label((label for _, label in choices), name, image), **known)


def _read_result(result: list[Any], name: str, image: Path) -> tuple[list[Box], list[Shape], list[tuple[str, str]]]:
    boxes: list[Box] = []
    shapes: list[Shape] = []
    choices: list[tuple[str, str]] = []
    # A region and its class may be two entries of one id.
    regions = {row.get("id") for row in result if isinstance(row, dict) and row.get("type") in _KINDS} - {None}
    labels = {row.get("id"): _label(row.get("value")) for row in result if isinstance(row, dict) and _is_class(row)}
    for at, row in enumerate(result, 1):
        try:
            kind, value = row["type"], row["value"]
            if kind == "choices" and row.get("id") in regions:
                continue  # of a region, such as how severe it is
            elif kind == "choices":
                choices += [(str(row.get("from_name")), str(choice).strip()) for choice in value["choices"]]
            elif kind in _KINDS and not (kind.endswith("labels") and _has_plain_region(result, row)):
                region = _read_region(_KINDS[kind], row, _label(value) or labels.get(row.get("id")))
                size = int(row["original_height"]), int(row["original_width"])
                item = place_item(region, size, image)
                (boxes if isinstance(item, Box) else shapes).append(item)  # type: ignore[arg-type]
            elif kind not in _KINDS and kind != "labels":
                raise ValueError(f"regions of type {kind} are not understood")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError, ImageError) as error:
            reason = " ".join(str(error).split())
            warn_skipped(f"{name}, region {at} of {image.name}: {reason}", image)
    return boxes, shapes, choices


def _is_class(row: dict[str, Any]) -> bool:
    return str(row.get("type")).endswith("labels")


def _has_plain_region(result: list[Any], row: dict[str, Any]) -> bool:
    """Whether the region of a class is an entry of its own, without a class."""
    return any(
        isinstance(other, dict) and other.get("type") in _REGIONS and other.get("id") == row.get("id") is not None
        for other in result
    )


def _label(value: Any) -> str | None:
    """The only class of a region; ValueError where it has several."""
    given = [
        label
        for key, names in (value.items() if isinstance(value, dict) else ())
        if key.endswith("labels") and isinstance(names, list)
        for label in names
    ]
    return str(given[0]).strip() or None if len(given) == 1 else None


def _read_region(kind: str, row: dict[str, Any], label: str | None) -> Box | Shape:
    """A region in pixels of the recorded size; its numbers are percentages of the image's width and height."""
    if label is None:
        raise ValueError("it has no class, or several")
    if row.get("image_rotation"):
        raise ValueError(f"its image is turned by {row['image_rotation']}°")
    height, width = int(row["original_height"]), int(row["original_width"])
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"its image is said to have {width}×{height} pixels")
    value = row["value"]
    if kind == "brush":
        pixels = decode_brush(value["rle"])
        if pixels.size != 4 * height * width:
            raise ValueError(f"its mask has {pixels.size // 4} pixels, its image {height * width}")
        return encode_mask(pixels.reshape(height, width, 4)[..., 3] > 127, label)
    if kind == "polygon":
        ring = tuple((finite_number(x) * width / 100, finite_number(y) * height / 100) for x, y in value["points"])
        if len(ring) < 3:
            raise ValueError(f"an outline of {len(ring)} points has no area")
        return Polygon((ring,), label)
    x, y = finite_number(value["x"]) * width / 100, finite_number(value["y"]) * height / 100
    degrees = finite_number(value.get("rotation") or 0)
    if kind == "ellipse":
        rx, ry = finite_number(value["radiusX"]) * width / 100, finite_number(value["radiusY"]) * height / 100
        return Polygon((ellipse(x, y, rx, ry, degrees),), label)
    w, h = finite_number(value["width"]) * width / 100, finite_number(value["height"]) * height / 100
    if degrees % 360:
        return Polygon((turned_rectangle(x, y, w, h, degrees, (x, y)),), label)
    return Box(x, y, x + w, y + h, label)


def _format_regions(entry: ExportEntry) -> Iterator[dict[str, Any]]:
    height, width = entry.size
    for at, item in enumerate(entry.items or (), 1):
        value: dict[str, Any]
        if isinstance(item, Box):
            kind = "rectanglelabels"
            x, y, w, h = item.x0, item.y0, item.x1 - item.x0, item.y1 - item.y0
            value = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
            value["rotation"] = 0
        elif isinstance(item, Polygon) and len(item.rings) == 1 and len(item.rings[0]) > 2:
            kind = "polygonlabels"
            value = {"points": [[100 * x / width, 100 * y / height] for x, y in item.rings[0]], "closed": True}
        else:
            kind = "brushlabels"
            value = {"format": "rle", "rle": encode_brush(shape_mask(item, entry.size))}
        yield {
            "id": f"region{at}", "type": kind, "from_name": _CONTROL, "to_name": "image", "image_rotation": 0,
            "original_width": width, "original_height": height, "value": value | {kind: [item.label]},
        }  # fmt: skip


FORMAT = Format(
    "a JSON export of Label Studio, and the images in folders beside it",
    looks_like, read, write, has_root=True, convention=Convention("submitted annotation"),
    refused="annotations that differ, turned images, key points, regions without a class, choices of several kinds",
)  # fmt: skip
