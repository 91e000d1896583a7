"""LabelMe: a JSON file beside each image, with polygons, rectangles and masks."""

import base64
import binascii
import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blemish.dataset.annotations import (
    annotation_fields,
    contains_key,
    file_key,
    finite_number,
    match_files,
    read_json,
    read_or_skip,
    warn_skipped,
)
from blemish.dataset.export import ExportEntry, any_shape, copy_image, prepare_entries
from blemish.dataset.formats.base import Convention, DataSource, Format
from blemish.dataset.formats.outlines import ellipse
from blemish.dataset.frame import fall_back, fit_to_image
from blemish.dataset.ground_truth import defect_boxes
from blemish.dataset.image_files import (
    IMAGE_FOLDER_NAMES,
    find_folder,
    list_files,
    list_images,
    list_subsets,
    split_step,
)
from blemish.dataset.labels import is_good_name, normalize_label
from blemish.dataset.own_results import is_result_file
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.files import write_atomic
from blemish.geometry import Box, Polygon, Ring, Rle, Shape, encode_mask, mask_bounds, shape_bounds, shape_mask
from blemish.imaging.read import image_header

_IMAGES = (*IMAGE_FOLDER_NAMES, "data")
_LABELS = ("annotations", "labels", "label", "json", "jsons", "labelme")


def looks_like(path: Path) -> bool:
    return any(True for _ in _subsets(path))


def read(source: DataSource) -> list[Sample]:
    """Samples with boxes (rectangles) and shapes (polygons; those of one group_id are pieces of one defect).

    An image without a file has no annotation, one with a file of no shapes is good. Circles become polygons. Set aside:
    shapes of other kinds (lines, points), without a label or finite points, and files whose image does not exist.
    """
    samples = []
    for split, images, labels in _subsets(source.path):
        deep = images != labels
        files = [(file_key(file, labels), file) for file in _list_json(labels, deep)]
        keyed = [(file_key(image, images), image) for image in list_images(images, deep)]
        for image, file in match_files(keyed, files, images):
            items = read_or_skip(read_shapes, file, image) if file else None
            own = split or split_step(image, images)[0]
            samples.append(Sample(image, split=own, **(annotation_fields(*items) if items else {})))
    return samples


def read_shapes(path: Path, image: Path) -> tuple[list[Box], list[Shape]]:
    """Boxes and shapes of a file; DataError where it is none of LabelMe's."""
    content = read_json(path)
    rows = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path} is no LabelMe file: it has no list of shapes")
    flags = None if rows else content.get("flags")
    for name, is_set in flags.items() if isinstance(flags, dict) else ():
        if is_set and not is_good_name(name):
            warn_skipped(f"{path}: flag {name!r} is set, but nothing is outlined", image)
    recorded = _recorded_size(content)
    size = recorded or image_header(image).size
    found: list[Box | Shape | tuple[str, object]] = []  # a key stands where the polygon of a group will be
    rings: dict[tuple[str, object], list[Ring]] = {}
    for at, row in enumerate(rows, 1):
        try:
            label, kind = normalize_label(str(row["label"])), row.get("shape_type") or "polygon"
            points = tuple((finite_number(x), finite_number(y)) for x, y in row["points"])
            if not label:
                raise ValueError("it has no label")
            if kind == "rectangle":
                # Two opposite corners, or all four, as other programs of the format write them.
                xs, ys = zip(*points, strict=True)
                found.append(Box(min(xs), min(ys), max(xs), max(ys), label))
            elif kind in ("polygon", "rotation", "circle"):
                if kind == "circle":
                    (cx, cy), (x, y) = points
                    radius = math.hypot(x - cx, y - cy)
                    points = ellipse(cx, cy, radius, radius)
                if len(points) < 3:
                    raise ValueError("an outline needs three points")
                group = row.get("group_id")
                key = (label, f"shape {at}" if group is None else group)
                if key not in rings:
                    found.append(key)
                rings.setdefault(key, []).append(points)
            elif kind == "mask":
                found.append(_read_mask(row, points, label, size))
            else:
                raise ValueError(f"shapes of type {kind} are not understood")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, binascii.Error, cv2.error) as error:
            warn_skipped(f"{path}: shape {at}: {' '.join(str(error).split())}", image)
    items = [Polygon(tuple(rings[item]), item[0]) if isinstance(item, tuple) else item for item in found]
    items = fit_to_image([_with_area(item, size, image) for item in items], recorded, image)
    return [item for item in items if isinstance(item, Box)], [item for item in items if not isinstance(item, Box)]


def _with_area(item: Box | Shape, size: tuple[int, int], image: Path) -> Box | Shape:
    if isinstance(item, Box):
        return item
    bounds = shape_bounds(item)
    return fall_back(item, None if bounds is None else Box(*bounds, item.label), size, image)


