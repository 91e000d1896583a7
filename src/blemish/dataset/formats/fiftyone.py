"""FiftyOne: samples.json of an exported FiftyOneDataset, with classes, detections, polylines or segmentations."""

import base64
import binascii
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.dataset.annotations import annotation_fields, contains_key, finite_number, read_json, warn_skipped
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.formats.outlines import paste_mask, place_item
from blemish.dataset.formats.recorded import match_recorded, state_label
from blemish.dataset.frame import fit_to_image
from blemish.dataset.ground_truth import read_label_map
from blemish.dataset.image_files import SPLIT_NAMES
from blemish.dataset.labels import is_background_name
from blemish.dataset.sample import Sample
from blemish.errors import DataError, ImageError
from blemish.geometry import Box, Polygon, Shape, encode_mask
from blemish.imaging.read import MAX_PIXELS, image_header

_KINDS = ("Classification", "Classifications", "Detections", "Detection", "Polylines", "Polyline", "Segmentation")
_TRUTH = "ground_truth"

Targets = Mapping[int, str] | None  # classes of a segmentation's pixel values


def looks_like(path: Path) -> bool:
    return _is_export(_file(path))


def read(source: DataSource) -> list[Sample]:
    """Samples of the field ground_truth, or of the only field of labels; "fiftyone:FIELD" takes another.

    A field that is null is no annotation, an empty list of detections is an empty one. Set aside with a warning:
    labels without a class or finite numbers, masks that are damaged, open polylines, and images that are missing.
    """
    file = _file(source.path)
    content = read_json(file)
    rows = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file} is no export of FiftyOne: it has no list of samples")
    field = source.option or _choose_field(file, rows)
    targets = _read_targets(file.with_name("metadata.json"), field)
    found = match_recorded([[str(row.get("filepath") or "")] for row in rows], source.root or file.parent, file)
    samples = [Sample(image) for image in found.doubtful]
    for row, image in zip(rows, found.images, strict=True):
        if image is not None:
            split = next((SPLIT_NAMES[tag] for tag in map(str, row.get("tags") or ()) if tag in SPLIT_NAMES), None)
            label = row.get(field) if field else None
            fields = _read_label(label, row, targets, file, image) if label is not None else {}
            samples.append(Sample(image, split=split, **fields))
    return samples


def _file(path: Path) -> Path:
    return path / "samples.json" if path.is_dir() else path


def _is_export(file: Path) -> bool:
    return file.name == "samples.json" and file.is_file() and contains_key(file, "filepath")


def _choose_field(file: Path, rows: list[dict[str, Any]]) -> str | None:
    """The field of the labels; None where no sample has any."""
    fields = {
        name for row in rows for name, value in row.items() if isinstance(value, dict) and value.get("_cls") in _KINDS
    }
    if len(fields) < 2 or _TRUTH in fields:
        field = _TRUTH if _TRUTH in fields else next(iter(fields), None)
        if field and any(_has_confidence(row.get(field)) for row in rows):
            raise DataError(
                f"{file}: {field} holds predictions, as their confidences show; export the true labels, or say "
                f"--format fiftyone:{field} to take these for true"
            )
        return field
    raise DataError(f"{file} has several fields of labels: {', '.join(sorted(fields))}; export the true ones alone")


def _has_confidence(value: Any) -> bool:
    """Whether a field, or a label in it, states a confidence, as networks do and people do not."""
    if not isinstance(value, dict):
        return False
    inner = [item for items in value.values() if isinstance(items, list) for item in items]
    return any(isinstance(item, dict) and item.get("confidence") is not None for item in (value, *inner))


def _read_targets(file: Path, field: str | None) -> Targets:
    content = read_json(file) if file.is_file() else {}
    try:
        given = (content.get("mask_targets") or {}).get(field) or content.get("default_mask_targets")
        return {int(value): str(name) for value, name in given.items()} if given else None
    except (ValueError, OverflowError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: mask_targets are no names of pixel values") from error


def _read_label(label: Any, row: dict[str, Any], targets: Targets, file: Path, image: Path) -> dict[str, Any]:
    boxes: list[Box] = []
    shapes: list[Shape] = []
    try:
        size = _recorded_size(row.get("metadata"), image)
        kind = label["_cls"]
        if kind in ("Classification", "Classifications"):
            given = [label] if kind == "Classification" else label["classifications"]
            return state_label(map(_name, given), str(file), image)
        if kind == "Segmentation":
            shapes += _read_segmentation(label, targets, file, size)
            return annotation_fields((), fit_to_image(shapes, size, image))
        many = {"Detections": "detections", "Polylines": "polylines"}.get(kind)
        if many is None and kind not in ("Detection", "Polyline"):
            raise ValueError(f"labels of type {kind} are not understood")
        items = list(label[many]) if many else [label]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, DataError, ImageError) as error:
        warn_skipped(f"{file}: {image.name}: {' '.join(str(error).split())}", image)
        return {}
    for at, item in enumerate(items, 1):
        try:
            shape = _read_item(item, file, size)
            shape = place_item(shape, size, image)
            (boxes if isinstance(shape, Box) else shapes).append(shape)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, DataError, ImageError) as error:
            warn_skipped(f"{file}: label {at} of {image.name}: {' '.join(str(error).split())}", image)
    return annotation_fields(boxes, shapes)


