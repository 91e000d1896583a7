"""LabelMe: a JSON file beside each image, with polygons, rectangles and masks."""

import base64
import binascii
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blemish.dataset.annotations import (
    Entry,
    all_split,
    any_shape,
    entries,
    known,
    left_out,
    number,
    read_json,
    readable,
    starts_with_key,
)
from blemish.dataset.ground_truth import boxes_of
from blemish.dataset.image_files import class_label, copy_image, folders_in, images_in, new_folder, parts_by_split
from blemish.dataset.sample import Dataset, Sample
from blemish.errors import DataError
from blemish.geometry import Box, Polygon, Ring, Rle, Shape, encode_mask, mask_bounds, shape_mask
from blemish.imaging.read import image_header

SAYS = "<stem>.json of shapes beside each <stem>.png; or images/ and annotations/; train/, val/ and test/ above them"
_IMAGES = ("images", "imgs", "image", "img")
_LABELS = ("annotations", "labels", "json", "jsons", "labelme")


def looks_like(path: Path) -> bool:
    return any(True for _ in _places(path))


def read(path: Path) -> list[Sample]:
    """Samples with boxes (rectangles) and shapes (polygons; those of one group_id are parts of one defect).

    An image without a file is of unknown truth, one with a file of no shapes good. Left out with a warning: shapes of
    other kinds (circles, lines, points), without a label or finite points, and files whose image does not exist.
    """
    samples = []
    for split, images, labels in _places(path):
        files = {file.stem: file for file in sorted(labels.glob("*.json"))}
        seen = set()
        for image in images_in(images):
            file = files.get(image.stem)
            seen.add(image.stem)
            found = readable(read_shapes, file, image) if file else None
            samples.append(Sample(image, split=split, **(known(*found) if found else {})))
        for stem in files.keys() - seen:
            left_out(f"{files[stem]}: its image does not exist in {images}")
    return samples


def read_shapes(path: Path, image: Path) -> tuple[list[Box], list[Shape]]:
    """Boxes and shapes of a file; DataError where it is none of LabelMe's."""
    content = read_json(path)
    rows = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path} is no LabelMe file: it has no list of shapes")
    boxes: list[Box] = []
    shapes: list[Shape | tuple[str, object]] = []  # a key stands where the polygon of a group will be
    rings: dict[tuple[str, object], list[Ring]] = {}
    for at, row in enumerate(rows, 1):
        try:
            label, kind = class_label(str(row["label"])), row.get("shape_type") or "polygon"
            points = tuple((number(x), number(y)) for x, y in row["points"])
            if not label:
                raise ValueError("it has no label")
            if kind == "rectangle":
                # Two opposite corners, or all four, as other programs of the format write them.
                xs, ys = zip(*points, strict=True)
                boxes.append(Box(min(xs), min(ys), max(xs), max(ys), label))
            elif kind == "polygon":
                group = row.get("group_id")
                key = (label, f"shape {at}" if group is None else group)
                if key not in rings:
                    shapes.append(key)
                rings.setdefault(key, []).append(points)
            elif kind == "mask":
                shapes.append(_mask(row, points, label, image))
            else:
                raise ValueError(f"shapes of type {kind} are not understood")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, binascii.Error, cv2.error) as error:
            left_out(f"{path}: shape {at}: {' '.join(str(error).split())}", image)
    return boxes, [Polygon(tuple(rings[s]), s[0]) if isinstance(s, tuple) else s for s in shapes]


def read_boxes(path: Path, image: Path) -> tuple[Box, ...]:
    """Boxes of a file, those of outlines included."""
    boxes, shapes = read_shapes(path, image)
    header = image_header(image)
    return boxes_of(Sample(image, boxes=tuple(boxes), shapes=tuple(shapes)), (header.height, header.width))


def write(dataset: Dataset, out: Path) -> list[str]:
    """Write boxes, outlines and masks as a file beside each image; returns what could not be kept, a line each."""
    split = all_split(dataset.samples)
    found, lost = entries(dataset, any_shape, {"split"} if split else ())
    new_folder(out, found)
    for entry in found:
        folder = out / str(entry.sample.split) if split else out
        name = entry.stem + entry.sample.image.suffix.lower()
        copy_image(entry.sample.image, folder / name)
        if entry.items is not None:
            content: dict[str, Any] = {
                "version": "5.4.0",
                "flags": {},
                "shapes": list(_rows(entry)),
                "imagePath": name,
                "imageData": None,
                "imageHeight": entry.size[0],
                "imageWidth": entry.size[1],
            }
            (folder / f"{entry.stem}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")
    many = sum(any(isinstance(i, Rle) and i.many for i in e.items or ()) for e in found)
    if many:
        lost.append(f"masks of many defects become one shape each in {many} images")
    return lost


def _rows(entry: Entry) -> Iterator[dict[str, Any]]:
    for at, item in enumerate(entry.items or (), 1):
        common: dict[str, Any] = {"label": item.label, "group_id": None, "description": "", "flags": {}}
        if isinstance(item, Box):
            yield {**common, "points": [[item.x0, item.y0], [item.x1, item.y1]], "shape_type": "rectangle"}
        elif isinstance(item, Polygon):
            group = at if len(item.rings) > 1 else None
            for ring in item.rings:
                points = [list(point) for point in ring]
                yield {**common, "points": points, "group_id": group, "shape_type": "polygon"}
        else:
            pixels = shape_mask(item, entry.size)
            bounds = mask_bounds(pixels)
            if bounds is None:
                continue
            x0, y0, x1, y1 = bounds
            png = cv2.imencode(".png", pixels[y0:y1, x0:x1].astype(np.uint8) * 255)[1].tobytes()
            corners = [[float(x0), float(y0)], [float(x1 - 1), float(y1 - 1)]]  # LabelMe's last pixel is inside
            yield {**common, "points": corners, "shape_type": "mask", "mask": base64.b64encode(png).decode()}


def _mask(row: dict[str, Any], points: Ring, label: str, image: Path) -> Rle:
    """A mask of its own, which LabelMe cuts to its bounds."""
    header = image_header(image)
    data = np.frombuffer(base64.b64decode(row["mask"], validate=True), np.uint8)
    part = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    (x0, y0), (x1, y1) = ((int(x), int(y)) for x, y in points)
    whole = np.zeros((header.height, header.width), np.bool_)
    inside = 0 <= x0 <= x1 < header.width and 0 <= y0 <= y1 < header.height
    if part is None or not inside or part.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise ValueError("its mask does not fit its points")
    whole[y0 : y1 + 1, x0 : x1 + 1] = part > 0
    return encode_mask(whole, label)


def _places(path: Path) -> Iterator[tuple[str | None, Path, Path]]:
    """(split, folder of images, folder of JSON files)."""
    for split, part in parts_by_split(path):
        by_name = {folder.name.lower(): folder for folder in folders_in(part)}
        images = next((by_name[name] for name in _IMAGES if name in by_name), None)
        labels = next((by_name[name] for name in _LABELS if name in by_name), None)
        if part.is_dir() and _has_shapes(part):
            yield split, part, part
        elif images and _has_shapes(images):
            yield split, images, images
        elif images and labels and _has_shapes(labels):
            yield split, images, labels


def _has_shapes(folder: Path) -> bool:
    # The picture itself may stand before the shapes, and is long.
    return any(starts_with_key(file, "shapes", "imageData") for file in sorted(folder.glob("*.json"))[:3])