def _recorded_size(content: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the image that was annotated; None where the file does not say."""
    try:
        return int(content["imageHeight"]), int(content["imageWidth"])
    except (KeyError, TypeError, ValueError):
        return None


def read_boxes(path: Path, image: Path) -> tuple[Box, ...]:
    """Boxes of a file, those of outlines included."""
    boxes, shapes = read_shapes(path, image)
    return defect_boxes(Sample(image, boxes=tuple(boxes), shapes=tuple(shapes)), image_header(image).size)


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes, outlines and masks as a file beside each image; returns a line for each loss."""
    entries, lost = prepare_entries(dataset, out, any_shape)
    for entry in entries:
        folder = out / entry.subset
        copy_image(entry.sample.image, folder / entry.file_name)
        if entry.items is not None:
            content: dict[str, Any] = {
                "version": "5.4.0",
                "flags": {},
                "shapes": list(_shape_rows(entry)),
                "imagePath": entry.file_name,
                "imageData": None,
                "imageHeight": entry.size[0],
                "imageWidth": entry.size[1],
            }
            write_atomic(folder / f"{entry.stem}.json", json.dumps(content, ensure_ascii=False, indent=1))
    many = sum(any(isinstance(i, Rle) and i.many for i in e.items or ()) for e in entries)
    if many:
        lost.append(f"masks of many defects become one shape each in {many} images")
    bare = sum(entry.items is None for entry in entries)
    if bare:
        lost.append(f"{bare} images whose defects are not known get no file, and are left out when read back")
    return lost


def _shape_rows(entry: ExportEntry) -> Iterator[dict[str, Any]]:
    for at, item in enumerate(entry.items or (), 1):
        common: dict[str, Any] = {"label": item.label, "group_id": None, "description": "", "flags": {}}
        if isinstance(item, Box):
            yield {**common, "points": [[item.x0, item.y0], [item.x1, item.y1]], "shape_type": "rectangle"}
        elif isinstance(item, Polygon):
            group = at if len(item.rings) > 1 else None
            for ring in item.rings:
                yield {**common, "points": [[*p] for p in ring], "group_id": group, "shape_type": "polygon"}
        else:
            pixels = shape_mask(item, entry.size)
            bounds = mask_bounds(pixels)
            if bounds is None:
                continue
            x0, y0, x1, y1 = bounds
            png = cv2.imencode(".png", pixels[y0:y1, x0:x1].astype(np.uint8) * 255)[1].tobytes()
            corners = [[float(x0), float(y0)], [float(x1 - 1), float(y1 - 1)]]  # LabelMe's last pixel is inside
            yield {**common, "points": corners, "shape_type": "mask", "mask": base64.b64encode(png).decode()}


def _read_mask(row: dict[str, Any], points: Ring, label: str, size: tuple[int, int]) -> Rle:
    """A mask of its own, which LabelMe cuts to its bounds, in an image of `size` (height, width)."""
    height, width = size
    data = np.frombuffer(base64.b64decode(row["mask"], validate=True), np.uint8)
    crop = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    (x0, y0), (x1, y1) = ((int(x), int(y)) for x, y in points)
    inside = 0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height
    if crop is None or not inside or crop.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise ValueError("its mask does not fit its points")
    whole = np.zeros((height, width), np.bool_)
    whole[y0 : y1 + 1, x0 : x1 + 1] = crop > 0
    return encode_mask(whole, label)


def _subsets(path: Path) -> Iterator[tuple[str | None, Path, Path]]:
    """(split, folder of images, folder of JSON files)."""
    for split, subset in list_subsets(path):
        images, labels = find_folder(subset, _IMAGES), find_folder(subset, _LABELS)
        pairs = [(subset, subset), *([(images, images)] if images else []), *([(images, labels)] if images else [])]
        for folder, annotations in pairs:
            if annotations and _has_shapes(annotations, folder != annotations):
                yield split, folder, annotations
                break


def _has_shapes(folder: Path, deep: bool) -> bool:
    # The image itself may come before the shapes, and is long.
    return any(contains_key(file, "shapes", "imageData") for file in islice(_list_json(folder, deep), 3))


def _list_json(folder: Path, deep: bool) -> Iterator[Path]:
    return (file for file in list_files(folder, (".json",), deep) if not is_result_file(file))


FORMAT = Format(
    "<stem>.json of shapes beside each <stem>.png; or images/ and annotations/; train/, val/ and test/ above them",
    looks_like, read, write, convention=Convention("JSON file"),
    refused="lines and points, shapes without a label or finite points, files of no image",
)  # fmt: skip