def _recorded_size(metadata: Any, image: Path) -> tuple[int, int]:
    """Height and width of the image as it was annotated; of the file, where they are not recorded."""
    if isinstance(metadata, dict) and metadata.get("width") and metadata.get("height"):
        size = int(metadata["height"]), int(metadata["width"])
        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            raise ValueError(f"its image is said to have {size[1]}×{size[0]} pixels")
        return size
    return image_header(image).size


def _name(item: Any) -> str:
    name = str(item["label"] or "").strip()
    if not name:
        raise ValueError("it has no class")
    return name


def _read_item(item: Any, file: Path, size: tuple[int, int]) -> Box | Shape:
    """A detection or polyline in pixels; its numbers are shares of the image's width and height."""
    name = _name(item)
    height, width = size
    if item["_cls"] == "Polyline":
        if not (item.get("closed") or item.get("filled")):
            raise ValueError("a polyline that is open has no area")
        rings = tuple(
            tuple((finite_number(x) * width, finite_number(y) * height) for x, y in ring) for ring in item["points"]
        )
        if not rings or min(map(len, rings)) < 3:
            raise ValueError("an outline of less than three points has no area")
        return Polygon(rings, name)
    x, y, w, h = (finite_number(value) for value in item["bounding_box"])
    box = Box(x * width, y * height, (x + w) * width, (y + h) * height, name)
    pixels = _read_pixels(item, file)
    if pixels is None:
        return box
    left, top = round(box.x0), round(box.y0)
    wanted = max(1, round(box.x1) - left), max(1, round(box.y1) - top)
    if wanted[0] > width + 1 or wanted[1] > height + 1:
        raise ValueError(f"its box of {wanted[0]}×{wanted[1]} pixels is larger than its image")
    if abs(pixels.shape[1] - wanted[0]) > 1 or abs(pixels.shape[0] - wanted[1]) > 1:
        pixels = cv2.resize((pixels > 0).astype(np.uint8), wanted, interpolation=cv2.INTER_NEAREST)
    left, top = max(0, min(left, width - pixels.shape[1])), max(0, min(top, height - pixels.shape[0]))
    return paste_mask(pixels > 0, left, top, size, name)


def _read_segmentation(label: Any, targets: Targets, file: Path, size: tuple[int, int]) -> list[Shape]:
    """Masks of the classes of a segmentation."""
    pixels = _read_pixels(label, file)
    if pixels is None:
        raise ValueError("its segmentation has no mask")
    if pixels.shape != size:
        raise ValueError(f"its mask has {pixels.shape[1]}×{pixels.shape[0]} pixels, its image {size[1]}×{size[0]}")
    shapes: list[Shape] = []
    for value in np.unique(pixels).tolist():
        name = (targets or {}).get(int(value))
        if value and name is None:
            raise ValueError(f"pixel value {value} has no name in metadata.json")
        if value and name is not None and not is_background_name(name):
            shapes.append(encode_mask(pixels == value, name, many=True))
    return shapes


def _read_pixels(item: Any, file: Path) -> NDArray[Any] | None:
    """The mask (H, W) of a label, packed in the JSON or a file of its own; None where it has none."""
    path, packed = item.get("mask_path"), item.get("mask")
    if path:
        place = Path(str(path).replace("\\", "/"))
        return read_label_map(place if place.is_absolute() else file.parent / place)
    if packed is None:
        return None
    if isinstance(packed, dict):
        packed = packed["$binary"]
        packed = packed["base64"] if isinstance(packed, dict) else packed
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(packed, validate=True), 8 * MAX_PIXELS)
        pixels = np.load(io.BytesIO(data), allow_pickle=False)
    except (binascii.Error, zlib.error, EOFError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"its mask is damaged: {error}") from error
    if pixels.ndim != 2 or not pixels.size or pixels.dtype.kind not in "bui":
        raise ValueError(f"its mask is no image but an array of {pixels.shape} {pixels.dtype}")
    return np.asarray(pixels)


FORMAT = Format(
    "samples.json of an exported FiftyOneDataset, with data/ beside it",
    looks_like, read, has_root=True, has_option=True, convention=Convention("list of labels"),
    refused="several fields of labels (refused), open polylines, damaged masks, labels without a class",
)  # fmt: skip
